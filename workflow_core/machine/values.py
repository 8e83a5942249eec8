"""Values that come from the workflow: results of its functions, items of a ``ForEach``, the context of a step.

A thread stores its position in each ``ForEach``, never the item. The items are computed again each time they are
needed, so the stored instance stays small and a step sees the item with its current fields. The price: while a thread
works on a collection, it must keep its order and must not shrink. A collection without an order is refused, and a
missing item raises an error. An item that moved to another place goes unnoticed.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from pydantic_core import PydanticSerializationError, to_json

from workflow_core.errors import ExecutionError
from workflow_core.events import StepContext
from workflow_core.execution import Thread
from workflow_core.machine.state import MachineState
from workflow_core.program.code import Each, EachOp, ForkOp, Function, Instruction
from workflow_core.signatures import OfItem


def value_of(machine: MachineState, thread: Thread, instruction: Instruction, function: Function | Any) -> Any:
    """A plain value, or what a function of the workflow gives."""
    if isinstance(function, OfItem):
        return function.function(machine.workflow, item_of(machine, thread, instruction.each)[0])
    return function(machine.workflow) if callable(function) else function


def items_of(machine: MachineState, thread: Thread, loop: Each | EachOp | ForkOp) -> Sequence[Any]:
    """The items of a ``ForEach``."""
    function = loop.items
    assert function is not None
    if isinstance(function, OfItem):
        outer = loop.outer if isinstance(loop, Each) else loop.each
        items = function.function(machine.workflow, item_of(machine, thread, outer)[0])
    else:
        items = function(machine.workflow)
    if isinstance(items, (set, frozenset)) or not hasattr(items, "__iter__"):
        raise ExecutionError(f"ForEach {loop.name!r}: its items are {items!r:.100}, which has no order: return a list")
    return items if isinstance(items, Sequence) else list(items)


def item_of(machine: MachineState, thread: Thread, each: Each | None) -> tuple[Any, int | None]:
    """The item of the innermost ``ForEach`` in which the thread is, and its position."""
    if each is None:
        return None, None
    position = thread.positions.get(each.name, 0)
    items = items_of(machine, thread, each)
    if position >= len(items):
        raise ExecutionError(
            f"ForEach {each.name!r}: item {position} of {len(items)} is gone: let the collection not shrink while "
            f"its items are worked on"
        )
    return items[position], position


def step_context(machine: MachineState, thread: Thread) -> StepContext:
    """What the step that the thread stands on is told."""
    execution = machine.execution
    instruction = machine.program.rests[thread.step]
    where = (execution.workflow, execution.id, thread.id, thread.step, thread.pc, thread.attempt + 1)
    if instruction.each is None and not instruction.caught:
        return StepContext(*where)
    return StepContext(*where, *item_of(machine, thread, instruction.each), thread.errors.get(instruction.caught))


def json_of(value: Any, what: str) -> Any:
    """A value as JSON data.

    Raises:
        ExecutionError: it cannot be; ``what`` names it.
    """
    try:
        return json.loads(to_json(value))
    except PydanticSerializationError as error:
        raise ExecutionError(f"{what} cannot be JSON: {error}") from error
