"""Work that sends something to outside systems and other instances. See ``workflow_core.machine.work``."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, ClassVar

from workflow_core.error_texts import error_info
from workflow_core.execution import Parent
from workflow_core.machine.calls import child_failed
from workflow_core.machine.checkpoints import CheckpointKind
from workflow_core.machine.events import event_handler, request
from workflow_core.machine.instructions import run
from workflow_core.machine.state import MachineState
from workflow_core.machine.transitions import ThreadHappening, WaitHappening, change_wait, check_thread, check_wait
from workflow_core.machine.values import json_of
from workflow_core.machine.waits import leave_wait, rest, summarize
from workflow_core.machine.work import WaitWork, Work, note_failed_attempt, note_success
from workflow_core.records import record
from workflow_core.retry import Retry
from workflow_core.signatures import is_async as is_async_function
from workflow_core.wait_types import (
    AnyTeardown,
    ChildTeardown,
    ChildWait,
    HandlerTeardown,
    HandlerWait,
)

# --- when a thread reaches a wait ------------------------------------------------------------


@record(slots=True)
class _OfSetup(WaitWork):
    wait: HandlerWait | ChildWait

    kind: ClassVar[CheckpointKind] = CheckpointKind.SETUP

    def done(self, machine: MachineState, result: Any) -> None:
        self._check(WaitHappening.SETUP_DONE)
        machine.execution.pc += 1
        change_wait(self.wait, WaitHappening.SETUP_DONE)
        note_success(self.wait)
        rest(self.thread)
        summarize(machine.execution)

    def failed(self, machine: MachineState, error: BaseException, retry_at: datetime | None) -> None:
        self._check(WaitHappening.SETUP_FAILED)
        note_failed_attempt(machine, self.wait, error, retry_at)
        change_wait(self.wait, WaitHappening.SETUP_FAILED)
        rest(self.thread)
        summarize(machine.execution)

    def _check(self, happening: WaitHappening) -> None:
        check_wait(self.wait, happening)
        check_thread(self.thread, ThreadHappening.SETUP_REPORTED)


@record(slots=True)
class SetupWork(_OfSetup):
    """An ``EventHandler`` must be set up. If the setup is given up, the event is not accepted, and the thread waits for
    its other events."""

    is_only_noted: ClassVar[bool] = True

    wait: HandlerWait

    def call(self, machine: MachineState) -> Any:
        handler = event_handler(machine, self.thread.step, self.wait.event)
        return handler.setup(request(machine, self.wait, "setup"))

    def is_async(self, machine: MachineState) -> bool:
        return is_async_function(event_handler(machine, self.thread.step, self.wait.event).setup)

    def handle_result(self, machine: MachineState, result: Any) -> None:
        """Checks that the result can be stored. If not, the setup has failed, and not the instance."""
        self._data(result)

    def done(self, machine: MachineState, result: Any) -> None:
        _OfSetup.done(self, machine, result)
        self.wait.setup_data = self._data(result)

    def _data(self, result: Any) -> Any:
        return json_of(result, f"the result of the setup of {self.wait.event!r}")

    def give_up(self, machine: MachineState, error: BaseException) -> None:
        """Does nothing: the thread waits for its other events."""


@record(slots=True)
class ChildStart(_OfSetup):
    """A child must be started. If it is detached, the thread does not wait for its end."""

    concerns_others: ClassVar[bool] = True

    wait: ChildWait

    def done(self, machine: MachineState, result: Any) -> None:
        if not self.wait.child["detached"]:
            _OfSetup.done(self, machine, result)
            return
        self._check(WaitHappening.SETUP_DONE)
        machine.execution.pc += 1
        machine.allowances = None
        leave_wait(machine.execution, self.thread, self.wait.event)
        run(machine, self.thread, machine.program.select(self.thread.step).cases[self.wait.event].entry)

    def give_up(self, machine: MachineState, error: BaseException) -> None:
        child_failed(machine, self.thread, self.statement, error_info(error, self.statement))


# --- after a thread has left a wait, or the instance has ended -------------------------------


@record(slots=True)
class _OfTeardown(Work):
    teardown: AnyTeardown

    kind: ClassVar[CheckpointKind] = CheckpointKind.TEARDOWN
    is_only_noted: ClassVar[bool] = True

    @property
    def statement(self) -> str:
        return self.teardown.event

    @property
    def attempt(self) -> int:
        return self.teardown.attempt

    def done(self, machine: MachineState, result: Any) -> None:
        check_wait(self.teardown, WaitHappening.TEARDOWN_DONE)
        machine.execution.teardowns.remove(self.teardown)
        machine.execution.pc += 1

    def failed(self, machine: MachineState, error: BaseException, retry_at: datetime | None) -> None:
        check_wait(self.teardown, WaitHappening.TEARDOWN_FAILED)
        note_failed_attempt(machine, self.teardown, error, retry_at)
        change_wait(self.teardown, WaitHappening.TEARDOWN_FAILED)


@record(slots=True)
class TeardownWork(_OfTeardown):
    """An ``EventHandler`` must be torn down."""

    teardown: HandlerTeardown

    def call(self, machine: MachineState) -> Any:
        handler = event_handler(machine, self.teardown.step, self.teardown.event)
        return handler.teardown(request(machine, self.teardown, "teardown"), self.teardown.handled)

    def is_async(self, machine: MachineState) -> bool:
        return is_async_function(event_handler(machine, self.teardown.step, self.teardown.event).teardown)


@record(slots=True)
class ChildCancel(_OfTeardown):
    """A child must be canceled."""

    concerns_others: ClassVar[bool] = True

    teardown: ChildTeardown


@record(slots=True)
class TellWork(Work):
    """The parent must be notified that the instance has ended."""

    kind: ClassVar[CheckpointKind] = CheckpointKind.TELL
    concerns_others: ClassVar[bool] = True

    parent: Parent

    @property
    def statement(self) -> str:
        return self.parent.event

    @property
    def attempt(self) -> int:
        return self.parent.attempt

    def delay(self, policy: Retry, error: BaseException, random: float) -> timedelta:
        """Returns a delay after every failure: the notification is never given up, because the parent may become
        reachable again."""
        return policy.delay(self.attempt + 1, error, random) or policy.max_delay

    def done(self, machine: MachineState, result: Any) -> None:
        machine.execution.pc += 1
        self.parent.told = True
        note_success(self.parent)

    def failed(self, machine: MachineState, error: BaseException, retry_at: datetime | None) -> None:
        note_failed_attempt(machine, self.parent, error, retry_at)
