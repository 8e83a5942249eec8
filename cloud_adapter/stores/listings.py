"""Pages of listings and their cursors. This module does not depend on a database.

A listing is ordered by a time and then by id, or only by id. A cursor contains these values of the last instance of its
page, and its order, so that it is not used for another one.
"""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta

from cloud_adapter.errors import InvalidRequest
from cloud_adapter.ports import PAGE_BYTES_MAX, Order, Page
from cloud_adapter.summaries import Summary

LIMIT_MAX = 10_000
"""The most instances that one call may request."""

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
"""Used as the time of the creation and of the last update if there is none."""

_MICROSECOND = timedelta(microseconds=1)

_PREFIXES = {Order.UPDATED: "", Order.CREATED: "created:", Order.ID: "id:"}
"""What cursors begin with. Those of the first order are older than the others."""


def check_limit(limit: int) -> None:
    """Raises ``InvalidRequest`` if the limit is not between 1 and ``LIMIT_MAX``."""
    if not 1 <= limit <= LIMIT_MAX:
        raise InvalidRequest(f"limit must be between 1 and {LIMIT_MAX:,}, not {limit}")


class PageReader:
    """Collects the summaries of a page until it is full.

    Attributes:
        damaged: the reason for each document that was left out.
        found: the summaries, with the first one of the next page if ``is_full``.
    """

    def __init__(self, order: Order, limit: int) -> None:
        check_limit(limit)
        self.found: list[Summary] = []
        self.damaged: list[str] = []
        self.is_full = False
        self._order = order
        self._limit = limit
        self._size = 0

    @property
    def wanted(self) -> int:
        """How many summaries to read at least."""
        return self._limit + 1 - len(self.found)

    def add(self, summary: Summary) -> bool:
        """Adds the next summary. Returns whether the page is now full."""
        self.found.append(summary)
        self._size += summary.size
        self.is_full = len(self.found) > self._limit or (self._size > PAGE_BYTES_MAX and len(self.found) > 1)
        return self.is_full

    def page(self) -> Page:
        """Returns the page, with a cursor if there is a next one."""
        if not self.is_full:
            return Page(self.found, None, self.damaged)
        page = self.found[:-1]
        return Page(page, write_cursor(self._order, time_in(self._order, page[-1]), page[-1].id), self.damaged)


def time_in(order: Order, summary: Summary) -> datetime:
    """Returns the time by which an order sorts an instance; ``EPOCH`` if it does not sort by time."""
    times = {Order.UPDATED: summary.updated_at, Order.CREATED: summary.created_at, Order.ID: None}
    return times[order] or EPOCH


def write_cursor(order: Order, at: datetime, id: str) -> str:
    """Returns the cursor of the page that begins after an instance. It has only letters, digits, ``-`` and ``_``.

    Args:
        at: the instance's time in the order; see ``time_in``.
    """
    time_text = "" if order is Order.ID else f"{(at - EPOCH) // _MICROSECOND}:"
    return base64.urlsafe_b64encode(f"{_PREFIXES[order]}{time_text}{id}".encode()).rstrip(b"=").decode()


def read_cursor(order: Order, cursor: str) -> tuple[datetime, str]:
    """Returns the time and the id in a cursor.

    Raises:
        InvalidRequest: the cursor was not written by ``write_cursor`` for that order.
    """
    try:
        text = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode().removeprefix(_PREFIXES[order])
        time_text, _, id = ("0", "", text) if order is Order.ID else text.partition(":")
        at = EPOCH + int(time_text) * _MICROSECOND
        # The decoders are lenient and accept many texts that `write_cursor` never writes.
        if id and write_cursor(order, at, id) == cursor:
            return at, id
    except (ValueError, OverflowError):
        pass
    raise InvalidRequest(
        f"{cursor[:100]!r} is not a cursor of this list in the order {order.value!r}: pass the cursor of the last "
        f"page, or none"
    )
