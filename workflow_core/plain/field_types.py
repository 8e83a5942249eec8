"""Types by the annotations of classes: that of a field, and that of the items of a collection."""

from __future__ import annotations

import ast
import collections.abc
import types
import typing
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

from workflow_core.plain.source import UNKNOWN

UNCHANGING = (bool, int, float, str, bytes, Decimal, date, datetime, timedelta)
"""Types whose values are never changed in place."""

_LISTS = (list, set, frozenset, collections.deque, collections.abc.Sequence, collections.abc.Iterable)
_MAPPINGS = (dict, collections.abc.Mapping, collections.abc.MutableMapping)


def field_of(owner: Any, name: str) -> Any:
    """Returns the type of a field of a model or a dataclass; ``UNKNOWN`` if it has none."""
    fields = getattr(owner, "model_fields", None)
    if fields and name in fields:
        return fields[name].rebuild_annotation()
    origin: Any = typing.get_origin(owner)
    if isinstance(origin, type) and name in getattr(origin, "__dataclass_fields__", ()):
        known = dict(zip(getattr(origin, "__parameters__", ()), typing.get_args(owner), strict=False))
        kind = field_of(origin, name)
        return known.get(kind, UNKNOWN) if isinstance(kind, typing.TypeVar) else kind
    if isinstance(owner, type) and (name in getattr(owner, "__dataclass_fields__", ()) or hasattr(owner, "_fields")):
        try:
            return typing.get_type_hints(owner, include_extras=True).get(name, UNKNOWN)
        except (NameError, TypeError):
            return UNKNOWN
    return UNKNOWN


def value_at(owner: Any, index: ast.expr) -> Any:
    """Returns the type of ``owner[index]``; ``UNKNOWN`` if it is not known."""
    origin, arguments = typing.get_origin(owner), typing.get_args(owner)
    if isinstance(index, ast.Slice):
        return owner if origin is list or owner is str else UNKNOWN
    if origin is tuple:
        position = index.value if isinstance(index, ast.Constant) else None
        if Ellipsis in arguments:
            return arguments[0]
        known = isinstance(position, int) and -len(arguments) <= position < len(arguments)
        return arguments[position] if known and isinstance(position, int) else UNKNOWN
    if origin in _MAPPINGS and len(arguments) == 2:
        return arguments[1]
    return arguments[0] if origin is list else (str if owner is str else UNKNOWN)


def item_of(owner: Any) -> Any:
    """Returns the type of what a loop over a value of a type gives; ``UNKNOWN`` if it is not known."""
    origin, arguments = typing.get_origin(owner), typing.get_args(owner)
    if owner is str or owner is range:
        return str if owner is str else int
    if origin in _LISTS or origin in _MAPPINGS:
        return arguments[0] if arguments else UNKNOWN
    if origin is tuple:
        kinds = set(arguments) - {Ellipsis}
        return kinds.pop() if len(kinds) == 1 else UNKNOWN
    return UNKNOWN


def field_type(cls: Any, self_name: str, node: ast.expr) -> Any:
    """Returns the type of ``self.field`` or ``self.field[...]``; ``UNKNOWN`` for another expression."""
    match node:
        case ast.Attribute(ast.Name(owner), name) if owner == self_name:
            return field_of(cls, name)
        case ast.Subscript(ast.Attribute() as inner, index):
            return value_at(field_type(cls, self_name, inner), index)
    return UNKNOWN


def generic(kind: Any, *arguments: Any) -> Any:
    """Returns ``kind[arguments]``; ``UNKNOWN`` if one of them is not known."""
    if any(argument is UNKNOWN for argument in arguments):
        return UNKNOWN
    return kind[arguments if len(arguments) > 1 else arguments[0]]


def may_be_none(kind: Any) -> bool:
    """Whether a value of a type may be None; True if the type is not known."""
    if kind in (UNKNOWN, Any, None, types.NoneType, object, typing.NoReturn) or isinstance(kind, typing.TypeVar):
        return True
    origin = typing.get_origin(kind)
    if origin is typing.Literal:
        return None in typing.get_args(kind)
    if origin is typing.Annotated or origin in (typing.Union, types.UnionType):
        return any(map(may_be_none, typing.get_args(kind)[: 1 if origin is typing.Annotated else None]))
    return not isinstance(origin or kind, type)


def optional(kind: Any) -> Any:
    """Returns the union of a type with None."""
    return typing.Union[kind, None]  # noqa: UP007 - ``|`` does not accept every annotation


def united(kinds: list[Any]) -> Any:
    """Returns the union of some types; ``UNKNOWN`` if one of them is not known."""
    if not kinds or any(kind is UNKNOWN for kind in kinds):
        return UNKNOWN
    kinds = list(dict.fromkeys(types.NoneType if kind is None else kind for kind in kinds))
    if len(kinds) == 1:
        return kinds[0]
    result = kinds[0]
    for kind in kinds[1:]:
        try:
            result = result | kind
        except TypeError:
            return UNKNOWN
    return result
