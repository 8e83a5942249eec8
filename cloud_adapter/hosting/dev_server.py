"""The development server: serves the public application of workflows on the embedded runtime, with uvicorn."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
import sys
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from contextvars import copy_context
from functools import partial

import uvicorn
from starlette.applications import Starlette

from cloud_adapter.hosting.embedded import EmbeddedRuntime
from cloud_adapter.http.api import create_api
from cloud_adapter.settings import Settings
from workflow_core import Workflow


def prefer_latency() -> None:
    """Tunes this process for short pauses. Call it after all imports.

    Otherwise each full garbage collection scans all imported objects, which takes tens of ms, and the thread that
    writes to SQLite waits up to 5 ms for the event loop each time it returns from the disk.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 50, 100)
    sys.setswitchinterval(0.0005)


@contextlib.contextmanager
def open_server(workflows: Sequence[type[Workflow]], settings: Settings) -> Iterator[uvicorn.Server]:
    """Yields a server for the workflows. Run it in the body, with ``server.run(sockets=[...])``.

    If the server runs, its event loop closes the runtime. If it never runs, the end of the body closes it.
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
            public_url=settings.public_url,
            repair=True,
            ui=settings.serves_ui,
            lifespan=lifespan,
        )
        config = uvicorn.Config(app, log_config=None, access_log=False, lifespan="on", timeout_graceful_shutdown=5)
        yield uvicorn.Server(config)


@contextlib.contextmanager
def running(workflows: Sequence[type[Workflow]], settings: Settings, listener: socket.socket) -> Iterator[str]:
    """Serves in a thread while the body runs, and yields the server's URL. Always closes the listener."""
    with contextlib.closing(listener), open_server(workflows, settings) as server:
        host, port = listener.getsockname()[:2]
        # With the context variables that the workflows have set when they were imported.
        run = partial(copy_context().run, server.run, sockets=[listener])
        thread = threading.Thread(target=run, name="server", daemon=True)
        thread.start()
        try:
            yield f"http://{host}:{port}"
        finally:
            server.should_exit = True
            thread.join(timeout=15)
