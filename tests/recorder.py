"""Records the spans and metrics that gorchestrate makes while a test runs. Holds no test; OpenTelemetry is loaded with
the first recorder, so that all tests before it run without."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from cloud_adapter.observability import telemetry

PREFIX = "gorchestrate."


class Recorder:
    """Spans that have ended, in that order, and the metrics as they stand."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from opentelemetry import trace
        from opentelemetry.sdk.metrics import MeterProvider
        from opentelemetry.sdk.metrics.export import InMemoryMetricReader
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import SimpleSpanProcessor
        from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

        from cloud_adapter.observability import otel

        self._exporter = InMemorySpanExporter()
        self._provider = TracerProvider(shutdown_on_exit=False)
        self._provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self._reader = InMemoryMetricReader()
        meters = MeterProvider([self._reader], shutdown_on_exit=False)
        self.tracer = self._provider.get_tracer("test")
        monkeypatch.setattr(otel, "tracer", self._provider.get_tracer("gorchestrate"))
        monkeypatch.setattr(otel, "instruments", otel.Instruments(meters.get_meter("gorchestrate")))
        with trace.use_span(trace.NonRecordingSpan(trace.SpanContext(1, 1, is_remote=False))):
            assert telemetry.current_trace() is not None, "telemetry uses OpenTelemetry"

    @property
    def spans(self) -> list[Any]:
        return list(self._exporter.get_finished_spans())

    @property
    def names(self) -> list[str]:
        return [span.name for span in self.spans]

    def named(self, name: str) -> list[Any]:
        return [span for span in self.spans if span.name == name]

    def one(self, name: str) -> Any:
        (span,) = self.named(name)
        return span

    def clear(self) -> None:
        """Forgets the spans."""
        self._exporter.clear()

    def metric(self, name: str) -> dict[tuple[str, ...], Any]:
        """The points of a metric by the values of their attributes, these in the order of their names; of a histogram
        how many values it has had, and their sum."""
        from opentelemetry.sdk.metrics.export import NumberDataPoint

        data = self._reader.get_metrics_data()
        return {
            tuple(str(value) for _, value in sorted((point.attributes or {}).items())): (
                point.value if isinstance(point, NumberDataPoint) else (point.count, point.sum)
            )
            for resource in (data.resource_metrics if data is not None else ())
            for scope in resource.scope_metrics
            for metric in scope.metrics
            if metric.name == PREFIX + name
            for point in metric.data.data_points
        }

    @contextmanager
    def span(self, name: str) -> Iterator[Any]:
        """A span of somebody else's around the body."""
        with self.tracer.start_as_current_span(name) as span:
            yield span


def about(span: Any) -> dict[str, Any]:
    """The attributes of a span that are ours, without the prefix."""
    return {name.removeprefix(PREFIX): value for name, value in span.attributes.items() if name.startswith(PREFIX)}


def links(span: Any) -> list[int]:
    """The ids of the spans that a span is linked to."""
    return [link.context.span_id for link in span.links]


def parent(span: Any) -> int | None:
    """The id of the parent of a span."""
    return None if span.parent is None else span.parent.span_id


def id_of(span: Any) -> int:
    """The id of a span."""
    number: int = span.context.span_id
    return number
