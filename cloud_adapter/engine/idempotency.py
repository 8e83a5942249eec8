"""Idempotency keys: what is recorded of a request, and found again when it is made again."""

from __future__ import annotations

from datetime import datetime, timedelta

from cloud_adapter.document import KeyRecord
from cloud_adapter.engine.refs import InstanceRef
from cloud_adapter.errors import IdempotencyKeyReused
from cloud_adapter.ports import Clock, Store


def record_of(key: str | None, fingerprint: str, response: str, now: datetime, ttl: timedelta) -> KeyRecord | None:
    """What is recorded of a request; None if it has no key.

    Args:
        fingerprint: tells the request from another one under the same key.
        ttl: for how long it is kept.
    """
    return None if key is None else KeyRecord(key, fingerprint, response, now + ttl)


async def replay(store: Store, clock: Clock, ref: InstanceRef, record: KeyRecord | None) -> bytes | None:
    """The response that is stored under the key of a request; None if the key is new, or there is none.

    Raises:
        IdempotencyKeyReused: it was stored for another request.
    """
    if record is None:
        return None
    stored = await store.load_key(ref.workflow, ref.id, record.key, clock.now())
    if stored is None:
        return None
    if stored.fingerprint != record.fingerprint:
        raise IdempotencyKeyReused(
            f"the idempotency key {record.key!r} was used for another request on {ref.id!r}: take a new key"
        )
    return stored.response.encode()
