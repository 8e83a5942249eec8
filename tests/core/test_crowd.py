"""Instances with many threads: the machine looks only at those that may move without an event."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Callable
from copy import deepcopy
from datetime import timedelta
from types import FrameType
from typing import Any

import pytest

from workflow_core import (
    Activity,
    Execution,
    ForEach,
    Go,
    On,
    S,
    Select,
    Sleep,
    Statement,
    Step,
    Thread,
    ThreadStatus,
    While,
    Within,
    Workflow,
    handle_event,
    resume,
)
from workflow_core.crowd import CROWD_MIN, Crowd, awake
from workflow_core.machine import alone
from workflow_core.machine.machine import Machine
from workflow_core.wait_types import ActivityWait, EventWait, WaitStatus

COUNT = CROWD_MIN + 8


class Wide(Workflow, name="wide-crowd"):
    started: int = 0
    stopped: list[str] = []
    ended: int = 0

    def start(self) -> None:
        self.started += 1

    def stop(self, thread: str) -> None:
        self.stopped.append(thread)

    def end(self) -> None:
        self.ended += 1

    definition = S(
        While(
            "threads to start",
            lambda w: w.started < COUNT,
            Step("start", start),
            Go("waiting", Select("stop", On("Stop", stop)), Step("end of one", end), id=lambda w: f"t{w.started}"),
        ),
        Select("end", On("End", end)),
        Step("finish", end),
    )


def started() -> tuple[Wide, Execution]:
    wide, execution = Wide(), Execution.start("id-1", Wide)
    resume(wide, execution)
    return wide, execution


def waiting(id: str, *, buffered: bool = False) -> Thread:
    waits = [EventWait("E", WaitStatus.SET_UP, f"{id}@1", buffered)]
    return Thread(id, "main", ThreadStatus.WAITING, "wait", 1, [*waits])


def test_many_threads_are_a_crowd_of_which_none_is_awake() -> None:
    _, execution = started()
    assert type(execution.threads) is Crowd
    assert len(execution.threads) == COUNT + 1
    assert list(execution.threads.restless()) == []
    assert not execution.threads.any_moves()


def test_each_thread_receives_its_event_and_ends() -> None:
    wide, execution = started()
    for number in range(COUNT, 0, -1):
        handle_event(wide, execution, "Stop", f"t{number}", thread_id=f"t{number}")
        resume(wide, execution)
    assert wide.stopped == [f"t{number}" for number in range(COUNT, 0, -1)]
    assert wide.ended == COUNT
    assert type(execution.threads) is list
    assert [thread.id for thread in execution.threads] == ["main"]
    handle_event(wide, execution, "End")
    resume(wide, execution)
    assert execution.status == "finished"


def test_the_first_thread_that_waits_receives_an_event_for_any() -> None:
    wide, execution = started()
    handle_event(wide, execution, "Stop", "first")
    resume(wide, execution)
    assert "t1" not in {thread.id for thread in execution.threads}


def test_it_is_stored_and_compared_as_a_list_is() -> None:
    wide, execution = started()
    loaded = Execution.from_json(execution.to_json())
    assert loaded == execution
    assert loaded.to_json() == execution.to_json()
    for copy in (deepcopy(execution.threads), pickle.loads(pickle.dumps(execution.threads))):
        assert type(copy) is list
        assert copy == execution.threads
    handle_event(wide, loaded, "Stop", "after the load", thread_id="t7")
    resume(wide, loaded)
    assert len(loaded.threads) == COUNT


def test_a_cancellation_reaches_threads_that_wait() -> None:
    wide, execution = started()
    Machine(wide, execution).cancel()
    resume(wide, execution)
    assert (execution.status, execution.threads) == ("canceled", [])


def test_the_awake_ones_come_in_the_order_of_the_list() -> None:
    threads = [waiting(f"t{number}") for number in range(5)]
    crowd = Crowd(threads)
    assert list(awake(crowd)) == []
    for number in (3, 1):
        threads[number].status, threads[number].waits = ThreadStatus.RESUMING, []
        crowd.woken(threads[number])
    crowd.append(Thread("new", "main"))
    assert [thread.id for thread in awake(crowd)] == ["t1", "t3", "new"]


def test_steps_and_activities_come_in_the_order_of_the_list() -> None:
    threads = [waiting(f"t{number}") for number in range(5)]
    for number in (4, 0):
        threads[number].status, threads[number].waits = ThreadStatus.EXECUTING, []
    threads[2].waits = [ActivityWait("a", WaitStatus.SET_UP, "t2@1")]
    crowd = Crowd(threads)
    assert list(awake(crowd)) == []
    assert [thread.id for thread in crowd.working(with_activities=False)] == ["t0", "t4"]
    assert [thread.id for thread in crowd.working(with_activities=True)] == ["t0", "t2", "t4"]
    assert crowd.any_moves()
    threads[0].status, threads[0].waits = ThreadStatus.WAITING, waiting("t0").waits
    crowd.woken(threads[0])
    assert list(awake(crowd)) == []
    assert [thread.id for thread in crowd.working(with_activities=False)] == ["t4"]


def test_threads_are_found_by_their_ids_and_leaders_until_they_are_dropped() -> None:
    branches = [Thread(f"b{number}", "b", parent="main") for number in range(3)]
    timer = Thread("timer", "w", watches="b1")
    crowd = Crowd([Thread("main", "main"), *branches])
    assert list(crowd.branches("main")) == branches
    crowd.append(timer)
    assert (crowd.find("timer"), list(crowd.timers("b1"))) == (timer, [timer])
    for thread in (branches[1], timer, Thread("b0", "another of this id")):
        crowd.drop(thread)
    assert [thread.id for thread in crowd] == ["main", "b0", "b2"]
    assert list(crowd.branches("main")) == [branches[0], branches[2]]
    assert (crowd.find("b1"), list(crowd.timers("b1")), list(crowd.branches("b0"))) == (None, [], [])
    assert branches[0] in crowd
    assert branches[1] not in crowd
    crowd.append(Thread("b1", "b", parent="main"))
    assert [thread.id for thread in crowd.branches("main")] == ["b0", "b2", "b1"]
    assert [thread.id for thread in awake(crowd)] == ["main", "b0", "b2", "b1"]


def test_a_thread_that_may_receive_a_buffered_event_is_awake() -> None:
    assert [thread.id for thread in awake(Crowd([waiting("a"), waiting("b", buffered=True)]))] == ["b"]


def test_one_is_alone_if_no_other_may_move() -> None:
    threads = [waiting(f"t{number}") for number in range(3)]
    crowd = Crowd(threads)
    assert crowd.lone() is None
    for number, expected in ((1, threads[1]), (2, None)):
        threads[number].status, threads[number].waits = ThreadStatus.EXECUTING, []
        crowd.woken(threads[number])
        assert crowd.lone() is expected
    threads[1].status, threads[1].waits = ThreadStatus.WAITING, waiting("t1").waits
    crowd.woken(threads[1])
    assert crowd.lone() is threads[2]


def test_one_that_is_alone_moves_without_a_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    class Loop(Wide, name="loop-crowd"):
        definition = S(
            While(
                "threads to start",
                lambda w: w.started < COUNT,
                Step("start", Wide.start),
                Go("waiting", Select("stop", On("Stop", Wide.stop)), id=lambda w: f"t{w.started}"),
            ),
            While("forever", lambda w: True, Select("next", On("Next", Wide.end)), Step("one", Wide.end)),
        )

    loop, execution = Loop(), Execution.start("id-1", Loop)
    resume(loop, execution)
    monkeypatch.setattr(alone, "Machine", None)
    kinds: list[str] = []
    for _ in range(3):
        handle_event(loop, execution, "Next")
        assert execution.status == "running"
        resume(loop, execution, kinds.append)
        assert execution.status == "waiting"
    assert (loop.ended, kinds) == (6, ["step"] * 3)
    monkeypatch.undo()
    handle_event(loop, execution, "Stop", "t1")
    resume(loop, execution)
    assert len(execution.threads) == COUNT
    assert execution.to_json() == Execution.from_json(execution.to_json()).to_json()


def test_the_end_of_the_main_thread_ends_the_others() -> None:
    wide, execution = started()
    handle_event(wide, execution, "End")
    resume(wide, execution)
    assert (execution.status, execution.threads, wide.ended) == ("finished", [], 2)


@pytest.mark.parametrize(
    "change",
    [
        lambda crowd: crowd.__setitem__(1, Thread("new", "main")),
        lambda crowd: crowd.insert(0, Thread("new", "main")),
        lambda crowd: crowd.extend([Thread("new", "main")]),
        lambda crowd: crowd.__iadd__([Thread("new", "main")]),
        lambda crowd: (crowd.pop(), crowd.insert(1, Thread("new", "main"))),
        lambda crowd: (crowd.clear(), crowd.append(Thread("new", "main"))),
        lambda crowd: (crowd.__delitem__(0), crowd.append(Thread("new", "main"))),
    ],
)
def test_no_change_of_the_list_is_missed(change: Callable[[Crowd], object]) -> None:
    crowd = Crowd([waiting("a"), waiting("b")])
    assert list(awake(crowd)) == []
    change(crowd)
    assert [thread.id for thread in awake(crowd)] == ["new"]


# --- what it costs ---------------------------------------------------------------------------


class Many(Workflow):
    count: int = 0
    started: int = 0
    done: int = 0

    def start(self) -> None:
        self.started += 1

    def end(self) -> None:
        self.done += 1


def all_at_once(*body: Statement) -> ForEach:
    return ForEach("each", lambda w: range(w.count), *body, parallel=True, limit=1_000_000)


EVENT, STEP = Select("wait", On("E", Many.end)), Step("step", Many.end)
BODIES: dict[str, Statement] = {
    "event": all_at_once(EVENT),
    "event and step": all_at_once(EVENT, STEP),
    "steps": all_at_once(STEP, Step("another", Many.end)),
    "timer": all_at_once(Sleep("timer", timedelta(1))),
    "activity": all_at_once(Activity("activity", lambda: None)),
    "deadline": all_at_once(Within("late", timedelta(1), EVENT)),
    "limit": ForEach("each", lambda w: range(w.count), STEP, parallel=True, limit=CROWD_MIN),
    "threads": S(
        While(
            "more",
            lambda w: w.started < w.count,
            Step("start", Many.start),
            Go("go", EVENT, id=lambda w: f"t{w.started}"),
        ),
        Select("last", On("Last", Many.end)),
    ),
}


def lines(function: Callable[[], object]) -> int:
    """Counts the lines of Python that a function runs, each round of a comprehension included."""
    count = 0

    def trace(frame: FrameType, event: str, arg: Any) -> Any:
        nonlocal count
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        function()
    finally:
        sys.settrace(before)
    return count


def costs(body: Statement, count: int) -> dict[str, int]:
    """Returns what it takes to start a number of threads, to let each end, and to cancel all of them."""

    class Each(Many, name="each-crowd"):
        definition = S(body)

    def move() -> None:
        if "activity" in Each.__program__.events:
            Machine(*instance).settle()  # ``resume`` would run them
        else:
            resume(*instance)

    def end_each() -> None:
        for thread in waiting:
            handle_event(*instance, thread.waits[0].event, thread_id=thread.id)
            move()

    instance = Each(count=count), Execution.start("id-1", Each)
    cost = {"start": lines(move)}
    waiting = [thread for thread in instance[1].threads if thread.parent or thread.name == "go"]
    cost["end"] = lines(end_each)
    assert len(instance[1].threads) <= 1
    instance = Each(count=count), Execution.start("id-1", Each)
    machine = Machine(*instance)
    machine.settle()
    cost["cancel"] = lines(machine.cancel) + lines(machine.settle)
    assert instance[1].status == "canceled"
    return cost


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_the_cost_of_many_threads_does_not_grow_with_their_square(body: Statement) -> None:
    few, many = costs(body, 2 * CROWD_MIN), costs(body, 8 * CROWD_MIN)
    assert {what: many[what] <= 5 * few[what] for what in few} == dict.fromkeys(few, True), (few, many)
