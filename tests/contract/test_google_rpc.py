"""Calls of Google's APIs without what Google's client adds to each."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import grpc.aio
import pytest
from google.api_core.exceptions import GoogleAPICallError
from google.cloud.firestore_v1 import types
from google.cloud.firestore_v1.services.firestore.transports import grpc_asyncio

from cloud_adapter.google_rpc import Rpc


class Spans(grpc.aio.UnaryUnaryClientInterceptor):  # type: ignore[misc, unused-ignore]
    """An interceptor of the user's."""

    def __init__(self) -> None:
        self.calls = 0

    async def intercept_unary_unary(self, continuation: Callable[..., Any], details: Any, request: Any) -> Any:
        self.calls += 1
        return await continuation(details, request)


def test_only_the_interceptor_of_googles_client_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    logging = grpc_asyncio._LoggingClientAIOInterceptor
    logged: list[object] = []
    monkeypatch.setattr(logging, "intercept_unary_unary", lambda *call: logged.append(call))
    spans = Spans()

    async def call() -> None:
        async with grpc.aio.insecure_channel("127.0.0.1:1", interceptors=[spans]) as channel:
            assert grpc_asyncio.FirestoreGrpcAsyncIOTransport(channel=channel).grpc_channel is channel
            request, response = types.CommitRequest.pb(), types.CommitResponse.pb()
            commit = Rpc(channel, "/google.firestore.v1.Firestore/Commit", request, response, "1")
            with pytest.raises(GoogleAPICallError):
                await commit(request(), ("database", "d"), 5.0)

    asyncio.run(call())
    assert (spans.calls, logged) == (1, [])
