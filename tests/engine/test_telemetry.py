"""Spans and metrics of the engine: one span for each event, resume and attempt, connected across tasks."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from cloud_adapter.engine.operations import Cancel, Pause
from cloud_adapter.engine.task_handler import Outcome
from cloud_adapter.engine.tasks import ACTIVITY_PATH, ResumeTask
from cloud_adapter.errors import Busy, Conflict, InstanceNotFound, Unavailable, WorkflowNotFound
from tests.engine.harness import ID, Gate, Killed, World, in_world, write
from tests.recorder import Recorder, about, id_of, links, parent
from workflow_core import (
    Activity,
    EventNotAccepted,
    EventRejected,
    InvalidInput,
    On,
    Retry,
    Return,
    S,
    Select,
    Step,
    StepContext,
    Timeout,
    Workflow,
)

GATE = Gate()
ONCE = Retry(max_attempts=1)


async def fetch(url: str) -> int:
    await asyncio.sleep(0)
    if url == "wrong":
        raise ConnectionError("nobody there")
    return len(url)


class Shop(Workflow, name="shop"):
    log: list[str] = []
    failures: int = 0
    amount: int = 0
    url: str = ""

    def order(self, amount: int) -> int:
        if amount < 0:
            raise EventRejected("nothing to give back")
        if amount == 13:
            raise ZeroDivisionError("a bug")
        self.amount = amount
        return amount

    def bake(self, step: StepContext) -> None:
        if step.attempt <= self.failures:
            raise ConnectionError("the oven does not answer")
        self.log.append("bake")

    def take(self, size: int) -> None:
        self.log.append(f"{size} fetched")

    definition = S(
        Select("orders", On("Order", order), Timeout("closed", timedelta(hours=2), Return())),
        Step("bake", bake, retry=Retry(max_attempts=3, initial=timedelta(seconds=100))),
        Step("pack", write("pack")),
        Activity("fetch", fetch, input=lambda w: w.url, then=take, retry=ONCE),
        Select("end", On("End", write("end"), buffered=True)),
    )


@in_world(Shop)
async def test_an_order_from_its_start_to_its_end(world: World, recorder: Recorder) -> None:
    await world.create(url="abc")
    await world.send("Order", 3)
    await world.deliver()
    await world.send("End")
    assert recorder.names == [
        *("start shop", "event Order", "step bake", "step pack", "resume"),
        *("activity fetch", "deliver activity fetch", "event End"),
    ]

    order, resume = recorder.one("event Order"), recorder.one("resume")
    bake, pack = recorder.one("step bake"), recorder.one("step pack")
    task, fetched = recorder.one("deliver activity fetch"), recorder.one("activity fetch")
    assert parent(resume) == id_of(order), "the task was made in the event"
    assert parent(bake) == parent(pack) == id_of(resume)
    assert parent(task) == id_of(resume), "the task was made by the commit after the step"
    assert parent(fetched) == id_of(task)
    assert len({span.context.trace_id for span in recorder.spans}) == 3, "the start, the order with its work, the end"
    assert {span.kind.name for span in (resume, task)} == {"CONSUMER"}
    assert {span.kind.name for span in (order, bake, pack, fetched)} == {"INTERNAL"}, "nothing came over HTTP"
    assert {span.status.status_code.name for span in recorder.spans} == {"UNSET"}

    where = {"workflow": "shop", "instance": ID}
    order_about = {**where, "event": "Order", "thread": "main", "statement": "orders", "pc": 1, "outcome": "handled"}
    assert about(order) == order_about
    assert about(bake) == {**where, "statement": "bake", "thread": "main", "attempt": 1, "pc": 3, "outcome": "done"}
    assert about(fetched) == {**where, "statement": "fetch", "thread": "main", "attempt": 1, "pc": 5, "outcome": "done"}
    assert resume.attributes["messaging.operation.name"] == "resume"
    assert resume.attributes["messaging.operation.type"] == "process"

    assert recorder.metric("events") == {("Order", "handled", "shop"): 1, ("End", "handled", "shop"): 1}
    assert recorder.metric("instances.started") == {("shop",): 1}
    assert recorder.metric("instances.ended") == {("finished", "shop"): 1}
    assert set(recorder.metric("attempt.duration")) == {
        *(("step", "done", "bake", "shop"), ("step", "done", "pack", "shop"), ("activity", "done", "fetch", "shop"))
    }
    assert all(ID not in str(recorder.metric(name)) for name in ("events", "attempt.duration", "instances.ended"))


@in_world(Shop)
async def test_a_task_that_comes_twice_runs_no_step_again(world: World, recorder: Recorder) -> None:
    await world.create(url="abc")
    await world.send("Order", 3)
    (task,) = world.queue.resumes
    await world.deliver()
    recorder.clear()
    assert await world.process.deliver(task) is Outcome.DONE
    assert await world.process.deliver(task) is Outcome.DONE
    assert recorder.names == ["resume", "resume"]
    (activity,) = [task for task in world.queue.created if task.path == ACTIVITY_PATH]
    assert await world.process.deliver(activity) is Outcome.DONE
    assert recorder.names[2:] == ["deliver activity fetch"]


@in_world(Shop)
async def test_recovery_runs_only_what_was_not_done(world: World, recorder: Recorder) -> None:
    await world.create(url="abc")
    await world.send("Order", 3)
    (task,) = world.queue.resumes
    world.process.fault("commit", 3, before=Killed())  # the lease, the first step, the second step
    with pytest.raises(Killed):
        await world.process.deliver(task)
    assert [about(span)["outcome"] for span in recorder.named("step pack")] == ["done"]
    recorder.clear()

    other = world.start()
    world.queue.purge()
    await world.pass_time(timedelta(minutes=5), other)
    assert await other.engine.recover() == 1
    await world.deliver(other)
    assert recorder.named("step bake") == [], "it was done, and is not repeated"
    pack = recorder.one("step pack")
    assert parent(pack) in {id_of(span) for span in recorder.named("resume")}
    first = recorder.named("resume")[0]
    assert parent(first) is None and links(first) == [], "recovery belongs to no trace"


@in_world(Shop)
async def test_a_step_that_fails_is_an_error_each_time(world: World, recorder: Recorder) -> None:
    await world.create(failures=9, url="abc")
    await world.send("Order", 3)
    await world.pass_time(timedelta(hours=1))
    attempts = recorder.named("step bake")
    assert [about(span)["attempt"] for span in attempts] == [1, 2, 3]
    assert {about(span)["outcome"] for span in attempts} == {"failed"}
    for span in attempts:
        assert span.status.status_code.name == "ERROR"
        assert span.status.description == "ConnectionError: the oven does not answer"
        (event,) = span.events
        assert event.attributes["exception.type"] == "ConnectionError"
        assert "in bake" in event.attributes["exception.stacktrace"]
        assert span.attributes["error.type"] == "ConnectionError"
    first, *later = recorder.named("resume")
    assert first.status.status_code.name == "UNSET", "the task has done what it was to"
    assert [parent(span) for span in later] == [None, None], "a retry after more than a minute has a trace of its own"
    assert links(later[0])[0] in {
        id_of(span) for span in recorder.spans if span.context.trace_id == first.context.trace_id
    }
    ((count, seconds),) = recorder.metric("attempt.duration").values()
    assert (count, seconds) == (3, 0)
    assert recorder.metric("instances.ended") == {("failed", "shop"): 1}


@in_world(Shop)
async def test_a_wait_is_linked_and_no_child(world: World, recorder: Recorder) -> None:
    await world.create()
    start = recorder.one("start shop")
    await world.pass_time(timedelta(hours=2))
    timeout = recorder.one("timeout closed")
    assert parent(timeout) is None and links(timeout) == [id_of(start)]
    assert timeout.context.trace_id != start.context.trace_id
    assert timeout.kind.name == "CONSUMER"
    assert recorder.metric("instances.ended") == {("finished", "shop"): 1}


@in_world(Shop)
async def test_a_task_under_another_span_is_linked_to_it(world: World, recorder: Recorder) -> None:
    await world.create(url="abc")
    await world.send("Order", 3)
    with recorder.span("the queue's request") as request:
        await world.deliver()
    resume = recorder.one("resume")
    assert parent(resume) == id_of(recorder.one("event Order"))
    assert links(resume) == [request.get_span_context().span_id]


@pytest.mark.parametrize(
    "trace",
    [
        *(None, "garbage", 7, [], {}, {"traceparent": "garbage"}, {"traceparent": 7}, {"other": "x"}),
        {"traceparent": "00-" + "0" * 32 + "-" + "0" * 16 + "-01"},
    ],
    ids=repr,
)
@in_world(Shop)
async def test_a_task_without_a_trace_is_done_all_the_same(world: World, recorder: Recorder, trace: Any) -> None:
    await world.create(url="abc")
    await world.send("Order", 3)
    (task,) = world.queue.resumes
    body = {name: value for name, value in task.body.items() if name != "trace"}
    body |= {} if trace is None else {"trace": trace}
    assert await world.process.deliver(replace(task, body=body)) is Outcome.DONE
    resume = recorder.one("resume")
    assert parent(resume) is None and links(resume) == []
    assert recorder.names.count("step bake") == 1


@in_world(Shop)
async def test_a_task_is_named_alike_with_and_without_a_trace(world: World, recorder: Recorder) -> None:
    await world.create()
    body = ResumeTask.of((await world.instance()).execution, world.now)
    with recorder.span("somebody's"):
        traced = body.task("salt")
    assert traced.name == body.task("salt").name
    assert set(traced.body) - set(body.task("salt").body) == {"trace"}
    assert ResumeTask.model_validate(traced.body).task("other").body == traced.body, "it is passed on by who has none"


@in_world(Shop)
async def test_what_a_caller_gets_wrong_is_no_error(world: World, recorder: Recorder) -> None:
    await world.create()
    with pytest.raises(InvalidInput):
        await world.send("Order", "three")
    with pytest.raises(EventRejected):
        await world.send("Order", -1)
    with pytest.raises(EventNotAccepted):
        await world.send("made up 4711", 1)
    with pytest.raises(InstanceNotFound):
        await world.send("Order", 1, id="nobody")
    with pytest.raises(WorkflowNotFound):
        await world.process.engine.handle_event("made up", ID, "Order")
    assert recorder.names[1:] == ["event Order", "event Order", "event _OTHER", "event Order", "event _OTHER"]
    outcomes = ["invalid", "rejected", "not accepted", "not found", "not found"]
    assert [about(span)["outcome"] for span in recorder.spans[1:]] == outcomes
    assert {span.status.status_code.name for span in recorder.spans} == {"UNSET"}
    assert recorder.spans[3].attributes["error.type"] == "EventNotAccepted"
    assert recorder.spans[3].events == ()
    assert recorder.metric("events") == {
        ("Order", "invalid", "shop"): 1,
        ("Order", "rejected", "shop"): 1,
        ("Order", "not found", "shop"): 1,
        ("_OTHER", "not accepted", "_OTHER"): 1,
        ("_OTHER", "not found", "_OTHER"): 1,
    }


@in_world(Shop)
async def test_a_bug_and_an_outage_are_errors(world: World, recorder: Recorder) -> None:
    await world.create()
    with pytest.raises(Exception, match="a bug"):
        await world.send("Order", 13)
    world.process.unavailable("load", applied=False)
    with pytest.raises(Unavailable):
        await world.send("Order", 1)
    bug, outage = recorder.named("event Order")
    assert {bug.status.status_code.name, outage.status.status_code.name} == {"ERROR"}
    assert (about(bug)["outcome"], about(outage)["outcome"]) == ("failed", "unavailable")
    assert "a bug" in bug.events[0].attributes["exception.stacktrace"]


@in_world(Shop)
async def test_a_request_made_again_is_told_from_the_first(world: World, recorder: Recorder) -> None:
    await world.create(key="k", url="abc")
    await world.create(key="k", url="abc")
    await world.send("Order", 3, key="o")
    await world.send("Order", 3, key="o")
    assert [about(span).get("outcome") for span in recorder.spans] == [None, "replayed", "handled", "replayed"]
    assert recorder.metric("instances.started") == {("shop",): 1}


@in_world(Shop)
async def test_a_kept_event_is_handled_in_the_trace_of_the_task(world: World, recorder: Recorder) -> None:
    await world.create(url="abc")
    await world.process.post("End")
    assert about(recorder.one("event End"))["outcome"] == "buffered"
    await world.send("Order", 3)
    await world.deliver()
    _, handled = recorder.named("event End")
    assert parent(handled) in {id_of(span) for span in recorder.named("resume")}
    assert recorder.metric("events")[("End", "buffered", "shop")] == 1


@in_world(Shop)
async def test_an_activity_that_fails(world: World, recorder: Recorder) -> None:
    await world.create(url="wrong")
    await world.send("Order", 3)
    await world.deliver()
    span = recorder.one("activity fetch")
    assert span.status.description == "ConnectionError: nobody there"
    assert recorder.one("deliver activity fetch").status.status_code.name == "UNSET"
    assert recorder.metric("attempt.duration")["activity", "failed", "fetch", "shop"] == (1, 0)


@in_world(Shop)
async def test_a_task_ahead_of_its_commit_is_no_error(world: World, recorder: Recorder) -> None:
    await world.create()
    task = ResumeTask(workflow="shop", id=ID, pc=99, created_at=world.now).task("early")
    assert await world.finish(world.process.perform(task)) is Outcome.NOT_YET
    span = recorder.one("resume")
    assert span.status.status_code.name == "UNSET" and about(span)["outcome"] == "not yet"
    assert span.attributes["error.type"] == "NotYet", "why the queue has to send it again"
    world.process.unavailable("load", applied=False)
    assert await world.process.perform(task) is Outcome.FAILED
    assert recorder.spans[-1].status.status_code.name == "ERROR"


@in_world(Shop)
async def test_conflicts_and_waits_are_counted(world: World, recorder: Recorder) -> None:
    await world.create(url="abc")
    other = world.start()

    async def meanwhile() -> None:
        await other.engine.operate("shop", ID, Pause())
        await other.engine.operate("shop", ID, Cancel())

    world.process.fault("commit", 1, before=meanwhile)
    with pytest.raises(EventNotAccepted):
        await world.send("Order", 3)
    assert recorder.metric("commit.conflicts") == {("shop",): 1}
    assert recorder.metric("busy.waits") == {("shop",): 1}
    assert recorder.names[1:] == ["pause shop", "cancel shop", "event Order"]
    assert Conflict.__name__ not in str(recorder.spans[-1].attributes)


class Slow(Workflow, name="slow"):
    log: list[str] = []

    async def wait(self) -> None:
        await GATE.wait()

    definition = S(Step("wait", wait), Select("end", On("End", write("end"))))


@in_world(Slow)
async def test_a_step_whose_lease_is_lost_has_no_outcome_of_its_own(world: World, recorder: Recorder) -> None:
    await world.create()
    (task,) = world.queue.resumes
    running = asyncio.ensure_future(world.process.perform(task))
    await world.clock.settle()
    assert GATE.reached
    with pytest.raises(Busy):
        await world.send("End")
    assert about(recorder.one("event End"))["outcome"] == "busy"
    await world.process.engine.operate("slow", ID, Cancel())
    await world.finish(running)
    span = recorder.one("step wait")
    assert about(span)["outcome"] == "lost" and span.status.status_code.name == "ERROR"
    assert recorder.metric("instances.ended") == {("canceled", "slow"): 1}


class Mute(Exception):
    def __str__(self) -> str:
        raise ValueError("no text")


class Odd(Workflow, name="odd"):
    mute: bool

    def fail(self) -> None:
        raise Mute if self.mute else OSError("caf\udce9")

    definition = S(Step("fail", fail, retry=Retry(max_attempts=2)))


@pytest.mark.parametrize(("mute", "message"), [(True, "(no message: str() raised ValueError)"), (False, "caf\\udce9")])
def test_an_error_without_a_decent_message(mute: bool, message: str, recorder: Recorder, tmp_path: Any) -> None:
    @in_world(Odd)
    async def scenario(world: World) -> None:
        await world.started(mute=mute)
        await world.pass_time(timedelta(minutes=5))
        assert (await world.instance()).execution.status == "failed"

    scenario(tmp_path=tmp_path)
    attempts = recorder.named("step fail")
    assert len(attempts) == 2
    for span in attempts:
        assert message in str(span.events[0].attributes["exception.message"])
        assert "in fail" in str(span.events[0].attributes["exception.stacktrace"])
