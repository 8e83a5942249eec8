"""``FirestoreStore``: the calls of the ``Store`` port as reads and writes of Firestore. A load, a commit and a post
each take one RPC.

The documents are in ``documents``, the calls in ``calls``, and the translation of errors in ``refusals``. The store
never reads the contents of an execution or of the user's fields, never reads a clock, and translates all errors of
Google's libraries.

Theory of operation. A commit is one RPC, which Firestore applies completely or not at all. The instance is updated
only if the time of its last update is the version that was loaded. The record of a key is created, and creation fails
if the record exists. A recorded key is therefore found without reading it first. Only a record that may have expired is
read, and it is replaced only if it is still what was read. A write without such a condition, or in a second RPC,
would break this.

The entries of a history are an array, which loads leave out. A commit adds its entries with a transform of the same
write, so it does not have to know the others. To remove entries, it reads the array first, in the version that it
replaces, unless an earlier commit of this store has written them; see ``recent_histories``.

``deploy/firestore.indexes.json`` declares what each query needs:

* ``list``: ``instances`` by ``updated_at`` or ``created_at``, descending. With a status, it needs the composite index
  (``status``, that time descending). With a search field, it needs the composite index (``search.NAME``, that time
  descending), which you declare. By id, it needs the index of ``status``; Firestore has those of ids and search fields.
* ``due``: the collection group ``instances`` by ``wake_at`` ascending. ``postponed``: likewise by ``postponed_until``.
* ``inbox``: ``instance_inbox`` by ``at`` ascending. ``uncollected``: the collection group of that name, likewise.
* A TTL policy on ``expires_at`` of the collection group ``idempotency_keys`` deletes keys within about a day of their
  expiry. Until then, the time in a key shows that it has expired.
* Everything else except ``search``, which the user queries, is exempt from indexing: an index entry costs storage and
  time at each commit, and a text over 1,500 bytes cannot be indexed completely.

If shards are read, the indexes by ``wake_at``, ``updated_at`` and ``created_at`` begin with ``shard``; see ``shards``.
Without them, one workflow is limited to about 500 commits a second, because ``updated_at`` grows with every commit.
Because of ``at``, one database is limited to about 500 posts a second.

A commit is one message, including its keys and inbox entries. The cloud accepts messages of 10 MiB, the emulator 4 MiB.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any

from google.api_core.exceptions import Aborted, AlreadyExists, FailedPrecondition, NotFound
from google.auth.credentials import Credentials
from google.cloud.firestore import AsyncClient, AsyncDocumentReference, FieldFilter

from cloud_adapter.document import (
    AFTER_NAMES,
    Document,
    InboxEntry,
    Instance,
    KeyRecord,
    check_entry,
    replaces_history,
    written,
)
from cloud_adapter.errors import Conflict, InstanceExists, InstanceNotFound
from cloud_adapter.ports import PAGE_SIZE, Order, Page
from cloud_adapter.stores.firestore.calls import Calls
from cloud_adapter.stores.firestore.documents import (
    ENTRIES,
    INBOX,
    INSTANCES,
    LOAD_PATHS,
    Snapshot,
    check_responses,
    document_of,
    entries_of,
    entry_of,
    entry_reference,
    instance_of,
    instance_reference,
    key_of,
    key_reference,
    record_keys,
    update_of,
    version_of,
)
from cloud_adapter.stores.firestore.keys import expired_keys, unexpired_keys
from cloud_adapter.stores.firestore.queries import TIMES, due_instances, instances_in_shard, listing, owners, summaries
from cloud_adapter.stores.firestore.recent_histories import RecentHistories
from cloud_adapter.stores.firestore.refusals import WRITE_ATTEMPTS_MAX, contended, refused
from cloud_adapter.stores.firestore.shards import ONE_SHARD, Shards, add_shards, has_shards, run_merged
from cloud_adapter.stores.firestore.writes import Writes
from cloud_adapter.stores.listings import PageReader, check_limit
from cloud_adapter.summaries import Due

DELETES_PER_COMMIT = 500
"""The most entries that one RPC discards."""

SUMMARIES_PER_CALL = 100
"""The most summaries that a list reads in one RPC, since the search fields of each may have up to a megabyte."""


class FirestoreStore:
    """Stores instances in a Firestore database. See ``ports.Store`` for what each method does and raises.

    If no client is passed, the first call creates one for the event loop in which it runs. Use a store in one loop
    only. The created client uses the emulator at ``FIRESTORE_EMULATOR_HOST`` if it is set, and otherwise the
    application default credentials.

    Args:
        client: the client to use. ``close`` leaves it open.
        project: by default, the project of the environment.
        database: by default, ``(default)``.
        credentials: Google credentials for the client that the store creates; by default, the application default
            credentials.
        timeout_seconds: how long one RPC may take. After that, the call raises ``Unavailable``.
        shards: how many shards the indexes have, and whether they are read; by default, one.
    """

    def __init__(
        self,
        client: AsyncClient | None = None,
        *,
        project: str | None = None,
        database: str | None = None,
        credentials: Credentials | None = None,
        timeout_seconds: float = 10.0,
        shards: Shards = ONE_SHARD,
    ) -> None:
        self._shards = shards
        self._histories = RecentHistories()
        self._calls = Calls(client, project, database, credentials, timeout_seconds)

    def connect(self) -> None:
        """Begins to connect in the running event loop, and does not wait. An error is left to the first call."""
        self._calls.connect()

    async def create(self, instance: Instance, key: KeyRecord | None = None) -> None:
        """See ``ports.Store.create``. If the instance and the key both exist, it raises ``InstanceExists``. An error
        costs an additional RPC."""
        document = self._document_of(instance)
        keys = () if key is None else (key,)
        check_responses(instance.id, keys)
        async with self._calls.begin() as client:
            reference = instance_reference(client, instance.workflow, instance.id)
            expired: Mapping[str, Snapshot] = {}
            for _ in range(WRITE_ATTEMPTS_MAX):
                writes = self._calls.writes(client)
                with refused(instance):
                    writes.create(reference, document)
                record_keys(writes, reference, keys, expired)
                try:
                    await self._commit(client, writes, instance)
                    return
                except (AlreadyExists, Aborted):
                    pass
                except (FailedPrecondition, NotFound):
                    if not expired:
                        raise
                if (await self._calls.get(client, reference)).exists:
                    raise InstanceExists(f"instance {instance.id!r} of {instance.workflow!r} already exists")
                if keys:  # then the record belongs to an earlier instance of that id, which was deleted
                    expired = await expired_keys(self._calls, client, reference, keys, instance.execution.updated_at)
        raise contended(instance)

    async def load(self, workflow: str, id: str, *, history: bool = False) -> Instance:
        """See ``ports.Store.load``."""
        paths = (*LOAD_PATHS, ENTRIES) if history else LOAD_PATHS
        async with self._calls.begin() as client:
            snapshot = await self._calls.get(client, instance_reference(client, workflow, id), paths)
        if not snapshot.exists:
            raise InstanceNotFound.of(workflow, id)
        return instance_of(snapshot, history=history)

    async def commit(
        self, instance: Instance, keys: Sequence[KeyRecord] = (), taken: Sequence[InboxEntry] = ()
    ) -> Instance:
        """See ``ports.Store.commit``. If a key is recorded and there is also a conflict, it raises ``Conflict``.

        A commit takes one RPC. It takes one more if it ``replaces_history`` that is not known, and two more if an
        expired key is used again before the TTL policy has deleted it.

        Raises:
            TooLarge: also if the responses of the keys have more than ``RESPONSES_BYTES_MAX``.
        """
        document = self._document_of(instance)
        update = update_of(instance, document)
        check_responses(instance.id, keys)
        if instance.version is None:
            raise Conflict(f"{instance.workflow!r} {instance.id!r} was not loaded, so its version cannot be compared")
        async with self._calls.begin() as client:
            reference = instance_reference(client, instance.workflow, instance.id)
            stored = self._histories.take(reference.path, instance.version)
            if replaces_history(instance):
                if stored is None:
                    stored = await self._stored_entries(client, reference, instance)
                document = self._document_of(instance, stored)
                update = update_of(instance, document, replaces_history=True)
                stored = ()
            expired: Mapping[str, Snapshot] = {}
            for _ in range(WRITE_ATTEMPTS_MAX):
                writes = self._calls.writes(client)
                with refused(instance):
                    writes.update(reference, update, instance.version)
                record_keys(writes, reference, keys, expired)
                for entry in taken:
                    writes.delete(entry_reference(client, entry))
                try:
                    version = await self._commit(client, writes, instance)
                except AlreadyExists:
                    if not keys:
                        raise
                    expired = await expired_keys(self._calls, client, reference, keys, instance.execution.updated_at)
                except (FailedPrecondition, NotFound, Aborted) as error:
                    # A missing database also raises NotFound. The load after the conflict then reports it. Firestore
                    # raises Aborted for one of many concurrent writers, and has then written nothing either.
                    raise Conflict(
                        f"{instance.workflow!r} {instance.id!r} is no longer at version {instance.version}: {error}"
                    ) from error
                else:
                    if stored is not None:
                        self._histories.keep(reference.path, version, [*stored, *document["entries"]])
                    return written(instance, version, document["entries_bytes"])
        raise contended(instance)

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
        raise contended(entry)

    async def inbox(
        self, workflow: str, id: str, limit: int = 100, *, prefix: str | None = None
    ) -> Sequence[InboxEntry]:
        """See ``ports.Store.inbox``.

        Raises:
            DamagedDocument: one of the entries cannot be read.
        """
        check_limit(limit)
        async with self._calls.begin() as client:
            entries = instance_reference(client, workflow, id).collection(INBOX)
            query = entries.order_by("at").order_by("__name__")
            if prefix is not None:
                query = entries.order_by("__name__").start_at({"__name__": entries.document(prefix)})
                query = query.end_before({"__name__": entries.document(prefix + AFTER_NAMES)})
            snapshots = await self._calls.run(query.limit(limit))
        return [entry_of(workflow, id, snapshot) for snapshot in snapshots]

    async def discard(self, entries: Sequence[InboxEntry]) -> None:
        """See ``ports.Store.discard``."""
        async with self._calls.begin() as client:
            for first in range(0, len(entries), DELETES_PER_COMMIT):
                writes = self._calls.writes(client)
                for entry in entries[first : first + DELETES_PER_COMMIT]:
                    writes.delete(entry_reference(client, entry))
                await self._calls.commit(client, writes)

    async def uncollected(
        self, before: datetime, limit: int = 100, *, since: datetime | None = None
    ) -> Sequence[tuple[str, str]]:
        """See ``ports.Store.uncollected``. It reads only names, not bodies."""
        check_limit(limit)
        async with self._calls.begin() as client:
            return await owners(self._calls, client, before, limit, since)

    async def load_key(self, workflow: str, id: str, key: str, now: datetime) -> KeyRecord | None:
        """See ``ports.Store.load_key``."""
        async with self._calls.begin() as client:
            snapshot = await self._calls.get(client, key_reference(instance_reference(client, workflow, id), key))
        record = key_of(snapshot)
        return record if record is not None and record.expires_at > now else None

    async def keys(
        self, workflow: str, id: str, now: datetime, limit: int = 100, *, after: str | None = None
    ) -> Sequence[KeyRecord]:
        """See ``ports.CopyableStore.keys``."""
        check_limit(limit)
        async with self._calls.begin() as client:
            return await unexpired_keys(self._calls, instance_reference(client, workflow, id), now, limit, after)

    async def list(
        self,
        workflow: str,
        *,
        status: str | None = None,
        search: Mapping[str, Sequence[Any]] | None = None,
        order: Order = Order.UPDATED,
        limit: int = PAGE_SIZE,
        cursor: str | None = None,
    ) -> Page:
        """See ``ports.Store.list``.

        An instance that is updated while a caller reads page after page in the order of updates moves before the first
        page. The caller does not get it twice.
        """
        reader = PageReader(order, limit)
        async with self._calls.begin() as client:
            collection = client.collection("workflows", workflow, INSTANCES)
            queries = listing(collection, status, search or {}, order, cursor, self._shards)
            while not reader.is_full:
                wanted = min(reader.wanted, SUMMARIES_PER_CALL)
                snapshots = await run_merged(self._calls, queries, wanted, TIMES.get(order, ""))
                for summary in await summaries(self._calls, client, snapshots, reader.damaged):
                    if reader.add(summary):
                        break
                if len(snapshots) < wanted:
                    break
                queries = [query.start_after(snapshots[-1]) for query in queries]
        return reader.page()

    async def workflows(self) -> Sequence[str]:
        """See ``ports.Store.workflows``. Each is the name of a missing document that has documents below it."""
        async with self._calls.begin() as client:
            return await self._calls.names(client.collection("workflows"))

    @property
    def shards(self) -> Sequence[Sequence[int]]:
        """See ``ports.ShardedStore``."""
        return self._shards.groups

    async def in_shard(
        self, workflow: str, shard: Sequence[int], *, status: str | None = None
    ) -> AsyncGenerator[Instance | str]:
        """See ``ports.ShardedStore.in_shard``."""
        async with self._calls.begin() as client:
            collection = client.collection("workflows", workflow, INSTANCES)
            async for instance in instances_in_shard(self._calls, collection, self._shards, shard, status):
                yield instance

    async def add_shards(self, workflow: str) -> AsyncIterator[tuple[int, int]]:
        """Prepares the documents of a workflow for indexes with shards; see ``shards.add_shards``."""
        async with self._calls.begin() as client:
            async for counts in add_shards(self._calls, client, workflow, self._shards):
                yield counts

    async def has_shards(self, workflow: str) -> bool:
        """Whether the documents of a workflow have shards; see ``shards.has_shards``."""
        async with self._calls.begin() as client:
            return await has_shards(self._calls, client, workflow)

    async def due(
        self, before: datetime, limit: int = 100, *, after: Due | None = None, shard: Sequence[int] | None = None
    ) -> Sequence[Due]:
        """See ``ports.ShardedStore.due``."""
        check_limit(limit)
        async with self._calls.begin() as client:
            condition = FieldFilter("wake_at", "<=", before)
            return await due_instances(self._calls, client, condition, limit, after, self._shards, shard)

    async def postpone(self, due: Due, until: datetime) -> None:
        """See ``ports.Store.postpone``."""
        update = {"wake_at": until, "postponed": due.postponed + 1, "postponed_until": until}
        async with self._calls.begin() as client:
            writes = self._calls.writes(client)
            writes.update(instance_reference(client, due.workflow, due.id), update, due.version)
            with suppress(FailedPrecondition, NotFound, Aborted):
                await self._calls.commit(client, writes)

    async def postponed(self, now: datetime, limit: int = 100, *, after: Due | None = None) -> Sequence[Due]:
        """See ``ports.Store.postponed``."""
        check_limit(limit)
        async with self._calls.begin() as client:
            condition = FieldFilter("postponed_until", ">", now)
            return await due_instances(self._calls, client, condition, limit, after, self._shards)

    async def ping(self) -> None:
        """See ``ports.Store.ping``. It reads a document that does not exist: one RPC with an empty response."""
        async with self._calls.begin() as client:
            await self._calls.get(client, client.document("workflows", "ping"))

    async def close(self) -> None:
        """See ``ports.Store.close``. It waits for all earlier calls. Later calls raise ``Unavailable``."""
        await self._calls.close()

    def _document_of(self, instance: Instance, stored: Sequence[str] | None = None) -> Document:
        return document_of(instance, stored) | self._shards.fields(instance.workflow, instance.id)

    async def _stored_entries(
        self, client: AsyncClient, reference: AsyncDocumentReference, instance: Instance
    ) -> Sequence[str]:
        """Reads the stored history of an instance that is about to be written.

        Raises:
            Conflict: another commit came first.
        """
        snapshot = await self._calls.get(client, reference, (ENTRIES,))
        if not snapshot.exists or version_of(snapshot.update_time) != instance.version:
            raise Conflict(f"{instance.workflow!r} {instance.id!r} is no longer at version {instance.version}")
        return entries_of(snapshot)

    async def _commit(self, client: AsyncClient, writes: Writes, instance: Instance) -> int:
        """Commits the writes. Returns the new version of its first document, which is the instance's."""
        with refused(instance):
            updated_at, *_ = await self._calls.commit(client, writes)
        return version_of(updated_at)
