"""A Firestore client for tests: it writes down its RPCs, and a test may have a say in what becomes of them."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import grpc.aio
from google.cloud.firestore import AsyncClient

Send = Callable[[], Awaitable[Any]]
Handler = Callable[[Send], Awaitable[Any]]


class RecordingClient(AsyncClient):
    """On the emulator only.

    Attributes:
        calls: the RPCs made so far by their names, as ``Commit``.
        requests: what was sent with them.
        handlers: each takes the place of the next RPC; it is given what sends it.
    """

    def __init__(self, project: str) -> None:
        super().__init__(project=project)
        self.calls: list[str] = []
        self.requests: list[Any] = []
        self.handlers: deque[Handler] = deque()

    def _emulator_channel(self, transport: Any) -> Any:
        interceptors = [_Unary(self), _Stream(self)]
        return grpc.aio.insecure_channel(self._emulator_host, interceptors=interceptors)

    async def rpc(self, continuation: Any, details: Any, request: Any) -> Any:
        method = details.method if isinstance(details.method, str) else details.method.decode()
        self.calls.append(method.rpartition("/")[2])
        self.requests.append(request)

        async def send() -> Any:
            return await continuation(details, request)

        return await (self.handlers.popleft()(send) if self.handlers else send())

    def taken(self) -> list[str]:
        """The calls since this was asked for last."""
        calls, self.calls = self.calls, []
        return calls

    async def aclose(self) -> None:
        await self._firestore_api.transport.close()


class _Unary(grpc.aio.UnaryUnaryClientInterceptor):  # type: ignore[misc]
    def __init__(self, client: RecordingClient) -> None:
        self._client = client

    async def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
        return await self._client.rpc(continuation, details, request)


class _Stream(grpc.aio.UnaryStreamClientInterceptor):  # type: ignore[misc]
    def __init__(self, client: RecordingClient) -> None:
        self._client = client

    async def intercept_unary_stream(self, continuation: Any, details: Any, request: Any) -> Any:
        return await self._client.rpc(continuation, details, request)


def rpc_error(code: grpc.StatusCode) -> grpc.aio.AioRpcError:
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(), details="for a test")


def failing(code: grpc.StatusCode) -> Handler:
    """The RPC never reaches the server."""

    async def handle(send: Send) -> Any:
        raise rpc_error(code)

    return handle


async def losing_the_reply(send: Send) -> Any:
    """The server performs the request, but the reply is lost."""
    await (await send())
    raise rpc_error(grpc.StatusCode.UNAVAILABLE)


def after(action: Callable[[], Awaitable[Any]]) -> Handler:
    """Something else happens first."""

    async def handle(send: Send) -> Any:
        await action()
        return await send()

    return handle
