"""Converts a value to the text of a control, and a field to its value.

Theory of operation. If a form that was created from a value is posted unchanged, the result must be the same value.
``shown`` and ``value_of`` are inverse to each other for most values. But no control can hold every value: for example,
a text with control characters, a number with thousands of digits, or an object with keys that its schema does not name.
A form therefore calls ``holds``, which compares the value of the field with the original value. If they differ, the
form shows JSON text. A new kind of control is safe as long as ``holds`` compares its value.
"""

from __future__ import annotations

import json
import math
import unicodedata
from typing import Any

from cloud_adapter.http.pages.form_fields import MISSING, NUMBER, Field, json_text
from cloud_adapter.json_texts import readable


def holds(field: Field, value: Any) -> bool:
    """Whether the value of a field is this value. Missing keys of an object get their defaults, if they have any."""
    if field.kind == "object" and isinstance(value, dict):
        return field.given and value.keys() <= {part.key for part in field.fields}
    if field.kind in ("list", "tuple") and isinstance(value, list):
        return field.given and len(value) == len(field.fields)
    return _same(value_of(field), value)


def value_of(field: Field) -> Any:
    """Returns the value of a field; MISSING for none. Adds an error to a field whose text is not valid JSON."""
    match field.kind:
        case "const":
            return field.shape.schema.get("const")
        case "object" | "list" | "tuple":
            if not field.given:
                return None if field.shape.nullable and (field.required or field.has_default) else MISSING
            values = [(part.key, value_of(part)) for part in field.fields]
            if field.kind == "object":
                return {key: value for key, value in values if value is not MISSING}
            return [None if value is MISSING else value for _, value in values]
        case "check" if field.two_valued:
            return field.text == "true"
    if field.text == "" or (field.kind != "text" and not field.text.strip()):
        return field.empty
    match field.kind:
        case "json":
            return _parsed(field)
        case "choice" | "check":
            return next((json.loads(value) for value, _ in field.options if value == field.text), field.text)
        case "number":
            return _number(field.text)
    return field.text


def _parsed(field: Field) -> Any:
    try:
        return json.loads(field.text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        field.errors.append(
            f"not valid JSON: {error}" if isinstance(error, ValueError) else "the JSON is nested too deeply"
        )
        return MISSING


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON value")


def _number(text: str) -> Any:
    """Returns the number in a text. If it is not a number, returns the text, so that the code that validates the value
    can report the error."""
    if not NUMBER.fullmatch(text.strip()):
        return text
    try:
        number = json.loads(text)
    except ValueError:  # the number has a leading zero, or thousands of digits
        return text
    return number if math.isfinite(number) else text


def shown(field: Field, value: Any) -> str:
    """Returns the text for a value in a control; empty if no text represents the value."""
    if value is MISSING or value is None:
        return ""
    if field.kind == "check" and field.two_valued:
        return "true" if value is True else ""
    if field.kind in ("check", "choice", "number"):
        return json_text(value)
    if field.kind == "json":
        return readable(value)
    # Browsers change line ends and drop control characters and surrogates.
    odd = isinstance(value, str) and any(unicodedata.category(c) in ("Cc", "Cs") and c not in "\t\n" for c in value)
    return value if isinstance(value, str) and not odd else ""


def _same(value: Any, other: Any) -> bool:
    """Whether two values are the same JSON. ``1``, ``1.0`` and ``true`` differ."""
    if value is MISSING or other is MISSING:
        return value is other
    return json.dumps(value, sort_keys=True) == json.dumps(other, sort_keys=True)
