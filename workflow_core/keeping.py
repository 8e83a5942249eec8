"""Decides which parts of a workflow's fields must be compared at each commit.

Fields are stored as JSON and loaded again. Most types survive that exactly, whatever value they have: for these, no
time is spent at a commit, apart from a look at the classes of collections. Others survive with most values only: a
``float`` unless it is NaN, a model unless the value is of a subclass, a type with validators of its own if these are
idempotent. For these, the engine compares the value with what a load gives back, and refuses the commit if they differ.

The decision reads pydantic's core schema of the class. What is not known to be exact is compared in full.
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from functools import cached_property
from typing import Any

from workflow_core.comparing import Path, changed, compare_values
from workflow_core.core_schemas import Schema
from workflow_core.records import record

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

    def fits(self, value: Any) -> bool:
        """Whether all collections in a value have the classes that a load gives them. For a comparison that is not
        needed, this is all that there is to compare, and it takes a fraction of the time."""
        return True


_FULL = Comparison()

_ANY = {"type": "any"}


class _Float(Comparison):
    """A number that JSON cannot represent if it is NaN or infinite. An integer in its place is equal to it."""

    def __call__(self, value: Any, other: Any, path: Path) -> None:
        if value != other and (value == value or other == other):  # NaN differs from itself
            changed(value, other, path)


_FLOAT = _Float()


@record()
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

    def fits(self, value: Any) -> bool:
        if type(value) is not self.cls:
            return False
        for name, field in self.fields.items():  # noqa: SIM110 - a generator takes twice as long
            if not field.fits(getattr(value, name)):
                return False
        return True

    def __call__(self, value: Any, other: Any, path: Path) -> None:
        if type(value) is not self.cls or type(other) is not self.cls:
            compare_values(value, other, path)
            return
        for name, compare in self.fields.items():
            part = getattr(value, name)
            if compare.is_needed() or not compare.fits(part):
                compare(part, getattr(other, name), (*path, name))


@record()
class _OpenModel(_Model):
    """A dataclass whose objects accept other attributes, which are not stored.

    Attributes:
        known: the names of the fields and of what the class computes once.
    """

    known: frozenset[str] = frozenset()

    def fits(self, value: Any) -> bool:
        return super().fits(value) and value.__dict__.keys() <= self.known

    def __call__(self, value: Any, other: Any, path: Path) -> None:
        if type(value) is self.cls and value.__dict__.keys() <= self.known:
            super().__call__(value, other, path)
        else:
            compare_values(value, other, path)


@record()
class _Collection(Comparison):
    """A collection that must be of exactly this class, because a load gives no subclass of it, such as ``defaultdict``.

    Attributes:
        item: what to compare of what it contains; None: nothing.
    """

    cls: Callable[..., Any]
    item: Comparison | None

    def is_needed(self) -> bool:
        return self.item is not None and self.item.is_needed()

    def fits(self, value: Any) -> bool:
        if type(value) is not self.cls:
            return False
        return self.item is None or all(map(self.item.fits, self.contained(value)))

    def contained(self, value: Any) -> Iterable[Any]:
        """Returns what the collection contains."""
        return typing.cast("Iterable[Any]", value)

    def __call__(self, value: Any, other: Any, path: Path) -> None:
        self.check(value, other, path)
        if self.item is not None:
            self.items(self.item, value, other, path)

    def check(self, value: Any, other: Any, path: Path) -> None:
        """Compares the collections without what they contain."""
        if type(value) is not type(other) or len(value) != len(other):
            changed(value, other, path)

    def items(self, item: Comparison, value: Any, other: Any, path: Path) -> None:
        """Compares what the collections contain."""
        for index, part in enumerate(value):
            item(part, other[index], (*path, index))


class _Set(_Collection):
    """A set. Its items have no order."""

    def items(self, item: Comparison, value: Any, other: Any, path: Path) -> None:
        compare_values(value, other, path)


class _Values(_Collection):
    """A dictionary whose keys are kept."""

    def contained(self, value: Any) -> Iterable[Any]:
        return typing.cast("dict[Any, Any]", value).values()

    def items(self, item: Comparison, value: Any, other: Any, path: Path) -> None:
        if value.keys() != other.keys():
            compare_values(value, other, path)
        for key, part in value.items():
            item(part, other[key], (*path, str(key)))


@record()
class _Fixed(Comparison):
    """A tuple with a type for each item."""

    parts: list[Comparison | None]

    def is_needed(self) -> bool:
        return any(part is not None and part.is_needed() for part in self.parts)

    def fits(self, value: Any) -> bool:
        return type(value) is tuple and all(
            part is None or part.fits(item) for part, item in zip(self.parts, value, strict=True)
        )

    def __call__(self, value: Any, other: Any, path: Path) -> None:
        _Collection(tuple, None)(value, other, path)
        for index, part in enumerate(self.parts):
            if part is not None:
                part(value[index], other[index], (*path, index))


@record()
class _Nullable(Comparison):
    """A value or None."""

    item: Comparison

    def is_needed(self) -> bool:
        return self.item.is_needed()

    def fits(self, value: Any) -> bool:
        return value is None or self.item.fits(value)

    def __call__(self, value: Any, other: Any, path: Path) -> None:
        if value is not None and other is not None:
            self.item(value, other, path)
        elif value is not other:
            changed(value, other, path)


@record()
class _Reference(Comparison):
    """A type that contains itself."""

    target: Comparison | None = None

    def is_needed(self) -> bool:
        return self.target is not None and self.target.is_needed()

    def fits(self, value: Any) -> bool:
        return self.target is None or self.target.fits(value)

    def __call__(self, value: Any, other: Any, path: Path) -> None:
        if self.target is not None:
            self.target(value, other, path)


def comparison_of(schema: Schema) -> Comparison | None:
    """Returns what to compare of values of a type; None: they are kept, whatever they are."""
    return _Sorter().of(schema)


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
        return _Collection(list, self.of(schema.get("items_schema", _ANY)))

    def _tuple(self, schema: Schema) -> Comparison | None:
        inner = [self.of(item) for item in schema["items_schema"]]
        if "variadic_item_index" not in schema:
            return _Fixed(inner) if any(inner) else _Collection(tuple, None)
        return _Collection(tuple, inner[0]) if len(inner) == 1 else _FULL

    def _set(self, schema: Schema) -> Comparison | None:
        return self._of_set(set, schema)

    def _frozenset(self, schema: Schema) -> Comparison | None:
        return self._of_set(frozenset, schema)

    def _of_set(self, cls: Callable[..., Any], schema: Schema) -> Comparison | None:
        inner = self.of(schema.get("items_schema", _ANY))
        is_shape = isinstance(inner, (_Collection, _Fixed)) and not inner.is_needed()
        return _Set(cls, inner) if inner is None or is_shape else _FULL

    def _dict(self, schema: Schema) -> Comparison | None:
        keys = schema.get("keys_schema", _ANY)
        if keys["type"] not in _EXACT_KEYS or self.of(keys) is not None:
            return _FULL
        return _Values(dict, self.of(schema.get("values_schema", _ANY)))

    # --- objects -----------------------------------------------------------------------------

    def _model(self, schema: Schema) -> Comparison | None:
        config = schema.get("config", {})
        inner = schema["schema"]
        is_plain = inner["type"] == "model-fields" and not (
            schema.get("custom_init") or schema.get("post_init") or schema.get("root_model") or is_special(config)
        )
        if (
            not is_plain
            or getattr(schema["cls"], "__private_attributes__", None)
            or _leaves_out(inner["fields"].values())
        ):
            return _FULL
        return _Model(schema["cls"], self._fields(inner["fields"]))

    def _dataclass(self, schema: Schema) -> Comparison | None:
        inner = schema["schema"]
        if inner["type"] != "dataclass-args" or schema.get("post_init") or is_special(schema.get("config", {})):
            return _FULL
        if _leaves_out(inner["fields"]):
            return _FULL
        if any(field.get("init") is False or field.get("init_only") for field in inner["fields"]):
            return _FULL
        cls, fields = schema["cls"], self._fields({field["name"]: field for field in inner["fields"]})
        if not cls.__dictoffset__:  # such as with slots=True
            return _Model(cls, fields)
        computed = (name for name in dir(cls) if isinstance(inspect.getattr_static(cls, name), cached_property))
        return _OpenModel(cls, fields, known=frozenset((*cls.__dataclass_fields__, *computed)))

    def _fields(self, fields: Mapping[str, Schema]) -> dict[str, Comparison]:
        found = {name: self.of(field["schema"]) for name, field in fields.items()}
        return {name: inner for name, inner in found.items() if inner is not None}


def is_special(config: Mapping[str, Any]) -> bool:
    """Whether a class with these settings is compared in full."""
    return config.get("extra_fields_behavior") == "allow" or any(config.get(name) for name in _SETTINGS)


def _leaves_out(fields: Iterable[Schema]) -> bool:
    """Whether a field is not always written."""
    return any(field.get(name) for field in fields for name in _EXCLUSIONS)


def _is_plain(value: Any) -> bool:
    return type(value) in (str, int, bool) or value is None
