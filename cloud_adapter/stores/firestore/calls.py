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
from functools import cached_property
from typing import Any, Final, TypeVar

from google.api_core.exceptions import NotFound, ServiceUnavailable
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
from cloud_adapter.google_rpc import Rpc
from cloud_adapter.stores.firestore.documents import AnyRead, Snapshot
from cloud_adapter.stores.firestore.reads import ReadDocument, read_request
from cloud_adapter.stores.firestore.refusals import google_errors
from cloud_adapter.stores.firestore.writes import Writes

READ_RETRY_SECONDS = 2.0
"""How long a read is retried while Firestore cannot be reached."""

_SERVICE: Final = "/google.firestore.v1.Firestore/"
_RETRY: Final = AsyncRetry(
    if_exception_type(ServiceUnavailable), initial=0.05, maximum=0.5, multiplier=2, timeout=READ_RETRY_SECONDS
)

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
        request = writes.request
        response = await self._commit(request, ("database", request.database), self._timeout, *client._rpc_metadata)
        return [result.update_time for result in response.write_results]

    async def create(self, reference: AsyncDocumentReference, document: Document) -> None:
        """Creates a document. Raises ``AlreadyExists`` if it exists."""
        await reference.create(document, retry=None, timeout=self._timeout)

    # --- reads -------------------------------------------------------------------------------

    async def get(
        self, client: AsyncClient, reference: AsyncDocumentReference, paths: Sequence[str] | None = None
    ) -> AnyRead:
        """Reads a document, or only some of its fields. The result says whether it exists."""
        name = f"{client._database_string}/documents/{reference.path}"
        request, metadata = read_request(name, paths), client._rpc_metadata

        async def get() -> AnyRead:
            try:
                return ReadDocument(reference, await self._get(request, ("name", name), self._timeout, *metadata))
            except NotFound as error:
                if name in error.message:
                    return ReadDocument(reference, None)
            # The whole database may be missing. Google's client tells the two apart by another call.
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

    @cached_property
    def _commit(self) -> Rpc:
        return self._rpc("Commit", types.CommitRequest.pb(), types.CommitResponse.pb())

    @cached_property
    def _get(self) -> Rpc:
        return self._rpc("GetDocument", types.GetDocumentRequest.pb(), types.Document.pb())

    def _rpc(self, method: str, request: Any, response: Any) -> Rpc:
        channel = self._client()._firestore_api.transport.grpc_channel
        return Rpc(channel, _SERVICE + method, request, response, __version__)

    def _client(self) -> AsyncClient:
        if self._given is not None:
            return self._given
        if self._own is None:
            self._own = AsyncClient(project=self._project, database=self._database, credentials=self._credentials)
        return self._own


async def _read(call: Callable[[], Awaitable[_T]]) -> _T:
    """Makes a call, and retries it while Firestore cannot be reached. This is safe because reads change nothing."""
    return await _RETRY(call)()
