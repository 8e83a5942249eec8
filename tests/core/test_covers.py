"""Threads that are started inside of a ``Try``, which covers them as long as the thread that started them is inside."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from tests.core.helpers import Logged, Outside, cancel, do, flow, log, play, reload, standing
from workflow_core import (
    Activity,
    Done,
    Execution,
    Fail,
    ForEach,
    Go,
    On,
    Parallel,
    Race,
    Return,
    S,
    Select,
    Statement,
    Step,
    Try,
    WaitFor,
    While,
    Within,
    handle_event,
    resume,
)
from workflow_core.machine.machine import Machine


class Broken(Exception):
    """What the threads fail with."""


def wait(name: str, *statements: Any) -> Select:
    """Waits for the event of that name, in upper case."""
    return Select(name, On(name.upper(), log(name), *statements))


def side(event: str = "fail", name: str = "side", **options: Any) -> Go:
    """A thread that fails after an event."""
    return Go(name, wait(event), Fail(f"{name} fails", f"of {name}", error=Broken), **options)


CLEAN = do("cleaned")
CAUGHT = do("caught")
NEVER = WaitFor("never", lambda w: False)


def logged(*statements: Any, ops: tuple[Any, ...] = ("FAIL",), end: str = "finished") -> list[str]:
    return play(flow(*statements), *ops, end=end)[0].log


def test_the_error_is_thrown_where_the_thread_stands_in_the_try() -> None:
    attempt = Try("try", side(), wait("long"), do("not reached")).except_(Broken, CAUGHT).finally_(CLEAN)
    assert logged(attempt, do("end")) == ["fail", "caught", "cleaned", "end"]


def test_the_error_of_an_activity_and_what_the_thread_waits_for() -> None:
    def broken() -> None:
        raise Broken("outside")

    inside = Select("both", On("Paid", Outside()), On("OTHER", log("other")))
    side = Go("side", wait("start"), Activity("work", broken))
    order, _execution = play(
        flow(Try("try", side, inside).except_(Broken, then=lambda w, error: w.log.append(error.message))), "START"
    )
    assert order.log == ["setup", "start", "outside", "teardown False"]


def test_a_try_that_was_left_covers_nothing() -> None:
    attempt = Try("try", side(), wait("long")).except_(Broken, CAUGHT).finally_(CLEAN)
    order, execution = play(flow(attempt, NEVER), "LONG", "FAIL", end="failed")
    assert order.log == ["long", "cleaned", "fail"]
    assert standing(execution) == {"main": "never", "side": "side fails"}


def test_a_thread_goes_on_when_the_try_is_left() -> None:
    attempt = Try("try", Go("side", wait("later")), wait("long")).except_(Broken, CAUGHT)
    assert logged(attempt, wait("end"), ops=("LONG", "LATER", "END")) == ["long", "later", "end"]


def test_an_earlier_visit_does_not_count() -> None:
    again = side(id=lambda w: f"side {w.log.count('first')}")
    attempt = Try("try", wait("first"), again, wait("second")).except_(Broken, CAUGHT)
    flow_ = flow(While("always", lambda w: True, attempt))
    order, execution = play(flow_, "FIRST", "SECOND", "FIRST", ("FAIL", None), end="failed")
    assert order.log == ["first", "second", "first", "fail"]
    second = lambda o, e: handle_event(o, e, "FAIL", thread_id="side 2")  # noqa: E731
    order, execution = play(flow_, "FIRST", "SECOND", "FIRST", second, end="waiting")
    assert order.log == ["first", "second", "first", "fail", "caught"]
    assert standing(execution) == {"main": "first", "side 1": "fail"}


def test_the_outer_try_covers_an_earlier_visit_to_the_inner_one() -> None:
    inner = Try("inner", side(id=lambda w: f"side {len(w.log)}"), wait("second")).except_(Broken, do("not reached"))
    outer = Try("outer", While("always", lambda w: True, inner)).except_(Broken, CAUGHT)
    assert logged(outer, ops=("SECOND", "FAIL")) == ["second", "fail", "caught"]


def test_an_except_inside_does_not_catch_it_but_finally_runs() -> None:
    inner = Try("inner", wait("long")).except_(Exception, do("not reached")).finally_(CLEAN)
    assert logged(Try("try", side(), inner).except_(Broken, CAUGHT)) == ["fail", "cleaned", "caught"]


def test_what_the_failed_thread_waits_for_is_torn_down_first() -> None:
    class Named(Outside):
        def teardown(self, request: Any, handled: bool) -> None:
            request.workflow.log.append(f"teardown {request.event}")

    def broken() -> None:
        raise Broken("outside")

    side = Go("side", wait("start"), Select("both", On("Paid", Named()), Done("done", Activity("work", broken))))
    order, execution = play(flow(side, Select("here", On("Other", Named()))), end="waiting")
    handle_event(order, execution, "START")
    with pytest.raises(Broken):
        resume(order, execution)
    machine = Machine(order, execution, alone=True)
    work = machine.next_work()
    assert work is not None
    machine.give_up(work, Broken("outside"))
    resume(order, execution)
    assert order.log == ["setup", "start", "setup", "teardown Paid", "teardown Other"]


def test_in_an_except_section_only_the_finally_section_is_left() -> None:
    attempt = Try("try", side(), Fail("own", "own")).except_(Exception, wait("long"), name="handling")
    order, execution = play(flow(attempt, do("end")), "FAIL", end="failed")
    assert standing(execution) == {"main": "long", "side": "side fails"}
    order, execution = play(flow(attempt.finally_(CLEAN)), "FAIL", end="failed")
    assert (order.log, standing(execution)) == (["fail", "cleaned"], {"main": "long", "side": "side fails"})
    assert logged(Try("outer", attempt.finally_(CLEAN)).except_(Broken, CAUGHT)) == ["fail", "cleaned", "caught"]
    starts = Try("try", do("work"), Fail("own", "own")).except_(Exception, side(), wait("long"), name="handling")
    assert logged(Try("outer", starts.finally_(CLEAN)).except_(Broken, CAUGHT)) == ["work", "fail", "cleaned", "caught"]


def test_what_nothing_catches_fails_the_instance_where_it_stands() -> None:
    attempt = Try("try", side(), wait("long")).except_(KeyError, CAUGHT)
    _order, execution = play(flow(attempt), "FAIL", end="failed")
    assert standing(execution) == {"main": "long", "side": "side fails"}


def test_a_finally_runs_and_a_retry_continues_both_threads() -> None:
    def work(w: Logged) -> None:
        if not w.flag:
            raise Broken("not yet")
        w.log.append("worked")

    covered = Go("side", wait("start"), Step("work", work))
    Flow = flow(Try("try", covered, wait("long")).finally_(wait("clean")), do("end"))  # noqa: N806
    order, execution = play(Flow, "START", "CLEAN", end="failed")
    assert execution.error is not None
    assert (execution.error.statement, execution.error.message) == ("work", "not yet")
    for times in (1, 2):
        assert standing(execution) == {"main": "long", "side": "work"}
        order, execution = reload(order, execution)
        order.flag = times == 2
        Machine(order, execution).retry()
        resume(order, execution)
        if times == 1:  # it is still covered
            handle_event(order, execution, "CLEAN")
    for name in ("LONG", "CLEAN"):
        handle_event(order, execution, name)
        resume(order, execution)
    assert order.log == ["start", "clean", "clean", "worked", "long", "clean", "end"]


INSIDE: dict[str, tuple[Statement, tuple[str, ...], list[str]]] = {
    "race": (
        Race("race", S(Try("t", wait("a")).finally_(do("a off")), prefix="1"), S(wait("b"), prefix="2")),
        ("FAIL",),
        ["fail", "a off"],
    ),
    "parallel": (Parallel("both", S(wait("a")), S(wait("b"))), ("A", "FAIL"), ["a", "fail"]),
    "for each": (ForEach("each", lambda w: [1, 2], wait("a"), parallel=True), ("A", "FAIL"), ["a", "fail"]),
    "within": (Within("within", timedelta(1), wait("a")), ("FAIL",), ["fail"]),
    "select": (Select("s", On("GO", log("go"), wait("a")), On("NO", log("no"))), ("GO", "FAIL"), ["go", "fail"]),
    "wait for": (NEVER, ("FAIL",), ["fail"]),
    "cleanup": (Try("t", do("work")).finally_(wait("a"), do("off")), ("FAIL", "A"), ["work", "fail", "a", "off"]),
}


@pytest.mark.parametrize("inside", INSIDE)
def test_wherever_the_thread_stands(inside: str) -> None:
    statement, ops, expected = INSIDE[inside]
    attempt = Try("try", side(), statement, do("not reached")).except_(Broken, CAUGHT)
    assert logged(attempt, do("end"), ops=ops) == [*expected, "caught", "end"]


def test_a_branch_starts_the_thread() -> None:
    """The thread that waits for the branch is in the ``Try``, even when the branch has ended."""
    branches = Parallel("both", S(side(), do("a")), S(wait("b")))
    assert logged(Try("try", branches).except_(Broken, CAUGHT)) == ["a", "fail", "caught"]
    _order, execution = play(flow(Try("try", branches).finally_(CLEAN)), "FAIL", end="failed")
    assert standing(execution) == {"main": "both"}  # a retry starts the branches, and they the thread


def test_a_race_in_a_try_in_a_branch() -> None:
    inner = Try("inner", side(), wait("x")).except_(Broken, CAUGHT)
    race = Race("race", S(inner, prefix="1"), S(wait("y"), prefix="2"))
    assert logged(race, do("end")) == ["fail", "caught", "end"]


def test_a_thread_that_a_covered_thread_starts() -> None:
    middle = Go("middle", side(), wait("m"))
    assert logged(Try("try", middle, wait("long")).except_(Broken, CAUGHT)) == ["fail", "caught"]
    own = Go("middle", Try("own", side(), wait("m")).except_(Broken, do("own caught")), do("m end"), wait("n"))
    attempt = Try("try", own, wait("long")).except_(Broken, CAUGHT)
    assert logged(attempt, ops=("FAIL", "LONG")) == ["fail", "own caught", "m end", "long"]
    assert logged(attempt, ops=("M", "FAIL")) == ["m", "m end", "fail", "caught"]
    _order, execution = play(flow(Try("try", own, wait("long")).finally_(CLEAN)), "M", "FAIL", end="failed")
    assert standing(execution) == {"main": "long", "middle": "n", "side": "side fails"}


def test_the_first_of_two_errors_counts() -> None:
    inner = Try("inner", wait("long")).finally_(wait("clean"))
    attempt = Try("try", side("a", "one"), side("b", "two"), inner)
    caught = attempt.except_(Broken, then=lambda w, error: w.log.append(error.message))
    assert logged(caught, ops=("A", "B", "CLEAN")) == ["a", "b", "clean", "of one"]
    _order, execution = play(flow(attempt.finally_(CLEAN)), "A", "B", "CLEAN", end="failed")
    assert standing(execution) == {"main": "long", "one": "one fails", "two": "two fails"}


def test_an_outer_try_comes_before_an_inner_one() -> None:
    Try("t", wait("long")).finally_(wait("clean"))
    inner = Try("inner", side("b", "two"), Try("t", wait("long")).finally_(wait("clean"))).except_(
        Broken, do("inner caught")
    )
    outer = Try("outer", side("a", "one"), inner).except_(Broken, do("outer caught"))
    assert logged(outer, ops=("B", "A", "CLEAN")) == ["b", "a", "clean", "outer caught"]
    assert logged(outer, ops=("A", "B", "CLEAN")) == ["a", "b", "clean", "outer caught"]
    assert logged(outer, wait("end"), ops=("B", "CLEAN", "END")) == ["b", "clean", "inner caught", "end"]


def test_a_cleanup_that_fails_does_not_hide_the_error() -> None:
    cleaning = Try("t", wait("long")).finally_(wait("clean"), Fail("dirty", "dirty"))
    inner = Try("inner", cleaning, do("not reached")).except_(Exception, do("inner caught"))
    assert logged(Try("try", side(), inner).except_(Broken, CAUGHT), ops=("FAIL", "CLEAN")) == [
        "fail",
        "clean",
        "caught",
    ]
    empty = Try("inner", cleaning).except_(Exception).finally_(CLEAN)  # nothing but the end of the Try follows
    assert logged(Try("try", side(), empty).except_(Broken, CAUGHT), ops=("FAIL", "CLEAN")) == [
        "fail",
        "clean",
        "cleaned",
        "caught",
    ]
    _order, execution = play(flow(Try("try", side(), cleaning).except_(Broken, CAUGHT)), "FAIL", "CLEAN", end="failed")
    assert execution.error is not None and execution.error.message == "dirty"
    assert standing(execution) == {"main": "dirty", "side": "side fails"}


def test_deadlines_and_errors_the_outer_one_counts() -> None:
    cleaning = Try("t", wait("long")).finally_(wait("clean"))
    outer = Within("within", timedelta(1), Try("try", side(), cleaning).except_(Broken, CAUGHT)).on_timeout(do("late"))
    assert logged(outer, ops=("FAIL", "within", "CLEAN")) == ["fail", "clean", "late"]
    assert logged(outer, ops=("within", "FAIL"), end="failed") == ["fail"]  # the Try is already being left
    within = Within("within", timedelta(1), cleaning).on_timeout(do("late"))
    outer_try = Try("try", side(), within).except_(Broken, CAUGHT)
    assert logged(outer_try, ops=("within", "FAIL", "CLEAN")) == ["fail", "clean", "caught"]
    assert logged(outer_try, ops=("FAIL", "within", "CLEAN")) == ["fail", "clean", "caught"]


def test_a_cancellation_comes_first() -> None:
    inner = Try("t", wait("long")).finally_(wait("clean"))
    attempt = Try("try", side(), inner).except_(Broken, CAUGHT)
    assert logged(attempt, ops=("FAIL", cancel, "CLEAN"), end="canceled") == ["fail", "clean"]


def test_a_loser_of_a_race_is_on_its_way_out() -> None:
    loser = Try("try", side(), Try("t", wait("long")).finally_(wait("clean"))).except_(Broken, CAUGHT)
    race = Race("race", S(loser, prefix="1"), S(wait("win"), prefix="2"))
    _order, execution = play(flow(race, do("end")), "WIN", "FAIL", end="failed")
    assert standing(execution) == {"main": "race", "race[1]": "1/clean", "1/side": "1/side fails"}


def test_a_thread_in_a_finally_section() -> None:
    cleanup = Try("inner", side(), wait("long")).except_(Broken, CAUGHT)
    attempt = Try("try", wait("first")).finally_(cleanup)
    assert logged(attempt, do("end"), ops=("FIRST", "FAIL")) == ["first", "fail", "caught", "end"]
    assert logged(attempt, ops=("FIRST", cancel, "FAIL"), end="canceled") == ["first", "fail", "caught"]


def test_a_return_of_the_thread_leaves_the_try() -> None:
    body = Try("try", side(), wait("first", Return())).except_(Broken, CAUGHT)
    starter = Go("starter", body)
    order, _execution = play(flow(starter, NEVER), "FIRST", "FAIL", end="failed")
    assert order.log == ["first", "fail"]


def test_a_renamed_try_still_covers() -> None:
    Old = flow(Try("old", side(), wait("long")).except_(Broken, CAUGHT))  # noqa: N806
    New = flow(Try("new", side(), wait("long"), renamed_from="old").except_(Broken, CAUGHT))  # noqa: N806
    order, execution = play(Old, end="waiting")
    order, execution = New.load_fields(order.dump_fields()), Execution.from_json(execution.to_json())
    handle_event(order, execution, "FAIL")
    resume(order, execution)
    assert order.log == ["fail", "caught"]


def test_clients_see_the_covers_but_no_failed_thread() -> None:
    _, execution = play(flow(Try("try", side(), wait("long")).finally_(wait("clean"))), "FAIL", end="waiting")
    (main,) = execution.to_dict()["threads"]
    assert "covers" not in main and "failed" not in main["pending"]["try"]
    assert main["pending"]["try"]["error"]["message"] == "of side"
    _order, execution = play(flow(Try("try", side(), wait("long")).finally_(wait("clean"))), end="waiting")
    assert execution.to_dict()["threads"][1]["covers"] == [{"statement": "try", "thread": "main", "by_branch": False}]
