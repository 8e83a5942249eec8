"""The public HTTP application: creates instances, sends events, shows instances. The engine makes all decisions.

The routes are ``/definition/{name}``, ``/graph/{name}``, ``/swagger/{name}``, ``/reference/{name}``, ``/wf/...`` for
each workflow, the pages under ``/ui/``, and the tools under ``/mcp``. The routes that tasks call are in
``cloud_adapter.http.worker``.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping
from functools import partial
from secrets import token_hex
from typing import Any

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Match, Route
from starlette.types import Lifespan, Scope

from cloud_adapter.callbacks import PARAMETER as CALLBACK
from cloud_adapter.engine.engine import Engine
from cloud_adapter.engine.events import BUFFERED, LATER
from cloud_adapter.engine.idempotency import stored_key
from cloud_adapter.engine.kept_events import outcome_token
from cloud_adapter.engine.operations import ACTIONS, REPAIRS, Operation
from cloud_adapter.errors import Forbidden, InvalidRequest, OutcomeNotFound
from cloud_adapter.http import graphs, health, problems, progress
from cloud_adapter.http.authentication import OPEN, Authenticated, Authentication
from cloud_adapter.http.bodies import read_json
from cloud_adapter.http.callers import EVERYONE, AllowedCallers, Gate
from cloud_adapter.http.concealment import public_view
from cloud_adapter.http.creation import creation_schema
from cloud_adapter.http.graphs import Format
from cloud_adapter.http.pages.rendering import STATIC_ROUTE
from cloud_adapter.http.preferences import APPLIED, RESPOND_ASYNC, prefers_async
from cloud_adapter.http.prefixes import PublicUrl, base_url, is_page, prefix_of
from cloud_adapter.http.principals import is_known, principal_of
from cloud_adapter.http.queries import SEARCH, Handler, searching, with_query
from cloud_adapter.http.rate_limit import UNLIMITED, RateLimit, RateLimited
from cloud_adapter.http.rights import all_described, described, may
from cloud_adapter.http.views import instance_url, outcome_data, outcome_url, summary, view_data
from cloud_adapter.observability.line_limit import LineLimit
from cloud_adapter.ports import PAGE_SIZE, Order
from workflow_core import Action, Principal, Workflow
from workflow_core.access import is_everyone
from workflow_core.diagrams import describe
from workflow_core.diagrams.live import Live
from workflow_core.program.program import Program

LIST_PARAMETERS = ("status", "order", "limit", "cursor")
"""The query parameters of the list of instances, beside those for search fields."""

SEND_PARAMETERS = ("thread", "wait_id", CALLBACK)

IDEMPOTENCY_HEADER = "Idempotency-Key"


def create_api(
    engine: Engine,
    *,
    max_body_bytes: int,
    callers: AllowedCallers = EVERYONE,
    authentication: Authentication = OPEN,
    limit: RateLimit = UNLIMITED,
    public: bool = False,
    repair: bool = False,
    ui: bool = False,
    mcp: bool = False,
    lifespan: Lifespan[Starlette] | None = None,
) -> Starlette:
    """Returns the application for an engine.

    Args:
        max_body_bytes: larger requests get 413, unless the definition sets another limit for an event.
        callers: which requests are served. Their ``public_url`` is also the URL in OpenAPI documents, and its path is
            the prefix of all links.
        authentication: finds the principals of requests. The engine decides what they may do.
        limit: how many requests each caller may send.
        public: whether everyone may call. If not, the platform in front of the application requires a token.
        repair: also serve ``REPAIRS``. Use this only if every caller may also write to the database, for example on the
            machine of a developer. Without authenticators, the responses to internal errors then contain their texts,
            which otherwise only operators and the log get.
        ui: also serve the pages under ``/ui/``, in which callers may do the same as with the API.
        mcp: also serve the tools under ``/mcp``, with which callers may do the same as with the API.
    """
    operations = {**ACTIONS, **REPAIRS} if repair else ACTIONS
    internals = partial(_sees_internals, engine, authentication, repair)
    handlers = _Handlers(engine, max_body_bytes, public, callers.public_url, authentication, internals, limit)
    routes, lines = _routes(engine, handlers, operations), LineLimit()

    def on_error(request: Request, error: Exception) -> Response:
        return problems.on_workflow_error(request, error, internals=internals(request), lines=lines)

    def problem_of(request: Request, error: Exception) -> dict[str, Any]:
        return problems.logged(error, internals=internals(request), lines=lines)

    def refused(request: Request, error: Exception) -> Response:
        if ui and is_page(request):
            from cloud_adapter.http.pages.problem_page import problem_page

            return problem_page(request, problem_of(request, error))
        return on_error(request, error)

    if ui:
        from cloud_adapter.http.pages.ui import ui_routes  # lazily: an API without pages starts faster

        routes += ui_routes(engine, max_body_bytes, problem_of, _documents(handlers), authentication.sign_in)

    if mcp:
        from cloud_adapter.http.mcp.endpoint import mcp_routes  # lazily: it needs an extra

        routes += mcp_routes(engine, max_body_bytes, handlers.limit, problem_of)

    app = problems.application(
        routes,
        lifespan=lifespan,
        on_error=on_error,
        hint=": GET / lists the workflows",
        middleware=[
            Middleware(Gate, callers, refused),
            Middleware(Authenticated, authentication, refused, limit, engine.callbacks),
            Middleware(RateLimited, limit, refused),
        ],
    )
    if callers.public_url:
        app.add_middleware(PublicUrl, url=callers.public_url)
    return app


def _sees_internals(engine: Engine, authentication: Authentication, repair: bool, request: Request) -> bool:
    """Whether the caller may read the texts of internal errors."""
    principal = principal_of(request) if is_known(request) else authentication.everyone
    if authentication.is_open and (principal is None or is_everyone(principal)):
        return repair
    cls = engine.addressable.get(request.path_params.get("name", ""))
    return is_known(request) and cls is not None and may(principal, cls, Action.OPERATE)


def _routes(engine: Engine, handlers: _Handlers, operations: Mapping[str, type[Operation]]) -> list[Route]:
    return [
        Route("/", with_query(handlers.index), methods=["GET"]),
        Route("/wf/{name}", with_query(handlers.list, *LIST_PARAMETERS, more=searching(engine)), methods=["GET"]),
        Route("/wf/{name}/{id}", with_query(handlers.instance), methods=["GET", "POST"]),
        Route("/wf/{name}/{id}/graph", with_query(handlers.instance_graph, "format"), methods=["GET"]),
        Route("/wf/{name}/{id}/outcomes/{token}", with_query(handlers.outcome), methods=["GET"]),
        # A path, because the name of an event may contain a slash. The id of an instance may not.
        _EventRoute("/wf/{name}/{id}/{event:path}", with_query(handlers.send, *SEND_PARAMETERS), ACTIONS | REPAIRS),
        *(
            Route(f"/wf/{{name}}/{{id}}/{action}", with_query(handlers.operation(action, operations)), methods=["POST"])
            for action in (ACTIONS | REPAIRS)
        ),
        *(Route(f"/{what}/{{name}}", handler, methods=["GET"]) for what, handler in _documents(handlers).items()),
        STATIC_ROUTE,
        *health.routes(engine),
    ]


class _EventRoute(Route):
    """The route of events. It comes before those of operations, whose names no event has: most requests are events."""

    def __init__(self, path: str, handler: Handler, operations: Container[str]) -> None:
        super().__init__(path, handler, methods=["POST"])
        self.operations = operations

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        match, child = super().matches(scope)
        is_event = match is not Match.NONE and child["path_params"]["event"] not in self.operations
        return (match, child) if is_event else (Match.NONE, {})


def _documents(handlers: _Handlers) -> dict[str, Handler]:
    """The handlers of what describes a workflow. They are also served below ``/ui/``, where cookies count."""
    return {
        "definition": with_query(handlers.definition),
        "graph": with_query(handlers.graph, "format"),
        "swagger": with_query(handlers.swagger),
        "reference": with_query(handlers.reference),
    }


class _Handlers:
    def __init__(
        self,
        engine: Engine,
        max_body_bytes: int,
        public: bool,
        public_url: str,
        authentication: Authentication,
        internals: Callable[[Request], bool],
        rate_limit: RateLimit,
    ) -> None:
        self.engine = engine
        self.max_body_bytes = max_body_bytes
        self.public = public
        self.public_url = public_url
        self.authentication = authentication
        self.internals = internals
        self.rate_limit = rate_limit

    def described(self, request: Request) -> type[Workflow]:
        return described(self.engine, request.path_params["name"], principal_of(request))

    async def body(self, request: Request) -> bytes:
        return await read_json(request, self.max_body_bytes)

    def limit(self, name: str, event: str, principal: Principal | None) -> int:
        """How large the input of an event may be: as its definition says, if the principal may know the workflow."""
        cls = (self.engine.workflows if principal is None else self.engine.addressable).get(name)
        if cls is None or not may(principal, cls, Action.READ):
            return self.max_body_bytes
        return cls.__program__.max_bytes(event, self.max_body_bytes)

    def verifies(self, name: str) -> bool:
        """Whether a workflow has an event with ``verify``, which reads the headers of requests."""
        return name in self.engine.workflows and bool(self.engine.workflows[name].__program__.verified)

    async def index(self, request: Request) -> Response:
        prefix = prefix_of(request)
        names = all_described(self.engine, principal_of(request))
        return JSONResponse({"workflows": [f"{prefix}/definition/{name}" for name in names]})

    async def instance(self, request: Request) -> Response:
        return await (self.create(request) if request.method == "POST" else self.get(request))

    async def create(self, request: Request) -> Response:
        name, id = request.path_params["name"], request.path_params["id"]
        body = await self.body(request)
        key = request.headers.get(IDEMPOTENCY_HEADER)
        view = await self.engine.create(name, id, body, key=key, principal=principal_of(request))
        prefix = prefix_of(request)
        return JSONResponse(view_data(view, prefix), 201, {"Location": instance_url(name, id, prefix)})

    async def get(self, request: Request) -> Response:
        name, id = request.path_params["name"], request.path_params["id"]
        view = await self.engine.get(name, id, principal=principal_of(request))
        return JSONResponse(view_data(view, prefix_of(request)))

    async def send(self, request: Request) -> Response:
        parts, query = request.path_params, request.query_params if request.scope.get("query_string") else {}
        name, id, event = parts["name"], parts["id"], parts["event"]
        principal, outcome = principal_of(request), ""
        body = await read_json(request, self.limit(name, event, principal))
        key = request.headers.get(IDEMPOTENCY_HEADER)
        thread_id, wait_id = query.get("thread"), query.get("wait_id")
        if prefers_async(request):
            request_key = stored_key(key, principal) or token_hex(16)
            outcome = outcome_token(request_key, event, thread_id, wait_id)
        response = await self.engine.handle_event(
            name,
            id,
            event,
            body,
            key=key,
            thread_id=thread_id,
            wait_id=wait_id,
            principal=principal,
            outcome=outcome,
            headers=joined(request) if self.verifies(name) else None,
        )
        if response == LATER:
            location = outcome_url(name, id, outcome, prefix_of(request))
            return Response(status_code=202, headers={"Location": location, APPLIED: RESPOND_ASYNC})
        if response == BUFFERED:
            return Response(status_code=202)
        return Response(response, media_type="application/json")

    async def outcome(self, request: Request) -> Response:
        name, id, token = (request.path_params[part] for part in ("name", "id", "token"))
        outcome = await self.engine.outcome(name, id, token, principal=principal_of(request))
        if outcome is None:
            raise OutcomeNotFound(
                f"no event with the outcome {token[:100]!r} was accepted for {id!r} of {name!r}, or it was forgotten"
            )
        data = outcome_data(outcome, partial(problems.of_outcome, internals=self.internals(request)))
        return JSONResponse(data, 202, {"Retry-After": "1"}) if outcome.waits else JSONResponse(data)

    def operation(self, action: str, served: Mapping[str, type[Operation]]) -> Handler:
        """The handler of an operation, which is part of the route and not read from the request. The names of repairs
        that are not served are reserved too, so the request cannot mean an event."""
        if action in served:
            return partial(self.operate, served[action])
        return partial(self.refuse_repair, action)

    async def operate(self, operation: type[Operation], request: Request) -> Response:
        order = operation.from_json(await self.body(request))
        name, id = request.path_params["name"], request.path_params["id"]
        view = await self.engine.operate(name, id, order, principal=principal_of(request))
        return JSONResponse(view_data(view, prefix_of(request)))

    async def refuse_repair(self, action: str, request: Request) -> Response:
        name, id = request.path_params["name"], request.path_params["id"]
        self.engine.check_role(name, Action.READ, principal_of(request), id=id)
        raise Forbidden(
            f"{action!r} is a repair. This API does not serve repairs, because permission to send events does not "
            f"include permission to rewrite state: use `gorchestrate {action} ... --source FILE`, with permissions on "
            f"the database"
        )

    async def list(self, request: Request) -> Response:
        name, query, principal = request.path_params["name"], request.query_params, principal_of(request)
        page = await self.engine.list(
            name,
            status=query.get("status"),
            search={name.removeprefix(SEARCH): text for name, text in query.items() if name.startswith(SEARCH)},
            order=query.get("order", Order.UPDATED),
            limit=_integer("limit", query.get("limit", str(PAGE_SIZE))),
            cursor=query.get("cursor"),
            principal=principal,
        )
        is_operator = may(principal, self.engine.workflow(name), Action.OPERATE)
        prefix = prefix_of(request)
        instances = [summary(instance, prefix, operator=is_operator) for instance in page.instances]
        return JSONResponse({"instances": instances, "cursor": page.cursor})

    async def definition(self, request: Request) -> Response:
        cls = self.described(request)
        program = cls.__program__
        return JSONResponse(
            {
                "name": program.workflow,
                "version": program.version,
                "fields": cls.__fields_schema__(),
                "input": creation_schema(cls, principal_of(request)),
                "statements": describe.statements(program),
                "events": describe.events(program),
            }
        )

    async def graph(self, request: Request) -> Response:
        format = Format.of(request.query_params.get("format", Format.MERMAID))
        return _graph(self.described(request).__program__, format)

    async def instance_graph(self, request: Request) -> Response:
        format = Format.of(request.query_params.get("format", Format.SVG))
        name, id = request.path_params["name"], request.path_params["id"]
        view = public_view(await self.engine.get(name, id, principal=principal_of(request)))
        program = type(view.workflow).__program__
        return _graph(program, format, progress.live(program, view.instance))

    async def swagger(self, request: Request) -> Response:
        return JSONResponse(self.openapi(request))

    async def reference(self, request: Request) -> Response:
        from cloud_adapter.http.pages.reference import reference

        return reference(request, self.openapi(request))

    def openapi(self, request: Request) -> dict[str, Any]:
        from cloud_adapter.http import openapi  # lazily, as the pages

        schemes, is_limited = self.authentication.schemes, self.rate_limit.rate is not None
        callbacks = self.engine.callbacks is not None and bool(self.engine.callbacks.base_url)
        access = openapi.DocumentAccess(principal_of(request), schemes, self.public, is_limited, callbacks)
        server, limit = self.public_url or base_url(request), self.max_body_bytes
        return openapi.document(self.described(request), server, access, max_body_bytes=limit)


def joined(request: Request) -> dict[str, str]:
    """Returns the headers of a request, each once, as RFC 9110 joins them."""
    headers: dict[str, str] = {}
    for name, value in request.headers.items():
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers


def _graph(program: Program, format: Format, live: Live | None = None) -> Response:
    picture = graphs.draw(program, format, live)
    return Response(picture, media_type=format.media_type, headers=graphs.headers(format))


def _integer(name: str, text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise InvalidRequest(f"{name} is {text[:100]!r}: it must be an integer") from None
