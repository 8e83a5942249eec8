"""Work: what is due in an instance, and how the user's code behind it is called.

The machine does nothing that takes time. ``next_work`` says what is due; the caller performs it with ``call`` and
reports the result with the functions of ``workflow_core.machine.results``. ``next_work`` changes nothing, so it gives
the same answer when it is asked again, also in another process that loaded the same state. This is why any process
can take over an instance at any time.

Order: moves come first, because a condition that holds now may no longer hold after the next step. Then come
teardowns, setups and buffered events, and steps last, because they take longest. A setup or teardown that failed does
not delay the work that comes after it.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from workflow_core.execution import Parent, Status, Teardown, Thread, ThreadStatus, Wait, WaitKind, WaitStatus
from workflow_core.machine.calls import call_activity
from workflow_core.machine.checkpoints import CheckpointKind
from workflow_core.machine.events import Accepted, accepted_by, event_handler, first_kept, handle, request
from workflow_core.machine.state import MachineState
from workflow_core.machine.threads import can_fork, live_branches
from workflow_core.machine.values import step_context, value_of
from workflow_core.program.code import ActivityCase, ForkOp, Instruction, StepOp, WaitForOp
from workflow_core.retry import Retry
from workflow_core.signatures import is_async as is_async_function

# Looking up a member of an enum class costs as much as an instruction: the hot ones are bound once.
_EXECUTING, _RESUMING, _WAITING = ThreadStatus.EXECUTING, ThreadStatus.RESUMING, ThreadStatus.WAITING
_CONDITION, _ACTIVITY = WaitKind.CONDITION, WaitKind.ACTIVITY
_SET_UP, _PENDING_SETUP = WaitStatus.SET_UP, WaitStatus.PENDING_SETUP
_RUNNING, _IDLE = Status.RUNNING, Status.WAITING
_STEP_WORK, _RESUME_WORK = CheckpointKind.STEP, CheckpointKind.RESUME
_EVENT_WORK, _ACTIVITY_WORK = CheckpointKind.EVENT, CheckpointKind.ACTIVITY

MOVES = (CheckpointKind.RESUME, CheckpointKind.CONDITION)
"""The kinds that ``done`` performs without a ``call``."""


@dataclass(slots=True)
class Work:
    """One thing that is due: of ``thread`` (None for a teardown, or for the parent), on ``wait`` (None for a step)."""

    kind: CheckpointKind
    thread: Thread | None
    wait: Wait | Teardown | Parent | None

    @property
    def attempt(self) -> int:
        """How often it has failed so far."""
        return (self.wait or self.thread).attempt  # type: ignore[union-attr]

    @property
    def statement(self) -> str:
        """The name of the step, or of the event."""
        return self.wait.event if self.wait is not None else self.thread.step  # type: ignore[union-attr]

    @property
    def concerns_others(self) -> bool:
        """Whether it is about another instance: a child to be started or canceled, or the parent to be told."""
        wait = self.wait
        return isinstance(wait, Parent) or (
            self.kind is not CheckpointKind.STEP and wait is not None and wait.kind is WaitKind.CHILD
        )


# --- what is due -----------------------------------------------------------------------------


def next_work(machine: MachineState) -> Work | None:
    """What is to be done next: moves first, then teardowns, setups, buffered events, and at last a step.

    None: all are blocked.
    """
    execution = machine.execution
    step: Work | None = None
    setup: Work | None = None
    delivery: Work | None = None
    live: Counter[str] | None = None
    status = execution.status
    for thread in execution.threads if status is _RUNNING or status is _IDLE else ():
        thread_status = thread.status
        if thread_status is _WAITING:
            waits = thread.waits
            if waits:
                kind = waits[0].kind
                if kind is _CONDITION:
                    instruction = machine.program.at(thread.step)
                    if isinstance(instruction, ForkOp):
                        live = live_branches(execution) if live is None else live  # once for all that have branches
                    if _holds(machine, thread, instruction, live):
                        return Work(CheckpointKind.CONDITION, thread, None)
                elif machine.alone and kind is _ACTIVITY:
                    if step is None and machine.is_due(waits[0].retry_at):
                        step = Work(_ACTIVITY_WORK, thread, waits[0])
                elif execution.buffer:
                    delivery = delivery or _delivery(machine, thread)
        elif thread_status is _EXECUTING:
            if step is None and (thread.retry_at is None or machine.is_due(thread.retry_at)):
                step = Work(_STEP_WORK, thread, None)
        elif thread_status is _RESUMING:
            return Work(_RESUME_WORK, thread, None)
        else:
            setup = setup or _setup_due(machine, thread)
    return _outside_due(machine) or setup or delivery or step


def _outside_due(machine: MachineState) -> Work | None:
    """A teardown, or the parent that is to be told of the end."""
    execution = machine.execution
    for teardown in execution.teardowns:
        if _is_pending(machine, teardown.status, WaitStatus.PENDING_TEARDOWN, teardown.retry_at):
            return Work(CheckpointKind.TEARDOWN, None, teardown)
    parent = execution.parent
    if parent is not None and not parent.told and execution.ended and machine.is_due(parent.retry_at):
        return Work(CheckpointKind.TELL, None, parent)
    return None


def _holds(machine: MachineState, thread: Thread, instruction: Instruction, live: Counter[str] | None) -> bool:
    try:
        if isinstance(instruction, ForkOp):
            assert live is not None
            return can_fork(machine, thread, instruction, live[thread.id])
        return not isinstance(instruction, WaitForOp) or bool(value_of(machine, thread, instruction, instruction.cond))
    except BaseException as error:
        error.add_note(f"raised by the condition {instruction.name!r} of workflow {machine.program.workflow!r}")
        raise


def _is_pending(machine: MachineState, status: WaitStatus, pending: WaitStatus, retry_at: datetime | None) -> bool:
    # An error without a next attempt was given up.
    return status is pending or (status is not _SET_UP and retry_at is not None and machine.is_due(retry_at))


def _setup_due(machine: MachineState, thread: Thread) -> Work | None:
    for wait in thread.waits:
        if _is_pending(machine, wait.status, _PENDING_SETUP, wait.retry_at):
            return Work(CheckpointKind.SETUP, thread, wait)
    return None


def _delivery(machine: MachineState, thread: Thread) -> Work | None:
    """The delivery of the first buffered event that the thread waits for."""
    for kept in machine.execution.buffer:
        for wait in thread.waits:
            if wait.buffered and wait.event == kept.event:
                return Work(_EVENT_WORK, thread, wait)
    return None


# --- the user's code behind it ---------------------------------------------------------------


def call(machine: MachineState, work: Work) -> Any:
    """Calls the user's code that ``work`` stands for; what it returns may be awaitable.

    What concerns other instances is not known here: for a child, or for the parent, nothing is called.

    Raises:
        UnknownStatement: the definition no longer has the statement.
        InvalidInput: a buffered event does not fit its handler any more.
        Exception: whatever the user's code raises.
    """
    thread = work.thread
    machine.touched = True
    if work.kind is _STEP_WORK:
        assert thread is not None
        instruction = machine.program.step(thread.step)
        if instruction.takes_context:
            return instruction.action(machine.workflow, step_context(machine, thread))
        return instruction.action(machine.workflow)
    wait = work.wait
    if work.concerns_others:
        return None
    if work.kind is _EVENT_WORK:
        accepted = accepted_work(machine, work)
        assert accepted.case.signature is not None
        body = first_kept(machine, accepted.case.event).input.encode()
        return handle(machine, accepted, accepted.case.signature.validate_json(accepted.case.event, body))
    if work.kind is _ACTIVITY_WORK:
        return call_activity(machine, accepted_work(machine, work))
    if isinstance(wait, Teardown):
        handler = event_handler(machine, wait.step, wait.event)
        return handler.teardown(request(machine, wait, "teardown"), wait.handled)
    assert isinstance(wait, Wait) and thread is not None
    return event_handler(machine, thread.step, wait.event).setup(request(machine, wait, "setup"))


def accepted_work(machine: MachineState, work: Work) -> Accepted:
    """The wait that a buffered event, or the result of an activity, is for."""
    assert work.thread is not None
    accepted = accepted_by(machine, work.thread, work.statement)
    assert accepted is not None
    return accepted


def is_async(machine: MachineState, work: Work) -> bool:
    """Whether the user's code behind ``work`` is a coroutine function."""
    wait = work.wait
    if wait is None:
        step = machine.program.at(work.thread.step)  # type: ignore[union-attr]
        return isinstance(step, StepOp) and is_async_function(step.action)
    if work.concerns_others or work.kind in (_EVENT_WORK, _ACTIVITY_WORK):
        return False
    select = wait.step if isinstance(wait, Teardown) else work.thread.step  # type: ignore[union-attr]
    handler = event_handler(machine, select, wait.event)
    return is_async_function(handler.teardown if isinstance(wait, Teardown) else handler.setup)


def policy(machine: MachineState, work: Work) -> Retry | None:
    """The policy for what has failed, if the definition has one."""
    if work.kind is _STEP_WORK:
        step = machine.program.at(work.statement)
        policy = step.retry if isinstance(step, StepOp) else None
    elif work.kind is _ACTIVITY_WORK:
        case = accepted_work(machine, work).case
        policy = case.activity.retry if isinstance(case, ActivityCase) else None
    else:
        return None
    return policy or machine.workflow.default_retry
