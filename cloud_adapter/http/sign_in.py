"""How people say who they are on the pages: the port ``SignIn``, and where a request keeps what pages show about it.

Browsers send cookies by themselves, also for requests that a page of another site makes. So a ``SignIn`` finds
principals of requests for pages only, never for ``/wf/``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import field
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import unquote, urlsplit

from starlette.requests import HTTPConnection, Request
from starlette.routing import Route
from starlette.types import Scope

from cloud_adapter.http.prefixes import is_page
from cloud_adapter.http.principals import is_known, principal_of
from workflow_core import Principal
from workflow_core.records import record

if TYPE_CHECKING:
    from cloud_adapter.http.queries import Handler

HOME = "/ui/"

_KEY = "gorchestrate.sign_in"


class SignIn(Protocol):
    """Finds the principal of a request for a page by a cookie, and serves the routes that set it."""

    @property
    def template(self) -> str:
        """The template of the part of the header in which people sign in and out."""
        ...

    @property
    def login_path(self) -> str:
        """The path, below the root, to which people without credentials are sent; empty if there is none."""
        ...

    async def __call__(self, connection: HTTPConnection) -> Principal | None:
        """Returns the principal; None if there is no valid cookie, or if the request is not for a page."""
        ...

    def routes(self, page: Callable[..., Handler], max_body_bytes: int) -> list[Route]:
        """Returns its routes.

        Args:
            page: wraps a handler so that its errors become pages.
        """
        ...

    def values(self, request: Request, principal: Principal | None) -> dict[str, Any] | None:
        """Returns the values of the template; None if it is not for this request."""
        ...


@record(frozen=True, slots=True)
class Visitor:
    """Who uses a page.

    Attributes:
        name: empty if nobody in particular does.
        template: how to sign in and out; empty if there is no way.
        values: the values of the template.
    """

    name: str = ""
    template: str = ""
    values: dict[str, Any] = field(default_factory=dict)


def set_sign_in(scope: Scope, sign_in: SignIn | None) -> None:
    """Sets how people sign in on the pages."""
    scope[_KEY] = sign_in


def login_path_of(request: Request) -> str:
    """Returns the path, below the root, at which people log in; empty if there is none."""
    sign_in: SignIn | None = request.scope.get(_KEY) if is_page(request) else None
    return "" if sign_in is None else sign_in.login_path


def visitor_of(request: Request) -> Visitor:
    """Returns who sends a request for a page, as the page shows it."""
    principal = principal_of(request) if is_known(request) else None
    name = (principal.name or principal.id) if principal is not None and principal.id else ""
    sign_in: SignIn | None = request.scope.get(_KEY) if is_page(request) else None
    values = None if sign_in is None else sign_in.values(request, principal)
    if sign_in is None or values is None:
        return Visitor(name)
    return Visitor(name, sign_in.template, values)


def page_after(path: str) -> str:
    """Returns the page to show after signing in: the path that a form or a link has asked for if it is one of a page,
    otherwise the first page. No other site, and nothing that is not a page."""
    parts = urlsplit(path)
    decoded = unquote(parts.path)
    is_plain = path.isascii() and path.isprintable() and not set(path) & set(" \\")
    is_below = decoded.startswith(HOME) and not {"", ".", ".."} & set(decoded.split("/")[2:-1])
    if is_plain and is_below and not (parts.scheme or parts.netloc or parts.fragment) and "\\" not in decoded:
        return path if decoded.rpartition("/")[2] not in (".", "..") else HOME
    return HOME
