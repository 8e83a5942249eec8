"""``RolePicker``: on the pages of a development server, people choose who they are, without a proof."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final
from urllib.parse import quote, unquote

from pydantic_core import from_json
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response
from starlette.routing import Route

from cloud_adapter.errors import Forbidden, InvalidRequest
from cloud_adapter.http.authenticators.dev import DEV_ISSUER, dev_principal, is_local
from cloud_adapter.http.pages.posts import read_form
from cloud_adapter.http.pages.rendering import HEADERS
from cloud_adapter.http.prefixes import is_page, prefix_of, root_of
from cloud_adapter.http.queries import Handler
from cloud_adapter.http.rights import named_roles
from cloud_adapter.http.sign_in import page_after
from workflow_core import Principal, Workflow
from workflow_core.printable import is_printable

COOKIE: Final = "gorchestrate-dev-user"
NAME_MAX: Final = 100
SUGGESTED = "ann"
"""The name in the form, so that choosing a role is enough."""


class RolePicker:
    """A form in the header of the pages. It stores a name and roles in a cookie, which counts on the pages only, for
    clients on the same machine and not through a proxy.

    Args:
        roles: the roles to choose from.
        is_open: whether everyone may do everything until they choose who they are.
        issuer: the issuer in the ids of principals; see ``Dev``.
    """

    template = "picker.html"
    login_path = ""

    def __init__(self, roles: Sequence[str], *, is_open: bool, issuer: str = DEV_ISSUER) -> None:
        self.roles = roles
        self.is_open = is_open
        self.issuer = issuer

    @classmethod
    def of(cls, workflows: Iterable[type[Workflow]], *, is_open: bool, issuer: str) -> RolePicker | None:
        """Returns a picker with the roles of the workflows; None if they have no roles."""
        roles = named_roles(workflows)
        return cls(roles, is_open=is_open, issuer=issuer) if roles else None

    async def __call__(self, connection: HTTPConnection) -> Principal | None:
        """Returns the principal in the cookie. See ``SignIn``."""
        text = connection.cookies.get(COOKIE)
        if not (text and is_page(connection) and is_local(connection)):
            return None
        try:
            name, roles = from_json(unquote(text))
        except (ValueError, TypeError):
            return None  # the next choice replaces it
        are_roles = isinstance(roles, list) and all(isinstance(role, str) for role in roles)
        return dev_principal(name, roles, self.issuer) if _is_name(name) and are_roles else None

    def routes(self, page: Callable[..., Handler], max_body_bytes: int) -> list[Route]:
        """Returns the route to which the form is posted. See ``SignIn``."""

        async def pick(request: Request) -> Response:
            return await self._pick(request, max_body_bytes)

        return [Route("/ui/", page(pick), methods=["POST"])]

    def values(self, request: Request, principal: Principal | None) -> dict[str, Any] | None:
        """Returns what the form shows. See ``SignIn``."""
        if not is_local(request):
            return None
        return {
            "name": principal.name if principal and principal.id else "",
            "suggested": SUGGESTED,
            "chosen": sorted(principal.roles) if principal and principal.id else [],
            "roles": self.roles,
            "is_open": self.is_open,
        }

    async def _pick(self, request: Request, max_body_bytes: int) -> Response:
        if not is_local(request):
            raise Forbidden("only clients on the same machine, without a proxy, can choose who they are")
        data = await read_form(request, max_body_bytes)
        name = data.get("name", "").strip()
        response = Response(status_code=303, headers=HEADERS)
        response.headers["Location"] = root_of(request) + page_after(data.get("next", "")).removeprefix("/")
        path = f"{prefix_of(request)}/ui"
        if data.get("do") == "clear":
            response.delete_cookie(COOKIE, path=path, httponly=True, samesite="strict")
            return response
        if not _is_name(name):
            raise InvalidRequest(f"choose a name of 1 to {NAME_MAX} printable characters")
        chosen = json.dumps([name, [role for role in self.roles if f"role.{role}" in data]])
        response.set_cookie(COOKIE, quote(chosen, safe=""), path=path, httponly=True, samesite="strict")
        return response


def _is_name(name: object) -> bool:
    return isinstance(name, str) and len(name) <= NAME_MAX and is_printable(name)
