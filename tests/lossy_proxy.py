"""A TCP proxy that loses connections: before a request arrives, or before its reply returns."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress


class LossyProxy:
    """Passes connections on to a port.

    Attributes:
        port: where it listens.
        requests_lost: how many of the next requests are not passed on; their connections are closed.
        replies_lost: how many of the next replies are not passed on; their connections are closed.
    """

    def __init__(self, to_port: int) -> None:
        self.to_port = to_port
        self.port = 0
        self.requests_lost = 0
        self.replies_lost = 0
        self._writers: set[asyncio.StreamWriter] = set()
        self._serving: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[LossyProxy]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            self.cut()
            await asyncio.gather(*self._serving)
            await asyncio.sleep(0)  # transports are closed in the next turn of the loop

    def cut(self) -> None:
        """Closes all connections."""
        for writer in self._writers:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)
        try:
            server_reader, server_writer = await asyncio.open_connection("127.0.0.1", self.to_port)
        except OSError:
            writer.transport.abort()
            return
        both = {writer, server_writer}
        self._writers |= both
        try:
            await asyncio.gather(
                self._pipe(reader, server_writer, both, "requests_lost"),
                self._pipe(server_reader, writer, both, "replies_lost"),
            )
        finally:
            self._writers -= both

    async def _pipe(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, both: set[asyncio.StreamWriter], lost: str
    ) -> None:
        with suppress(OSError):
            while data := await reader.read(65_536):
                if (left := getattr(self, lost)) > 0:
                    setattr(self, lost, left - 1)
                    break
                writer.write(data)
                await writer.drain()
        for each in both:
            each.transport.abort()
