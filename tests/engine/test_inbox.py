"""The inbox: results and ends of children are posted to it when other processes write to the instance. They take effect
once, in one commit for all entries of a second."""

from __future__ import annotations

import asyncio
import json
import logging
import random
from asyncio import ensure_future
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from cloud_adapter.clock import CLOCK_SKEW
from cloud_adapter.document import InboxEntry, Lease
from cloud_adapter.engine.engine import Engine
from cloud_adapter.engine.inbox import UNCOLLECTED_AFTER
from cloud_adapter.engine.lanes import CONTENDED_SECONDS
from cloud_adapter.engine.operations import Cancel, Pause, RetryFailed, Unpause
from cloud_adapter.engine.refs import InstanceRef
from cloud_adapter.engine.task_handler import Outcome
from cloud_adapter.engine.tasks import ACTIVITY_PATH, COLLECT_PATH, CollectTask
from cloud_adapter.errors import Busy, Conflict, Unavailable
from cloud_adapter.ports import Task
from tests.engine.harness import (
    ID,
    FaultyQueue,
    FaultyStore,
    Killed,
    Process,
    World,
    check_idle,
    in_world,
    inline,
    write,
)
from workflow_core import (
    Activity,
    ActivityContext,
    Child,
    ErrorInfo,
    Fail,
    ForEach,
    Go,
    If,
    On,
    Retry,
    S,
    Select,
    Step,
    Try,
    While,
    Workflow,
)

CALLS: list[tuple[int, str]] = []
"""The input and the idempotency key of each call of the activity."""

WORLDS: list[World] = []
"""The world of the test, where the activity takes its time."""

ONCE = Retry(max_attempts=1)


@pytest.fixture(autouse=True)
def _fresh() -> None:
    CALLS.clear()
    WORLDS.clear()


async def fetch(number: int, context: ActivityContext) -> int:
    CALLS.append((number, context.idempotency_key))
    if WORLDS:
        await WORLDS[0].clock.sleep(random.Random(f"{number} {context.attempt}").uniform(0, 10))
    return number * 10


class Crawl(Workflow, name="crawl"):
    numbers: list[int] = [1]
    results: list[int] = []
    pokes: int = 0
    log: list[str] = []

    def keep(self, result: int) -> None:
        self.results.append(result)

    def poke(self) -> int:
        self.pokes += 1
        return self.pokes

    definition = S(
        Go("beside", While("poking", lambda w: w.pokes < 1000, Select("poke", On("Poke", poke)))),
        ForEach("each", lambda w: w.numbers, Activity("fetch", fetch, then=keep), parallel=True, limit=500),
        Step("done", write("done")),
        Select("end", On("End", lambda w: None)),
    )


def tasks(world: World, path: str) -> list[Task]:
    return [task for task in world.queue.tasks.values() if task.path == path]


async def entries(world: World, id: str = ID) -> Sequence[InboxEntry]:
    return await world.store.inbox(world.name, id)


def contend(process: Process, id: str = ID) -> None:
    """Lets a process take an instance as one that others commit to as well."""
    process.engine.lanes.met_others(InstanceRef(process.world.workflows[0], id))


async def posted(world: World, process: Process | None = None, **fields: Any) -> Task:
    """An instance whose activities have run, each with its result in the inbox; gives the collecting task."""
    await world.create(**fields)
    for task in tasks(world, ACTIVITY_PATH):
        contend(process or world.process)
        assert await (process or world.process).deliver(task) is Outcome.DONE
    (collect,) = tasks(world, COLLECT_PATH)
    return collect


async def overdue(world: World) -> Task:
    """An activity whose result is in the inbox, at the time of its deadline, which is the one task left; gives it."""
    await posted(world)
    (timer,) = world.queue.timers
    assert timer.at is not None
    world.queue.tasks.clear()
    await world.clock.advance_to(timer.at)
    return timer


async def collected(world: World, collect: Task, process: Process | None = None) -> None:
    """Delivers a collecting task at its time."""
    assert collect.at is not None
    await world.clock.advance_to(max(world.now, collect.at))
    assert await (process or world.process).deliver(collect) is Outcome.DONE


async def all_at_once(world: World, pairs: Sequence[tuple[Process, Task]]) -> list[Any]:
    """Delivers tasks at the same time; gives their outcomes, or what they raised."""
    running = [ensure_future(process.perform(task)) for process, task in pairs]
    outcomes: list[Any] = await world.finish(asyncio.gather(*running, return_exceptions=True))
    for (_, task), outcome in zip(pairs, outcomes, strict=True):
        if outcome is Outcome.DONE:
            world.queue.tasks.pop(task.name, None)
        elif task.name in world.queue.tasks:
            world.queue.tasks[task.name] = replace(task, at=world.now + timedelta(seconds=3))
    return outcomes


# --- how a result comes in -------------------------------------------------------------------


@in_world(Crawl)
async def test_a_result_that_meets_another_process_is_posted_and_collected(world: World) -> None:
    await world.create()
    other = world.start()
    world.process.fault("commit", before=lambda: other.post("Poke"))
    (task,) = tasks(world, ACTIVITY_PATH)
    with world.process.calls() as calls:
        assert await world.process.deliver(task) is Outcome.DONE
    assert calls.count("commit") == 1, "it does not try again at once"
    assert calls[-2:] == ["post", "create_task"], "the entry before its task, both before it is acknowledged"
    assert (await world.fields()).results == []
    (entry,) = await entries(world)
    assert json.loads(entry.body)["kind"] == "result"
    (collect,) = tasks(world, COLLECT_PATH)
    assert collect.at == world.now.replace(microsecond=0) + timedelta(seconds=1)
    await collected(world, collect)
    assert (await world.fields()).results == [10]
    assert await entries(world) == []
    assert len(CALLS) == 1
    check_idle(world.process, other)


@in_world(Crawl)
async def test_while_others_commit_too_results_are_posted_without_an_attempt(world: World) -> None:
    await world.create(numbers=[1, 2])
    other = world.start()
    world.process.fault("commit", before=lambda: other.post("Poke"))
    first, second = tasks(world, ACTIVITY_PATH)
    assert await world.process.deliver(first) is Outcome.DONE
    await world.clock.advance(CONTENDED_SECONDS - 0.1)
    with world.process.calls() as calls:
        assert await world.process.deliver(second) is Outcome.DONE
    assert calls == ["load", "post", "create_task"]
    assert len(await entries(world)) == 2
    await world.pass_time(timedelta(seconds=2))
    assert sorted((await world.fields()).results) == [10, 20]
    check_idle(world.process, other)


@in_world(Crawl)
async def test_after_a_while_results_come_in_at_once_again(world: World) -> None:
    await world.create(numbers=[1, 2])
    other = world.start()
    world.process.fault("commit", before=lambda: other.post("Poke"))
    first, second = tasks(world, ACTIVITY_PATH)
    assert await world.process.deliver(first) is Outcome.DONE
    await world.pass_time(timedelta(seconds=CONTENDED_SECONDS))
    assert await world.process.deliver(second) is Outcome.DONE
    assert sorted((await world.fields()).results) == [10, 20]


@pytest.mark.parametrize("processes", [1, 4])
@in_world(Crawl)
async def test_200_results_at_the_same_time(world: World, processes: int) -> None:
    await world.create(numbers=list(range(200)))
    before = len((await world.instance()).tokens)
    several = [world.start() for _ in range(processes)]
    activities = enumerate(tasks(world, ACTIVITY_PATH))
    pairs = [(several[number % processes], task) for number, task in activities]
    assert set(await all_at_once(world, pairs)) == {Outcome.DONE}
    created = [task for task in world.queue.created if task.path == COLLECT_PATH]
    assert len(created) == (0 if processes == 1 else 1)
    await world.pass_time(timedelta(seconds=2))
    assert sorted((await world.fields()).results) == [number * 10 for number in range(200)]
    assert len(CALLS) == len({key for _, key in CALLS}) == 200
    # One for those of a process that is first, one for the inbox; the rest is of the steps behind.
    steps = 2
    assert len((await world.instance()).tokens) - before <= (2 if processes == 1 else 1 + processes) + steps
    await world.pass_time(timedelta(seconds=30))
    assert (await world.fields()).log == ["done"]
    assert await entries(world) == []
    check_idle(*several)


@pytest.mark.parametrize("seed", range(3))
@in_world(Crawl)
async def test_200_results_in_ten_seconds_from_four_processes(world: World, seed: int) -> None:
    WORLDS.append(world)
    commit = world.store.commit
    committed: list[Any] = []

    async def slowly(*args: Any, **kwargs: Any) -> Any:
        await world.clock.sleep(0.1)
        committed.append(await commit(*args, **kwargs))
        return committed[-1]

    world.store.commit = slowly  # type: ignore[method-assign]
    await world.create(numbers=list(range(seed * 1000, seed * 1000 + 200)))
    before = len(committed)
    several = [world.start() for _ in range(4)]
    rng = random.Random(seed)
    activities = tasks(world, ACTIVITY_PATH)
    for task in activities:
        world.queue.tasks.pop(task.name)
    running = [ensure_future(rng.choice(several).perform(task)) for task in activities]
    for _ in range(13):
        await world.pass_time(timedelta(seconds=1), rng.choice(several))
    assert {task.result() for task in running} == {Outcome.DONE}
    assert sorted((await world.fields()).results) == sorted(number * 10 for number, _ in CALLS)
    assert len(CALLS) == len({key for _, key in CALLS}) == 200
    collecting = [task for task in world.queue.created if task.path == COLLECT_PATH and not task.body["is_last"]]
    assert len(collecting) <= 12, "one a second"
    assert 1 < len(committed) - before < 60, "with each result for itself it would be 200"
    await world.pass_time(timedelta(seconds=30))
    assert (await world.fields()).log == ["done"]
    assert world.queue.tasks == {}
    check_idle(*several)


@in_world(Crawl)
async def test_many_entries_need_one_collecting_task(world: World) -> None:
    collect = await posted(world, numbers=list(range(250)))
    assert len(await world.store.inbox("crawl", ID, 1000)) == 250
    before = len((await world.instance()).tokens)
    with world.process.calls() as calls:
        await collected(world, collect)
    assert calls.count("inbox") == 2
    assert len((await world.instance()).tokens) == before + 2
    assert sorted((await world.fields()).results) == [number * 10 for number in range(250)]
    assert await entries(world) == []
    check_idle(world.process)


# --- what has become of the instance meanwhile -----------------------------------------------


@in_world(Crawl)
async def test_entries_of_an_instance_that_was_canceled_are_discarded(world: World) -> None:
    collect = await posted(world)
    other = world.start()
    await world.finish(other.engine.operate("crawl", ID, Cancel()))
    assert await entries(world) == []
    before = await world.instance()
    await collected(world, collect)
    assert await world.instance() == before
    assert before.execution.status == "canceled"


@in_world(Crawl)
async def test_entries_of_an_instance_that_never_existed_are_discarded(world: World) -> None:
    await world.store.post(InboxEntry("crawl", "nobody", "result-1", '{"kind": "nothing"}', world.now))
    body = {"kind": "result", "workflow": "crawl", "id": "nobody", "wait_id": "main@1", "event": "fetch", "attempt": 0}
    await world.store.post(InboxEntry("crawl", "nobody", "result-2", json.dumps(body), world.now))
    await world.queue.create(CollectTask.after("crawl", "nobody", world.now, world.now))
    await world.pass_time(timedelta(seconds=1))
    assert await entries(world, "nobody") == []
    await world.pass_time(timedelta(seconds=30))
    assert world.queue.tasks == {}


@pytest.mark.parametrize("when", ["before the pause", "during the pause"])
@in_world(Crawl)
async def test_the_entry_of_an_instance_that_is_paused_is_taken_in_when_it_is_unpaused(world: World, when: str) -> None:
    collect = await posted(world)
    if when == "before the pause":
        await world.finish(world.process.engine.operate("crawl", ID, Pause()))
    else:
        await world.finish(Pausing(world).operate())
    await collected(world, collect)
    assert (await world.fields()).results == []
    assert len(await entries(world)) == 1
    await world.pass_time(timedelta(minutes=2))
    assert await world.finish(world.process.engine.recover()) == 1, "the inbox has waited for long"
    await world.deliver()
    assert len(await entries(world)) == 1
    await world.finish(world.process.engine.operate("crawl", ID, Unpause()))
    assert (await world.fields()).results == [10]
    assert await entries(world) == []
    await world.pass_time(timedelta(minutes=2))
    assert len(CALLS) == 1, "the attempt has come to its end, and does not run again"
    assert (await world.fields()).log == ["done"]
    assert world.queue.tasks == {}


@in_world(Crawl)
async def test_a_dry_run_of_an_operation_takes_nothing_in(world: World) -> None:
    await posted(world)
    before = await world.instance()
    for operation in (Pause(dry_run=True), Cancel(dry_run=True)):
        await world.finish(world.process.engine.operate("crawl", ID, operation))
        assert await world.instance() == before
        assert len(await entries(world)) == 1


@dataclass
class Pausing:
    """A pause by a process that dies before it looks into the inbox."""

    world: World

    async def operate(self) -> None:
        process = self.world.start()
        process.fault("inbox", before=Unavailable("cut"))
        await process.engine.operate("crawl", ID, Pause())


class Twice(Workflow, name="twice"):
    results: list[int] = []
    log: list[str] = []

    def keep(self, result: int) -> None:
        self.results.append(result)

    definition = S(
        Go("beside", Select("break", On("Break", lambda w: None)), Fail("broken", "it is broken")),
        Activity("fetch", fetch, input=lambda w: 1, then=keep, retry=ONCE),
        Select("end", On("End", lambda w: None)),
    )


@in_world(Twice)
async def test_the_entry_of_an_instance_that_has_failed_and_is_retried_counts_once_at_most(world: World) -> None:
    await posted(world)
    await world.send("Break")
    assert (await world.instance()).execution.status == "failed"
    await world.pass_time(timedelta(seconds=1))
    assert await entries(world) == []
    await world.finish(world.process.engine.operate("twice", ID, RetryFailed()))
    await world.pass_time(timedelta(minutes=1))
    # The other thread fails again at once, or what it has failed at is passed; the result is there once at most.
    assert (await world.fields()).results in ([], [10])
    assert await entries(world) == []
    check_idle(world.process)


@in_world(Crawl)
async def test_the_result_counts_when_the_deadline_passes_while_it_is_in_the_inbox(world: World) -> None:
    timer = await overdue(world)
    with world.process.calls() as calls:
        assert await world.process.perform(timer) is Outcome.DONE
    assert calls.count("commit") == 1
    assert (await world.fields()).results == [10]
    assert await world.history("activity", "activity failed") == [("activity", "fetch")]
    assert await entries(world) == []
    check_idle(world.process)


@pytest.mark.slow
@in_world(Crawl)
async def test_a_deadline_does_not_pass_what_it_could_not_collect(world: World) -> None:
    """Others commit all the time, so that the result stays in the inbox for now: its attempt is not ended for that."""
    timer = await overdue(world)
    until = world.now + timedelta(seconds=11)

    async def conflict() -> None:
        if world.now < until:
            raise Conflict("others were faster")

    for nth in range(1, 200):
        world.process.fault("commit", nth, before=conflict)
    assert await world.finish(world.process.perform(timer)) is Outcome.DONE
    await world.pass_time(timedelta(seconds=15))
    assert await world.history("activity", "activity failed") == [("activity", "fetch")]
    assert (await world.fields()).results == [10]
    assert len(CALLS) == 1


# --- collecting tasks ------------------------------------------------------------------------


@in_world(Crawl)
async def test_an_early_collecting_task_comes_again(world: World) -> None:
    collect = await posted(world)
    assert await world.process.deliver(collect) is Outcome.DONE
    (again,) = tasks(world, COLLECT_PATH)
    assert again.at == collect.at
    assert again.name != collect.name
    assert len(await entries(world)) == 1
    await collected(world, again)
    assert (await world.fields()).results == [10]


@in_world(Crawl)
async def test_a_collecting_task_that_finds_a_lease_is_put_off_and_followed_by_the_last_one_nevertheless(
    world: World,
) -> None:
    collect = await posted(world)
    instance = await world.instance()
    lease = Lease("somebody", world.now + timedelta(seconds=45))
    await world.store.commit(replace(instance, lease=lease, tokens=(*instance.tokens, "t")))
    await collected(world, collect)
    again, last = sorted(tasks(world, COLLECT_PATH), key=lambda task: bool(task.body["is_last"]))
    assert (again.body["is_last"], again.at) == (False, lease.expires_at)
    assert last.body["is_last"]
    assert last.at is not None and collect.at is not None and last.at >= collect.at + CLOCK_SKEW
    await world.pass_time(timedelta(seconds=46))
    assert (await world.fields()).results == [10]
    await world.pass_time(timedelta(minutes=2))
    assert world.queue.tasks == {}


@in_world(Crawl)
async def test_a_result_that_is_posted_twice_is_one_entry_and_those_of_two_activities_are_two(world: World) -> None:
    await world.create(numbers=[1, 2])
    for task in tasks(world, ACTIVITY_PATH):
        for process in (world.process, world.start()):
            contend(process)
            assert await process.perform(task) is Outcome.DONE
    assert len(CALLS) == 4
    assert len(await entries(world)) == 2
    world.queue.tasks = {task.name: task for task in tasks(world, COLLECT_PATH)}
    await world.pass_time(timedelta(seconds=30))
    assert sorted((await world.fields()).results) == [10, 20]
    assert len(await world.history("activity")) == 2


def unsteady(number: int, context: ActivityContext) -> int:
    if context.attempt == 1:
        raise ConnectionError("no answer")
    return number * 10


class Unsteady(Workflow, name="unsteady"):
    results: list[int] = []

    def keep(self, result: int) -> None:
        self.results.append(result)

    definition = S(
        Activity("fetch", unsteady, input=lambda w: 1, then=keep),
        Select("end", On("End", lambda w: None)),
    )


@in_world(Unsteady)
async def test_a_late_entry_of_an_attempt_does_not_take_the_place_of_that_of_the_next_one(world: World) -> None:
    collect = await posted(world)
    (failure,) = await entries(world)
    await collected(world, collect)
    assert await world.history("activity failed") == [("activity failed", "fetch")]
    await world.store.post(failure)  # the first attempt was delivered twice, and its second run has ended only now
    (attempt,) = tasks(world, ACTIVITY_PATH)
    assert attempt.at is not None
    assert attempt.at > world.now, "its next attempt is not due at once"
    await world.clock.advance_to(attempt.at)
    contend(world.process)
    assert await world.process.deliver(attempt) is Outcome.DONE
    assert len(await entries(world)) == 2
    await world.pass_time(timedelta(seconds=30))
    assert (await world.fields()).results == [10]
    assert await world.history("activity failed") == [("activity failed", "fetch")]
    assert await entries(world) == []


@in_world(Crawl)
async def test_late_and_duplicate_collecting_tasks_do_nothing(world: World) -> None:
    collect = await posted(world)
    await collected(world, collect)
    before = await world.instance()
    for _ in range(3):
        with world.process.calls() as calls:
            assert await world.process.perform(collect) is Outcome.DONE
        assert calls == ["inbox", "create_task"]
    await world.clock.advance(3600)
    assert await world.process.perform(collect) is Outcome.DONE
    assert len(tasks(world, COLLECT_PATH)) == 1, "the last one of its window"
    await world.pass_time(timedelta(seconds=1))
    assert [task for task in world.queue.tasks.values() if task.path == COLLECT_PATH] == []
    # The steps behind are another matter.
    assert (await world.instance()).execution.pc >= before.execution.pc
    assert (await world.fields()).results == [10]


@in_world(Crawl)
async def test_two_processes_collect_at_the_same_time(world: World) -> None:
    collect = await posted(world, numbers=list(range(30)))
    assert collect.at is not None
    await world.clock.advance_to(collect.at)
    several = [world.start() for _ in range(3)]
    both = await world.finish(asyncio.gather(*(process.perform(collect) for process in several)))
    assert both == [Outcome.DONE] * 3
    assert sorted((await world.fields()).results) == [number * 10 for number in range(30)]
    assert len(await world.history("activity")) == 30
    assert await entries(world) == []
    check_idle(*several)


@in_world(Crawl)
async def test_collecting_waits_for_a_lease(world: World) -> None:
    collect = await posted(world)
    instance = await world.instance()
    instance.execution.pc += 1
    lease = Lease("somebody", world.now + timedelta(seconds=45))
    await world.store.commit(replace(instance, lease=lease, tokens=(*instance.tokens, "t")))
    await collected(world, collect)
    assert len(await entries(world)) == 1
    assert (await world.fields()).results == []
    await world.pass_time(timedelta(seconds=50))
    assert (await world.fields()).results == [10]
    assert await entries(world) == []


@in_world(Crawl)
async def test_a_purged_queue(world: World) -> None:
    await posted(world)
    world.queue.purge()
    await world.clock.advance(UNCOLLECTED_AFTER.total_seconds() - 1)
    assert await world.finish(world.process.engine.recover()) == 0, "its collecting task may be on its way"
    await world.clock.advance(2)
    assert await world.finish(world.process.engine.recover()) == 1
    assert await world.finish(world.start().engine.recover()) == 1
    assert len(tasks(world, COLLECT_PATH)) == 1, "twice is once"
    await world.deliver()
    assert (await world.fields()).results == [10]
    assert await entries(world) == []


@in_world(Crawl)
async def test_recovery_makes_no_task_for_a_workflow_that_is_not_served(world: World) -> None:
    await world.store.post(InboxEntry("elsewhere", ID, "result-1", "{}", world.now))
    await world.clock.advance(60)
    assert await world.finish(world.process.engine.recover()) == 0
    assert world.queue.tasks == {}


@dataclass
class Behind:
    """The clock of a machine that is some seconds behind."""

    clock: Any
    seconds: float

    def now(self) -> datetime:
        now: datetime = self.clock.now() - timedelta(seconds=self.seconds)
        return now

    async def sleep(self, seconds: float) -> None:
        await self.clock.sleep(seconds)

    def call_later(self, seconds: float, callback: Callable[[], None]) -> Callable[[], object]:
        cancel: Callable[[], object] = self.clock.call_later(seconds, callback)
        return cancel


def start_behind(world: World, seconds: float) -> Process:
    process = world.start()
    process.engine = Engine(
        world.workflows,
        FaultyStore(world.store, process.wire),
        FaultyQueue(world.queue, process.wire),
        clock=Behind(world.clock, seconds),
        options=world.options,
        rng=world.rng,
        run_sync=inline,
    )
    return process


@pytest.mark.parametrize("offset", [0.0, 0.5, 3.7, 9.2])
@pytest.mark.parametrize("seconds", [0.4, 5.0, 9.9])
@in_world(Crawl)
async def test_what_a_clock_that_is_behind_has_posted_is_collected(world: World, seconds: float, offset: float) -> None:
    """The collecting task of the second in which it is posted, by its own clock, has come and gone."""
    await world.clock.advance(offset)
    await world.create(numbers=[1, 2])
    slow = start_behind(world, seconds)
    first, second = tasks(world, ACTIVITY_PATH)
    contend(world.process)
    await world.process.deliver(first)
    await world.pass_time(timedelta(seconds=seconds))
    contend(slow)
    # It looks ahead of its clock, but that is no reason to wait.
    assert await slow.deliver(second) is Outcome.DONE
    await world.pass_time(timedelta(seconds=25))
    assert sorted((await world.fields()).results) == [10, 20]
    assert await entries(world) == []
    await world.pass_time(timedelta(seconds=30))
    assert world.queue.tasks == {}


# --- damage ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body", ["", "{", "[]", "7", "null", '"text"', "{}", '{"kind": "unheard of"}', '{"kind": "result", "id": 7}']
)
@in_world(Crawl)
async def test_damaged_entries_are_discarded_and_hide_nothing(
    world: World, body: str, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(3):
        at = world.now - timedelta(seconds=10)
        await world.store.post(InboxEntry("crawl", ID, f"damaged-{number}", body, at))
    collect = await posted(world)
    caplog.set_level(logging.ERROR, "gorchestrate")
    await collected(world, collect)
    assert (await world.fields()).results == [10]
    assert await entries(world) == []
    assert caplog.text.count("damaged inbox entry") == 3


class Rewritten(Workflow, name="crawl"):
    """A release that lacks the statements at which instances of ``Crawl`` are."""

    numbers: list[int] = []
    definition = S(Select("end", On("End", lambda w: None)))


@in_world(Crawl)
async def test_damaged_entries_are_discarded_beside_one_that_has_to_wait_for_other_code(world: World) -> None:
    collect = await posted(world)
    for name in ("damaged", "zzz-damaged"):
        await world.store.post(InboxEntry("crawl", ID, name, "{", world.now - timedelta(seconds=1)))
    await collected(world, collect, world.start(Rewritten))
    assert [entry.name.partition("-")[0] for entry in await entries(world)] == ["result"]
    await world.clock.advance(UNCOLLECTED_AFTER.total_seconds())
    assert await world.finish(world.process.engine.recover()) == 1
    await world.deliver()
    assert (await world.fields()).results == [10]
    assert await entries(world) == []


@in_world(Crawl)
async def test_more_damaged_entries_than_are_read_at_a_time(world: World) -> None:
    for number in range(450):
        entry = InboxEntry("crawl", ID, f"damaged-{number}", "{", world.now - timedelta(seconds=10))
        await world.store.post(entry)
    collect = await posted(world)
    await collected(world, collect)
    assert (await world.fields()).results == [10]
    assert await entries(world) == []


# --- results that go wrong -------------------------------------------------------------------


class Sour(Workflow, name="sour"):
    """Processing a result fails in the way that ``how`` names."""

    how: str = ""
    catches: bool = True
    number: int = 0
    log: list[str] = []

    def keep(self, result: int) -> None:
        self.log.append("kept")
        if self.how == "raises":
            raise ValueError("it is sour")
        if self.how == "field":
            self.number = "no number"  # type: ignore[assignment]
        if self.how == "large":
            self.log.append("x" * 1_100_000)
        self.number = self.number or 1

    def note(self, error: ErrorInfo) -> None:
        self.log.append(f"{error.type} of {error.statement}")

    definition = S(
        If(
            "caught?",
            lambda w: w.catches,
            Try("outer", Activity("fetch 1", fetch, input=lambda w: 1, then=keep, retry=ONCE)).except_(
                Exception, then=note, name="caught"
            ),
        ).else_(Activity("fetch 2", fetch, input=lambda w: 1, then=keep, retry=ONCE)),
        While("behind", lambda w: w.how == "condition" and 1 / 0 > 0, Step("never", write("never"))),
        Select("end", On("End", lambda w: None)),
    )


@pytest.mark.parametrize("catches", [True, False])
@pytest.mark.parametrize("how", ["", "raises", "field", "condition", "large"])
@in_world(Sour)
async def test_what_comes_of_a_posted_result_is_what_comes_of_a_direct_one(
    world: World, how: str, catches: bool
) -> None:
    ends = []
    for id in ("direct", "posted"):
        await world.create(id=id, how=how, catches=catches)
        (task,) = tasks(world, ACTIVITY_PATH)
        if id == "posted":
            contend(world.process, id)
        assert await world.process.deliver(task) is Outcome.DONE
        await world.pass_time(timedelta(seconds=30))
        instance, fields = await world.instance(id), await world.fields(id)
        error = instance.execution.error
        ends.append(
            (
                *(instance.execution.status, fields.log, fields.number, await world.history(id=id)),
                *(error and (error.type, error.statement, error.message),),
            )
        )
        assert await entries(world, id) == []
        assert world.queue.tasks == {}
    assert ends[0] == ends[1]
    fails = how in ("condition", "large") or (how in ("raises", "field") and not catches)
    assert (ends[0][0] == "failed") is fails
    check_idle(world.process)


@in_world(Sour)
async def test_an_entry_that_is_too_large_beside_others_fails_only_its_instance(world: World) -> None:
    collect = await posted(world, how="large")
    await world.store.post(InboxEntry("sour", ID, "damaged-1", "{", world.now))
    await collected(world, collect)
    assert (await world.instance()).execution.status == "failed"
    assert await entries(world) == []


# --- crashes ---------------------------------------------------------------------------------


async def survive(world: World, process: Process, task: Task) -> Process:
    """Delivers a task to a process that may die during it; returns the process that continues."""
    try:
        await process.deliver(task)
    except Killed:
        return world.start()
    except (Unavailable, Busy):
        pass
    return process


@pytest.mark.parametrize("where", ["before", "after"])
@pytest.mark.parametrize("error", [Killed, Unavailable])
@in_world(Crawl)
async def test_a_fault_at_each_call_of_posting_and_collecting(
    world: World, error: type[BaseException], where: str
) -> None:
    nth = 0
    hit = True
    while hit:
        nth += 1
        CALLS.clear()
        id = f"fault-{nth}"
        await world.create(id=id, numbers=[1, 2, 3])
        first = process = world.start()
        first.fault("*", nth, **{where: error(f"at call {nth}")})
        for _ in range(60):
            contend(process, id)
            due = [task for task in world.queue.tasks.values() if task.at is None or task.at <= world.now]
            for task in due:
                process = await survive(world, process, task)
            await world.clock.advance(1)
        if world.queue.tasks:
            await world.pass_time(timedelta(minutes=15), process)  # a timer that nobody has deleted
        fields = await world.fields(id)
        assert sorted(fields.results) == [10, 20, 30], f"with a fault {where} call {nth}"
        assert fields.log == ["done"]
        assert len(await world.history("activity", id=id)) == 3
        assert len({key for _, key in CALLS}) == 3
        assert await entries(world, id) == []
        assert [(task.path, str(task.at), task.body) for task in world.queue.tasks.values()] == []
        assert await world.finish(world.start().engine.recover()) == 0
        hit = not first.wire.faults
    assert nth > 15


@pytest.mark.parametrize("seed", range(25))
@in_world(Crawl)
async def test_faults_by_chance(world: World, seed: int) -> None:
    rng = random.Random(seed)
    await world.create(numbers=list(range(12)))
    several = [world.start() for _ in range(3)]
    for second in range(90):
        for number, process in enumerate(several):
            if process.wire.dead:
                several[number] = world.start()
            if rng.random() < 0.2 and second < 40:
                error = rng.choice([Killed, Unavailable])("by chance")
                several[number].fault("*", rng.randint(1, 20), **{rng.choice(["before", "after"]): error})
        due = [task for task in world.queue.tasks.values() if task.at is None or task.at <= world.now]
        rng.shuffle(due)
        await all_at_once(world, [(rng.choice(several), task) for task in due[: rng.randint(1, 8)]])
        await world.clock.advance_to(max(world.now, world.now.replace(microsecond=0) + timedelta(seconds=1)))
    await world.pass_time(timedelta(minutes=20), world.start())
    if await entries(world):  # their task was not created, and the results came in by another way
        assert await world.start().engine.recover() == 1
        await world.pass_time(timedelta(minutes=1), world.start())
    fields = await world.fields()
    assert sorted(fields.results) == [number * 10 for number in range(12)], f"seed {seed}"
    assert fields.log == ["done"]
    assert await entries(world) == []
    assert world.queue.tasks == {}


# --- ends of children ------------------------------------------------------------------------


class Kid(Workflow, name="kid"):
    fails: bool = False

    def result(self) -> str:
        return "grown up"

    definition = S(
        Select("wait", On("Grow", lambda w: None)),
        If("unlucky", lambda w: w.fails, Fail("bad luck", "no luck")),
    )


class Parent(Workflow, name="parent"):
    fails: bool = False
    log: list[str] = []

    def keep(self, result: str) -> None:
        self.log.append(result)

    def note(self, error: ErrorInfo) -> None:
        self.log.append(f"{error.type} of {error.statement}")

    definition = S(
        Go("beside", While("always", lambda w: True, Select("poke", On("Poke", lambda w: None)))),
        Try("care", Child("kid", Kid, id="kid-1", input=lambda w: {"fails": w.fails}, then=keep)).except_(
            Exception, then=note, name="sad"
        ),
        Select("end", On("End", lambda w: None)),
    )


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("how", ["conflict", "contended", "leased", "paused", "posted, then paused"])
@in_world(Parent, Kid)
async def test_the_end_of_a_child_whose_parent_is_busy(world: World, how: str, fails: bool) -> None:
    await world.started(fails=fails)
    process, other = world.process, world.start()
    await world.finish(process.engine.handle_event("kid", "kid-1", "Grow"))
    (tell,) = world.queue.resumes
    if how == "conflict":
        # The lease of the child, then the commit of the parent, which this process has committed last, and another one.
        for number in (2, 3):
            process.fault("commit", number, before=lambda: other.post("Poke"))
    elif how in ("contended", "posted, then paused"):
        contend(process)
    elif how == "leased":
        instance = await world.instance()
        instance.execution.pc += 1
        lease = Lease("somebody", world.now + timedelta(seconds=20))
        await world.store.commit(replace(instance, lease=lease, tokens=(*instance.tokens, "t")))
    elif how == "paused":
        await world.finish(process.engine.operate("parent", ID, Pause()))
    assert await process.deliver(tell) is Outcome.DONE
    expected = ["ChildFailed of kid" if fails else "grown up"]
    assert (await world.fields()).log == []
    assert len(await entries(world)) == (0 if how == "paused" else 1)
    if how == "posted, then paused":
        await world.finish(process.engine.operate("parent", ID, Pause()))
    await world.pass_time(timedelta(minutes=1))
    if "paused" in how:
        assert (await world.fields()).log == []
        await world.finish(process.engine.operate("parent", ID, Unpause()))
        await world.pass_time(timedelta(hours=2))
    assert (await world.fields()).log == expected
    assert await world.history("child", "child failed") == [("child failed" if fails else "child", "kid")]
    child = await world.store.load("kid", "kid-1")
    assert child.execution.parent is not None
    assert child.execution.parent.told
    assert await entries(world) == []
    assert world.queue.tasks == {}
    check_idle(process, other)
