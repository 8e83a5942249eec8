"""The tools of an instance, and those of a service. They do what requests to ``/wf/`` do, for the same principals: the
engine makes all decisions."""

from __future__ import annotations

import inspect
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mcp_types import Tool, ToolAnnotations

from cloud_adapter.engine.engine import Engine
from cloud_adapter.engine.events import BUFFERED
from cloud_adapter.errors import InvalidRequest
from cloud_adapter.http.bodies import check_size, check_values
from cloud_adapter.http.creation import creation_schema
from cloud_adapter.http.mcp.schemas import IDEMPOTENCY_KEY, KEY_SCHEMA, Json, any_of, object_schema, tool_names
from cloud_adapter.http.rights import all_described, may, may_send
from cloud_adapter.http.views import view_data
from workflow_core import Action, Principal, Workflow
from workflow_core.machine.events import Accepted
from workflow_core.program.cases import ClientCase, EventCase

GET = "get"

ID_SCHEMA: Json = {"type": "string", "description": "The id of the instance."}


class UnknownTool(Exception):
    """There is no tool of this name. The message lists the available ones."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who uses the tools, of which engine.

    Attributes:
        principal: None: code of this process.
        limit: returns the most bytes of the input of an event of a workflow.
        max_body_bytes: the most bytes of the initial fields.
        prefix: see ``prefixes.prefix_of``.
    """

    engine: Engine
    principal: Principal | None
    limit: Callable[[str, str, Principal | None], int]
    max_body_bytes: int
    prefix: str

    async def get(self, workflow: str, id: str) -> Json:
        """Returns an instance, as ``GET /wf/{name}/{id}`` does."""
        return view_data(await self.engine.get(workflow, id, principal=self.principal), self.prefix)

    async def start(self, workflow: str, arguments: Mapping[str, Any]) -> Json:
        """Creates an instance, as ``POST /wf/{name}/{id}`` does."""
        id, key = _text(arguments, "id"), _optional_text(arguments, IDEMPOTENCY_KEY)
        body = _body(arguments, "fields", self.max_body_bytes)
        view = await self.engine.create(workflow, id, body, key=key, principal=self.principal)
        return view_data(view, self.prefix)

    async def send(self, workflow: str, id: str, event: str, arguments: Mapping[str, Any]) -> Json:
        """Sends an event, as ``POST /wf/{name}/{id}/{event}`` does, and returns its output.

        Raises:
            InvalidRequest: the event has a ``verify``. A call of a tool is not the request that its sender has signed.
        """
        if workflow in self.engine.workflows and _is_signed(self.engine.workflow(workflow), event):
            raise InvalidRequest(
                f"the event {event!r} cannot be sent with a tool, because a signature of its request is checked. Its "
                f"sender has to call POST /wf/{workflow}/{{id}}/{{event}}. Nothing was changed"
            )
        response = await self.engine.handle_event(
            workflow,
            id,
            event,
            _body(arguments, "input", self.limit(workflow, event, self.principal)),
            key=_optional_text(arguments, IDEMPOTENCY_KEY),
            thread_id=_optional_text(arguments, "thread"),
            principal=self.principal,
        )
        return {"state": "buffered"} if response == BUFFERED else {"output": json.loads(response)}


class Toolbox(ABC):
    """Tools that a client can list and call."""

    def __init__(self, caller: Caller) -> None:
        self.caller = caller

    @abstractmethod
    async def available(self) -> Sequence[Tool]:
        """Returns the tools that the caller can use now.

        Raises:
            WorkflowError: there are none, for a reason.
        """

    @abstractmethod
    async def call(self, name: str, arguments: Mapping[str, Any]) -> Json:
        """Calls a tool and returns its result.

        Raises:
            UnknownTool
            WorkflowError: nothing was changed, or it is unknown whether something was; see ``Engine``.
        """

    def changes_with(self, name: str) -> bool:
        """Whether a call of a tool may change which tools there are."""
        return False


class InstanceTools(Toolbox):
    """The tools of an instance: ``get``, and one for each event that it accepts now and the caller may send.

    All events of the definition without a ``verify`` can be called, because the state may have changed since the tools
    were listed. The error then says what is accepted.
    """

    def __init__(self, caller: Caller, workflow: str, id: str) -> None:
        super().__init__(caller)
        self.workflow, self.id = workflow, id
        self.cls = caller.engine.workflow(workflow)
        self.names = tool_names(self.cls.__program__.events, reserved=[GET])

    async def available(self) -> Sequence[Tool]:
        """See ``Toolbox.available``."""
        view = await self.caller.engine.get(self.workflow, self.id, principal=self.caller.principal)
        waits: dict[str, list[Accepted]] = {}
        for accepted in view.accepted:
            if isinstance(accepted.case, ClientCase) and not _is_signed(self.cls, accepted.case.event):
                waits.setdefault(accepted.case.event, []).append(accepted)
        about = f"The state of {self.workflow} {self.id!r}, and the events that it accepts now."
        return [_reading(GET, about, {}), *(self._tool(event, found) for event, found in waits.items())]

    async def call(self, name: str, arguments: Mapping[str, Any]) -> Json:
        """See ``Toolbox.call``."""
        if name == GET:
            _check(arguments)
            return await self.caller.get(self.workflow, self.id)
        event = next((event for event, tool in self.names.items() if tool == name), None)
        if event is None:
            offered = [tool for event, tool in self.names.items() if not _is_signed(self.cls, event)]
            raise UnknownTool(_unknown(name, [GET, *offered]))
        _check(arguments, "input", "thread", IDEMPOTENCY_KEY)
        return await self.caller.send(self.workflow, self.id, event, arguments)

    def changes_with(self, name: str) -> bool:
        """See ``Toolbox.changes_with``."""
        return name != GET

    def _tool(self, event: str, waits: Sequence[Accepted]) -> Tool:
        cases = [accepted.case for accepted in waits]
        texts = dict.fromkeys(_docstring(case.handler) for case in cases if isinstance(case, EventCase))
        inputs = [case.signature.input_schema for case in cases if case.signature and case.signature.input_schema]
        properties: dict[str, Json] = {}
        required = []
        if inputs:
            properties["input"] = any_of(inputs)
            if len(inputs) == len(cases) and not any("default" in schema for schema in inputs):
                required.append("input")
        if len(waits) > 1:
            threads = [accepted.thread.id for accepted in waits]
            about = "Which of the threads that wait for the event receives it. By default the first one."
            properties["thread"] = {"type": "string", "enum": threads, "description": about}
        return Tool(
            name=self.names[event],
            title=event,
            description="\n\n".join(filter(None, texts)) or f"Sends the event {event!r}.",
            input_schema=object_schema(properties | {IDEMPOTENCY_KEY: KEY_SCHEMA}, required),
        )


class ServiceTools(Toolbox):
    """The tools of a service. For each workflow: start an instance, get one, and send it an event."""

    async def available(self) -> Sequence[Tool]:
        """See ``Toolbox.available``."""
        return [tool for name, cls in self._workflows().items() for tool in self._tools(name, cls)]

    async def call(self, name: str, arguments: Mapping[str, Any]) -> Json:
        """See ``Toolbox.call``."""
        verb, _, workflow = name.partition("_")
        workflows = self._workflows()
        if workflow in workflows and verb == "start":
            _check(arguments, "id", "fields", IDEMPOTENCY_KEY)
            return await self.caller.start(workflow, arguments)
        if workflow in workflows and verb == "get":
            _check(arguments, "id")
            return await self.caller.get(workflow, _text(arguments, "id"))
        if workflow in workflows and verb == "send":
            _check(arguments, "id", "event", "input", "thread", IDEMPOTENCY_KEY)
            return await self.caller.send(workflow, _text(arguments, "id"), _text(arguments, "event"), arguments)
        raise UnknownTool(_unknown(name, [tool.name for tool in await self.available()]))

    def _workflows(self) -> dict[str, type[Workflow]]:
        return all_described(self.caller.engine, self.caller.principal)

    def _tools(self, name: str, cls: type[Workflow]) -> list[Tool]:
        principal, tools = self.caller.principal, []
        text = _docstring(cls)
        if may(principal, cls, Action.CREATE):
            fields = creation_schema(cls, principal)
            properties = {"id": ID_SCHEMA, "fields": fields, IDEMPOTENCY_KEY: KEY_SCHEMA}
            required = ["id", "fields"] if fields.get("required") else ["id"]
            about = f"Starts an instance of {name} under an id that you choose. {text}".strip()
            schema = object_schema(properties, required)
            tools.append(Tool(name=f"start_{name}", description=about, input_schema=schema))
        if not may(principal, cls, Action.READ):
            return tools
        about = f"The state of an instance of {name}, and the events that it accepts now, with their input schemas."
        tools.append(_reading(f"get_{name}", about, {"id": ID_SCHEMA}))
        cases = [(event, found) for event, found in cls.__program__.events.items() if not _is_signed(cls, event)]
        events = [event for event, found in cases if any(may_send(principal, cls, case) for _, case in found)]
        if events:
            thread = {"type": "string", "description": "Which thread receives it, if several wait for it."}
            properties = {"id": ID_SCHEMA, "event": {"type": "string", "enum": events}}
            properties |= {"input": {"description": f"See the schemas in the result of get_{name}."}}
            schema = object_schema(properties | {"thread": thread, IDEMPOTENCY_KEY: KEY_SCHEMA}, ["id", "event"])
            about = f"Sends an event to an instance of {name}. get_{name} lists the events that it accepts now."
            tools.append(Tool(name=f"send_{name}", description=about, input_schema=schema))
        return tools


def _is_signed(cls: type[Workflow], event: str) -> bool:
    """Whether a signature decides who may send an event, at least in one of the states that accept it."""
    return cls.__program__.event(event) in cls.__program__.verified


def _reading(name: str, description: str, properties: Mapping[str, Json]) -> Tool:
    schema, annotations = object_schema(properties, properties), ToolAnnotations(read_only_hint=True)
    return Tool(name=name, description=description, input_schema=schema, annotations=annotations)


def _docstring(of: Any) -> str:
    """The docstring of an object, without an inherited one."""
    own = vars(of).get("__doc__") if isinstance(of, type) else getattr(of, "__doc__", None)
    return inspect.cleandoc(own) if own and getattr(of, "__name__", "") != "<lambda>" else ""


def _unknown(name: str, available: Sequence[str]) -> str:
    return f"unknown tool {name[:100]!r}. Available: {', '.join(available) or 'none'}"


def _check(arguments: Mapping[str, Any], *known: str) -> None:
    """Raises ``InvalidRequest`` for an argument that a tool does not have."""
    for name in arguments:
        if name not in known:
            raise InvalidRequest(f"unknown argument {name[:100]!r}. Available: {', '.join(known) or 'none'}")


def _text(arguments: Mapping[str, Any], name: str) -> str:
    if name not in arguments:
        raise InvalidRequest(f"the argument {name!r} is missing")
    text = arguments[name]
    if not isinstance(text, str):
        raise InvalidRequest(f"the argument {name!r} must be a text")
    return text


def _optional_text(arguments: Mapping[str, Any], name: str) -> str | None:
    return _text(arguments, name) if name in arguments else None


def _body(arguments: Mapping[str, Any], name: str, limit: int) -> bytes:
    """Returns an argument as the body of a request; empty if it is not given."""
    if name not in arguments:
        return b""
    body = json.dumps(arguments[name], ensure_ascii=False).encode("utf-8", "surrogatepass")
    check_size(len(body), limit)
    check_values(body)
    return body
