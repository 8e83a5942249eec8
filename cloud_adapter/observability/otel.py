"""Spans and metrics by OpenTelemetry: the only module that imports it. ``telemetry.py`` says what is when.

The tracer and the instruments are those of the program's providers, also if it sets them up later; nothing is recorded
without them. What a span is called and what it bears is in ``docs/observability.md``.
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
    """What is measured, by the instruments of a meter."""

    def __init__(self, meter: metrics.Meter) -> None:
        self.events = meter.create_counter(
            "gorchestrate.events", "{event}", "Events that clients have sent, by what came of them."
        )
        self.started = meter.create_counter(
            "gorchestrate.instances.started", "{instance}", "Instances that were created."
        )
        self.ended = meter.create_counter(
            "gorchestrate.instances.ended", "{instance}", "Instances that have ended, by their status."
        )
        self.conflicts = meter.create_counter(
            "gorchestrate.commit.conflicts", "{commit}", "Commits that were not made, as another one was faster."
        )
        self.busy_waits = meter.create_counter(
            "gorchestrate.busy.waits", "{wait}", "Waits for an instance that was busy, or was changed by others."
        )
        self.attempt_duration = meter.create_histogram(
            "gorchestrate.attempt.duration",
            "s",
            "How long steps, activities, setups and teardowns took, by what came of them.",
            explicit_bucket_boundaries_advisory=_SECONDS,
        )
        self.task_lateness = meter.create_histogram(
            "gorchestrate.task.lateness",
            "s",
            "How long after its time a task has come.",
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
        # Not by record_exception, which takes it for granted that an error has a message, and that it is valid Unicode.
        self._span.add_event("exception", _described(error))
        self._span.set_status(Status(StatusCode.ERROR, error_text(error)))

    def ended(self, error: BaseException | None) -> None:
        """The block has ended; ``error`` leaves it."""
        if error is not None and error is not self._refusal:
            self.failed(error)
        if self.outcome:
            self.set(outcome=self.outcome)


def _described(error: BaseException) -> dict[str, str]:
    """An error as the semantic conventions want it: https://opentelemetry.io/docs/specs/semconv/exceptions/"""
    trace_back = "".join(format_exception(error)).encode(errors="backslashreplace").decode()
    name, _, message = error_text(error).partition(": ")
    return {"exception.type": name, "exception.message": message, "exception.stacktrace": trace_back}


@contextmanager
def request_span(name: str, attributes: Mapping[str, Value]) -> Iterator[OtelSpan]:
    """What a caller asks for: the server's span, unless something around us has one open."""
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
    """A task's span. Of the span that it comes from and the one that surrounds it, one is its parent, one is linked."""
    come_from = _w3c.extract(origin, Context())
    around = contexts.get_current()
    parent, other = (come_from, around) if child and _context(come_from).is_valid else (around, come_from)
    links = [Link(_context(other))] if _context(other).is_valid else []
    with _span(name, {**messaging, **prefixed(attributes)}, SpanKind.CONSUMER, parent, links) as span:
        yield span


@contextmanager
def inner_span(name: str, attributes: Mapping[str, Value]) -> Iterator[OtelSpan]:
    """The span of user code."""
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
    with started as one:
        span = OtelSpan(one)
        try:
            yield span
        except BaseException as error:
            span.ended(error)
            raise
        span.ended(None)


@contextmanager
def continued(headers: Mapping[str, str], found: TraceContext | None) -> Iterator[None]:
    """See ``telemetry.continued``. Google's own header counts where the program's propagator finds nothing."""
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


def flush() -> None:
    """See ``telemetry.flush``. Blocks; what cannot be sent is logged by the SDK."""
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
