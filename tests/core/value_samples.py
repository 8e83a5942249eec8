"""Types and values for the tests of what is stored and passed on. Holds no test.

``EXPORTED`` has every type that pydantic exports, with the values that it makes of ``POOL``. ``STANDARD`` has types of
the standard library, and models. ``typed_values`` puts them into collections.
"""

from __future__ import annotations

import collections
import dataclasses
import enum
import inspect
import ipaddress
import warnings
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from fractions import Fraction
from types import GenericAlias
from typing import Any, Literal, NamedTuple
from uuid import UUID, uuid5

import pydantic
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, Secret, SecretBytes, SecretStr, TypeAdapter, computed_field

URLS = [
    *(
        "https://example.org/a?b=1#c",
        "ftp://u:p@example.org/x",
        "ws://example.org",
        "file:///tmp/x",
        "postgres://u:p@h/d",
    ),
    *("mysql://u:p@h/d", "mariadb://u:p@h/d", "clickhouse+native://u:p@h/d", "snowflake://u:p@h/d", "redis://h:1/1"),
    *("mongodb://u:p@h/d", "kafka://h:1", "nats://h:1", "amqp://u:p@h/d", "cockroachdb://u:p@h/d"),
]
POOL: list[Any] = [
    *(None, True, 0, 1, -1, 5, 2.5, -0.5, Decimal("1.10"), Decimal("-3"), "", "text", "a@example.org", b"", b"bytes"),
    *("aGk=", "aGk-", b"aGk=", '{"a": 1}', "[1, 2]", "1GB", "123e4567-e89b-12d3-a456-426614174000", *URLS, "127.0.0.1"),
    *("::1", "10.0.0.0/8", "10.0.0.1/8", "2001-02-03", "2999-02-03", "2001-02-03T04:05:06Z", "2999-02-03T04:05:06"),
    *("P1DT2S", "a+", "/", "/tmp", "/nowhere/at-all", "math.pi", date(2001, 2, 3), datetime(2001, 2, 3, tzinfo=UTC)),
    *(uuid5(UUID(int=1), "x"), UUID("01890a5d-ac96-774b-bcce-b302099a8057"), [], [1, "a"], {"a": 1}, {1}, (1, 2), int),
]


class Size(enum.StrEnum):
    BIG = "big"


class Pair(enum.Enum):
    ONE = "one"
    TWO = (1, 2)


class Plain(BaseModel):
    number: int = 0
    words: list[str] = []


class Other(BaseModel):
    number: int = 0
    words: list[str] = []


class Strict(BaseModel):
    """Its aliases differ, and it forbids what it computes."""

    model_config = ConfigDict(extra="forbid")

    number: int = Field(default=0, validation_alias="in", serialization_alias="out")
    path: str = Field(default="", validation_alias=pydantic.AliasPath("a", 0))

    @computed_field  # type: ignore[prop-decorator]
    @property
    def doubled(self) -> int:
        return 2 * self.number


st.register_type_strategy(
    Strict, st.builds(lambda number, path: Strict(**{"in": number, "a": [path]}), st.integers(), st.text())
)


class Swapped(BaseModel):
    """The alias of each field is the name of the other one."""

    a: int = Field(default=1, alias="b")
    b: int = Field(default=2, alias="a")


class Infinite(BaseModel):
    model_config = ConfigDict(ser_json_inf_nan="constants")
    ratio: float = 0.0


class Tree(BaseModel):
    ratio: float = 0.0
    children: list[Tree] = []


class Login(BaseModel):
    user: str = ""
    token: SecretStr = SecretStr("")


class Point(NamedTuple):
    x: int
    y: float


@dataclasses.dataclass
class Data:
    a: int
    rest: list[float] = dataclasses.field(default_factory=list)


@dataclasses.dataclass
class Derived:
    a: int
    twice: int = dataclasses.field(init=False, default=0)


STANDARD: list[Any] = [
    *(str, int, bool, float, Decimal, date, time, datetime, timedelta, UUID, bytes, complex, Fraction, Size, Pair, Any),
    *(ipaddress.IPv4Address, ipaddress.IPv6Network, Plain, Strict, Swapped, Infinite, Tree, Data, Point, Derived),
    *(int | str, float | None, Plain | Other, Size | str, date | datetime, bool | int, Sequence[int], Literal[1, "a"]),
]


def _exported() -> dict[str, Any]:
    """The types that pydantic exports."""
    found = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in pydantic.__all__:
            value = getattr(pydantic, name, None)
            if inspect.isfunction(value):  # such as conint
                continue
            for annotation in (value, *(_filled(value) or ())):
                try:
                    TypeAdapter(annotation).json_schema(mode="serialization")
                except Exception:  # it is no type, or needs what is not installed
                    continue
                found[f"{name} {annotation}"] = annotation
                break
    return found


def _filled(generic: Any) -> list[Any]:
    """A generic type with an argument, if it is one."""
    try:
        return [generic[int], generic[list[int]]]
    except Exception:
        return []


def _taken(annotation: Any) -> list[Any]:
    """The values that a type makes of ``POOL``."""
    taken = []
    adapter = TypeAdapter(annotation)
    for raw in POOL:
        try:
            taken.append(adapter.validate_python(raw))
        except Exception:
            continue
    return taken[:: max(1, len(taken) // 6)]


EXPORTED: dict[str, tuple[Any, list[Any]]] = {
    name: (annotation, values) for name, annotation in _exported().items() if (values := _taken(annotation))
}

SECRETS: list[tuple[Any, st.SearchStrategy[Any]]] = [
    (SecretStr, st.builds(SecretStr, st.text())),
    (SecretBytes, st.builds(SecretBytes, st.binary())),
    (Secret[float], st.builds(Secret[float], st.floats())),
    (Login, st.builds(Login, user=st.text(), token=st.builds(SecretStr, st.text()))),
]

CONTAINERS: list[tuple[Callable[[Any], Any], Callable[[Any], st.SearchStrategy[Any]]]] = [
    (lambda inner: GenericAlias(list, (inner,)), lambda value: st.lists(value, max_size=3)),
    (lambda inner: GenericAlias(dict, (str, inner)), lambda value: st.dictionaries(st.text(), value, max_size=3)),
    (lambda inner: GenericAlias(dict, (int, inner)), lambda value: st.dictionaries(st.integers(), value, max_size=3)),
    (lambda inner: GenericAlias(tuple, (inner, ...)), lambda value: st.lists(value, max_size=3).map(tuple)),
    (lambda inner: GenericAlias(tuple, (inner, int)), lambda value: st.tuples(value, st.integers())),
    (lambda inner: inner | None, lambda value: st.none() | value),
    (lambda inner: GenericAlias(collections.deque, (inner,)), lambda value: st.lists(value).map(collections.deque)),
    (lambda inner: GenericAlias(Mapping, (str, inner)), lambda value: st.dictionaries(st.text(), value, max_size=3)),
]


@st.composite
def typed_values(draw: st.DrawFn) -> tuple[Any, Any]:
    """Returns a type and a value of it."""
    match draw(st.sampled_from(["standard", "exported", "secret"])):
        case "standard":
            annotation = draw(st.sampled_from(STANDARD))
            values = st.sampled_from(POOL) if annotation is Any else st.from_type(annotation)
        case "exported":
            annotation, made = draw(st.sampled_from(list(EXPORTED.values())))
            values = st.sampled_from(made)
        case _:
            annotation, values = draw(st.sampled_from(SECRETS))
    for wrap, around in draw(st.lists(st.sampled_from(CONTAINERS), max_size=2)):
        annotation, values = wrap(annotation), around(values)
    return annotation, draw(values)


def exactly(value: Any) -> Any:
    """A value in a form whose equality means the same types too."""
    if isinstance(value, BaseModel):
        return type(value), exactly(dict(value))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return type(value), [exactly(getattr(value, field.name)) for field in dataclasses.fields(value)]
    if isinstance(value, Mapping):
        return type(value), [(exactly(key), exactly(item)) for key, item in value.items()]
    if isinstance(value, (list, tuple, collections.deque)):
        return type(value), [exactly(item) for item in value], getattr(value, "maxlen", None)
    if isinstance(value, (datetime, time)):
        return value, value.utcoffset(), getattr(value.tzinfo, "key", None)
    if isinstance(value, (Secret, SecretStr, SecretBytes)):
        return type(value), exactly(value.get_secret_value())
    return type(value), value if isinstance(value, complex) and value == value else str(value)
