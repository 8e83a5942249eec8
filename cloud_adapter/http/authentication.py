"""Finds the principal of each request, once, and hands it to the handlers."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import field
from typing import TYPE_CHECKING, Any

from starlette.requests import HTTPConnection, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from cloud_adapter.callbacks import Callbacks
from cloud_adapter.errors import InvalidCredential, TooManyRequests
from cloud_adapter.http.authenticators.api_key import KEY_PREFIX, ApiKey, is_api_key
from cloud_adapter.http.authenticators.callback import callback_principal
from cloud_adapter.http.authenticators.memberships import Memberships
from cloud_adapter.http.authenticators.port import BEARER, Authenticator, bearer_token
from cloud_adapter.http.prefixes import HEALTH_PATHS, path_in_app
from cloud_adapter.http.principals import set_principal
from cloud_adapter.http.rate_limit import UNLIMITED, RateLimit
from cloud_adapter.http.sign_in import SignIn, set_sign_in
from cloud_adapter.observability.line_limit import LineLimit, left_out_text
from workflow_core import ANONYMOUS, EVERYONE, Principal, WorkflowError
from workflow_core.records import record

if TYPE_CHECKING:
    from cloud_adapter.http.authenticators.login import Login

_logger = logging.getLogger("gorchestrate.http")

_KINDS = ("user", "service", "callback")


@record(frozen=True, slots=True)
class Authentication:
    """How the principals of requests are found.

    Attributes:
        authenticators: they are asked in this order. If there are none, the API is open.
        memberships: gives roles to the principals that are found.
        everyone: the principal of requests without credentials to an open API; None: they come from trusted code.
        optional: asked after the authenticators. An API that has only these is open, too.
        login: lets people log in to the pages. It becomes the ``sign_in`` with the settings; see ``with_login``.
        sign_in: how people say who they are on the pages. It is asked last.
    """

    authenticators: tuple[Authenticator, ...] = ()
    memberships: Memberships = field(default_factory=Memberships)
    everyone: Principal | None = EVERYONE
    optional: tuple[Authenticator, ...] = ()
    login: Login | None = None
    sign_in: SignIn | None = None

    @property
    def is_open(self) -> bool:
        """Whether requests without credentials may do everything."""
        return not self.authenticators

    @property
    def asked(self) -> tuple[Callable[[HTTPConnection], Awaitable[Principal | None]], ...]:
        """What finds principals, in order."""
        return (*self.authenticators, *self.optional, *((self.sign_in,) if self.sign_in else ()))

    async def principal(self, connection: HTTPConnection) -> Principal | None:
        """Returns the principal of a request. Without credentials, it is ``ANONYMOUS``.

        Raises:
            InvalidCredential: the credentials of the request are not valid.
            Unavailable: they could not be checked.
        """
        for authenticator in self.asked:
            found = await authenticator(connection)
            if found is not None:
                if not found.id or found.kind not in _KINDS:
                    raise TypeError(f"{type(authenticator).__name__} returned a principal without an id: {found!r}")
                return self.memberships.grant(found)
        token = bearer_token(connection) if self._takes_tokens else None
        if token is not None:
            # Not anonymous: a client that sends a token expects that it is checked.
            raise InvalidCredential(self._why_refused(token))
        return self.everyone if self.is_open else ANONYMOUS

    @property
    def schemes(self) -> dict[str, Mapping[str, Any]]:
        """The OpenAPI security schemes of the authenticators, under the names of their classes; none if the API is
        open."""
        found: dict[str, Mapping[str, Any]] = {}
        for authenticator in () if self.is_open else (*self.authenticators, *self.optional):
            name = type(authenticator).__name__
            number = sum(1 for other in found if other.rstrip("0123456789") == name)
            found[f"{name}{number + 1}" if number else name] = authenticator.scheme
        return found

    def _why_refused(self, token: str) -> str:
        """Says why no authenticator has read a token."""
        from cloud_adapter.http.authenticators.oidc import Oidc  # lazy: it needs PyJWT

        if is_api_key(token):
            return "API keys are not accepted here"
        takers = [authenticator for authenticator in self.authenticators if _takes_bearer(authenticator)]
        if all(isinstance(authenticator, ApiKey) for authenticator in takers):
            return f"the token is no API key: these begin with {KEY_PREFIX}, and no other tokens are accepted here"
        if any(isinstance(authenticator, Oidc) for authenticator in takers):
            return "the token is of an issuer that is not accepted here"
        return "the token is of a kind that is not accepted here"

    @property
    def _takes_tokens(self) -> bool:
        return any(map(_takes_bearer, self.authenticators))


def _takes_bearer(authenticator: Authenticator) -> bool:
    return bool(authenticator.scheme.get("scheme") == BEARER["scheme"])


OPEN = Authentication()
"""Every request may do everything."""

TRUSTED = Authentication(everyone=None)
"""Requests come from code of this process, which has the database anyway."""


class Authenticated:
    """Middleware that sets ``request.user`` to the principal, and ``request.auth`` to its roles.

    Args:
        refused: returns the response for a request that is rejected.
        limit: counts the requests whose credentials are wrong. Right credentials from the same address are served, even
            if there were too many wrong ones.
        callbacks: checks callback URLs. No authenticator is asked about a request that has such a URL.
    """

    def __init__(
        self,
        app: ASGIApp,
        authentication: Authentication,
        refused: Callable[[Request, Exception], Response],
        limit: RateLimit = UNLIMITED,
        callbacks: Callbacks | None = None,
    ) -> None:
        self.app = app
        self.authentication = authentication
        self.refused = refused
        self.limit = limit
        self.callbacks = callbacks
        self._lines = LineLimit()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        set_sign_in(scope, self.authentication.sign_in)
        request = Request(scope, receive)
        if path_in_app(request) in HEALTH_PATHS:  # probes must not depend on an issuer
            principal: Principal | None = ANONYMOUS
        else:
            try:
                principal = await self._principal(request)
            except WorkflowError as error:
                self._log(scope, error)
                await self.refused(request, error)(scope, receive, send)
                return
        set_principal(scope, principal)
        await self.app(scope, receive, send)

    def _log(self, scope: Scope, error: WorkflowError) -> None:
        if isinstance(error, TooManyRequests):  # the limit has logged it
            return
        left_out = self._lines.next()
        if left_out is not None:
            hint = f". {error.hint}" if isinstance(error, InvalidCredential) and error.hint else ""
            about = scope["method"][:20], scope["path"][:200], error, hint, left_out_text(left_out)
            _logger.info("%s %s refused: %s%s%s", *about)

    async def _principal(self, request: Request) -> Principal | None:
        try:
            callback = callback_principal(request, self.callbacks)
            return callback if callback is not None else await self.authentication.principal(request)
        except InvalidCredential:
            self.limit.count(request)
            raise
