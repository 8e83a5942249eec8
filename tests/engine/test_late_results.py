"""Results that arrive while the handler of an event takes long, for longer than a request may wait: they are posted,
and what they are about does not run again."""

from __future__ import annotations

from asyncio import Task, ensure_future
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from cloud_adapter.engine.task_handler import Outcome
from cloud_adapter.engine.tasks import ACTIVITY_PATH
from gorchestrate.testing.clock import ManualClock
from tests.engine.family import Kid, entries, grow, link, start_and_die
from tests.engine.harness import ID, Gate, World, check_idle, in_world, nothing
from tests.waits import the
from workflow_core import (
    Activity,
    ActivityContext,
    Child,
    ErrorInfo,
    EventHandler,
    EventRequest,
    Go,
    On,
    Retry,
    S,
    Select,
    Try,
    Workflow,
)
from workflow_core.wait_types import ChildWait

HANDLER = Gate()
FUNCTION = Gate()
RUNS: list[str] = []
LONG = timedelta(minutes=3)


@pytest.fixture(autouse=True)
def no_runs() -> None:
    RUNS.clear()


class Slow(EventHandler):
    """It takes as long as the test wants."""

    async def setup(self, request: EventRequest) -> None:
        """There is nothing to be set up."""

    async def teardown(self, request: EventRequest, handled: bool) -> None:
        """There is nothing to be torn down."""

    async def handle(self, request: EventRequest, input: int) -> None:
        request.workflow.log.append("handled")
        await HANDLER.wait()


async def in_thread(function: Callable[..., Any], *args: Any) -> Any:
    """Runs synchronous functions; the thread is free once the test opens the gate."""
    try:
        return function(*args)
    finally:
        await FUNCTION.wait()


async def count_in_time() -> int:
    RUNS.append("count")
    await FUNCTION.wait()
    return 7


def count_at_once() -> int:
    RUNS.append("count")
    return 7


async def fail_in_time() -> int:
    RUNS.append("count")
    if len(RUNS) == 1:
        await FUNCTION.wait()
        raise ConnectionError("the first time")
    return 7


def fail_at_once() -> int:
    RUNS.append("count")
    if len(RUNS) == 1:
        raise ConnectionError("the first time")
    return 7


async def count_alive(number: int, context: ActivityContext) -> int:
    RUNS.append("count")
    await context.heartbeat()
    await FUNCTION.wait()
    return 7


def shop(function: Callable[..., Any], handler: EventHandler | None = None, **limits: Any) -> type[Workflow]:
    """An activity runs while the handler of an event takes long."""

    class Shop(Workflow, name="shop"):
        log: list[str] = []

        def keep(self, result: int) -> None:
            self.log.append(f"got {result}")

        definition = S(
            Go("handling", Select("sum", On("Add", handler or Slow()))),
            Activity("count", function, then=keep, **limits),
        )

    return Shop


async def handling(world: World, *, id: str = ID) -> Task[Any]:
    """An event has arrived, and its handler runs."""
    before = HANDLER.reached
    sending = ensure_future(world.process.post("Add", b"1", id=id))
    await world.clock.settle()
    assert HANDLER.reached == before + 1
    return sending


async def counting(world: World) -> Task[Outcome]:
    """The function of the activity runs."""
    await world.create()
    await world.process.perform(world.queue.resumes[0])
    (task,) = [task for task in world.queue.tasks.values() if task.path == ACTIVITY_PATH]
    running = ensure_future(world.process.perform(world.queue.tasks.pop(task.name)))
    await world.clock.advance(1)
    assert RUNS == ["count"]
    return running


async def returns_late(world: World) -> None:
    """Its result arrives while the handler runs, which ends only after the result was posted."""
    running = await counting(world)
    sending = await handling(world)
    FUNCTION.open()
    await world.clock.advance(world.options.max_wait.total_seconds() - 1)
    assert not running.done()
    await world.clock.advance(1)
    assert await world.finish(running) is Outcome.DONE
    assert len(await world.store.inbox("shop", ID)) == 1
    HANDLER.open()
    await world.finish(sending)


async def check_end(world: World, *, runs: int) -> None:
    """The activity has run so often, and its result has counted once."""
    await world.pass_time(LONG)
    assert len(RUNS) == runs
    assert (await world.instance()).execution.status == "finished"
    assert (await world.fields()).log == ["handled", "got 7"]
    assert await world.store.inbox("shop", ID) == []
    check_idle(world.process)


@in_world(shop(count_in_time))
async def test_a_result_is_posted(world: World) -> None:
    await returns_late(world)
    await check_end(world, runs=1)
    assert await world.history("activity", "activity failed") == [("activity", "count")]


@in_world(shop(count_at_once), run_sync=in_thread)
async def test_a_result_of_a_synchronous_function_is_posted(world: World) -> None:
    await returns_late(world)
    await check_end(world, runs=1)
    assert await world.history("activity", "activity failed") == [("activity", "count")]


@in_world(shop(fail_in_time, retry=Retry(max_attempts=2, initial=timedelta(seconds=1))))
async def test_a_failure_is_posted(world: World) -> None:
    await returns_late(world)
    await check_end(world, runs=2)
    assert await world.history("activity", "activity failed") == [("activity failed", "count"), ("activity", "count")]


@in_world(shop(count_alive, input=lambda w: 1, heartbeat=timedelta(minutes=1)))
async def test_the_result_of_an_activity_with_heartbeats_is_posted(world: World) -> None:
    await returns_late(world)
    await check_end(world, runs=1)


@in_world(shop(count_alive, input=lambda w: 1, heartbeat=timedelta(minutes=1)))
async def test_a_heartbeat_that_nobody_can_hear_is_no_failure(world: World) -> None:
    await world.create()
    await world.process.perform(world.queue.resumes[0])
    (task,) = [task for task in world.queue.tasks.values() if task.path == ACTIVITY_PATH]
    world.process.fault("load", before=lambda: world.clock.sleep(1))
    running = ensure_future(world.process.perform(world.queue.tasks.pop(task.name)))
    await world.clock.settle()
    sending = ensure_future(world.process.post("Add", b"1"))
    await world.clock.advance(1)
    assert RUNS == ["count"]
    await world.clock.advance(11)
    FUNCTION.open()
    await world.clock.advance(11)
    assert await world.finish(running) is Outcome.DONE
    HANDLER.open()
    await world.finish(sending)
    await check_end(world, runs=1)


class Timed(Slow):
    """It takes as many seconds as its input says."""

    async def handle(self, request: EventRequest, input: int) -> None:
        request.workflow.log.append("handled")
        await CLOCKS[-1].sleep(input)


CLOCKS: list[ManualClock] = []


async def beat_often(number: int, context: ActivityContext) -> int:
    RUNS.append("count")
    for _ in range(8):
        await CLOCKS[-1].sleep(10)
        await context.heartbeat()
    return 7


@in_world(shop(beat_often, Timed(), input=lambda w: 1, heartbeat=timedelta(seconds=30)))
async def test_an_activity_that_sends_heartbeats_is_alive_although_a_handler_takes_longer_than_its_limit(
    world: World,
) -> None:
    CLOCKS.append(world.clock)
    await world.create()
    await world.process.perform(world.queue.resumes[0])
    (task,) = [task for task in world.queue.tasks.values() if task.path == ACTIVITY_PATH]
    running = ensure_future(world.process.perform(world.queue.tasks.pop(task.name)))
    await world.clock.settle()
    sending = ensure_future(world.process.post("Add", b"47"))
    await world.pass_time(timedelta(minutes=2))
    assert await world.finish(running) is Outcome.DONE
    await world.finish(sending)
    await check_end(world, runs=1)
    assert await world.history("activity failed") == []


class Aunt(Workflow, name="mother"):
    """A child ends while the handler of an event takes long."""

    log: list[str] = []

    def keep(self, result: int) -> None:
        self.log.append(f"got {result}")

    def note(self, error: ErrorInfo) -> None:
        self.log.append(error.type)

    definition = S(
        Go("handling", Select("sum", On("Add", Slow()))),
        Select("begin", On("Begin", nothing)),
        Try("care", Child("kid", Kid, id="kid-1", then=keep)).except_(Exception, then=note, name="sad"),
    )


@in_world(Aunt, Kid)
async def test_the_end_of_a_child_is_posted(world: World) -> None:
    await world.started()
    await world.send("Begin")
    await world.deliver()
    sending = await handling(world)
    await grow(world)
    await world.deliver()
    assert (await link(world)).told
    assert len(await world.store.inbox("mother", ID)) == 1
    HANDLER.open()
    await world.finish(sending)
    await world.pass_time(LONG)
    assert (await world.fields()).log == ["handled", "got 1000"]
    assert await entries(world, "tell failed", workflow="kid", id="kid-1") == []
    assert await world.store.inbox("mother", ID) == []
    check_idle(world.process)


@in_world(Aunt, Kid)
async def test_the_end_of_a_child_whose_start_is_not_known_is_posted_and_waits_for_it(world: World) -> None:
    await world.started()
    await world.send("Begin")
    task = await start_and_die(world)
    del world.queue.tasks[task.name]
    await world.clock.advance(61)
    sending = await handling(world)
    await grow(world)
    await world.deliver()
    HANDLER.open()
    await world.finish(sending)
    waits = [wait for thread in (await world.instance()).execution.threads for wait in thread.waits]
    assert the(ChildWait, waits).status == "pending_setup"
    assert (await link(world)).told
    await world.pass_time(LONG)
    assert (await world.fields()).log == ["handled", "got 1000"]
    assert await world.store.inbox("mother", ID) == []
