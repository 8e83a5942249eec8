"""Work: one class for each kind of thing that may be due in an instance.

The machine does nothing that takes time. ``workflow_core.machine.due`` says what is due; the caller performs it with
``call`` and reports the result with ``done`` or ``failed``. Each class says which user's code it calls, when that is
tried again, and what a success and a failure mean for the state. Callers go through the methods of ``Machine``. The
classes for what outside systems and other instances are told are in ``workflow_core.machine.outside_work``.

To add a kind: a class here, its place in ``next_work``, what the history says of it (``cloud_adapter.engine.steps``),
and when the instance is woken for it (``cloud_adapter.engine.schedule.due``).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, ClassVar

from workflow_core.error_texts import error_info, error_text
from workflow_core.errors import EventRejected, InvalidInput
from workflow_core.execution import Parent, Thread
from workflow_core.machine.calls import call_activity
from workflow_core.machine.checkpoints import CheckpointKind
from workflow_core.machine.events import (
    Accepted,
    accepted_by,
    first_buffered,
    handle,
    handle_json,
    handled,
    unbuffer,
)
from workflow_core.machine.instructions import note_failed_step, run
from workflow_core.machine.state import MachineState
from workflow_core.machine.threads import start_of
from workflow_core.machine.transitions import ThreadHappening, WaitHappening, check_thread, check_wait
from workflow_core.machine.unwinding import fail_statement
from workflow_core.machine.values import step_context
from workflow_core.machine.waits import leave_wait
from workflow_core.program.code import ActivityCase, StepOp
from workflow_core.retry import Retry
from workflow_core.signatures import is_async as is_async_function
from workflow_core.wait_types import (
    ActivityWait,
    AnyTeardown,
    EventWait,
    RetriedWait,
)


@dataclass(slots=True)
class Work:
    """One thing that is due; of each kind there is a class."""

    kind: ClassVar[CheckpointKind]
    """The kind of its checkpoint."""
    is_move: ClassVar[bool] = False
    """Whether ``done`` performs it, without a ``call``."""
    concerns_others: ClassVar[bool] = False
    """Whether it is about another instance: a child to be started or canceled, or the parent to be told. Then ``call``
    calls nothing."""
    changes_fields: ClassVar[bool] = False
    """Whether the user's code changes the fields; what all other code does to them is forgotten."""
    is_only_noted: ClassVar[bool] = False
    """Whether a failure, even for good, changes nothing else: no thread waits for its success alone."""
    keeps_result: ClassVar[bool] = False
    """Whether what the user's code returns is stored."""

    @property
    def statement(self) -> str:
        """The name of the step, or of the event."""
        raise NotImplementedError

    @property
    def attempt(self) -> int:
        """How often it has failed so far."""
        raise NotImplementedError

    @property
    def thread_id(self) -> str:
        """The id of the thread that it is due for; empty for what belongs to the instance."""
        return ""

    @property
    def select(self) -> str:
        """The name of the select that an event is delivered to."""
        return ""

    def call(self, machine: MachineState) -> Any:
        """Calls the user's code; what it returns may be awaitable."""
        return None

    def is_async(self, machine: MachineState) -> bool:
        """Whether the user's code is a coroutine function."""
        return False

    def timeout(self, machine: MachineState) -> timedelta | None:
        """How long one attempt may take, if that is limited."""
        return None

    def policy(self, machine: MachineState) -> Retry | None:
        """The policy for what has failed, if the definition has one."""
        return None

    def delay(self, policy: Retry, error: BaseException, random: float) -> timedelta | None:
        """How long to wait for the next attempt after it has failed with ``error``; None: it is given up."""
        return policy.delay(self.attempt + 1, error, random)

    def is_refused(self, error: BaseException) -> bool:
        """Whether ``error`` says that the event is not wanted. It is no failure then: the event is dropped."""
        return False

    def handle_result(self, machine: MachineState, result: Any) -> None:
        """Hands what an activity has returned to its ``then``."""

    def done(self, machine: MachineState, result: Any) -> None:
        """It was performed; ``result`` is what the user's code returned."""
        raise NotImplementedError

    def failed(self, machine: MachineState, error: BaseException, retry_at: datetime | None) -> None:
        """An attempt has failed; it is tried again at ``retry_at``."""

    def give_up(self, machine: MachineState, error: BaseException) -> None:
        """It has failed for good."""


# --- of a thread -----------------------------------------------------------------------------


@dataclass(slots=True)
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
        """The thread goes on where the error is caught; otherwise the instance fails."""
        fail_statement(machine, self.thread, error_info(error, self.statement))


@dataclass(slots=True)
class Move(ThreadWork):
    """A thread was started, or started anew, and goes on by itself."""

    kind: ClassVar[CheckpointKind] = CheckpointKind.RESUME
    is_move: ClassVar[bool] = True
    happening: ClassVar[ThreadHappening] = ThreadHappening.RESUMED

    def done(self, machine: MachineState, result: Any) -> None:
        execution, thread = machine.execution, self.thread
        check_thread(thread, self.happening)
        execution.pc += 1
        if thread.waits:
            leave_wait(execution, thread)
        run(machine, thread, start_of(machine, thread))


@dataclass(slots=True)
class ConditionMove(Move):
    """The condition that a thread waits for holds now, or its branches have ended."""

    kind: ClassVar[CheckpointKind] = CheckpointKind.CONDITION
    happening: ClassVar[ThreadHappening] = ThreadHappening.CONDITION


@dataclass(slots=True)
class StepWork(ThreadWork):
    """A step is to be run."""

    kind: ClassVar[CheckpointKind] = CheckpointKind.STEP
    changes_fields: ClassVar[bool] = True

    def call(self, machine: MachineState) -> Any:
        instruction = machine.program.step(self.thread.step)
        if instruction.takes_context:
            return instruction.action(machine.workflow, step_context(machine, self.thread))
        return instruction.action(machine.workflow)

    def is_async(self, machine: MachineState) -> bool:
        step = self._step(machine)
        return step is not None and is_async_function(step.action)

    def timeout(self, machine: MachineState) -> timedelta | None:
        step = self._step(machine)
        return None if step is None else step.timeout

    def policy(self, machine: MachineState) -> Retry | None:
        step = self._step(machine)
        return (step and step.retry) or machine.workflow.default_retry

    def _step(self, machine: MachineState) -> StepOp | None:
        """Its instruction; None if the definition has something else of that name now."""
        instruction = machine.program.at(self.statement)
        return instruction if isinstance(instruction, StepOp) else None

    def done(self, machine: MachineState, result: Any) -> None:
        thread = self.thread
        check_thread(thread, ThreadHappening.STEP_DONE)
        machine.execution.pc += 1
        if thread.attempt:
            thread.attempt = 0
            thread.retry_at = thread.error = None
        machine.allowances = None
        run(machine, thread, machine.program.step(thread.step).next)

    def failed(self, machine: MachineState, error: BaseException, retry_at: datetime | None) -> None:
        """A step without a next attempt stays due."""
        check_thread(self.thread, ThreadHappening.STEP_FAILED)
        note_failed_step(machine, self.thread, error, retry_at)


# --- of a wait -------------------------------------------------------------------------------


@dataclass(slots=True)
class DeliveryWork(ThreadWork):
    """A buffered event is to be delivered. Its handler is a function of the fields: one that fails would fail again.

    So ``failed`` notes nothing: the event stays due until it is given up.
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
        body = first_buffered(machine, event).input.encode()
        return handle(machine, accepted, signature.validate_json(event, body))

    def delay(self, policy: Retry, error: BaseException, random: float) -> timedelta | None:
        return None

    def is_refused(self, error: BaseException) -> bool:
        return isinstance(error, (EventRejected, InvalidInput))

    def done(self, machine: MachineState, result: Any) -> None:
        check_thread(self.thread, ThreadHappening.HAPPENED)
        accepted = _accepted(machine, self.thread, self.statement)
        unbuffer(machine, self.statement)
        handled(machine, accepted)

    def give_up(self, machine: MachineState, error: BaseException) -> None:
        """An event whose error was not caught stays in the buffer."""
        ThreadWork.give_up(self, machine, error)
        if not machine.execution.ended:
            unbuffer(machine, self.statement)


@dataclass(slots=True)
class ActivityWork(ThreadWork):
    """An activity is to be run, by a caller that has nobody else to run it."""

    kind: ClassVar[CheckpointKind] = CheckpointKind.ACTIVITY

    wait: ActivityWait

    @property
    def statement(self) -> str:
        return self.wait.event

    @property
    def attempt(self) -> int:
        return self.wait.attempt

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
            handle_json(machine, accepted, case.activity.signature.output_json(case.event, result))

    def done(self, machine: MachineState, result: Any) -> None:
        handled(machine, _accepted(machine, self.thread, self.statement))

    def failed(self, machine: MachineState, error: BaseException, retry_at: datetime | None) -> None:
        """An activity without a next attempt stays due."""
        check_wait(self.wait, WaitHappening.ATTEMPT_FAILED)
        note_failed_attempt(machine, self.wait, error, retry_at)


def _accepted(machine: MachineState, thread: Thread, event: str) -> Accepted:
    """The wait that a buffered event, or the result of an activity, is for."""
    accepted = accepted_by(machine, thread, event)
    assert accepted is not None
    return accepted


# --- attempts ---------------------------------------------------------------------------------


def note_failed_attempt(
    machine: MachineState, noted: RetriedWait | AnyTeardown | Parent, error: BaseException, retry_at: datetime | None
) -> None:
    """Notes that an attempt has failed, and that the next one is at ``retry_at``."""
    machine.execution.pc += 1
    noted.attempt += 1
    noted.retry_at = retry_at
    noted.error = error_text(error)


def note_success(noted: RetriedWait | Parent) -> None:
    """Forgets the failed attempts."""
    noted.attempt, noted.retry_at, noted.error = 0, None, None
