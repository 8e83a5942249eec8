"""How a broken promise is reported: as a ``Violation``, which ends the run.

A message begins with what is wrong, in words without data; details follow behind a semicolon. Two failures count as the
same if these words are the same, so that shrinking keeps the failure that it began with.
"""

from __future__ import annotations


class Violation(AssertionError):
    """A promise was broken."""


def require(holds: object, what: str, *details: object) -> None:
    if not holds:
        raise Violation(what + "".join(f"; {detail}" for detail in details))


def require_equal(what: str, stored: object, expected: object) -> None:
    require(stored == expected, f"the stored {what} are not those of the model", f"{stored} != {expected}")
