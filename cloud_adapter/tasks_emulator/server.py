"""Starts the emulator: its gRPC port, the HTTP port of its token issuer, and its initial queues."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import grpc
import uvicorn
from google.cloud.tasks_v2 import types
from starlette.types import ASGIApp

from cloud_adapter.clock import SystemClock
from cloud_adapter.errors import SettingsError
from cloud_adapter.ports import Clock
from cloud_adapter.sockets import listen
from cloud_adapter.tasks_emulator import names
from cloud_adapter.tasks_emulator.dispatch import Dispatcher
from cloud_adapter.tasks_emulator.queue_messages import QueueMessage
from cloud_adapter.tasks_emulator.refusal import Refused
from cloud_adapter.tasks_emulator.service import CloudTasksService, handlers
from cloud_adapter.token_issuer import TokenIssuer
from cloud_adapter.uvicorn_config import server_config

CreateQueueRequest: Final = types.CreateQueueRequest.pb()

_ANY_ADDRESS: Final = {"0.0.0.0": "localhost", "::": "localhost"}  # nosec B104 # a name for it, binds nothing


@dataclass(frozen=True)
class Emulator:
    """A running emulator.

    Attributes:
        address: host and port of the gRPC server, for ``CLOUD_TASKS_EMULATOR_HOST``.
        issuer_url: the issuer of its tokens, which serves the discovery document and the key set.
    """

    address: str
    issuer_url: str
    service: CloudTasksService

    @property
    def running(self) -> int:
        """The number of running attempts in all queues."""
        return sum(queue.running for queue in self.service.queues)

    @property
    def overdue(self) -> bool:
        """Whether tasks are about to be sent."""
        return any(queue.runner.overdue for queue in self.service.queues)


@contextlib.asynccontextmanager
async def serve(
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    issuer_port: int = 0,
    issuer_url: str | None = None,
    queues: Sequence[str] = (),
    clock: Clock | None = None,
    grace_seconds: float = 5,
) -> AsyncIterator[Emulator]:
    """Serves the emulator while the body runs.

    Args:
        port: the gRPC port; 0 selects a free port.
        issuer_port: the HTTP port of the token issuer; 0 selects a free port.
        issuer_url: the URL at which programs that verify tokens reach the issuer, if not that host and port.
        queues: names of the queues to create at the start.
        clock: the clock for due times; by default the system clock.
        grace_seconds: how long running attempts may continue at the end.

    Raises:
        SettingsError: a port is not free, or the name of a queue is invalid.
    """
    clock = clock or SystemClock()
    async with contextlib.AsyncExitStack() as stack:
        listener = stack.enter_context(listen(host, issuer_port))
        issuer = TokenIssuer(issuer_url or _url(host, listener.getsockname()[1]))
        dispatcher = Dispatcher(clock, issuer)
        stack.callback(dispatcher.close)
        await stack.enter_async_context(_serving(issuer.app(), listener))
        service = CloudTasksService(clock, dispatcher)
        stack.push_async_callback(_stop_queues, service, grace_seconds)
        _create(service, queues)
        # Without SO_REUSEPORT: a second emulator on the port must fail instead of receiving half of the calls.
        server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        server.add_generic_rpc_handlers((handlers(service),))
        try:
            bound = server.add_insecure_port(f"[{host}]:{port}" if ":" in host else f"{host}:{port}")
        except RuntimeError:
            raise SettingsError(f"cannot listen on {host}:{port}. Choose another --port or --host") from None
        stack.push_async_callback(server.stop, grace_seconds)
        await server.start()
        yield Emulator(f"{_ANY_ADDRESS.get(host, host)}:{bound}", issuer.url, service)


async def _stop_queues(service: CloudTasksService, grace_seconds: float) -> None:
    await asyncio.gather(*(queue.runner.stop(grace_seconds) for queue in service.queues))


def _create(service: CloudTasksService, queues: Sequence[str]) -> None:
    for name in dict.fromkeys(queues):
        try:
            parent = names.queue(name).partition("/queues/")[0]
            service.create_queue(CreateQueueRequest(parent=parent, queue=QueueMessage(name=name)))
        except Refused as refused:
            raise SettingsError(f"queue {name!r}: {refused}") from None


@contextlib.asynccontextmanager
async def _serving(app: ASGIApp, listener: socket.socket) -> AsyncIterator[None]:
    server = _Server(server_config(app))
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    serving.add_done_callback(lambda _: server.listening.set())  # also if it fails: no caller may wait forever
    try:
        await server.listening.wait()
        if serving.done():
            serving.result()
        yield
    finally:
        server.should_exit = True
        await serving


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listening.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Captures no signals: the program that runs the emulator handles them."""
        yield


def _url(host: str, port: int) -> str:
    host = _ANY_ADDRESS.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
