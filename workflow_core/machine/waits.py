"""Waits: how a thread is parked on a wait, and how it leaves the wait.

Invariant: an outside system never keeps a registration that no thread waits for. The wait for an ``EventHandler`` or a
child is saved before its setup is attempted. Leaving the wait saves a teardown, even if it is unknown whether the setup
succeeded, because the response may have been lost. The teardown belongs to the instance, so it outlives the wait and
the thread.

The input of an activity or a child and the deadline of a timeout are computed once, when the thread is parked. Each
attempt must get the same input, even if other threads change the fields in the meantime.

``rest`` and ``summarize`` derive the statuses of a thread and of the instance from the waits. Code that changes a wait
or the list of threads must call them, because an instance with an outdated status is not moved.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from workflow_core.crowd import Crowd, with_id
from workflow_core.errors import DefinitionError
from workflow_core.events import stable_key
from workflow_core.execution import Execution, Status, Thread, ThreadStatus
from workflow_core.machine.passing import pack_fields, pack_input
from workflow_core.machine.state import MachineState
from workflow_core.machine.transitions import ThreadHappening, change_thread
from workflow_core.machine.values import item_of, value_of
from workflow_core.parked import active
from workflow_core.program.cases import ActivityCase, ChildCase, EventCase, HandlerCase, SelectCase, SelectOp, TimerCase
from workflow_core.program.code import Instruction
from workflow_core.shown import SHOWN
from workflow_core.statements.calls import ACTIVITY_TIMEOUT
from workflow_core.stored_parts import WaitKind
from workflow_core.value_form import Packed
from workflow_core.wait_types import (
    ActivityWait,
    AnyWait,
    ChildWait,
    ConditionWait,
    EventWait,
    HandlerWait,
    TimerWait,
    WaitStatus,
)

CALENDAR_START, CALENDAR_END = datetime(1, 1, 2, tzinfo=UTC), datetime(9999, 1, 1, tzinfo=UTC)
"""The deadlines that replace times beyond Python's calendar. They leave some room for calculations."""

# Looking up a member of an enum class takes as long as an instruction, so frequently used members are bound once.
_SETTING_UP, _WAITING = ThreadStatus.SETTING_UP, ThreadStatus.WAITING
_SET_UP, _PENDING_SETUP = WaitStatus.SET_UP, WaitStatus.PENDING_SETUP
_new = object.__new__
_EVENT: Final = WaitKind.EVENT
_RUNNING, _IDLE = Status.RUNNING, Status.WAITING


def park(machine: MachineState, thread: Thread, instruction: Instruction) -> None:
    """Parks a thread on the cases of an instruction; if it has none, on its condition or its branches."""
    execution = machine.execution
    pc, status = execution.pc, _WAITING
    if type(instruction) is SelectOp and (events := instruction.events) is not None:
        park_for_events(thread, instruction, events, pc)
    else:
        waits = _entered(machine, thread, instruction, f"{thread.id}@{pc}")
        for wait in waits:
            if wait.status is _PENDING_SETUP:
                status = _SETTING_UP
        thread.status = status
        thread.step, thread.pc, thread.waits = instruction.name, pc, waits
    if len(execution.threads) == 1:
        execution.status = _IDLE if status is _WAITING else _RUNNING
        return
    if type(execution.threads) is Crowd:
        execution.threads.woken(thread)
    summarize(execution)


def park_for_events(thread: Thread, instruction: SelectOp, events: tuple[tuple[str, bool], ...], pc: int) -> None:
    """Parks a thread on a select that has only ``events`` with plain handlers. ``pc`` is that of the instance."""
    wait_id = f"{thread.id}@{pc}"
    waits: list[AnyWait] = []
    for event, buffered in events:
        wait = _new(EventWait)
        wait.event = event
        wait.kind = _EVENT
        wait.status = _SET_UP
        wait.id = wait_id
        wait.buffered = buffered
        wait.known_as = ""
        waits.append(wait)
    thread.status = _WAITING
    thread.step = instruction.name
    thread.pc = pc
    thread.waits = waits


def _entered(machine: MachineState, thread: Thread, instruction: Instruction, wait_id: str) -> list[AnyWait]:
    """Returns the waits for the cases of any instruction."""
    # The delay of a timer is computed for the thread in whose section it is: with its items and locals.
    asking = with_id(machine.execution.threads, thread.watches) or thread if thread.watches else thread
    cases = instruction.cases.values() if isinstance(instruction, SelectOp) else ()
    waits = [_ENTER[type(case)](machine, asking, instruction, case, wait_id) for case in cases]
    return waits or [ConditionWait(instruction.name, _SET_UP, wait_id)]


def _deadline(machine: MachineState, thread: Thread, instruction: Instruction, case: TimerCase) -> datetime | None:
    delay = value_of(machine, thread, instruction, case.delay)
    try:
        if isinstance(delay, timedelta):
            return None if machine.now is None else machine.now + delay
        if isinstance(delay, datetime) and delay.tzinfo is not None:
            return delay.astimezone(UTC)
    except OverflowError:  # beyond the calendar
        is_ahead = delay > timedelta() if isinstance(delay, timedelta) else delay.year > 1
        return CALENDAR_END if is_ahead else CALENDAR_START
    raise DefinitionError(
        f"{'Sleep' if case.event == instruction.name else 'Timeout'} {case.event!r}",
        f"its delay is {delay!r}",
        "Use a timedelta, or a datetime with a time zone.",
    )


def attempt_ends(machine: MachineState, case: SelectCase, start: datetime | None = None) -> datetime | None:
    """Returns the deadline of an attempt of an activity that is due at ``start`` (None: now)."""
    start = start or machine.now
    return start and start + attempt_limit(case)


def attempt_limit(case: SelectCase) -> timedelta:
    """Returns how long an attempt of an activity may take: in total, or until its next heartbeat."""
    assert isinstance(case, ActivityCase)
    return case.activity.timeout or case.activity.heartbeat or ACTIVITY_TIMEOUT


# --- entering a wait, for each kind of case --------------------------------------------------


def _enter_event(
    machine: MachineState, thread: Thread, instruction: Instruction, case: EventCase, wait_id: str
) -> AnyWait:
    return EventWait(case.event, _SET_UP, wait_id, case.buffered)


def _enter_handler(
    machine: MachineState, thread: Thread, instruction: Instruction, case: HandlerCase, wait_id: str
) -> AnyWait:
    return HandlerWait(case.event, _PENDING_SETUP, wait_id)


def _enter_timer(
    machine: MachineState, thread: Thread, instruction: Instruction, case: TimerCase, wait_id: str
) -> AnyWait:
    return TimerWait(case.event, _SET_UP, wait_id, _deadline(machine, thread, instruction, case))


def _enter_activity(
    machine: MachineState, thread: Thread, instruction: Instruction, case: ActivityCase, wait_id: str
) -> AnyWait:
    input = _activity_input(machine, thread, instruction, case)
    ends = attempt_ends(machine, case)
    return ActivityWait(case.event, _SET_UP, wait_id, ends, input=input.data, shown=input.shown_data)


def _enter_child(
    machine: MachineState, thread: Thread, instruction: Instruction, case: ChildCase, wait_id: str
) -> AnyWait:
    return ChildWait(
        case.event, _PENDING_SETUP, wait_id, child=_child_start(machine, thread, instruction, case, wait_id)
    )


_ENTER: dict[type[SelectCase], Callable[[MachineState, Thread, Instruction, Any, str], AnyWait]] = {
    EventCase: _enter_event,
    HandlerCase: _enter_handler,
    TimerCase: _enter_timer,
    ActivityCase: _enter_activity,
    ChildCase: _enter_child,
}


def _activity_input(machine: MachineState, thread: Thread, instruction: Instruction, case: ActivityCase) -> Packed:
    signature, function = case.activity.signature, case.activity.input
    if not signature.takes_input:
        return Packed(b"null")
    if function is not None:
        value = value_of(machine, thread, instruction, function)
    elif instruction.each is None and signature.has_default:
        value = signature.default
    else:
        value = item_of(machine, thread, instruction.each)[0]
    return pack_input(signature.input_form, value, case.event)


def _child_start(
    machine: MachineState, thread: Thread, instruction: Instruction, case: ChildCase, wait_id: str
) -> dict[str, Any]:
    spec = case.child
    id = value_of(machine, thread, instruction, spec.id)
    if id is None:
        # Drawn once: the id is stored with the wait, and every attempt to start the child reads it there.
        salt = () if machine.salt is None else (machine.salt(),)
        id = stable_key(machine.execution.workflow, machine.execution.id, wait_id, case.event, *salt)
    given = {} if spec.input is None else value_of(machine, thread, instruction, spec.input)
    fields = pack_fields(spec.cls, given, case.event)
    start = {"workflow": spec.workflow, "id": str(id), "fields": fields.data, "detached": spec.detached}
    return start if fields.shown is None else start | {SHOWN: fields.shown_data}


# --- leaving a wait --------------------------------------------------------------------------


def leave_wait(execution: Execution, thread: Thread, event: str | None = None) -> None:
    """Leaves a wait; ``event`` is the event that happened, if one did. Every registration that an outside system may
    know is torn down, even if its setup never finished."""
    for wait in thread.waits:
        if wait.needs_setup and (teardown := wait.left(thread.step, event)) is not None:
            execution.teardowns.append(teardown)
    thread.waits = []
    if type(execution.threads) is Crowd:
        execution.threads.woken(thread)


def rest(thread: Thread) -> None:
    """Updates the status of a parked thread after one of its setups has ended. Others may still be due."""
    pending = any(wait.is_pending() for wait in thread.waits)
    change_thread(thread, ThreadHappening.SETUP_REPORTED if pending else ThreadHappening.SETUPS_ENDED)


def summarize(execution: Execution) -> None:
    """Sets the status of the instance: running if any thread can move, otherwise waiting."""
    threads, status = execution.threads, _IDLE
    if type(threads) is Crowd:
        status = _RUNNING if threads.any_moves() else _IDLE
    else:
        for thread in active(threads):
            if thread.status is not _WAITING:
                status = _RUNNING
                break
    execution.status = status
