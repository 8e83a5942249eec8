"""The text of a time, for people and clients."""

from __future__ import annotations

from datetime import UTC, datetime


def rfc3339(at: datetime) -> str:
    """Formats an aware time in UTC, as pydantic does: ``2026-01-31T12:00:00Z``, with a fraction if it has one."""
    return f"{at.astimezone(UTC).replace(tzinfo=None).isoformat()}Z"
