"""The types of locals: by annotation, by the call that a value comes from, or by what is plain in the source.

A local of an unknown type is stored as plain JSON. Where that would change its value, the program is stopped with an
error that asks for an annotation; see ``workflow_core.machine.frames``.
"""

from __future__ import annotations

import ast
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from pydantic import TypeAdapter

from workflow_core.errors import DefinitionError
from workflow_core.events import Selected
from workflow_core.plain.expressions import Reading
from workflow_core.plain.field_types import generic, united
from workflow_core.plain.flow import inner_parts
from workflow_core.plain.infer import Inference, is_plain, targets_of
from workflow_core.plain.parts import Code, Each, Frame, Part
from workflow_core.plain.source import UNKNOWN
from workflow_core.plain.usage import every_node
from workflow_core.statements.inline import Local, ObjectPath
from workflow_core.statements.local_keys import instead_of_secret, local_in_words
from workflow_core.value_form import LateForm, ValueForm

_ADDING = ("append", "add", "appendleft")


class LocalTypes:
    """The types of all locals of a definition.

    Args:
        reading: what the scan knows about types.
        adapter: returns the adapter of an annotation.
        changed: of which locals code changes objects in place, with their paths.
    """

    def __init__(
        self,
        reading: Reading,
        parts: list[Part],
        adapter: Callable[[str, Any], TypeAdapter[Any]],
        changed: Mapping[str, frozenset[ObjectPath]],
    ) -> None:
        self._reading = reading
        self._adapter = adapter
        self._changed = changed
        self._inference = Inference(reading, self.type_of)
        self._assigned: dict[str, list[Callable[[str], Any]]] = {}
        self._added: dict[str, list[Callable[[str], Any]]] = {}
        self._known: dict[str, Any] = {}
        self._forms: dict[tuple[Any, str], ValueForm] = {}
        self._note(parts)

    def _note(self, parts: Iterable[Part]) -> None:
        for part in parts:
            for statement in part.statements if isinstance(part, Code) else ():
                self._note_statement(part.frame, statement)
            if isinstance(part, Each):
                self._note_each(part)
            for inner in inner_parts(part):
                self._note(inner)

    def _note_each(self, part: Each) -> None:
        for derived in part.inner:
            assert isinstance(derived.statement, ast.Assign)
            self._note_loop(part.frame, derived.statement.targets[0], part.items)
            self._note_assigned(part.frame, derived.source, lambda key: self._item(part.frame, part.items))

    def _item(self, frame: Frame, items: ast.expr) -> Any:
        return self._inference.item_type(frame, items)

    def _note_loop(self, frame: Frame, target: ast.expr, items: ast.expr) -> None:
        for position, (name, _) in enumerate(targets_of(target, UNKNOWN)):

            def kind(key: str, position: int = position) -> Any:
                found = targets_of(target, self._item(frame, items))
                return found[position][1] if position < len(found) else UNKNOWN

            self._note_assigned(frame, name, kind)

    def _note_assigned(self, frame: Frame, name: str, kind: Callable[[str], Any]) -> None:
        self._assigned.setdefault(frame.key(name), []).append(kind)

    def _note_value(self, frame: Frame, name: str, value: ast.expr) -> None:
        self._note_assigned(frame, name, lambda key: self._inference.type_of(frame, value, key))

    def _note_statement(self, frame: Frame, statement: ast.stmt) -> None:
        known: set[int] = set()
        for node in every_node(statement):
            match node:
                case ast.Assign([*targets], value):
                    for target in targets:
                        self._note_target(frame, target, value)
                        known |= {id(part) for part in every_node(target)}
                case ast.AugAssign(ast.Name(name), operator, value):
                    self._note_value(frame, name, ast.BinOp(ast.Name(name, ast.Load()), operator, value))
                    known.add(id(node.target))
                case ast.NamedExpr(ast.Name(name), value):
                    self._note_value(frame, name, value)
                    known.add(id(node.target))
                case ast.comprehension(target):
                    known |= {id(part) for part in every_node(target)}  # variables of its own
                case ast.For(target, items):
                    self._note_loop(frame, target, items)
                    known |= {id(part) for part in every_node(target)}
                case ast.Call(ast.Attribute(ast.Name(name), method), [value]) if method in _ADDING:
                    self._note_added(frame, name, value)
                case ast.Name(name, ast.Store()) if id(node) not in known:
                    self._note_assigned(frame, name, lambda key: UNKNOWN)

    def _note_added(self, frame: Frame, name: str, value: ast.expr) -> None:
        kinds = self._added.setdefault(frame.key(name), [])
        kinds.append(lambda key: self._inference.type_of(frame, value, key))

    def _note_target(self, frame: Frame, target: ast.expr, value: ast.expr) -> None:
        match target, value:
            case ast.Name(name), _:
                self._note_value(frame, name, value)
            case ast.Subscript(ast.Name(name)), _:
                self._note_added(frame, name, value)
            case ast.Tuple(parts), ast.Tuple(values) if len(parts) == len(values):
                for part, inner in zip(parts, values, strict=True):
                    self._note_target(frame, part, inner)
            case ((ast.Tuple() | ast.List()), _):
                for position, (name, _) in enumerate(targets_of(target, UNKNOWN)):

                    def kind(key: str, position: int = position) -> Any:
                        found = targets_of(target, self._inference.type_of(frame, value, key))
                        return found[position][1] if position < len(found) else UNKNOWN

                    self._note_assigned(frame, name, kind)

    def local(self, key: str, where: str, *, is_stored: bool = False) -> Local:
        """Returns a local.

        Args:
            is_stored: whether a thread stores it in the place.

        Raises:
            DefinitionError: its type cannot be stored, or has a secret and would be stored.
        """
        kind = self.type_of(key)
        default = self._reading.defaults.get(key, UNKNOWN)
        is_declared = key in self._reading.annotated or key in self._reading.types
        is_json = kind is UNKNOWN or (kind is Any if is_declared else is_plain(kind))
        form = None if is_json else self._form(key, kind, where)
        if is_stored and form is not None and form.has_secrets:
            raise DefinitionError(
                f"{local_in_words(key)} {where}",
                "it has a secret, and would be stored without encryption while the instance sleeps",
                instead_of_secret(key),
            )
        has_default = default is not UNKNOWN
        former = self._former(key)
        default = default if has_default else None
        changes = self._changed.get(key, frozenset())
        return Local(key, form, has_default, default, changes, former, kind is UNKNOWN)

    def _former(self, key: str) -> tuple[str, ...]:
        """Returns the keys that a local had before sections or steps were renamed."""
        former = self._reading.former
        prefix = max((name for name in former if name.endswith("/") and key.startswith(name)), key=len, default="")
        names = (key[len(prefix) :], *former.get(key, ()))
        return tuple(outer + name for outer in (prefix, *former.get(prefix, ())) for name in names)[1:]

    def _form(self, key: str, kind: Any, where: str) -> ValueForm:
        known = kind, str(kind)  # unions are equal in any order
        if known not in self._forms:

            def make() -> ValueForm:
                return ValueForm.of(self._adapter(f"{local_in_words(key)} {where}", kind))

            is_late = typing.get_origin(kind) is Selected and _is_simple(kind)
            self._forms[known] = LateForm(make) if is_late else make()
        return self._forms[known]

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
            found = [kind(key) for kind in self._assigned.get(key, ())]
        found = [kind for kind in found if kind is not None]
        typed = {typing.get_origin(kind) for kind in found}  # an empty list is one of the type of the others
        found = [kind for kind in found if kind not in (list, dict) or kind not in typed]
        return self._with_added(key, united(found))

    def _with_added(self, key: str, kind: Any) -> Any:
        """Returns the type of a collection with what is added to it later."""
        origin = kind if kind in (list, dict) else typing.get_origin(kind)
        if key not in self._added or origin not in (list, set, dict):
            return kind
        old = [] if kind is origin else [typing.get_args(kind)[-1]]
        items = [item for item in [*old, *(added(key) for added in self._added[key])] if item is not None]
        item = united(items)
        if item is UNKNOWN:
            return kind
        keys = [] if origin is not dict else [Any] if kind is origin else [typing.get_args(kind)[0]]
        return generic(origin, *keys, item)


def _is_simple(kind: Any) -> bool:
    """Whether a type consists of models and plain types, so that it certainly has a form."""
    if typing.get_origin(kind) in (Selected, typing.Union, types.UnionType):
        return all(map(_is_simple, typing.get_args(kind)))
    return kind in _PLAIN or getattr(kind, "__pydantic_complete__", False) is True


_PLAIN = (str, int, float, bool, type(None))
