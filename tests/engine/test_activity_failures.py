"""Failed attempts of activities: under which policy they are tried again, until when they last, and who is told."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from typing import Any

import pytest

from cloud_adapter.engine.operations import Pause, Unpause
from cloud_adapter.engine.refs import InstanceRef
from cloud_adapter.engine.task_handler import Outcome
from cloud_adapter.engine.tasks import ACTIVITY_PATH
from cloud_adapter.options import EngineOptions
from cloud_adapter.ports import Task
from tests.engine.harness import ID, Gate, World, article, in_world, nothing
from tests.waits import the
from workflow_core import Activity, ActivityContext, AttemptOver, On, Retry, S, Select, TimedOut, Workflow
from workflow_core.wait_types import ActivityWait

GATE = Gate()
MINUTE = timedelta(minutes=1)
RAISED: list[Exception] = []
OVER: list[int] = []
"""The numbers of the attempts that were told that they are over."""


@pytest.fixture(autouse=True)
def _fresh() -> None:
    RAISED.clear()
    OVER.clear()
    HELD.clear()
    FAILS.clear()


def activities(world: World) -> list[Task]:
    return [task for task in world.queue.tasks.values() if task.path == ACTIVITY_PATH]


async def waits(world: World) -> ActivityWait:
    """The stored wait for the activity."""
    return the(ActivityWait, (await world.instance()).execution.threads[0].waits)


# --- the policy ------------------------------------------------------------------------------


def seconds(*numbers: float) -> list[timedelta]:
    return [timedelta(seconds=number) for number in numbers]


OWN = Retry(max_attempts=2, initial=timedelta(seconds=3))
OF_CLASS = Retry(max_attempts=3, initial=timedelta(seconds=20))
OF_ENGINE = Retry(max_attempts=4, initial=timedelta(seconds=100), max_delay=timedelta(seconds=150))


def ring() -> None:
    if RAISED:
        raise RAISED.pop()


def calling(own: Retry | None, of_class: Retry | None) -> type[Workflow]:
    class Call(Workflow, name="call"):
        log: list[str] = []
        default_retry = of_class
        definition = S(Activity("ring", ring, retry=own, timeout=MINUTE), Select("end", On("End", nothing)))

    return Call


@pytest.mark.parametrize("how", ["raises", "is silent", "raises at first"])
@pytest.mark.parametrize(
    ("own", "of_class", "delays"),
    [
        (OWN, None, seconds(3)),
        (OWN, OF_CLASS, seconds(3)),
        (None, OF_CLASS, seconds(20, 40)),
        (None, None, seconds(100, 150, 150)),
    ],
)
@in_world(calling(None, None), options=EngineOptions(retry=OF_ENGINE))
async def test_the_policy_is_the_activity_s_else_the_class_s_else_the_engine_s(
    world: World, own: Retry | None, of_class: Retry | None, delays: list[timedelta], how: str
) -> None:
    world.process = world.start(calling(own, of_class))
    await world.create()
    for number, delay in enumerate([*delays, None], 1):
        await _fail(world, silently=how == "is silent" or (how == "raises at first" and number > 1))
        assert await world.history("activity failed") == [("activity failed", "ring")] * number
        if delay is not None:
            wait = await waits(world)
            assert (wait.attempt, wait.retry_at) == (number, world.now + delay)
            assert wait.deadline == world.now + delay + MINUTE
    execution = (await world.instance()).execution
    assert execution.status == "failed"
    assert execution.error is not None
    assert (execution.error.type, execution.error.statement) == ("OSError" if how == "raises" else "TimedOut", "ring")
    assert world.queue.tasks == {}


async def _fail(world: World, *, silently: bool) -> None:
    """Lets the attempt that is scheduled fail at its time, or end without a word at its deadline."""
    (task,) = activities(world)
    if silently:
        del world.queue.tasks[task.name]
        (timer,) = world.queue.timers
        assert timer.at is not None
        await world.clock.advance_to(timer.at)
        assert await world.process.deliver(timer) is Outcome.DONE
    else:
        await world.clock.advance_to(max(world.now, task.at or world.now))
        RAISED.append(OSError("no line"))
        assert await world.process.deliver(task) is Outcome.DONE


# --- what an attempt raises at its end -------------------------------------------------------


async def give_up(_: None, context: ActivityContext) -> str:
    await GATE.wait()
    if context.attempt == 1:
        raise TimedOut("the other side took too long")
    return f"attempt {context.attempt}"


def heard(workflow: Any, text: str) -> None:
    workflow.log.append(text)


PATIENT = article(
    Activity("ask", give_up, then=heard, timeout=MINUTE, retry=OWN),
    Select("end", On("End", nothing)),
)


@in_world(PATIENT)
async def test_an_activity_that_itself_raises_that_its_time_is_over_has_failed(world: World) -> None:
    await world.create()
    running = asyncio.ensure_future(world.process.perform(activities(world)[0]))
    await world.clock.settle()
    await world.clock.advance(59)
    GATE.open()
    assert await world.finish(running) is Outcome.DONE
    wait = await waits(world)
    assert (wait.attempt, wait.error) == (1, "TimedOut: the other side took too long")
    assert wait.retry_at == world.now + timedelta(seconds=3)


# --- deadlines after a pause -----------------------------------------------------------------


async def operate(world: World, *operations: Any) -> None:
    for operation in operations:
        await world.finish(world.process.engine.operate(world.name, ID, operation))


DIALING = article(
    Activity("ring", ring, timeout=MINUTE, retry=Retry(max_attempts=2, initial=timedelta(minutes=5))),
    Select("end", On("End", nothing)),
)  # fmt: skip


@pytest.mark.parametrize("paused_at", [0, 2])
@pytest.mark.parametrize("minutes", [3, 5, 7])
@in_world(DIALING)
async def test_an_attempt_that_is_put_off_has_its_whole_time_after_a_pause(
    world: World, minutes: int, paused_at: int
) -> None:
    """Its deadline counts from when it is due: at its time, or at the end of the pause, whichever is later."""
    RAISED.append(OSError("no line"))
    await world.started()
    retry_at = world.now + timedelta(minutes=5)
    unpaused_at = world.now + timedelta(minutes=minutes)
    await world.pass_time(timedelta(minutes=paused_at))
    await operate(world, Pause())
    await world.pass_time(unpaused_at - world.now)
    assert (await world.instance()).wake_at is None
    await operate(world, Unpause())
    wait = await waits(world)
    assert (wait.attempt, wait.error) == (1, "OSError: no line")
    assert wait.deadline == max(retry_at, unpaused_at) + MINUTE
    instance = await world.instance()
    assert instance.wake_at == wait.deadline
    (deadline,) = [task for task in world.queue.timers if task.body["fence"] == wait.task]
    assert deadline.at == wait.deadline
    # Its task of before the pause may still come: it does nothing, and the new one comes at its time.
    await world.pass_time(max(retry_at, unpaused_at) - world.now)
    assert await world.history("activity") == [("activity", "ring")]
    assert (await world.instance()).execution.threads[0].step == "end"
    await world.pass_time(timedelta(hours=1))
    assert await world.history("activity", "activity failed") == [("activity failed", "ring"), ("activity", "ring")]
    assert world.queue.tasks == {}


# --- heartbeats ------------------------------------------------------------------------------

BEAT = timedelta(seconds=30)


async def pump(_: None, context: ActivityContext) -> str:
    try:
        while True:
            await GATE.wait()
            await context.heartbeat()
            if RAISED:
                return f"done by attempt {context.attempt}"
    except (AttemptOver, asyncio.CancelledError):
        OVER.append(context.attempt)
        raise


class Pump(Workflow, name="pump"):
    log: list[str] = []
    default_retry = Retry(max_attempts=2, initial=MINUTE)
    definition = S(Activity("pump", pump, then=heard, heartbeat=BEAT), Select("end", On("End", nothing)))


async def running(world: World) -> asyncio.Task[Outcome]:
    """Begins the attempt that is scheduled."""
    (task,) = activities(world)
    attempt = asyncio.ensure_future(world.process.perform(task))
    del world.queue.tasks[task.name]
    await world.clock.settle()
    return attempt


async def beat(world: World, times: int, every: float) -> datetime:
    """Lets a running attempt send heartbeats; gives the time of the last one. The tasks that come due are delivered."""
    for _ in range(times):
        await world.pass_time(timedelta(seconds=every))
        GATE.open()
        await world.clock.settle()
    return world.now


@in_world(Pump)
async def test_with_heartbeats_an_attempt_lasts_as_long_as_it_needs(world: World) -> None:
    await world.create()
    assert [task.deadline for task in activities(world)] == [timedelta(days=1)], "no limit of ten minutes"
    attempt = await running(world)
    begin = world.now
    last = await beat(world, 50, every=29)
    assert last - begin > timedelta(minutes=20)
    assert (await waits(world)).deadline == last + BEAT
    assert await world.history("activity failed") == []
    RAISED.append(OSError())
    GATE.open()
    assert await world.finish(attempt) is Outcome.DONE
    assert (await world.fields()).log == ["done by attempt 1"]
    await world.pass_time(timedelta(hours=1))
    assert world.queue.tasks == {}


@in_world(Pump)
async def test_an_attempt_whose_heartbeats_end_is_tried_again_under_the_policy_of_its_class(world: World) -> None:
    await world.create()
    first = await running(world)
    last = await beat(world, 30, every=25)
    await world.pass_time(BEAT)
    wait = await waits(world)
    assert world.now == last + BEAT
    assert (wait.attempt, wait.retry_at, wait.deadline) == (1, world.now + MINUTE, world.now + MINUTE + BEAT)
    assert [(task.at, task.deadline) for task in activities(world)] == [(world.now + MINUTE, timedelta(days=1))]
    assert await world.finish(first) is Outcome.DONE
    assert (OVER, (await waits(world)).attempt) == ([1], 1)
    await world.clock.advance(60)
    second = await running(world)
    await beat(world, 30, every=25)
    RAISED.append(OSError())
    GATE.open()
    assert await world.finish(second) is Outcome.DONE
    assert (await world.fields()).log == ["done by attempt 2"]


@in_world(Pump)
async def test_an_attempt_is_told_in_a_pause_that_it_is_over_and_begins_anew_after_it(world: World) -> None:
    await world.create()
    first = await running(world)
    await beat(world, 30, every=25)
    await operate(world, Pause())
    GATE.open()
    assert await world.finish(first) is Outcome.DONE
    assert OVER == [1]
    await world.pass_time(timedelta(hours=1))
    await operate(world, Unpause())
    wait = await waits(world)
    assert (wait.attempt, wait.error, wait.deadline) == (0, None, world.now + BEAT)
    assert [task.deadline for task in activities(world)] == [timedelta(days=1)]
    second = await running(world)
    last = await beat(world, 30, every=25)
    assert (await waits(world)).deadline == last + BEAT
    RAISED.append(OSError())
    GATE.open()
    assert await world.finish(second) is Outcome.DONE
    assert (await world.fields()).log == ["done by attempt 1"]
    assert await world.history("activity failed") == []


@in_world(Pump)
async def test_an_attempt_that_outlives_a_pause_goes_on(world: World) -> None:
    """Its result counts as that of the attempt that was scheduled anew, whichever comes first."""
    await world.create()
    first = await running(world)
    await beat(world, 2, every=25)
    await operate(world, Pause(), Unpause())
    second = await running(world)
    gate = GATE.event
    assert gate is not None
    RAISED.append(OSError())
    gate.set()
    assert await world.finish(second) is Outcome.DONE
    assert (await world.fields()).log == ["done by attempt 1"]
    before = await world.instance()
    first.cancel()
    await world.pass_time(timedelta(hours=1))
    assert await world.instance() == before
    assert world.queue.tasks == {}


# --- late results ----------------------------------------------------------------------------

HELD: dict[int, asyncio.Event] = {}
FAILS: set[int] = set()


async def linger(_: None, context: ActivityContext) -> str:
    """Runs until the test releases the attempt, without a heartbeat: nobody interrupts it."""
    HELD[context.attempt] = asyncio.Event()
    await HELD[context.attempt].wait()
    if context.attempt in FAILS:
        raise OSError(f"attempt {context.attempt} has failed")
    return f"attempt {context.attempt}"


LINGERING = article(
    Activity("linger", linger, then=heard, heartbeat=BEAT, retry=Retry(max_attempts=3, initial=MINUTE)),
    Select("end", On("End", nothing)),
)


@pytest.mark.parametrize("posted", [False, True])
@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("when", ["before the next attempt", "during the next attempt", "after the next attempt"])
@in_world(LINGERING)
async def test_the_result_of_an_attempt_that_is_over_changes_nothing(
    world: World, when: str, fails: bool, posted: bool
) -> None:
    await world.create()
    first = await running(world)
    await world.pass_time(BEAT)
    assert (await waits(world)).attempt == 1
    second = None
    if when != "before the next attempt":
        await world.clock.advance(60)
        second = await running(world)
        assert sorted(HELD) == [1, 2]
    if when == "after the next attempt":
        assert second is not None
        HELD[2].set()
        assert await world.finish(second) is Outcome.DONE
    before = await world.instance()
    FAILS.update([1] if fails else [])
    if posted:
        world.process.engine.lanes.met_others(InstanceRef(LINGERING, ID))
    HELD[1].set()
    assert await world.finish(first) is Outcome.DONE
    await world.pass_time(timedelta(seconds=10))
    assert await world.store.inbox("article", ID) == []
    assert await world.instance() == before
    if when != "after the next attempt":
        if second is None:
            await world.clock.advance(50)
            second = await running(world)
        HELD[2].set()
        assert await world.finish(second) is Outcome.DONE
    assert (await world.fields()).log == ["attempt 2"]
    assert await world.history("activity", "activity failed") == [("activity failed", "linger"), ("activity", "linger")]
    await world.pass_time(timedelta(hours=1))
    assert world.queue.tasks == {}
