"""JSON schemas are made when they are first needed, unless that could fail."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, BeforeValidator, Field, RootModel, computed_field, model_serializer
from pydantic.json_schema import GenerateJsonSchema

from workflow_core import DefinitionError, On, S, Select, Workflow
from workflow_core.adapters import SchemaGenerator


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The core schemas of which a JSON schema was made."""
    found: list[Any] = []
    generate = SchemaGenerator.generate

    def noted(self: SchemaGenerator, schema: Any, mode: Any) -> Any:
        found.append(schema)
        return generate(self, schema, mode)

    monkeypatch.setattr(SchemaGenerator, "generate", noted)
    return found


class Pizza(BaseModel):
    """One line."""

    name: Annotated[str, Field(min_length=1, examples=["margherita"])]
    size: Literal["small", "large"] | None = None
    baked: date | None = None


class Extra(BaseModel, json_schema_extra=lambda schema: None):
    pass


class Computed(BaseModel):
    @computed_field  # type: ignore[prop-decorator, unused-ignore]
    @property
    def number(self) -> int:
        return 1


class Serialized(BaseModel):
    @model_serializer
    def text(self) -> str:
        return ""


class Hooked(BaseModel):
    @classmethod
    def __get_pydantic_json_schema__(cls, *_: Any) -> dict[str, Any]:
        return {}


class Root(RootModel[int]):
    pass


class Default(BaseModel):
    pizza: Pizza = Pizza(name="a")


def order_with(kind: Any) -> type[Workflow]:
    def add(workflow: Any, value: Any) -> None:
        pass

    add.__annotations__ = {"value": kind, "return": None}

    class Order(Workflow, name="order"):
        search_fields = ("customer",)
        customer: str = ""
        pizzas: list[Pizza] = []
        definition = S(Select("open", On("Add", add)))

    return Order


@pytest.mark.parametrize("kind", [str, Pizza, list[Pizza], list[Pizza | None], float])
def test_the_schemas_of_usual_types_are_made_late(kind: Any, made: list[Any]) -> None:
    order = order_with(kind)
    assert made == []
    version = order.__program__.version
    ((_, case),) = order.__program__.events["Add"]
    assert case.signature.input_schema is not None and len(made) == 2
    assert "pizzas" in order.__fields_schema__()["properties"] and len(made) == 3
    assert order.__program__.version == version and len(version) == 12
    assert order_with(kind).__program__.version == version != order_with(int).__program__.version


@pytest.mark.parametrize(
    "kind", [Extra, Computed, Serialized, Hooked, Root, Default, Annotated[int, BeforeValidator(int)], list[Extra]]
)
def test_a_schema_in_which_code_takes_part_is_made_at_once(kind: Any, made: list[Any]) -> None:
    order_with(kind)
    assert len(made) == 1


def test_a_type_without_a_schema_is_refused_at_once() -> None:
    class Unknown:
        pass

    class Holder(BaseModel, arbitrary_types_allowed=True):
        unknown: Unknown | None = None

    with pytest.raises(DefinitionError, match="has no JSON schema"):
        order_with(Holder)


def test_all_names_of_methods_are_those_of_pydantic() -> None:
    methods = GenerateJsonSchema().build_schema_type_to_method()
    mine = SchemaGenerator().build_schema_type_to_method()
    assert all(mine[kind].__name__ == method.__name__ for kind, method in methods.items())
