"""The types of locals: by annotation, by the call that a value comes from, or by what is plain in the source.

A local of an unknown type is stored as plain JSON. Where that would change its value, the program is stopped with an
error that asks for an annotation; see ``workflow_core.machine.frames``.
"""

from __future__ import annotations

import ast
import functools
import operator
import types
import typing
from collections.abc import Callable, Iterable
from typing import Any

from pydantic import TypeAdapter

from workflow_core.errors import DefinitionError
from workflow_core.plain.expressions import Reading
from workflow_core.plain.flow import inner_parts
from workflow_core.plain.parts import Code, Frame, Part
from workflow_core.plain.source import UNKNOWN
from workflow_core.statements.inline import Local
from workflow_core.value_form import ValueForm

_SIMPLE = (bool, int, float, str, types.NoneType)


class LocalTypes:
    """The types of all locals of a definition.

    Args:
        reading: what the scan knows about types.
        adapter: returns the adapter of an annotation.
    """

    def __init__(self, reading: Reading, parts: list[Part], adapter: Callable[[str, Any], TypeAdapter[Any]]) -> None:
        self._reading = reading
        self._adapter = adapter
        self._assigned: dict[str, list[tuple[Frame, ast.expr | None]]] = {}
        self._known: dict[str, Any] = {}
        self._note(parts)

    def _note(self, parts: Iterable[Part]) -> None:
        for part in parts:
            for statement in part.statements if isinstance(part, Code) else ():
                self._note_statement(part.frame, statement)
            for inner in inner_parts(part):
                self._note(inner)

    def _note_statement(self, frame: Frame, statement: ast.stmt) -> None:
        known: set[int] = set()
        for node in ast.walk(statement):
            if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
                self._assigned.setdefault(frame.key(node.targets[0].id), []).append((frame, node.value))
                known.add(id(node.targets[0]))
            elif isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Name):
                value = ast.BinOp(ast.Name(node.target.id, ast.Load()), node.op, node.value)
                self._assigned.setdefault(frame.key(node.target.id), []).append((frame, value))
                known.add(id(node.target))
            elif isinstance(node, ast.NamedExpr):
                self._assigned.setdefault(frame.key(node.target.id), []).append((frame, node.value))
                known.add(id(node.target))
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and id(node) not in known:
                self._assigned.setdefault(frame.key(node.id), []).append((frame, None))

    def local(self, key: str, where: str) -> Local:
        """Returns a local.

        Raises:
            DefinitionError: its type cannot be stored.
        """
        kind = self.type_of(key)
        default = self._reading.defaults.get(key, UNKNOWN)
        form = None if kind is UNKNOWN or kind is Any else self._form(key, kind, where)
        return Local(key, form, default is not UNKNOWN, None if default is UNKNOWN else default)

    @functools.cache  # noqa: B019 - it lives as long as the compilation
    def _form(self, key: str, kind: Any, where: str) -> ValueForm | None:
        form = ValueForm.of(self._adapter(f"the local {key!r} {where}", kind))
        if form.has_secrets:
            raise DefinitionError(
                f"the local {key!r} {where}",
                "it has a secret, and locals are stored without encryption",
                "Keep the secret in a field.",
            )
        return form

    def type_of(self, key: str) -> Any:
        """Returns the type of a local; ``UNKNOWN`` if it is not known."""
        if key not in self._known:
            self._known[key] = UNKNOWN  # while it is computed, for what depends on itself
            self._known[key] = self._find(key)
        return self._known[key]

    def _find(self, key: str) -> Any:
        if key in self._reading.annotated:
            return self._reading.annotated[key]
        found = list(self._reading.types.get(key, ()))
        if not found:
            found = [self._infer(frame, value, key) for frame, value in self._assigned.get(key, ())]
        found = [kind for kind in found if kind is not None]
        if not found or any(kind is UNKNOWN for kind in found):
            return UNKNOWN
        kinds = list(dict.fromkeys(types.NoneType if kind is type(None) else kind for kind in found))
        return kinds[0] if len(kinds) == 1 else functools.reduce(operator.or_, kinds) if _can_unite(kinds) else UNKNOWN

    def _infer(self, frame: Frame, node: ast.expr | None, key: str) -> Any:
        """Returns the type of an expression; None if it adds nothing, because the local itself is computed from it."""
        reading = self._reading
        match node:
            case ast.Constant(value) if type(value) in _SIMPLE:
                return type(value)
            case ast.JoinedStr():
                return str
            case ast.Compare() | ast.UnaryOp(ast.Not()):
                return bool
            case ast.Name(name):
                return None if frame.key(name) == key else self.type_of(frame.key(name))
            case ast.Attribute(ast.Name(owner), name) if owner == frame.source.self_name:
                return _field(reading.cls, name)
            case ast.Attribute(value, name):
                return _field(self._infer(frame, value, key), name)
            case ast.Subscript(value):
                return _item(self._infer(frame, value, key))
            case ast.BinOp(left, ast.Add() | ast.Sub() | ast.Mult(), right):
                kinds = {self._infer(frame, side, key) for side in (left, right)} - {None}
                only = kinds.pop() if len(kinds) == 1 else UNKNOWN
                return only if only in _SIMPLE or getattr(only, "__name__", "") == "Decimal" else UNKNOWN
            case ast.Call(ast.Attribute(ast.Name(owner), name)) if owner == frame.source.self_name:
                return self._returned(getattr(reading.cls, name, None))
            case ast.Call(function):
                called = frame.source.resolve(function)
                if isinstance(called, type):
                    return called if called not in (list, dict, set, tuple, frozenset, range, object) else UNKNOWN
                return UNKNOWN if called is UNKNOWN else self._returned(called)
        return UNKNOWN

    def _returned(self, function: Any) -> Any:
        if not isinstance(function, types.FunctionType):
            return UNKNOWN
        try:
            kind = self._reading.hints(function).get("return", UNKNOWN)
        except DefinitionError:
            return UNKNOWN
        return UNKNOWN if isinstance(kind, typing.TypeVar) else kind


def _can_unite(kinds: list[Any]) -> bool:
    return all(isinstance(kind, type) or typing.get_origin(kind) in (types.UnionType, typing.Union) for kind in kinds)


def _field(owner: Any, name: str) -> Any:
    fields = getattr(owner, "model_fields", None)
    return UNKNOWN if not fields or name not in fields else fields[name].rebuild_annotation()


def _item(owner: Any) -> Any:
    origin, arguments = typing.get_origin(owner), typing.get_args(owner)
    if origin is list:
        return arguments[0]
    if origin is dict:
        return arguments[1]
    return UNKNOWN
