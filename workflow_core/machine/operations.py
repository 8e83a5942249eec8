"""Operations that an operator can perform on an instance: cancel, terminate, pause, unpause, retry, go to a statement,
set fields.

Each function works in memory only. If it raises an error, it has changed nothing. The caller decides whether an
instance may be canceled or paused, and moves it on afterwards.

After ``retry`` and ``goto``, a thread enters its statement again: its status is RESUMING, and it gets new waits with
new ids. Messages for the old waits are therefore not accepted. After a pause, a thread keeps its waits, but the
messages of their timers and activities during the pause were ignored. ``unpause`` therefore clears the names of their
tasks, so that new tasks are scheduled. If you add a kind of wait with a deadline, handle it there too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic_core import from_json, to_json

from workflow_core.crowd import CROWD_MIN
from workflow_core.errors import InvalidFields, InvalidInput, RepairRefused, UnknownStatement
from workflow_core.execution import Status, Thread, ThreadStatus
from workflow_core.inputs import refuse_unusable
from workflow_core.machine.results import retry_errors
from workflow_core.machine.state import MachineState
from workflow_core.machine.threads import branches_of, check, end_all, gather, start_of
from workflow_core.machine.transitions import ThreadHappening, change_thread
from workflow_core.machine.unwinding import cancel_thread, watch_again
from workflow_core.machine.waits import attempt_ends, leave_wait, summarize
from workflow_core.migration import migrated
from workflow_core.program.code import loops_around
from workflow_core.statements.local_keys import is_argument
from workflow_core.stored_parts import LeaveKind
from workflow_core.wait_types import ActivityWait, ChildTeardown, TimedWait
from workflow_core.workflow import Workflow


def cancel(machine: MachineState) -> None:
    """Cancels the instance: every thread leaves all statements that it is in. The instance has the status ``canceled``
    once all ``finally_`` sections have ended. The caller checks before the call whether the instance may be canceled.
    """
    execution = machine.execution
    was_paused = execution.status is Status.PAUSED
    execution.pc += 1
    execution.canceling = True
    execution.buffer = []
    execution.status = Status.RUNNING
    if len(execution.threads) >= CROWD_MIN:
        gather(execution)
    for thread in list(execution.threads):
        # A branch is canceled through the thread that waits for it, unless that thread is in a finally_ section.
        is_own = not (thread.parent or thread.watches)  # a timer ends with the section that it is for
        if is_own and thread in execution.threads and not execution.ended:
            cancel_thread(machine, thread)
    if execution.threads and not execution.ended:
        summarize(execution)
        if was_paused:
            _schedule_again(machine)


def terminate(machine: MachineState) -> None:
    """Ends the instance as canceled, without its ``finally_`` sections and without tearing down its events. Its
    children are still canceled. If it has ended, what is left of its cleanup is given up, children included."""
    execution = machine.execution
    execution.pc += 1
    if execution.ended:
        execution.teardowns = []
        return
    end_all(execution, Status.CANCELED)
    execution.teardowns = [left for left in execution.teardowns if isinstance(left, ChildTeardown)]


def pause(machine: MachineState) -> None:
    """Pauses the instance: no thread moves until it is unpaused."""
    machine.execution.pc += 1
    machine.execution.status = Status.PAUSED


def unpause(machine: MachineState) -> None:
    """Continues a paused instance."""
    machine.execution.pc += 1
    summarize(machine.execution)
    _schedule_again(machine)


def _schedule_again(machine: MachineState) -> None:
    """Makes the caller schedule all timers and activities again, because their messages during a pause were ignored."""
    for thread in machine.execution.threads:
        for wait in thread.waits:
            if isinstance(wait, TimedWait):
                wait.task = None
            if isinstance(wait, ActivityWait):
                start = None if machine.is_due(wait.retry_at) else wait.retry_at
                wait.deadline = attempt_ends(machine, machine.program.select(thread.step).cases[wait.event], start)


def retry(machine: MachineState) -> None:
    """Continues a failed instance where it failed, with all attempts of its policy. It enters its waits again. If it
    failed in a cleanup while it was being canceled, the cancellation continues.

    Raises:
        RepairRefused: the instance has not failed.
    """
    execution = machine.execution
    if execution.status is not Status.FAILED:
        raise RepairRefused(f"{execution.id!r} is {execution.status}: only failed instances can be retried")
    check(machine)
    execution.pc += 1
    execution.error = None
    execution.status = Status.RUNNING
    for thread in execution.threads:
        _begin_anew(thread)
    retry_errors(machine)
    for thread in list(execution.threads):
        if thread.status is ThreadStatus.EXECUTING:  # others enter their statement again, and adjust their timers then
            watch_again(machine, thread)
    for thread in list(execution.threads) if execution.canceling else ():
        is_own = not (thread.parent or thread.watches)
        if is_own and thread in execution.threads and not _is_canceled(thread):
            cancel_thread(machine, thread)
    if not execution.ended:
        summarize(execution)


def goto(machine: MachineState, thread_id: str, statement: str) -> None:
    """Moves a thread to one of its steps or waits, as if it had just reached it. Its current waits are torn down, and
    its attempts are counted from the start. In a ``ForEach`` that it was not in, it begins with the first item.

    Raises:
        RepairRefused: there is no such thread or statement, or the thread cannot be moved in its current state.
    """
    execution, program = machine.execution, machine.program
    thread = execution.thread(thread_id)
    if thread is None:
        live = ", ".join(repr(other.id) for other in execution.threads) or "none"
        raise RepairRefused(f"{execution.id!r} has no thread {thread_id!r}. Available: {live}")
    if execution.canceling:
        raise RepairRefused(f"{execution.id!r} is being canceled: its threads only run their finally_ sections")
    statements = program.statements_of(thread.name)
    if statement not in statements:
        from difflib import get_close_matches  # here, because only this error needs it

        close = get_close_matches(statement, statements, 3) or sorted(statements)
        raise RepairRefused(
            f"cannot move thread {thread_id!r} to {statement!r}: {thread.name!r} has no such step or wait. Available: "
            f"{', '.join(map(repr, close[:20]))}"
        )
    branches = [branch.id for branch in branches_of(execution, thread)]
    if branches:
        raise RepairRefused(
            f"cannot move thread {thread_id!r}: it waits for its branches. Move them instead: {', '.join(branches)}"
        )
    for local in program.at(statement).kept:
        if is_argument(local.key, statement) and local.stored_key(thread.locals) is None:
            raise RepairRefused(
                f"cannot move thread {thread_id!r} to {statement!r}: it does not have {local.in_words}, which run "
                f"computes before that. Move it to a statement in front of {statement!r}"
            )
    execution.pc += 1
    leave_wait(execution, thread)
    _begin_anew(thread)
    change_thread(thread, ThreadHappening.PUT)
    thread.positions = _positions_at(machine, thread, statement)
    thread.step, thread.pc = statement, execution.pc
    thread.pending, thread.leaving = {}, None
    thread.errors = {name: error for name, error in thread.errors.items() if name in machine.program.sections}
    if execution.live:
        summarize(execution)


def _positions_at(machine: MachineState, thread: Thread, statement: str) -> dict[str, int]:
    """Returns the positions of a thread that is moved to a statement. It may have left loops without their end, and
    their positions remain until it enters them again."""
    try:
        left = [each.name for each in loops_around(start_of(machine, thread))]
    except UnknownStatement:  # it may have been in any of them
        left = list(thread.positions)
    kept = {name: thread.positions[name] for name in left if name in thread.positions}
    return {each.name: kept.get(each.name, 0) for each in loops_around(machine.program.at(statement))}


def set_fields(cls: type[Workflow], fields: str, version: int, changes: Mapping[str, Any]) -> str:
    """Returns the stored fields of an instance with changed values.

    The stored fields need not fit the types of the class, for example after a code change. The returned fields fit
    them and have the version of the class.

    Args:
        version: the version of the workflow that stored the fields; see ``Execution.fields_version``.
        changes: the new values, as JSON data.

    Raises:
        RepairRefused: there is no such field, a value does not fit its type, or the fields cannot be migrated.
        NewerVersion: a newer version of the workflow stored the fields.
    """
    unknown = sorted(set(changes) - set(cls.model_fields))
    if unknown:
        known = ", ".join(cls.model_fields)
        raise RepairRefused(f"workflow {cls.__workflow_name__!r} has no field {unknown[0]!r}. Available: {known}")
    try:
        workflow = cls.load_fields(to_json(from_json(migrated(cls, fields, version)) | dict(changes)))
        refuse_unusable("the fields", {name: getattr(workflow, name) for name in changes})
        dumped = workflow.dump_fields()
        workflow.refuse_changes(cls.load_fields(dumped))
    except (InvalidFields, InvalidInput) as error:
        raise RepairRefused(str(error)) from error
    return dumped


def _begin_anew(thread: Thread) -> None:
    thread.attempt, thread.retry_at, thread.error = 0, None, None


def _is_canceled(thread: Thread) -> bool:
    leaves = [*thread.pending.values(), *([thread.leaving] if thread.leaving is not None else [])]
    return any(leave.kind is LeaveKind.CANCEL for leave in leaves)
