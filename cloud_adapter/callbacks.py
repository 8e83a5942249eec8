"""The URLs of callbacks: what they look like, how they are signed, and how a request is checked.

A URL is that of the event, with the wait or the thread, and a token in the query::

    https://example.com/wf/order/1/Paid?wait_id=main%4012&callback=v1.KEY.EXPIRES.NONCE.MAC

Theory of operation. The MAC (HMAC-SHA256) covers everything that a request says about its target: the workflow, the id,
the event, the thread, the wait, and the other parts of the token as they are written. They are encoded as a JSON list,
so no two targets have the same encoding. Nothing is stored: a request is valid if its MAC is the one that this process
computes for it. ``KEY`` is part of a hash of the key, which finds the right one if there are several.

The token is in the query, because paths are recorded in more places: the log and the spans of this program contain the
paths of requests, but never queries.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Protocol
from urllib.parse import quote, urlencode

from cloud_adapter.errors import InvalidCredential, SettingsError
from cloud_adapter.settings import NEW_KEY
from workflow_core import Callback
from workflow_core.times import rfc3339

if TYPE_CHECKING:
    from cloud_adapter.ports import Clock

VERSION = "v1"
PARAMETER = "callback"
"""The query parameter with the token."""

INVALID = "this callback URL is not valid: use it exactly as it was given"


class KeyRing(Protocol):
    """The keys of a deployment."""

    def signing(self) -> bytes:
        """Returns the key that signs new URLs.

        Raises:
            SettingsError: there is none.
        """
        ...

    def all(self) -> Sequence[bytes]:
        """Returns all keys whose URLs are valid."""
        ...


class Keys:
    """The keys of the setting ``GORCHESTRATE_CALLBACK_KEYS``: the first one signs."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        self._keys = tuple(keys)

    def signing(self) -> bytes:
        """See ``KeyRing``."""
        if not self._keys:
            raise SettingsError(f"callback_url() needs a key in GORCHESTRATE_CALLBACK_KEYS: {NEW_KEY}")
        return self._keys[0]

    def all(self) -> Sequence[bytes]:
        """See ``KeyRing``."""
        return self._keys


class Callbacks:
    """Makes and checks the URLs of callbacks.

    Attributes:
        base_url: the URL at which outside systems reach the API; empty: unknown.
    """

    def __init__(self, keys: KeyRing, base_url: str, clock: Clock) -> None:
        self.base_url = base_url
        self._keys = keys
        self._clock = clock

    def url(self, callback: Callback, expires: timedelta) -> str:
        """Returns the URL of a callback.

        Raises:
            SettingsError: there is no key, or no base URL.
        """
        key = self._keys.signing()
        if not self.base_url:
            raise SettingsError(
                "callback_url() needs GORCHESTRATE_PUBLIC_URL, the URL at which outside systems reach the API"
            )
        expires_at = self._clock.now() + expires
        target = callback.workflow, callback.workflow_id, callback.event, callback.thread_id, callback.wait_id
        parts = (VERSION, _key_id(key), str(int(expires_at.timestamp())), callback.nonce)
        token = ".".join((*parts, _mac(key, parts, target)))
        address = {"thread": callback.thread_id, "wait_id": callback.wait_id, PARAMETER: token}
        query = urlencode({name: value for name, value in address.items() if value is not None})
        path = "/".join(quote(part, safe="") for part in target[:3] if part is not None)
        return f"{self.base_url}/wf/{path}?{query}"

    def read(
        self, token: str, workflow: str, id: str, event: str, thread_id: str | None, wait_id: str | None
    ) -> Callback:
        """Returns the callback that a request is for.

        Raises:
            InvalidCredential: the token is not valid for this request, or has expired.
        """
        *parts, mac = token.split(".")
        if not self._is_signed(parts, mac, (workflow, id, event, thread_id, wait_id)):
            raise InvalidCredential(INVALID)
        expires_at = datetime.fromtimestamp(int(parts[2]), UTC)
        if expires_at <= self._clock.now():
            raise InvalidCredential(f"this callback URL expired at {rfc3339(expires_at)}")
        return Callback(workflow, id, event, thread_id, wait_id, parts[3], expires_at)

    def _is_signed(self, parts: Sequence[str], mac: str, target: Sequence[str | None]) -> bool:
        if len(parts) != 4 or parts[0] != VERSION:
            return False
        given = mac.encode("utf-8", "backslashreplace")
        return any(
            # All parts are compared as they are written, so each callback has only one token.
            hmac.compare_digest(_mac(key, parts, target).encode(), given)
            for key in self._keys.all()
            if _key_id(key) == parts[1]
        )


def _mac(key: bytes, parts: Sequence[str], target: Sequence[str | None]) -> str:
    text = json.dumps(["gorchestrate callback", *parts, *target])
    return _base64(hmac.digest(key, text.encode(), "sha256"))


def _key_id(key: bytes) -> str:
    return _base64(hashlib.sha256(b"gorchestrate callback key " + key).digest())[:8]


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")
