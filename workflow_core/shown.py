"""The form in which clients see waits and teardowns: one class with the attributes of all kinds.

It is the form of the first releases, in which all kinds were one class, so existing clients continue to work. The
names are those of the stored attributes; see ``workflow_core.wait_types``.
"""

from __future__ import annotations

from dataclasses import MISSING, fields
from typing import Any

from pydantic import AwareDatetime

from workflow_core.records import record
from workflow_core.stored_parts import WaitKind
from workflow_core.wait_types import WaitStatus


@record(slots=True)
class ShownWait:
    """One thing that a parked thread waits for.

    Attributes:
        event: the name of the event or the timeout; for a condition, the name of its statement.
        id: the wait's id: the thread's id and its pc at entry. All cases of one wait share it.
        deadline: for a timeout, when it is due; for an activity, when its attempt counts as failed; None if the caller
            passes no time.
        setup_data: the result of ``setup``, as JSON data; for a wait with a deadline, the name of its task.
        attempt: how often ``setup``, the activity, or starting the child has failed.
        retry_at: when it is retried.
        error: the error of the last attempt.
        input: the input of an activity, or the arguments of a child's start, as JSON data.
        buffered: whether events that arrived earlier are delivered to it.
        progress: the last report of the running attempt of an activity, as JSON data. Left out without one.
        known_as: the name at entry, if it was renamed later. Idempotency keys are derived from it.
    """

    event: str
    kind: WaitKind
    status: WaitStatus
    id: str
    deadline: AwareDatetime | None = None
    setup_data: Any = None
    attempt: int = 0
    retry_at: AwareDatetime | None = None
    error: str | None = None
    input: Any = None
    buffered: bool = False
    known_as: str = ""
    progress: Any = None


@record(slots=True)
class ShownTeardown:
    """An event that must still be torn down, or a child that must be canceled. It outlives its thread.

    Attributes:
        step: the name of the ``Select`` that the event belongs to, or of the ``Child``.
        id: the id of the wait that was left.
        handled: whether this event was the one that happened.
        setup_data: the result of ``setup``; for a child, its workflow and id, and the other arguments of its start, if
            it is unknown whether it was started.
        status: pending teardown, or teardown error.
        kind: ``handler`` or ``child``.
        known_as: as for a ``Wait``.
    """

    step: str
    event: str
    id: str
    handled: bool
    setup_data: Any
    status: WaitStatus
    attempt: int
    retry_at: AwareDatetime | None
    error: str | None
    kind: WaitKind
    known_as: str


@record(slots=True)
class ShownEvent:
    """An event that arrived before a thread waited for it; ``input`` is its JSON text."""

    event: str
    input: str
    at: AwareDatetime | None = None


_DEFAULTS = {field.name: None if field.default is MISSING else field.default for field in fields(ShownWait)}


SHOWN = "shown"
"""The key of what clients see instead of an input with secrets."""


def shown_wait(stored: dict[str, Any]) -> dict[str, Any]:
    """Converts a wait from its stored form to the form that clients see."""
    wait = _DEFAULTS | _masked(stored, "input")
    wait["input"] = _masked(wait["input"], "fields") if wait["kind"] == WaitKind.CHILD else wait["input"]
    if wait["progress"] is None:
        del wait["progress"]
    return wait


def shown_teardown(stored: dict[str, Any]) -> dict[str, Any]:
    """Converts a teardown from its stored form to the form that clients see."""
    if stored["kind"] == WaitKind.CHILD:
        return stored | {"setup_data": _masked(stored["setup_data"], "fields")}
    return stored


def shown_event(stored: dict[str, Any]) -> dict[str, Any]:
    """Converts a buffered event from its stored form to the form that clients see."""
    shown = _masked(stored, "input")
    return {name: shown[name] for name in ("event", "input", "at")}


def _masked(stored: Any, name: str) -> dict[str, Any]:
    """Replaces a value that contains secrets."""
    rest = {key: value for key, value in stored.items() if key != SHOWN}
    return rest if stored.get(SHOWN) is None else rest | {name: stored[SHOWN]}
