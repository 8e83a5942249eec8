"""The types of plain event handlers: inputs, outputs and their schemas."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, PlainSerializer

from tests.core.helpers import Logged, start, unchanged
from workflow_core import Execution, ExecutionError, InvalidInput, On, S, Select, Workflow, handle_event, resume
from workflow_core.errors import InvalidOutput
from workflow_core.signatures import HandlerSignature


class Pizza(BaseModel):
    name: str
    qty: Annotated[int, Field(ge=1)] = 1


@dataclass
class Payment:
    amount: float
    currency: str = "EUR"


class Size(Enum):
    SMALL = "s"
    LARGE = "l"


def waiting_for(handler: Callable[..., Any]) -> tuple[Logged, Execution]:
    class Flow(Logged):
        definition = S(Select("s", On("E", handler)))

    return start(Flow)


def send(handler: Callable[..., Any], input: Any = None) -> Any:
    return handle_event(*waiting_for(handler), "E", input)


def signature(handler: Callable[..., Any]) -> HandlerSignature:
    order, _ = waiting_for(handler)
    found = order.__program__.select("s").cases["E"].signature
    assert found is not None
    return found


def takes_model(w: Any, input: Pizza) -> Any:
    return input


def takes_dataclass(w: Any, input: Payment) -> Any:
    return input


def takes_int(w: Any, input: int) -> Any:
    return input


def takes_list(w: Any, input: list[Pizza]) -> Any:
    return input


def takes_enum(w: Any, input: Size) -> Any:
    return input


def takes_literal(w: Any, input: Literal["a", "b"]) -> Any:
    return input


def takes_date(w: Any, input: datetime) -> Any:
    return input


def takes_optional(w: Any, input: Pizza | None) -> Any:
    return input


def takes_any(w: Any, input: Any) -> Any:
    return input


ACCEPTED: list[tuple[Callable[..., Any], Any, Any]] = [
    (takes_model, {"name": "napoli"}, Pizza(name="napoli", qty=1)),
    (takes_model, Pizza(name="napoli", qty=2), Pizza(name="napoli", qty=2)),
    (takes_dataclass, {"amount": 3}, Payment(3.0, "EUR")),
    (takes_dataclass, Payment(1.5, "CHF"), Payment(1.5, "CHF")),
    (takes_int, 5, 5),
    (takes_list, [{"name": "a"}, {"name": "b", "qty": 2}], [Pizza(name="a"), Pizza(name="b", qty=2)]),
    (takes_enum, "l", Size.LARGE),
    (takes_literal, "b", "b"),
    (takes_date, "2025-01-01T00:00:00Z", datetime(2025, 1, 1, tzinfo=UTC)),
    (takes_optional, None, None),
    (takes_optional, {"name": "a"}, Pizza(name="a")),
    (takes_any, None, None),
    (takes_any, {"a": [1, None]}, {"a": [1, None]}),
]


@pytest.mark.parametrize(("handler", "input", "seen"), ACCEPTED)
def test_the_handler_is_given_its_type(handler: Callable[..., Any], input: Any, seen: Any) -> None:
    value = send(handler, input)
    assert value == seen
    assert type(value) is type(seen)


REFUSED: list[tuple[Callable[..., Any], Any, list[str]]] = [
    (takes_model, {"qty": 1}, ["name"]),
    (takes_model, {"name": "a", "qty": 0}, ["qty"]),
    (takes_model, {"name": 1, "qty": "x"}, ["name", "qty"]),
    (takes_model, None, [""]),
    (takes_dataclass, {}, ["amount"]),
    (takes_int, "x", [""]),
    (takes_list, [{"name": "a"}, {}], ["1.name"]),
    (takes_enum, "xl", [""]),
    (takes_literal, "c", [""]),
    (takes_optional, {}, ["name"]),
]


@pytest.mark.parametrize(("handler", "input", "fields"), REFUSED)
def test_what_does_not_fit_is_refused_with_the_fields_that_are_wrong(
    handler: Callable[..., Any], input: Any, fields: list[str]
) -> None:
    order, execution = waiting_for(handler)
    with unchanged(order, execution), pytest.raises(InvalidInput) as caught:
        handle_event(order, execution, "E", input)
    assert [error["field"] for error in caught.value.errors] == fields
    assert all(error["message"] and error["type"] for error in caught.value.errors)


SCHEMAS: list[tuple[Callable[..., Any], Any]] = [
    (takes_int, {"type": "integer"}),
    (takes_any, {}),
    (takes_literal, {"type": "string", "enum": ["a", "b"]}),
    (takes_date, {"type": "string", "format": "date-time"}),
]


@pytest.mark.parametrize(("handler", "schema"), SCHEMAS)
def test_the_schema_is_that_of_the_annotation(handler: Callable[..., Any], schema: Any) -> None:
    assert signature(handler).input_schema == schema


def test_models_dataclasses_and_optionals_have_full_schemas() -> None:
    model = signature(takes_model).input_schema
    assert model == Pizza.model_json_schema()
    assert model["required"] == ["name"]
    payment = signature(takes_dataclass).input_schema
    assert payment is not None
    assert (payment["title"], payment["required"]) == ("Payment", ["amount"])
    optional = signature(takes_optional).input_schema
    assert optional is not None
    assert optional["anyOf"] == [{"$ref": "#/$defs/Pizza"}, {"type": "null"}]


def test_a_handler_without_input_has_no_input_schema() -> None:
    def handler(w: Any) -> None: ...

    assert signature(handler).input_schema is None
    assert signature(handler).takes_input is False
    with pytest.raises(InvalidInput, match="this event takes no input: send none"):
        send(handler, 0)


def test_output_schemas_come_from_the_return_annotation() -> None:
    def nothing(w: Any) -> None: ...
    def pizza(w: Any) -> Pizza: ...  # type: ignore[empty-body]
    def unannotated(w): ...  # type: ignore[no-untyped-def]

    assert signature(nothing).output_schema == {"type": "null"}
    assert signature(pizza).output_schema == Pizza.model_json_schema(mode="serialization")
    assert signature(unannotated).output_schema == {}


def test_a_handler_may_return_the_workflow_itself() -> None:
    class Flow(Logged):
        def bump(self) -> Flow:
            self.n += 1
            return self

        definition = S(Select("s", On("Bump", bump)))

    order, execution = start(Flow)
    assert handle_event(order, execution, "Bump") is order
    found = Flow.__program__.select("s").cases["Bump"].signature
    assert found is not None
    assert found.output_json("Bump", order) == b'{"log":[],"n":1,"flag":false}'


def test_json_inputs_and_outputs() -> None:
    one = signature(takes_model)
    assert one.validate_json("E", b'{"name": "a", "qty": 3}') == Pizza(name="a", qty=3)
    with pytest.raises(InvalidInput, match="invalid input for event 'E': input: Invalid JSON"):
        one.validate_json("E", b"{")
    assert signature(takes_optional).validate_json("E", b" ") is None

    def nothing(w: Any) -> int: ...  # type: ignore[empty-body]

    none = signature(nothing)
    assert none.validate_json("E", b"") is None
    assert none.validate_json("E", b" null ") is None
    with pytest.raises(InvalidInput, match="takes no input"):
        none.validate_json("E", b"{}")
    assert none.output_json("E", 5) == b"5"
    with pytest.raises(InvalidOutput, match="the handler of event 'E' returned what its annotation does not allow"):
        none.output_json("E", "five")


class Written(BaseModel):
    model_config = ConfigDict(ser_json_inf_nan="constants")
    ratio: float
    other: int | None = None


NAN = float("nan")


class WritesNull(BaseModel):
    ratio: Annotated[float, PlainSerializer(lambda ratio: None if math.isnan(ratio) else ratio)] = NAN
    hidden: float = Field(default=NAN, exclude=True)
    other: float = 1.0
    anything: Any = None


@pytest.mark.parametrize(
    ("annotation", "value", "text"),
    [
        (Written, Written(ratio=NAN), b'{"ratio":"NaN","other":null}'),
        (Written, Written(ratio=-math.inf), b'{"ratio":"-Infinity","other":null}'),
        (dict[str, Any], {"a": None, "NaN": 1.5}, b'{"a":null,"NaN":1.5}'),
        (float | None, None, b"null"),
        (WritesNull, WritesNull(), b'{"ratio":null,"other":1.0,"anything":null}'),
        (Decimal, Decimal("NaN"), b'"NaN"'),
    ],
)
def test_outputs_are_json_in_which_numbers_that_it_does_not_have_are_texts(
    annotation: Any, value: Any, text: bytes
) -> None:
    assert returning(annotation).output_json("E", value) == text


@pytest.mark.parametrize(
    ("annotation", "value", "said"),
    [
        (float, NAN, "it is nan. JSON has no such number: use None or a text"),
        (list[float | None], [1.0, None, math.inf], "2 is inf"),
        (Any, {"a": {"b": NAN}}, "a.b is nan"),
        (list[Any], ["not NaN", "Infinity", NAN], "2 is nan"),
        (WritesNull, WritesNull(other=NAN), "other is nan"),
        (WritesNull, WritesNull(anything=[NAN]), "anything.0 is nan"),
        (dict[str, int], {json.loads('"\\ud800"'): 1}, "it contains '\\ud800', which is half of a character"),
    ],
)
def test_outputs_that_json_does_not_have_are_refused(annotation: Any, value: Any, said: str) -> None:
    with pytest.raises(InvalidOutput) as refused:
        returning(annotation).output_json("E", value)
    assert said in str(refused.value)


def returning(annotation: Any) -> HandlerSignature:
    def handler(w: Any): ...  # type: ignore[no-untyped-def]

    handler.__annotations__["return"] = annotation
    return signature(handler)


def test_handlers_may_be_partials_callables_and_bound_methods() -> None:
    def add(factor: int, w: Logged, input: int) -> int:
        return factor * input

    class Adds:
        def __call__(self, w: Logged, input: int) -> int:
            return input + 1

        def method(self, w: Logged, input: int) -> int:
            return input + 2

    assert send(functools.partial(add, 10), 3) == 30
    assert send(Adds(), 3) == 4
    assert send(Adds().method, 3) == 5
    assert signature(Adds()).input_schema == {"type": "integer"}


def test_two_events_of_one_select_keep_their_types_apart() -> None:
    class Flow(Logged):
        definition = S(Select("s", On("Int", takes_int), On("Pizza", takes_model)))

    order, execution = start(Flow)
    with unchanged(order, execution), pytest.raises(InvalidInput):
        handle_event(order, execution, "Int", {"name": "a"})
    assert handle_event(order, execution, "Pizza", {"name": "a"}) == Pizza(name="a")


def test_the_role_is_kept_for_clients() -> None:
    class Flow(Logged):
        definition = S(Select("s", On("A", takes_int, role="cook"), On("B", takes_int)))

    events = Flow.__program__.events
    assert [case.role for event in ("A", "B") for _, case in events[event]] == ["cook", None]


def test_a_resume_between_events_is_optional_where_only_waits_follow() -> None:
    class Flow(Logged):
        definition = S(Select("a", On("A", takes_int)), Select("b", On("B", takes_int)))

    order, execution = start(Flow)
    assert [handle_event(order, execution, "A", 1), handle_event(order, execution, "B", 2)] == [1, 2]
    assert execution.status == "finished"


def test_a_handler_that_returns_a_coroutine_is_refused() -> None:
    async def slow() -> None: ...

    class Sneaky(Workflow, name="sneaky"):
        definition = S(Select("wait", On("X", lambda w: slow())))

    workflow, execution = Sneaky(), Execution.start("1", Sneaky)
    resume(workflow, execution)
    before = execution.to_json()
    with pytest.raises(ExecutionError, match="the handler of 'X' returned a coroutine"):
        handle_event(workflow, execution, "X")
    assert execution.to_json() == before
