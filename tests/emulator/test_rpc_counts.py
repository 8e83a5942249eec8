"""What an event costs: the RPCs to Firestore and Cloud Tasks, counted between real clients and emulators."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import grpc
import grpc.aio
import pytest
from starlette.types import ASGIApp, Receive, Scope, Send

from cloud_adapter.clock import SystemClock
from cloud_adapter.engine import recent_sessions
from cloud_adapter.engine.engine import Engine
from cloud_adapter.http.auth import OidcVerifier
from cloud_adapter.http.worker import create_worker
from cloud_adapter.queues.cloud_tasks import CloudTasksQueue, TaskTarget
from cloud_adapter.stores.firestore.store import FirestoreStore
from cloud_adapter.tasks_emulator import serve
from cloud_adapter.variables import TASKS_EMULATOR_VARIABLE
from tests.emulator.harness import QUEUE, until
from tests.firestore_client import RecordingClient
from tests.firestore_client import Send as SendRpc
from tests.http_target import asgi_server
from workflow_core import If, On, S, Select, Status, Step, Timeout, While, Workflow

pytestmark = pytest.mark.slow

ACCOUNT = "tasks@p.iam.gserviceaccount.com"
READ, COMMIT = "GetDocument", "Commit"
CREATE, DELETE = "CreateTask", "DeleteTask"


class Counted(Workflow, name="counted"):
    """Takes events; behind some stand as many steps as they ask for, or a timer."""

    steps: int = 0
    done: int = 0
    timed: bool = False

    def ping(self) -> int:
        return self.done

    def work(self, steps: int) -> None:
        self.steps = steps

    def start_timer(self) -> None:
        self.timed = True

    def stop_timer(self) -> None:
        self.timed = False

    async def step(self) -> None:
        self.steps -= 1
        self.done += 1

    definition = S(
        While(
            "open",
            lambda o: True,
            Select("event", On("Ping", ping), On("Work", work), On("StartTimer", start_timer)),
            While("steps left", lambda o: o.steps > 0, Step("step", step)),
            If(
                "timed",
                lambda o: o.timed,
                Select("timer", On("StopTimer", stop_timer), Timeout("late", timedelta(hours=1))),
            ),
        )
    )


@dataclass
class World:
    engine: Engine
    firestore: RecordingClient
    tasks: list[str]
    gate: Gate

    async def send(self, event: str, body: bytes = b"", key: str | None = None) -> None:
        await self.engine.handle_event("counted", "a", event, body, key=key)

    def taken(self) -> tuple[list[str], list[str]]:
        """The RPCs since this was asked for last: to Firestore, to Cloud Tasks."""
        tasks = self.tasks.copy()
        self.tasks.clear()
        return self.firestore.taken(), tasks


@dataclass
class Gate:
    """Holds the requests to an application until it is opened, so that no task comes before its commit."""

    app: ASGIApp
    statuses: list[int] = field(default_factory=list)
    opened: asyncio.Event = field(default_factory=asyncio.Event)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def noting(message: Any) -> None:
            if message["type"] == "http.response.start":
                self.statuses.append(message["status"])
            await send(message)

        await self.opened.wait()
        await self.app(scope, receive, noting)


@asynccontextmanager
async def counting_proxy(target: str) -> AsyncIterator[tuple[str, list[str]]]:
    """Passes the calls on to a gRPC server, as bytes; gives its own address, and the names of the calls."""
    calls: list[str] = []

    class Proxy(grpc.GenericRpcHandler):  # type: ignore[misc]
        def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
            async def call(request: bytes, context: grpc.aio.ServicerContext) -> bytes:
                calls.append(details.method.rpartition("/")[2])
                try:
                    response: bytes = await channel.unary_unary(details.method)(request)
                except grpc.aio.AioRpcError as error:
                    await context.abort(error.code(), error.details())
                return response

            return grpc.unary_unary_rpc_method_handler(call)

    async with grpc.aio.insecure_channel(target) as channel:
        server = grpc.aio.server()
        server.add_generic_rpc_handlers((Proxy(),))
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        try:
            yield f"127.0.0.1:{port}", calls
        finally:
            await server.stop(None)


@asynccontextmanager
async def world(project: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    """The deployed shape in this process: every call goes over a socket."""

    async def worker(scope: Scope, receive: Receive, send: Send) -> None:
        await gate(scope, receive, send)

    async with (
        asgi_server(worker) as url,
        serve(queues=[QUEUE], grace_seconds=0) as emulator,
        counting_proxy(emulator.address) as (address, tasks),
    ):
        monkeypatch.setenv(TASKS_EMULATOR_VARIABLE, address)
        clock = SystemClock()
        firestore = RecordingClient(project)
        store = FirestoreStore(firestore)
        queue = CloudTasksQueue("p", "l", "q", TaskTarget(url, ACCOUNT), clock)
        engine = Engine([Counted], store, queue, clock=clock)
        verifier = OidcVerifier(issuer=emulator.issuer_url, audience=url, email=ACCOUNT)
        gate = Gate(create_worker(engine, verifier))
        try:
            yield World(engine, firestore, tasks, gate)
        finally:
            gate.opened.set()
            await queue.close()
            await store.close()
            await firestore.aclose()


@pytest.fixture(autouse=True)
def slow_clients(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets each request come so late that its instance has to be read."""
    monkeypatch.setattr(recent_sessions, "SHARED", timedelta())


def test_a_creation_is_1_commit(firestore_project: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with world(firestore_project, monkeypatch) as w:
            await w.engine.create("counted", "a")
            assert w.taken() == ([COMMIT], [])

    asyncio.run(main())


@pytest.mark.parametrize("key", [None, "key-1"])
def test_an_event_without_steps_is_1_read_and_1_commit(
    firestore_project: str, monkeypatch: pytest.MonkeyPatch, key: str | None
) -> None:
    async def main() -> None:
        async with world(firestore_project, monkeypatch) as w:
            await w.engine.create("counted", "a")
            w.taken()
            await w.send("Ping", key=key)
            assert w.taken() == ([READ, COMMIT], [])

    asyncio.run(main())


@pytest.mark.parametrize("steps", [1, 3])
def test_steps_behind_an_event_are_1_task_and_a_commit_each_and_1_for_the_lease(
    firestore_project: str, monkeypatch: pytest.MonkeyPatch, steps: int
) -> None:
    async def main() -> None:
        async with world(firestore_project, monkeypatch) as w:
            await w.engine.create("counted", "a")
            w.taken()
            await w.send("Work", str(steps).encode())
            assert w.taken() == ([READ, COMMIT], [CREATE])
            w.gate.opened.set()
            await until(lambda: bool(w.gate.statuses))
            assert w.taken() == ([READ] + [COMMIT] * (steps + 1), [])
            assert w.gate.statuses == [200]
            view = await w.engine.get("counted", "a")
            assert view.workflow.model_dump()["done"] == steps
            assert view.instance.execution.status is Status.WAITING
            assert view.instance.lease is None

    asyncio.run(main())


def test_a_timer_is_1_task_and_its_deletion(firestore_project: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with world(firestore_project, monkeypatch) as w:
            await w.engine.create("counted", "a")
            w.taken()
            await w.send("StartTimer")
            assert w.taken() == ([READ, COMMIT], [CREATE])
            await w.send("StopTimer")
            assert w.taken() == ([READ, COMMIT], [DELETE])

    asyncio.run(main())


def test_an_event_that_follows_soon_is_1_commit_unless_another_process_has_committed(
    firestore_project: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recent_sessions, "SHARED", timedelta(hours=1))

    async def main() -> None:
        async with world(firestore_project, monkeypatch) as w:
            await w.engine.create("counted", "a")
            await w.send("Ping")
            w.taken()
            await w.send("Ping")
            assert w.taken() == ([COMMIT], [])
            other_store = FirestoreStore(RecordingClient(firestore_project))
            other = Engine([Counted], other_store, w.engine.queue, clock=SystemClock())
            await other.handle_event("counted", "a", "Ping", b"")
            await other_store.close()
            await w.send("Ping")
            assert w.taken() == ([COMMIT, READ, COMMIT], [])

    asyncio.run(main())


@pytest.mark.parametrize("conflicts", [1, 2])
def test_a_conflict_is_1_more_read_and_1_more_commit(
    firestore_project: str, monkeypatch: pytest.MonkeyPatch, conflicts: int
) -> None:
    """What tells whether the commit was applied after all is also what the next attempt decides on."""

    async def main() -> None:
        async with world(firestore_project, monkeypatch) as w:
            await w.engine.create("counted", "a")
            other_store = FirestoreStore(RecordingClient(firestore_project))
            other = Engine([Counted], other_store, w.engine.queue, clock=SystemClock())

            async def overtaken(send: SendRpc) -> Any:
                await other.handle_event("counted", "a", "Ping", b"")
                return await send()

            async def passed(send: SendRpc) -> Any:
                return await send()

            w.firestore.handlers += [passed, overtaken] * conflicts
            w.taken()
            await w.send("Ping")
            assert w.taken() == ([READ, COMMIT] * (conflicts + 1), [])
            await other_store.close()

    asyncio.run(main())
