"""Steps: their context, their attempts, the checkpoints around them, and asynchronous ones."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from tests.core.helpers import NOON, Logged, do, kinds, log, reload, run, saved, standing, start, unchanged
from workflow_core import (
    AsyncInSyncCall,
    Execution,
    Go,
    On,
    S,
    Select,
    Status,
    Step,
    StepContext,
    WaitFor,
    While,
    aresume,
    handle_event,
    resume,
)
from workflow_core.machine.machine import Machine
from workflow_core.machine.operations import goto
from workflow_core.machine.work import StepWork


class Flaky:
    """An action that fails a given number of times, and records its contexts."""

    def __init__(self, failures: int) -> None:
        self.failures = failures
        self.contexts: list[StepContext] = []

    def __call__(self, w: Logged, step: StepContext) -> None:
        self.contexts.append(step)
        if len(self.contexts) <= self.failures:
            raise TimeoutError(f"failure {len(self.contexts)}")
        w.log.append("done")


# --- the context -----------------------------------------------------------------------------


def test_a_context_tells_where_the_step_runs() -> None:
    flaky = Flaky(0)

    class Flow(Logged, name="flow"):
        definition = S(
            S(do("first"), Go("g", Step("step", flaky), id="t1"), prefix="p"), WaitFor("w", lambda w: len(w.log) == 2)
        )

    run(Flow)
    (context,) = flaky.contexts
    assert (context.workflow, context.workflow_id, context.thread_id) == ("flow", "id-1", "t1")
    assert (context.step, context.attempt) == ("p/step", 1)


def test_a_step_may_do_without_a_context() -> None:
    class Flow(Logged):
        def method(self) -> None:
            self.log.append("method")

        definition = S(
            Step("method", method), Step("lambda", lambda w: w.log.append("lambda")), Step("any", lambda *a: None)
        )

    assert run(Flow).log == ["method", "lambda"]


def test_the_key_is_another_one_at_each_visit_step_thread_and_instance() -> None:
    keys: list[str] = []

    def note(w: Logged, step: StepContext) -> None:
        w.n += 1
        keys.append(step.idempotency_key)

    class Flow(Logged):
        definition = S(
            Go("side", Step("c", note)),
            While("w", lambda w: w.n < 3, Step("a", note), Step("b", note)),
            WaitFor("side ran", lambda w: w.n == 5),
        )

    run(Flow)
    order = Flow()
    resume(order, Execution.start("id-2", Flow))
    assert len(keys) == 10
    assert len(set(keys)) == 10


def test_the_key_does_not_depend_on_anything_that_another_process_would_see_differently() -> None:
    flaky = Flaky(0)

    class Flow(Logged, name="flow"):
        definition = S(Step("step", flaky))

    run(Flow)
    run(Flow)
    first, second = flaky.contexts
    assert first.idempotency_key == second.idempotency_key
    assert len(first.idempotency_key) == 32


# --- attempts --------------------------------------------------------------------------------


def test_a_step_that_raises_is_noted_and_a_retry_succeeds_under_the_same_key() -> None:
    flaky = Flaky(2)

    class Flow(Logged):
        definition = S(do("before"), Step("flaky", flaky), do("behind"))

    order, execution = Flow(), Execution.start("id-1", Flow)
    for attempt in (1, 2):
        with pytest.raises(TimeoutError, match=f"failure {attempt}"):
            resume(order, execution)
        thread = execution.threads[0]
        assert (thread.step, thread.status, thread.attempt) == ("flaky", "executing", attempt)
        assert thread.error is not None
        assert thread.error.type == "TimeoutError"
        assert (thread.error.message, thread.error.statement) == (f"failure {attempt}", "flaky")
        assert execution.status == "running"
        order, execution = reload(order, execution)
    assert kinds(order, execution) == ["step", "step"]
    assert order.log == ["before", "done", "behind"]
    assert execution.status == "finished"
    assert [context.attempt for context in flaky.contexts] == [1, 2, 3]
    assert len({context.idempotency_key for context in flaky.contexts}) == 1


def test_attempts_are_forgotten_after_a_success() -> None:
    flaky = Flaky(1)

    class Flow(Logged):
        definition = S(Step("flaky", flaky), Select("s", On("E", log("e"))))

    order, execution = Flow(), Execution.start("id-1", Flow)
    with pytest.raises(TimeoutError):
        resume(order, execution)
    thread: Any = execution.threads[0]
    thread.retry_at = NOON
    resume(order, execution, now=NOON)
    assert (thread.attempt, thread.error, thread.retry_at) == (0, None, None)


def test_a_failed_attempt_says_when_the_next_one_is_due() -> None:
    class Flow(Logged):
        definition = S(do("a"))

    order, execution = Flow(), Execution.start("id-1", Flow)
    machine = Machine(order, execution, NOON)
    machine.settle()
    for retry_at in (NOON + timedelta(days=1), None):
        machine.failed(StepWork(execution.threads[0]), TimeoutError(), retry_at)
        assert execution.threads[0].retry_at == retry_at
        assert (machine.next_work() is None) is (retry_at is not None)


def test_a_failed_step_leaves_the_other_threads_where_they_are() -> None:
    flaky = Flaky(1)

    class Flow(Logged):
        definition = S(
            Go("side", Select("s", On("E", log("e")), On("F", log("f")))),
            Step("flaky", flaky),
            WaitFor("two", lambda w: len(w.log) == 2),
        )

    order, execution = Flow(), Execution.start("id-1", Flow)
    with pytest.raises(TimeoutError):
        resume(order, execution)
    assert standing(execution) == {"main": "flaky", "side": "s"}
    handle_event(order, execution, "E")
    resume(order, execution)
    assert order.log == ["e", "done"]
    assert execution.status == "finished"


# --- checkpoints -----------------------------------------------------------------------------


def test_the_kinds_of_checkpoints_in_their_order() -> None:
    class Flow(Logged):
        definition = S(
            Go("side", do("s1")),
            do("m1"),
            WaitFor("s1 ran", lambda w: "s1" in w.log),
            Select("s", On("E", log("e"))),
            do("m2"),
        )

    order, execution = Flow(), Execution.start("id-1", Flow)
    assert kinds(order, execution) == ["resume", "resume", "step", "step", "condition"]
    handle_event(order, execution, "E")
    assert kinds(order, execution) == ["step"]
    assert kinds(order, execution) == []


def test_a_step_is_checkpointed_before_the_next_statement_starts_and_pc_counts_each() -> None:
    class Flow(Logged):
        definition = S(do("a"), do("b"))

    order, execution = Flow(), Execution.start("id-1", Flow)
    seen: list[Any] = []
    resume(order, execution, lambda kind: seen.append((execution.pc, standing(execution), list(order.log))))
    assert seen == [(1, {"main": "a"}, []), (2, {"main": "b"}, ["a"]), (3, {}, ["a", "b"])]


def test_going_on_from_any_checkpoint_gives_the_same_end() -> None:
    class Flow(Logged):
        definition = S(Go("side", do("s1"), do("s2")), do("m1"), WaitFor("s2 ran", lambda w: "s2" in w.log), do("m2"))

    order, execution = Flow(), Execution.start("id-1", Flow)
    states: list[tuple[Logged, Execution]] = []
    resume(order, execution, lambda kind: states.append(reload(order, execution)))
    assert len(states) == 7
    for state in states:
        resume(*state)
        assert saved(*state) == saved(order, execution)


@pytest.mark.parametrize("threads", [1, 2])
def test_an_instance_that_the_checkpoint_has_ended_runs_no_further_step(threads: int) -> None:
    class Flow(Logged):
        definition = S(*[Go("side", do("s1"))][: threads - 1], do("a"), do("b"))

    order, execution = Flow(), Execution.start("id-1", Flow)

    def cancel(kind: str) -> None:
        if kind == "step":
            execution.status = Status.CANCELED

    resume(order, execution, cancel)
    assert (order.log, execution.status) == (["a"], "canceled")


@pytest.mark.parametrize("threads", [1, 2])
def test_an_instance_that_the_first_checkpoint_has_ended_runs_no_step(threads: int) -> None:
    class Flow(Logged):
        definition = S(*[Go("side", do("s1"))][: threads - 1], do("a"), do("b"))

    order, execution = Flow(), Execution.start("id-1", Flow)

    def cancel(kind: str) -> None:
        execution.status = Status.CANCELED

    resume(order, execution, cancel)
    assert (order.log, execution.status) == ([], "canceled")


@pytest.mark.parametrize("threads", [1, 2])
def test_an_instance_that_the_checkpoint_has_moved_goes_on_there(threads: int) -> None:
    class Flow(Logged):
        definition = S(*[Go("side", do("s1"))][: threads - 1], do("a"), do("b"), do("c"), do("d"))

    order, execution = Flow(), Execution.start("id-1", Flow)

    def move(kind: str) -> None:
        if standing(execution).get("main") == "b":
            goto(Machine(order, execution), "main", "d")

    resume(order, execution, move)
    assert (order.log, execution.status) == (["a", "d"], "finished")


def test_an_error_of_the_checkpoint_propagates() -> None:
    class Flow(Logged):
        definition = S(do("a"), do("b"))

    def full(kind: str) -> None:
        raise OSError("disk full")

    order, execution = Flow(), Execution.start("id-1", Flow)
    with pytest.raises(OSError, match="disk full"):
        resume(order, execution, full)
    assert order.log == []


# --- async -----------------------------------------------------------------------------------


async def later(w: Logged, step: StepContext) -> None:
    await asyncio.sleep(0)
    w.log.append(step.step)


class Later:
    async def __call__(self, w: Logged) -> None:
        w.log.append("callable")


class Asynchronous(Logged):
    definition = S(
        do("sync"),
        Step("later", later),
        Step("callable", Later()),
        Step("partial", functools.partial(later)),
        Step("lambda", lambda w, step: later(w, step)),
    )


def test_sync_and_async_steps_in_aresume() -> None:
    order, execution = Asynchronous(), Execution.start("id-1", Asynchronous)
    seen: list[str] = []

    async def checkpoint(kind: str) -> None:
        await asyncio.sleep(0)
        seen.append(kind)

    asyncio.run(aresume(order, execution, checkpoint))
    assert order.log == ["sync", "later", "callable", "partial", "lambda"]
    assert seen == ["resume", "step", "step", "step", "step", "step"]
    assert execution.status == "finished"


def test_aresume_takes_a_sync_checkpoint_or_none() -> None:
    seen: list[str] = []
    for checkpoint in (seen.append, None):
        order, execution = Asynchronous(), Execution.start("id-1", Asynchronous)
        asyncio.run(aresume(order, execution, checkpoint))
        assert execution.status == "finished"
    assert len(seen) == 6


def test_resume_refuses_a_definition_with_an_async_step_and_changes_nothing() -> None:
    order, execution = Asynchronous(), Execution.start("id-1", Asynchronous)
    with (
        unchanged(order, execution),
        pytest.raises(AsyncInSyncCall, match=r"'later' is asynchronous\. Call 'await are"),
    ):
        resume(order, execution)
    asyncio.run(aresume(order, execution))
    assert execution.status == "finished"


def test_resume_refuses_a_step_that_returns_a_coroutine() -> None:
    class Hidden(Logged):
        definition = S(Step("hidden", lambda w, step: later(w, step)))

    order, execution = Hidden(), Execution.start("id-1", Hidden)
    with pytest.raises(AsyncInSyncCall, match="'hidden' returned a coroutine"):
        resume(order, execution)
    assert order.log == []
    assert standing(execution) == {"main": "hidden"}
    asyncio.run(aresume(order, execution))
    assert order.log == ["hidden"]


@pytest.mark.parametrize("asynchronous", [False, True], ids=["sync", "async"])
def test_an_async_step_that_raises_is_noted_like_a_sync_one(asynchronous: bool) -> None:
    flaky = Flaky(1)

    async def async_flaky(w: Logged, step: StepContext) -> None:
        flaky(w, step)

    action: Callable[..., Any] = async_flaky if asynchronous else flaky

    class Flow(Logged):
        definition = S(Step("flaky", action))

    order, execution = Flow(), Execution.start("id-1", Flow)
    with pytest.raises(TimeoutError):
        asyncio.run(aresume(order, execution))
    thread = execution.threads[0]
    assert (thread.attempt, thread.error and thread.error.message) == (1, "failure 1")
    asyncio.run(aresume(order, execution))
    assert order.log == ["done"]


def test_aresume_and_resume_leave_the_same_state() -> None:
    class Flow(Logged):
        definition = S(Go("g", do("s1")), do("m1"), Select("s", On("E", log("e"))))

    one, other = start(Flow), (Flow(), Execution.start("id-1", Flow))
    asyncio.run(aresume(*other))
    assert saved(*one) == saved(*other)
