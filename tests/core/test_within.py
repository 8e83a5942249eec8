"""``Within``: a section with a deadline, and what runs when that has passed."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from tests.core.helpers import (
    NOON,
    Logged,
    Outside,
    cancel,
    do,
    failing,
    flow,
    log,
    migrate,
    play,
    reload,
    standing,
    start,
)
from workflow_core import (
    Break,
    DefinitionError,
    Do,
    DuplicateThread,
    Execution,
    ForEach,
    Go,
    If,
    On,
    Parallel,
    Principal,
    Race,
    Return,
    S,
    Select,
    Sleep,
    TimedOut,
    Timeout,
    Try,
    WaitFor,
    While,
    Within,
    handle_event,
    resume,
)
from workflow_core.machine.machine import Machine

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


def wait(name: str) -> Sleep:
    return Sleep(name, DAY)


def within(*statements: Any) -> Within:
    return Within("limit", HOUR, *statements).on_timeout(do("late"))


# --- the deadline passes, or not -------------------------------------------------------------


def test_the_section_ends_in_time() -> None:
    Flow = flow(within(do("a"), wait("nap"), do("b")), do("c"))  # noqa: N806
    order, execution = start(Flow, now=NOON)
    assert standing(execution) == {"main": "nap", "limit": "limit"}
    assert [getattr(wait, "deadline", None) for wait in execution.threads[1].waits] == [NOON + HOUR]
    handle_event(order, execution, "nap")
    resume(order, execution)
    assert (order.log, execution.status) == (["a", "b", "c"], "finished")
    assert play(Flow, "nap", now=NOON)[0].log == ["a", "b", "c"]


def test_the_deadline_passes() -> None:
    assert play(flow(within(do("a"), wait("nap"), do("never")), do("c")), "limit")[0].log == ["a", "late", "c"]


def test_without_on_timeout_it_fails() -> None:
    late = Within("limit", lambda w: HOUR, wait("nap"))
    _, execution = play(flow(late), "limit", end="failed")
    assert execution.error is not None and execution.error.text == "TimedOut: 'limit' did not end in time"
    assert play(flow(Try("try", late).except_(TimedOut, do("caught"))), "limit")[0].log == ["caught"]
    assert play(flow(Within("limit", HOUR, wait("nap")).on_timeout(), do("c")), "limit")[0].log == ["c"]


def test_events_of_the_section_are_torn_down_and_cleanups_run() -> None:
    body = Try("try", Select("ask", On("Answer", Outside()))).finally_(do("cleanup"), wait("calm"), do("end"))
    assert play(flow(within(body)), "limit", "calm")[0].log == ["setup", "teardown False", "cleanup", "end", "late"]


def test_a_step_that_waits_for_its_next_attempt_is_left() -> None:
    Flow = flow(within(failing("bad")), do("c"))  # noqa: N806
    order, execution = Flow(), Execution.start("id-1", Flow, now=NOON)
    machine = Machine(order, execution, NOON)
    machine.settle()
    work = machine.next_work()
    assert work is not None
    machine.failed(work, ValueError("no"), NOON + DAY)
    handle_event(order, execution, "limit")
    resume(order, execution)
    assert order.log == ["late", "c"]


def test_branches_of_the_section_are_canceled_and_other_threads_are_not() -> None:
    branches = Parallel("both", S(Try("try", wait("l")).finally_(do("cleanup"))), S(wait("r")))
    Flow = flow(within(Go("aside", wait("w"), do("side")), branches), wait("rest"))  # noqa: N806
    order, execution = start(Flow)
    handle_event(order, execution, "limit")
    resume(order, execution)
    assert (order.log, standing(execution)) == (["cleanup", "late"], {"main": "rest", "aside": "w"})
    play(Flow, "limit", "rest")


def test_an_error_in_the_cleanup_of_a_branch_comes_before_the_timeout() -> None:
    fork = Parallel("both", S(Try("t", wait("l")).finally_(failing("bad"))), S(wait("r")))
    assert play(flow(Try("try", within(fork)).except_(ValueError, do("caught"))), "limit")[0].log == ["caught"]


# --- ways out --------------------------------------------------------------------------------


@pytest.mark.parametrize("leave", [Return(), Break()], ids=["Return", "Break"])
@pytest.mark.parametrize("is_inside", [False, True], ids=["try outside", "try inside"])
def test_the_timer_ends_with_each_way_out(leave: Any, is_inside: bool) -> None:
    out = If("now", lambda w: True, leave)
    body = Try("try", out).finally_(wait("clean")) if is_inside else out
    section: Any = Within("limit", HOUR, body)
    section = section if is_inside else Try("try", section).finally_(wait("clean"))
    Flow = flow(Go("aside", While("loop", lambda w: True, section, wait("again")), wait("end")), wait("rest"))  # noqa: N806
    order, execution = start(Flow)
    timers = ["aside/limit"] if is_inside else []
    assert [thread.id for thread in execution.threads] == ["main", "aside", *timers]
    handle_event(order, execution, "clean")
    assert "aside/limit" not in standing(execution)
    play(Flow, "clean", "rest")


def test_the_timer_ends_with_an_error_that_leaves_the_section() -> None:
    Flow = flow(Try("try", within(failing("bad"))).except_(ValueError, wait("rest")))  # noqa: N806
    assert standing(start(Flow)[1]) == {"main": "rest"}


def test_an_error_that_is_caught_inside_leaves_the_deadline_alone() -> None:
    Flow = flow(within(Try("try", failing("bad")).except_(ValueError, wait("rest"))))  # noqa: N806
    assert play(Flow, "limit")[0].log == ["late"]
    assert standing(start(Flow)[1]) == {"main": "rest", "limit": "limit"}


def test_each_round_of_a_loop_has_its_own_deadline() -> None:
    Flow = flow(ForEach("each", lambda w: [1, 2, 3], within(wait("nap"), do("b"))))  # noqa: N806
    assert play(Flow, "limit", "nap", "limit")[0].log == ["late", "b", "late"]


def test_threads_and_branches_have_timers_of_their_own() -> None:
    fork = ForEach("each", lambda w: [1, 2], within(wait("nap"), do("b")), parallel=True)
    order, execution = start(flow(fork))
    assert [*standing(execution)] == ["main", "each[0]", "each[1]", "each[0]/limit", "each[1]/limit"]
    handle_event(order, execution, "limit", thread_id="each[1]/limit")
    resume(order, execution)
    assert (order.log, [*standing(execution)]) == (["late"], ["main", "each[0]", "each[0]/limit"])


# --- cleanups, cancellations, nesting --------------------------------------------------------


def cleanup_in(*statements: Any) -> Try:
    return Try("try", do("a")).finally_(*statements)


def test_a_cleanup_runs_to_its_end_first() -> None:
    Flow = flow(within(cleanup_in(wait("clean"), do("end")), do("never")), do("c"))  # noqa: N806
    assert play(Flow, "limit", "clean")[0].log == ["a", "end", "late", "c"]


def test_a_section_in_a_cleanup_has_a_deadline() -> None:
    inner = Within("limit", HOUR, Try("inner", wait("nap")).finally_(wait("calm"), do("calmed"))).on_timeout(do("late"))
    Flow = flow(cleanup_in(inner, do("end")), do("c"))  # noqa: N806
    assert play(Flow, "limit", "calm")[0].log == ["a", "calmed", "late", "end", "c"]
    assert play(Flow, "nap", "limit", "calm")[0].log == ["a", "calmed", "late", "end", "c"]
    assert play(Flow, cancel, "limit", "calm", end="canceled")[0].log == ["a", "calmed", "late", "end"]


def test_a_cancellation_comes_first() -> None:
    Flow = flow(within(cleanup_in(wait("clean"), do("end"))), do("never"))  # noqa: N806
    assert play(Flow, cancel, "limit", "clean", end="canceled")[0].log == ["a", "end"]
    assert play(Flow, "limit", cancel, "clean", end="canceled")[0].log == ["a", "end"]
    assert play(flow(within(wait("nap"))), cancel, end="canceled")[0].log == []
    fork = Parallel("both", S(wait("l")), S(wait("r")))
    order, execution = play(flow(within(fork)), end="waiting")
    cancel(order, execution)
    handle_event(order, execution, "limit")  # the branches have ended, and the thread has not moved yet
    resume(order, execution)
    assert (order.log, execution.status) == ([], "canceled")


def test_the_outer_deadline_comes_first() -> None:
    inner = Within("inner", HOUR, cleanup_in(wait("clean"), do("end"))).on_timeout(do("inner late"))
    Flow = flow(Within("outer", DAY, inner, do("never")).on_timeout(do("outer late")))  # noqa: N806
    for order in (("outer", "inner"), ("inner", "outer")):
        assert play(Flow, *order, "clean")[0].log == ["a", "end", "outer late"]
    assert play(Flow, "inner", "clean")[0].log == ["a", "end", "inner late", "never"]


def test_the_outer_deadline_comes_first_while_branches_clean_up() -> None:
    branches = Parallel("both", S(cleanup_in(wait("clean"), do("end"))), S(wait("other")))
    inner = Within("inner", HOUR, Try("t", branches).finally_(wait("rest"))).on_timeout(do("inner late"))
    Flow = flow(Within("outer", DAY, inner, do("never")).on_timeout(do("outer late")))  # noqa: N806
    for order in (("outer", "inner"), ("inner", "outer")):
        assert play(Flow, *order, "clean", "rest")[0].log == ["a", "end", "outer late"]
    assert play(Flow, "inner", "clean", "rest")[0].log == ["a", "end", "inner late", "never"]
    assert play(Flow, "outer", "clean", "rest")[0].log == ["a", "end", "outer late"]


@pytest.mark.parametrize("is_stored", [False, True])
def test_what_runs_after_the_deadline_was_caused_by_nobody(is_stored: bool) -> None:
    order, execution = start(flow(Select("ask", On("Begin", log("begin"))), within(wait("nap")), wait("after")))
    handle_event(order, execution, "Begin", principal=Principal("login|ann", "Ann"))
    resume(order, execution)
    assert execution.threads[0].caused_by == "login|ann"
    if is_stored:
        order, execution = reload(order, execution)
    handle_event(order, execution, "limit")
    resume(order, execution)
    assert (order.log, standing(execution)) == (["begin", "late"], {"main": "after"})
    assert execution.threads[0].caused_by == ""


def test_a_race_in_it_and_it_in_a_race() -> None:
    race = Race("race", S(wait("l")), S(wait("r")))
    assert play(flow(within(race), do("c")), "limit")[0].log == ["late", "c"]
    assert play(flow(Race("race", S(within(wait("l"))), S(wait("r"))), do("c")), "limit")[0].log == ["late", "c"]
    assert play(flow(Race("race", S(within(wait("l"))), S(wait("r"))), do("c")), "r")[0].log == ["c"]


# --- the whole workflow, storage, repairs ----------------------------------------------------


def test_a_deadline_for_the_whole_workflow() -> None:
    def give_up(w: Logged) -> None:
        w.log.append("given up")

    Flow = flow(Within("a month", timedelta(days=30), wait("a"), wait("b")).on_timeout(Do("give up", give_up)))  # noqa: N806
    assert play(Flow, "a", "a month")[0].log == ["given up"]
    assert play(Flow, "a", "b")[0].log == []


def test_an_instance_in_the_section_when_the_statement_is_added_goes_on_without_a_deadline() -> None:
    order, execution = migrate(*start(flow(wait("nap"))), flow(within(wait("nap")), do("c")))
    handle_event(order, execution, "nap")
    resume(order, execution)
    assert (order.log, execution.status) == (["c"], "finished")


def test_it_may_be_renamed() -> None:
    new = Within("new", HOUR, wait("nap"), renamed_from="limit").on_timeout(do("late"))
    order, execution = migrate(*start(flow(within(wait("nap"))), now=NOON), flow(new))
    handle_event(order, execution, "limit")
    resume(order, execution)
    assert order.log == ["late"]


def test_a_retry_starts_the_deadline_again() -> None:
    Flow = flow(within(wait("nap"), failing("bad"), do("never")))  # noqa: N806
    order, execution = start(Flow, now=NOON)
    handle_event(order, execution, "nap")
    machine = Machine(order, execution, NOON)
    work = machine.next_work()
    assert work is not None
    machine.give_up(work, ValueError("no"))
    assert (execution.status, standing(execution)) == ("failed", {"main": "bad"})
    order, execution = reload(order, execution)
    machine = Machine(order, execution, NOON + DAY)
    machine.retry()
    assert standing(execution) == {"main": "bad", "limit": "limit"}
    assert [getattr(wait, "deadline", None) for wait in execution.threads[1].waits] == [NOON + DAY + HOUR]
    handle_event(order, execution, "limit")
    resume(order, execution)
    assert order.log == ["late"]


@pytest.mark.parametrize("is_resumed", [False, True])
def test_goto_into_the_section_starts_its_deadline_and_out_of_it_ends_it(is_resumed: bool) -> None:
    order, execution = start(flow(wait("before"), within(wait("nap")), wait("after")), now=NOON)
    machine = Machine(order, execution, NOON)
    for statement, threads in (("nap", ["main", "limit"]), ("after", ["main"]), ("before", ["main"])):
        machine.goto("main", statement)
        if is_resumed:
            resume(order, execution, now=NOON)
        else:
            machine.settle()
        assert [*standing(execution)] == threads


def test_goto_within_the_section_keeps_its_deadline() -> None:
    order, execution = start(flow(within(wait("first"), wait("second"))), now=NOON)
    machine = Machine(order, execution, NOON + timedelta(minutes=30))
    for statement in ("second", "first", "first"):
        machine.goto("main", statement)
        machine.settle()
        assert standing(execution) == {"main": statement, "limit": "limit"}
        assert [getattr(wait, "deadline", None) for wait in execution.threads[1].waits] == [NOON + HOUR]


def test_goto_into_nested_sections_starts_their_deadlines_as_entering_them_does() -> None:
    Flow = flow(  # noqa: N806
        wait("before"), Within("outer", DAY, wait("between"), Within("inner", HOUR, wait("nap"), wait("other")))
    )
    order, execution = start(Flow, now=NOON)
    for name in ("before", "between"):
        handle_event(order, execution, name)
        resume(order, execution, now=NOON)
    entered = standing(execution)
    assert entered == {"main": "nap", "outer": "outer", "inner": "inner"}
    for path in (["nap"], ["between", "nap"], ["other", "between", "nap"]):
        order, execution = start(Flow, now=NOON)
        machine = Machine(order, execution, NOON)
        for statement in path:
            machine.goto("main", statement)
            machine.settle()
        assert [*standing(execution).items()] == [*entered.items()]


def test_a_failed_instance_in_it_goes_on_with_its_deadline() -> None:
    Flow = flow(within(wait("nap")))  # noqa: N806
    order, execution = start(Flow, now=NOON)
    machine = Machine(order, execution, NOON)
    machine.fail(ValueError("too large"))
    machine.retry()
    machine.settle()
    assert standing(execution) == {"main": "nap", "limit": "limit"}
    handle_event(order, execution, "limit")
    resume(order, execution)
    assert order.log == ["late"]


def test_an_error_of_its_delay_is_caught() -> None:
    def bad(w: Any) -> timedelta:
        raise ValueError("a bug")

    assert play(flow(Try("try", Within("limit", bad, wait("nap"))).except_(ValueError, do("caught"))))[0].log == [
        "caught"
    ]


def test_the_deadline_may_depend_on_the_item() -> None:
    Flow = flow(ForEach("each", lambda w: [1, 2], Within("limit", lambda w, item: item * HOUR, wait("nap"))))  # noqa: N806
    order, execution = start(Flow, now=NOON)
    handle_event(order, execution, "nap", now=NOON)
    assert [getattr(wait, "deadline", None) for wait in execution.threads[1].waits] == [NOON + 2 * HOUR]


def test_what_it_waits_for_is_not_affected() -> None:
    body = (WaitFor("set", lambda w: w.flag), Select("ask", On("Answer", log("x")), Timeout("soon", HOUR)))
    Flow = flow(Go("aside", Select("flag", On("Set", lambda w: setattr(w, "flag", True)))), within(*body), do("c"))  # noqa: N806
    assert play(Flow, "Set", "soon")[0].log == ["c"]
    assert play(Flow, "Set", "limit")[0].log == ["late", "c"]
    assert play(Flow, "limit")[0].log == ["late", "c"]


def test_mistakes() -> None:
    with pytest.raises(DefinitionError, match="it has no statements"):
        Within("limit", HOUR)
    with pytest.raises(DefinitionError, match="its delay is 7"):
        Within("limit", 7, wait("nap"))  # type: ignore[arg-type]
    with pytest.raises(DefinitionError, match="there are two"):
        within(wait("nap")).on_timeout(do("x"))
    with pytest.raises(DefinitionError, match="the name is taken"):
        flow(within(wait("limit")))
    with pytest.raises(DuplicateThread, match="its timer is a thread"):
        start(flow(Go("aside", wait("w"), id="limit"), within(wait("nap"))))
    with pytest.raises(DefinitionError, match="a Return leaves it"):
        flow(Try("try", do("a")).finally_(Within("limit", HOUR, Return())))


def test_its_timer_takes_few_bytes() -> None:
    _, execution = start(flow(within(wait("nap"))), now=NOON)
    timer = execution.to_json().partition('{"id":"limit"')[2].partition("}],")[0]
    assert len(timer) < 200
    assert '"watches"' not in str([one for one in execution.to_dict()["threads"] if one["id"] == "main"])


# --- cleanups that fail after the deadline ---------------------------------------------------


def caught_in(*statements: Any) -> Try:
    """What fails in a cleanup, and is caught inside of the section."""
    return Try("outer", *statements, do("after")).except_(ValueError, do("caught"))


@pytest.mark.parametrize("cleanup", [(failing("bad"),), (wait("clean"), failing("bad"))], ids=["at once", "later"])
def test_a_failed_cleanup_that_is_caught_inside_does_not_lose_the_deadline(cleanup: Any) -> None:
    Flow = flow(within(caught_in(Try("try", wait("w")).finally_(*cleanup)), wait("rest")))  # noqa: N806
    events = ["limit", "clean"] if len(cleanup) > 1 else ["limit"]
    assert play(Flow, *events)[0].log == ["late"]


def test_an_empty_except_at_the_end_of_a_try_does_not_lose_the_deadline() -> None:
    failed = Try("try", wait("w")).finally_(failing("bad"))
    caught = Try("outer", Try("empty", failed).except_(ValueError)).finally_(do("cleaned"))
    assert play(flow(within(caught, wait("rest"))), "limit")[0].log == ["cleaned", "late"]


def test_a_deadline_that_passes_during_the_cleanup_is_not_lost_either() -> None:
    Flow = flow(within(caught_in(Try("try", do("a")).finally_(wait("clean"), failing("bad"))), wait("rest")))  # noqa: N806
    assert play(Flow, "limit", "clean")[0].log == ["a", "late"]


def test_a_failed_cleanup_that_leaves_the_section_comes_before_the_deadline() -> None:
    body = within(Try("try", wait("w")).finally_(failing("bad")))
    assert play(flow(Try("outer", body).except_(ValueError, do("caught"))), "limit")[0].log == ["caught"]


def test_a_failed_cleanup_of_a_branch_does_not_lose_the_deadline() -> None:
    fork = Parallel("both", S(Try("t", wait("l")).finally_(failing("bad"))), S(wait("r")))
    assert play(flow(within(caught_in(fork), wait("rest"))), "limit")[0].log == ["late"]


def test_a_cleanup_that_catches_its_own_error_runs_to_its_end() -> None:
    inner = Try("inner", failing("bad")).except_(ValueError, do("own"))
    Flow = flow(within(Try("try", wait("w")).finally_(inner, do("end"))))  # noqa: N806
    assert play(Flow, "limit")[0].log == ["own", "end", "late"]


def test_the_outermost_deadline_counts() -> None:
    inner = Within("inner", HOUR, caught_in(Try("try", wait("w")).finally_(wait("clean"), failing("bad"))))
    Flow = flow(within(inner.on_timeout(do("inner late")), do("never")))  # noqa: N806
    assert play(Flow, "inner", "limit", "clean")[0].log == ["late"]
    assert play(Flow, "inner", "clean")[0].log == ["inner late", "never"]


def test_a_deadline_of_an_earlier_round_is_forgotten() -> None:
    body = within(Try("try", wait("w")).finally_(failing("bad")))
    again = Try("again", failing("worse")).except_(ValueError, do("fine"))
    each = ForEach("each", lambda w: [1, 2], Try("outer", body).except_(ValueError, do("caught")), again)
    assert play(flow(each), "limit", "limit")[0].log == ["caught", "fine", "caught", "fine"]


def test_a_section_that_fails_in_a_cleanup_does_not_lose_the_deadline_around_it() -> None:
    own = Try("own", Within("own limit", DAY, failing("bad"))).except_(ValueError, do("caught"))
    Flow = flow(within(Try("try", wait("w")).finally_(own, do("end")), do("never")))  # noqa: N806
    assert play(Flow, "limit")[0].log == ["caught", "end", "late"]


def test_an_error_that_waits_for_a_cleanup_does_not_keep_another_one_from_being_caught_in_it() -> None:
    own = Within("own limit", DAY, Try("own", failing("worse")).except_(ValueError, do("caught"))).on_timeout()
    body = Try("try", failing("bad")).finally_(own, do("end"))
    assert play(flow(Try("outer", body).except_(ValueError, do("outside"))))[0].log == ["caught", "end", "outside"]
