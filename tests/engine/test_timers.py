"""Timers: a timeout happens once, at its deadline, and only if its thread still waits."""

from __future__ import annotations

from asyncio import ensure_future
from datetime import datetime, timedelta
from typing import Any

import pytest

from cloud_adapter.engine.task_handler import Outcome
from cloud_adapter.errors import Conflict, Unavailable
from cloud_adapter.ports import Task
from tests.engine.harness import Gate, World, in_world, write
from workflow_core import EventNotAccepted, Go, On, Return, S, Select, Step, Timeout, WaitFor, While, Workflow
from workflow_core.wait_types import TimerWait

HOUR = timedelta(hours=1)
GATE = Gate()


class Offer(Workflow, name="offer"):
    log: list[str] = []
    hours: float = 24
    rounds: int = 0

    def extend(self) -> int:
        self.rounds += 1
        return self.rounds

    def late(self, x: int = 0) -> None: ...

    definition = S(
        While(
            "open",
            lambda w: True,
            Select(
                "answer",
                On("Extend", extend),
                On("Accept", lambda w: "accepted", Return()),
                Timeout("expired", lambda w: timedelta(hours=w.hours), Step("withdraw", write("withdrawn")), Return()),
            ),
        ),
    )


def only(tasks: list[Task]) -> Task:
    (task,) = tasks
    return task


@in_world(Offer)
async def test_a_timer_is_a_task_at_the_deadline(world: World) -> None:
    with world.process.calls() as calls:
        await world.create()
    assert calls == ["create_task", "create"], "the task is there before the wait is"
    timer = only(world.queue.timers)
    assert timer.at == world.now + 24 * HOUR
    instance = await world.instance()
    (wait,) = [wait for wait in instance.execution.threads[0].waits if isinstance(wait, TimerWait)]
    assert wait.event == "expired"
    assert wait.deadline == timer.at == instance.wake_at
    assert timer.body["wait_id"] == wait.id
    assert timer.body["event"] == "expired"


@in_world(Offer)
async def test_a_timer_fires_and_the_statements_of_its_case_run(world: World) -> None:
    await world.create()
    await world.clock.advance_to(world.now + 24 * HOUR)
    with world.process.calls() as calls:
        assert await world.process.deliver(only(world.queue.timers)) is Outcome.DONE
    assert calls[:3] == ["load", "create_task", "commit"]
    await world.deliver()
    assert (await world.fields()).log == ["withdrawn"]
    assert (await world.instance()).execution.status == "finished"
    assert await world.history() == [
        ("created", ""),
        ("timeout", "expired"),
        ("step", "withdraw"),
    ]
    assert world.queue.tasks == {}
    with pytest.raises(EventNotAccepted, match="the instance is finished"):
        await world.send("Accept")


@in_world(Offer)
async def test_a_timer_that_lost_is_deleted_and_ignored_if_it_comes_nevertheless(world: World) -> None:
    await world.create()
    timer = only(world.queue.timers)
    with world.process.calls() as calls:
        assert await world.send("Accept") == "accepted"
    assert calls == ["load", "commit", "delete_task"]
    assert world.queue.deleted == [timer.name]
    assert world.queue.tasks == {}

    before = await world.instance()
    await world.clock.advance_to(world.now + 25 * HOUR)
    with world.process.calls() as calls:
        assert await world.process.perform(timer) is Outcome.DONE
    assert calls == ["load"]
    assert await world.instance() == before


@pytest.mark.slow
@in_world(Offer)
async def test_a_timer_that_loses_to_others_all_the_time_comes_again(world: World) -> None:
    await world.create()
    timer = only(world.queue.timers)
    await world.clock.advance_to(world.now + 24 * HOUR)
    until = world.now + world.options.max_wait + timedelta(seconds=1)

    async def conflict() -> None:
        if world.now < until:
            raise Conflict("others were faster")

    for nth in range(1, 200):
        world.process.fault("commit", nth, before=conflict)
    assert await world.process.deliver(timer) is Outcome.DONE
    assert await world.history("timeout") == []
    again = only([task for task in world.queue.timers if task.body["wait_id"] == timer.body["wait_id"]])
    assert (again.name != timer.name, again.at) == (True, world.now)
    await world.pass_time(timedelta(minutes=1))
    assert await world.history("timeout") == [("timeout", "expired")]
    assert (await world.fields()).log == ["withdrawn"]
    assert world.queue.tasks == {}


@in_world(Offer)
async def test_a_timer_that_cannot_be_deleted_disturbs_nobody(world: World) -> None:
    await world.create()
    world.process.unavailable("delete_task", applied=False)
    assert await world.send("Accept") == "accepted"
    assert len(world.queue.timers) == 1
    await world.pass_time(25 * HOUR)
    assert world.queue.tasks == {}
    assert (await world.fields()).log == []


@in_world(Offer)
async def test_a_select_entered_again_has_a_timer_of_its_own(world: World) -> None:
    await world.create()
    first = only(world.queue.timers)
    await world.clock.advance(3600)
    assert await world.send("Extend") == 1
    second = only(world.queue.timers)
    assert second.at == world.now + 24 * HOUR
    assert second.body["wait_id"] != first.body["wait_id"]
    assert world.queue.deleted == [first.name]

    # The first one's time is not the second one's.
    assert first.at is not None
    await world.clock.advance_to(first.at)
    before = await world.instance()
    assert await world.process.perform(first) is Outcome.DONE
    assert await world.instance() == before
    await world.pass_time(HOUR)
    assert (await world.fields()).log == ["withdrawn"]


@in_world(Offer)
async def test_an_event_that_brings_no_new_wait_leaves_the_other_threads_timer_alone(world: World) -> None:
    await world.create()
    before = world.queue.timers
    with pytest.raises(EventNotAccepted):
        await world.send("expired")
    with pytest.raises(EventNotAccepted):
        await world.send("Other")
    assert world.queue.timers == before
    assert world.queue.deleted == []


@in_world(Offer)
async def test_a_timer_that_comes_early_is_set_again(world: World) -> None:
    await world.create()
    timer = only(world.queue.timers)
    deadline = timer.at
    assert deadline is not None
    await world.clock.advance_to(deadline - timedelta(milliseconds=1))
    before = await world.instance()
    assert await world.process.deliver(timer) is Outcome.DONE
    assert await world.instance() == before
    again = only(world.queue.timers)
    assert again.at == deadline
    assert again.name != timer.name
    await world.pass_time(timedelta(seconds=1))
    assert (await world.fields()).log == ["withdrawn"]
    assert await world.history("timeout") == [("timeout", "expired")]


@pytest.mark.parametrize("days", [29, 30, 100, 800])
@in_world(Offer)
async def test_a_timer_beyond_the_horizon_sets_itself_again_until_its_deadline(world: World, days: int) -> None:
    await world.create(hours=24 * days)
    begin = world.now
    deadline = begin + timedelta(days=days)
    deliveries: list[datetime] = []
    while world.queue.timers:
        timer = only(world.queue.timers)
        assert timer.at is not None
        assert timer.at - world.now <= timedelta(days=29)
        assert (await world.fields()).log == []
        await world.clock.advance_to(timer.at)
        deliveries.append(world.now)
        await world.process.deliver(timer)
    assert deliveries[-1] == deadline
    assert len(deliveries) == -(-days // 29)
    await world.deliver()
    assert (await world.fields()).log == ["withdrawn"]


@in_world(Offer)
async def test_a_timer_that_comes_twice_fires_once(world: World) -> None:
    await world.create()
    timer = only(world.queue.timers)
    await world.clock.advance_to(world.now + 24 * HOUR)
    assert await world.process.perform(timer) is Outcome.DONE
    assert await world.start().perform(timer) is Outcome.DONE
    await world.deliver()
    assert await world.process.perform(timer) is Outcome.DONE
    assert (await world.fields()).log == ["withdrawn"]
    assert await world.history("timeout") == [("timeout", "expired")]


@pytest.mark.parametrize("applied", [False, True])
@in_world(Offer)
async def test_the_reply_of_a_timers_commit_is_lost(world: World, applied: bool) -> None:
    await world.create()
    await world.clock.advance_to(world.now + 24 * HOUR)
    world.process.unavailable("commit", applied=applied)
    assert await world.process.deliver(only(world.queue.timers)) is Outcome.DONE
    await world.deliver()
    assert await world.history("timeout") == [("timeout", "expired")]
    assert (await world.fields()).log == ["withdrawn"]


@in_world(Offer)
async def test_a_timer_whose_commit_never_came_is_given_up(world: World) -> None:
    world.process.fault("create", before=Unavailable("down"))
    for nth in range(2, 6):
        world.process.unavailable("create", nth, applied=False)
    with pytest.raises(Unavailable):
        await world.create(hours=0.01)
    timer = only(world.queue.timers)
    await world.clock.advance(60)
    assert await world.process.deliver(timer) is Outcome.NOT_YET
    await world.clock.advance(600)
    assert await world.process.deliver(timer) is Outcome.DONE
    assert world.queue.tasks == {}


class Jobs(Workflow, name="jobs"):
    """Threads that wait for one timeout of the same name, each from its own start on."""

    jobs: list[str] = []
    log: list[str] = []

    def begin(self, job: str) -> None:
        self.jobs.append(job)

    definition = S(
        While(
            "jobs",
            lambda w: True,
            Select("next", On("Begin", begin)),
            Go(
                "job",
                Select("answer", On("Answer", lambda w: None, Return()), Timeout("no answer", lambda w: w.patience())),
                Step("give up", lambda w, step: w.log.append(step.thread_id)),
                id=lambda w: w.jobs[-1],
            ),
        )
    )

    def patience(self) -> timedelta:
        return {"slow": 5 * HOUR}.get(self.jobs[-1], HOUR)


@in_world(Jobs)
async def test_each_thread_has_a_timer_of_its_own(world: World) -> None:
    await world.create()
    for job in ("slow", "first", "second"):
        await world.send("Begin", job)
        await world.pass_time(HOUR / 2)
    assert (await world.fields()).log == ["first"]
    await world.pass_time(HOUR / 4)
    await world.send("Answer", thread_id="second")
    await world.pass_time(2 * HOUR)
    assert (await world.fields()).log == ["first"]
    await world.pass_time(2 * HOUR)
    assert (await world.fields()).log == ["first", "slow"]
    assert world.queue.tasks == {}


# --- a timer against an event ----------------------------------------------------------------


@in_world(Offer)
async def test_the_event_wins_between_the_timers_load_and_commit(world: World) -> None:
    await world.create()
    await world.clock.advance_to(world.now + 24 * HOUR)
    other = world.start()
    world.process.fault("commit", before=lambda: other.post("Accept"))
    assert await world.process.deliver(only(world.queue.timers)) is Outcome.DONE
    await world.pass_time(timedelta(minutes=20))
    assert (await world.fields()).log == []
    assert await world.history() == [("created", ""), ("event", "Accept")]
    assert world.queue.tasks == {}


@in_world(Offer)
async def test_the_timer_wins_between_the_events_load_and_commit(world: World) -> None:
    await world.create()
    await world.clock.advance_to(world.now + 24 * HOUR)
    timer = only(world.queue.timers)
    other = world.start()
    world.process.fault("commit", before=lambda: other.perform(timer))
    sending = ensure_future(world.process.post("Accept"))
    await world.clock.advance(1)
    await world.deliver()
    with pytest.raises(EventNotAccepted):
        await world.finish(sending)
    assert (await world.fields()).log == ["withdrawn"]
    assert await world.history("event") == []


@pytest.mark.parametrize("seed", range(10))
@in_world(Offer)
async def test_many_events_and_the_timer_at_the_same_time(world: World, seed: int) -> None:
    await world.create()
    await world.clock.advance_to(world.now + 24 * HOUR)
    timer = only(world.queue.timers)
    world.rng.seed(seed)
    racers: list[Any] = [world.start().post("Accept") for _ in range(3)]
    racers += [world.start().perform(timer) for _ in range(2)]
    world.rng.shuffle(racers)
    running = [ensure_future(racer) for racer in racers]
    await world.clock.advance(1)
    await world.deliver()
    for one in running:
        try:
            await world.finish(one)
        except EventNotAccepted:
            continue
    happened = await world.history("event", "timeout")
    assert happened in ([("event", "Accept")], [("timeout", "expired")]), f"seed {seed}"
    assert (await world.fields()).log == (["withdrawn"] if happened[0][0] == "timeout" else [])


# --- a timer while a step runs ---------------------------------------------------------------


async def held_up(workflow: Any) -> None:
    await GATE.wait()


class Race(Workflow, name="race"):
    """A timer's thread beside one that works."""

    definition = S(
        Go("timer", Select("pause", Timeout("pause over", timedelta(seconds=30)))),
        Step("work", held_up),
        Select("end", On("End", lambda w: None)),
    )


@in_world(Race)
async def test_a_timer_waits_for_a_running_step_then_comes_when_the_lease_ends(world: World) -> None:
    await world.create()
    running = ensure_future(world.process.perform(world.queue.resumes[0]))
    timer = only(world.queue.timers)
    await world.clock.advance(30)
    other = world.start()
    waiting = ensure_future(other.perform(timer))
    await world.clock.advance(12)
    assert waiting.done(), "it does not wait for long"
    assert waiting.result() is Outcome.DONE
    lease = (await world.instance()).lease
    assert lease is not None
    assert [task.at for task in world.queue.timers][-1] == lease.expires_at

    GATE.open()
    await world.finish(running)
    assert [thread.id for thread in (await world.instance()).execution.threads] == ["main", "timer"]
    await world.pass_time(timedelta(minutes=2))
    assert [thread.id for thread in (await world.instance()).execution.threads] == ["main"]
    assert await world.history("timeout") == [("timeout", "pause over")]


@in_world(Race)
async def test_a_timer_that_waits_for_a_step_fires_as_soon_as_it_is_done(world: World) -> None:
    await world.create()
    running = ensure_future(world.process.perform(world.queue.resumes[0]))
    await world.clock.advance(30)
    waiting = ensure_future(world.start().perform(only(world.queue.timers)))
    await world.clock.advance(3)
    GATE.open()
    await world.clock.advance(1)
    assert running.done()
    assert waiting.done()
    assert await world.history("timeout") == [("timeout", "pause over")]


class Spoiled(Workflow, name="spoiled"):
    log: list[str] = []
    n: int = 0
    how: str = ""

    def spoil(self) -> None:
        if self.how == "raises":
            raise ValueError("no way on")
        self.n = "no number"  # type: ignore[assignment]

    definition = S(
        Select("pause", Timeout("pause over", HOUR), On("Stop", lambda w: None)),
        WaitFor("at once", lambda w: True, spoil),
        Select("end", On("End", lambda w: None)),
    )


@pytest.mark.parametrize(("how", "message"), [("raises", "no way on"), ("spoils", "field_name='n'")])
@in_world(Spoiled)
async def test_what_fails_behind_a_timer_fails_the_instance(world: World, how: str, message: str) -> None:
    await world.create(how=how)
    await world.clock.advance(3600)
    assert await world.process.deliver(only(world.queue.timers)) is Outcome.DONE
    instance = await world.instance()
    assert instance.execution.status == "failed"
    assert instance.execution.error is not None
    assert message in instance.execution.error.message
    assert instance.execution.error.statement == ("at once" if how == "raises" else "pause over")
    assert instance.wake_at is None
    assert world.queue.tasks == {}
    assert (await world.fields()).n == 0


class Slow(Workflow, name="slow"):
    async def bake(self) -> None:
        await GATE.wait()

    definition = S(
        Step("bake", bake),
        Select("eat", On("Eat", lambda w: None), Timeout("cold", timedelta(seconds=30))),
    )


@in_world(Slow)
async def test_a_timeout_behind_a_long_step_counts_from_its_end(world: World) -> None:
    await world.create()
    running = ensure_future(world.process.perform(only(world.queue.resumes)))
    await world.clock.settle()
    await world.clock.advance(100)
    GATE.open()
    assert await world.finish(running) is Outcome.DONE
    assert only(world.queue.timers).at == world.now + timedelta(seconds=30)
