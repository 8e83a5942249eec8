"""The OpenAPI 3.1 document of a workflow, from the definition that runs."""

from __future__ import annotations

import inspect
from importlib.metadata import version
from itertools import count
from typing import Any
from urllib.parse import quote

from cloud_adapter.graphs import Format
from cloud_adapter.operating import ACTIONS, Operation
from workflow_core import Status, Workflow, describe

Json = dict[str, Any]

_PROBLEM = {"$ref": "#/components/schemas/Problem"}
_INSTANCE = {"$ref": "#/components/schemas/Instance"}

_ID: Json = {
    "name": "id",
    "in": "path",
    "required": True,
    "description": "The id of the instance, chosen by whoever creates it.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 400},
}
_KEY: Json = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "The same request made again under the same key gets the first one's response and changes nothing.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255},
}


def document(cls: type[Workflow], server: str) -> Json:
    """The OpenAPI document of a workflow that is served at the URL ``server``."""
    name = cls.__workflow_name__
    schemas = _Schemas()
    paths: Json = {
        f"/wf/{name}": {"get": _list_operation()},
        f"/wf/{name}/{{id}}": {
            "parameters": [_ID],
            "post": _create_operation(schemas.take(cls.model_json_schema(mode="validation"))),
            "get": _operation("get", "Where an instance stands, and what it accepts now", _INSTANCE, 404),
        },
    }
    paths[f"/graph/{name}"] = {"get": _graph_operation("graph", "The diagram of the definition", Format.MERMAID)}
    paths[f"/wf/{name}/{{id}}/graph"] = {
        "parameters": [_ID],
        "get": _graph_operation("instance_graph", "Where an instance stands, on the diagram", Format.SVG, 404),
    }
    events: dict[str, list[Json]] = {}
    for event in describe.events(cls.__program__):
        events.setdefault(event["name"], []).append(event)
    for event_name, cases in events.items():
        # An event may be called graph.
        path = paths.setdefault(f"/wf/{name}/{{id}}/{quote(event_name, safe='')}", {"parameters": [_ID]})
        path["post"] = _event_operation(event_name, cases, schemas)
    for action, operation in ACTIONS.items():
        paths[f"/wf/{name}/{{id}}/{action}"] = {
            "parameters": [_ID],
            "post": _action_operation(action, operation, schemas.take(operation.model_json_schema())),
        }
    # As the fields are shown is as they are saved: by their own names, and without what is computed.
    state = schemas.take(cls.model_json_schema(by_alias=False, mode="validation"))
    schemas.definitions |= {"Instance": _instance_schema(state), "Problem": _PROBLEM_SCHEMA}
    return {
        "openapi": "3.1.0",
        "info": {"title": name, "version": version("gorchestrate"), "description": (cls.__doc__ or "").strip()},
        "servers": [{"url": server}],
        "paths": paths,
        "components": {"schemas": schemas.definitions},
    }


class _Schemas:
    """Moves the ``$defs`` of schemas into the document's components. Where a name means another schema there, as two
    classes may have one name, those of the newcomer get a number."""

    def __init__(self) -> None:
        self.definitions: Json = {"Instance": {}, "Problem": {}}

    def take(self, schema: Json) -> Json:
        definitions = schema.get("$defs", {})
        for number in count(1):
            names = {name: name if number == 1 else f"{name}{number}" for name in definitions}
            refs = {f"#/$defs/{old}": f"#/components/schemas/{new}" for old, new in names.items()}
            moved = {names[name]: _moved(definition, refs) for name, definition in definitions.items()}
            if all(self.definitions.get(name, definition) == definition for name, definition in moved.items()):
                break
        self.definitions |= moved
        result: Json = _moved({key: value for key, value in schema.items() if key != "$defs"}, refs)
        return result


def _moved(value: Any, refs: dict[str, str]) -> Any:
    if isinstance(value, dict):
        return {key: _moved(item, refs) for key, item in value.items()}
    if isinstance(value, list):
        return [_moved(item, refs) for item in value]
    return refs.get(value, value) if isinstance(value, str) else value


def _json(schema: Json, description: str, media_type: str = "application/json") -> Json:
    return {"description": description, "content": {media_type: {"schema": schema}}}


def _operation(id: str, summary: str, output: Json, *errors: int, success: str = "200") -> Json:
    reasons = {
        400: "A name, an id or an argument cannot be right.",
        404: "There is no such instance.",
        409: "The instance exists already, does not accept the event now, or has ended.",
        413: "The request or the instance would be too large.",
        422: "The input is invalid; the document says which field.",
        503: "Busy, or the database did not answer, or newer code has saved the instance: try again.",
    }
    responses: Json = {success: _json(output, "Done.")}
    for code in sorted({400, 503, *errors}):
        responses[str(code)] = _json(_PROBLEM, reasons[code], "application/problem+json")
    return {"operationId": id, "summary": summary, "responses": responses}


def _create_operation(fields: Json) -> Json:
    operation = _operation("create", "Create an instance", _INSTANCE, 409, 413, 422, success="201")
    return operation | {
        "parameters": [_KEY],
        "requestBody": {"required": False, "content": {"application/json": {"schema": fields}}},
    }


def _event_operation(name: str, cases: list[Json], schemas: _Schemas) -> Json:
    inputs = [schemas.take(case["input"]) for case in cases if case["input"] is not None]
    outputs = [schemas.take(case["output"]) for case in cases]
    operation = _operation(f"send_{name}", f"Send the event {name}", _any_of(outputs), 404, 409, 413, 422)
    roles = sorted({case["role"] for case in cases if case["role"]})
    operation["description"] = "Accepted in: " + ", ".join(case["select"] for case in cases)
    if roles:
        operation["tags"] = roles
    operation["parameters"] = [_KEY]
    if any(case["buffered"] for case in cases):
        operation["responses"]["202"] = {"description": "Nobody waits for it yet: it is kept, and handled later."}
    if inputs:
        required = len(inputs) == len(cases)
        operation["requestBody"] = {
            "required": required,
            "content": {"application/json": {"schema": _any_of(inputs)}},
        }
    return operation


def _action_operation(name: str, action: type[Operation], schema: Json) -> Json:
    description = inspect.cleandoc(action.__doc__ or "")
    operation = _operation(name, f"{name.capitalize()} an instance", _INSTANCE, 404, 409, 413, 422)
    return operation | {
        "description": description,
        "requestBody": {"required": False, "content": {"application/json": {"schema": schema}}},
    }


def _any_of(schemas: list[Json]) -> Json:
    unique = [schema for i, schema in enumerate(schemas) if schema not in schemas[:i]]
    return unique[0] if len(unique) == 1 else {"anyOf": unique}


def _graph_operation(id: str, summary: str, default: Format, *errors: int) -> Json:
    operation = _operation(id, summary, {}, *errors)
    content: Json = {format.media_type: {"schema": {"type": "string"}} for format in Format}
    content[Format.JSON.media_type]["schema"] = {"type": "array", "items": {"type": "object"}}
    operation["responses"]["200"]["content"] = content
    formats = {"enum": [format.value for format in Format], "default": default.value}
    operation["parameters"] = [{"name": "format", "in": "query", "schema": formats}]
    return operation


def _list_operation() -> Json:
    page: Json = {
        "type": "object",
        "required": ["instances", "cursor"],
        "properties": {
            "instances": {"type": "array", "items": {"type": "object"}},
            "cursor": {"type": ["string", "null"], "description": "Asks for the next page; null on the last."},
        },
    }
    query = [
        {"name": "status", "in": "query", "schema": {"enum": [status.value for status in Status]}},
        {"name": "limit", "in": "query", "schema": {"type": "integer", "minimum": 1, "maximum": 200, "default": 50}},
        {"name": "cursor", "in": "query", "schema": {"type": "string"}},
    ]
    return _operation("list", "The instances, those that were updated last first", page) | {"parameters": query}


def _instance_schema(state: Json) -> Json:
    return {
        "type": "object",
        "required": ["meta", "state", "events", "history"],
        "properties": {
            "meta": {"type": "object", "description": "Where the instance stands: status, pc, threads, error."},
            "state": state,
            "events": {"type": "array", "items": {"type": "object"}, "description": "What is accepted now."},
            "history": {"type": "array", "items": {"type": "object"}, "description": "What happened last."},
        },
    }


_PROBLEM_SCHEMA: Json = {
    "type": "object",
    "description": "RFC 9457",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "accepted": {"type": "array", "items": {"type": "string"}},
        "errors": {"type": "array", "items": {"type": "object"}},
    },
}
