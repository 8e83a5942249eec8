"""A field of a form: a value's control, what stands in it, what a browser may check.

Knows no form, and neither how a value becomes the text of a control (``form_values``) nor HTML.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from cloud_adapter.http.pages.form_shapes import Kind, Shape

LINE_CHARS_MAX: Final = 200
"""A text that may be longer gets more than one line."""


class _Missing:
    """No value at all, which is not ``null``."""

    def __repr__(self) -> str:
        return "MISSING"


MISSING: Final = _Missing()

NUMBER = re.compile(r"-?\d+(\.\d+)?([eE][+-]?\d+)?")
"""A number in JSON."""

_SIMPLE_PATTERN = re.compile(r"\^((?:\\d|\[(?:\w-\w|\w)+\]|[A-Za-z0-9]|[{}+*?,])+)\$")
_DATE = re.compile(r"\d{4}-\d\d-\d\d")


@dataclass(slots=True)
class Field:
    """A value in a form.

    Attributes:
        key: its name in its object or its index in its list; empty for the value as a whole.
        required: whether it cannot be left out of what it is in.
        text: what stands in its control: for a check ``true`` or empty, for a choice the JSON text of the option.
        given: False for an object or a list that is left out, or ``null``.
        fields: what is in it.
        errors: what is wrong with it.
        pointer: its JSON pointer. ``id``: of its control, unique in the form.
    """

    key: str | int
    label: str
    shape: Shape
    required: bool
    text: str = ""
    given: bool = True
    fields: list[Field] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    pointer: str = ""
    id: str = ""
    hint: str = ""

    @property
    def kind(self) -> Kind:
        return self.shape.kind

    @property
    def has_default(self) -> bool:
        return not self.required and "default" in self.shape.schema

    @property
    def optional(self) -> bool:
        """Whether an object or a list has a button by which it is given or left out."""
        return self.shape.nullable or not (self.required or self.has_default)

    @property
    def empty(self) -> Any:
        """What a control stands for in which nothing stands."""
        if self.shape.nullable:
            return None if self.required or self.has_default else MISSING
        plain = self.kind == "text" and "format" not in self.shape.schema
        return "" if plain and (self.required or self.has_default) else MISSING

    @property
    def multiline(self) -> bool:
        return "\n" in self.text or self.shape.schema.get("maxLength", 0) > LINE_CHARS_MAX

    @property
    def two_valued(self) -> bool:
        """For a check: whether it is just on or off, so that nothing else can be meant by leaving it."""
        return not self.shape.nullable and (self.required or self.has_default)

    @property
    def options(self) -> list[tuple[str, str]]:
        """What can be chosen: the value that is posted, and how it is shown."""
        if self.kind == "check":
            return [("true", "yes"), ("false", "no")]
        return [
            (json_text(option), option if isinstance(option, str) else json_text(option))
            for option in self.shape.options
        ]

    @property
    def input_type(self) -> str:
        """The type of the ``input``. What could not stand in a stricter one is kept as it was typed."""
        if self.kind == "number" and (not self.text or NUMBER.fullmatch(self.text)):
            return "number"
        if self.kind == "date" and (not self.text or _DATE.fullmatch(self.text)):
            return "date"
        return "text"

    @property
    def attributes(self) -> dict[str, str]:
        """What the browser may check before it posts."""
        schema, result = self.shape.schema, {}
        if self.input_type == "number":
            whole = schema.get("type") == "integer"
            result["step"] = "1" if whole else "any"
            for name, key, beyond, by in (
                ("min", "minimum", "exclusiveMinimum", 1),
                ("max", "maximum", "exclusiveMaximum", -1),
            ):
                limit = schema.get(key, schema.get(beyond))
                if limit is not None:
                    result[name] = json_text(limit + by if whole and key not in schema else limit)
        pattern = _SIMPLE_PATTERN.fullmatch(schema.get("pattern", "")) if self.kind == "text" else None
        if pattern:
            result["pattern"] = pattern[1]
        return result

    @property
    def must_be_filled(self) -> bool:
        """Whether an empty control cannot be right."""
        long_enough = self.kind != "text" or self.shape.schema.get("minLength", 0) > 0 or self.empty is MISSING
        return self.required and not self.shape.nullable and long_enough

    def all(self) -> Iterator[Field]:
        """This field, and all in it."""
        yield self
        for part in self.fields:
            yield from part.all()


def pointers(field: Field, pointer: str) -> Iterator[tuple[str, Field]]:
    """Each field by its JSON pointer."""
    yield pointer, field
    for part in field.fields:
        yield from pointers(part, f"{pointer}/{escaped(part.key)}")


def paths(field: Field, path: str) -> Iterator[tuple[str, Field]]:
    """Each field by its path as errors name it."""
    yield path, field
    for part in field.fields:
        yield from paths(part, f"{path}.{part.key}" if path else str(part.key))


def escaped(key: str | int) -> str:
    """A part of a JSON pointer."""
    return str(key).replace("~", "~0").replace("/", "~1")


def json_text(value: Any) -> str:
    """A value as JSON."""
    return json.dumps(value, ensure_ascii=False)
