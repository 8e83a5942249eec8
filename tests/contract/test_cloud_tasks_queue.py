"""CloudTasksQueue, with Google's own client on real sockets: the contract of all queues, and what is its own.

By default against our emulator, whose time is the test's. If CLOUD_TASKS_EMULATOR_HOST is set, the contract runs
against the emulator that listens there, in real time (minutes): ours in another process, or any other.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import pytest
from google.auth.credentials import AnonymousCredentials
from google.cloud import tasks_v2
from starlette.requests import Request
from starlette.responses import Response

from cloud_adapter.clock import SystemClock
from cloud_adapter.errors import InvalidRequest, SettingsError, TooLarge, Unavailable
from cloud_adapter.ports import LONG, Clock, Task, TaskQueue
from cloud_adapter.queues import cloud_tasks_client
from cloud_adapter.queues.cloud_tasks import CloudTasksQueue, TaskTarget
from cloud_adapter.queues.cloud_tasks_client import CloudTasksClient
from cloud_adapter.tasks_emulator import Emulator, serve
from cloud_adapter.variables import TASKS_EMULATOR_VARIABLE
from gorchestrate.testing.clock import ManualClock
from tests.contract.queue_contract import NO_NAMES, QueueContract, QueueHarness, Receiver, task
from tests.emulator.harness import QUEUE, a_client, advance, until
from tests.http_target import http_server

EXTERNAL = os.environ.get(TASKS_EMULATOR_VARIABLE)


class Worker:
    """Hands what comes over HTTP to a receiver."""

    def __init__(self, receiver: Receiver) -> None:
        self.receiver = receiver
        self.requests: list[Request] = []
        self._inside: list[str] = []

    @property
    def held(self) -> list[str]:
        """The deliveries that wait until they are released."""
        return [name for name in self._inside if name in self.receiver.gates]

    async def handle(self, request: Request, body: bytes) -> Response:
        name = request.headers["X-CloudTasks-TaskName"]
        retries = int(request.headers["X-CloudTasks-TaskRetryCount"])
        self.requests.append(request)
        self._inside.append(name)
        try:
            good = await self.receiver(Task(name, request.url.path, json.loads(body)), retries)
        finally:
            self._inside.remove(name)
        return Response(status_code=200 if good else 500)


@dataclass
class Harness:
    """Everything in this process, on a clock that the test moves."""

    clock: ManualClock
    emulator: Emulator
    queue: CloudTasksQueue
    worker: Worker
    url: str

    @property
    def receiver(self) -> Receiver:
        return self.worker.receiver

    def now(self) -> datetime:
        return self.clock.now()

    async def advance(self, seconds: float = 0) -> None:
        await advance(self.clock, self.emulator, lambda: len(self.worker.held), seconds)


@dataclass
class RealTimeHarness:
    """Against an emulator elsewhere, on the machine's time."""

    queue: CloudTasksQueue
    worker: Worker
    client: tasks_v2.CloudTasksAsyncClient

    @property
    def receiver(self) -> Receiver:
        return self.worker.receiver

    def now(self) -> datetime:
        return datetime.now(UTC)

    async def advance(self, seconds: float = 0) -> None:
        target = self.now() + timedelta(seconds=seconds)
        await asyncio.sleep(seconds)

        async def nothing_due() -> bool:
            pages = await self.client.list_tasks(parent=self.queue.paths[0])
            due = [t.name.rpartition("/")[2] async for t in pages if t.schedule_time <= target]
            return set(due) <= set(self.worker.held)

        await until(nothing_due, poll_seconds=0.05)


@asynccontextmanager
async def opened(queues: int = 1, long_queue: str = "") -> AsyncIterator[Harness]:
    clock = ManualClock()
    worker = Worker(Receiver(clock.now))
    names = [QUEUE, *(f"{QUEUE}-{number}" for number in range(2, queues + 1))]
    names += [QUEUE.removesuffix("q") + long_queue] if long_queue else []
    async with (
        serve(queues=names, clock=clock, grace_seconds=0) as emulator,
        http_server(worker.handle) as url,
        environment(emulator.address),
        a_queue(TaskTarget(url), clock, queues=queues, long_queue=long_queue) as queue,
    ):
        yield Harness(clock, emulator, queue, worker, url)


@asynccontextmanager
async def a_queue(target: TaskTarget, clock: Clock, id: str = "q", **options: Any) -> AsyncIterator[CloudTasksQueue]:
    queue = CloudTasksQueue("p", "l", id, target, clock, **options)
    try:
        yield queue
    finally:
        await queue.close()


@asynccontextmanager
async def environment(address: str) -> AsyncIterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(TASKS_EMULATOR_VARIABLE, address)
        yield


class TestContract(QueueContract):
    @asynccontextmanager
    async def open(self) -> AsyncIterator[QueueHarness]:
        if EXTERNAL is None:
            async with opened() as harness:
                yield harness
            return
        clock, id = SystemClock(), f"contract-{uuid.uuid4()}"
        worker = Worker(Receiver(clock.now))
        async with (
            a_client(EXTERNAL) as client,
            http_server(worker.handle) as url,
            a_queue(TaskTarget(url), clock, id) as queue,
        ):
            await client.create_queue(parent="projects/p/locations/l", queue=tasks_v2.Queue({"name": queue.paths[0]}))
            yield RealTimeHarness(queue, worker, client)
            await client.delete_queue(name=queue.paths[0])


class TestContractOfSeveralQueues(QueueContract):
    """The same for three queues, and one for long tasks."""

    @asynccontextmanager
    async def open(self) -> AsyncIterator[QueueHarness]:
        async with opened(3, "slow") as harness:
            yield harness

    # Such a name is taken in one of the queues. Another task of that name may be in another one; the engine has none.
    test_a_name_that_the_queue_has_given_is_taken = None  # type: ignore[assignment]


async def names_in(h: Harness, queue: str) -> set[str]:
    async with a_client(h.emulator.address) as client:
        pages = await client.list_tasks(parent=QUEUE.removesuffix("q") + queue)
        return {found.name.rpartition("/")[2] async for found in pages}


def test_tasks_are_spread_over_the_queues_by_their_names() -> None:
    async def main() -> None:
        async with opened(3, "slow") as h:
            at = h.now() + timedelta(hours=1)
            names = [f"{number:x}" for number in range(90)]
            for name in names:
                await h.queue.create(task(name, at))
                await h.queue.create(task(name + LONG, at))
            found = [await names_in(h, queue) for queue in ("q", "q-2", "q-3")]
            assert all(len(one) > 15 for one in found)
            assert set.union(*found) == set(names)
            assert sum(map(len, found)) == len(names)
            assert await names_in(h, "slow") == {name + LONG for name in names}
            for name in names:
                await h.queue.delete(name)
                await h.queue.delete(name + LONG)
            assert [await names_in(h, queue) for queue in ("q", "q-2", "q-3", "slow")] == [set()] * 4

    asyncio.run(main())


def test_tasks_without_a_name_are_spread_by_their_groups() -> None:
    async def main() -> None:
        async with opened(3) as h:
            at = h.now() + timedelta(hours=1)
            for number in range(60):
                await h.queue.create(Task("", "/resume", {}, at, group=f"pizza/order-{number}"))
            assert all([len(await names_in(h, queue)) > 8 for queue in ("q", "q-2", "q-3")])

    asyncio.run(main())


def test_a_task_of_another_number_of_queues_is_delivered_and_its_deletion_does_no_harm() -> None:
    async def main() -> None:
        async with opened(3) as h:
            names = [f"{number:x}" for number in range(20)]
            for name in names:
                await h.queue.create(task(name, h.now() + timedelta(seconds=1)))
            async with a_queue(TaskTarget(h.url), h.clock, queues=2) as fewer:
                for name in names:
                    await fewer.delete(name)
            left = [len(await names_in(h, queue)) for queue in ("q", "q-2", "q-3")]
            assert left[2] > 0, "this queue is no longer used"
            await h.advance(2)
            assert len(h.receiver.deliveries) == sum(left), "it still delivers"

    asyncio.run(main())


def run(scenario: Callable[[Harness], Awaitable[None]]) -> None:
    async def main() -> None:
        async with opened() as harness:
            await scenario(harness)

    asyncio.run(main())


def test_it_is_the_port() -> None:
    queue: TaskQueue = CloudTasksQueue("p", "l", "q", TaskTarget("http://localhost"), SystemClock())
    assert queue


@pytest.mark.parametrize(
    ("asked", "sent"), [(1, 15), (60, 60), (1_800, 1_800), (86_400, 1_800)], ids=["short", "fits", "long", "too long"]
)
def test_a_task_with_a_deadline_of_its_own(asked: int, sent: int) -> None:
    async def scenario(h: Harness) -> None:
        await h.queue.create(Task("name", "/activity", {}, h.now() + timedelta(seconds=90), timedelta(seconds=asked)))
        async with a_client(h.emulator.address) as client:
            found = await client.get_task(request={"name": f"{QUEUE}/tasks/name"})
        assert found.dispatch_deadline == timedelta(seconds=sent)

    run(scenario)


def test_what_is_sent() -> None:
    async def scenario(h: Harness) -> None:
        at = h.now() + timedelta(seconds=90)
        await h.queue.create(Task("name", "/resume", {"id": "ü"}, at))
        async with a_client(h.emulator.address) as client:
            found = await client.get_task(request={"name": f"{QUEUE}/tasks/name", "response_view": "FULL"})
        assert found.http_request.http_method is tasks_v2.HttpMethod.POST
        assert found.http_request.url.endswith("/resume")
        assert json.loads(found.http_request.body) == {"id": "ü"}
        assert found.http_request.headers["Content-Type"] == "application/json"
        assert "oidc_token" not in found.http_request
        assert found.schedule_time == at
        assert found.dispatch_deadline == timedelta(minutes=10)

    run(scenario)


@pytest.mark.parametrize("audience", [None, "https://other.example"])
def test_the_worker_gets_a_token_for_it(audience: str | None) -> None:
    async def scenario(h: Harness) -> None:
        url = h.url
        target = TaskTarget(url + "/", service_account="tasks@p.iam.gserviceaccount.com", audience=audience)
        async with a_queue(target, h.clock) as queue:
            await queue.create(task("a"))
            await h.advance()
        (request,) = h.worker.requests
        _, claims, _ = request.headers["Authorization"].removeprefix("Bearer ").split(".")
        token = json.loads(base64.urlsafe_b64decode(claims + "=="))
        assert (token["aud"], token["email"]) == (audience or url, target.service_account)
        assert request.url.path == "/resume"
        async with a_client(h.emulator.address) as client:
            pages = await client.list_tasks(parent=QUEUE)
            assert [t async for t in pages] == []

    run(scenario)


def test_a_task_beyond_the_horizon_comes_at_the_horizon() -> None:
    async def scenario(h: Harness) -> None:
        start = h.now()
        await h.queue.create(task("a", start + timedelta(days=400)))
        async with a_client(h.emulator.address) as client:
            found = await client.get_task(name=f"{QUEUE}/tasks/a")
        assert start + timedelta(days=29, hours=23) < found.schedule_time <= start + timedelta(days=30)

    run(scenario)


def test_what_else_is_refused() -> None:
    async def scenario(h: Harness) -> None:
        for name in NO_NAMES:
            with pytest.raises(InvalidRequest, match="1 to 500 of the characters"):
                await h.queue.delete(name)
        async with a_queue(TaskTarget("http://localhost", service_account="x" * 60_000), h.clock) as queue:
            with pytest.raises(TooLarge, match="Task size too large"):
                await queue.create(task("a", text="x" * 990_000))
        with pytest.raises(InvalidRequest, match="at most 2083 characters"):
            await h.queue.create(Task("a", "/" + "x" * 3_000, {}))
        await h.queue.create(task("a"))
        await h.advance()
        assert h.receiver.names == ["a"]

    run(scenario)


def test_a_missing_queue_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    give_up_early(monkeypatch)

    async def scenario(h: Harness) -> None:
        async with a_queue(TaskTarget("http://localhost"), h.clock, "other") as queue:
            with pytest.raises(Unavailable, match="projects/p/locations/l/queues/other does not exist"):
                await queue.create(task("a"))
            await queue.delete("a")

    run(scenario)


def test_after_the_close_nothing_is_created() -> None:
    async def scenario(h: Harness) -> None:
        await h.queue.create(task("a"))
        await h.queue.close()
        await h.queue.close()
        with pytest.raises(Unavailable, match="closed"):
            await h.queue.create(task("b"))

    run(scenario)


def test_it_may_be_used_in_one_event_loop_after_the_other() -> None:
    queue = CloudTasksQueue("p", "l", "q", TaskTarget("http://localhost"), SystemClock())

    async def main(name: str) -> None:
        async with serve(queues=[QUEUE], grace_seconds=0) as emulator, environment(emulator.address):
            await queue.create(task(name, SystemClock().now() + timedelta(hours=1)))
            async with a_client(emulator.address) as client:
                assert (await client.get_task(name=f"{QUEUE}/tasks/{name}")).name.endswith(name)

    for name in "ab":
        asyncio.run(main(name))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("", "l", "q", TaskTarget("http://x")), "project"),
        (("p", "l/x", "q", TaskTarget("http://x")), "location"),
        (("p", "l", "a/b", TaskTarget("http://x")), "queue"),
        (("p", "l", "q", TaskTarget("x.run.app")), "must start with https"),
    ],
)
def test_wrong_settings(arguments: tuple[str, str, str, TaskTarget], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        CloudTasksQueue(*arguments, SystemClock())
    with pytest.raises(SettingsError, match="15 seconds to 30 minutes"):
        CloudTasksQueue("p", "l", "q", TaskTarget("http://x"), SystemClock(), dispatch_deadline=timedelta(seconds=14))


# --- errors of the service -------------------------------------------------------------------


@contextlib.asynccontextmanager
async def failing_service(
    *codes: grpc.StatusCode, headers: dict[str, dict[str, str]] | None = None
) -> AsyncIterator[list[str]]:
    """A Cloud Tasks that answers with those errors, one after the other, then well; gives the calls it got.

    Args:
        headers: gets the headers of the calls, by their methods.
    """
    calls: list[str] = []
    left = list(codes)

    class Service(grpc.GenericRpcHandler):  # type: ignore[misc]
        def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
            async def call(_: bytes, context: grpc.aio.ServicerContext) -> bytes:
                calls.append(details.method.rpartition("/")[2])
                if headers is not None:
                    headers[calls[-1]] = dict(context.invocation_metadata())
                if left:
                    await context.abort(left.pop(0), "no luck")
                return b""

            return grpc.unary_unary_rpc_method_handler(call)

    server = grpc.aio.server()
    server.add_generic_rpc_handlers((Service(),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with environment(f"127.0.0.1:{port}"):
        yield calls
    await server.stop(None)


def call_with(*codes: grpc.StatusCode, method: str = "create") -> list[str]:
    async def main() -> list[str]:
        async with (
            failing_service(*codes) as calls,
            a_queue(TaskTarget("http://localhost"), SystemClock()) as queue,
        ):
            try:
                await (queue.create(task("a")) if method == "create" else queue.delete("a"))
            except Exception as error:
                error.add_note(f"{len(calls)} calls")
                raise
            return calls

    return asyncio.run(main())


@pytest.mark.parametrize("method", ["create", "delete"])
@pytest.mark.parametrize(
    "code",
    [
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
    ],
)
def test_a_transient_error_is_tried_again(code: grpc.StatusCode, method: str) -> None:
    assert len(call_with(code, code, method=method)) == 3


def test_a_lost_reply_is_a_success() -> None:
    assert len(call_with(grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.ALREADY_EXISTS)) == 2
    assert len(call_with(grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.NOT_FOUND, method="delete")) == 2


@pytest.mark.parametrize("method", ["create", "delete"])
@pytest.mark.parametrize(
    ("code", "error"),
    [
        (grpc.StatusCode.PERMISSION_DENIED, Unavailable),
        (grpc.StatusCode.UNAUTHENTICATED, Unavailable),
        (grpc.StatusCode.FAILED_PRECONDITION, Unavailable),
        (grpc.StatusCode.INVALID_ARGUMENT, InvalidRequest),
    ],
)
def test_an_error_that_stays_is_not_tried_again(code: grpc.StatusCode, error: type[Exception], method: str) -> None:
    with pytest.raises(error, match="no luck") as caught:
        call_with(code, method=method)
    assert caught.value.__notes__ == ["1 calls"]


def give_up_early(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cloud_tasks_client, "CREATE_RETRY", cloud_tasks_client.CREATE_RETRY.with_timeout(0.3))


def test_a_queue_that_was_idle_for_30_days_is_waited_for() -> None:
    assert len(call_with(*[grpc.StatusCode.NOT_FOUND] * 3)) == 4


def test_in_the_end_it_gives_up(monkeypatch: pytest.MonkeyPatch) -> None:
    give_up_early(monkeypatch)
    with pytest.raises(Unavailable, match="did not answer: 503 no luck"):
        call_with(*[grpc.StatusCode.UNAVAILABLE] * 100)


@pytest.mark.parametrize("sent", [0, 1], ids=["before its first attempt", "between two"])
def test_a_call_comes_to_its_end_before_the_close(sent: int) -> None:
    async def main() -> None:
        async with (
            failing_service(grpc.StatusCode.UNAVAILABLE) as calls,
            a_queue(TaskTarget("http://localhost"), SystemClock()) as queue,
        ):
            call = asyncio.ensure_future(queue.create(task("a")))
            await until(lambda: len(calls) >= sent)
            await asyncio.sleep(0)
            await queue.close()
            await call
            assert len(calls) == 2

    asyncio.run(main())


def test_a_call_says_which_queue_it_is_for_and_which_client_makes_it() -> None:
    """Google requires the first of these headers: https://google.aip.dev/client-libraries/4222."""
    headers: dict[str, dict[str, str]] = {}

    async def main() -> None:
        target = TaskTarget("http://localhost")
        async with failing_service(headers=headers), a_queue(target, SystemClock()) as queue:
            await queue.create(task("a"))
            await queue.delete("a")

    asyncio.run(main())
    routes = {method: sent["x-goog-request-params"] for method, sent in headers.items()}
    assert routes == {"CreateTask": f"parent={QUEUE}", "DeleteTask": f"name={QUEUE}/tasks/a"}
    assert all(f"gapic/{tasks_v2.__version__}" in sent["x-goog-api-client"] for sent in headers.values())


def test_the_real_service_is_called_with_the_settings_of_googles_client(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOOGLE_CLOUD_UNIVERSE_DOMAIN", "universe.invalid")
    monkeypatch.setattr(cloud_tasks_client, "RETRY", cloud_tasks_client.RETRY.with_timeout(0.1))

    async def main() -> None:
        client = CloudTasksClient(None, AnonymousCredentials())  # type: ignore[no-untyped-call]
        with pytest.raises(Unavailable, match=r"did not answer: .*cloudtasks\.universe\.invalid"):
            await client.delete(f"{QUEUE}/tasks/a")
        await client.close()

    asyncio.run(main())


def test_a_closed_channel_is_unavailable() -> None:
    async def main() -> None:
        async with failing_service():
            client = CloudTasksClient(os.environ[TASKS_EMULATOR_VARIABLE])
            await client.close()
            with pytest.raises(Unavailable, match="closed"):
                await client.delete("projects/p/locations/l/queues/q/tasks/a")

    asyncio.run(main())


def test_without_credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    monkeypatch.delenv(TASKS_EMULATOR_VARIABLE, raising=False)
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", f"{tmp_path}/none.json")

    async def main() -> None:
        async with a_queue(TaskTarget("http://localhost"), SystemClock()) as queue:
            with pytest.raises(Unavailable, match=r"none\.json"):
                await queue.create(task("a"))

    asyncio.run(main())
