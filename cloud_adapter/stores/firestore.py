"""The ``Store`` on Firestore in native mode: one document an instance; a load, a commit and a post are one RPC each.

This file knows Firestore and how a document becomes fields of it. It never looks into an execution or into the user's
fields, never reads a clock, and lets no error of Google's libraries through.

    workflows/{workflow}/instances/{id}                                   what ``document.encode`` gives
    workflows/{workflow}/instances/{id}/idempotency_keys/{SHA-256}        a ``KeyRecord``
    workflows/{workflow}/instances/{id}/instance_inbox/{name}             ``at`` and ``body`` of an ``InboxEntry``

``workflows/{workflow}`` itself is no document. What each query needs is declared in ``deploy/firestore.indexes.json``:

* ``list``: ``instances`` by ``updated_at`` descending; with a status the composite index (``status``, ``updated_at``
  descending), with a search field one of (``search.NAME``, ``updated_at`` descending), which you declare.
* ``due``: the collection group ``instances`` by ``wake_at`` ascending.
* ``inbox``: ``instance_inbox`` by ``at`` ascending. ``uncollected``: the collection group of that name, likewise.
* Keys are deleted by a TTL policy on ``expires_at`` of the collection group ``idempotency_keys``, within about a day of
  their expiry; until then they are known by the time in them.
* All else is exempt from indexing (but ``search``, which the user queries): an index entry costs storage and time at
  each commit, and a text over 1,500 bytes cannot be indexed whole.

``updated_at`` grows with every commit, and Firestore takes about 500 writes a second where an index grows at one end:
that many commits a second is what one workflow can do, and that many posts a second one database, for ``at``.

A commit is one message, whatever it records and takes in. The cloud takes 10 MiB in a message, the emulator 4 MiB.

Google's client takes 0.2 s to import: import this module only where Firestore is used.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from datetime import datetime
from typing import Any, TypeAlias, TypeVar

import grpc
import grpc.aio
from google.api_core.exceptions import (
    Aborted,
    AlreadyExists,
    FailedPrecondition,
    GoogleAPIError,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    ServiceUnavailable,
    Unauthenticated,
)
from google.api_core.retry import AsyncRetry, if_exception_type
from google.auth.credentials import Credentials
from google.auth.exceptions import GoogleAuthError
from google.cloud.firestore import (
    AsyncClient,
    AsyncCollectionReference,
    AsyncDocumentReference,
    AsyncQuery,
    AsyncWriteBatch,
    DocumentSnapshot,
    FieldFilter,
    WriteOption,
)
from google.protobuf.timestamp_pb2 import Timestamp

from cloud_adapter.document import (
    DOCUMENT_BYTES_MAX,
    Document,
    InboxEntry,
    Instance,
    KeyRecord,
    check_entry,
    decode,
    encode,
)
from cloud_adapter.emulators import FIRESTORE_EMULATOR_VARIABLE
from cloud_adapter.errors import (
    Conflict,
    DamagedDocument,
    DuplicateKey,
    InstanceExists,
    InstanceNotFound,
    InvalidRequest,
    TooLarge,
    Unavailable,
)
from cloud_adapter.names import check_id
from cloud_adapter.ports import PAGE_SIZE, Page
from cloud_adapter.stores.cursors import EPOCH, check_limit, read_cursor, write_cursor
from workflow_core import InvalidFields

INSTANCES = "instances"
"""The collection group of the instances."""

KEYS = "idempotency_keys"
"""The collection group of the idempotency keys. The TTL policy holds for every collection of that name in the
database, so it must not be a name that a user's own data is likely to bear."""

INBOX = "instance_inbox"
"""The collection group of the inbox entries. Its indexes hold for every collection of that name, too."""

RESPONSES_BYTES_MAX = 3_000_000
"""How large the responses may be that one commit records: with the document, they must fit the emulator's messages."""

DELETES_PER_COMMIT = 500
"""How many entries one RPC discards."""

READ_RETRY_SECONDS = 2.0
"""For how long a read that could not reach Firestore is tried again."""

WRITE_ATTEMPTS_MAX = 5
"""How often a write is aborted, or finds that the record of its key has changed since it was looked at, before it gives
up."""

_T = TypeVar("_T")
_Snapshot: TypeAlias = "DocumentSnapshot[AsyncDocumentReference]"
_log = logging.getLogger(__name__)


class FirestoreStore:
    """Keeps instances in a Firestore database; see ``ports.Store`` for what each method does and raises.

    Without a client it makes one at the first call, for the event loop that runs then: use a store in one loop only.
    It then obeys ``FIRESTORE_EMULATOR_HOST`` and otherwise takes the application default credentials.

    Args:
        client: is used, and left open by ``close``.
        project: by default the environment's.
        database: by default ``(default)``.
        credentials: of Google's library, for the client that it makes; by default the application's.
        timeout_seconds: how long one RPC may take; then the call is ``Unavailable``.
    """

    def __init__(
        self,
        client: AsyncClient | None = None,
        *,
        project: str | None = None,
        database: str | None = None,
        credentials: Credentials | None = None,
        timeout_seconds: float = 10.0,
    ) -> None:
        self._given = client
        self._own: AsyncClient | None = None
        self._project = project
        self._database = database
        self._credentials = credentials
        self._timeout = timeout_seconds
        self._closed = False
        self._calls = 0
        self._idle = asyncio.Event()
        self._idle.set()

    async def create(self, instance: Instance, key: KeyRecord | None = None) -> None:
        """See ``ports.Store.create``. An instance that exists is told before a key that does; telling costs an RPC."""
        document = _fields(instance)
        keys = () if key is None else (key,)
        _check_responses(instance.id, keys)
        async with self._calling() as client:
            reference = _reference(client, instance.workflow, instance.id)
            expired: Mapping[str, _Snapshot] = {}
            for _ in range(WRITE_ATTEMPTS_MAX):
                batch = client.batch()
                with _refused(instance):
                    batch.create(reference, document)
                _record(client, batch, reference, keys, expired)
                try:
                    await self._commit(batch, instance)
                    return
                except (AlreadyExists, Aborted):
                    pass
                except (FailedPrecondition, NotFound):
                    if not expired:
                        raise
                if (await self._get(reference)).exists:
                    raise InstanceExists(f"there already is an instance {instance.id!r} of {instance.workflow!r}")
                if keys:  # then it is of an earlier instance of that id, which somebody has deleted
                    expired = await self._expired(client, reference, keys, instance.execution.updated_at)
        raise _contended(instance)

    async def load(self, workflow: str, id: str) -> Instance:
        """See ``ports.Store.load``."""
        async with self._calling() as client:
            snapshot = await self._get(_reference(client, workflow, id))
        if not snapshot.exists:
            raise InstanceNotFound(f"there is no instance {id!r} of {workflow!r}")
        return _instance(snapshot)

    async def commit(
        self, instance: Instance, keys: Sequence[KeyRecord] = (), taken: Sequence[InboxEntry] = ()
    ) -> Instance:
        """See ``ports.Store.commit``. A conflict is told before a key that is recorded.

        Only where an expired key is used again before its TTL has deleted it, three RPCs are made instead of one.

        Raises:
            TooLarge: also if the responses of the keys have more than ``RESPONSES_BYTES_MAX``.
        """
        document = _fields(instance)
        _check_responses(instance.id, keys)
        if instance.version is None:
            raise Conflict(f"{instance.workflow!r} {instance.id!r} was never loaded, so it cannot be compared")
        async with self._calling() as client:
            reference = _reference(client, instance.workflow, instance.id)
            expired: Mapping[str, _Snapshot] = {}
            for _ in range(WRITE_ATTEMPTS_MAX):
                batch = client.batch()
                with _refused(instance):
                    batch.update(reference, document, option=_unless_changed(client, instance.version))
                _record(client, batch, reference, keys, expired)
                for entry in taken:
                    batch.delete(_entry_reference(client, entry))
                try:
                    return replace(instance, version=await self._commit(batch, instance))
                except AlreadyExists:
                    if not keys:
                        raise
                    expired = await self._expired(client, reference, keys, instance.execution.updated_at)
                except (FailedPrecondition, NotFound, Aborted) as error:
                    # A database that is not there is NotFound too: the load that follows a conflict tells it. Aborted
                    # is how Firestore turns down one of many writers at once; it too has written nothing.
                    raise Conflict(
                        f"{instance.workflow!r} {instance.id!r} is no longer at version {instance.version}: {error}"
                    ) from error
        raise _contended(instance)

    async def post(self, entry: InboxEntry) -> None:
        """See ``ports.Store.post``."""
        check_entry(entry)
        document = {"at": entry.at, "body": entry.body}
        async with self._calling() as client:
            reference = _entry_reference(client, entry)
            for _ in range(WRITE_ATTEMPTS_MAX):
                try:
                    await reference.create(document, retry=None, timeout=self._timeout)
                    return
                except AlreadyExists:
                    return
                except Aborted:
                    continue
        raise _contended(entry)

    async def inbox(self, workflow: str, id: str, limit: int = 100) -> Sequence[InboxEntry]:
        """See ``ports.Store.inbox``.

        Raises:
            DamagedDocument: one of the entries cannot be read.
        """
        check_limit(limit)
        async with self._calling() as client:
            entries = _reference(client, workflow, id).collection(INBOX)
            snapshots = await self._run(entries.order_by("at").order_by("__name__").limit(limit))
        return [_entry(workflow, id, snapshot) for snapshot in snapshots]

    async def discard(self, entries: Sequence[InboxEntry]) -> None:
        """See ``ports.Store.discard``."""
        async with self._calling() as client:
            for first in range(0, len(entries), DELETES_PER_COMMIT):
                batch = client.batch()
                for entry in entries[first : first + DELETES_PER_COMMIT]:
                    batch.delete(_entry_reference(client, entry))
                await batch.commit(retry=None, timeout=self._timeout)

    async def uncollected(self, before: datetime, limit: int = 100) -> Sequence[tuple[str, str]]:
        """See ``ports.Store.uncollected``. It reads names alone, no bodies."""
        check_limit(limit)
        async with self._calling() as client:
            group = client.collection_group(INBOX).where(filter=FieldFilter("at", "<=", before))
            snapshots = await self._run(group.order_by("at").order_by("__name__").select([]).limit(limit))
        owners: dict[tuple[str, str], None] = {}
        for snapshot in snapshots:
            match snapshot.reference.path.split("/"):
                case ["workflows", workflow, "instances", id, _, _]:
                    owners[workflow, id] = None
        return list(owners)

    async def load_key(self, workflow: str, id: str, key: str, now: datetime) -> KeyRecord | None:
        """See ``ports.Store.load_key``."""
        async with self._calling() as client:
            snapshot = await self._get(_key_reference(_reference(client, workflow, id), key))
        record = _key_record(snapshot)
        return record if record is not None and record.expires_at > now else None

    async def list(
        self,
        workflow: str,
        *,
        status: str | None = None,
        search: Mapping[str, Any] | None = None,
        limit: int = PAGE_SIZE,
        cursor: str | None = None,
    ) -> Page:
        """See ``ports.Store.list``. Damaged documents are left out.

        An instance that is updated while a caller turns the pages moves before the first one: it is not met twice.
        """
        check_limit(limit)
        async with self._calling() as client:
            collection = client.collection("workflows", workflow, INSTANCES)
            query: AsyncQuery = _listing(collection, status, search or {})
            if cursor is not None:
                updated_at, id = read_cursor(cursor)
                query = query.start_after({"updated_at": updated_at, "__name__": collection.document(_cursor_id(id))})
            instances, damaged = await self._readable(query, limit + 1)
        page = instances[:limit]
        if len(instances) <= limit:
            return Page(page, None, damaged)
        return Page(page, write_cursor(page[-1].execution.updated_at, page[-1].id), damaged)

    async def workflows(self) -> Sequence[str]:
        """See ``ports.Store.workflows``. Each name is that of a document that is not there, but has some below it."""

        async def names() -> Sequence[str]:
            references = client.collection("workflows").list_documents(retry=None, timeout=self._timeout)
            return [reference.id async for reference in references]

        async with self._calling() as client:
            return await _read(names)

    async def due(self, before: datetime, limit: int = 100, *, after: Instance | None = None) -> Sequence[Instance]:
        """See ``ports.Store.due``."""
        check_limit(limit)
        async with self._calling() as client:
            group = client.collection_group(INSTANCES)
            query = group.where(filter=FieldFilter("wake_at", "<=", before)).order_by("wake_at").order_by("__name__")
            if after is not None:
                reference = _reference(client, after.workflow, after.id)
                query = query.start_after({"wake_at": after.wake_at, "__name__": reference})
            instances, _ = await self._readable(query, limit)
            return instances

    async def ping(self) -> None:
        """See ``ports.Store.ping``. It asks for a document that is not there: one RPC, and no content to send."""
        async with self._calling() as client:
            await self._get(client.document("workflows", "ping"))

    async def close(self) -> None:
        """See ``ports.Store.close``. What was called before is done first; what is called later is ``Unavailable``."""
        self._closed = True
        await self._idle.wait()
        client, self._own = self._own, None
        # The asynchronous client has no way of its own to be closed. Without a call it has opened nothing.
        if client is not None and client._firestore_api_internal is not None:
            await client._firestore_api.transport.close()

    # --- calls -------------------------------------------------------------------------------

    @asynccontextmanager
    async def _calling(self) -> AsyncIterator[AsyncClient]:
        """The client, for one call; ``close`` waits for its end. Errors of Google's libraries end here."""
        if self._closed:
            raise Unavailable("the store is closed")
        self._calls += 1
        self._idle.clear()
        try:
            with _errors():
                yield self._client()
        finally:
            self._calls -= 1
            if not self._calls:
                self._idle.set()

    def _client(self) -> AsyncClient:
        if self._given is not None:
            return self._given
        if self._own is None:
            self._own = AsyncClient(project=self._project, database=self._database, credentials=self._credentials)
        return self._own

    async def _commit(self, batch: AsyncWriteBatch, instance: Instance) -> int:
        """Writes the batch; returns the new version of its first document.

        Without the client's own retry: that would send a commit again whose reply was lost, and its conflict would look
        like another's. The engine looks for its token before it tries again, and counts the attempts.
        """
        with _refused(instance):
            results = await batch.commit(retry=None, timeout=self._timeout)
        return _version(results[0].update_time)

    async def _get(self, reference: AsyncDocumentReference) -> _Snapshot:
        async def get() -> _Snapshot:
            return await reference.get(retry=None, timeout=self._timeout)

        return await _read(get)

    async def _expired(
        self,
        client: AsyncClient,
        instance: AsyncDocumentReference,
        keys: Sequence[KeyRecord],
        now: datetime | None,
    ) -> Mapping[str, _Snapshot]:
        """The expired records that new ones have to replace, by their keys; one RPC. Those that are gone are left out.

        Raises:
            DuplicateKey: one of them has not expired.
        """
        references = [_key_reference(instance, key.key) for key in keys]

        async def get() -> Sequence[_Snapshot]:
            snapshots = client.get_all(references, retry=None, timeout=self._timeout)
            return [snapshot async for snapshot in snapshots]

        snapshots = {snapshot.id: snapshot for snapshot in await _read(get)}
        expired: dict[str, _Snapshot] = {}
        for key, reference in zip(keys, references, strict=True):
            snapshot = snapshots[reference.id]
            record = _key_record(snapshot)
            if record is None:
                continue
            if now is None or record.expires_at > now:
                raise DuplicateKey(f"the idempotency key {key.key!r} of {instance.path} is recorded")
            expired[key.key] = snapshot
        return expired

    async def _readable(self, query: AsyncQuery, limit: int) -> tuple[Sequence[Instance], Sequence[str]]:
        """The first of a query's instances that can be read: those that cannot must not hide what is behind them. Also
        what is wrong with these."""
        found: list[Instance] = []
        damaged: list[str] = []
        while True:
            wanted = limit - len(found)
            snapshots = await self._run(query.limit(wanted))
            for snapshot in snapshots:
                try:
                    found.append(_instance(snapshot))
                except DamagedDocument as error:
                    _log.warning("left out: %s (%s)", error, snapshot.reference.path)
                    damaged.append(f"{error} ({snapshot.reference.path})")
            if len(snapshots) < wanted or len(found) == limit:
                return found, damaged
            query = query.start_after(snapshots[-1])

    async def _run(self, query: AsyncQuery) -> Sequence[_Snapshot]:
        async def run() -> Sequence[_Snapshot]:
            return [snapshot async for snapshot in query.stream(retry=None, timeout=self._timeout)]

        return await _read(run)


async def _read(call: Callable[[], Awaitable[_T]]) -> _T:
    """Calls it, and again if Firestore could not be reached: reads change nothing."""
    unreachable = if_exception_type(ServiceUnavailable)
    retry = AsyncRetry(unreachable, initial=0.05, maximum=0.5, multiplier=2, timeout=READ_RETRY_SECONDS)
    return await retry(call)()


# --- documents -------------------------------------------------------------------------------


def _reference(client: AsyncClient, workflow: str, id: str) -> AsyncDocumentReference:
    reference: AsyncDocumentReference = client.document("workflows", workflow, INSTANCES, check_id(id))
    return reference


def _key_reference(instance: AsyncDocumentReference, key: str) -> AsyncDocumentReference:
    # A key may hold what an id may not, and keys that follow one another must not lie side by side.
    reference: AsyncDocumentReference = instance.collection(KEYS).document(hashlib.sha256(key.encode()).hexdigest())
    return reference


def _entry_reference(client: AsyncClient, entry: InboxEntry) -> AsyncDocumentReference:
    reference: AsyncDocumentReference = (
        _reference(client, entry.workflow, entry.id).collection(INBOX).document(entry.name)
    )
    return reference


def _listing(collection: AsyncCollectionReference, status: str | None, search: Mapping[str, Any]) -> AsyncQuery:
    down = AsyncQuery.DESCENDING
    query: AsyncQuery = collection.order_by("updated_at", direction=down).order_by("__name__", direction=down)
    for name, value in search.items():
        # Quoted where it has other letters than those of ASCII.
        query = query.where(filter=FieldFilter(AsyncClient.field_path("search", name), "==", value))
    return query if status is None else query.where(filter=FieldFilter("status", "==", status))


def _cursor_id(id: str) -> str:
    try:
        return check_id(id)
    except InvalidRequest as error:
        raise InvalidRequest(f"this is not a cursor of this list: {error}") from error


def _fields(instance: Instance) -> Document:
    document = encode(instance)
    return document | {"updated_at": document["updated_at"] or EPOCH}


def _check_responses(id: str, keys: Sequence[KeyRecord]) -> None:
    total = 0
    for key in keys:
        size = len(key.response.encode())
        total += size
        if size > DOCUMENT_BYTES_MAX:
            raise TooLarge(
                f"the response to {key.key!r} of {id!r} has {size:,} bytes, {DOCUMENT_BYTES_MAX:,} can be kept "
                f"under an idempotency key: answer with a reference"
            )
    if total > RESPONSES_BYTES_MAX:
        raise TooLarge(
            f"the responses to {len(keys)} idempotency keys of {id!r} have {total:,} bytes, one commit records "
            f"{RESPONSES_BYTES_MAX:,}: commit fewer at a time"
        )


def _record(
    client: AsyncClient,
    batch: AsyncWriteBatch,
    instance: AsyncDocumentReference,
    keys: Sequence[KeyRecord],
    expired: Mapping[str, _Snapshot],
) -> None:
    """Adds the records of keys to a batch, in the place of those that have expired."""
    for key in keys:
        record = {
            "key": key.key,
            "fingerprint": key.fingerprint,
            "response": key.response,
            "expires_at": key.expires_at,
        }
        reference = _key_reference(instance, key.key)
        if key.key in expired:
            version = _version(expired[key.key].update_time)
            batch.update(reference, record, option=_unless_changed(client, version))
        else:
            batch.create(reference, record)


def _instance(snapshot: _Snapshot) -> Instance:
    document = snapshot.to_dict() or {}
    if isinstance(document.get("wake_at"), datetime):
        document["wake_at"] = _plain(document["wake_at"])
    try:
        return decode(document, _version(snapshot.update_time))
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise DamagedDocument(f"the document {snapshot.reference.path} cannot be read: {error}") from error


def _entry(workflow: str, id: str, snapshot: _Snapshot) -> InboxEntry:
    document = snapshot.to_dict() or {}
    try:
        body = document["body"]
        if not isinstance(body, str):
            raise TypeError(f"the body is {body!r:.100}")
        return InboxEntry(workflow, id, snapshot.id, body, _plain(document["at"]))
    except (KeyError, TypeError, AttributeError) as error:
        raise DamagedDocument(f"the document {snapshot.reference.path} cannot be read: {error!r}") from error


def _key_record(snapshot: _Snapshot) -> KeyRecord | None:
    if not snapshot.exists:
        return None
    document = snapshot.to_dict() or {}
    try:
        texts = {name: document[name] for name in ("key", "fingerprint", "response")}
        if not all(isinstance(text, str) for text in texts.values()):
            raise TypeError(f"{texts!r:.100} are not all texts")
        return KeyRecord(**texts, expires_at=_plain(document["expires_at"]))
    except (KeyError, TypeError, AttributeError) as error:
        raise DamagedDocument(f"the document {snapshot.reference.path} cannot be read: {error!r}") from error


def _version(update_time: Any) -> int:
    """Nanoseconds since 1970. The client gives some times as they came and some as datetimes, which never are equal."""
    at = update_time.timestamp_pb() if hasattr(update_time, "timestamp_pb") else update_time
    return int(at.seconds) * 10**9 + int(at.nanos)


def _unless_changed(client: AsyncClient, version: int) -> WriteOption:
    seconds, nanos = divmod(version, 10**9)
    return client.write_option(last_update_time=Timestamp(seconds=seconds, nanos=nanos))


def _plain(at: datetime) -> datetime:
    """The same time without Google's subclass of datetime."""
    return datetime.combine(at.date(), at.timetz())


# --- errors ----------------------------------------------------------------------------------


@contextmanager
def _refused(instance: Instance) -> Iterator[None]:
    """What Firestore cannot store, though it is JSON, stands among the native values: in ``search``."""
    try:
        yield
    except (InvalidArgument, ValueError, TypeError) as error:
        raise InvalidFields(
            f"Firestore cannot store {instance.workflow!r} {instance.id!r}: {error}; search_fields may name texts, "
            f"numbers of 64 bits, booleans and null"
        ) from error


def _contended(written: Instance | InboxEntry) -> Unavailable:
    return Unavailable(f"{written.workflow!r} {written.id!r} met others at {WRITE_ATTEMPTS_MAX} attempts: try again")


_FIXES: dict[type[Exception], str] = {
    PermissionDenied: "give the service account the role roles/datastore.user",
    Unauthenticated: "check the credentials",
    GoogleAuthError: f"run `gcloud auth application-default login`, or set {FIRESTORE_EMULATOR_VARIABLE}",
    OSError: "set GOOGLE_CLOUD_PROJECT",  # so says the client without a project
    NotFound: "create the database, or name another one",
    FailedPrecondition: "deploy the indexes of deploy/firestore.indexes.json, on a database in native mode",
}


@contextmanager
def _errors() -> Iterator[None]:
    try:
        yield
    # A TimeoutError is an OSError, too. asyncio.CancelledError is none of these: whoever cancels a call gets it.
    except (GoogleAPIError, GoogleAuthError, grpc.RpcError, grpc.aio.BaseError, OSError) as error:
        fix = next((fix for cls, fix in _FIXES.items() if isinstance(error, cls)), "")
        if isinstance(error, TimeoutError):
            fix = ""
        detail = f"{type(error).__name__}: {error}"
        raise Unavailable(f"Firestore failed: {detail}" + (f": {fix}" if fix else "")) from error
