"""A task in the form in which the queue hands it to Google's client."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta


@dataclass(frozen=True, slots=True)
class CloudTask:
    """A task as Cloud Tasks gets it; ``name`` is the full one, or empty: then Cloud Tasks gives it one."""

    name: str
    url: str
    body: bytes
    at: datetime | None
    deadline: timedelta
    service_account: str | None
    audience: str | None
