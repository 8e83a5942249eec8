"""Idempotency keys: the record of a request, and the stored response when the request is repeated."""

from __future__ import annotations

from datetime import datetime, timedelta

from cloud_adapter.document import KeyRecord
from cloud_adapter.engine.commits import Committer
from cloud_adapter.engine.refs import InstanceRef
from cloud_adapter.errors import IdempotencyKeyReused, ResponseTooLarge
from workflow_core import Principal
from workflow_core.events import stable_key

RESPONSE_BYTES_MAX = 32_000
"""The maximum size of a response that is stored under a key."""


def stored_key(key: str | None, principal: Principal | None) -> str | None:
    """Returns the key under which a request is recorded. Principals with an id do not share keys, and the key of one of
    them contains a character that no key of a client has."""
    if key is None or principal is None or not principal.id:
        return key
    return f"\N{SECTION SIGN}{stable_key(principal.id, key)} {key}"


def sent_key(stored: str) -> str:
    """Returns the key of a request, from the key under which it is recorded."""
    return stored.partition(" ")[2] if stored.startswith("\N{SECTION SIGN}") else stored


def record_of(key: str | None, fingerprint: str, response: str, now: datetime, ttl: timedelta) -> KeyRecord | None:
    """Returns the record of a request; None if it has no key.

    Args:
        fingerprint: distinguishes the request from another one under the same key.
        ttl: how long the record is kept.

    Raises:
        ResponseTooLarge: the response is too large to be stored.
    """
    if key is None:
        return None
    if (size := len(response.encode())) > RESPONSE_BYTES_MAX:
        raise ResponseTooLarge(
            f"the response has {size:,} bytes, but only {RESPONSE_BYTES_MAX:,} are kept under an idempotency key. "
            f"Nothing was changed: send the request without a key, or let the handler return less"
        )
    return KeyRecord(key, fingerprint, response, now + ttl)


async def replay(committer: Committer, ref: InstanceRef, record: KeyRecord | None) -> bytes | None:
    """Returns the response that is stored under the key of a request; None if the key is new, or the request has none.

    Raises:
        IdempotencyKeyReused: the response was stored for another request.
    """
    if record is None:
        return None
    stored = await committer.load_key(ref, record.key)
    if stored is None:
        return None
    if stored.fingerprint != record.fingerprint:
        raise IdempotencyKeyReused(
            f"the idempotency key {sent_key(record.key)!r} was used for another request on {ref.id!r}: use a new key"
        )
    return stored.response.encode()
