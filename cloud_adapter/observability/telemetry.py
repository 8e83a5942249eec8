"""Spans and metrics of what the engine does, if the program uses OpenTelemetry: what the rest of the package calls.

OpenTelemetry itself is known to ``otel.py`` alone, which is loaded once the program has imported
``opentelemetry.trace``, as it must to set up a tracer. Before that, or where it is not installed, everything here does
nothing: importing it takes longer than all that a cold start does for an event.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cache
from types import ModuleType
from typing import Any

from cloud_adapter import errors
from cloud_adapter.observability.span import Span, Trace, Value, prefixed
from cloud_adapter.observability.trace_context import TraceContext
from cloud_adapter.ports import Clock
from workflow_core import EventNotAccepted, EventRejected, InvalidInput, RepairRefused

OTHER = "_OTHER"
"""In the place of a name that a caller has made up: these would be without number."""

CHILD_UP_TO = timedelta(minutes=1)
"""A task that is begun later than that after its making has a trace of its own, linked to the one that it comes from:
no trace lasts for months."""

_REFUSALS: Mapping[type[Exception], str] = {
    EventNotAccepted: "not accepted",
    EventRejected: "rejected",
    InvalidInput: "invalid",
    errors.InvalidRequest: "invalid",
    errors.TooLarge: "too large",
    errors.IdempotencyKeyReused: "key reused",
    errors.InstanceExists: "exists",
    errors.InstanceEnded: "ended",
    RepairRefused: "refused",
    errors.InstanceNotFound: "not found",
    errors.WorkflowNotFound: "not found",
}
"""What is answered to a caller who is to blame; every other error is the service's."""

_OUTAGES: Mapping[type[Exception], str] = {errors.Busy: "busy", errors.Unavailable: "unavailable"}


@dataclass(frozen=True, slots=True)
class Delivery:
    """How a task has come.

    Attributes:
        due: when it was to be; None if that is not known.
        attributes: of its span, under OpenTelemetry's names.
    """

    due: datetime | None = None
    attributes: Mapping[str, Value] = field(default_factory=dict)


UNKNOWN_DELIVERY = Delivery()


@cache
def _load() -> ModuleType:
    from cloud_adapter.observability import otel  # lazy: see above

    return otel


def _otel() -> Any:
    """The module that does it; None if the program uses no OpenTelemetry."""
    return _load() if "opentelemetry.trace" in sys.modules else None


async def flush() -> None:
    """Sends the spans that have ended, if the program's provider holds any back."""
    otel = _otel()
    if otel is not None:
        await asyncio.to_thread(otel.flush)


def carrier() -> Trace:
    """What a task that is made now is to carry, so that its span can be joined to the present one."""
    otel = _otel()
    return {} if otel is None else otel.carrier()


def current_trace() -> TraceContext | None:
    """Where the present span stands; None without one."""
    otel = _otel()
    return None if otel is None else otel.current_trace()


@contextmanager
def continued(headers: Mapping[str, str], trace: TraceContext | None) -> Iterator[None]:
    """Lets the spans of the body continue the caller's trace; a span that is open already stays the parent."""
    otel = _otel()
    if otel is None:
        yield
    else:
        with otel.continued(headers, trace):
            yield


@contextmanager
def request(name: str, workflow: str, id: str, **attributes: Value) -> Iterator[Span]:
    """The span of what a caller asks of an instance. Callers' mistakes are no failures of it."""
    otel = _otel()
    if otel is None:
        yield Span()
        return
    with otel.request_span(name, {"workflow": workflow, "instance": id, **attributes}) as span:
        try:
            yield span
        except Exception as error:
            span.outcome = outcome_of(error)
            if isinstance(error, tuple(_REFUSALS)):
                span.refused(error)
            raise


@contextmanager
def event(workflow: str, id: str, event: str, *, known: bool) -> Iterator[Span]:
    """The span of an event, and its place in ``gorchestrate.events``.

    Args:
        known: whether there is such a workflow, and such an event in it.
    """
    otel = _otel()
    if otel is None:
        yield Span()
        return
    outcome = "failed"
    try:
        with request(f"event {event if known else OTHER}", workflow, id, event=event) as span:
            yield span
            outcome = span.outcome = span.outcome or "handled"
    except Exception as error:
        outcome = outcome_of(error)
        raise
    finally:
        about = {"workflow": workflow, "event": event} if known else {"workflow": OTHER, "event": OTHER}
        otel.instruments.events.add(1, prefixed({**about, "outcome": outcome}))


@contextmanager
def task(
    name: str, now: datetime, made_at: datetime, trace: Trace, come: Delivery, **attributes: Value
) -> Iterator[Span]:
    """The span of a task that has come, joined to the one in which it was made; and how late it is.

    Args:
        name: ``resume``, or what it does and for which event.
        made_at: when it was made.
        trace: what ``carrier`` gave then; anything that is no trace counts as none.
        come: how it was delivered.
    """
    otel = _otel()
    if otel is None:
        yield Span()
        return
    kind = name.partition(" ")[0]
    if come.due is not None:
        otel.instruments.task_lateness.record(max(0.0, (now - come.due).total_seconds()), prefixed({"task": kind}))
    messaging = {"messaging.operation.type": "process", "messaging.operation.name": kind, **come.attributes}
    child = now - made_at <= CHILD_UP_TO
    with otel.task_span(name, attributes, messaging, trace, child=child) as span:
        yield span


@contextmanager
def attempt(kind: str, statement: str, clock: Clock, workflow: str, **attributes: Value) -> Iterator[Span]:
    """The span of an attempt at something slow: a step, an activity, a setup; and how long it took."""
    otel = _otel()
    if otel is None:
        yield Span()
        return
    about: dict[str, Value] = {"workflow": workflow, "statement": statement}
    started, outcome = clock.now(), "lost"
    try:
        with otel.inner_span(f"{kind} {statement}", about | attributes) as span:
            try:
                yield span
                outcome = span.outcome or "done"
            finally:
                span.outcome = outcome
    finally:
        seconds = (clock.now() - started).total_seconds()
        otel.instruments.attempt_duration.record(seconds, prefixed({**about, "kind": kind, "outcome": outcome}))


def conflict(workflow: str) -> None:
    """Counts a commit that was not made because another one was faster."""
    if (otel := _otel()) is not None:
        otel.instruments.conflicts.add(1, prefixed({"workflow": workflow}))


def busy_wait(workflow: str) -> None:
    """Counts a wait for an instance that others are working on."""
    if (otel := _otel()) is not None:
        otel.instruments.busy_waits.add(1, prefixed({"workflow": workflow}))


def started(workflow: str) -> None:
    """Counts an instance that was created."""
    if (otel := _otel()) is not None:
        otel.instruments.started.add(1, prefixed({"workflow": workflow}))


def ended(workflow: str, status: str) -> None:
    """Counts an instance that has come to its end."""
    if (otel := _otel()) is not None:
        otel.instruments.ended.add(1, prefixed({"workflow": workflow, "status": status}))


def outcome_of(error: BaseException) -> str:
    """The name of an error in ``gorchestrate.outcome``."""
    outcomes = {**_REFUSALS, **_OUTAGES}
    return next((outcomes[base] for base in type(error).__mro__ if base in outcomes), "failed")
