"""Several timeouts of one instance: of one select, of several threads, at the same time, and beyond the horizon.

Each has its own task, and each is found again if its task was lost.
"""

from __future__ import annotations

import asyncio
from asyncio import ensure_future
from datetime import timedelta
from typing import Any

import pytest

from cloud_adapter.engine.task_handler import Outcome
from cloud_adapter.engine.tasks import ACTIVITY_PATH, TimeoutTask
from cloud_adapter.ports import Task
from gorchestrate.testing.clock import START
from tests.engine.harness import Gate, Process, World, in_world, nothing, write
from workflow_core import Activity, Go, On, Retry, S, Select, Step, Timeout, While, Workflow

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
GATE = Gate()


class Reminder(Workflow, name="reminder"):
    """A select with two timeouts. The first one does not end the wait for good."""

    log: list[str] = []
    first: float = 1
    second: float = 2

    definition = S(
        While(
            "waiting",
            lambda w: len(w.log) < 3,
            Select(
                "answer",
                On("Answer", write("answer")),
                Timeout("remind", lambda w: timedelta(days=w.first), Step("send reminder", write("reminder"))),
                Timeout("give up", lambda w: timedelta(days=w.second), Step("close", write("closed"))),
            ),
        ),
    )


class Alarms(Workflow, name="alarms"):
    """Three threads with a timer each, beside a step."""

    log: list[str] = []
    hours: dict[str, int] = {"a": 1, "b": 2, "c": 3}

    async def work(self) -> None:
        await GATE.wait()

    definition = S(
        *(
            Go(name, Select(f"wait {name}", Timeout(f"alarm {name}", lambda w, name=name: w.hours[name] * HOUR)))
            for name in "abc"
        ),
        Select("start", On("Work", lambda w: None)),
        Step("work", work),
        Select("end", On("End", lambda w: None)),
    )


def by_event(world: World) -> dict[str, Task]:
    return {task.body["event"]: task for task in world.queue.timers}


async def recover(world: World, process: Process | None = None, **kwargs: Any) -> int:
    count: int = await world.finish((process or world.start()).engine.recover(**kwargs))
    return count


# --- of one select ---------------------------------------------------------------------------


@pytest.mark.parametrize(("first", "second", "expected"), [(1, 2, "reminder"), (2, 1, "closed")])
@in_world(Reminder)
async def test_the_first_of_two_timeouts_of_a_select_happens(
    world: World, first: float, second: float, expected: str
) -> None:
    await world.create(first=first, second=second)
    tasks = by_event(world)
    assert {event: task.at for event, task in tasks.items()} == {
        "remind": world.now + first * DAY,
        "give up": world.now + second * DAY,
    }
    await world.pass_time(DAY)
    assert (await world.fields()).log == [expected]
    assert set(world.queue.deleted) == {task.name for task in tasks.values()} - {
        min(tasks.values(), key=lambda task: task.at or world.now).name
    }
    # The round after it has two tasks again.
    assert len(world.queue.timers) == 2
    await world.pass_time(2 * DAY)
    assert (await world.fields()).log == [expected] * 3
    assert world.queue.tasks == {}


@pytest.mark.parametrize("order", [("remind", "give up"), ("give up", "remind")])
@in_world(Reminder)
async def test_of_two_timeouts_of_a_select_at_the_same_time_one_happens(world: World, order: tuple[str, str]) -> None:
    await world.create(first=1, second=1)
    tasks = by_event(world)
    assert len({task.name for task in tasks.values()}) == 2
    await world.clock.advance_to(world.now + DAY)
    for event in order:
        assert await world.process.perform(tasks[event]) is Outcome.DONE
    assert await world.history("timeout") == [("timeout", order[0])]


@in_world(Reminder)
async def test_two_timeouts_of_a_select_beyond_the_horizon_are_put_off_each_for_itself(world: World) -> None:
    """Both stop at the same time, in the same state."""
    await world.create(first=100, second=90)
    due = world.now + 90 * DAY
    while world.now < due:
        tasks = by_event(world)
        assert set(tasks) == {"remind", "give up"}
        at = min(task.at for task in tasks.values() if task.at is not None)
        await world.clock.advance_to(at)
        await world.deliver()
    assert await world.history("timeout") == [("timeout", "give up")]
    assert (await world.fields()).log == ["closed"]


@in_world(Reminder)
async def test_two_timeouts_of_a_select_that_come_early_are_put_off_each_for_itself(world: World) -> None:
    await world.create(first=1, second=1)
    await world.clock.advance_to(world.now + DAY - timedelta(seconds=1))
    for task in by_event(world).values():
        assert await world.process.deliver(task) is Outcome.DONE
    assert set(by_event(world)) == {"remind", "give up"}


@in_world(Alarms)
async def test_an_early_timer_is_put_off_anew_in_another_state(world: World) -> None:
    """The task that was created in the first one may have come and gone by then."""
    await world.create()
    alarm = by_event(world)["alarm a"]
    await world.clock.advance_to(world.now + HOUR - timedelta(seconds=1))
    assert await world.process.perform(alarm) is Outcome.DONE
    (first,) = [task for task in world.queue.timers if task.body["again"] == 1]
    assert await world.process.perform(alarm) is Outcome.DONE
    assert len(world.queue.timers) == 4, "the same task in the same state"
    await world.send("Work")
    world.queue.tasks.pop(first.name)
    assert await world.process.perform(alarm) is Outcome.DONE
    (second,) = [task for task in world.queue.timers if task.body["again"] == 1]
    assert (second.at, second.name != first.name) == (alarm.at, True)


@in_world(Reminder)
async def test_both_timeouts_of_a_select_are_recovered(world: World) -> None:
    await world.create(first=2, second=1)
    world.queue.purge()
    await world.clock.advance_to(world.now + 3 * DAY)
    assert await recover(world) == 1
    assert set(by_event(world)) == {"remind", "give up"}
    await world.deliver()
    assert len(await world.history("timeout")) == 1


# --- of several threads ----------------------------------------------------------------------


ALARMS = ["alarm a", "alarm b", "alarm c"]


async def alarms(world: World) -> list[str]:
    return sorted(statement for _, statement in await world.history("timeout"))


@pytest.mark.parametrize("overdue", [1, 2, 3])
@in_world(Alarms)
async def test_all_timers_that_are_overdue_are_recovered_at_once(world: World, overdue: int) -> None:
    await world.create()
    world.queue.purge()
    await world.clock.advance_to(world.now + overdue * HOUR)
    assert await recover(world) == 1
    assert [task.body["event"] for task in world.queue.timers] == ALARMS[:overdue]
    assert all(task.at == world.now for task in world.queue.timers)
    await world.deliver()
    assert await alarms(world) == ALARMS[:overdue]
    assert await recover(world) == 0


@in_world(Alarms)
async def test_timers_of_the_near_future_are_recovered_for_their_own_times(world: World) -> None:
    await world.create()
    begin = world.now
    world.queue.purge()
    await world.clock.advance_to(begin + 1.5 * HOUR)
    assert await recover(world, ahead=0.5 * HOUR) == 1
    assert {task.body["event"]: task.at for task in world.queue.timers} == {
        "alarm a": world.now,
        "alarm b": begin + 2 * HOUR,
    }
    assert world.queue.resumes == []
    await world.pass_time(HOUR)
    assert await alarms(world) == ALARMS[:2]


@pytest.mark.parametrize("is_purged", [True, False])
@in_world(Alarms)
async def test_overdue_timers_beside_an_expired_lease_are_recovered_with_it(world: World, is_purged: bool) -> None:
    await world.create()
    await world.send("Work")
    running = ensure_future(world.process.perform(world.queue.resumes[0]))
    await world.clock.settle()
    world.process.die()
    running.cancel()
    await asyncio.wait([running])
    if is_purged:
        world.queue.purge()
    await world.clock.advance_to(world.now + 2 * HOUR)
    assert await recover(world) == 1
    resuming = ensure_future(world.start().perform(world.queue.resumes[-1]))
    await world.clock.settle()
    GATE.open()
    await world.finish(resuming)
    await world.deliver(world.start())
    assert await alarms(world) == ALARMS[:2]
    assert await world.history("step") == [("step", "work")]
    assert (await world.instance()).lease is None


@in_world(Alarms)
async def test_a_timer_that_happens_leaves_the_tasks_of_the_others_alone(world: World) -> None:
    await world.create()
    others = world.queue.timers[1:]
    await world.clock.advance_to(world.now + HOUR)
    await world.deliver()
    assert world.queue.timers == others
    assert world.queue.deleted == []


@in_world(Alarms)
async def test_timers_at_the_same_time_all_happen(world: World) -> None:
    await world.create(hours={"a": 1, "b": 1, "c": 1})
    assert len({task.name for task in world.queue.timers}) == 3
    await world.pass_time(HOUR)
    assert await alarms(world) == ALARMS


# --- of attempts of activities ---------------------------------------------------------------


def fetch(name: str) -> str:
    return name


class Fetching(Workflow, name="fetching"):
    log: list[str] = []

    definition = S(
        Go("a", Activity("fetch a", fetch, input=lambda w: "a", timeout=2 * HOUR)),
        Go("b", Activity("fetch b", fetch, input=lambda w: "b", timeout=HOUR)),
        Select("end", On("End", lambda w: None), Timeout("too late", DAY)),
    )


@in_world(Fetching)
async def test_the_tasks_of_attempts_and_timeouts_of_one_commit_have_names_of_their_own(world: World) -> None:
    await world.create()
    assert world.queue.refused == []
    paths = sorted((task.path, task.body["event"]) for task in world.queue.tasks.values())
    assert paths == [
        ("/activity", "fetch a"),
        ("/activity", "fetch b"),
        ("/callback/timeout", ""),
        ("/callback/timeout", "too late"),
    ]


@in_world(Fetching)
async def test_deadlines_of_attempts_are_recovered_each_at_its_time(world: World) -> None:
    await world.create()
    begin = world.now
    assert {task.at for task in world.queue.timers} == {begin + HOUR, begin + DAY}, "that of the first to end"
    world.queue.purge()
    await world.clock.advance_to(begin + HOUR)
    assert await recover(world) == 1
    await world.deliver()
    assert await world.history("activity failed") == [("activity failed", "fetch b")]
    world.queue.purge()
    await world.clock.advance_to(begin + 2 * HOUR)
    assert await recover(world) == 1
    await world.deliver()
    failed = await world.history("activity failed")
    assert ("activity failed", "fetch a") in failed


def test_each_part_of_the_identity_of_a_timeout_is_in_the_name_of_its_task() -> None:
    now = START
    body = TimeoutTask(
        workflow="reminder", id="a", pc=3, created_at=now, wait_id="main@1", event="remind", fence="0123456789abcdef"
    )
    others = [
        body.model_copy(update=change)
        for change in (
            {},
            {"workflow": "other"},
            {"id": "b"},
            {"wait_id": "main@2"},
            {"event": "give up"},
        )
    ]
    assert len({other.task("salt", now).name for other in others}) == len(others)
    assert len({other.later(now, now, 3).name for other in others}) == len(others)
    assert len({body.later(now, now, pc).name for pc in (3, 4)}) == 2
    fences = ("0123456789abcdef", "fedcba9876543210")
    assert len({body.model_copy(update={"fence": fence}).later(now, now, 3).name for fence in fences}) == 2
    assert len({body.later(now + timedelta(seconds=second), now, 3).name for second in (0, 1)}) == 2
    assert len({body.model_copy(update={"again": again}).later(now, now, 3).name for again in (0, 1)}) == 2
    assert body.later(now, now, 3).name == body.later(now, now + HOUR, 3).name, "duplicates continue as one"


class Overdue(Workflow, name="overdue"):
    """A timeout and an activity that ends with its attempt, beside a step."""

    log: list[str] = []

    async def work(self) -> None:
        await GATE.wait()

    definition = S(
        Go("timer", Select("pause", Timeout("pause over", MINUTE, Step("wake", write("woken"))))),
        Go("caller", Activity("silent", nothing, timeout=MINUTE, retry=Retry(max_attempts=2, initial=HOUR))),
        Step("work", work),
        Select("end", On("End", lambda w: None)),
    )


@in_world(Overdue)
async def test_timeouts_that_met_a_lease_come_when_it_is_released(world: World) -> None:
    """They were put off until the lease expires, which is later."""
    await world.create()
    (attempt,) = (task for task in world.queue.tasks.values() if task.path == ACTIVITY_PATH)
    del world.queue.tasks[attempt.name]  # so that it times out
    running = ensure_future(world.process.perform(world.queue.resumes[0]))
    await world.clock.advance(60)
    other = world.start()
    for timer in world.queue.timers:
        await other.deliver(timer)
    assert await world.history("timeout", "activity failed") == []
    put_off = {task.name for task in world.queue.timers}
    GATE.open()
    await world.finish(running)
    tasks = [task for task in world.queue.timers if task.name in put_off]
    assert len(tasks) == 2
    assert all(task.at is not None and task.at > world.now + timedelta(seconds=10) for task in tasks)
    await world.deliver()
    over = [("activity failed", "silent"), ("timeout", "pause over")]
    assert sorted(await world.history("timeout", "activity failed")) == over
    await world.pass_time(5 * MINUTE)
    assert sorted(await world.history("timeout", "activity failed")) == over
