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
from cloud_adapter.settings import Settings
from workflow_core import Workflow


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

    app = create_api(
        runtime.engine,
        max_body_bytes=settings.max_body_bytes,
        public=settings.public,
        repair=True,
        ui=settings.serves_ui,
        lifespan=lifespan,
    )
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
