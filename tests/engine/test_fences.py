"""Fences: a task belongs to the commit that stored its timer or attempt. The tasks of a commit that failed do nothing,
so each attempt of an activity runs once if there is no fault."""

from __future__ import annotations

import asyncio
import random
from asyncio import ensure_future
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from cloud_adapter.engine.operations import Pause, Unpause
from cloud_adapter.engine.task_handler import Outcome
from cloud_adapter.engine.tasks import ACTIVITY_PATH, RESUME_PATH, TIMEOUT_PATH, ActivityTask, TimeoutTask
from cloud_adapter.ports import Task
from tests.engine.harness import ID, Killed, Process, World, in_world, write
from workflow_core import (
    Activity,
    ActivityContext,
    EventNotAccepted,
    ForEach,
    Go,
    On,
    Retry,
    Return,
    S,
    Select,
    Sleep,
    Step,
    While,
    Workflow,
)
from workflow_core.wait_types import ActivityWait, AnyTimedWait

pytestmark = pytest.mark.slow

CALLS: Counter[tuple[str, int]] = Counter()
"""How often each attempt was run, by its idempotency key and its number."""

WORLDS: list[World] = []
"""The world of the test, where an activity takes its time."""

RUNNING: Counter[str] = Counter()
"""How many activities run now, and how many have at most."""

SOON = timedelta(seconds=1)


@pytest.fixture(autouse=True)
def _fresh() -> None:
    CALLS.clear()
    WORLDS.clear()
    RUNNING.clear()


async def work(item: int, context: ActivityContext) -> int:
    """Fails at first for some, and gives signs of life."""
    CALLS[context.idempotency_key, context.attempt] += 1
    RUNNING["now"] += 1
    RUNNING["most"] = max(RUNNING["most"], RUNNING["now"])
    try:
        rng = random.Random(f"{item} {context.attempt}")
        for _ in range(2 if WORLDS else 0):
            await WORLDS[0].clock.sleep(rng.uniform(0, 1))
            await context.heartbeat()
        if context.attempt <= item % 3:
            raise ConnectionError("try again")
    finally:
        RUNNING["now"] -= 1
    return item


class Job(Workflow, name="job"):
    items: list[int] = [0, 3, 6]
    done: list[int] = []
    pokes: int = 0
    log: list[str] = []

    def keep(self, item: int) -> None:
        self.done.append(item)

    def poke(self) -> int:
        self.pokes += 1
        return self.pokes

    definition = S(
        Select("wait", On("Begin", lambda w: None), On("Other", write("other"), Return())),
        Go("beside", While("always", lambda w: w.pokes < 1000, Select("poke", On("Poke", poke)))),
        Go("nap", Sleep("sleep", timedelta(minutes=10)), Step("wake", write("awake"))),
        ForEach(
            "each",
            lambda w: w.items,
            Activity(
                *("work", work),
                then=keep,
                heartbeat=timedelta(minutes=30),
                retry=Retry(max_attempts=5, initial=timedelta(seconds=2)),
            ),
            parallel=True,
            limit=4,
        ),
        Step("after", write("after")),
        Select("end", On("End", lambda w: None)),
    )


def of(world: World, *paths: str) -> list[Task]:
    return [task for task in world.queue.tasks.values() if task.path in paths]


async def lost_and_won(world: World, event: str = "Begin", *, keep: bool = True) -> tuple[list[Task], list[Task]]:
    """Two processes begin at the same time; gives the tasks of the one that has lost, and of the one that has won."""
    await world.create()
    loser, winner = world.start(), world.start()
    lost: list[Task] = []

    async def overtaken() -> None:
        lost.extend(world.queue.tasks.values())
        await winner.post(event)
        if keep:
            raise Killed

    loser.fault("commit", before=overtaken)
    with pytest.raises((Killed, EventNotAccepted)):
        await world.finish(loser.post("Begin"))
    return lost, [task for task in world.queue.tasks.values() if task not in lost]


# --- a commit that has lost ------------------------------------------------------------------


@pytest.mark.parametrize("order", ["the lost ones first", "the lost ones last"])
@in_world(Job)
async def test_the_tasks_of_a_commit_that_has_lost_do_nothing(world: World, order: str) -> None:
    lost, won = await lost_and_won(world)
    assert [task.path for task in lost] == [task.path for task in won]
    assert {task.path for task in lost} == {TIMEOUT_PATH, ACTIVITY_PATH}
    assert not {task.name for task in lost} & {task.name for task in won}

    async def deliver_lost() -> None:
        before = await world.instance()
        called, created = CALLS.copy(), len(world.queue.created)
        await world.clock.advance(0.1)
        for task in lost:
            with world.process.calls() as calls:
                assert await world.process.deliver(task) is Outcome.DONE
            assert calls == ["load"]
        assert (called, created) == (CALLS, len(world.queue.created))
        assert await world.instance() == before

    if order == "the lost ones first":
        await deliver_lost()
    await world.pass_time(timedelta(minutes=1))
    if order == "the lost ones last":
        await deliver_lost()
    assert sorted((await world.fields()).done) == [0, 3, 6]
    assert set(CALLS.values()) == {1}
    await world.pass_time(timedelta(hours=1))
    assert (await world.fields()).log == ["after", "awake"]
    assert world.queue.tasks == {}


@in_world(Job)
async def test_a_timer_of_a_commit_that_has_lost_does_nothing_at_its_time_either(world: World) -> None:
    lost, _ = await lost_and_won(world)
    timers = [task for task in lost if task.path == TIMEOUT_PATH]
    assert len(timers) == 2, "of the sleep, and of all attempts"
    world.queue.tasks.clear()
    await world.clock.advance(timedelta(hours=2).total_seconds())
    before, created = await world.instance(), len(world.queue.created)
    for task in timers:
        assert await world.process.perform(task) is Outcome.DONE
    assert await world.instance() == before
    assert len(world.queue.created) == created
    assert world.queue.tasks == {}


@in_world(Job)
async def test_the_tasks_of_a_commit_that_has_lost_to_another_way_do_nothing(world: World) -> None:
    """The winner has gone where nothing is waited for."""
    lost, won = await lost_and_won(world, "Other")
    assert won == []
    assert (await world.instance()).execution.status == "finished"
    before = await world.instance()
    for task in lost:
        # Their commit counts more moves than the winner's: it might still land.
        assert await world.process.deliver(task) is Outcome.NOT_YET
    await world.clock.advance(timedelta(minutes=10).total_seconds())
    await world.pass_time(timedelta(minutes=1))
    assert not CALLS
    assert world.queue.tasks == {}
    assert await world.instance() == before


@in_world(Job)
async def test_the_tasks_of_a_commit_that_has_surely_failed_are_deleted(world: World) -> None:
    lost, won = await lost_and_won(world, keep=False)
    assert len(lost) == len(won) == 5
    assert set(world.queue.deleted) == {task.name for task in lost}
    assert list(world.queue.tasks.values()) == won
    await world.pass_time(timedelta(minutes=1))
    assert set(CALLS.values()) == {1}


@in_world(Job)
async def test_the_tasks_of_a_commit_whose_key_was_recorded_are_deleted(world: World) -> None:
    await world.create()
    one, two = world.start(), world.start()
    one.fault("commit", before=lambda: two.post("Begin", key="k"))
    assert await one.send("Begin", key="k") is None
    assert len(world.queue.deleted) == 5
    assert len(world.queue.tasks) == 5
    await world.pass_time(timedelta(minutes=1))
    assert sorted((await world.fields()).done) == [0, 3, 6]
    assert set(CALLS.values()) == {1}


@pytest.mark.parametrize("applied", [True, False])
@in_world(Job)
async def test_the_tasks_of_a_commit_of_which_nobody_knows_are_kept(world: World, applied: bool) -> None:
    await world.create()
    process = world.start()
    process.unavailable("commit", applied=applied)
    for nth in range(2, 9):
        process.unavailable("load", nth, applied=False)
    with pytest.raises(Exception, match="cut"):
        await process.send("Begin")
    assert world.queue.deleted == []
    assert len(world.queue.tasks) == 5
    if not applied:
        assert await world.send("Begin") is None
    await world.pass_time(timedelta(minutes=1))
    assert sorted((await world.fields()).done) == [0, 3, 6]
    assert set(CALLS.values()) == {1}


class Bake(Workflow, name="bake"):
    log: list[str] = []
    definition = S(
        Select("wait", On("Begin", write("begin"))),
        Step("bake", write("baked")),
        Select("end", On("End", write("end"))),
    )


async def overtaken(world: World) -> None:
    """A process is killed when it would commit an event, after another one has committed it: each has made a resume."""
    await world.create()
    loser, winner = world.start(), world.start()

    async def other_first() -> None:
        await winner.post("Begin")
        raise Killed

    loser.fault("commit", before=other_first)
    with pytest.raises(Killed):
        await world.finish(loser.post("Begin"))


@in_world(Bake)
async def test_the_resume_of_a_commit_that_has_lost_does_nothing_once_the_other_s_has_run(world: World) -> None:
    await overtaken(world)
    one, two = world.queue.resumes
    assert await world.process.deliver(two) is Outcome.DONE
    with world.process.calls() as calls:
        assert await world.process.deliver(one) is Outcome.DONE
    assert calls == ["load"]
    assert (await world.fields()).log == ["begin", "baked"]
    assert world.queue.tasks == {}


@in_world(Bake)
async def test_the_resumes_of_both_commits_at_the_same_time_run_a_step_once(world: World) -> None:
    await overtaken(world)
    processes = [world.start(), world.start()]
    running = [process.perform(task) for process, task in zip(processes, world.queue.resumes, strict=True)]
    assert await world.finish(asyncio.gather(*running)) == [Outcome.DONE] * 2
    assert (await world.fields()).log == ["begin", "baked"]


# --- each attempt once -----------------------------------------------------------------------


async def drive(world: World, processes: list[Process], rng: random.Random, *, duplicates: float = 0) -> None:
    """Delivers what is due by processes at random, many at a time and in no order, until nothing is left to do.

    Args:
        duplicates: how often a task is delivered a second time, after it was acknowledged.
    """
    running: dict[str, tuple[Task, asyncio.Task[Outcome]]] = {}
    late: list[asyncio.Task[Outcome]] = []
    for _ in range(4_000):
        due = [task for task in world.queue.tasks.values() if task.at is None or task.at <= world.now]
        due = [task for task in due if task.name not in running]
        for task in rng.sample(due, min(len(due), rng.randint(0, 6))):
            running[task.name] = task, ensure_future(rng.choice(processes).perform(task))
        await world.clock.advance(rng.choice([0, 0.05, 0.3, 1]))
        for name, (task, delivery) in list(running.items()):
            if delivery.done():
                del running[name]
                if delivery.result() is Outcome.DONE:
                    world.queue.tasks.pop(name, None)
                    if rng.random() < duplicates:
                        late.append(ensure_future(rng.choice(processes).perform(task)))
                elif name in world.queue.tasks:
                    world.queue.tasks[name] = replace(task, at=world.now + SOON)
        if not running and not world.queue.tasks and all(delivery.done() for delivery in late):
            break
    assert not running
    assert world.queue.tasks == {}
    assert {delivery.result() for delivery in late} <= {Outcome.DONE}


def check_calls(items: list[int]) -> None:
    """Each attempt has run once, as many as each item needs, and no more at a time than may."""
    assert set(CALLS.values()) == {1}
    attempts = Counter(key for key, _ in CALLS)
    assert sorted(attempts.values()) == sorted(item % 3 + 1 for item in items)
    assert RUNNING["now"] == 0
    assert RUNNING["most"] <= 4, "the limit of the loop"


@pytest.mark.parametrize("seed", range(30))
@pytest.mark.parametrize("count", [1, 2, 4])
@in_world(Job)
async def test_each_attempt_runs_once(world: World, count: int, seed: int) -> None:
    rng = random.Random(seed * 10 + count)
    WORLDS.append(world)
    items = list(range(rng.randint(1, 12)))
    await world.create(items=items)
    await world.send("Begin")
    await drive(world, [world.start() for _ in range(count)], rng)
    fields = await world.fields()
    assert sorted(fields.done) == items
    assert sorted(fields.log) == ["after", "awake"]
    check_calls(items)
    assert Counter(await world.history("activity"))["activity", "work"] <= len(items)
    assert asyncio.all_tasks() == {asyncio.current_task()}


@pytest.mark.parametrize("seed", range(15))
@in_world(Job)
async def test_each_attempt_runs_once_while_many_events_are_sent(world: World, seed: int) -> None:
    """The commits of two processes, each with its own tasks, conflict all the time."""
    rng = random.Random(seed)
    WORLDS.append(world)
    commit = world.store.commit

    async def slowly(*args: Any, **kwargs: Any) -> Any:
        await world.clock.sleep(rng.uniform(0, 0.2))
        return await commit(*args, **kwargs)

    items = list(range(10))
    await world.create(items=items)
    await world.send("Begin")
    world.store.commit = slowly  # type: ignore[method-assign]
    processes = [world.start(), world.start()]
    answers: list[bytes] = []

    async def poke(process: Process) -> None:
        for _ in range(20):
            answers.append(await process.post("Poke"))
            await world.clock.sleep(rng.uniform(0, 0.5))

    poking = [ensure_future(poke(process)) for process in processes]
    await drive(world, processes, rng)
    await world.finish(asyncio.gather(*poking))
    assert sorted(int(answer) for answer in answers) == list(range(1, 41))
    assert sorted((await world.fields()).done) == items
    check_calls(items)


@pytest.mark.parametrize("seed", range(15))
@in_world(Job)
async def test_deliveries_made_twice_of_attempts_that_are_over_do_nothing(world: World, seed: int) -> None:
    rng = random.Random(seed)
    WORLDS.append(world)
    items = list(range(8))
    await world.create(items=items)
    await world.send("Begin")
    processes = [world.start(), world.start()]
    await drive(world, processes, rng, duplicates=0.5)
    check_calls(items)
    before, created = await world.instance(), len(world.queue.created)
    again = [task for task in world.queue.created if task.path != RESUME_PATH]
    rng.shuffle(again)
    for task in again:
        assert await rng.choice(processes).perform(task) is Outcome.DONE
    check_calls(items)
    assert await world.instance() == before
    assert [task.path for task in world.queue.created[created:] if task.path in (ACTIVITY_PATH, TIMEOUT_PATH)] == []


@in_world(Job)
async def test_a_task_that_comes_twice_after_its_attempt_has_failed_does_nothing(world: World) -> None:
    await world.create(items=[2])
    await world.send("Begin")
    (first,) = of(world, ACTIVITY_PATH)
    assert await world.process.deliver(first) is Outcome.DONE
    with world.process.calls() as calls:
        assert await world.process.perform(first) is Outcome.DONE
    assert calls == ["load"]
    (second,) = of(world, ACTIVITY_PATH)
    assert second.body["attempt"] == 1
    for _ in range(2):
        # Too early: it makes one task for its time, however often it comes.
        assert await world.process.perform(second) is Outcome.DONE
    assert len(of(world, ACTIVITY_PATH)) == 2
    await world.pass_time(timedelta(minutes=1))
    check_calls([2])
    assert (await world.fields()).done == [2]


@pytest.mark.parametrize("seed", range(10))
@in_world(Job)
async def test_after_a_pause_each_attempt_runs_once(world: World, seed: int) -> None:
    rng = random.Random(seed)
    items = list(range(9))
    await world.create(items=items)
    await world.send("Begin")
    processes = [world.start(), world.start()]
    for task in rng.sample(of(world, ACTIVITY_PATH), 2):
        await rng.choice(processes).deliver(task)
    for _ in range(rng.randint(1, 3)):
        await world.finish(rng.choice(processes).engine.operate("job", ID, Pause()))
        called = sum(CALLS.values())
        for task in rng.sample(of(world, ACTIVITY_PATH, TIMEOUT_PATH), 2):
            assert await rng.choice(processes).perform(task) is Outcome.DONE
        await world.clock.advance(rng.uniform(0, 10))
        assert sum(CALLS.values()) == called
        await world.finish(rng.choice(processes).engine.operate("job", ID, Unpause()))
    await drive(world, processes, rng)
    assert sorted((await world.fields()).done) == items
    check_calls(items)


@in_world(Job)
async def test_heartbeats_leave_the_fence_as_it_is(world: World) -> None:
    WORLDS.append(world)
    await world.create(items=[0])
    await world.send("Begin")
    (task,) = of(world, ACTIVITY_PATH)
    fences = await setup_data(world)
    running = ensure_future(world.process.perform(task))
    while not running.done():
        await world.clock.advance(0.1)
        assert (await setup_data(world)).items() <= fences.items()
    assert (await world.fields()).done == [0]
    check_calls([0])


async def setup_data(world: World) -> dict[str, Any]:
    """The fences of the timers and activities that are waited for."""
    threads = (await world.instance()).execution.threads
    return {wait.id: wait.task for thread in threads for wait in thread.waits if isinstance(wait, AnyTimedWait)}


# --- what the release before has stored ------------------------------------------------------


async def made_old(world: World) -> None:
    """Gives an instance the form that it had in the release before: there, the name of the task of a timer was stored,
    and tasks had no fence."""
    instance = await world.instance()
    world.queue.purge()
    for thread in instance.execution.threads:
        for wait in thread.waits:
            if not isinstance(wait, AnyTimedWait):
                continue
            timer = without_fence(TimeoutTask.of(instance.execution, wait, world.now).task("old", wait.deadline))
            await world.queue.create(timer)
            wait.task = timer.name
            assert len(timer.name) == 32
            if isinstance(wait, ActivityWait):
                activity = ActivityTask.of(instance.execution, wait, world.now)
                await world.queue.create(without_fence(activity.task("old", wait.retry_at)))
    await world.store.commit(replace(instance, tokens=(*instance.tokens, "old")))


def without_fence(task: Task) -> Task:
    return replace(task, body={name: value for name, value in task.body.items() if name != "fence"})


@in_world(Job)
async def test_what_the_release_before_has_stored_moves_on(world: World) -> None:
    items = list(range(6))
    await world.create(items=items)
    await world.send("Begin")
    await made_old(world)
    await world.pass_time(timedelta(minutes=2))
    assert sorted((await world.fields()).done) == items
    check_calls(items)
    await world.pass_time(timedelta(minutes=10))
    assert (await world.fields()).log == ["after", "awake"]
    assert world.queue.tasks == {}


@in_world(Job)
async def test_an_attempt_of_the_release_before_that_is_tried_again(world: World) -> None:
    await world.create(items=[1])
    await world.send("Begin")
    (task,) = of(world, ACTIVITY_PATH)
    await world.process.deliver(task)
    await made_old(world)
    await world.pass_time(timedelta(minutes=1))
    assert (await world.fields()).done == [1]
    check_calls([1])


@in_world(Job)
async def test_a_deadline_of_the_release_before_ends_its_attempt(world: World) -> None:
    await world.create(items=[0])
    await world.send("Begin")
    await made_old(world)
    for task in of(world, ACTIVITY_PATH):
        world.queue.tasks.pop(task.name)
    await world.pass_time(timedelta(minutes=31))
    assert await world.history("activity failed") == [("activity failed", "work")]
    await world.pass_time(timedelta(minutes=1))
    assert (await world.fields()).done == [0]


@in_world(Job)
async def test_a_timer_of_the_release_before_is_deleted_under_its_name(world: World) -> None:
    await world.create(items=[0])
    await world.send("Begin")
    await made_old(world)
    names = {task.name for task in of(world, TIMEOUT_PATH) if task.body["event"] == "work"}
    world.queue.deleted.clear()
    (task,) = of(world, ACTIVITY_PATH)
    await world.process.deliver(task)
    assert set(world.queue.deleted) == names


@in_world(Job)
async def test_recovery_of_what_the_release_before_has_stored(world: World) -> None:
    await world.create(items=[0])
    await world.send("Begin")
    await made_old(world)
    world.queue.purge()
    await world.clock.advance(timedelta(hours=1).total_seconds())
    assert await world.finish(world.process.engine.recover()) == 1
    await world.pass_time(timedelta(minutes=1))
    assert (await world.fields()).done == [0]
    assert (await world.fields()).log == ["awake", "after"]


def test_tasks_of_two_commits_that_are_put_off_to_the_same_moment_do_not_replace_each_other() -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    common = {"workflow": "job", "id": ID, "pc": 3, "created_at": now, "wait_id": "", "event": ""}
    ours, theirs = (TimeoutTask.model_validate(common | {"fence": letter * 16}) for letter in "ab")
    names = [task.later(now, now, 7).name for task in (ours, theirs, ours)]
    assert names[0] != names[1]
    assert names[0] == names[2]
