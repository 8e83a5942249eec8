"""Infers the types of expressions from what is plain in the source.

Rule: an inferred type is only used to store a value that plain JSON does not keep, such as a tuple or a model. A type
that is missing or wrong therefore never changes a value: it is refused, with an error that asks for an annotation.
"""

from __future__ import annotations

import ast
import builtins
import collections
import dataclasses
import enum
import types
import typing
from collections.abc import Callable, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, cast
from uuid import UUID

from workflow_core.errors import DefinitionError
from workflow_core.plain.expressions import Reading
from workflow_core.plain.field_types import UNCHANGING, field_of, generic, item_of, united, value_at
from workflow_core.plain.parts import Frame
from workflow_core.plain.source import UNKNOWN

Scope = Mapping[str, Any]
"""The types of the variables of comprehensions."""

_PLAIN = (bool, int, float, str, types.NoneType)
_VALUES = (*UNCHANGING, time, UUID)
_MAKERS = frozenset(("now", "utcnow", "today", "fromisoformat", "fromtimestamp", "strptime", "combine", "from_float"))
_MODEL_MAKERS = frozenset(("model_validate", "model_validate_json", "model_construct"))
_SAME = frozenset(
    ("copy", "model_copy", "replace", "astimezone", "quantize", "normalize", "union", "difference", "intersection")
)
_UNTYPED = (dict, object, type, super, map, filter, zip, enumerate, property, staticmethod, classmethod)


def is_plain(kind: Any) -> bool:
    """Whether all values of a type are kept by plain JSON."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any or kind in (*_PLAIN, list, dict):
        return True
    if origin is typing.Annotated:
        return is_plain(arguments[0])
    if origin is typing.Literal:
        return all(type(value) in _PLAIN for value in arguments)
    if origin in (list, types.UnionType, typing.Union):
        return all(map(is_plain, arguments))
    return origin is dict and arguments[0] in (str, Any) and is_plain(arguments[1])


class Inference:
    """Infers types.

    Args:
        reading: what the scan knows about types.
        local: returns the type of a local by its key.
    """

    def __init__(self, reading: Reading, local: Callable[[str], Any]) -> None:
        self._reading = reading
        self._local = local

    def type_of(self, frame: Frame, node: ast.expr | None, key: str = "", scope: Scope = {}) -> Any:  # noqa: B006
        """Returns the type of an expression; None if it adds nothing to that of the local ``key``, because it is
        computed from this local; ``UNKNOWN`` if it is not known."""

        def of(part: ast.expr) -> Any:
            return self.type_of(frame, part, key, scope)

        match node:
            case ast.Constant(value):
                return type(value) if type(value) in (*_PLAIN, bytes) else UNKNOWN
            case ast.JoinedStr():
                return str
            case ast.Compare() | ast.UnaryOp(ast.Not()):
                return bool
            case ast.UnaryOp(_, operand):
                return int if of(operand) is bool else of(operand)
            case ast.NamedExpr(_, value):
                return of(value)
            case ast.IfExp(_, body, orelse):
                return _all([of(body), of(orelse)])
            case ast.BoolOp(_, values):
                return _all([of(value) for value in values])
            case ast.BinOp(left, operator, right):
                return _computed(of(left), operator, of(right))
            case ast.Name(name):
                if name in scope:
                    return scope[name]
                if name in frame.variables or name.startswith((".", "/")):
                    return None if frame.key(name) == key else self._local(frame.key(name))
                return _constant(frame.source.resolve(node))
            case ast.Attribute(ast.Name(owner), name) if owner == frame.source.self_name:
                return field_of(self._reading.cls, name)
            case ast.Attribute(value, name):
                known = _constant(frame.source.resolve(node))
                return field_of(_some(of(value)), name) if known is UNKNOWN else known
            case ast.Subscript(value, index):
                return value_at(_some(of(value)), index)
            case ast.Tuple() | ast.List() | ast.Set():
                return _display(node, [of(part) for part in node.elts])
            case ast.Dict(keys, values) if None not in keys:
                kinds = [_all([of(part) for part in parts if part is not None]) for parts in (keys, values)]
                return generic(dict, *map(_or_any, kinds)) if values else dict
            case ast.ListComp(part, loops) | ast.SetComp(part, loops) | ast.GeneratorExp(part, loops):
                kind = self.type_of(frame, part, key, self._comprehended(frame, loops, key, scope))
                return generic(set if isinstance(node, ast.SetComp) else list, _or_any(kind))
            case ast.DictComp(name_part, value_part, loops):
                inner = self._comprehended(frame, loops, key, scope)
                kinds = [self.type_of(frame, part, key, inner) for part in (name_part, value_part)]
                return generic(dict, *map(_or_any, kinds))
            case ast.Call():
                return self._call(frame, node, key, scope)
        return UNKNOWN

    def item_type(self, frame: Frame, node: ast.expr, key: str = "", scope: Scope = {}) -> Any:  # noqa: B006
        """Returns the type of the items of an expression."""
        match node:
            case ast.Call(ast.Attribute(value, "items" | "keys" | "values" as method), [], []):
                arguments = typing.get_args(_some(self.type_of(frame, value, key, scope)))
                if len(arguments) != 2:
                    return UNKNOWN
                return {"items": generic(tuple, *arguments), "keys": arguments[0], "values": arguments[1]}[method]
            case ast.Call(function, arguments):
                called = frame.source.resolve(function)
                if called is builtins.enumerate and arguments:
                    return generic(tuple, int, _or_any(self.item_type(frame, arguments[0], key, scope)))
                if called is builtins.zip and arguments:
                    return generic(tuple, *[_or_any(self.item_type(frame, part, key, scope)) for part in arguments])
                if called is builtins.range:
                    return int
                if called is builtins.reversed and arguments:
                    return self.item_type(frame, arguments[0], key, scope)
        return item_of(_some(self.type_of(frame, node, key, scope)))

    def _comprehended(self, frame: Frame, loops: list[ast.comprehension], key: str, scope: Scope) -> Scope:
        inner = dict(scope)
        for loop in loops:
            inner |= dict(targets_of(loop.target, self.item_type(frame, loop.iter, key, inner)))
        return inner

    def _call(self, frame: Frame, node: ast.Call, key: str, scope: Scope) -> Any:
        function, first = node.func, node.args[0] if node.args else None
        if isinstance(function, ast.Name) and function.id in self._reading.constants:
            called = self._reading.constants[function.id]
        else:
            called = frame.source.resolve(function)
        if isinstance(called, type):
            return self._made(called, frame, first, key, scope)
        if called in (builtins.sorted, builtins.next, builtins.min, builtins.max) and len(node.args) == 1 and first:
            item = self.item_type(frame, first, key, scope)
            return generic(list, _or_any(item)) if called is builtins.sorted else item
        if called in (builtins.next, builtins.sum) and first is not None and len(node.args) <= 2:
            last = node.args[1] if len(node.args) == 2 else ast.Constant(0)  # the default of next, the start of sum
            return _all([self.item_type(frame, first, key, scope), self.type_of(frame, last, key, scope)])
        if called is builtins.len:
            return int
        if called is dataclasses.replace and first is not None:
            return self.type_of(frame, first, key, scope)
        maker = getattr(called, "__self__", None)
        if isinstance(maker, type) and getattr(called, "__name__", "") in _MAKERS | _MODEL_MAKERS:
            return maker
        if called is not UNKNOWN:
            return self._returned(called)
        match function:
            case ast.Attribute(ast.Name(owner), name) if owner == frame.source.self_name and name not in scope:
                return self._returned(getattr(self._reading.cls, name, None))
            case ast.Attribute(value, name):
                return self._method(_some(self.type_of(frame, value, key, scope)), name)
        return UNKNOWN

    def _made(self, cls: type, frame: Frame, first: ast.expr | None, key: str, scope: Scope) -> Any:
        if cls in (list, set, frozenset, tuple, collections.deque):
            item = UNKNOWN if first is None else self.item_type(frame, first, key, scope)
            if cls is list and item is UNKNOWN:
                return list if first is None else UNKNOWN
            if cls is tuple:
                return generic(tuple, _or_any(item), ...)
            return cls if item is UNKNOWN else generic(cls, item)
        return UNKNOWN if cls in _UNTYPED else cls

    def _method(self, owner: Any, name: str) -> Any:
        origin, arguments = typing.get_origin(owner), typing.get_args(owner)
        if owner is UNKNOWN or owner is None:
            return UNKNOWN
        if name in _SAME:
            return owner
        if origin is dict and name == "get":
            return _all([arguments[1], types.NoneType])
        if name in ("pop", "popleft") and origin in (list, dict, set, collections.deque):
            return arguments[-1]
        return date if owner is datetime and name == "date" else self._returned(getattr(owner, name, None))

    def _returned(self, function: Any) -> Any:
        if not isinstance(function, (types.FunctionType, types.MethodType)):
            return UNKNOWN
        try:
            kind = self._reading.hints(function).get("return", UNKNOWN)
        except DefinitionError:
            return UNKNOWN
        return UNKNOWN if isinstance(kind, typing.TypeVar) else kind


def targets_of(target: ast.expr, kind: Any) -> list[tuple[str, Any]]:
    """Returns the variables of a target, each with its type if a value of a type is assigned to the target."""
    if isinstance(target, ast.Name):
        return [(target.id, kind)]
    found: list[tuple[str, Any]] = []
    for index, part in enumerate(getattr(target, "elts", ())):
        if isinstance(part, ast.Starred):
            rest: list[ast.expr] = getattr(target, "elts", [])[index + 1 :]
            found += [(name.id, UNKNOWN) for after in rest for name in ast.walk(after) if isinstance(name, ast.Name)]
            kind = kind if typing.get_origin(kind) is list else UNKNOWN
            found += [(name.id, kind) for name in ast.walk(part) if isinstance(name, ast.Name)]
            break
        found += targets_of(part, value_at(kind, ast.Constant(index)))
    return found


def _all(kinds: list[Any]) -> Any:
    known = [kind for kind in kinds if kind is not None]
    return united(known) if known else None


def _or_any(kind: Any) -> Any:
    return Any if kind is UNKNOWN or kind is None else kind


def _some(kind: Any) -> Any:
    """Returns a type without None."""
    if typing.get_origin(kind) is typing.Annotated:
        return _some(typing.get_args(kind)[0])
    if typing.get_origin(kind) in (types.UnionType, typing.Union):
        others = [part for part in typing.get_args(kind) if part is not types.NoneType]
        return others[0] if len(others) == 1 else kind
    return kind


def _constant(value: Any) -> Any:
    """Returns the type of an object of a module or of an enclosing function."""
    return type(value) if isinstance(value, (*_VALUES, enum.Enum)) else UNKNOWN


def _display(node: ast.Tuple | ast.List | ast.Set, kinds: list[Any]) -> Any:
    if any(isinstance(part, ast.Starred) for part in node.elts):
        return generic(tuple, Any, ...) if isinstance(node, ast.Tuple) else UNKNOWN
    if isinstance(node, ast.Tuple):
        return generic(tuple, *map(_or_any, kinds)) if kinds else UNKNOWN
    if not kinds:
        return list if isinstance(node, ast.List) else UNKNOWN
    return generic(list if isinstance(node, ast.List) else set, _or_any(_all(kinds)))


def _computed(left: Any, operator: ast.operator, right: Any) -> Any:
    """Returns the type of what an operator gives."""
    if left is None or right is None:  # one side is the local itself
        other = right if left is None else left
        if other is None:
            return None
        left = right = other
    kinds = {int if kind is bool else kind for kind in (left, right)}
    if kinds <= {int, float}:
        if isinstance(operator, ast.Div) or float in kinds:
            return float
        return UNKNOWN if isinstance(operator, ast.Pow) else int
    if Decimal in kinds and kinds <= {int, Decimal}:
        return Decimal
    if kinds & {datetime, date, timedelta}:
        return _moment(left, operator, right)
    if str in kinds and isinstance(operator, (ast.Mod, ast.Mult)):
        return str
    simple = isinstance(operator, (ast.Add, ast.BitOr, ast.BitAnd, ast.Sub))
    return cast(Any, left) if simple and left == right else UNKNOWN


def _moment(left: Any, operator: ast.operator, right: Any) -> Any:
    if left == right and left is not timedelta:
        return timedelta if isinstance(operator, ast.Sub) else left
    if isinstance(operator, (ast.Add, ast.Sub)):
        return left if right is timedelta else right if left is timedelta else UNKNOWN
    return timedelta if isinstance(operator, ast.Mult) and {left, right} <= {timedelta, int, float} else UNKNOWN
