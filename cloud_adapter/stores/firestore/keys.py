"""Reads the records of several idempotency keys of an instance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from google.cloud.firestore import AsyncClient, AsyncDocumentReference

from cloud_adapter.document import KeyRecord
from cloud_adapter.errors import DuplicateKey
from cloud_adapter.stores.firestore.calls import Calls
from cloud_adapter.stores.firestore.documents import KEYS, Snapshot, key_of, key_reference


async def expired_keys(
    calls: Calls,
    client: AsyncClient,
    instance: AsyncDocumentReference,
    keys: Sequence[KeyRecord],
    now: datetime | None,
) -> Mapping[str, Snapshot]:
    """Reads the expired records that new ones have to replace, by their keys, with one RPC. Records that no longer
    exist are left out.

    Raises:
        DuplicateKey: a record has not expired.
    """
    references = [key_reference(instance, key.key) for key in keys]
    found = await calls.get_all(client, references)
    snapshots = {snapshot.id: snapshot for snapshot in found}
    expired: dict[str, Snapshot] = {}
    for key, reference in zip(keys, references, strict=True):
        snapshot = snapshots[reference.id]
        record = key_of(snapshot)
        if record is None:
            continue
        if now is None or record.expires_at > now:
            raise DuplicateKey(f"the idempotency key {key.key!r} of {instance.path} is already recorded")
        expired[key.key] = snapshot
    return expired


async def unexpired_keys(
    calls: Calls, instance: AsyncDocumentReference, now: datetime, limit: int, after: str | None
) -> Sequence[KeyRecord]:
    """Returns records that have not expired by ``now``, in the order of the names of their documents."""
    query = instance.collection(KEYS).order_by("__name__")
    if after is not None:
        query = query.start_after({"__name__": key_reference(instance, after)})
    found: list[KeyRecord] = []
    while True:
        wanted = limit - len(found)
        snapshots = await calls.run(query.limit(wanted))
        records = [record for snapshot in snapshots if (record := key_of(snapshot)) is not None]
        found += [record for record in records if record.expires_at > now]
        if len(snapshots) < wanted or len(found) == limit:
            return found
        query = query.start_after(snapshots[-1])
