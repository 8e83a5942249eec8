"""``Try``, ``except_``, ``finally_`` and ``Fail``: who catches what, and what runs on the way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.core.helpers import Logged, do, log, reload, run, standing, start
from workflow_core import (
    Break,
    Continue,
    ErrorInfo,
    Execution,
    Fail,
    Failure,
    Go,
    If,
    On,
    Return,
    S,
    Select,
    Step,
    StepContext,
    Try,
    WaitFor,
    While,
    Workflow,
    handle_event,
    resume,
)
from workflow_core.interpreter import Machine


class BadError(Exception):
    """What the steps here raise."""


class WorseError(BadError):
    """A special case of it."""


def boom(error: type[Exception] = BadError, text: str = "boom") -> Callable[[Any], None]:
    def action(w: Any) -> None:
        raise error(text)

    return action


def note(w: Any, error: ErrorInfo) -> None:
    w.log.append(f"{error.type}({error.message}) at {error.statement}")


def flow(*statements: Any) -> type[Logged]:
    class Flow(Logged, name="flow"):
        definition = S(*statements)

    return Flow


def log_of(*statements: Any, **fields: Any) -> list[str]:
    """What a workflow logs that runs to its end; also when it goes on from what was saved at each checkpoint."""
    cls = flow(*statements)
    order = run(cls, **fields)
    saved: list[tuple[str, str]] = []
    again, execution = cls(**fields), Execution.start("id-1", cls)
    resume(again, execution, lambda kind: saved.append((again.dump_fields(), execution.to_json())))
    for text, standing_at in saved:
        other, rest = cls.load_fields(text), Execution.from_json(standing_at)
        resume(other, rest)
        assert other.log == order.log
    return order.log


# --- catching --------------------------------------------------------------------------------


def test_the_rest_of_the_try_is_left_out_and_the_section_runs() -> None:
    attempt = Try("t", do("a"), Step("b", boom()), do("never")).except_(BadError, do("caught"))
    assert log_of(attempt, do("after")) == ["a", "caught", "after"]


def test_without_a_failure_the_sections_are_left_out() -> None:
    attempt = Try("t", do("a")).except_(BadError, do("never")).finally_(do("finally"))
    assert log_of(attempt, do("after")) == ["a", "finally", "after"]


@pytest.mark.parametrize(
    ("error", "caught"),
    [(WorseError, "first"), (BadError, "second"), (KeyError, "third"), (OSError, "fourth"), (ZeroDivisionError, "all")],
)
def test_the_first_section_whose_types_fit_runs(error: type[Exception], caught: str) -> None:
    attempt = (
        Try("t", Step("b", boom(error)))
        .except_(WorseError, do("first"))
        .except_(BadError, do("second"))
        .except_(LookupError, do("third"))
        .except_((OSError, ValueError), do("fourth"))
        .except_(Exception, do("all"))
    )
    assert log_of(attempt) == [caught]


def test_what_is_not_caught_inside_is_caught_outside() -> None:
    inner = Try("inner try", Step("b", boom())).except_(KeyError, do("never")).finally_(do("inner finally"))
    outer = Try("outer try", inner, do("never either")).except_(BadError, do("outer"))
    assert log_of(outer) == ["inner finally", "outer"]


def test_the_error_is_told_to_then_and_to_steps() -> None:
    def told(w: Any, step: StepContext) -> None:
        assert step.error is not None
        w.log.append(step.error.message)

    attempt = Try("t", Step("b", boom())).except_(BadError, Step("told", told), then=note)
    assert log_of(attempt) == ["BadError(boom) at b", "boom"]


def test_after_a_wait_and_a_reload_the_error_is_still_known() -> None:
    def told(w: Any, step: StepContext) -> None:
        w.log.append("" if step.error is None else step.error.message)

    cls = flow(
        Try("t", Step("b", boom())).except_(BadError, Select("wait", On("Go", log("go"))), Step("told", told)).finally_(
            Select("wait again", On("Go", log("go"))), Step("not told", told)
        )
    )  # fmt: skip
    order, execution = start(cls)
    for _ in range(2):
        order, execution = reload(order, execution)
        handle_event(order, execution, "Go")
        resume(order, execution)
    assert order.log == ["go", "boom", "go", ""]
    assert execution.status == "finished"


def test_a_failure_in_a_section_goes_outwards_past_the_cleanup() -> None:
    inner = (
        Try("inner try", Step("b", boom())).except_(BadError, Step("c", boom(KeyError))).finally_(do("inner finally"))
    )
    outer = Try("outer try", inner).except_(BadError, do("never")).except_(KeyError, do("outer"))
    assert log_of(outer) == ["inner finally", "outer"]


def test_a_failure_in_a_cleanup_takes_the_place_of_the_first_one() -> None:
    inner = Try("inner try", Step("b", boom())).finally_(Step("c", boom(KeyError)))
    outer = Try("outer try", inner).except_(BadError, do("never")).except_(KeyError, do("outer"))
    assert log_of(outer) == ["outer"]


def test_in_a_loop_each_round_begins_anew() -> None:
    body = If("is odd", lambda w: w.n % 2 == 1, Step("b", boom()))
    attempt = Try("t", body, do("even")).except_(BadError, do("odd")).finally_(Step("next", count))
    assert log_of(While("loop", lambda w: w.n < 4, attempt)) == ["even", "odd", "even", "odd"]


def count(w: Any) -> None:
    w.n += 1


# --- leaving ---------------------------------------------------------------------------------


def test_return_break_and_continue_pass_every_cleanup_between() -> None:
    inner = Try(
        "inner try",
        If("first", lambda w: w.n == 0, Step("to 1", count), Continue()),
        If("second", lambda w: w.n == 1, Step("to 2", count), Break()),
    ).finally_(do("inner finally"))
    outer = Try("outer try", inner, do("never")).finally_(do("outer finally"))
    loop = While("loop", lambda w: True, outer)
    last = Try("last try", Return()).finally_(do("last finally"))
    assert log_of(loop, do("behind"), last, do("never either")) == [
        *["inner finally", "outer finally"] * 2,
        "behind",
        "last finally",
    ]


def test_a_break_of_a_loop_inside_stays_inside() -> None:
    attempt = Try("t", While("loop", lambda w: True, do("once"), Break()), do("after")).finally_(do("finally"))
    assert log_of(attempt) == ["once", "after", "finally"]


@pytest.mark.parametrize("leave", [Break(), Continue(), Return()])
def test_nothing_leaves_a_cleanup(leave: Any) -> None:
    with pytest.raises(
        Exception, match=r"finally_ of Try 't': a \w+ leaves it. Let a finally_ section run to its end."
    ):
        flow(While("loop", lambda w: True, Try("t", do("a")).finally_(leave)))


def test_a_loop_in_a_cleanup_may_be_left() -> None:
    cleanup = While("loop", lambda w: True, do("once"), Break())
    assert log_of(Try("t", do("a")).finally_(cleanup)) == ["a", "once"]


# --- failing ---------------------------------------------------------------------------------


def test_what_nobody_catches_fails_the_instance_where_it_can_be_repaired() -> None:
    cls = flow(
        Go("beside", Select("wait", On("E", log("e")))), Try("t", Fail("no", lambda w: f"n is {w.n}")).finally_(do("f"))
    )
    order, execution = start(cls)
    assert execution.status == "failed"
    assert execution.error is not None
    assert (execution.error.type, execution.error.message, execution.error.statement) == ("Failure", "n is 0", "no")
    assert order.log == ["f"]
    assert standing(execution) == {"main": "no", "beside": "wait"}
    assert all(not thread.waits for thread in execution.threads)


def test_a_fail_can_be_caught() -> None:
    assert log_of(Try("t", Fail("no", "no way")).except_(Failure, then=note)) == ["Failure(no way) at no"]


def test_outside_of_a_try_a_step_raises_to_the_caller_and_stays_due() -> None:
    cls = flow(do("a"), Step("b", boom()))
    order, execution = cls(), Execution.start("id-1", cls)
    for attempt in (1, 2):
        with pytest.raises(BadError):
            resume(order, execution)
        assert (standing(execution), execution.threads[0].attempt) == ({"main": "b"}, attempt)


def test_in_a_thread_of_its_own() -> None:
    cls = flow(
        Go("beside", Try("t", Step("b", boom())).except_(BadError, do("caught"))),
        WaitFor("was caught", lambda w: w.log),
    )
    assert run(cls).log == ["caught"]


# --- cancellation ----------------------------------------------------------------------------


def cancel(order: Workflow, execution: Execution) -> None:
    Machine(order, execution).cancel()
    resume(order, execution)


def test_canceled_it_passes_the_cleanups_and_no_except() -> None:
    wait = Select("wait", On("E", log("e")))
    attempt = Try("inner try", wait).except_(Exception, do("never")).finally_(do("inner finally"))
    order, execution = start(
        flow(Try("outer try", attempt, do("never either")).finally_(do("outer finally")), do("end"))
    )
    cancel(order, execution)
    assert order.log == ["inner finally", "outer finally"]
    assert execution.status == "canceled"
    assert execution.threads == []


def test_a_cleanup_that_has_begun_runs_to_its_end() -> None:
    cleanup = [do("first"), Select("wait", On("E", log("e"))), do("last")]
    order, execution = start(flow(Try("t", do("a")).finally_(*cleanup), do("never")))
    cancel(order, execution)
    assert (order.log, execution.status, execution.canceling) == (["a", "first"], "waiting", True)
    order, execution = reload(order, execution)
    handle_event(order, execution, "E")
    resume(order, execution)
    assert (order.log, execution.status) == (["a", "first", "e", "last"], "canceled")


def test_a_failure_of_a_cleanup_does_not_call_it_off() -> None:
    inner = Try("inner try", Select("wait", On("E", log("e")))).finally_(Step("b", boom()))
    order, execution = start(flow(Try("outer try", inner).except_(Exception, do("never")), do("never either")))
    cancel(order, execution)
    assert order.log == []
    assert execution.status == "failed"


def test_a_cleanup_may_catch_its_own_failures() -> None:
    cleanup = Try("careful try", Step("b", boom())).except_(BadError, do("careful"))
    order, execution = start(flow(Try("t", Select("wait", On("E", log("e")))).finally_(cleanup, do("end"))))
    cancel(order, execution)
    assert order.log == ["careful", "end"]
    assert execution.status == "canceled"
