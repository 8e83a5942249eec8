"""The columns of an instance in a relational database, and the entries of its history as rows."""

from __future__ import annotations

from collections.abc import Iterable
from secrets import randbits

FIXED = ("workflow", "id", "created_at")
"""The columns that a commit does not change. Not writing them spares their indexes."""

COLUMNS = (
    *(*FIXED, "format", "status", "pc", "updated_at", "wake_at"),
    *("lease", "tokens", "entries_count", "entries_bytes", "history", "search", "execution", "fields"),
)
"""The columns of a table of instances that contain a document: the names of its values. The long ones come last."""

DUE_COLUMNS = ("workflow", "id", "status", "wake_at", "postponed", "postponed_until", "revision")
"""The columns of what is due."""

EXPIRED_KEYS_PER_COMMIT = 10
"""How many expired keys a write deletes for each key that it adds, so that the table shrinks faster than it grows."""


def new_revision() -> int:
    """Returns a random revision, which each write gives an instance. A counter would give the same revision to another
    state, if the instance is deleted and created again, or if a backup is restored, while a process holds the earlier
    state. It is below 2**62, so that earlier releases can add to it."""
    return randbits(62)


def numbered(texts: Iterable[str]) -> list[tuple[int, str]]:
    """Returns number and entry of the entries of a history."""
    return [(int(number), entry) for number, _, entry in (text.partition(" ") for text in texts)]
