"""Pages of listings and their cursors. This module does not depend on a database.

A listing is ordered by a time and then by id, or only by id. A cursor contains these values of the last instance of its
page, and its order, so that it is not used for another one.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from cloud_adapter.document import Instance
from cloud_adapter.errors import InvalidRequest
from cloud_adapter.ports import Order, Page

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


def page_of(instances: Sequence[Instance], order: Order, limit: int, damaged: Sequence[str]) -> Page:
    """Returns a page of at most ``limit`` instances. If ``instances`` has one more, the page gets a cursor for the next
    page."""
    page = instances[:limit]
    if len(instances) <= limit:
        return Page(page, None, damaged)
    return Page(page, write_cursor(order, time_in(order, page[-1]), page[-1].id), damaged)


def time_in(order: Order, instance: Instance) -> datetime:
    """Returns the time by which an order sorts an instance; ``EPOCH`` if it does not sort by time."""
    execution = instance.execution
    times = {Order.UPDATED: execution.updated_at, Order.CREATED: execution.created_at, Order.ID: None}
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
