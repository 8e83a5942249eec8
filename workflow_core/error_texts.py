"""How an error becomes text: the ``ErrorInfo`` that is stored with an instance, and one line for logs.

The text can always be made and always be saved, whatever user code raises: ``str()`` of an error may itself raise, and
its message may be very long or hold characters that are not valid Unicode.
"""

from __future__ import annotations

from workflow_core.execution import ErrorInfo

MESSAGE_CHARS_MAX = 2_000
"""How much of an error's message is kept."""


def error_info(error: BaseException, statement: str) -> ErrorInfo:
    """An error as it is stored with an instance."""
    bases = [
        f"{cls.__module__}.{cls.__qualname__}"
        for cls in type(error).__mro__
        if cls not in (Exception, BaseException, object)
    ]
    return ErrorInfo(type(error).__name__, _message(error), statement, bases)


def error_text(error: BaseException) -> str:
    """An error in one line: its type and its message."""
    return f"{type(error).__name__}: {_message(error)}"


def _message(error: BaseException) -> str:
    try:
        text = str(error)
    except Exception as raised:
        text = f"(its message cannot be had: str() raised {type(raised).__name__})"
    # A lone surrogate, as in the name of a file, cannot be saved as JSON. Escaping it makes the text longer, hence the
    # second cut.
    return text[:MESSAGE_CHARS_MAX].encode(errors="backslashreplace").decode()[:MESSAGE_CHARS_MAX]
