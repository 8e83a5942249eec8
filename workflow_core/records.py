"""Dataclasses that are cheap to define.

``dataclass`` compiles the source of up to six methods of each class: a fifth of what the start of a process takes.
``record`` gives its classes the same behaviour: they share the methods that are seldom called, and a method that may be
called often is compiled when it is first called. Most classes of a definition have few objects, so ``__init__`` is
compiled after some of them; until then, it takes ten times as long.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from dataclasses import MISSING, Field, FrozenInstanceError, dataclass, field, fields
from types import MemberDescriptorType
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from dataclasses import dataclass as record  # for type checkers, it is the same

    from _typeshed import DataclassInstance

__all__ = ["record"]

_T = TypeVar("_T", bound="DataclassInstance")


def _record(
    *, eq: bool = True, frozen: bool = False, init: bool = True, kw_only: bool = False, slots: bool = False
) -> Callable[[type[_T]], Any]:
    """Like ``dataclass`` with these arguments."""

    def decorate(cls: type[_T]) -> Any:
        own = vars(cls)
        places = _places(cls, kw_only)
        made: Any = _with_slots(cls, places) if slots else _with_defaults(cls, places)
        made.__dataclass_fields__ = places
        made.__dataclass_params__ = _FROZEN if frozen else _MUTABLE
        matched = tuple(name for name, place in places.items() if place.init and not place.kw_only)
        made.__match_args__ = matched  # type: ignore[misc]
        methods: dict[str, Any] = {"__repr__": _repr, "__replace__": _replace}
        if init:
            methods["__init__"] = _compiled_late(made, "__init__", _init_source, _init)
            made.__signature__ = _Signature()
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


# --- classes ---------------------------------------------------------------------------------


def _places(cls: Any, kw_only: bool) -> dict[str, Any]:
    """Returns the fields of a class and of its bases. Annotations are texts, which ``dataclass`` reads much slower."""
    places = {name: place for base in reversed(cls.__mro__[1:]) for name, place in _fields_of(base).items()}
    for name, annotation in inspect.get_annotations(cls).items():
        if annotation.startswith("ClassVar["):
            continue
        default: Any = getattr(cls, name, MISSING)
        if isinstance(default, MemberDescriptorType):  # the slot of a base
            default = MISSING
        place: Any = default if isinstance(default, Field) else field(default=default)
        places[name] = place
        place.name, place.type, place._field_type = name, annotation, _FIELD
        if place.kw_only is MISSING:
            place.kw_only = kw_only
    return places


def _fields_of(cls: type) -> dict[str, Any]:
    return getattr(cls, "__dataclass_fields__", {})


def _with_slots(cls: Any, places: dict[str, Any]) -> Any:
    """Returns the class with a slot for each field. Slots can only be given to a new class."""
    inherited = {name for base in cls.__mro__[1:] for name in vars(base).get("__slots__", ())}
    without = {"__dict__", "__weakref__", *places}
    namespace = {name: value for name, value in vars(cls).items() if name not in without}
    namespace["__slots__"] = tuple(name for name in places if name not in inherited)
    made = type(cls)(cls.__name__, cls.__bases__, namespace)
    made.__qualname__ = cls.__qualname__
    return made


def _with_defaults(cls: Any, places: dict[str, Any]) -> Any:
    for name, place in places.items():
        if isinstance(vars(cls).get(name), Field):
            if place.default is MISSING:
                delattr(cls, name)
            else:
                setattr(cls, name, place.default)
    return cls


@dataclass(frozen=True)
class _Frozen:
    pass


@dataclass
class _Mutable:
    pass


_FROZEN: Any = vars(_Frozen)["__dataclass_params__"]
_MUTABLE: Any = vars(_Mutable)["__dataclass_params__"]
_FIELD: Any = dataclasses._FIELD  # type: ignore[attr-defined]
"""What ``fields`` looks for. It has no public name."""


# --- methods that are compiled at their first call ------------------------------------------

_Names = dict[str, Any]

_SHARED_CALLS_MAX = 8


class _Factory:
    """The default of a parameter whose value a factory makes."""

    def __repr__(self) -> str:
        return "<factory>"


_FACTORY = _Factory()


def _compiled_late(
    cls: type,
    name: str,
    source: Callable[[type[Any], _Names], str],
    shared: Callable[[Any, tuple[Any, ...], dict[str, Any]], bool] = lambda *_: False,
) -> Callable[..., Any]:
    """Returns a method that replaces itself by what its source compiles to.

    Args:
        source: returns the source; adds the values to which it refers to the names.
        shared: does the same for the first calls. Returns whether it could; if not, the compiled method is called.
    """
    shared_calls = 0

    def method(self: object, /, *args: Any, **given: Any) -> Any:
        nonlocal shared_calls
        shared_calls += 1
        if shared_calls <= _SHARED_CALLS_MAX and shared(self, args, given):
            return None
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
    """The signature of a class, for ``help`` and the reference."""

    def __get__(self, _: object, cls: type[DataclassInstance]) -> inspect.Signature:
        annotations = {place.name: place.type for place in fields(cls)}
        names: _Names = {"_FACTORY": _FACTORY}
        exec(_init_source(cls, names), names)  # nosec B102 - made of the names of fields
        made = inspect.signature(names["__init__"])
        own = [each.replace(annotation=annotations[name]) for name, each in made.parameters.items() if name != "self"]
        return made.replace(parameters=own, return_annotation=None)


# --- methods that all classes share ----------------------------------------------------------


def _init(self: DataclassInstance, args: tuple[Any, ...], given: dict[str, Any]) -> bool:
    """Sets the attributes of a new object. Returns whether the arguments fit; if not, the compiled method tells why."""
    places = fields(self)
    names = [place.name for place in places if place.init and not place.kw_only]
    values = dict(zip(names, args, strict=False))
    if len(args) > len(names) or not values.keys().isdisjoint(given):
        return False
    values |= given
    for place in places:
        if place.init and place.name in values:
            value = values.pop(place.name)
        elif place.default is not MISSING:
            value = place.default
        elif place.default_factory is not MISSING:
            value = place.default_factory()
        elif place.init:
            return False
        else:
            continue  # set later
        object.__setattr__(self, place.name, value)
    if values:
        return False
    if (post_init := getattr(self, "__post_init__", None)) is not None:
        post_init()
    return True


def _repr(self: DataclassInstance) -> str:
    parts = (f"{place.name}={getattr(self, place.name)!r}" for place in fields(self) if place.repr)
    return f"{type(self).__qualname__}({', '.join(parts)})"


def _replace(self: Any, /, **changes: Any) -> Any:
    """For ``copy.replace`` of Python 3.13."""
    return dataclasses.replace(self, **changes)


def _refuse(self: DataclassInstance, name: str, *_: Any) -> None:
    raise FrozenInstanceError(f"cannot assign to field {name!r}")


def _values(self: DataclassInstance) -> list[Any]:
    return [getattr(self, place.name) for place in fields(self)]


def _set_values(self: DataclassInstance, values: list[Any]) -> None:
    for place, value in zip(fields(self), values, strict=True):
        object.__setattr__(self, place.name, value)
