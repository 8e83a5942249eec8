"""What operators do: cancel, pause, unpause; also while a step runs, twice, and with faults."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from cloud_adapter.document import DOCUMENT_BYTES_MAX, encode
from cloud_adapter.document_size import counted_bytes
from cloud_adapter.engine.operations import Cancel, Goto, Operation, Pause, RetryFailed, Unpause
from cloud_adapter.engine.task_handler import Outcome
from cloud_adapter.errors import InstanceEnded, InstanceNotFound, TooLarge
from tests.engine.harness import ID, Gate, World, in_world, write
from workflow_core import (
    EventNotAccepted,
    EventRequest,
    Go,
    On,
    Retry,
    S,
    Select,
    Sleep,
    Status,
    Step,
    StepContext,
    TerminalError,
    Timeout,
    Try,
    Workflow,
)

GATE = Gate()
HOUR = timedelta(hours=1)
STARTS: list[str] = []
TORN_DOWN: list[str] = []


@pytest.fixture(autouse=True)
def _fresh() -> None:
    STARTS.clear()
    TORN_DOWN.clear()


class Bell:
    def setup(self, request: EventRequest) -> None: ...

    def handle(self, request: EventRequest, input: Any) -> None: ...

    def teardown(self, request: EventRequest, handled: bool) -> None:
        TORN_DOWN.append(request.event)


class Trip(Workflow, name="trip"):
    log: list[str] = []

    async def drive(self) -> None:
        STARTS.append("drive")
        self.log.append("drive")
        await GATE.wait()
        self.log.append("arrived")

    definition = S(
        Go("beside", Select("hear", On("Ring", Bell()), Timeout("late", timedelta(hours=1)))),
        Try(
            "trip",
            Select("start", On("Start", write("started"))),
            Step("drive", drive),
            Select("there", On("Leave", write("left"))),
        ).finally_(Step("pack up", write("packed")), Select("hand in the key", On("Key", write("key")))),
    )


async def cancel(world: World, id: str = "order-1") -> Any:
    return await world.finish(world.process.engine.operate("trip", id, Cancel()))


@in_world(Trip)
async def test_cancel_tears_down_runs_the_cleanup_and_ends(world: World) -> None:
    await world.started()
    assert len(world.queue.timers) == 1
    view = await cancel(world)
    assert view.instance.execution.canceling
    assert not world.queue.timers, "its timer is deleted"
    await world.deliver()
    assert TORN_DOWN == ["Ring"]
    assert (await world.fields()).log == ["packed"]
    assert (await world.instance()).execution.status == "waiting"
    with pytest.raises(EventNotAccepted):
        await world.send("Start")
    await world.send("Key")
    execution = (await world.instance()).execution
    assert (execution.status, execution.canceling, execution.threads) == (Status.CANCELED, False, [])
    assert (await world.fields()).log == ["packed", "key"]
    assert not world.queue.tasks
    assert (await world.instance()).wake_at is None


@in_world(Trip)
async def test_cancel_twice_is_once_and_an_end_is_an_end(world: World) -> None:
    await world.started()
    await cancel(world)
    before = await world.instance()
    await cancel(world)
    assert await world.instance() == before
    await world.deliver()
    await world.send("Key")
    ended = await world.instance()
    await cancel(world)
    assert await world.instance() == ended
    for operation in (Pause(), Unpause()):
        with pytest.raises(InstanceEnded, match="is canceled"):
            await world.finish(world.process.engine.operate("trip", "order-1", operation))
    with pytest.raises(InstanceNotFound):
        await cancel(world, "nobody")
    assert await world.instance() == ended


@in_world(Trip)
async def test_a_step_that_runs_is_interrupted_and_its_effect_is_fenced_off(world: World) -> None:
    await world.started()
    await world.send("Start")
    running = asyncio.ensure_future(world.process.perform(world.queue.resumes[0]))
    await world.clock.settle()
    assert STARTS == ["drive"]
    await cancel(world)
    instance = await world.instance()
    assert instance.lease is not None, "nothing else may run before the step has come to its end"
    assert instance.execution.canceling
    await world.clock.advance(20)  # the renewal finds out, and the step is interrupted
    assert await world.finish(running) is Outcome.DONE
    await world.deliver()
    assert (await world.fields()).log == ["started", "packed"]


@in_world(Trip)
async def test_the_holder_of_the_lease_is_dead(world: World) -> None:
    await world.started()
    await world.send("Start")
    dying = world.start()
    running = asyncio.ensure_future(dying.perform(world.queue.resumes[0]))
    await world.clock.settle()
    dying.die()
    await cancel(world)
    running.cancel()
    world.queue.tasks.pop(next(task.name for task in world.queue.resumes if task.at is None))
    await world.pass_time(timedelta(seconds=61))
    assert (await world.fields()).log == ["started", "packed"], "without recovery, and without the task that it had"


@in_world(Trip)
async def test_paused_nothing_moves_and_unpaused_it_goes_on(world: World) -> None:
    await world.started()
    engine = world.process.engine
    await world.finish(engine.operate("trip", "order-1", Pause()))
    paused = await world.instance()
    assert paused.execution.status == "paused"
    assert paused.wake_at is None
    with pytest.raises(EventNotAccepted, match="the instance is paused, it accepts: none"):
        await world.send("Start")
    await world.finish(engine.operate("trip", "order-1", Pause()))
    await world.pass_time(timedelta(hours=2))
    assert await world.instance() == paused
    assert not world.queue.tasks, "the timer has come, and nobody heard it"
    await world.finish(engine.operate("trip", "order-1", Unpause()))
    await world.deliver()
    assert await world.history("timeout") == [("timeout", "late")], "it happens now"
    await world.send("Start")
    assert (await world.history("pause", "unpause")) == [("pause", ""), ("unpause", "")]


@in_world(Trip)
async def test_a_step_that_runs_when_it_is_paused_runs_again(world: World) -> None:
    await world.started()
    await world.send("Start")
    running = asyncio.ensure_future(world.process.perform(world.queue.resumes[0]))
    await world.clock.settle()
    await world.finish(world.process.engine.operate("trip", "order-1", Pause()))
    await world.clock.advance(20)
    assert await world.finish(running) is Outcome.DONE
    await world.clock.advance(60)
    await world.deliver()
    assert (await world.fields()).log == ["started"]
    await world.finish(world.process.engine.operate("trip", "order-1", Unpause()))
    again = asyncio.ensure_future(world.process.perform(world.queue.resumes[-1]))
    await world.clock.settle()
    GATE.open()
    assert await world.finish(again) is Outcome.DONE
    assert STARTS == ["drive", "drive"]
    assert (await world.fields()).log == ["started", "drive", "arrived"]


class Flaky(Workflow, name="flaky"):
    log: list[str] = []

    def work(self, step: StepContext) -> None:
        if step.attempt == 1:
            raise ConnectionError("later")
        self.log.append(f"attempt {step.attempt}")

    definition = S(Step("work", work, retry=Retry(initial=timedelta(seconds=30))))


@in_world(Flaky)
async def test_an_attempt_whose_time_came_in_a_pause_is_made_up_for(world: World) -> None:
    await world.started()
    await world.finish(world.process.engine.operate("flaky", "order-1", Pause()))
    await world.pass_time(timedelta(minutes=5))
    assert not world.queue.tasks, "its task has come, and found a paused instance"
    await world.finish(world.process.engine.operate("flaky", "order-1", Unpause()))
    assert not world.queue.refused, "a queue takes each name once"
    await world.deliver()
    assert (await world.fields()).log == ["attempt 2"]


@in_world(Trip)
async def test_a_paused_instance_can_be_canceled(world: World) -> None:
    await world.started()
    await world.finish(world.process.engine.operate("trip", "order-1", Pause()))
    await cancel(world)
    await world.deliver()
    assert (await world.fields()).log == ["packed"]


class Cooling(Workflow, name="cooling"):
    log: list[str] = []

    definition = S(Try("run", Step("stop", write("stopped"))).finally_(Sleep("cool", HOUR), Step("off", write("off"))))


@in_world(Cooling)
async def test_a_timer_of_a_cleanup_that_came_in_a_pause_is_made_up_for_when_it_is_canceled(world: World) -> None:
    await world.started()
    await world.finish(world.process.engine.operate("cooling", "order-1", Pause()))
    await world.pass_time(2 * HOUR)
    assert not world.queue.tasks, "its task has come, and found a paused instance"
    await world.finish(world.process.engine.operate("cooling", "order-1", Cancel()))
    await world.deliver()
    assert (await world.fields()).log == ["stopped", "off"]
    assert (await world.instance()).execution.status == "canceled"


@pytest.mark.parametrize("applied", [False, True])
@pytest.mark.parametrize("call", ["commit", "load", "create_task", "delete_task"])
@in_world(Trip)
async def test_a_fault_while_it_is_canceled(world: World, call: str, applied: bool) -> None:
    await world.started()
    world.process.unavailable(call, applied=applied)
    for _ in range(2):
        try:
            await cancel(world)
        except Exception as error:
            assert type(error).__name__ == "Unavailable"  # noqa: PT017 - or it is raised
    await world.deliver()
    assert (await world.fields()).log == ["packed"]
    assert TORN_DOWN == ["Ring"]


class Full(Workflow, name="full"):
    text: str = ""
    log: list[str] = []

    def work(self) -> None:
        if not STARTS:
            STARTS.append("work")
            raise TerminalError("no room")

    definition = S(
        Select("wait", On("Work", lambda w: None), Timeout("late", HOUR)), Step("work", work), Sleep("rest", HOUR)
    )


@in_world(Full)
async def test_what_has_come_to_its_limit_is_paused_and_goes_on(world: World) -> None:
    """All that an operator and the engine write down fits beside the largest fields that do."""
    await world.create(id="sample")
    sample = encode(await world.instance("sample"))
    rest = DOCUMENT_BYTES_MAX - counted_bytes(sample)
    with pytest.raises(TooLarge):
        await world.create(id="larger", text="x" * (rest + 1))
    await world.create(id="filled", text="x" * rest)
    about = {"by": "ann", "reason": "é" * 500}
    for _ in range(3):
        for operation in (Pause(**about), Unpause(**about)):
            view = await world.finish(world.process.engine.operate("full", "filled", operation))
    assert view.instance.execution.status is Status.WAITING
    await world.send("Work", id="filled")
    await world.deliver()
    assert (await world.instance("filled")).execution.status is Status.FAILED
    await world.finish(world.process.engine.operate("full", "filled", RetryFailed(**about)))
    await world.deliver()
    assert (await world.instance("filled")).execution.threads[0].step == "rest"


async def operate(world: World, operation: Operation) -> None:
    await world.finish(world.process.engine.operate(world.name, ID, operation))


ATTEMPTS: list[int] = []


def fail(workflow: Any, step: StepContext) -> None:
    ATTEMPTS.append(step.attempt)
    raise ConnectionError


class Dogged(Workflow, name="dogged"):
    log: list[str] = []

    definition = S(
        Go("beside", Step("once", write("once")), Select("hear", On("Ring", lambda w: None))),
        Step("try", fail, retry=Retry(max_attempts=2, initial=HOUR, max_delay=HOUR)),
    )


@pytest.mark.parametrize("while_paused", [False, True])
@in_world(Dogged)
async def test_after_goto_a_step_runs_at_once_with_all_its_attempts(world: World, while_paused: bool) -> None:
    ATTEMPTS.clear()
    await world.started()
    assert ATTEMPTS == [1]
    if while_paused:
        await operate(world, Pause())
    await operate(world, Goto(statement="try"))
    thread = (await world.instance()).execution.threads[0]
    assert (thread.attempt, thread.retry_at, thread.error) == (0, None, None)
    if while_paused:
        await operate(world, Unpause())
    await world.deliver()
    assert ATTEMPTS == [1, 1]
    assert (await world.instance()).execution.threads[0].retry_at == world.now + HOUR
    await world.pass_time(HOUR)
    assert ATTEMPTS == [1, 1, 2]
    assert (await world.instance()).execution.status == "failed"
    await operate(world, RetryFailed())
    await world.deliver()
    assert ATTEMPTS == [1, 1, 2, 1]
    assert (await world.instance()).execution.threads[0].attempt == 1


@pytest.mark.parametrize("operation", [Pause(), Unpause()])
@in_world(Dogged)
async def test_a_pause_counts_no_attempt_and_keeps_the_time_of_the_next_one(world: World, operation: Operation) -> None:
    ATTEMPTS.clear()
    await world.started()
    before = (await world.instance()).execution.threads
    await operate(world, Pause())
    if isinstance(operation, Unpause):
        await operate(world, operation)
    assert (await world.instance()).execution.threads == before
    await world.pass_time(2 * HOUR)
    assert ([1, 2] if isinstance(operation, Unpause) else [1]) == ATTEMPTS
