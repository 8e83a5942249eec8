"""A small HTTP/1.1 client: sends one request, returns the status of its response, and keeps the connection.

A general client costs the emulator more time for each task than all its other work. Independent of tasks and queues.

A server may close an idle connection at any time, also just while the next request is sent on it. A request that finds
its kept connection closed, without any response, is therefore sent again on a new one. The server may have received it
twice, which a task queue may do anyway.
"""

from __future__ import annotations

import asyncio
import functools
import re
import ssl
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import httptools
import httpx

URLS_MAX: Final = 1_000
"""How many URLs are remembered in their parsed form."""

_BODY_METHODS: Final = {"POST", "PUT", "PATCH"}
_HEADER: Final = re.compile(rb"(?!(?i:transfer-encoding):)[!#$%&'*+.^_`|~0-9A-Za-z-]+: [^\x00-\x08\x0a-\x1f\x7f]*")


class NoResponse(Exception):
    """A connection could not be made, or ended before the whole response had arrived."""


class _Closed(NoResponse):
    """The connection ended before any of the response had arrived."""


@dataclass(frozen=True, slots=True)
class _Origin:
    is_secure: bool
    host: str
    port: int


class HttpClient:
    """Sends requests. Neither follows redirects nor uses proxies. Use it in one event loop."""

    def __init__(self) -> None:
        self._idle: defaultdict[_Origin, list[_Connection]] = defaultdict(list)

    async def status(self, method: str, url: str, headers: Sequence[tuple[bytes, bytes]], body: bytes) -> int:
        """Sends a request and receives its whole response. Returns the status. May be cancelled.

        Args:
            headers: without ``Host`` and ``Content-Length``.

        Raises:
            NoResponse: there was no response.
            ValueError: the URL or a header is invalid.
        """
        try:
            origin, host, target = _parsed(url)
        except httpx.InvalidURL as error:
            raise ValueError(str(error)) from error
        lines = [b"%b %b HTTP/1.1" % (method.encode(), target), b"Host: " + host]
        lines += [_header(name, value) for name, value in headers]
        if body or method in _BODY_METHODS:
            lines.append(b"Content-Length: %d" % len(body))
        request = b"\r\n".join((*lines, b"", body))
        is_head, idle = method == "HEAD", self._idle[origin]
        if idle:
            try:
                return await self._send(idle.pop(), idle, request, is_head)
            except _Closed:
                pass
        return await self._send(await _connected(origin, idle), idle, request, is_head)

    def close(self) -> None:
        """Closes the idle connections."""
        for idle in self._idle.values():
            for connection in list(idle):
                connection.close()

    async def _send(self, connection: _Connection, idle: list[_Connection], request: bytes, is_head: bool) -> int:
        try:
            status = await connection.send(request, is_head)
        except BaseException:
            connection.close()
            raise
        if connection.may_continue:
            idle.append(connection)
        else:
            connection.close()
        return status


class _Connection(asyncio.Protocol):
    """A connection.

    Args:
        idle: the idle connections to the same server. When this one ends, it leaves them.

    Attributes:
        may_continue: whether another request can be sent after the response.
    """

    def __init__(self, idle: list[_Connection]) -> None:
        self.may_continue = False
        self._parser = httptools.HttpResponseParser(self)
        self._idle = idle
        self._transport: asyncio.Transport
        self._is_open = False
        self._is_head = False
        self._status: int | None = None
        self._has_length = False
        self._answer: asyncio.Future[int] | None = None

    async def send(self, request: bytes, is_head: bool) -> int:
        """Sends a request and returns the status of its response.

        Args:
            is_head: whether the response has no body, whatever its headers say.

        Raises:
            NoResponse
        """
        if not self._is_open:
            raise _Closed("the connection was closed")
        self.may_continue, self._is_head, self._status = False, is_head, None
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return await self._answer

    def close(self) -> None:
        """Closes the connection at once."""
        self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport, self._is_open = transport, True

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._end(NoResponse(f"the response is not HTTP/1: {error}"))
            self._transport.abort()

    def eof_received(self) -> None:
        if self._status is not None and not self._has_length:
            self._end(self._status)

    def on_message_begin(self) -> None:
        self._has_length = self.may_continue = False

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() in (b"content-length", b"transfer-encoding"):
            self._has_length = True

    def on_headers_complete(self) -> None:
        self._status = self._parser.get_status_code()
        if self._is_head and self._status >= 200:
            self._end(self._status)  # the parser does not know that no body follows

    def on_message_complete(self) -> None:
        if self._status is not None and self._status < 200:
            self._status = None  # an informational response, which another one follows
        elif self._status is not None and self._answer is not None:
            self.may_continue = self._parser.should_keep_alive()
            self._end(self._status)

    def connection_lost(self, error: Exception | None) -> None:
        self._is_open = self.may_continue = False
        if self in self._idle:
            self._idle.remove(self)
        reason = "the connection was closed before the response" if error is None else str(error)
        self._end(_Closed(reason) if self._status is None else NoResponse(reason))

    def _end(self, outcome: int | NoResponse) -> None:
        answer, self._answer = self._answer, None
        if answer is None or answer.done():
            return
        if isinstance(outcome, int):
            answer.set_result(outcome)
        else:
            answer.set_exception(outcome)


def _header(name: bytes, value: bytes) -> bytes:
    line = b"%b: %b" % (name, value)
    if _HEADER.fullmatch(line) is None:
        raise ValueError(f"Illegal header {line[:100]!r}")
    return line


async def _connected(origin: _Origin, idle: list[_Connection]) -> _Connection:
    try:
        _, connection = await asyncio.get_running_loop().create_connection(
            lambda: _Connection(idle), origin.host, origin.port, ssl=_ssl_context() if origin.is_secure else None
        )
    except OSError as error:
        raise NoResponse(str(error) or type(error).__name__) from error
    return connection


@functools.lru_cache(URLS_MAX)
def _parsed(url: str) -> tuple[_Origin, bytes, bytes]:
    """Returns the server of a URL, its header ``Host``, and the path with the query."""
    parsed = httpx.URL(url)
    is_secure = parsed.scheme == "https"
    origin = _Origin(is_secure, parsed.raw_host.decode(), parsed.port or (443 if is_secure else 80))
    return origin, parsed.netloc, parsed.raw_path


@functools.cache
def _ssl_context() -> ssl.SSLContext:
    return httpx.create_ssl_context()  # takes 0.1 s
