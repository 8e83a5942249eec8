"""Results: how the caller performs work and reports its result.

* ``done``: the work was performed.
* ``failed``: an attempt failed; another one may follow.
* ``give_up``: the last attempt failed. The thread continues where the error is caught; otherwise the instance fails.
* ``drop``: the handler of a buffered event rejected it.
* ``fail``: the whole instance fails.

Invariant: the state does not contain whether work is in progress. If the caller dies between ``next_work`` and the
report, the same work is due again. User code therefore runs at least once. Each attempt gets the same idempotency key,
because the key is derived from the thread id and the thread's pc, or from the wait id, and these change only when the
result is reported.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from workflow_core.crowd import awake
from workflow_core.error_texts import error_info
from workflow_core.machine.events import unbuffer
from workflow_core.machine.state import MachineState
from workflow_core.machine.transitions import ThreadHappening, WaitHappening, change_thread, change_wait
from workflow_core.machine.unwinding import fail_instance
from workflow_core.machine.work import Work
from workflow_core.retry import Retry
from workflow_core.wait_types import WaitStatus

# --- performing work -------------------------------------------------------------------------


def call(machine: MachineState, work: Work) -> Any:
    """Calls the user's code for ``work``. The return value may be awaitable.

    The machine does not know other instances: for work that concerns a child or the parent, it calls nothing.

    Raises:
        UnknownStatement: the definition no longer contains the statement.
        InvalidInput: a buffered event no longer fits its handler.
        Exception: any error that the user's code raises.
    """
    machine.touched = True
    return work.call(machine)


def is_async(machine: MachineState, work: Work) -> bool:
    """Whether the user's code for ``work`` is a coroutine function."""
    return work.is_async(machine)


def policy(machine: MachineState, work: Work) -> Retry | None:
    """Returns the retry policy for ``work``; None if the definition has none."""
    return work.policy(machine)


def handle_result(machine: MachineState, work: Work, result: Any) -> None:
    """Checks the result of a step, and passes the result of an activity to its ``then``. Call this before ``done``;
    for other work it does nothing.

    Raises:
        ExecutionError: a step or ``then`` returned a value by accident.
        InvalidOutput: the result does not fit the return annotation of the activity.
        InvalidInput: the result does not fit the annotation of ``then``.
        Exception: any error that ``then`` raises.
    """
    work.handle_result(machine, result)


def done(machine: MachineState, work: Work, result: Any = None) -> None:
    """Reports that the work was performed; ``result`` is the return value of the user's code."""
    work.done(machine, result)


# --- failures --------------------------------------------------------------------------------


def failed(machine: MachineState, work: Work, error: BaseException, retry_at: datetime | None = None) -> None:
    """Reports that an attempt has failed. The next attempt is at ``retry_at``; if that is None, a setup or teardown is
    given up.

    A step without a next attempt stays due. To fail the instance, call ``fail``.
    """
    work.failed(machine, error, retry_at)


def retry_errors(machine: MachineState) -> None:
    """Makes failed setups and teardowns due again."""
    for thread in awake(machine.execution.threads):
        for wait in thread.waits:
            if wait.status is WaitStatus.SETUP_ERROR:
                change_wait(wait, WaitHappening.RETRIED)
                change_thread(thread, ThreadHappening.SETUPS_RETRIED)
    for teardown in machine.execution.teardowns:
        change_wait(teardown, WaitHappening.RETRIED)


def drop(machine: MachineState, work: Work) -> None:
    """Reports that the handler of a buffered event rejected it: removes it from the buffer."""
    machine.execution.pc += 1
    unbuffer(machine, work.statement)


def give_up(machine: MachineState, work: Work, error: BaseException) -> None:
    """Reports that the last attempt has failed. The thread continues where the error is caught; otherwise the instance
    fails.

    If the error of a buffered event is not caught, the event stays in the buffer. After the last attempt of a setup or
    teardown, the thread and the instance continue.
    """
    work.give_up(machine, error)


def fail(machine: MachineState, error: BaseException, statement: str = "") -> None:
    """Ends the instance as failed. Its threads keep their positions, and their events are torn down."""
    machine.execution.pc += 1
    fail_instance(machine, error_info(error, statement))


# --- nothing changed -------------------------------------------------------------------------


def tick(machine: MachineState) -> None:
    """Counts a save that changes only the lease of the instance."""
    machine.execution.pc += 1
