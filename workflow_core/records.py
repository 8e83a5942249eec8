"""Dataclasses that are cheap to define.

``dataclass`` reads the annotations of each class, creates it twice for its slots, and compiles the source of up to six
methods: a fifth of what the start of a process takes. ``record`` gives its classes the same behaviour. They share the
methods that are seldom called, and what ``fields`` returns is made when it is first asked for. Most classes have few
objects, so a method that may be called often is compiled after some calls; until then, it takes ten times as long.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, FrozenInstanceError, dataclass, field, fields, replace
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
    """Like ``dataclass`` with these arguments. Annotations must be texts."""

    def decorate(cls: Any) -> Any:
        own = vars(cls)
        names = [name for name, text in cls.__annotations__.items() if not text.startswith("ClassVar[")]
        defaults = {name: own[name] for name in names if name in own}
        namespace = {
            "__dataclass_fields__": _Late(lambda made: _fields(made, names, defaults, kw_only)),
            "__dataclass_params__": _FROZEN if frozen else _MUTABLE,
            "__match_args__": _Late(_match_args),
            "__repr__": _repr,
            "__replace__": _replace,
        }
        if init:
            namespace |= {"__init__": _late_init(lambda: made), "__signature__": _Signature(lambda: made)}
        if eq:
            namespace["__eq__"] = _compiled_late(lambda: made, "__eq__", _eq_source)
            namespace["__hash__"] = _compiled_late(lambda: made, "__hash__", _hash_source) if frozen else None
        if frozen:
            namespace |= {"__setattr__": _refuse, "__delattr__": _refuse}
            if slots:
                namespace |= {"__getstate__": _values, "__setstate__": _set_values}
        namespace |= own
        if slots:
            inherited = {name for base in cls.__mro__[1:] for name in vars(base).get("__slots__", ())}
            namespace["__slots__"] = tuple(name for name in names if name not in inherited)
        removed = [name for name, default in defaults.items() if slots or isinstance(default, Field)]
        for name in ("__dict__", "__weakref__", *removed):
            namespace.pop(name, None)
        made = type(cls)(cls.__name__, cls.__bases__, namespace)
        made.__qualname__ = cls.__qualname__
        return made

    return decorate


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

    def __init__(self, compute: Callable[[Any], Any]) -> None:
        self._compute = compute

    def __set_name__(self, owner: type, name: str) -> None:
        self._owner, self._name = owner, name

    def __get__(self, instance: object, cls: type | None = None) -> Any:
        value = self._compute(self._owner)
        setattr(self._owner, self._name, value)
        return value


def _fields(cls: Any, names: list[str], defaults: Mapping[str, Any], kw_only: bool) -> dict[str, Any]:
    """Returns the fields of a class and of its bases."""
    found: dict[str, Any] = {}
    for base in reversed(cls.__mro__[1:]):
        found |= getattr(base, "__dataclass_fields__", {})
    for name in names:
        default = defaults.get(name, MISSING)
        place: Any = default if isinstance(default, Field) else field(default=default)
        for attribute, value in {"name": name, "type": cls.__annotations__[name], "_field_type": _KIND}.items():
            setattr(place, attribute, value)
        if place.kw_only is MISSING:
            place.kw_only = kw_only
        found[name] = place
    return found


def _match_args(cls: Any) -> tuple[str, ...]:
    return tuple(place.name for place in fields(cls) if place.init and not place.kw_only)


# --- methods that are compiled when they are called -----------------------------------------

_Names = dict[str, Any]

_SHARED_CALLS_MAX = 16
"""How many objects of a class the shared ``__init__`` makes before that of the class is compiled."""


class _Factory:
    """The default of a parameter whose value a factory makes."""

    def __repr__(self) -> str:
        return "<factory>"


_FACTORY = _Factory()


def _compiled_late(
    owner: Callable[[], type], name: str, source: Callable[[type[Any], _Names], str]
) -> Callable[..., Any]:
    """Returns a method that replaces itself, when it is first called, by what its source compiles to.

    Args:
        owner: returns the class of the method.
        source: returns the source; adds the values to which it refers to the names.
    """

    def method(self: object, /, *args: Any, **given: Any) -> Any:
        return _compiled(owner(), name, source)(self, *args, **given)

    return method


def _compiled(cls: type, name: str, source: Callable[[type[Any], _Names], str]) -> Callable[..., Any]:
    names: _Names = {"_set": object.__setattr__, "_FACTORY": _FACTORY}
    exec(source(cls, names), names)  # nosec B102 - made of the names of fields
    compiled: Callable[..., Any] = names[name]
    compiled.__qualname__ = f"{cls.__qualname__}.{name}"
    compiled.__module__ = cls.__module__
    setattr(cls, name, compiled)
    return compiled


def _late_init(owner: Callable[[], type]) -> Callable[..., Any]:
    """Returns an ``__init__`` that sets the attributes itself in its first calls, and is compiled then, or if the
    arguments do not fit: the compiled method raises the error."""
    calls = 0
    values_of: Callable[..., dict[str, Any] | None] | None = None

    def method(self: Any, /, *args: Any, **given: Any) -> None:
        nonlocal calls, values_of
        calls += 1
        if calls <= _SHARED_CALLS_MAX:
            values_of = values_of or _values_of(owner())
            if (values := values_of(args, given)) is not None:
                for name, value in values.items():
                    object.__setattr__(self, name, value)
                if (post_init := getattr(self, "__post_init__", None)) is not None:
                    post_init()
                return
        _compiled(owner(), "__init__", _init_source)(self, *args, **given)

    return method


def _values_of(cls: type[DataclassInstance]) -> Callable[[tuple[Any, ...], dict[str, Any]], dict[str, Any] | None]:
    """Returns a function that returns the attributes of a new object; None: the arguments do not fit."""
    places = fields(cls)
    parameters = {place.name for place in places if place.init}
    positional = [place.name for place in places if place.init and not place.kw_only]
    defaults = {place.name: place.default for place in places if place.default is not MISSING}
    factories = {place.name: place.default_factory for place in places if place.default_factory is not MISSING}
    required = parameters - defaults.keys() - factories.keys()

    def values(args: tuple[Any, ...], given: dict[str, Any]) -> dict[str, Any] | None:
        passed = dict(zip(positional, args, strict=False)) | given
        if len(passed) != len(args) + len(given) or not required <= passed.keys() <= parameters:
            return None
        made = {name: factory() for name, factory in factories.items() if name not in passed}
        return defaults | made | passed

    return values


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
        if is_frozen and isinstance(slot := getattr(cls, name, None), MemberDescriptorType):
            names[f"_set_{name}"] = slot.__set__  # takes half of the time of ``object.__setattr__``
            body.append(f"_set_{name}(self, {value})")
        else:
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

    def __init__(self, made: Callable[[], Any]) -> None:
        self._made = made

    def __get__(self, instance: object, cls: Any) -> inspect.Signature:
        made = self._made()
        if instance is not None or cls.__init__ is not made.__init__ or cls.__new__ is not object.__new__:
            raise AttributeError("__signature__")
        annotations = {place.name: place.type for place in fields(cls)}
        names: _Names = {"_FACTORY": _FACTORY}
        exec(_init_source(cls, names), names)  # nosec B102 - made of the names of fields
        signature = inspect.signature(names["__init__"])
        own = [
            each.replace(annotation=annotations[name]) for name, each in signature.parameters.items() if name != "self"
        ]
        return signature.replace(parameters=own, return_annotation=None)


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
