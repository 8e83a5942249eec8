"""How documents, keys and inbox entries become rows, and rows become these again. Knows no connection and no query.

Times are kept as integers, microseconds since 1970 in UTC: they sort, and come back exactly. Texts are read as bytes
(see ``connections``), and decoded here: one that is not UTF-8 is a ``DamagedDocument`` of its own row only.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

from cloud_adapter.document import Document, InboxEntry, Instance, KeyRecord, decode
from cloud_adapter.errors import DamagedDocument
from cloud_adapter.stores.listings import EPOCH

COLUMNS = (
    *("workflow", "id", "format", "status", "pc", "created_at", "updated_at", "wake_at"),
    *("lease", "tokens", "search", "execution", "fields", "history"),
)
"""The columns of ``instances``, but for ``revision``: the names of a document's values. The long ones stand last."""

_MICROSECOND = timedelta(microseconds=1)


def values_of(document: Document) -> Sequence[str | int | None]:
    """The values of ``COLUMNS`` for a document."""
    row = document | {
        "created_at": microseconds_or_none(document["created_at"]),
        "updated_at": microseconds(document["updated_at"] or EPOCH),
        "wake_at": microseconds_or_none(document["wake_at"]),
        "search": json.dumps(document["search"], ensure_ascii=False),
    }
    return [row[name] for name in COLUMNS]


def instance_of(row: Sequence[Any]) -> Instance:
    """The instance of a row: its revision, then the values of ``COLUMNS``."""
    revision, *values = row
    stored = dict(zip(COLUMNS, values, strict=True))
    with _damage_of(f"the document of {_shown(stored['workflow'])} {_shown(stored['id'])}"):
        document = {name: value.decode() if isinstance(value, bytes) else value for name, value in stored.items()}
        document["created_at"] = _time_or_none(stored["created_at"])
        document["updated_at"] = _time(stored["updated_at"])
        document["wake_at"] = _time_or_none(stored["wake_at"])
        document["search"] = json.loads(document["search"])
    return decode(document, revision)


def key_of(workflow: str, id: str, key: str, row: Sequence[Any]) -> KeyRecord:
    """The record of a row: fingerprint, response and expiry."""
    fingerprint, response, expires_at = row
    with _damage_of(f"the idempotency key {key!r} of {workflow!r} {id!r}"):
        return KeyRecord(key, fingerprint.decode(), response.decode(), _time(expires_at))


def entry_of(workflow: str, id: str, row: Sequence[Any]) -> InboxEntry:
    """The inbox entry of a row: name, time and body."""
    name, at, body = row
    with _damage_of(f"the inbox entry {_shown(name)} of {workflow!r} {id!r}"):
        return InboxEntry(workflow, id, name.decode(), body.decode(), _time(at))


def readable_text(value: bytes) -> str:
    """The text of these bytes, with a mark in the place of what is not UTF-8."""
    return value.decode(errors="replace")


def microseconds(at: datetime) -> int:
    """The integer that stands for a time."""
    return (at - EPOCH) // _MICROSECOND


def microseconds_or_none(at: datetime | None) -> int | None:
    """The integer that stands for a time, if there is one."""
    return None if at is None else microseconds(at)


def _time(value: int) -> datetime:
    return EPOCH + timedelta(microseconds=value)


def _time_or_none(value: int | None) -> datetime | None:
    return None if value is None else _time(value)


@contextmanager
def _damage_of(what: str) -> Iterator[None]:
    try:
        yield
    except (ValueError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise DamagedDocument(f"{what} cannot be read: {error}") from error


def _shown(value: Any) -> str:
    return repr(readable_text(value) if isinstance(value, bytes) else value)
