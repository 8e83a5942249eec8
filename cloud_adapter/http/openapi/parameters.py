"""The parameters of operations in an OpenAPI document."""

from __future__ import annotations

from typing import Any

from cloud_adapter.http.openapi.schemas import ref
from cloud_adapter.names import KEY_CHARS_MAX
from cloud_adapter.ports import PAGE_SIZE, PAGE_SIZE_MAX, Order
from workflow_core import Workflow

Json = dict[str, Any]

KEY: Json = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "If the same request is repeated with the same key within a day, it gets the first response and "
    "changes nothing.",
    "schema": {"type": "string", "minLength": 1, "maxLength": KEY_CHARS_MAX},
}


PREFER: Json = {
    "name": "Prefer",
    "in": "header",
    "required": False,
    "description": "With `respond-async`, an event that a running step would delay for long is accepted for later, "
    "with the status 202 and the path of its outcome in `Location`. Otherwise the preference has no effect.",
    "schema": {"type": "string", "examples": ["respond-async"]},
}


TOKEN_PARAMETER: Json = {
    "name": "token",
    "in": "path",
    "required": True,
    "description": "Identifies the outcome: the last part of the `Location` of the event.",
    "schema": {"type": "string"},
}


def list_parameters(cls: type[Workflow]) -> list[Json]:
    """The parameters of the list of a workflow's instances."""
    orders = {"enum": [order.value for order in Order], "default": Order.UPDATED.value}
    limit = {"type": "integer", "minimum": 1, "maximum": PAGE_SIZE_MAX, "default": PAGE_SIZE}
    cursor = "The `cursor` of the previous page, in the same order. If omitted, returns the first page."
    searched = "Filter by the value of `{}`: a text, a number, `true`, `false` or `null`."
    return [
        query("status", "Filter by status.", ref("Status")),
        *(query(f"search.{name}", searched.format(name), {"type": "string"}) for name in cls.search_fields),
        query("order", "`updated`: most recently updated first. `created`: newest first. `id`: by id.", orders),
        query("limit", "The maximum number of instances in a page.", limit),
        query("cursor", cursor, {"type": "string"}),
    ]


def header(description: str) -> Json:
    return {"description": description, "schema": {"type": "string"}}


def query(name: str, description: str, schema: Json) -> Json:
    return {"name": name, "in": "query", "required": False, "description": description, "schema": schema}
