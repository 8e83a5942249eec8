"""Instructions: the loop that moves a thread from one rest to the next.

A thread rests only on a step, on a select, or on a wait for a condition or for branches. Nothing is saved between two
rests, so all instructions between them form one transition. If a function of the workflow raises an error there that
computes an input, a delay, an id, a message or items, it is an error of its statement: the thread continues where that
is caught. If nothing catches it, or if a condition or a handler raised it, the transition did not happen: the caller
discards the fields and the execution, and continues from the last save.

Every transition ends, because the number of instructions that a thread may pass without a step or an event is limited;
see ``workflow_core.machine.allowance``.

``run`` is the hot loop. An interpreter in Python spends most of its time on calls. Loops consist mainly of steps and
conditions, so these are inlined. All other instructions are looked up in a table, and a step that raises an error takes
the general path. An instruction is recognized by its class: CPython reads the class faster than an attribute, and type
checkers understand it.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from inspect import iscoroutine
from typing import Any

from workflow_core.accidents import is_true, refuse_accident
from workflow_core.error_texts import error_info, error_of_class
from workflow_core.errors import AsyncInSyncCall, LoopLimitExceeded
from workflow_core.execution import Leave, Status, Thread, ThreadStatus
from workflow_core.machine.allowance import Allowance
from workflow_core.machine.endless import MOVES_MAX, endless, rested
from workflow_core.machine.frames import keep
from workflow_core.machine.plain import can_catch, note_place, place_of, reach_step, run_code
from workflow_core.machine.sections import call_winner, do, end_section, enter_section, leave_section
from workflow_core.machine.state import MachineState
from workflow_core.machine.threads import branch_count, branches_of, go, start_branches, uncover
from workflow_core.machine.unwinding import catches, depart, finish, tries_again
from workflow_core.machine.values import items_of, true_case, value_of
from workflow_core.machine.waits import park
from workflow_core.program.cases import SelectOp, WatchOp
from workflow_core.program.code import (
    BranchOfItemOp,
    BranchOp,
    CodeOp,
    DoOp,
    EachOp,
    EndOp,
    ExpireOp,
    FailOp,
    ForkOp,
    FrameStepOp,
    GoOp,
    Instruction,
    JumpOp,
    LeaveOp,
    LeftOp,
    OpenOp,
    RaceOp,
    StepOp,
    WaitForOp,
    WithinOp,
    WithoutOp,
)
from workflow_core.stored_parts import LeaveKind

# Looking up a member of an enum class takes as long as an instruction, so frequently used members are bound once.
_EXECUTING = ThreadStatus.EXECUTING
_RUNNING = Status.RUNNING
_ERROR, _CANCEL = LeaveKind.ERROR, LeaveKind.CANCEL
_WON, _LATE = LeaveKind.WON, LeaveKind.LATE


def run(machine: MachineState, thread: Thread, instruction: Instruction, allowance: Allowance | None = None) -> None:
    """Moves the thread from ``instruction`` until it rests or ends.

    Args:
        allowance: its allowance; by default the one that was left when it came to rest.
    """
    if machine.program.is_plain and thread.id not in machine.values:
        _with_locals(machine, thread, instruction)
        return
    workflow = machine.workflow
    if allowance is None and machine.allowances is not None:
        allowance = machine.allowances.get(thread.id)
    moves_left = MOVES_MAX if allowance is None else allowance.left
    while True:
        try:
            if type(instruction) is StepOp:
                execution = machine.execution
                thread.status = _EXECUTING
                thread.step, thread.pc, execution.status = instruction.name, execution.pc, _RUNNING
                break
            if type(instruction) is BranchOp:
                cond = instruction.cond
                if (holds := cond(workflow)) is not True and holds is not False:
                    holds = is_true(holds, instruction.name)
                instruction = instruction.next if holds else instruction.other
            elif type(instruction) is SelectOp:
                park(machine, thread, instruction)
                break
            elif type(instruction) is EndOp:
                finish(machine, thread)
                break
            else:
                allowance = allowance or Allowance()
                allowance.left = moves_left
                if (landed := _MOVES[type(instruction)](machine, thread, instruction, allowance)) is None:
                    break
                instruction, moves_left = landed, allowance.left
            if not (moves_left := moves_left - 1):
                raise endless(thread, allowance)
        except BaseException as error:
            moves_left -= 1
            if (landed := _raised(machine, thread, instruction, error, allowance, moves_left)) is None:
                break
            instruction = landed
    if machine.program.is_plain:
        keep(machine, thread)


def _with_locals(machine: MachineState, thread: Thread, instruction: Instruction) -> None:
    """Runs a thread of a plain definition; see ``workflow_core.machine.frames``."""
    machine.values[thread.id] = {}
    try:
        run(machine, thread, instruction)
    finally:
        machine.values.pop(thread.id, None)


# --- errors of steps -------------------------------------------------------------------------


def refuse_result(result: Any, step: StepOp) -> None:
    if iscoroutine(result):
        result.close()
        raise AsyncInSyncCall(f"{step.name!r} returned a coroutine. Call 'await aresume(...)'")
    refuse_accident(result, f"step {step.name!r}")


def step_raised(machine: MachineState, thread: Thread, instruction: StepOp, error: Exception) -> Instruction | None:
    """Returns where the thread continues if the definition catches the error and allows no further attempt; None if
    the thread has ended.

    Raises:
        Exception: the error itself, if the step has another attempt or nothing catches the error. It is stored in the
            thread.
    """
    if (
        instruction.guard is None
        or tries_again(machine, instruction.retry, 1, error)
        or not catches(machine, thread, instruction, error)
    ):
        note_failed_step(machine, thread, error, None)
        raise error
    machine.execution.pc += 1
    leave = Leave(_ERROR, error_info(error, instruction.name), instruction.name, thread.pc)
    return depart(machine, thread, leave, instruction.guard)


def note_failed_step(machine: MachineState, thread: Thread, error: BaseException, retry_at: datetime | None) -> None:
    """Stores in a thread that its step has failed and is tried again at ``retry_at``."""
    machine.execution.pc += 1
    thread.attempt += 1
    thread.retry_at = retry_at
    thread.error = error_info(error, thread.step)


def _raised(
    machine: MachineState,
    thread: Thread,
    instruction: Instruction,
    error: BaseException,
    allowance: Allowance | None,
    moves_left: int,
) -> Instruction | None:
    """Returns where the thread continues after an error of an instruction; None if the thread has ended.

    Raises:
        BaseException: the error itself, if nothing catches it.
    """
    note_place(machine.program, instruction, error)
    if not can_catch(instruction):
        raise error
    if moves_left <= 0:
        raise endless(thread, allowance) from error
    return _caught(machine, thread, instruction, error)


def _caught(
    machine: MachineState, thread: Thread, instruction: Instruction, error: BaseException
) -> Instruction | None:
    """Returns where the thread continues if the definition catches an error of a function that an instruction asks
    before it changes anything; None if the thread has ended.

    Raises:
        BaseException: the error itself, if nothing catches it.
    """
    is_of_code = isinstance(error, Exception) and not isinstance(error, LoopLimitExceeded)
    if not is_of_code or not catches(machine, thread, instruction, error):
        raise error
    leave = Leave(_ERROR, error_info(error, instruction.name), *place_of(machine, thread, instruction))
    return depart(machine, thread, leave, instruction.guard)


# --- single instructions: each returns where the thread continues; None: it rests or has ended -


def _wait_for(
    machine: MachineState, thread: Thread, instruction: WaitForOp, allowance: Allowance
) -> Instruction | None:
    if not is_true(value_of(machine, thread, instruction, instruction.cond), instruction.name):
        park(machine, thread, instruction)
        rested(machine, thread, allowance, allowance.left - 1)
        return None
    return instruction.next


def _watch(machine: MachineState, thread: Thread, instruction: WatchOp, allowance: Allowance) -> Instruction | None:
    """A select with conditions."""
    if (when := true_case(machine, thread, instruction)) is not None:
        return when.entry
    try:
        park(machine, thread, instruction)
    except Exception as error:  # of a function that computes an input, a delay or an id
        return _caught(machine, thread, instruction, error)
    rested(machine, thread, allowance, allowance.left - 1)
    return None


def _branch_of_item(machine: MachineState, thread: Thread, instruction: BranchOfItemOp, _: Allowance) -> Instruction:
    holds = value_of(machine, thread, instruction, instruction.cond)
    return instruction.next if is_true(holds, instruction.name) else instruction.other


def _jump(machine: MachineState, thread: Thread, instruction: JumpOp, _: Allowance) -> Instruction:
    return instruction.other


def _go(machine: MachineState, thread: Thread, instruction: GoOp, _: Allowance) -> Instruction:
    go(machine, thread, instruction)
    return instruction.next


def _each(machine: MachineState, thread: Thread, instruction: EachOp, allowance: Allowance) -> Instruction:
    """The head of a ``ForEach``: starts the next item, or continues after the loop."""
    name = instruction.name
    position = thread.positions.get(name, 0) + 1
    total = len(items_of(machine, thread, instruction))
    if allowance.round(name, position, total):
        allowance.left = allowance.rounds[name][0]
    if position >= total:
        thread.positions.pop(name, None)
        return instruction.other
    thread.positions[name] = position
    return instruction.next


def _fork(machine: MachineState, thread: Thread, instruction: ForkOp, allowance: Allowance) -> Instruction | None:
    """A parallel statement: parks the thread while any of its branches is live."""
    left = allowance.left
    try:
        total = branch_count(machine, thread, instruction)
    except Exception as error:
        if branches_of(machine.execution, thread):
            raise  # they would be left behind
        return _caught(machine, thread, instruction, error)
    live, is_progress = start_branches(machine, thread, instruction, allowance, total)
    if live:
        park(machine, thread, instruction)
        rested(machine, thread, allowance, left if is_progress else left - 1)
        return None
    thread.positions.pop(instruction.name, None)
    leave, thread.leaving = thread.leaving, None
    if leave is None or leave.kind is _WON:
        if leave is not None and type(instruction) is RaceOp:
            call_winner(machine, thread, instruction, leave.step)
        return instruction.next
    return depart(machine, thread, leave, instruction.guard)


def _open(machine: MachineState, thread: Thread, instruction: OpenOp, _: Allowance) -> Instruction:
    if instruction.counts:
        thread.positions[instruction.name] = -1
    else:
        thread.positions.pop(instruction.name, None)
    thread.pending.pop(instruction.name, None)
    if instruction.covers:
        uncover(machine.execution, thread, instruction.name)
    return instruction.next


def _fail(machine: MachineState, thread: Thread, instruction: FailOp, _: Allowance) -> Instruction | None:
    try:
        message = str(value_of(machine, thread, instruction, instruction.message))
    except Exception as raised:
        return _caught(machine, thread, instruction, raised)
    error = error_of_class(instruction.error, message, instruction.name)
    return depart(machine, thread, Leave(_ERROR, error, instruction.name, machine.execution.pc), instruction.guard)


def _leave(machine: MachineState, thread: Thread, instruction: LeaveOp, _: Allowance) -> Instruction:
    thread.pending[instruction.crossed.name] = Leave(instruction.leave)
    return instruction.crossed.cleanup


def _left(machine: MachineState, thread: Thread, instruction: LeftOp, _: Allowance) -> Instruction | None:
    leave = thread.pending.pop(instruction.name, None)
    if leave is None:
        return instruction.next
    if leave.kind in (_ERROR, _CANCEL, _LATE):
        return depart(machine, thread, leave, instruction.guard)
    if leave.kind not in instruction.exits:
        raise machine.program.unknown(f"{leave.kind.value} out of {instruction.name}")  # removed from the definition
    return instruction.exits[leave.kind]


_MOVES: dict[type[Instruction], Callable[[MachineState, Thread, Any, Allowance], Instruction | None]] = {
    WaitForOp: _wait_for,
    WatchOp: _watch,
    DoOp: do,
    BranchOfItemOp: _branch_of_item,
    CodeOp: run_code,
    FrameStepOp: reach_step,
    JumpOp: _jump,
    GoOp: _go,
    EachOp: _each,
    ForkOp: _fork,
    RaceOp: _fork,
    OpenOp: _open,
    FailOp: _fail,
    LeaveOp: _leave,
    LeftOp: _left,
    WithinOp: enter_section,
    WithoutOp: leave_section,
    ExpireOp: end_section,
}
"""The instructions that ``run`` does not inline."""
