"""Serves toolboxes over MCP's streamable HTTP transport, with the official SDK.

Each request is served on its own, without a session: a function has no memory between requests, and the next one may
reach another process. The middleware of the API has found the principal of each request.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from importlib.metadata import version
from typing import Any

import anyio
from mcp.server import NotificationOptions, Server, ServerRequestContext
from mcp.server.models import InitializationOptions
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp.server.subscriptions import InMemorySubscriptionBus, ListenHandler, ToolsListChanged
from mcp.shared.exceptions import MCPError
from mcp_types import (
    INTERNAL_ERROR,
    INVALID_PARAMS,
    CallToolRequestParams,
    CallToolResult,
    ListToolsResult,
    PaginatedRequestParams,
    SubscriptionsListenRequestParams,
    SubscriptionsListenResult,
    TextContent,
    ToolListChangedNotification,
)
from mcp_types.version import MODERN_PROTOCOL_VERSIONS
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Message, Receive, Scope, Send

from cloud_adapter.engine.engine import Engine
from cloud_adapter.engine.permissions import NO_CREDENTIALS
from cloud_adapter.errors import Unauthenticated
from cloud_adapter.http import problems
from cloud_adapter.http.bodies import read_json
from cloud_adapter.http.mcp.tools import Caller, InstanceTools, ServiceTools, Toolbox, UnknownTool
from cloud_adapter.http.prefixes import prefix_of
from cloud_adapter.http.principals import principal_of
from cloud_adapter.http.queries import with_query
from cloud_adapter.http.rights import all_described
from workflow_core import Action, Principal, WorkflowError

ENVELOPE_BYTES = 4_000
"""How much larger than its input the request of a call may be."""

POLL_SECONDS = 2.0
"""How often the tools of an instance are read for a client that listens to changes."""

LISTEN_SECONDS = 300.0
"""How long a client may listen before it has to ask again."""

LISTENERS_OF_PRINCIPAL = 10
"""How many requests of one principal may listen to changes at the same time. Anonymous callers are one principal."""

LISTENERS_MAX = 100
"""How many requests may listen in one process, because each of them reads an instance every ``POLL_SECONDS``."""

Problem = Callable[[Request, Exception], dict[str, Any]]


def mcp_routes(
    engine: Engine, max_body_bytes: int, limit: Callable[[str, str, Principal | None], int], problem: Problem
) -> list[Route]:
    """Returns the routes of the tools.

    Args:
        max_body_bytes: the most bytes of the initial fields of an instance.
        limit: returns the most bytes of the input of an event of a workflow, for a principal.
        problem: returns the problem document of an error.
    """
    endpoint = _Endpoint(engine, max_body_bytes, limit, problem)
    return [
        Route("/mcp", with_query(endpoint.service), methods=["POST"]),
        Route("/mcp/{name}/{id}", with_query(endpoint.instance), methods=["POST"]),
    ]


class _Endpoint:
    """The handlers of the routes; for the arguments, see ``mcp_routes``."""

    def __init__(
        self,
        engine: Engine,
        max_body_bytes: int,
        limit: Callable[[str, str, Principal | None], int],
        problem: Problem,
    ) -> None:
        self.engine = engine
        self.max_body_bytes = max_body_bytes
        self.limit = limit
        self.problem = problem
        self.listeners = _Listeners()

    async def service(self, request: Request) -> Response:
        """The tools of the service."""
        principal = principal_of(request)
        if principal is not None and principal.kind == "anonymous" and not all_described(self.engine, principal):
            raise Unauthenticated(NO_CREDENTIALS)  # the status tells clients to log in
        return await self._serve(request, ServiceTools(self._caller(request)), self.engine.workflows)

    async def instance(self, request: Request) -> Response:
        """The tools of an instance."""
        name, id = request.path_params["name"], request.path_params["id"]
        self.engine.check_role(name, Action.READ, principal_of(request), id=id)
        return await self._serve(request, InstanceTools(self._caller(request), name, id), [name])

    def _caller(self, request: Request) -> Caller:
        return Caller(self.engine, principal_of(request), self.limit, self.max_body_bytes, prefix_of(request))

    async def _serve(self, request: Request, toolbox: Toolbox, names: Iterable[str]) -> Response:
        principal, programs = principal_of(request), [self.engine.workflows[name].__program__ for name in names]
        limits = [self.limit(program.workflow, event, principal) for program in programs for event in program.events]
        body = await read_json(request, max(limits, default=self.max_body_bytes) + ENVELOPE_BYTES)
        listening = partial(self.listeners.one_more, "" if principal is None else principal.id)
        return _Exchange(_server(toolbox, partial(self.problem, request), listening), body)


class _Listeners:
    """Counts the requests that listen to changes in this process, by the ids of their principals."""

    def __init__(self) -> None:
        self.open: Counter[str] = Counter()

    @contextmanager
    def one_more(self, principal: str) -> Iterator[None]:
        """Counts a request while it listens.

        Raises:
            MCPError: too many listen.
        """
        if self.open[principal] >= LISTENERS_OF_PRINCIPAL:
            raise _too_many(f"a principal may listen with {LISTENERS_OF_PRINCIPAL} requests at the same time")
        if self.open.total() >= LISTENERS_MAX:
            raise _too_many(f"{LISTENERS_MAX} requests may listen at the same time")
        self.open[principal] += 1
        try:
            yield
        finally:
            self.open[principal] -= 1
            self.open += Counter()  # without the principals of which none listens


def _too_many(limit: str) -> MCPError:
    detail = f"{limit}: close one, or list the tools again from time to time"
    return MCPError(INTERNAL_ERROR, detail, {"status": 429, "detail": detail})


class _Exchange(Response):
    """The response of the SDK to one request.

    Args:
        body: the body of the request, which is already checked.
    """

    def __init__(self, server: Server[Any], request_body: bytes) -> None:
        super().__init__()
        self.server = server
        self.request_body = request_body

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        limit = max(1, len(self.request_body))
        manager = StreamableHTTPSessionManager(self.server, stateless=True, max_request_body_size=limit)
        async with manager.run():
            await manager.handle_request(scope, _after(self.request_body, receive), send)


def _after(body: bytes, receive: Receive) -> Receive:
    """Receives a body that was read before, and then what follows it."""
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def next_message() -> Message:
        return messages.pop() if messages else await receive()

    return next_message


class _Server(Server[Any]):
    """A server whose tools change."""

    def create_initialization_options(
        self,
        notification_options: NotificationOptions | None = None,
        experimental_capabilities: dict[str, dict[str, Any]] | None = None,
        extensions: dict[str, dict[str, Any]] | None = None,
    ) -> InitializationOptions:
        """Returns the options that a client of an older protocol gets."""
        changes = notification_options or NotificationOptions(tools_changed=True)
        return super().create_initialization_options(changes, experimental_capabilities, extensions)


def _server(
    toolbox: Toolbox,
    problem: Callable[[Exception], dict[str, Any]],
    listening: Callable[[], AbstractContextManager[None]],
) -> Server[Any]:
    async def list_tools(_: ServerRequestContext[Any, Any], __: PaginatedRequestParams | None) -> ListToolsResult:
        try:
            return ListToolsResult(tools=list(await toolbox.available()), ttl_ms=0, cache_scope="private")
        except Exception as error:
            raise _protocol_error(_problem(error)) from error

    async def call_tool(context: ServerRequestContext[Any, Any], params: CallToolRequestParams) -> CallToolResult:
        try:
            result = await toolbox.call(params.name, params.arguments or {})
        except UnknownTool as error:
            raise MCPError(INVALID_PARAMS, str(error)) from error
        except Exception as error:
            return _result(_problem(error), is_error=True)
        if toolbox.changes_with(params.name) and context.protocol_version not in MODERN_PROTOCOL_VERSIONS:
            # Clients of newer protocols listen instead.
            await context.session.send_notification(ToolListChangedNotification(), context.request_id)
        return _result(result)

    async def listen(
        context: ServerRequestContext[Any, Any], params: SubscriptionsListenRequestParams
    ) -> SubscriptionsListenResult:
        with listening():
            return await _listen(toolbox, context, params)

    def _problem(error: Exception) -> dict[str, Any]:
        return problem(error) if isinstance(error, WorkflowError) else problems.unexpected(error, "the MCP endpoint")

    options: dict[str, Any] = {"on_subscriptions_listen": listen} if isinstance(toolbox, InstanceTools) else {}
    return _Server(
        "gorchestrate",
        version=version("gorchestrate"),
        on_list_tools=list_tools,
        on_call_tool=call_tool,
        get_tool_input_schema=lambda _: None,  # otherwise the SDK lists the tools before each call
        **options,
    )


def _result(value: dict[str, Any], *, is_error: bool = False) -> CallToolResult:
    text = TextContent(text=json.dumps(value, ensure_ascii=False))
    return CallToolResult(content=[text], structured_content=value, is_error=is_error)


def _protocol_error(problem: dict[str, Any]) -> MCPError:
    code = INTERNAL_ERROR if problem["status"] >= 500 else INVALID_PARAMS
    return MCPError(code, problem["detail"], problem)


async def _listen(
    toolbox: Toolbox, context: ServerRequestContext[Any, Any], params: SubscriptionsListenRequestParams
) -> SubscriptionsListenResult:
    """Tells a client each time its tools have changed, for some minutes."""
    bus = InMemorySubscriptionBus()
    handler = ListenHandler(bus)
    try:
        seen = await toolbox.available()
    except WorkflowError as error:
        raise MCPError(INVALID_PARAMS, str(error)) from error

    async def watch() -> None:
        nonlocal seen
        with anyio.move_on_after(LISTEN_SECONDS):
            while True:
                await anyio.sleep(POLL_SECONDS)
                try:
                    tools = await toolbox.available()
                except WorkflowError:
                    break  # the client learns why when it asks for the tools
                if tools != seen:
                    seen = tools
                    await bus.publish(ToolsListChanged())
        handler.close()

    async with anyio.create_task_group() as group:
        group.start_soon(watch)
        result = await handler(context, params)
        group.cancel_scope.cancel()
    return result
