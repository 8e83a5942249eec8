"""Repair by an operator: a thread is put elsewhere."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from tests.core.helpers import (
    NOON,
    accepted,
    cancel,
    do,
    flow,
    log,
    reload,
    standing,
    start,
    unchanged,
)
from tests.core.test_repair import BROKEN, _broken, failed, fragile, retried
from workflow_core import (
    Break,
    Execution,
    Fail,
    Failure,
    ForEach,
    Go,
    If,
    On,
    Parallel,
    RepairRefused,
    S,
    Select,
    Sleep,
    Step,
    StepContext,
    TerminalError,
    Try,
    While,
    handle_event,
    resume,
)
from workflow_core.machine.machine import Machine
from workflow_core.machine.operations import goto

__all__ = ["_broken"]

WAIT = Sleep("wait", timedelta(days=1))


def went(order: Any, execution: Execution, statement: str, thread: str = "main") -> tuple[Any, Execution]:
    goto(Machine(order, execution), thread, statement)
    order, execution = reload(order, execution)
    resume(order, execution)
    return order, execution


def test_a_thread_goes_on_elsewhere() -> None:
    order, execution = start(flow(do("a"), Select("s", On("E", log("e"))), do("b"), Select("end", On("End", log("f")))))
    order, execution = went(order, execution, "b")
    assert (order.log, accepted(order, execution)) == (["a", "b"], ["End"])
    order, execution = went(order, execution, "a")
    assert (order.log, accepted(order, execution)) == (["a", "b", "a"], ["E"])


def test_a_step_is_another_one_each_time_that_a_thread_is_put_before_it() -> None:
    keys: list[str] = []
    step = Step("a", lambda w, step: keys.append(step.idempotency_key))
    order, execution = start(flow(step, WAIT))
    went(order, execution, "a")
    assert len(set(keys)) == len(keys) == 2


def test_a_thread_that_is_put_elsewhere_can_move_and_begins_anew() -> None:
    Flow = flow(Go("side", WAIT), fragile("a"), do("b"))  # noqa: N806
    order, execution = Flow(), Execution.start("id-1", Flow)
    with pytest.raises(TerminalError):
        resume(order, execution)
    thread: Any = execution.threads[0]
    thread.retry_at = NOON
    pc = execution.pc
    for statement in ("a", "b"):
        goto(Machine(order, execution), "main", statement)
        pc += 1
        assert (execution.status, execution.pc) == ("running", pc)
        assert (thread.status, thread.step, thread.pc) == ("resuming", statement, pc)
        assert (thread.attempt, thread.retry_at, thread.error) == (0, None, None)
    order, execution = start(flow(do("a"), WAIT))
    goto(Machine(order, execution), "main", "wait")
    assert execution.status == "running"


def test_out_of_a_finally_section_a_thread_takes_no_reason_to_leave_with_it() -> None:
    attempt = Try("try", fragile("a"), do("b")).finally_(Select("s", On("E", log("e"))), do("clean"))
    order, execution = start(flow(attempt, do("c")))
    assert standing(execution) == {"main": "s"}
    BROKEN["outside"] = False
    order, execution = went(order, execution, "a")
    assert (order.log, standing(execution)) == (["a 1", "a 1", "b"], {"main": "s"})
    handle_event(order, execution, "E")
    resume(order, execution)
    assert (order.log[3:], execution.status) == (["e", "clean", "c"], "finished")


def test_nor_out_of_a_parallel_whose_branches_have_failed_and_ended() -> None:
    Flow = flow(Parallel("both", S(Fail("bad", "no"))), do("b"), Parallel("more", S(do("c"))))  # noqa: N806
    order, execution = Flow(), Execution.start("id-1", Flow)

    def stop_once_they_have(kind: str) -> None:
        if execution.threads[0].leaving is not None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        resume(order, execution, stop_once_they_have)
    order, execution = went(order, execution, "b")
    assert (order.log, execution.status) == (["b", "c"], "finished")


def test_what_it_waited_for_is_torn_down() -> None:
    class Outside:
        def setup(self, request: Any) -> None:
            request.workflow.log.append("setup")

        def handle(self, request: Any, input: None) -> None:
            pass

        def teardown(self, request: Any, handled: bool) -> None:
            request.workflow.log.append(f"teardown, handled: {handled}")

    order, execution = start(flow(Select("s", On("E", Outside())), do("b"), WAIT))
    order, execution = went(order, execution, "b")
    assert order.log == ["setup", "teardown, handled: False", "b"]
    assert execution.teardowns == []


def test_into_and_out_of_loops_and_sections() -> None:
    def note(w: Any, step: StepContext) -> None:
        w.log.append(f"{step.item} {step.index} {step.error}")

    each = ForEach("outer", lambda w: "ab", ForEach("inner", lambda w: "xy", Step("note", note)))
    attempt = Try("try", do("t")).except_(ValueError, Step("caught", note)).finally_(Step("clean", note))
    order, execution = start(flow(WAIT, each, attempt, Select("end", On("End", log("end")))))
    order, execution = went(order, execution, "note")
    assert order.log == [*(f"{one} {n} None" for _ in "ab" for n, one in enumerate("xy")), "t", "None None None"]
    order.log.clear()
    order, execution = went(order, execution, "caught")
    assert order.log == ["None None None"] * 2
    order, execution = went(order, execution, "clean")
    assert order.log == ["None None None"] * 3
    assert accepted(order, execution) == ["End"]


def see(w: Any, step: StepContext) -> None:
    w.log.append(f"{step.step} {step.item}")


NEXT = Select("s", On("Next", log("next")), On("Leave", log("leave"), Break()))
END = Select("end", On("End", log("end")))


@pytest.mark.parametrize("leave", ["Break", "error", "goto"])
def test_a_loop_that_was_left_begins_with_its_first_item(leave: str) -> None:
    fails = If("fails?", lambda w: leave == "error" and w.log.count("inner step y") == 2, Fail("no", "no"))
    inner = ForEach("inner", lambda w: "xyz", Step("inner step", see), fails, NEXT)
    outer = ForEach("outer", lambda w: "abc", inner, If("left?", lambda w: w.log[-1] == "leave", Break()))
    order, execution = start(flow(Try("try", outer).except_(Failure), END))
    for event in ("Next",) * 4 + ("Leave",) * (leave == "Break"):
        handle_event(order, execution, event)
        resume(order, execution)
    if leave == "goto":
        order, execution = went(order, execution, "end")
    assert standing(execution) == {"main": "end"}
    order.log.clear()
    order, execution = went(order, execution, "inner step")
    handle_event(order, execution, "Next")
    resume(order, execution)
    assert order.log == ["inner step x", "next", "inner step y"]
    assert execution.threads[0].positions == {"outer": 0, "inner": 1}


@pytest.mark.parametrize("parallel", [False, True])
def test_within_a_loop_a_thread_keeps_its_item_and_begins_inner_loops_anew(parallel: bool) -> None:
    inner = ForEach("inner", lambda w: "xyz", Step("inner step", see), Select("s", On("Next", log("next"))))
    body = (Step("outer step", see), inner)
    each = ForEach("outer", lambda w: "abc", *body, parallel=parallel)
    order, execution = start(flow(each, END))
    thread = "outer[1]" if parallel else "main"
    for _ in range(1 if parallel else 4):
        handle_event(order, execution, "Next", thread_id=thread)
        resume(order, execution)
    for statement, expected in (
        ("outer step", ["outer step b", "inner step x"]),
        ("inner step", ["inner step x"]),
    ):
        order.log.clear()
        order, execution = went(order, execution, statement, thread)
        assert order.log == expected
    handle_event(order, execution, "Next", thread_id=thread)
    resume(order, execution)
    order, execution = went(order, execution, "s", thread)
    assert order.log[-1] == "inner step y"
    (positions,) = (one.positions for one in execution.threads if one.id == thread)
    assert positions == {"outer": 1, "inner": 1}


def test_a_branch_stays_in_its_branch() -> None:
    both = Parallel("both", S(Select("l", On("L", log("l"))), do("after l")), S(Select("r", On("R", log("r")))))
    order, execution = start(flow(both, do("end")))
    for thread, statement in (("main", "end"), ("both[0]", "r"), ("both[0]", "end"), ("main", "l")):
        with unchanged(order, execution), pytest.raises(RepairRefused):
            goto(Machine(order, execution), thread, statement)
    order, execution = went(order, execution, "after l", "both[0]")
    assert (order.log, standing(execution)) == (["after l"], {"main": "both", "both[1]": "r"})


def test_a_failed_instance_is_put_elsewhere_before_it_is_retried() -> None:
    order, execution = failed(do("a"), Fail("no", "no way"), do("b"))
    order, execution = went(order, execution, "b")
    assert (execution.status, order.log) == ("failed", ["a"])
    order, execution = retried(order, execution)
    assert (execution.status, order.log) == ("finished", ["a", "b"])


@pytest.mark.parametrize(
    ("thread", "statement", "message"),
    [
        ("side", "a", "has no thread 'side'. Available: 'main', 'other'"),
        ("main", "aa", "to 'aa': 'main' has no such step or wait. Available: 'a'"),
        ("main", "o", "to 'o': 'main' has no such step or wait"),
        ("main", "loop", "to 'loop': 'main' has no such step or wait"),
    ],
)
def test_where_a_thread_cannot_be_put(thread: str, statement: str, message: str) -> None:
    loop = While("loop", lambda w: True, do("a"), WAIT)
    order, execution = start(flow(Go("other", Select("o", On("E", log("e")))), loop))
    with unchanged(order, execution), pytest.raises(RepairRefused, match=message):
        goto(Machine(order, execution), thread, statement)


def test_what_is_being_canceled_is_put_nowhere() -> None:
    order, execution = start(flow(Try("try", do("a"), WAIT).finally_(Sleep("rest", timedelta(1)))))
    cancel(order, execution)
    with unchanged(order, execution), pytest.raises(RepairRefused, match="is being canceled"):
        goto(Machine(order, execution), "main", "a")


def test_a_loop_that_was_left_without_its_end_begins_with_its_first_item() -> None:
    inside = Select("inside", On("Next", log("next")), On("Out", log("out"), Break()))
    order, execution = start(flow(ForEach("each", lambda w: "abc", inside), Select("after", On("E", log("e")))))
    for event in ("Next", "Out"):
        handle_event(order, execution, event)
        resume(order, execution)
    assert standing(execution) == {"main": "after"}
    Machine(order, execution).goto("main", "inside")
    resume(order, execution)
    assert execution.threads[0].positions == {"each": 0}
