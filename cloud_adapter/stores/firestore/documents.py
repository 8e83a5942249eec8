"""The documents, and how instances, keys and inbox entries are converted to documents and back.

    workflows/{workflow}/instances/{id}                                   the result of ``document.encode``, and
                                                                          all kept entries of its history
    workflows/{workflow}/instances/{id}/idempotency_keys/{SHA-256}        a ``KeyRecord``
    workflows/{workflow}/instances/{id}/instance_inbox/{name}             ``at`` and ``body`` of an ``InboxEntry``

There is no document at ``workflows/{workflow}`` itself. This module makes no calls and contains no queries.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any, TypeAlias

from google.cloud.firestore import (
    ArrayUnion,
    AsyncClient,
    AsyncDocumentReference,
    DocumentSnapshot,
)
from pydantic_core import from_json, to_json

from cloud_adapter.document import (
    DOCUMENT_BYTES_MAX,
    Document,
    InboxEntry,
    Instance,
    KeyRecord,
    decode,
    encode,
    with_whole_history,
)
from cloud_adapter.errors import DamagedDocument, TooLarge
from cloud_adapter.names import check_id
from cloud_adapter.stores.firestore.reads import ReadDocument
from cloud_adapter.stores.firestore.writes import Writes
from cloud_adapter.stores.listings import EPOCH
from cloud_adapter.summaries import SUMMARY_FIELDS, Due, Summary, read_due, read_summary, stored_error
from workflow_core import Status

Snapshot: TypeAlias = "DocumentSnapshot[AsyncDocumentReference]"
"""A document that Google's client has read."""

AnyRead: TypeAlias = "ReadDocument | Snapshot"
"""A document that was read by itself, or by Google's client with others."""

INSTANCES = "instances"
"""The collection group of the instances."""

KEYS = "idempotency_keys"
"""The collection group of the idempotency keys. The TTL policy applies to every collection of that name in the
database, so a user's own data must be unlikely to use the name."""

INBOX = "instance_inbox"
"""The collection group of the inbox entries. Its indexes also apply to every collection of that name."""

ERROR = "error"
"""The field with the error of a failed instance as JSON, so that lists do not have to read executions. Documents that
earlier releases have written do not have it."""

SUMMARY_PATHS = (*SUMMARY_FIELDS, ERROR)
"""The fields that a list reads."""

ENTRIES = "entries"
"""The field with the entries of the history, as an array of texts."""

FIXED = frozenset(("workflow", "id", "created_at"))
"""The fields that an update does not change."""

LOAD_PATHS = (
    *("format", "workflow", "id", "wake_at", "lease", "tokens", "search", "execution", "fields"),
    *("history", "entries_count", "entries_bytes"),
)
"""The fields that a load reads, without ``ENTRIES``."""

DUE_PATHS = ("workflow", "id", "status", "wake_at", "postponed", "postponed_until")
"""The fields that a search for due instances reads."""

RESPONSES_BYTES_MAX = 3_000_000
"""The most bytes of responses that one commit records. Together with the document, they must fit in one message of the
emulator."""


def instance_reference(client: AsyncClient, workflow: str, id: str) -> AsyncDocumentReference:
    """Returns the reference of an instance's document."""
    reference: AsyncDocumentReference = client.document("workflows", workflow, INSTANCES, check_id(id))
    return reference


def key_reference(instance: AsyncDocumentReference, key: str) -> AsyncDocumentReference:
    """Returns the reference of the document of an idempotency key."""
    # A key may contain characters that an id may not, and sequential keys must not be stored next to each other.
    reference: AsyncDocumentReference = instance.collection(KEYS).document(hashlib.sha256(key.encode()).hexdigest())
    return reference


def entry_reference(client: AsyncClient, entry: InboxEntry) -> AsyncDocumentReference:
    """Returns the reference of an inbox entry's document."""
    reference: AsyncDocumentReference = (
        instance_reference(client, entry.workflow, entry.id).collection(INBOX).document(entry.name)
    )
    return reference


def document_of(instance: Instance, stored: Sequence[str] | None = None) -> Document:
    """Returns the document of an instance.

    Args:
        stored: the stored entries of its history, if the write replaces them.
    """
    document = encode(instance) if stored is None else with_whole_history(instance, stored)
    times = {name: document[name] or EPOCH for name in ("created_at", "updated_at")}
    return document | times | {ERROR: stored_error(instance)}


def check_responses(id: str, keys: Sequence[KeyRecord]) -> None:
    """Raises ``TooLarge`` if a response does not fit in a document, or all responses together do not fit in a
    commit."""
    total = 0
    for key in keys:
        size = len(key.response.encode())
        total += size
        if size > DOCUMENT_BYTES_MAX:
            raise TooLarge(
                f"the response to {key.key!r} of {id!r} has {size:,} bytes, the limit under an idempotency key is "
                f"{DOCUMENT_BYTES_MAX:,}: answer with a reference"
            )
    if total > RESPONSES_BYTES_MAX:
        raise TooLarge(
            f"the responses to {len(keys)} idempotency keys of {id!r} have {total:,} bytes, the limit of one commit is "
            f"{RESPONSES_BYTES_MAX:,}: commit fewer at a time"
        )


def record_keys(
    writes: Writes,
    instance: AsyncDocumentReference,
    keys: Sequence[KeyRecord],
    expired: Mapping[str, Snapshot],
) -> None:
    """Adds the records of keys. They replace the expired ones."""
    for key in keys:
        record = {
            "key": key.key,
            "fingerprint": key.fingerprint,
            "response": key.response,
            "expires_at": key.expires_at,
        }
        reference = key_reference(instance, key.key)
        if key.key in expired:
            writes.update(reference, record, version_of(expired[key.key].update_time))
        else:
            writes.create(reference, record)


def update_of(instance: Instance, document: Document, *, replaces_history: bool = False) -> Document:
    """Returns what an update writes of an instance's document. Its entries are added to the stored ones, or replace
    them."""
    fixed = FIXED if instance.old_history else FIXED | {"history"}
    changed = {name: value for name, value in document.items() if name not in fixed}
    if not replaces_history:
        added = changed.pop(ENTRIES)
        if added:  # an array without elements would still cost a transform
            changed[ENTRIES] = ArrayUnion(added)
    return changed


def entries_of(snapshot: AnyRead) -> Sequence[str]:
    """Returns the stored entries of a history, of which ``ENTRIES`` was read."""
    entries = (snapshot.to_dict() or {}).get(ENTRIES)
    return [text for text in entries if isinstance(text, str)] if isinstance(entries, list) else []


def instance_of(snapshot: AnyRead, *, history: bool = False) -> Instance:
    """Reads an instance and its version from a document."""
    document = snapshot.to_dict() or {}
    if history:
        document.setdefault(ENTRIES, [])  # an earlier release has written it
    if isinstance(document.get("wake_at"), datetime):
        document["wake_at"] = _plain(document["wake_at"])
    with _damage_of(snapshot):
        return decode(document, version_of(snapshot.update_time))


def summary_of(snapshot: Snapshot, execution: Snapshot | None = None) -> Summary:
    """Reads a summary from a document of which ``SUMMARY_PATHS`` were read.

    Args:
        execution: the same document with its execution, if it ``lacks_error``.
    """
    document = {ERROR: None} | (snapshot.to_dict() or {})
    with _damage_of(snapshot):
        if execution is not None:
            data = from_json((execution.to_dict() or {}).get("execution", "null"))
            document[ERROR] = to_json(data["error"]).decode() if data and data.get("error") else None
        for name in ("created_at", "updated_at", "wake_at"):
            if isinstance(document.get(name), datetime):
                document[name] = _plain(document[name])
        return read_summary(document)


def lacks_error(snapshot: Snapshot) -> bool:
    """Whether a document has an error that only its execution contains."""
    document = snapshot.to_dict() or {}
    return ERROR not in document and document.get("status") == Status.FAILED


def due_of(snapshot: Snapshot) -> Due:
    """Reads from a document of which ``DUE_PATHS`` were read."""
    document = snapshot.to_dict() or {}
    with _damage_of(snapshot):
        return read_due(document | {"wake_at": _plain(document["wake_at"])}, version_of(snapshot.update_time))


def entry_of(workflow: str, id: str, snapshot: Snapshot) -> InboxEntry:
    """Reads an inbox entry from a document."""
    document = snapshot.to_dict() or {}
    try:
        body = document["body"]
        if not isinstance(body, str):
            raise TypeError(f"the body is {body!r:.100}")
        return InboxEntry(workflow, id, snapshot.id, body, _plain(document["at"]))
    except (KeyError, TypeError, AttributeError) as error:
        raise DamagedDocument(f"the document {snapshot.reference.path} cannot be read: {error!r}") from error


def key_of(snapshot: AnyRead) -> KeyRecord | None:
    """Reads a key record from a document; None if there is no document."""
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
    """Returns nanoseconds since 1970. The client returns some times as protobuf timestamps and some as datetimes, which
    never compare equal."""
    at = update_time.timestamp_pb() if hasattr(update_time, "timestamp_pb") else update_time
    return int(at.seconds) * 10**9 + int(at.nanos)


def _plain(at: datetime) -> datetime:
    """Returns the same time as a plain ``datetime``, not as Google's subclass."""
    return datetime.combine(at.date(), at.timetz())


@contextmanager
def _damage_of(snapshot: AnyRead) -> Iterator[None]:
    try:
        yield
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DamagedDocument(f"the document {snapshot.reference.path} cannot be read: {error}") from error
