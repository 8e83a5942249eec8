"""``Try``, ``except_``, ``finally_`` and ``Fail`` in every combination, each from every checkpoint of its life."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from tests.core.helpers import (
    Logged,
    Outside,
    Unlucky,
    accepted,
    cancel,
    do,
    failing,
    flow,
    give_up,
    kinds,
    log,
    migrate,
    play,
    reload,
    standing,
    start,
    unlucky,
)
from workflow_core import (
    Break,
    Continue,
    ErrorInfo,
    EventNotAccepted,
    Execution,
    Fail,
    Failure,
    ForEach,
    Go,
    If,
    On,
    Return,
    S,
    Select,
    Sleep,
    Step,
    StepContext,
    TerminalError,
    Timeout,
    Try,
    WaitFor,
    While,
    handle_event,
    resume,
)
from workflow_core.machine.machine import Machine


def up(name: str) -> Step:
    """A step that counts, and logs how far."""

    def act(w: Any) -> None:
        w.n += 1
        w.log.append(f"{name} {w.n}")

    return Step(name, act)


def ends(*statements: Any, end: str = "finished", ops: tuple[Any, ...] = ()) -> list[str]:
    """The log of an instance that comes to its end."""
    return play(flow(*statements), *ops, end=end)[0].log


class Specific(LookupError):
    """An error of a class of its own."""


# --- catching --------------------------------------------------------------------------------

TYPES: list[tuple[Any, Any, bool]] = [
    # what is raised, what is caught, whether that fits
    (ValueError, ValueError, True),
    (ValueError, Exception, True),
    (ValueError, BaseException, True),
    (ValueError, KeyError, False),
    (ValueError, (KeyError, ValueError), True),
    (ValueError, (KeyError, TypeError), False),
    (KeyError, LookupError, True),
    (Specific, Specific, True),
    (Specific, LookupError, True),
    (LookupError, Specific, False),
    (ConnectionResetError, OSError, True),
    (TerminalError, TerminalError, True),
    (TerminalError, Failure, False),
]


@pytest.mark.parametrize(("raised", "types", "fits"), TYPES)
def test_an_error_is_caught_by_its_class_or_a_base_of_it(raised: Any, types: Any, fits: bool) -> None:
    attempt = Try("try", do("first"), failing("bad", raised), do("never")).except_(types, do("caught"), name="e")
    if fits:
        assert ends(attempt, do("behind")) == ["first", "caught", "behind"]
        return
    order, execution = flow(attempt)(), Execution.start("id-1", flow(attempt))
    with pytest.raises(raised):
        resume(order, execution)
    assert (order.log, standing(execution)) == (["first"], {"main": "bad"})


def test_without_an_error_no_except_section_runs() -> None:
    attempt = Try("try", do("a"), do("b")).except_(Exception, do("never"))
    assert ends(attempt, do("c")) == ["a", "b", "c"]


def test_the_first_section_whose_classes_fit_catches() -> None:
    attempt = (
        Try("try", failing("bad", KeyError))
        .except_(ValueError, do("value"))
        .except_(LookupError, do("lookup"))
        .except_(KeyError, do("key"))
        .except_(Exception, do("any"))
    )
    assert ends(attempt) == ["lookup"]


def test_an_empty_except_section_swallows_the_error() -> None:
    assert ends(Try("try", failing("bad")).except_(ValueError), do("behind")) == ["behind"]


def test_the_sections_of_one_try_do_not_catch_each_others_errors() -> None:
    inner = (
        Try("inner", failing("bad", KeyError))
        .except_(KeyError, do("caught"), failing("worse", ValueError))
        .except_(ValueError, do("never"))
    )
    assert ends(Try("outer", inner).except_(ValueError, do("outer caught"))) == ["caught", "outer caught"]


def test_an_error_passes_every_try_that_does_not_fit() -> None:
    attempt: Any = failing("bad", KeyError)
    for level in ("one", "two", "three"):
        attempt = Try(level, attempt, do(f"never {level}")).except_(ValueError, do(f"never in {level}"))
    assert ends(Try("outer", attempt, do("never")).except_(KeyError, do("caught")), do("behind")) == [
        "caught",
        "behind",
    ]


def test_an_error_is_raised_again_through_levels_with_a_fail() -> None:
    attempt: Any = failing("bad", KeyError)
    for level in ("one", "two", "three"):
        attempt = Try(level, attempt).except_(Exception, do(f"seen by {level}"), Fail(f"again {level}", level))
    order, execution = play(flow(attempt), end="failed")
    assert order.log == ["seen by one", "seen by two", "seen by three"]
    assert execution.error is not None
    assert execution.error == ErrorInfo("Failure", "three", "again three", execution.error.bases)


def test_a_try_around_branches_loops_and_waits_catches_what_fails_in_them() -> None:
    attempt = Try(
        "try",
        While(
            "loop",
            lambda w: True,
            If("first round?", lambda w: w.n < 1, up("count")).else_(
                Select("wait", On("Go on", log("event"), failing("bad")), Timeout("late", timedelta(1)))
            ),
        ),
    ).except_(ValueError, do("caught"))
    assert ends(attempt, ops=("Go on",)) == ["count 1", "event", "caught"]


@pytest.mark.parametrize("wait", [Sleep("wait", timedelta(days=9)), Select("s", Timeout("wait", timedelta(1)))])
def test_a_try_waits_in_every_section(wait: Any) -> None:
    def again(prefix: str) -> Any:
        return S(wait, prefix=prefix)

    attempt = Try("try", again("in"), failing("bad")).except_(Exception, again("caught"), do("caught"))
    attempt = attempt.finally_(again("last"), WaitFor("flag", lambda w: w.n == 1), do("cleaned"))
    side = Go("side", Select("s", On("Up", lambda w: setattr(w, "n", 1))))
    ops = ("in/wait", "caught/wait", "last/wait", "Up")
    assert ends(side, attempt, do("behind"), ops=ops) == ["caught", "cleaned", "behind"]


# --- what is told of the error ---------------------------------------------------------------


def tell(name: str) -> Step:
    def act(w: Any, step: StepContext) -> None:
        w.log.append(f"{name}: {step.error and (step.error.type, step.error.message, step.error.statement)}")

    return Step(name, act)


def test_steps_find_the_error_in_their_context_and_only_there() -> None:
    attempt = (
        Try("try", tell("before"), failing("bad"))
        .except_(ValueError, tell("caught"), Step("plain", log("plain")), tell("still"))
        .finally_(tell("finally"))
    )
    expected = "('ValueError', 'bad failed', 'bad')"
    assert ends(tell("first"), attempt, tell("last")) == [
        *("first: None", "before: None", f"caught: {expected}", "plain", f"still: {expected}"),
        *("finally: None", "last: None"),
    ]


def test_in_nested_sections_the_error_of_the_innermost_one_is_told() -> None:
    inner = Try("inner", tell("in the body"), failing("worse", KeyError("k"))).except_(KeyError, tell("inner caught"))
    attempt = Try("outer", failing("bad")).except_(ValueError, inner, tell("outer caught"))
    outer = "('ValueError', 'bad failed', 'bad')"
    assert ends(attempt) == [
        f"in the body: {outer}",
        "inner caught: ('KeyError', \"'k'\", 'worse')",
        f"outer caught: {outer}",
    ]


def test_a_thread_that_is_started_in_an_except_section_is_told_of_the_error() -> None:
    attempt = Try("try", failing("bad")).except_(ValueError, Go("side", tell("in a thread")))
    assert ends(attempt, WaitFor("told", lambda w: bool(w.log))) == ["in a thread: ('ValueError', 'bad failed', 'bad')"]


def test_after_waits_the_error_is_still_known() -> None:
    def told(w: Any, step: StepContext) -> None:
        w.log.append("" if step.error is None else step.error.message)

    attempt = Try("try", failing("bad")).except_(ValueError, Select("wait", On("Go", log("go"))), Step("told", told))
    attempt = attempt.finally_(Select("wait again", On("Go", log("go"))), Step("not told", told))
    assert ends(attempt, ops=("Go", "Go")) == ["go", "bad failed", "go", ""]


def test_then_is_called_with_the_error_before_the_section_in_the_same_transition() -> None:
    seen: list[ErrorInfo] = []

    def keep(w: Any, error: ErrorInfo) -> None:
        seen.append(error)
        w.log.append(f"then {error.message}")

    attempt = Try("try", failing("bad", Specific)).except_(LookupError, do("caught"), then=keep, name="e")
    Flow = flow(attempt)  # noqa: N806
    assert play(Flow)[0].log == ["then bad failed", "caught"]
    order, execution = Flow(), Execution.start("id-1", Flow)
    logs: list[tuple[str, list[str], dict[str, str]]] = []
    resume(order, execution, lambda kind: logs.append((str(kind), list(order.log), standing(execution))))
    assert logs == [
        ("resume", [], {"main": "bad"}),
        ("step", ["then bad failed"], {"main": "caught"}),
        ("step", ["then bad failed", "caught"], {}),
    ]
    module = Specific.__module__
    assert seen[0].bases == [f"{module}.Specific", "builtins.LookupError"]
    assert (seen[0].type, seen[0].statement) == ("Specific", "bad")


def test_a_failed_attempt_is_a_transition_that_counts() -> None:
    Flow = flow(Try("try", failing("bad")).except_(ValueError, do("caught")))  # noqa: N806
    order, execution = Flow(), Execution.start("id-1", Flow)
    assert kinds(order, execution) == ["resume", "step", "step"]
    assert execution.pc == 3


def test_what_a_condition_or_a_handler_raises_is_not_caught() -> None:
    def spoil(w: Any) -> None:
        raise ValueError("a bug")

    def bug(w: Any) -> bool:
        raise ValueError("a bug")

    Flow = flow(Try("try", Select("s", On("E", spoil))).except_(Exception, do("never")))  # noqa: N806
    order, execution = start(Flow)
    with pytest.raises(ValueError, match="a bug"):
        handle_event(order, execution, "E")
    assert standing(execution) == {"main": "s"}
    with pytest.raises(ValueError, match="a bug"):
        start(flow(Try("try", If("bug", bug, do("a"))).except_(Exception, do("never"))))


# --- finally ---------------------------------------------------------------------------------

CLEAN = do("cleaned")


def test_finally_runs_at_the_normal_end_and_after_a_caught_error() -> None:
    assert ends(Try("try", do("a")).finally_(CLEAN), do("b")) == ["a", "cleaned", "b"]
    caught = Try("try", failing("bad")).except_(ValueError, do("caught")).finally_(CLEAN)
    assert ends(caught, do("b")) == ["caught", "cleaned", "b"]


def test_finally_runs_before_an_outer_try_catches() -> None:
    inner = Try("inner", failing("bad")).finally_(CLEAN, do("all of it"))
    assert ends(Try("outer", inner, do("never")).except_(ValueError, do("caught"))) == [
        "cleaned",
        "all of it",
        "caught",
    ]


def test_finally_runs_after_an_error_in_an_except_section() -> None:
    inner = Try("inner", failing("bad")).except_(ValueError, failing("worse", KeyError)).finally_(CLEAN)
    outer = Try("outer", inner).except_(ValueError, do("never")).except_(KeyError, do("caught"))
    assert ends(outer) == ["cleaned", "caught"]


def test_finally_runs_before_an_instance_fails() -> None:
    attempt = Try("try", do("a"), Fail("no", "no more")).finally_(CLEAN, unlucky("cleaned at last"))
    order, execution = play(flow(attempt, do("never")), end="failed")
    assert order.log == ["a", "cleaned", "cleaned at last"]
    assert execution.error is not None
    assert (execution.error.message, execution.error.statement) == ("no more", "no")


def test_an_error_in_a_finally_section_replaces_the_first_one() -> None:
    inner = Try("inner", failing("bad")).finally_(CLEAN, failing("worse", KeyError), do("never"))
    assert ends(Try("outer", inner).except_(ValueError, do("never either")).except_(KeyError, do("caught"))) == [
        "cleaned",
        "caught",
    ]
    _, execution = play(flow(Try("try", Fail("bad", "first")).finally_(Fail("worse", "second"))), end="failed")
    assert execution.error is not None
    assert execution.error.message == "second"


@pytest.mark.parametrize("leave", [Return(), Break(), Continue()], ids=["return", "break", "continue"])
def test_an_error_in_a_finally_section_replaces_the_exit_that_led_into_it(leave: Any) -> None:
    inner = Try("inner", If("leave", lambda w: True, leave), do("never")).finally_(CLEAN, failing("bad"))
    outer = Try("outer", inner, do("never 2")).except_(ValueError, do("caught"))
    assert ends(While("loop", lambda w: not w.log, outer, do("behind")), do("end")) == [
        *("cleaned", "caught", "behind", "end")
    ]


def test_an_error_that_is_caught_inside_a_finally_section_replaces_nothing() -> None:
    rescue = Try("rescue", failing("worse", KeyError)).except_(KeyError, do("rescued"))
    inner = Try("inner", failing("bad")).finally_(CLEAN, rescue, do("more"))
    assert ends(Try("outer", inner).except_(ValueError, do("caught"))) == ["cleaned", "rescued", "more", "caught"]


def test_an_error_in_a_finally_section_after_a_normal_end_goes_out() -> None:
    inner = Try("inner", do("a")).finally_(failing("bad"))
    assert ends(Try("outer", inner, do("never")).except_(ValueError, do("caught"))) == ["a", "caught"]


def test_return_runs_every_finally_section_around_it() -> None:
    inner = Try("inner", If("i", lambda w: True, Return()), do("never")).finally_(do("inner cleaned"))
    middle = Try("middle", inner, do("never 2")).except_(Exception, do("never 3"))
    outer = Try("outer", middle).finally_(do("outer cleaned"))
    assert ends(outer, do("never 4")) == ["inner cleaned", "outer cleaned"]


def test_return_in_an_except_section_runs_finally() -> None:
    attempt = Try("try", failing("bad")).except_(ValueError, do("caught"), Return()).finally_(CLEAN)
    assert ends(attempt, do("never")) == ["caught", "cleaned"]


def test_return_in_a_thread_ends_that_thread_behind_its_finally_section() -> None:
    side = Go("side", Try("try", do("s1"), Return()).finally_(do("s2"), Sleep("rest", timedelta(1)), do("s3")), do("x"))
    assert ends(side, WaitFor("s3 ran", lambda w: "s3" in w.log), do("m"), ops=("rest",)) == ["s1", "s2", "s3", "m"]


def nested_in_loops(leave: Any) -> Any:
    """Two loops, a ``Try`` in each and one around both; ``leave`` stands in the innermost."""
    inner = While(
        "inner loop",
        lambda w: w.n < 3,
        Try("inner", up("i"), If("leave", lambda w: w.n == 1, leave), do("after")).finally_(up("clean inner")),
    )
    return Try(
        "outside",
        While("outer loop", lambda w: w.n < 5, Try("middle", inner, do("behind inner")).finally_(up("clean middle"))),
    ).finally_(do("clean outside"))


@pytest.mark.parametrize(
    ("leave", "expected"),
    [
        (
            Break(),
            [
                *("i 1", "clean inner 2", "behind inner", "clean middle 3"),
                *("behind inner", "clean middle 4", "behind inner", "clean middle 5", "clean outside", "end"),
            ],
        ),
        (
            Continue(),
            [
                *("i 1", "clean inner 2", "i 3", "after", "clean inner 4"),
                *("behind inner", "clean middle 5", "clean outside", "end"),
            ],
        ),
        (Return(), ["i 1", "clean inner 2", "clean middle 3", "clean outside"]),
    ],
    ids=["break", "continue", "return"],
)
def test_break_continue_and_return_run_the_finally_sections_that_they_leave_and_no_others(
    leave: Any, expected: list[str]
) -> None:
    assert ends(nested_in_loops(leave), do("end")) == expected


@pytest.mark.parametrize("leave", [Break(), Continue()])
def test_break_and_continue_leave_several_sections_at_once(leave: Any) -> None:
    inner = Try("one", Try("two", up("i"), If("if", lambda w: w.n < 3, leave), Break()).finally_(do("clean two")))
    loop = While("loop", lambda w: w.n < 3, inner.finally_(do("clean one")), do("never"))
    rounds = 1 if leave == Break() else 3
    expected = [line for n in range(1, rounds + 1) for line in (f"i {n}", "clean two", "clean one")]
    assert ends(loop, do("end")) == [*expected, "end"]


def test_a_loop_inside_a_finally_section_may_be_left() -> None:
    loop = While("loop", lambda w: True, up("i"), If("if", lambda w: w.n > 1, Break()))
    assert ends(Try("try", do("a")).finally_(loop, CLEAN), do("b")) == ["a", "i 1", "i 2", "cleaned", "b"]


def test_a_for_each_is_left_through_finally() -> None:
    def act(w: Any, step: StepContext) -> None:
        w.log.append(f"{step.step} {step.item}")

    body = Try("try", Step("see", act), If("b?", lambda w, item: item == "b", Break()))
    loop = ForEach("each", lambda w: ["a", "b", "c"], body.finally_(Step("clean", act)))
    assert ends(loop, do("end")) == ["see a", "clean a", "see b", "clean b", "end"]


# --- again and again -------------------------------------------------------------------------


def test_each_round_of_a_loop_begins_anew() -> None:
    def act(w: Any) -> None:
        w.n += 1
        if w.n in (1, 3):
            raise (ValueError if w.n == 1 else KeyError)(f"round {w.n}")
        w.log.append(f"round {w.n}")

    inner = (
        Try("try", Step("act", act), If("four", lambda w: w.n == 4, Break()))
        .except_(ValueError, tell("value"))
        .finally_(tell("clean"))
    )
    outer = Try("outer", inner, do("went on")).except_(KeyError, tell("key"))
    assert ends(While("loop", lambda w: w.n < 9, outer), do("end")) == [
        *("value: ('ValueError', 'round 1', 'act')", "clean: None", "went on"),
        *("round 2", "clean: None", "went on"),
        *("clean: None", "key: ('KeyError', \"'round 3'\", 'act')"),
        *("round 4", "clean: None", "end"),
    ]


def test_an_except_section_that_is_entered_again_is_told_of_the_new_error() -> None:
    def act(w: Any) -> None:
        w.n += 1
        raise ValueError(f"round {w.n}")

    attempt = Try("try", Step("act", act)).except_(ValueError, Sleep("pause", timedelta(1)), tell("caught"), name="e")
    assert ends(While("loop", lambda w: w.n < 3, attempt), ops=("pause",) * 3) == [
        f"caught: ('ValueError', 'round {n}', 'act')" for n in (1, 2, 3)
    ]


def test_an_error_out_of_a_finally_section_leaves_nothing_for_the_next_round() -> None:
    def act(w: Any) -> None:
        w.n += 1
        if w.n < 2:
            raise ValueError(f"round {w.n}")

    def clean(w: Any) -> None:
        w.log.append("clean")
        if w.n < 2:
            raise KeyError("k")

    inner = Try("inner", Step("act", act)).finally_(Step("clean", clean))
    loop = While("loop", lambda w: w.n < 3, Try("outer", inner, do("went on")).except_(KeyError, do("caught")))
    assert ends(loop) == ["clean", "caught", "clean", "went on", "clean", "went on"]


def test_a_thread_catches_what_fails_in_it() -> None:
    side = Go("side", Try("try", failing("bad")).except_(ValueError, do("caught")).finally_(CLEAN), do("s"))
    assert ends(side, WaitFor("s ran", lambda w: "s" in w.log), do("m")) == ["caught", "cleaned", "s", "m"]


# --- Fail, and what nobody catches -----------------------------------------------------------


def test_outside_of_a_try_a_step_raises_to_the_caller_and_stays_due() -> None:
    Flow = flow(do("a"), failing("bad"))  # noqa: N806
    order, execution = Flow(), Execution.start("id-1", Flow)
    for attempt in (1, 2):
        with pytest.raises(ValueError, match="bad"):
            resume(order, execution)
        assert (standing(execution), execution.threads[0].attempt) == ({"main": "bad"}, attempt)


@pytest.mark.parametrize("message", ["no stock", lambda w: "no " + "stock", lambda w: w.n])
def test_fail_has_a_text_or_a_function_that_gives_it(message: Any) -> None:
    _, execution = play(flow(do("a"), Fail("give up", message), do("never")), end="failed")
    assert execution.error is not None
    assert execution.error.message == ("no stock" if isinstance(message, str) or message(Logged()) else "0")
    assert (execution.error.type, execution.error.statement) == ("Failure", "give up")


@pytest.mark.parametrize("types", [Failure, TerminalError, Exception])
def test_fail_can_be_caught(types: type[Exception]) -> None:
    assert ends(Try("try", Fail("no", "why")).except_(types, tell("caught"))) == ["caught: ('Failure', 'why', 'no')"]


def test_what_nobody_catches_fails_the_instance_and_tears_every_wait_down() -> None:
    Flow = flow(  # noqa: N806
        Go("side", Select("side waits", On("E", Outside()))),
        Go("other", Sleep("sleep", timedelta(1))),
        Select("main waits", On("Go", log("go"))),
        Fail("no", "no more"),
    )
    order, execution = play(Flow, "Go", end="failed")
    assert order.log == ["setup", "go", "teardown False"]
    assert standing(execution) == {"main": "no", "side": "side waits", "other": "sleep"}
    assert [thread.waits for thread in execution.threads] == [[], [], []]
    assert execution.teardowns == []
    assert (accepted(order, execution), kinds(order, execution)) == ([], [])
    with pytest.raises(EventNotAccepted, match="the instance is failed"):
        handle_event(order, execution, "E", 1)


def test_a_step_that_is_given_up_and_caught_goes_on_there_else_the_instance_fails() -> None:
    class Stop(Exception):
        pass

    for types, end in ((Unlucky, "finished"), (KeyError, "failed")):
        Flow = flow(Try("try", unlucky("bad", 99)).except_(types, do("caught")))  # noqa: N806
        order, execution = Flow(), Execution.start("id-1", Flow)

        def stop(kind: str) -> None:
            raise Stop

        with pytest.raises(Stop):
            resume(order, execution, stop)
        give_up(Unlucky("at last"))(order, execution)  # type: ignore[operator]
        order, execution = reload(order, execution)
        resume(order, execution)
        assert execution.status == end
        assert order.log == (["caught"] if end == "finished" else [])
    assert execution.error is not None
    assert (execution.error.message, execution.error.statement) == ("at last", "bad")
    assert standing(execution) == {"main": "bad"}


def test_behind_finally_a_failed_instance_stands_where_it_failed_under_the_same_key() -> None:
    keys: list[str] = []

    def bad(w: Any, step: StepContext) -> None:
        keys.append(step.idempotency_key)
        raise TerminalError("no")

    def clean(w: Any, step: StepContext) -> None:
        keys.append(step.idempotency_key)

    Flow = flow(do("a"), Try("try", Step("bad", bad)).finally_(Step("clean", clean)))  # noqa: N806
    order, execution = start(Flow)
    thread = execution.threads[0]
    assert (execution.status, thread.step, thread.status) == ("failed", "bad", "executing")
    execution.status = type(execution.status).RUNNING
    resume(order, execution)
    assert keys[2] == keys[0]
    assert len(set(keys)) == 3


def test_an_error_whose_cleanup_has_failed_is_forgotten_once_the_other_one_is_caught() -> None:
    inner = Try("inner", failing("bad", TerminalError)).finally_(failing("worse", TerminalError))
    wait = Select("wait", On("E", log("e")))
    order, execution = start(flow(Try("outer", inner).except_(TerminalError, do("caught")), wait))
    assert (standing(execution), execution.threads[0].pending) == ({"main": "wait"}, {})
    changed = flow(wait)  # nothing is stored about the sections that it has passed
    Machine(*migrate(order, execution, changed)).check()


def test_cancel_passes_no_except_section() -> None:
    attempt = Try("try", do("a"), Sleep("wait", timedelta(1))).except_(BaseException, do("never")).finally_(CLEAN)
    assert ends(attempt, do("never either"), end="canceled", ops=(cancel,)) == ["a", "cleaned"]
