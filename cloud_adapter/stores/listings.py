"""The pages of listings that are ordered by the time of the last update and then by id, and their cursors. Knows no
database."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from cloud_adapter.document import Instance
from cloud_adapter.errors import InvalidRequest
from cloud_adapter.ports import Page

LIMIT_MAX = 10_000
"""How many instances one call may ask for."""

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
"""Stands for the time of the last update where there is none."""

_MICROSECOND = timedelta(microseconds=1)


def check_limit(limit: int) -> None:
    """Raises ``InvalidRequest`` if a call asks for no instance, or for more than ``LIMIT_MAX``."""
    if not 1 <= limit <= LIMIT_MAX:
        raise InvalidRequest(f"limit must be between 1 and {LIMIT_MAX:,}, not {limit}")


def page_of(instances: Sequence[Instance], limit: int, damaged: Sequence[str]) -> Page:
    """A page of at most ``limit`` instances, out of one more where there are any behind it."""
    page = instances[:limit]
    if len(instances) <= limit:
        return Page(page, None, damaged)
    return Page(page, write_cursor(page[-1].execution.updated_at, page[-1].id), damaged)


def write_cursor(updated_at: datetime | None, id: str) -> str:
    """The cursor of the page that begins after that instance; letters, digits, ``-`` and ``_``."""
    microseconds = ((updated_at or EPOCH) - EPOCH) // _MICROSECOND
    return base64.urlsafe_b64encode(f"{microseconds}:{id}".encode()).rstrip(b"=").decode()


def read_cursor(cursor: str) -> tuple[datetime, str]:
    """The time of the last update and the id that a cursor was written for.

    Raises:
        InvalidRequest: ``write_cursor`` has never written it.
    """
    try:
        time_text, _, id = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode().partition(":")
        updated_at = EPOCH + int(time_text) * _MICROSECOND
        # Lenient decoders read many texts that were never written.
        if id and write_cursor(updated_at, id) == cursor:
            return updated_at, id
    except (ValueError, OverflowError):
        pass
    raise InvalidRequest(f"{cursor[:100]!r} is not a cursor of this list: pass the one of the last page, or none")
