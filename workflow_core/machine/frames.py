"""Frames: the local variables of a thread, as the code of a plain definition sees them.

Between two rests, the values are Python objects in ``MachineState.values``, so an object that code changes in place
stays the same object. Where a thread rests, those that are needed later are stored as JSON in ``Thread.locals``, and
all others are forgotten; the next piece of code loads them again. Code therefore sees the same values whether or not
the process has ended in between.

Invariant: ``values`` has an entry for a thread only while ``run`` moves it. ``Thread.locals`` is replaced and never
changed in place, because a save may still refer to the old one.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping
from copy import deepcopy
from dataclasses import is_dataclass
from typing import Any, Final

from pydantic import BaseModel, ValidationError
from pydantic_core import PydanticSerializationError, from_json, to_json

from workflow_core.comparing import compare_values
from workflow_core.error_texts import field_texts
from workflow_core.errors import ExecutionError, InvalidFields
from workflow_core.execution import Thread
from workflow_core.machine.state import MachineState
from workflow_core.statements.inline import ANY, ANYWHERE, AUGMENTED, Local, ObjectPath
from workflow_core.value_form import pack_untyped

_COLLECTIONS = (Mapping, list, deque, set)

RETRIED_BYTES_MAX: Final = 100_000
"""The most bytes of locals that are stored for a retry, beside those of the cleanup that runs meanwhile."""


def for_retry(machine: MachineState, thread: Thread) -> dict[str, Any] | None:
    """Returns the locals with which the statement of a thread can be retried after a cleanup; None if the definition is
    not plain. Large ones are left out: with twice their size, the instance might exceed its limit, and the cleanup has
    to run. A retry then fails where it reads one."""
    if not machine.program.is_plain:
        return None
    kept, left = dict[str, Any](), RETRIED_BYTES_MAX
    for key, value in thread.locals.items():
        if (size := len(to_json(value))) <= left:
            kept[key] = value
            left -= size
    return kept


def load(thread: Thread, local: Local) -> Any:
    """Returns the value of a local that a thread has stored.

    Raises:
        ExecutionError: the thread has no such local, because it was saved by older code, or its value does not fit its
            type.
    """
    key = local.stored_key(thread.locals)
    if key is None:
        if local.has_default:
            return deepcopy(local.default)
        fix = f"Write {local.with_default} where it is assigned"
        if local.is_hidden:
            fix = "Deploy the code that saved it again until the instance has passed this place"
        raise ExecutionError(
            f"the code reads {local.in_words}, which the thread {thread.id!r} does not have: it was saved by older "
            f"code, or moved here. {fix}"
        )
    text = to_json(thread.locals[key])
    if local.form is None:
        return from_json(text)
    try:
        return local.form.load(text)
    except ValidationError as error:
        raise ExecutionError(
            f"the stored value of {local.in_words} does not fit its type: {field_texts(error)}"
        ) from error


def pack(local: Local, value: Any) -> Any:
    """Returns the value of a local as JSON data.

    Raises:
        ExecutionError: it cannot be stored, or would be loaded as another value.
    """
    path = ("it" if local.is_hidden else local.key,)
    try:
        if local.form is not None:
            return local.form.pack(value, path).data
        data = pack_untyped(value, path)
        compare_values(value, data, path)
        return data
    except (InvalidFields, PydanticSerializationError) as error:
        fix = "Annotate it with its type" if local.form is None else "Assign a value of its type"
        text = str(error).removesuffix(".")
        raise ExecutionError(
            f"{local.in_words} cannot be stored while the instance sleeps: {text}. {fix}, or compute it again after "
            f"the await"
        ) from error


def keep(machine: MachineState, thread: Thread) -> None:
    """Stores the locals of a thread that rests, and forgets their objects.

    Raises:
        ExecutionError: one cannot be stored, or the copy that is stored would be changed in place of the original.
    """
    values = machine.values.pop(thread.id, {})
    rest = machine.program.rests.get(thread.step)
    needed = () if rest is None else rest.kept
    for local in needed:
        if local.changes and local.key in values:
            _check_own(machine, local, values, needed)
    thread.locals = _packed(thread, values, needed)


def _check_own(machine: MachineState, local: Local, values: dict[str, Any], needed: tuple[Local, ...]) -> None:
    """Refuses an object that code changes later, if it also belongs to a field or to another local: these would not
    change with the copy."""
    value = values[local.key]
    own = {id(part) for path in local.changes for part in _objects_at(value, path)}
    if not own:
        return
    if any(count > 1 for part, count in Counter(map(id, _objects(value))).items() if part in own):
        raise ExecutionError(
            f"{local.in_words} {'contain' if local.is_hidden else 'contains'} an object twice, and code changes it "
            f"after an await. Locals are stored by their values, so it would change in one place only. Put a copy in "
            f"the other"
        )
    fields = {f"self.{name}": value for name, value in vars(machine.workflow).items()}
    others = {
        other.key: values[other.key]
        for other in needed
        if other is not local and other.key in values and not other.is_hidden
    }
    for name, value in (fields | others).items():
        if any(id(part) in own for part in _objects(value)):
            what = f"{local.in_words} {'share' if local.is_hidden else 'shares'}"
            raise ExecutionError(
                f"{what} an object with {name!r}, and code changes it after an await. Locals are stored by their "
                f"values, so {name!r} would not change. After the await, change {name!r} itself, or get the object "
                f"from it again"
            )


def _objects_at(value: Any, path: ObjectPath) -> Iterable[Any]:
    """Returns the objects of a value that can be changed in place, and that a path leads to."""
    found = [value]
    for step in path:
        if step is ANYWHERE:
            return [inner for part in found for inner in _objects(part)]
        if step is AUGMENTED:
            return [part for part in found if isinstance(part, _COLLECTIONS)]
        found = [inner for part in found for inner in _parts(part, step)]
    return filter(_can_change, found)


def _objects(value: Any) -> Iterator[Any]:
    """Yields the objects of a value that can be changed in place: one that is there twice is yielded twice, but what it
    contains only once."""
    waiting, seen = [value], set[int]()
    while waiting:
        part = waiting.pop()
        if _can_change(part):
            yield part
            if id(part) in seen:
                continue
            seen.add(id(part))
        waiting += _parts(part)


def _can_change(value: Any) -> bool:
    if isinstance(value, BaseModel):
        return not value.model_config.get("frozen")
    params = getattr(value, "__dataclass_params__", None)
    return not params.frozen if params is not None else isinstance(value, _COLLECTIONS)


def _parts(value: Any, step: object = ANY) -> Iterable[Any]:
    """Returns the part of a value that a step leads to; all parts if it has none of that name, because the step may be
    a property."""
    if isinstance(value, Mapping):
        return (value[step],) if step is not ANY and step in value else value.values()
    if isinstance(value, (list, deque, tuple)):
        return (value[step],) if isinstance(step, int) and 0 <= step < len(value) else value
    if isinstance(value, set):
        return value
    if not (isinstance(value, BaseModel) or is_dataclass(value)) or not hasattr(value, "__dict__"):
        return ()
    own = vars(value)
    return (own[step],) if step in own else own.values()


def _packed(thread: Thread, values: dict[str, Any], needed: tuple[Local, ...]) -> dict[str, Any]:
    kept: dict[str, Any] = {}
    for local in needed:
        if local.key in values:
            kept[local.key] = pack(local, values[local.key])
        elif (key := local.stored_key(thread.locals)) is not None:
            kept[local.key] = thread.locals[key]
    return kept


def handed_down(machine: MachineState, thread: Thread, name: str) -> dict[str, Any]:
    """Returns the locals with which a thread starts that another one has started, as JSON data.

    Args:
        name: the name of the new thread.
    """
    needed = machine.program.entry_locals.get(name, ())
    return _packed(thread, machine.values.get(thread.id, {}), needed) if needed else {}
