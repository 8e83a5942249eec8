"""What the tests of HTTP share: a client that knows problem documents, and a server. Holds no test."""

from __future__ import annotations

import asyncio
import re
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, TypeVar

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.types import ASGIApp

from cloud_adapter.hosting.dev_server import running
from cloud_adapter.hosting.embedded import EmbeddedRuntime
from cloud_adapter.http.api import create_api
from cloud_adapter.settings import Settings
from cloud_adapter.sockets import listen
from workflow_core import Workflow

T = TypeVar("T")

BODY_BYTES_MAX = 10_000


def until(what: Callable[[], T | Literal[False] | None], seconds: float = 30) -> T:
    """Asks again and again until the answer is true; gives it."""
    end = time.monotonic() + seconds
    while not (answer := what()):
        assert time.monotonic() < end, f"waited {seconds} s in vain"
        time.sleep(0.02)
    return answer


@contextmanager
def serving(db: Path, *workflows: type[Workflow], **settings: Any) -> Iterator[Http]:
    """A server for the workflows, and its client."""
    settings = {"max_body_bytes": BODY_BYTES_MAX} | settings
    with (
        running(workflows, Settings(db=db, **settings), listen("127.0.0.1", 0)) as url,
        httpx.Client(base_url=url, timeout=60) as client,
    ):
        yield Http(client)


class InProcess(httpx.BaseTransport):
    """Sends requests to an application in this process. Between requests, its event loop stands still."""

    def __init__(self, app: ASGIApp, runner: asyncio.Runner) -> None:
        self.app = app
        self._runner = runner
        self._transport = httpx.ASGITransport(app, raise_app_exceptions=False)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        async def send() -> httpx.Response:
            response = await self._transport.handle_async_request(request)
            return httpx.Response(response.status_code, headers=response.headers, content=await response.aread())

        return self._runner.run(send())


@contextmanager
def deployed(
    db: Path,
    *workflows: type[Workflow],
    around: Callable[[ASGIApp], ASGIApp] = lambda app: app,
    between: Callable[[httpx.BaseTransport], httpx.BaseTransport] = lambda transport: transport,
    base_url: str = "http://test",
    internal: Sequence[type[Workflow]] = (),
    **options: Any,
) -> Iterator[Http]:
    """The application in this process, as a deployment has it: without repairs, and with the options of ``create_api``.

    Args:
        around: adds what serves the application.
        between: adds what is between the client and the server.
        internal: those of the workflows that no client may address.
    """
    with asyncio.Runner() as runner:
        runtime = EmbeddedRuntime(workflows, Settings(db=db), internal=internal)
        try:
            app = create_api(runtime.engine, max_body_bytes=BODY_BYTES_MAX, **options)
            with httpx.Client(transport=between(InProcess(around(app), runner)), base_url=base_url) as client:
                yield Http(client, app)
        finally:
            runner.run(runtime.close())


def own_address() -> str:
    """An address of this machine in a network. A client that uses it looks like one of another machine."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing
        except OSError:
            pytest.skip("this machine has no network")
        return str(probe.getsockname()[0])


async def everyone(_: Request) -> None:
    """Lets everyone call a worker."""


class Http:
    """A client that asserts statuses."""

    def __init__(self, client: httpx.Client, app: Starlette | None = None) -> None:
        self.client = client
        self.app = app

    def request(self, method: str, url: str, **options: Any) -> httpx.Response:
        return self.client.request(method, url, **options)

    def ok(self, method: str, url: str, **options: Any) -> Any:
        """The JSON data of a response that is no error."""
        response = self.request(method, url, **options)
        assert response.is_success, response.text
        assert response.headers["content-type"] == "application/json"
        return response.json()

    def get(self, url: str) -> Any:
        return self.ok("GET", url)

    def create(self, url: str, **options: Any) -> Any:
        return self.ok("POST", url, **options)

    def send(self, url: str, input: Any = None, **options: Any) -> Any:
        return self.ok("POST", url, **({} if input is None else {"json": input}), **options)

    def problem(self, method: str, url: str, **options: Any) -> dict[str, Any]:
        """The problem document of a response that is an error; the document's status is the response's."""
        return problem(self.request(method, url, **options))


def problem(response: httpx.Response) -> dict[str, Any]:
    """The problem document in a response, without the random id of an error whose text is concealed."""
    assert response.is_error, response.text
    assert response.headers["content-type"] == "application/problem+json"
    document: dict[str, Any] = response.json()
    assert document["status"] == response.status_code
    is_concealed = response.status_code == 500 or document["title"] == "Unavailable"
    assert bool(re.fullmatch("[0-9a-f]{12}", document.pop("error_id", ""))) == is_concealed
    return document


def expected(status: int, title: str, detail: str, **more: Any) -> dict[str, Any]:
    """A whole problem document."""
    kind = title.lower().replace(" ", "-")
    return {"type": f"urn:gorchestrate:problem:{kind}", "title": title, "status": status, "detail": detail, **more}
