"""The statements by which tasks are created and deleted: by the queue, and by the store as a part of a commit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

COLUMNS = ("name", "path", "body", "turns", "scheduled_at", "created_at")
_TYPES = ("text", "text", "bytea", "text", "timestamptz", "timestamptz")


@dataclass(frozen=True, slots=True)
class NewTask:
    """A row of a task that nobody has taken.

    Attributes:
        body: JSON text. It may contain what is no Unicode.
        turns: the group with which it takes turns.
    """

    name: str
    path: str
    body: bytes
    turns: str
    scheduled_at: datetime
    created_at: datetime


def values_of(tasks: Sequence[NewTask]) -> list[list[object]]:
    """Returns the parameters of ``creation``."""
    return [[getattr(task, name) for task in tasks] for name in COLUMNS]


def creation(first: int, guard: str = "") -> str:
    """Returns the statement that creates tasks, except those whose names are taken.

    Args:
        first: the number of its first parameter.
        guard: a table without whose rows nothing is created.
    """
    arrays = ", ".join(f"${first + place}::{kind}[]" for place, kind in enumerate(_TYPES))
    columns = ", ".join(COLUMNS)
    guarded = f", {guard}" if guard else ""
    return (
        f"INSERT INTO gorchestrate.tasks ({columns}, due_at) SELECT new.*, new.scheduled_at "  # nosec B608
        f"FROM unnest({arrays}) AS new ({columns}){guarded} ON CONFLICT (name) DO NOTHING"
    )


def deletion(first: int, guard: str = "") -> str:
    """Returns the statement that ends tasks, whose names stay taken. Its parameters are the names and the time.

    The rows are locked in the order of their names, so that two such statements do not wait for each other.
    """
    guarded = f", {guard}" if guard else ""
    return (
        f"UPDATE gorchestrate.tasks SET ended_at = ${first + 1}::timestamptz, body = '' FROM ("  # nosec B608
        f"SELECT name FROM gorchestrate.tasks WHERE name = ANY(${first}::text[]) AND ended_at IS NULL "
        f"ORDER BY name FOR UPDATE) AS found{guarded} WHERE tasks.name = found.name"
    )
