"""Decides which parts of a workflow's fields must be compared at each commit.

Fields are stored as JSON and loaded again. Most types survive that exactly, whatever value they have: for these, no
time is spent at a commit. Others survive with most values only: a ``float`` unless it is NaN, a model unless the value
is of a subclass, a type with validators of its own if these are idempotent. For these, the engine compares the value
with what a load gives back, and refuses the commit if they differ.

The decision reads pydantic's core schema of the class. What is not known to be exact is compared in full.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from pydantic import BaseModel

from workflow_core.comparing import Path, changed, compare_values

_EXACT = frozenset({"int", "bool", "none", "date", "timedelta", "uuid", "missing-sentinel"})
"""Types whose values JSON keeps, as pydantic writes and reads them."""

_EXACT_KEYS = frozenset({"str", "int", "date", "uuid"})
"""Types whose values are also kept as the keys of a JSON object."""

_TEXT_CHANGES = ("to_lower", "to_upper", "strip_whitespace")

_SETTINGS = (
    *("ser_json_timedelta", "ser_json_temporal", "ser_json_bytes", "val_json_bytes", "val_temporal_unit"),
    *("str_to_lower", "str_to_upper", "str_strip_whitespace"),
)
"""Settings of a model that change how values are written or read. A model with one of them is compared in full."""

_EXCLUSIONS = ("serialization_exclude", "serialization_exclude_if")


class Comparison:
    """What to compare of one value."""

    def is_needed(self) -> bool:
        """Whether any value could have changed now."""
        return True

    def __call__(self, value: Any, other: Any, path: Path) -> None:
        """Compares a value with the loaded one.

        Raises:
            Changed: they differ.
        """
        compare_values(value, other, path)


_FULL = Comparison()


class _Collection(Comparison):
    """A field whose values are exact, but for a collection of a subclass, such as a ``defaultdict``."""

    def is_needed(self) -> bool:
        return False

    def __call__(self, value: Any, other: Any, path: Path) -> None:
        if type(value) is not type(other) and isinstance(value, (dict, list, tuple, set, frozenset)):
            changed(value, other, path)


_COLLECTION = _Collection()


class _Float(Comparison):
    """A number that JSON cannot represent if it is NaN or infinite. An integer in its place is equal to it."""

    def __call__(self, value: Any, other: Any, path: Path) -> None:
        if value != other:
            changed(value, other, path)


_FLOAT = _Float()


@dataclass(slots=True)
class _Model(Comparison):
    """An object whose class must be the annotated one, and the fields of which some are compared."""

    cls: type
    fields: dict[str, Comparison]
    is_asked: bool = False

    def is_needed(self) -> bool:
        if self.is_asked:  # the type contains itself
            return True
        self.is_asked = True
        try:
            return bool(self.cls.__subclasses__()) or any(field.is_needed() for field in self.fields.values())
        finally:
            self.is_asked = False

    def __call__(self, value: Any, other: Any, path: Path) -> None:
        if type(value) is not self.cls or type(other) is not self.cls:
            compare_values(value, other, path)
            return
        for name, compare in self.fields.items():
            compare(getattr(value, name), getattr(other, name), (*path, name))


@dataclass(slots=True)
class _Around(Comparison):
    """A value that contains others of one type."""

    item: Comparison

    def is_needed(self) -> bool:
        return self.item.is_needed()


class _Items(_Around):
    """A list or a tuple of any length."""

    def __call__(self, value: Any, other: Any, path: Path) -> None:
        if type(value) is not type(other) or len(value) != len(other):
            changed(value, other, path)
        if self.item.is_needed():
            for index, part in enumerate(value):
                self.item(part, other[index], (*path, index))


class _Values(_Around):
    """A dictionary whose keys are kept."""

    def __call__(self, value: Any, other: Any, path: Path) -> None:
        if type(value) is not type(other) or value.keys() != other.keys():
            compare_values(value, other, path)
            return
        for key, part in value.items():
            self.item(part, other[key], (*path, str(key)))


class _Nullable(_Around):
    """A value or None."""

    def __call__(self, value: Any, other: Any, path: Path) -> None:
        if value is not None and other is not None:
            self.item(value, other, path)
        elif value is not other:
            changed(value, other, path)


@dataclass(slots=True)
class _Reference(Comparison):
    """A type that contains itself."""

    target: Comparison | None = None

    def is_needed(self) -> bool:
        return self.target is not None and self.target.is_needed()

    def __call__(self, value: Any, other: Any, path: Path) -> None:
        if self.target is not None:
            self.target(value, other, path)


Schema = Mapping[str, Any]


def comparison(model: type[BaseModel]) -> Comparison | None:
    """Returns what to compare at each commit; None: the fields are kept, whatever their values are."""
    sorter = _Sorter()
    found = sorter.of(model.__pydantic_core_schema__)
    if isinstance(found, _Model):
        for name in model.model_fields.keys() - found.fields.keys():
            found.fields[name] = _COLLECTION
    return found


class _Sorter:
    def __init__(self) -> None:
        self.definitions: dict[str, Schema] = {}
        self.known: dict[str, _Reference] = {}

    def of(self, schema: Schema) -> Comparison | None:
        kind = schema["type"]
        if "serialization" in schema:
            return _FULL
        if kind in _EXACT:
            return None
        known: Callable[[Schema], Comparison | None] | None = getattr(self, "_" + kind.replace("-", "_"), None)
        return _FULL if known is None else known(schema)

    # --- around another type -----------------------------------------------------------------

    def _default(self, schema: Schema) -> Comparison | None:
        return self.of(schema["schema"]) if schema.get("on_error", "raise") == "raise" else _FULL

    def _nullable(self, schema: Schema) -> Comparison | None:
        inner = self.of(schema["schema"])
        return inner if inner is None or inner is _FULL else _Nullable(inner)

    def _definitions(self, schema: Schema) -> Comparison | None:
        self.definitions |= {target["ref"]: target for target in schema["definitions"]}
        return self.of(schema["schema"])

    def _definition_ref(self, schema: Schema) -> Comparison | None:
        ref = schema["schema_ref"]
        if ref not in self.known:
            self.known[ref] = _Reference()
            self.known[ref].target = self.of(self.definitions[ref])
        return self.known[ref]

    # --- single values -----------------------------------------------------------------------

    def _str(self, schema: Schema) -> Comparison | None:
        return _FULL if any(schema.get(change) for change in _TEXT_CHANGES) else None

    def _float(self, schema: Schema) -> Comparison | None:
        return _FLOAT

    def _enum(self, schema: Schema) -> Comparison | None:
        return None if all(_is_plain(member.value) for member in schema["members"]) else _FULL

    def _literal(self, schema: Schema) -> Comparison | None:
        expected = schema["expected"]
        kinds = {type(value) for value in expected}
        is_clear = (
            all(_is_plain(value) and not isinstance(value, Enum) for value in expected) and not {int, bool} <= kinds
        )
        return None if is_clear else _FULL

    def _union(self, schema: Schema) -> Comparison | None:
        choices = [choice[0] if isinstance(choice, tuple) else choice for choice in schema["choices"]]
        kinds = [choice["type"] for choice in choices]
        is_clear = len(set(kinds)) == len(kinds) and set(kinds) <= {"str", "int", "bool", "none"}
        return None if is_clear and all(self.of(choice) is None for choice in choices) else _FULL

    # --- collections -------------------------------------------------------------------------

    def _list(self, schema: Schema) -> Comparison | None:
        inner = self.of(schema.get("items_schema", {"type": "any"}))
        return None if inner is None else _Items(inner)

    def _tuple(self, schema: Schema) -> Comparison | None:
        inner = [self.of(item) for item in schema["items_schema"]]
        if all(item is None for item in inner):
            return None
        return _Items(inner[0]) if len(inner) == 1 and inner[0] and "variadic_item_index" in schema else _FULL

    def _set(self, schema: Schema) -> Comparison | None:
        return None if self.of(schema.get("items_schema", {"type": "any"})) is None else _FULL

    _frozenset = _set

    def _dict(self, schema: Schema) -> Comparison | None:
        keys = schema.get("keys_schema", {"type": "any"})
        inner = self.of(schema.get("values_schema", {"type": "any"}))
        if keys["type"] not in _EXACT_KEYS or self.of(keys) is not None:
            return _FULL
        return None if inner is None else _Values(inner)

    # --- objects -----------------------------------------------------------------------------

    def _model(self, schema: Schema) -> Comparison | None:
        config = schema.get("config", {})
        inner = schema["schema"]
        is_plain = inner["type"] == "model-fields" and not (
            schema.get("custom_init") or schema.get("post_init") or schema.get("root_model") or _is_special(config)
        )
        if not is_plain or schema["cls"].__private_attributes__ or _leaves_out(inner["fields"].values()):
            return _FULL
        return _Model(schema["cls"], self._fields(inner["fields"]))

    def _dataclass(self, schema: Schema) -> Comparison | None:
        inner = schema["schema"]
        if inner["type"] != "dataclass-args" or schema.get("post_init") or _is_special(schema.get("config", {})):
            return _FULL
        if _leaves_out(inner["fields"]):
            return _FULL
        if any(field.get("init") is False or field.get("init_only") for field in inner["fields"]):
            return _FULL
        return _Model(schema["cls"], self._fields({field["name"]: field for field in inner["fields"]}))

    def _fields(self, fields: Mapping[str, Schema]) -> dict[str, Comparison]:
        found = {name: self.of(field["schema"]) for name, field in fields.items()}
        return {name: inner for name, inner in found.items() if inner is not None}


def _is_special(config: Mapping[str, Any]) -> bool:
    return config.get("extra_fields_behavior") == "allow" or any(config.get(name) for name in _SETTINGS)


def _leaves_out(fields: Iterable[Schema]) -> bool:
    """Whether a field is not always written."""
    return any(field.get(name) for field in fields for name in _EXCLUSIONS)


def _is_plain(value: Any) -> bool:
    return type(value) in (str, int, bool) or value is None
