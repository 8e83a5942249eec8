"""What HTTP adds to spans and logs: the caller's trace, the attributes of requests and tasks. And ``/healthz``."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from cloud_adapter.errors import Unavailable
from cloud_adapter.hosting.embedded import EmbeddedRuntime
from cloud_adapter.http import health
from cloud_adapter.http.api import create_api
from cloud_adapter.http.prefixes import HEALTH_PATHS
from cloud_adapter.http.worker import create_worker
from cloud_adapter.observability import logs, trace_context
from cloud_adapter.observability.logs import JsonFormatter
from cloud_adapter.observability.trace_context import TraceContext
from cloud_adapter.settings import Settings
from tests.cli.processes import ROOT, environment
from tests.http.helpers import everyone, problem
from tests.recorder import Recorder, about, id_of, links, parent
from workflow_core import On, S, Select, Step, Workflow

TRACE = "0af7651916cd43dd8448eb211c80319c"
SPAN = "00f067aa0ba902b7"
TRACEPARENT = {"traceparent": f"00-{TRACE}-{SPAN}-01"}
CLOUD = {"X-Cloud-Trace-Context": f"{TRACE}/255;o=1"}

user_log = logging.getLogger("bakery")


class Bakery(Workflow, name="bakery"):
    failing: bool = False

    def order(self, failing: bool) -> None:
        user_log.info("an order")
        self.failing = failing

    def bake(self) -> None:
        user_log.info("into the oven")
        if self.failing:
            raise ConnectionError("the oven is cold")

    definition = S(Select("orders", On("Order", order)), Step("bake", bake))


@asynccontextmanager
async def runtime(tmp_path: Path) -> AsyncIterator[tuple[EmbeddedRuntime, httpx.AsyncClient, httpx.AsyncClient]]:
    """A runtime whose queue does not run, with clients of its two applications."""
    settings = Settings(db=tmp_path / "telemetry.db")
    embedded = EmbeddedRuntime([Bakery], settings)
    apps = create_api(embedded.engine, max_body_bytes=10_000), create_worker(embedded.engine, everyone)
    try:
        async with (
            httpx.AsyncClient(transport=httpx.ASGITransport(app=apps[0]), base_url="http://api") as api,
            httpx.AsyncClient(transport=httpx.ASGITransport(app=apps[1]), base_url="http://worker") as worker,
        ):
            yield embedded, api, worker
    finally:
        await embedded.close()


@pytest.fixture
def lines() -> Iterator[Callable[[str], list[dict[str, Any]]]]:
    """What was logged by a logger, as the programs format it."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter("my-project"))
    loggers = [logging.getLogger("gorchestrate"), user_log]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
    yield lambda name: [one for one in map(json.loads, stream.getvalue().splitlines()) if one["logger"] == name]
    for logger, level in zip(loggers, levels, strict=True):
        logger.removeHandler(handler)
        logger.setLevel(level)


def pending(embedded: EmbeddedRuntime) -> tuple[str, dict[str, Any]]:
    """The path and the body of the one task in the queue."""
    (task,) = embedded.queue.tasks()
    return task.path, dict(task.body)


# --- spans --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "caller"),
    [
        (TRACEPARENT, (int(TRACE, 16), int(SPAN, 16))),
        (CLOUD, (int(TRACE, 16), 255)),
        (CLOUD | {"traceparent": f"00-{'1' * 32}-{SPAN}-01"}, (int("1" * 32, 16), int(SPAN, 16))),
        ({"traceparent": "garbage"}, None),
        ({"X-Cloud-Trace-Context": "garbage"}, None),
        ({}, None),
    ],
    ids=["w3c", "cloud", "both", "garbage", "cloud garbage", "none"],
)
def test_an_event_continues_the_callers_trace(
    tmp_path: Path, recorder: Recorder, headers: dict[str, str], caller: tuple[int, int] | None
) -> None:
    async def scenario() -> None:
        async with runtime(tmp_path) as (_, api, _worker):
            await api.post("/wf/bakery/b1")
            response = await api.post("/wf/bakery/b1/Order", json=False, headers=headers)
            assert response.is_success

    asyncio.run(scenario())
    span = recorder.one("event Order")
    assert span.kind.name == "SERVER"
    assert span.attributes["http.request.method"] == "POST"
    assert span.attributes["url.path"] == "/wf/bakery/b1/Order"
    assert span.attributes["url.scheme"] == "http"
    assert parent(span) == (caller and caller[1])
    assert caller is None or span.context.trace_id == caller[0]


def test_under_a_server_span_of_others_it_is_internal(tmp_path: Path, recorder: Recorder) -> None:
    async def scenario() -> None:
        async with runtime(tmp_path) as (_, api, _worker):
            await api.post("/wf/bakery/b1")
            with recorder.span("POST /wf") as outer:
                await api.post("/wf/bakery/b1/Order", json=False, headers=TRACEPARENT)
            span = recorder.one("event Order")
            assert parent(span) == outer.get_span_context().span_id
            assert span.kind.name == "INTERNAL"
            assert "http.request.method" not in span.attributes

    asyncio.run(scenario())


def test_the_task_takes_the_trace_with_it_and_the_worker_goes_on_with_it(tmp_path: Path, recorder: Recorder) -> None:
    queue_span = "1" * 16

    async def scenario() -> None:
        async with runtime(tmp_path) as (embedded, api, worker):
            await api.post("/wf/bakery/b1")
            await api.post("/wf/bakery/b1/Order", json=False, headers=TRACEPARENT)
            path, body = pending(embedded)
            assert body["trace"]["traceparent"].split("-")[1] == TRACE
            due = embedded.clock.now().timestamp() - 5
            headers = {
                "traceparent": f"00-{'2' * 32}-{queue_span}-01",
                "X-CloudTasks-QueueName": "gorchestrate",
                "X-CloudTasks-TaskName": "t-1",
                "X-CloudTasks-TaskRetryCount": "3",
                "X-CloudTasks-TaskETA": f"{due:.6f}",
            }
            response = await worker.post(path, json=body, headers=headers)
            assert response.json() == {"outcome": "done"}

    asyncio.run(scenario())
    resume = recorder.one("resume")
    assert parent(resume) == id_of(recorder.one("event Order"))
    assert links(resume) == [int(queue_span, 16)], "the request that brought it"
    assert resume.context.trace_id == int(TRACE, 16)
    assert resume.attributes["messaging.system"] == "gcp_cloud_tasks"
    assert resume.attributes["messaging.destination.name"] == "gorchestrate"
    assert resume.attributes["messaging.message.id"] == "t-1"
    assert about(resume)["retry"] == 3
    ((count, seconds),) = recorder.metric("task.lateness").values()
    assert count == 1 and 5 <= seconds < 60


@pytest.mark.parametrize("eta", ["", "soon", "nan", "1e300", "-1e300"])
def test_headers_that_are_none_of_cloud_tasks_do_no_harm(tmp_path: Path, recorder: Recorder, eta: str) -> None:
    async def scenario() -> None:
        async with runtime(tmp_path) as (embedded, api, worker):
            await api.post("/wf/bakery/b1")
            await api.post("/wf/bakery/b1/Order", json=False)
            path, body = pending(embedded)
            headers = {"X-CloudTasks-TaskETA": eta, "X-CloudTasks-TaskRetryCount": "many"}
            assert (await worker.post(path, json=body, headers=headers)).json() == {"outcome": "done"}

    asyncio.run(scenario())
    assert recorder.names[-1] == "resume"
    assert recorder.metric("task.lateness") == {}


def test_the_embedded_queue_takes_the_trace_with_it(tmp_path: Path, recorder: Recorder) -> None:
    async def scenario() -> None:
        async with runtime(tmp_path) as (embedded, api, _):
            await api.post("/wf/bakery/b1", headers={"traceparent": f"00-{'3' * 32}-{SPAN}-01"})
            with recorder.span("the first request"):  # as functions-framework starts it
                await embedded.start()
            await api.post("/wf/bakery/b1/Order", json=False, headers=TRACEPARENT)
            await embedded.queue.idle()

    asyncio.run(scenario())
    resumes = recorder.named("resume")  # recovery, which starts with the runtime, may have found the instance as well
    (resume,) = [span for span in resumes if parent(span) == id_of(recorder.one("event Order"))]
    assert [links(span) for span in resumes] == [[]] * len(resumes), "no part of the request that started the runtime"
    assert resume.attributes["messaging.system"] == "gorchestrate"
    assert recorder.metric("task.lateness")["resume",][0] == len(resumes)


# --- logs ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        (TRACEPARENT, TraceContext(TRACE, SPAN, True)),
        ({"traceparent": f"00-{TRACE}-{SPAN}-00"}, TraceContext(TRACE, SPAN, False)),
        ({"traceparent": f"01-{TRACE}-{SPAN}-01-more"}, TraceContext(TRACE, SPAN, True)),
        ({"traceparent": f"00-{TRACE}-{SPAN}-01-more"}, None),
        ({"traceparent": f"ff-{TRACE}-{SPAN}-01"}, None),
        ({"traceparent": f"00-{'0' * 32}-{SPAN}-01"}, None),
        ({"traceparent": f"00-{TRACE}-{'0' * 16}-01"}, None),
        ({"traceparent": f"00-{TRACE.upper()}-{SPAN}-01"}, None),
        ({"x-cloud-trace-context": f"{TRACE}/255;o=1"}, TraceContext(TRACE, "00000000000000ff", True)),
        ({"x-cloud-trace-context": f"{TRACE}/255;o=0"}, TraceContext(TRACE, "00000000000000ff", False)),
        ({"x-cloud-trace-context": TRACE}, TraceContext(TRACE, "", False)),
        ({"x-cloud-trace-context": f"{TRACE}/99999999999999999999;o=1"}, TraceContext(TRACE, "", True)),
        ({"x-cloud-trace-context": f"{'0' * 32}/1;o=1"}, None),
        ({"x-cloud-trace-context": "x"}, None),
        ({"traceparent": "x", "x-cloud-trace-context": f"{TRACE}/1;o=1"}, TraceContext(TRACE, "0" * 15 + "1", True)),
    ],
    ids=str,
)
def test_the_trace_in_headers(headers: dict[str, str], expected: TraceContext | None) -> None:
    assert trace_context.from_headers(headers) == expected


@pytest.mark.parametrize("headers", [TRACEPARENT, CLOUD], ids=["w3c", "cloud"])
def test_logs_bear_the_trace_of_the_request(
    tmp_path: Path, headers: dict[str, str], lines: Callable[[str], list[dict[str, Any]]]
) -> None:
    """Where no OpenTelemetry is set up: nothing here records spans."""

    async def scenario() -> None:
        async with runtime(tmp_path) as (_, api, _worker):
            await api.post("/wf/bakery/b1")
            await api.post("/wf/bakery/b1/Order", json=False, headers=headers)

    asyncio.run(scenario())
    created, ordered = lines("gorchestrate")
    (said,) = lines("bakery")
    assert not [name for name in created if name.startswith("logging.googleapis.com/trace")]
    for line in (ordered, said):
        assert line["logging.googleapis.com/trace"] == f"projects/my-project/traces/{TRACE}"
        assert line["logging.googleapis.com/spanId"] == (SPAN if headers is TRACEPARENT else "00000000000000ff")
        assert line["logging.googleapis.com/trace_sampled"] is True
        assert line["logging.googleapis.com/labels"] == {"workflow": "bakery", "instance": "b1"}


def test_logs_bear_the_span_in_which_they_are_written(
    tmp_path: Path, recorder: Recorder, lines: Callable[[str], list[dict[str, Any]]]
) -> None:
    async def scenario() -> None:
        async with runtime(tmp_path) as (embedded, api, worker):
            await api.post("/wf/bakery/b1")
            await api.post("/wf/bakery/b1/Order", json=True, headers=TRACEPARENT)
            path, body = pending(embedded)
            await worker.post(path, json=body)

    asyncio.run(scenario())
    ordered, baking = lines("bakery")
    assert ordered["message"] == "an order" and baking["message"] == "into the oven"
    assert ordered["logging.googleapis.com/spanId"] == f"{id_of(recorder.one('event Order')):016x}"
    assert baking["logging.googleapis.com/spanId"] == f"{id_of(recorder.one('step bake')):016x}"
    assert baking["logging.googleapis.com/trace"] == f"projects/my-project/traces/{TRACE}"
    assert (baking["workflow"], baking["id"], baking["thread"]) == ("bakery", "b1", "main")
    assert (baking["statement"], baking["attempt"]) == ("bake", 1)
    failed = lines("gorchestrate")[-1]
    assert failed["kind"] == "step failed" and failed["severity"] == "WARNING"
    assert "in bake" in failed["exception"] and failed["exception"].endswith("ConnectionError: the oven is cold\n")


def test_without_a_project_the_trace_is_the_bare_id() -> None:
    token = trace_context.served.set(trace_context.ServedRequest(TraceContext(TRACE, "", False)))
    try:
        record = logging.LogRecord("x", logging.INFO, __file__, 1, "text", (), None)
        line = json.loads(JsonFormatter().format(record))
    finally:
        trace_context.served.reset(token)
    assert line["logging.googleapis.com/trace"] == TRACE
    assert "logging.googleapis.com/spanId" not in line
    assert line["logging.googleapis.com/trace_sampled"] is False


def test_fields_end_with_what_they_are_about() -> None:
    formatter = JsonFormatter()
    record = logging.LogRecord("x", logging.INFO, __file__, 1, "text", (), None)
    with logs.about("bakery", "b1", statement="bake"), logs.about("bakery", "b2"):
        inner = json.loads(formatter.format(record))
    assert inner["id"] == "b2" and "statement" not in inner
    assert "workflow" not in json.loads(formatter.format(record))


# --- without OpenTelemetry ----------------------------------------------------------------

WITHOUT = """
import asyncio, sys
{block}
from pathlib import Path
from pizza import PizzaOrder
from cloud_adapter.hosting.embedded import EmbeddedRuntime
from cloud_adapter.settings import Settings
import cloud_adapter.cli, cloud_adapter.hosting.service, cloud_adapter.http.worker, cloud_adapter.hosting.cloud

async def main():
    runtime = EmbeddedRuntime([PizzaOrder], Settings(db=Path(sys.argv[1])))
    await runtime.start()
    await runtime.engine.create("pizza", "o1")
    await runtime.engine.handle_event("pizza", "o1", "AddToCart", b'{{"name": "margherita"}}')
    await runtime.engine.handle_event("pizza", "o1", "SubmitCart")
    body = b'{{"manager": "Ada", "amount": 10}}'
    await runtime.engine.handle_event("pizza", "o1", "ConfirmOrder", body)
    await runtime.queue.idle()
    view = await runtime.engine.get("pizza", "o1")
    print(view.workflow.status, view.workflow.ticket != "")
    await runtime.close()

asyncio.run(main())
print(sorted(name for name in sys.modules if name.startswith("opentelemetry.")))
"""


@pytest.mark.slow
@pytest.mark.parametrize("block", ["", "sys.modules['opentelemetry'] = None"], ids=["unused", "not installed"])
def test_without_opentelemetry_everything_works_and_nothing_of_it_is_loaded(tmp_path: Path, block: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT.format(block=block), str(tmp_path / "without.db")],
        cwd=ROOT,
        env=environment(PYTHONPATH=os.pathsep.join([str(ROOT), str(ROOT / "functions")])),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["confirmed True", "[]"]


def test_one_module_alone_knows_opentelemetry() -> None:
    sources = [*ROOT.glob("cloud_adapter/**/*.py"), *ROOT.glob("workflow_core/**/*.py")]
    knowing = [
        path.name for path in sources if "import opentelemetry" in (text := path.read_text()) or "from opentel" in text
    ]
    assert knowing == ["otel.py"]


# --- health -------------------------------------------------------------------------------


@pytest.mark.parametrize("path", HEALTH_PATHS)
def test_health_does_not_depend_on_the_database(
    tmp_path: Path, path: str, monkeypatch: pytest.MonkeyPatch, recorder: Recorder
) -> None:
    async def unavailable(*_: object) -> None:
        raise Unavailable("the disk is gone: /secret/path")

    async def scenario() -> None:
        async with runtime(tmp_path) as (embedded, api, worker):
            for client in (api, worker):
                assert (await client.get(f"{path}?store=1")).json() == {"status": "ok", "store": "ok"}
            monkeypatch.setattr(embedded.store, "ping", unavailable)
            for client in (api, worker):
                response = await client.get(path)
                assert (response.status_code, response.json()) == (200, {"status": "ok"})
                response = await client.get(f"{path}?store=1")
                assert response.status_code == 503
                assert problem(response)["detail"] == "the store cannot be read: Unavailable"

    asyncio.run(scenario())
    assert recorder.spans == []


def test_a_store_that_hangs_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def hang(*_: object) -> None:
        await asyncio.sleep(3600)

    async def scenario() -> None:
        async with runtime(tmp_path) as (embedded, api, _):
            monkeypatch.setattr(embedded.store, "ping", hang)
            monkeypatch.setattr(health, "STORE_SECONDS_MAX", 0.01)
            assert problem(await api.get("/healthz?store=1"))["title"] == "Unavailable"

    asyncio.run(scenario())
