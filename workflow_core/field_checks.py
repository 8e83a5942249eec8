"""Checks the fields of a workflow at import: whether they can be saved."""

from __future__ import annotations

from functools import cached_property
from typing import Any

from pydantic import BaseModel, TypeAdapter

from workflow_core.core_schemas import Schema, nodes
from workflow_core.errors import DefinitionError


def check_fields(where: str, cls: type[BaseModel], base: type[BaseModel]) -> None:
    """Rejects fields that cannot be saved, and those that take the place of a method of ``Workflow``.

    Args:
        base: ``Workflow``.

    Raises:
        DefinitionError: there is such a field.
    """
    has_future = cls.__pydantic_complete__ and _must_be_future(cls.__pydantic_core_schema__)
    for name, field in cls.model_fields.items():
        if name in vars(base) and callable(getattr(base, name)):
            raise DefinitionError(where, f"its field {name!r} replaces a method of Workflow", "Rename the field.")
        if field.exclude:
            raise DefinitionError(where, f"its field {name!r} has exclude=True, so it is not saved", "Remove exclude.")
        if has_future and _must_be_future(TypeAdapter(field.annotation or Any).core_schema):
            raise DefinitionError(
                where,
                f"its field {name!r} must be in the future, which is checked at each load: one day, it is not any more",
                "Check it where it comes in: use FutureDate for the input of an event, and date for the field.",
            )
    attributes = {name: value for base in reversed(cls.__mro__) for name, value in vars(base).items()}
    for name in sorted(attributes):
        if isinstance(attributes[name], cached_property):
            raise DefinitionError(
                where,
                f"its cached_property {name!r} keeps its value when fields change",
                "Use property instead.",
            )
    for name in cls.__private_attributes__:
        raise DefinitionError(
            where,
            f"its private attribute {name!r} is not saved, so its value is lost at the next commit",
            "Make it a field, or compute the value in a method.",
        )


def _must_be_future(schema: Schema) -> bool:
    """Whether a type contains dates that are valid only until their time has come."""
    return any(node.get("now_op") == "future" for node in nodes(schema))
