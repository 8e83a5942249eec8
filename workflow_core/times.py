"""The text of a time, for people and clients."""

from __future__ import annotations

from datetime import UTC, datetime


def rfc3339(at: datetime) -> str:
    """Formats an aware time in UTC, as pydantic does: ``2026-01-31T12:00:00Z``, with a fraction if it has one. A time
    that UTC does not have, beyond an end of the calendar, is formatted as this end."""
    try:
        utc = at.astimezone(UTC).replace(tzinfo=None)
    except OverflowError:
        utc = datetime.min if at.year == 1 else datetime.max
    return f"{utc.isoformat()}Z"
