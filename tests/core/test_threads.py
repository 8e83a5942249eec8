"""Threads: started by ``Go``, joined by ``WaitFor``, ended by their last statement, ``Return`` or the main thread."""

from __future__ import annotations

from typing import Any

import pytest

from tests.core.helpers import Logged, accepted, do, kinds, log, run, standing, start
from workflow_core import (
    DuplicateThread,
    Execution,
    ExecutionError,
    Go,
    If,
    LoopLimitExceeded,
    On,
    Return,
    S,
    Select,
    Step,
    StepContext,
    WaitFor,
    While,
    Workflow,
    handle_event,
    resume,
)


class Crew(Logged):
    """Counts workers that were started and that are done; abstract."""

    started: int = 0
    done: int = 0

    def hire(self) -> None:
        self.started += 1

    def report(self, step: StepContext) -> None:
        self.done += 1
        self.log.append(step.thread_id)


HIRE, WORK = Step("hire", Crew.hire), Step("work", Crew.report)


def test_go_goes_on_at_once_and_of_all_steps_due_that_of_the_first_thread_runs() -> None:
    class Flow(Logged):
        definition = S(Go("side", do("s1"), do("s2")), do("m1"), do("m2"), WaitFor("joined", lambda w: "s2" in w.log))

    assert run(Flow).log == ["m1", "m2", "s1", "s2"]


def test_a_thread_started_by_a_thread() -> None:
    class Flow(Logged):
        definition = S(Go("outer", Go("inner", do("in")), do("out")), WaitFor("both", lambda w: len(w.log) == 2))

    assert run(Flow).log == ["out", "in"]


def test_threads_started_in_a_loop_are_joined_by_a_counter() -> None:
    class Group(Crew):
        definition = S(
            While("three of them", lambda w: w.started < 3, HIRE, Go("worker", WORK, id=lambda w: f"w{w.started}")),
            WaitFor("all done", lambda w: w.done == 3, log("joined")),
        )

    order, execution = Group(), Execution.start("id-1", Group)
    alive: list[list[str]] = []
    resume(order, execution, lambda kind: alive.append([thread.id for thread in execution.threads]))
    assert order.log == ["w1", "w2", "w3", "joined"]
    assert ["main", "w1", "w2", "w3"] in alive
    assert execution.status == "finished"
    assert execution.threads == []


def test_a_condition_is_joined_by_events_of_threads() -> None:
    class Group(Crew):
        def add(self) -> None:
            self.done += 1

        definition = S(
            While(
                "two",
                lambda w: w.started < 2,
                HIRE,
                Go("worker", Select("work", On("Done", add)), id=lambda w: w.started),
            ),
            WaitFor("all done", lambda w: w.done == 2),
        )

    order, execution = start(Group)
    assert standing(execution) == {"main": "all done", "1": "work", "2": "work"}
    handle_event(order, execution, "Done", thread_id="2")
    assert kinds(order, execution) == []
    handle_event(order, execution, "Done")
    assert kinds(order, execution) == ["condition"]
    assert execution.status == "finished"


@pytest.mark.parametrize("id", [None, "the one", lambda w: "the one"], ids=["by name", "text", "function"])
def test_two_live_threads_of_one_id_are_an_error(id: Any) -> None:
    class Twice(Crew):
        definition = S(While("two", lambda w: w.started < 2, HIRE, Go("g", Select("s", On("E", log("e"))), id=id)))

    with pytest.raises(DuplicateThread) as caught:
        start(Twice)
    live = "g" if id is None else "the one"
    assert str(caught.value).startswith(f"Go 'g': a thread with the id '{live}' is still live")
    assert "id=lambda w: ..." in str(caught.value)


def test_no_thread_may_be_called_like_the_main_thread() -> None:
    class Flow(Logged):
        definition = S(Go("g", do("a"), id="main"))

    with pytest.raises(DuplicateThread):
        start(Flow)


def test_the_id_of_a_thread_that_has_ended_may_be_used_again() -> None:
    class Relay(Crew):
        definition = S(
            While(
                "three, one after another",
                lambda w: w.started < 3,
                HIRE,
                Go("worker", WORK),
                WaitFor("done", lambda w: w.done == w.started),
            ),
        )

    assert run(Relay).log == ["worker", "worker", "worker"]


def test_return_ends_its_thread_alone() -> None:
    class Flow(Logged):
        definition = S(
            Go("side", do("s1"), If("i", lambda w: True, Return()), do("never")),
            WaitFor("s1 ran", lambda w: bool(w.log)),
            do("m1"),
        )

    assert run(Flow).log == ["s1", "m1"]


def test_return_in_the_main_thread_ends_the_workflow() -> None:
    class Flow(Logged):
        definition = S(
            Go("side", Select("s", On("E", log("e")))),
            Select("main waits", On("Stop", log("stop"), Return(), do("never"))),
            do("never either"),
        )

    order, execution = start(Flow)
    handle_event(order, execution, "Stop")
    assert execution.status == "finished"
    assert execution.threads == []
    assert accepted(order, execution) == []
    assert kinds(order, execution) == []
    assert order.log == ["stop"]


def test_the_end_of_main_ends_threads_with_a_step_due_and_threads_that_have_not_begun() -> None:
    class Flow(Logged):
        definition = S(
            Go("stepping", do("s1"), do("s2")),
            Select("main waits", On("Stop", log("stop"))),
            Go("not begun", do("never")),
        )

    order, execution = Flow(), Execution.start("id-1", Flow)

    class Crash(Exception):
        pass

    def crash_when_s2_is_due(kind: str) -> None:
        if order.log == ["s1"]:
            raise Crash

    with pytest.raises(Crash):
        resume(order, execution, crash_when_s2_is_due)
    assert standing(execution) == {"main": "main waits", "stepping": "s2"}
    handle_event(order, execution, "Stop")
    assert execution.status == "finished"
    assert kinds(order, execution) == []
    assert order.log == ["s1", "stop"]


def test_an_instance_waits_only_when_all_threads_do() -> None:
    class Flow(Logged):
        definition = S(Go("side", Select("a", On("A", log("a"))), do("step")), Select("b", On("B", log("b"))))

    order, execution = start(Flow)
    assert execution.status == "waiting"
    handle_event(order, execution, "A")
    assert execution.status == "running"
    resume(order, execution)
    assert execution.status == "waiting"
    assert standing(execution) == {"main": "b"}


# --- events of several threads ---------------------------------------------------------------


def test_a_thread_that_does_not_wait_does_not_hide_the_event_of_another() -> None:
    class Flow(Logged):
        definition = S(
            Go("first", Select("a", On("E", log("first"))), Step("then", log("then"))),
            Go("second", Select("b", On("E", log("second")))),
            WaitFor("never", lambda w: False),
        )

    order, execution = start(Flow)
    handle_event(order, execution, "E")  # leaves thread "first" on its step
    handle_event(order, execution, "E")
    assert order.log == ["first", "second"]
    assert standing(execution) == {"main": "never", "first": "then"}


class Two(Logged):
    definition = S(
        Go("one", Select("a", On("E", log("one")))),
        Go("two", Select("b", On("E", log("two")))),
        Select("main waits", On("Stop", log("stop"))),
    )


def test_of_two_threads_that_wait_for_an_event_the_first_gets_it() -> None:
    order, execution = start(Two)
    handle_event(order, execution, "E")
    handle_event(order, execution, "E")
    assert order.log == ["one", "two"]


@pytest.mark.parametrize("by", ["thread_id", "wait_id", "pc"])
def test_another_thread_is_addressed_by_thread_wait_or_pc(by: str) -> None:
    order, execution = start(Two)
    second = execution.thread("two")
    assert second is not None
    address: dict[str, Any] = {"thread_id": second.id, "wait_id": second.waits[0].id, "pc": second.pc}
    handle_event(order, execution, "E", **{by: address[by]})
    assert order.log == ["two"]
    assert standing(execution) == {"main": "main waits", "one": "a"}


# --- conditions ------------------------------------------------------------------------------


def test_a_condition_that_holds_already_is_passed_at_once_and_its_handler_runs() -> None:
    class Flow(Logged):
        definition = S(WaitFor("w", lambda w: True, log("handled")), do("behind"))

    order, execution = Flow(), Execution.start("id-1", Flow)
    assert kinds(order, execution) == ["resume", "step"]
    assert order.log == ["handled", "behind"]


def test_the_handler_of_a_condition_runs_in_the_transition_that_saw_it_true() -> None:
    class Flow(Logged):
        def raise_flag(self) -> None:
            self.flag = True

        definition = S(
            Go("side", WaitFor("flag", lambda w: w.flag, log("seen")), do("then")),
            Select("s", On("Raise", raise_flag)),
            WaitFor("never", lambda w: False),
        )

    order, execution = start(Flow)
    handle_event(order, execution, "Raise")
    logs: list[tuple[str, list[str]]] = []
    resume(order, execution, lambda kind: logs.append((kind, list(order.log))))
    assert logs == [("condition", ["seen"]), ("step", ["seen", "then"])]


def test_a_condition_is_looked_at_before_the_next_step_runs() -> None:
    class Flow(Logged):
        def up(self) -> None:
            self.n += 1

        definition = S(
            Go("watch", WaitFor("n is 1", lambda w: w.n == 1, log("saw 1"))),
            Step("up", up),
            Step("up again", up),
        )

    assert run(Flow).log == ["saw 1"]


def test_the_first_thread_that_sees_a_condition_true_can_make_it_false_for_the_next() -> None:
    def take(name: str) -> WaitFor:
        def handler(w: Logged) -> None:
            w.n -= 1
            w.log.append(name)

        return WaitFor(name, lambda w: w.n > 0, handler)

    class Lock(Logged):
        def give(self) -> None:
            self.n += 1

        definition = S(
            Go("t1", take("first")),
            Go("t2", take("second")),
            While("w", lambda w: True, Select("s", On("Give", give))),
        )

    order, execution = start(Lock)
    handle_event(order, execution, "Give")
    resume(order, execution)
    assert (order.log, order.n) == (["first"], 0)
    assert standing(execution) == {"main": "s", "t2": "second"}


def test_a_condition_that_raises_while_it_is_waited_for_says_which_it_was() -> None:
    class Flow(Logged):
        def spoil(self) -> None:
            self.n = -1

        definition = S(
            Go("side", WaitFor("reciprocal", lambda w: 1 / (w.n + 1) > 1)),
            Select("s", On("Spoil", spoil)),
            WaitFor("never", lambda w: False),
        )

    order, execution = start(Flow)
    handle_event(order, execution, "Spoil")
    with pytest.raises(ZeroDivisionError) as caught:
        resume(order, execution)
    assert caught.value.__notes__ == ["raised by the condition 'reciprocal' of workflow 'Flow'"]


def test_threads_of_one_statement_wait_under_ids_of_their_own() -> None:
    class Flow(Crew):
        definition = S(
            While(
                "two", lambda w: w.started < 2, HIRE, Go("g", Select("s", On("E", log("e"))), id=lambda w: w.started)
            ),
            WaitFor("never", lambda w: False),
        )

    _, execution = start(Flow)
    ids = {thread.id: thread.waits[0].id for thread in execution.threads}
    assert ids == {thread.id: f"{thread.id}@{thread.pc}" for thread in execution.threads}
    assert set(ids) == {"main", "1", "2"}


def test_threads_that_wake_each_other_for_ever_are_cut_off() -> None:
    class PingPong(Workflow, name="ping-pong"):
        ball: int = 0

        def hit(self) -> None:
            self.ball = 1 - self.ball

        definition = S(
            Go(
                "other",
                While("other plays", lambda w: True, WaitFor("ball is there", lambda w: w.ball == 1, hit)),
            ),
            While("main plays", lambda w: True, WaitFor("ball is here", lambda w: w.ball == 0, hit)),
        )

    with pytest.raises(LoopLimitExceeded, match="conditions true forever"):
        resume(PingPong(), Execution.start("1", PingPong))


def test_a_thread_needs_an_id() -> None:
    class Nameless(Workflow, name="nameless"):
        definition = S(Go("thread", Step("work", lambda w: None), id=lambda w: None))

    with pytest.raises(ExecutionError, match="its id function returned None"):
        resume(Nameless(), Execution.start("1", Nameless))
