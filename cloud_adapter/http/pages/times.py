"""Formats times for pages."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta


def moment(at: datetime) -> str:
    """Formats a time in UTC, with seconds."""
    return at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def relative(at: datetime, now: datetime) -> str:
    """Formats the distance of a time from now: ``in 2 hours``, ``3 days ago``, ``now``."""
    away = at - now
    seconds = abs(away).total_seconds()
    if seconds < 1:
        return "now"
    units = (("day", 86_400), ("hour", 3_600), ("minute", 60), ("second", 1))
    unit, size = next((unit, size) for unit, size in units if seconds >= size)
    number = int(seconds // size)
    words = f"{number} {unit}{'' if number == 1 else 's'}"
    return f"in {words}" if away > timedelta() else f"{words} ago"
