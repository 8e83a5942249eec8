"""Who may call the worker: whoever bears an OIDC token of the tasks' service account, and nobody else.

The headers of Cloud Tasks prove nothing, since anybody can send them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import jwt
from starlette.requests import Request

from cloud_adapter.errors import Forbidden, Unauthenticated, Unavailable
from cloud_adapter.settings import GOOGLE_ISSUER, Settings

GOOGLE_KEYS_URL = "https://www.googleapis.com/oauth2/v3/certs"
KEYS_LIFESPAN_S = 3600
CLOCK_SKEW_S = 30

Authorize = Callable[[Request], Awaitable[None]]
"""Returns if the request may be served, else raises ``Unauthenticated`` or ``Forbidden``."""


class OidcVerifier:
    """Checks the bearer token of a request: signature, issuer, audience, time, ``email`` and ``email_verified``.

    Args:
        keys_url: where the issuer's keys (a JWKS) are; they are kept for an hour.
    """

    def __init__(self, *, issuer: str, keys_url: str, audience: str, email: str) -> None:
        # Google signs with and without the scheme.
        self.issuers = [issuer, issuer.removeprefix("https://")] if issuer == GOOGLE_ISSUER else [issuer]
        self.audience = audience
        self.email = email
        self.keys = jwt.PyJWKClient(keys_url, cache_jwk_set=True, lifespan=KEYS_LIFESPAN_S, timeout=10)

    @classmethod
    def from_settings(cls, settings: Settings) -> OidcVerifier:
        """The verifier that the settings ask for."""
        google = settings.issuer == GOOGLE_ISSUER
        return cls(
            issuer=settings.issuer,
            keys_url=GOOGLE_KEYS_URL if google else f"{settings.issuer}/.well-known/jwks.json",
            audience=settings.audience or settings.worker_url,
            email=settings.tasks_account,
        )

    async def __call__(self, request: Request) -> None:
        """Raises ``Unauthenticated`` or ``Forbidden`` unless the request bears the right token.

        Raises:
            Unavailable: the issuer's keys cannot be had.
        """
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise Unauthenticated("this is for the task queue alone: the request bears no OIDC token")
        await asyncio.to_thread(self.verify, token)

    def verify(self, token: str) -> None:
        """The check itself; blocks while keys are fetched."""
        try:
            key = self.keys.get_signing_key_from_jwt(token)
        except jwt.PyJWKClientConnectionError as error:
            raise Unavailable(f"the keys of {self.issuers[0]} cannot be had: {error}") from error
        except (jwt.PyJWKClientError, jwt.InvalidTokenError) as error:
            raise Unauthenticated(f"the OIDC token was not signed by {self.issuers[0]}: {error}") from error
        try:
            claims = jwt.decode(
                token,
                key,
                algorithms=["RS256"],
                audience=self.audience,
                issuer=self.issuers,
                leeway=CLOCK_SKEW_S,
                options={"require": ["exp", "iat", "iss", "aud"]},
            )
        except jwt.InvalidTokenError as error:
            raise Unauthenticated(f"the OIDC token is not valid here: {error}") from error
        if claims.get("email") != self.email or claims.get("email_verified") is not True:
            raise Forbidden(f"the OIDC token is not one of {self.email}")
