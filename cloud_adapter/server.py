"""The development server: the public application of some workflows on the embedded runtime, served by uvicorn."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import AsyncIterator, Iterator, Sequence

import uvicorn
from starlette.applications import Starlette

from cloud_adapter.api import create_api
from cloud_adapter.embedded import EmbeddedRuntime
from cloud_adapter.errors import SettingsError
from cloud_adapter.settings import Settings
from workflow_core import Workflow


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens; port 0 takes a free one.

    Raises:
        SettingsError: it cannot listen there.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # With its protocol named: only then asyncio sets TCP_NODELAY, without which each response takes 40 ms.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(128)
    except OSError as error:
        listener.close()
        raise SettingsError(
            f"cannot listen on {host}:{port}: {error.strerror}; choose another --port or --host"
        ) from None
    return listener


def create_server(workflows: Sequence[type[Workflow]], settings: Settings) -> uvicorn.Server:
    """A server for the workflows. Run it with ``server.run(sockets=[...])``."""
    runtime = EmbeddedRuntime(workflows, settings)

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        await runtime.start()
        try:
            yield
        finally:
            await runtime.close()

    app = create_api(runtime.engine, max_body_bytes=settings.max_body_bytes, lifespan=lifespan)
    config = uvicorn.Config(app, log_config=None, access_log=False, lifespan="on", timeout_graceful_shutdown=5)
    return uvicorn.Server(config)


@contextlib.contextmanager
def running(workflows: Sequence[type[Workflow]], settings: Settings, listener: socket.socket) -> Iterator[str]:
    """Serves in a thread while the body runs; gives the server's URL."""
    server = create_server(workflows, settings)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="server", daemon=True)
    thread.start()
    host, port = listener.getsockname()[:2]
    try:
        yield f"http://{host}:{port}"
    finally:
        server.should_exit = True
        thread.join(timeout=15)
        listener.close()
