"""A parameter with a default makes the input of an event or an activity optional."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel

from tests.core.helpers import Logged, start
from workflow_core import Activity, ForEach, InvalidInput, On, S, Select, handle_event, resume
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
