"""From when on the time of an attempt of an activity counts, and which attempts are no longer begun."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest

from cloud_adapter.engine.attempts import LINE_MAX
from cloud_adapter.engine.operations import Cancel
from cloud_adapter.engine.sync_pool import SyncPool
from cloud_adapter.engine.task_handler import Outcome
from cloud_adapter.engine.tasks import ACTIVITY_PATH, TIMEOUT_PATH
from cloud_adapter.hosting.embedded import EmbeddedRuntime
from cloud_adapter.ports import Task
from cloud_adapter.settings import Settings
from gorchestrate.testing.clock import ManualClock
from tests.emulator.harness import until
from tests.engine.harness import Gate, World, in_world, inline
from tests.waits import the
from workflow_core import Activity, ForEach, On, Retry, S, Select, Step, Workflow
from workflow_core.wait_types import ActivityWait

ONCE = Retry(max_attempts=1)
SECONDS = 90
GATE = Gate()
SECONDS_MAX = 20.0


# --- a queue that sends late ----------------------------------------------------------------


async def hold() -> None:
    await GATE.wait()


class Hold(Workflow, name="hold"):
    definition = S(
        Activity("hold", hold, timeout=timedelta(seconds=SECONDS), retry=ONCE), Select("end", On("End", lambda w: None))
    )


def task(world: World) -> Task:
    (task,) = [task for task in world.queue.tasks.values() if task.path == ACTIVITY_PATH]
    return task


async def left(world: World) -> float:
    """The seconds until the deadline of the attempt."""
    wait = the(ActivityWait, (await world.instance()).execution.threads[0].waits)
    assert wait.deadline is not None
    return (wait.deadline - world.now).total_seconds()


@pytest.mark.parametrize(("waits", "remaining"), [(0, 90), (8, 82), (10, 90), (80, 90), (200, 90), (3599, 90)])
@in_world(Hold)
async def test_the_time_counts_from_the_start_of_the_call(world: World, waits: float, remaining: float) -> None:
    """An attempt that begins at most a tenth of its time late keeps its deadline, which saves a commit."""
    await world.create()
    timer = world.queue.timers[0]
    await world.clock.advance(waits)
    running = asyncio.ensure_future(world.process.perform(task(world)))
    await world.clock.settle()
    assert await left(world) == remaining
    await world.clock.advance(remaining - 1)
    await world.process.deliver(timer)  # late, or at the deadline that was stored first
    assert await world.history("activity failed") == []
    GATE.open()
    assert await world.finish(running) is Outcome.DONE
    assert await world.history("activity", "activity failed") == [("activity", "hold")]


@in_world(Hold)
async def test_a_call_that_began_late_is_interrupted_when_its_own_time_is_over(world: World) -> None:
    await world.create()
    await world.clock.advance(200)
    running = asyncio.ensure_future(world.process.perform(task(world)))
    await world.clock.settle()
    await world.clock.advance(89)
    assert not running.done()
    await world.clock.advance(1)
    assert await world.finish(running) is Outcome.DONE
    await world.deliver()
    assert await world.history("activity failed") == [("activity failed", "hold")]


@in_world(Hold)
async def test_an_attempt_that_waits_for_very_long_uses_up_its_time(world: World) -> None:
    await world.create()
    await world.clock.advance(LINE_MAX.total_seconds())
    running = asyncio.ensure_future(world.process.perform(task(world)))
    await world.clock.settle()
    assert await left(world) == SECONDS - LINE_MAX.total_seconds()
    await world.deliver()
    assert await world.history("activity failed") == [("activity failed", "hold")]
    GATE.open()
    await world.finish(running)


@in_world(Hold)
async def test_an_attempt_that_is_over_is_not_begun(world: World) -> None:
    await world.create()
    late = task(world)
    await world.clock.advance(100)
    await world.process.deliver(world.queue.timers[0])
    assert await world.history("activity failed") == [("activity failed", "hold")]
    assert await world.finish(world.process.perform(late)) is Outcome.DONE, "it would wait at the gate"


# --- a process with fewer threads than calls ------------------------------------------------

POOL = SyncPool("test", 1)
CALLS: list[str] = []


class Quick(Workflow, name="quick"):
    definition = S(
        Activity("quick", lambda: CALLS.append("quick"), timeout=timedelta(seconds=SECONDS), retry=ONCE),
        Select("end", On("End", lambda w: None)),
    )


class QuickStep(Workflow, name="quick-step"):
    definition = S(Step("quick", lambda w: CALLS.append("step")), Select("end", On("End", lambda w: None)))


@pytest.fixture(autouse=True)
def _fresh() -> None:
    CALLS.clear()


@in_world(Quick, run_sync=POOL)
async def test_waiting_for_a_thread_does_not_count(world: World) -> None:
    await world.create()
    async with POOL.reserved():
        running = asyncio.ensure_future(world.process.perform(task(world)))
        for _ in range(60):
            await world.clock.advance(10)
            await world.process.deliver(world.queue.timers[0])
        assert await world.history("activity failed") == []
        assert CALLS == []
    assert await world.finish(running) is Outcome.DONE
    assert CALLS == ["quick"]
    assert await world.history("activity", "activity failed") == [("activity", "quick")]


@in_world(Quick, run_sync=POOL)
async def test_an_activity_that_is_over_while_it_waits_for_a_thread_leaves_the_line(world: World) -> None:
    await world.create()
    async with POOL.reserved():
        running = asyncio.ensure_future(world.process.perform(task(world)))
        await world.clock.advance(1)
        await world.process.engine.operate("quick", "order-1", Cancel())
        await world.clock.advance(SECONDS)
        assert await world.finish(running) is Outcome.DONE
    assert not POOL.is_full
    assert CALLS == []


@pytest.mark.parametrize("workflow", ["quick", "quick-step"])
@in_world(Quick, QuickStep, run_sync=POOL)
async def test_what_was_canceled_just_before_its_thread_is_free_is_not_begun(world: World, workflow: str) -> None:
    await world.finish(world.process.engine.create(workflow, "1"))
    (due,) = [task for task in world.queue.tasks.values() if task.path != TIMEOUT_PATH]
    async with POOL.reserved():
        running = asyncio.ensure_future(world.process.perform(due))
        await world.clock.settle()
        await world.process.engine.operate(workflow, "1", Cancel())
    assert await world.finish(running) is Outcome.DONE
    assert CALLS == []
    assert not POOL.is_full
    assert (await world.store.load(workflow, "1")).execution.status == "canceled"


@in_world(QuickStep, run_sync=POOL)
async def test_a_step_keeps_its_lease_while_it_waits_for_a_thread(world: World) -> None:
    await world.create()
    async with POOL.reserved():
        (due,) = world.queue.tasks.values()
        running = asyncio.ensure_future(world.process.perform(due))
        await world.clock.advance(600)
        lease = (await world.instance()).lease
        assert lease is not None and lease.expires_at > world.now
    assert await world.finish(running) is Outcome.DONE
    assert CALLS == ["step"]


@pytest.mark.parametrize("workflow", ["quick", "quick-step"])
@in_world(Quick, QuickStep)
async def test_what_waits_for_a_thread_when_the_process_ends_is_cancelled_and_has_not_failed(
    world: World, workflow: str
) -> None:
    world.run_sync = pool = SyncPool("test", 1)
    ending = world.start()
    await world.finish(world.process.engine.create(workflow, "1"))
    (due,) = [task for task in world.queue.tasks.values() if task.path != TIMEOUT_PATH]
    async with pool.reserved():
        running = asyncio.ensure_future(ending.perform(due))
        await world.clock.settle()
        pool.close()
        with pytest.raises(asyncio.CancelledError):
            await world.finish(running)
    history = (await world.store.load(workflow, "1", history=True)).history
    assert [entry.kind for entry in history if entry.kind.endswith("failed")] == []
    assert CALLS == []
    world.run_sync = inline
    await world.clock.advance(SECONDS - 1)
    assert await world.finish(world.start().perform(due)) is Outcome.DONE
    assert len(CALLS) == 1


BEGUN, GOES_ON, ENDED = (threading.Semaphore(0) for _ in range(3))


def nap() -> None:
    CALLS.append("nap")
    BEGUN.release()
    assert GOES_ON.acquire(timeout=SECONDS_MAX)


class Naps(Workflow, name="naps"):
    definition = S(
        ForEach("each", lambda w: range(16), Activity("nap", nap, timeout=timedelta(seconds=1.5)), parallel=True),
        Step("end", lambda w: ENDED.release()),
    )


def test_many_calls_that_block_all_succeed_at_their_first_attempt(tmp_path: Path) -> None:
    """The last ones wait for a thread for longer than their timeout."""

    async def main() -> None:
        clock = ManualClock(wait_for_threads=False)
        runtime = EmbeddedRuntime([Naps], Settings(db=tmp_path / "attempts.db", sync_threads=2), clock=clock)

        async def kinds() -> Counter[str]:
            history = (await runtime.store.load("naps", "1", history=True)).history
            return Counter(entry.kind for entry in history)

        async def have_ended(count: int) -> bool:
            return (await kinds())["activity"] == count

        await runtime.start()
        try:
            await runtime.engine.create("naps", "1")
            for ended in range(0, 16, 2):
                for _ in range(2):
                    assert await asyncio.to_thread(BEGUN.acquire, timeout=SECONDS_MAX)
                await until(partial(have_ended, ended))
                await clock.advance(1)
                GOES_ON.release(2)
            assert await asyncio.to_thread(ENDED.acquire, timeout=SECONDS_MAX)
            assert (await kinds())["activity failed"] == 0
        finally:
            GOES_ON.release(len(CALLS))
            await runtime.close()
        assert len(CALLS) == 16

    asyncio.run(main())
