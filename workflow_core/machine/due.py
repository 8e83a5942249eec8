"""Determines what is due in an instance.

``next_work`` changes nothing, so repeated calls return the same work, also in another process that has loaded the same
state. Any process can therefore take over an instance at any time.

Order: moves come first, because a condition that is true now may be false after the next step. Then come teardowns,
setups and buffered events. Steps come last, because they take longest. A failed setup or teardown does not delay the
work after it.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from workflow_core.accidents import is_true
from workflow_core.crowd import Crowd, awake
from workflow_core.error_texts import Place
from workflow_core.execution import Status, Thread, ThreadStatus
from workflow_core.machine.outside_work import ChildCancel, ChildStart, SetupWork, TeardownWork, TellWork
from workflow_core.machine.state import MachineState
from workflow_core.machine.threads import can_fork, live_branches
from workflow_core.machine.values import true_case, value_of
from workflow_core.machine.work import ActivityWork, ConditionMove, DeliveryWork, Move, StepWork, Work
from workflow_core.program.cases import WatchOp
from workflow_core.program.code import ForkOp, Instruction, WaitForOp
from workflow_core.wait_types import (
    ActivityWait,
    ChildWait,
    ConditionWait,
    EventWait,
    HandlerTeardown,
    HandlerWait,
    WaitStatus,
)

# Looking up a member of an enum class takes as long as an instruction, so frequently used members are bound once.
_EXECUTING, _RESUMING, _WAITING = ThreadStatus.EXECUTING, ThreadStatus.RESUMING, ThreadStatus.WAITING
_SET_UP, _PENDING_SETUP = WaitStatus.SET_UP, WaitStatus.PENDING_SETUP
_RUNNING, _IDLE = Status.RUNNING, Status.WAITING


def next_work(machine: MachineState) -> Work | None:
    """Returns the work to do next: moves first, then teardowns, setups, buffered events, and finally a step.

    Returns None if all threads are blocked.
    """
    machine.is_unused = False  # conditions get the fields
    execution = machine.execution
    step: Work | None = None
    setup: Work | None = None
    delivery: Work | None = None
    live: Mapping[str, int] | None = None
    status = execution.status
    watches, alone, has_buffered = machine.program.has_watches, machine.alone, bool(execution.buffer)
    threads = execution.threads
    looked_at = threads if watches else awake(threads)  # a condition may be true for any of them
    for thread in looked_at if status is _RUNNING or status is _IDLE else ():
        thread_status = thread.status
        if thread_status is _WAITING:
            waits = thread.waits
            if waits:
                first = waits[0]
                if watches and _holds_one(machine, thread):
                    return ConditionMove(thread)
                if isinstance(first, ConditionWait):
                    instruction = machine.program.at(thread.step)
                    if isinstance(instruction, ForkOp):
                        live = live_branches(execution) if live is None else live  # counted once for all threads
                    if _holds(machine, thread, instruction, live):
                        return ConditionMove(thread)
                    continue
                if alone and step is None:
                    step = _activity(machine, thread)
                if has_buffered:
                    delivery = delivery or _delivery(machine, thread)
        elif thread_status is _EXECUTING:
            if step is None and (thread.retry_at is None or machine.is_due(thread.retry_at)):
                step = StepWork(thread)
        elif thread_status is _RESUMING:
            return Move(thread)
        else:
            if watches and _holds_one(machine, thread):
                return ConditionMove(thread)
            setup = setup or _setup(machine, thread)
    if type(threads) is Crowd and not watches:
        step = _step(machine, threads) if execution.live else None
    return _teardown(machine) or _tell(machine) or setup or delivery or step


def _step(machine: MachineState, crowd: Crowd) -> Work | None:
    """Returns the first step that is due, or, for a caller that runs activities itself, the first activity."""
    for thread in crowd.working(machine.alone):
        if thread.status is _EXECUTING:
            if machine.is_due(thread.retry_at):
                return StepWork(thread)
        elif thread.status is _WAITING and (activity := _activity(machine, thread)) is not None:
            return activity
    return None


def settle(machine: MachineState) -> Work | None:
    """Performs every move that is due, so that each thread rests on a step or a wait. Returns the work that is then
    due, as ``next_work`` does."""
    while (work := next_work(machine)) is not None and work.is_move:
        work.done(machine, None)
    return work


def _teardown(machine: MachineState) -> Work | None:
    for teardown in machine.execution.teardowns:
        if _is_due(machine, teardown.status, WaitStatus.PENDING_TEARDOWN, teardown.retry_at):
            return TeardownWork(teardown) if isinstance(teardown, HandlerTeardown) else ChildCancel(teardown)
    return None


def _tell(machine: MachineState) -> Work | None:
    execution = machine.execution
    parent = execution.parent
    if parent is None or parent.told or not execution.ended or not machine.is_due(parent.retry_at):
        return None
    return TellWork(parent)


def _holds(machine: MachineState, thread: Thread, instruction: Instruction, live: Mapping[str, int] | None) -> bool:
    try:
        if isinstance(instruction, ForkOp):
            assert live is not None
            return can_fork(machine, thread, instruction, live[thread.id])
        if type(instruction) is WatchOp:
            return False  # its conditions have been looked at
        if not isinstance(instruction, WaitForOp):
            return True
        return is_true(value_of(machine, thread, instruction, instruction.cond), instruction.name)
    except BaseException as error:
        _add_place(machine, instruction, error)
        raise


def _holds_one(machine: MachineState, thread: Thread) -> bool:
    """Whether the thread waits for one of several conditions, and one is true."""
    instruction = machine.program.at(thread.step)
    if type(instruction) is not WatchOp:
        return False
    try:
        return true_case(machine, thread, instruction) is not None
    except BaseException as error:
        _add_place(machine, instruction, error)
        raise


def _add_place(machine: MachineState, instruction: Instruction, error: BaseException) -> None:
    note = f"raised by the condition {instruction.name!r} of workflow {machine.program.workflow!r}"
    error.add_note(Place(instruction.name, note))


def _activity(machine: MachineState, thread: Thread) -> ActivityWork | None:
    """Returns the first activity of the thread that is due, for a caller that runs activities itself."""
    for wait in thread.waits:
        if isinstance(wait, ActivityWait) and machine.is_due(wait.retry_at):
            return ActivityWork(thread, wait)
    return None


def _is_due(machine: MachineState, status: WaitStatus, pending: WaitStatus, retry_at: datetime | None) -> bool:
    # After an error without a time for the next attempt, there is no next attempt.
    return status is pending or (status is not _SET_UP and retry_at is not None and machine.is_due(retry_at))


def _setup(machine: MachineState, thread: Thread) -> Work | None:
    for wait in thread.waits:
        if isinstance(wait, HandlerWait):
            if _is_due(machine, wait.status, _PENDING_SETUP, wait.retry_at):
                return SetupWork(thread, wait)
        elif isinstance(wait, ChildWait) and _is_due(machine, wait.status, _PENDING_SETUP, wait.retry_at):
            return ChildStart(thread, wait)
    return None


def _delivery(machine: MachineState, thread: Thread) -> Work | None:
    """Returns the delivery of the first buffered event that the thread waits for."""
    for kept in machine.execution.buffer:
        for wait in thread.waits:
            if isinstance(wait, EventWait) and wait.buffered and wait.event == kept.event:
                return DeliveryWork(thread, wait)
    return None
