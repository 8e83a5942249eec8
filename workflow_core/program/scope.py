"""Scope: the functions of a definition as its workflow class sees them.

A definition contains function objects, but means the methods of the class: one that a subclass overrides is called in
place of the original, and one that a test replaces is called while it is replaced (``Program.rebind``). Annotations are
resolved where their function was written: in its module, with the names of the class and of the function around it.
"""

from __future__ import annotations

import inspect
import sys
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal, TypeVar

from workflow_core.adapters import late_schema_of
from workflow_core.errors import DefinitionError
from workflow_core.replacements import is_watched, original, own_attributes
from workflow_core.signatures import Values, unwrapped
from workflow_core.value_form import LateForm, ValueForm


class Scope:
    """The functions of one workflow class.

    Args:
        workflow: the class. Its bases may be generic, and it may have bases that are no workflows.
        is_plain: whether its definition is compiled from ``run``, for this class.

    Attributes:
        methods: the methods that the definition uses, by their name.
        unwatched: the names of those that belong to a class that does not notice if they are replaced.
    """

    def __init__(self, workflow: type, *, is_plain: bool = False) -> None:
        self.workflow = workflow
        self.methods: dict[str, Callable[..., Any]] = {}
        self.unwatched: list[str] = []
        self._values: dict[tuple[type, str], Values] = {}
        definer = next((base for base in workflow.__mro__ if is_plain or "definition" in vars(base)), workflow)
        # A base's method is named explicitly by a class that overrides it, and then stays what it is.
        named = [(name, code) for name, value in _attributes(definer).items() for code in _codes(value)]
        named.sort(key=lambda pair: getattr(pair[1], "__name__", "") == pair[0])  # before its other names
        self._name_of = {id(code): name for name, code in named}
        self._bound = _type_arguments(workflow)
        self._functions: dict[type, frozenset[int]] = {}
        self._names: dict[type, dict[str, Any]] = {}
        self._hints: dict[Any, dict[str, Any]] = {}

    def current(self, where: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Returns what the class has now in place of a function of the definition.

        Raises:
            DefinitionError: a subclass has replaced it with something that cannot be called.
        """
        name = self._name_of.get(id(function))
        if name is None:
            return function
        current = original(self.workflow, name)
        if not callable(current):
            raise DefinitionError(
                where,
                f"{self.workflow.__name__}.{name} is {current!r:.60}, not a function",
                "Override it with a method.",
            )
        self.methods[name] = current
        if not is_watched(self.workflow, name):
            self.unwatched.append(name)
        return typing.cast("Callable[..., Any]", current)

    def hints(self, where: str, function: Callable[..., Any]) -> dict[str, Any]:
        """Returns the annotations of a function as types. Type variables have the arguments of the class's bases.

        Raises:
            DefinitionError: an annotation cannot be resolved.
        """
        function = unwrapped(function)
        if not inspect.isroutine(function):
            function = type(function).__call__
        if function in self._hints:
            return self._hints[function]
        try:
            hints = typing.get_type_hints(function, localns=self.names(function), include_extras=True)
        except (NameError, AttributeError, SyntaxError) as error:
            raise DefinitionError(
                where,
                f"an annotation of its function cannot be resolved: {error}",
                "Define that type above the workflow.",
            ) from error
        except TypeError as error:
            why = str(error).removesuffix(".")
            raise DefinitionError(where, f"an annotation of its function is not a type: {why}", "Use types.") from error
        self._hints[function] = {name: self._with_arguments(hint) for name, hint in hints.items()}
        return self._hints[function]

    def values(
        self, where: str, annotation: Any, mode: Literal["validation", "serialization"], names: Mapping[str, Any]
    ) -> Values:
        """Returns how the values of an annotation are converted, described and stored. This is made once for a class,
        because the handlers of a workflow often have the same types. For the arguments and errors, see
        ``late_schema_of``.
        """
        key = (annotation, mode) if isinstance(annotation, type) else None
        if key in self._values:
            return self._values[key]
        adapter, schema = late_schema_of(where, annotation, mode, names)
        made = adapter, schema, LateForm(lambda: ValueForm.of(adapter))
        if key is not None:
            self._values[key] = made
        return made

    def of(self, workflow: type) -> Scope:
        """Returns the scope of another workflow class, for its methods."""
        return Scope(workflow)

    def names(self, function: Callable[..., Any]) -> dict[str, Any]:
        """Returns the names that annotations of a function may use in addition to the globals of its module."""
        code = inspect.unwrap(function)
        names: dict[str, Any] = {}
        for base in reversed(self.workflow.__mro__):
            if base.__module__ == code.__module__:
                is_local = "<locals>" in getattr(code, "__qualname__", "")
                names |= {**(vars(base).get(ANNOTATION_NAMES, {}) if is_local else {}), base.__name__: base}
        for base in reversed(_own_bases(self.workflow)):
            if id(code) in self._functions_of(base):
                names |= self._names_of(base)
        return names | {parameter.__name__: parameter for parameter in getattr(code, "__type_params__", ())}

    def _functions_of(self, base: type) -> frozenset[int]:
        """Returns the ids of the functions that are written in the body of a class."""
        if base not in self._functions:
            own = (own for value in own_attributes(base).values() for own in _codes(value))
            self._functions[base] = frozenset(id(inspect.unwrap(each)) for each in own)
        return self._functions[base]

    def _names_of(self, base: type) -> dict[str, Any]:
        """Returns the names that the body of a class defines for annotations."""
        if base not in self._names:
            self._names[base] = _names_of(base)
        return self._names[base]

    def _with_arguments(self, hint: Any) -> Any:
        """Replaces ``Self``, and type variables of the class's bases by their arguments."""
        if hint is typing.Self:
            return self.workflow
        if isinstance(hint, TypeVar):
            return self._bound.get(hint, hint)
        if isinstance(hint, type) and (generic := getattr(hint, "__pydantic_generic_metadata__", {}).get("parameters")):
            return typing.cast(Any, hint)[tuple(map(self._with_arguments, generic))]
        arguments = typing.get_args(hint)
        replaced = tuple(map(self._with_arguments, arguments))
        if replaced == arguments:
            return hint
        origin = typing.get_origin(hint)
        if origin is typing.Annotated:
            return typing.Annotated[(replaced[0], *hint.__metadata__)]
        if origin in (typing.Union, types.UnionType):
            return typing.Union[replaced]  # noqa: UP007 - the members are only known here
        return origin[replaced]


ANNOTATION_NAMES = "__annotation_names__"
"""The attribute of a workflow class with the names that annotations in its body may use."""


_TYPING = ("typing", "typing_extensions", "types")
"""The modules of what an annotation may be, apart from classes."""


def surrounding_names(workflow: type) -> dict[str, Any]:
    """Returns the types and modules among the locals of the function in which a class is being created; empty for a
    class at module level. Other locals are not kept alive."""
    frame: types.FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_globals.get("__name__") != workflow.__module__:
        frame = frame.f_back
    if frame is None or frame.f_locals is frame.f_globals:
        return {}
    return {name: value for name, value in frame.f_locals.items() if _may_be_annotation(value)}


def _may_be_annotation(value: Any) -> bool:
    return isinstance(value, (type, types.ModuleType)) or type(value).__module__ in _TYPING


def _names_of(base: type) -> dict[str, Any]:
    nested = {name: value for name, value in vars(base).items() if isinstance(value, type)}
    parameters = {parameter.__name__: parameter for parameter in getattr(base, "__type_params__", ())}
    return {**vars(base).get(ANNOTATION_NAMES, {}), **parameters, **nested, base.__name__: base}


def _attributes(workflow: type) -> dict[str, Any]:
    """Returns the attributes of a class and of its bases, without those of pydantic and of ``Workflow``."""
    return {name: value for base in reversed(_own_bases(workflow)) for name, value in own_attributes(base).items()}


def _own_bases(workflow: type) -> list[type]:
    """Returns a class and its bases without those of pydantic."""
    return [base for base in workflow.__mro__ if base.__module__.partition(".")[0] not in ("builtins", "pydantic")]


def _codes(value: Any) -> Iterator[Any]:
    """Returns what a definition may contain if it names this attribute."""
    if isinstance(value, staticmethod):
        yield value
        yield value.__func__
    elif callable(value) and not isinstance(value, type):
        yield value


def _type_arguments(workflow: type) -> Mapping[TypeVar, Any]:
    bound: dict[TypeVar, Any] = {}
    for base in workflow.__mro__:  # the arguments of a base may be type variables of a nearer one
        generic = vars(base).get("__pydantic_generic_metadata__") or {}
        if (origin := generic.get("origin")) is not None:
            parameters = origin.__pydantic_generic_metadata__["parameters"]
            for parameter, argument in zip(parameters, generic["args"], strict=False):
                bound.setdefault(
                    parameter, bound.get(argument, argument) if isinstance(argument, TypeVar) else argument
                )
    return bound
