"""What stores return of many instances at a time: a few values of each, never whole documents.

A document has up to a megabyte, and a page of a list up to 200 instances. What a summary contains is therefore stored
in columns or fields of its own, beside the execution and the user's fields.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from datetime import datetime
from typing import Any

from pydantic import TypeAdapter

from cloud_adapter.document import Instance, check_format
from cloud_adapter.errors import DamagedDocument
from workflow_core import ErrorInfo, Status
from workflow_core.records import record

SUMMARY_FIELDS = ("format", "workflow", "id", "status", "created_at", "updated_at", "wake_at", "search")
"""The values of a document that ``read_summary`` reads, beside ``error``."""


@record(frozen=True, slots=True)
class Summary:
    """What a list shows of an instance.

    Attributes:
        error: why it failed, with only its type, its bases and its message.
        search: the values of its search fields.
    """

    workflow: str
    id: str
    status: Status
    created_at: datetime | None = None
    updated_at: datetime | None = None
    wake_at: datetime | None = None
    error: ErrorInfo | None = None
    search: Mapping[str, Any] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """About how many characters it has."""
        texts = (value for value in self.search.values() if isinstance(value, str))
        return 500 + sum(map(len, texts)) + (len(self.error.message) if self.error else 0)


@record(frozen=True, slots=True)
class Due:
    """An instance with work that is due at ``wake_at``.

    Attributes:
        postponed: how many times in a row ``Store.postpone`` has moved ``wake_at``, since the last commit.
        version: the value that ``Store.postpone`` compares.
    """

    workflow: str
    id: str
    status: Status
    wake_at: datetime
    postponed: int = 0
    version: Any = field(default=None, compare=False)


_ERROR: TypeAdapter[ErrorInfo | None] = TypeAdapter(ErrorInfo | None)


def summary_of(instance: Instance) -> Summary:
    """Returns the summary of an instance."""
    execution = instance.execution
    times = execution.created_at, execution.updated_at, instance.wake_at
    return Summary(instance.workflow, instance.id, execution.status, *times, shown_error(instance), instance.search)


def shown_error(instance: Instance) -> ErrorInfo | None:
    """Returns the error of an instance as its summary contains it."""
    error = instance.execution.error
    return None if error is None else ErrorInfo(error.type, error.message, bases=error.bases)


def stored_error(instance: Instance) -> str:
    """Returns the error of an instance as JSON, for a store that has a field for it. ``read_summary`` reads it."""
    return _ERROR.dump_json(shown_error(instance), exclude_defaults=True).decode()


def read_summary(document: Mapping[str, Any]) -> Summary:
    """Reads a summary from ``SUMMARY_FIELDS`` of a document, and its ``error`` as JSON or None.

    Raises:
        DamagedDocument: the values cannot be read. The message gives the reason.
    """
    place = check_format(document)
    try:
        raised = _ERROR.validate_json(document["error"] or "null")
        return Summary(
            _typed(document, "workflow", str),
            _typed(document, "id", str),
            Status(document["status"]),
            _typed(document, "created_at", datetime | None),
            _typed(document, "updated_at", datetime | None),
            _typed(document, "wake_at", datetime | None),
            None if raised is None else ErrorInfo(raised.type, raised.message, bases=raised.bases),
            _typed(document, "search", Mapping),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise DamagedDocument(f"{place} cannot be read: {error}") from error


def read_due(document: Mapping[str, Any], version: Any = None) -> Due:
    """Reads workflow, id, status and ``wake_at`` of a document. Raises ``DamagedDocument`` like ``read_summary``.

    A commit replaces ``wake_at`` and leaves ``postponed`` and ``postponed_until`` as they are. A postponement therefore
    counts only as long as ``wake_at`` is the time that it has set.
    """
    try:
        workflow, id = _typed(document, "workflow", str), _typed(document, "id", str)
        wake_at = _typed(document, "wake_at", datetime)
        count = document.get("postponed") if document.get("postponed_until") == wake_at else 0
        postponed = count if isinstance(count, int) else 0
        return Due(workflow, id, Status(document["status"]), wake_at, postponed, version)
    except (ValueError, KeyError, TypeError) as error:
        place = f"the document of {document.get('workflow')!r} {document.get('id')!r}"
        raise DamagedDocument(f"{place} cannot be read: {error}") from error


def _typed(document: Mapping[str, Any], name: str, types: Any) -> Any:
    if not isinstance(value := document[name], types):
        raise TypeError(f"{name!r} is {value!r:.100}")
    return value
