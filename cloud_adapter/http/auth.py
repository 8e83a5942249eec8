"""Who may call the worker: whoever bears an OIDC token of the tasks' service account, and nobody else.

The headers of Cloud Tasks prove nothing, since anybody can send them.
"""

from __future__ import annotations

import asyncio
import json
import logging
import math
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPException
from threading import Lock
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

import jwt
from starlette.requests import Request

from cloud_adapter.errors import Forbidden, Unauthenticated, Unavailable
from cloud_adapter.settings import GOOGLE_ISSUER, Settings

GOOGLE_KEYS_URL = "https://www.googleapis.com/oauth2/v3/certs"
DISCOVERY_PATH = "/.well-known/openid-configuration"
KEYS_LIFESPAN_S = 3600
KEYS_LIFESPAN_S_MAX = 6 * 3600
"""How long known keys are used while the issuer does not give them again: about as long as Google allows."""
KEYS_REFRESH_S_MIN = 30
"""How long nobody asks for keys again once there are some, be it that a key id is unknown (anybody can send tokens with
unknown ids) or that the issuer has not answered."""
KEYS_TIMEOUT_S = 10
KEYS_THREADS_MAX = 16
LEEWAY_S = 30
"""By how much the issuer's clock may differ from this one when the times in a token are checked."""

_logger = logging.getLogger("gorchestrate.http")

Authorize = Callable[[Request], Awaitable[None]]
"""Returns if the request may be served, else raises ``Unauthenticated`` or ``Forbidden``."""


class OidcVerifier:
    """Checks the bearer token of a request: signature, issuer, audience, time, ``email`` and ``email_verified``.

    Args:
        keys_url: where the issuer's keys (a JWKS) are; None: where its discovery document says that they are.
        monotonic: tells the age of the keys, in seconds.
    """

    def __init__(
        self,
        *,
        issuer: str,
        audience: str,
        email: str,
        keys_url: str | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        # Google signs with and without the scheme.
        self.issuers = [issuer, issuer.removeprefix("https://")] if issuer == GOOGLE_ISSUER else [issuer]
        self.audience = audience
        self.email = email
        self.keys = IssuerKeys(issuer, keys_url, monotonic)
        # Its own, because slow synchronous steps may hold all of the loop's: then no task would get in.
        self._threads = ThreadPoolExecutor(KEYS_THREADS_MAX, thread_name_prefix="issuer-keys")

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
            Unavailable: could not fetch the issuer's keys.
        """
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise Unauthenticated("this is for the task queue alone: the request bears no OIDC token")
        id = _key_id(token)
        key = self.keys.known(id)
        if key is None:
            key = await asyncio.get_running_loop().run_in_executor(self._threads, self.keys.find, id)
        self._check(token, key)

    def verify(self, token: str) -> None:
        """The check itself; blocks while keys are fetched."""
        self._check(token, self.keys.find(_key_id(token)))

    def _check(self, token: str, key: jwt.PyJWK | None) -> None:
        if key is None:
            raise Unauthenticated(f"the OIDC token was not signed by {self.issuers[0]}: it has no key of this id")
        try:
            claims = jwt.decode(
                token,
                key,
                algorithms=["RS256"],
                audience=self.audience,
                issuer=self.issuers,
                leeway=LEEWAY_S,
                options={"require": ["exp", "iat", "iss", "aud"]},
            )
        except jwt.InvalidTokenError as error:
            raise Unauthenticated(f"the OIDC token is not valid here: {error}") from error
        if claims.get("email") != self.email or claims.get("email_verified") is not True:
            raise Forbidden(f"the OIDC token is not one of {self.email}")


def _key_id(token: str) -> str | None:
    try:
        id: str | None = jwt.get_unverified_header(token).get("kid")
    except jwt.InvalidTokenError as error:
        raise Unauthenticated(f"the OIDC token is not one: {error}") from error
    return id


class IssuerKeys:
    """The keys of an issuer, fetched with the first token and again after an hour. Safe for threads.

    While they cannot be fetched again, those that are known go on being used, for up to ``KEYS_LIFESPAN_S_MAX``.
    """

    def __init__(
        self, issuer: str, keys_url: str | None = None, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._issuer = issuer
        self._keys_url = keys_url
        self._monotonic = monotonic
        self._keys: dict[str, jwt.PyJWK] = {}
        self._fetched_at = -math.inf
        self._failed_at = -math.inf
        self._failure = ""
        self._lock = Lock()

    def known(self, id: str | None) -> jwt.PyJWK | None:
        """The key of an id, if there is no need to ask the issuer for it; does not block."""
        now = self._monotonic()
        asked_at = max(self._fetched_at, self._failed_at)
        if now - self._fetched_at <= KEYS_LIFESPAN_S or now - asked_at <= KEYS_REFRESH_S_MIN:
            return self._usable(id, now)
        return None

    def find(self, id: str | None) -> jwt.PyJWK | None:
        """The key of an id, if the issuer has it; blocks while keys are fetched.

        Raises:
            Unavailable: could not fetch the keys.
        """
        came_at = self._monotonic()
        # Whoever has a key does not wait for another one who fetches them again.
        if not self._lock.acquire(blocking=self._usable(id, came_at) is None):
            return self._usable(id, came_at)
        try:
            if (key := self.known(id)) is not None:
                return key
            now = self._monotonic()
            if now - self._fetched_at <= KEYS_REFRESH_S_MIN:
                return None
            # Those who have waited while it failed do not ask one after the other: each may take its ten seconds.
            if self._failed_at < came_at and (not self._keys or now - self._failed_at > KEYS_REFRESH_S_MIN):
                self._fetch_again()
            if (key := self._usable(id, self._monotonic())) is None and self._failed_at > self._fetched_at:
                raise Unavailable(self._failure)
            return key
        finally:
            self._lock.release()

    def _usable(self, id: str | None, now: float) -> jwt.PyJWK | None:
        return self._keys.get(id) if id is not None and now - self._fetched_at <= KEYS_LIFESPAN_S_MAX else None

    def _fetch_again(self) -> None:
        try:
            self._keys = self.fetch()
            self._fetched_at = self._monotonic()
        except Unavailable as error:
            self._failure, self._failed_at = str(error), self._monotonic()
            _logger.warning("%s", error)

    def fetch(self) -> dict[str, jwt.PyJWK]:
        """The keys that the issuer has now, by their ids; blocks.

        Raises:
            Unavailable: could not fetch the keys.
        """
        try:
            url = self._keys_url or str(_get_json(self._issuer + DISCOVERY_PATH)["jwks_uri"])
            # Its "alg" does not count: we take RS256 alone, and there are emulators that misspell it.
            return {key["kid"]: jwt.PyJWK(key, "RS256") for key in _get_json(url)["keys"] if key.get("kty") == "RSA"}
        except (OSError, HTTPException, ValueError, KeyError, TypeError, AttributeError, jwt.PyJWTError) as error:
            raise Unavailable(f"could not fetch the signing keys of {self._issuer}: {error!r}") from error


def _get_json(url: str) -> dict[str, Any]:
    try:
        with urlopen(url, timeout=KEYS_TIMEOUT_S) as response:
            data: dict[str, Any] = json.load(response)
            return data
    except HTTPError as error:
        error.close()  # it is the response as well, and holds the connection
        raise
