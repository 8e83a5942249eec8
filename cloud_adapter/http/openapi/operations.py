"""Generates the OpenAPI 3.1 document of a workflow from its definition. This module contains the operations.

The schemas are in ``schemas``, the errors in ``errors``, the sample values in ``samples``.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Iterable
from importlib.metadata import version
from itertools import islice
from typing import Any
from urllib.parse import quote

from cloud_adapter import errors
from cloud_adapter.engine.operations import ACTIONS, Action
from cloud_adapter.http.creation import check_creation, creation_schema
from cloud_adapter.http.graphs import Format
from cloud_adapter.http.openapi import senders
from cloud_adapter.http.openapi.errors import BODY, CREATED, FOUND, MOVED, RETRY_AFTER, SENT, Errors, Kind
from cloud_adapter.http.openapi.operation_ids import operation_ids
from cloud_adapter.http.openapi.parameters import KEY, PREFER, TOKEN_PARAMETER, header, list_parameters, query
from cloud_adapter.http.openapi.samples import sample
from cloud_adapter.http.openapi.schemas import Schemas, ref
from cloud_adapter.http.openapi.security import OPEN, DocumentAccess, merged
from cloud_adapter.http.rights import may, may_send
from cloud_adapter.names import ID_BYTES_MAX
from cloud_adapter.ports import PAGE_SIZE_MAX
from workflow_core import Action as Permission
from workflow_core import EventNotAccepted, InvalidInput, RepairRefused, Status, Workflow, WorkflowError
from workflow_core.access import narrows
from workflow_core.errors import UnknownStatement
from workflow_core.program.cases import ClientCase, EventCase
from workflow_core.signatures import HandlerSignature

Json = dict[str, Any]

INSTANCES = "instances"
"""The tag of operations that every instance has."""


def document(cls: type[Workflow], server: str, access: DocumentAccess = OPEN, *, max_body_bytes: int) -> Json:
    """Returns the OpenAPI document of a workflow that is served at the URL ``server``.

    Args:
        access: who the document is for. It contains only what that principal may do.
        max_body_bytes: the limit of the inputs of events without a limit of their own.
    """
    return _Document(cls, server, access, max_body_bytes).build()


def example_id(workflow: str) -> str:
    """Returns the id of the instance in the examples."""
    return f"{workflow}-1"


class _Document:
    def __init__(self, cls: type[Workflow], server: str, access: DocumentAccess, max_body_bytes: int) -> None:
        self.cls = cls
        self.name: str = cls.__workflow_name__
        self.server = server
        self.max_body_bytes = max_body_bytes
        self.access = access
        self.principal = access.principal
        self.schemas = Schemas()
        self.used_tags: list[str] = []
        self.errors = Errors(self.name, example_id(self.name))
        may_read, may_operate = may(self.principal, cls, Permission.READ), may(self.principal, cls, Permission.OPERATE)
        state = self.schemas.take(cls.__fields_schema__()) if may_read else {"type": "object"}
        # For one instance, `authorize` may take the right to operate it away.
        is_narrowed = narrows(cls) and bool(access.schemes)
        self.schemas.take_instance(state, operator=may_operate, public=is_narrowed or not may_operate)
        self.denied: tuple[Kind, ...] = (errors.Forbidden,) if access.schemes else ()
        self.rejected: tuple[Kind, ...] = (errors.Unauthenticated, errors.InvalidCredential) if access.schemes else ()
        self.rejected += (errors.TooManyRequests,) if access.limited else ()

    def build(self) -> Json:
        paths = self.paths()
        components: Json = {"schemas": self.schemas.definitions, "examples": self.errors.shared}
        if schemes := senders.security_schemes(self.access):
            components["securitySchemes"] = schemes
        return {
            "openapi": "3.1.0",
            "info": {
                "title": self.name,
                "version": version("gorchestrate"),
                "description": _text(self.cls) or f"The workflow `{self.name}`.",
            },
            "externalDocs": {
                "description": "This document as a page.",
                "url": f"{self.server}/reference/{self.name}",
            },
            "servers": [{"url": self.server}],
            "tags": self.tags(),
            "security": self.access.security,
            "paths": paths,
            "components": components,
        }

    def paths(self) -> Json:
        instance, cls, principal = f"/wf/{self.name}/{{id}}", self.cls, self.principal
        may_read = may(principal, cls, Permission.READ)
        paths: Json = {}

        def add(path: str, method: str, operation: Json, *parts: Json) -> None:
            shared = {"parameters": [self.id(), *parts]} if path.startswith(instance) else {}
            paths.setdefault(path, shared)[method] = operation

        if may(principal, cls, Permission.CREATE):
            add(instance, "post", self.create())
        if may_read:
            add(instance, "get", self.get())
        if may(principal, cls, Permission.LIST):
            add(f"/wf/{self.name}", "get", self.page())
        if may_read:
            add(f"{instance}/outcomes/{{token}}", "get", self.outcome(), TOKEN_PARAMETER)
            add(f"{instance}/graph", "get", self.instance_graph())
        add(f"/graph/{self.name}", "get", self.definition_graph())
        names = operation_ids(cls.__program__.events)
        for event, cases in cls.__program__.events.items():
            # An event may have the name graph.
            if allowed := [found for found in cases if found[1].verify or may_send(principal, cls, found[1])]:
                add(f"{instance}/{quote(event, safe='')}", "post", self.event(event, names[event], allowed))
        for kind in ACTIONS.values() if may(principal, cls, Permission.OPERATE) else ():
            add(f"{instance}/{kind.name}", "post", self.action(kind))
        return paths

    def tags(self) -> list[Json]:
        texts = {INSTANCES: "Operations that every instance has."} | senders.TAG_TEXTS
        return [
            {"name": tag, "description": texts.get(tag, f"Events that the role `{tag}` sends.")}
            for tag in self.used_tags
        ]

    def id(self) -> Json:
        return {
            "name": "id",
            "in": "path",
            "required": True,
            "description": "The id of the instance, chosen by its creator: printable text without `/`.",
            "schema": {"type": "string", "minLength": 1, "maxLength": ID_BYTES_MAX},
            "example": example_id(self.name),
        }

    # --- operations ----------------------------------------------------------------------

    def create(self) -> Json:
        def check(body: bytes) -> None:
            check_creation(self.cls, body, self.principal)

        fields = self.schemas.take(creation_schema(self.cls, self.principal))
        # Only here, unknown fields are rejected.
        schema = {"allOf": [fields], "unevaluatedProperties": False}
        result = self.operation(
            "create_instance",
            "Create an instance",
            "The response shows the instance as it was stored. The instance then runs to its first wait by itself.",
            {"201": self.instance("Created.", {"Location": header("The path of the instance.")})},
            (errors.InvalidRequest, *self.denied, *CREATED, *MOVED, errors.Unavailable),
            known=[_refused(f"the initial fields of workflow {self.name!r}", check)],
        )
        first = sample(fields, self.schemas.definitions, "required")
        media = {"schema": schema} | self.example(first if first != {} else None, check)
        required = not _takes(check, b"")
        limit = f"At most {self.max_body_bytes:,} bytes."
        description = f"The initial fields. Omitted fields have their defaults. {limit}"
        body = {"description": description, "required": required, "content": {"application/json": media}}
        return result | {"parameters": [KEY], "requestBody": body}

    def get(self) -> Json:
        return self.operation(
            "get_instance",
            "Get an instance",
            "",
            {"200": self.instance("The instance.")},
            (*FOUND, errors.Unavailable),
        )

    def outcome(self) -> Json:
        content = {"application/json": {"schema": ref("Outcome")}}
        return self.operation(
            "get_outcome",
            "Get the outcome of an event",
            "For an event that was accepted for later. The outcome is kept for a day.",
            {
                "200": {"description": "The event was handled, buffered or refused.", "content": content},
                "202": {"description": "The event still waits.", "headers": RETRY_AFTER, "content": content},
            },
            (*FOUND, errors.OutcomeNotFound, errors.Unavailable),
        )

    def page(self) -> Json:
        content = {"application/json": {"schema": ref("InstancePage")}}
        return self.operation(
            "list_instances",
            "List the instances",
            "The list is paged. Repeat the request with the `cursor` of the response until it is null. In the orders "
            "`created` and `id`, an instance that changes in the meantime is not missed.",
            {"200": {"description": "A page.", "content": content}},
            (errors.InvalidRequest, *self.denied, errors.DamagedDocument, errors.Unavailable),
            known=[errors.InvalidRequest(f"limit is 1000: it must be 1 to {PAGE_SIZE_MAX}")],
        ) | {"parameters": list_parameters(self.cls)}

    def instance_graph(self) -> Json:
        return self.graph(
            "get_instance_graph", "Get the diagram of an instance", Format.SVG, (*FOUND, errors.Unavailable)
        )

    def definition_graph(self) -> Json:
        return self.graph("get_graph", "Get the diagram of the definition", Format.MERMAID, (errors.InvalidRequest,))

    def graph(self, id: str, summary: str, default: Format, kinds: Iterable[Kind]) -> Json:
        schemas: dict[Format, Json] = {format: {"type": "string"} for format in Format}
        schemas[Format.JSON] = {"type": "array", "items": {"type": "object"}}
        content = {format.media_type: {"schema": schema} for format, schema in schemas.items()}
        description = "An image, a Mermaid flowchart, or the statements as data."
        success: Json = {"200": {"description": description, "content": content}}
        formats = {"enum": [format.value for format in Format], "default": default.value}
        return self.operation(id, summary, "", success, kinds) | {
            "parameters": [query("format", "The format.", formats)]
        }

    def action(self, kind: type[Action]) -> Json:
        refused = kind.refusal(example_id(self.name))
        result = self.operation(
            f"{kind.name}_instance",
            f"{kind.title} an instance",
            _text(kind),
            {"200": self.instance("Done, or nothing to do.")},
            (
                *FOUND,
                *self.denied,
                UnknownStatement,
                errors.InstanceEnded,
                RepairRefused,
                *BODY,
                *MOVED,
                errors.Busy,
                errors.Unavailable,
            ),
            known=[refused, _refused("the body of the request", kind.from_json)],
        )
        media = {"schema": self.schemas.take(kind.model_json_schema())}
        return result | {
            "requestBody": {
                "description": "Who requests the operation and why.",
                "required": not _takes(kind.from_json, b""),
                "content": {"application/json": media},
            }
        }

    def event(self, event: str, id: str, cases: list[tuple[str, ClientCase]]) -> Json:
        selects = [select for select, _ in cases]
        texts = _unique(_text(case.handler) for _, case in cases if isinstance(case, EventCase))
        checks = _unique(_text(case.verify) for _, case in cases if case.verify)
        signatures = [case.signature for _, case in cases]
        outputs = [self.schemas.take(signature.output_schema) for signature in signatures]
        refusals = senders.refusals(cases, self.access)
        result = self.operation(
            id,
            f"Send the event {event}",
            "\n\n".join(filter(None, [*texts, senders.text(cases), *checks, _accepted_in(selects)])),
            {"200": self.output(outputs, signatures[0])},
            (*FOUND, *self.denied, *refusals, *SENT, *MOVED, errors.Busy, errors.Unavailable),
            known=self.refusals(event, signatures[0]),
            tags=senders.tags(cases),
        ) | senders.security(cases, self.access)
        accepted = "Accepted for later, because a step runs and the request has the preference `respond-async`."
        if any(case.buffered for _, case in cases):
            accepted += " Or, without `Location`: buffered, because a step runs or no thread waits for the event yet."
        result["responses"]["202"] = {
            "description": f"{accepted} There is no body.",
            "headers": {
                "Location": header("The path of the event's outcome."),
                "Preference-Applied": header("`respond-async` if the event was accepted for later."),
            },
        }
        thread = "The thread that receives the event, if several wait for it: see `events` of the instance."
        wait = "The wait that receives the event. A later wait for the same event does not accept it."
        parameters = [query("thread", thread, {"type": "string"}), query("wait_id", wait, {"type": "string"}), KEY]
        result["parameters"] = [*parameters, PREFER]
        taking = [signature for signature in signatures if signature.input_schema is not None]
        inputs = [self.schemas.take(signature.input_schema or {}) for signature in taking]
        if inputs:
            check = _validator(event, taking[0])
            limit = self.cls.__program__.max_bytes(event, self.max_body_bytes)
            value = sample(inputs[0], self.schemas.definitions)
            result["requestBody"] = {
                "description": f"The input of the event: at most {limit:,} bytes.",
                "required": not any(_takes(_validator(event, signature), b"") for signature in signatures),
                "content": {"application/json": {"schema": _any_of(inputs)} | self.example(value, check)},
            }
        return result

    def refusals(self, event: str, signature: HandlerSignature) -> list[WorkflowError]:
        """The specific errors of this event."""
        events = self.cls.__program__.events
        selects = {select for select, _ in events[event]}
        others = [cases for cases in events.values() if selects.isdisjoint(select for select, _ in cases)]
        sent = (case.event for cases in others for _, case in cases if may_send(self.principal, self.cls, case))
        return [
            EventNotAccepted(event, list(islice(sent, 1)), Status.WAITING if others else Status.FINISHED),
            _refused(f"event {event!r}", _validator(event, signature)),
        ]

    # --- parts of operations -------------------------------------------------------------

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
        answers = success | self.errors.responses((*kinds, *self.rejected), known)
        for status, answer in self.access.refusals_in_front.items():
            answers[status] = merged(answers[status], answer) if status in answers else answer
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
        return {"description": "Handled. The body is the handler's output.", "content": {"application/json": media}}

    def example(self, value: Any, check: Callable[[bytes], Any]) -> Json:
        """The value as an example, if it is valid."""
        return {"example": value} if value is not None and _takes(check, json.dumps(value).encode()) else {}


def _text(of: Any) -> str:
    """The docstring of an object as Markdown, without an inherited one."""
    own = vars(of).get("__doc__") if isinstance(of, type) else getattr(of, "__doc__", None)
    return inspect.cleandoc(own).replace("``", "`") if own and getattr(of, "__name__", "") != "<lambda>" else ""


def _accepted_in(selects: list[str]) -> str:
    return "Accepted in: " + ", ".join(f"*{select}*" for select in selects) + "."


def _validator(event: str, signature: HandlerSignature) -> Callable[[bytes], Any]:
    return lambda body: signature.validate_json(event, body)


def _takes(check: Callable[[bytes], Any], body: bytes) -> bool:
    try:
        check(body)
    except Exception:  # user validators may raise anything
        return False
    return True


def _refused(what: str, check: Callable[[bytes], Any]) -> InvalidInput:
    """The error for a wrong input, as the check itself reports it."""
    for body in (b"{}", b"[]", b"{"):
        try:
            check(body)
        except InvalidInput as error:
            return error
        except Exception:  # user validators may raise anything
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
