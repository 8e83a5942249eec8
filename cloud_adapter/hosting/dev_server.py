"""The development server: serves the public application of workflows on the embedded runtime, with uvicorn."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import socket
import sys
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from contextvars import copy_context
from dataclasses import replace
from functools import partial
from types import FrameType
from typing import Any

import uvicorn
from starlette.applications import Starlette

from cloud_adapter.hosting.embedded import InProcessRuntime
from cloud_adapter.hosting.garbage import collect_rarely
from cloud_adapter.hosting.runtimes import Runtime, runtime_for
from cloud_adapter.http.api import create_api
from cloud_adapter.http.authentication import OPEN, Authentication
from cloud_adapter.http.authenticators.dev import DEV_ISSUER, Dev
from cloud_adapter.http.callers import AllowedCallers
from cloud_adapter.http.pages.login import with_login
from cloud_adapter.http.pages.picker import RolePicker
from cloud_adapter.http.rate_limit import RateLimit
from cloud_adapter.settings import Settings
from cloud_adapter.uvicorn_config import server_config
from workflow_core import Workflow

SHOWN_MAX = 3
"""The number of running calls that are named when the server stops."""

REQUESTS_SECONDS = 5
"""How long running requests may continue when the server stops, before the runtime is closed."""

CANCELED_SECONDS = 3.0
"""How long code may continue after it was cancelled at the end of the grace period. Code that swallows its cancellation
would otherwise keep the process forever."""


def prefer_latency() -> None:
    """Tunes this process for short pauses. Call it after all imports.

    Garbage is collected rarely; see ``collect_rarely``. The thread that writes to SQLite would otherwise wait up to 5
    ms for the event loop each time it returns from the disk.
    """
    gc.collect()
    collect_rarely()
    sys.setswitchinterval(0.0005)


@contextlib.contextmanager
def open_server(
    workflows: Sequence[type[Workflow]],
    settings: Settings,
    *,
    internal: Sequence[type[Workflow]] = (),
    authentication: Authentication = OPEN,
    dev_issuer: str = DEV_ISSUER,
    mcp: bool = False,
) -> Iterator[uvicorn.Server]:
    """Yields a server for the workflows. Run it in the body, with ``server.run(sockets=[...])``.

    If the server runs, its event loop closes the runtime. If it never runs, the end of the body closes it.

    Args:
        internal: the workflows that no client may address.
        authentication: finds the principals of requests. If only clients on this machine are served, they may also say
            themselves who they are; see ``Dev``, and ``RolePicker`` for the pages.
        dev_issuer: the issuer of those who do.
        mcp: also serve the tools under ``/mcp``.
    """
    runtime = runtime_for(settings)(workflows, settings, internal=internal)
    if authentication.login and settings.listed_session_keys:
        authentication = with_login(authentication, settings)
    if not settings.remote_clients:
        picker = RolePicker.of(runtime.engine.addressable.values(), is_open=authentication.is_open, issuer=dev_issuer)
        sign_in = authentication.sign_in or picker
        authentication = replace(authentication, optional=(Dev(settings.backend, dev_issuer),), sign_in=sign_in)
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
            callers=AllowedCallers.from_settings(settings),
            authentication=authentication,
            limit=RateLimit(settings.request_rate),
            public=settings.is_open,
            repair=True,
            ui=settings.serves_ui,
            mcp=mcp,
            lifespan=lifespan,
        )
        config = server_config(app, lifespan=True, timeout_graceful_shutdown=REQUESTS_SECONDS)
        yield _Server(config, runtime)


class _Server(uvicorn.Server):
    """Says on Ctrl-C what it waits for. Ends at once on a second Ctrl-C, and after some time in any case."""

    def __init__(self, config: uvicorn.Config, runtime: Runtime) -> None:
        super().__init__(config)
        self._runtime = runtime

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Starts to serve. Without a public URL, callbacks come from programs on this machine."""
        callbacks = self._runtime.engine.callbacks
        if sockets and callbacks is not None and not callbacks.base_url:
            host, port = sockets[0].getsockname()[:2]
            callbacks.base_url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
        await super().startup(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Handles SIGINT and SIGTERM."""
        if self.should_exit and sig == signal.SIGINT:
            # Not by an exception: the event loop may be blocked by the very code that does not end.
            os._exit(128 + sig)
        if not self.should_exit:
            seconds = REQUESTS_SECONDS + InProcessRuntime.GRACE_SECONDS + CANCELED_SECONDS
            # A thread, because the event loop may be blocked, or wait for the very code that does not end.
            end = threading.Timer(seconds, self._give_up, (sig,))
            end.daemon = True
            end.start()
        super().handle_exit(sig, frame)
        if calls := self._calls():
            _say(
                f"Stopping. Waiting {InProcessRuntime.GRACE_SECONDS:g} s at most for {calls}. "
                "Press Ctrl-C again to end at once. What has not ended runs again after the next start."
            )

    def _give_up(self, sig: int) -> None:
        calls = self._calls() or "code that does not end"
        _say(f"Ending without {calls}: it was cancelled, and continued. It runs again after the next start.")
        os._exit(128 + sig)

    def _calls(self) -> str:
        """Returns the running calls as text; empty if there are none."""
        calls = self._runtime.engine.running.list()
        now = self._runtime.engine.clock.now()
        texts = [call.text(now) for call in calls[:SHOWN_MAX]]
        if len(calls) > SHOWN_MAX:
            texts.append(f"{len(calls) - SHOWN_MAX} more")
        return ", ".join(texts)


def _say(text: str) -> None:
    """Writes a line to standard error. In a signal handler, ``print`` may interrupt itself, which is an error."""
    with contextlib.suppress(OSError):
        os.write(2, f"{text}\n".encode(errors="backslashreplace"))


@contextlib.contextmanager
def running(
    workflows: Sequence[type[Workflow]], settings: Settings, listener: socket.socket, **options: Any
) -> Iterator[str]:
    """Serves in a thread while the body runs, and yields the server's URL. Always closes the listener.

    Args:
        options: those of ``open_server``.
    """
    host, port = listener.getsockname()[:2]
    with (
        contextlib.closing(listener),
        open_server(workflows, settings, **options) as server,
        in_thread(server, listener),
    ):
        yield f"http://{host}:{port}"


@contextlib.contextmanager
def in_thread(server: uvicorn.Server, listener: socket.socket) -> Iterator[None]:
    """Runs a server in a thread while the body runs."""
    # With the context variables that the workflows have set when they were imported.
    run = partial(copy_context().run, server.run, sockets=[listener])
    thread = threading.Thread(target=run, name="server", daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.should_exit = True
        thread.join(timeout=15)
