"""Ends threads that pass instructions forever; see ``workflow_core.machine.allowance``."""

from __future__ import annotations

from workflow_core.errors import LoopLimitExceeded
from workflow_core.execution import Thread
from workflow_core.machine.allowance import Allowance
from workflow_core.machine.state import MachineState

MOVES_MAX = 10_000
"""How many instructions a thread may pass without a step or an event before it counts as an endless loop. The rounds
of a ``ForEach`` do not count, because it ends; see ``workflow_core.machine.allowance``."""


def rested(machine: MachineState, thread: Thread, allowance: Allowance | None, left: int) -> None:
    """Stores the allowance of a thread that rests on a condition or branches, which may become true immediately."""
    if left <= 0:
        raise endless(thread, allowance)
    allowance = allowance or Allowance()
    allowance.left, allowance.has_rested = left, True
    if machine.allowances is None:
        machine.allowances = {}
    machine.allowances[thread.id] = allowance


def endless(thread: Thread, allowance: Allowance | None) -> LoopLimitExceeded:
    """Returns the error of a thread that has no allowance left."""
    passed = f"thread {thread.id!r} passed {MOVES_MAX} instructions without reaching a step or a"
    if allowance is not None and allowance.has_rested:
        return LoopLimitExceeded(
            f"{passed}n event: it is in an endless loop, or threads make each other's conditions true forever. Put a "
            f"Step or a Select on every path through the loop"
        )
    return LoopLimitExceeded(
        f"{passed} wait: it is in an endless loop. Put a Step, Select or WaitFor on every path through the loop"
    )
