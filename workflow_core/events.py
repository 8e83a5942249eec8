"""The types that user code receives at run time: the contexts of steps and activities, and the protocol of an event
handler.

Nothing here depends on how a workflow is run.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Awaitable, Callable
from dataclasses import field
from datetime import datetime, timedelta
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

from workflow_core.callbacks import CALLBACK_LIFESPAN, Callback, CallbackUrls, url_of
from workflow_core.errors import ExecutionError
from workflow_core.principal import Principal
from workflow_core.records import record
from workflow_core.stored_parts import ErrorInfo

OPERATIONS = ("cancel", "terminate", "pause", "unpause", "retry", "goto", "set")
"""The names of the operations on instances. No event can have one of them, because both have a URL of that name."""


def stable_key(*parts: object) -> str:
    """Returns 32 hexadecimal digits that depend only on ``parts``."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


def known_time(now: datetime | None) -> datetime:
    """Returns the time that the caller of the machine has passed.

    Raises:
        ExecutionError: it has passed none.
    """
    if now is None:
        raise ExecutionError("the current time is not known here. Pass now=datetime.now(UTC) to resume or handle_event")
    return now


@record(frozen=True, slots=True)
class StepContext:
    """Information about the current execution of a step.

    Attributes:
        workflow: the name of the workflow.
        workflow_id: the id of the instance.
        thread_id: the id of the thread.
        step: the name of the step.
        pc: the instance's pc when the thread reached the step.
        attempt: the number of the attempt, starting with 1.
        item: the current item of the innermost ``ForEach`` around the step.
        index: the position of the item, starting with 0; None outside a ``ForEach``.
        error: in an ``except_`` section, the error that it has caught.
        caused_by: the id of the principal that brought the thread here: with the last event that the thread received,
            or with the creation of the instance. Empty if it was a timeout, or code without a principal.
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
    caused_by: str = ""
    callback_urls: CallbackUrls | None = field(default=None, repr=False, compare=False)
    at: datetime | None = field(default=None, repr=False, compare=False)

    @property
    def now(self) -> datetime:
        """The time at which the attempt has begun, in UTC. A test that passes the time to ``resume`` gets that.

        Raises:
            ExecutionError: the caller of ``resume`` has passed no time.
        """
        return known_time(self.at)

    @property
    def idempotency_key(self) -> str:
        """A key that is the same in every attempt of this execution of the step, and different everywhere else. Pass it
        to outside systems."""
        return stable_key(self.workflow, self.workflow_id, self.thread_id, self.pc)

    def callback_url(self, event: str, *, expires: timedelta = CALLBACK_LIFESPAN) -> str:
        """Returns a URL to which an outside system sends the event with POST, without other credentials.

        The event must be awaited by the thread of the step: the first of its waits for the event that the request finds
        receives it. All URLs of one execution of the step for one event count as one: the first request is accepted,
        and a repetition gets the same response.

        Raises:
            ExecutionError: ``expires`` is wrong, or no server runs the step.
            SettingsError: the server has no keys for callbacks, or does not know its URL.
        """
        nonce = stable_key("callback", self.idempotency_key, event)
        callback = Callback(self.workflow, self.workflow_id, event, self.thread_id, None, nonce)
        return url_of(self.callback_urls, callback, expires)


async def _no_heartbeat() -> None:
    """The heartbeat of an activity without a deadline: does nothing."""


async def _no_report(data: Any) -> None:
    """The report of an activity that the library runs: nobody can see it in the meantime."""


def _never() -> bool:
    return False


@record(frozen=True, slots=True)
class ActivitySigns:
    """What the function of an activity can tell about its attempt, and learn; see ``ActivityContext``."""

    heartbeat: Callable[[], Awaitable[None]] = _no_heartbeat
    report: Callable[[Any], Awaitable[None]] = _no_report
    is_over: Callable[[], bool] = _never


NO_SIGNS = ActivitySigns()


@record(frozen=True, slots=True)
class ActivityContext:
    """Information about the current execution of an activity.

    Attributes:
        workflow: the name of the workflow.
        workflow_id: the id of the instance.
        thread_id: the id of the thread that waits for it.
        activity: the name of the statement.
        wait_id: the id of the wait. Each time a thread reaches the statement, it is a new one.
        attempt: the number of the attempt, starting with 1.
        heartbeat: ``await context.heartbeat()`` reports that the activity is still running, and moves the deadline of
            the attempt to the statement's ``heartbeat`` from now. It raises ``AttemptOver`` if the result is no longer
            needed: stop then.
        known_as: the name that the statement had when the thread reached it, if it was renamed later.
        report: ``await context.report(data)`` stores data about the progress, up to 2,000 bytes of JSON, with the wait
            for the activity, where clients and the pages see it. It is stored at once or within 5 seconds; only the
            last report counts. It counts as a heartbeat, and raises ``AttemptOver`` as that does.
    """

    workflow: str
    workflow_id: str
    thread_id: str
    activity: str
    wait_id: str
    attempt: int
    heartbeat: Callable[[], Awaitable[None]] = _no_heartbeat
    known_as: str = ""
    report: Callable[[Any], Awaitable[None]] = _no_report
    is_over: Callable[[], bool] = field(default=_never, repr=False, compare=False)

    @property
    def cancelled(self) -> bool:
        """Whether the result is known to be no longer needed: another case of the select has happened, its branch or
        instance was canceled, or the deadline of the attempt has passed. Stop then.

        An asynchronous function need not ask: in the process that ends the wait, it is interrupted with
        ``asyncio.CancelledError``. If another process ends the wait, the next heartbeat or report tells.
        """
        return self.is_over()

    @property
    def idempotency_key(self) -> str:
        """A key that is the same in every attempt of this execution of the activity, and different everywhere else.
        Pass it to outside systems."""
        return stable_key(self.workflow, self.workflow_id, self.wait_id, self.known_as or self.activity)


@record(frozen=True, slots=True)
class EventRequest:
    """The request that the methods of an ``EventHandler`` receive.

    Attributes:
        workflow: the instance's fields. ``handle`` may change them; ``setup`` and ``teardown`` only read them.
        workflow_id: the id of the instance.
        thread_id: the id of the thread that waits.
        wait_id: the id of the wait. Each time the select is entered, it is a new one.
        event: the name of the event.
        setup_data: the result of ``setup``; None if it has not finished.
        action: ``setup``, ``handle`` or ``teardown``.
        known_as: the name that the event had when the select was entered, if it was renamed later.
        principal: for ``handle``, who sent the event; None: code in the same process.
    """

    workflow: Any
    workflow_id: str
    thread_id: str
    wait_id: str
    event: str
    setup_data: Any
    action: str
    known_as: str = ""
    principal: Principal | None = None
    callback_urls: CallbackUrls | None = field(default=None, repr=False, compare=False)
    at: datetime | None = field(default=None, repr=False, compare=False)

    @property
    def now(self) -> datetime:
        """The time at which the action has begun, in UTC.

        Raises:
            ExecutionError: the caller of ``resume`` or ``handle_event`` has passed no time.
        """
        return known_time(self.at)

    @property
    def idempotency_key(self) -> str:
        """A key that is the same in every attempt of this action on this wait. Pass it to outside systems."""
        name = type(self.workflow).__workflow_name__
        return stable_key(name, self.workflow_id, self.wait_id, self.known_as or self.event, self.action)

    def callback_url(self, *, expires: timedelta = CALLBACK_LIFESPAN) -> str:
        """In ``setup``: returns a URL to which an outside system sends the event with POST, without other credentials.

        The URL is for this wait only, and for one request: a repetition gets the same response.

        Raises:
            ExecutionError: ``expires`` is wrong, this is not ``setup``, or no server runs it.
            SettingsError: the server has no keys for callbacks, or does not know its URL.
        """
        if self.action != "setup":
            raise ExecutionError(f"callback_url() is for setup: in {self.action}, the wait for {self.event!r} ends")
        nonce = stable_key("callback", self.idempotency_key, self.event)
        name = type(self.workflow).__workflow_name__
        callback = Callback(name, self.workflow_id, self.event, None, self.wait_id, nonce)
        return url_of(self.callback_urls, callback, expires)


@runtime_checkable
class EventHandler(Protocol):
    """An event that must be registered with an outside system. Each method may be sync or async.

    ``setup`` is called when a thread starts to wait for the event, and ``teardown`` when it no longer waits. Both are
    retried until they succeed, with the same idempotency key. ``teardown`` may be called even if ``setup`` never
    finished; ``request.setup_data`` is then None.
    """

    def setup(self, request: EventRequest) -> Any:
        """Registers the event. Its return value (JSON data) is stored and passed to the other two methods."""
        ...

    def handle(self, request: EventRequest, input: Any, /) -> Any:
        """Handles the event. It may change the fields. The annotation of ``input`` determines the event's schema."""
        ...

    def teardown(self, request: EventRequest, handled: bool) -> Any:
        """Removes the registration; ``handled`` is True if this event was the one that happened."""
        ...


@record(frozen=True, slots=True)
class EventMark:
    """What ``event`` notes about a handler: its name for clients and the arguments of its ``On``."""

    name: str
    options: dict[str, Any]


EVENT_MARK = "__event_mark__"
"""The attribute of a decorated handler with its ``EventMark``."""


def event_mark(function: object) -> EventMark | None:
    """Returns the mark of an event handler; None if it is another function."""
    return getattr(function, EVENT_MARK, None)


In = TypeVar("In")
Out = TypeVar("Out")


@record(frozen=True, slots=True)
class Selected(Generic[In, Out]):
    """What ended a ``select``.

    Attributes:
        event: the name of the event; empty if its timeout passed.
        input: what the handler received; None if it takes none.
        output: what the handler returned.
    """

    event: str
    input: In
    output: Out

    @property
    def timed_out(self) -> bool:
        """Whether the timeout passed before an event came."""
        return not self.event

    def happened(self, event: Callable[..., Any]) -> bool:
        """Whether it was this event: ``got.happened(self.decide)``.

        Raises:
            TypeError: this is not a method with ``@event``.
        """
        if (mark := event_mark(event)) is None:
            raise TypeError(f"{event!r:.100} is not an event: pass the method with @event, got.happened(self.method)")
        return mark.name == self.event
