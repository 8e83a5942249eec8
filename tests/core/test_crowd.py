"""Instances with many threads: the machine looks only at those that may move without an event."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from copy import deepcopy

import pytest

from workflow_core import (
    Execution,
    Go,
    On,
    S,
    Select,
    Step,
    Thread,
    ThreadStatus,
    While,
    Workflow,
    handle_event,
    resume,
)
from workflow_core.crowd import CROWD_MIN, Crowd, awake
from workflow_core.machine import alone
from workflow_core.machine.machine import Machine
from workflow_core.wait_types import EventWait, WaitStatus

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
    assert execution.threads.awake() == []


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
        threads[number].status, threads[number].waits = ThreadStatus.EXECUTING, []
        crowd.woken(threads[number])
    crowd.append(Thread("new", "main"))
    assert [thread.id for thread in awake(crowd)] == ["t1", "t3", "new"]


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
