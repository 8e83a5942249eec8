"""Which documents there are, and how instances, keys and inbox entries become documents and are read again.

    workflows/{workflow}/instances/{id}                                   what ``document.encode`` gives
    workflows/{workflow}/instances/{id}/idempotency_keys/{SHA-256}        a ``KeyRecord``
    workflows/{workflow}/instances/{id}/instance_inbox/{name}             ``at`` and ``body`` of an ``InboxEntry``

``workflows/{workflow}`` itself is no document. Makes no calls, and knows no query.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, TypeAlias

from google.cloud.firestore import (
    AsyncClient,
    AsyncDocumentReference,
    AsyncWriteBatch,
    DocumentSnapshot,
    WriteOption,
)
from google.protobuf.timestamp_pb2 import Timestamp

from cloud_adapter.document import DOCUMENT_BYTES_MAX, Document, InboxEntry, Instance, KeyRecord, decode, encode
from cloud_adapter.errors import DamagedDocument, TooLarge
from cloud_adapter.names import check_id
from cloud_adapter.stores.listings import EPOCH

Snapshot: TypeAlias = "DocumentSnapshot[AsyncDocumentReference]"

INSTANCES = "instances"
"""The collection group of the instances."""

KEYS = "idempotency_keys"
"""The collection group of the idempotency keys. The TTL policy holds for every collection of that name in the
database, so it must not be a name that a user's own data is likely to bear."""

INBOX = "instance_inbox"
"""The collection group of the inbox entries. Its indexes hold for every collection of that name, too."""

RESPONSES_BYTES_MAX = 3_000_000
"""How large the responses may be that one commit records: with the document, they must fit the emulator's messages."""


def instance_reference(client: AsyncClient, workflow: str, id: str) -> AsyncDocumentReference:
    """Where an instance is."""
    reference: AsyncDocumentReference = client.document("workflows", workflow, INSTANCES, check_id(id))
    return reference


def key_reference(instance: AsyncDocumentReference, key: str) -> AsyncDocumentReference:
    """Where the record of a key of an instance is."""
    # A key may hold what an id may not, and keys that follow one another must not lie side by side.
    reference: AsyncDocumentReference = instance.collection(KEYS).document(hashlib.sha256(key.encode()).hexdigest())
    return reference


def entry_reference(client: AsyncClient, entry: InboxEntry) -> AsyncDocumentReference:
    """Where an inbox entry is."""
    reference: AsyncDocumentReference = (
        instance_reference(client, entry.workflow, entry.id).collection(INBOX).document(entry.name)
    )
    return reference


def document_of(instance: Instance) -> Document:
    """The document of an instance."""
    document = encode(instance)
    return document | {"updated_at": document["updated_at"] or EPOCH}


def check_responses(id: str, keys: Sequence[KeyRecord]) -> None:
    """Raises ``TooLarge`` if the responses of keys do not fit a document each, or one commit all together."""
    total = 0
    for key in keys:
        size = len(key.response.encode())
        total += size
        if size > DOCUMENT_BYTES_MAX:
            raise TooLarge(
                f"the response to {key.key!r} of {id!r} has {size:,} bytes, {DOCUMENT_BYTES_MAX:,} can be kept "
                f"under an idempotency key: answer with a reference"
            )
    if total > RESPONSES_BYTES_MAX:
        raise TooLarge(
            f"the responses to {len(keys)} idempotency keys of {id!r} have {total:,} bytes, one commit records "
            f"{RESPONSES_BYTES_MAX:,}: commit fewer at a time"
        )


def record_keys(
    client: AsyncClient,
    batch: AsyncWriteBatch,
    instance: AsyncDocumentReference,
    keys: Sequence[KeyRecord],
    expired: Mapping[str, Snapshot],
) -> None:
    """Adds the records of keys to a batch, in the place of those that have expired."""
    for key in keys:
        record = {
            "key": key.key,
            "fingerprint": key.fingerprint,
            "response": key.response,
            "expires_at": key.expires_at,
        }
        reference = key_reference(instance, key.key)
        if key.key in expired:
            version = version_of(expired[key.key].update_time)
            batch.update(reference, record, option=unless_changed(client, version))
        else:
            batch.create(reference, record)


def instance_of(snapshot: Snapshot) -> Instance:
    """The instance of a document, with its version."""
    document = snapshot.to_dict() or {}
    if isinstance(document.get("wake_at"), datetime):
        document["wake_at"] = _plain(document["wake_at"])
    try:
        return decode(document, version_of(snapshot.update_time))
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise DamagedDocument(f"the document {snapshot.reference.path} cannot be read: {error}") from error


def entry_of(workflow: str, id: str, snapshot: Snapshot) -> InboxEntry:
    """The inbox entry of a document."""
    document = snapshot.to_dict() or {}
    try:
        body = document["body"]
        if not isinstance(body, str):
            raise TypeError(f"the body is {body!r:.100}")
        return InboxEntry(workflow, id, snapshot.id, body, _plain(document["at"]))
    except (KeyError, TypeError, AttributeError) as error:
        raise DamagedDocument(f"the document {snapshot.reference.path} cannot be read: {error!r}") from error


def key_of(snapshot: Snapshot) -> KeyRecord | None:
    """The record of a document; None if there is none."""
    if not snapshot.exists:
        return None
    document = snapshot.to_dict() or {}
    try:
        texts = {name: document[name] for name in ("key", "fingerprint", "response")}
        if not all(isinstance(text, str) for text in texts.values()):
            raise TypeError(f"{texts!r:.100} are not all texts")
        return KeyRecord(**texts, expires_at=_plain(document["expires_at"]))
    except (KeyError, TypeError, AttributeError) as error:
        raise DamagedDocument(f"the document {snapshot.reference.path} cannot be read: {error!r}") from error


def version_of(update_time: Any) -> int:
    """Nanoseconds since 1970. The client gives some times as they came and some as datetimes, which never are equal."""
    at = update_time.timestamp_pb() if hasattr(update_time, "timestamp_pb") else update_time
    return int(at.seconds) * 10**9 + int(at.nanos)


def unless_changed(client: AsyncClient, version: int) -> WriteOption:
    """A write with it fails if its document is no longer at that version."""
    seconds, nanos = divmod(version, 10**9)
    return client.write_option(last_update_time=Timestamp(seconds=seconds, nanos=nanos))


def _plain(at: datetime) -> datetime:
    """The same time without Google's subclass of datetime."""
    return datetime.combine(at.date(), at.timetz())
