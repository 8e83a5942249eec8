"""Spans and metrics of the engine, if the program uses OpenTelemetry. The rest of the package calls this module.

Only ``otel.py`` uses OpenTelemetry. It is loaded after the program imports ``opentelemetry.trace``, as it must to set
up a tracer. Before that, or if OpenTelemetry is not installed, these functions do nothing, because importing
OpenTelemetry takes longer than all other work of a cold start for an event.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import field
from datetime import datetime, timedelta
from functools import cache
from types import ModuleType
from typing import Any

from cloud_adapter import errors
from cloud_adapter.observability.span import Span, Trace, Value, prefixed
from cloud_adapter.observability.trace_context import TraceContext
from cloud_adapter.ports import Clock
from workflow_core import EventNotAccepted, EventRejected, InvalidInput, RepairRefused, Workflow
from workflow_core.records import record

OTHER = "_OTHER"
"""Replaces a name that a caller invented, because the number of such names is unlimited."""

CHILD_UP_TO = timedelta(minutes=1)
"""A task that starts later than this after its creation gets a new trace, linked to the original one, so that no trace
lasts for months."""

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
"""The outcomes of errors that the caller caused. All other errors are failures of the service."""

_OUTAGES: Mapping[type[Exception], str] = {errors.Busy: "busy", errors.Unavailable: "unavailable"}


@record(frozen=True, slots=True)
class Delivery:
    """The delivery of a task.

    Attributes:
        due: when the task was due; None if this is unknown.
        attributes: the attributes of its span, under OpenTelemetry's names.
    """

    due: datetime | None = None
    attributes: Mapping[str, Value] = field(default_factory=dict)


UNKNOWN_DELIVERY = Delivery()


@cache
def _load() -> ModuleType:
    from cloud_adapter.observability import otel  # lazy: see above

    return otel


def _otel() -> Any:
    """The module ``otel``; None if the program does not use OpenTelemetry."""
    return _load() if "opentelemetry.trace" in sys.modules else None


def is_used() -> bool:
    """Whether the program uses OpenTelemetry. If not, what only spans contain need not be made."""
    return _otel() is not None


async def flush() -> None:
    """Sends ended spans that the program's provider has not sent yet."""
    otel = _otel()
    if otel is not None:
        await asyncio.to_thread(otel.flush)


def carrier() -> Trace:
    """Returns what a new task must carry so that its span can be joined to the current span."""
    otel = _otel()
    return {} if otel is None else otel.carrier()


def current_trace() -> TraceContext | None:
    """Returns the context of the current span, or None."""
    otel = _otel()
    return None if otel is None else otel.current_trace()


def leave() -> None:
    """Makes new spans in the current context start new traces."""
    otel = _otel()
    if otel is not None:
        otel.leave()


@contextmanager
def continued(headers: Mapping[str, str], trace: TraceContext | None) -> Iterator[None]:
    """Makes the spans of the body continue the caller's trace. A span that is already open stays the parent."""
    otel = _otel()
    if otel is None:
        yield
    else:
        with otel.continued(headers, trace):
            yield


def request(name: str, workflow: str, id: str, **attributes: Value) -> AbstractContextManager[Span]:
    """The span of a request. Errors that the caller caused are not failures of the span."""
    otel = _otel()
    return Span() if otel is None else _request(otel, name, workflow, id, attributes)


@contextmanager
def _request(otel: Any, name: str, workflow: str, id: str, attributes: Mapping[str, Value]) -> Iterator[Span]:
    with otel.request_span(name, {"workflow": workflow, "instance": id, **attributes}) as span:
        try:
            yield span
        except Exception as error:
            span.outcome = outcome_of(error)
            if isinstance(error, tuple(_REFUSALS)):
                span.refused(error)
            raise


def event(workflow: str, id: str, event: str, workflows: Mapping[str, type[Workflow]]) -> AbstractContextManager[Span]:
    """The span of an event, and its count in ``gorchestrate.events``.

    Args:
        workflows: those that are served. Names of others, and of events that they do not have, are not recorded.
    """
    otel = _otel()
    return Span() if otel is None else _event(otel, workflow, id, event, _is_known(workflows.get(workflow), event))


def _is_known(workflow: type[Workflow] | None, event: str) -> bool:
    return workflow is not None and workflow.__program__.event(event) in workflow.__program__.events


@contextmanager
def _event(otel: Any, workflow: str, id: str, event: str, known: bool) -> Iterator[Span]:
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


def task(
    name: str, now: datetime, made_at: datetime, trace: Trace, delivery: Delivery, **attributes: Value
) -> AbstractContextManager[Span]:
    """The span of a delivered task, joined to the span that created it, and its lateness.

    Args:
        name: ``resume``, or the action and the event.
        made_at: when the task was created.
        trace: the value that ``carrier`` returned then. An invalid trace counts as none.
        delivery: how the task was delivered.
    """
    otel = _otel()
    return Span() if otel is None else _task(otel, name, now, made_at, trace, delivery, attributes)


@contextmanager
def _task(
    otel: Any,
    name: str,
    now: datetime,
    made_at: datetime,
    trace: Trace,
    delivery: Delivery,
    attributes: Mapping[str, Value],
) -> Iterator[Span]:
    kind = name.partition(" ")[0]
    if delivery.due is not None:
        otel.instruments.task_lateness.record(max(0.0, (now - delivery.due).total_seconds()), prefixed({"task": kind}))
    messaging = {"messaging.operation.type": "process", "messaging.operation.name": kind, **delivery.attributes}
    child = now - made_at <= CHILD_UP_TO
    with otel.task_span(name, attributes, messaging, trace, child=child) as span:
        yield span


def attempt(
    kind: str, statement: str, clock: Clock, workflow: str, **attributes: Value
) -> AbstractContextManager[Span]:
    """The span of an attempt at a step, an activity, a setup or a teardown, and its duration."""
    otel = _otel()
    return Span() if otel is None else _attempt(otel, kind, statement, clock, workflow, attributes)


@contextmanager
def _attempt(
    otel: Any, kind: str, statement: str, clock: Clock, workflow: str, attributes: Mapping[str, Value]
) -> Iterator[Span]:
    about: dict[str, Value] = {"workflow": workflow, "statement": statement}
    started, outcome = clock.now(), "lost"
    try:
        with otel.inner_span(f"{kind} {statement}", {**about, **attributes}) as span:
            try:
                yield span
                outcome = span.outcome or "done"
            finally:
                span.outcome = outcome
    finally:
        seconds = (clock.now() - started).total_seconds()
        otel.instruments.attempt_duration.record(seconds, prefixed({**about, "kind": kind, "outcome": outcome}))


def conflict(workflow: str) -> None:
    """Counts a commit that failed because another commit came first."""
    if (otel := _otel()) is not None:
        otel.instruments.conflicts.add(1, prefixed({"workflow": workflow}))


def busy_wait(workflow: str) -> None:
    """Counts a wait for a busy instance."""
    if (otel := _otel()) is not None:
        otel.instruments.busy_waits.add(1, prefixed({"workflow": workflow}))


def started(workflow: str) -> None:
    """Counts an instance that was created."""
    if (otel := _otel()) is not None:
        otel.instruments.started.add(1, prefixed({"workflow": workflow}))


def ended(workflow: str, status: str) -> None:
    """Counts an instance that ended."""
    if (otel := _otel()) is not None:
        otel.instruments.ended.add(1, prefixed({"workflow": workflow, "status": status}))


def outcome_of(error: BaseException) -> str:
    """Returns the name of an error in ``gorchestrate.outcome``."""
    outcomes = {**_REFUSALS, **_OUTAGES}
    return next((outcomes[base] for base in type(error).__mro__ if base in outcomes), "failed")
