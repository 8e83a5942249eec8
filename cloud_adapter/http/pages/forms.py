"""Forms for JSON schemas. Converts a schema to a tree of fields, and the data that a browser posts to a JSON value.

Pure: does not depend on HTTP, templates or workflows. The code that uses a value decides whether it is valid. Fields
are in ``form_fields``, the choice of a control for a schema in ``form_shapes``, the conversion of values in
``form_values``, and labels and hints in ``form_hints``.

The name of a control is a letter and the JSON pointer of its value:

    v/qty    the text, option or check                    n/items    the number of items in a list
    j/qty    the value as JSON text                       p/owner    present if an optional value is given
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from cloud_adapter.errors import InvalidRequest
from cloud_adapter.http.openapi.samples import sample
from cloud_adapter.http.pages.form_fields import MISSING, Field, escaped, paths, pointers
from cloud_adapter.http.pages.form_hints import hint, item_label, label_of, sentences
from cloud_adapter.http.pages.form_shapes import Json, Shape, shape_of
from cloud_adapter.http.pages.form_values import holds, shown, value_of
from cloud_adapter.json_texts import readable

ITEMS_MAX: Final = 500
"""The most items that a list may have in a form."""

DEPTH_MAX: Final = 8
"""Values that are nested deeper are shown as JSON text."""


class Form:
    """A form for one value."""

    def __init__(self, schema: Json, data: Mapping[str, str] | None = None, value: Any = MISSING) -> None:
        """Creates the form of a schema, as ``pydantic`` generates schemas.

        Args:
            data: the data that a browser has posted.
            value: the value to show if nothing was posted; by default, the defaults of the schema.

        Raises:
            InvalidRequest: a form cannot have posted this data.
        """
        self._definitions = schema.get("$defs", {})
        self._schema = {name: part for name, part in schema.items() if name != "$defs"}
        required = "default" not in self._schema
        if data is None:
            self.root = self._of_value(self._schema, value, "", "Input", required)
        else:
            self.root = self._of_data(self._schema, data, "", "Input", required)
        self._name()

    # --- what is in it -------------------------------------------------------------------

    def value(self) -> Any:
        """Returns the value of the form; MISSING if nothing was filled in. Adds errors to fields whose text is not
        valid JSON."""
        return value_of(self.root)

    def refuse(self, errors: list[dict[str, Any]]) -> None:
        """Adds the errors of an ``InvalidInput`` to the fields that they concern."""
        fields = dict(paths(self.root, ""))
        for error in errors:
            path = str(error["field"])
            near = [known for known in fields if known in ("", path) or path.startswith(f"{known}.")]
            nearest = max(near, key=len)
            rest = path[len(nearest) :].lstrip(".")
            inside = f"{rest}: " if rest and fields[nearest].kind in ("json", "object", "list", "tuple") else ""
            fields[nearest].errors.append(inside + error["message"])

    def errors(self) -> list[tuple[Field, str]]:
        """Returns all errors, in the order of the fields."""
        return [(field, error) for field in self.root.all() for error in field.errors]

    # --- changing its rows ---------------------------------------------------------------

    def edit(self, what: str) -> Field:
        """Performs the action of a button: ``add`` adds an item to a list, ``drop`` removes an item, ``give`` adds an
        optional value, and ``leave`` leaves it out. A JSON pointer follows the action. Returns the field to show next.

        Raises:
            InvalidRequest: the action is not possible.
        """
        action, _, rest = what.partition("/")
        pointer = f"/{rest}" if rest else ""
        found = {field.pointer: field for field in self.root.all()}
        field, parent = found.get(pointer), found.get(pointer.rpartition("/")[0])
        if field is None:
            raise InvalidRequest(f"the form has no field {pointer[:100]!r}: reload the page")
        if action == "add" and field.kind == "list" and len(field.fields) < ITEMS_MAX:
            index, item = len(field.fields), field.shape.schema["items"]
            near = self._of_value(item, MISSING, index, item_label(index), True, pointer.count("/") + 1)
            field.fields.append(near)
        elif action == "drop" and parent is not None and parent.kind == "list":
            parent.fields.remove(field)
            near = parent
        elif action == "give" and field.optional and field.kind in ("list", "tuple", "object"):
            field.given, field.fields = True, self._inside(field, MISSING, pointer.count("/"))
            near = field
        elif action == "leave" and field.optional and field.kind in ("list", "tuple", "object"):
            field.given, field.fields = False, []
            near = field
        else:
            raise InvalidRequest(f"this form does not support {what[:100]!r}: reload the page")
        for changed in (field, parent) if parent is not None else (field,):
            for index, item in enumerate(changed.fields if changed.kind == "list" else ()):
                item.key, item.label = index, item_label(index)
        self._name()
        return near

    # --- from a value --------------------------------------------------------------------

    def _of_value(self, schema: Json, value: Any, key: str | int, label: str, required: bool, depth: int = 0) -> Field:
        field = self._blank(schema, key, label, required, depth)
        if value is MISSING:
            value = MISSING if required else field.shape.schema.get("default", MISSING)
        if field.kind in ("list", "tuple", "object"):
            field.given = not field.optional if value is MISSING else value is not None
            if field.given:
                field.fields = self._inside(field, value, depth)
        elif field.kind != "const":
            field.text = shown(field, value)
        if value is not MISSING and not holds(field, value):
            field = self._as_json(field)
            field.text = readable(value)
        return field

    def _inside(self, field: Field, value: Any, depth: int) -> list[Field]:
        """Returns the fields inside a list or an object that has this value."""
        schema = field.shape.schema
        if field.kind == "object":
            known = value if isinstance(value, dict) else {}
            wanted = schema.get("required", ())
            return [
                self._of_value(part, known.get(key, MISSING), key, label_of(part, key), key in wanted, depth + 1)
                for key, part in schema["properties"].items()
            ]
        items = value if isinstance(value, list) else []
        if field.kind == "tuple":
            items = [*items, *[MISSING] * len(schema["prefixItems"])]
            return [
                self._of_value(part, item, index, item_label(index), True, depth + 1)
                for index, (part, item) in enumerate(zip(schema["prefixItems"], items, strict=False))
            ]
        if value is MISSING:
            items = [MISSING] * min(schema.get("minItems", 0), ITEMS_MAX)
        elif len(items) > ITEMS_MAX:
            return []  # the list is then shown as JSON
        return [
            self._of_value(schema["items"], item, index, item_label(index), True, depth + 1)
            for index, item in enumerate(items)
        ]

    # --- from what was posted ------------------------------------------------------------

    def _of_data(
        self, schema: Json, data: Mapping[str, str], pointer: str, label: str, required: bool, key: str | int = ""
    ) -> Field:
        depth = pointer.count("/")
        field = self._blank(schema, key, label, required, depth)
        if f"j{pointer}" in data:
            field = self._as_json(field)
            field.text = _lines(data[f"j{pointer}"])
            return field
        if field.kind not in ("list", "tuple", "object"):
            field.text = _lines(data.get(f"v{pointer}", ""))
            return field
        field.given = not field.optional or f"p{pointer}" in data
        if not field.given:
            return field
        schema = field.shape.schema
        if field.kind == "object":
            wanted = schema.get("required", ())
            parts = [(name, part, label_of(part, name), name in wanted) for name, part in schema["properties"].items()]
        elif field.kind == "tuple":
            parts = [(index, part, item_label(index), True) for index, part in enumerate(schema["prefixItems"])]
        else:
            parts = [(index, schema["items"], item_label(index), True) for index in range(_count(data, pointer))]
        field.fields = [
            self._of_data(part, data, f"{pointer}/{escaped(name)}", label, required, name)
            for name, part, label, required in parts
        ]
        return field

    # --- parts ---------------------------------------------------------------------------

    def _blank(self, schema: Json, key: str | int, label: str, required: bool, depth: int) -> Field:
        shape = shape_of(schema, self._definitions)
        field = Field(key, label, shape, required)
        if depth >= DEPTH_MAX and field.kind in ("list", "tuple", "object"):
            field = self._as_json(field)
        field.hint = field.hint or hint(field)
        if field.kind == "json":
            field = self._as_json(field)
        return field

    def _as_json(self, field: Field) -> Field:
        shape = Shape("json", field.shape.schema, field.shape.nullable)
        example = json.dumps(sample(field.shape.schema, self._definitions, "all"), ensure_ascii=False)
        described = [str(field.shape.schema.get("description", "")), f"JSON, such as {example}"]
        return Field(field.key, field.label, shape, field.required, hint=sentences(described))

    def _name(self) -> None:
        """Sets the pointer and the id of each field."""
        for number, (pointer, field) in enumerate(pointers(self.root, "")):
            field.pointer, field.id = pointer, f"f{number}"


def _count(data: Mapping[str, str], pointer: str) -> int:
    text = data.get(f"n{pointer}", "0")
    if not (text.isascii() and text.isdigit() and len(text) < 6 and int(text) <= ITEMS_MAX):
        raise InvalidRequest(
            f"list {pointer[:100]!r} has {text[:20]!r} items in the form: it must have at most {ITEMS_MAX}"
        )
    return int(text)


def _lines(text: str) -> str:
    return text.replace("\r\n", "\n")
