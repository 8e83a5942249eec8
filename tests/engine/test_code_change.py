"""A new version of a workflow under instances that were parked by the old one."""

from __future__ import annotations

import asyncio
import logging
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from cloud_adapter.engine.operations import Goto
from cloud_adapter.engine.task_handler import Outcome
from cloud_adapter.engine.tasks import ACTIVITY_PATH
from cloud_adapter.errors import UserCodeError, WorkflowNotFound
from tests.engine.harness import ID, Gate, World, article, in_world, nothing, write
from workflow_core import (
    Activity,
    ActivityContext,
    ForEach,
    Go,
    InvalidFields,
    On,
    S,
    Select,
    Statement,
    Step,
    TerminalError,
    Timeout,
    Try,
    UnknownStatement,
    WaitFor,
    While,
    Workflow,
)

DAY = timedelta(days=1)
GATE = Gate()
RUNS: list[int] = []
"""The attempts that have begun."""


START = Select("start", On("Begin", nothing))
END = Select("end", On("End", nothing))
OLD = article(
    START, Step("write", write("write")), Select("review", On("Approve", nothing)), Step("print", write("p")), END
)


@in_world(OLD)
async def test_statements_may_be_added_before_and_behind_a_parked_instance(world: World) -> None:
    await world.create()
    await world.send("Begin")
    await world.deliver()
    old = (await world.instance()).execution.definition_version
    new = article(
        Step("outline", write("outline")),
        START,
        Step("write", write("write")),
        Step("proofread", write("proofread")),
        Select("review", On("Approve", write("approved")), On("Refuse", write("refused"))),
        Step("illustrate", write("illustrate")),
        Step("print", write("p")),
        END,
    )
    process = world.start(new)
    accepted = (await process.engine.get("article", ID)).accepted
    assert [one.case.event for one in accepted] == ["Approve", "Refuse"]
    await process.send("Refuse")
    await world.deliver(process)
    assert (await world.fields()).log == ["write", "refused", "illustrate", "p"]
    assert (await world.instance()).execution.definition_version != old


@in_world(OLD)
async def test_a_step_that_is_due_runs_with_the_new_code(world: World) -> None:
    await world.create()
    await world.send("Begin")
    new = article(START, Step("write", write("rewritten")), END)
    await world.deliver(world.start(new))
    assert (await world.fields()).log == ["rewritten"]


@in_world(OLD)
async def test_an_unknown_statement_is_acknowledged_and_goes_on_when_it_is_back(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    await world.create()
    await world.send("Begin")
    before = await world.instance()
    bad = world.start(article(START, Step("compose", write("compose")), END))
    caplog.set_level(logging.ERROR, "gorchestrate")
    with bad.calls() as calls:
        assert await bad.deliver(world.queue.resumes[0]) is Outcome.DONE
    assert calls == ["load"]
    assert "is at 'write', which the definition no longer contains" in caplog.text
    assert await world.instance() == before
    assert world.queue.tasks == {}

    assert await world.start().engine.recover() == 1
    await world.deliver()
    assert (await world.fields()).log == ["write"]
    assert (await world.instance()).execution.status == "waiting"


BESIDE = Go("beside", Select("wait beside", On("Other", nothing)))


@in_world(article(BESIDE, START, Step("write", write("write")), END))
async def test_a_step_does_not_run_beside_an_unknown_statement(world: World) -> None:
    await world.create()
    await world.send("Begin")
    before = await world.instance()
    bad = world.start(
        article(Go("beside", Select("gone", On("Other", nothing))), START, Step("write", write("w")), END)
    )
    assert await bad.deliver(world.queue.resumes[0]) is Outcome.DONE
    assert await world.instance() == before
    await world.clock.advance(60)
    assert await world.start().engine.recover() == 1
    await world.deliver()
    assert (await world.fields()).log == ["write"]


@in_world(OLD)
async def test_an_event_for_an_unknown_wait_changes_nothing(world: World) -> None:
    await world.create()
    before = await world.instance()
    bad = world.start(article(END))
    with pytest.raises(UnknownStatement, match="'start'"):
        await bad.send("End")
    assert await world.instance() == before


def fails(workflow: Any) -> None:
    raise TerminalError("no luck")


def each(name: str) -> ForEach:
    return ForEach(name, lambda w: [1, 2], START, Step("write", write("write")))


FAILS, FAILS_AGAIN = Step("fail", fails), Step("fail again", fails)

SECTIONS = {
    "ForEach": (each("a"), each("b"), "start"),
    "finally_ of the Try": (Try("a", FAILS).finally_(START), Try("b", FAILS).finally_(START), "failed"),
    "except_": (
        Try("t", FAILS).except_(Exception, START, name="a"),
        Try("t", FAILS).except_(Exception, START, name="b"),
        "end",
    ),
    "except_ around another": (
        Try("t", FAILS).except_(Exception, Try("u", FAILS_AGAIN).except_(Exception, START, name="c"), name="a"),
        Try("t", FAILS).except_(Exception, Try("u", FAILS_AGAIN).except_(Exception, START, name="c"), name="b"),
        "end",
    ),
    "finally_ of the Try that is left": (Try("a", FAILS).finally_(START), START, "failed"),
}
"""The old and the new section, and where the instance is after the event."""


@pytest.mark.parametrize("kind", SECTIONS)
def test_an_instance_in_a_section_with_another_name_waits_until_it_has_its_name_again(
    tmp_path: Path, kind: str
) -> None:
    old, new, next_place = SECTIONS[kind]

    @in_world(article(old, END))
    async def run(world: World) -> None:
        await world.create()
        await world.deliver()
        before = await world.instance()
        assert before.execution.threads[0].step == "start"
        bad = world.start(article(new, END))
        what = kind.removesuffix(" that is left").removesuffix(" around another")
        with pytest.raises(UnknownStatement, match=rf"is at 'start' in the {what} 'a', which the definition no longer"):
            await bad.send("Begin")
        assert "no longer has around it" in (await bad.engine.get("article", ID)).problem
        assert await world.instance() == before

        good = world.start()
        await good.send("Begin")
        await world.deliver(good)
        execution = (await world.instance()).execution
        assert (execution.threads[0].step if execution.live else execution.status) == next_place

    run(tmp_path)


@pytest.mark.parametrize("kind", ["ForEach", "except_"])
def test_an_instance_in_a_section_with_another_name_can_be_moved(tmp_path: Path, kind: str) -> None:
    old, new, _ = SECTIONS[kind]

    @in_world(article(old, END))
    async def run(world: World) -> None:
        await world.create()
        await world.deliver()
        bad = world.start(article(new, END))
        await bad.engine.operate("article", ID, Goto(statement="start"))
        await bad.send("Begin")

    run(tmp_path)


TIMED = article(
    Go("timer", Select("pause", Timeout("pause over", DAY, Step("wake", write("wake"))))),
    Go("waiter", WaitFor("never", lambda w: "never" in w.log)),
    Select("main wait", On("End", nothing)),
)


@pytest.mark.parametrize(
    "new",
    [
        # The statement that another thread stands on is gone.
        article(
            Go("timer", Select("pause", Timeout("pause over", DAY, Step("wake", write("wake"))))),
            Go("waiter", WaitFor("ever", lambda w: "never" in w.log)),
            Select("main wait", On("End", nothing)),
        ),
        # The statement of the timer itself is gone.
        article(
            Go("timer", Select("rest", Timeout("rest over", DAY, Step("wake", write("wake"))))),
            Go("waiter", WaitFor("never", lambda w: "never" in w.log)),
            Select("main wait", On("End", nothing)),
        ),
    ],
)
@in_world(TIMED)
async def test_a_timer_beside_an_unknown_statement_does_not_fail_the_instance(world: World, new: Any) -> None:
    await world.create()
    await world.clock.advance(DAY.total_seconds())
    before = await world.instance()
    bad = world.start(new)
    assert await bad.deliver(world.queue.timers[0]) is Outcome.DONE
    assert await world.instance() == before
    assert await world.start().engine.recover() == 1
    await world.deliver()
    assert (await world.fields()).log == ["wake"]


@in_world(TIMED)
async def test_a_timeout_that_is_gone_never_comes(world: World) -> None:
    await world.create()
    await world.clock.advance(DAY.total_seconds())
    before = await world.instance()
    new = world.start(
        article(
            Go("timer", Select("pause", On("Wake", nothing))),
            Go("waiter", WaitFor("never", lambda w: "never" in w.log)),
            Select("main wait", On("End", nothing)),
        )
    )
    assert await new.deliver(world.queue.timers[0]) is Outcome.DONE
    assert await world.instance() == before
    await new.send("Wake")
    await new.send("End")
    assert (await world.instance()).execution.status == "finished"


@in_world(OLD)
async def test_a_new_condition_that_raises_is_acknowledged(world: World, caplog: pytest.LogCaptureFixture) -> None:
    old = article(Go("w", WaitFor("done", lambda w: False)), START, Step("write", write("write")), END)
    new = article(Go("w", WaitFor("done", lambda w: 1 / 0)), START, Step("write", write("write")), END)
    process = world.start(old)
    await process.engine.create("article", ID)
    await process.send("Begin")
    before = await world.instance()
    bad = world.start(new)
    caplog.set_level(logging.ERROR, "gorchestrate")
    assert await bad.deliver(world.queue.resumes[0]) is Outcome.DONE
    assert "ZeroDivisionError" in caplog.text
    assert "done" in caplog.text
    assert await world.instance() == before
    with pytest.raises(UserCodeError, match="'done'"):
        await bad.send("End")
    assert await process.engine.recover() == 1
    await world.deliver(process)
    assert (await world.fields()).log == ["write"]


@in_world(OLD)
async def test_fields_that_no_longer_fit_are_left_alone(world: World, caplog: pytest.LogCaptureFixture) -> None:
    class Changed(Workflow, name="article"):
        log: int
        definition = OLD.definition

    await world.create()
    await world.send("Begin")
    before = await world.instance()
    bad = world.start(Changed)
    caplog.set_level(logging.ERROR, "gorchestrate")
    assert await bad.deliver(world.queue.resumes[0]) is Outcome.DONE
    assert "do not fit their types: log" in caplog.text
    with pytest.raises(InvalidFields):
        await bad.send("Approve")
    assert await world.instance() == before


@in_world(OLD)
async def test_a_workflow_that_is_no_longer_served(world: World) -> None:
    class Other(Workflow, name="other"):
        definition = S(While("x", lambda w: False, END))

    await world.create()
    await world.send("Begin")
    process = world.start(Other)
    assert await process.deliver(world.queue.resumes[0]) is Outcome.DONE
    with pytest.raises(WorkflowNotFound, match="Available: other"):
        await process.send("Approve")


async def live(_: None, context: ActivityContext) -> int:
    RUNS.append(context.attempt)
    await GATE.wait()
    await context.heartbeat()
    return len(RUNS)


def working(version: int, *more: Statement, then: Any = None) -> type[Workflow]:
    """A version with an activity, beside a thread that an event moves on to what newer code has added."""

    class Working(Workflow, name="article", version=version):
        log: list[str] = []

        def keep(self, result: int) -> None:
            self.log.append(f"result {result}")

        definition = S(
            Go("side", Select("wait", On("Nudge", write("nudge"))), *more, Select("side end", On("End", nothing))),
            Activity("live", live, then=keep, heartbeat=timedelta(minutes=5)),
            Select("end", On("Stop", nothing)),
        )

    return Working


ADDED = Select("added", On("Added", nothing))


async def begun(world: World) -> asyncio.Future[Outcome]:
    """An instance whose activity is running, and the delivery that runs it."""
    RUNS.clear()
    await world.create()
    (attempt,) = (task for task in world.queue.tasks.values() if task.path == ACTIVITY_PATH)
    del world.queue.tasks[attempt.name]
    running = asyncio.ensure_future(world.process.perform(attempt))
    await world.clock.settle()
    return running


@pytest.mark.parametrize("new", [working(2), working(1, ADDED)], ids=["newer version", "unknown statement"])
@in_world(working(1))
async def test_an_activity_of_old_code_ends_although_newer_code_has_moved_its_instance(world: World, new: Any) -> None:
    running = await begun(world)
    newer = world.start(new)
    await newer.send("Nudge")
    GATE.open()
    assert await world.finish(running) is Outcome.DONE, "it is not done again"
    assert await world.history("activity", "activity failed") == []
    await world.pass_time(timedelta(minutes=1), newer)
    assert await world.history("activity", "activity failed") == [("activity", "live")]
    assert (await world.fields()).log == ["nudge", "result 1"]


@in_world(working(1))
async def test_a_result_that_only_newer_code_can_take_is_found_if_its_task_is_lost(world: World) -> None:
    running = await begun(world)
    newer = world.start(working(1, ADDED))
    await newer.send("Nudge")
    GATE.open()
    await world.finish(running)
    await world.pass_time(timedelta(minutes=1))  # old code collects, and leaves it to newer code
    assert await world.history("activity", "activity failed") == []
    world.queue.purge()
    await newer.engine.recover()
    await world.pass_time(timedelta(minutes=1), newer)
    assert (await world.fields()).log == ["nudge", "result 1"]
