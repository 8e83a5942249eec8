"""The emulator of Cloud Tasks: its calls, as Google's own client makes them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest
import uvicorn
from google.api_core import exceptions as google_errors
from google.cloud import tasks_v2
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask

from cloud_adapter.errors import SettingsError
from cloud_adapter.tasks_emulator import serve, server
from tests.emulator.harness import LOCATION, QUEUE, Harness, a_client, run
from tests.open_files import nothing_stays_open

OTHER = f"{LOCATION}/queues/other"
State = tasks_v2.Queue.State
View = tasks_v2.Task.View


# --- queues ----------------------------------------------------------------------------------


def test_a_queue_has_the_defaults_of_cloud_tasks() -> None:
    async def scenario(h: Harness) -> None:
        queue = await h.client.create_queue(parent=LOCATION, queue=tasks_v2.Queue({"name": OTHER}))
        assert queue == await h.client.get_queue(name=OTHER)
        assert queue.state is State.RUNNING
        assert "purge_time" not in queue
        limits, retry = queue.rate_limits, queue.retry_config
        assert (limits.max_dispatches_per_second, limits.max_burst_size, limits.max_concurrent_dispatches) == (
            500,
            100,
            1_000,
        )
        assert (retry.max_attempts, retry.max_doublings) == (100, 16)
        assert (retry.min_backoff, retry.max_backoff) == (timedelta(seconds=0.1), timedelta(hours=1))
        assert retry.max_retry_duration == timedelta(0)

    run(scenario)


def test_a_queue_as_it_was_asked_for() -> None:
    async def scenario(h: Harness) -> None:
        given = tasks_v2.Queue(
            name=OTHER,
            rate_limits={"max_dispatches_per_second": 0.5, "max_burst_size": -3, "max_concurrent_dispatches": 7},
            retry_config={
                "max_attempts": -1,
                "max_retry_duration": timedelta(hours=2),
                "min_backoff": timedelta(seconds=3),
                "max_backoff": timedelta(seconds=60),
                "max_doublings": 4,
            },
            stackdriver_logging_config={"sampling_ratio": 0.5},
            state=State.PAUSED,
        )
        queue = await h.client.create_queue(parent=LOCATION, queue=given)
        assert queue.state is State.RUNNING
        assert queue.rate_limits.max_burst_size == 10
        queue.state = State.PAUSED  # type: ignore[assignment]
        queue.rate_limits.max_burst_size = -3
        assert queue == given

    run(scenario)


@pytest.mark.parametrize(
    ("queue", "message"),
    [
        ({"rate_limits": {"max_dispatches_per_second": -1}}, "maxDispatchesPerSecond cannot be negative"),
        ({"rate_limits": {"max_dispatches_per_second": 501}}, "less than or equal to 500"),
        ({"rate_limits": {"max_dispatches_per_second": float("nan")}}, "less than or equal to 500"),
        ({"rate_limits": {"max_dispatches_per_second": 1e-9}}, "RateLimits is invalid"),
        ({"rate_limits": {"max_concurrent_dispatches": -1}}, "maxConcurrentDispatches cannot be negative"),
        ({"rate_limits": {"max_concurrent_dispatches": 5001}}, "less than or equal to 5000"),
        ({"retry_config": {"max_attempts": -2}}, "greater or equal to -1"),
        ({"retry_config": {"max_doublings": -1}}, "maxDoublings cannot be negative"),
        ({"retry_config": {"min_backoff": timedelta(seconds=-1)}}, "minBackoff cannot be negative"),
        ({"retry_config": {"max_backoff": timedelta(seconds=-1)}}, "maxBackoff cannot be negative"),
        ({"retry_config": {"max_retry_duration": timedelta(seconds=-1)}}, "maxRetryDuration cannot be negative"),
        ({"retry_config": {"min_backoff": timedelta(hours=2)}}, "minBackoff must be less than or equal"),
        ({"name": f"{LOCATION}/queues/a_b"}, "Queue name must be formatted"),
        ({"name": f"{LOCATION}/queues/{'q' * 101}"}, "Queue name must be formatted"),
        ({"name": "projects/p/locations/elsewhere/queues/q"}, "The location from request"),
    ],
)
def test_a_queue_that_cannot_be(queue: dict[str, Any], message: str) -> None:
    async def scenario(h: Harness) -> None:
        with pytest.raises(google_errors.InvalidArgument, match=message):
            await h.client.create_queue(parent=LOCATION, queue=tasks_v2.Queue({"name": OTHER, **queue}))
        if "name" not in queue:
            with pytest.raises(google_errors.InvalidArgument, match=message):
                await h.client.update_queue(queue=tasks_v2.Queue({"name": QUEUE, **queue}))
            assert (await h.client.get_queue(name=QUEUE)).retry_config.max_attempts == 100

    run(scenario)


def test_queues_that_are_there_and_that_are_not() -> None:
    async def scenario(h: Harness) -> None:
        with pytest.raises(google_errors.AlreadyExists, match="Queue already exists"):
            await h.client.create_queue(parent=LOCATION, queue=tasks_v2.Queue({"name": QUEUE}))
        calls: list[Callable[[], Awaitable[object]]] = [
            lambda: h.client.get_queue(name=OTHER),
            lambda: h.client.pause_queue(name=OTHER),
            lambda: h.client.resume_queue(name=OTHER),
            lambda: h.client.purge_queue(name=OTHER),
            lambda: h.client.delete_queue(name=OTHER),
            lambda: h.client.list_tasks(parent=OTHER),
            lambda: h.create("a", OTHER),
            lambda: h.get("a", OTHER),
            lambda: h.client.delete_task(name=f"{OTHER}/tasks/a"),
            lambda: h.client.run_task(name=f"{OTHER}/tasks/a"),
        ]
        for call in calls:
            with pytest.raises(google_errors.NotFound):
                await call()

    run(scenario)


def test_a_deleted_queue_takes_its_tasks_and_its_name_with_it() -> None:
    async def scenario(h: Harness) -> None:
        await h.create("a", schedule_time=h.clock.now() + timedelta(seconds=5))
        await h.client.delete_queue(name=QUEUE)
        with pytest.raises(google_errors.NotFound, match="Queue does not exist"):
            await h.create("b")
        with pytest.raises(google_errors.FailedPrecondition, match="existed too recently"):
            await h.client.create_queue(parent=LOCATION, queue=tasks_v2.Queue({"name": QUEUE}))
        with pytest.raises(google_errors.FailedPrecondition, match="existed too recently"):
            await h.client.update_queue(queue=tasks_v2.Queue({"name": QUEUE}))
        await h.advance(3 * 86_400)
        await h.client.create_queue(parent=LOCATION, queue=tasks_v2.Queue({"name": QUEUE}))
        assert await h.ids() == []
        assert h.delivered == []

    run(scenario)


def test_the_update_of_a_queue() -> None:
    async def scenario(h: Harness) -> None:
        async def update(queue: dict[str, Any], *paths: str) -> tasks_v2.Queue:
            return await h.client.update_queue(
                queue=tasks_v2.Queue({"name": QUEUE, **queue}), update_mask=FieldMask(paths=paths)
            )

        queue = await update({"retry_config": {"max_attempts": 3, "max_doublings": 2}}, "retry_config.max_attempts")
        assert (queue.retry_config.max_attempts, queue.retry_config.max_doublings) == (3, 16)
        queue = await update({}, "retry_config.max_doublings")
        assert (queue.retry_config.max_attempts, queue.retry_config.max_doublings) == (3, 0)
        queue = await update({"rate_limits": {"max_dispatches_per_second": 50}}, "rate_limits")
        assert queue.retry_config.max_doublings == 0
        assert (queue.rate_limits.max_dispatches_per_second, queue.rate_limits.max_burst_size) == (50, 50)
        queue = await update({"retry_config": {"min_backoff": timedelta(seconds=9)}}, "retry_config.min_backoff")
        assert queue.retry_config.min_backoff == timedelta(seconds=9)
        queue = await update({"state": State.PAUSED}, "state", "purge_time", "rate_limits.max_burst_size")
        assert (queue.state, queue.rate_limits.max_burst_size) == (State.RUNNING, 50)
        queue = await h.client.update_queue(
            queue=tasks_v2.Queue({"name": QUEUE, "rate_limits": {"max_concurrent_dispatches": 2}})
        )
        assert (queue.rate_limits.max_dispatches_per_second, queue.rate_limits.max_concurrent_dispatches) == (500, 2)
        assert (queue.retry_config.max_attempts, queue.retry_config.max_doublings) == (100, 16)
        with pytest.raises(google_errors.InvalidArgument, match="update mask"):
            await update({}, "colour")
        with pytest.raises(google_errors.MethodNotImplemented, match="http_target"):
            await update({"http_target": {"http_method": "PUT"}}, "http_target")
        created = await h.client.update_queue(
            queue=tasks_v2.Queue({"name": OTHER, "retry_config": {"max_attempts": 7}})
        )
        assert created.retry_config.max_attempts == 7
        assert created == await h.client.get_queue(name=OTHER)

    run(scenario)


def test_queues_are_listed_by_name_in_pages() -> None:
    async def scenario(h: Harness) -> None:
        for name in ("c", "a", "b"):
            await h.client.create_queue(parent=LOCATION, queue=tasks_v2.Queue({"name": f"{LOCATION}/queues/{name}"}))
        await h.client.create_queue(
            parent="projects/p/locations/m", queue=tasks_v2.Queue({"name": "projects/p/locations/m/queues/a"})
        )
        pager = await h.client.list_queues(request={"parent": LOCATION, "page_size": 3})
        pages = [[queue.name[-1] for queue in page.queues] async for page in pager.pages]
        assert pages == [["a", "b", "c"], ["q"]]
        with pytest.raises(google_errors.MethodNotImplemented, match="filters"):
            await h.client.list_queues(request={"parent": LOCATION, "filter": "state: PAUSED"})
        with pytest.raises(google_errors.InvalidArgument, match="Location name"):
            await h.client.list_queues(parent="projects/p")
        with pytest.raises(google_errors.InvalidArgument, match="negative"):
            await h.client.list_queues(request={"parent": LOCATION, "page_size": -1})

    run(scenario)


def test_pause_and_resume() -> None:
    async def scenario(h: Harness) -> None:
        assert (await h.client.pause_queue(name=QUEUE)).state is State.PAUSED
        await h.create("a")
        await h.advance(100)
        assert h.delivered == []
        assert (await h.client.get_queue(name=QUEUE)).state is State.PAUSED
        assert (await h.client.resume_queue(name=QUEUE)).state is State.RUNNING
        await h.advance()
        assert h.delivered == ["a"]

    run(scenario)


def test_purge() -> None:
    async def scenario(h: Harness) -> None:
        for id in "ab":
            await h.create(id, schedule_time=h.clock.now() + timedelta(seconds=5))
        queue = await h.client.purge_queue(name=QUEUE)
        assert queue.purge_time == h.clock.now()
        assert await h.ids() == []
        await h.create("c")
        await h.advance(10)
        assert h.delivered == ["c"]

    run(scenario)


# --- tasks -----------------------------------------------------------------------------------


def test_a_task_and_its_views() -> None:
    async def scenario(h: Harness) -> None:
        at = h.clock.now() + timedelta(seconds=7, microseconds=5)
        body = {"body": b"secret", "headers": {"content-type": "text/plain", "user-agent": "me"}}
        basic = await h.create("a", schedule_time=at, http_request=body)
        assert basic.view is View.BASIC
        assert basic.http_request.body == b""
        assert dict(basic.http_request.headers) == {"content-type": "text/plain", "User-Agent": "Google-Cloud-Tasks"}
        assert basic.http_request.http_method is tasks_v2.HttpMethod.POST
        assert basic.schedule_time == at
        assert basic.create_time == h.clock.now()
        assert basic.dispatch_deadline == timedelta(minutes=10)
        assert (basic.dispatch_count, basic.response_count) == (0, 0)
        assert "first_attempt" not in basic
        assert "last_attempt" not in basic
        full = await h.get("a")
        assert (full.view, full.http_request.body) == (View.FULL, b"secret")
        assert basic == await h.client.get_task(name=basic.name)
        (listed,) = [t async for t in await h.client.list_tasks(parent=QUEUE)]
        assert listed == basic
        request = {"parent": QUEUE, "response_view": View.FULL}
        (listed,) = [t async for t in await h.client.list_tasks(request=request)]
        assert listed == full
        with pytest.raises(google_errors.InvalidArgument, match="response view 9"):
            await h.client.get_task(request={"name": basic.name, "response_view": 9})

    run(scenario)


def test_a_task_without_a_name_gets_one() -> None:
    async def scenario(h: Harness) -> None:
        created = [await h.create() for _ in range(3)]
        assert len({t.name for t in created}) == 3
        assert all(t.name.startswith(f"{QUEUE}/tasks/") and t.name.rpartition("/")[2].isdigit() for t in created)
        await h.advance()
        assert sorted(h.delivered) == sorted(t.name.rpartition("/")[2] for t in created)

    run(scenario)


def test_a_name_is_taken_also_after_completion_and_deletion() -> None:
    async def scenario(h: Harness) -> None:
        await h.create("deleted", schedule_time=h.clock.now() + timedelta(seconds=5))
        with pytest.raises(google_errors.AlreadyExists, match="Requested entity already exists"):
            await h.create("deleted")
        await h.client.delete_task(name=f"{QUEUE}/tasks/deleted")
        await h.create("done")
        await h.advance()
        for id in ("done", "deleted"):
            with pytest.raises(google_errors.AlreadyExists, match="existed too recently"):
                await h.create(id)
            with pytest.raises(google_errors.NotFound, match="existed recently"):
                await h.get(id)
            with pytest.raises(google_errors.NotFound, match="existed recently"):
                await h.client.run_task(name=f"{QUEUE}/tasks/{id}")
            with pytest.raises(google_errors.NotFound, match="Requested entity was not found"):
                await h.client.delete_task(name=f"{QUEUE}/tasks/{id}")
        await h.advance(3_600)
        await h.create("done")
        await h.advance()
        assert h.delivered == ["done", "done"]

    run(scenario)


def test_a_task_that_never_was() -> None:
    async def scenario(h: Harness) -> None:
        for call in (h.client.get_task, h.client.delete_task, h.client.run_task):
            with pytest.raises(google_errors.NotFound, match="Requested entity was not found"):
                await call(name=f"{QUEUE}/tasks/never")
            with pytest.raises(google_errors.InvalidArgument, match="Task name must be formatted"):
                await call(name="never")

    run(scenario)


@pytest.mark.parametrize("id", ["a b", "a/b", "ü", "n" * 501, "a\n"])
def test_a_task_id_that_cannot_be(id: str) -> None:
    async def scenario(h: Harness) -> None:
        with pytest.raises(google_errors.InvalidArgument, match=r"between 1 and 500 characters"):
            await h.create(id)

    run(scenario)


def duration(seconds: float) -> Duration:
    return Duration(seconds=int(seconds), nanos=int(seconds % 1 * 1e9))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"http_request": {"url": ""}}, "HttpRequest.url is required"),
        ({"http_request": {"url": "localhost/x"}}, "must start with 'http://' or 'https://'"),
        ({"http_request": {"url": "ftp://localhost/x"}}, "must start with 'http://' or 'https://'"),
        ({"http_request": {"url": "http://localhost/" + "x" * 2_067}}, "at most 2083 characters"),
        ({"http_request": {"http_method": "GET", "body": b"x"}}, "not allowed with the method GET"),
        ({"http_request": {"http_method": 99}}, "Unknown HTTP method 99"),
        ({"http_request": {"headers": {"X": "x" * 81_920}}}, "smaller than 80KB"),
        ({"http_request": {"oidc_token": {"audience": "x"}}}, "serviceAccountEmail is required"),
        ({"http_request": {"body": b"x" * 1_048_576}}, "Task size too large"),
        ({"dispatch_deadline": duration(14.999)}, r"between \[15s, 30m\]"),
        ({"dispatch_deadline": duration(1_800.001)}, r"between \[15s, 30m\]"),
        ({"schedule_time": {"seconds": 2**60}}, "is not a valid time"),
    ],
)
def test_a_task_that_cannot_be(fields: dict[str, Any], message: str) -> None:
    async def scenario(h: Harness) -> None:
        with pytest.raises(google_errors.InvalidArgument, match=message):
            await h.create("a", **fields)
        await h.create("a")

    run(scenario)


def test_the_limits_of_a_task_themselves_are_allowed() -> None:
    async def scenario(h: Harness) -> None:
        far = h.clock.now() + timedelta(days=30)
        await h.create("far", schedule_time=far)
        with pytest.raises(google_errors.InvalidArgument, match=r"too far in the future\. .* no more than 720h"):
            await h.create("further", schedule_time=far + timedelta(microseconds=1))
        await h.create("quick", dispatch_deadline=duration(15), schedule_time=far)
        await h.create("slow", dispatch_deadline=duration(1_800), schedule_time=far)
        await h.create("n" * 500, schedule_time=far)
        empty = await h.create("large", http_request={"body": b"x" * 1_000_000}, schedule_time=far)
        assert empty.name
        with pytest.raises(google_errors.InvalidArgument, match="httpRequest is required"):
            await h.client.create_task(parent=QUEUE, task=tasks_v2.Task({}))
        with pytest.raises(google_errors.InvalidArgument, match="must be the same as the queue name"):
            await h.client.create_task(
                parent=QUEUE, task=tasks_v2.Task({"name": f"{OTHER}/tasks/a", "http_request": {"url": h.target.url}})
            )

    run(scenario)


def test_what_is_not_emulated_is_refused() -> None:
    async def scenario(h: Harness) -> None:
        with pytest.raises(google_errors.MethodNotImplemented, match="App Engine"):
            await h.client.create_task(
                parent=QUEUE, task=tasks_v2.Task({"app_engine_http_request": {"relative_uri": "/x"}})
            )
        with pytest.raises(google_errors.MethodNotImplemented, match="OAuth"):
            await h.create("a", http_request={"oauth_token": {"service_account_email": "me@x"}})
        with pytest.raises(google_errors.MethodNotImplemented):
            await h.client.get_iam_policy(request={"resource": QUEUE})

    run(scenario)


def test_tasks_are_listed_in_pages() -> None:
    async def scenario(h: Harness) -> None:
        at = h.clock.now() + timedelta(hours=1)
        ids = [f"task-{number}" for number in range(7)]
        for id in ids:
            await h.create(id, schedule_time=at)
        pager = await h.client.list_tasks(request={"parent": QUEUE, "page_size": 3})
        pages = [[t.name.rpartition("/")[2] for t in page.tasks] async for page in pager.pages]
        assert pages == [ids[:3], ids[3:6], ids[6:]]
        with pytest.raises(google_errors.InvalidArgument, match="page token"):
            await h.client.list_tasks(request={"parent": QUEUE, "page_token": "x"})

    run(scenario)


def test_a_page_of_large_tasks_is_one_that_the_client_takes() -> None:
    async def scenario(h: Harness) -> None:
        at = h.clock.now() + timedelta(hours=1)
        for number in range(7):
            await h.create(f"task-{number}", schedule_time=at, http_request={"body": b"x" * 900_000})
        pager = await h.client.list_tasks(request={"parent": QUEUE, "response_view": View.FULL})
        assert [len(page.tasks) async for page in pager.pages] == [3, 3, 1]

    run(scenario)


# --- the server ------------------------------------------------------------------------------


def test_two_emulators_do_not_share_a_port() -> None:
    async def main() -> None:
        async with serve(grace_seconds=0) as emulator:
            port = int(emulator.address.rpartition(":")[2])
            with pytest.raises(SettingsError, match=f"cannot listen on 127.0.0.1:{port}"):
                async with serve(port=port):
                    pass
            issuer_port = int(emulator.issuer_url.rpartition(":")[2])
            with pytest.raises(SettingsError, match=f"cannot listen on 127.0.0.1:{issuer_port}"):
                async with serve(issuer_port=issuer_port):
                    pass

    asyncio.run(main())


def test_queues_from_the_start() -> None:
    async def main() -> None:
        async with (
            serve(queues=[QUEUE, OTHER, QUEUE], grace_seconds=0) as emulator,
            a_client(emulator.address) as client,
        ):
            assert [queue.name async for queue in await client.list_queues(parent=LOCATION)] == [OTHER, QUEUE]
        with pytest.raises(SettingsError, match="queue 'q': Queue name must be formatted"):
            async with serve(queues=["q"]):
                pass

    asyncio.run(main())


def test_an_emulator_that_does_not_come_up_leaves_nothing_running(monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(*_: Any, **__: Any) -> None:
        raise OSError("no sockets")

    async def main() -> None:
        with pytest.raises(SettingsError, match="queue 'q'"):
            async with serve(queues=[QUEUE, "q"]):
                pass
        assert asyncio.all_tasks() == {asyncio.current_task()}
        monkeypatch.setattr(uvicorn.Server, "startup", broken)
        with pytest.raises(OSError, match="no sockets"):
            async with asyncio.timeout(30), serve(queues=[QUEUE]):
                pass
        assert asyncio.all_tasks() == {asyncio.current_task()}

    with nothing_stays_open():
        asyncio.run(main())


def test_an_emulator_that_cannot_be_made_closes_its_listener(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> None:
        raise OSError("no certificates")

    async def main() -> None:
        async with serve():
            pass

    monkeypatch.setattr(server, "Dispatcher", broken)
    with nothing_stays_open(), pytest.raises(OSError, match="no certificates") as error:
        asyncio.run(main())
    assert error
