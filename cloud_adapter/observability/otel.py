"""Spans and metrics by OpenTelemetry. Only this module imports it; ``telemetry.py`` decides what is recorded when.

The tracer and the instruments belong to the program's providers, even if the program sets them up later. Without
providers, nothing is recorded. ``docs/guides/observability.md`` lists the names and attributes of spans.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from traceback import format_exception

from opentelemetry import context as contexts
from opentelemetry import metrics, propagate, trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from cloud_adapter.observability.span import Span, Trace, Value, prefixed
from cloud_adapter.observability.trace_context import TraceContext, served
from workflow_core.error_texts import error_text

tracer = trace.get_tracer("gorchestrate")
"""What makes all spans."""

_w3c = TraceContextTextMapPropagator()

_FLUSH_MS_MAX = 5_000
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800)


class Instruments:
    """The instruments of a meter."""

    def __init__(self, meter: metrics.Meter) -> None:
        self.events = meter.create_counter("gorchestrate.events", "{event}", "Events that clients sent, by outcome.")
        self.started = meter.create_counter(
            "gorchestrate.instances.started", "{instance}", "Instances that were created."
        )
        self.ended = meter.create_counter(
            "gorchestrate.instances.ended", "{instance}", "Instances that ended, by status."
        )
        self.conflicts = meter.create_counter(
            "gorchestrate.commit.conflicts", "{commit}", "Commits that failed because another commit came first."
        )
        self.busy_waits = meter.create_counter(
            "gorchestrate.busy.waits", "{wait}", "Waits for an instance that was busy or changed by others."
        )
        self.attempt_duration = meter.create_histogram(
            "gorchestrate.attempt.duration",
            "s",
            "Duration of steps, activities, setups and teardowns, by outcome.",
            explicit_bucket_boundaries_advisory=_SECONDS,
        )
        self.task_lateness = meter.create_histogram(
            "gorchestrate.task.lateness",
            "s",
            "Delay between the scheduled time of a task and its arrival.",
            explicit_bucket_boundaries_advisory=_SECONDS,
        )


instruments = Instruments(metrics.get_meter("gorchestrate"))


class OtelSpan(Span):
    """A span of OpenTelemetry."""

    def __init__(self, span: trace.Span) -> None:
        self._span = span
        self._refusal: BaseException | None = None

    def set(self, **attributes: Value) -> None:
        self._span.set_attributes(prefixed(attributes))

    def refused(self, error: BaseException) -> None:
        self._refusal = error
        self._span.set_attribute("error.type", type(error).__qualname__)

    def failed(self, error: BaseException) -> None:
        self._span.set_attribute("error.type", type(error).__qualname__)
        # Not with record_exception, which requires that an error has a message and that it is valid Unicode.
        self._span.add_event("exception", _described(error))
        self._span.set_status(Status(StatusCode.ERROR, error_text(error)))

    def ended(self, error: BaseException | None) -> None:
        """Records the end of the block; ``error`` is the error that leaves it."""
        if error is not None and error is not self._refusal:
            self.failed(error)
        if self.outcome:
            self.set(outcome=self.outcome)


def _described(error: BaseException) -> dict[str, str]:
    """An error by the semantic conventions: https://opentelemetry.io/docs/specs/semconv/exceptions/"""
    trace_back = "".join(format_exception(error)).encode(errors="backslashreplace").decode()
    name, _, message = error_text(error).partition(": ")
    return {"exception.type": name, "exception.message": message, "exception.stacktrace": trace_back}


@contextmanager
def request_span(name: str, attributes: Mapping[str, Value]) -> Iterator[OtelSpan]:
    """The span of a request: a server span, or an internal span if a server span is already open."""
    present = trace.get_current_span().get_span_context()
    about, kind = prefixed(attributes), SpanKind.INTERNAL
    request = served.get()
    if request is not None and (present.is_remote or not present.is_valid):
        about, kind = {**request.attributes, **about}, SpanKind.SERVER
    with _span(name, about, kind) as span:
        yield span


@contextmanager
def task_span(
    name: str, attributes: Mapping[str, Value], messaging: Mapping[str, Value], origin: Trace, *, child: bool
) -> Iterator[OtelSpan]:
    """The span of a task. Its parent is the span that created the task or the current span; the other one is linked."""
    come_from = _w3c.extract(origin, Context())
    around = contexts.get_current()
    parent, other = (come_from, around) if child and _context(come_from).is_valid else (around, come_from)
    links = [Link(_context(other))] if _context(other).is_valid else []
    with _span(name, {**messaging, **prefixed(attributes)}, SpanKind.CONSUMER, parent, links) as span:
        yield span


@contextmanager
def inner_span(name: str, attributes: Mapping[str, Value]) -> Iterator[OtelSpan]:
    """The span of an attempt to run user code."""
    with _span(name, prefixed(attributes), SpanKind.INTERNAL) as span:
        yield span


@contextmanager
def _span(
    name: str,
    attributes: Mapping[str, Value],
    kind: SpanKind,
    parent: Context | None = None,
    links: list[Link] | None = None,
) -> Iterator[OtelSpan]:
    started = tracer.start_as_current_span(
        name, parent, kind, attributes, links, record_exception=False, set_status_on_exception=False
    )
    with started as current:
        span = OtelSpan(current)
        try:
            yield span
        except BaseException as error:
            span.ended(error)
            raise
        span.ended(None)


@contextmanager
def continued(headers: Mapping[str, str], found: TraceContext | None) -> Iterator[None]:
    """See ``telemetry.continued``. Google's header is used if the program's propagator finds no trace."""
    if trace.get_current_span().get_span_context().is_valid:
        yield
        return
    context = propagate.extract(headers)
    if not _context(context).is_valid and found is not None and found.span_id:
        flags = TraceFlags(TraceFlags.SAMPLED if found.sampled else TraceFlags.DEFAULT)
        caller = SpanContext(int(found.trace_id, 16), int(found.span_id, 16), is_remote=True, trace_flags=flags)
        context = trace.set_span_in_context(trace.NonRecordingSpan(caller), context)
    token = contexts.attach(context)
    try:
        yield
    finally:
        contexts.detach(token)


def leave() -> None:
    """See ``telemetry.leave``."""
    contexts.attach(Context())


def flush() -> None:
    """See ``telemetry.flush``. Blocks. The SDK logs failures to send."""
    force = getattr(trace.get_tracer_provider(), "force_flush", None)
    if force is not None:
        force(_FLUSH_MS_MAX)


def carrier() -> Trace:
    """See ``telemetry.carrier``."""
    result: Trace = {}
    _w3c.inject(result)
    return result


def current_trace() -> TraceContext | None:
    """See ``telemetry.current_trace``."""
    context = trace.get_current_span().get_span_context()
    if not context.is_valid:
        return None
    return TraceContext(f"{context.trace_id:032x}", f"{context.span_id:016x}", context.trace_flags.sampled)


def _context(context: Context) -> SpanContext:
    return trace.get_current_span(context).get_span_context()
