"""Work: one class for each kind of work that may be due in an instance.

The machine does nothing that takes time. ``workflow_core.machine.due`` determines what is due; the caller performs it
with ``call`` and reports the result with ``done`` or ``failed``. Each class defines which user code it calls, when that
is retried, and how a success and a failure change the state. Callers use the methods of ``Machine``. The classes for
work that concerns outside systems and other instances are in ``workflow_core.machine.outside_work``.

To add a kind: add a class here, add it to ``next_work``, to the history (``cloud_adapter.engine.steps``) and to the
times at which an instance is resumed (``cloud_adapter.engine.schedule.due``).
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, ClassVar

from workflow_core.accidents import refuse_accident
from workflow_core.error_texts import error_info, error_text
from workflow_core.errors import EventRejected, InvalidInput
from workflow_core.execution import Parent, Thread
from workflow_core.machine.calls import call_activity
from workflow_core.machine.checkpoints import CheckpointKind
from workflow_core.machine.events import (
    Accepted,
    accepted_by,
    buffered_input,
    first_buffered,
    handle,
    handle_json,
    handled,
    unbuffer,
)
from workflow_core.machine.instructions import note_failed_step, run
from workflow_core.machine.passing import pack_result
from workflow_core.machine.state import MachineState
from workflow_core.machine.threads import start_of
from workflow_core.machine.transitions import ThreadHappening, WaitHappening, check_thread, check_wait
from workflow_core.machine.unwinding import fail_statement, watch_again
from workflow_core.machine.values import Frame, step_context
from workflow_core.machine.waits import leave_wait
from workflow_core.principal import Principal
from workflow_core.program.cases import ActivityCase
from workflow_core.program.code import FrameStepOp, StepOp
from workflow_core.records import record
from workflow_core.retry import Retry
from workflow_core.wait_types import (
    ActivityWait,
    AnyTeardown,
    EventWait,
    RetriedWait,
)


@record(slots=True)
class Work:
    """One piece of work that is due. Each kind has a class."""

    kind: ClassVar[CheckpointKind]
    """The kind of its checkpoint."""
    is_move: ClassVar[bool] = False
    """Whether ``done`` performs it, without a ``call``."""
    concerns_others: ClassVar[bool] = False
    """Whether it concerns another instance: it starts or cancels a child, or notifies the parent. ``call`` then calls
    nothing."""
    changes_fields: ClassVar[bool] = False
    """Whether the user's code may change the fields. If False, its changes to them are discarded."""
    is_only_noted: ClassVar[bool] = False
    """Whether a failure is only stored, even that of the last attempt, because no thread depends on its success."""

    @property
    def statement(self) -> str:
        """The name of the step, or of the event."""
        raise NotImplementedError

    @property
    def attempt(self) -> int:
        """How often it has failed."""
        raise NotImplementedError

    @property
    def thread_id(self) -> str:
        """The id of the thread that it is due for; empty if it belongs to the instance."""
        return ""

    @property
    def select(self) -> str:
        """The name of the select that an event is delivered to."""
        return ""

    def call(self, machine: MachineState) -> Any:
        """Calls the user's code. The return value may be awaitable."""
        return None

    def sender(self, machine: MachineState) -> Principal | None:
        """Returns who sent the event that is delivered; None for other work."""
        return None

    def is_async(self, machine: MachineState) -> bool:
        """Whether the user's code is a coroutine function."""
        return False

    def timeout(self, machine: MachineState) -> timedelta | None:
        """Returns how long one attempt may take; None if there is no limit."""
        return None

    def policy(self, machine: MachineState) -> Retry | None:
        """Returns its retry policy; None if the definition has none."""
        return None

    def delay(self, policy: Retry, error: BaseException, random: float) -> timedelta | None:
        """Returns the delay before the next attempt after it has failed with ``error``; None if it is given up."""
        return policy.delay(self.attempt + 1, error, random)

    def is_refused(self, error: BaseException) -> bool:
        """Whether ``error`` rejects the event. This is not a failure: the event is dropped."""
        return False

    def handle_result(self, machine: MachineState, result: Any) -> None:
        """Checks the result of a step; passes the result of an activity to its ``then``."""

    def done(self, machine: MachineState, result: Any) -> None:
        """Reports that it was performed; ``result`` is the return value of the user's code."""
        raise NotImplementedError

    def failed(self, machine: MachineState, error: BaseException, retry_at: datetime | None) -> None:
        """Reports that an attempt has failed. The next attempt is at ``retry_at``."""

    def give_up(self, machine: MachineState, error: BaseException) -> None:
        """Reports that the last attempt has failed."""


# --- of a thread -----------------------------------------------------------------------------


@record(slots=True)
class ThreadWork(Work):
    """Work that is due for one thread."""

    thread: Thread

    @property
    def statement(self) -> str:
        return self.thread.step

    @property
    def attempt(self) -> int:
        return self.thread.attempt

    @property
    def thread_id(self) -> str:
        return self.thread.id

    def give_up(self, machine: MachineState, error: BaseException) -> None:
        """The thread continues where the error is caught; otherwise the instance fails."""
        fail_statement(machine, self.thread, error_info(error, self.statement))


@record(slots=True)
class Move(ThreadWork):
    """A thread was started or restarted, and can move."""

    kind: ClassVar[CheckpointKind] = CheckpointKind.RESUME
    is_move: ClassVar[bool] = True
    happening: ClassVar[ThreadHappening] = ThreadHappening.RESUMED

    def done(self, machine: MachineState, result: Any) -> None:
        execution, thread = machine.execution, self.thread
        check_thread(thread, self.happening)
        execution.pc += 1
        if machine.principal is not None:
            thread.caused_by = machine.principal.id
        if thread.waits:
            leave_wait(execution, thread)
        if machine.program.has_deadlines and not isinstance(self, ConditionMove):
            watch_again(machine, thread)
        run(machine, thread, start_of(machine, thread))


@record(slots=True)
class ConditionMove(Move):
    """The condition that a thread waits for is true, its branches have ended, or more of them may start."""

    kind: ClassVar[CheckpointKind] = CheckpointKind.CONDITION
    happening: ClassVar[ThreadHappening] = ThreadHappening.CONDITION


@record(slots=True)
class StepWork(ThreadWork):
    """A step must be run."""

    kind: ClassVar[CheckpointKind] = CheckpointKind.STEP
    changes_fields: ClassVar[bool] = True

    def call(self, machine: MachineState) -> Any:
        instruction = machine.program.step(self.thread.step)
        if type(instruction) is FrameStepOp:
            return instruction.action.function(machine.workflow, Frame(machine, self.thread, instruction.each))
        if instruction.takes_context:
            return instruction.action(machine.workflow, step_context(machine, self.thread))
        return instruction.action(machine.workflow)

    def is_async(self, machine: MachineState) -> bool:
        step = self._step(machine)
        return step is not None and step.is_async

    def timeout(self, machine: MachineState) -> timedelta | None:
        step = self._step(machine)
        return None if step is None else step.timeout

    def policy(self, machine: MachineState) -> Retry | None:
        step = self._step(machine)
        return (step and step.retry) or machine.workflow.default_retry

    def _step(self, machine: MachineState) -> StepOp | None:
        """Returns its instruction; None if another kind of statement has this name now."""
        instruction = machine.program.at(self.statement)
        return instruction if isinstance(instruction, StepOp) else None

    def handle_result(self, machine: MachineState, result: Any) -> None:
        refuse_accident(result, f"step {self.statement!r}")

    def done(self, machine: MachineState, result: Any) -> None:
        thread = self.thread
        check_thread(thread, ThreadHappening.STEP_DONE)
        machine.execution.pc += 1
        if thread.attempt:
            thread.attempt = 0
            thread.retry_at = thread.error = None
        machine.allowances = None
        machine.awaited = result
        run(machine, thread, machine.program.step(thread.step).next)

    def failed(self, machine: MachineState, error: BaseException, retry_at: datetime | None) -> None:
        """Reports a failed attempt. A step without a next attempt stays due."""
        check_thread(self.thread, ThreadHappening.STEP_FAILED)
        note_failed_step(machine, self.thread, error, retry_at)


# --- of a wait -------------------------------------------------------------------------------


@record(slots=True)
class WaitWork(ThreadWork):
    """Work for a wait that stores its failed attempts."""

    wait: RetriedWait

    @property
    def statement(self) -> str:
        return self.wait.event

    @property
    def attempt(self) -> int:
        return self.wait.attempt


@record(slots=True)
class DeliveryWork(ThreadWork):
    """A buffered event must be delivered.

    Its handler depends only on the fields, so another attempt would fail as well. ``failed`` therefore stores nothing:
    the event stays due until it is given up.
    """

    kind: ClassVar[CheckpointKind] = CheckpointKind.EVENT
    changes_fields: ClassVar[bool] = True

    wait: EventWait

    @property
    def statement(self) -> str:
        return self.wait.event

    @property
    def attempt(self) -> int:
        return 0

    @property
    def select(self) -> str:
        return self.thread.step

    def call(self, machine: MachineState) -> Any:
        accepted = _accepted(machine, self.thread, self.statement)
        event, signature = accepted.case.event, accepted.case.signature
        assert signature is not None
        value = buffered_input(machine, signature, event)
        machine.principal = self.sender(machine)
        try:
            return handle(machine, accepted, value)
        finally:
            machine.principal = None

    def sender(self, machine: MachineState) -> Principal | None:
        return first_buffered(machine, self.statement).principal

    def delay(self, policy: Retry, error: BaseException, random: float) -> timedelta | None:
        return None

    def is_refused(self, error: BaseException) -> bool:
        return isinstance(error, (EventRejected, InvalidInput))

    def done(self, machine: MachineState, result: Any) -> None:
        check_thread(self.thread, ThreadHappening.HAPPENED)
        accepted = _accepted(machine, self.thread, self.statement)
        machine.principal = self.sender(machine)
        unbuffer(machine, self.statement)
        handled(machine, accepted)
        machine.principal = None

    def give_up(self, machine: MachineState, error: BaseException) -> None:
        """See ``ThreadWork.give_up``. If the error is not caught, the event stays in the buffer."""
        ThreadWork.give_up(self, machine, error)
        if not machine.execution.ended:
            unbuffer(machine, self.statement)


@record(slots=True)
class ActivityWork(WaitWork):
    """An activity must be run by the caller itself."""

    kind: ClassVar[CheckpointKind] = CheckpointKind.ACTIVITY

    wait: ActivityWait

    def call(self, machine: MachineState) -> Any:
        return call_activity(machine, _accepted(machine, self.thread, self.statement))

    def policy(self, machine: MachineState) -> Retry | None:
        case = _accepted(machine, self.thread, self.statement).case
        return (case.activity.retry if isinstance(case, ActivityCase) else None) or machine.workflow.default_retry

    def handle_result(self, machine: MachineState, result: Any) -> None:
        accepted = _accepted(machine, self.thread, self.statement)
        case = accepted.case
        assert isinstance(case, ActivityCase)
        if case.handler is not None:
            handle_json(machine, accepted, pack_result(case, result))

    def done(self, machine: MachineState, result: Any) -> None:
        handled(machine, _accepted(machine, self.thread, self.statement))

    def failed(self, machine: MachineState, error: BaseException, retry_at: datetime | None) -> None:
        """Reports a failed attempt. An activity without a next attempt stays due."""
        check_wait(self.wait, WaitHappening.ATTEMPT_FAILED)
        note_failed_attempt(machine, self.wait, error, retry_at)


def _accepted(machine: MachineState, thread: Thread, event: str) -> Accepted:
    """Returns the wait for a buffered event or for the result of an activity."""
    accepted = accepted_by(machine, thread, event)
    assert accepted is not None
    return accepted


# --- attempts ---------------------------------------------------------------------------------


def note_failed_attempt(
    machine: MachineState, noted: RetriedWait | AnyTeardown | Parent, error: BaseException, retry_at: datetime | None
) -> None:
    """Stores that an attempt has failed and that the next one is at ``retry_at``."""
    machine.execution.pc += 1
    noted.attempt += 1
    noted.retry_at = retry_at
    noted.error = error_text(error)


def note_success(noted: RetriedWait | Parent) -> None:
    """Resets the failed attempts."""
    noted.attempt, noted.retry_at, noted.error = 0, None, None
