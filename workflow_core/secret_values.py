"""Secrets: values of ``SecretStr``, ``SecretBytes`` and ``Secret[T]`` are stored, and masked where they are shown.

Pydantic writes a secret as asterisks. Two serializers are therefore made from the core schema of a type that contains
secrets: ``revealing`` writes their values, for the store; ``masking`` writes asterisks even where the user's own
serializer would write the value. Both change only how values are written, not how they are validated.

Pydantic serializes a model inside of another one with the serializer of its class, whatever the schema says. An object
that contains secrets is therefore replaced by a function, which calls a serializer made from its own part of the
schema. The same is done for each reference, because a type may contain itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache, partial
from typing import Any

from pydantic import Secret, SecretBytes, SecretStr, TypeAdapter
from pydantic_core import PydanticSerializationUnexpectedValue, SchemaSerializer

from workflow_core.core_schemas import FROM_THE_SCHEMA, NO_NODES, Schema, definitions, is_node, nodes, parts

MASK = "**********"
"""How a secret is shown."""

SECRETS = (Secret, SecretStr, SecretBytes)

_OBJECTS = ("model", "dataclass")

_CONTAINERS = (
    *(*_OBJECTS, "model-fields", "dataclass-args", "typed-dict", "call", "arguments", "named-tuple"),
    *("list", "tuple", "set", "frozenset", "dict", "generator"),
)


def _mask_function(annotation: Any) -> Any:
    schema = TypeAdapter(annotation).core_schema
    return next(
        node["serialization"]["function"] for node in nodes(schema) if is_node(node) and "serialization" in node
    )


@cache
def _masks() -> tuple[Any, ...]:
    """The functions with which pydantic serializes secrets."""
    return tuple(map(_mask_function, (SecretStr, SecretBytes, Secret[int])))


def is_secret_node(node: Schema) -> bool:
    """Whether a node of a core schema is a secret."""
    function = node.get("serialization", {}).get("function") if is_node(node) else None
    return function is not None and function in _masks()


def has_secrets(schema: Schema) -> bool:
    """Whether values of a type may contain secrets."""
    return any(map(is_secret_node, nodes(schema)))


def contains_secrets(schema: Schema, targets: Mapping[str, Schema], seen: frozenset[str] = frozenset()) -> bool:
    """Whether a part of a schema contains a secret, also by reference.

    Args:
        targets: the nodes that references name.
    """
    for node in nodes(schema):
        ref = node.get("schema_ref")
        if is_secret_node(node):
            return True
        if ref and ref not in seen and contains_secrets(targets[ref], targets, seen | {ref}):
            return True
    return False


def may_be_secret(schema: Any, targets: Mapping[str, Schema]) -> bool:
    """Whether a value of a part of a schema may be a secret itself, and not only contain one."""
    if isinstance(schema, dict) and is_secret_node(schema):
        return True
    if isinstance(schema, dict) and schema.get("type") in _CONTAINERS:
        return False
    if isinstance(schema, dict) and schema.get("type") == "definition-ref":
        return may_be_secret(targets.get(schema["schema_ref"]), targets)
    return any(may_be_secret(part, targets) for part in parts(schema))


def plain_fields(schema: Schema) -> frozenset[str]:
    """Returns the names of a model's fields whose values contain no secrets. ``schema`` is that of the model."""
    targets = definitions(schema)
    while schema["type"] != "model-fields":
        schema = targets[schema["schema_ref"]] if schema["type"] == "definition-ref" else schema["schema"]
    fields: dict[str, Schema] = schema["fields"]
    return frozenset(name for name, field in fields.items() if not contains_secrets(field, targets))


def revealing(schema: Schema) -> SchemaSerializer:
    """Returns a serializer that writes the values of secrets."""
    return _Revealing(schema).serializer(schema)


def masking(schema: Schema) -> SchemaSerializer:
    """Returns a serializer that masks secrets, also those for which the user has written a serializer."""
    return _Masking(schema).serializer(schema)


def is_mask(value: object) -> bool:
    """Whether a value is a secret that contains what it is shown as, so it comes from a view."""
    if not isinstance(value, SECRETS):
        return False
    inner = value.get_secret_value()
    return bool(inner) and inner in (MASK, MASK.encode(), str(value))


# --- rewriting a schema ----------------------------------------------------------------------


class _Rewriter:
    """Makes serializers from parts of a schema."""

    def __init__(self, schema: Schema) -> None:
        self.definitions = definitions(schema)
        self.made: dict[int, SchemaSerializer] = {}

    def own(self, node: Schema) -> dict[str, Any] | None:
        """Returns the serialization that replaces that of a node; None: it stays."""
        raise NotImplementedError

    def serializer(self, schema: Schema) -> SchemaSerializer:
        """Returns a serializer for a part of the schema."""
        while schema["type"] in ("definitions", "definition-ref"):
            schema = schema["schema"] if schema["type"] == "definitions" else self.definitions[schema["schema_ref"]]
        if id(schema) not in self.made:
            new: Any = self._rewritten(schema)
            new.pop("ref", None)  # references to it are replaced by calls
            self.made[id(schema)] = SchemaSerializer(new, **FROM_THE_SCHEMA)
        return self.made[id(schema)]

    def part(self, part: Any) -> Any:
        """Returns a part of a schema with the serializations that replace others."""
        if isinstance(part, (list, tuple)):
            return type(part)(map(self.part, part))
        if not isinstance(part, dict):
            return part
        if part.get("type") == "definition-ref" or (part.get("type") in _OBJECTS and self.contains_secrets(part)):
            call = {"type": "function-plain", "function": partial(self._dump, part), "info_arg": True}
            return {"type": "any", "serialization": self.own(part) or call}
        return self._rewritten(part)

    def _rewritten(self, node: Schema) -> dict[str, Any]:
        of_node = is_node(node)
        new = {key: part if of_node and key in NO_NODES else self.part(part) for key, part in node.items()}
        own = self.own(node) if of_node else None
        return new if own is None else new | {"serialization": own}

    def _dump(self, node: Schema, value: Any, info: Any) -> Any:
        """Serializes a value inside of another one."""
        cls = self.definitions.get(node.get("schema_ref", ""), node).get("cls")
        if cls is not None and type(value) is not cls:
            raise _unexpected(cls.__name__, value)
        return self.serializer(node).to_python(value, mode=info.mode, by_alias=False, round_trip=True, warnings="error")

    def contains_secrets(self, schema: Schema) -> bool:
        return contains_secrets(schema, self.definitions)


class _Revealing(_Rewriter):
    def own(self, node: Schema) -> dict[str, Any] | None:
        if not is_secret_node(node):
            return None
        # The node makes the secret from a value of this type.
        inner = next(part["schema"] for part in nodes(node) if part.get("type") == "function-after")
        return {**node["serialization"], "function": _value_of, "return_schema": self.part(inner)}


class _Masking(_Rewriter):
    def own(self, node: Schema) -> dict[str, Any] | None:
        if "serialization" not in node or is_secret_node(node) or not self.contains_secrets(node):
            return None
        return {"type": "function-plain", "function": lambda value: MASK}


def _value_of(value: Any, info: Any) -> Any:
    if isinstance(value, SECRETS):
        return value.get_secret_value()
    raise _unexpected("a secret", value)


def _unexpected(expected: str, value: object) -> PydanticSerializationUnexpectedValue:
    """Returns the error for a value of another type, without the value, which may be a secret."""
    return PydanticSerializationUnexpectedValue(f"Expected {expected}, got a value of type {type(value).__name__}")
