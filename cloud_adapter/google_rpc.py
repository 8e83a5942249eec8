"""Calls methods of Google's APIs with gRPC itself, as the stores and queues of Google Cloud do.

Google's clients choose the endpoint and the credentials. Their methods are not used where calls are frequent, because
they take more CPU time for each call than gRPC does. The errors are those of Google's clients.

Slow to import (200 ms), so it is only imported by what uses Google's clients.
"""

from __future__ import annotations

from typing import Any, Final

import grpc.aio
from google.api_core.exceptions import from_grpc_error
from google.api_core.gapic_v1.client_info import ClientInfo
from google.api_core.gapic_v1.routing_header import to_grpc_metadata


class Rpc:
    """A method of an API with one request and one response, which are messages of protobuf.

    Args:
        channel: it may be used in one event loop only.
        path: service and method, such as ``/google.firestore.v1.Firestore/Commit``.
        request: the class of the requests.
        response: the class of the responses; None: they are not parsed.
        version: the version of Google's client for this API.
    """

    def __init__(self, channel: grpc.aio.Channel, path: str, request: Any, response: Any, version: str) -> None:
        parse = None if response is None else response.FromString
        self._call: Final = _without_logging(channel.unary_unary(path, request.SerializeToString, parse))
        self._client: Final = ClientInfo(gapic_version=version).to_grpc_metadata()  # type: ignore[no-untyped-call]

    async def __call__(self, request: Any, route: tuple[str, str], seconds: float, *more: tuple[str, str]) -> Any:
        """Makes a call, once, and returns the response.

        Args:
            route: the field by which Google finds the database or the queue, and its value.
            seconds: how long it may take.
            more: more metadata.

        Raises:
            GoogleAPICallError: the error that Google's client raises.
            grpc.aio.BaseError: the connection is closed.
        """
        metadata = (*more, to_grpc_metadata((route,)), self._client)  # type: ignore[no-untyped-call]
        try:
            return await self._call(request, timeout=seconds, metadata=metadata)
        except grpc.aio.AioRpcError as error:
            raise from_grpc_error(error) from error  # type: ignore[no-untyped-call]


def _without_logging(call: Any) -> Any:
    """Removes the interceptor that Google's client adds to its channel. It only logs for debugging, but gRPC starts a
    task for each call that has an interceptor: a tenth of the CPU time of an event. Others stay, such as those that
    make spans. There is no public way; if the attribute had another name, calls would only take longer."""
    interceptors = getattr(call, "_interceptors", None) or ()
    call._interceptors = [each for each in interceptors if not type(each).__module__.startswith("google.")]
    return call
