"""Activities and children: work that runs outside the instance while a thread waits for it to end.

Invariant: a late message changes nothing. Each message names the wait that it belongs to, and for an activity also the
attempt. If the thread has left that wait, or the attempt is over, no wait is found. Only this file compares them, so
code that receives a message must call ``activity`` or ``child`` first.

Each attempt of an activity has a deadline, because a worker that dies sends no message. If neither the result nor a
heartbeat arrives before ``ActivityWait.deadline``, the attempt counts as failed. Each new attempt and each heartbeat
sets a new deadline.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic_core import to_json

from workflow_core.events import NO_SIGNS, ActivityContext, ActivitySigns
from workflow_core.execution import Thread
from workflow_core.machine.events import Accepted
from workflow_core.machine.state import MachineState
from workflow_core.machine.transitions import ThreadHappening, WaitHappening, change_wait, check_thread
from workflow_core.machine.unwinding import fail_statement
from workflow_core.machine.waits import attempt_ends, leave_wait
from workflow_core.program.cases import ActivityCase
from workflow_core.stored_parts import ErrorInfo
from workflow_core.value_form import Packed
from workflow_core.wait_types import ActivityWait, ChildWait, Wait


def awaited(machine: MachineState, event: str, wait_id: str, wait_type: type[Wait]) -> Accepted | None:
    """Returns the wait for the end of an activity, or for the start or the end of a child; None if no thread waits for
    it any longer."""
    event = machine.program.event(event)
    for thread in machine.execution.threads:
        for wait in thread.waits:
            if wait.id == wait_id and wait.event == event and isinstance(wait, wait_type):
                case = machine.program.case(thread.step, event)
                return (
                    None if case is None or case.wait_type is not wait_type else Accepted(thread, case, wait_id, wait)
                )
    return None


def activity(machine: MachineState, event: str, wait_id: str, attempt: int) -> Accepted | None:
    """Returns the wait for this attempt of an activity; None if no thread waits for it any longer."""
    found = awaited(machine, event, wait_id, ActivityWait)
    return None if found is None or activity_wait(found).attempt != attempt else found


def child(machine: MachineState, event: str, wait_id: str) -> Accepted | None:
    """Returns the wait for the start or the end of a child; None if no thread waits for it any longer."""
    return awaited(machine, event, wait_id, ChildWait)


def activity_wait(accepted: Accepted) -> ActivityWait:
    """Returns the wait of an accepted activity."""
    assert isinstance(accepted.wait, ActivityWait)
    return accepted.wait


def call_activity(machine: MachineState, accepted: Accepted, signs: ActivitySigns = NO_SIGNS) -> Any:
    """Calls the function of an activity. The return value may be awaitable.

    Args:
        signs: what the function can tell about its attempt, and learn.
    """
    case, wait = accepted.case, activity_wait(accepted)
    assert isinstance(case, ActivityCase)
    spec = case.activity
    arguments: list[Any] = []
    if spec.signature.takes_input:
        arguments.append(spec.signature.load(wait.event, to_json(wait.input)))
    if spec.takes_context:
        execution = machine.execution
        identity = (execution.workflow, execution.id, accepted.thread.id, wait.event, wait.id, wait.attempt + 1)
        arguments.append(ActivityContext(*identity, signs.heartbeat, wait.known_as, signs.report, signs.is_over))
    return spec.function(*arguments)


def heartbeat(machine: MachineState, accepted: Accepted) -> None:
    """Records a heartbeat of an attempt: sets a new deadline."""
    wait = activity_wait(accepted)
    machine.execution.pc += 1
    wait.deadline = attempt_ends(machine, accepted.case)


def report(machine: MachineState, accepted: Accepted, data: Any) -> None:
    """Records what an attempt reports about its progress, as JSON data. If its deadline is the time until the next
    heartbeat, this sets a new one."""
    wait = activity_wait(accepted)
    machine.execution.pc += 1
    wait.progress = data
    if isinstance(accepted.case, ActivityCase) and accepted.case.activity.heartbeat is not None:
        wait.deadline = attempt_ends(machine, accepted.case)


def activity_failed(machine: MachineState, accepted: Accepted, error: ErrorInfo, retry_at: datetime | None) -> None:
    """Records that an attempt of an activity has failed. The next attempt starts at ``retry_at``; if that is None,
    there is none, and the statement fails."""
    if retry_at is None:
        fail_statement(machine, accepted.thread, error)
        return
    wait = activity_wait(accepted)
    change_wait(wait, WaitHappening.ATTEMPT_FAILED)
    machine.execution.pc += 1
    wait.attempt += 1
    wait.retry_at = retry_at
    wait.error = error.text
    wait.progress = None
    wait.task = None
    wait.deadline = attempt_ends(machine, accepted.case, retry_at)


def result(machine: MachineState) -> Packed:
    """Returns the result of a finished instance, for its parent; see ``Workflow.result_json``."""
    machine.touched = True
    return machine.workflow.pack_result()


def child_failed(machine: MachineState, thread: Thread, event: str, error: ErrorInfo) -> None:
    """Records that a child has failed, was canceled or could not be started. The child has ended, so leaving its wait
    does not cancel it."""
    check_thread(thread, ThreadHappening.GIVEN_UP)
    leave_wait(machine.execution, thread, event)
    fail_statement(machine, thread, error)
