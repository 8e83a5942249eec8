"""What becomes of the reasons that wait in ``Thread.pending`` for the end of a cleanup, when another one overtakes them
or when the thread leaves the statement that they are for. ``workflow_core.machine.unwinding`` stores and applies them.
"""

from __future__ import annotations

from dataclasses import replace

from workflow_core.execution import Leave, Thread
from workflow_core.program.code import Guard, Instruction
from workflow_core.stored_parts import LeaveKind


def overdue_of(thread: Thread, guard: Guard) -> Leave | None:
    """Returns the deadline, or the error of another thread, that an error has overtaken which an ``except_`` section of
    the guard is about to catch: it came first, and then a cleanup inside has failed. The one that leads furthest out
    counts."""
    found: Leave | None = None
    around = guard.outer
    while around is not None:
        if (around.late_at >= 0 or around.is_try) and around.depth == guard.depth:  # no cleanup is between them
            found = next((leave for leave in thread.pending.values() if target_of(leave) == around.name), found)
        around = around.outer
    return found


def target_of(leave: Leave) -> str:
    """Returns the name of the statement that a thread leaves for, if it leaves for a certain one."""
    return leave.step if leave.kind is LeaveKind.LATE else leave.until


def left_try(thread: Thread, guard: Guard, leave: Leave) -> Leave:
    """Returns the reason with which a thread goes on that leaves the statements of a ``Try``, or an ``except_`` section
    of it: an error that was thrown there is now caught like any other. Errors that still wait for the end of a cleanup
    inside are forgotten, because another one has overtaken them. The threads that failed with them continue if that
    fails the instance."""
    for name, waiting in list(thread.pending.items()):
        if waiting.until == guard.name:
            del thread.pending[name]
            others = [failed for failed in waiting.failed if failed not in leave.failed]
            leave = replace(leave, failed=[*leave.failed, *others])
    return replace(leave, until="") if leave.until == guard.name else leave


def drop_overtaken(thread: Thread, caught_at: Instruction) -> None:
    """Removes the reasons that waited for the end of a cleanup that has failed itself: they are never continued. Those
    that lead to a certain statement are kept: it may be further out."""
    for name, leave in list(thread.pending.items()):
        if name not in caught_at.cleanups and leave.kind is not LeaveKind.CANCEL and not target_of(leave):
            del thread.pending[name]


def forget(thread: Thread, within: str) -> None:
    """Forgets the deadline of a ``Within`` that a thread leaves."""
    for name, leave in list(thread.pending.items()):
        if leave.kind is LeaveKind.LATE and leave.step == within:
            del thread.pending[name]
