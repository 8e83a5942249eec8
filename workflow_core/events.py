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
    """What a step may know of where it runs.

    Attributes:
        workflow: the name of the workflow.
        workflow_id: the id of the instance.
        thread_id: the id of the thread.
        step: the name of the step.
        pc: the instance's pc when the thread reached the step.
        attempt: 1 at the first attempt, one more after each failed one.
        item: in a ``ForEach``, the item of this round; of the innermost one, where several stand around the step.
        index: its position, from 0; None outside of a ``ForEach``.
        error: in an ``except_`` section, what it has caught.
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
        """The same in every attempt of this step, and in no other step: hand it to outside systems."""
        return stable_key(self.workflow, self.workflow_id, self.thread_id, self.pc)


async def _no_heartbeat() -> None:
    """Where nobody counts the time."""


@dataclass(frozen=True, slots=True)
class ActivityContext:
    """What the function of an activity may know of where it runs.

    Attributes:
        workflow: the name of the workflow.
        workflow_id: the id of the instance.
        thread_id: the id of the thread that waits for it.
        activity: the name of the statement.
        wait_id: the id of the wait; another one each time a thread comes to the statement.
        attempt: 1 at the first attempt, one more after each failed one.
        heartbeat: ``await context.heartbeat()`` gives a sign of life, which puts the end of the attempt off by the
            statement's ``heartbeat``. It raises ``AttemptOver`` where the result no longer matters: stop then.
        known_as: the name that the statement had when the thread came to it, if it was renamed since.
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
        """The same in every attempt of this activity, and in no other one: hand it to outside systems."""
        return stable_key(self.workflow, self.workflow_id, self.wait_id, self.known_as or self.activity)


@dataclass(frozen=True, slots=True)
class EventRequest:
    """What an ``EventHandler`` is told.

    Attributes:
        workflow: the instance's fields. ``handle`` may change them; ``setup`` and ``teardown`` read them.
        workflow_id: the id of the instance.
        thread_id: the id of the thread that waits.
        wait_id: the id of the wait; another one each time the select is entered.
        event: the name of the event.
        setup_data: what ``setup`` returned; None before, or if it did not come to its end.
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

    ``setup`` is called when a thread has come to wait for the event, ``teardown`` when it waits no more; both
    are called again until they succeed, with the same idempotency key. ``teardown`` may be called although
    ``setup`` never came to its end; ``request.setup_data`` is None then.
    """

    def setup(self, request: EventRequest) -> Any:
        """Registers the event. What it returns (JSON data) is kept, and given to the other two."""
        ...

    def handle(self, request: EventRequest, input: Any) -> Any:
        """Handles the event; may change the fields. The annotation of ``input`` is its schema."""
        ...

    def teardown(self, request: EventRequest, handled: bool) -> Any:
        """Removes the registration; ``handled`` tells whether it was this event that happened."""
        ...
