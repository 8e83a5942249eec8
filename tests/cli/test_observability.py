"""The entry point in docs/guides/observability.md, as it is written there: what it sends to a collector."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import httpx
import pytest
from rich.console import Console

from cloud_adapter.cli import demo
from cloud_adapter.sockets import free_ports
from tests.cli.processes import ROOT, dev, started
from tests.http.helpers import until
from tests.http_target import threaded_server

pytestmark = pytest.mark.slow

DOCUMENT = (ROOT / "docs/guides/observability.md").read_text()
(MAIN,) = re.findall(r"^```python main\.py\n(.*?)^```", DOCUMENT, re.DOTALL | re.MULTILINE)


class Collector:
    """Takes what exporters send by OTLP over HTTP."""

    def __init__(self) -> None:
        self.spans: list[Any] = []
        self.metrics: set[str] = set()
        self.services: set[str] = set()
        self.url = ""

    def take(self, path: str, body: bytes) -> None:
        from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
        from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

        if path == "/v1/traces":
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                self.services |= {a.value.string_value for a in resource.resource.attributes if a.key == "service.name"}
                self.spans += [span for scope in resource.scope_spans for span in scope.spans]
        elif path == "/v1/metrics":
            for resource in ExportMetricsServiceRequest.FromString(body).resource_metrics:
                self.metrics |= {metric.name for scope in resource.scope_metrics for metric in scope.metrics}

    @property
    def variables(self) -> dict[str, str]:
        """The environment of a program that is to send here, and soon."""
        intervals = {"OTEL_BSP_SCHEDULE_DELAY": "300", "OTEL_METRIC_EXPORT_INTERVAL": "500"}
        return {"OTEL_EXPORTER_OTLP_ENDPOINT": self.url, **intervals}

    def names(self) -> list[str]:
        return [span.name for span in self.spans]


@contextmanager
def collecting() -> Iterator[Collector]:
    collector = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            collector.take(self.path, self.rfile.read(int(self.headers["content-length"])))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None: ...

    with threaded_server(Handler) as port:
        collector.url = f"http://127.0.0.1:{port}"
        yield collector


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the entry point, and the sample beside it."""
    (tmp_path / "main.py").write_text(MAIN)
    (tmp_path / "pizza.py").write_text((ROOT / "functions/pizza.py").read_text())
    return tmp_path


def check(collector: Collector) -> None:
    """What an order from its start to its end has sent."""
    until(lambda: collector.names().count("event Pay") == 2 and "gorchestrate.instances.ended" in collector.metrics)
    names = collector.names()
    assert collector.services == {"pizza-shop"}
    assert {"start pizza", "event AddToCart", "event SubmitCart", "event ConfirmOrder", "resume"} <= set(names)
    assert names.count("step print the kitchen ticket") == 1
    by_name = {span.name: span for span in collector.spans}
    step, confirm = by_name["step print the kitchen ticket"], by_name["event ConfirmOrder"]
    (resume,) = [span for span in collector.spans if span.span_id == step.parent_span_id]
    assert resume.name == "resume" and resume.parent_span_id == confirm.span_id
    assert step.trace_id == resume.trace_id == confirm.trace_id
    expected = {"events", "attempt.duration", "task.lateness", "instances.started", "instances.ended"}
    assert {f"gorchestrate.{name}" for name in expected} <= collector.metrics


@contextmanager
def function(folder: Path, variables: dict[str, str]) -> Iterator[str]:
    """The entry point ``api`` under functions-framework; gives its URL."""
    (port,) = free_ports(1)
    binary = str(Path(sys.executable).with_name("functions-framework"))
    command = [binary, "--source", "main.py", "--target", "api", "--host", "127.0.0.1", "--port", str(port)]
    url = f"http://127.0.0.1:{port}"
    with started(command, folder, cwd=folder, **variables) as process:

        def up() -> bool:
            assert process.process.poll() is None, process.output() + process.errors()
            try:
                return bool(httpx.get(f"{url}/health").json() == {"status": "ok"})
            except httpx.ConnectError:
                return False

        until(up)
        yield url


def test_under_functions_framework(folder: Path) -> None:
    with collecting() as collector, function(folder, collector.variables) as url:
        assert demo.play(url, Console(quiet=True))
        check(collector)


def test_under_gorchestrate_dev(folder: Path) -> None:
    with collecting() as collector, dev("main.py", folder / "dev.db", cwd=folder, **collector.variables) as server:
        assert demo.play(str(server.client.base_url), Console(quiet=True))
        check(collector)


def test_a_response_that_has_ended_has_left_its_spans(folder: Path) -> None:
    """As a function's processor stops then. The batch alone would send them after an hour."""
    with collecting() as collector:
        variables = collector.variables | {"OTEL_BSP_SCHEDULE_DELAY": "3600000"}
        with function(folder, variables) as url:
            assert httpx.post(f"{url}/wf/pizza/order-1").status_code == 201
            assert collector.names() == ["start pizza"]
            assert httpx.post(f"{url}/wf/pizza/order-1/Nonsense").status_code == 409
            assert collector.names() == ["start pizza", "event _OTHER"]
