"""Saves: the state as it is stored, and the changes in memory after a successful save.

Invariant: an execution in memory is changed only by transitions and by a save that has succeeded. ``to_store`` copies
every object that it changes, so a save that fails has no effect in memory. The invariant breaks if ``to_store`` changes
an object that it shares with the execution in memory. ``saved`` changes the threads and waits in place, because work
that is being performed refers to these objects.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace
from datetime import datetime

from workflow_core.execution import Execution, Thread
from workflow_core.machine.state import MachineState
from workflow_core.parked import mapped, side_by_side
from workflow_core.wait_types import TimedWait


def to_store(
    execution: Execution,
    waits: Collection[TimedWait],
    fence: Callable[[TimedWait], str],
    *,
    version: str,
    now: datetime,
    counts: bool = False,
) -> Execution:
    """Returns the execution in the form that a save stores.

    Args:
        waits: the waits whose tasks are created for this save. Each is stored with its ``fence``.
        version: the version of the definition.
        counts: whether the save is a transition of its own, because nothing else has happened since the last save.
    """
    ids = {id(wait) for wait in waits}
    threads = mapped(execution.threads, lambda thread: _fenced(thread, ids, fence)) if ids else execution.threads
    return Execution(  # ``replace`` takes four times as long
        execution.id,
        execution.workflow,
        execution.status,
        execution.pc + counts,
        threads,
        execution.teardowns,
        version,
        execution.error,
        execution.created_at,
        now,
        execution.canceling,
        execution.buffer,
        execution.parent,
        execution.fields_version,
    )


def _fenced(thread: Thread, ids: Collection[int], fence: Callable[[TimedWait], str]) -> Thread:
    if not any(id(wait) in ids for wait in thread.waits):
        return thread
    waits = [
        replace(wait, task=fence(wait)) if isinstance(wait, TimedWait) and id(wait) in ids else wait
        for wait in thread.waits
    ]
    return replace(thread, waits=waits)


def saved(machine: MachineState, stored: Execution) -> None:
    """Reports that ``stored``, a result of ``to_store``, was saved: copies its changes to the execution in memory."""
    execution = machine.execution
    execution.pc, execution.updated_at = stored.pc, stored.updated_at
    execution.definition_version = stored.definition_version
    if stored.threads is execution.threads:
        return
    for thread, stored_thread in side_by_side(execution.threads, stored.threads):
        if stored_thread is not thread:
            for wait, stored_wait in zip(thread.waits, stored_thread.waits, strict=True):
                if isinstance(wait, TimedWait) and isinstance(stored_wait, TimedWait):
                    wait.task = stored_wait.task
