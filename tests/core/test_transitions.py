"""The table of the states of threads and waits: reports that it does not contain are rejected, and every change of a
status is in it."""

from __future__ import annotations

import ast
import runpy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given

from tests.core.generate import OPS, SPECS, Op, Spec, build
from tests.core.helpers import NOON
from tests.core.stored_happenings import play
from tests.core.stored_scenarios import SCENARIOS
from tests.core.stored_workflows import WORKFLOWS
from tests.core.test_properties import Run, random_flows
from workflow_core import Execution, Thread, ThreadStatus, WaitStatus
from workflow_core.errors import IllegalTransition
from workflow_core.machine.machine import Machine
from workflow_core.machine.outside_work import ChildCancel, ChildStart, SetupWork, TeardownWork
from workflow_core.machine.transitions import (
    THREAD_TABLE,
    WAIT_TABLE,
    ThreadHappening,
    Unstored,
    WaitHappening,
    change_thread,
    change_wait,
    check_thread,
    check_wait,
)
from workflow_core.machine.work import ActivityWork, ConditionMove, DeliveryWork, Move, StepWork, Work
from workflow_core.wait_types import (
    ActivityWait,
    ChildTeardown,
    ChildWait,
    ConditionWait,
    EventWait,
    HandlerTeardown,
    HandlerWait,
    TimerWait,
)

ROOT = Path(__file__).parents[2]
MACHINE = ROOT / "workflow_core" / "machine"

WAITS: list[Callable[[WaitStatus], Any]] = [
    *(
        lambda status, kind=kind: kind("E", status, "main@1")
        for kind in (EventWait, HandlerWait, TimerWait, ActivityWait, ChildWait, ConditionWait)
    ),
    *(
        lambda status, kind=kind: kind("s", "E", "main@1", False, status=status)
        for kind in (HandlerTeardown, ChildTeardown)
    ),
]

# --- what the table does not have ------------------------------------------------------------


@pytest.mark.parametrize("happening", ThreadHappening)
@pytest.mark.parametrize("status", ThreadStatus)
def test_what_cannot_happen_to_a_thread_is_refused(status: ThreadStatus, happening: ThreadHappening) -> None:
    thread = Thread("main", "main", status, "s", 1)
    following = THREAD_TABLE.get((status, happening))
    if following is None:
        for report in (change_thread, check_thread):
            with pytest.raises(IllegalTransition, match=f"cannot happen to thread 'main' at 's': it is {status}"):
                report(thread, happening)
        assert thread == Thread("main", "main", status, "s", 1)
    elif isinstance(following, ThreadStatus):
        change_thread(thread, happening)
        assert thread == Thread("main", "main", following, "s", 1)
    else:
        assert check_thread(thread, happening) is following
        assert thread.status is status


@pytest.mark.parametrize("make", WAITS)
@pytest.mark.parametrize("happening", WaitHappening)
@pytest.mark.parametrize("status", WaitStatus)
def test_what_cannot_happen_to_a_wait_is_refused(status: WaitStatus, happening: WaitHappening, make: Any) -> None:
    wait = make(status)
    following = WAIT_TABLE.get((status, happening))
    if following is None:
        for report in (change_wait, check_wait):
            with pytest.raises(IllegalTransition, match=f"cannot happen to the wait 'main@1' for 'E': it is {status}"):
                report(wait, happening)
        assert wait == make(status)
    elif isinstance(following, WaitStatus):
        change_wait(wait, happening)
        assert wait == make(following)
    else:
        assert check_wait(wait, happening) is following
        assert wait == make(status)


def reports(order: Any, execution: Execution) -> Iterator[tuple[str, Work]]:
    """All work that could be reported for an instance, due or not, with the thread or wait whose status matters."""
    for thread in execution.threads:
        yield "thread", StepWork(thread)
        yield "thread", Move(thread)
        yield "thread", ConditionMove(thread)
        for wait in thread.waits:
            match wait:
                case HandlerWait():
                    yield "wait", SetupWork(thread, wait)
                case ChildWait():
                    yield "wait", ChildStart(thread, wait)
                case ActivityWait():
                    yield "wait", ActivityWork(thread, wait)
                case EventWait():
                    yield "thread", DeliveryWork(thread, wait)
    for teardown in execution.teardowns:
        work = TeardownWork(teardown) if isinstance(teardown, HandlerTeardown) else ChildCancel(teardown)
        yield "teardown", work


LEGAL = {
    StepWork: {"executing"},
    Move: {"resuming"},
    ConditionMove: {"waiting", "setting_up"},
    SetupWork: {"pending_setup", "setup_error"},
    ChildStart: {"pending_setup", "setup_error"},
    ActivityWork: {"set_up"},
    DeliveryWork: {"waiting", "setting_up"},
    TeardownWork: {"pending_teardown", "teardown_error"},
    ChildCancel: {"pending_teardown", "teardown_error"},
}


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_report_that_cannot_be_changes_nothing(name: str) -> None:
    workflow, before, _ = SCENARIOS[name]
    cls = WORKFLOWS[workflow]
    order = cls()
    execution = play(order, Execution.start("id-1", cls, now=NOON), before)
    stored = execution.to_json(), order.dump_fields()
    for about, work in reports(order, execution):
        if getattr(work, about).status in LEGAL[type(work)]:
            continue
        machine = Machine(order, execution, NOON)
        with pytest.raises(IllegalTransition):
            machine.done(work)
        if not isinstance(work, Move | DeliveryWork):
            with pytest.raises(IllegalTransition):
                machine.failed(work, OSError("down"))
        assert (execution.to_json(), order.dump_fields()) == stored


# --- what happens beside the table -----------------------------------------------------------

MOVING = Unstored.MOVING


@contextmanager
def recorded(seen: set[tuple[str, Any, Any]]) -> Iterator[None]:
    """Records each status of a thread or wait that is assigned, with the one before; None: it is new."""
    with pytest.MonkeyPatch.context() as patch:
        for kind, what in (
            (Thread, "thread"),
            *((kind, "wait") for kind in (EventWait, HandlerWait, TimerWait, ActivityWait, ChildWait, ConditionWait)),
            *((kind, "teardown") for kind in (HandlerTeardown, ChildTeardown)),
        ):

            def record(self: Any, name: str, value: Any, what: str = what) -> None:
                if name == "status":
                    seen.add((what, getattr(self, "status", None), value))
                object.__setattr__(self, name, value)

            patch.setattr(kind, "__setattr__", record)
        yield


def following(table: Any, state: Any) -> set[Any]:
    """The states that may follow, past those that are never stored."""
    found = {then for (now, _), then in table.items() if now is state}
    return found | (following(table, MOVING) if MOVING in found and state is not MOVING else set())


def check(seen: set[tuple[str, Any, Any]]) -> None:
    for what, before, after in seen:
        table = THREAD_TABLE if what == "thread" else WAIT_TABLE
        starts = WaitStatus.SET_UP if what == "teardown" else Unstored.START
        assert after in following(table, starts if before is None else before), (what, before, after)


@pytest.mark.usefixtures("quarters")
@random_flows
@given(SPECS, OPS)
def test_random_instances_change_as_the_table_says(spec: list[Spec], ops: list[Op]) -> None:
    seen: set[tuple[str, Any, Any]] = set()
    with recorded(seen):
        Run(build(spec)).drive(ops)
    check(seen)


def test_what_happens_to_instances_reaches_each_state() -> None:
    """So the check above can fail: without an entry of the table, it does for one of these."""
    seen: set[tuple[str, Any, Any]] = set()
    with recorded(seen):
        for workflow, before, after in SCENARIOS.values():
            cls = WORKFLOWS[workflow]
            order = cls()
            play(order, play(order, Execution.start("id-1", cls, now=NOON), before), after)
    check(seen)
    assert {after for what, _, after in seen if what == "thread"} == set(ThreadStatus)
    assert {after for what, _, after in seen if what != "thread"} == set(WaitStatus)


INLINED = {
    ("instructions.py", "run", "_EXECUTING"),
    ("alone.py", "_run", "_EXECUTING"),
    ("alone.py", "handle_alone", "_EXECUTING"),
    ("waits.py", "park", "status"),
    ("waits.py", "park_for_events", "_WAITING"),
    ("waits.py", "park_for_events", "_SET_UP"),
}
"""The places that assign a status of a thread or a wait themselves, and what they assign."""


def test_only_these_places_assign_a_status_without_the_table() -> None:
    assigned = set()
    for path in MACHINE.glob("*.py"):
        for function in ast.walk(ast.parse(path.read_text())):
            if not isinstance(function, ast.FunctionDef) or path.name == "transitions.py":
                continue
            for node in ast.walk(function):
                for target in node.targets if isinstance(node, ast.Assign) else ():
                    if ast.unparse(target).endswith(".status") and not ast.unparse(target).endswith("execution.status"):
                        assert isinstance(node, ast.Assign)
                        assigned.add((path.name, function.name, ast.unparse(node.value)))
    assert assigned == INLINED
    for happening in (ThreadHappening.REACHED_STEP, ThreadHappening.PARKED, ThreadHappening.PARKED_TO_SET_UP):
        assert (MOVING, happening) in THREAD_TABLE
    assert (
        THREAD_TABLE[ThreadStatus.WAITING, ThreadHappening.HAPPENED] is MOVING
    )  # not looked up in events.handled and in alone.py
    assert THREAD_TABLE[MOVING, ThreadHappening.REACHED_STEP] is ThreadStatus.EXECUTING
    assert {THREAD_TABLE[MOVING, ThreadHappening.PARKED], THREAD_TABLE[MOVING, ThreadHappening.PARKED_TO_SET_UP]} == {
        ThreadStatus.WAITING,
        ThreadStatus.SETTING_UP,
    }


# --- the table itself ------------------------------------------------------------------------


def test_each_state_can_be_reached_and_left() -> None:
    for table, states in ((THREAD_TABLE, ThreadStatus), (WAIT_TABLE, WaitStatus)):
        assert {state for state, _ in table} >= set(states)
        assert set(table.values()) >= set(states)


def test_each_happening_has_an_entry() -> None:
    assert {happening for _, happening in THREAD_TABLE} == set(ThreadHappening)
    assert {happening for _, happening in WAIT_TABLE} == set(WaitHappening)


def test_the_diagrams_in_the_docs_are_those_of_the_table() -> None:
    page = (ROOT / "docs" / "explanation" / "engine.md").read_text()
    assert runpy.run_path(str(ROOT / "docs" / "states.py"))["drawn"](page) == page, "run: python docs/states.py"
