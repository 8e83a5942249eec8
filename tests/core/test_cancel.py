"""Cancellation by an operator: what is torn down, what is cleaned up, and in which state it ends."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from tests.core.helpers import (
    NOON,
    Unlucky,
    accepted,
    cancel,
    do,
    failing,
    flow,
    kinds,
    log,
    play,
    standing,
    start,
    unlucky,
)
from workflow_core import (
    Activity,
    Break,
    Child,
    Continue,
    EventNotAccepted,
    Execution,
    Fail,
    ForEach,
    Go,
    If,
    On,
    Parallel,
    Retry,
    Return,
    S,
    Select,
    Sleep,
    Step,
    StepContext,
    Timeout,
    Try,
    WaitFor,
    While,
    handle_event,
    resume,
)
from workflow_core.machine.machine import Machine
from workflow_core.wait_types import ChildTeardown

CLEAN = do("cleaned")
WAIT = Sleep("wait", timedelta(days=1))


def canceled(*statements: Any, ops: tuple[Any, ...] = (cancel,)) -> list[str]:
    """The log of an instance that ends canceled."""
    order, execution = play(flow(*statements), *ops, end="canceled")
    assert (execution.threads, execution.teardowns, execution.canceling) == ([], [], False)
    assert accepted(order, execution) == []
    with pytest.raises(EventNotAccepted, match="the instance is canceled"):
        handle_event(order, execution, "E")
    return order.log


class Outside:
    """An event that is registered with somebody."""

    def setup(self, request: Any) -> None:
        request.workflow.log.append(f"setup {request.event}")

    def handle(self, request: Any, input: int) -> None: ...

    def teardown(self, request: Any, handled: bool) -> None:
        request.workflow.log.append(f"teardown {request.event} {handled}")


# --- what is left ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wait",
    [
        WAIT,
        Select("s", On("E", log("e")), Timeout("late", timedelta(1))),
        WaitFor("for ever", lambda w: False),
        Try("try", WAIT).except_(Exception, do("never, never")),
        ForEach("each", lambda w: [1, 2], Sleep("rest", timedelta(1))),
    ],
    ids=lambda wait: type(wait).__name__,
)
def test_an_instance_that_waits_without_a_cleanup_is_canceled_at_once(wait: Any) -> None:
    order, execution = start(flow(do("a"), wait, do("never")))
    pc = execution.pc
    cancel(order, execution)
    assert (execution.status, execution.pc, execution.threads) == ("canceled", pc + 1, [])
    assert canceled(do("a"), wait, do("never")) == ["a"]


def test_an_instance_with_a_step_due_is_canceled_and_the_step_does_not_run() -> None:
    Flow = flow(do("a"), do("never"))  # noqa: N806
    order, execution = Flow(), Execution.start("id-1", Flow)
    cancel(order, execution)  # before it has begun
    assert (execution.status, kinds(order, execution), order.log) == ("canceled", [], [])

    class Crash(Exception):
        pass

    def crash(kind: str) -> None:
        raise Crash

    order, execution = Flow(), Execution.start("id-1", Flow)
    with pytest.raises(Crash):
        resume(order, execution, crash)
    assert standing(execution) == {"main": "a"}
    cancel(order, execution)
    assert (execution.status, kinds(order, execution), order.log) == ("canceled", [], [])


def test_a_step_that_waits_for_its_next_attempt_is_left() -> None:
    Flow = flow(Try("try", unlucky("bad", 9, retry=Retry())).finally_(CLEAN))  # noqa: N806
    order, execution = Flow(), Execution.start("id-1", Flow)
    for _ in range(3):
        with pytest.raises(Unlucky):
            resume(order, execution)
    thread = execution.threads[0]
    assert thread.attempt == 3
    thread.retry_at = NOON
    cancel(order, execution)
    assert (thread.step, thread.attempt, thread.error) == ("cleaned", 0, None)
    assert thread.retry_at is None
    resume(order, execution)
    assert (execution.status, order.log) == ("canceled", ["cleaned"])


def test_every_wait_is_torn_down_in_the_order_of_threads_and_cases() -> None:
    assert canceled(
        Go("side", Select("side waits", On("A", Outside()), On("B", log("b")), On("C", Outside()))),
        Select("main waits", On("D", Outside()), Timeout("late", timedelta(1))),
    ) == ["setup D", "setup A", "setup C", "teardown D False", "teardown A False", "teardown C False"]


def test_a_child_is_to_be_canceled_and_an_activity_is_left() -> None:
    Flow = flow(Go("side", Activity("work", lambda: None)), Child("other", "elsewhere", id="c-1"))  # noqa: N806
    order, execution = Flow(), Execution.start("id-1", Flow)
    Machine(order, execution).settle()
    cancel(order, execution)
    (teardown,) = execution.teardowns
    assert isinstance(teardown, ChildTeardown)
    assert (execution.status, teardown.kind, teardown.event) == ("canceled", "child", "other")
    assert teardown.child == {"workflow": "elsewhere", "id": "c-1", "fields": {}, "detached": False}
    assert kinds(order, execution) == ["teardown"]
    order, execution = start(Flow)
    cancel(order, execution)
    (teardown,) = execution.teardowns
    assert isinstance(teardown, ChildTeardown)
    assert teardown.child == {"workflow": "elsewhere", "id": "c-1"}, "it is known to be started"


def test_buffered_events_are_dropped() -> None:
    Flow = flow(Try("try", WAIT, Select("s", On("E", log("never"), buffered=True))).finally_(WAIT_CLEAN))  # noqa: N806
    order, execution = start(Flow)
    handle_event(order, execution, "E")
    assert len(execution.buffer) == 1
    cancel(order, execution)
    assert (execution.status, execution.buffer, execution.canceling) == ("waiting", [], True)


WAIT_CLEAN = Sleep("rest", timedelta(days=1))


# --- what is cleaned up ----------------------------------------------------------------------


def test_finally_sections_run_with_their_steps_and_waits_and_then_it_is_canceled() -> None:
    attempt = Try("try", do("a"), WAIT, do("never")).finally_(
        do("c1"), WAIT_CLEAN, Select("s", On("E", log("event"))), WaitFor("n", lambda w: len(w.log) > 2), do("c2")
    )
    assert canceled(attempt, do("never 2"), ops=(cancel, "rest", "E")) == ["a", "c1", "event", "c2"]


def test_nested_finally_sections_run_from_the_inside_out() -> None:
    inner = Try("inner", WAIT).except_(Exception, do("never")).finally_(do("clean inner"))
    middle = Try("middle", inner, do("never 2")).except_(Exception, do("never 3"))
    assert canceled(Try("outer", middle).finally_(do("clean outer")), do("never 4")) == ["clean inner", "clean outer"]


def test_finally_runs_when_an_except_section_is_canceled() -> None:
    assert canceled(Try("try", failing("bad")).except_(ValueError, WAIT, do("never")).finally_(CLEAN)) == ["cleaned"]


def test_a_loop_is_left_past_the_finally_section_of_its_round() -> None:
    def act(w: Any, step: StepContext) -> None:
        w.log.append(f"clean {step.item}")

    body = Try("try", WAIT).finally_(Step("clean", act))
    assert canceled(ForEach("each", lambda w: "abc", body, do("round")), ops=("wait", cancel)) == [
        "clean a",
        "round",
        "clean b",
    ]


CLEANUP = (do("c1"), WAIT_CLEAN, do("c2"))


def test_a_thread_in_a_finally_section_goes_on_to_its_end() -> None:
    attempt = Try("try", do("a")).finally_(*CLEANUP)
    assert canceled(attempt, do("never"), ops=(cancel, "rest")) == ["a", "c1", "c2"]


@pytest.mark.parametrize(
    "leave", [failing("bad"), Return(), Break(), Continue(), do("a")], ids=lambda s: type(s).__name__
)
def test_a_cancellation_replaces_what_led_into_the_finally_section(leave: Any) -> None:
    body = If("leave", lambda w: True, leave)
    inner = Try("inner", body).except_(KeyError, do("never 1")).finally_(*CLEANUP)
    outer = Try("outer", inner, do("never 2")).except_(Exception, do("never 3"))
    loop = While("loop", lambda w: len(w.log) < 9, outer, do("never 4"))
    log = canceled(loop, do("never 5"), ops=(cancel, "rest"))
    assert [line for line in log if line != "a"] == ["c1", "c2"]


def test_what_stands_in_a_finally_section_is_not_canceled_whatever_it_is() -> None:
    inner = Try("inner", failing("bad"), do("never")).except_(ValueError, *CLEANUP).finally_(do("c3"))
    loop = ForEach("each", lambda w: [1, 2], S(do("round")))
    assert canceled(Try("try", do("a")).finally_(inner, loop, do("c4")), do("never 2"), ops=(cancel, "rest")) == [
        "a",
        "c1",
        "c2",
        "c3",
        "round",
        "round",
        "c4",
    ]


def test_the_finally_section_around_the_one_that_was_canceled_runs_too() -> None:
    inner = Try("inner", do("a")).finally_(*CLEANUP)
    assert canceled(Try("outer", inner, do("never")).finally_(do("outer cleaned")), ops=(cancel, "rest")) == [
        *("a", "c1", "c2", "outer cleaned")
    ]


def test_threads_that_a_finally_section_has_started_go_on_to_their_end() -> None:
    cleanup = Parallel("both", S(WAIT_CLEAN, do("left")), S(Sleep("doze", timedelta(1)), do("right")))
    attempt = Try("try", do("a")).finally_(cleanup, Go("side", Sleep("nap", timedelta(1)), do("side at last")), do("c"))
    assert canceled(attempt, do("never"), ops=("rest", cancel, "doze", "nap")) == [
        "a",
        "left",
        "right",
        "c",
        "side at last",
    ]


def test_a_thread_of_a_go_in_a_finally_section_that_has_not_begun_runs_too() -> None:
    order, execution = start(flow(Try("try", WAIT).finally_(Go("side", do("s")), do("c")), do("never")))
    handle_event(order, execution, "wait")
    assert standing(execution) == {"main": "c", "side": ""}
    cancel(order, execution)
    resume(order, execution)
    assert (execution.status, order.log) == ("canceled", ["c", "s"])


def test_threads_that_a_finally_section_has_started_and_that_have_not_begun_run_too() -> None:
    Flow = flow(Try("try", WAIT).finally_(Parallel("both", S(do("left")), S(do("right")))), do("never"))  # noqa: N806
    order, execution = start(Flow)
    handle_event(order, execution, "wait")
    assert standing(execution) == {"main": "both", "both[0]": "", "both[1]": ""}
    cancel(order, execution)
    resume(order, execution)
    assert (execution.status, order.log) == ("canceled", ["left", "right"])


def test_to_cancel_again_changes_nothing() -> None:
    attempt = Try("try", WAIT).finally_(*CLEANUP)
    assert canceled(attempt, ops=(cancel, cancel, "rest")) == ["c1", "c2"]


# --- threads and branches --------------------------------------------------------------------


def test_every_thread_is_cleaned_up_and_the_last_one_ends_the_instance() -> None:
    side = Go("side", Try("try side", Sleep("s", timedelta(1))).finally_(do("s1"), Sleep("s2", timedelta(1)), do("s3")))
    main = Try("try main", WAIT).finally_(do("m"))
    assert canceled(side, Go("plain", Sleep("p", timedelta(1)), do("never")), main, ops=(cancel, "s2")) == [
        *("m", "s1", "s3")
    ]


def branch(name: str, *statements: Any) -> Any:
    wait = Sleep(f"{name} waits", timedelta(1))
    return S(Try(f"try {name}", wait, do(f"never {name}")).finally_(do(f"clean {name}"), *statements))


def test_parallel_branches_are_cleaned_up_before_what_stands_around_them() -> None:
    fork = Parallel("both", branch("left"), branch("right", Sleep("rest", timedelta(1)), do("right at last")))
    attempt = Try("try", fork, do("never")).except_(Exception, do("never 2")).finally_(do("around"))
    assert canceled(attempt, ops=(cancel, "rest")) == ["clean left", "clean right", "right at last", "around"]


def test_nested_parallel_branches_are_cleaned_up() -> None:
    inner = Try("inner", Parallel("deep", branch("a"), branch("b"))).finally_(do("inner cleaned"))
    assert canceled(Try("outer", Parallel("wide", S(inner), branch("c"))).finally_(do("outer cleaned"))) == [
        *("clean c", "clean a", "clean b", "inner cleaned", "outer cleaned")
    ]


def test_rounds_that_have_not_begun_are_not_begun() -> None:
    def act(w: Any, step: StepContext) -> None:
        w.log.append(f"clean {step.item}")

    body = Try("try", WAIT).finally_(Step("clean", act))
    each = ForEach("each", lambda w: "abcd", body, parallel=True, limit=2)
    assert canceled(each, do("never")) == ["clean a", "clean b"]


def test_a_parallel_that_is_failing_already_is_canceled_instead() -> None:
    fork = Parallel("both", S(Sleep("soon", timedelta(1)), Fail("bad", "no")), branch("right", WAIT_CLEAN, do("x")))
    attempt = Try("try", fork).except_(Exception, do("never"))
    assert canceled(attempt, do("never 2"), ops=("soon", cancel, "rest")) == ["clean right", "x"]


def test_branches_that_have_failed_and_ended_before_do_not_disturb_the_cleanup() -> None:
    cleanup = Parallel("cleanup", S(do("c1")), S(do("c2")))
    Flow = flow(Try("try", Parallel("both", S(Fail("bad", "no")))).finally_(cleanup, do("c3")))  # noqa: N806
    order, execution = Flow(), Execution.start("id-1", Flow)

    def cancel_once_they_have(kind: str) -> None:
        if execution.threads[0].leaving is not None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        resume(order, execution, cancel_once_they_have)
    Machine(order, execution).cancel()
    resume(order, execution)
    assert (execution.status, order.log) == ("canceled", ["c1", "c2", "c3"])


def test_steps_that_several_threads_reach_together_have_keys_of_their_own_in_every_attempt() -> None:
    pcs: set[int] = set()
    keys: dict[str, set[str]] = {}

    def clean(w: Any, step: StepContext) -> None:
        pcs.add(step.pc)
        keys.setdefault(step.thread_id, set()).add(step.idempotency_key)
        if step.attempt < 3:
            raise Unlucky

    body = Try("try", WAIT).finally_(Step("clean", clean))
    rounds = S(ForEach("each", lambda w: [1, 2, 3], body, parallel=True))
    branches = Parallel("both", rounds, branch("left", Step("more", clean)))
    assert canceled(Go("side", Try("try side", WAIT_CLEAN).finally_(Step("clean side", clean))), branches)
    assert list(map(len, keys.values())) == [1] * 5
    assert len(set.union(*keys.values())) == 5
    assert len(pcs) == 2, "all but one were reached by the cancellation itself"


# --- without a cleanup ------------------------------------------------------------------------


def test_a_terminated_instance_ends_at_once_and_only_its_children_are_canceled() -> None:
    cleanup = Try("try", Select("s", On("E", Outside()))).finally_(do("never"))
    order, execution = start(flow(Go("beside", Child("kid", "other")), cleanup))
    pc = execution.pc
    Machine(order, execution).terminate()
    assert (execution.status, execution.pc, execution.threads, execution.buffer) == ("canceled", pc + 1, [], [])
    assert [(type(left), left.event) for left in execution.teardowns] == [(ChildTeardown, "kid")]
    Machine(order, execution).terminate()
    assert (execution.status, execution.pc, execution.teardowns) == ("canceled", pc + 2, [])
    assert (order.log, kinds(order, execution)) == (["setup E"], [])


def test_a_cleanup_that_fails_for_ever_can_be_ended() -> None:
    order, execution = start(flow(Try("try", WAIT).finally_(Fail("bad", "no"))))
    cancel(order, execution)
    assert execution.status == "failed"
    execution.teardowns = [ChildTeardown("try", "kid", "main@1", False, {})]
    Machine(order, execution).terminate()
    assert (execution.status, execution.teardowns, standing(execution)) == ("failed", [], {"main": "bad"})


# --- what fails meanwhile --------------------------------------------------------------------


def test_an_error_in_a_cleanup_does_not_call_the_cancellation_off() -> None:
    inner = Try("inner", WAIT).finally_(CLEAN, Fail("bad", "in the cleanup"))
    outer = Try("outer", inner).except_(Exception, do("never")).finally_(do("outer cleaned"))
    order, execution = play(flow(outer, do("never 2")), cancel, end="failed")
    assert order.log == ["cleaned", "outer cleaned"]
    assert execution.error is not None
    assert (execution.error.message, execution.canceling) == ("in the cleanup", True)


def test_an_error_in_the_cleanup_that_was_under_way_counts_as_well() -> None:
    inner = Try("inner", do("a")).finally_(*CLEANUP, Fail("bad", "in the cleanup"))
    outer = Try("outer", inner, do("never")).except_(Exception, do("never 2")).finally_(do("outer cleaned"))
    order, execution = play(flow(outer, do("never 3")), cancel, "rest", end="failed")
    assert order.log == ["a", "c1", "c2", "outer cleaned"]
    assert execution.error is not None
    assert (execution.error.message, execution.error.statement) == ("in the cleanup", "bad")


def test_an_error_in_the_cleanup_of_a_branch_fails_the_instance_as_well() -> None:
    """When all cleanups have run, and past all ``except_`` sections; the first of several counts."""
    fork = Parallel("both", branch("left", Fail("bad", "first")), branch("right", Fail("worse", "second")))
    attempt = Try("try", fork).except_(Exception, do("never")).finally_(do("outer cleaned"))
    order, execution = play(flow(attempt, do("never 2")), cancel, end="failed")
    assert order.log == ["clean left", "clean right", "outer cleaned"]
    assert execution.error is not None
    assert (execution.error.message, execution.error.statement) == ("first", "bad")
    assert (standing(execution), execution.threads[0].pc) == ({"main": "both"}, 1)


def test_an_error_in_a_cleanup_can_be_caught_in_it() -> None:
    rescue = Try("rescue", failing("bad")).except_(ValueError, do("rescued"))
    assert canceled(Try("try", WAIT).finally_(rescue, CLEAN)) == ["rescued", "cleaned"]


def test_a_step_of_a_cleanup_that_fails_is_the_callers_to_try_again() -> None:
    inner = Try("inner", WAIT).finally_(unlucky("clean", 2))
    assert canceled(inner) == ["clean"]
    assert canceled(Try("outer", inner).except_(Exception, do("never"))) == ["clean"]
    assert canceled(Try("outer", Parallel("both", S(inner))).except_(Exception, do("never"))) == ["clean"]
    policy = Retry(max_attempts=3)
    inner = Try("inner", WAIT).finally_(unlucky("clean", 2, retry=policy))
    assert canceled(Try("outer", inner).except_(Exception, do("never"))) == ["clean"]


def test_an_instance_that_fails_while_it_is_canceled_stays_as_it_was_then() -> None:
    Flow = flow(  # noqa: N806
        Go("side", Try("try side", Sleep("s", timedelta(1))).finally_(do("never"))),
        Try("try", WAIT).finally_(Fail("bad", "no")),
    )
    order, execution = start(Flow)
    cancel(order, execution)
    assert (execution.status, standing(execution)) == ("failed", {"main": "bad", "side": "s"})
    assert (kinds(order, execution), order.log) == ([], [])
