"""Dataclasses that are cheap to define.

``dataclass`` reads the annotations of each class and compiles the source of up to six methods: a fifth of what the
start of a process takes. ``record`` gives its classes the same behaviour. They share the methods that are seldom
called; the others, and what ``fields`` returns, are made when they are first read. Most classes have few objects, so
``__init__`` is compiled after some calls; until then, it takes ten times as long.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from dataclasses import MISSING, Field, FrozenInstanceError, dataclass, field, fields, replace
from functools import cache, partial
from types import MemberDescriptorType, MethodType
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from dataclasses import dataclass as record  # for type checkers, it is the same

    from _typeshed import DataclassInstance

__all__ = ["record"]

_T = TypeVar("_T", bound="DataclassInstance")


def _record(
    *, eq: bool = True, frozen: bool = False, init: bool = True, kw_only: bool = False, slots: bool = False
) -> Callable[[type[_T]], Any]:
    """Like ``dataclass`` with these arguments. Annotations must be texts. A class with ``slots`` is created twice, as
    by ``dataclass``, so only those have them of which there are many objects."""
    shared, late = _attributes(eq, frozen, init, slots)

    def decorate(cls: Any) -> Any:
        own = vars(cls)
        names = [name for name, text in cls.__annotations__.items() if not text.startswith("ClassVar[")]
        defaults = {name: own[name] for name in names if name in own}
        if slots:
            cls = _with_slots(cls, names)
        else:
            for name, default in defaults.items():
                if isinstance(default, Field):
                    delattr(cls, name)
        cls.__record__ = names, defaults, kw_only
        for name, value in shared.items():
            if name not in own:
                setattr(cls, name, value)
        for name, (kind, compute) in late.items():
            if name not in own:
                setattr(cls, name, kind(cls, name, compute))
        return cls

    return decorate


@cache
def _attributes(
    eq: bool, frozen: bool, init: bool, slots: bool
) -> tuple[dict[str, Any], dict[str, tuple[type[_Late], Callable[[Any], Any]]]]:
    """Returns the attributes that classes with these arguments share, and those that are made late for each of them."""
    shared: dict[str, Any] = {"__dataclass_params__": _FROZEN if frozen else _MUTABLE}
    shared |= {"__repr__": _repr, "__replace__": _replace}
    if frozen:
        shared |= {"__setattr__": _refuse, "__delattr__": _refuse}
        if slots:
            shared |= {"__getstate__": _values, "__setstate__": _set_values}
    late: dict[str, Any] = {"__dataclass_fields__": (_Late, _fields), "__match_args__": (_Late, _match_args)}
    if eq:
        shared |= {} if frozen else {"__hash__": None}
        late |= {"__eq__": (_Late, _eq)} | ({"__hash__": (_Late, _hash)} if frozen else {})
    if init:
        late["__init__"] = _LateInit, _init
    return shared, late


def _with_slots(cls: Any, names: list[str]) -> Any:
    """Returns a class with slots for the attributes with these names."""
    inherited = {name for base in cls.__mro__[1:] for name in vars(base).get("__slots__", ())}
    namespace = {**vars(cls), "__slots__": tuple(name for name in names if name not in inherited)}
    for name in ("__dict__", "__weakref__", *names):
        namespace.pop(name, None)
    made = type(cls)(cls.__name__, cls.__bases__, namespace)
    made.__qualname__ = cls.__qualname__
    return made


if not TYPE_CHECKING:
    record = _record


@dataclass(frozen=True, init=False, repr=False, eq=False)
class _Frozen:
    """Without this text, ``dataclass`` would make one of the signature, which takes long."""

    field: int


@dataclass(init=False, repr=False, eq=False)
class _Mutable:
    """As above."""


_FROZEN, _MUTABLE = vars(_Frozen)["__dataclass_params__"], vars(_Mutable)["__dataclass_params__"]
"""What tells ``dataclass`` whether a subclass has to be frozen too."""
_KIND: Any = fields(_Frozen)[0]._field_type  # type: ignore[attr-defined]
"""What ``fields`` looks for. It has no public name."""


# --- what is made when it is first read -----------------------------------------------------


class _Late:
    """An attribute of a class that is computed when it is first read."""

    def __init__(self, owner: type, name: str, compute: Callable[[Any], Any]) -> None:
        self._owner, self._name, self._compute = owner, name, compute

    def __get__(self, instance: object, cls: type | None = None) -> Any:
        value = self._compute(self._owner)
        setattr(self._owner, self._name, value)
        return MethodType(value, instance) if instance is not None and callable(value) else value


_SHARED_CALLS_MAX = 40
"""How many objects of a class the shared ``__init__`` makes before that of the class is compiled."""


class _LateInit(_Late):
    """An ``__init__`` that sets the attributes itself in its first calls. It is compiled then, or if the arguments do
    not fit: the compiled method raises the error."""

    _calls = 0
    _values: Callable[..., dict[str, Any] | None] | None = None

    def __get__(self, instance: object, cls: type | None = None) -> Any:
        if self._calls >= _SHARED_CALLS_MAX or not isinstance(instance, self._owner):
            return super().__get__(instance, cls)
        self._calls += 1
        return partial(self._set, instance)

    def _set(self, instance: Any, /, *args: Any, **given: Any) -> None:
        self._values = self._values or _values_of(self._owner)
        if (values := self._values(args, given)) is None:
            super().__get__(instance)(*args, **given)
            return
        for name, value in values.items():
            object.__setattr__(instance, name, value)
        if hasattr(instance, "__post_init__"):
            instance.__post_init__()


def _places(cls: type) -> Iterable[tuple[str, Any, Any, bool, bool]]:
    """Returns the attributes of a class and of its bases: the name, the default and its factory, whether it is a
    parameter, and whether it has to be named."""
    found: dict[str, tuple[str, Any, Any, bool, bool]] = {}
    for base in reversed(cls.__mro__):
        names, defaults, kw_only = vars(base).get("__record__", ((), {}, False))
        for name in names:
            default = defaults.get(name, MISSING)
            found[name] = name, default, MISSING, True, kw_only
            if isinstance(default, Field):
                is_named = kw_only if default.kw_only is MISSING else default.kw_only
                found[name] = name, default.default, default.default_factory, default.init, is_named
    return found.values()


def _values_of(cls: type) -> Callable[[tuple[Any, ...], dict[str, Any]], dict[str, Any] | None]:
    """Returns a function that returns the attributes of a new object; None: the arguments do not fit."""
    places = _places(cls)
    parameters = {name for name, _, _, init, _ in places if init}
    positional = [name for name, _, _, init, is_named in places if init and not is_named]
    defaults = {name: default for name, default, _, _, _ in places if default is not MISSING}
    factories = {name: factory for name, _, factory, _, _ in places if factory is not MISSING}
    required = parameters - defaults.keys() - factories.keys()

    def values(args: tuple[Any, ...], given: dict[str, Any]) -> dict[str, Any] | None:
        passed = dict(zip(positional, args, strict=False)) | given
        if len(passed) != len(args) + len(given) or not required <= passed.keys() <= parameters:
            return None
        values = defaults | passed
        for name, factory in factories.items():
            if name not in passed:
                values[name] = factory()
        return values

    return values


def _fields(cls: Any) -> dict[str, Any]:
    """Returns what ``fields`` reads: the fields of a class and of its bases."""
    found: dict[str, Any] = {}
    for base in reversed(cls.__mro__[1:]):
        found |= getattr(base, "__dataclass_fields__", {})
    names, defaults, kw_only = vars(cls)["__record__"]
    for name in names:
        default = defaults.get(name, MISSING)
        place: Any = default if isinstance(default, Field) else field(default=default)
        place.name, place.type, place._field_type = name, cls.__annotations__[name], _KIND
        if place.kw_only is MISSING:
            place.kw_only = kw_only
        found[name] = place
    return found


def _match_args(cls: Any) -> tuple[str, ...]:
    return tuple(place.name for place in fields(cls) if place.init and not place.kw_only)


# --- methods that are compiled ---------------------------------------------------------------


class _Factory:
    """The default of a parameter whose value a factory makes."""

    def __repr__(self) -> str:
        return "<factory>"


_FACTORY = _Factory()


def _compiled(cls: type, head: str, body: Iterable[str], names: dict[str, Any]) -> Callable[..., Any]:
    """Returns a method of a class.

    Args:
        names: the values to which it refers, besides those of the module of the class.
    """
    text = "\n  ".join((f"def make({', '.join(names)}):\n def {head}:", *body))
    made: dict[str, Any] = {}
    exec(f"{text}\n return {head.partition('(')[0]}", vars(sys.modules[cls.__module__]), made)  # nosec B102 - of fields
    method: Callable[..., Any] = made["make"](**names)
    method.__qualname__ = f"{cls.__qualname__}.{method.__name__}"
    return method


def _init(cls: Any) -> Callable[..., Any]:
    names: dict[str, Any] = {"_set": object.__setattr__, "_FACTORY": _FACTORY}
    positional, keywords, body = ["self"], list[str](), list[str]()
    is_frozen = cls.__setattr__ is not object.__setattr__
    for name, default, factory, init, is_named in _places(cls):
        value, given, known = name, name, f"_default_{name}"
        if default is not MISSING:
            names[known], given, value = default, f"{name}={known}", name if init else known
        elif factory is not MISSING:
            names[known], given = factory, f"{name}=_FACTORY"
            value = f"{known}() if {name} is _FACTORY else {name}" if init else f"{known}()"
        elif not init:
            continue  # set later
        if init:
            (keywords if is_named else positional).append(given)
        if is_frozen and isinstance(slot := getattr(cls, name, None), MemberDescriptorType):
            names[f"_set_{name}"] = slot.__set__  # takes half of the time of ``object.__setattr__``
            body.append(f"_set_{name}(self, {value})")
        else:
            body.append(f"_set(self, {name!r}, {value})" if is_frozen else f"self.{name} = {value}")
    if hasattr(cls, "__post_init__"):
        body.append("self.__post_init__()")
    parameters = ", ".join([*positional, *(["*", *keywords] if keywords else [])])
    method = _compiled(cls, f"__init__({parameters})", body or ["pass"], names)
    method.__annotations__ = {place.name: place.type for place in fields(cls) if place.init} | {"return": None}
    return method


def _compared(cls: Any, of: str) -> str:
    return f"({''.join(f'{of}.{place.name}, ' for place in fields(cls) if place.compare)})"


def _eq(cls: Any) -> Callable[..., Any]:
    compared = f"{_compared(cls, 'self')} == {_compared(cls, 'other')}"
    body = f"return {compared} if other.__class__ is self.__class__ else NotImplemented"
    return _compiled(cls, "__eq__(self, other)", [body], {})


def _hash(cls: Any) -> Callable[..., Any]:
    return _compiled(cls, "__hash__(self)", [f"return hash({_compared(cls, 'self')})"], {})


# --- methods that all classes share ----------------------------------------------------------


def _repr(self: Any) -> str:
    parts = (f"{place.name}={getattr(self, place.name)!r}" for place in fields(self) if place.repr)
    return f"{type(self).__qualname__}({', '.join(parts)})"


def _replace(self: Any, /, **changes: Any) -> Any:
    """For ``copy.replace`` of Python 3.13."""
    return replace(self, **changes)


def _refuse(self: Any, name: str, *_: Any) -> None:
    raise FrozenInstanceError(f"cannot assign to field {name!r}")


def _values(self: Any) -> list[Any]:
    return [getattr(self, place.name) for place in fields(self)]


def _set_values(self: Any, values: list[Any]) -> None:
    for place, value in zip(fields(self), values, strict=True):
        object.__setattr__(self, place.name, value)
