"""What the embedded runtime holds in memory of what is due later, and that the rest still happens at its time."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from cloud_adapter.engine.tasks import TIMEOUT_PATH
from cloud_adapter.hosting import embedded
from cloud_adapter.hosting.embedded import EmbeddedRuntime
from cloud_adapter.hosting.near_tasks import NearTasks
from cloud_adapter.ports import Task
from cloud_adapter.settings import Settings
from gorchestrate.testing.clock import START, ManualClock
from tests.engine.harness import ManualQueue
from workflow_core import Activity, On, Retry, S, Select, Step, StepContext, Timeout, Workflow

SECOND, MINUTE, HOUR = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1)


class Reminder(Workflow, name="reminder"):
    seconds: float = 3600

    definition = S(
        Select("wait", On("Go", lambda w: None), Timeout("later", lambda w: timedelta(seconds=w.seconds))),
        Select("end", On("End", lambda w: None)),
    )


class Slow(Workflow, name="slow"):
    """Has a step that is tried again after two hours."""

    default_retry = Retry(initial=2 * HOUR, factor=1, max_delay=2 * HOUR)

    def work(self, step: StepContext) -> None:
        if step.attempt == 1:
            raise ConnectionError("not now")

    definition = S(Step("work", work), Select("end", On("End", lambda w: None)))


CALLS: list[int] = []


def fetch() -> None:
    CALLS.append(len(CALLS))
    if len(CALLS) == 1:
        raise ConnectionError("not now")


class Fetching(Workflow, name="fetching"):
    """Has an activity that is tried again after two hours."""

    definition = S(
        Activity("fetch", fetch, retry=Retry(initial=2 * HOUR, factor=1, max_delay=2 * HOUR), timeout=HOUR),
        Select("end", On("End", lambda w: None)),
    )


@asynccontextmanager
async def running(db: Path, clock: ManualClock) -> AsyncIterator[EmbeddedRuntime]:
    runtime = EmbeddedRuntime([Reminder, Slow, Fetching], Settings(db=db), clock=clock)
    await runtime.start()
    try:
        yield runtime
    finally:
        await runtime.close()


def due(runtime: EmbeddedRuntime, clock: ManualClock) -> list[tuple[str, timedelta]]:
    """The tasks in memory: their paths, and in how much time they are due."""
    return [(task.path, (task.at or clock.now()) - clock.now()) for task in runtime.queue.tasks()]


async def happened(runtime: EmbeddedRuntime, workflow: str, id: str = "1") -> Sequence[tuple[str, timedelta]]:
    history = (await runtime.store.load(workflow, id, history=True)).history[1:]
    return [(entry.kind, (entry.at - START) // SECOND * SECOND) for entry in history]


@pytest.mark.parametrize("seconds", [30, 59, 60, 61, 3600, 40 * 86_400])
def test_a_timer_that_is_far_ahead_is_not_in_memory_and_fires_at_its_time(tmp_path: Path, seconds: float) -> None:
    async def main() -> None:
        clock = ManualClock()
        async with running(tmp_path / "near.db", clock) as runtime:
            await runtime.engine.create("reminder", "1", b'{"seconds": %d}' % seconds)
            await clock.settle()
            near = [("/callback/timeout", seconds * SECOND)] if seconds <= 60 else []
            assert due(runtime, clock) == near
            if seconds <= 3600:
                await clock.advance(seconds + 1)
            else:
                clock.jump(seconds - 60)  # as if the machine had been suspended
                await clock.advance(61)
            assert await happened(runtime, "reminder") == [("timeout", seconds * SECOND)]

    asyncio.run(main())


def test_a_step_that_is_tried_again_later_is_not_in_memory(tmp_path: Path) -> None:
    async def main() -> None:
        clock = ManualClock()
        async with running(tmp_path / "near.db", clock) as runtime:
            await runtime.engine.create("slow", "1")
            await clock.advance(30)  # until the end of the lease, which recovery may have scheduled
            assert due(runtime, clock) == []
            await clock.advance(7300)
            assert [kind for kind, _ in await happened(runtime, "slow")] == ["step failed", "step"]
            assert (await happened(runtime, "slow"))[1][1] - 2 * HOUR <= SECOND

    asyncio.run(main())


def test_an_activity_that_is_tried_again_later_is_in_memory_and_runs_once(tmp_path: Path) -> None:
    async def main() -> None:
        CALLS.clear()
        clock = ManualClock()
        async with running(tmp_path / "near.db", clock) as runtime:
            await runtime.engine.create("fetching", "1")
            await clock.advance(1)
            assert [path for path, _ in due(runtime, clock)] == ["/activity"]
            await clock.advance(7300)
            assert [kind for kind, _ in await happened(runtime, "fetching")] == ["activity failed", "activity"]
            assert CALLS == [0, 1]

    asyncio.run(main())


def test_more_timers_than_one_recovery_schedules_fire_at_their_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "RECOVERED_MAX", 10)

    async def main() -> None:
        clock = ManualClock()
        async with running(tmp_path / "near.db", clock) as runtime:
            for number in range(60):
                await runtime.engine.create("reminder", str(number), b'{"seconds": %d}' % (3600 + number // 3))
            assert due(runtime, clock) == []
            await clock.advance(3599)
            assert 30 < len(due(runtime, clock)) <= 60  # each call goes on where the one before ended
            await clock.advance(25)
            late = Counter[timedelta]()
            for number in range(60):
                ((_, at),) = await happened(runtime, "reminder", str(number))
                late[at - HOUR - number // 3 * SECOND] += 1
            assert set(late) <= {0 * SECOND, SECOND}

    asyncio.run(main())


@pytest.mark.parametrize(("ahead", "near"), [(10 * MINUTE, 10 * MINUTE), (10 * SECOND, MINUTE)])
def test_what_is_due_before_the_next_recovery_is_held_and_can_be_deleted(ahead: timedelta, near: timedelta) -> None:
    async def main() -> None:
        queue, clock = ManualQueue(), ManualClock()
        tasks = NearTasks(queue, clock, ahead)
        for name, at in (("near", near), ("far", near + SECOND)):
            await tasks.create(Task(name, TIMEOUT_PATH, {}, START + at))
        assert list(queue.tasks) == ["near"]
        await tasks.delete("near")
        assert not queue.tasks

    asyncio.run(main())
