"""Converts errors to text: the ``ErrorInfo`` that is stored with an instance, one line for logs, and errors of fields.

The conversion never fails and its text can always be saved, whatever user code raises: ``str()`` of an error may itself
raise an error, and a message may be very long or contain characters that are not valid Unicode.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Self

from pydantic import ValidationError

from workflow_core.stored_parts import ErrorInfo

MESSAGE_CHARS_MAX = 2_000
"""The maximum length of a stored error message."""

CAUSES_MAX = 3
"""How many causes of an error are stored: its cause, the cause of that, and so on."""
CAUSE_CHARS_MAX = 500
"""The maximum length of the message of such a cause."""

ERRORS_MAX = 100
"""The most errors in an input that are told."""
READ_MAX = 10_000
"""With more errors than this in an input, only their number is told."""
FIELD_CHARS_MAX = 1_000
"""The most characters of the path and of the message of such an error. A path contains keys of the input."""


STORED = "__stored_error__"
"""The attribute of an error that was made from its stored form, with this form. If the error is raised again, it is
stored as it was, even if its class could not be made."""


class Place(str):
    """A note of an error, with the name of the statement that raised it."""

    where: str

    def __new__(cls, statement: str, note: str) -> Self:
        """Makes a note."""
        made = super().__new__(cls, note)
        made.where = statement
        return made


def error_info(error: BaseException, statement: str) -> ErrorInfo:
    """Returns an error in the form that is stored with an instance. A group of one error counts as that error.

    Args:
        statement: where it was raised, unless it has the note of a ``Place``. An error that was stored before keeps
            what is known about it.
    """
    if isinstance(stored := getattr(error, STORED, None), ErrorInfo):
        return stored
    places = (note.where for note in getattr(error, "__notes__", ()) if isinstance(note, Place))
    statement = next(places, statement)
    errors = list(leaves(error))
    if len(errors) == 1:
        error = errors[0]
    of_each = [_bases(type(inner)) for inner in errors] if len(errors) > 1 else []
    message = _message(error)
    args, cause = _args(error, message), _cause(error)
    return ErrorInfo(type(error).__name__, message, statement, _bases(type(error)), of_each, args, cause)


def _args(error: BaseException, message: str) -> list[Any] | None:
    """Returns the arguments of an error, if they are plain and small, and its message does not tell them."""
    args = list(error.args)
    if isinstance(error, OSError) and error.filename is not None and len(args) == 2:
        args.append(error.filename)
    if args == [message] or not all(type(arg) in _PLAIN for arg in args):
        return None
    try:
        return args if len(json.dumps(args, ensure_ascii=False).encode()) <= MESSAGE_CHARS_MAX else None
    except UnicodeEncodeError:  # a lone surrogate
        return None


_PLAIN = (str, int, bool, type(None))


def _cause(error: BaseException, depth: int = 1) -> ErrorInfo | None:
    """Returns the error that an error was raised from, or while which it was raised."""
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if cause is None or depth > CAUSES_MAX:
        return None
    message = _message(cause)[:CAUSE_CHARS_MAX]
    return ErrorInfo(type(cause).__name__, message, cause=_cause(cause, depth + 1))


def error_of_class(cls: type[BaseException], message: str, statement: str) -> ErrorInfo:
    """Returns an error of a class that is not called, in the form that is stored with an instance."""
    return ErrorInfo(cls.__name__, _message(Exception(message)), statement, _bases(cls))


def error_text(error: BaseException) -> str:
    """Returns an error as one line: its type and its message."""
    return f"{type(error).__name__}: {_message(error)}"


def leaves(error: BaseException) -> Iterator[BaseException]:
    """Yields the errors of a group, such as ``asyncio.TaskGroup`` raises; another error yields itself."""
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from leaves(inner)
    else:
        yield error


def _bases(cls: type[BaseException]) -> list[str]:
    return [
        f"{base.__module__}.{base.__qualname__}"
        for base in cls.__mro__
        if base not in (Exception, BaseException, object)
    ]


def _message(error: BaseException) -> str:
    try:
        text = str(error)
        if isinstance(error, BaseExceptionGroup):
            text += f": {'; '.join(error_text(inner) for inner in error.exceptions)}"
    except Exception as raised:
        text = f"(no message: str() raised {type(raised).__name__})"
    # A lone surrogate, for example from a file name, cannot be saved as JSON. Escaping it makes the text longer, so the
    # text is truncated twice.
    return text[:MESSAGE_CHARS_MAX].encode(errors="backslashreplace").decode()[:MESSAGE_CHARS_MAX]


def field_errors(error: ValidationError) -> list[dict[str, Any]]:
    """Returns a pydantic error as the list that ``InvalidInput`` contains. It does not name the values. After
    ``ERRORS_MAX`` errors, the last one tells how many there are."""
    count = error.error_count()
    # pydantic returns all errors or none, and each costs 600 bytes and 2 µs.
    read = error.errors(include_url=False, include_context=False, include_input=False) if count <= READ_MAX else []
    return limited(
        [{"field": ".".join(map(str, e["loc"])), "message": e["msg"], "type": e["type"]} for e in read[:ERRORS_MAX]],
        count,
    )


def limited(errors: list[dict[str, Any]], count: int) -> list[dict[str, Any]]:
    """Returns errors of fields so that a response with them stays small.

    Args:
        errors: some of the errors.
        count: how many there are.
    """
    told = [e | {"field": _cut(e["field"]), "message": _cut(e["message"])} for e in errors[:ERRORS_MAX]]
    if count > ERRORS_MAX:
        shown = f"; these are the first {ERRORS_MAX}" if told else ", too many to list"
        told.append({"field": "", "message": f"the input has {count:,} errors{shown}", "type": "too_many_errors"})
    return told


def _cut(text: str) -> str:
    return text if len(text) <= FIELD_CHARS_MAX else f"{text[:FIELD_CHARS_MAX]}..."


def field_texts(error: ValidationError) -> str:
    """Returns a pydantic error as one line. It does not name the values."""
    return "; ".join(f"{e['field'] or 'it'}: {e['message']}" for e in field_errors(error))
