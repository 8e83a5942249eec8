"""The pages under ``/ui/``: they list workflows and instances, show an instance, and send its forms to the engine.

Every page works without a script. With a script, forms are sent in the background and the parts of a page are updated
as the instance changes. The responses are then JSON, with the HTML that replaces the old HTML.
"""

from __future__ import annotations

import functools
import secrets
from collections.abc import Callable, Mapping
from dataclasses import replace
from http import HTTPStatus
from typing import Any
from urllib.parse import quote, urlencode

from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from cloud_adapter.engine.engine import Engine
from cloud_adapter.engine.operations import ACTIONS
from cloud_adapter.engine.permissions import NO_CREDENTIALS
from cloud_adapter.engine.view import View
from cloud_adapter.errors import (
    InstanceExists,
    InvalidRequest,
    ResponseTooLarge,
    SettingsError,
    Unauthenticated,
)
from cloud_adapter.history import HistoryKind
from cloud_adapter.http import problems
from cloud_adapter.http.concealment import public_summary, public_view
from cloud_adapter.http.creation import creation_schema
from cloud_adapter.http.pages.cards import (
    Card,
    body_of,
    event_cards,
    new_card,
    operation_cards,
    posted_event,
    posted_operation,
    refused,
)
from cloud_adapter.http.pages.instance_page import parts, title, version
from cloud_adapter.http.pages.outcomes import outcome
from cloud_adapter.http.pages.posts import read_form
from cloud_adapter.http.pages.problem_page import in_background, problem_page
from cloud_adapter.http.pages.rendering import HEADERS, fragment, page
from cloud_adapter.http.prefixes import root_of
from cloud_adapter.http.principals import principal_of
from cloud_adapter.http.queries import SEARCH, Handler, searching, with_query
from cloud_adapter.http.rights import all_described, may
from cloud_adapter.http.sign_in import SignIn
from cloud_adapter.ports import Order
from workflow_core import ANONYMOUS, Action, Status, Workflow, WorkflowError

_LIST_PARAMETERS = ("status", "order", "cursor")

_ORDERS = {Order.UPDATED: "most recently updated first", Order.CREATED: "newest first", Order.ID: "by id"}
_OWN_LABELS = frozenset(("id", "status", "updated", "next due", "error", "sort"))
"""The labels in lists that are not those of fields."""


ProblemOf = Callable[[Request, Exception], dict[str, Any]]
"""Returns the problem document of an error for the caller of a request, and logs the error if necessary."""


def ui_routes(
    engine: Engine,
    max_body_bytes: int,
    problem_of: ProblemOf,
    documents: Mapping[str, Handler],
    sign_in: SignIn | None = None,
) -> list[Route]:
    """Returns the routes of the pages.

    Args:
        documents: the handlers of what describes a workflow, by the last part of their path.
        sign_in: how people say who they are.
    """
    for name in engine.addressable if sign_in else ():
        if sign_in and sign_in.login_path == f"ui/{name}":
            raise SettingsError(f"a workflow cannot be named {name!r} if people log in to the pages: rename it")
    ui = _Pages(engine, max_body_bytes, problem_of)
    return [
        *(sign_in.routes(ui.page, max_body_bytes) if sign_in else ()),
        Route("/ui", ui.page(_to_ui), methods=["GET"]),
        Route("/ui/", ui.page(ui.workflows), methods=["GET"]),
        Route("/ui/{name}", ui.page(ui.instances, *_LIST_PARAMETERS, more=searching(engine)), methods=["GET"]),
        *(Route(f"/ui/{{name}}/{what}", ui.guarded(handler), methods=["GET"]) for what, handler in documents.items()),
        # Not below `instances/`, because an instance may have the id "new".
        Route("/ui/{name}/new", ui.page(ui.new), methods=["GET", "POST"]),
        Route(
            "/ui/{name}/instances/{id}",
            ui.page(ui.instance, "version", "done", "sent", "key"),
            methods=["GET", "POST"],
        ),
    ]


async def _to_ui(request: Request) -> Response:
    return RedirectResponse(f"{root_of(request)}ui/", 308)


class _Pages:
    def __init__(self, engine: Engine, max_body_bytes: int, problem_of: ProblemOf) -> None:
        self.engine = engine
        self.problem_of = problem_of
        self.max_body_bytes = max_body_bytes

    def page(self, handler: Handler, *known: str, **more: Any) -> Handler:
        """Wraps a handler so that a ``WorkflowError`` becomes a page. For the other arguments, see ``with_query``."""
        return self.guarded(with_query(handler, *known, **more))

    def guarded(self, handler: Handler) -> Handler:
        """Wraps a handler so that a ``WorkflowError`` becomes a page."""

        @functools.wraps(handler)
        async def answer(request: Request) -> Response:
            try:
                return await handler(request)
            except WorkflowError as error:
                return problem_page(request, self.problem_of(request, error))

        return answer

    # --- lists ---------------------------------------------------------------------------

    async def workflows(self, request: Request) -> Response:
        principal = principal_of(request)
        texts = [
            {
                "name": name,
                "text": (vars(cls).get("__doc__") or "").strip().partition("\n\n")[0],
                "may_list": may(principal, cls, Action.LIST),
                "may_create": may(principal, cls, Action.CREATE),
            }
            for name, cls in all_described(self.engine, principal).items()
        ]
        if not texts and principal == ANONYMOUS:
            raise Unauthenticated(NO_CREDENTIALS)
        return page(request, "workflows.html", workflows=texts)

    async def instances(self, request: Request) -> Response:
        name, principal = request.path_params["name"], principal_of(request)
        cls = self.engine.workflow(name, principal)
        status, cursor = request.query_params.get("status") or None, request.query_params.get("cursor") or None
        order = request.query_params.get("order") or Order.UPDATED
        given = {field: request.query_params.get(f"{SEARCH}{field}", "") for field in cls.search_fields}
        search = {field: text for field, text in given.items() if text}
        found = await self.engine.list(
            name, status=status, search=search, order=order, cursor=cursor, principal=principal
        )
        if not may(principal, cls, Action.OPERATE):
            found = replace(found, instances=tuple(map(public_summary, found.instances)), damaged=())
        filters = ({"status": status} if status else {}) | {f"{SEARCH}{field}": text for field, text in search.items()}
        kept = filters | ({"order": order} if order != Order.UPDATED else {})
        return page(
            request,
            "instances.html",
            workflow=name,
            may_create=may(principal, cls, Action.CREATE),
            given=given,
            labels={field: _field_label(cls, field) for field in given},
            found=found,
            now=self.engine.clock.now(),
            statuses=list(Status),
            wanted=status or "",
            orders=_ORDERS,
            order=order,
            filtered=bool(filters),
            cursor=cursor,
            following=urlencode(kept | {"cursor": found.cursor}) if found.cursor else "",
            first=urlencode(kept),
        )

    # --- a new instance ------------------------------------------------------------------

    async def new(self, request: Request) -> Response:
        name = request.path_params["name"]
        principal = principal_of(request)
        schema = creation_schema(self.engine.check_role(name, Action.CREATE, principal), principal)
        if request.method == "GET":
            return self._new(request, name, new_card(schema), f"{name}-{secrets.token_hex(4)}")
        data = await read_form(request, self.max_body_bytes)
        card, id, status, id_error = new_card(schema, data), data.get("id", ""), 200, ""
        assert card.form is not None
        order = data.get("do", "send")
        if order != "send":
            card.focus = card.form.edit(order).id
            return self._new(request, name, card, id)
        try:
            body = body_of(card, self.max_body_bytes)
            if not card.errors:
                await self.engine.create(name, id, body, key=card.hidden["key"], principal=principal)
                return _see(request, name, id, done=HistoryKind.CREATED)
            status = 422
        except (InstanceExists, InvalidRequest) as error:
            status, id_error = problems.status_of(type(error)), str(error)
        except WorkflowError as error:
            status = refused(card, error, self.problem_of(request, error))
        return self._new(request, name, card, id, id_error, status)

    def _new(self, request: Request, name: str, card: Card, id: str, id_error: str = "", status: int = 200) -> Response:
        return page(
            request,
            "new.html",
            status=status,
            workflow=name,
            may_list=may(principal_of(request), self.engine.workflow(name), Action.LIST),
            card=card,
            id=id,
            id_error=id_error,
        )

    # --- an instance ---------------------------------------------------------------------

    async def instance(self, request: Request) -> Response:
        if request.method == "GET":
            view = await self._view(request)
            if in_background(request):
                return self._changed(request, view)
            confirmed = await outcome(self.engine, view, request.query_params, principal_of(request))
            return self._instance(request, view, outcome=confirmed)
        name, id = request.path_params["name"], request.path_params["id"]
        program = self.engine.check_role(name, Action.READ, principal_of(request), id=id).__program__
        limits = [program.max_bytes(event, self.max_body_bytes) for event in program.events]
        data = await read_form(request, max(limits, default=self.max_body_bytes))
        if "operation" in data:
            card, send = posted_operation(data), self._operate
        else:
            card, send = posted_event(program, data), self._send
        order = data.get("do", "send")
        if order != "send":
            if card.form is None:
                raise InvalidRequest(f"unknown action {order[:100]!r} of this form: reload the page")
            card.focus = card.form.edit(order).id
            return await self._again(request, card, 200)
        query = {"done": card.name} if card.kind == "operation" else {"sent": card.name, "key": card.hidden["key"]}
        status = await send(request, card)
        if status != 200:
            return await self._again(request, card, status)
        if not in_background(request):
            return _see(request, name, id, **query)
        view = await self._view(request)
        confirmed = await outcome(self.engine, view, query, principal_of(request))
        return JSONResponse(self._state(request, view) | {"outcome": confirmed}, headers=HEADERS)

    async def _send(self, request: Request, card: Card, *, with_key: bool = True) -> int:
        """Sends an event. Returns 200, or the status of the page that shows the error."""
        program = self.engine.workflow(request.path_params["name"]).__program__
        body = body_of(card, program.max_bytes(card.name, self.max_body_bytes))
        if card.errors:
            return 422
        hidden = card.hidden
        try:
            await self.engine.handle_event(
                request.path_params["name"],
                request.path_params["id"],
                card.name,
                body,
                key=hidden["key"] if with_key else None,
                thread_id=hidden["thread"],
                wait_id=hidden["wait_id"],
                principal=principal_of(request),
            )
        except ResponseTooLarge:
            # Without a key, the page cannot show the response. The wait still accepts the form only once.
            return await self._send(request, card, with_key=False)
        except WorkflowError as error:
            return refused(card, error, self.problem_of(request, error))
        return 200

    async def _operate(self, request: Request, card: Card) -> int:
        """Performs an operation. Returns a status like ``_send``."""
        try:
            operation = ACTIONS[card.name].from_json(body_of(card, self.max_body_bytes))
            if card.errors:
                return 422
            name, id = request.path_params["name"], request.path_params["id"]
            await self.engine.operate(name, id, operation, principal=principal_of(request))
        except WorkflowError as error:
            return refused(card, error, self.problem_of(request, error))
        return 200

    # --- answers -------------------------------------------------------------------------

    async def _view(self, request: Request) -> View:
        name, id = request.path_params["name"], request.path_params["id"]
        return public_view(await self.engine.get(name, id, principal=principal_of(request)))

    def _instance(
        self, request: Request, view: View, *, card: Card | None = None, status: int = 200, outcome: str = ""
    ) -> Response:
        """The page of an instance. ``card`` replaces the card from which it was posted."""
        events, operations = event_cards(view), operation_cards(view)
        if card is not None:
            _put(card, events if card.kind == "event" else operations)
        return page(
            request,
            "instance.html",
            status=status,
            scripts=True,
            workflow=view.instance.workflow,
            may_list=may(principal_of(request), type(view.workflow), Action.LIST),
            instance=view.instance,
            path=_path(request),
            parts=parts(request, view, self.engine.clock.now()),
            version=version(view),
            title=title(view),
            events=events,
            operations=operations,
            outcome=Markup(outcome),  # nosec B704 # escaped where it is made
            operator=view.operator,
        )

    async def _again(self, request: Request, card: Card, status: int) -> Response:
        """The form again with its posted values: with a row added or removed, or with errors."""
        view = await self._view(request)
        cards = event_cards(view) if card.kind == "event" else operation_cards(view)
        now = next((current for current in cards if current.id == card.id), None)
        card.gone = now is None
        if now is not None and card.hidden.get("wait_id") != now.hidden.get("wait_id"):
            card.hidden["wait_id"] = now.hidden["wait_id"]
            if status == HTTPStatus.CONFLICT:
                card.message = "The instance has changed. It accepts this event again: send it again."
        if not in_background(request):
            return self._instance(request, view, card=card, status=status)
        html = fragment(request, "instance/card.html", card=card, path=_path(request))
        return JSONResponse({"id": card.id, "html": html, "focus": _focus(card)}, status, HEADERS)

    def _changed(self, request: Request, view: View) -> Response:
        """The changes since the version that the page shows."""
        if request.query_params.get("version") == version(view):
            return Response(status_code=204, headers=HEADERS)
        return JSONResponse(self._state(request, view), headers=HEADERS)

    def _state(self, request: Request, view: View) -> dict[str, Any]:
        """All parts of the page that are updated automatically, and its forms with their waits."""

        def cards(all: list[Card]) -> list[dict[str, str]]:
            return [
                {
                    "id": card.id,
                    "wait_id": card.hidden.get("wait_id", ""),
                    "html": fragment(request, "instance/card.html", card=card, path=_path(request)),
                }
                for card in all
            ]

        return {
            "version": version(view),
            "title": title(view),
            "ended": view.instance.execution.ended,
            "parts": parts(request, view, self.engine.clock.now()),
            "events": cards(event_cards(view)),
            "operations": cards(operation_cards(view)),
        }


def _put(card: Card, cards: list[Card]) -> None:
    """Replaces the card with the same id, or inserts the card at the top."""
    at = next((index for index, current in enumerate(cards) if current.id == card.id), None)
    if at is None:
        cards.insert(0, card)
    else:
        cards[at] = card


def _focus(card: Card) -> str:
    return f"{card.id}-{card.focus}" if card.focus else f"{card.id}-summary" if card.failed else ""


def _path(request: Request) -> str:
    """The URL of the instance's page, as its forms use it."""
    return _instance_path(request, request.path_params["name"], request.path_params["id"])


def _instance_path(request: Request, workflow: str, id: str) -> str:
    return f"{root_of(request)}ui/{workflow}/instances/{quote(id, safe='')}"


def _see(request: Request, workflow: str, id: str, **query: str) -> Response:
    """Redirects to the page of an instance."""
    location = f"{_instance_path(request, workflow, id)}?{urlencode(query)}"
    return Response(status_code=303, headers=HEADERS | {"Location": location})


def _field_label(cls: type[Workflow], name: str) -> str:
    """Returns the label of a search field: that of its control in forms, and that it is a field if it could be taken
    for something else in a list."""
    label = cls.model_fields[name].title or name.replace("_", " ").title()
    return f"{label} (field)" if label.lower() in _OWN_LABELS else label
