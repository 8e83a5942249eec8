"""``FirestoreStore``: what each call of the ``Store`` port asks of Firestore. A load, a commit and a post are one RPC.

The documents are in ``documents``, how calls are made in ``calls``, what errors mean in ``refusals``. The store never
looks into an execution or into the user's fields, never reads a clock, and lets no error of Google's libraries through.

Theory of operation. A commit is one batch, which Firestore applies as a whole or not at all. The instance is updated
only if the time of its last update is the version that was loaded. The record of a key is created, which fails if there
is one: so a recorded key is found without reading it first. Only a record that may have expired is read, and then
replaced only if it still is what was read. A write without such a condition, or in a second batch, would break this.

What each query needs is declared in ``deploy/firestore.indexes.json``:

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
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from google.api_core.exceptions import Aborted, AlreadyExists, FailedPrecondition, NotFound
from google.auth.credentials import Credentials
from google.cloud.firestore import (
    AsyncClient,
    AsyncCollectionReference,
    AsyncDocumentReference,
    AsyncQuery,
    AsyncWriteBatch,
    FieldFilter,
)

from cloud_adapter.document import InboxEntry, Instance, KeyRecord, check_entry
from cloud_adapter.errors import (
    Conflict,
    DamagedDocument,
    DuplicateKey,
    InstanceExists,
    InstanceNotFound,
    InvalidRequest,
    Unavailable,
)
from cloud_adapter.names import check_id
from cloud_adapter.ports import PAGE_SIZE, Page
from cloud_adapter.stores.firestore.calls import Calls
from cloud_adapter.stores.firestore.documents import (
    INBOX,
    INSTANCES,
    Snapshot,
    check_responses,
    document_of,
    entry_of,
    entry_reference,
    instance_of,
    instance_reference,
    key_of,
    key_reference,
    record_keys,
    unless_changed,
    version_of,
)
from cloud_adapter.stores.firestore.refusals import refused
from cloud_adapter.stores.listings import check_limit, page_of, read_cursor

DELETES_PER_COMMIT = 500
"""How many entries one RPC discards."""

WRITE_ATTEMPTS_MAX = 5
"""How often a write is aborted, or finds that the record of its key has changed since it was looked at, before it gives
up."""

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
        self._calls = Calls(client, project, database, credentials, timeout_seconds)

    async def create(self, instance: Instance, key: KeyRecord | None = None) -> None:
        """See ``ports.Store.create``. An instance that exists is told before a key that does; telling costs an RPC."""
        document = document_of(instance)
        keys = () if key is None else (key,)
        check_responses(instance.id, keys)
        async with self._calls.begin() as client:
            reference = instance_reference(client, instance.workflow, instance.id)
            expired: Mapping[str, Snapshot] = {}
            for _ in range(WRITE_ATTEMPTS_MAX):
                batch = client.batch()
                with refused(instance):
                    batch.create(reference, document)
                record_keys(client, batch, reference, keys, expired)
                try:
                    await self._commit(batch, instance)
                    return
                except (AlreadyExists, Aborted):
                    pass
                except (FailedPrecondition, NotFound):
                    if not expired:
                        raise
                if (await self._calls.get(reference)).exists:
                    raise InstanceExists(f"there already is an instance {instance.id!r} of {instance.workflow!r}")
                if keys:  # then it is of an earlier instance of that id, which somebody has deleted
                    expired = await self._expired(client, reference, keys, instance.execution.updated_at)
        raise _contended(instance)

    async def load(self, workflow: str, id: str) -> Instance:
        """See ``ports.Store.load``."""
        async with self._calls.begin() as client:
            snapshot = await self._calls.get(instance_reference(client, workflow, id))
        if not snapshot.exists:
            raise InstanceNotFound(f"there is no instance {id!r} of {workflow!r}")
        return instance_of(snapshot)

    async def commit(
        self, instance: Instance, keys: Sequence[KeyRecord] = (), taken: Sequence[InboxEntry] = ()
    ) -> Instance:
        """See ``ports.Store.commit``. A conflict is told before a key that is recorded.

        Only where an expired key is used again before its TTL has deleted it, three RPCs are made instead of one.

        Raises:
            TooLarge: also if the responses of the keys have more than ``RESPONSES_BYTES_MAX``.
        """
        document = document_of(instance)
        check_responses(instance.id, keys)
        if instance.version is None:
            raise Conflict(f"{instance.workflow!r} {instance.id!r} was never loaded, so it cannot be compared")
        async with self._calls.begin() as client:
            reference = instance_reference(client, instance.workflow, instance.id)
            expired: Mapping[str, Snapshot] = {}
            for _ in range(WRITE_ATTEMPTS_MAX):
                batch = client.batch()
                with refused(instance):
                    batch.update(reference, document, option=unless_changed(client, instance.version))
                record_keys(client, batch, reference, keys, expired)
                for entry in taken:
                    batch.delete(entry_reference(client, entry))
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
        async with self._calls.begin() as client:
            reference = entry_reference(client, entry)
            for _ in range(WRITE_ATTEMPTS_MAX):
                try:
                    await self._calls.create(reference, document)
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
        async with self._calls.begin() as client:
            entries = instance_reference(client, workflow, id).collection(INBOX)
            snapshots = await self._calls.run(entries.order_by("at").order_by("__name__").limit(limit))
        return [entry_of(workflow, id, snapshot) for snapshot in snapshots]

    async def discard(self, entries: Sequence[InboxEntry]) -> None:
        """See ``ports.Store.discard``."""
        async with self._calls.begin() as client:
            for first in range(0, len(entries), DELETES_PER_COMMIT):
                batch = client.batch()
                for entry in entries[first : first + DELETES_PER_COMMIT]:
                    batch.delete(entry_reference(client, entry))
                await self._calls.commit(batch)

    async def uncollected(self, before: datetime, limit: int = 100) -> Sequence[tuple[str, str]]:
        """See ``ports.Store.uncollected``. It reads names alone, no bodies."""
        check_limit(limit)
        async with self._calls.begin() as client:
            group = client.collection_group(INBOX).where(filter=FieldFilter("at", "<=", before))
            snapshots = await self._calls.run(group.order_by("at").order_by("__name__").select([]).limit(limit))
        owners: dict[tuple[str, str], None] = {}
        for snapshot in snapshots:
            match snapshot.reference.path.split("/"):
                case ["workflows", workflow, "instances", id, _, _]:
                    owners[workflow, id] = None
        return list(owners)

    async def load_key(self, workflow: str, id: str, key: str, now: datetime) -> KeyRecord | None:
        """See ``ports.Store.load_key``."""
        async with self._calls.begin() as client:
            snapshot = await self._calls.get(key_reference(instance_reference(client, workflow, id), key))
        record = key_of(snapshot)
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
        async with self._calls.begin() as client:
            collection = client.collection("workflows", workflow, INSTANCES)
            query: AsyncQuery = _listing(collection, status, search or {})
            if cursor is not None:
                updated_at, id = read_cursor(cursor)
                query = query.start_after({"updated_at": updated_at, "__name__": collection.document(_cursor_id(id))})
            instances, damaged = await self._readable(query, limit + 1)
        return page_of(instances, limit, damaged)

    async def workflows(self) -> Sequence[str]:
        """See ``ports.Store.workflows``. Each name is that of a document that is not there, but has some below it."""
        async with self._calls.begin() as client:
            return await self._calls.names(client.collection("workflows"))

    async def due(self, before: datetime, limit: int = 100, *, after: Instance | None = None) -> Sequence[Instance]:
        """See ``ports.Store.due``."""
        check_limit(limit)
        async with self._calls.begin() as client:
            group = client.collection_group(INSTANCES)
            query = group.where(filter=FieldFilter("wake_at", "<=", before)).order_by("wake_at").order_by("__name__")
            if after is not None:
                reference = instance_reference(client, after.workflow, after.id)
                query = query.start_after({"wake_at": after.wake_at, "__name__": reference})
            instances, _ = await self._readable(query, limit)
            return instances

    async def ping(self) -> None:
        """See ``ports.Store.ping``. It asks for a document that is not there: one RPC, and no content to send."""
        async with self._calls.begin() as client:
            await self._calls.get(client.document("workflows", "ping"))

    async def close(self) -> None:
        """See ``ports.Store.close``. What was called before is done first; what is called later is ``Unavailable``."""
        await self._calls.close()

    async def _commit(self, batch: AsyncWriteBatch, instance: Instance) -> int:
        """Writes the batch; gives the new version of its first document, which is the instance's."""
        with refused(instance):
            updated_at, *_ = await self._calls.commit(batch)
        return version_of(updated_at)

    async def _expired(
        self,
        client: AsyncClient,
        instance: AsyncDocumentReference,
        keys: Sequence[KeyRecord],
        now: datetime | None,
    ) -> Mapping[str, Snapshot]:
        """The expired records that new ones have to replace, by their keys; one RPC. Those that are gone are left out.

        Raises:
            DuplicateKey: one of them has not expired.
        """
        references = [key_reference(instance, key.key) for key in keys]
        found = await self._calls.get_all(client, references)
        snapshots = {snapshot.id: snapshot for snapshot in found}
        expired: dict[str, Snapshot] = {}
        for key, reference in zip(keys, references, strict=True):
            snapshot = snapshots[reference.id]
            record = key_of(snapshot)
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
            snapshots = await self._calls.run(query.limit(wanted))
            for snapshot in snapshots:
                try:
                    found.append(instance_of(snapshot))
                except DamagedDocument as error:
                    _log.warning("left out: %s (%s)", error, snapshot.reference.path)
                    damaged.append(f"{error} ({snapshot.reference.path})")
            if len(snapshots) < wanted or len(found) == limit:
                return found, damaged
            query = query.start_after(snapshots[-1])


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


def _contended(written: Instance | InboxEntry) -> Unavailable:
    return Unavailable(f"{written.workflow!r} {written.id!r} met others at {WRITE_ATTEMPTS_MAX} attempts: try again")
