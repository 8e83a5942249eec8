"""A small HTTP/1.1 client: sends one request, returns the status of its response, and keeps the connection.

A general client costs the emulator more time for each task than all its other work. Independent of tasks and queues.

A server may close an idle connection at any time, also just while the next request is sent on it. A request that finds
its kept connection closed, without any response, is therefore sent again on a new one. The server may have received it
twice, which a task queue may do anyway.
"""

from __future__ import annotations

import asyncio
import functools
import ssl
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import h11
import httpx

URLS_MAX: Final = 1_000
"""How many URLs are remembered in their parsed form."""

_BODY_METHODS: Final = {"POST", "PUT", "PATCH"}


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
            headers: without ``Host``, ``Content-Length`` and ``Transfer-Encoding``.

        Raises:
            NoResponse: there was no response.
            ValueError: the URL or a header is invalid.
        """
        if any(name.lower() == b"transfer-encoding" for name, _ in headers):
            raise ValueError("Illegal header Transfer-Encoding")
        try:
            origin, host, target = _parsed(url)
            length = [(b"Content-Length", b"%d" % len(body))] if body or method in _BODY_METHODS else []
            request = h11.Request(method=method, target=target, headers=[(b"Host", host), *headers, *length])
        except (httpx.InvalidURL, h11.LocalProtocolError) as error:
            raise ValueError(str(error)) from error
        idle = self._idle[origin]
        if idle:
            try:
                return await self._send(idle.pop(), idle, request, body)
            except _Closed:
                pass
        return await self._send(await _connected(origin, idle), idle, request, body)

    def close(self) -> None:
        """Closes the idle connections."""
        for idle in self._idle.values():
            for connection in list(idle):
                connection.close()

    async def _send(self, connection: _Connection, idle: list[_Connection], request: h11.Request, body: bytes) -> int:
        try:
            status = await connection.send(request, body)
        except BaseException:
            connection.close()
            raise
        if connection.may_continue():
            idle.append(connection)
        else:
            connection.close()
        return status


class _Connection(asyncio.Protocol):
    """A connection.

    Args:
        idle: the idle connections to the same server. When this one ends, it leaves them.
    """

    def __init__(self, idle: list[_Connection]) -> None:
        self._http = h11.Connection(h11.CLIENT)
        self._idle = idle
        self._transport: asyncio.Transport
        self._is_open = False
        self._status: int | None = None
        self._answer: asyncio.Future[int] | None = None

    async def send(self, request: h11.Request, body: bytes) -> int:
        """Sends a request and returns the status of its response.

        Raises:
            NoResponse
        """
        if not self._is_open:
            raise _Closed("the connection was closed")
        self._status = None
        self._answer = asyncio.get_running_loop().create_future()
        parts = (request, h11.Data(body), h11.EndOfMessage()) if body else (request, h11.EndOfMessage())
        self._transport.write(b"".join(self._http.send(part) or b"" for part in parts))
        return await self._answer

    def may_continue(self) -> bool:
        """Whether another request can be sent. Then this prepares for it."""
        is_done = self._http.our_state is self._http.their_state is h11.DONE
        is_reusable = self._is_open and is_done and self._http.trailing_data == (b"", False)
        if is_reusable:
            self._http.start_next_cycle()
        return is_reusable

    def close(self) -> None:
        """Closes the connection at once."""
        self._is_open = False
        self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport, self._is_open = transport, True

    def data_received(self, data: bytes) -> None:
        if self._answer is None:
            self.close()  # it belongs to no request
            return
        try:
            self._http.receive_data(data)
            while True:
                event = self._http.next_event()
                if isinstance(event, h11.Response):
                    self._status = event.status_code
                elif isinstance(event, h11.EndOfMessage):
                    assert self._status is not None
                    self._end(self._status)
                    return
                elif event is h11.PAUSED:
                    raise h11.RemoteProtocolError("the server has switched to another protocol")
                elif event is h11.NEED_DATA or isinstance(event, h11.ConnectionClosed):
                    return
        except h11.RemoteProtocolError as error:
            self._end(NoResponse(f"the response is not HTTP/1: {error}"))
            self.close()

    def eof_received(self) -> None:
        if self._status is not None:
            self.data_received(b"")  # the end of a response without a length

    def connection_lost(self, error: Exception | None) -> None:
        self._is_open = False
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
