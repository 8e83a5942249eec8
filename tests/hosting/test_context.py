"""Which context variables and which decimal context user code sees that runs outside a request."""

from __future__ import annotations

import asyncio
from contextvars import Context, ContextVar
from datetime import timedelta
from decimal import Decimal, getcontext, localcontext
from pathlib import Path
from queue import SimpleQueue

import httpx
import pytest

from cloud_adapter.hosting import dev_server
from cloud_adapter.hosting.embedded import EmbeddedRuntime
from cloud_adapter.hosting.service import Service
from cloud_adapter.observability import logs, trace_context
from cloud_adapter.observability.trace_context import ServedRequest
from cloud_adapter.settings import Settings
from cloud_adapter.sockets import listen
from tests.hosting.test_service_requests import application
from workflow_core import Activity, On, S, Select, Step, Timeout, WaitFor, Workflow

SECONDS_MAX = 20.0
TENANT: ContextVar[str] = ContextVar("TENANT", default="none")
SEEN: SimpleQueue[tuple[str, str, str]] = SimpleQueue()
"""What user code has seen: where, the tenant, and a third."""


def look(place: str) -> None:
    SEEN.put((place, TENANT.get(), str(Decimal(1) / 3)))
    TENANT.set(f"changed by {place}")
    getcontext().prec = 9  # neither may be seen by others


async def look_later(place: str) -> None:
    await asyncio.sleep(0)
    look(place)


class Looking(Workflow, name="looking"):
    seen: int = 0

    def step(self) -> None:
        look("step")

    async def later(self) -> None:
        await look_later("async step")

    def count(self) -> None:
        look("condition's handler")

    definition = S(
        Step("step", step),
        Step("async step", later),
        Activity("activity", lambda: look("activity")),
        Activity("async activity", lambda: look_later("async activity")),
        Select("wait", On("Go", lambda w: None), Timeout("timeout", timedelta(milliseconds=1), Step("last", step))),
        WaitFor("condition", lambda w: True, count),
    )


def seen() -> list[tuple[str, str, str]]:
    return [SEEN.get(timeout=SECONDS_MAX) for _ in range(6)]


def expected(tenant: str) -> list[tuple[str, str, str]]:
    places = ("step", "async step", "activity", "async activity", "step", "condition's handler")
    return [(place, tenant, "0.333333") for place in places]


@pytest.fixture(autouse=True)
def _empty() -> None:
    while not SEEN.empty():
        SEEN.get()


def test_what_was_set_before_the_start_is_seen(tmp_path: Path) -> None:
    async def main() -> None:
        runtime = EmbeddedRuntime([Looking], Settings(db=tmp_path / "context.db"))
        TENANT.set("start")
        with localcontext(prec=6), logs.about("other", "request"):
            trace_context.served.set(ServedRequest(None))
            await runtime.start()
        try:
            TENANT.set("later")
            for number in range(2):
                await runtime.engine.create("looking", str(number))
                assert await asyncio.to_thread(seen) == expected("start")
        finally:
            await runtime.close()

    asyncio.run(main())


def test_what_describes_the_request_that_starts_a_runtime_is_left_out(tmp_path: Path) -> None:
    about: SimpleQueue[tuple[object, str]] = SimpleQueue()

    class Telling(Workflow, name="telling"):
        definition = S(Activity("tell", lambda: about.put((trace_context.served.get(), TENANT.get()))))

    async def main() -> None:
        runtime = EmbeddedRuntime([Telling], Settings(db=tmp_path / "context.db"))
        trace_context.served.set(ServedRequest(None))
        TENANT.set("start")
        await runtime.start()
        await runtime.engine.create("telling", "1")
        assert await asyncio.to_thread(about.get, timeout=SECONDS_MAX) == (None, "start")
        await runtime.close()

    asyncio.run(main())


def test_a_handler_that_changes_the_decimal_context_changes_it_for_no_other(tmp_path: Path) -> None:
    class Precise(Workflow, name="precise"):
        def divide(self) -> str:
            getcontext().prec += 1
            return str(Decimal(1) / 3)

        definition = S(Select("wait", On("Divide", divide)))

    async def main() -> None:
        runtime = EmbeddedRuntime([Precise], Settings(db=tmp_path / "context.db"))
        getcontext().prec = 4
        for number in range(3):
            await runtime.engine.create("precise", str(number))
            assert await runtime.engine.handle_event("precise", str(number), "Divide") == b'"0.33333"'
        await runtime.close()

    asyncio.run(main())


def test_a_service_uses_what_was_set_at_its_import(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GORCHESTRATE_DB", str(tmp_path / "context.db"))
    monkeypatch.setattr(logs, "configure", lambda *_: None)
    runtimes: list[EmbeddedRuntime] = []
    start = EmbeddedRuntime.start

    async def starting(runtime: EmbeddedRuntime, context: Context) -> None:
        runtimes.append(runtime)
        await start(runtime, context)

    monkeypatch.setattr(EmbeddedRuntime, "start", starting)

    async def main() -> None:
        TENANT.set("import")
        with localcontext(prec=6):
            service = Service(Looking)
        TENANT.set("request")
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(application(service.api)), base_url="http://localhost"
        ) as api:
            assert (await api.post("/wf/looking/1")).status_code == 201
            assert await asyncio.to_thread(seen) == expected("import")
        await runtimes[0].close()

    asyncio.run(main())


def test_a_server_in_a_thread_uses_what_was_set_at_import(tmp_path: Path) -> None:
    token = TENANT.set("import")
    try:
        with (
            localcontext(prec=6),
            dev_server.running([Looking], Settings(db=tmp_path / "context.db"), listen("127.0.0.1", 0)) as url,
        ):
            assert httpx.post(f"{url}/wf/looking/1").status_code == 201
            assert seen() == expected("import")
    finally:
        TENANT.reset(token)
