"""The HTTP client of the tasks emulator, against servers that answer in every way they may."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from cloud_adapter.tasks_emulator.http_client import HttpClient, NoResponse
from tests.emulator.harness import until
from tests.open_files import nothing_stays_open

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

Serve = Callable[[int, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def is_idle(client: HttpClient) -> bool:
    """Whether the client keeps a connection for its next request."""
    return any(client._idle.values())


class Server:
    """Serves each connection by a function, which gets the connection's number."""

    def __init__(self, serve: Serve, client: HttpClient) -> None:
        self.serve = serve
        self.client = client
        self.connections = 0
        self.handlers: list[asyncio.Task[None]] = []
        self.requests: list[bytes] = []
        self.url = ""

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        handler = asyncio.current_task()
        assert handler is not None
        self.handlers.append(handler)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            await self.serve(self.connections, reader, writer)
        writer.close()

    async def request(self, reader: asyncio.StreamReader) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
        self.requests.append(head + await reader.readexactly(int(length or 0)))

    async def post(self, client: HttpClient) -> int:
        return await client.status("POST", self.url, [(b"X-Own", b"1")], b"body")


@contextlib.asynccontextmanager
async def serving(serve: Callable[[Server], Serve]) -> AsyncIterator[tuple[Server, HttpClient]]:
    client = HttpClient()
    server = Server(None, client)  # type: ignore[arg-type]
    server.serve = serve(server)
    listening = await asyncio.start_server(server.handle, "127.0.0.1", 0)
    server.url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}/a%20b?c=d"
    try:
        yield server, client
    finally:
        client.close()
        listening.close()
        await asyncio.gather(*server.handlers)


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    async def main() -> None:
        await scenario()
        await asyncio.sleep(0)

    with nothing_stays_open():
        asyncio.run(main())


def answering(*answers: bytes, then_close: bool = False) -> Callable[[Server], Serve]:
    """Answers the requests of each connection in this order; after the last one, closes it or answers nothing."""

    def of(server: Server) -> Serve:
        async def serve(_: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            for answer in answers:
                await server.request(reader)
                writer.write(answer)
                await writer.drain()
            if not then_close:
                await reader.read()

        return serve

    return of


def test_requests_use_one_connection_after_another_and_several_at_a_time() -> None:
    async def scenario() -> None:
        async with serving(answering(*[OK] * 3)) as (server, client):
            assert [await server.post(client) for _ in range(3)] == [200, 200, 200]
            assert server.connections == 1
            host = server.url.removeprefix("http://").partition("/")[0].encode()
            head = b"POST /a%20b?c=d HTTP/1.1\r\nHost: " + host + b"\r\nX-Own: 1\r\nContent-Length: 4\r\n\r\n"
            assert server.requests == [head + b"body"] * 3
        async with serving(answering(OK)) as (server, client):
            assert await asyncio.gather(*(server.post(client) for _ in range(5))) == [200] * 5
            assert server.connections == 5

    run(scenario)


@pytest.mark.parametrize("waits", [True, False])
def test_a_kept_connection_that_the_server_closes_is_replaced(waits: bool) -> None:
    def of(server: Server) -> Serve:
        async def serve(number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await server.request(reader)
            writer.write(OK)
            if number == 1 and not waits:
                await server.request(reader)  # is received, but closed without any response
            if number > 1:
                await reader.read()

        return serve

    async def scenario() -> None:
        async with serving(of) as (server, client):
            assert await server.post(client) == 200
            if waits:
                await until(lambda: not is_idle(client))
            assert await server.post(client) == 200
            assert (server.connections, len(server.requests)) == (2, 2 if waits else 3)

    run(scenario)


def test_a_new_connection_without_a_response_is_an_error() -> None:
    async def scenario() -> None:
        async with serving(answering(b"", then_close=True)) as (server, client):
            with pytest.raises(NoResponse, match="closed before the response"):
                await server.post(client)
            assert server.connections == 1
            server.url = "http://127.0.0.1:1/x"
            with pytest.raises(NoResponse, match=r"Errno 111"):
                await server.post(client)

    run(scenario)


@pytest.mark.parametrize(
    ("answer", "status", "connections"),
    [
        (b"HTTP/1.1 204 No Content\r\n\r\n", 204, 1),
        (b"HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n", 302, 1),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + OK, 200, 1),
        (b"HTTP/1.1 500 No\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n", 500, 1),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok", 200, 2),
        (b"HTTP/1.0 200 OK\r\n\r\nuntil the end", 200, 2),
    ],
)
def test_responses(answer: bytes, status: int, connections: int) -> None:
    closes = connections == 2

    async def scenario() -> None:
        async with serving(answering(*[answer] * (1 if closes else 2), then_close=closes)) as (server, client):
            assert [await server.post(client), await server.post(client)] == [status, status]
            assert server.connections == connections

    run(scenario)


def test_a_response_to_a_head_request_has_no_body() -> None:
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"

    async def scenario() -> None:
        async with serving(answering(answer, answer)) as (server, client):
            assert [await client.status("HEAD", server.url, [], b"") for _ in range(2)] == [200, 200]
            assert server.connections == 1

    run(scenario)


def test_a_connection_with_more_than_the_response_is_not_used_again() -> None:
    async def scenario() -> None:
        async with serving(answering(OK + b"HTTP/1.1 500 No\r\n", OK)) as (server, client):
            assert [await server.post(client), await server.post(client)] == [200, 200]
            assert server.connections == 2

    run(scenario)


def test_an_idle_connection_that_receives_anything_is_not_used_again() -> None:
    def of(server: Server) -> Serve:
        async def serve(number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await server.request(reader)
            writer.write(OK)
            if number == 1:
                await until(lambda: is_idle(server.client))
                writer.write(b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n")
            await reader.read()

        return serve

    async def scenario() -> None:
        async with serving(of) as (server, client):
            assert await server.post(client) == 200
            await until(lambda: not is_idle(client))
            assert await server.post(client) == 200
            assert server.connections == 2

    run(scenario)


def test_a_switch_to_another_protocol_that_a_task_asks_for_is_an_error() -> None:
    answer = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: other\r\n\r\n"

    async def scenario() -> None:
        async with serving(answering(answer)) as (server, client):
            headers = [(b"Connection", b"upgrade"), (b"Upgrade", b"other")]
            with pytest.raises(NoResponse, match="another protocol"):
                await asyncio.wait_for(client.status("GET", server.url, headers, b""), 5)

    run(scenario)


@pytest.mark.parametrize(
    "answer",
    [
        b"not HTTP\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort",
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: other\r\n\r\n",
    ],
)
def test_a_broken_response_is_an_error_and_is_not_repeated(answer: bytes) -> None:
    async def scenario() -> None:
        async with serving(answering(OK, answer, then_close=True)) as (server, client):
            assert await server.post(client) == 200
            with pytest.raises(NoResponse):
                await server.post(client)
            assert len(server.requests) == 2

    run(scenario)


def test_a_cancelled_request_closes_its_connection() -> None:
    async def scenario() -> None:
        async with serving(answering()) as (server, client):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(server.post(client), 0.05)

    run(scenario)


@pytest.mark.parametrize(
    ("url", "name", "value"),
    [
        ("http://127.0.0.1:x/", b"X", b"1"),
        ("http://127.0.0.1:1/x", b"X", b"1\r\n2"),
        ("http://127.0.0.1:1/x", b"X Y", b"1"),
        ("http://127.0.0.1:1/x", b"transfer-encoding", b"chunked"),
    ],
)
def test_an_invalid_url_or_header_is_refused(url: str, name: bytes, value: bytes) -> None:
    with pytest.raises(ValueError, match=r"Invalid|Illegal"):
        asyncio.run(HttpClient().status("GET", url, [(name, value)], b""))
