"""Who may call the worker: whoever bears an OIDC token of the tasks' service account, and nobody else.

The headers of Cloud Tasks prove nothing, since anybody can send them.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from http.client import HTTPException
from threading import Lock
from typing import Any
from urllib.request import urlopen

import jwt
from starlette.requests import Request

from cloud_adapter.errors import Forbidden, Unauthenticated, Unavailable
from cloud_adapter.settings import GOOGLE_ISSUER, Settings

GOOGLE_KEYS_URL = "https://www.googleapis.com/oauth2/v3/certs"
DISCOVERY_PATH = "/.well-known/openid-configuration"
KEYS_LIFESPAN_S = 3600
KEYS_REFRESH_S_MIN = 30
"""How long an unknown key id makes nobody ask for the keys again: anybody can send tokens with unknown ids."""
KEYS_TIMEOUT_S = 10
CLOCK_SKEW_S = 30

Authorize = Callable[[Request], Awaitable[None]]
"""Returns if the request may be served, else raises ``Unauthenticated`` or ``Forbidden``."""


class OidcVerifier:
    """Checks the bearer token of a request: signature, issuer, audience, time, ``email`` and ``email_verified``.

    Args:
        keys_url: where the issuer's keys (a JWKS) are; None: where its discovery document says that they are.
    """

    def __init__(self, *, issuer: str, audience: str, email: str, keys_url: str | None = None) -> None:
        # Google signs with and without the scheme.
        self.issuers = [issuer, issuer.removeprefix("https://")] if issuer == GOOGLE_ISSUER else [issuer]
        self.audience = audience
        self.email = email
        self.keys = IssuerKeys(issuer, keys_url)

    @classmethod
    def from_settings(cls, settings: Settings) -> OidcVerifier:
        """The verifier that the settings ask for."""
        return cls(
            issuer=settings.issuer,
            # Known, so a cold start is spared the discovery.
            keys_url=GOOGLE_KEYS_URL if settings.issuer == GOOGLE_ISSUER else None,
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
            key = self.keys.find(jwt.get_unverified_header(token).get("kid"))
        except jwt.InvalidTokenError as error:
            raise Unauthenticated(f"the OIDC token is not one: {error}") from error
        if key is None:
            raise Unauthenticated(f"the OIDC token was not signed by {self.issuers[0]}: it has no key of this id")
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


class IssuerKeys:
    """The keys of an issuer, fetched with the first token and kept for an hour. Safe for threads."""

    def __init__(self, issuer: str, keys_url: str | None = None) -> None:
        self._issuer = issuer
        self._keys_url = keys_url
        self._keys: dict[str, jwt.PyJWK] = {}
        self._fetched_at: float | None = None
        self._lock = Lock()

    def find(self, id: object) -> jwt.PyJWK | None:
        """The key of an id, if the issuer has it; blocks while keys are fetched.

        Raises:
            Unavailable: the keys cannot be had.
        """
        with self._lock:
            age = None if self._fetched_at is None else time.monotonic() - self._fetched_at
            lifespan = KEYS_LIFESPAN_S if id in self._keys else KEYS_REFRESH_S_MIN
            if age is None or age > lifespan:
                self._keys = self._fetch()
                self._fetched_at = time.monotonic()
            return self._keys.get(id) if isinstance(id, str) else None

    def _fetch(self) -> dict[str, jwt.PyJWK]:
        try:
            url = self._keys_url or str(_get_json(self._issuer + DISCOVERY_PATH)["jwks_uri"])
            # Its "alg" does not count: we take RS256 alone, and there are emulators that misspell it.
            return {key["kid"]: jwt.PyJWK(key, "RS256") for key in _get_json(url)["keys"] if key.get("kty") == "RSA"}
        except (OSError, HTTPException, ValueError, KeyError, TypeError, jwt.PyJWTError) as error:
            raise Unavailable(f"the keys of {self._issuer} cannot be had: {error!r}") from error


def _get_json(url: str) -> dict[str, Any]:
    with urlopen(url, timeout=KEYS_TIMEOUT_S) as response:
        data: dict[str, Any] = json.load(response)
        return data
