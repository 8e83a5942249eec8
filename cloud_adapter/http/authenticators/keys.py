"""The public keys with which an issuer signs its tokens: fetched, kept, and limited to safe algorithms."""

from __future__ import annotations

import asyncio
import json
import logging
import math
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from http.client import HTTPException
from threading import Lock, Thread
from typing import Any, Final
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import urlopen

import jwt
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from cloud_adapter.errors import Unavailable
from workflow_core.records import record

DISCOVERY_PATH = "/.well-known/openid-configuration"
KEYS_LIFESPAN_S = 3600
KEYS_LIFESPAN_S_MAX = 6 * 3600
"""How long known keys are used while they cannot be fetched again: about as long as Google allows."""
KEYS_REFRESH_S_MIN = 30
"""The minimum time between two fetches once keys are known. It also applies if a key id is unknown, because anyone can
send tokens with unknown ids, and if the issuer did not answer."""
KEYS_RETRY_S_MIN = 1
"""The minimum time between two fetches while no keys are known."""
KEYS_TIMEOUT_S = 10
"""How long the issuer may take to answer; twice this for its two documents."""
KEYS_PATIENCE_S = 1
"""How long a token with a known key waits for new keys, which may no longer contain it."""
KEYS_BYTES_MAX = 1_000_000
KEYS_MAX = 100
RSA_BITS_MIN = 2048

RSA: Final = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
CURVES: Final = {"secp256r1": ("ES256",), "secp384r1": ("ES384",)}

_logger = logging.getLogger("gorchestrate.http")


@record(frozen=True, slots=True)
class SigningKey:
    """A public key and the algorithms that may be used with it.

    The algorithms come from the key, not from the token: otherwise a forger could use a public key as the secret of a
    symmetric algorithm.
    """

    key: RSAPublicKey | EllipticCurvePublicKey | Ed25519PublicKey
    algorithms: tuple[str, ...]


def signing_key(jwk: Mapping[str, Any]) -> SigningKey | None:
    """Returns the key of a JWK; None if it is not a public key for signatures, or is too weak."""
    if jwk.get("use", "sig") != "sig" or "verify" not in jwk.get("key_ops", ["verify"]):
        return None
    try:
        # The algorithm is only needed for parsing: the one in the JWK may be misspelled, or missing.
        parsing = {"RSA": "RS256", "EC": "ES384" if jwk.get("crv") == "P-384" else "ES256", "OKP": "EdDSA"}
        key = jwt.PyJWK(dict(jwk), parsing[jwk["kty"]]).key
    except (jwt.PyJWTError, ValueError, TypeError, KeyError, AttributeError):
        return None
    algorithms: tuple[str, ...] = ()
    if isinstance(key, RSAPublicKey) and key.key_size >= RSA_BITS_MIN:
        algorithms = RSA
    elif isinstance(key, EllipticCurvePublicKey):
        algorithms = CURVES.get(key.curve.name, ())
    elif isinstance(key, Ed25519PublicKey):
        algorithms = ("EdDSA",)
    own = jwk.get("alg")
    return SigningKey(key, (own,) if own in algorithms else algorithms) if algorithms else None


class IssuerKeys:
    """The keys of an issuer, fetched with the first token and again after an hour. Thread-safe.

    At most one fetch runs at a time, in its own thread, because synchronous steps may use all threads of the event
    loop. While it runs, tokens with known keys are checked with these. If keys cannot be fetched again, the known ones
    are used for up to ``KEYS_LIFESPAN_S_MAX``.

    Args:
        keys_url: the URL of the keys (a JWKS); None: the URL in the issuer's discovery document.
        monotonic: a clock in seconds, for the age of the keys.
    """

    def __init__(
        self, issuer: str, keys_url: str | None = None, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self.issuer = issuer
        self._keys_url = keys_url
        self._monotonic = monotonic
        self._keys: dict[str, SigningKey] = {}
        self._fetched_at = -math.inf
        self._failed_at = -math.inf
        self._failure = ""
        self._lock = Lock()
        self._running: Future[None] | None = None

    async def find(self, id: str) -> SigningKey | None:
        """Returns the key with that id, or None if the issuer does not have it. Waits while keys are fetched; with a
        known key, only if this call starts the fetch, and at most for ``KEYS_PATIENCE_S``.

        Args:
            id: the key's id; empty for the key without an id.

        Raises:
            Unavailable: the keys could not be fetched.
        """
        came_at = self._monotonic()
        key = self._usable(id, came_at)
        if key is not None and came_at - self._fetched_at <= KEYS_LIFESPAN_S:
            return key
        fetch, is_ours = self._fetch_in_background(came_at)
        if key is not None and not is_ours:
            return key
        if fetch is not None and not await _finished(fetch, 2 * KEYS_TIMEOUT_S if key is None else KEYS_PATIENCE_S):
            if key is None:
                raise Unavailable(f"could not fetch the signing keys of {self.issuer}: it does not answer")
            return key
        key = self._usable(id, came_at)
        if key is None and self._failed_at > self._fetched_at:
            raise Unavailable(self._failure)
        return key

    def prefetch(self) -> None:
        """Fetches the keys before the first token needs them; blocks. If it fails, the first token fetches them."""
        try:
            keys = self.fetch()
        except Unavailable as error:
            _logger.info("%s", error)
            return
        self._keys, self._fetched_at = keys, self._monotonic()

    def _usable(self, id: str, now: float) -> SigningKey | None:
        return self._keys.get(id) if now - self._fetched_at <= KEYS_LIFESPAN_S_MAX else None

    def _fetch_in_background(self, now: float) -> tuple[Future[None] | None, bool]:
        """Returns the running fetch, or a new one, and whether it is new; None if it is too early for a new one."""
        with self._lock:
            if self._running is not None:
                return self._running, False
            pause = KEYS_REFRESH_S_MIN if self._keys else KEYS_RETRY_S_MIN
            if now - max(self._fetched_at, self._failed_at) <= pause:
                return None, False
            running: Future[None] = Future()
            running.set_running_or_notify_cancel()
            Thread(target=self._fetch_into, args=(running,), name="issuer-keys", daemon=True).start()
            self._running = running
            return running, True

    def _fetch_into(self, running: Future[None]) -> None:
        try:
            self._keys = self.fetch()
            self._fetched_at = self._monotonic()
        except Exception as error:
            why = str(error) if isinstance(error, Unavailable) else f"{type(error).__name__}"
            self._failure, self._failed_at = why, self._monotonic()
            _logger.warning("%s", why)
        finally:
            with self._lock:
                self._running = None
            running.set_result(None)

    def fetch(self) -> dict[str, SigningKey]:
        """The keys that the issuer has now, by their ids; blocks.

        Raises:
            Unavailable: could not fetch the keys.
        """
        try:
            found = {}
            for jwk in _get_json(self._keys_url or self._discover())["keys"][:KEYS_MAX]:
                # Keys of other kinds are skipped: they must not make the others unusable.
                if isinstance(jwk, dict) and (key := signing_key(jwk)) is not None:
                    found[str(jwk.get("kid", ""))] = key
            return found
        except (OSError, HTTPException, ValueError, KeyError, TypeError, RecursionError) as error:
            raise Unavailable(f"could not fetch the signing keys of {self.issuer}: {error!r}") from error

    def _discover(self) -> str:
        document = _get_json(self.issuer.rstrip("/") + DISCOVERY_PATH)
        if document["issuer"] != self.issuer:
            raise ValueError(f"its discovery document names the issuer {document['issuer']!r}")
        url = str(document["jwks_uri"])
        if urlsplit(url).scheme not in ("https", urlsplit(self.issuer).scheme):
            raise ValueError(f"its discovery document names the URL {url!r}, which is not https")
        return url


async def _finished(fetch: Future[None], seconds: float) -> bool:
    waiting = asyncio.wrap_future(fetch)
    try:
        done, _ = await asyncio.wait([waiting], timeout=seconds)
        return bool(done)
    finally:
        waiting.cancel()  # only the waiting: a running fetch cannot be canceled


def _get_json(url: str) -> dict[str, Any]:
    deadline = time.monotonic() + KEYS_TIMEOUT_S
    try:
        with urlopen(url, timeout=KEYS_TIMEOUT_S) as response:  # nosec B310 # https, or the scheme of the issuer
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
