"""Authenticates requests to the worker: only requests with an OIDC token of the tasks' service account are accepted.

The headers of Cloud Tasks prove nothing, because anyone can send them.

A private service on Cloud Run may receive tokens without their signature: Cloud Run verifies it and then writes
``REMOVED_SIGNATURE`` instead. Anyone can write this text. It is therefore accepted only if ``leaves_signature`` says
that no request reaches the worker without that check, and only if Cloud Run has checked this very token.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

from starlette.requests import Request

from cloud_adapter.errors import Forbidden, InvalidCredential, Unauthenticated
from cloud_adapter.http.authenticators.keys import IssuerKeys
from cloud_adapter.http.authenticators.oidc import GOOGLE_KEYS_URL
from cloud_adapter.http.authenticators.port import bearer_token
from cloud_adapter.http.authenticators.tokens import CLOUD_RUN_HEADER, UNTYPED, TokenVerifier, has_no_signature
from cloud_adapter.settings import GOOGLE_ISSUER, Settings

Authorize = Callable[[Request], Awaitable[None]]
"""Returns if the request may be served; raises ``Unauthenticated`` or ``Forbidden`` otherwise."""


class OidcVerifier:
    """Checks the bearer token of a request: signature, issuer, audience, time, ``email`` and ``email_verified``.

    Args:
        keys_url: the URL of the issuer's keys (a JWKS); None: the URL in the issuer's discovery document.
        leaves_signature: whether the worker is a private service on Cloud Run, which has verified the signature of each
            token that arrives without one. All claims are still checked.
        monotonic: a clock in seconds, for the age of the keys.
    """

    def __init__(
        self,
        *,
        issuer: str,
        audience: str,
        email: str,
        keys_url: str | None = None,
        leaves_signature: bool = False,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        # Google's tokens name the issuer with or without the scheme.
        issuers = [issuer, issuer.removeprefix("https://")] if issuer == GOOGLE_ISSUER else [issuer]
        self.audience = audience
        self.email = email
        self.leaves_signature = leaves_signature
        self.keys = IssuerKeys(issuer, keys_url, monotonic)
        self._verifier = TokenVerifier(
            self.keys,
            issuers=issuers,
            audience=audience,
            required=("exp", "iat", "iss", "aud"),
            types=UNTYPED,
            what="OIDC token",
        )

    @classmethod
    def from_settings(cls, settings: Settings) -> OidcVerifier:
        """Creates the verifier for these settings."""
        return cls(
            issuer=settings.issuer,
            # This URL is known, which saves the discovery request in a cold start.
            keys_url=GOOGLE_KEYS_URL if settings.issuer == GOOGLE_ISSUER else None,
            audience=settings.audience or settings.worker_url,
            email=settings.tasks_account,
            leaves_signature=settings.worker_auth == "iam",
        )

    async def __call__(self, request: Request) -> None:
        """Checks the token of a request.

        Raises:
            Unauthenticated: the token is missing or invalid.
            Forbidden: the token belongs to another account.
            Unavailable: the issuer's keys could not be fetched.
        """
        token = bearer_token(request)
        if token is None:
            raise Unauthenticated("the request has no OIDC token: only the task queue may call this service")
        if CLOUD_RUN_HEADER in request.headers and has_no_signature(token):
            raise InvalidCredential(f"the OIDC token is not valid: Cloud Run has checked that in {CLOUD_RUN_HEADER}")
        await self.verify(token)

    async def verify(self, token: str) -> None:
        """Checks a token. Raises the same errors."""
        if not has_no_signature(token):
            claims = await self._verifier.claims(token)
        elif self.leaves_signature:
            claims = self._verifier.claims_without_signature(token)
        else:
            raise InvalidCredential(
                "the OIDC token is not valid: Cloud Run has removed its signature, as it does on private services. Run "
                "deploy/deploy.sh again, which sets GORCHESTRATE_WORKER_AUTH=iam if the worker is private"
            )
        if claims.get("email") != self.email or claims.get("email_verified") is not True:
            raise Forbidden(f"the OIDC token does not belong to {self.email}")
