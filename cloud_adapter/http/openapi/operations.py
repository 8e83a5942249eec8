"""The OpenAPI 3.1 document of a workflow, from the definition that runs: its operations.

Its schemas are in ``schemas``, its errors in ``errors``, sample values in ``samples``.
"""

from __future__ import annotations

import inspect
import json
import re
import unicodedata
from collections.abc import Callable, Iterable
from importlib.metadata import version
from itertools import count
from typing import Any
from urllib.parse import quote

from cloud_adapter import errors
from cloud_adapter.engine.operations import ACTIONS, Action
from cloud_adapter.http.graphs import Format
from cloud_adapter.http.openapi.errors import CREATED, FOUND, MOVED, SENT, Errors, Kind
from cloud_adapter.http.openapi.samples import sample
from cloud_adapter.http.openapi.schemas import Schemas, instance, ref
from cloud_adapter.names import ID_BYTES_MAX, KEY_CHARS_MAX
from cloud_adapter.ports import PAGE_SIZE, PAGE_SIZE_MAX
from workflow_core import EventNotAccepted, InvalidInput, RepairRefused, Status, Workflow, WorkflowError
from workflow_core.errors import UnknownStatement
from workflow_core.program.code import ClientCase, EventCase
from workflow_core.signatures import HandlerSignature

Json = dict[str, Any]

INSTANCES = "instances"
"""The tag of what can be done with every instance."""
EVENTS = "events"
"""The tag of events that no role is named for."""

KEY: Json = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "The same request made again under the same key within a day gets the first one's response and "
    "changes nothing.",
    "schema": {"type": "string", "minLength": 1, "maxLength": KEY_CHARS_MAX},
}

TOKEN = "googleIdentityToken"
_TOKEN_SCHEME: Json = {
    "type": "http",
    "scheme": "bearer",
    "bearerFormat": "JWT",
    "description": "An identity token of Google for somebody who has `roles/run.invoker` on the function. "
    "`gcloud auth print-identity-token` prints one. Cloud Run checks it before the service is reached.",
}


def document(cls: type[Workflow], server: str, *, public: bool = True) -> Json:
    """The OpenAPI document of a workflow that is served at the URL ``server``.

    Args:
        public: whether everybody may call; otherwise Cloud Run asks for an identity token.
    """
    return _Document(cls, server, public).build()


def example_id(workflow: str) -> str:
    """The id of the instance that the examples are about."""
    return f"{workflow}-1"


class _Document:
    def __init__(self, cls: type[Workflow], server: str, public: bool) -> None:
        self.cls = cls
        self.name: str = cls.__workflow_name__
        self.server = server
        self.public = public
        self.schemas = Schemas()
        self.used_tags: list[str] = []
        self.errors = Errors(self.name, example_id(self.name))
        # As the fields are shown is as they are saved: by their own names, and without what is computed.
        state = self.schemas.take(cls.model_json_schema(by_alias=False, mode="validation"))
        self.schemas.definitions["Instance"] = instance(state)

    def build(self) -> Json:
        paths = self.paths()
        components: Json = {"schemas": self.schemas.definitions, "examples": self.errors.shared}
        if not self.public:
            components["securitySchemes"] = {TOKEN: _TOKEN_SCHEME}
        return {
            "openapi": "3.1.0",
            "info": {
                "title": self.name,
                "version": version("gorchestrate"),
                "description": _text(self.cls) or f"The workflow `{self.name}`.",
            },
            "externalDocs": {
                "description": "This document as a page to read.",
                "url": f"{self.server}/reference/{self.name}",
            },
            "servers": [{"url": self.server}],
            "tags": self.tags(),
            "security": [] if self.public else [{TOKEN: []}],
            "paths": paths,
            "components": components,
        }

    def paths(self) -> Json:
        one = f"/wf/{self.name}/{{id}}"
        paths: Json = {
            one: {"parameters": [self.id()], "post": self.create(), "get": self.get()},
            f"/wf/{self.name}": {"get": self.page()},
            f"{one}/graph": {"parameters": [self.id()], "get": self.instance_graph()},
            f"/graph/{self.name}": {"get": self.definition_graph()},
        }
        names = operation_ids(self.cls.__program__.events)
        for event, cases in self.cls.__program__.events.items():
            operation = self.event(event, names[event], list(cases))
            # An event may be called graph.
            paths.setdefault(f"{one}/{quote(event, safe='')}", {"parameters": [self.id()]})["post"] = operation
        for kind in ACTIONS.values():
            paths[f"{one}/{kind.name}"] = {"parameters": [self.id()], "post": self.action(kind)}
        return paths

    def tags(self) -> list[Json]:
        texts = {INSTANCES: "What can be done with every instance.", EVENTS: "Events that no role is named for."}
        return [
            {"name": tag, "description": texts.get(tag, f"Events that the role `{tag}` sends.")}
            for tag in self.used_tags
        ]

    def id(self) -> Json:
        return {
            "name": "id",
            "in": "path",
            "required": True,
            "description": "The id of the instance, chosen by whoever creates it: printable text without `/`.",
            "schema": {"type": "string", "minLength": 1, "maxLength": ID_BYTES_MAX},
            "example": example_id(self.name),
        }

    # --- operations ----------------------------------------------------------------------

    def create(self) -> Json:
        fields = self.schemas.take(self.cls.model_json_schema(mode="validation"))
        # Unlike everywhere else, fields that there are none of are refused here.
        schema = {"allOf": [fields], "unevaluatedProperties": False}
        result = self.operation(
            "create_instance",
            "Create an instance",
            "It runs on to its first wait by itself; what is given back is where it stands when it is stored.",
            {"201": self.instance("Created.", {"Location": _header("The path of the instance.")})},
            (errors.InvalidRequest, *CREATED, *MOVED, errors.Unavailable),
            known=[_refused(f"the initial fields of workflow {self.name!r}", self.cls.new)],
        )
        first = sample(fields, self.schemas.definitions, "required")
        media = {"schema": schema} | self.example(first if first != {} else None, self.cls.new)
        required = not _takes(self.cls.new, b"")
        description = "The initial fields; those that are not given have their defaults."
        body = {"description": description, "required": required, "content": {"application/json": media}}
        return result | {"parameters": [KEY], "requestBody": body}

    def get(self) -> Json:
        return self.operation(
            "get_instance",
            "Where an instance stands, and what it accepts now",
            "",
            {"200": self.instance("The instance.")},
            (*FOUND, errors.Unavailable),
        )

    def page(self) -> Json:
        searched = self.cls.search_fields
        limit = {"type": "integer", "minimum": 1, "maximum": PAGE_SIZE_MAX, "default": PAGE_SIZE}
        cursor = "The `cursor` of the last page; without one, the first page."
        content = {"application/json": {"schema": ref("InstancePage")}}
        return self.operation(
            "list_instances",
            "The instances, those that were updated last first",
            "A page at a time: ask again with the `cursor` of the answer, until that is null.",
            {"200": {"description": "A page.", "content": content}},
            (errors.InvalidRequest, errors.DamagedDocument, errors.Unavailable),
            known=[errors.InvalidRequest(f"limit is 1000: give 1 to {PAGE_SIZE_MAX}")],
        ) | {
            "parameters": [
                _query("status", "Only those of this status.", ref("Status")),
                *(_query(f"search.{name}", f"Only those with this `{name}`.", {"type": "string"}) for name in searched),
                _query("limit", "How many a page has at most.", limit),
                _query("cursor", cursor, {"type": "string"}),
            ]
        }

    def instance_graph(self) -> Json:
        return self.graph(
            "get_instance_graph", "Where an instance stands, on the diagram", Format.SVG, (*FOUND, errors.Unavailable)
        )

    def definition_graph(self) -> Json:
        return self.graph("get_graph", "The diagram of the definition", Format.MERMAID, (errors.InvalidRequest,))

    def graph(self, id: str, summary: str, default: Format, kinds: Iterable[Kind]) -> Json:
        schemas: dict[Format, Json] = {format: {"type": "string"} for format in Format}
        schemas[Format.JSON] = {"type": "array", "items": {"type": "object"}}
        content = {format.media_type: {"schema": schema} for format, schema in schemas.items()}
        description = "A picture, the text of a Mermaid flowchart, or the statements as data."
        success: Json = {"200": {"description": description, "content": content}}
        formats = {"enum": [format.value for format in Format], "default": default.value}
        return self.operation(id, summary, "", success, kinds) | {"parameters": [_query("format", "As what.", formats)]}

    def action(self, kind: type[Action]) -> Json:
        refused = kind.refusal(example_id(self.name))
        result = self.operation(
            f"{kind.name}_instance",
            f"{kind.title} an instance",
            _text(kind),
            {"200": self.instance("Done, or it was so already.")},
            (
                *FOUND,
                UnknownStatement,
                errors.InstanceEnded,
                RepairRefused,
                errors.TooLarge,
                InvalidInput,
                *MOVED,
                errors.Busy,
                errors.Unavailable,
            ),
            known=[refused, _refused("the body of the request", kind.from_json)],
        )
        media = {"schema": self.schemas.take(kind.model_json_schema())}
        return result | {
            "requestBody": {
                "description": "By whom, and why.",
                "required": not _takes(kind.from_json, b""),
                "content": {"application/json": media},
            }
        }

    def event(self, event: str, id: str, cases: list[tuple[str, ClientCase]]) -> Json:
        selects = [select for select, _ in cases]
        texts = _unique(_text(case.handler) for _, case in cases if isinstance(case, EventCase))
        signatures = [case.signature for _, case in cases]
        roles = sorted({case.role for _, case in cases if case.role})
        outputs = [self.schemas.take(signature.output_schema) for signature in signatures]
        result = self.operation(
            id,
            f"Send the event {event}",
            "\n\n".join(filter(None, [*texts, _accepted_in(selects)])),
            {"200": self.output(outputs, signatures[0])},
            (*FOUND, *SENT, *MOVED, errors.Busy, errors.Unavailable),
            known=self.refusals(event, signatures[0]),
            tags=roles or [EVENTS],
        )
        if any(case.buffered for _, case in cases):
            result["responses"]["202"] = {
                "description": "Nobody waits for it yet: it is kept, and handled later. There is no body."
            }
        thread = "The thread that is meant, where several wait for the event; `events` of the instance names it."
        wait = "The wait that is meant; a later one for the same event does not count."
        parameters = [_query("thread", thread, {"type": "string"}), _query("wait_id", wait, {"type": "string"}), KEY]
        result["parameters"] = parameters
        taking = [one for one in signatures if one.input_schema is not None]
        inputs = [self.schemas.take(one.input_schema) for one in taking if one.input_schema is not None]
        if inputs:
            check = _validator(event, taking[0])
            value = sample(inputs[0], self.schemas.definitions)
            result["requestBody"] = {
                "description": "The input of the event.",
                "required": not any(_takes(_validator(event, signature), b"") for signature in signatures),
                "content": {"application/json": {"schema": _any_of(inputs)} | self.example(value, check)},
            }
        return result

    def refusals(self, event: str, signature: HandlerSignature) -> list[WorkflowError]:
        """How this event is refused."""
        events = self.cls.__program__.events
        selects = {select for select, _ in events[event]}
        others = [name for name, cases in events.items() if selects.isdisjoint(select for select, _ in cases)][:1]
        return [
            EventNotAccepted(event, others, Status.WAITING if others else Status.FINISHED),
            _refused(f"event {event!r}", _validator(event, signature)),
        ]

    # --- parts of them -------------------------------------------------------------------

    def operation(
        self,
        id: str,
        summary: str,
        description: str,
        success: Json,
        kinds: Iterable[Kind],
        *,
        known: Iterable[WorkflowError] = (),
        tags: Iterable[str] = (INSTANCES,),
    ) -> Json:
        self.used_tags += [tag for tag in tags if tag not in self.used_tags]
        answers = success | self.errors.responses(kinds, known)
        if not self.public:
            answers |= _OF_CLOUD_RUN
        operation: Json = {"operationId": id, "tags": list(tags), "summary": summary}
        if description:
            operation["description"] = description
        return operation | {"responses": answers}

    def instance(self, description: str, headers: Json | None = None) -> Json:
        response: Json = {"description": description}
        if headers:
            response["headers"] = headers
        return response | {"content": {"application/json": {"schema": ref("Instance")}}}

    def output(self, outputs: list[Json], signature: HandlerSignature) -> Json:
        value = sample(outputs[0], self.schemas.definitions, "all")
        media = {"schema": _any_of(outputs)} | self.example(value, signature.output.validate_json)
        return {"description": "Handled; what its handler gives back.", "content": {"application/json": media}}

    def example(self, value: Any, check: Callable[[bytes], Any]) -> Json:
        """A sample, if it is a valid one."""
        return {"example": value} if value is not None and _takes(check, json.dumps(value).encode()) else {}


_OF_CLOUD_RUN: Json = {
    status: {
        "description": f"{text} This answer is Cloud Run's own.",
        "content": {"text/html": {"schema": {"type": "string"}}},
    }
    for status, text in {
        "401": "The request bears no valid identity token.",
        "403": "The token is not one of somebody with `roles/run.invoker`.",
    }.items()
}


def _text(of: Any) -> str:
    """A docstring of one's own as Markdown; a base class does not speak for it."""
    own = vars(of).get("__doc__") if isinstance(of, type) else getattr(of, "__doc__", None)
    return inspect.cleandoc(own).replace("``", "`") if own and getattr(of, "__name__", "") != "<lambda>" else ""


def _accepted_in(selects: list[str]) -> str:
    return "Accepted in: " + ", ".join(f"*{select}*" for select in selects) + "."


def _header(description: str) -> Json:
    return {"description": description, "schema": {"type": "string"}}


def _query(name: str, description: str, schema: Json) -> Json:
    return {"name": name, "in": "query", "required": False, "description": description, "schema": schema}


def _validator(event: str, signature: HandlerSignature) -> Callable[[bytes], Any]:
    return lambda body: signature.validate_json(event, body)


def _takes(check: Callable[[bytes], Any], body: bytes) -> bool:
    try:
        check(body)
    except Exception:  # a validator of the user's may raise anything
        return False
    return True


def _refused(what: str, check: Callable[[bytes], Any]) -> InvalidInput:
    """How a wrong input is refused: by what the check really says to one."""
    for body in (b"{}", b"[]", b"{"):
        try:
            check(body)
        except InvalidInput as error:
            return error
        except Exception:  # a validator of the user's may raise anything
            continue
    return InvalidInput(what, [{"field": "", "message": "Invalid JSON", "type": "json_invalid"}])


def _any_of(schemas: list[Json]) -> Json:
    unique = _unique(schemas)
    return unique[0] if len(unique) == 1 else {"anyOf": unique}


def _unique(items: Iterable[Any]) -> list[Any]:
    result: list[Any] = []
    for item in items:
        if item not in result:
            result.append(item)
    return result


def operation_ids(events: Iterable[str]) -> dict[str, str]:
    """For each event the name of a method that sends it, as ``send_add_to_cart``; where two would be the same, those
    that come later get a number."""
    result: dict[str, str] = {}
    for event in events:
        plain = unicodedata.normalize("NFKD", event).encode("ascii", "ignore").decode()
        words = re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+", plain)
        name = "_".join(["send", *words]).lower() if words else "send_event"
        candidates = (name if number == 1 else f"{name}_{number}" for number in count(1))
        result[event] = next(one for one in candidates if one not in result.values())
    return result
