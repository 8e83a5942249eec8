"""``PageLogin``: people log in to the pages at an OpenID Connect issuer, and stay logged in by a cookie.

Theory of operation. There are two cookies, both sealed, so that only this service can write and read them. The first
lives from ``/ui/login`` to ``/ui/login/callback`` and binds the login to the browser that has started it: nobody can
make another browser finish a login of theirs. The second is the session. It is written at each login and contains the
principal, so there is no session id that somebody could know before. Their names begin with ``__Host-``: browsers
accept such cookies from this host only, over HTTPS, not from its subdomains. They are read for pages only, never for
``/wf/``.

What breaks this: a route that changes something on GET, because ``SameSite=Lax`` cookies come with links of other
sites; posts are also checked by ``callers.Gate``.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import astuple, replace
from typing import Any, Final

from starlette.requests import HTTPConnection, Request
from starlette.responses import Response
from starlette.routing import Route

from cloud_adapter.errors import InvalidCredential, InvalidRequest, SettingsError
from cloud_adapter.http.authentication import Authentication
from cloud_adapter.http.authenticators.login import Attempt, Login
from cloud_adapter.http.callers import is_secure
from cloud_adapter.http.pages.rendering import HEADERS, page
from cloud_adapter.http.prefixes import is_page, root_of
from cloud_adapter.http.queries import Handler
from cloud_adapter.http.sealing import Sealer
from cloud_adapter.http.sign_in import HOME, page_after
from cloud_adapter.settings import Settings
from cloud_adapter.variables import PREFIX
from workflow_core import Principal

SESSION: Final = "__Host-gorchestrate-session"
ATTEMPT: Final = "__Host-gorchestrate-login"
SESSION_SECONDS = 8 * 3600
ATTEMPT_SECONDS = 600
COOKIE_BYTES_MAX = 3_800
"""Browsers reject cookies of more than 4096 bytes, with their attributes."""

_OF_LOGIN = frozenset({"nonce", "at_hash", "c_hash"})
"""Claims that concern the login only."""


def with_login(authentication: Authentication, settings: Settings) -> Authentication:
    """Returns the authentication with the login of its pages, if it has one.

    Raises:
        SettingsError: the login needs settings that are missing.
    """
    if authentication.login is None:
        return authentication
    sign_in = PageLogin(authentication.login, settings.public_url, settings.listed_session_keys)
    return replace(authentication, sign_in=sign_in)


class PageLogin:
    """See the theory of operation above.

    Args:
        public_url: the URL at which browsers reach the service.
        keys: the keys of the cookies; see ``Sealer``.
        now: a clock in seconds since 1970.

    Raises:
        SettingsError: the URL or the keys are missing, or the URL is not secure.
    """

    template = "login.html"
    login_path = "ui/login"

    def __init__(
        self, login: Login, public_url: str, keys: Sequence[str], now: Callable[[], float] = time.time
    ) -> None:
        if not is_secure(public_url):
            raise SettingsError(f"Login needs {PREFIX}PUBLIC_URL, which must begin with https://: it is {public_url!r}")
        if not keys:
            raise SettingsError(f"Login needs {PREFIX}SESSION_KEYS: make a key with `gorchestrate secret-key`")
        self._login = login
        self._redirect_uri = f"{public_url}/{self.login_path}/callback"
        self._sealer = Sealer(keys, now)

    async def __call__(self, connection: HTTPConnection) -> Principal | None:
        """Returns the principal of the session. See ``SignIn``."""
        sealed = connection.cookies.get(SESSION)
        if not sealed or not is_page(connection):
            return None
        found = self._sealer.open(SESSION, sealed)
        if found is None:
            return None
        id, name, kind, roles, claims = found
        return Principal(id, name, kind, frozenset(roles), claims)

    def routes(self, page: Callable[..., Handler], max_body_bytes: int) -> list[Route]:
        """Returns the routes. See ``SignIn``."""
        return [
            Route("/ui/login", page(self._start, "next"), methods=["GET"]),
            # Issuers add parameters of their own.
            Route("/ui/login/callback", page(self._finish, more=lambda request: request.query_params), methods=["GET"]),
            Route("/ui/logout", page(self._log_out), methods=["POST"]),
        ]

    def values(self, request: Request, principal: Principal | None) -> dict[str, Any] | None:
        """Returns what the header shows. See ``SignIn``."""
        return {"is_session": SESSION in request.cookies}

    async def _start(self, request: Request) -> Response:
        attempt = Attempt.new()
        location = await self._login.url(attempt, self._redirect_uri)
        after = page_after(request.query_params.get("next", ""))
        if f"{after.partition('?')[0]}/".startswith(f"/{self.login_path}/"):
            after = HOME  # not to the error of a login, or there is no end of logins
        kept = [*astuple(attempt), after]
        response = _redirect(location)
        _set(response, ATTEMPT, self._sealer.seal(ATTEMPT, kept, ATTEMPT_SECONDS), ATTEMPT_SECONDS)
        return response

    async def _finish(self, request: Request) -> Response:
        kept = self._sealer.open(ATTEMPT, request.cookies.get(ATTEMPT, ""))
        if kept is None:
            raise InvalidRequest(
                "this login was not started in this browser, or more than ten minutes ago: log in again"
            )
        *secrets, after = kept
        principal = await self._login.principal(request.query_params, Attempt(*secrets), self._redirect_uri)
        response = _redirect(root_of(request) + after.removeprefix("/"))
        _set(response, SESSION, self._session(principal), SESSION_SECONDS)
        _delete(response, ATTEMPT)
        return response

    def _session(self, principal: Principal) -> str:
        claims = {name: value for name, value in principal.claims.items() if name not in _OF_LOGIN}
        value = [principal.id, principal.name, principal.kind, sorted(principal.roles), claims]
        sealed = self._sealer.seal(SESSION, value, SESSION_SECONDS)
        if len(sealed) > COOKIE_BYTES_MAX:
            raise InvalidCredential("the ID token has too many claims for a cookie: let the issuer send fewer of them")
        return sealed

    async def _log_out(self, request: Request) -> Response:
        response = page(request, "logged_out.html")
        _delete(response, SESSION)
        _delete(response, ATTEMPT)
        return response


def _redirect(location: str) -> Response:
    return Response(status_code=303, headers=HEADERS | {"Location": location})


def _set(response: Response, name: str, value: str, seconds: int) -> None:
    response.set_cookie(name, value, max_age=seconds, path="/", secure=True, httponly=True, samesite="lax")


def _delete(response: Response, name: str) -> None:
    response.delete_cookie(name, path="/", secure=True, httponly=True, samesite="lax")
