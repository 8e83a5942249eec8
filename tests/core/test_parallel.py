"""``Parallel``: sections that run at the same time, are waited for, and fail together."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from tests.core.helpers import do, failing, flow, kinds, log, play, standing, start, unlucky
from workflow_core import (
    Break,
    Continue,
    DuplicateThread,
    Execution,
    Fail,
    Go,
    If,
    On,
    Parallel,
    Return,
    S,
    Select,
    Sleep,
    Step,
    StepContext,
    Try,
    WaitFor,
    While,
    handle_event,
    resume,
)
from workflow_core.machine.machine import Machine


def wait(name: str) -> Sleep:
    return Sleep(name, timedelta(days=1))


def id_of(name: str) -> Step:
    def act(w: Any, step: StepContext) -> None:
        w.log.append(f"{name} in {step.thread_id}")

    return Step(name, act)


# --- joining ---------------------------------------------------------------------------------


def test_the_statement_ends_when_all_its_branches_have() -> None:
    fork = Parallel("both", S(do("l1"), wait("left"), do("l2")), S(do("r1"), wait("right"), do("r2")))
    Flow = flow(do("a"), fork, do("b"))  # noqa: N806
    order, execution = start(Flow)
    assert order.log == ["a", "l1", "r1"]
    assert standing(execution) == {"main": "both", "both[0]": "left", "both[1]": "right"}
    assert execution.status == "waiting"
    handle_event(order, execution, "right")
    resume(order, execution)
    assert (order.log, standing(execution)) == (["a", "l1", "r1", "r2"], {"main": "both", "both[0]": "left"})
    handle_event(order, execution, "left")
    assert standing(execution) == {"main": "both", "both[0]": "l2"}
    assert kinds(order, execution) == ["step", "condition", "step"]
    assert (order.log[4:], execution.status) == (["l2", "b"], "finished")


def test_its_whole_life_from_every_checkpoint() -> None:
    fork = Parallel("both", S(do("l1"), wait("left"), do("l2")), S(do("r1")), S(wait("right")))
    assert play(flow(fork, do("b")), "right", "left")[0].log == ["l1", "r1", "l2", "b"]


def test_the_checkpoints_of_branches() -> None:
    Flow = flow(Parallel("both", S(do("l1"), do("l2")), S(do("r1"))), do("b"))  # noqa: N806
    order, execution = Flow(), Execution.start("id-1", Flow)
    seen: list[tuple[str, dict[str, str]]] = []
    resume(order, execution, lambda kind: seen.append((str(kind), standing(execution))))
    assert seen == [
        ("resume", {"main": "both", "both[0]": "", "both[1]": ""}),
        ("resume", {"main": "both", "both[0]": "l1", "both[1]": ""}),
        ("resume", {"main": "both", "both[0]": "l1", "both[1]": "r1"}),
        ("step", {"main": "both", "both[0]": "l2", "both[1]": "r1"}),
        ("step", {"main": "both", "both[1]": "r1"}),
        ("step", {"main": "both"}),
        ("condition", {"main": "b"}),
        ("step", {}),
    ]
    assert execution.pc == 8


def test_a_single_branch_will_do_and_a_branch_may_pass_without_a_rest() -> None:
    nothing = If("never", lambda w: False, do("x"))
    assert play(flow(Parallel("one", S(nothing)), Parallel("two", S(do("y"))), do("z")))[0].log == ["y", "z"]


def test_the_statement_ends_only_when_its_branches_have_even_if_no_thread_of_them_rests() -> None:
    fork = Parallel("both", S(Return()), S(Return()))
    assert play(flow(While("loop", lambda w: len(w.log) < 3, fork, do("x"))))[0].log == ["x"] * 3


def test_return_ends_its_branch_alone() -> None:
    left = S(If("if", lambda w: True, Return()), do("never"))
    assert play(flow(Parallel("both", left, S(do("r"))), do("b")))[0].log == ["r", "b"]


def test_branches_have_ids_by_their_place_or_their_prefix() -> None:
    fork = Parallel("both", S(id_of("in")), S(id_of("in"), prefix="named"), S(id_of("third")))
    assert play(flow(S(fork, prefix="p")))[0].log == [*("in in p/both[0]", "in in p/both[named]", "third in p/both[2]")]


def test_nested_branches_have_the_ids_of_those_around_them() -> None:
    inner = Parallel("inner", S(id_of("deep")), S(id_of("other")))
    fork = Parallel("outer", S(inner, id_of("left")), S(id_of("right")))
    assert sorted(play(flow(fork, do("b")))[0].log) == [
        *("b", "deep in outer[0]/inner[0]", "left in outer[0]", "other in outer[0]/inner[1]", "right in outer[1]")
    ]


def test_a_parallel_statement_in_several_threads_at_once() -> None:
    def hire(w: Any) -> None:
        w.n += 1

    fork = Parallel("both", S(id_of("l")), S(id_of("r")))
    loop = While("two", lambda w: w.n < 2, Step("hire", hire), Go("side", fork, id=lambda w: f"t{w.n}"))
    order, _ = play(flow(loop, WaitFor("all", lambda w: len(w.log) == 4)))
    assert sorted(order.log) == ["l in t1/both[0]", "l in t2/both[0]", "r in t1/both[1]", "r in t2/both[1]"]


def test_in_a_loop_the_branches_begin_anew() -> None:
    def up(w: Any) -> None:
        w.n += 1

    fork = Parallel("both", S(wait("left"), do("l")), S(Step("up", up)))
    assert play(flow(While("loop", lambda w: w.n < 2, fork)), "left", "left")[0].log == ["l", "l"]


def test_a_thread_of_the_same_id_is_refused() -> None:
    with pytest.raises(DuplicateThread):
        start(flow(Go("side", wait("w"), id="both[0]"), Parallel("both", S(do("l")))))


# --- events and threads inside ---------------------------------------------------------------


def test_branches_wait_for_the_same_event_and_the_first_gets_it() -> None:
    fork = Parallel("both", S(Select("s", On("E", log("left")))), S(Select("t", On("E", log("right")))))
    assert play(flow(fork), "E", "E")[0].log == ["left", "right"]
    order, execution = start(flow(fork))
    handle_event(order, execution, "E", thread_id="both[1]")
    assert order.log == ["right"]


def test_a_branch_wakes_another_one() -> None:
    left = S(WaitFor("r ran", lambda w: "r" in w.log), do("l"))
    assert play(flow(Parallel("both", left, S(do("r"))), do("b")))[0].log == ["r", "l", "b"]


def test_a_thread_that_a_branch_starts_is_not_waited_for() -> None:
    fork = Parallel("both", S(Go("side", wait("w"), do("s"))), S(do("r")))
    assert play(flow(fork, do("b"), WaitFor("s ran", lambda w: "s" in w.log)), "w")[0].log == ["r", "b", "s"]


def test_the_end_of_the_main_thread_ends_branches_of_others() -> None:
    Flow = flow(Go("side", Parallel("both", S(wait("l")), S(wait("r")))), wait("w"))  # noqa: N806
    order, execution = play(Flow, "w")
    assert (order.log, execution.threads) == ([], [])


# --- failing together ------------------------------------------------------------------------


def cleaned(name: str, *statements: Any) -> Any:
    return S(Try(f"try {name}", *statements, do(f"never {name}")).finally_(do(f"clean {name}")))


def note(w: Any, error: Any) -> None:
    w.log.append(f"{error.type} of {error.statement}: {error.message}")


def test_a_branch_that_fails_cancels_the_others_and_then_the_statement_fails() -> None:
    fork = Parallel(
        "three",
        cleaned("left", wait("l")),
        S(wait("fail now"), failing("bad"), do("never")),
        cleaned("right", Select("s", On("E", log("e")))),
    )
    attempt = Try("try", fork, do("never 2")).except_(ValueError, do("caught"), then=note, name="e")
    Flow = flow(attempt, do("b"))  # noqa: N806
    order, _ = play(Flow, "fail now")
    assert order.log == ["clean left", "clean right", "ValueError of bad: bad failed", "caught", "b"]


def test_the_statement_fails_only_when_the_cleanups_have_ended() -> None:
    left = S(Try("try left", wait("l")).finally_(do("c1"), wait("rest"), do("c2")))
    fork = Parallel("both", left, S(Fail("bad", "no")))
    attempt = Try("try", fork).except_(Exception, do("caught"))
    order, execution = start(flow(attempt))
    assert standing(execution) == {"main": "both", "both[0]": "rest"}
    assert (order.log, execution.status) == (["c1"], "waiting")
    assert play(flow(attempt), "rest")[0].log == ["c1", "c2", "caught"]


def test_in_a_cleanup_as_well_a_branch_that_fails_cancels_the_others() -> None:
    left = S(Try("try left", wait("l"), do("never")).finally_(do("clean left"), wait("rest"), do("end of left")))
    cleanup = Try("try", Parallel("both", left, S(Fail("bad", "no")))).except_(Exception, do("caught"))
    Flow = flow(Try("outer", do("a")).finally_(cleanup, do("b")))  # noqa: N806
    _, execution = start(Flow)
    assert standing(execution) == {"main": "both", "both[0]": "rest"}
    assert play(Flow, "rest")[0].log == ["a", "clean left", "end of left", "caught", "b"]


@pytest.mark.parametrize(
    "leave", [failing("bad left"), Return(), Break(), Continue(), do("a")], ids=lambda s: type(s).__name__
)
def test_a_branch_in_a_finally_section_runs_it_and_those_around_it_when_another_one_fails(leave: Any) -> None:
    """However it has come there: it catches nothing any more, and ends behind its cleanups."""
    inner = Try("inner", If("leave", lambda w: True, leave)).finally_(do("c1"), wait("rest"), do("c2"))
    outer = Try("outer", inner, do("never 1")).except_(Exception, do("never 2")).finally_(do("c3"))
    left = S(While("loop", lambda w: len(w.log) < 9, outer, do("never 3")), do("never 4"))
    fork = Parallel("both", left, S(wait("now"), Fail("bad", "of the right")))
    attempt = Try("try", fork, do("never 5")).except_(Exception, do("caught"), then=note)
    log = play(flow(attempt, do("b")), "now", "rest")[0].log
    assert [line for line in log if line != "a"] == ["c1", "c2", "c3", "Failure of bad: of the right", "caught", "b"]


def test_an_error_that_a_branch_catches_itself_disturbs_nobody() -> None:
    left = S(Try("try", failing("bad")).except_(ValueError, do("caught")))
    assert play(flow(Parallel("both", left, S(wait("w"), do("r"))), do("b")), "w")[0].log == ["caught", "r", "b"]


def test_nobody_catches_and_the_instance_fails_at_the_statement() -> None:
    fork = Parallel("both", cleaned("left", wait("l")), S(Fail("bad", "no")))
    order, execution = play(flow(Go("side", wait("s")), fork), end="failed")
    assert order.log == ["clean left"]
    assert execution.error is not None
    assert (execution.error.message, execution.error.statement) == ("no", "bad")
    assert standing(execution) == {"main": "both", "side": "s"}
    assert execution.threads[0].pc == 1, "that of the visit that has failed"


def test_an_error_passes_nested_statements_and_cancels_at_every_level() -> None:
    inner = Parallel("inner", cleaned("a", wait("wa")), S(wait("fail"), Fail("bad", "no")))
    outer = Parallel("outer", cleaned("b", inner), cleaned("c", wait("wc")))
    attempt = Try("try", outer).except_(Exception, do("caught"))
    assert play(flow(attempt), "fail")[0].log == ["clean a", "clean b", "clean c", "caught"]


def test_an_inner_statement_may_be_caught_where_the_outer_one_goes_on() -> None:
    inner = Parallel("inner", cleaned("a", wait("wa")), S(Fail("bad", "no")))
    left = S(Try("try", inner).except_(Exception, do("caught")), do("l"))
    assert play(flow(Parallel("outer", left, S(wait("w"), do("r"))), do("b")), "w")[0].log == [
        *("clean a", "caught", "l", "r", "b")
    ]


def test_of_two_errors_the_first_counts() -> None:
    left = S(Try("try left", wait("l")).finally_(Fail("second", "2")))
    attempt = Try("try", Parallel("both", left, S(Fail("first", "1")))).except_(Exception, do("caught"), then=note)
    assert play(flow(attempt))[0].log == ["Failure of first: 1", "caught"]


def test_a_canceled_branch_catches_nothing_but_in_its_cleanup() -> None:
    inner = Try("inner", wait("l")).except_(Exception, do("never")).finally_(Fail("bad cleanup", "2"))
    left = S(Try("middle", inner).except_(Exception, do("never 2")).finally_(do("clean")))
    attempt = Try("try", Parallel("both", left, S(Fail("first", "1")))).except_(Exception, do("caught"), then=note)
    assert play(flow(attempt))[0].log == ["clean", "Failure of first: 1", "caught"]


def test_branches_that_have_not_begun_are_not_begun() -> None:
    attempt = Try("try", Parallel("both", S(Fail("bad", "no")), S(do("never")))).except_(Exception, do("caught"))
    assert play(flow(attempt))[0].log == ["caught"]


def test_a_branch_that_fails_in_the_very_transition_that_began_it() -> None:
    fork = Parallel("both", S(If("if", lambda w: True, Fail("bad", "no"))), S(Fail("bad 2", "no")))
    order, execution = play(flow(fork), end="failed")
    assert execution.error is not None
    assert (execution.error.statement, order.log) == ("bad", [])


def test_a_statement_that_has_failed_may_be_tried_again_in_a_loop() -> None:
    def up(w: Any) -> None:
        w.n += 1

    second = S(If("first round?", lambda w: w.n == 1, Fail("bad", "no")), do("r"))
    fork = Parallel("both", cleaned("left", wait("l")), second)
    attempt = Try("try", fork, do("through")).except_(Exception, do("caught"))
    loop = While("loop", lambda w: "through" not in w.log, Step("up", up), attempt)
    assert play(flow(loop), "l")[0].log == ["clean left", "caught", "r", "never left", "clean left", "through"]


def test_a_step_of_a_branch_that_nobody_catches_is_the_callers_to_try_again() -> None:
    fork = Parallel("both", S(unlucky("l", 2)), S(do("r")))
    assert sorted(play(flow(fork, do("b")))[0].log) == ["b", "l", "r"]


def test_a_step_of_a_branch_that_is_caught_around_the_statement_is_not_tried_again() -> None:
    fork = Parallel("both", S(unlucky("l", 2)), S(wait("w")))
    assert play(flow(Try("try", fork).except_(Exception, do("caught"))))[0].log == ["caught"]


def test_a_failed_instance_goes_on_with_all_branches_when_it_is_repaired() -> None:
    second = S(If("bad?", lambda w: not w.flag, Fail("bad", "no")), do("r"))
    order, execution = start(flow(Parallel("both", S(do("l")), second), do("b")))
    assert (execution.status, order.log) == ("failed", [])
    order.flag = True
    execution.status = type(execution.status).RUNNING
    Machine(order, execution).check()
    resume(order, execution)
    assert (execution.status, order.log) == ("finished", ["l", "r", "b"])
