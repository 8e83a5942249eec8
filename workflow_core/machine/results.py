"""Results: what became of work, as the caller reports it.

* ``done``: the work was performed.
* ``failed``: an attempt failed; another one may follow.
* ``give_up``: the work failed for good. Its thread goes on where the error is caught; otherwise the instance fails.
* ``drop``: a buffered event was refused by its handler.
* ``fail``: the whole instance fails.

Invariant: nothing in the state says that work is under way. If the caller dies between ``next_work`` and the report,
the same work is due again. So user code runs at least once, and each attempt gets the same idempotency key: it is made
of the thread id and the thread's pc, or of the wait id, and these change only when the result is reported.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from workflow_core.error_texts import error_info, error_text
from workflow_core.execution import Parent, Teardown, Thread, ThreadStatus, Wait, WaitKind, WaitStatus
from workflow_core.machine.checkpoints import CheckpointKind
from workflow_core.machine.events import forget_kept, handle_json, handled
from workflow_core.machine.instructions import note_failure, run
from workflow_core.machine.state import MachineState
from workflow_core.machine.threads import start_of
from workflow_core.machine.unwinding import fail_instance, throw
from workflow_core.machine.waits import leave_wait, rest, summarize
from workflow_core.machine.work import MOVES, Work, accepted_work, next_work
from workflow_core.program.code import ActivityCase

# Looking up a member of an enum class costs as much as an instruction: the hot ones are bound once.
_SET_UP = WaitStatus.SET_UP
_STEP_WORK, _EVENT_WORK, _ACTIVITY_WORK = CheckpointKind.STEP, CheckpointKind.EVENT, CheckpointKind.ACTIVITY

# --- it was performed ------------------------------------------------------------------------


def settle(machine: MachineState) -> None:
    """Performs every move that is due, so that each thread rests on a step or a wait."""
    while (work := next_work(machine)) is not None and work.kind in MOVES:
        done(machine, work)


def take_in(machine: MachineState, work: Work, result: Any) -> None:
    """Hands what an activity has returned to its ``then``; call it before ``done``, and for any work.

    Raises:
        InvalidOutput: it does not fit the annotation of the activity.
        InvalidInput: it does not fit that of ``then``.
        Exception: whatever ``then`` raises.
    """
    if work.kind is not _ACTIVITY_WORK:
        return
    accepted = accepted_work(machine, work)
    case = accepted.case
    assert isinstance(case, ActivityCase)
    if case.handler is not None:
        handle_json(machine, accepted, case.activity.signature.output_json(case.event, result))


def done(machine: MachineState, work: Work, result: Any = None) -> None:
    """The work was performed; ``result`` is what the user's code returned."""
    execution = machine.execution
    kind = work.kind
    if kind is _EVENT_WORK or kind is _ACTIVITY_WORK:
        accepted = accepted_work(machine, work)
        if kind is _EVENT_WORK:
            forget_kept(machine, work.statement)
        handled(machine, accepted)
        return
    execution.pc += 1
    thread = work.thread
    if kind is _STEP_WORK:
        assert thread is not None
        if thread.attempt:
            thread.attempt = 0
            thread.retry_at = thread.error = None
        machine.allowances = None
        run(machine, thread, machine.program.step(thread.step).next)
        return
    wait = work.wait
    if wait is None:
        assert thread is not None
        if thread.waits:
            leave_wait(execution, thread)
        run(machine, thread, start_of(machine, thread))
    elif isinstance(wait, Teardown):
        execution.teardowns.remove(wait)
    elif isinstance(wait, Parent):
        wait.told = True
        wait.attempt, wait.retry_at, wait.error = 0, None, None
    else:
        assert thread is not None
        _set_up(machine, thread, wait, result)


def _set_up(machine: MachineState, thread: Thread, wait: Wait, result: Any) -> None:
    """An event was set up, or a child was started; nobody waits for the end of one that is detached."""
    wait.status, wait.setup_data = _SET_UP, result
    wait.attempt, wait.retry_at, wait.error = 0, None, None
    if wait.kind is WaitKind.CHILD and wait.input["detached"]:
        machine.allowances = None
        leave_wait(machine.execution, thread, wait.event)
        run(machine, thread, machine.program.select(thread.step).cases[wait.event].entry)
        return
    rest(thread)
    summarize(machine.execution)


# --- it failed -------------------------------------------------------------------------------


def failed(machine: MachineState, work: Work, error: BaseException, retry_at: datetime | None = None) -> None:
    """The work has failed; it is tried again at ``retry_at``, or, for a setup or teardown, given up if None.

    A step without a next attempt stays due; whether the instance fails is said with ``fail``.
    """
    thread, wait = work.thread, work.wait
    if work.kind is _STEP_WORK:
        assert thread is not None
        note_failure(machine, thread, error, retry_at)
        return
    assert wait is not None
    machine.execution.pc += 1
    wait.attempt += 1
    wait.retry_at = retry_at
    wait.error = error_text(error)
    if isinstance(wait, Teardown):
        wait.status = WaitStatus.TEARDOWN_ERROR
    elif isinstance(wait, Wait) and wait.status is not _SET_UP:
        assert thread is not None
        wait.status = WaitStatus.SETUP_ERROR
        rest(thread)
        summarize(machine.execution)


def retry_errors(machine: MachineState) -> None:
    """Makes setups and teardowns that have failed due again."""
    for thread in machine.execution.threads:
        for wait in thread.waits:
            if wait.status is WaitStatus.SETUP_ERROR:
                wait.status = WaitStatus.PENDING_SETUP
                thread.status = ThreadStatus.SETTING_UP
    for teardown in machine.execution.teardowns:
        teardown.status = WaitStatus.PENDING_TEARDOWN


def drop(machine: MachineState, work: Work) -> None:
    """The buffered event was refused by its handler: it has not happened."""
    machine.execution.pc += 1
    forget_kept(machine, work.statement)


def give_up(machine: MachineState, work: Work, error: BaseException) -> None:
    """The work has failed for good: its thread goes on where that is caught, else the instance fails.

    A buffered event that was not caught stays in the buffer.
    """
    assert work.thread is not None
    throw(machine, work.thread, error_info(error, work.statement))
    if work.kind is _EVENT_WORK and not machine.execution.ended:
        forget_kept(machine, work.statement)


def fail(machine: MachineState, error: BaseException, statement: str = "") -> None:
    """Ends the instance as failed. Its threads stay where they stand; their events are to be torn down."""
    machine.execution.pc += 1
    fail_instance(machine, error_info(error, statement))


# --- nothing changed -------------------------------------------------------------------------


def tick(machine: MachineState) -> None:
    """Counts a save that changes nothing but who holds the instance."""
    machine.execution.pc += 1
