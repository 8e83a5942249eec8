"""What user code receives at run time: the contexts of steps and activities, and the requests of event handlers.

Also the protocol of event handler objects. Independent of how a workflow is run.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from workflow_core.execution import ErrorInfo


def stable_key(*parts: object) -> str:
    """32 hexadecimal digits that depend on ``parts`` alone."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


@dataclass(frozen=True, slots=True)
class StepContext:
    """The context of a step: its instance, thread, attempt and item.

    Attributes:
        workflow: the name of the workflow.
        workflow_id: the id of the instance.
        thread_id: the id of the thread.
        step: the name of the step.
        pc: the instance's pc when the thread reached the step.
        attempt: 1 at the first attempt, one more after each failed one.
        item: in a ``ForEach``, the item of this round. If several are nested, that of the innermost one.
        index: its position, from 0; None outside of a ``ForEach``.
        error: in an ``except_`` section, the error that it has caught.
    """

    workflow: str
    workflow_id: str
    thread_id: str
    step: str
    pc: int
    attempt: int
    item: Any = None
    index: int | None = None
    error: ErrorInfo | None = None

    @property
    def idempotency_key(self) -> str:
        """The same in every attempt of this step, and different in any other step. Pass it to outside systems."""
        return stable_key(self.workflow, self.workflow_id, self.thread_id, self.pc)


async def _no_heartbeat() -> None:
    """The heartbeat of an activity that has none: does nothing."""


@dataclass(frozen=True, slots=True)
class ActivityContext:
    """The context of an activity: its instance, wait and attempt, and the heartbeat.

    Attributes:
        workflow: the name of the workflow.
        workflow_id: the id of the instance.
        thread_id: the id of the thread that waits for it.
        activity: the name of the statement.
        wait_id: the id of the wait; a new one each time a thread reaches the statement.
        attempt: 1 at the first attempt, one more after each failed one.
        heartbeat: ``await context.heartbeat()`` extends the deadline of the attempt by the statement's ``heartbeat``.
            It raises ``AttemptOver`` if the result is no longer needed: stop then.
        known_as: the name that the statement had when the thread reached it, if it was renamed since.
    """

    workflow: str
    workflow_id: str
    thread_id: str
    activity: str
    wait_id: str
    attempt: int
    heartbeat: Callable[[], Awaitable[None]] = _no_heartbeat
    known_as: str = ""

    @property
    def idempotency_key(self) -> str:
        """The same in every attempt of this activity, and different in any other one. Pass it to outside systems."""
        return stable_key(self.workflow, self.workflow_id, self.wait_id, self.known_as or self.activity)


@dataclass(frozen=True, slots=True)
class EventRequest:
    """The argument of the methods of an ``EventHandler``.

    Attributes:
        workflow: the instance's fields. ``handle`` may change them; ``setup`` and ``teardown`` read them.
        workflow_id: the id of the instance.
        thread_id: the id of the thread that waits.
        wait_id: the id of the wait; a new one each time the select is entered.
        event: the name of the event.
        setup_data: the return value of ``setup``; None if it has not returned.
        action: ``setup``, ``handle`` or ``teardown``.
        known_as: the name that the event had when the select was entered, if it was renamed since.
    """

    workflow: Any
    workflow_id: str
    thread_id: str
    wait_id: str
    event: str
    setup_data: Any
    action: str
    known_as: str = ""

    @property
    def idempotency_key(self) -> str:
        """The same in every attempt of this action on this wait."""
        name = type(self.workflow).__workflow_name__
        return stable_key(name, self.workflow_id, self.wait_id, self.known_as or self.event, self.action)


@runtime_checkable
class EventHandler(Protocol):
    """An event that must be registered with an outside system. Each method may be sync or async.

    ``setup`` is called when a thread starts to wait for the event, ``teardown`` when it no longer waits. Both are
    retried with the same idempotency key. ``teardown`` may be called although ``setup`` never returned; then
    ``request.setup_data`` is None.
    """

    def setup(self, request: EventRequest) -> Any:
        """Registers the event. Its return value (JSON data) is stored, and passed to the other two methods."""
        ...

    def handle(self, request: EventRequest, input: Any) -> Any:
        """Handles the event; may change the fields. The annotation of ``input`` is its schema."""
        ...

    def teardown(self, request: EventRequest, handled: bool) -> Any:
        """Removes the registration; ``handled`` is true if the wait ended by this event."""
        ...
