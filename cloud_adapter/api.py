"""The public HTTP application: start instances, send events, look at them. It decides nothing: the engine does.

The routes are those of ``/definition/{name}``, ``/graph/{name}``, ``/swagger/{name}``, ``/reference/{name}`` and, per
workflow, ``/wf/...``; what tasks call is in ``cloud_adapter.worker``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Lifespan

from cloud_adapter import graphs, health, openapi, problems, progress
from cloud_adapter.document import Instance
from cloud_adapter.engine import BUFFERED, Engine, View
from cloud_adapter.errors import InvalidRequest, TooLarge
from cloud_adapter.graphs import Format
from cloud_adapter.operating import ACTIONS, REPAIRS, Operation
from cloud_adapter.pages.reference import reference
from cloud_adapter.pages.rendering import STATIC_ROUTE
from workflow_core import describe, svg
from workflow_core.live import Live
from workflow_core.program import Program

# A picture opened by its own address is a document: it has its style sheet, and nothing else may come into it.
_PICTURE_HEADERS = {
    "Content-Security-Policy": f"default-src 'none'; style-src {svg.STYLE_SOURCE}",
    "X-Content-Type-Options": "nosniff",
}

IDEMPOTENCY_HEADER = "Idempotency-Key"


def create_api(
    engine: Engine,
    *,
    max_body_bytes: int,
    public: bool = True,
    repair: bool = False,
    lifespan: Lifespan[Starlette] | None = None,
) -> Starlette:
    """The application for an engine.

    Args:
        max_body_bytes: a larger request gets 413.
        public: whether everybody may call; what is in front of the application asks for a token otherwise.
        repair: also serve ``REPAIRS``: only where every caller may as well write to the database.
    """
    operations = {**ACTIONS, **REPAIRS} if repair else ACTIONS
    handlers = _Handlers(engine, max_body_bytes, public, operations)
    routes = [
        Route("/", handlers.index, methods=["GET"]),
        Route("/wf/{name}", handlers.list, methods=["GET"]),
        Route("/wf/{name}/{id}", handlers.instance, methods=["GET", "POST"]),
        Route("/wf/{name}/{id}/graph", handlers.instance_graph, methods=["GET"]),
        *(Route(f"/wf/{{name}}/{{id}}/{action}", handlers.operate, methods=["POST"]) for action in operations),
        # A path: the name of an event may hold a slash, the id of an instance may not.
        Route("/wf/{name}/{id}/{event:path}", handlers.send, methods=["POST"]),
        Route("/definition/{name}", handlers.definition, methods=["GET"]),
        Route("/graph/{name}", handlers.graph, methods=["GET"]),
        Route("/swagger/{name}", handlers.swagger, methods=["GET"]),
        Route("/reference/{name}", handlers.reference, methods=["GET"]),
        STATIC_ROUTE,
        *health.routes(engine),
    ]
    return problems.application(routes, lifespan=lifespan)


async def read_body(request: Request, limit: int) -> bytes:
    """The body of a request.

    Raises:
        TooLarge: it has more than ``limit`` bytes.
    """
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            raise TooLarge(f"the body of the request is over the limit of {limit:,} bytes: send less")
    return bytes(body)


class _Handlers:
    def __init__(
        self, engine: Engine, max_body_bytes: int, public: bool, operations: Mapping[str, type[Operation]]
    ) -> None:
        self.engine = engine
        self.max_body_bytes = max_body_bytes
        self.public = public
        self.operations = operations

    async def index(self, _: Request) -> Response:
        return JSONResponse({"workflows": [f"/definition/{name}" for name in sorted(self.engine.workflows)]})

    async def instance(self, request: Request) -> Response:
        return await (self.create(request) if request.method == "POST" else self.get(request))

    async def create(self, request: Request) -> Response:
        name, id = request.path_params["name"], request.path_params["id"]
        body = await read_body(request, self.max_body_bytes)
        view = await self.engine.create(name, id, body, key=request.headers.get(IDEMPOTENCY_HEADER))
        return JSONResponse(view_data(view), 201, {"Location": instance_url(name, id)})

    async def get(self, request: Request) -> Response:
        return JSONResponse(view_data(await self.engine.get(request.path_params["name"], request.path_params["id"])))

    async def send(self, request: Request) -> Response:
        response = await self.engine.handle_event(
            request.path_params["name"],
            request.path_params["id"],
            request.path_params["event"],
            await read_body(request, self.max_body_bytes),
            key=request.headers.get(IDEMPOTENCY_HEADER),
            thread_id=request.query_params.get("thread"),
            wait_id=request.query_params.get("wait_id"),
        )
        if response == BUFFERED:
            return Response(status_code=202)
        return Response(response, media_type="application/json")

    async def operate(self, request: Request) -> Response:
        operation = self.operations[request.url.path.rpartition("/")[2]]
        order = operation.from_json(await read_body(request, self.max_body_bytes))
        return JSONResponse(
            view_data(await self.engine.operate(request.path_params["name"], request.path_params["id"], order))
        )

    async def list(self, request: Request) -> Response:
        query = request.query_params
        page = await self.engine.list(
            request.path_params["name"],
            status=query.get("status"),
            limit=_integer("limit", query.get("limit", "50")),
            cursor=query.get("cursor"),
        )
        return JSONResponse({"instances": [_summary(one) for one in page.instances], "cursor": page.cursor})

    async def definition(self, request: Request) -> Response:
        cls = self.engine.workflow(request.path_params["name"])
        program = cls.__program__
        return JSONResponse(
            {
                "name": program.workflow,
                "version": program.version,
                "fields": cls.__fields_schema__,
                "statements": describe.statements(program),
                "events": describe.events(program),
            }
        )

    async def graph(self, request: Request) -> Response:
        format = Format.of(request.query_params.get("format", Format.MERMAID))
        return _graph(self.engine.workflow(request.path_params["name"]).__program__, format)

    async def instance_graph(self, request: Request) -> Response:
        format = Format.of(request.query_params.get("format", Format.SVG))
        name = request.path_params["name"]
        program = self.engine.workflow(name).__program__
        view = await self.engine.get(name, request.path_params["id"])
        return _graph(program, format, progress.live(program, view.instance))

    async def swagger(self, request: Request) -> Response:
        return JSONResponse(self.openapi(request))

    async def reference(self, request: Request) -> Response:
        return reference(request, self.openapi(request))

    def openapi(self, request: Request) -> dict[str, Any]:
        cls = self.engine.workflow(request.path_params["name"])
        return openapi.document(cls, base_url(request), public=self.public)


def base_url(request: Request) -> str:
    """The URL at which the client reaches the application, without a slash at its end."""
    url = request.base_url
    if request.headers.get("x-forwarded-proto") == "https":  # Cloud Run speaks HTTP to the container
        url = url.replace(scheme="https")
    return str(url).rstrip("/")


def _graph(program: Program, format: Format, live: Live | None = None) -> Response:
    headers = _PICTURE_HEADERS if format is Format.SVG else None
    return Response(graphs.draw(program, format, live), media_type=format.media_type, headers=headers)


def instance_url(workflow: str, id: str) -> str:
    """The path of an instance."""
    return f"/wf/{workflow}/{quote(id, safe='')}"


def view_data(view: View) -> dict[str, Any]:
    """An instance as the API shows it: ``meta``, ``state``, ``events`` and ``history``."""
    instance = view.instance
    lease = instance.lease
    meta = instance.execution.to_dict() | {
        "wake_at": None if instance.wake_at is None else instance.wake_at.isoformat(),
        "leased_until": None if lease is None else lease.expires_at.isoformat(),
        "problem": view.problem or None,
    }
    url = instance_url(instance.workflow, instance.id)
    names = [one.case.event for one in view.accepted]
    events = []
    for one in view.accepted:
        signature = one.case.signature
        assert signature is not None
        # Where several threads wait for one event, the address says which is meant.
        query = f"?thread={quote(one.thread.id, safe='')}" if names.count(one.case.event) > 1 else ""
        events.append(
            {
                "name": one.case.event,
                "role": one.case.role,
                "thread": one.thread.id,
                "wait_id": one.wait_id,
                "input": signature.input_schema,
                "url": f"{url}/{quote(one.case.event, safe='')}{query}",
            }
        )
    history = [
        {"at": entry.at.isoformat(), "kind": entry.kind, "statement": entry.statement, "thread": entry.thread}
        | {"pc": entry.pc, "duration_ms": entry.duration_ms, "error": entry.error, "select": entry.select}
        | {"by": entry.by, "reason": entry.reason, "detail": entry.detail}
        for entry in instance.history
    ]
    return {"meta": meta, "state": json.loads(instance.fields), "events": events, "history": history}


def _summary(instance: Instance) -> Mapping[str, Any]:
    execution = instance.execution
    return {
        "id": instance.id,
        "status": execution.status,
        "created_at": execution.created_at and execution.created_at.isoformat(),
        "updated_at": execution.updated_at and execution.updated_at.isoformat(),
        "wake_at": instance.wake_at and instance.wake_at.isoformat(),
        "error": execution.error and execution.error.message,
        "search": dict(instance.search),
        "url": instance_url(instance.workflow, instance.id),
    }


def _integer(name: str, text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise InvalidRequest(f"{name} is {text!r}: give a whole number") from None
