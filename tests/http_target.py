"""Real HTTP servers, in the test's event loop or in threads. Know nothing of queues."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socket import socket

import uvicorn
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from cloud_adapter.sockets import listen
from cloud_adapter.uvicorn_config import server_config

Handle = Callable[[Request, bytes], Awaitable[Response]]


@contextlib.asynccontextmanager
async def http_server(handle: Handle) -> AsyncIterator[str]:
    """Serves one handler for every path and method; gives the server's URL."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        response = await handle(request, await request.body())
        await response(scope, receive, send)

    async with asgi_server(app) as url:
        yield url


@contextlib.asynccontextmanager
async def asgi_server(app: ASGIApp) -> AsyncIterator[str]:
    """Serves an application on a free port; gives its URL."""
    with listen("127.0.0.1", 0) as listener:
        server = _Server(server_config(app))
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        serving.add_done_callback(lambda _: server.listening.set())  # also if it fails: nobody may wait for ever
        try:
            await server.listening.wait()
            if serving.done():
                serving.result()
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            server.force_exit = True
            await serving


@contextlib.contextmanager
def threaded_server(handler: type[BaseHTTPRequestHandler]) -> Iterator[int]:
    """Serves requests in threads, on a free port, which it gives."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = asyncio.Event()

    async def startup(self, sockets: list[socket] | None = None) -> None:
        await super().startup(sockets)
        self.listening.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
