"""Leases: one process at a time runs the steps of an instance, and one that has lost its lease cannot write."""

from __future__ import annotations

import asyncio
import logging
from asyncio import Task as Running
from asyncio import ensure_future
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from threading import Event
from typing import Any

import pytest

from cloud_adapter.engine.operations import Cancel, Pause, Unpause
from cloud_adapter.engine.task_handler import Outcome
from cloud_adapter.engine.tasks import ResumeTask
from cloud_adapter.errors import Conflict, Unavailable
from cloud_adapter.observability import logs
from cloud_adapter.options import EngineOptions
from tests.engine.harness import ID, Gate, Process, World, in_world, write
from tests.engine.log_lines import Lines
from workflow_core import Go, On, S, Select, Step, StepContext, Timeout, Try, WaitFor, While, Workflow

GATE = Gate()
KEYS: list[str] = []
LEASE = timedelta(seconds=60)

BY_THIRDS = EngineOptions(max_wait=timedelta(seconds=40))
"""Events are kept, and the lease is renewed for them, only after a third of it."""


class Bakery(Workflow, name="bakery"):
    search_fields = ("stage",)

    log: list[str] = []
    stage: str = "raw"
    sold: int = 0

    async def bake(self, step: StepContext) -> None:
        KEYS.append(step.idempotency_key)
        self.stage = "in the oven"
        self.log.append(f"baking {len(KEYS)}")
        await GATE.wait()
        self.stage = "baked"

    def sell(self) -> int:
        self.sold += 1
        return self.sold

    definition = S(
        Go("shop", While("selling", lambda w: w.sold < 9, Select("sell", On("Sell", sell)))),
        Step("bake", bake),
        Step("cool", write("cool")),
        Select("end", On("End", lambda w: None)),
    )


async def baking(world: World, process: Process | None = None) -> Running[Outcome]:
    """An instance whose step is running, and the delivery that runs it."""
    KEYS.clear()
    await world.create()
    return await delivering(world, process or world.process)


async def delivering(world: World, process: Process) -> Running[Outcome]:
    running = ensure_future(process.perform(world.queue.resumes[0]))
    await world.clock.settle()
    return running


async def without_database(world: World, seconds: float) -> None:
    """Lets time pass in which no commit gets through."""
    for nth in range(1, 60):
        world.process.unavailable("commit", nth, applied=False)
    await world.clock.advance(seconds)
    world.process.wire.faults.clear()


async def die(process: Process, running: Running[Outcome]) -> None:
    process.die()
    running.cancel()
    await asyncio.wait([running])


def stand_still(world: World) -> None:
    """All processes stand still for longer than a lease: the time passes, and what they are to do then comes late."""
    world.clock.jump(61)


async def lease_end(world: World) -> timedelta:
    lease = (await world.instance()).lease
    assert lease is not None
    return lease.expires_at - world.now


@in_world(Bakery, options=BY_THIRDS)
async def test_a_lease_is_taken_renewed_and_released(world: World) -> None:
    await world.create()
    created = await world.instance()
    KEYS.clear()
    running = await delivering(world, world.process)
    begin = world.now
    assert (await world.instance()).execution.pc == created.execution.pc + 1, "a lease is a commit like any other"
    assert await lease_end(world) == LEASE
    token = (await world.instance()).lease.token  # type: ignore[union-attr]

    with world.process.calls() as calls:
        for _ in range(9):
            await world.clock.advance(20)
            assert await lease_end(world) == LEASE, "renewed after a third of it"
    assert calls == ["commit"] * 9
    assert (await world.instance()).execution.pc == created.execution.pc + 10
    instance = await world.instance()
    assert instance.lease is not None
    assert instance.lease.token == token
    assert instance.wake_at == instance.lease.expires_at
    assert world.now == begin + timedelta(minutes=3)

    GATE.open()
    assert await world.finish(running) is Outcome.DONE
    assert (await world.instance()).lease is None
    await world.deliver()  # three minutes are over the budget
    instance = await world.instance()
    assert instance.lease is None
    assert instance.wake_at is None
    assert (await world.fields()).log == ["baking 1", "cool"]
    assert len(KEYS) == 1
    (baked,) = [entry for entry in instance.history if entry.statement == "bake"]
    assert baked.duration_ms == 180_000


@in_world(Bakery)
async def test_a_renewal_saves_nothing_of_a_running_step(world: World) -> None:
    running = await baking(world)
    before = await world.instance()
    await world.clock.advance(20)
    after = await world.instance()
    assert len(after.tokens) == len(before.tokens) + 1
    assert after.fields == before.fields
    assert after.search == {"stage": "raw"}
    GATE.open()
    await world.finish(running)
    assert (await world.instance()).search == {"stage": "baked"}


@in_world(Bakery, options=BY_THIRDS)
async def test_a_step_shorter_than_a_third_of_the_lease_costs_no_renewal(world: World) -> None:
    running = await baking(world)
    with world.process.calls() as calls:
        await world.clock.advance(19)
        GATE.open()
        await world.finish(running)
        await world.clock.advance(100)
    assert calls == ["commit", "commit"]


class Loaves(Workflow, name="loaves"):
    log: list[str] = []

    async def bake(self) -> None:
        await GATE.wait()

    definition = S(Step("first", bake), Step("second", bake), Step("cool", write("cool")))


@pytest.mark.parametrize(("first", "renewals"), [(3, [8]), (4.9, [9.9]), (5, [5, 25]), (7, [5, 27]), (26, [5, 25, 46])])
@in_world(Loaves)
async def test_a_lease_is_first_renewed_when_events_may_be_kept_and_then_after_each_third(
    world: World, first: float, renewals: list[float]
) -> None:
    """The renewal after five seconds tells senders of events that the lease will last. The next step renews it after a
    third, if they know it."""
    await world.create()
    begin = world.now
    running = await delivering(world, world.process)
    found: list[float] = []
    is_second = False
    while (seconds := (world.now - begin).total_seconds()) < 47:
        if not is_second and seconds >= first:
            GATE.open()
            await world.clock.settle()
            is_second = True
        with world.process.calls() as calls:
            await world.clock.advance(0.1)
        found += [round(seconds + 0.1, 1)] * calls.count("commit")
    assert found[: len(renewals)] == renewals
    GATE.open()
    assert await world.finish(running) is Outcome.DONE


@in_world(Loaves, options=BY_THIRDS)
async def test_a_renewal_is_logged_as_part_of_the_step_that_runs(world: World) -> None:
    lines = Lines()
    logs.logger.addHandler(lines)
    try:
        await world.create()
        running = await delivering(world, world.process)
        GATE.open()
        await world.clock.settle()
        await without_database(world, 45)
        GATE.open()
        assert await world.finish(running) is Outcome.DONE
    finally:
        logs.logger.removeHandler(lines)
    assert {line["statement"] for line in lines.lines if line.get("kind") == "lease not renewed"} == {"second"}


# --- the process dies ------------------------------------------------------------------------


@in_world(Bakery)
async def test_a_step_whose_process_died_runs_again_when_the_lease_is_over(world: World) -> None:
    running = await baking(world)
    await die(world.process, running)
    other = world.start()
    (task,) = world.queue.resumes

    # The queue sends it again, because nobody acknowledged it; the lease is still live.
    assert await other.deliver(task) is Outcome.DONE
    (again,) = world.queue.resumes
    assert again.at == world.now + LEASE
    assert len(KEYS) == 1

    await world.clock.advance_to(again.at)
    running = await delivering(world, other)
    GATE.open()
    assert await world.finish(running) is Outcome.DONE
    assert len(KEYS) == 2
    assert len(set(KEYS)) == 1, "the idempotency key is that of the first attempt"
    assert (await world.fields()).log == ["baking 2", "cool"]


@in_world(Bakery)
async def test_an_event_waits_for_a_dead_process_lease_and_then_goes_on(world: World) -> None:
    await die(world.process, await baking(world))
    await world.clock.advance(55)
    other = world.start()
    asked_at = world.now
    assert await other.send("Sell") == 1
    assert timedelta(seconds=5) <= world.now - asked_at <= timedelta(seconds=6)
    assert (await world.instance()).lease is None
    # The event's commit took the dead lease away, and with it made a task for the step that is due.
    assert [task.at for task in world.queue.resumes][1:] == [None]


@in_world(Bakery)
async def test_a_dead_process_can_write_nothing(world: World) -> None:
    running = await baking(world)
    world.process.die()
    before = await world.instance()
    GATE.open()
    await asyncio.wait([running])
    assert await world.instance() == before
    assert world.queue.resumes == world.queue.created


class Timed(Workflow, name="timed"):
    log: list[str] = []

    async def bake(self) -> None:
        KEYS.append("bake")
        await GATE.wait()

    definition = S(
        Step("knead", write("knead")),
        Go("beside", Select("rest", Timeout("rested", timedelta(hours=1)))),
        Step("bake", bake),
    )


@in_world(Timed)
async def test_a_lease_counts_from_its_commit_not_from_the_tasks_before_it(world: World) -> None:
    await world.create()
    world.process.fault("create_task", before=lambda: world.clock.sleep(50))
    await delivering(world, world.process)
    with world.process.calls() as calls:
        await world.clock.advance(50)
    assert calls == ["commit"], "the timer's task was under way"
    assert await lease_end(world) == LEASE
    instance = await world.instance()
    assert instance.lease is not None
    assert instance.wake_at == instance.lease.expires_at


@pytest.mark.parametrize(("reply_seconds", "is_renewed"), [(19, False), (21, True), (59, True)])
@in_world(Bakery, options=BY_THIRDS)
async def test_no_step_begins_unless_two_thirds_of_the_lease_are_left(
    world: World, reply_seconds: int, is_renewed: bool
) -> None:
    KEYS.clear()
    await world.create()
    world.process.fault("commit", after=lambda: world.clock.sleep(reply_seconds))
    await delivering(world, world.process)
    with world.process.calls() as calls:
        await world.clock.advance(reply_seconds)
    assert len(KEYS) == 1
    assert calls == ["commit"] * is_renewed
    assert await lease_end(world) == (LEASE if is_renewed else LEASE - timedelta(seconds=reply_seconds))
    await world.clock.advance(20 if is_renewed else 20 - reply_seconds)
    assert await lease_end(world) == LEASE, "renewed again when a third of it has passed"


@in_world(Bakery)
async def test_a_step_begins_also_where_each_commit_takes_more_than_a_third_of_the_lease(world: World) -> None:
    KEYS.clear()
    await world.create()
    for nth in (1, 2):
        world.process.fault("commit", nth, after=lambda: world.clock.sleep(25))
    await delivering(world, world.process)
    await world.clock.advance(25)
    assert KEYS == [], "it is renewed"
    await world.clock.advance(25)
    assert len(KEYS) == 1


@in_world(Bakery)
async def test_no_step_begins_under_a_lease_that_has_expired(world: World) -> None:
    KEYS.clear()
    await world.create()
    world.process.fault("commit", after=lambda: world.clock.sleep(61))
    await delivering(world, world.process)
    with world.process.calls() as calls:
        await world.clock.advance(61)
    assert calls == ["load", "commit"], "it is taken anew"
    assert len(KEYS) == 1
    assert await lease_end(world) == LEASE


# --- the lease is lost -----------------------------------------------------------------------


@in_world(Bakery)
async def test_a_holder_whose_lease_was_taken_cannot_commit(world: World, caplog: pytest.LogCaptureFixture) -> None:
    running = await baking(world)
    slow_gate = GATE.event
    assert slow_gate is not None
    stand_still(world)
    takeover = await delivering(world, world.start())
    GATE.open()
    await world.clock.settle()
    assert takeover.result() is Outcome.DONE
    before = await world.instance()
    assert (await world.fields()).log == ["baking 2", "cool"]

    caplog.set_level(logging.WARNING, "gorchestrate")
    slow_gate.set()
    await world.clock.settle()
    assert running.result() is Outcome.DONE
    assert await world.instance() == before
    assert "lease lost" in caplog.text


@in_world(Bakery)
async def test_a_holder_that_slept_past_its_lease_notices_at_its_next_renewal(world: World) -> None:
    running = await baking(world)
    slow_gate = GATE.event
    assert slow_gate is not None
    stand_still(world)
    other = world.start()
    takeover = ensure_future(other.perform(world.queue.resumes[0]))
    await world.clock.settle()
    assert len(KEYS) == 2
    assert await lease_end(world) == LEASE, "the late renewal did not get through"
    slow_gate.set()
    GATE.open()
    await world.finish(takeover)
    assert await world.finish(running) is Outcome.DONE
    assert (await world.fields()).log == ["baking 2", "cool"]


@in_world(Bakery)
async def test_a_holder_that_cannot_renew_its_lease_is_interrupted_when_it_expires(world: World) -> None:
    running = await baking(world)
    for nth in range(1, 60):
        world.process.unavailable("commit", nth, applied=False)
    await world.clock.advance(59.9)
    assert not running.done()
    task = world.queue.resumes[0]
    await world.clock.advance(0.1)
    GATE.open()  # too late
    other = world.start()
    takeover = ensure_future(other.perform(task))
    await world.clock.settle()
    GATE.open()
    await world.finish(takeover)
    await world.finish(running)
    assert (await world.fields()).log == ["baking 2", "cool"]
    assert [one.kind for one in (await world.instance()).history].count("step") == 2


async def held_up(function: Callable[..., Any], *args: Any) -> Any:
    """Runs synchronous code as in a thread: it takes time, and the caller cannot interrupt it."""
    await GATE.wait()
    return function(*args)


class Kiln(Workflow, name="kiln"):
    log: list[str] = []

    definition = S(
        Try("firing", Step("fire", write("fire"))).finally_(Select("cold", On("Cold", lambda w: w.log.append("cold")))),
    )


@in_world(Kiln, run_sync=held_up)
async def test_synchronous_code_outlasts_a_time_without_the_database(world: World) -> None:
    await world.create()
    running = await delivering(world, world.process)
    await without_database(world, 90)
    GATE.open()
    assert await world.finish(running) is Outcome.DONE
    assert (await world.fields()).log == ["fire"], "nobody has taken the lease meanwhile"


@in_world(Kiln, run_sync=held_up)
async def test_synchronous_code_that_outlasts_its_lease_leaves_that_of_the_next_holder_alone(world: World) -> None:
    await world.create()
    running = await delivering(world, world.process)
    for nth in range(1, 60):
        world.process.unavailable("commit", nth, applied=False)
    first = GATE.event
    assert first is not None
    await world.clock.advance(61)
    takeover = await delivering(world, world.start())
    taken = (await world.instance()).lease
    assert taken is not None
    world.process.wire.faults.clear()
    await world.clock.advance(30)
    lease = (await world.instance()).lease
    assert lease is not None and lease.token == taken.token
    GATE.open()
    assert await world.finish(takeover) is Outcome.DONE
    first.set()
    await world.finish(running)
    assert (await world.fields()).log == ["fire"]


HEATED: list[bool] = []


class Prepared(Workflow, name="prepared"):
    """Has a condition that does not only depend on its fields."""

    log: list[str] = []

    async def bake(self) -> None:
        self.log.append("baking")
        await GATE.wait()

    definition = S(
        Go("oven", Select("begin", On("Begin", lambda w: None)), Step("bake", bake)),
        WaitFor("heated", lambda w: bool(HEATED), write("heated")),
        Select("end", On("End", lambda w: None)),
    )


@in_world(Prepared)
async def test_moves_that_are_due_at_the_load_are_saved_before_a_step_runs(world: World) -> None:
    """A renewal during the step would save where the threads are, but not the fields."""
    HEATED.clear()
    await world.create()
    await world.finish(world.process.post("Begin"))
    HEATED.append(True)
    running = await delivering(world, world.process)
    await world.clock.advance(20)
    await die(world.process, running)
    assert (await world.fields()).log == ["heated"]
    await world.clock.advance(60)
    running = await delivering(world, world.start())
    GATE.open()
    assert await world.finish(running) is Outcome.DONE
    assert (await world.fields()).log == ["heated", "baking"]


@in_world(Kiln, run_sync=held_up)
async def test_nothing_begins_beside_synchronous_code_when_it_is_canceled(world: World) -> None:
    await world.create()
    running = await delivering(world, world.process)
    other = world.start()
    await world.finish(other.engine.operate("kiln", ID, Cancel()))
    for _ in range(20):
        await world.pass_time(timedelta(seconds=15), other)
        assert await lease_end(world) > timedelta()
    GATE.open()
    assert await world.finish(running) is Outcome.DONE
    instance = await world.instance()
    assert (instance.lease, instance.execution.canceling) == (None, True)
    await world.send("Cold")
    assert (await world.fields()).log == ["cold"], "its effect does not count"
    assert (await world.instance()).execution.status == "canceled"


@in_world(Kiln, run_sync=held_up)
async def test_nothing_begins_beside_synchronous_code_after_a_pause(world: World) -> None:
    await world.create()
    running = await delivering(world, world.process)
    await world.finish(world.process.engine.operate("kiln", ID, Pause()))
    await world.clock.advance(50)
    await world.finish(world.process.engine.operate("kiln", ID, Unpause()))
    reached = GATE.reached
    await world.pass_time(timedelta(minutes=5), world.start())
    assert GATE.reached == reached, "the step does not run again yet"
    GATE.open()
    await world.clock.settle()
    assert GATE.reached == reached + 1
    GATE.open()
    assert await world.finish(running) is Outcome.DONE
    assert (await world.fields()).log == ["fire"]


@in_world(Bakery)
async def test_an_unexpected_error_of_a_renewal_is_not_lost(world: World) -> None:
    running = await baking(world)
    world.process.fault("commit", before=ValueError("a defect"))
    await world.clock.advance(20)
    GATE.open()
    await world.finish(running)
    error = (await world.instance()).execution.error
    assert error is not None and error.message == "a defect"


@pytest.mark.parametrize("applied", [False, True])
@in_world(Bakery, options=BY_THIRDS)
async def test_a_renewal_that_fails_once_is_made_up_for(world: World, applied: bool) -> None:
    running = await baking(world)
    world.process.unavailable("commit", applied=applied)
    await world.clock.advance(21)
    assert timedelta(seconds=59) <= await lease_end(world) <= LEASE
    GATE.open()
    await world.finish(running)
    assert (await world.fields()).log == ["baking 1", "cool"]
    assert len(KEYS) == 1


@in_world(Bakery)
async def test_after_a_renewal_of_which_it_never_heard_the_instance_goes_on(world: World) -> None:
    """The renewal was applied, its reply was lost, and so was each look after it: our own lease is in the way."""
    running = await baking(world)
    world.process.unavailable("commit", applied=True)
    for nth in range(1, 6):
        world.process.unavailable("load", nth, applied=False)
    await world.clock.advance(25)
    GATE.open()
    await world.clock.advance(1)
    # The lease that it finds is its own, and nothing runs under it any more: it need not wait for its end.
    GATE.open()
    assert await world.finish(running) is Outcome.DONE
    assert (await world.instance()).lease is None
    assert (await world.fields()).log == ["baking 2", "cool"]
    assert len(set(KEYS)) == 1


@pytest.mark.parametrize("applied", [False, True])
@pytest.mark.parametrize("nth", [1, 2, 3])
@in_world(Bakery)
async def test_the_reply_of_a_commit_under_the_lease_is_lost(world: World, nth: int, applied: bool) -> None:
    KEYS.clear()
    await world.create()
    world.process.unavailable("commit", nth, applied=applied)
    running = await delivering(world, world.process)
    await world.clock.advance(1)
    GATE.open()
    assert await world.finish(running) is Outcome.DONE
    assert (await world.fields()).log == ["baking 1", "cool"]
    assert len(KEYS) == 1
    assert (await world.instance()).lease is None


@in_world(Bakery)
async def test_two_engines_resume_at_the_same_time(world: World) -> None:
    KEYS.clear()
    await world.create()
    other = world.start()
    (task,) = world.queue.resumes
    both = [ensure_future(process.perform(task)) for process in (world.process, other)]
    await world.clock.advance(1)
    assert len(KEYS) == 1
    GATE.open()
    assert [await world.finish(one) for one in both] == [Outcome.DONE] * 2
    assert len(KEYS) == 1
    assert (await world.fields()).log == ["baking 1", "cool"]


class Broken(Workflow, name="broken"):
    """The way on from its step raises."""

    log: list[str] = []
    n: int = 0

    async def work(self) -> None:
        KEYS.append("work")
        await GATE.wait()
        self.n = len(KEYS)

    definition = S(
        Go("beside", Select("stop", On("Stop", lambda w: None))),
        Step("work", work),
        While("first attempt", lambda w: 1 / (w.n - 1) < 0, Step("never", write("never"))),
        Step("after", write("after")),
        Select("end", On("End", lambda w: None)),
    )


async def taken_over(world: World) -> tuple[Running[Outcome], asyncio.Event, Running[Outcome]]:
    """A step whose lease another process has taken over: the first delivery, what opens its gate, the second one."""
    KEYS.clear()
    await world.create()
    running = await delivering(world, world.process)
    slow_gate = GATE.event
    assert slow_gate is not None
    stand_still(world)
    return running, slow_gate, await delivering(world, world.start())


@in_world(Broken)
async def test_a_holder_that_has_lost_its_lease_cannot_fail_the_instance_either(world: World) -> None:
    running, slow_gate, takeover = await taken_over(world)
    assert len(KEYS) == 2
    KEYS.pop()  # the first one sees n == 1, and divides by zero
    before = await world.instance()
    slow_gate.set()
    await world.clock.settle()
    assert await world.instance() == before
    KEYS.append("work")
    GATE.open()
    await world.clock.settle()
    assert (takeover.result(), running.result()) == (Outcome.DONE, Outcome.DONE)
    instance = await world.instance()
    assert instance.execution.status == "waiting"
    assert (await world.fields()).log == ["after"]


@in_world(Broken)
async def test_an_instance_that_has_ended_is_not_failed_afterwards(world: World) -> None:
    running, slow_gate, takeover = await taken_over(world)
    GATE.open()
    await world.clock.settle()
    assert takeover.done()
    await world.start().send("End")
    before = await world.instance()
    assert before.execution.status == "finished"
    KEYS.pop()
    slow_gate.set()
    await world.clock.settle()
    assert running.result() is Outcome.DONE
    assert await world.instance() == before


# --- tasks -----------------------------------------------------------------------------------


@in_world(Bakery)
async def test_a_resume_while_leased_is_acknowledged_and_scheduled_again(world: World) -> None:
    running = await baking(world)
    (task,) = world.queue.resumes
    before = await world.instance()
    assert before.lease is not None
    other = world.start()
    with other.calls() as calls:
        assert await other.deliver(task) is Outcome.DONE
    assert calls == ["load", "create_task"]
    assert [one.at for one in world.queue.resumes] == [before.lease.expires_at]
    assert await world.instance() == before
    GATE.open()
    await world.finish(running)
    # That one comes when everything is done.
    with other.calls() as calls:
        await world.pass_time(timedelta(minutes=2), other)
    assert calls == ["load"]
    assert world.queue.tasks == {}


@in_world(Bakery)
async def test_deliveries_made_twice_while_it_is_leased_do_not_multiply(world: World) -> None:
    """Each delivery reschedules itself. If each new task had its own name, every round would double their number."""
    await baking(world)
    (task,) = world.queue.resumes
    world.queue.tasks.clear()
    for round in range(5):
        for _ in range(3):
            assert await world.process.perform(task) is Outcome.DONE
        (again,) = world.queue.tasks.values()
        lease = (await world.instance()).lease
        assert lease is not None and again.at is not None
        assert again.at >= lease.expires_at
        assert again.body["again"] == round + 1
        world.queue.tasks.clear()
        task = again


@in_world(Bakery)
async def test_a_clock_that_lags_is_given_time(world: World) -> None:
    """The queue's clock is ahead, so that a task for the end of the lease comes before it, again and again."""
    await baking(world)
    (task,) = world.queue.resumes
    await world.clock.advance(19)
    at = []
    for _ in range(12):
        world.queue.tasks.clear()
        body = ResumeTask.model_validate(task.body)
        task = body.later(world.now, world.now, body.pc)
        assert task.at is not None
        at.append((task.at - world.now).total_seconds())
    assert at[0] == 0
    assert at[-1] == 10
    assert at == sorted(at)


@in_world(Bakery)
async def test_a_request_that_is_cancelled_during_a_renewal_leaves_no_renewal_behind(world: World) -> None:
    running = await baking(world)
    world.process.fault("commit", before=lambda: world.clock.sleep(5))
    await world.clock.advance(21)  # the renewal is under way, and takes 5 s
    for _ in range(2):  # the second one while it waits for the renewal to be over
        running.cancel()
        await world.clock.settle()
    assert running.cancelled()
    pc = (await world.instance()).execution.pc
    await world.clock.advance(300)
    assert (await world.instance()).execution.pc == pc, "nobody renews a lease that nobody needs"


@pytest.mark.parametrize(("exists", "ahead"), [(True, 1), (True, 2), (True, 6), (False, 1)])
@in_world(Bakery)
async def test_a_task_before_its_commit_asks_to_be_sent_again_but_not_for_ever(
    world: World, exists: bool, ahead: int
) -> None:
    pc = ahead
    if exists:
        await world.create()
        world.queue.purge()
        pc += (await world.instance()).execution.pc
    await world.queue.create(
        ResumeTask(workflow="bakery", id=ID, pc=pc, created_at=world.now).task("of a commit that never came")
    )
    (task,) = world.queue.resumes
    began = world.now
    with world.process.calls() as calls:
        assert await world.process.deliver(task) is Outcome.NOT_YET
    assert set(calls) == {"load"}
    assert 2 <= len(calls) <= 8  # it looks again for a second
    assert timedelta(seconds=1) <= world.now - began < timedelta(seconds=2)
    await world.clock.advance(597)
    assert await world.process.deliver(task) is Outcome.NOT_YET
    await world.clock.advance(3)
    assert await world.process.deliver(task) is Outcome.DONE
    assert world.queue.tasks == {}
    assert KEYS == [] or not exists or (await world.fields()).log == []


@in_world(Bakery)
async def test_duplicate_and_late_tasks_do_nothing(world: World) -> None:
    running = await baking(world)
    (task,) = world.queue.resumes
    GATE.open()
    await world.finish(running)
    before = await world.instance()
    for late in (task, replace(task, name="late"), task):
        with world.process.calls() as calls:
            assert await world.process.perform(late) is Outcome.DONE
        assert calls == ["load"]
    await world.send("End")
    with world.process.calls() as calls:
        assert await world.process.perform(task) is Outcome.DONE
    assert calls == ["load"]
    assert len(before.tokens) + 1 == len((await world.instance()).tokens)
    assert len(KEYS) == 1


@in_world(Bakery)
async def test_a_database_that_does_not_answer_lets_the_queue_try_again(world: World) -> None:
    await world.create()
    (task,) = world.queue.resumes
    world.process.unavailable("load", applied=False)
    assert await world.process.perform(task) is Outcome.FAILED
    world.process.unavailable("load", applied=False)
    with pytest.raises(Unavailable):
        await world.send("Sell")


@in_world(Bakery)
async def test_a_task_that_loses_every_commit_is_sent_again(world: World) -> None:
    await world.create()
    (task,) = world.queue.resumes
    for nth in range(1, 100):
        world.process.fault("commit", nth, before=Conflict("others are faster"))
    assert await world.finish(world.process.perform(task)) is Outcome.NOT_YET
    assert (await world.instance()).lease is None


IS_MORNING = Event()


class Morning(Workflow, name="morning"):
    log: list[str] = []

    async def bake(self) -> None:
        await GATE.wait()
        self.log.append("bake")

    definition = S(
        Go("clock", WaitFor("morning", lambda w: IS_MORNING.is_set(), write("open"))),
        Step("bake", bake),
        Select("end", On("End", lambda w: None)),
    )


@in_world(Morning)
async def test_what_a_condition_did_before_a_step_is_not_lost_by_a_renewal(world: World) -> None:
    IS_MORNING.clear()
    await world.create()
    IS_MORNING.set()
    running = await delivering(world, world.process)
    await world.clock.advance(LEASE.total_seconds())
    await die(world.process, running)
    other = world.start()
    await world.clock.advance(LEASE.total_seconds())
    again = ensure_future(other.perform(world.queue.resumes[0]))
    await world.clock.settle()
    GATE.open()
    assert await world.finish(again) is Outcome.DONE
    assert (await world.fields()).log == ["open", "bake"]
