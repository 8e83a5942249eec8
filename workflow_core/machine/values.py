"""Values that come from the workflow: results of its functions, items of a ``ForEach``, the context of a step.

A thread stores its position in each ``ForEach``, never the item. The items are computed again each time they are
needed, so the stored instance stays small and a step sees the current item. In return, a collection must keep its order
and must not shrink while a thread iterates over it. A collection without an order is rejected, and a missing item
raises an error. An item that moved to another position is not detected.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterator, Sequence
from datetime import datetime
from inspect import isgenerator
from typing import Any

from pydantic_core import PydanticSerializationError, to_json

from workflow_core.accidents import is_true, refuse_accident
from workflow_core.comparing import leaves, refuse_halves
from workflow_core.crowd import with_id
from workflow_core.errors import ExecutionError
from workflow_core.events import StepContext, known_time
from workflow_core.execution import Thread
from workflow_core.handler_keywords import ITEM, NOW, PRINCIPAL
from workflow_core.machine.frames import load, pack
from workflow_core.machine.state import MachineState
from workflow_core.program.cases import WatchOp, WhenCase
from workflow_core.program.code import Each, EachOp, ForkOp, Function, Instruction
from workflow_core.secret_values import SECRETS
from workflow_core.signatures import OfFrame, OfItem
from workflow_core.statements.inline import Local
from workflow_core.stored_parts import ErrorInfo


def value_of(machine: MachineState, thread: Thread, instruction: Instruction, function: Function | Any) -> Any:
    """Returns a plain value, or the result of a function of the workflow.

    Raises:
        ExecutionError: the function returned a value by accident.
    """
    if isinstance(function, OfItem):
        value = function.function(machine.workflow, item_of(machine, thread, instruction.each)[0])
    elif isinstance(function, OfFrame):
        value = function.function(machine.workflow, Frame(machine, thread, instruction.each))
    elif callable(function):
        value = function(machine.workflow)
    else:
        return function
    if value is not True and value is not False:
        refuse_accident(value, f"a function of {instruction.name!r}")
    return value


def true_case(machine: MachineState, thread: Thread, instruction: WatchOp) -> WhenCase | None:
    """Returns the first case of a select whose condition is true; None if there is none."""
    for when in instruction.whens:
        if is_true(value_of(machine, thread, instruction, when.cond), when.name):
            return when
    return None


def items_of(machine: MachineState, thread: Thread, loop: Each | EachOp | ForkOp) -> Sequence[Any]:
    """Returns the items of a ``ForEach``."""
    function = loop.items
    assert function is not None
    if isinstance(function, OfItem):
        outer = loop.outer if isinstance(loop, Each) else loop.each
        items = function.function(machine.workflow, item_of(machine, thread, outer)[0])
    elif isinstance(function, OfFrame):
        items = function.function(
            machine.workflow, Frame(machine, thread, loop.outer if isinstance(loop, Each) else loop.each)
        )
    else:
        items = function(machine.workflow)
    if not isinstance(items, Iterator) or isgenerator(items):
        refuse_accident(items, f"the items of ForEach {loop.name!r}: its function")
    is_collection = hasattr(items, "__iter__")
    if isinstance(items, (set, frozenset)) or not is_collection:
        what = "which has no order" if is_collection else "which is no collection"
        raise ExecutionError(f"ForEach {loop.name!r}: its items are {items!r:.100}, {what}. Return a list")
    return items if isinstance(items, Sequence) else list(items)


def item_of(machine: MachineState, thread: Thread, each: Each | None) -> tuple[Any, int | None]:
    """Returns the item of the innermost ``ForEach`` that the thread is in, and its position."""
    if each is None:
        return None, None
    position = thread.positions.get(each.name, 0)
    items = items_of(machine, thread, each)
    if position >= len(items):
        raise ExecutionError(
            f"ForEach {each.name!r}: item {position} does not exist: the collection has length {len(items)}. Do not "
            f"remove items while the loop runs"
        )
    return items[position], position


def keywords(machine: MachineState, thread: Thread, each: Each | None, names: Collection[str]) -> dict[str, Any]:
    """Returns the keyword arguments of these names for a handler inside of ``each``.

    Raises:
        ExecutionError: the handler takes the current time, and the caller of the machine knows none.
    """
    given: dict[str, Any] = {PRINCIPAL: machine.principal} if PRINCIPAL in names else {}
    if ITEM in names:
        given[ITEM] = item_of(machine, thread, each)[0]
    if NOW in names:
        given[NOW] = known_time(machine.now)
    return given


class Frame:
    """What the code of a plain definition sees of its thread.

    Args:
        each: the innermost ``ForEach`` around the code.
    """

    __slots__ = ("_each", "_machine", "_thread")

    def __init__(self, machine: MachineState, thread: Thread, each: Each | None) -> None:
        self._machine = machine
        self._thread = thread
        self._each = each

    def get(self, local: Local) -> Any:
        """Returns the value of a local.

        Raises:
            ExecutionError: see ``frames.load``.
        """
        values = self._machine.values.get(self._thread.id)
        if values is None:
            return load(self._thread, local)
        if local.key not in values:
            values[local.key] = load(self._thread, local)
        return values[local.key]

    def put(self, local: Local, value: Any) -> None:
        """Assigns a local."""
        values = self._machine.values.get(self._thread.id)
        if values is not None:  # a condition that is looked at again while the thread rests assigns nothing
            values[local.key] = value

    def pass_up(self, local: Local, each: str | None, value: Any) -> None:
        """Assigns a local of the thread that waits for this one; with ``each``, the entry for the item of that loop."""
        parent = with_id(self._machine.execution.threads, self._thread.parent)
        if parent is None:
            return
        if each is None:
            parent.locals = {**parent.locals, local.key: pack(local, value)}
            return
        position = str(self._thread.positions[each])
        packed = pack(local, {position: value})
        parent.locals = {**parent.locals, local.key: {**parent.locals.get(local.key, {}), **packed}}

    @property
    def result(self) -> Any:
        """The result of the wait that has just ended."""
        return self._machine.awaited

    @property
    def now(self) -> datetime:
        """The time at which the code runs."""
        return known_time(self._machine.now)

    @property
    def context(self) -> StepContext:
        """The context of the step that the thread is at."""
        return step_context(self._machine, self._thread)

    def item(self, name: str) -> Any:
        """Returns the current item of a loop around the instruction."""
        each = self._each
        while each is not None and each.name != name:
            each = each.outer
        return item_of(self._machine, self._thread, each)[0]

    def error(self, name: str) -> ErrorInfo:
        """Returns the error that an ``except_`` section has caught.

        Raises:
            ExecutionError: the thread has caught none there.
        """
        if (error := self._thread.errors.get(name)) is None:
            raise ExecutionError(
                f"the code reads the error of {name!r}, but the thread {self._thread.id!r} has caught none there: it "
                f"was moved into that section, or saved by older code. Move it to a statement in front of the try"
            )
        return error


def step_context(machine: MachineState, thread: Thread) -> StepContext:
    """Returns the context of the step that the thread is at."""
    execution = machine.execution
    instruction = machine.program.rests[thread.step]
    identity = (execution.workflow, execution.id, thread.id, thread.step, thread.pc, thread.attempt + 1)
    caught = instruction.caught[-1] if instruction.caught else ""
    if instruction.each is None and not caught:
        return StepContext(*identity, None, None, None, thread.caused_by, machine.callback_urls, machine.now)
    item, error = item_of(machine, thread, instruction.each), thread.errors.get(caught)
    return StepContext(*identity, *item, error, thread.caused_by, machine.callback_urls, machine.now)


def json_of(value: Any, what: str) -> Any:
    """Returns a value as JSON data.

    Raises:
        ExecutionError: the value cannot be converted, or contains a secret or a number that JSON does not have. The
            error names it ``what``.
    """
    for _, leaf in leaves(value):
        if isinstance(leaf, SECRETS):
            raise ExecutionError(f"{what} contains a secret, which would be shown. Keep it in a field, or outside")
        if isinstance(leaf, float) and not math.isfinite(leaf):
            raise ExecutionError(f"{what} contains {leaf}. JSON has no such number: use None or a text")
    try:
        refuse_halves(value)
        return json.loads(to_json(value))
    except PydanticSerializationError as error:
        raise ExecutionError(f"cannot convert {what} to JSON: {error}") from error
