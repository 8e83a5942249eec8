"""The schema of what a client may set when it creates an instance: ``create_fields``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from workflow_core import Principal, Workflow
from workflow_core.access import creation, creator_names

Json = dict[str, Any]

_DEFS = "#/$defs/"


def creation_schema(cls: type[Workflow], principal: Principal | None) -> Json:
    """Returns the JSON schema of the initial fields in a request. None: trusted code may set all fields."""
    schema = cls.model_json_schema(mode="validation")
    if principal is None:
        return schema
    definitions: Json = schema.get("$defs", {})
    own: Json = definitions[schema["$ref"].removeprefix(_DEFS)] if "$ref" in schema else schema
    allowed = creator_names(cls)
    properties = {name: part for name, part in own["properties"].items() if name in allowed}
    if len(properties) == len(own["properties"]):
        return schema
    result = {key: part for key, part in own.items() if key not in ("$defs", "required", "properties")}
    result |= {"title": f"New{own.get('title', '')}", "properties": properties}
    if required := [name for name in own.get("required", ()) if name in properties]:
        result["required"] = required
    if used := _used(properties, definitions):
        result["$defs"] = used
    return result


def check_creation(cls: type[Workflow], body: bytes, principal: Principal | None) -> None:
    """Checks a body as the engine does.

    Raises:
        InvalidInput: it is not valid.
    """
    cls.new(body if principal is None else creation(cls, body, principal))


def _used(schema: Json, definitions: Json) -> Json:
    """The definitions that a schema refers to, also indirectly. The others would show fields that cannot be set."""
    names: dict[str, None] = {}
    todo = [schema]
    while todo:
        for name in _references(todo.pop()):
            if name not in names and name in definitions:
                names[name] = None
                todo.append(definitions[name])
    return {name: definitions[name] for name in definitions if name in names}


def _references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(reference := value.get("$ref"), str):
            yield reference.removeprefix(_DEFS)
        for part in value.values():
            yield from _references(part)
    elif isinstance(value, list):
        for part in value:
            yield from _references(part)
