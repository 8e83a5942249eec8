"""A parameter with a default makes the input of an event or an activity optional; defaults of fields can be saved."""

from __future__ import annotations

import dataclasses
import enum
import json
import math
from collections.abc import Sequence
from decimal import Decimal
from typing import Annotated, Any, NamedTuple

import pytest
from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_serializer, field_validator
from pydantic.dataclasses import dataclass as pydantic_dataclass

from tests.core.helpers import Logged, flow, start
from workflow_core import (
    Activity,
    ActivityContext,
    DefinitionError,
    Execution,
    ForEach,
    If,
    InvalidInput,
    On,
    S,
    Select,
    Step,
    StepContext,
    Workflow,
    handle_event,
    resume,
)
from workflow_core.program.cases import EventCase


class Parcel(BaseModel):
    weight: int = 2


class Shop(Logged, name="shop"):
    def ship(self, priority: int = 1) -> str:
        return f"ship {priority}"

    def note(self, text: str | None = "none") -> str:
        return f"note {text}"

    def pack(self, parcel: Parcel = Parcel(weight=3)) -> str:  # noqa: B008 - it is not changed
        return f"pack {parcel.weight}"

    definition = S(Select("wait", On("Ship", ship), On("Note", note), On("Pack", pack)))


@pytest.mark.parametrize(
    ("event", "body", "output"),
    [
        ("Ship", b"", "ship 1"),
        ("Ship", b" \n", "ship 1"),
        ("Ship", b"2", "ship 2"),
        ("Note", b"", "note none"),
        ("Note", b"null", "note None"),
        ("Note", b'"x"', "note x"),
        ("Pack", b"", "pack 3"),
        ("Pack", b"{}", "pack 2"),
    ],
)
def test_an_empty_body_means_the_default(event: str, body: bytes, output: str) -> None:
    (case,) = [case for _, case in Shop.__program__.events[event]]
    assert isinstance(case, EventCase)
    assert case.handler(Shop(), case.signature.validate_json(event, body)) == output


@pytest.mark.parametrize(("event", "body"), [("Ship", b"null"), ("Ship", b'"x"'), ("Pack", b"null")])
def test_what_is_given_must_fit(event: str, body: bytes) -> None:
    (case,) = [case for _, case in Shop.__program__.events[event]]
    with pytest.raises(InvalidInput):
        case.signature.validate_json(event, body)


def test_without_an_input_the_library_uses_the_default() -> None:
    for event, output in (("Ship", "ship 1"), ("Note", "note none"), ("Pack", "pack 3")):
        order, execution = start(Shop)
        assert handle_event(order, execution, event) == output


def test_a_default_is_not_shared_between_instances() -> None:
    class Lists(Logged, name="lists"):
        def take(self, log: list[str] = []) -> None:  # noqa: B006 - what a user may write
            self.log = log
            self.log.append("one")

        definition = S(Select("wait", On("Take", take)))

    for _ in range(2):
        order, execution = start(Lists)
        handle_event(order, execution, "Take")
        assert order.log == ["one"]


def test_the_schema_says_so() -> None:
    schemas = {event: cases[0][1].signature.input_schema for event, cases in Shop.__program__.events.items()}
    assert schemas["Ship"] == {"type": "integer", "default": 1}
    assert schemas["Note"] is not None
    assert schemas["Note"]["default"] == "none"
    assert schemas["Pack"] is not None
    assert schemas["Pack"]["default"] == {"weight": 3}


def test_an_activity_without_an_input_gets_the_default() -> None:
    got: list[Any] = []

    def weigh(parcel: Parcel = Parcel(weight=4), *, scale: str = "kitchen") -> None:  # noqa: B008
        got.append((parcel, scale))

    class Weighs(Logged, name="weighs"):
        rows: list[Parcel] = [Parcel(weight=9)]
        definition = S(
            Activity("default", weigh),
            Activity("given", weigh, input=lambda w: Parcel(weight=5)),
            ForEach("each", lambda w: w.rows, Activity("of the item", weigh)),
        )

    order, execution = start(Weighs)
    resume(order, execution)
    assert got == [(Parcel(weight=weight), "kitchen") for weight in (4, 5, 9)]


# --- defaults that are wrong, or mean something else ------------------------------------------


def test_a_default_of_another_type_is_refused_at_import() -> None:
    def ship(w: Any, priority: int = None) -> None: ...  # type: ignore[assignment]  # noqa: RUF013

    def pack(w: Any, parcel: Parcel = {}) -> None: ...  # type: ignore[assignment]  # noqa: B006

    def weigh(grams: int = "5") -> None: ...  # type: ignore[assignment]

    def label(w: Any, size: Annotated[int | str, Field(le=9)] = []) -> None: ...  # type: ignore[assignment]

    for statement, said in (
        (Select("s", On("E", ship)), r"'priority' is None, which is not a int. Write priority: int \| None = None"),
        (Select("s", On("E", pack)), r"'parcel' is \{\}, which is not a Parcel. Use a Parcel as the default"),
        (Activity("a", weigh), "'grams' is '5', which is not a int"),
        (Select("s", On("E", label)), r"'size' is \[\], which is not a int \| str\. Use a int \| str as the default"),
    ):
        with pytest.raises(DefinitionError, match=f"the default of its parameter {said}"):
            flow(statement)


def test_a_default_that_fits_is_taken() -> None:
    def ratio(w: Any, part: float = 1, rest: int = 2) -> None: ...

    def tags(w: Any, tags: Sequence[str] = ()) -> None: ...

    flow(Select("s", On("E", ratio), On("F", tags)))


def test_the_default_of_a_step_is_kept_unless_it_takes_the_context() -> None:
    seen: list[Any] = []

    def charge(w: Any, retries: int = 3) -> None:
        seen.append(retries)

    def ship(w: Any, step: StepContext | None = None) -> None:
        seen.append(step and step.step)

    def unnamed(w: Any, step: Any = None) -> None:
        seen.append(step and step.step)

    order = flow(Step("charge", charge), Step("ship", ship), Step("unnamed", unnamed))()
    resume(order, Execution.start("1", type(order)))
    assert seen == [3, "ship", "unnamed"]

    def pay(w: Any, amount: int) -> None: ...

    with pytest.raises(DefinitionError, match="'amount' is annotated with int, but would receive the StepCo"):
        flow(Step("pay", pay))


def test_the_default_of_an_activity_is_kept_unless_it_takes_the_context() -> None:
    seen: list[Any] = []

    def pay(amount: int, currency: str = "EUR") -> None:
        seen.append(currency)

    def ship(amount: int, context: ActivityContext | None = None) -> None:
        seen.append(context and context.activity)

    order = flow(Activity("pay", pay, input=lambda w: 1), Activity("ship", ship, input=lambda w: 1))()
    resume(order, Execution.start("1", type(order)))
    assert seen == ["EUR", "ship"]

    def wrong(amount: int, currency: str) -> None: ...

    with pytest.raises(DefinitionError, match=r"'currency' is annotated with .*but would receive the ActivityContext"):
        flow(Activity("wrong", wrong))


def test_a_default_that_would_get_the_item_is_refused() -> None:
    def is_big(w: Any, limit: int = 10) -> bool:
        return bool(w.n > limit)

    order = flow(If("big", is_big, Step("a", lambda w: None)))()
    resume(order, Execution.start("1", type(order)))
    with pytest.raises(
        DefinitionError, match=r"its parameter 'limit' has a default, but the item .* \(\*, limit=\.\.\.\)"
    ):
        flow(ForEach("each", lambda w: [1], If("big", is_big, Step("a", lambda w: None))))


# --- numbers ----------------------------------------------------------------------------------


class Amounts(BaseModel):
    price: Decimal = Decimal(0)
    ratio: float = 0.0
    notes: Any = None


@pytest.mark.parametrize(
    ("body", "price"),
    [
        ('{"price": 0.1}', "0.1"),
        ('{"price": 1.10}', "1.10"),
        ('{"price": 0.12345678901234567890123}', "0.12345678901234567890123"),
        ('{"price": 123456789012345678901234567890}', "123456789012345678901234567890"),
        ('{"price": "2.50", "ratio": 0.12345678901234567890123}', "2.50"),
    ],
)
def test_a_decimal_keeps_all_digits_of_a_number(body: str, price: str) -> None:
    class Priced(Workflow, name="priced"):
        amounts: Amounts = Amounts()

        def take(self, amounts: Amounts) -> None: ...

        definition = S(Select("s", On("E", take)))

    ((_, case),) = Priced.__program__.events["E"]
    taken = case.signature.validate_json("E", body.encode())
    assert str(taken.price) == price
    assert type(taken.ratio) is float
    created = Priced.new(f'{{"amounts": {body}}}')
    assert created.amounts == taken
    assert str(Priced.load_fields(created.dump_fields()).amounts.price) == price
    assert case.signature.validate_json("E", b'{"price": 1.5, "notes": 2.50}').notes == 2.5


MANY = ", ".join(f'"{i}": 1.10' for i in range(99))


class Mixed(BaseModel):
    model_config = {"populate_by_name": True}

    price: Decimal = Field(default=Decimal(1), alias="cost")
    either: int | str = 0
    number: int = 0
    most: Annotated[int, Field(le=100)] = 0
    anything: Any = None
    either_decimal: Decimal | str = Decimal(1)
    words: str | Decimal = ""
    prices: dict[str, Decimal] = {}
    items: list[dict[str, Decimal | None]] = []


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ('{"either": 1e2}', {"either": 100}),
        ('{"cost": 1.10, "either": 1e2}', {"price": Decimal("1.10"), "either": 100}),
        ('{"cost": 100.0, "number": 1e2}', {"price": Decimal("100.0"), "number": 100}),
        ('{"cost": 1.10, "most": 1e2}', {"price": Decimal("1.10"), "most": 100}),
        ('{"cost": 1.10, "anything": [1.10]}', {"price": Decimal("1.10"), "anything": [1.1]}),
        (
            '{"items": [{"a": 1.10}, {"a": 2}], "number": 1e2}',
            {"items": [{"a": Decimal("1.10")}, {"a": Decimal(2)}], "number": 100},
        ),
        (
            f'{{"prices": {{{MANY}}}, "number": 1e2}}',
            {"number": 100, "prices": dict.fromkeys(map(str, range(99)), Decimal("1.10"))},
        ),
        ('{"either_decimal": 1.10, "either": 1e2}', {"either_decimal": Decimal("1.10"), "either": 100}),
        ('{"words": 1.10}', "words"),
        ('{"cost": 1.10, "words": 1.10, "either": 1e2}', "words"),
    ],
)
def test_only_decimals_keep_the_digits_of_a_number(body: str, expected: Any) -> None:
    class Priced(Workflow, name="priced"):
        def take(self, mixed: Mixed) -> None: ...

        definition = S(Select("s", On("E", take)))

    ((_, case),) = Priced.__program__.events["E"]
    if isinstance(expected, str):
        with pytest.raises(InvalidInput, match=f"{expected}.*more digits than JSON.*Send the decimal as a text"):
            case.signature.validate_json("E", body.encode())
    else:
        taken = case.signature.validate_json("E", body.encode())
        assert repr(taken) == repr(Mixed(**expected))


@pytest.mark.parametrize(
    ("body", "key"),
    [
        ('{"price": 1, "price": 2}', "price"),
        ('{"price": 1, "pric\\u0065": 2}', "price"),
        ('{"notes": [{"a": {"b": 1, "c": 2, "b": 1}}]}', "b"),
        ('{"notes": [":", {"": 1, "":2}]}', ""),
    ],
)
def test_an_object_with_a_repeated_key_is_refused(body: str, key: str) -> None:
    class Priced(Workflow, name="priced"):
        amounts: Amounts = Amounts()

        def take(self, amounts: Amounts) -> None: ...

        definition = S(Select("s", On("E", take)))

    ((_, case),) = Priced.__program__.events["E"]
    for send in (
        lambda: case.signature.validate_json("E", body.encode()),
        lambda: Priced.new(f'{{"amounts": {body}}}'),
    ):
        with pytest.raises(
            InvalidInput, match=f"{key}: the key {key!r} is given more than once in one object"
        ) as error:
            send()
        assert error.value.errors == [{**error.value.errors[0], "field": key, "type": "repeated_key"}]
    taken = case.signature.validate_json("E", b'{"notes": [{"a": ":"}, {"a": "\\""}]}')
    assert taken.notes == [{"a": ":"}, {"a": '"'}]


# --- the defaults of fields -------------------------------------------------------------------


@dataclasses.dataclass
class WrongData:
    price: Decimal = 0  # type: ignore[assignment]


@dataclasses.dataclass
class FlagData:
    count: int = True


@dataclasses.dataclass
class LabelledData:
    price: Annotated[dict[str, Annotated[Decimal, Field(gt=0)]], "labelled"] = 0  # type: ignore[assignment]


class WrongModel(BaseModel):
    price: Decimal = 0  # type: ignore[assignment]


class WrongTuple(NamedTuple):
    price: Decimal = 0  # type: ignore[assignment]


class WrongTree(BaseModel):
    children: list[WrongTree] = ()  # type: ignore[assignment]


class Color(enum.Enum):
    RED = "red"


def with_default(annotation: Any, default: Any, **settings: Any) -> type[Workflow]:
    class Holder(Workflow, name="holder"):
        __annotations__ = {"value": annotation}
        value = default  # type: ignore[pydantic-field]
        model_config = ConfigDict(**settings)  # type: ignore[typeddict-item]
        definition = S(Step("a", lambda w: None))

    return Holder


@pytest.mark.parametrize(
    ("annotation", "default", "said"),
    [
        (Decimal, 0, "'value' is 0, which is not a Decimal. Use a Decimal as the default: Decimal('0')."),
        (Decimal, Field(default=0), "'value' is 0, which is not a Decimal."),
        (list[str], (), "'value' is (), which is not a list[str]. Use a list[str] as the default: []."),
        (float | str, 0, "'value' is 0, which is not a float | str. Use a float | str as the default: 0.0."),
        (int, None, "'value' is None, which is not a int. Write value: int | None = None."),
        (Color, "red", "'value' is 'red', which is not a Color. Use a Color as the default: <Color.RED: 'red'>."),
        (
            int,
            True,
            "'value' is True, but a load would give another value: the value is True, but would be loaded as 1",
        ),
        (list[float], [True], "'value' is [True], but a load would give another value: 0 is True, but would be"),
        (FlagData | None, None, "'count' of the class FlagData is True, but a load would give another value: "),
        (list[Annotated[int, Field(gt=0)]] | None, 5, "'value' is 5, which is not a list[int] | None."),
        (LabelledData | None, None, "'price' of the class LabelledData is 0, which is not a dict[str, Decimal]. Use a"),
        (Annotated[int, Field(gt=0)], 0, "'value' is 0, which its type does not accept: "),
        (Sequence[str], (), "'value' is (), but a load would give another value: "),
        (float, math.inf, "'value' is inf, but JSON has no such number. Use None, or set ser_json_inf_nan='constants'"),
        (Decimal, Decimal("NaN"), "'value' is Decimal('NaN'), but JSON has no such number. Use None or a text."),
        (list[float], [math.nan], "'value' is [nan], but JSON has no such number."),
        (WrongData | None, None, "'price' of the class WrongData is 0, which is not a Decimal."),
        (list[WrongModel], [], "'price' of the class WrongModel is 0, which is not a Decimal."),
        (dict[str, WrongTuple], {}, "'price' of the class WrongTuple is 0, which is not a Decimal."),
        (WrongTree | None, None, "'children' of the class WrongTree is (), which is not a list["),
    ],
)
def test_a_default_that_cannot_be_saved_is_refused_at_import(annotation: Any, default: Any, said: str) -> None:
    with pytest.raises(DefinitionError) as refused:
        with_default(annotation, default)
    assert f"workflow 'holder': the default of its field {said}" in str(refused.value)


def test_a_wrong_default_that_is_a_secret_is_not_shown() -> None:
    with pytest.raises(DefinitionError, match="which is not a SecretStr") as refused:
        with_default(SecretStr, "hunter2")
    shown: BaseException | None = refused.value
    while shown is not None:
        assert "hunter2" not in str(shown)
        shown = shown.__cause__ or shown.__context__


@pytest.mark.parametrize(
    ("annotation", "default", "settings", "stored"),
    [
        (float, 0, {}, "0.0"),
        (int | bool, True, {}, "true"),
        (Color, Color.RED, {}, '"red"'),
        (SecretStr, SecretStr("x"), {}, '"x"'),
        (Decimal, 0, {"validate_default": True}, '"0"'),
        (Decimal, Field(default=0, validate_default=True), {}, '"0"'),
        (float, math.inf, {"ser_json_inf_nan": "constants"}, "Infinity"),
    ],
)
def test_a_default_that_can_be_saved_is_taken(annotation: Any, default: Any, settings: Any, stored: str) -> None:
    cls = with_default(annotation, default, **settings)
    text = cls.new().dump_fields()
    assert text == f'{{"value":{stored}}}'
    cls.new().refuse_changes(cls.load_fields(text))


def test_validated_defaults_must_still_fit() -> None:
    with pytest.raises(DefinitionError, match="'value' is 'x', which its type does not accept"):
        with_default(Decimal, "x", validate_default=True)


def test_code_of_the_class_may_replace_a_default() -> None:
    class Total(Workflow, name="total"):
        parts: list[int] = []
        total: int = None  # type: ignore[assignment]

        def model_post_init(self, context: Any) -> None:
            self.total = sum(self.parts) if self.total is None else self.total

        definition = S(Step("a", lambda w: None))

    assert Total.new('{"parts": [1, 2]}').dump_fields() == '{"parts":[1,2],"total":3}'


def test_the_method_that_writes_a_field_decides_on_its_default() -> None:
    class Tags(Workflow, name="tags"):
        tags: list[str] = ["a", "b"]

        @field_validator("tags", mode="before")
        @classmethod
        def split(cls, text: str) -> list[str]:
            return text.split(",")

        @field_serializer("tags")
        def join(self, tags: list[str]) -> str:
            return ",".join(tags)

        definition = S(Step("a", lambda w: None))

    assert Tags.load_fields(Tags.new().dump_fields()).tags == ["a", "b"]


# --- numbers that JSON does not have ----------------------------------------------------------


class Limits(BaseModel):
    model_config = ConfigDict(ser_json_inf_nan="constants")
    limit: float = math.inf
    low: float = 0.0


@pydantic_dataclass(config=ConfigDict(ser_json_inf_nan="constants"))
class LimitsData:
    limit: float = math.inf
    low: float = Field(default=-math.inf)
    made: float = dataclasses.field(default_factory=lambda: math.inf)
    pair: list[float] = Field(default_factory=lambda: [0.0, math.inf])


class Unlimited(Workflow, name="unlimited"):
    model_config = ConfigDict(ser_json_inf_nan="constants")
    limit: float = math.inf
    inner: Limits = Limits()
    data: LimitsData = LimitsData()

    def take(self, limits: Limits = Limits(low=1)) -> None: ...  # noqa: B008

    definition = S(Select("s", On("E", take)))


@pytest.mark.parametrize("body", ["", "{}", '{"inner": {}}', '{"inner": {"low": 1}, "data": {}}'])
def test_a_default_that_was_not_sent_may_be_infinite(body: str) -> None:
    new = Unlimited.new(body)
    assert (new.limit, new.inner.limit, new.data.limit, new.data.low) == (math.inf, math.inf, math.inf, -math.inf)
    assert (new.data.made, new.data.pair) == (math.inf, [0.0, math.inf])


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ('{"limit": Infinity}', "limit"),
        ('{"limit": "inf"}', "limit"),
        ('{"inner": {"limit": 1e999}}', "inner.limit"),
        ('{"inner": {"low": NaN}}', "inner.low"),
        ('{"data": {"limit": "inf"}}', "data.limit"),
        ('{"data": {"made": "-inf"}}', "data.made"),
        ('{"data": {"pair": [1, "inf"]}}', "data.pair.1"),
    ],
)
def test_what_is_sent_must_be_finite(body: str, path: str) -> None:
    with pytest.raises(InvalidInput, match=f"{path}: .* is not a finite number"):
        Unlimited.new(body)


def test_schemas_leave_out_defaults_that_json_does_not_have() -> None:
    (case,) = [case for _, case in Unlimited.__program__.events["E"]]
    assert isinstance(case, EventCase)
    assert case.signature.input_schema is not None
    assert "default" not in case.signature.input_schema
    for schema in (Unlimited.model_json_schema(), Unlimited.__fields_schema__(), case.signature.input_schema):
        json.dumps(schema, allow_nan=False)
    limits = Unlimited.model_json_schema()["$defs"]["Limits"]["properties"]
    assert "default" not in limits["limit"]
    assert limits["low"]["default"] == 0.0
