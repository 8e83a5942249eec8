"""Names of tasks: a queue accepts each name once, and remembers it for hours. A new task therefore needs a new name."""

from __future__ import annotations

import asyncio
from asyncio import ensure_future
from datetime import UTC, datetime, timedelta

import pytest

from cloud_adapter.clock import CLOCK_SKEW
from cloud_adapter.engine.operations import Operation, Pause, RetryFailed, Unpause
from cloud_adapter.engine.task_handler import Outcome
from cloud_adapter.engine.tasks import TimeoutTask, timer_name
from tests.engine.harness import ID, Gate, World, in_world
from workflow_core import Execution, Go, On, Retry, S, Select, Step, StepContext, Timeout, WaitStatus, While, Workflow
from workflow_core.wait_types import TimerWait

NOW = datetime(2030, 1, 2, 3, 4, 5, 678, tzinfo=UTC)
FENCE = "0123456789abcdef"
GATE = Gate()


def test_a_timer_is_found_by_its_fence() -> None:
    execution = Execution(id="a", workflow="flow", pc=7)
    wait = TimerWait("expired", WaitStatus.SET_UP, "main@6", task=FENCE)
    task = TimeoutTask.of(execution, wait, NOW).task(FENCE, NOW)
    assert timer_name("flow", "a", wait.id, wait.event, FENCE) == task.name


class Mill(Workflow, name="mill"):
    """Its step fails at first, and is tried again after a while. A timer runs beside it."""

    failures: int = 0
    log: list[int] = []

    async def grind(self, step: StepContext) -> None:
        await GATE.wait()
        if step.attempt <= self.failures:
            raise ConnectionError("no wind")
        self.log.append(step.attempt)

    definition = S(
        Go("bell", While("ringing", lambda w: True, Select("bell rings", On("Ring", lambda w: None)))),
        Go("clock", Select("day", Timeout("day over", timedelta(days=1)))),
        Step("grind", grind, retry=Retry(max_attempts=4, initial=timedelta(minutes=5), factor=1)),
        Select("end", On("End", lambda w: None)),
    )


async def operate(world: World, *operations: Operation) -> None:
    for operation in operations:
        await world.finish(world.start().engine.operate("mill", ID, operation))


async def resume(world: World) -> Outcome:
    """Delivers the last resume task, and lets its step run to its end."""
    task = world.queue.resumes[-1]
    running = ensure_future(world.start().perform(task))
    await world.clock.settle()
    GATE.open()
    world.queue.tasks.pop(task.name)
    await world.clock.settle()
    return running.result()


@pytest.mark.parametrize("count", [1, 2])
@in_world(Mill)
async def test_each_commit_over_each_lease_has_a_task_for_its_end(world: World, count: int) -> None:
    """Processes die one after the other, and operators commit over the leases that they leave behind."""
    await world.create()
    for _ in range(3):
        process = world.start()
        running = ensure_future(process.perform(world.queue.resumes[-1]))
        await world.clock.settle()
        process.die()
        running.cancel()
        await asyncio.wait([running])
        lease = (await world.instance()).lease
        assert lease is not None
        world.queue.tasks.clear()  # all that were created so far have come and gone
        for _ in range(count):
            await operate(world, Pause())
            world.queue.tasks.clear()
            await operate(world, Unpause())
            assert [task.at for task in world.queue.resumes] == [lease.expires_at]
            assert len(world.queue.timers) == 1, "the timer counts again"
        assert world.queue.refused == []
        await world.clock.advance_to(lease.expires_at)
    assert await resume(world) is Outcome.DONE
    assert (await world.fields()).log == [1]


@pytest.mark.parametrize("seconds", [0, 100, 285, 295, 299])
@in_world(Mill)
async def test_after_each_pause_the_next_attempt_has_a_task(world: World, seconds: int) -> None:
    """The one that it had before the pause may have come during the pause, also before its time."""
    await world.create(failures=1)
    assert await resume(world) is Outcome.DONE
    retry_at = (await world.instance()).execution.threads[0].retry_at
    assert retry_at is not None
    await world.clock.advance(seconds)
    for _ in range(3):
        await operate(world, Pause())
        for task in world.queue.resumes:
            assert await world.process.deliver(task) is Outcome.DONE
        world.queue.tasks.clear()
        await operate(world, Unpause())
        assert [task.at for task in world.queue.resumes] == [retry_at]
        assert len(world.queue.timers) == 1
        assert world.queue.refused == []
    await world.clock.advance_to(retry_at)
    assert await resume(world) is Outcome.DONE
    assert (await world.fields()).log == [2]


@in_world(Mill)
async def test_an_attempt_that_became_due_during_a_pause_has_a_task_at_once(world: World) -> None:
    await world.create(failures=1)
    assert await resume(world) is Outcome.DONE
    for _ in range(3):
        await operate(world, Pause())
        await world.clock.advance(200)
        world.queue.tasks.clear()
        await operate(world, Unpause())
    assert [task.at for task in world.queue.resumes] == [None]
    assert await resume(world) is Outcome.DONE
    assert (await world.fields()).log == [2]


@in_world(Mill)
async def test_after_each_retry_of_a_failed_instance_its_attempts_have_tasks(world: World) -> None:
    await world.create(failures=9)
    for _ in range(3):
        for attempt in range(4):
            await world.clock.advance(300 if attempt else 0)
            assert await resume(world) is Outcome.DONE
        assert (await world.instance()).execution.status == "failed"
        assert world.queue.resumes == []
        await operate(world, RetryFailed())
        assert [task.at for task in world.queue.resumes] == [None]
        assert world.queue.refused == []


@pytest.mark.parametrize("early", [CLOCK_SKEW, 2 * CLOCK_SKEW])
@in_world(Mill)
async def test_the_task_of_an_attempt_that_comes_early_is_put_off_once_in_each_state(
    world: World, early: timedelta
) -> None:
    """The clock of the process that has created it may be ahead, and that of this process behind."""
    await world.create(failures=1)
    assert await resume(world) is Outcome.DONE
    (task,) = world.queue.resumes
    assert task.at is not None
    await world.clock.advance_to(task.at - early)
    world.queue.tasks.pop(task.name)
    for _ in range(2):
        assert await world.start().perform(task) is Outcome.DONE
    (first,) = world.queue.resumes
    assert (first.at, first.body["again"]) == (task.at, 1)
    world.queue.tasks.pop(first.name)  # it has come early, too, and was lost then
    await world.send("Ring")
    assert await world.start().perform(task) is Outcome.DONE
    (second,) = world.queue.resumes
    assert (second.at, second.name != first.name) == (task.at, True)
    await world.clock.advance_to(task.at)
    assert await resume(world) is Outcome.DONE
    assert (await world.fields()).log == [2]


class Pair(Workflow, name="pair"):
    """The step of one thread is tried again while that of another one runs."""

    log: list[str] = []

    def once(self, step: StepContext) -> None:
        if step.attempt == 1:
            raise ConnectionError("not yet")
        self.log.append("again")

    async def hold(self) -> None:
        await GATE.wait()

    definition = S(
        Go("beside", Step("once", once, retry=Retry(initial=timedelta(minutes=1)))),
        Select("begin", On("Begin", lambda w: None)),
        Step("hold", hold),
        Select("end", On("End", lambda w: None)),
    )


@pytest.mark.parametrize("early", [0, 3, 9])
@in_world(Pair)
async def test_an_attempt_whose_task_came_early_while_a_step_ran_comes_at_its_time(world: World, early: int) -> None:
    await world.started()
    (attempt,) = world.queue.resumes
    assert attempt.at is not None
    await world.clock.advance_to(attempt.at - timedelta(seconds=10))
    await world.send("Begin")
    begun = world.queue.resumes[-1]
    running = ensure_future(world.process.perform(begun))
    world.queue.tasks.pop(begun.name)
    await world.clock.advance_to(attempt.at - timedelta(seconds=early))
    assert await world.start().deliver(attempt) is Outcome.DONE
    await world.clock.advance(0.5)
    GATE.open()
    await world.clock.settle()
    assert running.result() is Outcome.DONE
    await world.pass_time(max(attempt.at - world.now, timedelta()))
    assert (await world.fields()).log == ["again"], "at its time, and not at the end of a lease"
