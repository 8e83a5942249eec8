"""A parameter with a default makes the input of an event or an activity optional."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import pytest
from pydantic import BaseModel

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
from workflow_core.program.code import EventCase


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

    for statement, said in (
        (Select("s", On("E", ship)), r"'priority' is None, which is not a int. Write priority: int \| None = None"),
        (Select("s", On("E", pack)), r"'parcel' is \{\}, which is not a Parcel. Use a Parcel as the default"),
        (Activity("a", weigh), "'grams' is '5', which is not a int"),
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

    with pytest.raises(DefinitionError, match="'amount' is annotated with <class 'int'>, but would receive the StepCo"):
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
    with pytest.raises(InvalidInput, match=r"more digits than JSON numbers keep\. Send the decimal as a text"):
        case.signature.validate_json("E", b'{"price": 1.5, "notes": 0.12345678901234567890123}')
    assert case.signature.validate_json("E", b'{"price": 1.5, "notes": 2.5}').notes == 2.5
