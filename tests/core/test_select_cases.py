"""More cases of a ``Select``: conditions, activities and children; and conditions with a timeout."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from tests.core.helpers import NOON, Logged, Outside, accepted, do, flow, log, play, standing, start, unchanged
from workflow_core import (
    Activity,
    Child,
    DefinitionError,
    Done,
    EventNotAccepted,
    Execution,
    ForEach,
    Go,
    On,
    Return,
    S,
    Select,
    Sleep,
    Step,
    StepContext,
    TimedOut,
    Timeout,
    Try,
    WaitFor,
    When,
    While,
    handle_event,
    resume,
)
from workflow_core.machine.machine import Machine
from workflow_core.wait_types import ChildTeardown, ChildWait

DAY = timedelta(days=1)


def set_flag(w: Any) -> None:
    w.flag = True


def is_set(w: Any) -> bool:
    return bool(w.flag)


SET = Go("aside", Select("set it", On("Set", set_flag)))


# --- When ------------------------------------------------------------------------------------


def test_a_condition_ends_the_select_when_another_thread_makes_it_true() -> None:
    select = Select("ask", On("Answer", log("answered")), When("set", is_set, do("b"), handler=log("seen")))
    Flow = flow(SET, select)  # noqa: N806
    order, execution = start(Flow)
    assert accepted(order, execution) == ["Answer", "Set"]
    handle_event(order, execution, "Set")
    resume(order, execution)
    assert (order.log, execution.status) == (["seen", "b"], "finished")
    assert play(Flow, "Set")[0].log == ["seen", "b"]
    assert play(Flow, "Answer")[0].log == ["answered"]


def test_a_condition_that_is_true_at_once_enters_no_other_case() -> None:
    order, _ = play(flow(Select("ask", On("Answer", Outside()), When("set", lambda w: True, do("b")))))
    assert order.log == ["b"]


def test_the_first_true_condition_counts_and_comes_before_events_that_are_buffered() -> None:
    cases = (On("Kept", log("kept"), buffered=True), When("no", lambda w: w.n > 0, do("a")))
    select = Select("ask", *cases, When("set", is_set, do("b")), When("too", is_set, do("c")))
    order, execution = start(flow(Step("set", set_flag), Select("gate", On("Open", log("open"))), select))
    handle_event(order, execution, "Kept")
    handle_event(order, execution, "Open")
    resume(order, execution)
    assert order.log == ["open", "b"]


def test_events_that_are_being_set_up_do_not_delay_it_and_are_torn_down() -> None:
    Flow = flow(SET, Select("ask", On("Answer", Outside()), When("set", is_set, do("b"))))  # noqa: N806
    order, execution = Flow(), Execution.start("id-1", Flow)
    machine = Machine(order, execution)
    machine.settle()
    assert [thread.status for thread in execution.threads] == ["setting_up", "waiting"]
    handle_event(order, execution, "Set")
    resume(order, execution)
    assert order.log == ["teardown False", "b"]


def test_a_select_may_consist_of_conditions_and_knows_the_item() -> None:
    select = Select("ask", When("big", lambda w, item: w.n >= item, do("b")), Timeout("late", DAY))
    order, _ = play(flow(ForEach("each", lambda w: [0, 0], select)))
    assert order.log == ["b", "b"]
    order, execution = start(flow(SET, Select("only", When("set", is_set))))
    assert standing(execution) == {"main": "only", "aside": "set it"}
    handle_event(order, execution, "Set")
    resume(order, execution)
    assert execution.status == "finished"


def test_a_condition_that_is_added_counts_for_a_parked_thread() -> None:
    order, execution = start(flow(SET, Select("ask", On("Answer", log("answered")))))
    text = execution.to_json()
    version = flow(SET, Select("ask", On("Answer", log("answered")), When("set", is_set, do("b"))))
    order, execution = version.load_fields(order.dump_fields()), Execution.from_json(text)
    handle_event(order, execution, "Set")
    resume(order, execution)
    assert order.log == ["b"]


def test_its_name_is_a_label_and_no_event() -> None:
    order, execution = start(flow(Select("ask", On("Answer", log("x")), When("ask", is_set), When("set", is_set))))
    assert accepted(order, execution) == ["Answer"]
    for name in ("ask", "set"):
        with unchanged(order, execution), pytest.raises(EventNotAccepted):
            handle_event(order, execution, name)
    with pytest.raises(DefinitionError, match="it has two cases 'set'"):
        Select("ask", On("set", log("x")), When("set", is_set))


def test_an_error_of_a_condition_is_not_caught() -> None:
    def bad(w: Any) -> bool:
        raise ValueError("a bug")

    Flow = flow(Try("try", Select("ask", When("bad", bad))).except_(ValueError, do("never")))  # noqa: N806
    with pytest.raises(ValueError, match="a bug"):
        start(Flow)


# --- Done ------------------------------------------------------------------------------------


def double(number: int) -> int:
    return 2 * number


def keep(w: Any, number: int) -> None:
    w.log.append(f"took {number}")


def fails(number: int) -> int:
    raise ValueError("no")


def checked(*cases: Any, function: Any = double) -> Select:
    activity = Activity("check", function, input=lambda w: 21, then=keep)
    return Select("the check", Done("checked", activity, do("b")), On("Cancel", log("canceled"), Return()), *cases)


def test_an_activity_is_one_of_the_cases() -> None:
    assert play(flow(checked(), do("c")))[0].log == ["took 42", "b", "c"]


def test_an_event_interrupts_the_activity_and_its_result_no_longer_counts() -> None:
    Flow = flow(Go("aside", Sleep("rest", DAY)), checked(), do("never"))  # noqa: N806
    order, execution = Flow(), Execution.start("id-1", Flow)
    Machine(order, execution).settle()
    wait_id = f"main@{execution.threads[0].pc}"
    assert Machine(order, execution).activity("check", wait_id, 0) is not None
    handle_event(order, execution, "Cancel")
    assert (order.log, execution.status) == (["canceled"], "finished")
    assert Machine(order, execution).activity("check", wait_id, 0) is None


def test_the_failure_of_the_activity_is_that_of_the_select_and_names_the_activity() -> None:
    Flow = flow(Try("try", checked(function=fails)).except_(ValueError, then=lambda w, e: w.log.append(e.statement)))  # noqa: N806
    assert play(Flow)[0].log == ["check"]


def test_several_activities_run_at_once_and_the_first_one_to_end_counts() -> None:
    cases = [Done(f"done {n}", Activity(f"a{n}", double, input=lambda w, n=n: n, then=keep)) for n in (1, 2)]
    Flow = flow(Select("first", *cases), do("c"))  # noqa: N806
    order, execution = Flow(), Execution.start("id-1", Flow, now=NOON)
    machine = Machine(order, execution, NOON)
    machine.settle()
    assert [wait.event for wait in execution.threads[0].waits] == ["a1", "a2"]
    handle_event(order, execution, "a2", 4)
    resume(order, execution)
    assert order.log == ["took 4", "c"]


def test_a_child_is_canceled_when_another_case_happens() -> None:
    child = Child("parcel", "elsewhere", id="p-1", then=keep)
    Flow = flow(Select("wait", Done("delivered", child, do("b")), Timeout("late", DAY, do("c"))), do("d"))  # noqa: N806
    order, execution = start(Flow)
    assert isinstance(execution.threads[0].waits[0], ChildWait)
    handle_event(order, execution, "late")
    assert [type(one) for one in execution.teardowns] == [ChildTeardown]
    order, execution = start(Flow)
    handle_event(order, execution, "parcel", 7)
    resume(order, execution)
    assert (order.log, execution.teardowns) == (["took 7", "b", "d"], [])


def test_mistakes() -> None:
    for work, message in ((do("a"), "Pass an Activity or a Child"), (Child("c", "x", detached=True), "Omit detached")):
        with pytest.raises(DefinitionError, match=message):
            Done("done", work)  # type: ignore[arg-type]
    with pytest.raises(DefinitionError, match="Put it into a Select"):
        S(When("set", is_set))  # type: ignore[arg-type]
    with pytest.raises(DefinitionError, match="the name is taken"):
        flow(do("check"), checked())
    with pytest.raises(DefinitionError, match="its function has the signature"):
        flow(Select("ask", When("set", lambda w, x: True)))


# --- a condition with a timeout --------------------------------------------------------------


def test_a_condition_with_a_timeout() -> None:
    waits = WaitFor("set", is_set, log("seen"), timeout=DAY).on_timeout(do("late"))
    Flow = flow(SET, waits, do("b"))  # noqa: N806
    assert play(Flow, "Set", now=NOON)[0].log == ["seen", "b"]
    assert play(Flow, "set timeout", now=NOON)[0].log == ["late", "b"]
    _, execution = start(Flow, now=NOON)
    assert [(wait.event, wait.deadline) for wait in execution.threads[0].waits] == [("set timeout", NOON + DAY)]  # type: ignore[union-attr]
    assert play(flow(WaitFor("set", lambda w: True, timeout=DAY).on_timeout(do("late"))))[0].log == []


def test_without_on_timeout_it_fails() -> None:
    late = WaitFor("set", is_set, timeout=lambda w: DAY)
    _, execution = play(flow(late), "set timeout", end="failed")
    assert execution.error is not None and execution.error.text == "TimedOut: 'set' did not become true in time"
    assert play(flow(Try("try", late).except_(TimedOut, do("caught"))), "set timeout")[0].log == ["caught"]


def test_on_timeout_may_be_empty_and_is_part_of_the_loop_around_it() -> None:
    def count(w: Logged, step: StepContext) -> None:
        w.n += 1

    waits = WaitFor("set", is_set, timeout=DAY).on_timeout()
    loop = While("three times", lambda w: w.n < 3, Step("count", count), waits)
    assert play(flow(loop), *["set timeout"] * 3)[0].n == 3


def test_mistakes_with_timeouts() -> None:
    with pytest.raises(DefinitionError, match="the statement has no timeout"):
        WaitFor("set", is_set).on_timeout(do("late"))
    with pytest.raises(DefinitionError, match="there are two"):
        WaitFor("set", is_set, timeout=DAY).on_timeout(do("late")).on_timeout(do("late"))
    with pytest.raises(DefinitionError, match="its delay is 7"):
        WaitFor("set", is_set, timeout=7)  # type: ignore[arg-type]


def test_a_renamed_condition_keeps_its_timer() -> None:
    order, execution = start(flow(WaitFor("old", is_set, timeout=DAY).on_timeout(do("late"))), now=NOON)
    version = flow(WaitFor("new", is_set, timeout=DAY, renamed_from="old").on_timeout(do("late")))
    order, execution = version.load_fields(order.dump_fields()), Execution.from_json(execution.to_json())
    handle_event(order, execution, "old timeout")
    resume(order, execution)
    assert order.log == ["late"]
