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


CLAIM = """
    UPDATE gorchestrate.tasks
    SET due_at = $2, attempts = attempts + 1, first_attempt_at = coalesce(first_attempt_at, $1)
    FROM (
        SELECT name, due_at FROM gorchestrate.tasks
        WHERE ended_at IS NULL AND due_at <= $1 AND turns <> ALL($3::text[])
        ORDER BY due_at, name LIMIT $4 FOR UPDATE SKIP LOCKED
    ) AS due
    WHERE tasks.name = due.name
    RETURNING tasks.name, path, body, turns, scheduled_at, created_at, attempts, first_attempt_at, due.due_at AS was_due
"""
"""Takes the tasks that are due at ``$1``, until ``$2``, except those of some groups."""

NEXT = "SELECT due_at FROM gorchestrate.tasks WHERE ended_at IS NULL AND due_at > $1 ORDER BY due_at LIMIT 1"

MOVE = """
    UPDATE gorchestrate.tasks SET due_at = found.at FROM (
        SELECT tasks.name, moved.at FROM gorchestrate.tasks
        JOIN unnest($1::text[], $2::integer[], $3::timestamptz[]) AS moved (name, attempts, at)
        ON tasks.name = moved.name AND tasks.attempts = moved.attempts
        WHERE ended_at IS NULL ORDER BY tasks.name FOR UPDATE OF tasks
    ) AS found WHERE tasks.name = found.name
"""
"""Sets when tasks are due, unless another process has taken them meanwhile."""

PURGE = """
    DELETE FROM gorchestrate.tasks USING (
        SELECT name FROM gorchestrate.tasks WHERE ended_at <= $1 ORDER BY ended_at LIMIT $2 FOR UPDATE SKIP LOCKED
    ) AS old WHERE tasks.name = old.name
"""
"""Deletes tasks that have ended, and so frees their names."""
