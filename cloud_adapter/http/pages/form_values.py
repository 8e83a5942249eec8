"""How a value becomes the text of a control, and the value that a field stands for.

Theory of operation. A form that was made from a value must give that value back when it is posted unchanged. ``shown``
and ``value_of`` are inverse to each other for most values, but no control can hold them all: a text with control
characters, a number of thousands of digits, an object with keys that its schema does not name. So a form asks
``holds``, which compares what the field gives with the value, and shows JSON text if they differ. A new kind of control
is safe as long as ``holds`` compares what it gives.
"""

from __future__ import annotations

import json
import math
import unicodedata
from typing import Any

from cloud_adapter.http.pages.form_fields import MISSING, NUMBER, Field, json_text


def holds(field: Field, value: Any) -> bool:
    """Whether a field stands for a value. What is not in an object has its default, where there is one."""
    if field.kind == "object" and isinstance(value, dict):
        return field.given and value.keys() <= {part.key for part in field.fields}
    if field.kind in ("list", "tuple") and isinstance(value, list):
        return field.given and len(value) == len(field.fields)
    return _same(value_of(field), value)


def value_of(field: Field) -> Any:
    """The value of a field; MISSING for none. Notes in the field what is no JSON."""
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
            f"this is no JSON: {error}" if isinstance(error, ValueError) else "this is nested too deeply"
        )
        return MISSING


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON value")


def _number(text: str) -> Any:
    """The number that a text is; otherwise the text, so that the code that takes the value can say what is wrong."""
    if not NUMBER.fullmatch(text.strip()):
        return text
    try:
        number = json.loads(text)
    except ValueError:  # it has a leading zero, or thousands of digits
        return text
    return number if math.isfinite(number) else text


def shown(field: Field, value: Any) -> str:
    """The text that stands for a value in a control; an empty one if none does."""
    if value is MISSING or value is None:
        return ""
    if field.kind == "check" and field.two_valued:
        return "true" if value is True else ""
    if field.kind in ("check", "choice", "number"):
        return json_text(value)
    if field.kind == "json":
        return json.dumps(value, ensure_ascii=False, indent=2)
    # Browsers change line ends and drop what is no character.
    odd = isinstance(value, str) and any(unicodedata.category(c) in ("Cc", "Cs") and c not in "\t\n" for c in value)
    return value if isinstance(value, str) and not odd else ""


def _same(value: Any, other: Any) -> bool:
    """Whether two values are the same JSON; ``1``, ``1.0`` and ``true`` are not."""
    if value is MISSING or other is MISSING:
        return value is other
    return json.dumps(value, sort_keys=True) == json.dumps(other, sort_keys=True)
