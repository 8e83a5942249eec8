"""What a store holds of one instance, and how it becomes a flat document of plain values.

Every store writes the documents that ``encode`` makes, so their layout is decided here alone. Nothing here knows
a database.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any

from pydantic import AfterValidator, AwareDatetime, TypeAdapter

from cloud_adapter.errors import DamagedDocument, InvalidRequest, TooLarge
from workflow_core import Execution, Status
from workflow_core.compact import is_folded
from workflow_core.execution import Thread
from workflow_core.wait_types import TimedWait

FORMAT = 2
"""The newest version of the layout. A reader refuses a newer one. In 1, each thread stands in the execution in full; 2
is written where what many threads share is stored once, so that a release that knows 1 alone is not misled by it."""

DOCUMENT_BYTES_MAX = 1_000_000
"""Firestore's limit is 1,048,576 bytes, names and overhead included."""

RESERVED_BYTES = 20_000
"""What a lease, a failure, a cancellation and a pause may take beyond that: they are possible with all that fits. The
history takes what is left of both, so that nothing is refused for what it says."""

LEASE_BYTES = 1_000
"""How much of the reserve a lease may take: whatever is committed under it, the rest is there for a failure."""

_ENTRY_NAME = re.compile(r"(?!__.*__\Z)[A-Za-z0-9_-]{1,500}")

_UNCOUNTED = frozenset(("history", "tokens"))
"""What grows with each commit, whatever that changes; both have limits of their own."""

THREADS_MANY = 100
"""From how many threads on a document that is too large is blamed on their number."""

_NEEDS_MORE = frozenset((Status.FAILED, Status.CANCELED, Status.PAUSED))

HISTORY_MAX = 50
"""How many history entries an instance keeps; fewer where they take too much."""

INBOX_ENTRY_BYTES_MAX = 1_000_000
"""How large the body of an inbox entry may be."""

TOKENS_MAX = 20
"""How many commit tokens an instance remembers."""


@dataclass(frozen=True, slots=True)
class Lease:
    """Whoever holds it runs the instance's steps; ``token`` is random."""

    token: str
    expires_at: AwareDatetime


class HistoryKind(StrEnum):
    """What a history entry is about. The values are stored: add some, change none."""

    CREATED = "created"
    FAILED = "failed"
    """The instance has failed."""
    EVENT = "event"
    EVENT_FAILED = "event failed"
    EVENT_REJECTED = "event rejected"
    """An event that was buffered is refused where it is delivered; the instance goes on without it."""
    BUFFERED = "buffered"
    TIMEOUT = "timeout"
    STEP = "step"
    STEP_FAILED = "step failed"
    SETUP = "setup"
    SETUP_FAILED = "setup failed"
    TEARDOWN = "teardown"
    TEARDOWN_FAILED = "teardown failed"
    ACTIVITY = "activity"
    ACTIVITY_FAILED = "activity failed"
    CHILD = "child"
    CHILD_FAILED = "child failed"
    TELL = "tell"
    TELL_FAILED = "tell failed"
    CANCEL = "cancel"
    PAUSE = "pause"
    UNPAUSE = "unpause"
    RETRY = "retry"
    GOTO = "goto"
    SET = "set"

    @property
    def failed(self) -> bool:
        """Whether the instance, or one attempt at something, has failed."""
        return self in _FAILED


_FAILED = frozenset(
    (
        HistoryKind.FAILED,
        HistoryKind.EVENT_FAILED,
        HistoryKind.STEP_FAILED,
        HistoryKind.SETUP_FAILED,
        HistoryKind.TEARDOWN_FAILED,
        HistoryKind.ACTIVITY_FAILED,
        HistoryKind.CHILD_FAILED,
        HistoryKind.TELL_FAILED,
    )
)

_KINDS: Mapping[str, str] = {kind.value: kind for kind in HistoryKind}


def _known_kind(text: str) -> str:
    # A newer release may have stored a kind that this one does not know. The history decides nothing, so such an entry
    # must not make the instance unreadable: the kind stays a text, which is shown and stored again as it is.
    return _KINDS.get(text, text)


@dataclass(frozen=True, slots=True)
class HistoryEntry:
    """One thing that happened to an instance.

    Attributes:
        kind: ``created``, ``failed``; what was done, as ``event``, ``timeout``, ``step``, ``setup``, ``teardown``,
            ``activity``, ``child``, ``tell``, with ``failed`` behind it where that did not succeed; ``buffered``,
            ``event rejected``; what an operator did: ``cancel``, ``pause``, ``unpause``, ``retry``, ``goto``, ``set``.
        statement: the step or event it is about.
        select: for an event that was handled, the select that waited for it.
        duration_ms: how long the user's code ran.
        error: why it failed.
        by, reason: which operator did it, and why, as far as they said.
        detail: what the operator has changed.
    """

    at: AwareDatetime
    kind: Annotated[str, AfterValidator(_known_kind)]  # a HistoryKind, or the text of one that is not known here
    statement: str = ""
    thread: str = ""
    pc: int = 0
    duration_ms: float = 0
    error: str = ""
    select: str = ""
    by: str = ""
    reason: str = ""
    detail: str = ""


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """What is remembered of a request that carried an idempotency key.

    Attributes:
        fingerprint: tells another request under the same key from the same one made again.
        response: the body of the response, as JSON.
        expires_at: when it may be forgotten.
    """

    key: str
    fingerprint: str
    response: str
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class InboxEntry:
    """Something that has come for an instance and waits beside it, until a commit takes it in.

    Attributes:
        name: 1 to 500 of the characters ``A-Za-z0-9_-``, but not ``__...__``; what is posted under one name twice is
            one entry.
        body: JSON text.
        at: when it was posted: the inbox is read in this order.
    """

    workflow: str
    id: str
    name: str
    body: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Instance:
    """One instance as it was loaded, or as it is to be saved.

    Attributes:
        fields: the user's fields, as JSON.
        wake_at: when something is due next; in the past, the instance should be moving. None: it only waits.
        tokens: the random tokens of the last commits, newest last. A commit whose reply was lost is known by it.
        version: what the store compares; None for one that is not stored yet.
        document: what ``encode`` has made of the instance, if that was done already.
    """

    workflow: str
    id: str
    execution: Execution
    fields: str
    lease: Lease | None = None
    history: tuple[HistoryEntry, ...] = ()
    wake_at: datetime | None = None
    tokens: tuple[str, ...] = ()
    search: Mapping[str, Any] = field(default_factory=dict)
    version: Any = None
    document: Document | None = field(default=None, compare=False, repr=False)


Document = dict[str, Any]
"""Texts, integers, aware datetimes, None, and one flat map under ``search``."""

_LEASE: TypeAdapter[Lease | None] = TypeAdapter(Lease | None)
_HISTORY: TypeAdapter[tuple[HistoryEntry, ...]] = TypeAdapter(tuple[HistoryEntry, ...])

# What an instance takes over as it is; all else is validated when it is parsed.
_TYPES = {"workflow": str, "id": str, "fields": str, "wake_at": datetime | None, "tokens": str, "search": Mapping}


def encode(instance: Instance) -> Document:
    """The document of an instance.

    Raises:
        TooLarge: even without its history it is over ``DOCUMENT_BYTES_MAX`` and what it may use of the reserve.
    """
    if instance.document is not None:
        return instance.document
    execution = instance.execution
    text = execution.to_json()
    document: Document = {
        "format": FORMAT if is_folded(text) else 1,
        "workflow": instance.workflow,
        "id": instance.id,
        "status": execution.status.value,
        "pc": execution.pc,
        "created_at": execution.created_at,
        "updated_at": execution.updated_at,
        "wake_at": instance.wake_at,
        "lease": _lease_text(instance.lease),
        "tokens": " ".join(instance.tokens[-TOKENS_MAX:]),
        "execution": text,
        "fields": instance.fields,
        "history": "[]",
        "search": dict(instance.search),
    }
    more = 0 if instance.lease is None else LEASE_BYTES
    if execution.canceling or execution.status in _NEEDS_MORE:
        more = RESERVED_BYTES
    size = _check_size(document, DOCUMENT_BYTES_MAX + more, execution.threads)
    document["history"] = _last_entries(instance.history, DOCUMENT_BYTES_MAX + RESERVED_BYTES - size)
    return document


def with_lease(instance: Instance, lease: Lease, wake_at: datetime | None) -> Instance:
    """The instance under another lease; a document that was made of it is changed in the same way."""
    document = instance.document
    if document is not None:
        document = document | {"lease": _lease_text(lease), "wake_at": wake_at}
    return replace(instance, lease=lease, wake_at=wake_at, document=document)


def _lease_text(lease: Lease | None) -> str | None:
    return None if lease is None else _LEASE.dump_json(lease).decode()


def check_entry(entry: InboxEntry) -> None:
    """Checks what every store checks before it posts an entry.

    Raises:
        InvalidRequest: its name is not one.
        TooLarge: its body has more than ``INBOX_ENTRY_BYTES_MAX``.
    """
    if not _ENTRY_NAME.fullmatch(entry.name):
        raise InvalidRequest(
            f"{entry.name[:100]!r} cannot be the name of an inbox entry: 1 to 500 of A-Z, a-z, 0-9, '_' and '-', "
            f"but not '__...__'"
        )
    size = len(entry.body.encode())
    if size > INBOX_ENTRY_BYTES_MAX:
        raise TooLarge(
            f"the inbox entry {entry.name!r} of {entry.workflow!r} {entry.id!r} has {size:,} bytes, the limit is "
            f"{INBOX_ENTRY_BYTES_MAX:,}: keep large data elsewhere and store a reference to it"
        )


def decode(document: Mapping[str, Any], version: Any) -> Instance:
    """The inverse of ``encode``.

    Raises:
        DamagedDocument: it cannot be read; the message says what is wrong with it.
    """
    where = f"the document of {document.get('workflow')!r} {document.get('id')!r}"
    format = document.get("format")
    if not isinstance(format, int) or not 1 <= format <= FORMAT:
        raise DamagedDocument(f"{where} has format {format!r}, this release reads 1 to {FORMAT}: upgrade gorchestrate")
    for name, types in _TYPES.items():
        if not isinstance(document.get(name), types):
            raise DamagedDocument(f"{where} cannot be read: {name!r} is {document.get(name)!r:.100}")
    try:
        execution = Execution.from_json(document["execution"])
        _check_timers(execution)
        return Instance(
            workflow=document["workflow"],
            id=document["id"],
            execution=execution,
            fields=document["fields"],
            lease=_LEASE.validate_json(document["lease"] or "null"),
            history=_HISTORY.validate_json(document["history"]),
            wake_at=document["wake_at"],
            tokens=tuple(document["tokens"].split()),
            search=document["search"],
            version=version,
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DamagedDocument(f"{where} cannot be read: {error}") from error


def _check_timers(execution: Execution) -> None:
    """Raises ``TypeError`` if what is kept for the task of a timer is no name."""
    for thread in execution.threads:
        for wait in thread.waits:
            if isinstance(wait, TimedWait) and not isinstance(wait.task, str | None):
                raise TypeError(f"the task of {wait.event!r} is {wait.task!r:.100}")


def _last_entries(history: tuple[HistoryEntry, ...], limit: int) -> str:
    """As many of the last entries as are kept, as JSON."""
    for first in range(max(0, len(history) - HISTORY_MAX), len(history)):
        entries = _HISTORY.dump_json(history[first:], exclude_defaults=True)
        if len(entries) <= limit:
            return entries.decode()
    return "[]"


def _check_size(document: Document, limit: int, threads: Sequence[Thread]) -> int:
    """How many bytes of the document count.

    Raises:
        TooLarge: they are more than ``limit``.
    """
    sizes = {name: len(str(value).encode()) for name, value in document.items() if name not in _UNCOUNTED}
    total = sum(sizes.values())
    if total <= limit:
        return total
    part = max(sizes, key=sizes.__getitem__)
    detail = f"its largest part is {part!r} with {sizes[part]:,} bytes"
    advice = "keep large data elsewhere and store a reference to it"
    fields: Any = json.loads(document["fields"])
    if part == "fields" and isinstance(fields, dict) and fields:
        bytes_of = {name: len(json.dumps(value, ensure_ascii=False).encode()) for name, value in fields.items()}
        largest = max(bytes_of, key=bytes_of.__getitem__)
        detail = f"its largest field is {largest!r} with {bytes_of[largest]:,} bytes"
    elif part == "execution" and len(threads) > THREADS_MANY:
        ((name, count),) = Counter(thread.name for thread in threads).most_common(1)
        detail += f", of {len(threads):,} threads, {count:,} of them of {name!r}"
        advice = (
            "let fewer run at a time, ForEach(..., parallel=True, limit=100), or give each a chunk of the items, as "
            f"a Child; {advice}"
        )
    raise TooLarge(f"the instance would take {total:,} bytes, the limit is {limit:,}; {detail}: {advice}")
