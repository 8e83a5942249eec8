"""The check of the kill test finds each kind of loss."""

from __future__ import annotations

from typing import Any

import pytest

from tests.kill.check import Mark, Record, violations


def mark(what: str, key: str, at: float, process: int = 1, step: str = "work", thread: str = "main") -> Mark:
    return Mark(what, "a", step, thread, key, 1, process, at)


def record(**changes: Any) -> Record:
    state = {"done": ["k1", "k2"], "races": ["event 0", "timer 1"], "received": [0, 1]} | changes.pop("state", {})
    values: dict[str, Any] = {"status": "finished", "expected": {"received": [0, 1]}, "won": {0}, "sent": {0, 1}}
    return Record("assembly", "a", state=state, **(values | changes))


LEFT = 1.0
"""The seconds for which a step has the lease at least."""
RIGHT = [mark("start", "k1", 1), mark("end", "k1", 2), mark("start", "k2", 3), mark("end", "k2", 4)]


def test_what_is_right_is_not_complained_of() -> None:
    assert violations([record()], RIGHT, [], [], LEFT) == []


def test_a_step_that_was_killed_may_run_again() -> None:
    marks = [mark("start", "k1", 0.5, process=9), *RIGHT]
    assert violations([record()], marks, [(9, 0.7)], [], LEFT) == []


def test_a_step_that_was_so_slow_that_its_lease_was_lost_may_run_again() -> None:
    slow = [mark("start", "k1", 0, process=9), mark("end", "k1", 1.5, process=9)]
    assert violations([record()], [*slow, *RIGHT], [], [], LEFT) == []


@pytest.mark.parametrize(
    ("changes", "marks", "complaint"),
    [
        ({"status": "running"}, RIGHT, "not carried to its end"),
        ({"state": {"received": [0]}}, RIGHT, "received is"),
        ({"state": {"received": [0, 1, 1]}}, RIGHT, "received is"),
        ({"state": {"races": ["timer 0", "timer 1"]}}, RIGHT, "answered by success, and has not won"),
        ({"state": {"races": ["event 0", "event 0"]}}, RIGHT, "outcome"),
        ({"state": {"races": ["event 0", "event 1"]}, "sent": {0}}, RIGHT, "nobody sent"),
        ({"state": {"done": ["k1", "k2", "k2"]}}, RIGHT, "is there 2 times"),
        ({"state": {"done": ["k1"]}}, RIGHT, "its effect is lost"),
        ({"state": {"done": ["k1", "k2", "k3"]}}, RIGHT, "never run to its end"),
        ({}, [*RIGHT, mark("start", "k1", 5, step="other"), mark("end", "k1", 6, step="other")], "is the key of"),
        ({}, [*RIGHT, mark("start", "k1", 3.5, process=2), mark("end", "k1", 5, process=2)], "began while"),
        ({}, [*RIGHT, mark("start", "k1", 5, process=2)], "never ended"),
    ],
)
def test_what_is_wrong_is_found(changes: dict[str, Any], marks: list[Mark], complaint: str) -> None:
    found = violations([record(**changes)], marks, [], [], LEFT)
    assert any(complaint in one for one in found), found


def test_a_task_that_is_left_is_found() -> None:
    assert violations([record()], RIGHT, [], ["resume-1"], LEFT) == ["the task resume-1 is left"]
