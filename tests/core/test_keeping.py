"""What is stored is what a load gives back: a value either is kept exactly, or the commit is refused and says where."""

from __future__ import annotations

import collections
import dataclasses
import enum
import functools
import ipaddress
import json
import math
import re
import runpy
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from fractions import Fraction
from pathlib import Path, PurePosixPath
from types import new_class
from typing import Annotated, Any, Literal, NotRequired
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from pydantic import (
    AfterValidator,
    AnyUrl,
    BaseModel,
    BeforeValidator,
    Field,
    FutureDate,
    FutureDatetime,
    OnErrorOmit,
    PastDate,
    PlainSerializer,
    PrivateAttr,
    RootModel,
    Secret,
    SecretStr,
    SerializeAsAny,
    StringConstraints,
    field_serializer,
    field_validator,
)
from pydantic.dataclasses import dataclass as pydantic_dataclass
from typing_extensions import TypedDict

from tests.core.helpers import do
from tests.core.value_samples import Data, Derived, Point, Tree
from workflow_core import DefinitionError, InvalidFields, InvalidInput, S, Workflow

ROOT = Path(__file__).parents[2]


def holder(annotation: Any, **settings: Any) -> type[Workflow]:
    """A workflow with one field of that type."""

    class Holder(Workflow, name="holder"):
        __annotations__ = {"value": annotation}
        definition = S(do("a"))

    return Holder


def saved(cls: type[Workflow], value: Any) -> Any:
    """The value after it was saved and loaded. Raises ``InvalidFields`` if that changes it."""
    workflow = cls.model_construct(value=value)
    loaded = cls.load_fields(workflow.dump_fields())
    workflow.refuse_changes(loaded)
    return loaded.value  # type: ignore[attr-defined]


class Color(enum.Enum):
    RED = "red"
    PAIR = (1, 2)


class Size(enum.StrEnum):
    BIG = "big"


class Level(enum.IntEnum):
    LOW = 1


class Plain(BaseModel):
    number: int = 0
    words: list[str] = []


class Base(BaseModel):
    a: int = 1


class Sub(Base):
    b: int = 2


class Twin(BaseModel):
    a: int = 1


class Cat(BaseModel):
    kind: Literal["cat"] = "cat"


class Dog(BaseModel):
    kind: Literal["dog"] = "dog"


class Constants(BaseModel):
    model_config = {"ser_json_inf_nan": "constants"}
    a: float = 0.0


class Strings(BaseModel):
    model_config = {"ser_json_inf_nan": "strings"}
    a: float = 0.0


class Excluding(BaseModel):
    kept: int = 1
    left_out: int = Field(default=0, exclude=True)


class Private(BaseModel):
    a: int = 1
    _secret: int = PrivateAttr(default=0)


class Lossy(BaseModel):
    price: float = 0.0

    @field_serializer("price")
    def rounded(self, price: float) -> float:
        return round(price)


class Hashing(BaseModel):
    password: str

    @field_validator("password")
    @classmethod
    def hashed(cls, password: str) -> str:
        return f"hash of {password}"


class Tidy(BaseModel):
    name: str = ""

    @field_validator("name")
    @classmethod
    def stripped(cls, name: str) -> str:
        return name.strip()


class Counting(BaseModel):
    loads: int = 0

    def model_post_init(self, context: Any) -> None:
        self.loads += 1


class Lowering(BaseModel):
    model_config = {"str_to_lower": True}
    name: str = ""


class LeavesOutZero(BaseModel):
    number: int = Field(default=5, exclude_if=lambda number: number == 0)


@dataclasses.dataclass
class Partly:
    a: int
    b: int = Field(default=1, exclude=True)


@dataclasses.dataclass
class Cached:
    a: int

    def __post_init__(self) -> None: ...

    @functools.cached_property
    def twice(self) -> int:
        return 2 * self.a


class Names(RootModel[list[str]]):
    pass


class Address(TypedDict):
    street: str
    town: NotRequired[str]


class Numbers(list[Any]):
    pass


class Unique(set[Any]):
    pass


class Masking(BaseModel):
    token: SecretStr

    @field_serializer("token")
    def masked(self, token: SecretStr) -> str:
        return "***"


@dataclasses.dataclass
class Whole:
    a: int

    @functools.cached_property
    def twice(self) -> int:
        return 2 * self.a


@dataclasses.dataclass
class Inside:
    whole: Whole


@pydantic_dataclass
class PydanticData:
    a: int


@dataclasses.dataclass(slots=True)
class Slotted:
    a: int


@dataclasses.dataclass
class Half(Slotted):
    b: int = 0


class PointWithNotes(Point):
    pass


class Moved(tzinfo):
    """A time zone with rules, as other libraries have."""

    def utcoffset(self, at: datetime | None) -> timedelta:
        return timedelta(hours=1)

    def tzname(self, at: datetime | None) -> str:
        return "CET"

    def dst(self, at: datetime | None) -> None: ...

    def __str__(self) -> str:
        return "Moved"


def noted(value: Any) -> Any:
    """The value with an attribute that its class does not declare."""
    value.note = "new"
    return value


def private(value: int) -> Private:
    one = Private()
    one._secret = value
    return one


def lossless(*values: Any, annotation: Any) -> list[Any]:
    return [pytest.param(annotation, value, id=f"{annotation} {value!r}"[:60]) for value in values]


cached = Cached(3)
assert cached.twice == 6
whole = Whole(3)
assert whole.twice == 6

BERLIN = ZoneInfo("Europe/Berlin")
SUMMER = datetime(2026, 7, 1, 12, tzinfo=BERLIN)


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        *lossless("", "ü\u0000", annotation=str),
        *lossless(0, -(10**40), annotation=int),
        *lossless(0.1, -0.0, 1e300, 5, annotation=float),
        *lossless(Decimal("1.10"), Decimal("1E+3"), Decimal("-0.00"), annotation=Decimal),
        *lossless(b"abc", annotation=bytes),
        *lossless(date(2026, 1, 1), annotation=date),
        *lossless(time(1, 2, 3, 4), time(1, tzinfo=UTC), annotation=time),
        *lossless(datetime(2026, 1, 1, 1, 2, 3, 4), annotation=datetime),
        *lossless(
            datetime(2026, 1, 1, tzinfo=UTC), SUMMER.astimezone(timezone(timedelta(hours=2))), annotation=datetime
        ),
        *lossless(timedelta(days=-3, microseconds=1), annotation=timedelta),
        *lossless(UUID(int=5), annotation=UUID),
        *lossless(Color.RED, annotation=Color),
        *lossless(Size.BIG, annotation=Size),
        *lossless(Level.LOW, annotation=Level),
        *lossless("a", 2, None, annotation=Literal["a", 2, None]),
        *lossless(1, "1", annotation=int | str),
        *lossless(None, 1.5, annotation=float | None),
        *lossless([1, "1", None, {"a": [True, 1.5]}], {}, annotation=Any),
        *lossless((1, "a"), annotation=tuple[int, str]),
        *lossless((1.5, 2.5), annotation=tuple[float, ...]),
        *lossless({1, 2}, annotation=set[int]),
        *lossless(frozenset({"a"}), annotation=frozenset[str]),
        *lossless({1: "a"}, annotation=dict[int, str]),
        *lossless({"a": 1.5}, annotation=dict[str, float]),
        *lossless({date(2026, 1, 1): 1}, annotation=dict[date, int]),
        *lossless({"a": 1}, annotation=Mapping[str, int]),
        *lossless([1], annotation=Sequence[int]),
        *lossless(collections.deque([1, 2]), annotation=collections.deque[int]),
        *lossless(collections.Counter("aab"), annotation=collections.Counter[str]),
        *lossless(Plain(number=1, words=["a"]), annotation=Plain),
        *lossless([Base(), Base(a=5)], annotation=list[Base]),
        *lossless(Sub(b=5), annotation=Sub),
        *lossless(Cat(), Dog(), annotation=Cat | Dog),
        *lossless(Tree(children=[Tree(ratio=0.5)]), annotation=Tree),
        *lossless(Names(["a"]), annotation=Names),
        *lossless(Point(1, 2.5), annotation=Point),
        *lossless({"street": "Elm"}, {"town": "Ulm", "street": "Elm"}, annotation=Address),
        *lossless({1, 2.0}, annotation=set[float]),
        *lossless(cached, annotation=Cached),
        *lossless(whole, annotation=Whole),
        *lossless(Slotted(1), annotation=Slotted),
        *lossless(Half(1, 2), annotation=Half),
        *lossless(Data(1, [0.5]), annotation=Data),
        *lossless(Derived(1), annotation=Derived),
        *lossless(Tidy(name="a"), annotation=Tidy),
        *lossless(Constants(a=float("inf")), annotation=Constants),
        *lossless(Excluding(), annotation=Excluding),
        *lossless(Private(), annotation=Private),
        *lossless(Lossy(price=2.0), annotation=Lossy),
        *lossless(re.compile("a+"), annotation=re.Pattern[str]),
        *lossless(PurePosixPath("/a"), annotation=PurePosixPath),
        *lossless(ipaddress.ip_address("::1"), annotation=ipaddress.IPv6Address),
        *lossless(AnyUrl("https://example.org/"), annotation=AnyUrl),
        *lossless(Fraction(1, 3), annotation=Fraction),
    ],
)
def test_it_is_kept(annotation: Any, value: Any) -> None:
    loaded = saved(holder(annotation), value)
    assert loaded == value


@pytest.mark.parametrize(
    ("annotation", "value", "said"),
    [
        (float | None, float("inf"), "value is inf, but would be loaded as None. JSON has no such number"),
        (dict[str, float | None], {"a": None, "b": float("nan")}, "value.b is nan"),
        (datetime, SUMMER, "value is 2026-07-01 12:00:00+02:00 (Europe/Berlin), but would be loaded as"),
        (
            datetime,
            datetime(2026, 7, 1, tzinfo=timezone(timedelta(hours=2), "summer")),
            "value is 2026-07-01 00:00:00+",
        ),
        (datetime, datetime(2026, 7, 1, tzinfo=Moved()), "value is 2026-07-01 00:00:00+01:00 (Moved), but would be"),
        (
            time,
            time(1, tzinfo=timezone(timedelta(hours=2), "summer")),
            "value is 01:00:00+02:00 (summer), but would be",
        ),
        (
            datetime,
            datetime(2026, 10, 25, 2, 30, fold=1),
            "value is 2026-10-25 02:30:00 (None, fold=1), but would be loaded as 2026-10-25 02:30:00 (None). Convert",
        ),
        (Data, noted(Data(1)), "value.note is 'new', but would be loaded as None. It is not a field of its class"),
        (list[Whole], [noted(Whole(1))], "value.0.note is 'new', but would be loaded as None. It is not a field of"),
        (dict[str, Whole | None], {"a": noted(Whole(1))}, "value.a.note is 'new', but would be loaded as None"),
        (Inside, Inside(noted(Whole(1))), "value.whole.note is 'new', but would be loaded as None"),
        (PydanticData, noted(PydanticData(1)), "value.note is 'new', but would be loaded as None"),
        (Half, noted(Half(1)), "value.note is 'new', but would be loaded as None"),
        (PointWithNotes, noted(PointWithNotes(1, 2)), "value.note is 'new', but would be loaded as None"),
        (collections.Counter[str], noted(collections.Counter("a")), "value.note is 'new', but would be loaded as None"),
        (list[Base], [Base(), Sub()], "value.1 is Sub(a=1, b=2), but would be loaded as Base(a=1). Annotate it"),
        (Base, Sub(), "value is Sub"),
        (dict[str, Base], {"a": Sub()}, "value.a is Sub"),
        (Base | None, Sub(), "value is Sub"),
        (SerializeAsAny[Base], Sub(), "value is Sub"),
        (Base | Twin, Twin(), "value is Twin(a=1), but would be loaded as Base(a=1)"),
        (list[int] | set[int], {1}, "value is {1}"),
        (Size | str, Size.BIG, "value is <Size.BIG: 'big'>, but would be loaded as 'big'"),
        (UUID | str, str(UUID(int=5)), "value is '00000000"),
        (datetime | str, "2026-01-01T00:00:00", "value is '2026-01-01T00:00:00'"),
        (Any, Base(), "value is Base(a=1), but would be loaded as {'a': 1}"),
        (object, datetime(2026, 1, 1), "value is 2026-01-01"),
        (Any, (1, 2), "value is (1, 2), but would be loaded as [1, 2]"),
        (list[Any], [1, {2: "a"}], "value.1.2 is 2, but would be loaded as '2'"),
        (dict[str, Any], {"a": {1}}, "value.a is {1}"),
        (collections.deque[int], collections.deque([1], maxlen=3), "value is deque([1], maxlen=3)"),
        (Sequence[int], (1, 2), "value is (1, 2), but would be loaded as [1, 2]"),
        (dict[int | str, int], {1: 1}, "value.1 is 1, but would be loaded as '1'"),
        (re.Pattern[str], re.compile("a", re.IGNORECASE), "value is re.compile('a', re.IGNORECASE)"),
        (Private, private(3), "value._secret is 3, but would be loaded as 0"),
        (Excluding, Excluding(left_out=4), "value.left_out is 4, but would be loaded as 0"),
        (Lossy, Lossy(price=1.6), "value.price is 1.6, but would be loaded as 2.0"),
        (Hashing, Hashing(password="a"), "value.password is 'hash of a', but would be loaded as 'hash of hash of a'"),
        (Counting, Counting(), "value.loads is 1, but would be loaded as 2"),
        (Annotated[str, StringConstraints(to_lower=True)], "ABC", "value is 'ABC', but would be loaded as 'abc'"),
        (list[Annotated[str, StringConstraints(strip_whitespace=True)] | None], [" a"], "value.0 is ' a'"),
        (dict[Annotated[str, StringConstraints(to_lower=True)], int], {"A": 1, "a": 2}, "value is {'A': 1, 'a': 2}"),
        (Lowering, Lowering.model_construct(name="A"), "value.name is 'A'"),
        (LeavesOutZero, LeavesOutZero(number=0), "value.number is 0, but would be loaded as 5"),
        (Partly, Partly(1, 2), "value.b is 2, but would be loaded as 1"),
        (list[OnErrorOmit[Annotated[int, Field(gt=5)]]], [1, 7], "value is [1, 7]"),
        (dict[str, int], collections.defaultdict(int, a=1), "value is defaultdict"),
        (Any, SecretStr("hunter2"), "value is **********, but would be loaded as **********. Annotate it with"),
        (SecretStr | str, "hunter2", "value is **********, but would be loaded as **********"),
        (str | SecretStr, SecretStr("hunter2"), "value is **********, but would be loaded as **********"),
        (
            set[str | SecretStr],
            {SecretStr("hunter2")},
            "value is {SecretStr('**********')}, but would be loaded as ***",
        ),
        (Secret[list[Any]], Secret([("hunter2",)]), "value is **********, but would be loaded as **********"),
        (Secret[datetime], Secret(SUMMER), "value is **********, but would be loaded as **********"),
        (Masking, Masking(token=SecretStr("hunter2")), "value.token is **********, but would be loaded as **********"),
        (list[list[int]], [[1], Numbers([2])], "value.1 is [2] (Numbers), but would be loaded as [2] (list)"),
        (Any, Decimal(1), "value is Decimal('1'), but would be loaded as '1'. Annotate it with the type"),
        (list[dict[str, int]], [collections.defaultdict(int, a=1)], "value.0 is defaultdict"),
        (dict[str, list[Plain]], {"a": [Plain.model_construct(words=Numbers(["b"]))]}, "value.a.0.words is ['b']"),
        (tuple[int, set[int]], (1, Unique({2})), "value.1 is Unique({2})"),
        (set[tuple[int, ...]], {Point(1, 2)}, "value is {Point(x=1, y=2)}"),
        (Annotated[int, AfterValidator(lambda n: n + 1)], 1, "value is 1, but would be loaded as 2"),
        (Annotated[str, BeforeValidator(lambda text: text * 2)], "a", "value is 'a', but would be loaded as 'aa'"),
        (Annotated[datetime, PlainSerializer(lambda at: at.date())], datetime(2026, 1, 1, 5), "value is 2026-01-01"),
    ],
)
def test_what_would_be_changed_is_refused(annotation: Any, value: Any, said: str) -> None:
    with pytest.raises(InvalidFields) as refused:
        saved(holder(annotation), value)
    assert f"saving would change a field of Holder: {said}" in str(refused.value)
    shown: BaseException | None = refused.value
    while shown is not None:  # as a log shows them
        assert "hunter2" not in str(shown)
        shown = shown.__cause__ or shown.__context__


HALF = json.loads('"\\ud800"')


@pytest.mark.parametrize(
    ("annotation", "value", "where"),
    [
        (dict[str, int], {HALF: 1}, "value"),
        (dict[str, int], {"\N{REPLACEMENT CHARACTER}": 1, HALF: 2}, "value"),
        (list[dict[str, dict[str, int]]], [{}, {"a": {HALF: 1}}], "value.1.a"),
        (list[Any], [1, {"a": {HALF: 1}}], "value.1.a"),
        (list[str], ["a", "b" + HALF], "value.1"),
    ],
)
def test_halves_of_characters_are_refused(annotation: Any, value: Any, where: str) -> None:
    with pytest.raises(InvalidFields, match=rf"cannot be saved: {where} contains '\\ud800', which is half of a char"):
        saved(holder(annotation), value)


def test_a_value_that_contains_itself_is_refused() -> None:
    value: list[Any] = []
    value.append(value)
    with pytest.raises(InvalidFields, match="Circular reference"):
        saved(holder(list[Any]), value)


def test_the_character_that_stands_for_others_is_kept() -> None:
    value = {"\N{REPLACEMENT CHARACTER}": 1}
    assert saved(holder(dict[str, int]), value) == value


@pytest.mark.parametrize(
    ("annotation", "value", "path"),
    [
        (float, float("nan"), "value"),
        (list[float], [1.0, float("-inf")], "value.1"),
        (Tree, Tree(children=[Tree(ratio=float("nan"))]), "value.children.0.ratio"),
        (Decimal, Decimal("NaN"), "value"),
    ],
)
def test_numbers_that_json_does_not_have_are_refused(annotation: Any, value: Any, path: str) -> None:
    with pytest.raises(InvalidFields, match=f"{path}: Input should be a (valid|finite) number"):
        saved(holder(annotation), value)


@pytest.mark.parametrize("cls", [Constants, Strings])
@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_a_number_that_json_does_not_have_is_kept_where_the_type_writes_it(cls: Any, number: float) -> None:
    for annotation in (cls, cls | None):
        assert str(saved(holder(annotation), cls(a=number)).a) == str(number)


def test_what_a_dataclass_computes_for_itself_is_compared() -> None:
    changed = Derived(1)
    changed.twice = 2
    with pytest.raises(InvalidFields, match=r"value\.twice is 2, but would be loaded as 0"):
        saved(holder(Derived), changed)


@pytest.mark.parametrize(
    "annotation",
    [
        *(str, int, bool, None, date, timedelta, UUID, Size, Level, list[str], dict[int, bool], tuple[int, str]),
        *(set[str], int | None, Literal["a", 2], int | str | None, dict[str, list[tuple[int, ...]]]),
    ],
)
def test_exact_types_cost_nothing(annotation: Any) -> None:
    needed = holder(annotation).__form__.compare
    assert needed is None or not needed.is_needed()


@pytest.mark.parametrize(
    "annotation", [Plain, list[Plain], dict[str, Plain | None], tuple[Plain, ...], list[Cat | None]]
)
def test_models_of_exact_types_cost_nothing_unless_there_is_a_subclass(annotation: Any) -> None:
    needed = holder(annotation).__form__.compare
    assert needed is not None
    assert not needed.is_needed()
    assert (compared := holder(list[Base]).__form__.compare) is not None
    assert compared.is_needed()


# --- what can be seen at import ---------------------------------------------------------------


def test_fields_that_are_not_saved_are_refused_at_import() -> None:
    with pytest.raises(DefinitionError, match="its field 'a' has exclude=True, so it is not saved"):

        class One(Workflow, name="one"):
            a: int = Field(default=1, exclude=True)
            definition = S(do("a"))

    with pytest.raises(DefinitionError, match="its private attribute '_a' is not saved"):

        class Two(Workflow, name="two"):
            _a: int = 1
            definition = S(do("a"))

    with pytest.raises(DefinitionError, match="its cached_property 'a' keeps its value when fields change"):

        class Three(Workflow, name="three"):
            @functools.cached_property
            def a(self) -> int:
                return 1

            definition = S(do("a"))


@pytest.mark.filterwarnings("ignore:Field name")
@pytest.mark.parametrize("name", ["dump_fields", "load_fields", "migrate", "new", "result_json", "refuse_changes"])
def test_a_field_named_like_a_method_is_refused_at_import(name: str) -> None:
    with pytest.raises(DefinitionError, match=f"its field '{name}' replaces a method of Workflow"):
        new_class("One", (Workflow,), {"name": "one"}, lambda body: body.update({"__annotations__": {name: int}}))


# --- fields that the code no longer has -------------------------------------------------------


def test_a_removed_field_of_a_model_that_forbids_others_still_loads() -> None:
    class Strict(BaseModel):
        model_config = {"extra": "forbid"}
        a: int = 1

    class Order(Workflow, name="order"):
        model_config = {"extra": "forbid"}
        rows: list[Strict] = []
        definition = S(do("a"))

    stored = '{"rows":[{"a":2,"gone":1},{"a":3}],"also":{"gone":2}}'
    assert Order.load_fields(stored).dump_fields() == '{"rows":[{"a":2},{"a":3}]}'
    with pytest.raises(InvalidFields, match=r"rows\.0\.a: Input should be a valid integer"):
        Order.load_fields('{"rows":[{"a":"x","gone":1}]}')
    with pytest.raises(InvalidInput, match="gone"):
        Order.new('{"rows":[{"a":2,"gone":1}]}')


def test_the_table_of_the_documentation_is_that_of_the_code() -> None:
    page = (ROOT / "docs" / "guides" / "fields.md").read_text()
    assert runpy.run_path(str(ROOT / "docs" / "kept_types.py"))["written"](page) == page, (
        "run: python docs/kept_types.py"
    )


class Appointment(BaseModel):
    at: FutureDatetime | None = None


@pytest.mark.parametrize(
    "due", [FutureDate, FutureDate | None, list[FutureDatetime], Appointment, dict[str, Appointment]]
)
def test_a_date_that_must_be_ahead_is_refused_because_one_day_it_could_not_be_loaded(due: Any) -> None:
    with pytest.raises(DefinitionError, match="its field 'due' must be in the future, which is checked at each load"):
        type(
            "Late",
            (Workflow,),
            {"__annotations__": {"day": PastDate, "due": due}, "definition": S(do("a"))},
            name="late",
        )
