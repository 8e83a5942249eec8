"""Instances that recovery cannot move are looked at less and less often, and at once when something has changed."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest

from cloud_adapter.document import InboxEntry
from cloud_adapter.engine.inbox import ages
from cloud_adapter.engine.recovery import POSTPONED_MAX, postponement
from tests.engine.harness import Process, World, in_world, write
from workflow_core import Go, On, S, Select, Step, Timeout, Workflow

MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)


class Parcel(Workflow, name="parcel"):
    log: list[str] = []

    definition = S(
        Go("reminders", Select("reminder", On("Note", lambda w: w.log.append("note")), Timeout("remind", 9 * HOUR))),
        Select("address", On("Send", lambda w: None)),
        Step("pack", write("pack")),
        Select("signature", On("Sign", lambda w: None)),
    )


class Other(Workflow, name="other"):
    definition = S(Select("end", On("End", lambda w: None), Timeout("late", HOUR)))


async def stuck(world: World, id: str = "order-1") -> None:
    """An instance whose step is due, at a statement that the code does not have."""
    await world.create(id=id)
    await world.send("Send", id=id)
    instance = await world.instance(id)
    instance.execution.threads[0].step = "gone"
    await world.store.commit(instance)
    world.queue.purge()


async def repaired(world: World, id: str = "order-1") -> None:
    """The stored statement is one that there is, as if the code was repaired. ``wake_at`` stays as it is."""
    await world.store.connections.run(
        lambda connection: connection.execute(
            "UPDATE instances SET execution = replace(execution, 'gone', 'pack') WHERE id = ?", (id,)
        ).close()
    )


async def looks(world: World, process: Process, minutes: int) -> list[int]:
    """The minutes in which recovery loads the instance, while it is called every minute."""
    found = []
    for minute in range(minutes):
        with process.calls() as calls:
            await world.finish(process.engine.recover())
        if "load" in calls:
            found.append(minute)
        await world.clock.advance(60)
    return found


def test_the_time_doubles_up_to_six_hours() -> None:
    minutes = [postponement(count) / MINUTE for count in range(7)]
    assert minutes == [10, 20, 40, 80, 160, 320, 360]
    assert postponement(10**9) == POSTPONED_MAX


@in_world(Parcel)
async def test_an_instance_that_cannot_move_is_looked_at_less_and_less_often(world: World) -> None:
    await stuck(world)
    assert await looks(world, world.process, 160) == [0, 1, 2, 3, 4, 5, 15, 35, 75, 155]
    assert world.queue.tasks == {}


@in_world(Parcel)
async def test_a_commit_ends_the_postponement(world: World) -> None:
    await stuck(world)
    await looks(world, world.process, 20)
    before = await world.instance()
    assert before.wake_at is not None and before.wake_at > world.now + 10 * MINUTE
    await repaired(world)
    await world.send("Note")
    assert (await world.instance()).wake_at == world.now
    world.queue.purge()
    assert await world.finish(world.process.engine.recover()) == 1
    await world.deliver()
    assert (await world.fields()).log == ["note", "pack"]


@in_world(Parcel)
async def test_a_new_process_tries_what_is_postponed(world: World) -> None:
    await stuck(world)
    await looks(world, world.process, 20)
    await repaired(world)
    assert await world.finish(world.process.engine.recover()) == 0
    assert await world.finish(world.start().engine.recover()) == 1
    await world.deliver()
    assert (await world.fields()).log == ["pack"]
    assert list(await world.store.postponed(world.now)) == []


@in_world(Parcel)
async def test_what_is_postponed_can_be_tried_at_any_time(world: World) -> None:
    await stuck(world)
    await looks(world, world.process, 20)
    await repaired(world)
    assert await world.finish(world.process.engine.recover(try_postponed=True)) == 1


@in_world(Parcel)
async def test_what_still_cannot_move_keeps_its_time(world: World) -> None:
    await stuck(world)
    await looks(world, world.process, 20)
    before = await world.instance()
    assert await world.finish(world.start().engine.recover()) == 0
    assert await world.instance() == before


@in_world(Parcel)
async def test_a_lost_race_against_a_commit_postpones_nothing(world: World) -> None:
    await stuck(world)
    await world.clock.advance(600)
    process = world.start()

    async def note() -> None:
        await world.store.commit(replace(await world.instance(), fields='{"log": ["raced"]}'))

    process.fault("postpone", before=note)
    assert await process.engine.recover() == 0
    instance = await world.instance()
    assert (instance.fields, instance.wake_at) == ('{"log": ["raced"]}', world.now - 600 * timedelta(seconds=1))


@in_world(Parcel, Other)
async def test_a_workflow_of_another_service_is_left_to_it_for_an_hour(world: World) -> None:
    await world.finish(world.process.engine.create("other", "theirs"))
    deadline = world.now + HOUR
    world.queue.purge()
    await world.clock.advance(3600)
    alone = world.start(Parcel)
    for _ in range(59):
        assert await alone.engine.recover() == 0
        assert (await world.store.load("other", "theirs")).wake_at == deadline
        await world.clock.advance(60)
    await world.clock.advance(60)
    await alone.engine.recover()
    assert (await world.store.load("other", "theirs")).wake_at == world.now + 10 * MINUTE
    assert await world.start().engine.recover() == 1, "a process that serves it tries it at once"


@in_world(Parcel)
async def test_more_instances_than_a_page_are_recovered_side_by_side(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cloud_adapter.engine.recovery.PAGE", 3)
    world.queue.calls_max = 4
    for number in range(10):
        if number % 3:
            await world.create(id=f"order-{number}")
            await world.send("Send", id=f"order-{number}")
        else:
            await stuck(world, f"order-{number}")
    world.queue.purge()
    assert await world.finish(world.start().engine.recover(limit=1_000)) == 6
    assert sorted(task.body["id"] for task in world.queue.resumes) == [f"order-{n}" for n in (1, 2, 4, 5, 7, 8)]


@in_world(Parcel)
async def test_recovery_stops_when_its_time_is_up_and_the_next_one_goes_on(world: World) -> None:
    for number in range(5):
        await world.create(id=f"order-{number}")
        await world.send("Send", id=f"order-{number}")
    world.queue.purge()
    process = world.start()

    async def slowly() -> None:
        await world.clock.sleep(10)

    for nth in range(1, 10):
        process.fault("load", nth, before=slowly)
    assert await world.finish(process.engine.recover(seconds=25)) == 3
    await world.deliver()
    assert await world.finish(process.engine.recover(seconds=25)) == 2


@in_world(Parcel)
async def test_a_call_that_ends_at_its_limit_lets_the_next_one_go_on(world: World) -> None:
    """Nothing is delivered between the calls, so each would find the same instances first."""
    ids = [f"order-{number}" for number in range(10)]
    for id in ids:
        await world.create(id=id)
        await world.send("Send", id=id)
    world.queue.purge()
    process = world.start()
    seen = list[str]()
    for _ in range(10):
        assert await world.finish(process.engine.recover(limit=3)) == 3
        seen += [task.body["id"] for task in world.queue.resumes]
        world.queue.purge()
        await world.clock.advance(60)
    assert sorted(seen[:10]) == ids
    assert {seen.count(id) for id in ids} == {3}


@in_world(Parcel)
async def test_a_call_side_by_side_schedules_no_more_than_its_limit(world: World) -> None:
    world.queue.calls_max = 8
    await stuck(world, "stuck")  # fills a place of the first page, and is not scheduled
    for number in range(6):
        await world.create(id=f"order-{number}")
        await world.send("Send", id=f"order-{number}")
    world.queue.purge()
    process = world.start()
    assert [await world.finish(process.engine.recover(limit=3)) for _ in range(2)] == [3, 3]
    assert len({task.body["id"] for task in world.queue.resumes}) == 6


@pytest.mark.parametrize("stop", [1, 3, 5, 6, 9, 10])
@in_world(Parcel)
async def test_a_call_that_goes_on_looks_at_each_instance_once(
    world: World, stop: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cloud_adapter.engine.recovery.PAGE", 3)
    for number in range(10):
        await world.create(id=f"order-{number}")
        await world.send("Send", id=f"order-{number}")
    process = world.start()
    assert await world.finish(process.engine.recover(limit=stop)) == stop
    with process.calls() as calls:
        assert await world.finish(process.engine.recover(limit=100)) == 10
    assert calls.count("load") == 10


@pytest.mark.parametrize("limit", [2, 4, 7, 10, 11])
@in_world(Parcel)
async def test_what_vanishes_meanwhile_hides_nothing(world: World, limit: int) -> None:
    ids = [f"order-{number}" for number in range(20)]
    for id in ids:
        await world.create(id=id)
        await world.send("Send", id=id)
        await world.clock.advance(1)
    world.queue.purge()
    process = world.start()
    for call in range(-(-20 // limit)):
        await world.finish(process.engine.recover(limit=limit))
        # The last one, where the next call begins, is among those that move on.
        await world.deliver()
        moved = [id for id in ids if (await world.fields(id)).log]
        assert len(moved) == min(limit * (call + 1), 20)


@pytest.mark.parametrize("limit", [1, 2, 5, 10])
@in_world(Parcel)
async def test_all_postponed_instances_are_tried_and_what_is_due_does_not_wait_for_them(
    world: World, limit: int
) -> None:
    stuck_ids = [f"stuck-{number}" for number in range(8)]
    for id in stuck_ids:
        await stuck(world, id)
    await looks(world, world.process, 20)
    for id in stuck_ids:
        await repaired(world, id)
    for number in range(8):
        await world.create(id=f"due-{number}")
        await world.send("Send", id=f"due-{number}")
    world.queue.purge()
    process = world.start()
    calls = -(-16 // limit)
    for call in range(calls):
        assert await world.finish(process.engine.recover(limit=limit)) <= limit
        if call == 0 and limit > 1:
            assert {task.body["id"][:3] for task in world.queue.resumes} == {"stu", "due"}
        await world.deliver()
    await world.finish(process.engine.recover(limit=limit))
    await world.deliver()
    for id in (*stuck_ids, *(f"due-{number}" for number in range(8))):
        assert (await world.fields(id)).log == ["pack"], id
    assert list(await world.store.postponed(world.now)) == []


# --- inboxes -----------------------------------------------------------------------------------


def at(minute: float) -> datetime:
    return datetime(2030, 1, 1, tzinfo=UTC) + minute * MINUTE


@pytest.mark.parametrize("posted", [0, 3, 7, 111, 319])
def test_an_entry_is_looked_at_less_often_the_older_it_is(posted: int) -> None:
    seen = []
    for age in range(1, 48 * 60):
        ranges = ages(at(posted + age - 1), at(posted + age), at(posted + age) - MINUTE / 2)
        if any((since is None or since < at(posted)) and at(posted) <= until for since, until in ranges):
            seen.append(age)
    assert seen[:9] == [*range(1, 10)]
    assert len(seen) < 25
    assert all(after <= 4 * age + 10 for age, after in pairwise(seen))
    assert {after - age for age, after in pairwise(seen) if age >= 640} == {320}


@pytest.mark.parametrize("every", [0.5, 1, 3, 7, 10, 45, 60])
@pytest.mark.parametrize("first", [0, 7, 13.5])
@pytest.mark.parametrize("posted", [14, 21, 111])
def test_an_entry_is_found_whatever_the_time_between_calls(every: float, first: float, posted: float) -> None:
    calls = [first + number * every for number in range(int(48 * 60 / every))]
    seen = []
    for last, now in pairwise(calls):
        ranges = ages(at(last), at(now), at(now) - MINUTE / 2)
        if any((since is None or since < at(posted)) and at(posted) <= until for since, until in ranges):
            seen.append(now)
    assert seen[0] == next(now for now in calls if now >= posted + 0.5)
    assert all(after - before <= max(4 * (before - posted) + 10, 320) + every for before, after in pairwise(seen))
    old = [after - before for before, after in pairwise(seen) if before - posted >= 640]
    assert all(abs(minutes - 320) < max(every, 1) for minutes in old)


@in_world(Parcel)
async def test_calls_an_hour_apart_collect_an_old_entry(world: World) -> None:
    process = world.start()
    await world.clock.advance(7 * 60)
    await process.engine.recover()
    await world.clock.advance(8 * 60)
    await world.store.post(InboxEntry("parcel", "order-1", "entry", "{}", world.now))
    await world.clock.advance(52 * 60)
    await process.engine.recover()
    assert [task.body["id"] for task in world.queue.tasks.values()] == ["order-1"]


@pytest.mark.parametrize("minute", range(0, 720, 7))
def test_the_ranges_of_a_minute_do_not_overlap(minute: int) -> None:
    ranges = ages(at(minute - 1), at(minute), at(minute) - MINUTE / 2)
    for (since, _), (_, until) in pairwise(ranges):
        assert since is not None and until <= since


@in_world(Parcel)
async def test_old_entries_that_cannot_move_do_not_hide_new_ones(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cloud_adapter.engine.inbox.ENTRIES_MAX", 5)
    process: Any = world.start()
    await process.engine.recover()
    for number in range(8):
        await world.store.post(InboxEntry("parcel", f"stuck-{number}", "entry", "{}", world.now))
    await world.clock.advance(660)
    await world.store.post(InboxEntry("parcel", "new", "entry", "{}", world.now))
    await world.clock.advance(60)
    world.queue.purge()
    await process.engine.recover(limit=5)
    assert "new" in [task.body["id"] for task in world.queue.tasks.values()]
