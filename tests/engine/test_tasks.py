"""Names of tasks: a queue accepts each name once, and remembers it for hours. A new task therefore needs a new name."""

from __future__ import annotations

import asyncio
from asyncio import ensure_future
from datetime import UTC, datetime, timedelta

import pytest

from cloud_adapter.engine.operations import Operation, Pause, RetryFailed, Unpause
from cloud_adapter.engine.task_handler import Outcome
from cloud_adapter.engine.tasks import TimeoutTask, timer_name
from tests.engine.harness import ID, Gate, World, in_world
from workflow_core import Execution, Go, On, Retry, S, Select, Step, StepContext, Timeout, WaitStatus, Workflow
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
