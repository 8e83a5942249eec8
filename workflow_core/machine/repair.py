"""What an operator mends in an instance: one that has failed is tried again, a thread is put elsewhere, fields are set.

Each function works in memory, and raises before it has changed anything. It loads, saves and decides nothing; to move
the instance on is the caller's part.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

from pydantic_core import from_json, to_json

from workflow_core.errors import InvalidInput, RepairRefused
from workflow_core.execution import LeaveKind, Status, Thread, ThreadStatus
from workflow_core.machine.interpreter import Machine
from workflow_core.signatures import refuse_infinite_numbers
from workflow_core.workflow import InvalidFields, Workflow, migrated


def retry(machine: Machine) -> None:
    """Lets a failed instance go on from where it failed, with all its attempts; its waits are entered anew. One that
    has failed in a cleanup while it was canceled goes on to be canceled.

    Raises:
        RepairRefused: it has not failed.
    """
    execution = machine.execution
    if execution.status is not Status.FAILED:
        raise RepairRefused(f"{execution.id!r} is {execution.status}: only what has failed can be retried")
    machine.check()
    execution.pc += 1
    execution.error = None
    execution.status = Status.RUNNING
    for thread in execution.threads:
        _begin_anew(thread)
    machine.retry_errors()
    for thread in list(execution.threads) if execution.canceling else ():
        if not thread.parent and thread in execution.threads and not _is_canceled(thread):
            machine.cancel_thread(thread)
    if not execution.ended:
        machine.summarize()


def goto(machine: Machine, thread_id: str, statement: str) -> None:
    """Puts a thread before a step or a wait of its own, as if it had just come there. What it waited for is torn down,
    its attempts count anew. In a ``ForEach`` that it was not in, it begins with the first item.

    Raises:
        RepairRefused: there is no such thread or statement, or the thread may not be put there as things stand.
    """
    execution, program = machine.execution, machine.program
    thread = execution.thread(thread_id)
    if thread is None:
        live = ", ".join(repr(one.id) for one in execution.threads) or "none"
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
    branches = [one.id for one in execution.threads if one.parent == thread_id]
    if branches:
        raise RepairRefused(f"thread {thread_id!r} waits for its branches {', '.join(branches)}: put them elsewhere")
    execution.pc += 1
    machine.leave_wait(thread)
    _begin_anew(thread)
    thread.status, thread.step, thread.pc = ThreadStatus.RESUMING, statement, execution.pc
    thread.pending, thread.leaving = {}, None
    thread.positions.pop(statement, None)
    each = program.at(statement).each
    while each is not None:
        thread.positions.setdefault(each.name, 0)
        each = each.outer
    if execution.live:
        machine.summarize()


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
