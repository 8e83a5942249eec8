"""Steps: that they run, one commit after each, and what becomes of one that fails."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest

from cloud_adapter.document import DOCUMENT_BYTES_MAX, RESERVED_BYTES
from cloud_adapter.engine import steps
from cloud_adapter.engine.task_handler import Outcome
from cloud_adapter.errors import Conflict, Unavailable
from cloud_adapter.history import FIRST_KEPT, HISTORY_MAX
from cloud_adapter.options import EngineOptions
from tests.engine.harness import ID, World, in_world, write
from workflow_core import (
    CheckpointKind,
    EventNotAccepted,
    Go,
    If,
    On,
    Retry,
    S,
    Select,
    Step,
    StepContext,
    WaitFor,
    While,
    Workflow,
)
from workflow_core.error_texts import MESSAGE_CHARS_MAX
from workflow_core.machine.work import ConditionMove, Move

ATTEMPTS: list[StepContext] = []
"""What the steps of ``Flaky`` were told, attempt by attempt."""


class Flaky(Workflow, name="flaky"):
    log: list[str] = []
    n: int = 0
    failures: int = 0
    failing: str = "raise"

    def flaky(self, step: StepContext) -> None:
        if step.attempt == 1:
            ATTEMPTS.clear()
        ATTEMPTS.append(step)
        self.log.append(f"attempt {step.attempt}")
        if step.attempt > self.failures:
            return
        if self.failing == "raise":
            raise ConnectionError("the oven does not answer")
        self.n = self.failing  # type: ignore[assignment]

    definition = S(
        Step("first", write("first")),
        Step("flaky", flaky),
        Step("last", write("last")),
        Select("end", On("End", lambda w: None)),
    )


def seconds(*delays: float) -> list[timedelta]:
    return [timedelta(seconds=delay) for delay in delays]


@pytest.mark.parametrize("failing", ["raise", "no number"])
@in_world(Flaky)
async def test_a_failing_step_is_tried_again_with_backoff(world: World, failing: str) -> None:
    await world.started(failures=3, failing=failing)
    begin = world.now
    instance = await world.instance()
    (thread,) = instance.execution.threads
    assert (thread.step, thread.attempt) == ("flaky", 1)
    assert thread.retry_at == begin + timedelta(seconds=1)
    assert thread.error is not None
    assert thread.error.type == ("ConnectionError" if failing == "raise" else "InvalidFields")
    assert instance.lease is None
    assert instance.wake_at == thread.retry_at
    assert [task.at for task in world.queue.resumes] == [thread.retry_at]
    assert (await world.fields()).log == ["first"], "what a failed attempt did to the fields is gone"

    times = [begin]
    while world.queue.tasks:
        (task,) = world.queue.resumes
        assert task.at is not None
        times.append(task.at)
        await world.clock.advance_to(task.at)
        await world.deliver()
    assert [b - a for a, b in pairwise(times)] == seconds(1, 2, 4)

    assert (await world.fields()).log == ["first", "attempt 4", "last"]
    assert [step.attempt for step in ATTEMPTS] == [1, 2, 3, 4]
    assert len({step.idempotency_key for step in ATTEMPTS}) == 1
    assert ATTEMPTS[0].workflow_id == ID
    assert ATTEMPTS[0].thread_id == "main"
    execution = (await world.instance()).execution
    assert (execution.threads[0].attempt, execution.threads[0].error) == (0, None)
    assert (await world.history())[1:] == [
        ("step", "first"),
        *[("step failed", "flaky")] * 3,
        ("step", "flaky"),
        ("step", "last"),
    ]


@in_world(Flaky)
async def test_a_failing_step_does_not_run_before_its_time(world: World) -> None:
    await world.started(failures=1)
    (task,) = world.queue.resumes
    before = await world.instance()
    with world.process.calls() as calls:
        await world.process.perform(task)
    assert calls.count("commit") == 0
    assert await world.instance() == before
    assert len(ATTEMPTS) == 1


@in_world(Flaky, options=EngineOptions(retry=Retry(max_attempts=3)))
async def test_attempts_used_up_fail_the_instance(world: World) -> None:
    await world.started(failures=99)
    await world.pass_time(timedelta(hours=1))
    assert [step.attempt for step in ATTEMPTS] == [1, 2, 3]
    instance = await world.instance()
    execution = instance.execution
    assert execution.status == "failed"
    assert execution.error is not None
    assert (execution.error.type, execution.error.message) == ("ConnectionError", "the oven does not answer")
    assert execution.error.statement == "flaky"
    assert instance.lease is None
    assert instance.wake_at is None
    assert world.queue.tasks == {}
    assert (await world.fields()).log == ["first"]
    assert (await world.history())[-1] == ("failed", "flaky")
    with pytest.raises(EventNotAccepted, match="the instance is failed"):
        await world.send("End")


@pytest.mark.parametrize(
    ("policy", "delays"),
    [
        (Retry(max_attempts=5, initial=timedelta(seconds=10), factor=1), [10, 10, 10, 10]),
        (Retry(max_attempts=5, max_delay=timedelta(seconds=3)), [1, 2, 3, 3]),
        (Retry(max_attempts=1), []),
    ],
)
def test_the_delays_of_a_policy(policy: Retry, delays: list[float]) -> None:
    assert [policy.delay(n, OSError()) for n in range(1, 5)] == [*seconds(*delays), *[None] * (4 - len(delays))]


def test_the_history_has_a_kind_for_all_work_that_is_due() -> None:
    # Moves take no lease, activities run without one.
    elsewhere = {Move.kind, ConditionMove.kind, CheckpointKind.ACTIVITY}
    assert set(steps.NOTED) == set(CheckpointKind) - elsewhere
    for work, (done, failed) in steps.NOTED.items():
        assert (done, failed) == (work.value, f"{work.value} failed")
        assert (done.failed, failed.failed) == (False, True)


def test_the_delays_of_a_policy_with_very_many_attempts() -> None:
    assert Retry(max_attempts=10**6).delay(10**5, OSError()) == timedelta(minutes=5)


# --- kinds of steps --------------------------------------------------------------------------


class Spellbound(Exception):
    def __str__(self) -> str:
        raise RuntimeError("an error that cannot even be shown")


def raising(error: BaseException) -> Callable[[Any], None]:
    def action(workflow: Any) -> None:
        raise error

    return action


async def asynchronous(workflow: Any) -> None:
    await asyncio.sleep(0)
    workflow.log.append("async")


class Kinds(Workflow, name="kinds"):
    log: list[str] = []
    fail: str = ""

    async def with_context(self, step: StepContext) -> None:
        await asyncio.sleep(0)
        self.log.append(f"{step.step} {step.workflow_id}")

    definition = S(
        Step("sync", write("sync")),
        Step("async", asynchronous),
        Step("context", with_context),
        Step("gives an awaitable", lambda w: asynchronous(w)),
        If("stop", lambda w: w.fail == "StopIteration", Step("next of nothing", lambda w: next(iter([])))),
        If("surrogate", lambda w: w.fail == "ValueError", Step("bad text", raising(ValueError("caf\udce9 " * 999)))),
        If("long", lambda w: w.fail == "KeyError", Step("long text", raising(KeyError("x" * DOCUMENT_BYTES_MAX)))),
        If("shy", lambda w: w.fail == "Spellbound", Step("no text", raising(Spellbound()))),
        If("of the engine", lambda w: w.fail == "Unavailable", Step("outage", raising(Unavailable("no answer")))),
        If("of a client", lambda w: w.fail == "Conflict", Step("conflict", raising(Conflict("too late")))),
    )


@pytest.mark.parametrize("run_sync", [None, asyncio.to_thread])
def test_steps_may_be_sync_or_async(run_sync: Any, tmp_path: Any) -> None:
    options: dict[str, Any] = {} if run_sync is None else {"run_sync": run_sync}

    @in_world(Kinds, **options)
    async def scenario(world: World) -> None:
        await world.started()
        assert (await world.fields()).log == ["sync", "async", f"context {ID}", "async"]
        assert (await world.instance()).execution.status == "finished"

    scenario(tmp_path=tmp_path)


@pytest.mark.parametrize("run_sync", [None, asyncio.to_thread])
@pytest.mark.parametrize(
    "fail",
    [
        "StopIteration",
        "KeyError",
        "ValueError",
        "Spellbound",
        "Unavailable",
        "Conflict",
    ],
)
def test_an_odd_error_is_an_error_like_others(fail: str, run_sync: Any, tmp_path: Any) -> None:
    options: dict[str, Any] = {} if run_sync is None else {"run_sync": run_sync}

    @in_world(Kinds, options=EngineOptions(retry=Retry(max_attempts=2)), **options)
    async def scenario(world: World) -> None:
        await world.started(fail=fail)
        (thread,) = (await world.instance()).execution.threads
        assert thread.attempt == 1
        assert thread.error is not None
        assert len(thread.error.message) <= 6 * MESSAGE_CHARS_MAX, "escapes included"
        await world.pass_time(timedelta(minutes=5))
        instance = await world.instance()
        assert instance.execution.status == "failed"
        assert instance.lease is None
        assert world.queue.tasks == {}

    scenario(tmp_path=tmp_path)


# --- what comes after a step -----------------------------------------------------------------


class After(Workflow, name="after"):
    """What fails here is not the step, but the way on from it."""

    log: list[str] = []
    how: str = ""
    blob: str = ""
    small: int = 0

    def work(self) -> None:
        self.log.append("work")
        if self.how == "large":
            self.blob = "x" * DOCUMENT_BYTES_MAX

    def shout(self) -> None:
        raise ValueError("A" * DOCUMENT_BYTES_MAX)

    definition = S(
        Go("timer", WaitFor("never", lambda w: False)),
        Step("work", work),
        If("shouts", lambda w: w.how == "long" and w.shout(), Step("b", write("b"))),
        If("divides", lambda w: w.how == "condition" and 1 / len(w.blob) > 0, Step("a", write("a"))),
        While("spins", lambda w: w.how == "loop", WaitFor("at once", lambda w: True)),
        If("forks", lambda w: w.how == "fork", Go("twin", WaitFor("never either", lambda w: False), id="timer")),
    )


@pytest.mark.parametrize(
    ("how", "error", "message"),
    [
        ("condition", "ZeroDivisionError", "division by zero"),
        ("long", "ValueError", "AAAA"),
        ("loop", "LoopLimitExceeded", "passed 10000 instructions without reaching a step or a wait"),
        ("fork", "DuplicateThread", "a thread with the id 'timer' is still live"),
        ("large", "TooLarge", "its largest field is 'blob' with 1,000,002 bytes"),
    ],
)
@in_world(After)
async def test_what_fails_after_a_step_fails_the_instance(world: World, how: str, error: str, message: str) -> None:
    await world.started(how=how)
    instance = await world.instance()
    assert instance.execution.status == "failed"
    assert instance.execution.error is not None
    assert instance.execution.error.type == error
    assert message in instance.execution.error.message
    place = {"condition": "divides", "long": "shouts", "loop": "spins", "fork": "twin", "large": "work"}[how]
    assert instance.execution.error.statement == place
    assert instance.lease is None
    assert world.queue.tasks == {}
    assert (await world.fields()).log == [], "what the step did cannot be saved"
    assert (await world.history())[-1] == ("failed", place)


# --- the budget ------------------------------------------------------------------------------


class Long(Workflow, name="long"):
    n: int = 0
    log: list[str] = []

    def count(self) -> None:
        self.n += 1

    definition = S(While("counting", lambda w: w.n < 7, Step("count", count)))


@in_world(Long, options=EngineOptions(budget_steps=3))
async def test_a_budget_of_steps_hands_on_to_another_task(world: World) -> None:
    await world.create()
    counts = []
    while world.queue.tasks:
        (task,) = world.queue.resumes
        with world.process.calls() as calls:
            assert await world.process.deliver(task) is Outcome.DONE
        assert (await world.instance()).lease is None
        counts.append(((await world.fields()).n, calls))
    commits = ["commit"] * 3
    assert counts == [
        (3, ["load", *commits, "create_task", "commit"]),
        (6, ["load", *commits, "create_task", "commit"]),
        (7, ["load", "commit", "commit"]),
    ]
    assert len(world.queue.created) == 3


class Slow(Workflow, name="slow"):
    n: int = 0

    def count(self) -> None:
        self.n += 1
        # A step that takes 20 seconds.
        CLOCK[0].jump(20)

    definition = S(While("counting", lambda w: w.n < 3, Step("count", count)))


CLOCK: list[Any] = []


@in_world(Slow)
async def test_a_budget_of_time_hands_on_to_another_task(world: World) -> None:
    CLOCK[:] = [world.clock]
    await world.create()
    assert await world.process.deliver(world.queue.resumes[0]) is Outcome.DONE
    assert (await world.fields()).n == 2
    assert (await world.instance()).lease is None
    await world.deliver()
    assert (await world.fields()).n == 3
    assert (await world.instance()).execution.status == "finished"


class Many(Workflow, name="many"):
    n: int = 0
    steps: int

    def count(self) -> None:
        self.n += 1

    definition = S(While("counting", lambda w: w.n < w.steps, Step("count", count)))


@pytest.mark.parametrize("steps", [HISTORY_MAX - 2, HISTORY_MAX + 20])
@in_world(Many)
async def test_the_history_has_the_first_and_the_last_of_many_steps(world: World, steps: int) -> None:
    await world.create(steps=steps)
    pc = (await world.instance()).execution.pc
    await world.deliver()
    history = (await world.instance()).history
    assert len(history) == min(steps + 1, HISTORY_MAX)
    pcs = [entry.pc for entry in history if entry.kind == "step"]
    first = FIRST_KEPT - 1  # behind the creation
    assert pcs[0] > pc
    if steps >= HISTORY_MAX:
        assert pcs[:first] == list(range(pcs[0], pcs[0] + (pcs[1] - pcs[0]) * first, pcs[1] - pcs[0]))
        pcs = pcs[first:]
    between = pcs[1] - pcs[0]
    end = (await world.instance()).execution.pc
    assert pcs == list(range(pcs[0], pcs[0] + between * len(pcs), between)), "none is missing"
    assert end - pcs[-1] <= between


class Twins(Workflow, name="twins"):
    """Two threads whose steps fail at the same time, so both are tried again at the same time."""

    log: list[str] = []

    def once(self, step: StepContext) -> None:
        if step.attempt == 1:
            raise ConnectionError
        self.log.append(step.thread_id)

    definition = S(
        Go("a", Step("step a", once)), Go("b", Step("step b", once)), WaitFor("both", lambda w: len(w.log) == 2)
    )


@in_world(Twins, options=EngineOptions(budget_steps=1))
async def test_a_budget_that_ends_while_another_retry_is_due(world: World) -> None:
    await world.started()
    assert [thread.attempt for thread in (await world.instance()).execution.threads] == [0, 1, 1]
    await world.pass_time(timedelta(seconds=30))
    assert sorted((await world.fields()).log) == ["a", "b"]
    assert (await world.instance()).execution.status == "finished"


class Growing(Workflow, name="growing"):
    size: int
    text: str = ""

    def grow(self) -> None:
        self.text = "x" * self.size

    definition = S(Step("grow", grow), Step("work", lambda w: None), Select("end", On("End", lambda w: None)))


@pytest.mark.parametrize("more", [0, 500, 1_000, 10_000, 19_500, RESERVED_BYTES, 21_000])
@in_world(Growing)
async def test_whatever_is_too_large_under_a_lease_fails_the_instance(world: World, more: int) -> None:
    await world.started(size=DOCUMENT_BYTES_MAX + more)
    instance = await world.instance()
    assert (instance.execution.status, instance.lease) == ("failed", None)
    assert instance.execution.error is not None
    assert instance.execution.error.type == "TooLarge"
