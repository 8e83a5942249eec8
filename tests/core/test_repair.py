"""Repair by an operator: a failed instance is retried, a thread is put elsewhere, fields are set."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest

from tests.core.helpers import accepted, cancel, do, flow, log, play, reload, standing, start, unchanged
from workflow_core import (
    Activity,
    Break,
    Execution,
    Fail,
    ForEach,
    Go,
    If,
    NewerVersion,
    On,
    Parallel,
    RepairRefused,
    S,
    Select,
    Sleep,
    Step,
    StepContext,
    TerminalError,
    Timeout,
    Try,
    While,
    Workflow,
    resume,
)
from workflow_core.machine.machine import Machine
from workflow_core.machine.operations import goto, retry, set_fields

WAIT = Sleep("wait", timedelta(days=1))
BROKEN = {"outside": True}


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


def test_a_parallel_statement_begins_again_with_all_its_branches() -> None:
    order, execution = failed(Try("try", Parallel("both", S(do("a")), S(fragile("b")))).finally_(do("clean")), do("c"))
    order, execution = retried(order, execution)
    assert order.log == ["a", "b 1", "clean", "a", "b 1", "clean", "c"]


def test_an_item_of_a_loop_is_worked_on_again_and_those_before_are_not() -> None:
    def act(w: Any, step: StepContext) -> None:
        w.log.append(step.item)
        if step.item == "b" and BROKEN["outside"]:
            raise TerminalError("b")

    order, execution = failed(ForEach("each", lambda w: "abc", Try("try", Step("act", act)).finally_(do("clean"))))
    order, execution = retried(order, execution)
    assert order.log == ["a", "clean", "b", "clean", "b", "clean", "c", "clean"]


def test_an_activity_is_run_again() -> None:
    def work() -> None:
        if BROKEN["outside"]:
            raise TerminalError("broken")

    order, execution = failed(Try("try", Activity("work", work)).finally_(do("clean")), do("after"))
    order, _ = retried(order, execution)
    assert order.log == ["clean", "clean", "after"]


def test_what_failed_while_it_was_canceled_goes_on_to_be_canceled() -> None:
    side = Go("side", Try("try side", Sleep("s", timedelta(1)), do("never")).finally_(do("clean side")))
    inner = Try("try", WAIT, do("never 2")).finally_(fragile("clean"))
    outer = Try("outer", inner).except_(Exception, do("never 3")).finally_(do("clean outer"))
    order, execution = failed(side, outer, do("never 4"), ops=(cancel,))
    order, execution = retried(order, execution)
    assert order.log[:3] == ["clean 1", "clean outer", "clean 1"]
    assert sorted(order.log[3:]) == ["clean outer", "clean side"]
    assert (execution.status, execution.canceling) == ("canceled", False)


def test_only_what_has_failed_can_be_retried() -> None:
    for statements, op in (((WAIT,), None), ((do("a"),), None), ((WAIT,), cancel)):
        order, execution = start(flow(*statements))
        if op is not None:
            op(order, execution)
        with unchanged(order, execution), pytest.raises(RepairRefused, match="only failed instances can be retried"):
            retry(Machine(order, execution))


# --- goto ------------------------------------------------------------------------------------


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


def left_early(leave: Any) -> ForEach:
    """A loop that the second item leaves."""
    return ForEach("each", lambda w: "abc", Step("note", lambda w, step: w.log.append(step.item)), leave)


@pytest.mark.parametrize(
    "loop",
    [
        left_early(If("second", lambda w: len(w.log) == 2, Break())),
        Try("try", left_early(If("second", lambda w: len(w.log) == 2, Fail("no", "no")))).except_(Exception),
    ],
)
def test_a_loop_that_was_left_early_begins_with_the_first_item(loop: Any) -> None:
    order, execution = start(flow(loop, WAIT))
    order, execution = went(order, execution, "note")
    assert order.log == ["a", "b", "a", "b", "c"]


def test_a_thread_inside_a_loop_keeps_its_item() -> None:
    inner = ForEach("inner", lambda w: "xy", Step("note", lambda w, step: w.log.append(step.item)))
    each = ForEach("each", lambda w: "ab", inner, Select("s", On("E", log("e"))))
    order, execution = play(flow(each), "E", end="waiting")
    order, execution = went(order, execution, "note")
    assert execution.threads[0].positions == {"each": 1}
    assert order.log == ["x", "y", "e", "x", "y", "x", "y"]


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


# --- fields ----------------------------------------------------------------------------------


def test_fields_are_set_and_typed() -> None:
    Flow = flow(WAIT)  # noqa: N806
    before = Flow(n=1, log=["a"]).dump_fields()
    after = Flow.load_fields(set_fields(Flow, before, 1, {"n": 5, "log": ["x"]}))
    assert (after.n, after.log) == (5, ["x"])
    for changes, message in (
        ({"n": "many"}, "n: "),
        ({"m": 5}, "has no field 'm'. Available: log"),
        ({"log": 5}, "log: "),
    ):
        with pytest.raises(RepairRefused, match=message):
            set_fields(Flow, before, 1, changes)


def test_what_does_not_fit_any_more_is_mended() -> None:
    Flow = flow(WAIT)  # noqa: N806
    with pytest.raises(RepairRefused, match="n: "):
        set_fields(Flow, '{"n": "many", "log": []}', 1, {"log": ["x"]})
    assert Flow.load_fields(set_fields(Flow, '{"n": "many", "log": []}', 1, {"n": 2})).n == 2


def test_fields_of_an_older_version_are_migrated_before_they_are_set() -> None:
    class Invoice(Workflow, name="invoice", version=2):
        cents: int = 0
        note: str = ""

        @classmethod
        def migrate(cls, version: int, fields: dict[str, Any]) -> dict[str, Any]:
            return fields | {"cents": round(fields["amount"] * 100)}

        definition = S(WAIT)

    assert json.loads(set_fields(Invoice, '{"amount": 9.5}', 1, {"note": "x"})) == {"cents": 950, "note": "x"}
    assert json.loads(set_fields(Invoice, '{"amount": 9.5}', 1, {"cents": 7})) == {"cents": 7, "note": ""}
    with pytest.raises(RepairRefused, match="that version 1 stored cannot be migrated: KeyError"):
        set_fields(Invoice, "{}", 1, {"note": "x"})
    with pytest.raises(NewerVersion):
        set_fields(Invoice, "{}", 3, {"note": "x"})
