"""Forms for JSON schemas: what a form shows and posts, without HTML and HTTP."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, TypeAdapter
from pydantic import Field as Described

from cloud_adapter.errors import InvalidRequest
from cloud_adapter.http.pages.form_fields import MISSING, Field
from cloud_adapter.http.pages.forms import DEPTH_MAX, ITEMS_MAX, Form
from tests.input.workflows import Box, Person
from workflow_core import InvalidInput
from workflow_core.error_texts import field_errors


def schema_of(type: Any) -> dict[str, Any]:
    return TypeAdapter(type).json_schema()


def posted(form: Form) -> dict[str, str]:
    """The values that a browser posts for an unchanged form."""
    data: dict[str, str] = {}
    for one in form.root.all():
        if one.kind == "const":
            continue
        if one.kind in ("list", "tuple", "object"):
            if one.optional and one.given:
                data[f"p{one.pointer}"] = "1"
            if one.kind == "list" and one.given:
                data[f"n{one.pointer}"] = str(len(one.fields))
        elif one.kind == "check" and one.two_valued:
            if one.text:
                data[f"v{one.pointer}"] = "true"
        elif one.kind in ("check", "choice"):
            data[f"v{one.pointer}"] = one.text if one.text in [value for value, _ in one.options] else ""
        else:
            text = one.text.replace("\r", "\n")
            assert "\n" not in text or one.multiline or one.kind == "json", "a line cannot hold it"
            data[f"{'j' if one.kind == 'json' else 'v'}{one.pointer}"] = text.replace("\n", "\r\n")
    return data


def at(form: Form, pointer: str) -> Field:
    return next(one for one in form.root.all() if one.pointer == pointer)


class Color(Enum):
    RED = "red"
    NONE = None
    SEVEN = 7


class Leaf(BaseModel):
    text: str
    maybe: str | None = None
    must_say: str | None
    long: Annotated[str, Described(max_length=5_000)] = "two\nlines"
    count: int | None
    ratio: float = 0.5
    price: Decimal | None = None
    on: bool
    off: bool = False
    unsure: bool | None = None
    color: Color = Color.RED
    kind: Literal["leaf"] = "leaf"
    sort: Literal["a", "b"] | None = None
    only: Literal["a"] | None = None
    day: date | None = None
    at: datetime | None = None
    clock: time | None = None
    lasts: timedelta | None = None
    pair: tuple[int, str] = (1, "x")
    many: list[int] | None = None
    sets: set[str] = set()
    anything: Any = None
    either: int | str | list[bool] = 3
    table: dict[str, float] = {}


class Tree(BaseModel):
    leaf: Leaf | None = None
    trees: list[Tree] = []
    next: Tree | None = None


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
leaves = st.fixed_dictionaries(
    {
        "text": st.text(),
        "maybe": st.none() | st.text(),
        "must_say": st.none() | st.text(),
        "long": st.text(),
        "count": st.none() | st.integers(),
        "ratio": st.floats(allow_nan=False, allow_infinity=False),
        "price": st.none() | st.sampled_from(["0", "12.50", "1e400"]),
        "on": st.booleans(),
        "off": st.booleans(),
        "unsure": st.none() | st.booleans(),
        "color": st.sampled_from(["red", None, 7]),
        "kind": st.just("leaf"),
        "sort": st.sampled_from(["a", "b", None]),
        "only": st.sampled_from(["a", None]),
        "day": st.none() | st.dates().map(str) | st.text(),
        "at": st.none() | st.datetimes().map(lambda at: at.isoformat() + "Z"),
        "clock": st.none() | st.times().map(str),
        "lasts": st.sampled_from([None, "PT1H", ""]),
        "pair": st.tuples(st.integers(), st.text()).map(list),
        "many": st.none() | st.lists(st.integers(), max_size=3),
        "sets": st.lists(st.text(), max_size=3),
        "anything": json_values,
        "either": json_values,
        "table": st.dictionaries(st.text(), st.floats(allow_nan=False, allow_infinity=False), max_size=3),
    }
)
trees: st.SearchStrategy[Any] = st.recursive(
    st.fixed_dictionaries({"leaf": st.none() | leaves, "trees": st.just([]), "next": st.none()}),
    lambda inner: st.fixed_dictionaries(
        {"leaf": st.none(), "trees": st.lists(inner, max_size=2), "next": st.none() | inner}
    ),
    max_leaves=4,
)


@pytest.mark.slow
@settings(max_examples=100)
@given(trees | json_values)
def test_a_form_that_is_posted_unchanged_gives_back_its_value(value: Any) -> None:
    schema = schema_of(Tree)
    if value is None:
        return  # stands for no value
    form = Form(schema, value=value)
    data = posted(form)
    given = Form(schema, data).value()
    if form.root.kind == "object":
        value = {"leaf": None, "trees": [], "next": None} | value  # defaults are shown, and so posted
    assert json.dumps(given, sort_keys=True) == json.dumps(value, sort_keys=True)


@settings(max_examples=100)
@given(json_values, st.sampled_from([int, str, bool, float | None, list[int], dict[str, int], date, Color, Decimal]))
def test_a_single_value_too(value: Any, type: Any) -> None:
    schema = schema_of(type)
    given = Form(schema, posted(Form(schema, value=value))).value()
    assert given is MISSING if value is None and given is MISSING else json.dumps(given) == json.dumps(value)


def test_an_empty_form_of_a_model_shows_its_defaults_and_means_them() -> None:
    form = Form(schema_of(Box))
    assert {one.pointer: one.text for one in form.root.all() if one.text} == {
        "/size": '"small"',
        "/price": "1",
        "/numbers": "{}",
    }
    given = Form(schema_of(Box), posted(form) | {"v/weight": "2.5"}).value()
    assert Box.model_validate(given) == Box(weight=2.5)


def test_the_attributes_are_those_that_a_browser_can_check() -> None:
    class Limits(BaseModel):
        whole: Annotated[int, Described(gt=0, lt=10)]
        real: Annotated[float, Described(gt=0, le=9.5)]
        code: Annotated[str, Described(pattern=r"^[A-Z]{2}\d{3}$")]
        odd: Annotated[str, Described(pattern=r"^(?i)x$")]
        name: Annotated[str, Described(min_length=1)]
        free: str
        maybe: int | None

    form = Form(schema_of(Limits))
    assert at(form, "/whole").attributes == {"step": "1", "min": "1", "max": "9"}
    assert at(form, "/real").attributes == {"step": "any", "min": "0", "max": "9.5"}
    assert at(form, "/code").attributes == {"pattern": r"[A-Z]{2}\d{3}"}
    assert at(form, "/odd").attributes == {}, "it may mean something else to a browser"
    must = {one.pointer for one in form.root.all() if one.must_be_filled}
    assert must >= {"/whole", "/real", "/name"} and not must & {"/free", "/maybe"}


@pytest.mark.parametrize(
    ("type", "text", "value"),
    [
        (int, "12", 12),
        (int, " 12 ", 12),
        (int, "12.0", 12.0),
        (int, "many", "many"),
        (int, "007", "007"),
        (int, "1_000", "1_000"),
        (float, "NaN", "NaN"),
        (float, "1e999", "1e999"),
        (float, "9" * 5000, "9" * 5000),
        (float, "-1.5e3", -1500.0),
        (str, "  two  ", "  two  "),
        (str, "", ""),
        (int, "", MISSING),
        (int | None, "", None),
        (str | None, "", None),
        (date, "soon", "soon"),
        (Decimal, "0.10", "0.10"),
    ],
)
def test_what_is_typed_is_read_as_it_was_meant(type: Any, text: str, value: Any) -> None:
    given = Form(schema_of(type), {"v": text}).value()
    assert given is value if value is MISSING else (given, given.__class__) == (value, value.__class__)


def test_what_was_typed_wrongly_stays_and_is_said_beside_its_field() -> None:
    data = {"v/name": "", "n/friends": "1", "v/friends/0/name": "Bob", "v/friends/0/born": "soon"}
    data |= {"n/pets": "1", "j/pets/0": '{"kind": "cat", "lives": 12}'}
    form = Form(schema_of(Person), data)
    form.refuse(errors_of(Person, form))
    assert {one.pointer: error for one, error in form.errors()} == {
        "/name": "String should have at least 1 character",
        "/friends/0/born": "Input should be a valid date or datetime, input is too short",
        "/pets/0": "cat.lives: Input should be less than or equal to 9",
    }
    assert at(form, "/friends/0/born").text == "soon"
    assert at(form, "/friends/0/born").input_type == "text", "a date field would not show it"


def errors_of(type: type[BaseModel], form: Form) -> list[dict[str, Any]]:
    try:
        type.model_validate(form.value())
    except ValueError as error:
        return InvalidInput("x", field_errors(error)).errors  # type: ignore[arg-type]
    raise AssertionError("it is valid")


def test_text_that_is_no_json_is_told_where_it_stands() -> None:
    for text in ("{", "NaN", "[" * 100_000, "{'a': 1}"):
        form = Form(schema_of(Box), {"v/weight": "1", "j/numbers": text})
        form.value()
        assert [one.pointer for one, _ in form.errors()] == ["/numbers"], text
        assert at(form, "/numbers").text == text


# --- rows ------------------------------------------------------------------------------------


def after(form: Form, edit: str) -> Form:
    form.edit(edit)
    return form


def test_rows_are_added_and_dropped_and_keep_what_was_typed() -> None:
    schema = schema_of(Person)
    form = Form(schema, {"v/name": "Ann", "n/friends": "2", "v/friends/0/name": "Bob", "v/friends/1/name": "Cleo"})
    assert form.edit("add/friends").pointer == "/friends/2"
    assert form.edit("add/friends/1/friends").pointer == "/friends/1/friends/0"
    assert form.edit("drop/friends/0").pointer == "/friends"
    given = Form(schema, posted(form)).value()
    assert [one["name"] for one in given["friends"]] == ["Cleo", ""]
    assert [one["name"] for one in given["friends"][0]["friends"]] == [""]
    assert [one.label for one in at(form, "/friends").fields] == ["Item 1", "Item 2"]
    ids = [one.id for one in form.root.all()]
    assert len(set(ids)) == len(ids)


def test_what_may_be_left_out_is_given_and_left_out() -> None:
    schema = schema_of(Tree)
    form = Form(schema)
    assert form.value() == {"leaf": None, "trees": [], "next": None}
    form.edit("give/next")
    form.edit("give/next/next")
    assert form.value()["next"] == {"leaf": None, "trees": [], "next": {"leaf": None, "trees": [], "next": None}}
    assert Form(schema, posted(form)).value() == form.value()
    form.edit("leave/next")
    assert form.value()["next"] is None


def test_what_lies_too_deep_is_json() -> None:
    form = Form(schema_of(Tree))
    for depth in range(DEPTH_MAX - 1):
        form.edit("give" + "/next" * (depth + 1))
    assert at(form, "/next" * DEPTH_MAX).kind == "json"
    assert Form(schema_of(Tree), posted(form)).value() == form.value()


def test_keys_of_every_kind_are_told_apart() -> None:
    schema = {"type": "object", "properties": {key: {"type": "integer"} for key in ("a/b", "a~1b", "a", "", "ü ß.")}}
    value = {key: number for number, key in enumerate(schema["properties"])}
    assert Form(schema, posted(Form(schema, value=value))).value() == value


REFUSED: dict[str, Callable[[], Any]] = {
    "a field that is not there": lambda: Form(schema_of(Box)).edit("add/nothing"),
    "no list": lambda: Form(schema_of(Box)).edit("add/weight"),
    "an unknown button": lambda: Form(schema_of(Box)).edit("explode/tags"),
    "what must be there": lambda: Form(schema_of(Box)).edit("leave/tags"),
    "more rows than there may be": lambda: Form(schema_of(Box), {"n/tags": str(ITEMS_MAX + 1)}),
    "a number of rows that is none": lambda: Form(schema_of(Box), {"n/tags": "-1"}),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_no_form_has_posted_is_refused(what: str) -> None:
    with pytest.raises(InvalidRequest):
        REFUSED[what]()
