"""The texts beside a control: its label, and a hint from the schema of its value."""

from __future__ import annotations

from cloud_adapter.http.pages.form_fields import Field, json_text
from cloud_adapter.http.pages.form_shapes import Json

_FORMATS = {
    "date": "a date, such as 2026-01-31",
    "date-time": "a time, such as 2026-01-31T12:00:00Z",
    "time": "a time of day, such as 12:30:00",
    "duration": "a duration, such as PT1H30M",
    "uuid": "a UUID",
    "decimal": "a number",
}


def hint(field: Field) -> str:
    """Returns the hint beside a control."""
    schema = field.shape.schema
    hints = [str(schema.get("description", ""))] if field.kind not in ("object",) or field.key != "" else []
    least, most = schema.get("minLength", 0), schema.get("maxLength")
    if least > 1:
        hints.append(f"at least {least} characters")
    if most is not None:
        hints.append(f"at most {most} characters")
    bounds = (
        ("minimum", "at least"),
        ("exclusiveMinimum", "more than"),
        ("maximum", "at most"),
        ("exclusiveMaximum", "less than"),
        ("multipleOf", "a multiple of"),
    )
    hints += [f"{words} {json_text(schema[name])}" for name, words in bounds if name in schema]
    sizes = (("minItems", "at least"), ("maxItems", "at most")) if field.kind == "list" else ()
    hints += [f"{words} {schema[name]} items" for name, words in sizes if name in schema]
    hints.append(_FORMATS.get(schema.get("format", ""), ""))
    if schema.get("pattern"):
        hints.append(f"must match {schema['pattern']}")
    if schema.get("examples") and field.kind in ("text", "number", "date"):
        hints.append(f"such as {schema['examples'][0]}")
    return sentences(hints)


def sentences(hints: list[str]) -> str:
    """Joins several hints into one line."""
    return " · ".join(words[:1].upper() + words[1:] for words in hints if words)


def label_of(schema: Json, key: str) -> str:
    """Returns the label of a value in an object."""
    return str(schema.get("title") or key.replace("_", " ").capitalize())


def item_label(index: int) -> str:
    """Returns the label of an item in a list."""
    return f"Item {index + 1}"
