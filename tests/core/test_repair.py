"""Repair by an operator: a failed instance is retried."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from tests.core.helpers import (
    NOON,
    Outside,
    accepted,
    cancel,
    do,
    flow,
    log,
    migrate,
    play,
    reload,
    standing,
    start,
    unchanged,
)
from workflow_core import (
    Activity,
    Do,
    DuplicateThread,
    Execution,
    Fail,
    ForEach,
    Go,
    On,
    Parallel,
    Race,
    RepairRefused,
    S,
    Select,
    Sleep,
    Step,
    StepContext,
    TerminalError,
    Timeout,
    Try,
    UnknownStatement,
    When,
    handle_event,
    resume,
)
from workflow_core.machine.machine import Machine
from workflow_core.machine.operations import goto, retry
from workflow_core.machine.work import StepWork

WAIT = Sleep("wait", timedelta(days=1))
BROKEN = {"outside": True}
BUFFERED = On("E", log("e"), buffered=True)


@pytest.fixture(autouse=True)
def _broken() -> None:
    BROKEN["outside"] = True


def fragile(name: str) -> Step:
    """A step that fails as long as the outside system is broken."""

    def act(w: Any, step: StepContext) -> None:
        w.log.append(f"{name} {step.attempt}")
        if BROKEN["outside"]:
            raise TerminalError(f"{name} is broken")

    return Step(name, act)


def failed(*statements: Any, ops: tuple[Any, ...] = ()) -> tuple[Any, Execution]:
    return play(flow(*statements), *ops, end="failed")


def retried(order: Any, execution: Execution) -> tuple[Any, Execution]:
    """Loads the instance again and retries it after the outside system was fixed."""
    BROKEN["outside"] = False
    retry(Machine(order, execution))
    assert execution.error is None
    order, execution = reload(order, execution)
    resume(order, execution)
    return order, execution


# --- retry -----------------------------------------------------------------------------------


def test_a_step_that_has_failed_is_run_again_within_its_try() -> None:
    attempt = Try("try", do("a"), fragile("b"), do("c")).except_(KeyError, do("never")).finally_(do("clean"))
    order, execution = failed(attempt, do("d"))
    order, execution = retried(order, execution)
    assert order.log == ["a", "b 1", "clean", "b 1", "c", "clean", "d"]
    assert execution.status == "finished"


def test_its_attempts_count_anew() -> None:
    Flow = flow(fragile("b"))  # noqa: N806
    order, execution = Flow(), Execution.start("id-1", Flow)
    for _ in range(3):
        with pytest.raises(TerminalError):
            resume(order, execution)
    Machine(order, execution).fail(TerminalError("enough"), "b")
    order, execution = retried(order, execution)
    assert order.log == ["b 1", "b 2", "b 3", "b 1"]


def test_what_other_threads_waited_for_is_waited_for_again() -> None:
    side = Go("side", Select("s", On("E", log("e")), Timeout("t", timedelta(hours=1))))
    order, execution = failed(side, Fail("no", "no way"))
    assert accepted(order, execution) == []
    waits = {thread.id: thread.pc for thread in execution.threads}
    order, execution = retried(order, execution)
    assert execution.status == "failed", "a Fail fails again"
    goto(Machine(order, execution), "side", "s")
    assert execution.thread("side").pc > waits["side"]  # type: ignore[union-attr]


def test_a_condition_that_is_true_by_now_ends_its_select_in_the_transition_that_enters_it() -> None:
    select = Select("s", On("E", Outside()), When("set", lambda w: w.flag, WAIT, handler=log("seen")))
    order, execution = start(flow(select))
    Machine(order, execution).fail(TerminalError("enough"))
    order.flag, order.log = True, []
    retry(Machine(order, execution))
    before = execution.pc
    Machine(order, execution).settle()
    assert (order.log, standing(execution), execution.pc) == (["seen"], {"main": "wait"}, before + 1)


def test_a_parallel_statement_begins_again_with_all_its_branches() -> None:
    order, execution = failed(Try("try", Parallel("both", S(do("a")), S(fragile("b")))).finally_(do("clean")), do("c"))
    order, execution = retried(order, execution)
    assert order.log == ["a", "b 1", "clean", "a", "b 1", "clean", "c"]


def test_threads_of_the_branches_of_a_parallel_statement_need_other_ids_when_it_begins_again() -> None:
    """Only the branches have ended when it failed."""

    def count(w: Any) -> None:
        w.n += 1

    def statements(id: Any) -> Any:
        go = Go("g", Select("s", On("E", log("e"))), id=id)
        attempt = Try("try", fragile("b")).finally_(do("clean"))
        return Parallel("both", S(Do("count", count), go, attempt, WAIT), S(Select("t", On("E", log("e")))))

    order, execution = failed(statements("watch"))
    assert list(standing(execution)) == ["main", "watch"]
    retry(Machine(order, execution))
    with pytest.raises(DuplicateThread, match=r"'watch' is still live\. Set a unique id .* or go"):
        Machine(order, execution).settle()
    order, execution = failed(statements(lambda w: f"watch-{w.n}"))
    order, execution = retried(order, execution)
    assert list(standing(execution)) == ["main", "watch-1", "both[0]", "both[1]", "watch-2"]


def test_a_thread_whose_id_is_taken_can_be_handled() -> None:
    attempt = Try("try", Go("g", WAIT), fragile("b")).except_(DuplicateThread, do("taken")).finally_(do("clean"))
    order, execution = failed(Race("first", S(attempt), S(Select("s", On("E", log("e"))))))
    order, execution = retried(order, execution)
    assert (order.log, execution.status) == (["b 1", "clean", "taken", "clean"], "finished")


def test_an_item_of_a_loop_is_worked_on_again_and_those_before_are_not() -> None:
    def act(w: Any, step: StepContext) -> None:
        w.log.append(step.item)
        if step.item == "b" and BROKEN["outside"]:
            raise TerminalError("b")

    order, execution = failed(ForEach("each", lambda w: "abc", Try("try", Step("act", act)).finally_(do("clean"))))
    order, execution = retried(order, execution)
    assert order.log == ["a", "clean", "b", "clean", "b", "clean", "c", "clean"]


def unless_broken(value: Any) -> Any:
    """A function of the workflow that raises as long as the outside system is broken."""

    def function(w: Any) -> Any:
        if BROKEN["outside"] and len(w.log) >= 1:
            raise ValueError("broken")
        return value

    return function


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        (ForEach("each", unless_broken("xy"), do("b")), ["b", "b"]),
        (ForEach("each", unless_broken("xy"), do("b"), parallel=True), ["b", "b"]),
        (Go("go", do("b"), id=unless_broken("thread")), []),
    ],
    ids=["ForEach", "parallel", "Go"],
)
def test_a_statement_whose_function_has_failed_begins_again_behind_a_cleanup(
    statement: Any, expected: list[str]
) -> None:
    order, execution = failed(do("a"), Try("try", statement).finally_(do("clean")))
    assert standing(execution) == {"main": statement.name}
    order, execution = retried(order, execution)
    assert sorted(order.log) == sorted(["a", "clean", *expected, "clean"])
    assert execution.status == "finished"


def test_a_loop_goes_on_with_the_item_whose_turn_it_was_when_its_items_failed() -> None:
    loop = ForEach("each", unless_broken("xyz"), Step("act", lambda w, step: w.log.append(step.item)))
    order, execution = failed(Try("try", loop).finally_(do("clean")))
    order, execution = retried(order, execution)
    assert order.log == ["x", "clean", "y", "z", "clean"]


def test_a_thread_that_has_failed_at_a_loop_can_be_moved_into_it() -> None:
    loop = ForEach("each", unless_broken("xy"), Step("act", lambda w, step: w.log.append(step.item)))
    order, execution = failed(Try("try", loop).finally_(do("clean")))
    with pytest.raises(RepairRefused, match="has no such step or wait"):
        goto(Machine(order, execution), "main", "each")
    goto(Machine(order, execution), "main", "act")
    order, execution = retried(order, execution)
    assert order.log == ["x", "clean", "x", "y", "clean"]


def test_an_activity_is_run_again() -> None:
    def work() -> None:
        if BROKEN["outside"]:
            raise TerminalError("broken")

    order, execution = failed(Try("try", Activity("work", work)).finally_(do("clean")), do("after"))
    order, _ = retried(order, execution)
    assert order.log == ["clean", "clean", "after"]


def test_every_thread_has_all_its_attempts_again() -> None:
    Flow = flow(Go("side", fragile("b"), do("end of side")), fragile("a"), WAIT)  # noqa: N806
    order, execution = Flow(), Execution.start("id-1", Flow)
    machine = Machine(order, execution, NOON)
    machine.settle()
    for thread in execution.threads:
        for _ in range(3):
            machine.failed(StepWork(thread), TerminalError("no"), NOON + timedelta(days=1))
    machine.fail(TerminalError("enough"), "a")
    order, execution = retried(order, execution)
    assert order.log == ["a 1", "b 1", "end of side"]
    assert [(thread.attempt, thread.retry_at, thread.error) for thread in execution.threads] == [(0, None, None)]


def test_a_teardown_that_was_given_up_is_due_again() -> None:
    class Broken(Outside):
        def teardown(self, request: Any, handled: bool) -> None:
            if BROKEN["outside"]:
                raise TerminalError("broken")
            super().teardown(request, handled)

    order, execution = start(flow(Select("s", On("E", Broken()), On("F", log("f"))), Fail("no", "no")))
    handle_event(order, execution, "F")
    resume(order, execution)
    assert Machine(order, execution).next_work() is None
    BROKEN["outside"] = False
    retry(Machine(order, execution))
    (teardown,) = execution.teardowns
    assert teardown.status == "pending_teardown"
    resume(order, execution)
    assert (order.log, execution.teardowns) == (["setup", "f", "teardown False"], [])


def test_what_failed_while_it_was_canceled_goes_on_to_be_canceled() -> None:
    side = Go("side", Try("try side", Sleep("s", timedelta(1)), do("never")).finally_(do("clean side")))
    inner = Try("try", WAIT, do("never 2")).finally_(fragile("clean"))
    outer = Try("outer", inner).except_(Exception, do("never 3")).finally_(do("clean outer"))
    order, execution = failed(side, outer, do("never 4"), ops=(cancel,))
    order, execution = retried(order, execution)
    assert order.log[:3] == ["clean 1", "clean outer", "clean 1"]
    assert sorted(order.log[3:]) == ["clean outer", "clean side"]
    assert (execution.status, execution.canceling) == ("canceled", False)


@pytest.mark.parametrize("before", [["nap"], ["rest", "nap"]], ids=["branches", "finally_"])
def test_a_retry_keeps_the_error_of_a_canceled_branch(before: list[str]) -> None:
    """Also where its parent waits for the other branches, or runs its ``finally_`` section."""
    day = timedelta(days=1)
    left = S(Try("left", Sleep("l", day)).finally_(Fail("bad", "of the left")))
    right = S(Try("right", Sleep("r", day)).finally_(Sleep("rest", day)))
    main = Try("around", Parallel("both", left, right)).finally_(Sleep("last", day))
    cleanup = Try("try side", Sleep("s", day)).finally_(Sleep("nap", day), fragile("clean side"))
    side = Go("beside", Try("around side", cleanup).finally_(do("side")))
    order, execution = failed(side, main, ops=(cancel, *before))
    assert execution.error is not None
    assert execution.error.statement == "clean side"
    order, execution = retried(order, execution)
    for name in ("rest", "last")[len(before) - 1 :]:
        handle_event(order, execution, name)
        resume(order, execution)
    assert (execution.status, order.log[-2:]) == ("failed", ["clean side 1", "side"])
    assert execution.error is not None
    assert execution.error.statement == "bad"


def test_a_retry_cancels_the_threads_that_a_cancellation_has_not_reached() -> None:
    side = Go("side", Try("try side", Sleep("s", timedelta(1))).finally_(do("clean side")))
    order, execution = failed(side, Try("try", WAIT).finally_(Fail("bad", "no")), ops=(cancel,))
    assert standing(execution) == {"main": "bad", "side": "s"}
    order, execution = migrate(order, execution, flow(side, Try("try", WAIT).finally_(do("bad"))))
    order, execution = retried(order, execution)
    assert (order.log, execution.status) == (["bad", "clean side"], "canceled")


def test_a_retry_does_not_cancel_the_branches_of_a_finally_section() -> None:
    day = timedelta(days=1)
    main = Try("try", WAIT).finally_(Parallel("both", S(Sleep("l", day), do("left")), S(do("right"))), do("clean"))
    cleanup = Try("try side", Sleep("s", day)).finally_(Sleep("nap", day), fragile("clean side"))
    side = Go("side", Try("around", cleanup).finally_(do("side cleaned")))
    order, execution = failed(side, main, ops=(cancel, "nap"))
    order, execution = retried(order, execution)
    handle_event(order, execution, "l")
    resume(order, execution)
    assert (order.log[-2:], execution.status) == (["left", "clean"], "canceled")


def test_buffered_events_are_delivered_after_a_retry() -> None:
    order, execution = start(flow(Select("s", On("Go", log("go"))), Fail("no", "no"), Select("t", BUFFERED)))
    handle_event(order, execution, "E")
    handle_event(order, execution, "Go")
    new = flow(Select("s", On("Go", log("go"))), do("no"), Select("t", BUFFERED))
    order, execution = retried(*migrate(order, execution, new))
    assert (order.log, execution.status) == (["go", "no", "e"], "finished")


def test_an_instance_at_a_missing_statement_is_not_retried() -> None:
    order, execution = start(flow(Go("side", Select("s", On("E", log("e")))), WAIT, Fail("no", "no")))
    handle_event(order, execution, "wait")
    order, execution = migrate(order, execution, flow(Go("side", do("t")), WAIT, Fail("no", "no")))
    with unchanged(order, execution), pytest.raises(UnknownStatement, match="'s'"):
        retry(Machine(order, execution))


def test_only_what_has_failed_can_be_retried() -> None:
    for statements, op in (((WAIT,), None), ((do("a"),), None), ((WAIT,), cancel)):
        order, execution = start(flow(*statements))
        if op is not None:
            op(order, execution)
        with unchanged(order, execution), pytest.raises(RepairRefused, match="only failed instances can be retried"):
            retry(Machine(order, execution))
