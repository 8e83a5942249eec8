"""Middleware that limits how many requests each caller may send, so that one caller cannot take everything.

A caller is the principal of its requests. Requests without credentials, and those whose credentials are wrong, count
for the address that they come from.

Theory of operation. Each caller has a token bucket, stored as one time: when it is full again. A request moves that
time forward by one interval. It is rejected while the time is more than all other tokens of the bucket ahead, and then
moves nothing, so a rejected client that tries again is not punished. The times are whole nanoseconds, because sums of
fractions would reject a last request that is allowed. Only the callers that sent a request most recently have a bucket.
The others start again with a full one: with very many addresses, the limit is weaker, but takes no more memory.
"""

from __future__ import annotations

import ipaddress
import logging
import os
import time
from collections import OrderedDict
from collections.abc import Callable
from datetime import timedelta
from typing import Final

from starlette.requests import HTTPConnection, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from cloud_adapter.errors import TooManyRequests
from cloud_adapter.http.prefixes import HEALTH_PATHS, path_in_app
from cloud_adapter.http.principals import principal_of
from cloud_adapter.observability.line_limit import LineLimit
from cloud_adapter.request_rate import RequestRate
from cloud_adapter.settings import ON_CLOUD_RUN

_logger = logging.getLogger("gorchestrate.http")

CALLERS_MAX: Final = 10_000
"""How many callers have a bucket."""

_SECOND = 1_000_000_000


class RateLimit:
    """The buckets of the callers, in the memory of this process. Other processes count on their own.

    Args:
        rate: None: there is no limit.
        now: the monotonic time in nanoseconds.
        callers_max: how many callers have a bucket.
    """

    def __init__(
        self,
        rate: RequestRate | None = None,
        now: Callable[[], int] = time.monotonic_ns,
        callers_max: int = CALLERS_MAX,
    ) -> None:
        self.rate = rate
        self._now = now
        self._callers_max = callers_max
        self._lines = LineLimit(1, lambda: timedelta(microseconds=now() // 1_000))
        self._full_at: OrderedDict[tuple[str, str], int] = OrderedDict()  # the most recent caller is the last

    def count(self, connection: HTTPConnection, id: str = "") -> None:
        """Counts a request.

        Args:
            id: the id of its principal. Empty: it counts for its address.

        Raises:
            TooManyRequests: the caller has sent too many. This one was not counted.
        """
        if self.rate is None:
            return
        caller = ("id", id) if id else ("address", address_of(connection))
        interval = self.rate.seconds * _SECOND // self.rate.requests
        now = self._now()
        full_at = max(self._full_at.pop(caller, now), now)
        wait = full_at - now - (self.rate.requests - 1) * interval
        self._full_at[caller] = full_at if wait > 0 else full_at + interval
        if len(self._full_at) > self._callers_max:
            self._full_at.popitem(last=False)
        if wait > 0:
            self._log(caller)
            raise TooManyRequests(self.rate, -(-wait // _SECOND))

    def _log(self, caller: tuple[str, str]) -> None:
        """Logs at most one line in a second, however many requests are rejected."""
        left_out = self._lines.next()
        if left_out is not None:
            _logger.warning("too many requests: rejected %d, the last one of %s %s", left_out + 1, *caller)


UNLIMITED = RateLimit()
"""There is no limit."""


def address_of(connection: HTTPConnection) -> str:
    """Returns the address that a request comes from. It is the address of the connection, which nobody can make up.

    On Cloud Run, every connection is Google's, which adds the address of its client as the last one to
    ``X-Forwarded-For``. Those before it are from the client, who can write anything. For IPv6, it is the network of 64
    bits, because one client has all addresses of it.
    """
    address = connection.client.host if connection.client else ""
    if ON_CLOUD_RUN in os.environ:
        address = ",".join(connection.headers.getlist("x-forwarded-for")).rpartition(",")[2].strip() or address
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address[:100]
    if isinstance(found, ipaddress.IPv6Address):
        if found.ipv4_mapped is None:
            return str(ipaddress.ip_network((int(found), 64), strict=False))
        found = found.ipv4_mapped
    return str(found)


class RateLimited:
    """Middleware that rejects a request if its principal has sent too many. The body is not read.

    Args:
        refused: returns the response for a request that is rejected.
    """

    def __init__(self, app: ASGIApp, limit: RateLimit, refused: Callable[[Request, Exception], Response]) -> None:
        self.app = app
        self.limit = limit
        self.refused = refused

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            request = Request(scope, receive)
            principal = principal_of(request)
            # Probes are always served. With a parameter, the check reads the database, which costs something.
            is_probe = path_in_app(request) in HEALTH_PATHS and not scope["query_string"]
            if principal is not None and not is_probe:
                try:
                    self.limit.count(request, principal.id)
                except TooManyRequests as error:
                    await self.refused(request, error)(scope, receive, send)
                    return
        await self.app(scope, receive, send)
