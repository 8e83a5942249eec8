"""Pages of listings and their cursors. A listing is ordered by the time of the last update, then by id. This module
does not depend on a database."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from cloud_adapter.document import Instance
from cloud_adapter.errors import InvalidRequest
from cloud_adapter.ports import Page

LIMIT_MAX = 10_000
"""The most instances that one call may request."""

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
"""Used as the time of the last update if there is none."""

_MICROSECOND = timedelta(microseconds=1)


def check_limit(limit: int) -> None:
    """Raises ``InvalidRequest`` if the limit is not between 1 and ``LIMIT_MAX``."""
    if not 1 <= limit <= LIMIT_MAX:
        raise InvalidRequest(f"limit must be between 1 and {LIMIT_MAX:,}, not {limit}")


def page_of(instances: Sequence[Instance], limit: int, damaged: Sequence[str]) -> Page:
    """Returns a page of at most ``limit`` instances. If ``instances`` has one more, the page gets a cursor for the next
    page."""
    page = instances[:limit]
    if len(instances) <= limit:
        return Page(page, None, damaged)
    return Page(page, write_cursor(page[-1].execution.updated_at, page[-1].id), damaged)


def write_cursor(updated_at: datetime | None, id: str) -> str:
    """Returns the cursor of the page that begins after that instance. It has only letters, digits, ``-`` and ``_``."""
    microseconds = ((updated_at or EPOCH) - EPOCH) // _MICROSECOND
    return base64.urlsafe_b64encode(f"{microseconds}:{id}".encode()).rstrip(b"=").decode()


def read_cursor(cursor: str) -> tuple[datetime, str]:
    """Returns the time of the last update and the id in a cursor.

    Raises:
        InvalidRequest: the cursor was not written by ``write_cursor``.
    """
    try:
        time_text, _, id = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode().partition(":")
        updated_at = EPOCH + int(time_text) * _MICROSECOND
        # The decoders are lenient and accept many texts that `write_cursor` never writes.
        if id and write_cursor(updated_at, id) == cursor:
            return updated_at, id
    except (ValueError, OverflowError):
        pass
    raise InvalidRequest(f"{cursor[:100]!r} is not a cursor of this list: pass the cursor of the last page, or none")
