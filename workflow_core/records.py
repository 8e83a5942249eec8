"""Dataclasses for the parts of definitions and compiled programs.

``dataclass`` compiles the source of each method of each class, which takes most of the time of an import of this
package. ``record`` gives its classes the same behaviour with methods that all of them share. Creating an instance takes
longer. What is created while an instance runs, like its threads and waits, is therefore an ordinary dataclass.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import MISSING, FrozenInstanceError, dataclass, fields
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from dataclasses import dataclass as record  # for type checkers, it is the same

    from _typeshed import DataclassInstance

__all__ = ["record"]

_T = TypeVar("_T", bound="DataclassInstance")


def _record(
    *, eq: bool = True, frozen: bool = False, init: bool = True, kw_only: bool = False, slots: bool = True
) -> Callable[[type[_T]], type[_T]]:
    """Like ``dataclass`` with these arguments."""

    def decorate(cls: type[_T]) -> type[_T]:
        own = vars(cls)
        made = dataclass(cls, init=False, repr=False, eq=False, kw_only=kw_only, slots=slots)
        methods: dict[str, Any] = {"__repr__": _repr}
        if init:
            methods["__init__"] = _init
        if eq:
            methods |= {"__eq__": _eq, "__hash__": _hash if frozen else None}
        if frozen:
            methods |= {"__setattr__": _refuse, "__delattr__": _refuse}
            methods |= {"__getstate__": _values, "__setstate__": _set_values}
        for name, method in methods.items():
            if name not in own:
                setattr(made, name, method)
        return made

    return decorate


if not TYPE_CHECKING:
    record = _record


def _init(self: DataclassInstance, /, *args: Any, **given: Any) -> None:
    places = fields(self)
    positional = [place.name for place in places if place.init and not place.kw_only]
    named = dict(zip(positional, args, strict=False))
    if len(args) > len(positional) or not named.keys().isdisjoint(given):
        raise TypeError(f"{type(self).__name__} takes at most one value for each of: {', '.join(positional)}")
    given |= named
    for place in places:
        if place.init and place.name in given:
            value = given.pop(place.name)
        elif place.default is not MISSING:
            value = place.default
        elif place.default_factory is not MISSING:
            value = place.default_factory()
        elif place.init:
            raise TypeError(f"{type(self).__name__} needs a value for {place.name!r}")
        else:
            continue  # set later
        object.__setattr__(self, place.name, value)
    if given:
        raise TypeError(f"{type(self).__name__} has no {', '.join(map(repr, given))}")
    if (post_init := getattr(self, "__post_init__", None)) is not None:
        post_init()


def _repr(self: DataclassInstance) -> str:
    parts = (f"{place.name}={getattr(self, place.name)!r}" for place in fields(self) if place.repr)
    return f"{type(self).__qualname__}({', '.join(parts)})"


def _compared(self: DataclassInstance) -> tuple[Any, ...]:
    return tuple(getattr(self, place.name) for place in fields(self) if place.compare)


def _eq(self: DataclassInstance, other: object) -> Any:
    return _compared(self) == _compared(other) if type(other) is type(self) else NotImplemented


def _hash(self: DataclassInstance) -> int:
    return hash(_compared(self))


def _refuse(self: DataclassInstance, name: str, *_: Any) -> None:
    raise FrozenInstanceError(f"cannot assign to field {name!r}")


def _values(self: DataclassInstance) -> list[Any]:
    return [getattr(self, place.name) for place in fields(self)]


def _set_values(self: DataclassInstance, values: list[Any]) -> None:
    for place, value in zip(fields(self), values, strict=True):
        object.__setattr__(self, place.name, value)
