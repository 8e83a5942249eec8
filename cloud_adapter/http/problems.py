"""Errors as HTTP responses: RFC 9457 problem documents. Contains the only table of errors and their statuses."""

from __future__ import annotations

import inspect
import logging
import re
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Lifespan, Message, Receive, Scope, Send

from cloud_adapter import errors
from cloud_adapter.http.request_context import TracedRequests
from cloud_adapter.http.response_headers import SafeHeaders
from cloud_adapter.observability.line_limit import LineLimit, left_out_text
from workflow_core import EventNotAccepted, EventRejected, InvalidInput, NewerVersion, RepairRefused, WorkflowError

if TYPE_CHECKING:
    from cloud_adapter.engine.kept_events import Outcome

_logger = logging.getLogger("gorchestrate.http")

INTERNAL = int(HTTPStatus.INTERNAL_SERVER_ERROR)

MEDIA_TYPE = "application/problem+json"

TYPE_PREFIX = "urn:gorchestrate:problem:"

HEADERS = {
    415: {"Accept": "application/json", "Accept-Encoding": "identity"},
    503: {"Retry-After": "1"},
}

EXAMPLE_ID = "4f0c2a9e1b7d"

_CHALLENGE = 'Bearer realm="gorchestrate"'

STATUS: dict[type[WorkflowError], int] = {
    errors.InvalidRequest: 400,
    errors.Unauthenticated: 401,
    errors.InvalidCredential: 401,
    errors.Forbidden: 403,
    errors.WorkflowNotFound: 404,
    errors.InstanceNotFound: 404,
    errors.OutcomeNotFound: 404,
    errors.CallbackNotAccepted: 409,
    errors.InstanceExists: 409,
    errors.InstanceEnded: 409,
    EventNotAccepted: 409,
    EventRejected: 409,
    RepairRefused: 409,
    errors.TooLarge: 413,
    errors.UnsupportedEncoding: 415,
    errors.UnsupportedMediaType: 415,
    InvalidInput: 422,
    errors.IdempotencyKeyReused: 422,
    errors.ResponseTooLarge: 422,
    errors.TooManyRequests: 429,
    errors.Busy: 503,
    errors.Unavailable: 503,
    NewerVersion: 503,
}
"""The status of each error. Every other error is a bug of the workflow or of gorchestrate: 500."""


def problem(status: int, title: str, detail: str, **more: Any) -> Response:
    """Returns a response with a problem document."""
    return _response(document(status, title, detail, **more))


def document(status: int, title: str, detail: str, **more: Any) -> dict[str, Any]:
    """Returns a problem document."""
    kind = "-".join(re.findall(r"[A-Z]?[a-z0-9]+", title)).lower()
    # The text of an error may contain characters that cannot be encoded, for example of a file name that is not UTF-8.
    detail = detail.encode("utf-8", "backslashreplace").decode()
    return {"type": f"{TYPE_PREFIX}{kind}", "title": title, "status": status, "detail": detail, **more}


def of_error(error: Exception, *, internals: bool = False, id: str = EXAMPLE_ID) -> dict[str, Any]:
    """Returns the problem document of a ``WorkflowError``.

    Args:
        internals: whether the caller is an operator, who may read the text of an error that is not the caller's fault.
            It may contain values of fields, passwords, URLs and paths, and what the workflow's own code wrote. For
            others, the document only names the problem.
        id: identifies such an error in the log.
    """
    return _of(type(error), str(error), errors.details_of(error), internals=internals, error_id=id)


def of_outcome(outcome: Outcome, *, internals: bool = False) -> dict[str, Any]:
    """Returns the problem document of the error with which an event was refused. For ``internals``, see ``of_error``.
    Another release may have stored an error that this one does not have."""
    cls = next((cls for cls in _classes(WorkflowError) if cls.__name__ == outcome.error), WorkflowError)
    return _of(cls, outcome.text, outcome.details, internals=internals)


def _classes(cls: type[Exception]) -> Iterator[type[Exception]]:
    yield cls
    for below in cls.__subclasses__():
        yield from _classes(below)


def _of(cls: type[Exception], text: str, details: Mapping[str, Any], *, internals: bool, **more: str) -> dict[str, Any]:
    status = status_of(cls)
    if not _is_concealed(cls):
        return document(status, _title(cls), text, **details)
    if not internals:
        text = f"{_meaning(cls)} See the log of the server."
    return document(status, _title(cls), text, **more)


def status_of(cls: type[Exception]) -> int:
    """Returns the HTTP status of an error class."""
    return next((STATUS[base] for base in cls.__mro__ if base in STATUS), 500)


def _is_concealed(cls: type[Exception]) -> bool:
    return status_of(cls) == INTERNAL or issubclass(cls, errors.Unavailable)


def logged(error: Exception, *, internals: bool = False, lines: LineLimit | None = None) -> dict[str, Any]:
    """Returns the problem document of a ``WorkflowError`` (see ``of_error``), and logs the error if only operators may
    read it there.

    Args:
        lines: limits the lines; None: there is no limit.
    """
    problem = of_error(error, internals=internals, id=new_id())
    if "error_id" in problem:
        is_internal = problem["status"] == INTERNAL
        _log(error, str(error), problem["error_id"], lines, level=logging.ERROR if is_internal else logging.WARNING)
    return problem


def _log(error: Exception, text: str, id: str, lines: LineLimit | None, *, level: int) -> None:
    left_out = 0 if lines is None else lines.next()
    if left_out is not None:
        raised = error if level == logging.ERROR else None
        _logger.log(level, "%s%s", text, left_out_text(left_out), exc_info=raised, extra=with_id(id))


def on_workflow_error(
    _: Request, error: Exception, *, internals: bool = False, lines: LineLimit | None = None
) -> Response:
    """Returns the response to a ``WorkflowError``. For ``internals``, see ``of_error``; for ``lines``, ``logged``."""
    return _response(logged(error, internals=internals, lines=lines))


def bug(error: Exception, id: str = EXAMPLE_ID) -> dict[str, Any]:
    """Returns the problem document of an unexpected error. For ``id``, see ``of_error``."""
    return document(
        INTERNAL, "Internal Server Error", f"{type(error).__name__}: see the log of the server", error_id=id
    )


def unexpected(error: Exception, where: str, lines: LineLimit | None = None) -> dict[str, Any]:
    """Returns the problem document of an unexpected error, and logs the error. For ``lines``, see ``logged``."""
    problem = bug(error, new_id())
    _log(error, f"{where} failed", problem["error_id"], lines, level=logging.ERROR)
    return problem


def new_id() -> str:
    """Returns an id for an error."""
    return secrets.token_hex(6)


def with_id(id: str) -> dict[str, Any]:
    """Returns the ``extra`` of a line of the log that contains the id of an error."""
    return {"fields": {"error_id": id}}


def headers_of(problem: dict[str, Any]) -> dict[str, str]:
    """Returns the headers that belong to a problem document. The challenge is that of RFC 6750."""
    if "retry_after" in problem:
        return {"Retry-After": str(problem["retry_after"])}
    if problem["status"] != HTTPStatus.UNAUTHORIZED:
        return HEADERS.get(problem["status"], {})
    if problem["title"] != _title(errors.InvalidCredential):
        return {"WWW-Authenticate": _CHALLENGE}
    reason = re.sub(r"[^ !#-\[\]-~]", "'", problem["detail"])  # the characters that RFC 6750 allows
    return {"WWW-Authenticate": f'{_CHALLENGE}, error="invalid_token", error_description="{reason}"'}


def _response(body: dict[str, Any]) -> Response:
    return JSONResponse(body, body["status"], headers_of(body), MEDIA_TYPE)


def on_http_error(request: Request, error: Exception, *, hint: str = "") -> Response:
    """Returns the response to an unknown path or method.

    Args:
        hint: appended to the message about an unknown path.
    """
    assert isinstance(error, HTTPException)
    headers, detail = error.headers or {}, error.detail
    path = request.scope["path"][:200]
    if error.status_code == 404:
        detail = f"unknown path {path!r}{hint}"
    elif error.status_code == 405:
        allowed = ", ".join(sorted(headers.get("Allow", "").split(", ")))
        detail = f"method {request.method[:20]} is not allowed for {path!r}: use {allowed}"
    response = problem(error.status_code, HTTPStatus(error.status_code).phrase, detail)
    response.headers.update(headers)
    return response


def application(
    routes: Sequence[Route],
    *,
    lifespan: Lifespan[Starlette] | None = None,
    on_error: Callable[[Request, Exception], Response] = on_workflow_error,
    hint: str = "",
    middleware: Sequence[Middleware] = (),
) -> Starlette:
    """Returns an application that answers every error with a problem document.

    Args:
        on_error: answers a ``WorkflowError``.
        hint: appended to the message about an unknown path.
        middleware: the innermost middleware.
    """
    app = Starlette(
        routes=routes,
        lifespan=lifespan,
        middleware=[Middleware(SafeHeaders), Middleware(TracedRequests), Middleware(UnexpectedErrors), *middleware],
        exception_handlers={WorkflowError: on_error, HTTPException: partial(on_http_error, hint=hint)},
    )
    # A path with a trailing slash is another path: a request to /wf/pizza/order-1/ must not create an instance.
    app.router.redirect_slashes = False
    return app


class UnexpectedErrors:
    """Middleware that answers unexpected errors. The details are logged and are not part of the response.

    An exception handler of Starlette would raise the error again, and the server would close the connection.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self.lines = LineLimit()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = False

        async def watched(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self.app(scope, receive, watched)
        except ClientDisconnect:
            pass
        except Exception as error:
            problem = unexpected(error, f"{scope['method']} {scope['path']}", self.lines)
            if started:
                raise
            await _response(problem)(scope, receive, send)


def _meaning(cls: type[Exception]) -> str:
    """The first sentence of the class's docstring, which is part of the API. Python removes docstrings with -OO."""
    return " ".join((inspect.getdoc(cls) or "The request failed.").split()).partition(". ")[0].rstrip(".") + "."


def _title(cls: type[Exception]) -> str:
    return " ".join(re.findall(r"[A-Z][a-z]*", cls.__name__)).capitalize()
