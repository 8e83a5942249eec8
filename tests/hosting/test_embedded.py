"""What the embedded runtime continues: the work that earlier processes left behind, and its own after an error."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import pytest

from cloud_adapter.errors import Unavailable
from cloud_adapter.hosting.embedded import EmbeddedRuntime
from cloud_adapter.ports import Task
from cloud_adapter.settings import Settings
from gorchestrate.testing.clock import START, ManualClock
from tests.open_files import nothing_stays_open
from workflow_core import Go, On, Retry, S, Select, Sleep, Step, StepContext, Timeout, Workflow

SECOND, MINUTE, HOUR, DAY = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
RECOVERY = 10 * MINUTE
"""How often the runtimes recover instances."""


PRINTER = {"is slow": False}


class Parcel(Workflow, name="parcel"):
    """Has two timers at the same time, and then one that is further ahead than a queue schedules tasks."""

    definition = S(
        Go("reminders", Sleep("reminder", HOUR), Select("reply", On("Reply", lambda w: None))),
        Select("signature", On("Sign", lambda w: None), Timeout("nobody signed", 2 * HOUR)),
        Select("pickup", On("PickUp", lambda w: None), Timeout("forgotten", 75 * DAY)),
    )


class Letter(Workflow, name="letter"):
    """Is printed at once, and again every hour while the printer jams."""

    default_retry = Retry(initial=HOUR, factor=1, max_delay=HOUR)
    jams: int = 0

    async def write(self, step: StepContext) -> None:
        if step.attempt <= self.jams:
            raise ConnectionError("paper jam")
        if PRINTER["is slow"]:
            await asyncio.Event().wait()  # until the process ends

    definition = S(Step("print", write), Select("post", On("Post", lambda w: None)))


class Stamp(Workflow, name="stamp"):
    """Has a synchronous step."""

    definition = S(Step("stamp", lambda w: None), Select("end", On("End", lambda w: None)))


@dataclass
class Machine:
    """A computer with a database file, on which processes start and end."""

    db: Path
    clock: ManualClock = field(default_factory=ManualClock)

    @asynccontextmanager
    async def process(self, *, starts: bool = True) -> AsyncIterator[EmbeddedRuntime]:
        settings = Settings(db=self.db, recover_seconds=RECOVERY.total_seconds(), lease_seconds=60)
        runtime = EmbeddedRuntime([Parcel, Letter, Stamp], settings, clock=self.clock)
        try:
            if starts:
                await runtime.start()
            await self.clock.settle()
            yield runtime
        finally:
            await runtime.close()

    async def passes(self, time: timedelta) -> None:
        await self.clock.advance(time.total_seconds())

    def rests(self, time: timedelta) -> None:
        """Time passes while no process runs."""
        self.clock.jump(time.total_seconds())


async def happened(runtime: EmbeddedRuntime, workflow: str = "parcel", id: str = "1") -> dict[str, list[timedelta]]:
    """For each statement, when it happened: the time since the start, in whole seconds."""
    found: dict[str, list[timedelta]] = {}
    for entry in (await runtime.store.load(workflow, id, history=True)).history[1:]:
        found.setdefault(entry.statement or entry.kind, []).append((entry.at - START) // SECOND * SECOND)
    return found


Test = Callable[[Machine], Awaitable[None]]
Run = Callable[[Test], None]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    async def main(test: Test) -> None:
        await test(Machine(tmp_path / "embedded.db"))

    return lambda test: asyncio.run(main(test))


# --- what earlier processes left ------------------------------------------------------------


@pytest.mark.parametrize("started_after", [MINUTE, HOUR - RECOVERY, HOUR - SECOND, HOUR])
def test_timers_of_an_earlier_process_fire_once_and_at_their_time(run: Run, started_after: timedelta) -> None:
    async def test(machine: Machine) -> None:
        async with machine.process() as earlier:
            await earlier.engine.create("parcel", "1")
        machine.rests(started_after)
        async with machine.process() as later:
            await machine.passes(3 * HOUR - started_after)
            assert await happened(later) == {"reminder": [HOUR], "nobody signed": [2 * HOUR]}

    run(test)


def test_overdue_timers_of_an_earlier_process_fire_at_once(run: Run) -> None:
    async def test(machine: Machine) -> None:
        async with machine.process() as earlier:
            await earlier.engine.create("parcel", "1")
            await machine.passes(90 * MINUTE)
        machine.rests(HOUR)
        async with machine.process() as later:
            await machine.passes(SECOND)
            assert await happened(later) == {"reminder": [HOUR], "nobody signed": [150 * MINUTE]}
            await machine.passes(3 * HOUR)
            assert len(await happened(later)) == 2

    run(test)


def test_timers_of_many_instances_fire_at_the_time_of_each(run: Run) -> None:
    async def test(machine: Machine) -> None:
        created = [number * 7 * MINUTE for number in range(10)]
        async with machine.process() as earlier:
            for number in range(10):
                await earlier.engine.create("parcel", str(number))
                await machine.passes(7 * MINUTE)
        async with machine.process() as later:
            await machine.passes(3 * HOUR)
            for number, at in enumerate(created):
                assert await happened(later, id=str(number)) == {
                    "reminder": [at + HOUR],
                    "nobody signed": [at + 2 * HOUR],
                }

    run(test)


def test_a_timer_beyond_the_queues_horizon_outlives_processes(run: Run) -> None:
    async def test(machine: Machine) -> None:
        async with machine.process() as first:
            await first.engine.create("parcel", "1")
            await first.engine.handle_event("parcel", "1", "Sign", b"")
        for _ in range(2):
            machine.rests(36 * DAY)
            async with machine.process():
                await machine.passes(DAY)
        async with machine.process() as last:
            await machine.passes(DAY - SECOND)
            assert "forgotten" not in await happened(last)
            await machine.passes(SECOND)
            assert (await happened(last))["forgotten"] == [75 * DAY]

    run(test)


def test_the_work_of_a_process_that_never_ran_it_begins_at_once(run: Run) -> None:
    async def test(machine: Machine) -> None:
        async with machine.process(starts=False) as earlier:
            await earlier.engine.create("letter", "1")
        machine.rests(MINUTE)
        async with machine.process() as later:
            await machine.passes(SECOND)
            assert await happened(later, "letter") == {"print": [MINUTE]}

    run(test)


def test_a_retry_of_an_earlier_process_is_made_at_its_time(run: Run) -> None:
    async def test(machine: Machine) -> None:
        async with machine.process() as earlier:
            await earlier.engine.create("letter", "1", b'{"jams": 2}')
            await machine.passes(SECOND)
        machine.rests(HOUR / 2 - SECOND)
        async with machine.process() as later:
            await machine.passes(2 * HOUR)
            assert await happened(later, "letter") == {"print": [timedelta(), HOUR, 2 * HOUR]}

    run(test)


def test_a_step_that_an_earlier_process_broke_off_is_run_again_when_its_lease_expires(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test(machine: Machine) -> None:
        monkeypatch.setitem(PRINTER, "is slow", True)
        async with machine.process() as earlier:
            await earlier.engine.create("letter", "1")
            await machine.passes(SECOND)
            closing = asyncio.create_task(earlier.close())
            await machine.passes(10 * SECOND)
            await closing
        monkeypatch.setitem(PRINTER, "is slow", False)
        ended = machine.clock.now() - START
        async with machine.process() as later:
            await machine.passes(10 * MINUTE)
            ((at,),) = (await happened(later, "letter")).values()
            assert ended < at <= ended + MINUTE

    run(test)


def test_what_another_process_leaves_is_continued_while_this_one_runs(run: Run) -> None:
    async def test(machine: Machine) -> None:
        async with machine.process() as runtime:
            await machine.passes(RECOVERY / 2)
            for round in range(3):
                async with machine.process(starts=False) as other:
                    await other.engine.create("letter", str(round))
                await machine.passes(RECOVERY)
                assert await happened(runtime, "letter", str(round)) == {"print": [(round + 1) * RECOVERY]}

    run(test)


# --- errors ---------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [Unavailable("no database"), RuntimeError("a defect"), MemoryError()], ids=repr)
def test_recovery_goes_on_after_an_error(
    run: Run, error: Exception, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def test(machine: Machine) -> None:
        async with machine.process(starts=False) as earlier:
            await earlier.engine.create("letter", "1")
        async with machine.process(starts=False) as later:
            due, failures = later.store.due, [error] * 2

            async def failing(*arguments: object, **options: object) -> object:
                if failures:
                    raise failures.pop()
                return await due(*arguments, **options)  # type: ignore[arg-type]

            monkeypatch.setattr(later.store, "due", failing)
            await later.start()
            await machine.passes(2 * RECOVERY)
            assert await happened(later, "letter") == {"print": [2 * RECOVERY]}

    with caplog.at_level(logging.WARNING, "gorchestrate.embedded"):
        run(test)
    records = [record for record in caplog.records if record.name == "gorchestrate.embedded"]
    level = logging.WARNING if isinstance(error, Unavailable) else logging.ERROR
    assert [record.levelno for record in records] == [level] * 2
    assert all("recovery" in record.getMessage() for record in records)


def test_recovery_goes_on_after_an_error_of_one_instance(run: Run) -> None:
    async def test(machine: Machine) -> None:
        async with machine.process(starts=False) as earlier:
            for id in "123":
                await earlier.engine.create("letter", id)
            await earlier.store.connections.run(
                lambda connection: connection.execute("UPDATE instances SET execution = '{}' WHERE id = '2'")
            )
        async with machine.process() as later:
            await machine.passes(SECOND)
            for id in "13":
                assert "print" in await happened(later, "letter", id)

    run(test)


@pytest.mark.parametrize("error", [Unavailable("no database"), RuntimeError("a defect")], ids=repr)
def test_a_delivery_is_made_again_after_an_error(run: Run, error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(machine: Machine) -> None:
        async with machine.process() as runtime:
            load, failures = runtime.store.load, [error] * 5

            async def failing(workflow: str, id: str, **how: bool) -> object:
                if id == "1" and failures:
                    raise failures.pop()
                return await load(workflow, id, **how)

            with monkeypatch.context() as patch:
                patch.setattr(runtime.store, "load", failing)
                for id in "12":
                    await runtime.engine.create("letter", id)
                await machine.passes(MINUTE)
            assert await happened(runtime, "letter", "2") == {"print": [timedelta()]}
            assert await happened(runtime, "letter", "1") == {"print": [3 * SECOND]}

    run(test)


def test_a_task_that_no_engine_knows_does_not_stop_the_others(run: Run) -> None:
    async def test(machine: Machine) -> None:
        async with machine.process() as runtime:
            for path, body in (("/nonsense", {}), ("/resume", {"id": 1})):
                await runtime.queue.create(Task("", path, body))
            await runtime.engine.create("letter", "1")
            await machine.passes(HOUR)
            assert await happened(runtime, "letter") == {"print": [timedelta()]}

    run(test)


def test_a_task_that_came_before_its_commit_comes_again(run: Run) -> None:
    async def test(machine: Machine) -> None:
        async with machine.process() as runtime, machine.process(starts=False) as other:
            body = {"workflow": "letter", "id": "1", "pc": 1, "created_at": START.isoformat()}
            await runtime.queue.create(Task("", "/resume", body))
            await machine.passes(10 * SECOND)
            await other.engine.create("letter", "1")
            await machine.passes(10 * SECOND)
            assert "print" in await happened(runtime, "letter")

    run(test)


# --- start and end --------------------------------------------------------------------------


def test_starting_again_changes_nothing(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    start: ContextVar[str] = ContextVar("start", default="none")

    async def test(machine: Machine) -> None:
        async with machine.process(starts=False) as runtime:
            due, calls = runtime.store.due, list[tuple[timedelta, str]]()

            async def counting(*arguments: object, **options: object) -> object:
                calls.append((machine.clock.now() - START, start.get()))
                return await due(*arguments, **options)  # type: ignore[arg-type]

            monkeypatch.setattr(runtime.store, "due", counting)
            for number in range(3):
                start.set(str(number))
                await runtime.start()
            await machine.passes(2 * RECOVERY)
            assert calls == [(timedelta(), "0"), (RECOVERY, "0"), (2 * RECOVERY, "0")]
        assert machine.clock.sleeping == 0

    run(test)


def test_a_runtime_is_started_only_once(run: Run) -> None:
    async def test(machine: Machine) -> None:
        async with machine.process() as runtime:
            await runtime.close()
            with pytest.raises(RuntimeError, match="can be started only once: create a new one"):
                await runtime.start()
            assert machine.clock.sleeping == 0

    run(test)


def test_the_threads_of_synchronous_steps_end_with_the_runtime(run: Run) -> None:
    async def test(machine: Machine) -> None:
        async with machine.process() as runtime:
            await runtime.engine.create("stamp", "1")
            await machine.passes(SECOND)
            assert "stamp" in await happened(runtime, "stamp")

    with nothing_stays_open():
        run(test)


def test_what_falls_due_between_two_recoveries_waits_for_neither(run: Run) -> None:
    """Recovery also schedules what is due until the next one."""

    async def test(machine: Machine) -> None:
        async with machine.process() as earlier:
            await earlier.engine.create("letter", "1", b'{"jams": 1}')
            await machine.passes(SECOND)
        machine.rests(HOUR - RECOVERY / 2)
        async with machine.process() as later:
            await machine.passes(RECOVERY)
            assert await happened(later, "letter") == {"print": [timedelta(), HOUR]}

    run(test)
