"""The internal application, which the task queue and the scheduler call. Here the tests deliver the tasks."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from cloud_adapter.engine.engine import Engine
from cloud_adapter.hosting.embedded import EmbeddedRuntime
from cloud_adapter.http.api import create_api
from cloud_adapter.http.worker import BODY_BYTES_MAX, create_worker
from cloud_adapter.settings import Settings
from gorchestrate.testing.clock import ManualClock
from tests.http.helpers import everyone, expected, problem
from tests.http.workflows import WORKFLOWS

TIMED = "/wf/timed/a"
HOUR = timedelta(hours=1)


@dataclass
class World:
    """Both applications of one engine, and its time."""

    api: httpx.AsyncClient
    worker: httpx.AsyncClient
    clock: ManualClock

    async def shown(self, url: str = TIMED) -> Any:
        return (await self.api.get(url)).json()

    def body(self, pc: int, *, workflow: str = "timed", id: str = "a", age: timedelta = timedelta()) -> dict[str, Any]:
        return {"workflow": workflow, "id": id, "pc": pc, "created_at": (self.clock.now() - age).isoformat()}

    async def timeout(self, **changed: Any) -> dict[str, Any]:
        """The body of the task of the instance's only timeout."""
        meta = (await self.shown())["meta"]
        wait = next(wait for wait in meta["threads"][0]["waits"] if wait["kind"] == "timeout")
        return self.body(meta["pc"]) | {"wait_id": wait["id"], "event": wait["event"]} | changed

    async def post(self, path: str, body: Any) -> tuple[int, Any]:
        response = await self.clock.finish(self.worker.post(path, json=body))
        return response.status_code, response.json()

    async def waiting(self) -> None:
        """Creates the instance and lets it come to its wait."""
        await self.api.post(TIMED)
        assert await self.post("/resume", self.body(1)) == DONE
        assert (await self.shown())["meta"]["status"] == "waiting"


DONE = (200, {"outcome": "done"})
NOT_YET = (425, {"outcome": "not yet"})

Test = Callable[[World], Awaitable[None]]
Run = Callable[[Test], None]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Runs the body of a test in a world of its own."""

    @asynccontextmanager
    async def world() -> Any:
        clock = ManualClock()
        runtime = EmbeddedRuntime(WORKFLOWS, Settings(db=tmp_path / "worker.db"), clock=clock)
        try:
            api = httpx.ASGITransport(create_api(runtime.engine, max_body_bytes=10_000))
            worker = httpx.ASGITransport(create_worker(runtime.engine, everyone))
            async with (
                httpx.AsyncClient(transport=api, base_url="http://api") as public,
                httpx.AsyncClient(transport=worker, base_url="http://worker") as internal,
            ):
                yield World(public, internal, clock)
        finally:
            await runtime.close()

    def run(test: Test) -> None:
        async def main() -> None:
            async with world() as w:
                await test(w)

        asyncio.run(main())

    return run


class TestResume:
    def test_runs_what_is_due(self, run: Run) -> None:
        async def test(w: World) -> None:
            created = (await w.api.post(TIMED)).json()
            assert created["meta"]["status"] == "running" and created["state"]["log"] == []
            assert await w.post("/resume", w.body(created["meta"]["pc"])) == DONE
            shown = await w.shown()
            assert shown["meta"]["status"] == "waiting" and shown["state"]["log"] == ["prepared"]

        run(test)

    def test_again_it_changes_nothing(self, run: Run) -> None:
        async def test(w: World) -> None:
            await w.waiting()
            before = await w.shown()
            assert await w.post("/resume", w.body(1)) == DONE
            assert await w.post("/resume", w.body(before["meta"]["pc"])) == DONE
            assert await w.shown() == before

        run(test)

    def test_before_its_commit_it_is_to_come_again(self, run: Run) -> None:
        async def test(w: World) -> None:
            assert await w.post("/resume", w.body(1)) == NOT_YET
            created = (await w.api.post(TIMED)).json()
            assert await w.post("/resume", w.body(created["meta"]["pc"] + 1)) == NOT_YET
            assert await w.shown() == created

        run(test)

    def test_it_is_given_up_if_its_commit_never_comes(self, run: Run) -> None:
        async def test(w: World) -> None:
            assert await w.post("/resume", w.body(1, age=timedelta(minutes=11))) == DONE

        run(test)

    def test_of_a_workflow_that_is_not_served_it_is_acknowledged(self, run: Run) -> None:
        async def test(w: World) -> None:
            assert await w.post("/resume", w.body(1, workflow="nonsense")) == DONE

        run(test)

    def test_of_a_finished_instance_it_changes_nothing(self, run: Run) -> None:
        async def test(w: World) -> None:
            await w.waiting()
            await w.api.post(f"{TIMED}/Answer")
            before = await w.shown()
            assert before["meta"]["status"] == "finished"
            assert await w.post("/resume", w.body(before["meta"]["pc"])) == DONE
            assert await w.shown() == before

        run(test)


class TestTimeout:
    def test_is_delivered_at_its_deadline(self, run: Run) -> None:
        async def test(w: World) -> None:
            await w.waiting()
            body = await w.timeout()
            await w.clock.advance(3600)
            assert await w.post("/callback/timeout", body) == DONE
            shown = await w.shown()
            assert shown["meta"]["threads"][0]["step"] == "give up"
            assert await w.post("/resume", w.body(shown["meta"]["pc"])) == DONE
            assert (await w.shown())["state"]["log"] == ["prepared", "too late"]

        run(test)

    def test_twice_is_once(self, run: Run) -> None:
        async def test(w: World) -> None:
            await w.waiting()
            body = await w.timeout()
            await w.clock.advance(3600)
            await w.post("/callback/timeout", body)
            before = await w.shown()
            assert await w.post("/callback/timeout", body) == DONE
            assert await w.shown() == before

        run(test)

    @pytest.mark.parametrize(
        "changed", [{"wait_id": "main@0"}, {"event": "Answer"}, {"event": "nonsense"}, {"wait_id": "other@2"}]
    )
    def test_of_another_wait_changes_nothing(self, run: Run, changed: dict[str, str]) -> None:
        async def test(w: World) -> None:
            await w.waiting()
            await w.clock.advance(3600)
            before = await w.shown()
            assert await w.post("/callback/timeout", await w.timeout(**changed)) == DONE
            assert await w.shown() == before

        run(test)

    def test_too_early_changes_nothing(self, run: Run) -> None:
        async def test(w: World) -> None:
            await w.waiting()
            before = await w.shown()
            await w.clock.advance(3599)
            assert await w.post("/callback/timeout", await w.timeout()) == DONE
            assert await w.shown() == before

        run(test)

    def test_after_the_event_changes_nothing(self, run: Run) -> None:
        async def test(w: World) -> None:
            await w.waiting()
            body = await w.timeout()
            await w.api.post(f"{TIMED}/Answer")
            before = await w.shown()
            await w.clock.advance(3600)
            assert await w.post("/callback/timeout", body) == DONE
            assert await w.shown() == before

        run(test)

    def test_before_its_commit_it_is_to_come_again(self, run: Run) -> None:
        async def test(w: World) -> None:
            await w.waiting()
            body = await w.timeout()
            assert await w.post("/callback/timeout", body | {"pc": body["pc"] + 1}) == NOT_YET
            assert await w.post("/callback/timeout", body | {"id": "nobody"}) == NOT_YET

        run(test)


class TestRecover:
    def test_tells_how_many_should_be_moving(self, run: Run) -> None:
        async def test(w: World) -> None:
            assert await w.post("/recover", None) == (200, {"scheduled": 0})
            await w.api.post("/wf/timed/a")
            await w.api.post("/wf/timed/b")
            await w.api.post("/wf/desk/c")
            assert await w.post("/recover", None) == (200, {"scheduled": 2})

        run(test)

    def test_a_body_must_be_that_of_a_task(self, run: Run) -> None:
        async def test(w: World) -> None:
            response = await w.worker.post("/recover", json={"shard": "x"})
            assert response.status_code == 400
            task = {"shard": [1], "created_at": w.clock.now().isoformat()}
            assert await w.post("/recover", task) == (200, {"scheduled": 0}), "there are no shards here"

        run(test)

    def test_finds_a_timer_whose_task_was_lost(self, run: Run) -> None:
        async def test(w: World) -> None:
            await w.waiting()
            assert await w.post("/recover", None) == (200, {"scheduled": 0})
            await w.clock.advance(3600)
            before = await w.shown()
            assert await w.post("/recover", None) == (200, {"scheduled": 1})
            assert await w.shown() == before, "it schedules, it does not perform"

        run(test)


class TestCanary:
    def test_arrives_if_the_store_answers(self, run: Run) -> None:
        async def test(w: World) -> None:
            assert (await w.worker.post("/canary")).json() == {"store": "ok"}

        run(test)

    def test_fails_without_its_store_but_does_not_throttle_the_queue(
        self, run: Run, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def silent(self: Engine) -> None:
            raise PermissionError

        monkeypatch.setattr(Engine, "check_store", silent)

        async def test(w: World) -> None:
            response = await w.worker.post("/canary")
            assert (response.status_code, problem(response)["detail"]) == (
                500,
                "the store cannot be read: PermissionError",
            )

        run(test)


MALFORMED = [
    b"",
    b"{",
    b"\xff",
    b"null",
    b"[]",
    b"1",
    b"{}",
    b'{"workflow": "timed", "id": "a", "pc": "one", "created_at": "2030-01-01T00:00:00Z"}',
    b'{"workflow": "timed", "id": "a", "pc": 1, "created_at": "yesterday"}',
    b'{"workflow": 5, "id": "a", "pc": 1, "created_at": "2030-01-01T00:00:00Z"}',
    b'{"workflow": "timed", "id": null, "pc": 1, "created_at": "2030-01-01T00:00:00Z"}',
    b"[" * (BODY_BYTES_MAX - 1),
    b"1" * 5_000,
]


@pytest.mark.parametrize("body", MALFORMED, ids=lambda body: repr(body[:60]))
@pytest.mark.parametrize("path", ["/resume", "/callback/timeout"])
def test_a_body_that_is_no_task(run: Run, path: str, body: bytes) -> None:
    async def test(w: World) -> None:
        await w.waiting()
        before = await w.shown()
        response = await w.worker.post(path, content=body)
        document = problem(response)
        assert document == expected(400, "Invalid request", document["detail"])
        assert await w.shown() == before

    run(test)


def test_a_body_over_the_limit(run: Run) -> None:
    async def test(w: World) -> None:
        response = await w.worker.post("/resume", content=b" " * (BODY_BYTES_MAX + 1))
        assert problem(response)["status"] == 413

    run(test)


@pytest.mark.parametrize("path", ["/", "/wf/timed/a", "/resume/", "/callback", "/nonsense"])
def test_a_path_that_is_not_served(run: Run, path: str) -> None:
    async def test(w: World) -> None:
        assert problem(await w.worker.post(path)) == expected(404, "Not Found", f"unknown path {path!r}")

    run(test)


@pytest.mark.parametrize("path", ["/resume", "/callback/timeout", "/recover"])
def test_a_method_that_is_not_served(run: Run, path: str) -> None:
    async def test(w: World) -> None:
        for method in ("GET", "PUT", "DELETE"):
            response = await w.worker.request(method, path)
            assert problem(response) == expected(
                405, "Method Not Allowed", f"method {method} is not allowed for {path!r}: use POST"
            )
            assert response.headers["allow"] == "POST"

    run(test)
