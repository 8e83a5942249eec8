"""What operators mend: retry, goto and set; by whom and why, dry runs, and beside steps that run."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from cloud_adapter.engine.operations import DETAIL_CHARS_MAX, Cancel, Goto, Pause, RetryFailed, SetFields, Unpause
from cloud_adapter.errors import InstanceEnded, InstanceNotFound, TooLarge
from tests.engine.harness import Gate, World, in_world, write
from workflow_core import (
    Fail,
    Go,
    InvalidFields,
    InvalidInput,
    On,
    RepairRefused,
    Retry,
    S,
    Select,
    Step,
    StepContext,
    TerminalError,
    Timeout,
    Try,
    UnknownStatement,
    WaitFor,
    Workflow,
)

GATE = Gate()
BROKEN = {"outside": True}
RUNS: list[str] = []
HOUR = timedelta(hours=1)


@pytest.fixture(autouse=True)
def _broken() -> None:
    BROKEN["outside"] = True
    RUNS.clear()


class Parcel(Workflow, name="parcel"):
    log: list[str] = []
    weight: int = 1
    text: str = ""

    def send(self, step: StepContext) -> None:
        self.log.append(f"send {step.attempt}")
        if BROKEN["outside"]:
            raise TerminalError("no van")

    async def stamp(self) -> None:
        RUNS.append("stamp")
        if RUNS.count("stamp") == 1:
            await GATE.wait()
        self.log.append("stamped")

    definition = S(
        Go("track", Select("tracking", On("Seen", write("seen")), Timeout("lost", HOUR))),
        Step("pack", write("packed")),
        Try("by van", Step("send", send)).finally_(Step("sweep", write("swept"))),
        Select("on its way", On("Arrived", write("arrived")), Timeout("overdue", HOUR, Step("ask", write("asked")))),
        Step("stamp", stamp),
    )


async def operate(world: World, operation: Any) -> Any:
    return await world.finish(world.process.engine.operate("parcel", "order-1", operation))


async def failed(world: World) -> None:
    await world.started()
    assert (await world.instance()).execution.status == "failed"
    assert (await world.fields()).log == ["packed", "swept"]


async def on_its_way(world: World) -> None:
    BROKEN["outside"] = False
    await world.started()
    assert (await world.instance()).execution.threads[0].step == "on its way"


# --- retry -----------------------------------------------------------------------------------


@in_world(Parcel)
async def test_what_has_failed_goes_on_and_its_waits_and_timers_are_there_again(world: World) -> None:
    await failed(world)
    assert not world.queue.tasks
    BROKEN["outside"] = False
    view = await operate(world, RetryFailed(by="ann", reason="the van is back"))
    assert (view.instance.execution.status, view.instance.execution.error) == ("running", None)
    await world.deliver()
    execution = (await world.instance()).execution
    assert (await world.fields()).log == ["packed", "swept", "send 1", "swept"]
    assert [thread.step for thread in execution.threads] == ["on its way", "tracking"]
    assert len(world.queue.timers) == 2
    await world.send("Seen")
    entry = next(one for one in (await world.instance()).history if one.kind == "retry")
    assert (entry.by, entry.reason) == ("ann", "the van is back")


@in_world(Parcel)
async def test_what_fails_again_at_once_is_noted_again(world: World) -> None:
    await failed(world)
    await operate(world, RetryFailed())
    await world.deliver()
    assert (await world.instance()).execution.status == "failed"
    assert (await world.history("failed", "retry")) == [("failed", "send"), ("retry", ""), ("failed", "send")]


class Rotten(Workflow, name="parcel"):
    log: list[str] = []
    definition = S(Fail("no", "no way"))


@in_world(Rotten)
async def test_what_fails_again_in_the_same_commit_is_noted_too(world: World) -> None:
    await world.started()
    view = await operate(world, RetryFailed())
    assert view.instance.execution.status == "failed"
    assert await world.history("failed", "retry") == [("failed", "no"), ("retry", ""), ("failed", "no")]


@in_world(Parcel)
async def test_only_what_has_failed_is_retried(world: World) -> None:
    await on_its_way(world)
    before = await world.instance()
    with pytest.raises(RepairRefused, match="only failed instances can be retried"):
        await operate(world, RetryFailed())
    with pytest.raises(InstanceNotFound):
        await world.finish(world.process.engine.operate("parcel", "nobody", RetryFailed()))
    assert await world.instance() == before


class Flaky(Workflow, name="parcel"):
    log: list[str] = []

    def send(self) -> None:
        RUNS.append("send")
        raise ConnectionError

    def stop(self) -> None:
        RUNS.append("stop")
        if BROKEN["outside"]:
            raise TerminalError("the other thread")

    definition = S(
        Go("other", Select("stop", On("Stop", write("stopped"))), Step("never", stop)),
        Step("send", send, retry=Retry(max_attempts=9, initial=timedelta(minutes=5), jitter=0)),
    )


@in_world(Flaky)
async def test_the_next_attempt_of_what_was_retried_comes(world: World) -> None:
    await world.started()
    await world.send("Stop")
    await world.deliver()
    assert (RUNS, (await world.instance()).execution.status) == (["send", "stop"], "failed")
    await world.pass_time(timedelta(minutes=6))
    assert RUNS == ["send", "stop"], "the task of its next attempt has found nothing to do"
    BROKEN["outside"] = False
    await operate(world, RetryFailed())
    await world.deliver()
    assert RUNS == ["send", "stop", "send", "stop"]
    await world.pass_time(timedelta(minutes=6))
    assert RUNS == ["send", "stop", "send", "stop", "send"]


class Sad(Workflow, name="parcel"):
    log: list[str] = []

    def clean(self) -> None:
        if BROKEN["outside"]:
            raise TerminalError("no broom")
        self.log.append("cleaned")

    definition = S(Try("stay", Select("here", On("Go", write("gone")))).finally_(Step("clean", clean)))


@in_world(Sad)
async def test_what_failed_while_it_was_canceled_is_retried_and_ends_canceled(world: World) -> None:
    await world.started()
    await operate(world, Cancel())
    await world.deliver()
    assert (await world.instance()).execution.status == "failed"
    with pytest.raises(InstanceEnded, match="is failed: it can no longer be canceled"):
        await operate(world, Cancel())
    BROKEN["outside"] = False
    await operate(world, RetryFailed())
    await world.deliver()
    assert (await world.instance()).execution.status == "canceled"
    assert (await world.fields()).log == ["cleaned"]


# --- goto ------------------------------------------------------------------------------------


@in_world(Parcel)
async def test_a_thread_is_put_elsewhere_and_goes_on_from_there(world: World) -> None:
    await on_its_way(world)
    timers = {timer.name for timer in world.queue.timers}
    view = await operate(world, Goto(statement="pack", by="ann", reason="it fell open"))
    assert view.instance.execution.threads[0].step == "pack"
    await world.deliver()
    assert (await world.fields()).log == ["packed", "send 1", "swept"] * 2
    after = {timer.name for timer in world.queue.timers}
    assert len(after) == 2 and len(after & timers) == 1, "that of the other thread stays"
    entry = next(one for one in (await world.instance()).history if one.kind == "goto")
    assert (entry.statement, entry.thread, entry.by, entry.reason) == ("pack", "main", "ann", "it fell open")
    assert entry.detail == "from 'on its way'"


@in_world(Parcel)
async def test_another_thread_is_meant_by_its_id(world: World) -> None:
    await on_its_way(world)
    before = (await world.instance()).execution.thread("track")
    await operate(world, Goto(statement="tracking", thread="track"))
    await world.deliver()
    after = (await world.instance()).execution.thread("track")
    assert before is not None and after is not None and after.pc > before.pc
    with pytest.raises(RepairRefused, match="cannot move thread 'track' to 'pack': 'track' has no such step or wait"):
        await operate(world, Goto(statement="pack", thread="track"))


@in_world(Parcel)
async def test_a_step_that_runs_is_fenced_off_by_goto_and_by_set(world: World) -> None:
    for operation in (Goto(statement="on its way"), SetFields(fields={"weight": 7})):
        world.queue.tasks.clear()
        RUNS.clear()
        id = operation.__class__.__name__
        BROKEN["outside"] = False
        await world.create(id=id)
        await world.deliver()
        await world.send("Arrived", id=id)
        running = asyncio.ensure_future(world.process.perform(world.queue.resumes[0]))
        await world.clock.settle()
        await world.finish(world.process.engine.operate("parcel", id, operation))
        GATE.open()
        await world.finish(running)
        await world.deliver()
        fields, execution = await world.fields(id), (await world.instance(id)).execution
        if isinstance(operation, Goto):
            assert execution.threads[0].step == "on its way"
            assert "stamped" not in fields.log
        else:
            assert fields.log.count("stamped") == 1
            assert fields.weight == 7


@in_world(Parcel)
async def test_a_failed_instance_is_put_elsewhere_and_then_retried(world: World) -> None:
    await failed(world)
    view = await operate(world, Goto(statement="on its way"))
    assert view.instance.execution.status == "failed"
    await world.deliver()
    assert (await world.fields()).log == ["packed", "swept"]
    await operate(world, RetryFailed())
    await world.deliver()
    await world.send("Arrived")


@in_world(Parcel)
async def test_a_paused_instance_is_put_elsewhere_and_stays_paused(world: World) -> None:
    await on_its_way(world)
    await operate(world, Pause())
    view = await operate(world, Goto(statement="pack"))
    assert view.instance.execution.status == "paused"
    await world.deliver()
    assert (await world.fields()).log == ["packed", "send 1", "swept"]
    await operate(world, Unpause())
    await world.deliver()
    assert (await world.fields()).log == ["packed", "send 1", "swept"] * 2


class Renamed(Parcel, name="parcel"):
    definition = S(
        Go("track", Select("tracking 2", On("Seen", write("seen")))),
        Select("under way", On("Arrived", write("arrived"))),
    )


@in_world(Parcel)
async def test_what_stands_on_what_is_gone_is_shown_and_put_elsewhere(world: World) -> None:
    await on_its_way(world)
    new = world.process = world.start(Renamed)
    view = await world.finish(new.engine.get("parcel", "order-1"))
    assert "'on its way', which the definition no longer contains" in view.problem
    assert view.accepted == ()
    with pytest.raises(UnknownStatement):
        await world.finish(new.engine.operate("parcel", "order-1", Pause()))
    view = await world.finish(new.engine.operate("parcel", "order-1", Goto(statement="under way")))
    assert "'tracking', which" in view.problem, "the other thread cannot move yet"
    view = await world.finish(new.engine.operate("parcel", "order-1", Goto(statement="tracking 2", thread="track")))
    assert (view.problem, [one.case.event for one in view.accepted]) == ("", ["Arrived", "Seen"])
    await world.send("Arrived")


# --- set -------------------------------------------------------------------------------------


class Scale(Workflow, name="parcel"):
    log: list[str] = []
    weight: int = 1
    definition = S(WaitFor("heavy", lambda w: w.weight > 5), Step("lift", write("lifted")))


@in_world(Scale)
async def test_fields_are_set_and_threads_that_waited_for_it_go_on(world: World) -> None:
    await world.started()
    await operate(world, SetFields(fields={"weight": 9}, by="ann", reason="the scale was wrong"))
    await world.deliver()
    assert (await world.fields()).log == ["lifted"]
    entry = next(one for one in (await world.instance()).history if one.kind == "set")
    assert (entry.by, entry.reason, json.loads(entry.detail)) == ("ann", "the scale was wrong", {"weight": 9})


@in_world(Parcel)
async def test_the_history_keeps_the_beginning_of_a_long_change_as_it_was_written(world: World) -> None:
    await on_its_way(world)
    text = "é" * 2 * DETAIL_CHARS_MAX
    await operate(world, SetFields(fields={"text": text}))
    assert (await world.fields()).text == text
    (entry,) = [one for one in (await world.instance()).history if one.kind == "set"]
    assert entry.detail == f'{{"text": "{text}'[:DETAIL_CHARS_MAX]


@in_world(Parcel)
async def test_fields_that_do_not_fit_are_refused(world: World) -> None:
    await on_its_way(world)
    before = await world.instance()
    for fields, message in (({"weight": "much"}, "weight: "), ({"height": 1}, "has no field 'height'")):
        with pytest.raises(RepairRefused, match=message):
            await operate(world, SetFields(fields=fields))
    with pytest.raises(TooLarge, match="its largest field is 'text'"):
        await operate(world, SetFields(fields={"text": "x" * 1_100_000}))
    with pytest.raises(TooLarge):
        await operate(world, SetFields(fields={"text": "x" * 1_100_000}, dry_run=True))
    assert await world.instance() == before


@in_world(Parcel)
async def test_stored_fields_that_do_not_fit_any_more_are_mended(world: World) -> None:
    await on_its_way(world)
    instance = await world.instance()
    fields = json.dumps(json.loads(instance.fields) | {"weight": "much"})
    await world.store.commit(replace(instance, fields=fields))
    with pytest.raises(InvalidFields, match="weight"):
        await world.finish(world.process.engine.get("parcel", "order-1"))
    view = await operate(world, SetFields(fields={"weight": 3}))
    assert view.workflow.weight == 3
    await world.send("Arrived")


# --- of all ----------------------------------------------------------------------------------


@in_world(Parcel)
async def test_a_dry_run_tells_what_would_be_and_saves_nothing(world: World) -> None:
    await on_its_way(world)
    before, tasks = await world.instance(), dict(world.queue.tasks)
    for operation in (
        Goto(statement="pack", dry_run=True),
        SetFields(fields={"weight": 4}, dry_run=True),
        Pause(dry_run=True),
        Cancel(dry_run=True),
    ):
        view = await operate(world, operation)
        assert view.instance.execution.pc > before.execution.pc
        assert len(view.instance.history) > len(before.history)
    assert (await operate(world, SetFields(fields={"weight": 4}, dry_run=True))).workflow.weight == 4
    assert (await world.instance(), world.queue.tasks) == (before, tasks)


@in_world(Parcel)
async def test_what_has_moved_on_since_it_was_looked_at_is_left_alone(world: World) -> None:
    await on_its_way(world)
    seen = (await world.instance()).execution.pc
    await world.send("Seen")
    before = await world.instance()
    with pytest.raises(RepairRefused, match=f"has changed: its pc is {before.execution.pc}, not {seen}"):
        await operate(world, SetFields(fields={"weight": 2}, pc=seen))
    assert await world.instance() == before
    await operate(world, SetFields(fields={"weight": 2}, pc=before.execution.pc))


@in_world(Parcel)
async def test_a_lost_reply_is_no_second_repair(world: World) -> None:
    await on_its_way(world)
    world.process.unavailable("commit", applied=True)
    await operate(world, SetFields(fields={"weight": 2}))
    assert await world.history("set") == [("set", "")]


def test_what_is_asked_for_is_checked() -> None:
    assert Goto.from_json(b'{"statement": "a"}') == Goto(statement="a", thread="main")
    assert Cancel.from_json(b"") == Cancel()
    for cls, body, field in (
        (Goto, b"", "statement"),
        (Cancel, b'{"who": 1}', "who"),
        (Cancel, b"nonsense", ""),
        (Cancel, b"[]", ""),
        (SetFields, b'{"fields": {}}', "fields"),
        (Pause, b'{"by": "' + b"x" * 201 + b'"}', "by"),
    ):
        with pytest.raises(InvalidInput) as caught:
            cls.from_json(body)
        assert caught.value.errors[0]["field"] == field
    with pytest.raises(ValidationError):
        Goto()  # type: ignore[call-arg]
