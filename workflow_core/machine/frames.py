"""Frames: the local variables of a thread, as the code of a plain definition sees them.

Between two rests, the values are Python objects in ``MachineState.values``, so an object that code changes in place
stays the same object. Where a thread rests, those that are needed later are stored as JSON in ``Thread.locals``, and
all others are forgotten; the next piece of code loads them again. Code therefore sees the same values whether or not
the process has ended in between.

Invariant: ``values`` has an entry for a thread only while ``run`` moves it. ``Thread.locals`` is replaced and never
changed in place, because a save may still refer to the old one.
"""

from __future__ import annotations

from copy import deepcopy
from typing import Any

from pydantic import ValidationError
from pydantic_core import PydanticSerializationError, from_json, to_json

from workflow_core.comparing import compare_values
from workflow_core.error_texts import field_texts
from workflow_core.errors import ExecutionError, InvalidFields
from workflow_core.execution import Thread
from workflow_core.machine.state import MachineState
from workflow_core.statements.inline import Local
from workflow_core.value_form import pack_untyped


def load(thread: Thread, local: Local) -> Any:
    """Returns the value of a local that a thread has stored.

    Raises:
        ExecutionError: the thread has no such local, because it was saved by older code, or its value does not fit its
            type.
    """
    if local.key not in thread.locals:
        if local.has_default:
            return deepcopy(local.default)
        raise ExecutionError(
            f"the code reads the local {local.key!r}, which the thread {thread.id!r} does not have: it was saved by "
            f"older code. Write {local.key} = local({local.key!r}, default=...) where it is assigned"
        )
    text = to_json(thread.locals[local.key])
    if local.form is None:
        return from_json(text)
    try:
        return local.form.load(text)
    except ValidationError as error:
        raise ExecutionError(f"the stored local {local.key!r} does not fit its type: {field_texts(error)}") from error


def pack(local: Local, value: Any) -> Any:
    """Returns the value of a local as JSON data.

    Raises:
        ExecutionError: it cannot be stored, or would be loaded as another value.
    """
    try:
        if local.form is not None:
            return local.form.pack(value, (local.key,)).data
        data = pack_untyped(value, (local.key,))
        compare_values(value, data, (local.key,))
        return data
    except (InvalidFields, PydanticSerializationError) as error:
        fix = "Annotate it with its type" if local.form is None else "Assign a value of its type"
        raise ExecutionError(
            f"the local {local.key!r} cannot be stored while the instance sleeps: {error}. {fix}, or compute it again "
            f"after the await"
        ) from error


def keep(machine: MachineState, thread: Thread) -> None:
    """Stores the locals of a thread that rests, and forgets their objects."""
    values = machine.values.pop(thread.id, {})
    rest = machine.program.rests.get(thread.step)
    thread.locals = _packed(thread, values, () if rest is None else rest.kept)


def _packed(thread: Thread, values: dict[str, Any], needed: tuple[Local, ...]) -> dict[str, Any]:
    kept: dict[str, Any] = {}
    for local in needed:
        if local.key in values:
            kept[local.key] = pack(local, values[local.key])
        elif local.key in thread.locals:
            kept[local.key] = thread.locals[local.key]
    return kept


def handed_down(machine: MachineState, thread: Thread, name: str) -> dict[str, Any]:
    """Returns the locals with which a thread starts that another one has started, as JSON data.

    Args:
        name: the name of the new thread.
    """
    needed = machine.program.entry_locals.get(name, ())
    return _packed(thread, machine.values.get(thread.id, {}), needed) if needed else {}
