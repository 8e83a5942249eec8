"""Authenticates requests to the worker: only requests with an OIDC token of the tasks' service account are accepted.

The headers of Cloud Tasks prove nothing, because anyone can send them.
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
from threading import Lock, Thread
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
"""How long known keys are used while they cannot be fetched again: about as long as Google allows."""
KEYS_REFRESH_S_MIN = 30
"""The minimum time between two fetches once keys are known. It also applies if a key id is unknown, because anyone can
send tokens with unknown ids, and if the issuer did not answer."""
KEYS_TIMEOUT_S = 10
"""How long the issuer may take to answer; twice this for its two documents."""
KEYS_PATIENCE_S = 1
"""How long a token with a known key waits for new keys, which may no longer contain it."""
KEYS_BYTES_MAX = 1_000_000
KEYS_THREADS_MAX = 16
LEEWAY_S = 30
"""The accepted difference between the issuer's clock and this one when the times in a token are checked."""

_logger = logging.getLogger("gorchestrate.http")

Authorize = Callable[[Request], Awaitable[None]]
"""Returns if the request may be served; raises ``Unauthenticated`` or ``Forbidden`` otherwise."""


class OidcVerifier:
    """Checks the bearer token of a request: signature, issuer, audience, time, ``email`` and ``email_verified``.

    Args:
        keys_url: the URL of the issuer's keys (a JWKS); None: the URL in the issuer's discovery document.
        monotonic: a clock in seconds, for the age of the keys.
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
        # Google's tokens name the issuer with or without the scheme.
        self.issuers = [issuer, issuer.removeprefix("https://")] if issuer == GOOGLE_ISSUER else [issuer]
        self.audience = audience
        self.email = email
        self.keys = IssuerKeys(issuer, keys_url, monotonic)
        # Separate threads: slow synchronous steps may use all threads of the event loop and would block the check.
        self._threads = ThreadPoolExecutor(KEYS_THREADS_MAX, thread_name_prefix="issuer-keys")

    @classmethod
    def from_settings(cls, settings: Settings) -> OidcVerifier:
        """Creates the verifier for these settings."""
        return cls(
            issuer=settings.issuer,
            # This URL is known, which saves the discovery request in a cold start.
            keys_url=GOOGLE_KEYS_URL if settings.issuer == GOOGLE_ISSUER else None,
            audience=settings.audience or settings.worker_url,
            email=settings.tasks_account,
        )

    async def __call__(self, request: Request) -> None:
        """Checks the token of a request.

        Raises:
            Unauthenticated: the token is missing or invalid.
            Forbidden: the token belongs to another account.
            Unavailable: the issuer's keys could not be fetched.
        """
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise Unauthenticated("the request has no OIDC token: only the task queue may call this service")
        id = _key_id(token)
        key = self.keys.known(id)
        if key is None:
            key = await asyncio.get_running_loop().run_in_executor(self._threads, self.keys.find, id)
        self._check(token, key)

    def verify(self, token: str) -> None:
        """Checks a token. Blocks while keys are fetched."""
        self._check(token, self.keys.find(_key_id(token)))

    def _check(self, token: str, key: jwt.PyJWK | None) -> None:
        if key is None:
            raise Unauthenticated(f"the OIDC token was not signed by {self.issuers[0]}: its key id is unknown there")
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
            raise Unauthenticated(f"the OIDC token is not valid: {error}") from error
        if claims.get("email") != self.email or claims.get("email_verified") is not True:
            raise Forbidden(f"the OIDC token does not belong to {self.email}")


def _key_id(token: str) -> str | None:
    try:
        id: str | None = jwt.get_unverified_header(token).get("kid")
    except jwt.InvalidTokenError as error:
        raise Unauthenticated(f"the OIDC token cannot be read: {error}") from error
    return id


class IssuerKeys:
    """The keys of an issuer, fetched with the first token and again after an hour. Thread-safe.

    If they cannot be fetched again, or the issuer takes long, the known keys are used for up to
    ``KEYS_LIFESPAN_S_MAX``. Only one thread fetches at a time; it holds the lock.
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
        """Returns the key with that id if it is known and recent enough. Does not block."""
        now = self._monotonic()
        asked_at = max(self._fetched_at, self._failed_at)
        if now - self._fetched_at <= KEYS_LIFESPAN_S or now - asked_at <= KEYS_REFRESH_S_MIN:
            return self._usable(id, now)
        return None

    def find(self, id: str | None) -> jwt.PyJWK | None:
        """Returns the key with that id, or None if the issuer does not have it. Blocks while keys are fetched, with a
        known key at most for ``KEYS_PATIENCE_S``.

        Raises:
            Unavailable: the keys could not be fetched.
        """
        came_at = self._monotonic()
        if self._usable(id, came_at) is not None:
            self._refresh(id)
            return self._usable(id, came_at)
        if not self._lock.acquire(timeout=2 * KEYS_TIMEOUT_S):
            raise Unavailable(f"could not fetch the signing keys of {self._issuer}: it does not answer")
        try:
            if (key := self.known(id)) is not None:
                return key
            now = self._monotonic()
            if now - self._fetched_at <= KEYS_REFRESH_S_MIN:
                return None
            # After a failed fetch, the waiting threads must not each fetch again, because a fetch may take ten seconds.
            if self._failed_at < came_at and (not self._keys or now - self._failed_at > KEYS_REFRESH_S_MIN):
                self._fetch_again()
            if (key := self._usable(id, self._monotonic())) is None and self._failed_at > self._fetched_at:
                raise Unavailable(self._failure)
            return key
        finally:
            self._lock.release()

    def _refresh(self, id: str | None) -> None:
        """Fetches the keys again, in a thread of its own, if they are old and nobody is fetching them."""
        if self.known(id) is not None or not self._lock.acquire(blocking=False):
            return

        def fetch() -> None:
            try:
                self._fetch_again()
            finally:
                self._lock.release()

        thread = Thread(target=fetch, name="issuer-keys", daemon=True)
        try:
            thread.start()
        except BaseException:
            self._lock.release()
            raise
        thread.join(KEYS_PATIENCE_S)

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
            # The "alg" of a key is ignored: only RS256 is accepted, and some emulators misspell it.
            return {key["kid"]: jwt.PyJWK(key, "RS256") for key in _get_json(url)["keys"] if key.get("kty") == "RSA"}
        except (OSError, HTTPException, ValueError, KeyError, TypeError, AttributeError, jwt.PyJWTError) as error:
            raise Unavailable(f"could not fetch the signing keys of {self._issuer}: {error!r}") from error


def _get_json(url: str) -> dict[str, Any]:
    deadline = time.monotonic() + KEYS_TIMEOUT_S
    try:
        with urlopen(url, timeout=KEYS_TIMEOUT_S) as response:
            text = bytearray()
            while chunk := response.read1():
                text += chunk
                if time.monotonic() > deadline or len(text) > KEYS_BYTES_MAX:
                    raise TimeoutError(f"{url} sends too slowly or too much")
            data: dict[str, Any] = json.loads(text)
            return data
    except HTTPError as error:
        error.close()  # the error is also the response, which holds the connection
        raise
