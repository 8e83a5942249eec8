"""Events that come too early for an ``On`` that is buffered: they are kept, and delivered in their order."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from tests.core.helpers import (
    Outside,
    accepted,
    cancel,
    do,
    flow,
    kinds,
    log,
    migrate,
    play,
    reload,
    standing,
    start,
    unchanged,
)
from workflow_core import (
    EventNotAccepted,
    EventRejected,
    Execution,
    Fail,
    ForEach,
    Go,
    InvalidInput,
    On,
    Select,
    Sleep,
    Timeout,
    Try,
    While,
    handle_event,
    resume,
)
from workflow_core.machine.machine import Machine
from workflow_core.machine.operations import retry


def keep(w: Any, n: int) -> int:
    w.log.append(f"got {n}")
    return n


WAIT = Sleep("wait", timedelta(days=1))
EARLY = On("E", keep, buffered=True)


def test_an_event_that_comes_too_early_is_kept_and_delivered_when_it_is_waited_for() -> None:
    Flow = flow(WAIT, Select("s", EARLY), do("b"))  # noqa: N806
    order, execution = start(Flow)
    assert accepted(order, execution) == []
    pc = execution.pc
    assert handle_event(order, execution, "E", 7) is None
    assert ([(one.event, one.input) for one in execution.buffer], execution.pc) == ([("E", "7")], pc + 1)
    order, execution = reload(order, execution)
    assert kinds(order, execution) == []
    handle_event(order, execution, "wait")
    assert kinds(order, execution) == ["event", "step"]
    assert (order.log, execution.status, execution.buffer) == (["got 7", "b"], "finished", [])
    assert play(Flow, ("E", 7), "wait")[0].log == ["got 7", "b"]


def test_one_that_is_waited_for_is_delivered_at_once() -> None:
    order, execution = start(flow(Select("s", EARLY), do("b")))
    assert handle_event(order, execution, "E", 7) == 7
    assert (order.log, execution.buffer) == (["got 7"], [])


def test_many_are_delivered_in_the_order_in_which_they_came() -> None:
    Flow = flow(WAIT, While("three", lambda w: len(w.log) < 3, Select("s", EARLY, On("F", log("f"), buffered=True))))  # noqa: N806
    order, execution = play(Flow, ("E", 1), "F", ("E", 2), "wait")
    assert (order.log, execution.status) == (["got 1", "f", "got 2"], "finished")


def test_an_earlier_one_comes_first_even_if_the_later_one_comes_when_it_is_waited_for() -> None:
    Flow = flow(WAIT, Select("one", EARLY), Select("two", EARLY), do("b"))  # noqa: N806
    order, execution = start(Flow)
    handle_event(order, execution, "E", 1)
    handle_event(order, execution, "wait")  # and before it is run on
    assert handle_event(order, execution, "E", 2) is None
    resume(order, execution)
    assert order.log == ["got 1", "got 2", "b"]


def test_what_is_not_waited_for_any_more_is_forgotten_at_the_end() -> None:
    order, execution = play(flow(WAIT, Select("s", EARLY)), ("E", 1), ("E", 2), "wait")
    assert (order.log, execution.buffer) == (["got 1"], [])
    with pytest.raises(EventNotAccepted, match="the instance is finished"):
        handle_event(order, execution, "E", 3)


def test_an_on_that_is_not_buffered_gets_nothing_that_came_before_it() -> None:
    Flow = flow(WAIT, Select("first", On("E", keep)), Select("second", EARLY), do("b"))  # noqa: N806
    order, execution = start(Flow)
    handle_event(order, execution, "E", 1)
    handle_event(order, execution, "wait")
    resume(order, execution)
    assert (standing(execution), order.log) == ({"main": "first"}, [])
    assert handle_event(order, execution, "E", 2) == 2
    resume(order, execution)
    assert order.log == ["got 2", "got 1", "b"]


def test_an_event_that_no_on_buffers_is_refused() -> None:
    order, execution = start(flow(WAIT, Select("s", EARLY, On("F", log("f")))))
    for event in ("F", "unknown"):
        with unchanged(order, execution), pytest.raises(EventNotAccepted):
            handle_event(order, execution, event)


@pytest.mark.parametrize("address", [{"thread_id": "main"}, {"wait_id": "main@1"}, {"pc": 1}], ids=str)
def test_an_event_for_a_certain_wait_is_not_kept(address: dict[str, Any]) -> None:
    order, execution = start(flow(WAIT, Select("s", EARLY)))
    with unchanged(order, execution), pytest.raises(EventNotAccepted):
        handle_event(order, execution, "E", 1, **address)


@pytest.mark.parametrize("wrong", ["no number", None, {"n": 1}], ids=str)
def test_an_input_that_does_not_fit_is_refused_at_once(wrong: Any) -> None:
    order, execution = start(flow(WAIT, Select("s", EARLY)))
    with unchanged(order, execution), pytest.raises(InvalidInput):
        handle_event(order, execution, "E", wrong)


def test_one_that_its_handler_refuses_has_not_happened() -> None:
    def even(w: Any, n: int) -> None:
        if n % 2:
            raise EventRejected("odd")
        w.log.append(f"even {n}")

    Flow = flow(WAIT, Select("s", On("E", even, buffered=True)), do("b"))  # noqa: N806
    order, execution = start(Flow)
    for n in (1, 3):
        handle_event(order, execution, "E", n)
    handle_event(order, execution, "wait")
    pc = execution.pc
    assert kinds(order, execution) == ["event", "event"]
    assert (standing(execution), order.log, execution.buffer) == ({"main": "s"}, [], [])
    assert execution.pc == pc + 2
    assert play(Flow, ("E", 1), ("E", 2), "wait")[0].log == ["even 2", "b"]


def test_one_that_does_not_fit_its_handler_any_more_is_dropped() -> None:
    Flow = flow(WAIT, Select("s", EARLY), do("b"))  # noqa: N806
    order, execution = start(Flow)
    handle_event(order, execution, "E", 7)
    execution.buffer[0].input = '"by an older version"'
    handle_event(order, execution, "wait")
    resume(order, execution)
    assert (standing(execution), order.log, execution.buffer) == ({"main": "s"}, [], [])


def test_a_bug_of_its_handler_is_a_failure_of_the_select_as_there_is_nobody_to_answer() -> None:
    def bug(w: Any) -> None:
        raise ValueError("a bug")

    select = Select("s", On("E", bug, buffered=True))
    order, execution = start(flow(WAIT, select))
    handle_event(order, execution, "E")
    handle_event(order, execution, "wait")
    with pytest.raises(ValueError, match="a bug"):
        resume(order, execution)
    assert (standing(execution), len(execution.buffer)) == ({"main": "s"}, 1)
    attempt = Try("try", WAIT, select).except_(ValueError, do("caught"))
    order, execution = play(flow(attempt, Sleep("rest", timedelta(1))), "E", "wait", end="waiting")
    assert (order.log, execution.buffer) == (["caught"], [])


def test_an_event_that_failed_the_instance_is_delivered_again_after_a_retry() -> None:
    def bug(w: Any, n: int) -> None:
        raise ValueError("a bug")

    order, execution = start(flow(WAIT, Select("s", On("E", bug, buffered=True)), do("b")))
    handle_event(order, execution, "E", 1)
    handle_event(order, execution, "E", 2)
    handle_event(order, execution, "wait")
    machine = Machine(order, execution)
    work = machine.next_work()
    assert work is not None
    machine.give_up(work, ValueError("a bug"))
    assert (execution.status, [kept.input for kept in execution.buffer]) == ("failed", ["1", "2"])
    order, execution = migrate(order, execution, flow(WAIT, Select("s", EARLY), do("b")))
    retry(Machine(order, execution))
    resume(order, execution)
    assert (order.log, execution.status) == (["got 1", "b"], "finished")


def test_its_handler_may_take_the_item_and_no_input() -> None:
    def note(w: Any, *, item: str) -> None:
        w.log.append(item)

    each = ForEach("each", lambda w: ["a", "b"], Select("s", On("E", note, buffered=True)))
    order, _ = play(flow(WAIT, each), "E", "E", "wait")
    assert order.log == ["a", "b"]


def test_of_several_threads_the_first_gets_it() -> None:
    def side(name: str) -> Go:
        return Go(
            name, Sleep(f"{name} sleeps", timedelta(1)), Select(f"{name} waits", On("E", log(name), buffered=True))
        )

    Flow = flow(side("one"), side("two"), WAIT)  # noqa: N806
    ops = ("E", "two sleeps", "E", "one sleeps")
    order, execution = play(Flow, *ops, end="waiting")
    assert (order.log, execution.buffer) == (["two", "one"], [])


def test_an_event_comes_before_the_timeout_of_the_select() -> None:
    Flow = flow(WAIT, Select("s", EARLY, Timeout("late", timedelta(0), do("never"))))  # noqa: N806
    assert play(Flow, ("E", 1), "wait")[0].log == ["got 1"]


def test_setups_of_the_other_cases_come_first() -> None:
    Flow = flow(WAIT, Select("s", EARLY, On("Other", Outside())), do("b"))  # noqa: N806
    assert play(Flow, ("E", 1), "wait")[0].log == ["setup", "got 1", "teardown False", "b"]


def test_it_is_delivered_before_the_next_step_runs() -> None:
    Flow = flow(WAIT, Go("side", Select("s", EARLY)), do("a"), do("b"))  # noqa: N806
    assert play(Flow, ("E", 1), "wait")[0].log == ["got 1", "a", "b"]


def test_events_of_other_names_in_the_buffer_do_not_hold_one_up() -> None:
    Flow = flow(Select("s", EARLY, On("F", keep, buffered=True)), do("b"), Select("t", On("G", keep, buffered=True)))  # noqa: N806
    order, execution = start(Flow)
    handle_event(order, execution, "G", 1)
    assert handle_event(order, execution, "E", 2) == 2
    resume(order, execution)
    assert order.log == ["got 2", "b", "got 1"]


def test_a_failed_instance_keeps_what_came() -> None:
    order, execution = start(flow(WAIT, Fail("bad", "no"), Select("s", EARLY)))
    handle_event(order, execution, "E", 1)
    handle_event(order, execution, "wait")
    assert (execution.status, len(execution.buffer), kinds(order, execution)) == ("failed", 1, [])


def test_an_instance_that_is_canceled_keeps_nothing() -> None:
    attempt = Try("try", WAIT).finally_(Sleep("rest", timedelta(1)), Select("s", EARLY))
    order, execution = start(flow(attempt))
    handle_event(order, execution, "E", 1)
    cancel(order, execution)
    with unchanged(order, execution), pytest.raises(EventNotAccepted):
        handle_event(order, execution, "E", 2)
    handle_event(order, execution, "rest")
    handle_event(order, execution, "E", 3)
    assert (order.log, execution.status) == (["got 3"], "canceled")


def test_a_paused_instance_keeps_nothing() -> None:
    order, execution = start(flow(WAIT, Select("s", EARLY)))
    Machine(order, execution).pause()
    with unchanged(order, execution), pytest.raises(EventNotAccepted, match="the instance is paused"):
        handle_event(order, execution, "E", 1)


def test_an_event_can_come_before_the_instance_has_begun() -> None:
    Flow = flow(do("a"), Select("s", EARLY))  # noqa: N806
    order, execution = Flow(), Execution.start("id-1", Flow)
    handle_event(order, execution, "E", 1)
    resume(order, execution)
    assert (order.log, execution.status) == (["a", "got 1"], "finished")
