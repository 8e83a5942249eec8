"""Checks the ``search_fields`` of a workflow class."""

from __future__ import annotations

from typing import Any

from pydantic import TypeAdapter

from workflow_core.adapters import JsonSchema
from workflow_core.errors import DefinitionError
from workflow_core.secret_values import has_secrets

_SINGLE = ("str", "int", "float", "bool")
"""Types that need no schema to be recognized."""


def check_search_fields(where: str, cls: Any, *, no_serializers: bool) -> None:
    """Rejects names that are not fields, and fields whose values cannot be searched.

    Args:
        no_serializers: whether the class certainly has no serializers that change the types of its fields.
    """
    if isinstance(cls.search_fields, str):
        fix = f"Write a tuple: search_fields = {(cls.search_fields,)}."
        raise DefinitionError(where, f"its search_fields is the text {cls.search_fields!r}", fix)
    for field in cls.search_fields:
        if field not in cls.model_fields:
            raise DefinitionError(where, f"its search field {field!r} is not a field", "Name fields of the model.")
        core_schema = TypeAdapter(cls.model_fields[field].annotation or Any).core_schema
        if has_secrets(core_schema):
            raise DefinitionError(
                where,
                f"its search field {field!r} contains a secret, which lists would show",
                "Search by another field, such as a hash of the secret.",
            )
        if no_serializers and core_schema["type"] in _SINGLE:
            continue
        schema = cls.__fields_schema__()
        definitions = schema.get("$defs", {})
        properties = _resolved(schema, definitions)["properties"]
        if field in properties and not _has_single_values(properties[field], definitions):
            raise DefinitionError(
                where,
                f"its search field {field!r} contains lists or objects, which cannot be searched",
                "Name fields that contain a text, a number, a boolean or a date.",
            )


def _has_single_values(schema: JsonSchema, definitions: JsonSchema) -> bool:
    """Whether the schema allows a value other than null, a list or an object."""
    schema = _resolved(schema, definitions)
    if "anyOf" in schema:
        return any(_has_single_values(alternative, definitions) for alternative in schema["anyOf"])
    return schema.get("type") not in ("array", "object", "null") and "oneOf" not in schema


def _resolved(schema: JsonSchema, definitions: JsonSchema) -> JsonSchema:
    while "$ref" in schema:
        schema = definitions[schema["$ref"].rpartition("/")[2]]
    return schema
