"""The end of a lease: code whose lease has expired or was lost is interrupted, and its effects are not saved. Other
code of the same instance never runs beside it."""

from __future__ import annotations

import asyncio
import gc
from asyncio import Task as Running
from asyncio import ensure_future
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from cloud_adapter.document import Lease
from cloud_adapter.engine.commits import WRITE_ATTEMPTS_MAX
from cloud_adapter.engine.operations import Cancel, Pause, Unpause
from cloud_adapter.engine.task_handler import Outcome
from cloud_adapter.errors import Unavailable
from cloud_adapter.options import EngineOptions
from tests.engine.harness import ID, Gate, Process, World, in_world, write
from workflow_core import Go, On, S, Select, Step, Workflow

LEASE = timedelta(seconds=60)

BY_THIRDS = EngineOptions(max_wait=timedelta(seconds=40))
"""Events are kept, and the lease is renewed for them, only after a third of it."""
GATE = Gate()


@dataclass
class Runs:
    """The times at which the code of a step has begun and ended, in each of its attempts."""

    now: Callable[[], datetime] = lambda: datetime.min
    seconds: list[tuple[float, float | None]] = field(default_factory=list)
    begun: asyncio.Event = field(default_factory=asyncio.Event)
    start: datetime = datetime.min

    def watch(self, world: World) -> None:
        self.now, self.start, self.seconds = world.clock.now, world.now, []
        self.begun = asyncio.Event()

    async def hold(self) -> None:
        """Runs until the gate opens, or until it is interrupted."""
        number = len(self.seconds)
        begin = (self.now() - self.start).total_seconds()
        self.seconds.append((begin, None))
        self.begun.set()
        assert all(end is not None and end <= begin for _, end in self.seconds[:number]), "two run at the same time"
        try:
            await GATE.wait()
        finally:
            self.seconds[number] = begin, (self.now() - self.start).total_seconds()


RUNS = Runs()


class Bread(Workflow, name="bread"):
    """Its step changes the fields before and after it has waited."""

    log: list[str] = []

    async def bake(self) -> None:
        self.log.append("begun")
        await RUNS.hold()
        self.log.append("baked")

    definition = S(
        Go("shop", Select("sell", On("Sell", lambda w: None))),
        Step("bake", bake),
        Select("end", On("End", lambda w: None)),
    )


async def delivering(world: World, process: Process, number: int = 0) -> Running[Outcome]:
    """A delivery of a resume task that has begun."""
    running = ensure_future(process.perform(world.queue.resumes[number]))
    await world.clock.settle()
    return running


async def baking(world: World) -> Running[Outcome]:
    """An instance whose step is running since now, and the delivery that runs it."""
    RUNS.watch(world)
    await world.create()
    return await delivering(world, world.process)


def no_renewals(process: Process, nth: int = 1) -> None:
    """From the ``nth`` commit on, no commit reaches the database."""
    for number in range(nth, nth + 200):
        process.unavailable("commit", number, applied=False)


async def lease_of(world: World) -> Lease:
    lease = (await world.instance()).lease
    assert lease is not None
    return lease


async def check_baked_once(world: World, *running: Running[Outcome]) -> None:
    """Everything ends, and one attempt has had its effect."""
    for _ in range(5):
        if GATE.event is not None:
            GATE.open()
        await world.clock.advance(1)
    for one in running:
        await world.finish(one)
    await world.pass_time(timedelta(minutes=3), world.start())
    assert (await world.fields()).log == ["begun", "baked"]
    assert await world.history("step", "step failed") == [("step", "bake")], "an interruption is no failure"
    assert (await world.instance()).lease is None


# --- it expires ------------------------------------------------------------------------------


@pytest.mark.parametrize("renewals", [0, 1, 3])
@in_world(Bread, options=BY_THIRDS)
async def test_asynchronous_code_ends_at_the_moment_its_lease_expires(world: World, renewals: int) -> None:
    running = await baking(world)
    no_renewals(world.process, nth=1 + renewals)
    expires = 20 * renewals + 60
    await world.clock.advance(expires - 0.001)
    assert RUNS.seconds == [(0, None)]
    assert (await lease_of(world)).expires_at == world.now + timedelta(milliseconds=1)
    await world.clock.advance(0.001)
    assert RUNS.seconds == [(0, expires)]
    takeover = await delivering(world, world.start())
    assert RUNS.seconds == [(0, expires), (expires, None)], "another process may begin at that moment"
    world.process.wire.faults.clear()
    await check_baked_once(world, running, takeover)


@in_world(Bread, options=BY_THIRDS)
async def test_code_that_was_interrupted_when_its_lease_expired_has_not_failed(world: World) -> None:
    """The database answers again at that moment, and no other process has taken the lease."""
    running = await baking(world)
    for nth in range(1, 2 * WRITE_ATTEMPTS_MAX + 1):
        world.process.unavailable("commit", nth, applied=False)
    await world.clock.advance(60)
    assert world.process.wire.faults == []
    assert RUNS.seconds == [(0, 60), (60, None)], "it begins anew under a new lease"
    (thread,) = [thread for thread in (await world.instance()).execution.threads if thread.id == "main"]
    assert (thread.attempt, thread.error) == (0, None)
    await check_baked_once(world, running)


@pytest.mark.parametrize("seconds", [30, 60, 90])
@in_world(Bread, options=EngineOptions(lease=timedelta(seconds=90), max_wait=timedelta(minutes=1)))
async def test_a_lease_is_renewed_after_each_third_and_not_before(world: World, seconds: int) -> None:
    running = await baking(world)
    with world.process.calls() as calls:
        await world.clock.advance(seconds - 0.001)
    assert calls == ["commit"] * (seconds // 30 - 1)
    with world.process.calls() as calls:
        await world.clock.advance(0.001)
    assert calls == ["commit"]
    assert (await lease_of(world)).expires_at == world.now + timedelta(seconds=90)
    await check_baked_once(world, running)


@pytest.mark.parametrize("seconds", [60, 61])
@in_world(Bread)
async def test_no_code_begins_at_or_after_the_end_of_its_lease(world: World, seconds: int) -> None:
    RUNS.watch(world)
    await world.create()
    world.process.fault("commit", after=lambda: world.clock.sleep(seconds))
    running = await delivering(world, world.process)
    await world.clock.advance(seconds)
    assert RUNS.seconds == [(seconds, None)], "the lease was taken again first"
    assert (await lease_of(world)).expires_at == world.now + LEASE
    await check_baked_once(world, running)


@in_world(Bread)
async def test_a_lease_that_ends_during_the_renewal_before_a_step_is_taken_again(world: World) -> None:
    RUNS.watch(world)
    await world.create()
    world.process.fault("commit", 1, after=lambda: world.clock.sleep(30))
    world.process.fault("commit", 2, after=lambda: world.clock.sleep(60))
    running = await delivering(world, world.process)
    await world.clock.advance(90)
    assert RUNS.seconds == [(90, None)]
    assert (await lease_of(world)).expires_at == world.now + LEASE
    await check_baked_once(world, running)


@in_world(Bread)
async def test_code_that_ends_during_a_renewal_waits_for_it(world: World) -> None:
    """The commit of the step needs the version that the renewal returns."""
    running = await baking(world)
    world.process.fault("commit", after=lambda: world.clock.sleep(5))
    await world.clock.advance(21)
    with world.process.calls() as calls:
        GATE.open()
        await world.clock.advance(10)
    assert running.done()
    assert calls.count("commit") == 1, "it meets no conflict with its own renewal"
    assert len(RUNS.seconds) == 1
    await check_baked_once(world)


# --- it is lost ------------------------------------------------------------------------------


def paused(world: World) -> Callable[[], Awaitable[object]]:
    """Another process pauses the instance and unpauses it, over the lease."""

    async def pause() -> None:
        engine = world.start().engine
        await engine.operate(world.name, ID, Pause())
        await engine.operate(world.name, ID, Unpause())

    return pause


@in_world(Bread, options=BY_THIRDS)
async def test_asynchronous_code_ends_at_the_renewal_that_meets_the_commit_of_an_operator(world: World) -> None:
    running = await baking(world)
    await world.clock.advance(5)
    await paused(world)()
    await world.clock.advance(14.999)
    assert RUNS.seconds == [(0, None)]
    with world.process.calls() as calls:
        await world.clock.advance(0.001)
    assert RUNS.seconds == [(0, 20), (20, None)], "it begins again: the lease is its own"
    # The renewal meets the conflict, and looks whether it was applied; then the lease is taken anew.
    assert calls == ["commit", "load", "load", "commit"]
    await check_baked_once(world, running)


@in_world(Bread, options=BY_THIRDS)
async def test_asynchronous_code_ends_when_the_commit_of_an_operator_follows_a_renewal_without_a_reply(
    world: World,
) -> None:
    running = await baking(world)

    async def paused_without_a_reply() -> None:
        await paused(world)()
        raise Unavailable("the reply is lost")

    world.process.fault("commit", after=paused_without_a_reply)
    await world.clock.advance(20)
    assert next(end for _, end in RUNS.seconds) == 20
    await check_baked_once(world, running)


@in_world(Bread, options=BY_THIRDS)
async def test_a_canceled_instance_is_not_renewed_any_more(world: World) -> None:
    running = await baking(world)
    await world.finish(world.start().engine.operate("bread", ID, Cancel()))
    await world.clock.advance(20)
    assert running.result() is Outcome.DONE
    assert RUNS.seconds == [(0, 20)]
    instance = await world.instance()
    assert (instance.lease, instance.execution.status, instance.wake_at) == (None, "canceled", None)
    with world.process.calls() as calls:
        await world.clock.advance(300)
    assert calls == []


class Slowly(Workflow, name="bread"):
    """Its step takes long to clean up once it is interrupted."""

    async def bake(self) -> None:
        try:
            await GATE.wait()
        finally:
            await GATE.wait()

    definition = S(Step("bake", bake))


@in_world(Slowly, options=BY_THIRDS)
async def test_interrupted_code_whose_lease_expires_during_its_cleanup_leaves_no_error_in_the_log(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    await world.create()
    running = await delivering(world, world.process)
    await world.finish(world.start().engine.operate("bread", ID, Cancel()))
    await world.clock.advance(20)
    reached = GATE.reached
    await world.clock.advance(60)
    assert GATE.reached == reached
    GATE.open()
    await world.finish(running)
    del running
    gc.collect()
    assert "never retrieved" not in caplog.text


async def held_up(function: Callable[..., Any], *args: Any) -> Any:
    """Runs synchronous code as in a thread: it takes time, and the caller cannot interrupt it."""
    await RUNS.hold()
    return function(*args)


class Kiln(Workflow, name="kiln"):
    log: list[str] = []
    definition = S(
        Go("shop", Select("sell", On("Sell", lambda w: None))),
        Step("fire", write("fire")),
        Select("end", On("End", lambda w: None)),
    )


@in_world(Kiln, run_sync=held_up)
async def test_synchronous_code_that_has_outlived_its_lease_leaves_that_of_another_process_alone(world: World) -> None:
    RUNS.watch(world)
    await world.create()
    running = await delivering(world, world.process)
    slow_gate = GATE.event
    assert slow_gate is not None
    world.clock.jump(61)  # the first process stands still meanwhile
    RUNS.seconds.clear()  # the code of a process that stands still cannot be stopped
    takeover = await delivering(world, world.start())
    lease = await lease_of(world)
    for _ in range(6):
        await world.clock.advance(10)
        assert (await lease_of(world)).token == lease.token
    slow_gate.set()
    await world.clock.settle()
    assert running.result() is Outcome.DONE
    assert (await world.fields()).log == []
    GATE.open()
    await world.clock.settle()
    assert takeover.result() is Outcome.DONE
    assert (await world.fields()).log == ["fire"]
    assert await world.history("step") == [("step", "fire")]


class Loaf(Workflow, name="loaf"):
    log: list[str] = []
    definition = S(
        Step("knead", write("knead")),
        Step("bake", write("bake")),
        Select("end", On("End", lambda w: None)),
    )


@in_world(Loaf)
async def test_the_next_step_follows_at_once_when_another_commit_was_made_after_that_of_a_step(world: World) -> None:
    await world.create()

    async def paused_without_a_reply() -> None:
        await paused(world)()
        raise Unavailable("the reply is lost")

    world.process.fault("commit", 2, after=paused_without_a_reply)
    assert await world.process.deliver(world.queue.resumes[0]) is Outcome.DONE
    assert (await world.fields()).log == ["knead", "bake"]
    assert await world.history("step") == [("step", "knead"), ("step", "bake")]
    assert (await world.instance()).lease is None


# --- it is taken -----------------------------------------------------------------------------


@in_world(Bread)
async def test_a_resume_that_loses_the_lease_to_another_process_leaves_the_work_to_it(world: World) -> None:
    RUNS.watch(world)
    await world.create()
    (task,) = world.queue.resumes
    other = world.start()
    running: list[Running[Outcome]] = []

    async def taken() -> None:
        running.append(ensure_future(other.perform(task)))
        await RUNS.begun.wait()

    world.process.fault("commit", before=taken)
    with world.process.calls() as calls:
        assert await world.finish(world.process.perform(task)) is Outcome.DONE
    assert calls == ["load", "commit", "load", "create_task"]
    assert world.queue.resumes[-1].at == (await lease_of(world)).expires_at
    assert len(RUNS.seconds) == 1
    await check_baked_once(world, *running)


@in_world(Bread)
async def test_nothing_runs_on_a_lease_after_which_another_commit_was_made(world: World) -> None:
    """The lease was stored, its reply was lost, and an operator has committed since."""
    RUNS.watch(world)
    await world.create()

    async def paused_without_a_reply() -> None:
        await paused(world)()
        raise Unavailable("the reply is lost")

    world.process.fault("commit", after=paused_without_a_reply)
    assert await world.finish(world.process.perform(world.queue.resumes[0])) is Outcome.DONE
    assert RUNS.seconds == [], "the lease that it finds may be that of another process"
    assert (await world.instance()).execution.status == "running"
    await world.clock.advance_to((await lease_of(world)).expires_at)
    running = await delivering(world, world.process, -1)
    await check_baked_once(world, running)


@in_world(Bread)
async def test_a_lease_that_was_left_behind_is_removed_with_one_commit(world: World) -> None:
    await world.create()
    (task,) = world.queue.resumes
    running = await delivering(world, world.process)
    GATE.open()
    await world.finish(running)
    instance = await world.instance()
    instance = await world.store.commit(replace(instance, lease=Lease("dead", world.now), wake_at=world.now))
    with world.process.calls() as calls:
        assert await world.process.perform(task) is Outcome.DONE
    assert calls == ["load", "commit"]
    after = await world.instance()
    assert (after.lease, after.wake_at) == (None, None)
    assert after.execution.pc == instance.execution.pc + 1


@in_world(Bread)
async def test_a_task_that_was_put_off_to_the_end_of_a_lease_is_put_off_anew_after_another_commit(world: World) -> None:
    """The first one may have come and gone by then, and a queue accepts its name only once."""
    RUNS.watch(world)
    await world.create()
    (task,) = world.queue.resumes
    running = await delivering(world, world.process)
    other = world.start()
    expires = (await lease_of(world)).expires_at
    assert await other.perform(task) is Outcome.DONE
    (first,) = [one for one in world.queue.resumes if one.at == expires]
    world.queue.tasks.pop(first.name)
    await world.finish(other.engine.operate("bread", ID, Pause()))
    await world.finish(other.engine.operate("bread", ID, Unpause()))
    world.queue.tasks = {name: one for name, one in world.queue.tasks.items() if one.at != expires}
    assert await other.perform(task) is Outcome.DONE
    (second,) = [one for one in world.queue.resumes if one.at == expires]
    assert second.name != first.name
    running.cancel()
    await asyncio.wait([running])
