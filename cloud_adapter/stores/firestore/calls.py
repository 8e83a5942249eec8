"""Google's client and the calls on it: time limits, retries, errors, and closing.

This module does not depend on documents: callers pass in what to read or write.

Theory of operation. Reads change nothing, so they are repeated for a short time while Firestore cannot be reached.
Writes are sent once. If the reply to a commit was lost, the client's own retry would send the commit again. The second
commit would then fail because of what the first one has written, and look like a conflict with another writer. The
engine has its own token, and looks for it in the document before it tries again. A write sent with a retry would break
this.

``close`` waits until no call is running, because a call that has begun may still need the client between its RPCs.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, TypeVar

import grpc.aio
from google.api_core.exceptions import ServiceUnavailable, from_grpc_error
from google.api_core.gapic_v1.client_info import ClientInfo
from google.api_core.gapic_v1.routing_header import to_grpc_metadata
from google.api_core.retry import AsyncRetry, if_exception_type
from google.auth.credentials import Credentials
from google.cloud.firestore import (
    AsyncClient,
    AsyncCollectionReference,
    AsyncDocumentReference,
    AsyncQuery,
)
from google.cloud.firestore_v1 import __version__, types
from google.protobuf.timestamp_pb2 import Timestamp

from cloud_adapter.document import Document
from cloud_adapter.errors import Unavailable
from cloud_adapter.stores.firestore.documents import Snapshot
from cloud_adapter.stores.firestore.refusals import google_errors
from cloud_adapter.stores.firestore.writes import Writes

READ_RETRY_SECONDS = 2.0
"""How long a read is retried while Firestore cannot be reached."""

_COMMIT: Final = "/google.firestore.v1.Firestore/Commit"
_CommitRequest: Final[Any] = types.CommitRequest.pb()
_CommitResponse: Final[Any] = types.CommitResponse.pb()
_CLIENT: Final = ClientInfo(gapic_version=__version__).to_grpc_metadata()  # type: ignore[no-untyped-call]

_logger = logging.getLogger("gorchestrate.store")

_T = TypeVar("_T")


class Calls:
    """The calls of one store. See ``FirestoreStore`` for the arguments."""

    def __init__(
        self,
        client: AsyncClient | None,
        project: str | None,
        database: str | None,
        credentials: Credentials | None,
        timeout_seconds: float,
    ) -> None:
        self._given = client
        self._own: AsyncClient | None = None
        self._project = project
        self._database = database
        self._credentials = credentials
        self._timeout = timeout_seconds
        self._closed = False
        self._running = 0
        self._idle = asyncio.Event()
        self._idle.set()

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[AsyncClient]:
        """Provides the client for one call of the store. Errors of Google's libraries become ``Unavailable`` here."""
        if self._closed:
            raise Unavailable("the store is closed")
        self._running += 1
        self._idle.clear()
        try:
            with google_errors():
                yield self._client()
        finally:
            self._running -= 1
            if not self._running:
                self._idle.set()

    def connect(self) -> None:
        """Begins to connect, so that the first call need not. If it cannot, the first call gets the error."""
        try:
            with google_errors():
                self._client()._firestore_api.transport.grpc_channel.get_state(try_to_connect=True)
        except Unavailable as error:
            _logger.info("not connected before the first call: %s", error)

    async def close(self) -> None:
        """Closes the client, unless it was passed in. It waits for all earlier calls. Later calls raise
        ``Unavailable``."""
        self._closed = True
        await self._idle.wait()
        client, self._own = self._own, None
        # The asynchronous client has no public method that closes it. Before its first call, it has nothing open.
        if client is not None and client._firestore_api_internal is not None:
            await client._firestore_api.transport.close()

    # --- writes ------------------------------------------------------------------------------

    def writes(self, client: AsyncClient) -> Writes:
        """Returns the writes of a new commit, without any yet."""
        return Writes(client._database_string)  # not public, as little as the metadata below

    async def commit(self, client: AsyncClient, writes: Writes) -> Sequence[Timestamp]:
        """Commits writes. Returns the update time of each document that they write."""
        channel = client._firestore_api.transport.grpc_channel
        commit = channel.unary_unary(_COMMIT, _CommitRequest.SerializeToString, _CommitResponse.FromString)
        route = to_grpc_metadata((("database", writes.request.database),))  # type: ignore[no-untyped-call]
        try:
            response = await commit(
                writes.request, timeout=self._timeout, metadata=(*client._rpc_metadata, route, _CLIENT)
            )
        except grpc.aio.AioRpcError as error:
            raise from_grpc_error(error) from error  # type: ignore[no-untyped-call]
        return [result.update_time for result in response.write_results]

    async def create(self, reference: AsyncDocumentReference, document: Document) -> None:
        """Creates a document. Raises ``AlreadyExists`` if it exists."""
        await reference.create(document, retry=None, timeout=self._timeout)

    # --- reads -------------------------------------------------------------------------------

    async def get(self, reference: AsyncDocumentReference, paths: Sequence[str] | None = None) -> Snapshot:
        """Reads a document, or only some of its fields. The snapshot says whether it exists."""

        async def get() -> Snapshot:
            return await reference.get(paths, retry=None, timeout=self._timeout)

        return await _read(get)

    async def get_all(
        self, client: AsyncClient, references: list[AsyncDocumentReference], paths: list[str] | None = None
    ) -> Sequence[Snapshot]:
        """Reads documents, or only some of their fields, in any order. Each snapshot says whether its document
        exists."""

        async def get() -> Sequence[Snapshot]:
            snapshots = client.get_all(references, field_paths=paths, retry=None, timeout=self._timeout)
            return [snapshot async for snapshot in snapshots]

        return await _read(get)

    async def run(self, query: AsyncQuery) -> Sequence[Snapshot]:
        """Returns the documents of a query."""

        async def run() -> Sequence[Snapshot]:
            return [snapshot async for snapshot in query.stream(retry=None, timeout=self._timeout)]

        return await _read(run)

    async def names(self, collection: AsyncCollectionReference) -> Sequence[str]:
        """Returns the names in a collection, including those of missing documents that have documents below them."""

        async def names() -> Sequence[str]:
            references = collection.list_documents(retry=None, timeout=self._timeout)
            return [reference.id async for reference in references]

        return await _read(names)

    def _client(self) -> AsyncClient:
        if self._given is not None:
            return self._given
        if self._own is None:
            self._own = AsyncClient(project=self._project, database=self._database, credentials=self._credentials)
        return self._own


async def _read(call: Callable[[], Awaitable[_T]]) -> _T:
    """Makes a call, and retries it while Firestore cannot be reached. This is safe because reads change nothing."""
    unreachable = if_exception_type(ServiceUnavailable)
    retry = AsyncRetry(unreachable, initial=0.05, maximum=0.5, multiplier=2, timeout=READ_RETRY_SECONDS)
    return await retry(call)()
