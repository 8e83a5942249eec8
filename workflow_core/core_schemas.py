"""Walks through the core schemas of pydantic, which describe how a type is validated and serialized.

A core schema consists of nodes: dicts with a ``type``. Their parts are other nodes, lists of nodes, or mappings from
names to nodes, for example of fields. This module does not depend on what is looked for.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic_core import SchemaSerializer

Schema = Mapping[str, Any]

NO_NODES = frozenset(("cls", "metadata", "config", "default", "expected", "members", "serialization"))
"""Parts of a node that contain no nodes that are validated."""

_CONTAINERS = (dict, list, tuple)
_COLLECTIONS = frozenset(("list", "set", "frozenset", "tuple", "dict"))

FROM_THE_SCHEMA: dict[str, Any] = (
    {"_use_prebuilt": False} if "_use_prebuilt" in str(SchemaSerializer.__text_signature__) else {}
)
"""Since pydantic 2.13, even the outermost model is validated and serialized by its class, unless this is given to what
is made from a changed schema. Without the argument, secrets would be written as asterisks, and so refused at the
commit."""


def is_node(schema: Schema) -> bool:
    """Whether a dict in a core schema is a node, and not a mapping, for example of fields, whose keys are names."""
    return isinstance(schema.get("type"), str)


def parts(schema: Any) -> Sequence[Any]:
    """Returns the direct parts of a node, a mapping or a list that may be or contain nodes."""
    if isinstance(schema, dict):
        hidden = NO_NODES if is_node(schema) else ()
        return [part for key, part in schema.items() if isinstance(part, _CONTAINERS) and key not in hidden]
    return schema if isinstance(schema, (list, tuple)) else ()


def nodes(schema: Any) -> Iterator[Schema]:
    """Yields all nodes and mappings of a core schema, the outer ones first, without following references."""
    waiting = [schema]
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict):
            yield part
        waiting += reversed(parts(part))


def stopping(schema: Any) -> Any:
    """Returns a copy of a core schema whose lists, sets, tuples and mappings stop at their first error."""
    if isinstance(schema, dict):
        of_node = is_node(schema)
        copy = {key: part if of_node and key in NO_NODES else stopping(part) for key, part in schema.items()}
        return copy | {"fail_fast": True} if of_node and schema["type"] in _COLLECTIONS else copy
    return type(schema)(map(stopping, schema)) if isinstance(schema, (list, tuple)) else schema


def definitions(schema: Schema) -> dict[str, Schema]:
    """Returns the nodes that references name, by their names."""
    found = (node["definitions"] for node in nodes(schema) if node.get("type") == "definitions")
    return {definition["ref"]: definition for listed in found for definition in listed}
