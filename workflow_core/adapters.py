"""The adapters and the JSON schemas of annotations, made once, when a workflow class is created."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import cache
from types import MappingProxyType
from typing import Any, Literal

from pydantic import BaseModel, PydanticUserError, TypeAdapter
from pydantic.errors import PydanticErrorMixin, PydanticInvalidForJsonSchema, PydanticUndefinedAnnotation
from pydantic.json_schema import GenerateJsonSchema

from workflow_core.core_schemas import Schema, definitions, is_node, nodes
from workflow_core.errors import DefinitionError
from workflow_core.secret_values import MASK, is_secret_node, may_be_secret
from workflow_core.type_names import type_name

JsonSchema = dict[str, Any]


LateSchema = Callable[[], JsonSchema]
"""Returns a JSON schema, which is made at the first call."""


def schema_of(
    where: str, annotation: Any, mode: Literal["validation", "serialization"], names: Mapping[str, Any]
) -> tuple[TypeAdapter[Any], JsonSchema]:
    """Returns the adapter of an annotation, and its JSON schema. For the arguments, see ``adapter_of``.

    Raises:
        DefinitionError: as ``adapter_of``, or the type has no JSON schema.
    """
    adapter, schema = late_schema_of(where, annotation, mode, names)
    return adapter, schema()


def late_schema_of(
    where: str, annotation: Any, mode: Literal["validation", "serialization"], names: Mapping[str, Any]
) -> tuple[TypeAdapter[Any], LateSchema]:
    """Like ``schema_of``. The schema is made when it is first needed, unless the type may have none."""
    adapter = adapter_of(where, annotation, names)

    @cache
    def schema() -> JsonSchema:
        try:
            return adapter.json_schema(mode=mode, schema_generator=SchemaGenerator)
        except (PydanticUserError, PydanticInvalidForJsonSchema) as error:
            raise _no_schema(where, annotation, error) from error

    if not certainly_has_schema(adapter.core_schema):
        schema()
    return adapter, schema


def adapter_of(where: str, annotation: Any, names: Mapping[str, Any]) -> TypeAdapter[Any]:
    """Returns the adapter of an annotation.

    Args:
        names: names that the annotation may use, in addition to those of its module.

    Raises:
        DefinitionError: the annotation cannot be resolved, or pydantic does not know the type.
    """
    try:
        adapter = TypeAdapter(annotation)
        if not adapter.pydantic_complete:  # a dataclass inside a function may name another one there
            adapter.rebuild(_types_namespace=names)
        return adapter
    except PydanticUndefinedAnnotation as error:
        fix = "Define that type above the workflow."
        raise DefinitionError(
            where, f"the annotation {type_name(annotation)} cannot be resolved: {error.message}", fix
        ) from error
    except PydanticUserError as error:
        raise _no_schema(where, annotation, error) from error


def _no_schema(where: str, annotation: Any, error: PydanticErrorMixin) -> DefinitionError:
    why = error.message.splitlines()[0].removesuffix(".")
    reason = f"the annotation {type_name(annotation)} has no JSON schema: {why}"
    return DefinitionError(where, reason, "Use pydantic models, dataclasses, plain types or Any.")


def certainly_has_schema(schema: Schema) -> bool:
    """Whether a type has a JSON schema that is made without code of the user, so making it cannot fail."""
    return all(map(_is_certain, nodes(schema)))


def _is_certain(node: Schema) -> bool:
    if not is_node(node):
        return True
    kind, metadata, default = node["type"], node.get("metadata", {}), node.get("default")
    if "serialization" in node or node.get("computed_fields") or node.get("root_model"):
        return False
    if kind == "model":
        cls: Any = node["cls"]
        functions = metadata.get("pydantic_js_functions", ())
        if any(getattr(function, "__func__", None) is not _JSON_SCHEMA_OF_MODELS for function in functions):
            return False
        return metadata.keys() <= {"pydantic_js_functions"} and _CERTAIN_SETTINGS.issuperset(cls.model_config)
    return (
        kind in _CERTAIN
        and metadata.keys() <= {"pydantic_js_updates"}
        and type(node.get("validation_alias", "")) is str
        and (type(default) in _JSON_TYPES or (type(default) is list and not default))
        and all(type(value) in _JSON_TYPES for value in node.get("expected", ()))
    )


_JSON_SCHEMA_OF_MODELS: Any = vars(BaseModel)["__get_pydantic_json_schema__"].__func__

_SINGLE = ("any", "none", "bool", "int", "float", "str", "date", "time", "datetime", "timedelta", "uuid", "literal")
_NESTING = ("list", "set", "frozenset", "nullable", "default", "model-field", "model-fields", "definitions")
_CERTAIN = frozenset((*_SINGLE, *_NESTING, "definition-ref"))
"""Types of nodes whose JSON schema pydantic makes."""

_CERTAIN_SETTINGS = frozenset(
    ("extra", "ignored_types", "frozen", "title", "validate_assignment", "str_strip_whitespace")
)
"""Settings of a model that change nothing about that."""


def may_be_shown(default: Any) -> bool:
    """Whether a default, as JSON data, can stand in a schema. Nobody may send back a masked secret, and JSON has no
    NaN and no infinities."""
    try:
        return MASK not in json.dumps(default, allow_nan=False)
    except ValueError:
        return False


MASKED = {"type": "string", "format": "password", "writeOnly": True}
"""The schema of what a secret is shown as."""

_LIMITS_OF_TEXT = ("minLength", "maxLength", "pattern")


_JSON_TYPES = (str, int, float, bool, type(None))
"""The types whose values JSON has as they are. Exceptions, such as infinities, are not shown."""


class _Methods(dict[str, Any]):
    """The methods of a generator by the type of the node that they describe."""

    def __init__(self, generator: GenerateJsonSchema) -> None:
        super().__init__()
        self._generator = generator

    def __missing__(self, kind: str) -> Any:
        method = self[kind] = getattr(self._generator, f"{kind.replace('-', '_')}_schema")
        return method


class SchemaGenerator(GenerateJsonSchema):
    """Generates JSON schemas without the defaults that cannot be shown, see ``may_be_shown``. In the schema of what is
    shown, a secret is a text without limits."""

    targets: Mapping[str, Schema] = MappingProxyType({})
    """The nodes of the core schema that references name."""

    def generate(self, schema: Any, mode: Any = "validation") -> JsonSchema:
        """See ``GenerateJsonSchema.generate``."""
        self.targets = definitions(schema)
        return super().generate(schema, mode)

    def generate_inner(self, schema: Any) -> JsonSchema:
        """See ``GenerateJsonSchema.generate_inner``."""
        made = super().generate_inner(schema)
        if self.mode != "serialization" or not may_be_secret(schema, self.targets):
            return made
        if is_secret_node(schema):
            return MASKED | {key: part for key, part in made.items() if key in ("title", "description", "deprecated")}
        return {key: part for key, part in made.items() if key not in _LIMITS_OF_TEXT}

    def build_schema_type_to_method(self) -> Any:
        """See ``GenerateJsonSchema.build_schema_type_to_method``. Most types do not occur in a schema, so their methods
        are not looked up beforehand."""
        return _Methods(self)

    def encode_default(self, dft: Any) -> Any:
        """See ``GenerateJsonSchema.encode_default``, which makes an adapter for each default."""
        return dft if type(dft) in _JSON_TYPES else super().encode_default(dft)

    def default_schema(self, schema: Any) -> JsonSchema:
        """See ``GenerateJsonSchema.default_schema``."""
        made = super().default_schema(schema)
        return {key: part for key, part in made.items() if key != "default" or may_be_shown(part)}
