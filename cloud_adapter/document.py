"""The data that a store keeps for one instance, and its encoding as a flat document of plain values.

Every store writes the documents that ``encode`` returns, so only this module decides their layout. It does not depend
on a database.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any

from pydantic import AfterValidator, AwareDatetime, TypeAdapter

from cloud_adapter.document_size import check_size
from cloud_adapter.errors import DamagedDocument, InvalidRequest, TooLarge
from workflow_core import Execution, Status
from workflow_core.compact import is_folded
from workflow_core.wait_types import TimedWait

FORMAT = 3
"""The newest version of the layout. A reader rejects newer versions. In version 1, the execution contains each thread
in full. Version 2 is written if what many threads share is stored once, and version 3 if secrets are encrypted, so that
a release that supports only older versions does not misread it."""

DOCUMENT_BYTES_MAX = 1_000_000
"""Firestore's limit is 1,048,576 bytes, names and overhead included."""

RESERVED_BYTES = 20_000
"""The bytes beyond the limit that a lease, a failure, a cancellation and a pause may use, so that they are possible for
every instance that fits. The history uses what is left of both limits, so nothing is rejected because of the
history."""

LEASE_BYTES = 1_000
"""The part of the reserve that a lease may use. The rest is kept for a failure, whatever is committed under the
lease."""

_ENTRY_NAME = re.compile(r"(?!__.*__\Z)[A-Za-z0-9_-]{1,500}")

AFTER_NAMES = "~"
"""Follows all characters that the name of an inbox entry may have."""

_NEEDS_MORE = frozenset((Status.FAILED, Status.CANCELED, Status.PAUSED))

HISTORY_MAX = 50
"""How many history entries an instance keeps; fewer if they take too many bytes."""

OPERATIONS_KEPT = 15
"""How many of them are of operators, even if that many others are newer."""

INBOX_ENTRY_BYTES_MAX = 1_000_000
"""The most bytes that the body of an inbox entry may have."""

TOKENS_MAX = 20
"""How many commit tokens an instance remembers."""


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to run the instance's steps, for the process that knows the random ``token``.

    Attributes:
        keeps_events: whether clients' events may be kept in the inbox until it ends; see ``engine/kept_events.py``.
    """

    token: str
    expires_at: AwareDatetime
    keeps_events: bool = False


class HistoryKind(StrEnum):
    """The kind of a history entry. The values are stored: add new ones, but never change one."""

    CREATED = "created"
    FAILED = "failed"
    """The instance has failed."""
    EVENT = "event"
    EVENT_FAILED = "event failed"
    EVENT_REJECTED = "event rejected"
    """A buffered event was rejected when it was delivered. The instance continues without it."""
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
    TERMINATE = "terminate"
    PAUSE = "pause"
    UNPAUSE = "unpause"
    RETRY = "retry"
    GOTO = "goto"
    SET = "set"

    @property
    def failed(self) -> bool:
        """Whether the instance has failed, or an attempt of some code has."""
        return self in _FAILED


OPERATIONS = frozenset(
    (
        HistoryKind.CANCEL,
        HistoryKind.PAUSE,
        HistoryKind.UNPAUSE,
        HistoryKind.RETRY,
        HistoryKind.GOTO,
        HistoryKind.SET,
        HistoryKind.TERMINATE,
    )
)
"""The kinds of what operators do."""

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
    # A newer release may have stored a kind that this release does not know. No decision depends on the history, so
    # such an entry must not make the instance unreadable. The kind stays a text, which is shown and stored unchanged.
    return _KINDS.get(text, text)


@dataclass(frozen=True, slots=True)
class HistoryEntry:
    """One thing that happened to an instance.

    Attributes:
        kind: ``created`` or ``failed``; what was done: ``event``, ``timeout``, ``step``, ``setup``, ``teardown``,
            ``activity``, ``child`` or ``tell``, followed by ``failed`` if it failed; ``buffered`` or ``event
            rejected``; what an operator did: the name of the operation.
        statement: the step or event of the entry.
        select: for an event that was handled, the select that waited for it.
        duration_ms: how long the user's code ran.
        error: the error of a failure.
        by: who did it: the name of the principal, or what the operator wrote if there is no principal.
        by_id: the id of the principal.
        claimed: the name that the principal wrote in its request, if it is another one.
        reason: the reason, if the operator has given one.
        detail: what the operator has changed.
    """

    at: AwareDatetime
    kind: Annotated[str, AfterValidator(_known_kind)]  # a HistoryKind, or the text of an unknown one
    statement: str = ""
    thread: str = ""
    pc: int = 0
    duration_ms: float = 0
    error: str = ""
    select: str = ""
    by: str = ""
    reason: str = ""
    detail: str = ""
    by_id: str = ""
    claimed: str = ""


@dataclass(frozen=True, slots=True)
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


@dataclass(frozen=True, slots=True)
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


@dataclass(frozen=True, slots=True)
class Instance:
    """One instance, as it was loaded or as it will be saved.

    Attributes:
        fields: the user's fields, as JSON.
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
    history: tuple[HistoryEntry, ...] = ()
    wake_at: datetime | None = None
    tokens: tuple[str, ...] = ()
    search: Mapping[str, Any] = field(default_factory=dict)
    has_kept_events: bool = False
    version: Any = None
    document: Document | None = field(default=None, compare=False, repr=False)
    is_sealed: bool = False


Document = dict[str, Any]
"""Texts, integers, aware datetimes, None, and one flat map under ``search``."""

_LEASE: TypeAdapter[Lease | None] = TypeAdapter(Lease | None)
_ENDED = Lease("", datetime.fromtimestamp(0, UTC), keeps_events=True)
"""Stored instead of a lease if there is none, but the inbox may contain events. Other code reads it as an expired
lease."""

_HISTORY: TypeAdapter[tuple[HistoryEntry, ...]] = TypeAdapter(tuple[HistoryEntry, ...])

# The values that an instance contains unchanged. All others are validated when they are parsed.
_TYPES = {"workflow": str, "id": str, "fields": str, "wake_at": datetime | None, "tokens": str, "search": Mapping}


def encode(instance: Instance) -> Document:
    """Returns the document of an instance.

    Raises:
        TooLarge: even without its history, it exceeds ``DOCUMENT_BYTES_MAX`` plus the part of the reserve that it may
            use.
    """
    if instance.document is not None:
        return instance.document
    execution = instance.execution
    text = execution.to_json()
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
        "history": "[]",
        "search": dict(instance.search),
    }
    more = 0 if instance.lease is None else LEASE_BYTES
    if execution.canceling or execution.status in _NEEDS_MORE:
        more = RESERVED_BYTES
    size = check_size(document, DOCUMENT_BYTES_MAX + more, execution.threads)
    document["history"] = _last_entries(instance.history, DOCUMENT_BYTES_MAX + RESERVED_BYTES - size)
    return document


def with_lease(instance: Instance, lease: Lease, wake_at: datetime | None) -> Instance:
    """Returns the instance under another lease. Its document, if already computed, is changed in the same way."""
    document = instance.document
    if document is not None:
        document = document | {"lease": _lease_text(lease), "wake_at": wake_at}
    return replace(instance, lease=lease, wake_at=wake_at, document=document)


def _lease_text(lease: Lease | None) -> str | None:
    return None if lease is None else _LEASE.dump_json(lease, exclude_defaults=True).decode()


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
    """The inverse of ``encode``.

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
        lease = _LEASE.validate_json(document["lease"] or "null")
        return Instance(
            workflow=document["workflow"],
            id=document["id"],
            execution=execution,
            fields=document["fields"],
            lease=None if lease == _ENDED else lease,
            history=_HISTORY.validate_json(document["history"]),
            wake_at=document["wake_at"],
            tokens=tuple(document["tokens"].split()),
            search=document["search"],
            has_kept_events=lease == _ENDED,
            version=version,
            is_sealed=document["format"] == FORMAT,
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DamagedDocument(f"{place} cannot be read: {error}") from error


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
    for thread in execution.threads:
        for wait in thread.waits:
            if isinstance(wait, TimedWait) and not isinstance(wait.task, str | None):
                raise TypeError(f"the task of {wait.event!r} is {wait.task!r:.100}")


def kept_entries(history: tuple[HistoryEntry, ...], limit: int = HISTORY_MAX) -> tuple[HistoryEntry, ...]:
    """Returns the entries that an instance keeps: the last ones, and among them the last ``OPERATIONS_KEPT`` of
    operators. Events, of which a client can send any number, therefore do not wash these out."""
    if len(history) <= limit:
        return history
    operations = [number for number, entry in enumerate(history) if entry.kind in OPERATIONS][-OPERATIONS_KEPT:]
    kept = set(operations[-limit:] if limit else ())
    for number in range(len(history) - 1, -1, -1):
        if len(kept) >= limit:
            break
        kept.add(number)
    return tuple(history[number] for number in sorted(kept))


def _last_entries(history: tuple[HistoryEntry, ...], limit: int) -> str:
    """Returns the entries that fit in the limit, at most ``HISTORY_MAX``, as JSON; see ``kept_entries``."""
    for count in range(min(len(history), HISTORY_MAX), 0, -1):
        entries = _HISTORY.dump_json(kept_entries(history, count), exclude_defaults=True)
        if len(entries) <= limit:
            return entries.decode()
    return "[]"
