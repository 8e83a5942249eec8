"""Waits and teardowns as the API returns them: in one form, which has the attributes of all kinds.

In the first releases, all kinds were one class. The API keeps that form, so that clients continue to work. The
attributes have their stored names; see ``workflow_core.wait_types``.
"""

from __future__ import annotations

from dataclasses import MISSING, dataclass, fields
from typing import Any

from pydantic import AwareDatetime

from workflow_core.wait_types import WaitKind, WaitStatus


@dataclass(slots=True)
class ShownWait:
    """One thing that a parked thread waits for.

    Attributes:
        event: the name of the event or of the timeout; for a condition, of its statement.
        id: the wait's id: the thread's id and its pc at entry. All cases of one wait share it.
        deadline: for a timeout, when it is due; for an activity, when its attempt counts as failed; None where the
            caller keeps no time.
        setup_data: what ``setup`` returned, as JSON data; for what has a deadline, the name of its task.
        attempt: how often ``setup``, or the activity, has failed.
        retry_at: when it is tried again.
        error: why the last attempt failed.
        input: what an activity gets, or how a child is to be started, as JSON data.
        buffered: events that came before are delivered to it.
        known_as: the name that it began under, if it was renamed since: idempotency keys are made of it.
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


@dataclass(slots=True)
class ShownTeardown:
    """An event that was left and is still to be torn down, or a child that is to be canceled; it outlives its thread.

    Attributes:
        step: the name of the ``Select`` that the event belongs to.
        id: the id of the wait that was left.
        handled: whether it was this event that happened.
        setup_data: what ``setup`` returned; for a child, its workflow and id, and how it is to be started, if it is not
            known whether it was.
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


_DEFAULTS = {field.name: None if field.default is MISSING else field.default for field in fields(ShownWait)}


def shown_wait(stored: dict[str, Any]) -> dict[str, Any]:
    """A wait, given in its stored form, as it is shown."""
    return _DEFAULTS | stored
