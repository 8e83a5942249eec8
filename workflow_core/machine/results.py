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

from workflow_core.error_texts import error_info
from workflow_core.machine.events import unbuffer
from workflow_core.machine.state import MachineState
from workflow_core.machine.transitions import ThreadHappening, WaitHappening, change_thread, change_wait
from workflow_core.machine.unwinding import fail_instance
from workflow_core.machine.work import Work
from workflow_core.retry import Retry
from workflow_core.wait_types import WaitStatus

# --- performing it ---------------------------------------------------------------------------


def call(machine: MachineState, work: Work) -> Any:
    """Calls the user's code that ``work`` stands for; what it returns may be awaitable.

    What concerns other instances is not known here: for a child, or for the parent, nothing is called.

    Raises:
        UnknownStatement: the definition no longer has the statement.
        InvalidInput: a buffered event does not fit its handler any more.
        Exception: whatever the user's code raises.
    """
    machine.touched = True
    return work.call(machine)


def is_async(machine: MachineState, work: Work) -> bool:
    """Whether the user's code behind ``work`` is a coroutine function."""
    return work.is_async(machine)


def policy(machine: MachineState, work: Work) -> Retry | None:
    """The policy for what has failed, if the definition has one."""
    return work.policy(machine)


def handle_result(machine: MachineState, work: Work, result: Any) -> None:
    """Hands what an activity has returned to its ``then``; call it before ``done``, and for any work.

    Raises:
        InvalidOutput: it does not fit the annotation of the activity.
        InvalidInput: it does not fit that of ``then``.
        Exception: whatever ``then`` raises.
    """
    work.handle_result(machine, result)


def done(machine: MachineState, work: Work, result: Any = None) -> None:
    """The work was performed; ``result`` is what the user's code returned."""
    work.done(machine, result)


# --- it failed -------------------------------------------------------------------------------


def failed(machine: MachineState, work: Work, error: BaseException, retry_at: datetime | None = None) -> None:
    """The work has failed; it is tried again at ``retry_at``, or, for a setup or teardown, given up if None.

    A step without a next attempt stays due; whether the instance fails is said with ``fail``.
    """
    work.failed(machine, error, retry_at)


def retry_errors(machine: MachineState) -> None:
    """Makes setups and teardowns that have failed due again."""
    for thread in machine.execution.threads:
        for wait in thread.waits:
            if wait.status is WaitStatus.SETUP_ERROR:
                change_wait(wait, WaitHappening.RETRIED)
                change_thread(thread, ThreadHappening.SETUPS_RETRIED)
    for teardown in machine.execution.teardowns:
        change_wait(teardown, WaitHappening.RETRIED)


def drop(machine: MachineState, work: Work) -> None:
    """The buffered event was refused by its handler: it has not happened."""
    machine.execution.pc += 1
    unbuffer(machine, work.statement)


def give_up(machine: MachineState, work: Work, error: BaseException) -> None:
    """The work has failed for good: its thread goes on where that is caught, else the instance fails.

    A buffered event that was not caught stays in the buffer. What failed to set up or tear down an event disturbs
    nobody.
    """
    work.give_up(machine, error)


def fail(machine: MachineState, error: BaseException, statement: str = "") -> None:
    """Ends the instance as failed. Its threads stay where they stand; their events are to be torn down."""
    machine.execution.pc += 1
    fail_instance(machine, error_info(error, statement))


# --- nothing changed -------------------------------------------------------------------------


def tick(machine: MachineState) -> None:
    """Counts a save that changes nothing but who holds the instance."""
    machine.execution.pc += 1
