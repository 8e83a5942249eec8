"""The emulator of Cloud Tasks in this process, with Google's own client and a real HTTP target, on a clock of the
test's. Nothing here sleeps for a fixed time: it polls, within bounds, for what sockets must bring about."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import grpc
from google.cloud import tasks_v2
from google.cloud.tasks_v2.services.cloud_tasks.transports import CloudTasksGrpcAsyncIOTransport
from starlette.requests import Request
from starlette.responses import Response

from cloud_adapter.tasks_emulator import Emulator, serve
from gorchestrate.testing.clock import ManualClock
from tests.http_target import http_server

LOCATION = "projects/p/locations/l"
QUEUE = f"{LOCATION}/queues/q"
POLL_SECONDS = 0.001
POLL_SECONDS_MAX = 30.0

Client = tasks_v2.CloudTasksAsyncClient


async def until(condition: Callable[[], bool | Awaitable[bool]], *, poll_seconds: float = POLL_SECONDS) -> None:
    """Waits for what other sockets and processes must bring about, for a bounded time."""
    deadline = time.monotonic() + POLL_SECONDS_MAX
    while True:
        result = condition()
        if result if isinstance(result, bool) else await result:
            return
        assert time.monotonic() < deadline, "what the test waits for did not happen"
        await asyncio.sleep(poll_seconds)


@contextlib.asynccontextmanager
async def a_client(address: str) -> AsyncIterator[Client]:
    """Google's client, unchanged, on an emulator."""
    async with grpc.aio.insecure_channel(address) as channel:
        yield Client(transport=CloudTasksGrpcAsyncIOTransport(channel=channel))


async def advance(
    clock: ManualClock, emulator: Emulator, held: Callable[[], int], seconds: float = 0, wakes_max: int = 10_000
) -> None:
    """Moves the clock from one wake-up to the next; after each it waits until every attempt has ended or is held."""

    async def is_quiet() -> bool:
        await clock.settle()
        return not emulator.overdue and emulator.running == held()

    target = clock.now() + timedelta(seconds=seconds)
    for _ in range(wakes_max):
        await until(is_quiet)
        wake_at = clock.next_wake
        if wake_at is None or wake_at > target:
            break
        await clock.advance_to(wake_at)
    else:
        raise AssertionError(f"more than {wakes_max} wake-ups in {seconds} s")
    await clock.advance_to(target)
    await until(is_quiet)


@dataclass
class Received:
    """A request that reached the target; ``at`` is in the test's time."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    at: datetime


@dataclass
class Target:
    """The target of tasks: answers with the given statuses in order, and then always with the last one."""

    clock: ManualClock
    url: str = ""
    statuses: list[int] = field(default_factory=lambda: [200])
    requests: list[Received] = field(default_factory=list)
    gate: asyncio.Event | None = None
    held: int = 0

    async def handle(self, request: Request, body: bytes) -> Response:
        path = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        self.requests.append(Received(request.method, path, dict(request.headers), body, self.clock.now()))
        status = self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]
        if self.gate is not None:
            self.held += 1
            try:
                await self.gate.wait()
            finally:
                self.held -= 1
        return Response(status_code=status, headers={"Location": "/elsewhere"} if status == 302 else None)

    def hold(self) -> None:
        self.gate = asyncio.Event()

    def release(self) -> None:
        assert self.gate is not None
        self.gate.set()
        self.gate = None


@dataclass
class Harness:
    clock: ManualClock
    emulator: Emulator
    client: Client
    target: Target

    async def advance(self, seconds: float = 0) -> None:
        await advance(self.clock, self.emulator, lambda: self.target.held if self.target.gate else 0, seconds)

    async def create(self, id: str | None = None, queue: str = QUEUE, **fields: Any) -> tasks_v2.Task:
        """Creates a task for the target; ``http_request`` is merged into the usual one."""
        request = {"url": f"{self.target.url}/work"} | fields.pop("http_request", {})
        name = {"name": f"{queue}/tasks/{id}"} if id else {}
        return await self.client.create_task(
            parent=queue, task=tasks_v2.Task({"http_request": request, **name, **fields})
        )

    async def get(self, id: str, queue: str = QUEUE) -> tasks_v2.Task:
        return await self.client.get_task(request={"name": f"{queue}/tasks/{id}", "response_view": "FULL"})

    async def ids(self, queue: str = QUEUE) -> list[str]:
        return [t.name.rpartition("/")[2] async for t in await self.client.list_tasks(parent=queue)]

    @property
    def delivered(self) -> list[str]:
        """The ids of the tasks that reached the target, in that order."""
        return [request.headers["x-cloudtasks-taskname"] for request in self.target.requests]

    def seconds(self, start: datetime) -> list[float]:
        """When requests reached the target."""
        return [round((request.at - start).total_seconds(), 3) for request in self.target.requests]


def run(scenario: Callable[[Harness], Awaitable[None]]) -> None:
    async def main() -> None:
        clock = ManualClock()
        target = Target(clock)
        async with (
            serve(queues=[QUEUE], clock=clock, grace_seconds=0) as emulator,
            http_server(target.handle) as target.url,
            a_client(emulator.address) as client,
        ):
            await scenario(Harness(clock, emulator, client, target))

    asyncio.run(main())
