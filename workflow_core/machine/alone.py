"""An instance with a single thread, for callers that await nothing: ``resume`` and ``handle_event`` of the library. One
of many threads counts as the only one while all others just wait for events (``Crowd``).

Most of what happens to such an instance is a step, a condition, an event with a plain handler, a wait for such events,
or the end. The functions here make these transitions on the execution itself. An interpreter in Python spends most of
its time on calls and on creating objects, so there is no ``Machine``, no search for what is due, and no object for what
was found.

Invariant: the transitions and their order are those of ``Machine``. For everything else, and for errors, the functions
create a ``Machine`` and go on with it. They must therefore look at each part of the state that could make anything but
the next step of the only thread due, and stop when another thread starts and when the checkpoint callback changes the
instance. What depends on the definition alone is prepared in ``Program.alone`` and ``Program.handlers``.
``tests/core/test_properties.py`` compares them with the machine.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from workflow_core.accidents import is_true, refuse_accident
from workflow_core.crowd import Crowd
from workflow_core.execution import Execution, Status, Thread, ThreadStatus
from workflow_core.machine.allowance import Allowance
from workflow_core.machine.checkpoints import Checkpoint, CheckpointKind
from workflow_core.machine.endless import MOVES_MAX
from workflow_core.machine.instructions import refuse_result, run, step_raised
from workflow_core.machine.machine import Machine
from workflow_core.machine.plain import note_place
from workflow_core.machine.threads import close
from workflow_core.machine.values import step_context
from workflow_core.machine.waits import park_for_events
from workflow_core.program.cases import SelectOp
from workflow_core.program.code import BranchOp, EndOp, Instruction, StepOp
from workflow_core.wait_types import EventWait, WaitStatus
from workflow_core.workflow import Workflow

# Looking up a member of an enum class takes as long as an instruction, so frequently used members are bound once.
_EXECUTING, _RESUMING = ThreadStatus.EXECUTING, ThreadStatus.RESUMING
_RUNNING, _IDLE, _FINISHED = Status.RUNNING, Status.WAITING, Status.FINISHED
_RESUME_WORK, _STEP_WORK = CheckpointKind.RESUME, CheckpointKind.STEP
_SET_UP = WaitStatus.SET_UP

_PASSED_MAX: Final = MOVES_MAX - 1
"""How many branches a thread passes here. ``run`` tells whether it may pass another one."""

NOT_ALONE: Final = object()
"""What ``handle_alone`` returns if it has done nothing."""


# --- steps -----------------------------------------------------------------------------------


def resume_alone(
    workflow: Workflow,
    execution: Execution,
    checkpoint: Checkpoint | None,
    now: datetime | None,
    machine: Machine | None = None,
) -> Machine | None:
    """Runs step after step while the instance has one thread and nothing else is due.

    Args:
        checkpoint: called after each transition.
        now: the current time.
        machine: the machine of the instance, if there is one.

    Returns:
        None if nothing is due. Otherwise the machine of the instance: work may be due, so call ``next_work``.

    Raises:
        AsyncInSyncCall: a step returned a coroutine. Like any error of a step, it is stored in the thread.
        Exception: any error that a step or a condition raises.
    """
    program, threads = workflow.__program__, execution.threads
    thread = threads[0] if len(threads) == 1 else _lone(workflow, threads)
    if (
        thread is None
        or execution.status is not _RUNNING
        or execution.teardowns
        or execution.canceling
        or execution.workflow != program.workflow
        or execution.definition_version != program.digest
        or execution.fields_version != program.fields_version
        or (now is not None and now.tzinfo is None)
    ):
        return machine or Machine(workflow, execution, now, True)
    if program.unwatched:
        program.refresh(type(workflow), program.unwatched)
    step = program.alone.get(thread.step)
    if step is not None and thread.retry_at is None:
        if thread.status is _EXECUTING and thread.pc == execution.pc:
            return _run(workflow, execution, thread, step, _STEP_WORK, checkpoint, now, machine)
        if thread.status is _RESUMING and not thread.step:
            return _run(workflow, execution, thread, step, _RESUME_WORK, checkpoint, now, machine)
    return machine or Machine(workflow, execution, now, True)


def _lone(workflow: Workflow, threads: list[Thread]) -> Thread | None:
    """Returns the only thread that is at a step if all others just wait for events; otherwise None."""
    if type(threads) is not Crowd or workflow.__program__.has_watches:
        return None
    thread = threads.lone()
    return thread if thread is not None and thread.step else None


def _run(
    workflow: Workflow,
    execution: Execution,
    thread: Thread,
    step: StepOp,
    kind: CheckpointKind,
    checkpoint: Checkpoint | None,
    now: datetime | None,
    machine: Machine | None,
) -> Machine | None:
    """Performs the step, in a transition of ``kind``, and those after it. Returns the same as ``resume_alone``."""
    pc, is_blocked = execution.pc, None
    while True:
        action, passed = step.action, 0  # CPython is slow at calling a slot itself
        try:
            if step.takes_context:
                value = action(workflow, step_context(machine or Machine(workflow, execution, now, True), thread))
            else:
                value = action(workflow)
            if value is not None:
                refuse_result(value, step)
        except Exception as error:
            machine = machine or Machine(workflow, execution, now, True)
            if (landed := step_raised(machine, thread, step, error)) is None:
                break
            instruction, pc = landed, execution.pc
        else:
            instruction = step.next
            pc += 1
            execution.pc = pc
        while type(instruction) is BranchOp and passed < _PASSED_MAX:
            cond = instruction.cond
            try:
                if (holds := cond(workflow)) is not True and holds is not False:
                    holds = is_true(holds, instruction.name)
            except BaseException as error:
                note_place(workflow.__program__, instruction, error)
                raise
            instruction = instruction.next if holds else instruction.other
            passed += 1  # counting down from a large number would create an object for each
        if type(instruction) is StepOp:
            step = instruction
            thread.status = _EXECUTING
            thread.step = step.name
            thread.pc = pc
        elif (is_blocked := _rests(execution, thread, instruction)) is not None:
            break
        else:
            machine = machine or Machine(workflow, execution, now, True)
            if (reached := _step_after(machine, thread, instruction, passed)) is None:
                break
            step, pc = reached, execution.pc
        if checkpoint is not None:
            checkpoint(kind)
            if execution.pc != pc or execution.status is not _RUNNING:  # the callback moved or ended the instance
                return machine or Machine(workflow, execution, now, True)
        kind = _STEP_WORK
    if checkpoint is not None:
        checkpoint(kind)
    return None if is_blocked and execution.pc == pc else machine or Machine(workflow, execution, now, True)


def _rests(execution: Execution, thread: Thread, instruction: Instruction) -> bool | None:
    """Parks the thread on a select, or ends the instance. Returns whether nothing else is due; None if it is at another
    instruction."""
    if type(instruction) is SelectOp and (events := instruction.events) is not None:
        park_for_events(thread, instruction, events, execution.pc)
        execution.status = _IDLE
        return not execution.buffer
    if type(instruction) is EndOp and len(execution.threads) == 1:
        close(execution, _FINISHED)
        return execution.parent is None and not execution.teardowns
    return None


def _step_after(machine: Machine, thread: Thread, instruction: Instruction, passed: int) -> StepOp | None:
    """Moves the thread on as any other is moved. Returns the step that it rests on; None if it does not rest on one, or
    is no longer the only thread."""
    run(machine, thread, instruction, Allowance(MOVES_MAX - passed))
    reached = machine.program.rests.get(thread.step)
    execution = machine.execution
    # A thread with which the instance has failed stands on its step, too.
    if execution.status is not _RUNNING or thread.status is not _EXECUTING or type(reached) is not StepOp:
        return None
    threads = execution.threads
    lone = threads[0] if len(threads) == 1 else _lone(machine.workflow, threads)
    return reached if lone is thread else None


# --- events ----------------------------------------------------------------------------------


def handle_alone(workflow: Workflow, execution: Execution, event: str, input: Any, now: datetime | None) -> Any:
    """Handles an event with a plain handler that the only thread waits for, and moves the thread on.

    Args:
        input: as for ``handle_event``.
        now: the current time.

    Returns:
        The return value of the handler; ``NOT_ALONE`` if something else is to be done. Then nothing was changed.

    Raises:
        InvalidInput: the input does not fit the handler's annotation; nothing was changed.
        Exception: any error that the handler, or a function of the workflow after it, raises.
    """
    program, threads = workflow.__program__, execution.threads
    if (
        (len(threads) != 1 and type(threads) is not Crowd)
        or execution.status is not _IDLE
        or execution.buffer
        or execution.workflow != program.workflow
        or execution.definition_version != program.digest
        or execution.fields_version != program.fields_version
        or (now is not None and now.tzinfo is None)
    ):
        return NOT_ALONE
    thread = threads[0]  # the first one that waits for the event receives it
    cases = program.handlers.get(thread.step)
    if cases is None or (case := cases.get(event)) is None:
        return NOT_ALONE
    is_set_up = False
    for wait in thread.waits:
        if type(wait) is not EventWait or wait.status is not _SET_UP:
            return NOT_ALONE  # an older definition has entered it
        if wait.event == event:
            is_set_up = True
    if not is_set_up:
        return NOT_ALONE
    if program.unwatched:
        program.refresh(type(workflow), program.unwatched)
    handler = case.handler
    if case.takes_input or input is not None:
        output = handler(workflow, case.signature.validate(event, input))
    else:
        output = handler(workflow)
    if output is not None:
        refuse_accident(output, f"the handler of {event!r}")
    execution.pc += 1
    thread.waits = []
    thread.caused_by = ""
    if type(threads) is Crowd:
        threads.woken(thread)
    instruction = case.entry
    if type(instruction) is StepOp:
        thread.status = _EXECUTING
        thread.step = instruction.name
        thread.pc = execution.pc
        execution.status = _RUNNING
    else:
        run(Machine(workflow, execution, now), thread, instruction)
    return output
