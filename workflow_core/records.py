"""Dataclasses that are cheap to define.

``dataclass`` compiles the source of up to six methods of each class: a fifth of what the start of a process takes.
``record`` gives its classes the same behaviour: they share the methods that are seldom called, and a method that may be
called often is compiled at its first call.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import MISSING, FrozenInstanceError, dataclass, fields, is_dataclass
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from dataclasses import dataclass as record  # for type checkers, it is the same

    from _typeshed import DataclassInstance

__all__ = ["record"]

_T = TypeVar("_T", bound="DataclassInstance")


def _record(
    *, eq: bool = True, frozen: bool = False, init: bool = True, kw_only: bool = False, slots: bool = False
) -> Callable[[type[_T]], type[_T]]:
    """Like ``dataclass`` with these arguments."""

    def decorate(cls: type[_T]) -> type[_T]:
        own = vars(cls)
        # `dataclass` compiles the methods of a frozen class too: it does so only where it has to check the bases.
        checked = frozen and any(map(is_dataclass, cls.__mro__[1:]))
        made = dataclass(cls, init=False, repr=False, eq=False, frozen=checked, kw_only=kw_only, slots=slots)
        if frozen:
            made.__dataclass_params__ = _FROZEN  # type: ignore[attr-defined]
        methods: dict[str, Any] = {"__repr__": _repr}
        if init:
            methods["__init__"] = _compiled_late(made, "__init__", _init_source)
            made.__signature__ = _Signature(made)  # type: ignore[attr-defined]
        if eq:
            methods["__eq__"] = _compiled_late(made, "__eq__", _eq_source)
            methods["__hash__"] = _compiled_late(made, "__hash__", _hash_source) if frozen else None
        if frozen:
            methods |= {"__setattr__": _refuse, "__delattr__": _refuse}
            if slots:
                methods |= {"__getstate__": _values, "__setstate__": _set_values}
        for name, method in methods.items():
            if name not in own:
                setattr(made, name, method)
        return made

    return decorate


if not TYPE_CHECKING:
    record = _record


@dataclass(frozen=True)
class _Frozen:
    pass


_FROZEN: Any = vars(_Frozen)["__dataclass_params__"]
"""What tells ``dataclass`` that a subclass has to be frozen too."""


# --- methods that are compiled at their first call ------------------------------------------

_Names = dict[str, Any]


class _Factory:
    """The default of a parameter whose value a factory makes."""

    def __repr__(self) -> str:
        return "<factory>"


_FACTORY = _Factory()


def _compiled_late(cls: type, name: str, source: Callable[[type[Any], _Names], str]) -> Callable[..., Any]:
    """Returns a method that replaces itself, when it is first called, by what its source compiles to.

    Args:
        source: returns the source; adds the values to which it refers to the names.
    """

    def method(self: object, /, *args: Any, **given: Any) -> Any:
        names: _Names = {"_set": object.__setattr__, "_FACTORY": _FACTORY}
        exec(source(cls, names), names)  # nosec B102 - made of the names of fields
        compiled = names[name]
        compiled.__qualname__ = f"{cls.__qualname__}.{name}"
        compiled.__module__ = cls.__module__
        setattr(cls, name, compiled)
        return compiled(self, *args, **given)

    return method


def _init_source(cls: type[DataclassInstance], names: _Names) -> str:
    positional, keywords, body = ["self"], list[str](), list[str]()
    is_frozen = cls.__setattr__ is not object.__setattr__
    for place in fields(cls):
        name = value = place.name
        default = f"_default_{name}"
        if place.default is not MISSING:
            names[default], value = place.default, name if place.init else default
        elif place.default_factory is not MISSING:
            names[default] = place.default_factory
            value = f"{default}() if {name} is _FACTORY else {name}" if place.init else f"{default}()"
        elif not place.init:
            continue  # set later
        if place.init:
            has_factory = place.default_factory is not MISSING
            given = f"{name}=_FACTORY" if has_factory else f"{name}={default}" if default in names else name
            (keywords if place.kw_only else positional).append(given)
        body.append(f"_set(self, {name!r}, {value})" if is_frozen else f"self.{name} = {value}")
    if hasattr(cls, "__post_init__"):
        body.append("self.__post_init__()")
    parameters = ", ".join([*positional, *(["*", *keywords] if keywords else [])])
    return f"def __init__({parameters}):\n " + "\n ".join(body or ["pass"])


def _compared(cls: type[DataclassInstance], of: str) -> str:
    return f"({''.join(f'{of}.{place.name}, ' for place in fields(cls) if place.compare)})"


def _eq_source(cls: type[DataclassInstance], _: _Names) -> str:
    compared = f"{_compared(cls, 'self')} == {_compared(cls, 'other')}"
    return f"def __eq__(self, other):\n return {compared} if other.__class__ is self.__class__ else NotImplemented"


def _hash_source(cls: type[DataclassInstance], _: _Names) -> str:
    return f"def __hash__(self):\n return hash({_compared(cls, 'self')})"


class _Signature:
    """The signature of a class, for ``help`` and the reference. Instances, and subclasses that are made in another way,
    have none of this kind."""

    def __init__(self, made: Any) -> None:
        self._made = made

    def __get__(self, instance: object, cls: Any) -> inspect.Signature:
        if instance is not None or cls.__init__ is not self._made.__init__ or cls.__new__ is not object.__new__:
            raise AttributeError("__signature__")
        annotations = {place.name: place.type for place in fields(cls)}
        names: _Names = {"_FACTORY": _FACTORY}
        exec(_init_source(cls, names), names)  # nosec B102 - made of the names of fields
        made = inspect.signature(names["__init__"])
        own = [each.replace(annotation=annotations[name]) for name, each in made.parameters.items() if name != "self"]
        return made.replace(parameters=own, return_annotation=None)


# --- methods that all classes share ----------------------------------------------------------


def _repr(self: Any) -> str:
    parts = (f"{place.name}={getattr(self, place.name)!r}" for place in fields(self) if place.repr)
    return f"{type(self).__qualname__}({', '.join(parts)})"


def _refuse(self: Any, name: str, *_: Any) -> None:
    raise FrozenInstanceError(f"cannot assign to field {name!r}")


def _values(self: Any) -> list[Any]:
    return [getattr(self, place.name) for place in fields(self)]


def _set_values(self: Any, values: list[Any]) -> None:
    for place, value in zip(fields(self), values, strict=True):
        object.__setattr__(self, place.name, value)
