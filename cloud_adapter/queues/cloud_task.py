"""A task in the form that the queue passes to Google's client."""

from __future__ import annotations

from datetime import datetime, timedelta

from workflow_core.records import record


@record(frozen=True, slots=True)
class CloudTask:
    """A task for Cloud Tasks. ``name`` is its full name; if empty, Cloud Tasks chooses one."""

    name: str
    url: str
    body: bytes
    at: datetime | None
    deadline: timedelta
    service_account: str | None
    audience: str | None
