"""Branches and loops of one thread: which statements run, in which order, and which conditions are looked at."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.core.helpers import Logged, do, log, run, standing, start
from workflow_core import (
    Break,
    Case,
    Continue,
    Default,
    Go,
    If,
    LoopLimitExceeded,
    On,
    Return,
    S,
    Select,
    Step,
    Switch,
    WaitFor,
    While,
    Workflow,
    handle_event,
    resume,
)


def count(w: Logged) -> None:
    w.n += 1
    w.log.append(f"round {w.n}")


def asked(seen: list[str], name: str, answer: bool) -> Callable[[Workflow], bool]:
    """A condition that notes, outside of the fields, that it was looked at."""

    def cond(w: Workflow) -> bool:
        seen.append(name)
        return answer

    return cond


# --- branches --------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "expected"), [(1, "one"), (2, "two"), (3, "other"), (4, "other")])
def test_if_elif_else_runs_the_first_branch_that_holds(n: int, expected: str) -> None:
    class Flow(Logged):
        definition = S(
            If("is 1", lambda w: w.n == 1, do("one"))
            .elif_("is 2", lambda w: w.n == 2, do("two"))
            .elif_("is 1 again", lambda w: w.n == 1, do("never"))
            .else_(do("other")),
            do("behind"),
        )

    assert run(Flow, n=n).log == [expected, "behind"]


@pytest.mark.parametrize(("n", "expected"), [(1, ["one"]), (2, []), (3, ["other"])])
def test_switch_runs_one_case_even_an_empty_one(n: int, expected: list[str]) -> None:
    class Flow(Logged):
        definition = S(
            Switch(
                "n",
                Case("1", lambda w: w.n == 1, do("one")),
                Case("2", lambda w: w.n == 2),
                Case("up to 2", lambda w: w.n <= 2, do("never")),
                Default(do("other")),
            ),
        )

    assert run(Flow, n=n).log == expected


def test_without_else_or_default_nothing_runs() -> None:
    class Flow(Logged):
        definition = S(
            If("i", lambda w: False, do("never")),
            Switch("s", Case("c", lambda w: False, do("never again"))),
            do("behind"),
        )

    assert run(Flow).log == ["behind"]


def test_conditions_behind_the_one_that_holds_are_never_looked_at() -> None:
    seen: list[str] = []

    class Flow(Logged):
        definition = S(
            If("a", asked(seen, "a", False), If("in a", asked(seen, "in a", True), do("1")))
            .elif_("b", asked(seen, "b", True), Step("2", log("2")))
            .elif_("c", asked(seen, "c", True), do("3")),
            Switch(
                "switch",
                Case("d", asked(seen, "d", True), do("4")),
                Case("e", asked(seen, "e", True), While("in e", asked(seen, "in e", True), do("5"))),
            ),
        )

    assert run(Flow).log == ["2", "4"]
    assert seen == ["a", "b", "d"]


def test_a_guard_protects_what_stands_behind_it() -> None:
    class Flow(Logged):
        definition = S(
            If("has items", lambda w: bool(w.log), If("first is a", lambda w: w.log[0] == "a", do("yes"))),
            do("b"),
        )

    assert run(Flow).log == ["b"]


def test_a_branch_may_wait() -> None:
    class Flow(Logged):
        definition = S(
            If("i", lambda w: w.n == 0, Select("in if", On("E", log("if"))), do("behind the wait")).else_(do("else")),
            Switch("s", Case("c", lambda w: w.n == 0, Select("in case", On("E", log("case")))), Default(do("default"))),
        )

    order, execution = start(Flow)
    assert standing(execution) == {"main": "in if"}
    order.n = 7  # the branch that was entered is gone through to its end
    handle_event(order, execution, "E")
    resume(order, execution)
    assert order.log == ["if", "behind the wait", "default"]
    assert execution.status == "finished"


def test_branches_nest_to_any_depth() -> None:
    class Flow(Logged):
        definition = S(
            If(
                "1",
                lambda w: True,
                If("2", lambda w: True, S(Switch("3", Default(If("4", lambda w: False, do("no")).else_(do("deep")))))),
            )
        )

    assert run(Flow).log == ["deep"]


# --- loops -----------------------------------------------------------------------------------


def test_a_loop_runs_as_long_as_its_condition_holds_before_a_round() -> None:
    class Flow(Logged):
        definition = S(While("w", lambda w: w.n < 2, Step("count", count), do("end of round")), do("behind"))

    assert run(Flow).log == ["round 1", "end of round", "round 2", "end of round", "behind"]
    assert run(Flow, n=2).log == ["behind"]


def test_an_event_is_handled_inside_a_loop_and_the_loop_goes_on() -> None:
    class Flow(Logged):
        definition = S(While("w", lambda w: w.n < 3, Select("s", On("E", count))), do("behind"))

    order, execution = start(Flow)
    for _ in range(3):
        assert standing(execution) == {"main": "s"}
        handle_event(order, execution, "E")
        resume(order, execution)
    assert order.log == ["round 1", "round 2", "round 3", "behind"]
    assert execution.status == "finished"


def test_break_leaves_an_infinite_loop_at_once() -> None:
    class Flow(Logged):
        definition = S(
            While(
                "for ever",
                lambda w: True,
                Step("count", count),
                If("enough", lambda w: w.n == 2, Break(), do("behind the break")),
                do("end of round"),
            ),
            do("behind"),
        )

    assert run(Flow).log == ["round 1", "end of round", "round 2", "behind"]


def test_a_loop_may_be_left_in_several_places() -> None:
    class Flow(Logged):
        definition = S(
            While(
                "w",
                lambda w: True,
                Select("s", On("A", log("a"), Break()), On("B", log("b"), Break()), On("C", log("c"))),
            ),
            do("behind"),
        )

    for event in ("A", "B"):
        order, execution = start(Flow)
        handle_event(order, execution, "C")
        handle_event(order, execution, event)
        resume(order, execution)
        assert order.log == ["c", event.lower(), "behind"]


@pytest.mark.parametrize("leave", [Break(), Continue()], ids=["break", "continue"])
def test_break_and_continue_act_from_any_depth(leave: Break | Continue) -> None:
    class Flow(Logged):
        definition = S(
            While(
                "w",
                lambda w: w.n < 2,
                Step("count", count),
                Select(
                    "s",
                    On(
                        "E",
                        log("event"),
                        If(
                            "i",
                            lambda w: True,
                            Switch(
                                "x",
                                Default(S(leave, do("a"), prefix="p")),
                            ),
                            do("b"),
                        ),
                        do("c"),
                    ),
                ),
                do("d"),
            ),
            do("behind"),
        )

    order, execution = start(Flow)
    handle_event(order, execution, "E")
    resume(order, execution)
    if isinstance(leave, Break):
        assert order.log == ["round 1", "event", "behind"]
    else:
        assert order.log == ["round 1", "event", "round 2"]
        handle_event(order, execution, "E")
        resume(order, execution)
        assert order.log == ["round 1", "event", "round 2", "event", "behind"]
    assert execution.status == "finished"


def test_break_and_continue_act_on_the_innermost_loop() -> None:
    class Flow(Logged):
        definition = S(
            While(
                "outer",
                lambda w: w.n < 2,
                Step("count", count),
                While("inner", lambda w: True, do("inner step"), Break()),
                If("odd", lambda w: w.n % 2 == 1, Continue()),
                do("even"),
            ),
        )

    assert run(Flow).log == ["round 1", "inner step", "round 2", "inner step", "even"]


def test_a_loop_is_entered_anew_in_each_round_of_the_one_around_it() -> None:
    class Flow(Logged):
        inner: int = 0

        def step_inner(self) -> None:
            self.inner += 1
            self.log.append(f"{self.n}.{self.inner}")

        def next_outer(self) -> None:
            self.n += 1
            self.inner = 0

        definition = S(
            While(
                "outer",
                lambda w: w.n < 2,
                While("in", lambda w: w.inner < 2, Step("step", step_inner)),
                Step("next", next_outer),
            )
        )

    assert run(Flow).log == ["0.1", "0.2", "1.1", "1.2"]


def test_return_ends_the_workflow_from_inside_a_loop() -> None:
    class Flow(Logged):
        definition = S(
            While("w", lambda w: True, Step("count", count), If("i", lambda w: w.n == 2, Return())), do("never")
        )

    assert run(Flow).log == ["round 1", "round 2"]


def test_a_section_used_twice_runs_twice_and_keeps_its_places_apart() -> None:
    ask = S(Select("ask", On("Answer", log("answer"))), do("note"))

    class Flow(Logged):
        definition = S(S(ask, S(ask, prefix="again"), prefix="first"), S(ask, prefix="second"))

    order, execution = start(Flow)
    places = []
    while execution.status == "waiting":
        places.append(execution.threads[0].step)
        handle_event(order, execution, "Answer")
        resume(order, execution)
    assert places == ["first/ask", "first/again/ask", "second/ask"]
    assert order.log == ["answer", "note"] * 3


def test_a_workflow_without_statements_finishes_at_once() -> None:
    class Empty(Logged):
        definition = S()

    assert run(Empty).log == []


# --- the limit -------------------------------------------------------------------------------


def test_a_loop_that_never_comes_to_rest_is_cut_off() -> None:
    class Endless(Logged):
        definition = S(While("w", lambda w: True, If("i", lambda w: False, do("never"))))

    with pytest.raises(LoopLimitExceeded) as caught:
        start(Endless)
    assert "thread 'main' passed 10000 instructions without reaching a step or a wait" in str(caught.value)
    assert "Put a Step, Select or WaitFor on every path through the loop" in str(caught.value)
    assert caught.value.__notes__[0].endswith("of workflow 'Endless'")


def test_the_limit_is_ten_thousand_moves() -> None:
    seen: list[str] = []

    class Endless(Logged):
        definition = S(While("w", asked(seen, "w", True), If("i", asked(seen, "i", False), do("never"))))

    with pytest.raises(LoopLimitExceeded):
        start(Endless)
    assert 5_000 <= len(seen) <= 10_001  # at least every other move of a round asks


def test_conditions_that_hold_count_as_moves_too() -> None:
    class Endless(Logged):
        definition = S(While("w", lambda w: True, WaitFor("holds already", lambda w: True)))

    with pytest.raises(LoopLimitExceeded):
        start(Endless)


def test_the_limit_is_on_moves_between_two_rests_and_not_on_rounds() -> None:
    def tick(w: Logged) -> None:
        w.n += 1

    class Long(Logged):
        definition = S(While("w", lambda w: w.n < 10_001, Step("tick", tick)))

    assert run(Long).n == 10_001


def test_a_condition_that_raises_says_which_it_was() -> None:
    class Flow(Logged):
        definition = S(If("is it?", lambda w: w.nothing, do("a")))

    with pytest.raises(AttributeError) as caught:
        start(Flow)
    assert caught.value.__notes__ == ["raised at 'is it?' of workflow 'Flow'"]


def stop(w: Workflow) -> bool:
    raise StopIteration("mine")


def wrapped_stop(w: Workflow) -> bool:
    try:
        return stop(w)
    except StopIteration as error:
        raise RuntimeError("mine, too") from error


@pytest.mark.parametrize(("cond", "error"), [(stop, StopIteration), (wrapped_stop, RuntimeError)])
@pytest.mark.parametrize("before", [[], [Go("other", do("beside"))]], ids=["alone", "beside another thread"])
def test_a_stop_iteration_out_of_a_condition_comes_out_as_it_is(
    cond: Callable[[Workflow], bool], error: type[Exception], before: list[Go]
) -> None:
    class Flow(Logged):
        definition = S(*before, do("a"), If("is it?", cond, do("b")))

    with pytest.raises(error, match="mine"):
        start(Flow)
