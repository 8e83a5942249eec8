"""Compares the fields before a commit with what a load gives back, so that nothing is changed silently.

A value is kept if the loaded one has the same type and is equal, in every part. ``workflow_core.keeping`` decides at
import which parts of a workflow have to be compared.
"""

from __future__ import annotations

import math
import re
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields as dataclass_fields
from dataclasses import is_dataclass
from datetime import datetime, time, timezone
from decimal import Decimal
from functools import cached_property
from typing import Any, NoReturn

from pydantic import BaseModel
from pydantic_core import PydanticSerializationError, TzInfo

from workflow_core.errors import InvalidFields
from workflow_core.secret_values import MASK, SECRETS
from workflow_core.type_names import type_name

Path = tuple[str | int, ...]
"""Where a value is: the names of fields, the indexes of lists and the keys of dictionaries."""

_SHOWN_CHARS_MAX = 80

_HALF = re.compile("[\ud800-\udfff]")

REPLACED = "\ufffd".encode()
"""What pydantic writes in place of a half of a character."""

_COLLECTIONS = (dict, list, tuple, deque, set, frozenset)


class Changed(InvalidFields):
    """A value of a field would not be loaded as it is.

    Attributes:
        path: where it is, such as ``cart.0.price``.
    """

    def __init__(self, path: Path, value: object, other: object, fix: str) -> None:
        self.path = ".".join(map(str, path))
        what = self.path or "the value"
        given, loaded = _shown(value, other), _shown(other, value)
        if given == loaded != MASK and type(value) is not type(other):
            given, loaded = f"{given} ({type_name(type(value))})", f"{loaded} ({type_name(type(other))})"
        super().__init__(f"{what} is {given}, but would be loaded as {loaded}. {fix}")


def compare_values(value: Any, other: Any, path: Path) -> None:
    """Compares a value with what was loaded in its place.

    Raises:
        Changed: they differ.
    """
    if value is other:
        return
    if type(value) is not type(other):
        if type(value) is int and type(other) is float and value == other:
            return  # an integer is a float, as for type checkers
        changed(value, other, path)
    if isinstance(value, _COLLECTIONS) and getattr(value, "__dict__", None):  # of a subclass
        _compare_parts(vars(value), vars(other), path)
    if isinstance(value, BaseModel):
        _compare_parts(_parts_of_model(value), _parts_of_model(other), path)
    elif is_dataclass(value):
        _compare_parts(_parts_of_dataclass(value), _parts_of_dataclass(other), path)
    elif isinstance(value, Mapping):
        _compare_mappings(value, other, path)
    elif isinstance(value, (list, tuple, deque)):
        if len(value) != len(other) or (isinstance(value, deque) and value.maxlen != other.maxlen):
            changed(value, other, path)
        for index, (item, loaded) in enumerate(zip(value, other, strict=True)):
            compare_values(item, loaded, (*path, index))
    elif isinstance(value, (set, frozenset)):
        if {(_kind(item), item) for item in value} != {(_kind(item), item) for item in other}:
            changed(value, other, path)
    elif isinstance(value, SECRETS):
        is_same = True
        try:
            compare_values(value.get_secret_value(), other.get_secret_value(), path)
        except Changed:
            is_same = False
        if not is_same:  # not inside of ``except``, because the log would show the error with the values
            changed(value, other, path)
    elif not _is_same(value, other):
        changed(value, other, path)


def changed(value: object, other: object, path: Path) -> NoReturn:
    """Raises ``Changed``, with the fix for this kind of value."""
    raise Changed(path, value, other, _fix(value))


def _kind(value: object) -> type:
    return float if type(value) is int else type(value)  # an integer is a float, as for type checkers


def _is_same(value: Any, other: Any) -> bool:
    if isinstance(value, (datetime, time)):
        return _moment(value) == _moment(other)
    if isinstance(value, Decimal):
        return bool(value.as_tuple() == other.as_tuple())
    has_equality = any("__eq__" in vars(base) for base in type(value).__mro__[:-1])
    if not has_equality and hasattr(value, "__dict__"):
        return bool(vars(value) == vars(other))
    return bool(value == other) or (value != value and other != other)  # NaN differs from itself


def _moment(value: datetime | time) -> tuple[object, ...]:
    """Returns what a moment is made of. A repeated hour is told apart by ``fold``, and with an offset by that."""
    fold = value.fold if value.tzinfo is None else 0
    return value.replace(tzinfo=None, fold=0), value.utcoffset(), _zone_name(value), fold


def _zone_name(value: datetime | time) -> str | None:
    """Returns the name of a time zone; None if it is known only by its offset."""
    zone, offset = value.tzinfo, value.utcoffset()
    if isinstance(zone, TzInfo):  # what pydantic loads
        return None
    name: str | None = getattr(zone, "key", None) or value.tzname()
    is_offset = isinstance(zone, timezone) and offset is not None and name == timezone(offset).tzname(None)
    return None if is_offset else name


def _parts_of_model(model: BaseModel) -> dict[str, Any]:
    return {
        **{name: getattr(model, name) for name in type(model).model_fields},
        **(model.__pydantic_extra__ or {}),
        **(model.__pydantic_private__ or {}),
    }


def _parts_of_dataclass(value: Any) -> dict[str, Any]:
    parts = {field.name: getattr(value, field.name) for field in dataclass_fields(value)}
    others = {name: part for name, part in getattr(value, "__dict__", {}).items() if name not in parts}
    return parts | {
        name: part for name, part in others.items() if not isinstance(getattr(type(value), name, None), cached_property)
    }


def _compare_parts(parts: dict[str, Any], others: dict[str, Any], path: Path) -> None:
    for name in parts.keys() ^ others.keys():
        fix = "It is not a field of its class, so it would be lost: declare it there"
        raise Changed((*path, name), parts.get(name), others.get(name), fix)
    for name, part in parts.items():
        compare_values(part, others[name], (*path, name))


def _compare_mappings(value: Mapping[Any, Any], other: Mapping[Any, Any], path: Path) -> None:
    if len(value) != len(other) or getattr(value, "default_factory", None) != getattr(other, "default_factory", None):
        changed(value, other, path)
    keys = {key: key for key in other} if value.keys() == other.keys() else dict(zip(value, other, strict=True))
    for key, item in value.items():
        compare_values(key, keys[key], (*path, str(key)))
        compare_values(item, other[keys[key]], (*path, str(key)))


def leaves(value: Any, path: Path = (), *, only_given: bool = False) -> Iterator[tuple[Path, Any]]:
    """Yields the numbers, texts and other leaves of a value, each with its path; also the keys of its dictionaries. A
    secret is yielded itself, and then what it contains.

    Args:
        only_given: whether the fields of objects that were left out, and so have their defaults, are skipped.
    """
    if isinstance(value, BaseModel):
        parts: Iterable[tuple[Any, Any]] = _parts_of_model(value).items()
    elif is_dataclass(value):
        parts = _parts_of_dataclass(value).items()
    elif isinstance(value, Mapping):
        parts = value.items()
        for key in value:
            yield from leaves(key, path, only_given=only_given)
    elif isinstance(value, (list, tuple, deque, set, frozenset)):
        parts = enumerate(value)
    else:
        yield path, value
        parts = ()
        if isinstance(value, SECRETS):
            yield from leaves(value.get_secret_value(), path, only_given=only_given)
    for name, part in parts:
        if not only_given or not _is_left_out(value, name, part):
            yield from leaves(part, (*path, str(name)), only_given=only_given)


def refuse_halves(value: Any, path: Path = ()) -> None:
    """Refuses halves of characters, as ``json.loads`` and ``os.fsdecode`` return them. Pydantic refuses them in a text,
    but replaces them in a key of a mapping.

    Raises:
        PydanticSerializationError: the value contains one.
    """
    for at, leaf in leaves(value, path):
        if isinstance(leaf, str) and (half := _HALF.search(leaf)):
            where = ".".join(map(str, at)) or "it"
            raise PydanticSerializationError(
                f"{where} contains {half[0]!r}, which is half of a character. JSON has no such text"
            )


def _is_left_out(value: Any, name: Any, part: Any) -> bool:
    """Whether a part of a value is its default. A dataclass does not know, but a value that was sent is a new one."""
    if isinstance(value, BaseModel):
        return name in type(value).model_fields and name not in value.model_fields_set
    if is_dataclass(value):
        cls: Any = type(value)
        fields: Mapping[str, Any] = getattr(cls, "__pydantic_fields__", cls.__dataclass_fields__)
        return name in fields and (part is fields[name].default or _is_made(part, fields[name].default_factory))
    if hasattr(value, "_field_defaults"):  # a NamedTuple
        names: tuple[str, ...] = value._fields
        return part is value._field_defaults.get(names[name], value)
    return False


def _is_made(part: Any, factory: Any) -> bool:
    """Whether a part of a dataclass is like its default, which a factory makes anew for each value. Asked only if it
    contains a number that JSON does not have, because others may be sent."""
    if not callable(factory) or all(map(_is_finite, leaves(part))):
        return False
    try:
        return repr(part) == repr(factory())
    except Exception:
        return False


def _is_finite(leaf: tuple[Path, Any]) -> bool:
    _, value = leaf
    return not isinstance(value, (float, Decimal)) or math.isfinite(value)


def _shown(value: object, other: object) -> str:
    """Returns a value for an error; masked if it contains a secret of one of the two values as a text."""
    if isinstance(value, SECRETS) or isinstance(other, SECRETS):
        return MASK
    if isinstance(value, (datetime, time)):
        fold = f", fold={value.fold}" if value.fold else ""
        return f"{value} ({getattr(value.tzinfo, 'key', value.tzinfo)}{fold})"
    text = repr(value)
    for _, leaf in (*leaves(value), *leaves(other)):
        secret = leaf.get_secret_value() if isinstance(leaf, SECRETS) else ""
        if secret and (secret.decode("utf-8", "replace") if isinstance(secret, bytes) else str(secret)) in text:
            return MASK
    return text if len(text) <= _SHOWN_CHARS_MAX else f"{text[:_SHOWN_CHARS_MAX]}..."


def _fix(value: object) -> str:
    match value:
        case float() | Decimal() if not math.isfinite(value):
            return "JSON has no such number: use None or a text"
        case datetime() | time():
            return "Convert it, for example with astimezone(UTC), and keep the name of the zone in a field of its own"
        case BaseModel():
            return "Annotate it with the class itself, or with a union of the classes that has a discriminator"
        case _ if isinstance(value, SECRETS):
            return "Annotate it with the type of the secret, without a serializer of your own"
        case _:
            return "Annotate it with the type of the value, so that it can be restored from JSON"
