"""Renamed statements: replaces former names in an instance with the current names.

Only names change. The position of the instance, its attempts, ids, deadlines and idempotency keys stay the same. The
program contains the former and the current names; see ``renamed_from`` of the statements.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TypeVar

from workflow_core.execution import Execution, Leave, Thread
from workflow_core.program.program import Program
from workflow_core.wait_types import AnyTeardown, AnyWait, ConditionWait

_T = TypeVar("_T")


def rename(execution: Execution, program: Program) -> None:
    """Replaces all former names in an execution with the current names."""
    for thread in execution.threads:
        _rename_thread(thread, program)
    for teardown in execution.teardowns:
        teardown.step = program.renamed.get(teardown.step, teardown.step)
        _rename_wait(teardown, program)
    for buffered in execution.buffer:
        buffered.event = program.event(buffered.event)


def _rename_thread(thread: Thread, program: Program) -> None:
    renamed = program.renamed
    thread.name = renamed.get(thread.name, thread.name)
    thread.step = renamed.get(thread.step, thread.step)
    for wait in thread.waits:
        _rename_wait(wait, program)
    thread.positions = _rename_keys(thread.positions, program)
    thread.errors = _rename_keys(thread.errors, program)
    thread.pending = _rename_keys(thread.pending, program)
    for leave in (*thread.pending.values(), thread.leaving):
        if isinstance(leave, Leave):
            leave.step = renamed.get(leave.step, leave.step)
            leave.until = renamed.get(leave.until, leave.until)
    thread.covers = [replace(cover, statement=renamed.get(cover.statement, cover.statement)) for cover in thread.covers]


def _rename_wait(wait: AnyWait | AnyTeardown, program: Program) -> None:
    if isinstance(wait, ConditionWait):
        wait.event = program.renamed.get(wait.event, wait.event)
        return
    name = program.event(wait.event)
    if name != wait.event:
        wait.known_as = wait.known_as or wait.event
        wait.event = name


def _rename_keys(kept: dict[str, _T], program: Program) -> dict[str, _T]:
    return {program.renamed.get(name, name): value for name, value in kept.items()}
