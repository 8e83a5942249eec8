"""What a ``Service`` serves: one engine behind both functions, with the settings of the environment."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from contextvars import Context
from pathlib import Path

import httpx
import pytest
from pizza import PizzaOrder
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from cloud_adapter.hosting.embedded import EmbeddedRuntime
from cloud_adapter.hosting.service import Service
from cloud_adapter.observability import logs

HERE = "http://localhost"


def application(function: Callable[[Request], Awaitable[Response]]) -> ASGIApp:
    """Calls a function for each request, as functions-framework does."""

    async def call(scope: Scope, receive: Receive, send: Send) -> None:
        await (await function(Request(scope, receive)))(scope, receive, send)

    return call


@pytest.mark.parametrize("has_pages", [False, True])
def test_both_functions_serve_one_engine_by_its_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_pages: bool
) -> None:
    for name in [name for name in os.environ if name.startswith("GORCHESTRATE_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("GORCHESTRATE_DB", str(tmp_path / "service.db"))
    monkeypatch.setenv("GORCHESTRATE_MAX_BODY_BYTES", "1000")
    monkeypatch.setenv("GORCHESTRATE_UI", str(has_pages))
    monkeypatch.setenv("GORCHESTRATE_RATE_LIMIT", "5/h")
    monkeypatch.setattr(logs, "configure", lambda *_: None)
    start, started = EmbeddedRuntime.start, list[EmbeddedRuntime]()

    async def starting(runtime: EmbeddedRuntime, context: Context) -> None:
        started.append(runtime)
        await start(runtime, context)

    monkeypatch.setattr(EmbeddedRuntime, "start", starting)

    async def main() -> None:
        service = Service(PizzaOrder)
        async with (
            httpx.AsyncClient(transport=httpx.ASGITransport(application(service.api)), base_url=HERE) as api,
            httpx.AsyncClient(transport=httpx.ASGITransport(application(service.worker)), base_url=HERE) as worker,
        ):
            created, other = await asyncio.gather(api.post("/wf/pizza/1"), api.post("/wf/pizza/2"))
            assert (created.status_code, other.status_code) == (201, 201)
            large = await api.post("/wf/pizza/3", content=b" " * 1001)
            assert large.status_code == 413
            assert (await api.get("/ui/", follow_redirects=True)).status_code == (200 if has_pages else 404)
            for path in ("/recover", "/resume", "/"):  # the runtime delivers its tasks itself
                refused = await worker.post(path, json={"workflow": "pizza", "id": "1", "pc": 1})
                assert refused.status_code == 404 and "GORCHESTRATE_BACKEND=cloud" in refused.json()["detail"]
            assert [(await api.get("/wf/pizza/1")).status_code for _ in range(2)] == [200, 429]
        (runtime,) = started
        await runtime.close()

    asyncio.run(main())
