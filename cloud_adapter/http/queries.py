"""Checks the query parameters of requests. A misspelled parameter must not be ignored: an event would be delivered to
another thread, a list would contain everything."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import Response

from cloud_adapter.errors import InvalidRequest
from cloud_adapter.http.prefixes import check_path, is_utf8
from cloud_adapter.http.principals import principal_of
from workflow_core import Action

if TYPE_CHECKING:
    from cloud_adapter.engine.engine import Engine

SEARCH = "search."
"""The prefix of query parameters that filter a list of instances by search fields."""

Handler = Callable[[Request], Awaitable[Response]]


def check_query(request: Request, *known: str) -> None:
    """Checks that a request has no query parameters other than the known ones, and each at most once.

    Raises:
        InvalidRequest: a parameter is unknown or repeated, or is not UTF-8.
    """
    query = request.scope.get("query_string", b"")
    if not query:
        return
    if not is_utf8(query):
        raise InvalidRequest("the query contains bytes that are not UTF-8: encode its texts as UTF-8")
    names = [name for name, _ in request.query_params.multi_items()]
    for name in names:
        if name not in known:
            raise InvalidRequest(f"unknown query parameter {name[:100]!r}. Available: {', '.join(known) or 'none'}")
        if names.count(name) > 1:
            raise InvalidRequest(f"the query parameter {name!r} is repeated: pass it once")


def with_query(handler: Handler, *known: str, more: Callable[[Request], Iterable[str]] = lambda _: ()) -> Handler:
    """Returns a handler that first checks the path and the query parameters; see ``check_path`` and ``check_query``.

    Args:
        more: returns known parameters that depend on the path.
    """

    @functools.wraps(handler)
    async def checked(request: Request) -> Response:
        check_path(request)
        check_query(request, *known, *more(request))
        return await handler(request)

    return checked


def searching(engine: Engine) -> Callable[[Request], Iterable[str]]:
    """Returns a function that returns the parameters for the search fields of the workflow in the path."""

    def parameters(request: Request) -> Iterable[str]:
        # First, because the error for an unknown parameter names those of the workflow.
        cls = engine.check_role(request.path_params["name"], Action.LIST, principal_of(request))
        return (f"{SEARCH}{field}" for field in cls.search_fields)

    return parameters
