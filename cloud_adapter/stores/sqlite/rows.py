"""Converts documents, keys and inbox entries to rows, and rows back. Contains no connections and no queries.

Times are stored as integers, microseconds since 1970 in UTC, because integers sort correctly and lose no precision.
Texts are read as bytes (see ``connections``) and decoded here. A text that is not UTF-8 raises ``DamagedDocument`` for
its own row only.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from operator import itemgetter
from typing import Any

from cloud_adapter.document import Document, InboxEntry, Instance, KeyRecord, decode
from cloud_adapter.errors import DamagedDocument
from cloud_adapter.stores.columns import COLUMNS
from cloud_adapter.stores.listings import EPOCH
from cloud_adapter.summaries import SUMMARY_FIELDS, Due, Summary, read_due, read_summary

_MICROSECOND = timedelta(microseconds=1)
_in_columns: Callable[[Document], tuple[Any, ...]] = itemgetter(*COLUMNS)


def values_of(document: Document) -> Sequence[str | int | None]:
    """Returns the values of ``COLUMNS`` for a document."""
    row = document.copy()
    row["created_at"] = microseconds(document["created_at"] or EPOCH)
    row["updated_at"] = microseconds(document["updated_at"] or EPOCH)
    row["wake_at"] = microseconds_or_none(document["wake_at"])
    row["search"] = json.dumps(document["search"], ensure_ascii=False) if document["search"] else "{}"
    return _in_columns(row)


def instance_of(row: Sequence[Any]) -> Instance:
    """Reads an instance from a row: its revision, then the values of ``COLUMNS``."""
    revision, *values = row
    return decode(_document(COLUMNS, values), revision)


def instance_with_history(row: Sequence[Any]) -> Instance:
    """Reads an instance from a row: its entries in any order, one in a line, then as for ``instance_of``."""
    entries, revision, *values = row
    document = _document(COLUMNS, values)
    with _damage_of(f"the history of {document['workflow']!r} {document['id']!r}"):
        texts = [] if entries is None else entries.decode().split("\n")
        document["entries"] = sorted(texts, key=lambda text: int(text.partition(" ")[0]))
    return decode(document, revision)


def entries_of(rows: Iterable[Sequence[Any]]) -> list[str]:
    """Reads the entries of a history from rows: number and entry."""
    return [f"{number} {readable_text(entry)}" for number, entry in rows]


def summary_of(row: Sequence[Any]) -> Summary:
    """Reads a summary from a row: the values of ``SUMMARY_FIELDS``, then its error as JSON."""
    return read_summary(_document((*SUMMARY_FIELDS, "error"), row))


def _document(columns: Sequence[str], values: Sequence[Any]) -> Document:
    """Reads the values of a document, or of a part of it that has its times and search fields."""
    stored = dict(zip(columns, values, strict=True))
    with _damage_of(f"the document of {_shown(stored['workflow'])} {_shown(stored['id'])}"):
        document = {name: value.decode() if isinstance(value, bytes) else value for name, value in stored.items()}
        document["created_at"] = _time_or_none(stored["created_at"])
        document["updated_at"] = _time(stored["updated_at"])
        document["wake_at"] = _time_or_none(stored["wake_at"])
        document["search"] = json.loads(document["search"])
    return document


def due_of(row: Sequence[Any]) -> Due:
    """Reads from a row what is due: the values of ``DUE_COLUMNS``."""
    workflow, id, status, wake_at, postponed, until, revision = row
    with _damage_of(f"the document of {_shown(workflow)} {_shown(id)}"):
        document: Document = {"workflow": workflow.decode(), "id": id.decode(), "status": status.decode()}
        document |= {"wake_at": _time(wake_at), "postponed": postponed, "postponed_until": _time_or_none(until)}
    return read_due(document, revision)


def key_of(workflow: str, id: str, key: str, row: Sequence[Any]) -> KeyRecord:
    """Reads a key record from a row: fingerprint, response and expiry."""
    fingerprint, response, expires_at = row
    with _damage_of(f"the idempotency key {key!r} of {workflow!r} {id!r}"):
        return KeyRecord(key, fingerprint.decode(), response.decode(), _time(expires_at))


def entry_of(workflow: str, id: str, row: Sequence[Any]) -> InboxEntry:
    """Reads an inbox entry from a row: name, time and body."""
    name, at, body = row
    with _damage_of(f"the inbox entry {_shown(name)} of {workflow!r} {id!r}"):
        return InboxEntry(workflow, id, name.decode(), body.decode(), _time(at))


def readable_text(value: bytes) -> str:
    """Decodes bytes, and replaces what is not UTF-8 by a replacement character."""
    return value.decode(errors="replace")


def microseconds(at: datetime) -> int:
    """Converts a time to the stored integer."""
    return (at - EPOCH) // _MICROSECOND


def microseconds_or_none(at: datetime | None) -> int | None:
    """Converts a time to the stored integer, and None to None."""
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
