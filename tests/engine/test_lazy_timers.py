"""Lazy timers: one that is due much later has no task until recovery creates it, two minutes ahead."""

from __future__ import annotations

from datetime import timedelta

import pytest

from cloud_adapter.engine.operations import Pause, Unpause
from cloud_adapter.engine.plan import Before
from cloud_adapter.engine.schedule import LAZY_AHEAD
from cloud_adapter.options import EngineOptions
from tests.engine.harness import World, in_world, write
from workflow_core import On, Return, S, Select, Step, Timeout, While, Workflow

MINUTE, DAY = timedelta(minutes=1), timedelta(days=1)
LAZY = EngineOptions(lazy_after=10 * MINUTE)


class Offer(Workflow, name="offer"):
    minutes: float = 60
    log: list[str] = []

    def change(self, minutes: float) -> None:
        self.minutes = minutes

    definition = S(
        While(
            "open",
            lambda w: True,
            Select(
                "answer",
                On("Change", change),
                On("Accept", lambda w: None, Return()),
                Timeout(
                    "expired", lambda w: timedelta(minutes=w.minutes), Step("withdraw", write("withdrawn")), Return()
                ),
            ),
        ),
    )


async def recover(world: World) -> int:
    count: int = await world.finish(world.start().engine.recover())
    return count


async def minutes_pass(world: World, minutes: float, *, every: timedelta = MINUTE) -> None:
    """Time passes, and recovery runs as the scheduler of a deployment calls it."""
    end = world.now + minutes * MINUTE
    while world.now < end:
        await recover(world)
        await world.pass_time(min(every, end - world.now))


async def fired(world: World) -> list[float]:
    """How many minutes after the creation the timeout happened."""
    entries = (await world.instance()).history
    return [(entry.at - entries[0].at) / MINUTE for entry in entries if entry.kind == "timeout"]


@pytest.mark.parametrize(
    ("minutes", "tasks"), [(1, 1), (9, 1), (10, 1), (10.1, 0), (11, 0), (60, 0), (29 * 1440, 0), (800 * 1440, 0)]
)
@in_world(Offer, options=LAZY)
async def test_only_a_near_timer_has_a_task_from_its_commit(world: World, minutes: float, tasks: int) -> None:
    with world.process.calls() as calls:
        await world.create(minutes=minutes)
    assert calls == [*["create_task"] * tasks, "create"]
    deadline = world.now + minutes * MINUTE
    assert [task.at for task in world.queue.timers] == [deadline] * tasks
    assert (await world.instance()).wake_at == (deadline if tasks else deadline - LAZY_AHEAD)


@pytest.mark.parametrize("minutes", [9, 11, 12.5, 60])
@in_world(Offer, options=LAZY)
async def test_a_timer_fires_at_its_deadline_and_costs_one_task(world: World, minutes: float) -> None:
    await world.create(minutes=minutes)
    await minutes_pass(world, minutes + 2)
    assert await fired(world) == [minutes]
    assert len([task for task in world.queue.created if task.path == "/callback/timeout"]) == 1
    assert (await world.fields()).log == ["withdrawn"]


@pytest.mark.parametrize("days", [29, 30, 31, 100, 800])
@in_world(Offer, options=LAZY)
async def test_a_timer_beyond_the_horizon_has_no_task_before_its_last_minutes(world: World, days: int) -> None:
    await world.create(minutes=days * 1440)
    await world.pass_time(days * DAY - 3 * MINUTE)
    assert await recover(world) == 0
    assert world.queue.created == []
    await minutes_pass(world, 4)
    assert await fired(world) == [days * 1440]
    assert len([task for task in world.queue.created if task.path == "/callback/timeout"]) == 1


@in_world(Offer, options=LAZY)
async def test_an_event_that_brings_the_timer_nearer_creates_its_task(world: World) -> None:
    await world.create(minutes=60)
    await world.pass_time(5 * MINUTE)
    with world.process.calls() as calls:
        await world.send("Change", 8)
    assert calls == ["load", "create_task", "commit"], "the old timer has no task that could be deleted"
    await minutes_pass(world, 70)
    assert await fired(world) == [13]


@in_world(Offer, options=LAZY)
async def test_an_event_that_puts_the_timer_off_leaves_it_lazy(world: World) -> None:
    await world.create(minutes=9)
    with world.process.calls() as calls:
        await world.send("Change", 30)
    assert calls == ["load", "commit", "delete_task"]
    assert world.queue.tasks == {}
    await minutes_pass(world, 31)
    assert await fired(world) == [30]


@in_world(Offer, options=LAZY)
async def test_a_timer_that_is_left_before_its_time_costs_nothing(world: World) -> None:
    await world.create(minutes=60)
    await minutes_pass(world, 50)
    with world.process.calls() as calls:
        await world.send("Accept")
    assert calls == ["load", "commit"]
    await minutes_pass(world, 30)
    assert (world.queue.created, world.queue.deleted) == ([], [])


@in_world(Offer, options=LAZY)
async def test_a_timer_that_is_left_after_recovery_created_its_task_is_deleted(world: World) -> None:
    await world.create(minutes=60)
    await minutes_pass(world, 58)
    assert await recover(world) == 1
    (timer,) = world.queue.timers
    await world.send("Accept")
    assert world.queue.deleted == [timer.name]
    assert world.queue.tasks == {}


@in_world(Offer, options=LAZY)
async def test_several_runs_of_recovery_create_one_task(world: World) -> None:
    await world.create(minutes=60)
    await world.pass_time(58 * MINUTE)
    for _ in range(4):
        assert await recover(world) == 1
        await world.clock.advance(20)
    assert len(world.queue.created) == 1
    assert len(world.queue.refused) == 3


@in_world(Offer, options=LAZY)
async def test_more_timers_at_one_deadline_than_the_limit(world: World) -> None:
    for number in range(40):
        await world.create(id=f"offer-{number}", minutes=60)
    await world.pass_time(58 * MINUTE)
    process = world.start()
    for count in (10, 20, 30, 40, 40):
        assert await world.finish(process.engine.recover(limit=10)) == 10
        assert len(world.queue.timers) == count
        await world.clock.advance(20)
    await world.pass_time(MINUTE)
    for number in range(40):
        assert (await world.fields(f"offer-{number}")).log == ["withdrawn"]


@in_world(Offer, options=LAZY)
async def test_recovery_beside_a_near_timer_creates_no_task(world: World) -> None:
    await world.create(minutes=9)
    await world.pass_time(8 * MINUTE)
    assert await recover(world) == 0
    assert len(world.queue.created) == 1


@pytest.mark.parametrize("outage", [3, 60])
@in_world(Offer, options=LAZY)
async def test_a_timer_is_late_by_as_long_as_recovery_is_down(world: World, outage: float) -> None:
    await world.create(minutes=60)
    await minutes_pass(world, 57)
    await world.pass_time(outage * MINUTE)
    assert await fired(world) == []
    await minutes_pass(world, 1)
    assert await fired(world) == [57 + outage]
    await minutes_pass(world, 5)
    assert (await world.fields()).log == ["withdrawn"]


@pytest.mark.parametrize("seconds", [60, 90, 110])
@in_world(Offer, options=LAZY)
async def test_a_timer_is_in_time_if_recovery_runs_late(world: World, seconds: float) -> None:
    await world.create(minutes=60)
    await minutes_pass(world, 62, every=timedelta(seconds=seconds))
    assert await fired(world) == [60]


@in_world(Offer, options=LAZY)
async def test_a_task_that_recovery_created_and_the_queue_lost_is_created_again(world: World) -> None:
    await world.create(minutes=60)
    await minutes_pass(world, 59)
    world.queue.purge()
    await minutes_pass(world, 3)
    (at,) = await fired(world)
    assert 60 <= at <= 61


@in_world(Offer, options=LAZY)
async def test_a_pause_drops_the_timer_and_its_end_sets_it_again(world: World) -> None:
    await world.create(minutes=60)
    await world.finish(world.process.engine.operate("offer", "order-1", Pause()))
    assert (await world.instance()).wake_at is None
    await minutes_pass(world, 30)
    await world.finish(world.process.engine.operate("offer", "order-1", Unpause()))
    assert world.queue.created == []
    await minutes_pass(world, 31)
    assert await fired(world) == [60]


@in_world(Offer, options=LAZY)
async def test_a_process_without_lazy_timers_goes_on_with_them(world: World) -> None:
    """As after a change of the setting: what is stored decides, not the setting of the process."""
    await world.create(minutes=60)
    world.options = EngineOptions()
    other = world.start()
    await world.pass_time(58 * MINUTE)
    assert await world.finish(other.engine.recover()) == 1
    await world.finish(other.engine.handle_event("offer", "order-1", "Change", b"50"))
    assert [task.at for task in world.queue.timers] == [world.now + 50 * MINUTE]
    await world.pass_time(51 * MINUTE)
    assert await fired(world) == [108]


@in_world(Offer, options=LAZY)
async def test_the_state_says_which_timers_are_lazy(world: World) -> None:
    await world.create(minutes=9)
    near = Before.of(await world.instance()).timers
    await world.send("Change", 60)
    lazy = Before.of(await world.instance()).timers
    assert [*near.values(), *lazy.values()] == [None, world.now + 60 * MINUTE - LAZY_AHEAD]
