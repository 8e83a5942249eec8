"""Forms for JSON schemas: a schema becomes a tree of fields, and what a browser posts becomes a JSON value again.

Pure: knows no HTTP, no template and no workflow. Whether a value is valid is not decided here, but by whoever takes it.

A form that was made from a value gives that value back when it is posted unchanged: where a control could not, a box
for JSON text stands in its place. The name of a control is a letter and the JSON pointer of its value:

    v/qty    what was typed, chosen or checked            n/items    how many items a list has
    j/qty    the same as JSON text                        p/owner    what may be left out is given
"""

from __future__ import annotations

import json
import math
import re
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from cloud_adapter.errors import InvalidRequest
from cloud_adapter.http.openapi.samples import sample
from cloud_adapter.http.pages.form_shapes import Json, Kind, Shape, shape_of

ITEMS_MAX: Final = 500
"""How many items a list may have in a form."""

DEPTH_MAX: Final = 8
"""What lies deeper is JSON text."""

LINE_CHARS_MAX: Final = 200
"""A text that may be longer gets more than one line."""


class _Missing:
    """No value at all, which is not ``null``."""

    def __repr__(self) -> str:
        return "MISSING"


MISSING: Final = _Missing()

_FORMATS = {
    "date": "a date, such as 2026-01-31",
    "date-time": "a time, such as 2026-01-31T12:00:00Z",
    "time": "a time of day, such as 12:30:00",
    "duration": "a duration, such as PT1H30M",
    "uuid": "a UUID",
    "decimal": "a number",
}
_SIMPLE_PATTERN = re.compile(r"\^((?:\\d|\[(?:\w-\w|\w)+\]|[A-Za-z0-9]|[{}+*?,])+)\$")
_NUMBER = re.compile(r"-?\d+(\.\d+)?([eE][+-]?\d+)?")
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
        return [(_text(one), one if isinstance(one, str) else _text(one)) for one in self.shape.options]

    @property
    def input_type(self) -> str:
        """The type of the ``input``. What could not stand in a stricter one is kept as it was typed."""
        if self.kind == "number" and (not self.text or _NUMBER.fullmatch(self.text)):
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
                    result[name] = _text(limit + by if whole and key not in schema else limit)
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
        for one in self.fields:
            yield from one.all()


class Form:
    """A form for one value."""

    def __init__(self, schema: Json, data: Mapping[str, str] | None = None, value: Any = MISSING) -> None:
        """The form of a schema, as ``pydantic`` makes them.

        Args:
            data: what a browser has posted.
            value: what the form shows, if nothing was posted; by default what the schema has as defaults.

        Raises:
            InvalidRequest: no form has posted that.
        """
        self._definitions = schema.get("$defs", {})
        self._schema = {name: part for name, part in schema.items() if name != "$defs"}
        if data is None:
            self.root = self._of_value(self._schema, value, "", "Input", required=True)
        else:
            self.root = self._of_data(self._schema, data, "", "Input", required=True)
        self._name()

    # --- what is in it -------------------------------------------------------------------

    def value(self) -> Any:
        """What was filled in; MISSING for nothing at all. Notes in the fields what is no JSON."""
        return _value(self.root)

    def refuse(self, errors: list[dict[str, Any]]) -> None:
        """Notes errors beside the fields that they are about, as ``InvalidInput`` has them."""
        fields = dict(_paths(self.root, ""))
        for error in errors:
            path = str(error["field"])
            near = [one for one in fields if one in ("", path) or path.startswith(f"{one}.")]
            shown = max(near, key=len)
            rest = path[len(shown) :].lstrip(".")
            inside = f"{rest}: " if rest and fields[shown].kind in ("json", "object", "list", "tuple") else ""
            fields[shown].errors.append(inside + error["message"])

    def errors(self) -> list[tuple[Field, str]]:
        """All that is wrong, in the order of the fields."""
        return [(one, error) for one in self.root.all() for error in one.errors]

    # --- changing its rows ---------------------------------------------------------------

    def edit(self, what: str) -> Field:
        """Carries out what a button asks for: ``add`` an item to a list, ``drop`` an item, ``give`` what may be left
        out, or ``leave`` it out, followed by a JSON pointer. Gives the field where one goes on.

        Raises:
            InvalidRequest: it cannot be done.
        """
        action, _, rest = what.partition("/")
        pointer = f"/{rest}" if rest else ""
        found = {one.pointer: one for one in self.root.all()}
        one, parent = found.get(pointer), found.get(pointer.rpartition("/")[0])
        if one is None:
            raise InvalidRequest(f"the form has no field {pointer!r}: load the page again")
        if action == "add" and one.kind == "list" and len(one.fields) < ITEMS_MAX:
            index, item = len(one.fields), one.shape.schema["items"]
            near = self._of_value(item, MISSING, index, _item_label(index), True, pointer.count("/") + 1)
            one.fields.append(near)
        elif action == "drop" and parent is not None and parent.kind == "list":
            parent.fields.remove(one)
            near = parent
        elif action == "give" and one.optional and one.kind in ("list", "tuple", "object"):
            one.given, one.fields = True, self._inside(one, MISSING, pointer.count("/"))
            near = one
        elif action == "leave" and one.optional and one.kind in ("list", "tuple", "object"):
            one.given, one.fields = False, []
            near = one
        else:
            raise InvalidRequest(f"{what!r} cannot be done with this form: load the page again")
        for changed in (one, parent) if parent is not None else (one,):
            for index, item in enumerate(changed.fields if changed.kind == "list" else ()):
                item.key, item.label = index, _item_label(index)
        self._name()
        return near

    # --- from a value --------------------------------------------------------------------

    def _of_value(self, schema: Json, value: Any, key: str | int, label: str, required: bool, depth: int = 0) -> Field:
        one = self._blank(schema, key, label, required, depth)
        if value is MISSING:
            value = MISSING if required else one.shape.schema.get("default", MISSING)
        if one.kind in ("list", "tuple", "object"):
            one.given = not one.optional if value is MISSING else value is not None
            if one.given:
                one.fields = self._inside(one, value, depth)
        elif one.kind != "const":
            one.text = _shown(one, value)
        if value is not MISSING and not _holds(one, value):
            one = self._as_json(one)
            one.text = json.dumps(value, ensure_ascii=False, indent=2)
        return one

    def _inside(self, one: Field, value: Any, depth: int) -> list[Field]:
        """The fields of what is in a list or an object, for a value of it."""
        schema = one.shape.schema
        if one.kind == "object":
            known = value if isinstance(value, dict) else {}
            wanted = schema.get("required", ())
            return [
                self._of_value(part, known.get(key, MISSING), key, _label(part, key), key in wanted, depth + 1)
                for key, part in schema["properties"].items()
            ]
        items = value if isinstance(value, list) else []
        if one.kind == "tuple":
            items = [*items, *[MISSING] * len(schema["prefixItems"])]
            return [
                self._of_value(part, item, index, _item_label(index), True, depth + 1)
                for index, (part, item) in enumerate(zip(schema["prefixItems"], items, strict=False))
            ]
        if value is MISSING:
            items = [MISSING] * min(schema.get("minItems", 0), ITEMS_MAX)
        elif len(items) > ITEMS_MAX:
            return []  # so it is shown as JSON
        return [
            self._of_value(schema["items"], item, index, _item_label(index), True, depth + 1)
            for index, item in enumerate(items)
        ]

    # --- from what was posted ------------------------------------------------------------

    def _of_data(
        self, schema: Json, data: Mapping[str, str], pointer: str, label: str, required: bool, key: str | int = ""
    ) -> Field:
        depth = pointer.count("/")
        one = self._blank(schema, key, label, required, depth)
        if f"j{pointer}" in data:
            one = self._as_json(one)
            one.text = _lines(data[f"j{pointer}"])
            return one
        if one.kind not in ("list", "tuple", "object"):
            one.text = _lines(data.get(f"v{pointer}", ""))
            return one
        one.given = not one.optional or f"p{pointer}" in data
        if not one.given:
            return one
        schema = one.shape.schema
        if one.kind == "object":
            wanted = schema.get("required", ())
            parts = [(name, part, _label(part, name), name in wanted) for name, part in schema["properties"].items()]
        elif one.kind == "tuple":
            parts = [(index, part, _item_label(index), True) for index, part in enumerate(schema["prefixItems"])]
        else:
            parts = [(index, schema["items"], _item_label(index), True) for index in range(_count(data, pointer))]
        one.fields = [
            self._of_data(part, data, f"{pointer}/{_escaped(name)}", label, required, name)
            for name, part, label, required in parts
        ]
        return one

    # --- parts ---------------------------------------------------------------------------

    def _blank(self, schema: Json, key: str | int, label: str, required: bool, depth: int) -> Field:
        shape = shape_of(schema, self._definitions)
        one = Field(key, label, shape, required)
        if depth >= DEPTH_MAX and one.kind in ("list", "tuple", "object"):
            one = self._as_json(one)
        one.hint = one.hint or _hint(one)
        if one.kind == "json":
            one = self._as_json(one)
        return one

    def _as_json(self, one: Field) -> Field:
        shape = Shape("json", one.shape.schema, one.shape.nullable)
        example = json.dumps(sample(one.shape.schema, self._definitions, "all"), ensure_ascii=False)
        described = [str(one.shape.schema.get("description", "")), f"JSON, such as {example}"]
        return Field(one.key, one.label, shape, one.required, hint=_sentences(described))

    def _name(self) -> None:
        """Gives each field its pointer and its id."""
        for number, (pointer, one) in enumerate(_pointers(self.root, "")):
            one.pointer, one.id = pointer, f"f{number}"


def _holds(one: Field, value: Any) -> bool:
    """Whether a field stands for a value. What is not in an object has its default, where there is one."""
    if one.kind == "object" and isinstance(value, dict):
        return one.given and value.keys() <= {part.key for part in one.fields}
    if one.kind in ("list", "tuple") and isinstance(value, list):
        return one.given and len(value) == len(one.fields)
    return _same(_value(one), value)


def _value(one: Field) -> Any:
    match one.kind:
        case "const":
            return one.shape.schema.get("const")
        case "object" | "list" | "tuple":
            if not one.given:
                return None if one.shape.nullable and (one.required or one.has_default) else MISSING
            values = [(part.key, _value(part)) for part in one.fields]
            if one.kind == "object":
                return {key: value for key, value in values if value is not MISSING}
            return [None if value is MISSING else value for _, value in values]
        case "check" if one.two_valued:
            return one.text == "true"
    if one.text == "" or (one.kind != "text" and not one.text.strip()):
        return one.empty
    match one.kind:
        case "json":
            return _parsed(one)
        case "choice" | "check":
            return next((json.loads(value) for value, _ in one.options if value == one.text), one.text)
        case "number":
            return _number(one.text)
    return one.text


def _parsed(one: Field) -> Any:
    try:
        return json.loads(one.text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        one.errors.append(f"this is no JSON: {error}" if isinstance(error, ValueError) else "this is nested too deeply")
        return MISSING


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON value")


def _number(text: str) -> Any:
    """The number that a text is; otherwise the text, so that whoever takes the value says what is wrong with it."""
    if not _NUMBER.fullmatch(text.strip()):
        return text
    try:
        number = json.loads(text)
    except ValueError:  # it has a leading zero, or thousands of digits
        return text
    return number if math.isfinite(number) else text


def _shown(one: Field, value: Any) -> str:
    """The text that stands for a value in a control; an empty one if none does."""
    if value is MISSING or value is None:
        return ""
    if one.kind == "check" and one.two_valued:
        return "true" if value is True else ""
    if one.kind in ("check", "choice", "number"):
        return _text(value)
    if one.kind == "json":
        return json.dumps(value, ensure_ascii=False, indent=2)
    # Browsers change line ends and drop what is no character.
    odd = isinstance(value, str) and any(unicodedata.category(c) in ("Cc", "Cs") and c not in "\t\n" for c in value)
    return value if isinstance(value, str) and not odd else ""


def _hint(one: Field) -> str:
    schema = one.shape.schema
    said = [str(schema.get("description", ""))] if one.kind not in ("object",) or one.key != "" else []
    least, most = schema.get("minLength", 0), schema.get("maxLength")
    if least > 1:
        said.append(f"at least {least} characters")
    if most is not None:
        said.append(f"at most {most} characters")
    bounds = (
        ("minimum", "at least"),
        ("exclusiveMinimum", "more than"),
        ("maximum", "at most"),
        ("exclusiveMaximum", "less than"),
        ("multipleOf", "a multiple of"),
    )
    said += [f"{words} {_text(schema[name])}" for name, words in bounds if name in schema]
    sizes = (("minItems", "at least"), ("maxItems", "at most")) if one.kind == "list" else ()
    said += [f"{words} {schema[name]} items" for name, words in sizes if name in schema]
    said.append(_FORMATS.get(schema.get("format", ""), ""))
    if schema.get("pattern"):
        said.append(f"must match {schema['pattern']}")
    if schema.get("examples") and one.kind in ("text", "number", "date"):
        said.append(f"such as {schema['examples'][0]}")
    return _sentences(said)


def _sentences(said: list[str]) -> str:
    return " · ".join(one[:1].upper() + one[1:] for one in said if one)


def _label(schema: Json, key: str) -> str:
    return str(schema.get("title") or key.replace("_", " ").capitalize())


def _item_label(index: int) -> str:
    return f"Item {index + 1}"


def _count(data: Mapping[str, str], pointer: str) -> int:
    text = data.get(f"n{pointer}", "0")
    if not (text.isascii() and text.isdigit() and len(text) < 6 and int(text) <= ITEMS_MAX):
        raise InvalidRequest(f"the form says that {pointer!r} has {text[:20]!r} items: at most {ITEMS_MAX} can be sent")
    return int(text)


def _pointers(one: Field, pointer: str) -> Iterator[tuple[str, Field]]:
    yield pointer, one
    for part in one.fields:
        yield from _pointers(part, f"{pointer}/{_escaped(part.key)}")


def _paths(one: Field, path: str) -> Iterator[tuple[str, Field]]:
    """Each field by its path as errors name it."""
    yield path, one
    for part in one.fields:
        yield from _paths(part, f"{path}.{part.key}" if path else str(part.key))


def _escaped(key: str | int) -> str:
    return str(key).replace("~", "~0").replace("/", "~1")


def _lines(text: str) -> str:
    return text.replace("\r\n", "\n")


def _text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _same(one: Any, other: Any) -> bool:
    """Whether two values are the same JSON; ``1``, ``1.0`` and ``true`` are not."""
    if one is MISSING or other is MISSING:
        return one is other
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
