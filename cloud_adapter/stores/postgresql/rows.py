"""Converts documents, keys and inbox entries to rows, and rows back. Contains no connections and no queries."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from cloud_adapter.document import Document, InboxEntry, Instance, KeyRecord, decode
from cloud_adapter.errors import DamagedDocument
from cloud_adapter.stores.columns import COLUMNS, FIXED
from cloud_adapter.stores.listings import EPOCH
from cloud_adapter.stores.search import TEXT_BYTES_MAX
from cloud_adapter.summaries import Summary, read_summary, stored_error

STORED = (*COLUMNS[:-2], "searchable", "error", *COLUMNS[-2:])
"""The columns that a document is written to. ``searchable`` has the search fields that a listing may search for, and
``error`` what a listing shows of an error."""

CHANGED = STORED[len(FIXED) :]
"""Those of them that a commit writes."""


def values_of(instance: Instance, document: Document) -> Sequence[Any]:
    """Returns the values of ``STORED`` for a document."""
    search: Mapping[str, Any] = document["search"]
    row = document | {
        "created_at": document["created_at"] or EPOCH,
        "updated_at": document["updated_at"] or EPOCH,
        "search": json.dumps(search, ensure_ascii=False) if search else "{}",
        "searchable": json.dumps({name: value for name, value in search.items() if _is_searchable(value)}),
        "error": None if instance.execution.error is None else stored_error(instance),
    }
    return [row[name] for name in STORED]


def _is_searchable(value: Any) -> bool:
    # JSONB cannot contain NUL characters, and no listing searches for them; see `search`.
    return not isinstance(value, str) or ("\x00" not in value and len(value) <= TEXT_BYTES_MAX)


def instance_of(row: Sequence[Any]) -> Instance:
    """Reads an instance from a row: its revision, then the values of ``COLUMNS``, then perhaps its entries, in
    order."""
    revision, *values = row
    document = _document(values)
    if len(values) > len(COLUMNS):
        document["entries"] = values[-1] or []
    return decode(document, revision)


def _document(values: Sequence[Any]) -> Document:
    document = dict(zip(COLUMNS, values, strict=False))
    with _damage_of(f"the document of {document['workflow']!r} {document['id']!r}"):
        document["search"] = json.loads(document["search"])
    return document


def summary_of(row: Mapping[str, Any]) -> Summary:
    """Reads a summary from a row that has ``SUMMARY_FIELDS`` and the error."""
    with _damage_of(f"the document of {row['workflow']!r} {row['id']!r}"):
        document = {**row, "search": json.loads(row["search"])}
    return read_summary(document)


def key_of(key: str, row: Sequence[Any]) -> KeyRecord:
    """Reads a key record from a row: fingerprint, response and expiry."""
    fingerprint, response, expires_at = row
    return KeyRecord(key, fingerprint, response, expires_at)


def entry_of(workflow: str, id: str, row: Sequence[Any]) -> InboxEntry:
    """Reads an inbox entry from a row: name, time and body."""
    name, at, body = row
    return InboxEntry(workflow, id, name, body, at)


@contextmanager
def _damage_of(what: str) -> Iterator[None]:
    try:
        yield
    except (ValueError, TypeError, RecursionError) as error:
        raise DamagedDocument(f"{what} cannot be read: {error}") from error
