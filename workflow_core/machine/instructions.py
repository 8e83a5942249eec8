"""Instructions: the loop that moves a thread from one rest to the next.

A thread rests only on a step, on a select, or on a wait for a condition or for branches. Nothing is saved between two
rests, so all instructions between them form one transition. If a function of the workflow raises there, the transition
did not happen: the caller discards the fields and the execution, and goes on from the last save.

Every transition ends, because the instructions that a thread may pass without a step or an event are counted; see
``workflow_core.machine.allowance``.

``run`` is the hot loop. It is one long function on purpose: most of the time of an interpreter in Python is spent on
calls. Common instructions are inlined, rare ones are found in a table, and a step that raises takes the general path.

``run_alone`` is a shortcut through steps. It makes the same transitions as asking ``next_work`` each time, as long as
nothing but the next step of the only thread can be due. So it must stop when another thread starts, and when the
checkpoint callback changes the instance.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from inspect import iscoroutine

from workflow_core.error_texts import error_info
from workflow_core.errors import AsyncInSyncCall, Failure, LoopLimitExceeded
from workflow_core.execution import Leave, LeaveKind, Status, Thread, ThreadStatus
from workflow_core.machine.allowance import Allowance
from workflow_core.machine.checkpoints import Checkpoint, CheckpointKind
from workflow_core.machine.state import MachineState
from workflow_core.machine.threads import end, go, start_branches, start_of
from workflow_core.machine.unwinding import catches, depart, tries_again
from workflow_core.machine.values import item_of, items_of, step_context, value_of
from workflow_core.machine.waits import park
from workflow_core.program.program import Instruction, Op

MOVES_MAX = 10_000
"""How many instructions a thread may pass without a step or an event before it counts as an endless loop. The rounds
of a ``ForEach`` do not count, as it has an end; see ``workflow_core.machine.allowance``."""

# Looking up a member of an enum class costs as much as an instruction: the hot ones are bound once.
_EXECUTING, _RESUMING = ThreadStatus.EXECUTING, ThreadStatus.RESUMING
_STEP, _SELECT, _WAIT_FOR, _JUMP, _BRANCH = Op.STEP, Op.SELECT, Op.WAIT_FOR, Op.JUMP, Op.BRANCH
_GO, _END, _EACH, _FORK = Op.GO, Op.END, Op.EACH, Op.FORK
_RUNNING = Status.RUNNING
_ERROR, _CANCEL = LeaveKind.ERROR, LeaveKind.CANCEL
_RESUME_WORK, _STEP_WORK = CheckpointKind.RESUME, CheckpointKind.STEP


def run(
    machine: MachineState,
    thread: Thread,
    instruction: Instruction,
    through_steps: bool = False,
    checkpoint: Checkpoint | None = None,
    kind: CheckpointKind | None = None,
) -> None:
    """Moves the thread from an instruction on until it rests or ends.

    Args:
        through_steps: run the steps it comes to as well, until another thread is started; see ``run_alone``.
        checkpoint: called after each transition then.
        kind: the transition that is under way; None if the thread already rests on ``instruction``.
    """
    execution = machine.execution
    workflow = machine.workflow
    moves_left, allowance = MOVES_MAX, None
    if machine.allowances is not None and (allowance := machine.allowances.get(thread.id)) is not None:
        moves_left = allowance.left
    while True:
        op = instruction.op
        if op is _STEP:
            pc = execution.pc
            thread.status = _EXECUTING
            thread.step = instruction.name
            thread.pc = pc
            execution.status = _RUNNING
            if not through_steps:
                break
            if checkpoint is not None and kind is not None:
                checkpoint(kind)
                if execution.pc != pc or execution.status is not _RUNNING:
                    return  # the callback has moved or ended the instance
            kind = _STEP_WORK
            try:
                action = instruction.action
                result = (
                    action(workflow, step_context(machine, thread)) if instruction.takes_context else action(workflow)
                )
                if result is not None and iscoroutine(result):
                    result.close()
                    raise AsyncInSyncCall(f"{thread.step!r} returned a coroutine: call 'await aresume(...)'")
            except Exception as error:
                landed = _step_raised(machine, thread, instruction, error)
                moves_left, allowance = MOVES_MAX, None
                if landed is None:
                    break
                instruction = landed
                continue
            execution.pc = pc + 1
            moves_left, allowance = MOVES_MAX, None
            instruction = instruction.next
            continue
        try:
            if op is _BRANCH:
                cond = instruction.cond  # bound first: CPython is slow to call what it finds in a slot
                instruction = instruction.next if cond(workflow) else instruction.other
            elif op is _SELECT:
                park(machine, thread, instruction)
                break
            elif op is _END:
                end(machine, thread)
                break
            elif op is _JUMP:
                instruction = instruction.other
            elif op is _GO:
                go(machine, thread, instruction)
                through_steps = False
                instruction = instruction.next
            elif op is _WAIT_FOR:
                if not value_of(machine, thread, instruction, instruction.cond):
                    park(machine, thread, instruction)
                    _rested(machine, thread, allowance, moves_left - 1)
                    break
                if instruction.handler is not None:
                    machine.touched = True
                    instruction.handler(workflow)
                instruction = instruction.next
            elif op is _EACH:
                allowance = allowance or Allowance()
                allowance.left = moves_left
                instruction = _each(machine, thread, instruction, allowance)
                moves_left = allowance.left
            else:
                if op is _FORK:
                    through_steps = False
                    landed = _fork(machine, thread, instruction, allowance or Allowance(), moves_left)
                else:
                    landed = _RARE[op](machine, thread, instruction)
                if landed is None:
                    break
                instruction = landed
            moves_left -= 1
            if not moves_left:
                raise _endless(thread, allowance)
        except BaseException as error:
            error.add_note(f"raised at {instruction.name!r} of workflow {machine.program.workflow!r}")
            raise
    if checkpoint is not None and kind is not None:
        checkpoint(kind)


def run_alone(machine: MachineState, checkpoint: Checkpoint | None) -> bool:
    """Moves the instance on from step to step while it has one thread and nothing else is due.

    The short way for a caller that awaits nothing: the same transitions as with ``next_work``, ``call`` and
    ``done``, in the same order, but what is due next is not looked for, as only the next step can be.

    Args:
        checkpoint: called after each transition.

    Returns:
        Whether nothing is due any more. False says nothing: ask ``next_work``.

    Raises:
        AsyncInSyncCall: a step returned a coroutine. Like any error of a step, it is noted in the thread.
        Exception: whatever a step or a condition raises.
    """
    execution = machine.execution
    threads = execution.threads
    if len(threads) != 1 or execution.status is not _RUNNING or execution.teardowns or execution.buffer:
        return False
    thread = threads[0]
    if thread.attempt or thread.retry_at is not None or thread.waits:
        return False
    if thread.status is _RESUMING:
        execution.pc += 1
        run(machine, thread, start_of(machine, thread), True, checkpoint, _RESUME_WORK)
    else:
        step = machine.program.rests.get(thread.step)
        if step is None or step.op is not _STEP or thread.pc != execution.pc:
            return False
        run(machine, thread, step, True, checkpoint)
    if execution.status is _RUNNING or execution.teardowns or execution.buffer or execution.parent is not None:
        return False
    waits = thread.waits
    return not waits or not waits[0].is_moved_by_resume


# --- a step that raised ----------------------------------------------------------------------


def _step_raised(
    machine: MachineState, thread: Thread, instruction: Instruction, error: Exception
) -> Instruction | None:
    """Where the thread goes on if the definition catches the error and gives no further attempt; None: it has ended.

    Raises:
        Exception: the error, noted in the thread, if it is the caller's.
    """
    if (
        instruction.guard is None
        or tries_again(machine, instruction.retry, 1, error)
        or not catches(machine, thread, instruction, error)
    ):
        note_failure(machine, thread, error, None)
        raise error
    machine.execution.pc += 1
    leave = Leave(_ERROR, error_info(error, instruction.name), instruction.name, thread.pc)
    return depart(machine, thread, leave, instruction.guard)


def note_failure(machine: MachineState, thread: Thread, error: BaseException, retry_at: datetime | None) -> None:
    """Notes in a thread that its step has failed, and is tried again at ``retry_at``."""
    machine.execution.pc += 1
    thread.attempt += 1
    thread.retry_at = retry_at
    thread.error = error_info(error, thread.step)


# --- endless loops ---------------------------------------------------------------------------


def _rested(machine: MachineState, thread: Thread, allowance: Allowance | None, left: int) -> None:
    """Keeps what is left to a thread that rests on what may be true at once."""
    if left <= 0:
        raise _endless(thread, allowance)
    allowance = allowance or Allowance()
    allowance.left, allowance.has_rested = left, True
    if machine.allowances is None:
        machine.allowances = {}
    machine.allowances[thread.id] = allowance


def _endless(thread: Thread, allowance: Allowance | None) -> LoopLimitExceeded:
    passed = f"thread {thread.id!r} passed {MOVES_MAX} instructions without reaching a step or a"
    if allowance is not None and allowance.has_rested:
        return LoopLimitExceeded(
            f"{passed}n event: a loop there never ends, or threads make each other's conditions true for ever; put "
            f"a Step or a Select on their way"
        )
    return LoopLimitExceeded(
        f"{passed} wait: a loop there never ends; put a Step, Select or WaitFor on every way through it"
    )


# --- single instructions: where the thread goes on after one; None: it rests or has ended ------


def _each(machine: MachineState, thread: Thread, instruction: Instruction, allowance: Allowance) -> Instruction:
    """The head of a ``ForEach``: its next item, or what stands behind it."""
    name = instruction.name
    position = thread.positions.get(name, -1) + 1
    total = len(items_of(machine, thread, instruction))
    if allowance.round(name, position, total):
        allowance.left = allowance.rounds[name][0]
    if position >= total:
        thread.positions.pop(name, None)
        return instruction.other
    thread.positions[name] = position
    return instruction.next


def _fork(
    machine: MachineState, thread: Thread, instruction: Instruction, allowance: Allowance, moves_left: int
) -> Instruction | None:
    """A parallel statement: parks the thread while any of its branches lives."""
    live, is_progress = start_branches(machine, thread, instruction, allowance, moves_left)
    if live:
        park(machine, thread, instruction)
        _rested(machine, thread, allowance, moves_left if is_progress else moves_left - 1)
        return None
    thread.positions.pop(instruction.name, None)
    leave, thread.leaving = thread.leaving, None
    return instruction.next if leave is None else depart(machine, thread, leave, instruction.guard)


def _branch_of_item(machine: MachineState, thread: Thread, instruction: Instruction) -> Instruction:
    holds = instruction.cond(machine.workflow, item_of(machine, thread, instruction.each)[0])
    return instruction.next if holds else instruction.other


def _open(machine: MachineState, thread: Thread, instruction: Instruction) -> Instruction:
    thread.positions.pop(instruction.name, None)
    thread.pending.pop(instruction.name, None)
    return instruction.next


def _fail(machine: MachineState, thread: Thread, instruction: Instruction) -> Instruction | None:
    message = str(value_of(machine, thread, instruction, instruction.message))
    error = error_info(Failure(message), instruction.name)
    return depart(machine, thread, Leave(_ERROR, error, instruction.name, machine.execution.pc), instruction.guard)


def _leave(machine: MachineState, thread: Thread, instruction: Instruction) -> Instruction:
    assert instruction.guard is not None
    thread.pending[instruction.guard.name] = Leave(instruction.leave)
    return instruction.guard.cleanup


def _left(machine: MachineState, thread: Thread, instruction: Instruction) -> Instruction | None:
    leave = thread.pending.pop(instruction.name, None)
    if leave is None:
        return instruction.next
    if leave.kind in (_ERROR, _CANCEL):
        return depart(machine, thread, leave, instruction.guard)
    if leave.kind not in instruction.exits:
        raise machine.program.unknown(f"{leave.kind.value} out of {instruction.name}")
    return instruction.exits[leave.kind]


_RARE: dict[Op, Callable[[MachineState, Thread, Instruction], Instruction | None]] = {
    Op.BRANCH_OF_ITEM: _branch_of_item,
    Op.OPEN: _open,
    Op.FAIL: _fail,
    Op.LEAVE: _leave,
    Op.LEFT: _left,
}
