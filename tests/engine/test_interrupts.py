"""Activities that are no longer needed are interrupted, and running ones report their progress."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta
from typing import Any

import pytest

from cloud_adapter.engine.heartbeats import REPORT_INTERVAL
from cloud_adapter.engine.task_handler import Outcome
from cloud_adapter.engine.tasks import ACTIVITY_PATH
from cloud_adapter.ports import Task
from tests.engine.harness import Gate, World, in_world
from tests.waits import the
from workflow_core import (
    Activity,
    ActivityContext,
    AttemptOver,
    Done,
    On,
    Race,
    S,
    Select,
    Sleep,
    Timeout,
    Within,
    Workflow,
)
from workflow_core.wait_types import ActivityWait

GATE = Gate()
SEEN: list[Any] = []
CONTEXTS: list[ActivityContext] = []


@pytest.fixture(autouse=True)
def _fresh() -> None:
    SEEN.clear()
    CONTEXTS.clear()


async def wait_for_gate(_: None, context: ActivityContext) -> str:
    CONTEXTS.append(context)
    try:
        await GATE.wait()
    except asyncio.CancelledError:
        SEEN.append(("interrupted", context.cancelled))
        raise
    return "done"


class Interrupted(Workflow, name="interrupted"):
    log: list[str] = []

    def keep(self, text: str) -> None:
        self.log.append(text)

    def cancel(self) -> None:
        self.log.append("canceled")

    definition = S(
        Select(
            "the work",
            Done("done", Activity("work", wait_for_gate, then=keep)),
            On("Cancel", cancel),
            Timeout("too long", timedelta(minutes=5)),
        ),
        Select("end", On("End", lambda w: None)),
    )


class Raced(Workflow, name="raced"):
    definition = S(
        Race("race", S(Activity("work", wait_for_gate)), S(Sleep("nap", timedelta(minutes=1)))),
        Within("limit", timedelta(minutes=1), Activity("more work", wait_for_gate)).on_timeout(),
        Select("end", On("End", lambda w: None)),
    )


def attempt(world: World) -> Task:
    return next(task for task in world.queue.tasks.values() if task.path == ACTIVITY_PATH)


@in_world(Interrupted)
async def test_an_event_interrupts_the_activity_of_its_process(world: World) -> None:
    await world.create()
    running = asyncio.ensure_future(world.process.perform(attempt(world)))
    await world.clock.settle()
    await world.send("Cancel")
    assert await world.finish(running) is Outcome.DONE
    assert SEEN == [("interrupted", True)]
    assert (await world.fields()).log == ["canceled"]
    assert await world.history("activity", "activity failed") == []


@in_world(Interrupted)
async def test_another_process_is_told_by_its_next_heartbeat(world: World) -> None:
    await world.create()
    running = asyncio.ensure_future(world.process.perform(attempt(world)))
    await world.clock.settle()
    await world.finish(world.start(Interrupted).post("Cancel"))
    (context,) = CONTEXTS
    assert not context.cancelled
    with pytest.raises(AttemptOver):
        await world.finish(context.heartbeat())
    assert await world.finish(running) is Outcome.DONE
    assert context.cancelled and SEEN == [("interrupted", True)]
    assert (await world.fields()).log == ["canceled"]


@in_world(Interrupted)
async def test_without_an_interruption_its_result_counts(world: World) -> None:
    await world.create()
    running = asyncio.ensure_future(world.process.perform(attempt(world)))
    await world.clock.settle()
    GATE.open()
    assert await world.finish(running) is Outcome.DONE
    assert (await world.fields()).log == ["done"] and SEEN == []
    assert (await world.instance()).execution.threads[0].step == "end"


@in_world(Raced)
async def test_the_end_of_a_race_and_a_deadline_interrupt_activities(world: World) -> None:
    await world.create()
    for round in (1, 2):
        running = asyncio.ensure_future(world.process.perform(attempt(world)))
        world.queue.tasks.pop(attempt(world).name)
        await world.clock.settle()
        await world.clock.advance(61)
        timer = next(task for task in world.queue.timers if task.at is not None and task.at <= world.now)
        await world.process.deliver(timer)
        assert await world.finish(running) is Outcome.DONE
        assert [("interrupted", True)] * round == SEEN
    assert (await world.instance()).execution.threads[0].step == "end"


# --- progress --------------------------------------------------------------------------------


async def report(_: None, context: ActivityContext) -> None:
    for number in range(6):
        await context.report({"rows": number})
        await GATE.wait()


class Reporting(Workflow, name="reporting"):
    definition = S(Activity("count", report, timeout=timedelta(hours=1)), Select("end", On("End", lambda w: None)))


async def progress(world: World) -> Any:
    return the(ActivityWait, (await world.instance()).execution.threads[0].waits).progress


@in_world(Reporting)
async def test_reports_are_stored_at_intervals_and_the_last_one_always(world: World) -> None:
    await world.create()
    deadline = the(ActivityWait, (await world.instance()).execution.threads[0].waits).deadline
    running = asyncio.ensure_future(world.process.perform(attempt(world)))
    await world.clock.settle()
    assert await progress(world) == {"rows": 0}
    before = (await world.instance()).execution.pc
    for _ in range(3):
        GATE.open()
        await world.clock.settle()
    assert await progress(world) == {"rows": 0}
    await world.clock.advance(REPORT_INTERVAL.total_seconds())
    assert await progress(world) == {"rows": 3}
    assert (await world.instance()).execution.pc == before + 1
    assert the(ActivityWait, (await world.instance()).execution.threads[0].waits).deadline == deadline
    view = (await world.instance()).execution.to_dict()
    assert view["threads"][0]["waits"][0]["progress"] == {"rows": 3}
    while not running.done():
        GATE.open()
        await world.clock.settle()
    assert (await world.instance()).execution.threads[0].step == "end"


HALF = json.loads('"\\ud800"')


async def report_badly(_: None, context: ActivityContext) -> None:
    for data in (object(), "x" * 3000, float("nan"), {HALF: 1}):
        try:
            await context.report(data)
        except Exception as error:
            SEEN.append(str(error))


class Bad(Workflow, name="bad"):
    definition = S(Activity("count", report_badly), Select("end", On("End", lambda w: None)))


@in_world(Bad)
async def test_a_report_that_cannot_be_stored_is_an_error_of_the_function(world: World) -> None:
    await world.started()
    assert [text.partition(":")[0] for text in SEEN] == [
        "cannot convert the report of activity 'count' to JSON",
        "the report of activity 'count' has 3,002 bytes, the limit is 2,000. Report less, such as a number",
        "the report of activity 'count' contains nan. JSON has no such number",
        "cannot convert the report of activity 'count' to JSON",
    ]
    assert (await world.instance()).execution.threads[0].step == "end"
