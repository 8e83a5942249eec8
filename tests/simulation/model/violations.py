"""Broken promises are reported as a ``Violation``, which ends the run.

A message begins with a description of the problem that contains no data; details follow after a semicolon. Two failures
with the same description count as the same, so that shrinking keeps the original failure.
"""

from __future__ import annotations


class Violation(AssertionError):
    """A promise was broken."""


def require(holds: object, what: str, *details: object) -> None:
    if not holds:
        raise Violation(what + "".join(f"; {detail}" for detail in details))


def require_equal(what: str, stored: object, expected: object) -> None:
    require(stored == expected, f"the stored {what} are not those of the model", f"{stored} != {expected}")
