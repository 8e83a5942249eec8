"""The data that a store keeps for one instance, and its encoding as a flat document of plain values.

Every store writes the documents that ``encode`` returns, so only this module decides their layout. It does not depend
on a database.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import field
from datetime import UTC, datetime
from typing import Any

from pydantic import AwareDatetime, TypeAdapter

from cloud_adapter.document_size import check_size, counted_bytes
from cloud_adapter.errors import DamagedDocument, InvalidRequest, TooLarge
from cloud_adapter.history import (
    HISTORY_MAX,
    HistoryEntry,
    bytes_of,
    entry_texts,
    kept_entries,
    kept_texts,
    read_old_history,
    read_texts,
    readable_old_history,
)
from workflow_core import Execution, Status, WaitKind
from workflow_core.compact import is_folded
from workflow_core.parked import active
from workflow_core.records import record
from workflow_core.wait_types import TimedWait

FORMAT = 3
"""The newest version of the layout. A reader rejects newer versions. In version 1, the execution contains each thread
in full. Version 2 is written if what many threads share is stored once, and version 3 if secrets are encrypted, so that
a release that supports only older versions does not misread it."""

DOCUMENT_BYTES_MAX = 1_000_000
"""Firestore's limit is 1,048,576 bytes, names and overhead included."""

RESERVED_BYTES = 20_000
"""The bytes beyond the limit that a lease, a failure, a cancellation and a pause may use, so that they are possible for
every instance that fits."""

LEASE_BYTES = 1_000
"""The part of the reserve that a lease may use. The rest is kept for a failure, whatever is committed under the
lease."""

HISTORY_BYTES_MIN = 15_000
"""The bytes that the history may have beside the largest document. Together with both limits above, they are less than
Firestore's limit, so nothing is rejected because of the history."""

HISTORY_BYTES_MAX = 100_000
"""The most bytes of a history."""

_ENTRY_NAME = re.compile(r"(?!__.*__\Z)[A-Za-z0-9_-]{1,500}")

AFTER_NAMES = "~"
"""Follows all characters that the name of an inbox entry may have."""

_EVENT = WaitKind.EVENT
_NEEDS_MORE = frozenset((Status.FAILED, Status.CANCELED, Status.PAUSED))

INBOX_ENTRY_BYTES_MAX = 1_000_000
"""The most bytes that the body of an inbox entry may have."""

TOKENS_MAX = 20
"""How many commit tokens an instance remembers."""

TOKEN_CHARS_MAX = 10
"""How many characters it remembers of each. In hexadecimal, they are 40 random bits. All tokens together are a
seventh of what a commit of a small instance writes."""


@record(frozen=True, slots=True)
class Lease:
    """The right to run the instance's steps, for the process that knows the random ``token``.

    Attributes:
        keeps_events: whether clients' events may be kept in the inbox until it ends; see ``engine/kept_events.py``.
    """

    token: str
    expires_at: AwareDatetime
    keeps_events: bool = False


@record(frozen=True, slots=True)
class KeyRecord:
    """The record of a request with an idempotency key.

    Attributes:
        fingerprint: distinguishes a repetition of the request from another request under the same key.
        response: the body of the response, as JSON.
        expires_at: when the record may be deleted.
    """

    key: str
    fingerprint: str
    response: str
    expires_at: datetime


@record(frozen=True, slots=True)
class InboxEntry:
    """Something that has arrived for an instance and is stored beside it, until a commit processes it.

    Attributes:
        name: 1 to 500 of the characters ``A-Za-z0-9_-``, but not ``__...__``. Two posts under one name are one entry.
        body: JSON text.
        at: when it was posted. The inbox is read in this order.
    """

    workflow: str
    id: str
    name: str
    body: str
    at: datetime


@record(frozen=True)  # without slots, for ``with_values``
class Instance:
    """One instance, as it was loaded or as it will be saved.

    Attributes:
        fields: the user's fields, as JSON.
        entries: see ``history``; None: they were not loaded.
        new_entries: the entries that its next write adds to the history.
        entries_count: how many entries were ever added to the history.
        entries_bytes: the size of the stored history.
        old_history: entries that an earlier release has stored as a JSON array. The next write adds them too.
        wake_at: when something is due next. If it is in the past, the instance should be moving. None: the instance
            only waits.
        tokens: the random tokens of the last commits, newest last. They show whether a commit whose reply was lost was
            applied.
        has_kept_events: whether the inbox may contain clients' events, which come before later ones. Under a lease,
            ``lease.keeps_events`` says the same.
        version: the value that the store compares; None if the instance is not stored yet.
        document: the result of ``encode`` for the instance, if it was already computed.
        is_sealed: whether its secrets are encrypted; see ``engine.secrets``.
    """

    workflow: str
    id: str
    execution: Execution
    fields: str
    lease: Lease | None = None
    entries: tuple[HistoryEntry, ...] | None = None
    new_entries: tuple[HistoryEntry, ...] = ()
    entries_count: int = 0
    entries_bytes: int = 0
    old_history: str = ""
    wake_at: datetime | None = None
    tokens: tuple[str, ...] = ()
    search: Mapping[str, Any] = field(default_factory=dict)
    has_kept_events: bool = False
    version: Any = None
    document: Document | None = field(default=None, compare=False, repr=False)
    is_sealed: bool = False

    @property
    def history(self) -> tuple[HistoryEntry, ...]:
        """The entries of the history that it keeps, the oldest first. No decision needs them, so they are only loaded
        to be shown. Raises ``ValueError`` if they were not."""
        if self.entries is None:
            raise ValueError(f"the history of {self.workflow!r} {self.id!r} was not loaded")
        return self.entries

    def with_values(self, **values: Any) -> Instance:
        """Returns a copy with other values of some attributes. ``dataclasses.replace`` takes five times as long, and
        each commit makes several copies."""
        instance = object.__new__(Instance)
        object.__setattr__(instance, "__dict__", self.__dict__ | values)
        return instance


Document = dict[str, Any]
"""Texts, integers, aware datetimes, None, one flat map under ``search``, and a list of texts under ``entries``."""

_LEASE: TypeAdapter[Lease | None] = TypeAdapter(Lease | None)
_lease_json = _LEASE.serializer.to_json
"""``_LEASE.dump_json`` takes half as long again."""
_ENDED = Lease("", datetime.fromtimestamp(0, UTC), keeps_events=True)
"""Stored instead of a lease if there is none, but the inbox may contain events. Other code reads it as an expired
lease."""

NO_HISTORY = "[]"
"""Stored under ``history``, where earlier releases keep the entries."""

# The values that an instance contains unchanged. All others are validated when they are parsed.
_TYPES = {
    "workflow": str,
    "id": str,
    "fields": str,
    "wake_at": datetime | None,
    "tokens": str,
    "search": Mapping,
    "history": str,
    "entries_count": int | None,
    "entries_bytes": int | None,  # earlier releases lack the last two
}


def encode(instance: Instance) -> Document:
    """Returns the document of an instance. Of its history, it has only the new entries, under ``entries``: a store adds
    them to those that it has. If ``replaces_history``, the store replaces all of them by ``with_whole_history``.

    Raises:
        TooLarge: without its history, it exceeds ``DOCUMENT_BYTES_MAX`` plus the part of the reserve that it may use.
    """
    if instance.document is not None:
        return instance.document
    execution = instance.execution
    text = execution.to_json()
    new_entries = (*readable_old_history(instance.old_history), *instance.new_entries)
    entries = entry_texts(new_entries, instance.entries_count)
    document: Document = {
        "format": FORMAT if instance.is_sealed else 2 if is_folded(text) else 1,
        "workflow": instance.workflow,
        "id": instance.id,
        "status": execution.status.value,
        "pc": execution.pc,
        "created_at": execution.created_at,
        "updated_at": execution.updated_at,
        "wake_at": instance.wake_at,
        "lease": _lease_text(_ENDED if instance.lease is None and instance.has_kept_events else instance.lease),
        "tokens": " ".join(instance.tokens[-TOKENS_MAX:]),
        "execution": text,
        "fields": instance.fields,
        "history": NO_HISTORY,
        "entries_count": instance.entries_count + len(entries),
        "entries_bytes": instance.entries_bytes + bytes_of(entries),
        "entries": entries,
        "search": dict(instance.search),
    }
    more = 0 if instance.lease is None else LEASE_BYTES
    if execution.canceling or execution.status in _NEEDS_MORE:
        more = RESERVED_BYTES
    check_size(document, DOCUMENT_BYTES_MAX + more, execution.threads)
    return document


def replaces_history(instance: Instance) -> bool:
    """Whether the next write of an instance removes entries that it no longer keeps. This is rare: once in
    ``HISTORY_MAX`` entries, or if they become too large."""
    document = encode(instance)
    if document["entries_count"] // HISTORY_MAX != instance.entries_count // HISTORY_MAX:
        return True
    size: int = document["entries_bytes"]
    return size > HISTORY_BYTES_MIN and size > _history_bytes_max(document)


def with_whole_history(instance: Instance, stored: Sequence[str]) -> Document:
    """Returns the document of an instance with all entries that it keeps under ``entries``.

    Args:
        stored: the entries that the store has, in the version of the instance that was loaded.
    """
    document = encode(instance)
    texts = [*stored, *document["entries"]]
    # Less than the limit, so that not every commit reaches it again.
    kept = kept_texts(texts, _history_bytes_max(document) * 3 // 4)
    return document | {"entries": kept, "entries_bytes": bytes_of(kept)}


def _history_bytes_max(document: Document) -> int:
    return min(max(DOCUMENT_BYTES_MAX - counted_bytes(document), HISTORY_BYTES_MIN), HISTORY_BYTES_MAX)


def written(instance: Instance, version: Any, entries_bytes: int | None = None) -> Instance:
    """Returns an instance as it is after it was written, in its new version.

    Args:
        entries_bytes: the size of the stored history; None: the entries were only added.
    """
    document = encode(instance)
    entries = instance.entries
    return instance.with_values(
        entries=None if entries is None else kept_entries((*entries, *instance.new_entries)),
        new_entries=(),
        entries_count=document["entries_count"],
        entries_bytes=document["entries_bytes"] if entries_bytes is None else entries_bytes,
        old_history="",
        version=version,
        document=None,
    )


def with_lease(instance: Instance, lease: Lease, wake_at: datetime | None) -> Instance:
    """Returns the instance under another lease. Its document, if already computed, is changed in the same way."""
    document = instance.document
    if document is not None:
        document = document | {"lease": _lease_text(lease), "wake_at": wake_at}
    return instance.with_values(lease=lease, wake_at=wake_at, document=document)


def _lease_text(lease: Lease | None) -> str | None:
    return None if lease is None else _lease_json(lease, exclude_defaults=True).decode()


def check_entry(entry: InboxEntry) -> None:
    """Makes the checks that every store makes before it posts an entry.

    Raises:
        InvalidRequest: the name is invalid.
        TooLarge: the body has more than ``INBOX_ENTRY_BYTES_MAX``.
    """
    if not _ENTRY_NAME.fullmatch(entry.name):
        raise InvalidRequest(
            f"{entry.name[:100]!r} cannot be the name of an inbox entry: use 1 to 500 of A-Z, a-z, 0-9, '_' and '-', "
            f"but not '__...__'"
        )
    size = len(entry.body.encode())
    if size > INBOX_ENTRY_BYTES_MAX:
        raise TooLarge(
            f"the inbox entry {entry.name!r} of {entry.workflow!r} {entry.id!r} has {size:,} bytes, the limit is "
            f"{INBOX_ENTRY_BYTES_MAX:,}: keep large data elsewhere and store a reference to it"
        )


def decode(document: Mapping[str, Any], version: Any) -> Instance:
    """Reads an instance from its document. If the document has ``entries``, they are all entries of its history; if it
    does not, the history was not loaded.

    Raises:
        DamagedDocument: the document cannot be read. The message gives the reason.
    """
    place = check_format(document)
    for name, types in _TYPES.items():
        if not isinstance(document.get(name), types):
            raise DamagedDocument(f"{place} cannot be read: {name!r} is {document.get(name)!r:.100}")
    try:
        execution = Execution.from_json(document["execution"])
        _check_timers(execution)
        lease = _LEASE.validate_json(document["lease"]) if document["lease"] else None
        return Instance(
            workflow=document["workflow"],
            id=document["id"],
            execution=execution,
            fields=document["fields"],
            lease=None if lease == _ENDED else lease,
            entries=_entries_of(document),
            entries_count=document.get("entries_count") or 0,
            entries_bytes=document.get("entries_bytes") or 0,
            old_history=_old_history_of(document),
            wake_at=document["wake_at"],
            tokens=tuple(document["tokens"].split()),
            search=document["search"],
            has_kept_events=lease == _ENDED,
            version=version,
            is_sealed=document["format"] == FORMAT,
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DamagedDocument(f"{place} cannot be read: {error}") from error


def _entries_of(document: Mapping[str, Any]) -> tuple[HistoryEntry, ...] | None:
    if "entries" not in document:
        return None
    return kept_entries((*read_texts(document["entries"]), *read_old_history(_old_history_of(document))))


def _old_history_of(document: Mapping[str, Any]) -> str:
    history: str = document["history"]
    return "" if history == NO_HISTORY else history


def check_format(document: Mapping[str, Any]) -> str:
    """Returns how errors name a document.

    Raises:
        DamagedDocument: its format is newer than this release.
    """
    place = f"the document of {document.get('workflow')!r} {document.get('id')!r}"
    format = document.get("format")
    if not isinstance(format, int) or not 1 <= format <= FORMAT:
        raise DamagedDocument(f"{place} has format {format!r}, this release reads 1 to {FORMAT}: upgrade gorchestrate")
    return place


def _check_timers(execution: Execution) -> None:
    """Raises ``TypeError`` if the stored task of a timer is not a text."""
    for thread in active(execution.threads):
        for wait in thread.waits:
            if wait.kind is not _EVENT and isinstance(wait, TimedWait) and not isinstance(wait.task, str | None):
                raise TypeError(f"the task of {wait.event!r} is {wait.task!r:.100}")
