"""The schema of the stored fields: what is stored matches it, whatever the types."""

from __future__ import annotations

import dataclasses
import enum
import ipaddress
import json
import pathlib
import re
import uuid
from collections import deque
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from typing import Annotated, Any, Generic, Literal, TypeVar

import pytest
from jsonschema import Draft202012Validator
from pydantic import (
    AfterValidator,
    AnyUrl,
    BaseModel,
    ByteSize,
    ConfigDict,
    Field,
    Json,
    PlainSerializer,
    Secret,
    SecretBytes,
    SecretStr,
    TypeAdapter,
    WrapSerializer,
    computed_field,
    field_serializer,
)
from typing_extensions import TypedDict

from workflow_core import On, S, Select, Step, Workflow
from workflow_core.adapters import SchemaGenerator
from workflow_core.stored_schema import stored_schema

T = TypeVar("T")


class Line(BaseModel):
    model_config = ConfigDict(populate_by_name=True, extra="forbid")

    qty: int = Field(1, alias="Qty", serialization_alias="QTY")
    price: Decimal = Decimal("1.50")

    @computed_field
    def total(self) -> Decimal:
        return self.qty * self.price


class Open(BaseModel):
    model_config = ConfigDict(extra="allow")


class Tree(BaseModel):
    children: list[Tree] = []


class Page(BaseModel, Generic[T]):
    items: list[T] = []


@dataclasses.dataclass
class Point:
    x: Decimal = Decimal(0)
    y: int = 0


class Named(TypedDict):
    name: Annotated[str, Field(alias="Name")]


class Size(enum.IntEnum):
    SMALL = 1


class Pair(enum.Enum):
    ONE = (1, 2)


VALUES: list[tuple[Any, Any]] = [
    (Line, Line(qty=2)),
    (list[Line], [Line()]),
    (Open, Open(a=1)),
    (Tree, Tree(children=[Tree()])),
    (Page[Line], Page[Line](items=[Line()])),
    (Point, Point(Decimal("1.5"))),
    (Named, {"name": "a"}),
    (Decimal, Decimal("1E+30")),
    (Annotated[Decimal, Field(gt=0, max_digits=9)], Decimal("1E-7")),
    (Json[list[int]], [1]),
    (bytes, b"a"),
    (datetime, datetime(2026, 1, 1, tzinfo=timezone(timedelta(hours=2)))),
    (date, date(2026, 1, 1)),
    (time, time(1, 2)),
    (timedelta, timedelta(days=1.5)),
    (uuid.UUID, uuid.UUID(int=1)),
    (re.Pattern[str], re.compile("a+")),
    (Size, Size.SMALL),
    (Pair, Pair.ONE),
    (Literal[1, "a", None], "a"),
    (pathlib.Path, pathlib.Path("/a")),
    (ipaddress.IPv4Network, ipaddress.IPv4Network("10.0.0.0/8")),
    (deque[int], deque([1])),
    (tuple[int, str], (1, "a")),
    (set[int], {1}),
    (dict[int, Decimal], {1: Decimal("2.50")}),
    (AnyUrl, AnyUrl("https://example.com")),
    (complex, 1 + 2j),
    (Fraction, Fraction(1, 3)),
    (ByteSize, ByteSize(3)),
    (Any, {"a": [1, None]}),
    (int | str | None, None),
    (Annotated[int, PlainSerializer(str, return_type=str)], 3),
    (Annotated[int, PlainSerializer(hex)], 3),
    (Annotated[int, WrapSerializer(lambda value, handler: f"{handler(value)}!")], 3),
    (Annotated[int | None, PlainSerializer(str, return_type=str, when_used="unless-none")], None),
    (Annotated[str, AfterValidator(str.lower)], "a"),
]


@pytest.mark.parametrize(
    ("annotation", "value"), VALUES, ids=[f"{annotation}".partition("(")[0] for annotation, _ in VALUES]
)
def test_what_is_stored_matches_the_schema(annotation: Any, value: Any) -> None:
    class Holder(Workflow):
        value: Any
        other: int = Field(0, alias="Other")

        @computed_field
        def shown(self) -> str:
            return "shown"

        __annotations__["value"] = annotation
        definition = S(Step("s", lambda w: None))

    schema = stored_schema(Holder)
    assert schema == Holder.__fields_schema__()
    Draft202012Validator.check_schema(schema)
    stored = json.loads(Holder.model_construct(value=value, other=2).dump_fields())
    assert list(stored) == ["value", "other"]
    errors = [error.message for error in Draft202012Validator(schema).iter_errors(stored)]
    assert errors == [], stored
    properties = schema["properties"] if "properties" in schema else schema["$defs"]["Holder"]["properties"]
    assert list(properties) == ["value", "other"], "neither aliases nor computed fields"


def test_it_describes_values_as_they_are_stored() -> None:
    class Bill(Workflow):
        total: Decimal
        due: timedelta = timedelta()
        notes: Annotated[list[str], Field(alias="Notes")] = []
        size: int = 0

        @field_serializer("size")
        def written(self, size: int) -> str:
            return f"{size} B"

        definition = S(Step("s", lambda w: None))

    schema = Bill.__fields_schema__()
    assert schema["properties"] == {
        "total": {"type": "string", "title": "Total"},
        "due": {"type": "string", "format": "duration", "title": "Due", "default": "PT0S"},
        "notes": {"type": "array", "items": {"type": "string"}, "title": "Notes", "default": []},
        "size": {"type": "string", "title": "Size"},
    }
    assert not Draft202012Validator(schema).is_valid({"total": 1.5}), "a text, not a number"


class Keys(BaseModel):
    token: SecretStr = Field(SecretStr("ab"), max_length=3, description="how to log in")
    number: Secret[int] | None = None
    written: SecretStr = SecretStr("ab")

    @field_serializer("written")
    def reversed(self, written: SecretStr) -> Literal["ba"]:
        return "ba"


type_of_key = Annotated[Secret[Annotated[int, Field(lt=9)]], Field(description="secret")]


@pytest.mark.parametrize(
    ("annotation", "sent"),
    [
        (Secret[int], 5),
        (type_of_key, 5),
        (Secret[list[int]] | None, [5]),
        (Annotated[SecretStr, Field(max_length=5)], "abc"),
        (Annotated[SecretStr, Field(min_length=20)], "a" * 20),
        (Annotated[SecretStr | None, Field(max_length=5)], "abc"),
        (Annotated[SecretBytes, Field(max_length=5)], "abc"),
        (list[Annotated[SecretStr, Field(max_length=5)]], ["abc"]),
        (dict[str, int | Annotated[SecretStr, Field(max_length=5)]], {"a": "abc", "b": 5}),
        (Keys, {"token": "abc", "number": 5}),
    ],
    ids=str,
)
def test_the_schema_fits_what_is_shown_of_a_secret_and_inputs_are_as_before(annotation: Any, sent: Any) -> None:
    class Holder(Workflow):
        value: Any

        def take(self, value: Any) -> Any: ...

        __annotations__["value"] = take.__annotations__["value"] = take.__annotations__["return"] = annotation
        definition = S(Select("s", On("E", take)))

    new = Holder.new(json.dumps({"value": sent}))
    shown = Holder.shown_fields(new.dump_fields())
    assert "*****" in json.dumps(shown)
    assert list(Draft202012Validator(Holder.__fields_schema__()).iter_errors(shown)) == []
    assert not Draft202012Validator(Holder.__fields_schema__()).is_valid({"value": {"a": 1.5, "token": 5}})
    ((_, case),) = Holder.__program__.events["E"]
    given = json.loads(case.signature.output_json("E", new.value))
    if annotation is not Keys:  # whose own serializer decides on outputs
        assert given == shown["value"]
    assert list(Draft202012Validator(case.signature.output_schema).iter_errors(given)) == []
    assert case.signature.input_schema == TypeAdapter(annotation).json_schema(schema_generator=SchemaGenerator)
