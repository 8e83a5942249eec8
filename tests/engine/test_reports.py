"""Reports and heartbeats of running activities: which are stored, and what a function learns about its attempt."""

from __future__ import annotations

import asyncio
import json
import logging
from datetime import timedelta
from typing import Any

import pytest

from cloud_adapter.engine.commits import WRITE_ATTEMPTS_MAX
from cloud_adapter.engine.heartbeats import REPORT_INTERVAL
from cloud_adapter.engine.operations import Cancel
from cloud_adapter.engine.task_handler import Outcome
from cloud_adapter.engine.tasks import ACTIVITY_PATH
from tests.engine.harness import World, in_world, nothing
from tests.waits import the
from workflow_core import (
    Activity,
    ActivityContext,
    AttemptOver,
    ForEach,
    Go,
    On,
    Retry,
    S,
    Select,
    While,
    Workflow,
)
from workflow_core.wait_types import ActivityWait

INTERVAL = REPORT_INTERVAL.total_seconds()
BEAT = timedelta(minutes=2)
ENDS: dict[str, asyncio.Future[None]] = {}
CONTEXTS: dict[str, ActivityContext] = {}
SEEN: list[str] = []


@pytest.fixture(autouse=True)
def _fresh() -> None:
    ENDS.clear()
    CONTEXTS.clear()
    SEEN.clear()


async def held(name: str, context: ActivityContext) -> str:
    """Runs until the test ends it."""
    CONTEXTS[name] = context
    ENDS[name] = asyncio.get_running_loop().create_future()
    try:
        await ENDS[name]
    except asyncio.CancelledError:
        SEEN.append(name)
        raise
    return name


class One(Workflow, name="one"):
    definition = S(
        Activity("work", held, input=lambda w: "work", heartbeat=BEAT, retry=Retry(max_attempts=2, jitter=0)),
        Select("end", On("End", nothing)),
    )


async def begun(world: World) -> list[asyncio.Future[Outcome]]:
    """Begins all attempts that are scheduled."""
    running: list[asyncio.Future[Outcome]] = []
    for task in [task for task in world.queue.tasks.values() if task.path == ACTIVITY_PATH]:
        del world.queue.tasks[task.name]
        running.append(asyncio.ensure_future(world.process.perform(task)))
        await world.clock.settle()
    return running


async def wait(world: World) -> ActivityWait:
    return the(ActivityWait, (await world.instance()).execution.threads[0].waits)


async def ended(world: World, *running: asyncio.Future[Outcome]) -> None:
    for end in ENDS.values():
        if not end.done():
            end.set_result(None)
    for attempt in running:
        assert await world.finish(attempt) is Outcome.DONE


# --- when reports are stored -----------------------------------------------------------------


@pytest.mark.parametrize("pause", [0.0, 1.0, INTERVAL - 0.1, INTERVAL, INTERVAL + 0.1, 3 * INTERVAL])
@in_world(One)
async def test_every_report_is_stored_one_interval_after_the_last_one_at_the_latest(world: World, pause: float) -> None:
    await world.create()
    running = await begun(world)
    context, stored_at, pc = CONTEXTS["work"], world.now, (await world.instance()).execution.pc
    await context.report(0)
    assert (await wait(world)).progress == 0
    for number in range(1, 9):
        await world.clock.advance(pause)
        reporting = asyncio.ensure_future(context.report(number))
        await world.clock.settle()
        assert reporting.done()
        is_stored = (await wait(world)).progress == number
        assert is_stored == (world.now - stored_at >= REPORT_INTERVAL)
        if is_stored:
            stored_at = world.now
        else:
            await world.clock.advance((stored_at + REPORT_INTERVAL - world.now).total_seconds() - 0.01)
            assert (await wait(world)).progress != number
            await world.clock.advance(0.01)
            assert (await wait(world)).progress == number
            stored_at = world.now
    assert (await world.instance()).execution.pc == pc + 9
    await ended(world, *running)


@in_world(One)
async def test_of_the_reports_within_an_interval_only_the_last_one_is_stored(world: World) -> None:
    await world.create()
    running = await begun(world)
    for round in range(3):
        pc = (await world.instance()).execution.pc
        for number in range(5):
            await world.finish(CONTEXTS["work"].report([round, number]))
        await world.clock.advance(INTERVAL)
        assert (await wait(world)).progress == [round, 4]
        assert (await world.instance()).execution.pc <= pc + 2
    await ended(world, *running)


@pytest.mark.parametrize("newer", [None, "newer"])
@in_world(One)
async def test_a_report_that_could_not_be_stored_comes_with_the_next_heartbeat(world: World, newer: Any) -> None:
    await world.create()
    running = await begun(world)
    for nth in range(1, WRITE_ATTEMPTS_MAX + 1):
        world.process.unavailable("commit", nth, applied=False)
    await world.finish(CONTEXTS["work"].report("first"))
    assert (await wait(world)).progress is None
    if newer is not None:
        await world.finish(CONTEXTS["work"].report(newer))
    await world.finish(CONTEXTS["work"].heartbeat())
    assert (await wait(world)).progress == (newer or "first")
    await world.clock.advance(2 * INTERVAL)
    assert (await wait(world)).progress == (newer or "first")
    await ended(world, *running)


@in_world(One)
async def test_a_report_is_a_sign_of_life_and_the_next_attempt_begins_without_one(world: World) -> None:
    await world.create()
    running = await begun(world)
    await world.clock.advance(BEAT.total_seconds() - 1)
    await world.finish(CONTEXTS["work"].report("half"))
    assert (await wait(world)).deadline == world.now + BEAT
    await world.clock.advance(1)
    await world.deliver()
    assert (await wait(world)).attempt == 0
    ENDS["work"].set_exception(OSError("gone"))
    assert await world.finish(running[0]) is Outcome.DONE
    following = await wait(world)
    assert (following.attempt, following.progress, following.error) == (1, None, "OSError: gone")


@in_world(One)
async def test_a_report_that_still_waits_when_the_function_ends_is_dropped(world: World) -> None:
    await world.create()
    running = await begun(world)
    for number in range(2):
        await world.finish(CONTEXTS["work"].report(number))
    await ended(world, *running)
    before = await world.instance()
    await world.clock.advance(10 * INTERVAL)
    assert await world.instance() == before
    assert before.execution.threads[0].step == "end"


# --- what the log tells ----------------------------------------------------------------------


@in_world(One)
async def test_a_heartbeat_that_failed_is_logged_with_its_error(world: World, caplog: pytest.LogCaptureFixture) -> None:
    await world.create()
    running = await begun(world)
    caplog.set_level(logging.INFO, "gorchestrate")
    world.process.unavailable("load", applied=False)
    await world.finish(CONTEXTS["work"].heartbeat())
    (record,) = [record for record in caplog.records if "heartbeat skipped" in record.getMessage()]
    assert record.levelno == logging.WARNING
    assert "the test cut call 1 of load" in json.dumps(vars(record), default=str)
    await ended(world, *running)


# --- an attempt that is over -----------------------------------------------------------------


@pytest.mark.parametrize("sign", ["heartbeat", "report"])
@in_world(One)
async def test_a_function_is_told_at_each_sign_that_its_attempt_is_over(world: World, sign: str) -> None:
    await world.create()
    (running,) = await begun(world)
    context = CONTEXTS["work"]
    await world.start().engine.operate("one", "order-1", Cancel())
    assert not context.cancelled
    for _ in range(3):
        with pytest.raises(AttemptOver, match="attempt 1 of activity 'work' is over"):
            await world.finish(context.report(1) if sign == "report" else context.heartbeat())
        assert context.cancelled
    assert await world.finish(running) is Outcome.DONE
    assert SEEN == ["work"], "it is interrupted, too"


@pytest.mark.parametrize("seconds", [INTERVAL, INTERVAL + 1])
@in_world(One)
async def test_a_report_that_is_due_tells_at_once_that_its_attempt_is_over(world: World, seconds: float) -> None:
    await world.create()
    await begun(world)
    await CONTEXTS["work"].report(0)
    await world.start().engine.operate("one", "order-1", Cancel())
    await world.clock.advance(seconds)
    with pytest.raises(AttemptOver):
        await CONTEXTS["work"].report(1)


@pytest.mark.parametrize("sign", ["heartbeat", "report"])
@in_world(One)
async def test_a_function_is_told_that_its_instance_is_gone(world: World, sign: str) -> None:
    await world.create()
    (running,) = await begun(world)
    context = CONTEXTS["work"]
    await world.store.connections.run(lambda connection: connection.execute("DELETE FROM instances").close())
    with pytest.raises(AttemptOver):
        await world.finish(context.report(1) if sign == "report" else context.heartbeat())
    assert context.cancelled
    assert await world.finish(running) is Outcome.DONE
    assert SEEN == ["work"]


class Branches(Workflow, name="branches"):
    definition = S(
        ForEach("each", lambda w: ["a", "b", "c"], Activity("work", held), parallel=True),
        Select("end", On("End", nothing)),
    )


@in_world(Branches)
async def test_the_attempts_of_one_instance_end_independently(world: World) -> None:
    """When one ends by itself, the others are still told that they are over."""
    await world.create()
    first, second, third = await begun(world)
    ENDS["a"].set_result(None)
    assert await world.finish(first) is Outcome.DONE
    assert SEEN == []
    assert not CONTEXTS["b"].cancelled
    await world.process.engine.operate("branches", "order-1", Cancel())
    assert await world.finish(second) is Outcome.DONE
    assert await world.finish(third) is Outcome.DONE
    assert sorted(SEEN) == ["b", "c"]


@in_world(Branches)
async def test_the_attempts_of_another_instance_go_on(world: World) -> None:
    await world.create(id="1")
    await world.create(id="2")
    running = await begun(world)
    assert len(running) == 6
    await world.process.engine.operate("branches", "1", Cancel())
    for attempt in running[:3]:
        assert await world.finish(attempt) is Outcome.DONE
    assert len(SEEN) == 3 and not any(attempt.done() for attempt in running[3:])
    await ended(world, *running[3:])
    assert (await world.store.load("branches", "2")).execution.threads[0].step == "end"


def version(name: str, *former: str) -> type[Workflow]:
    """A version of a workflow whose activity has this name, and had the former ones."""

    class Version(Workflow, name="article"):
        definition = S(
            Go("side", While("always", lambda w: True, Select("nudges", On("Nudge", nothing)))),
            Activity(name, held, input=lambda w: "work", renamed_from=former),
            Select("end", On("End", nothing)),
        )

    return Version


@pytest.mark.parametrize("is_scheduled_by_new_code", [False, True])
@in_world(version("new", "old"))
async def test_an_attempt_that_was_renamed_goes_on_until_it_is_over(
    world: World, is_scheduled_by_new_code: bool
) -> None:
    """Its task has the former name, and its wait has the former one or the new one, as the last commit has left it."""
    process = world.process if is_scheduled_by_new_code else world.start(version("old"))
    await world.finish(process.engine.create("article", "order-1"))
    (running,) = await begun(world)
    for _ in range(2):
        await world.send("Nudge")
        await world.clock.settle()
        assert not CONTEXTS["work"].cancelled
    await world.process.engine.operate("article", "order-1", Cancel())
    assert await world.finish(running) is Outcome.DONE
    assert CONTEXTS["work"].cancelled and SEEN == ["work"]
