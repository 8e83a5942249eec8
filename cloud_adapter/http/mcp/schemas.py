"""Names and input schemas of tools."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

Json = dict[str, Any]

NAME_CHARS_MAX = 128

IDEMPOTENCY_KEY = "idempotency_key"

KEY_SCHEMA: Json = {
    "type": "string",
    "description": "Pass the same text again if you repeat this call because its response was lost. A repeated call "
    "returns the first response, and changes nothing.",
}

_FORBIDDEN = re.compile(r"[^A-Za-z0-9_.-]+")


def tool_names(names: Iterable[str], reserved: Iterable[str] = ()) -> dict[str, str]:
    """Returns a tool name for each name: the characters that MCP allows, and each different. The result depends on the
    order. Pass all names of a definition, so that no tool name depends on the state of an instance."""
    taken = set(reserved)
    found: dict[str, str] = {}
    for name in names:
        base = _FORBIDDEN.sub("_", name)[:NAME_CHARS_MAX].strip("_") or "event"
        found[name] = next(each for each in _numbered(base) if each not in taken)
        taken.add(found[name])
    return found


def _numbered(base: str) -> Iterator[str]:
    yield base
    number = 2
    while True:
        suffix = f"_{number}"
        yield base[: NAME_CHARS_MAX - len(suffix)] + suffix
        number += 1


def object_schema(properties: Mapping[str, Json], required: Iterable[str]) -> Json:
    """Returns the schema of the arguments of a tool. The definitions of the properties become its own, because
    references in them begin at the root."""
    shown = {name: _without_definitions(schema) for name, schema in properties.items()}
    result: Json = {"type": "object", "properties": shown, "additionalProperties": False}
    if needed := list(required):
        result["required"] = needed
    return result | _definitions(properties.values())


def any_of(schemas: Iterable[Json]) -> Json:
    """Returns a schema that accepts what one of the schemas accepts."""
    different: list[Json] = []
    for schema in schemas:
        if schema not in different:
            different.append(schema)
    if len(different) == 1:
        return different[0]
    return {"anyOf": [_without_definitions(schema) for schema in different]} | _definitions(different)


def _without_definitions(schema: Json) -> Json:
    return {key: part for key, part in schema.items() if key != "$defs"}


def _definitions(schemas: Iterable[Json]) -> Json:
    """Returns the definitions of all schemas, as a part of a schema; nothing if they have none."""
    definitions = {name: part for schema in schemas for name, part in schema.get("$defs", {}).items()}
    return {"$defs": definitions} if definitions else {}
