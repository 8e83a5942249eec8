"""The deployed shape as processes that can be killed: both functions, each several times, on Google's Firestore
emulator and the emulator of Cloud Tasks, which stand for Google's services and stay alive; or processes that share a
PostgreSQL server. Holds no test."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
from google.cloud import tasks_v2

from cloud_adapter.hosting.local_stack import LOCATION, PROJECT, QUEUE, TASKS_ACCOUNT
from cloud_adapter.sockets import free_ports
from tests import firestore_emulator, postgresql
from tests.cli.processes import GORCHESTRATE, ROOT, Process, started
from tests.emulator.harness import a_client
from tests.postgresql import Server

QUEUE_PATH = f"projects/{PROJECT}/locations/{LOCATION}/queues/{QUEUE}"
APIS, WORKERS = 2, 2
READY_SECONDS_MAX = 90


@dataclass
class Slot:
    """A port, and the process that serves it now."""

    name: str
    port: int
    command: Sequence[str]
    folder: Path
    variables: dict[str, str]
    process: Process | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        self.process = Process(self.command, self.folder, ROOT, self.variables)

    async def kill(self) -> None:
        if self.process is not None:
            await asyncio.to_thread(self.process.kill)

    async def serves(self, http: httpx.AsyncClient) -> bool:
        """Waits until the process answers; whether it does, or has ended instead."""
        until = time.monotonic() + READY_SECONDS_MAX
        assert self.process is not None
        while self.process.process.poll() is None:
            with suppress(httpx.HTTPError):
                await http.get(f"{self.url}/healthz?store=1")
                return True
            assert time.monotonic() < until, f"{self.name} does not answer: {self.process.errors()}"
            await asyncio.sleep(0.1)
        return False


@dataclass
class Deployment:
    """The processes. Those of a target are equal; requests to ``worker_url`` come to one worker after the other."""

    worker_url: str
    tasks: str
    slots: list[Slot] = field(default_factory=list)

    def of(self, target: str) -> Sequence[Slot]:
        return [slot for slot in self.slots if slot.name.startswith(target)]

    async def recover(self, every: float) -> None:
        """Calls recovery every few seconds, with a token, as Cloud Scheduler does."""
        token = {"service_account_email": TASKS_ACCOUNT, "audience": self.worker_url}
        request = {"url": f"{self.worker_url}/recover", "oidc_token": token}
        async with a_client(self.tasks) as client:
            while True:
                await client.create_task(parent=QUEUE_PATH, task=tasks_v2.Task({"http_request": request}))
                await asyncio.sleep(every)

    async def tasks_left(self) -> list[str]:
        """What is due and not done; a timer whose deletion was cut off may stay until its time."""
        soon = datetime.now(UTC) + timedelta(hours=1)
        async with a_client(self.tasks) as client:
            tasks = [task async for task in await client.list_tasks(parent=QUEUE_PATH)]
        return [task.name.rpartition("/")[2] for task in tasks if task.schedule_time < soon]


@asynccontextmanager
async def deployed(
    source: Path,
    folder: Path,
    *,
    recover_seconds: float,
    variables: Mapping[str, str],
    runner: Callable[[str], Sequence[str]] = lambda name: ("-m",),
) -> AsyncIterator[Deployment]:
    """Runs the processes while the body runs.

    Args:
        runner: gives, for the name of a process, the arguments of Python before the module that serves.
    """
    tasks, issuer, worker, *ports = free_ports(3 + APIS + WORKERS)
    async with AsyncExitStack() as stack:
        environment = {
            "FIRESTORE_EMULATOR_HOST": stack.enter_context(firestore_emulator.running()),
            "CLOUD_TASKS_EMULATOR_HOST": f"127.0.0.1:{tasks}",
            "GORCHESTRATE_BACKEND": "cloud",
            "GORCHESTRATE_ACCESS": "open",
            "GORCHESTRATE_PROJECT": PROJECT,
            "GORCHESTRATE_LOCATION": LOCATION,
            "GORCHESTRATE_QUEUE": QUEUE,
            "GORCHESTRATE_WORKER_URL": f"http://127.0.0.1:{worker}",
            "GORCHESTRATE_TASKS_ACCOUNT": TASKS_ACCOUNT,
            "GORCHESTRATE_ISSUER": f"http://127.0.0.1:{issuer}",
            "PYTHONPATH": f"{ROOT}:{ROOT / 'functions'}",
        } | dict(variables)
        options = ["--port", str(tasks), "--issuer-port", str(issuer), "--queue", QUEUE_PATH]
        stack.enter_context(started([*GORCHESTRATE, "tasks-emulator", *options], folder))
        deployment = Deployment(environment["GORCHESTRATE_WORKER_URL"], environment["CLOUD_TASKS_EMULATOR_HOST"])
        targets = ["api"] * APIS + ["worker"] * WORKERS
        for number, (target, port) in enumerate(zip(targets, ports, strict=True)):
            options = ["--source", str(source), "--target", target, "--host", "127.0.0.1", "--port", str(port)]
            name = f"{target}-{number}"
            command = [sys.executable, *runner(name), "functions_framework", *options]
            slot = Slot(name, port, command, folder, environment)
            deployment.slots.append(slot)
            stack.push_async_callback(slot.kill)
            slot.start()
        await stack.enter_async_context(_balanced(worker, [slot.port for slot in deployment.of("worker")]))
        http = await stack.enter_async_context(httpx.AsyncClient(timeout=10))
        for slot in deployment.slots:
            assert await slot.serves(http), f"{slot.name} has ended: {slot.process and slot.process.errors()}"
        recovery = asyncio.create_task(deployment.recover(recover_seconds))
        stack.callback(recovery.cancel)
        yield deployment


@dataclass
class Processes:
    """Equal processes that share a PostgreSQL database and serve the api."""

    server: Server
    slots: list[Slot] = field(default_factory=list)

    def of(self, target: str) -> Sequence[Slot]:
        return [slot for slot in self.slots if slot.name.startswith(target)]

    async def tasks_left(self) -> list[str]:
        """What is due soon and not done."""
        query = "SELECT name FROM gorchestrate.tasks WHERE ended_at IS NULL AND due_at < now() + interval '1 hour'"
        return [name for (name,) in await asyncio.to_thread(self.server.execute, query)]


@asynccontextmanager
async def on_postgresql(
    source: Path, folder: Path, *, recover_seconds: float, variables: Mapping[str, str]
) -> AsyncIterator[Processes]:
    """Runs processes of the function ``api`` on a durable PostgreSQL server while the body runs."""
    async with AsyncExitStack() as stack:
        server = await asyncio.to_thread(stack.enter_context, postgresql.running(durable=True))
        environment = {
            "GORCHESTRATE_DB": server.url(),
            "GORCHESTRATE_RECOVER_SECONDS": str(recover_seconds),
            "PYTHONPATH": f"{ROOT}:{ROOT / 'functions'}",
        } | dict(variables)
        processes = Processes(server)
        for number, port in enumerate(free_ports(APIS + WORKERS)):
            options = ["--source", str(source), "--target", "api", "--host", "127.0.0.1", "--port", str(port)]
            command = [sys.executable, "-m", "functions_framework", *options]
            slot = Slot(f"api-{number}", port, command, folder, environment)
            processes.slots.append(slot)
            stack.push_async_callback(slot.kill)
            slot.start()
        http = await stack.enter_async_context(httpx.AsyncClient(timeout=10))
        for slot in processes.slots:
            assert await slot.serves(http), f"{slot.name} has ended: {slot.process and slot.process.errors()}"
        yield processes


@asynccontextmanager
async def _balanced(port: int, to_ports: Sequence[int]) -> AsyncIterator[None]:
    """Hands each connection to one port after the other, as a load balancer does; a dead one drops it."""
    turn = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal turn
        turn += 1
        try:
            to = await asyncio.open_connection("127.0.0.1", to_ports[turn % len(to_ports)])
        except OSError:
            writer.transport.abort()
            return
        try:
            await asyncio.gather(_pipe(reader, to[1]), _pipe(to[0], writer))
        finally:  # also if it is cancelled, because the test is over
            writer.transport.abort()
            to[1].transport.abort()

    async with await asyncio.start_server(serve, "127.0.0.1", port):
        yield


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
    writer.close()
