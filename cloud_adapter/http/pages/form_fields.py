"""A field of a form: the control of a value, its text, and what a browser may check.

This module does not depend on forms or on HTML. ``form_values`` converts values to the texts of controls.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from cloud_adapter.http.pages.form_shapes import Kind, Shape

LINE_CHARS_MAX: Final = 200
"""A text that may be longer gets a control with several lines."""


class _Missing:
    """No value, as opposed to ``null``."""

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
        required: whether its object or list must contain it.
        text: the text in its control. For a check, it is ``true`` or empty; for a choice, the JSON text of the option.
        given: False for an object or a list that is left out or ``null``.
        fields: the fields inside an object or a list.
        errors: the error messages for this field.
        pointer: its JSON pointer.
        id: the id of its control, unique in the form.
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
        """Whether an object or a list has a button that adds it or leaves it out."""
        return self.shape.nullable or not (self.required or self.has_default)

    @property
    def empty(self) -> Any:
        """The value of an empty control."""
        if self.shape.nullable:
            return None if self.required or self.has_default else MISSING
        plain = self.kind == "text" and "format" not in self.shape.schema
        return "" if plain and (self.required or self.has_default) else MISSING

    @property
    def multiline(self) -> bool:
        return not self.is_secret and ("\n" in self.text or self.shape.schema.get("maxLength", 0) > LINE_CHARS_MAX)

    @property
    def is_secret(self) -> bool:
        """Whether the browser must not show what is typed."""
        return self.kind == "text" and self.shape.schema.get("format") == "password"

    @property
    def two_valued(self) -> bool:
        """For a check: whether it is only on or off, so that an unchecked box always means ``false``."""
        return not self.shape.nullable and (self.required or self.has_default)

    @property
    def options(self) -> list[tuple[str, str]]:
        """The options: for each, the value that is posted and the text that is shown."""
        if self.kind == "check":
            return [("true", "yes"), ("false", "no")]
        return [
            (json_text(option), option if isinstance(option, str) else json_text(option))
            for option in self.shape.options
        ]

    @property
    def input_type(self) -> str:
        """The type of the ``input``. If the text does not fit a stricter type, the type is ``text``, which keeps it as
        it was typed."""
        if self.kind == "number" and (not self.text or NUMBER.fullmatch(self.text)):
            return "number"
        if self.kind == "date" and (not self.text or _DATE.fullmatch(self.text)):
            return "date"
        return "password" if self.is_secret else "text"

    @property
    def attributes(self) -> dict[str, str]:
        """The HTML attributes for the checks of the browser before it posts."""
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
        """Whether an empty control is always invalid."""
        long_enough = self.kind != "text" or self.shape.schema.get("minLength", 0) > 0 or self.empty is MISSING
        return self.required and not self.shape.nullable and long_enough

    def all(self) -> Iterator[Field]:
        """Yields this field and all fields inside it."""
        yield self
        for part in self.fields:
            yield from part.all()


def pointers(field: Field, pointer: str) -> Iterator[tuple[str, Field]]:
    """Yields each field with its JSON pointer."""
    yield pointer, field
    for part in field.fields:
        yield from pointers(part, f"{pointer}/{escaped(part.key)}")


def paths(field: Field, path: str) -> Iterator[tuple[str, Field]]:
    """Yields each field with its path, in the notation of errors."""
    yield path, field
    for part in field.fields:
        yield from paths(part, f"{path}.{part.key}" if path else str(part.key))


def escaped(key: str | int) -> str:
    """Escapes a part of a JSON pointer."""
    return str(key).replace("~", "~0").replace("/", "~1")


def json_text(value: Any) -> str:
    """Returns a value as JSON."""
    return json.dumps(value, ensure_ascii=False)
