"""Operations: what an operator can do to an instance: cancel, pause, unpause, retry, go to a statement, set fields.

Each function works in memory only. If it raises, it has changed nothing. The caller decides whether an instance may be
canceled or paused, and moves it on afterwards.

After ``retry`` and ``goto`` a thread enters its statement anew: its status is RESUMING, and it gets new waits with new
ids, so nothing that was meant for the old ones is taken. After a pause the waits are the old ones, but nobody has
listened to their timers and activities meanwhile. ``unpause`` clears the names of their tasks, so that new tasks are
scheduled. If you add a wait with a deadline, add it there too.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

from pydantic_core import from_json, to_json

from workflow_core.errors import InvalidInput, RepairRefused
from workflow_core.execution import LeaveKind, Status, Thread
from workflow_core.machine.results import retry_errors
from workflow_core.machine.state import MachineState
from workflow_core.machine.threads import branches_of, check
from workflow_core.machine.transitions import ThreadHappening, change_thread
from workflow_core.machine.unwinding import cancel_thread
from workflow_core.machine.waits import attempt_ends, leave_wait, summarize
from workflow_core.signatures import refuse_infinite_numbers
from workflow_core.wait_types import ActivityWait, TimedWait
from workflow_core.workflow import InvalidFields, Workflow, migrated


def cancel(machine: MachineState) -> None:
    """Cancels the instance: every thread leaves what it is in. It is canceled once all ``finally_`` sections have
    come to their end. The caller says before whether it may be."""
    execution = machine.execution
    was_paused = execution.status is Status.PAUSED
    execution.pc += 1
    execution.canceling = True
    execution.buffer = []
    execution.status = Status.RUNNING
    for thread in list(execution.threads):
        # A branch is canceled by the thread that waits for it, unless that is in a finally_ section.
        if not thread.parent and thread in execution.threads and not execution.ended:
            cancel_thread(machine, thread)
    if execution.threads and not execution.ended:
        summarize(execution)
        if was_paused:
            _schedule_again(machine)


def pause(machine: MachineState) -> None:
    """Nothing of the instance moves from now on."""
    machine.execution.pc += 1
    machine.execution.status = Status.PAUSED


def unpause(machine: MachineState) -> None:
    """It goes on."""
    machine.execution.pc += 1
    summarize(machine.execution)
    _schedule_again(machine)


def _schedule_again(machine: MachineState) -> None:
    """What came of timers and activities during a pause was not heard."""
    for thread in machine.execution.threads:
        for wait in thread.waits:
            if isinstance(wait, TimedWait):
                wait.task = None
            if isinstance(wait, ActivityWait):
                start = None if machine.is_due(wait.retry_at) else wait.retry_at
                wait.deadline = attempt_ends(machine, machine.program.select(thread.step).cases[wait.event], start)


def retry(machine: MachineState) -> None:
    """Lets a failed instance go on from where it failed, with all its attempts; its waits are entered anew. One that
    has failed in a cleanup while it was canceled goes on to be canceled.

    Raises:
        RepairRefused: it has not failed.
    """
    execution = machine.execution
    if execution.status is not Status.FAILED:
        raise RepairRefused(f"{execution.id!r} is {execution.status}: only what has failed can be retried")
    check(machine)
    execution.pc += 1
    execution.error = None
    execution.status = Status.RUNNING
    for thread in execution.threads:
        _begin_anew(thread)
    retry_errors(machine)
    for thread in list(execution.threads) if execution.canceling else ():
        if not thread.parent and thread in execution.threads and not _is_canceled(thread):
            cancel_thread(machine, thread)
    if not execution.ended:
        summarize(execution)


def goto(machine: MachineState, thread_id: str, statement: str) -> None:
    """Puts a thread before a step or a wait of its own, as if it had just come there. What it waited for is torn down,
    its attempts count anew. In a ``ForEach`` that it was not in, it begins with the first item.

    Raises:
        RepairRefused: there is no such thread or statement, or the thread may not be put there as things stand.
    """
    execution, program = machine.execution, machine.program
    thread = execution.thread(thread_id)
    if thread is None:
        live = ", ".join(repr(other.id) for other in execution.threads) or "none"
        raise RepairRefused(f"{execution.id!r} has no thread {thread_id!r}: there are {live}")
    if execution.canceling:
        raise RepairRefused(f"{execution.id!r} is being canceled: its threads only run their cleanups")
    within = program.statements_of(thread.name)
    if statement not in within:
        close = difflib.get_close_matches(statement, within, 3) or sorted(within)
        raise RepairRefused(
            f"thread {thread_id!r} can be put before no {statement!r}: it is no step or wait of {thread.name!r}; there "
            f"are {', '.join(map(repr, close[:20]))}"
        )
    branches = [branch.id for branch in branches_of(execution, thread)]
    if branches:
        raise RepairRefused(f"thread {thread_id!r} waits for its branches {', '.join(branches)}: put them elsewhere")
    execution.pc += 1
    leave_wait(execution, thread)
    _begin_anew(thread)
    change_thread(thread, ThreadHappening.PUT)
    thread.step, thread.pc = statement, execution.pc
    thread.pending, thread.leaving = {}, None
    thread.positions.pop(statement, None)
    each = program.at(statement).each
    while each is not None:
        thread.positions.setdefault(each.name, 0)
        each = each.outer
    if execution.live:
        summarize(execution)


def set_fields(cls: type[Workflow], fields: str, version: int, changes: Mapping[str, Any]) -> str:
    """The stored fields of an instance with other values, which are JSON data. What was stored may not fit the types
    any more: what comes out does, and is of the version of the class.

    Args:
        version: that which has stored them, see ``Execution.fields_version``.

    Raises:
        RepairRefused: there is no such field, a value does not fit its type, or the fields cannot be migrated.
        NewerVersion: they are of a newer version.
    """
    unknown = sorted(set(changes) - set(cls.model_fields))
    if unknown:
        there = ", ".join(cls.model_fields)
        raise RepairRefused(f"workflow {cls.__workflow_name__!r} has no field {unknown[0]!r}, but: {there}")
    try:
        workflow = cls.load_fields(to_json(from_json(migrated(cls, fields, version)) | dict(changes)))
        refuse_infinite_numbers("the fields", workflow.model_dump(warnings=False))
    except (InvalidFields, InvalidInput) as error:
        raise RepairRefused(str(error)) from error
    return workflow.dump_fields()


def _begin_anew(thread: Thread) -> None:
    thread.attempt, thread.retry_at, thread.error = 0, None, None


def _is_canceled(thread: Thread) -> bool:
    leaves = [*thread.pending.values(), *([thread.leaving] if thread.leaving is not None else [])]
    return any(leave.kind is LeaveKind.CANCEL for leave in leaves)
