"""The JSON schema of what ``Workflow.dump_fields`` returns, which is what the API shows as the state of an instance."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic.json_schema import JsonSchemaValue
from pydantic_core import PydanticOmit, core_schema

from workflow_core.adapters import MASKED, SchemaGenerator
from workflow_core.secret_values import contains_secrets, is_secret_node

if TYPE_CHECKING:
    from pydantic import BaseModel


def stored_schema(cls: type[BaseModel]) -> JsonSchemaValue:
    """Returns the schema of a model's fields as they are stored: by their own names, without computed fields, and with
    values in their serialized form.

    Raises:
        PydanticUserError, PydanticInvalidForJsonSchema, NameError: a type has no schema.
    """
    return cls.model_json_schema(by_alias=False, mode="serialization", schema_generator=_Stored)


class _Stored(SchemaGenerator):
    """The schemas of values that are dumped with ``round_trip=True``."""

    def generate_inner(self, schema: Any) -> JsonSchemaValue:
        if "serialization" in schema and not is_secret_node(schema) and contains_secrets(schema, self.targets):
            return dict(MASKED)  # a serializer of the user for what has secrets is not asked
        return super().generate_inner(schema)

    def computed_field_schema(self, schema: core_schema.ComputedField) -> JsonSchemaValue:
        raise PydanticOmit

    def json_schema(self, schema: core_schema.JsonSchema) -> JsonSchemaValue:
        return {"type": "string", "contentMediaType": "application/json"}

    def ser_schema(self, schema: Any) -> JsonSchemaValue | None:
        function = schema.get("function") if schema["type"] in ("function-plain", "function-wrap") else None
        if function is not None and schema.get("return_schema") is None and not _is_of_pydantic(function):
            return {}  # a serializer without an annotation may return anything
        return super().ser_schema(schema)

    def decimal_schema(self, schema: core_schema.DecimalSchema) -> JsonSchemaValue:
        return {"type": "string"}  # without the pattern of some versions, which does not allow exponents


def _is_of_pydantic(function: Any) -> bool:
    return str(getattr(function, "__module__", "")).partition(".")[0] in ("pydantic", "pydantic_core")
