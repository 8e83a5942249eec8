"""Pausing: nothing happens meanwhile, and afterwards an instance continues where it was."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from tests.core.helpers import NOON, Outside, accepted, cancel, do, flow, kinds, log, play, start
from tests.waits import the, timed
from workflow_core import (
    Activity,
    EventNotAccepted,
    Execution,
    Go,
    On,
    Parallel,
    S,
    Select,
    Sleep,
    Timeout,
    Try,
    handle_event,
    resume,
)
from workflow_core.machine.machine import Machine
from workflow_core.wait_types import ActivityWait, TimedWait

WAIT = Sleep("wait", timedelta(days=1))
CLEANUP = (do("c1"), Sleep("rest", timedelta(days=1)), do("c2"))


def pause(order: Any, execution: Execution) -> None:
    Machine(order, execution).pause()
    assert kinds(order, execution) == []
    assert accepted(order, execution) == []
    with pytest.raises(EventNotAccepted, match="the instance is paused, it accepts: none"):
        handle_event(order, execution, "E")


def unpause(order: Any, execution: Execution) -> None:
    Machine(order, execution).unpause()


def test_a_paused_instance_takes_no_events_and_goes_on_afterwards() -> None:
    Flow = flow(do("a"), Select("s", On("E", log("e"))), do("b"))  # noqa: N806
    assert play(Flow, pause, unpause, "E")[0].log == ["a", "e", "b"]
    order, execution = start(Flow)
    pc = execution.pc
    pause(order, execution)
    assert (execution.status, execution.pc) == ("paused", pc + 1)
    unpause(order, execution)
    assert (execution.status, execution.pc) == ("waiting", pc + 2)


@pytest.mark.parametrize("threads", [1, 2])
def test_no_step_of_a_paused_instance_runs(threads: int) -> None:
    Flow = flow(*[Go("side", WAIT)][: threads - 1], do("a"), do("b"))  # noqa: N806
    order, execution = Flow(), Execution.start("id-1", Flow)

    def pause_behind_a(kind: str) -> None:
        if kind == "step":
            Machine(order, execution).pause()

    resume(order, execution, pause_behind_a)
    assert (execution.status, order.log) == ("paused", ["a"])
    assert kinds(order, execution) == []
    unpause(order, execution)
    assert execution.status == "running"
    resume(order, execution)
    assert (execution.status, order.log) == ("finished", ["a", "b"])


def test_a_paused_instance_can_be_canceled() -> None:
    Flow = flow(Try("try", WAIT).finally_(*CLEANUP))  # noqa: N806
    assert play(Flow, pause, cancel, "rest", end="canceled")[0].log == ["c1", "c2"]


def test_a_canceled_instance_can_be_paused() -> None:
    Flow = flow(Try("try", WAIT).finally_(*CLEANUP))  # noqa: N806
    assert play(Flow, cancel, pause, unpause, "rest", end="canceled")[0].log == ["c1", "c2"]


def test_timers_are_kept_and_the_time_of_an_activity_begins_anew() -> None:
    Flow = flow(  # noqa: N806
        Go("side", Activity("work", lambda: None, timeout=timedelta(minutes=1))), Sleep("nap", timedelta(hours=1))
    )
    order, execution = Flow(), Execution.start("id-1", Flow)
    machine = Machine(order, execution, NOON)
    machine.settle()
    nap, work = timed(execution.threads[0].waits), the(ActivityWait, execution.threads[1].waits)
    for wait in (nap, work):
        wait.task = "scheduled"
    work.retry_at = NOON
    machine.pause()
    machine.now = NOON + timedelta(days=1)
    machine.unpause()
    assert (nap.deadline, nap.task) == (NOON + timedelta(hours=1), None)
    assert (work.deadline, work.task) == (NOON + timedelta(days=1, minutes=1), None)
    work.retry_at = NOON + timedelta(days=2)
    machine.unpause()
    assert work.deadline == NOON + timedelta(days=2, minutes=1)


@pytest.mark.parametrize("goes_on", [Machine.unpause, Machine.cancel])
def test_after_a_pause_whatever_has_a_deadline_is_scheduled_again(goes_on: Any) -> None:
    """The timers of all cases, also where a setup is due, and also if a cleanup continues because of a cancellation."""
    hour = timedelta(hours=1)
    cases = On("E", Outside()), Timeout("soon", hour), On("F", log("f")), Timeout("late", 2 * hour)
    work = Activity("work", lambda: None, timeout=hour)
    cleanup = Parallel("both", S(Select("s", *cases)), S(work), S(Sleep("nap", 3 * hour)))
    Flow = flow(Try("try", WAIT).finally_(cleanup))  # noqa: N806
    order, execution = start(Flow, now=NOON)
    machine = Machine(order, execution, NOON)
    machine.handled(machine.accept("wait"))
    machine.settle()
    waits = [wait for thread in execution.threads for wait in thread.waits if isinstance(wait, TimedWait)]
    for wait in waits:
        wait.task = "scheduled"
    machine.pause()
    machine.set_time(NOON + 24 * hour)
    goes_on(machine)
    assert {wait.event: (wait.deadline, wait.task) for wait in waits} == {
        "soon": (NOON + hour, None),
        "late": (NOON + 2 * hour, None),
        "nap": (NOON + 3 * hour, None),
        "work": (NOON + 25 * hour, None),
    }
