"""Values that leave an instance, for an activity or a child, and results that come back: in their stored form.

The type of the receiver decides, if it is known: the parameter of the activity, the class of the child, the parameter
of ``then``. A value of that type is packed as it is. Another one is first taken as the type takes it in Python, so that
what arrives is what a call in this process would pass. A value that the type does not take is passed on in the form of
its own class; the receiver then reports why it does not fit, as for an input of a client.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel
from pydantic_core import PydanticSerializationError, to_json

from workflow_core.comparing import leaves
from workflow_core.errors import ExecutionError, InvalidFields, InvalidOutput
from workflow_core.program.cases import ActivityCase
from workflow_core.value_form import Packed, ValueForm, pack_untyped
from workflow_core.workflow import Workflow

_ERRORS = (InvalidFields, PydanticSerializationError)


def pack_input(form: ValueForm, value: Any, event: str) -> Packed:
    """Returns the input of an activity.

    Raises:
        ExecutionError: it cannot be passed on as it is.
    """
    try:
        return _stored(_pack(form, value))
    except _ERRORS as error:
        raise ExecutionError(f"cannot convert the input of activity {event!r} to JSON: {error}") from error


def pack_fields(cls: type[Workflow] | None, given: Any, event: str) -> Packed:
    """Returns the initial fields of a child: those that are given.

    Args:
        cls: the class of the child, if it is known.

    Raises:
        ExecutionError: they cannot be passed on as they are.
    """
    try:
        if isinstance(given, Workflow):
            return _stored(type(given).__input_form__.pack(given))
        if isinstance(given, BaseModel):
            given = {name: getattr(given, name) for name in (*type(given).model_fields, *(given.model_extra or ()))}
        if cls is None or not isinstance(given, Mapping):
            return Packed(to_json(pack_untyped(given)))
        return _stored(_pack_given(cls, given))
    except _ERRORS as error:
        raise ExecutionError(f"cannot convert the input of child {event!r} to JSON: {error}") from error


def pack_result(case: ActivityCase, result: Any) -> bytes:
    """Returns the result of an activity for its ``then``; ``null`` if it has none.

    Raises:
        InvalidOutput: the result does not fit its annotation, or cannot be passed on as it is.
    """
    returned = case.activity.signature.output_form
    taken = case.signature.input_form if case.signature is not None and case.takes_input else None
    try:
        if taken is None:
            return b"null" if returned.is_any else returned.dump(result)
        return _pack(taken, result).text if returned.is_any else returned.pack(result, ("result",)).text
    except _ERRORS as error:
        raise InvalidOutput(
            f"activity {case.event!r} returned a value that does not fit its annotation, or would not reach 'then' "
            f"unchanged: {error}"
        ) from error


def _stored(packed: Packed) -> Packed:
    """Refuses what pydantic writes for a type with ``ser_json_inf_nan='constants'``: it would be stored as null.

    Raises:
        InvalidFields: the value contains NaN or an infinity.
    """
    for path, leaf in leaves(packed.data) if b"NaN" in packed.text or b"Infinity" in packed.text else ():
        if isinstance(leaf, float) and not math.isfinite(leaf):
            raise InvalidFields(f"{'.'.join(map(str, path)) or 'it'} is {leaf}. JSON has no such number")
    return packed


def _pack(form: ValueForm, value: Any) -> Packed:
    with contextlib.suppress(*_ERRORS):
        return form.pack(value)
    try:
        typed = form.accept(value)
    except Exception:  # user validators may raise anything
        return Packed(to_json(pack_untyped(value)))
    return form.pack(typed)


def _pack_given(cls: type[Workflow], given: Mapping[str, Any]) -> Packed:
    """Like ``_pack``, for those fields of a child that are given."""
    with contextlib.suppress(Exception):  # it takes anything, so its serializers may raise anything
        child = cls.model_construct(**given)
        if len(child.model_fields_set) == len(given):
            return cls.__input_form__.pack(child).parts(child.model_fields_set)
    try:
        child = cls.model_validate(given, extra="forbid", by_alias=True, by_name=True)
    except Exception:  # user validators may raise anything
        return Packed(to_json(pack_untyped(given)))
    return cls.__input_form__.pack(child).parts(child.model_fields_set)
