"""Outputs of handlers, and fields, as the JSON that clients get."""

from __future__ import annotations

import math
from typing import Any

from pydantic_core import PydanticSerializationError, SchemaSerializer, from_json, to_json

from workflow_core.comparing import REPLACED, leaves, refuse_halves
from workflow_core.value_form import ValueForm


def output_text(serializer: SchemaSerializer | Any, form: ValueForm, value: Any) -> bytes:
    """Returns an output as JSON.

    Raises:
        PydanticSerializationError: the output does not fit its type, or JSON does not have one of its numbers or texts.
    """
    text: bytes = serializer.to_json(value, by_alias=True, warnings="error")
    if REPLACED in text:
        refuse_halves(value)
    if b"NaN" in text or b"Infinity" in text:
        data = from_json(text)
        if (named := with_finite_numbers(data)) != data:  # not if it is only in a text
            return to_json(named)
    if form.has_floats and b"null" in text:
        # What a serializer of the type writes as null on purpose, or leaves out, is allowed. In these modes, pydantic
        # keeps the other numbers; those of Any only in the first one.
        mode = "python" if form.has_any else "json"
        _refuse_other_numbers(serializer.to_python(value, mode=mode, by_alias=True))
    return text


def with_finite_numbers(data: Any) -> Any:
    """Replaces the numbers that pydantic writes for ``ser_json_inf_nan='constants'`` by their names."""
    if isinstance(data, dict):
        return {key: with_finite_numbers(part) for key, part in data.items()}
    if isinstance(data, list):
        return list(map(with_finite_numbers, data))
    if isinstance(data, float) and not math.isfinite(data):
        return "NaN" if math.isnan(data) else "Infinity" if data > 0 else "-Infinity"
    return data


def _refuse_other_numbers(value: Any) -> None:
    """Refuses NaN and infinities, which pydantic writes as ``null``."""
    for path, leaf in leaves(value):
        if isinstance(leaf, float) and not math.isfinite(leaf):
            where = ".".join(map(str, path)) or "it"
            raise PydanticSerializationError(f"{where} is {leaf}. JSON has no such number: use None or a text")
