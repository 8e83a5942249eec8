"""Policies of steps, timeouts, failures that a ``Try`` catches, and long sleeps, on the engine."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from cloud_adapter.engine.task_handler import Outcome
from cloud_adapter.engine.tasks import ACTIVITY_PATH
from cloud_adapter.options import EngineOptions
from tests.engine.harness import Gate, World, in_world, write
from workflow_core import (
    Activity,
    ErrorInfo,
    Fail,
    Go,
    On,
    Parallel,
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
    WaitFor,
    While,
    Workflow,
)

GATE = Gate()
FAILURES: list[Exception] = []
NEW_YEAR = datetime(2031, 1, 1, tzinfo=UTC)


@pytest.fixture(autouse=True)
def _fresh() -> None:
    FAILURES.clear()


def attempt(workflow: Flight, step: StepContext) -> None:
    workflow.log.append(f"attempt {step.attempt}")
    if FAILURES:
        raise FAILURES.pop(0)


def signal() -> None:
    if FAILURES:
        raise FAILURES.pop(0)


class Flight(Workflow, name="flight"):
    log: list[str] = []

    def note(self, error: ErrorInfo) -> None:
        self.log.append(f"{error.type} at {error.statement}")

    definition = S(
        Try(
            "booking",
            Step("book", attempt, retry=Retry(max_attempts=3, initial=timedelta(seconds=2), give_up_on=KeyError)),
            Step("seat", attempt),
        )
        .except_((KeyError, ConnectionError), Step("apologize", write("apologize")), name="no flight", then=note)
        .finally_(Step("close", write("close"))),
        Select("end", On("End", lambda w: None)),
    )


@in_world(Flight)
async def test_attempts_follow_the_policy_of_the_step(world: World) -> None:
    FAILURES.extend([ConnectionError("1"), ConnectionError("2")])
    await world.started()
    (thread,) = (await world.instance()).execution.threads
    assert (thread.attempt, thread.retry_at) == (1, world.now + timedelta(seconds=2))
    assert (await world.instance()).lease is None
    await world.pass_time(timedelta(seconds=2))
    (thread,) = (await world.instance()).execution.threads
    assert (thread.attempt, thread.retry_at) == (2, world.now + timedelta(seconds=4))
    await world.pass_time(timedelta(seconds=4))
    assert (await world.fields()).log == ["attempt 3", "attempt 1", "close"], "the fields of failed attempts are undone"


@in_world(Flight)
async def test_an_error_that_is_given_up_on_is_caught_at_once(world: World) -> None:
    FAILURES.append(KeyError("full"))
    await world.started()
    assert (await world.fields()).log == ["KeyError at book", "apologize", "close"]
    (thread,) = (await world.instance()).execution.threads
    assert (thread.step, thread.attempt, thread.error) == ("end", 0, None)
    assert await world.history("failed") == []


class Default(Workflow, name="default"):
    log: list[str] = []
    default_retry = Retry(max_attempts=2, initial=timedelta(seconds=7))
    definition = S(Step("seat", attempt), Select("end", On("End", lambda w: None)))


@in_world(Default)
async def test_the_default_policy_is_the_workflows(world: World) -> None:
    FAILURES.extend([ValueError("1"), ValueError("2")])
    await world.started()
    (thread,) = (await world.instance()).execution.threads
    assert (thread.attempt, thread.retry_at) == (1, world.now + timedelta(seconds=7))
    await world.pass_time(timedelta(seconds=7))
    assert (await world.instance()).execution.status == "failed"


@in_world(Flight)
async def test_what_nobody_catches_fails_the_instance_after_the_cleanup(world: World) -> None:
    FAILURES.append(TerminalError("the end"))
    await world.started()
    execution = (await world.instance()).execution
    assert execution.status == "failed"
    assert execution.error is not None
    assert (execution.error.type, execution.error.statement) == ("TerminalError", "book")
    assert (await world.fields()).log == ["close"]
    assert execution.threads[0].step == "book", "where it can be repaired"
    assert not world.queue.tasks
    assert (await world.instance()).wake_at is None


class Slow(Workflow, name="slow"):
    log: list[str] = []

    async def work(self) -> None:
        self.log.append("begun")
        await GATE.wait()

    definition = S(
        Try(
            "in time",
            Step("work", work, timeout=timedelta(seconds=100), retry=Retry(max_attempts=1)),
        ).except_(ConnectionError, name="other").except_(TimeoutError, Step("late", write("late")), name="too late"),
        Select("end", On("End", lambda w: None)),
    )  # fmt: skip


@in_world(Slow)
async def test_a_step_that_takes_too_long_is_interrupted(world: World) -> None:
    await world.create()
    running = asyncio.ensure_future(world.process.perform(world.queue.resumes[0]))
    for _ in range(5):
        await world.clock.settle()
        assert not running.done()
        await world.clock.advance(20)
    assert await world.finish(running) is Outcome.DONE
    await world.deliver()  # its budget was over as well
    assert (await world.fields()).log == ["late"]
    assert await world.history("step failed") == [("step failed", "work")]


class Sleeper(Workflow, name="sleeper"):
    log: list[str] = []
    definition = S(
        Go("other", Sleep("until new year", NEW_YEAR), Step("cheers", write("cheers"))),
        Sleep("half a year", lambda w: timedelta(days=183)),
        Select("wait", On("End", lambda w: None), Timeout("at noon", lambda w: NEW_YEAR + timedelta(days=400))),
        Step("awake", write("awake")),
    )


@in_world(Sleeper)
async def test_sleeps_of_months_and_until_a_moment(world: World) -> None:
    assert world.now < NEW_YEAR
    await world.started()
    tasks = 0
    begin = world.now
    while "awake" not in (await world.fields()).log:
        assert world.now - begin < timedelta(days=1000)
        await world.pass_time(timedelta(days=5))
        tasks += 1
    assert (await world.fields()).log == ["cheers", "awake"]
    entries = {entry.statement: entry.at for entry in (await world.instance()).history if entry.kind == "timeout"}
    assert entries["until new year"] == NEW_YEAR
    assert entries["half a year"] == begin + timedelta(days=183)
    assert entries["at noon"] == NEW_YEAR + timedelta(days=400)


class Branches(Workflow, name="branches"):
    log: list[str] = []
    definition = S(
        Try(
            "both",
            Parallel(
                "work",
                S(Select("go", On("Go", lambda w: None)), Fail("no", "no way")),
                S(
                    Try("holding", Select("hold", On("Never", lambda w: None))).finally_(
                        Step("let go", write("let go"))
                    )
                ),
            ),
        ).except_(Exception, Step("after", write("after")), name="failed"),
        Select("end", On("End", lambda w: None)),
    )


@in_world(Branches)
async def test_a_branch_that_fails_cancels_the_other_one(world: World) -> None:
    await world.started()
    assert len((await world.instance()).execution.threads) == 3
    await world.send("Go")
    await world.deliver()
    assert (await world.fields()).log == ["let go", "after"]
    (thread,) = (await world.instance()).execution.threads
    assert thread.step == "end"


def twice(workflow: Flights, step: StepContext) -> None:
    if step.attempt == 1:
        raise ConnectionError
    workflow.log.append(step.step)


def always(workflow: Flights) -> bool:
    return True


def flying(name: str) -> Go:
    return Go(name, Step(f"fly {name}", twice, retry=Retry(initial=timedelta(minutes=1))))


class Flights(Workflow, name="flights"):
    log: list[str] = []

    definition = S(
        Go("bell", While("for ever", always, Select("ring", On("Ring", lambda w: None)), Step("call", write("call")))),
        flying("a"),
        flying("b"),
        flying("c"),
        WaitFor("all", lambda w: len([one for one in w.log if one != "call"]) == 3),
    )


@in_world(Flights, options=EngineOptions(budget_steps=1))
async def test_attempts_whose_tasks_met_one_lease_are_not_forgotten(world: World) -> None:
    """They reschedule themselves as one task, so the holder of the lease cannot rely on their original tasks."""
    await world.started()
    await world.clock.advance(60)
    tasks = list(world.queue.tasks.values())
    assert len(tasks) == 3
    other = world.start()

    async def others_come() -> None:
        for task in tasks[1:]:
            assert await other.perform(task) is Outcome.DONE
            del world.queue.tasks[task.name]

    world.process.fault("commit", 1, after=others_come)
    await world.process.deliver(tasks[0])
    await world.pass_time(timedelta(minutes=2))
    assert sorted((await world.fields()).log) == ["fly a", "fly b", "fly c"]
    assert (await world.instance()).execution.status is Status.FINISHED


@pytest.mark.parametrize("times", [(52, 55, 59), (59, 59.2, 59.4, 59.6, 59.8)])
@pytest.mark.parametrize("rings", ["each time", "third time"])
@in_world(Flights)
async def test_a_task_that_comes_early_and_does_other_work_is_made_again(
    world: World, times: tuple[float, ...], rings: str
) -> None:
    """A task that reschedules itself needs a new name each time, because a queue accepts each name once."""
    begin = world.now
    await world.started()
    calls = 0
    for nth, seconds in enumerate(times, 1):
        await world.clock.advance_to(begin + timedelta(seconds=seconds))
        if rings == "each time" or nth == 3:
            await world.send("Ring")
            calls += 1
        for task in [task for task in world.queue.tasks.values() if task.at is not None]:
            assert await world.process.deliver(task) is Outcome.DONE
    assert (await world.fields()).log == ["call"] * calls
    assert len(world.queue.tasks) < 8, "they do not multiply"
    await world.pass_time(timedelta(seconds=20))
    assert sorted((await world.fields()).log)[calls:] == ["fly a", "fly b", "fly c"]


FAR = Retry(initial=timedelta(days=100), max_delay=timedelta(days=100))


class Comet(Workflow, name="comet"):
    log: list[str] = []

    definition = S(
        Go("bell", While("for ever", always, Select("ring", On("Ring", lambda w: None)), Step("call", write("call")))),
        Go("again", Step("look again", attempt, retry=FAR)),
        Step("look", attempt, retry=FAR),
        Select("end", On("End", lambda w: None)),
    )  # fmt: skip


@pytest.mark.parametrize("rings", [False, True])
@pytest.mark.parametrize("skew", [-5, 0, 5])
@in_world(Comet)
async def test_an_attempt_beyond_the_horizon_comes_at_its_time(world: World, skew: int, rings: bool) -> None:
    """Its tasks stop on the way there, and there they may come early, late, and twice, and do other work."""
    FAILURES.extend([ConnectionError("1"), ConnectionError("2")])
    await world.started()
    due = world.now + timedelta(days=100)
    while world.now < due:
        assert len(world.queue.tasks) <= 4, "they do not multiply"
        assert all(
            task.at is not None and task.at - world.now <= timedelta(days=29) for task in world.queue.tasks.values()
        )
        task = min(world.queue.resumes, key=lambda task: task.at or world.now)
        assert task.at is not None
        await world.clock.advance_to(min(task.at + timedelta(seconds=skew), due) if task.at < due else due)
        if rings:
            await world.send("Ring")
            world.queue.tasks = {one.name: one for one in world.queue.tasks.values() if one.at is not None}
        assert await world.process.deliver(task) is Outcome.DONE
        assert await world.process.perform(task) is Outcome.DONE
    await world.deliver()
    assert sorted(one for one in (await world.fields()).log if one != "call") == ["attempt 2", "attempt 2"]


@in_world(Comet)
async def test_a_task_that_comes_late_makes_none_for_what_has_its_own(world: World) -> None:
    FAILURES.extend([ConnectionError("1"), ConnectionError("2")])
    await world.create()
    first = world.queue.resumes[0]
    await world.deliver()
    tasks = dict(world.queue.tasks)
    assert await world.process.perform(first) is Outcome.DONE
    assert world.queue.tasks == tasks


class Probe(Workflow, name="probe"):
    log: list[str] = []
    definition = S(Activity("signal", signal, retry=FAR, timeout=timedelta(hours=1), then=write("heard")))


@in_world(Probe)
async def test_an_attempt_of_an_activity_beyond_the_horizon_comes_at_its_time(world: World) -> None:
    FAILURES.append(ConnectionError("silence"))
    await world.started()
    due = world.now + timedelta(days=100)
    while world.now < due:
        assert len(world.queue.tasks) <= 2
        assert all(
            task.at is not None and task.at - world.now <= timedelta(days=29) for task in world.queue.tasks.values()
        )
        task = next(task for task in world.queue.tasks.values() if task.path == ACTIVITY_PATH)
        assert task.at is not None and task.deadline == timedelta(hours=1)
        await world.clock.advance_to(task.at)
        await world.deliver()
    assert (await world.instance()).execution.status is Status.FINISHED
    assert await world.history("activity", "activity failed") == [("activity failed", "signal"), ("activity", "signal")]


@in_world(Probe)
async def test_an_attempt_of_an_activity_that_comes_early_is_put_off(world: World) -> None:
    FAILURES.append(ConnectionError("silence"))
    await world.started()
    due = world.now + timedelta(days=100)
    await world.clock.advance_to(due - timedelta(seconds=3))
    task = next(task for task in world.queue.tasks.values() if task.path == ACTIVITY_PATH)
    for _ in range(2):
        assert await world.process.perform(task) is Outcome.DONE
    assert await world.history("activity") == []
    (again,) = [one for one in world.queue.tasks.values() if one.path == ACTIVITY_PATH and one.name != task.name]
    assert (again.at, again.deadline) == (due, task.deadline)
