"""Saves: the state as it is stored, and what a save that has succeeded changes in memory.

Invariant: an execution in memory is changed by transitions, and by a save once it has succeeded. ``to_store`` copies
what it changes, so a save that is refused or lost leaves no trace. It breaks if ``to_store`` changes an object that it
shares with the execution in memory. ``saved`` changes the threads and waits in place, because whoever performs work
holds them meanwhile.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from datetime import datetime

from workflow_core.execution import Execution, Thread
from workflow_core.machine.state import MachineState
from workflow_core.wait_types import TimedWait


def to_store(
    execution: Execution, waits: Collection[TimedWait], fence: str, *, version: str, now: datetime, counts: bool = False
) -> Execution:
    """The execution as a save is to store it.

    Args:
        waits: those whose tasks are created for this save; each is stored with its fence.
        version: that of the definition.
        counts: the save is a transition of its own, because nothing else has happened since the last one.
    """
    ids = {id(wait) for wait in waits}
    threads = [_fenced(thread, ids, fence) for thread in execution.threads] if ids else execution.threads
    pc = execution.pc + counts
    return replace(execution, pc=pc, threads=threads, updated_at=now, definition_version=version)


def _fenced(thread: Thread, ids: Collection[int], fence: str) -> Thread:
    if not any(id(wait) in ids for wait in thread.waits):
        return thread
    waits = [
        replace(wait, task=fence) if isinstance(wait, TimedWait) and id(wait) in ids else wait for wait in thread.waits
    ]
    return replace(thread, waits=waits)


def saved(machine: MachineState, stored: Execution) -> None:
    """What ``to_store`` gave was saved."""
    execution = machine.execution
    execution.pc, execution.updated_at = stored.pc, stored.updated_at
    execution.definition_version = stored.definition_version
    for thread, stored_thread in zip(execution.threads, stored.threads, strict=True):
        if stored_thread is not thread:
            for wait, stored_wait in zip(thread.waits, stored_thread.waits, strict=True):
                if isinstance(wait, TimedWait) and isinstance(stored_wait, TimedWait):
                    wait.task = stored_wait.task
