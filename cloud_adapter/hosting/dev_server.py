"""The development server: the public application of some workflows on the embedded runtime, served by uvicorn."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
import sys
import threading
from collections.abc import AsyncIterator, Iterator, Sequence

import uvicorn
from starlette.applications import Starlette

from cloud_adapter.hosting.embedded import EmbeddedRuntime
from cloud_adapter.http.api import create_api
from cloud_adapter.settings import Settings
from workflow_core import Workflow


def prefer_latency() -> None:
    """Sets this process up for short pauses, once all is imported.

    Otherwise each full garbage collection looks through all that was imported, for tens of ms, and the thread that
    writes to SQLite waits up to 5 ms for the event loop whenever it comes back from the disk.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 50, 100)
    sys.setswitchinterval(0.0005)


@contextlib.contextmanager
def open_server(workflows: Sequence[type[Workflow]], settings: Settings) -> Iterator[uvicorn.Server]:
    """A server for the workflows. Run it in the body, with ``server.run(sockets=[...])``.

    Once it runs, its event loop closes the runtime. If it never runs, the end of the body does.
    """
    runtime = EmbeddedRuntime(workflows, settings)
    with contextlib.ExitStack() as until_it_runs:
        until_it_runs.callback(lambda: asyncio.run(runtime.close()))

        @contextlib.asynccontextmanager
        async def lifespan(_: Starlette) -> AsyncIterator[None]:
            until_it_runs.pop_all()
            try:
                await runtime.start()
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
        yield uvicorn.Server(config)


@contextlib.contextmanager
def running(workflows: Sequence[type[Workflow]], settings: Settings, listener: socket.socket) -> Iterator[str]:
    """Serves in a thread while the body runs; gives the server's URL. Closes the listener in any case."""
    with contextlib.closing(listener), open_server(workflows, settings) as server:
        host, port = listener.getsockname()[:2]
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="server", daemon=True)
        thread.start()
        try:
            yield f"http://{host}:{port}"
        finally:
            server.should_exit = True
            thread.join(timeout=15)
