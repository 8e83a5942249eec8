"""``record`` gives a class the same behaviour as ``dataclass``."""

from __future__ import annotations

import copy
import inspect
import pickle
import sys
from collections.abc import Callable
from dataclasses import FrozenInstanceError, dataclass, field, fields, replace
from types import FunctionType
from typing import Any, get_type_hints

import pytest

from workflow_core import records
from workflow_core.records import record


class Base:
    __slots__ = ()


def as_record() -> tuple[type, type]:
    @record(slots=True, frozen=True)
    class Point(Base):
        x: int
        y: int = 2
        tags: list[str] = field(default_factory=list, compare=False, repr=False)
        length: int = field(default=7, init=False)
        later: int = field(init=False, repr=False, compare=False)

        def __post_init__(self) -> None:
            object.__setattr__(self, "length", self.x + self.y)

    @record(slots=True, kw_only=True)
    class Named:
        name: str
        size: int = 1

    return Point, Named


def as_dataclass() -> tuple[type, type]:
    @dataclass(slots=True, frozen=True)
    class Point(Base):
        x: int
        y: int = 2
        tags: list[str] = field(default_factory=list, compare=False, repr=False)
        length: int = field(default=7, init=False)
        later: int = field(init=False, repr=False, compare=False)

        def __post_init__(self) -> None:
            object.__setattr__(self, "length", self.x + self.y)

    @dataclass(slots=True, kw_only=True)
    class Named:
        name: str
        size: int = 1

    return Point, Named


def subclass(base: type, *, frozen: bool) -> Any:
    made = type("Made", (base,), {"__annotations__": {"z": "int"}, "z": 0})
    return dataclass(frozen=frozen)(made)  # type: ignore[call-overload, unused-ignore]


def made_otherwise(base: Any) -> Any:
    class Made(base):  # type: ignore[misc]
        def __init__(self, text: str) -> None:
            super().__init__(int(text))

    return Made


def callable_one(base: Any) -> Any:
    class Made(base):  # type: ignore[misc]
        def __call__(self, text: str) -> None:
            pass

    return Made


CALLS: dict[str, Callable[[Any, Any], object]] = {
    "repr": lambda point, named: repr(point(1)).rpartition(".")[2],
    "positional": lambda point, named: (point(1, 3).x, point(1, 3).y, point(1, 3).length),
    "named": lambda point, named: (point(y=3, x=1).length, named(name="a").size),
    "equal": lambda point, named: (point(1) == point(1, tags=["a"]), point(1) == point(2), point(1) == 1),
    "hash": lambda point, named: (hash(point(1)) == hash(point(1)), len({point(1), point(1), point(2)})),
    "unhashable": lambda point, named: hash(named(name="a")),
    "factory": lambda point, named: point(1).tags is point(1).tags,
    "replace": lambda point, named: (replace(point(1), x=5).length, replace(named(name="a"), size=2).size),
    "fields": lambda point, named: [(place.name, place.init, place.kw_only) for place in fields(point)],
    "not set": lambda point, named: hasattr(point(1), "later"),
    "frozen": lambda point, named: setattr(point(1), "x", 2),
    "frozen for deletion": lambda point, named: delattr(point(1), "x"),
    "mutable": lambda point, named: setattr(named(name="a"), "name", "b"),
    "slots": lambda point, named: setattr(named(name="a"), "other", "b"),
    "missing": lambda point, named: point(),
    "too many": lambda point, named: point(1, 2, [], 4),
    "twice": lambda point, named: point(1, x=2),
    "unknown": lambda point, named: point(1, z=2),
    "not positional": lambda point, named: named("a"),
    "not in init": lambda point, named: point(1, length=3),
    "copy": lambda point, named: copy.copy(named(name="a")) == named(name="a"),
    "signature": lambda point, named: (str(inspect.signature(point)), str(inspect.signature(named))),
    "signature of a subclass": lambda point, named: str(inspect.signature(subclass(point, frozen=True))),
    "signature of a subclass made otherwise": lambda point, named: str(inspect.signature(made_otherwise(point))),
    "signature of an instance": lambda point, named: str(inspect.signature(callable_one(point)(1))),
    "frozen subclass": lambda point, named: subclass(point, frozen=True)(1, z=5).z,
    "mutable subclass": lambda point, named: subclass(named, frozen=False)(name="a", z=5).z,
    "frozen subclass of a mutable class": lambda point, named: subclass(named, frozen=True),
    "mutable subclass of a frozen class": lambda point, named: subclass(point, frozen=False),
    "match": lambda point, named: point.__match_args__,
}


def result(call: Callable[[Any, Any], object], classes: tuple[type, type]) -> object:
    try:
        return call(*classes)
    except Exception as error:
        return type(error)


@pytest.mark.parametrize("name", CALLS)
def test_a_record_behaves_like_a_dataclass(name: str) -> None:
    assert result(CALLS[name], as_record()) == result(CALLS[name], as_dataclass())


@record(slots=True, frozen=True)
class Kept:
    number: int
    words: tuple[str, ...] = ()


def test_a_frozen_record_can_be_copied_and_pickled() -> None:
    kept = Kept(3, ("a",))
    if sys.version_info >= (3, 13):
        assert copy.replace(kept, number=4) == Kept(4, ("a",))
    for again in (copy.copy(kept), copy.deepcopy(kept), pickle.loads(pickle.dumps(kept))):
        assert again == kept and type(again) is Kept
    with pytest.raises(FrozenInstanceError, match="cannot assign to field 'number'"):
        kept.number = 4  # type: ignore[misc]


def test_the_types_of_its_methods_can_be_found() -> None:
    for name in ("__init__", "__repr__", "__eq__", "__hash__", "__setattr__", "__getstate__", "__setstate__"):
        get_type_hints(getattr(Kept, name))


def test_an_own_method_is_kept() -> None:
    @record(slots=True)
    class Own:
        number: int

        def __repr__(self) -> str:
            return f"<{self.number}>"

    assert repr(Own(1)) == "<1>"


def test_errors_name_the_argument() -> None:
    with pytest.raises(TypeError, match=r"Kept.__init__\(\) missing 1 required positional argument: 'number'"):
        Kept()  # type: ignore[call-arg]
    with pytest.raises(TypeError, match=r"Kept.__init__\(\) got an unexpected keyword argument 'size'"):
        Kept(1, size=2)  # type: ignore[call-arg]


def calls_that_are_shared(point: Any) -> int:
    """Creates objects until ``__init__`` is compiled. Returns how many it took."""
    for number in range(1000):
        if "__init__" in compiled(point):
            return number
        point(1)
    raise AssertionError("it is never compiled")


def compiled(cls: type) -> list[str]:
    """Returns the names of the methods that were compiled."""
    return [name for name in ("__init__", "__eq__", "__hash__") if isinstance(vars(cls)[name], FunctionType)]


@pytest.mark.parametrize("name", CALLS)
def test_a_record_behaves_the_same_once_its_init_is_compiled(name: str) -> None:
    point, named = as_record()
    assert 2 < calls_that_are_shared(point) < 100
    while "__init__" not in compiled(named):
        named(name="a")
    assert result(CALLS[name], (point, named)) == result(CALLS[name], as_dataclass())


def test_methods_are_compiled_when_they_are_called() -> None:
    @record(slots=True, frozen=True)
    class Late:
        number: int

    @record(slots=True, frozen=True)
    class Later(Late):
        size: int = 1

    assert compiled(Late) == []
    calls = calls_that_are_shared(Late)
    assert compiled(Late) == ["__init__"] and compiled(Later) == []
    assert Later(2, 3) != Late(2) and hash(Later(2)) == hash(Later(2, 1))
    assert compiled(Later) == ["__eq__", "__hash__"]
    assert calls_that_are_shared(Later) == calls - 3
    assert Later.__init__.__qualname__.endswith("Later.__init__")


def test_init_is_compiled_also_if_two_threads_create_objects(monkeypatch: pytest.MonkeyPatch) -> None:
    point, _ = as_record()
    last = records._SHARED_CALLS_MAX - 1
    for number in range(last):
        point(number)

    def is_one_of(instance: object, cls: type) -> bool:
        monkeypatch.undo()
        point(last)  # by another thread, which goes first
        return isinstance(instance, cls)

    monkeypatch.setattr(records, "isinstance", is_one_of, raising=False)
    point(last + 1)
    assert calls_that_are_shared(point) < 100
