"""The trace of a task travels through Cloud Tasks: from the span in which it is made to that of the worker."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest

from cloud_adapter.engine.engine import Engine
from cloud_adapter.http.worker import create_worker
from cloud_adapter.queues.cloud_tasks import CloudTasksQueue, TaskTarget
from cloud_adapter.stores.sqlite.store import SqliteStore
from tests.emulator.harness import Harness, run, until
from tests.http.helpers import everyone
from tests.recorder import Recorder, id_of, links, parent
from workflow_core import On, S, Select, Step, Workflow

pytestmark = pytest.mark.slow


class Order(Workflow, name="order"):
    baked: int = 0

    def bake(self) -> None:
        self.baked += 1

    definition = S(Select("orders", On("Order", lambda w: None)), Step("bake", bake))


def test_the_worker_goes_on_with_the_trace(tmp_path: Path, recorder: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(h: Harness) -> None:
        monkeypatch.setenv("CLOUD_TASKS_EMULATOR_HOST", h.emulator.address)
        queue = CloudTasksQueue("p", "l", "q", TaskTarget(h.target.url), h.clock)
        store = SqliteStore(tmp_path / "order.db")
        engine = Engine([Order], store, queue, clock=h.clock)
        try:
            await engine.create("order", "o1")
            await engine.handle_event("order", "o1", "Order")
            await until(lambda: len(h.target.requests) == 1)
            (request,) = h.target.requests
            assert "trace" in json.loads(request.body)
            transport = httpx.ASGITransport(app=create_worker(engine, everyone))
            async with httpx.AsyncClient(transport=transport, base_url="http://worker") as worker:
                response = await worker.post(request.path, content=request.body, headers=request.headers)
            assert response.json() == {"outcome": "done"}
        finally:
            await queue.close()
            await store.close()

    run(scenario)
    resume = recorder.one("resume")
    assert parent(resume) == id_of(recorder.one("event Order")) and links(resume) == []
    assert parent(recorder.one("step bake")) == id_of(resume)
    assert resume.attributes["messaging.destination.name"] == "q"
    assert len(resume.attributes["messaging.message.id"]) > 10
    assert recorder.metric("task.lateness")["resume",] == (1, 0)
