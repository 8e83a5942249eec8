"""Shards: they split the indexes by ``wake_at``, ``updated_at`` and ``created_at``, which otherwise grow at one end.

Firestore accepts about 500 writes a second to an index that grows at one end. With N shards, each document has a field
``shard``, a hash of its workflow and id modulo N, and these indexes begin with it. They then grow at N places.

Theory of operation. Two sets of indexes exist while a database is moved from one to the other. The indexes without
shards contain each document. Those with shards contain each document that has the field. A query reads one set only,
and all shards in one RPC, in which Firestore merges them, so it returns each document once, in the order of the time.

* A query names all ``SHARDS_MAX`` values and not N. A document is therefore found whatever the count was when its field
  was written. N may be changed at any time, and writers with different counts may run side by side.
* A store that writes shards never removes the field, and one that does not leaves it as it is. A document is therefore
  without the field only if it was created without one and not committed since, or rewritten by ``add_shards``.
* Indexes with shards may be read once every writer writes the field and ``add_shards`` has run after that. Indexes
  without shards may be deleted once every reader reads the others. A step that is skipped breaks this: a reader then
  misses documents.

The emulator needs no indexes, so it cannot tell whether one is missing.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from zlib import crc32

from google.api_core.exceptions import Aborted, NotFound
from google.cloud.firestore import AsyncClient, AsyncQuery, FieldFilter

from cloud_adapter.document import Document
from cloud_adapter.errors import Unavailable
from cloud_adapter.stores.firestore.calls import Calls
from cloud_adapter.stores.firestore.documents import INSTANCES, Snapshot
from cloud_adapter.stores.firestore.refusals import WRITE_ATTEMPTS_MAX
from cloud_adapter.stores.listings import EPOCH
from workflow_core.records import record

SHARD = "shard"
"""The field with the number of the shard."""

SHARDS_MAX = 30
"""The most shards: so many values may one query of Firestore name."""

PAGE = 1_000
"""The most documents that ``add_shards`` reads in one RPC."""

WRITES_PER_SECOND, WRITES_AT_ONCE = 500, 50
"""How fast ``add_shards`` writes at most, so that the deployment hardly notices."""


@record(frozen=True, slots=True)
class Shards:
    """How many shards there are, and which indexes are read.

    Attributes:
        count: from 1 to ``SHARDS_MAX``. 1: documents have no field ``shard``.
        are_read: whether the indexes with shards are read. The others are not read then.

    Raises:
        ValueError: the count is not in the range, or shards would be read that are not written.
    """

    count: int = 1
    are_read: bool = False

    def __post_init__(self) -> None:
        if not 1 <= self.count <= SHARDS_MAX:
            raise ValueError(f"the number of shards must be between 1 and {SHARDS_MAX}, not {self.count}")
        if self.are_read and self.count == 1:
            raise ValueError("indexes with shards are read, but no shards are written: there must be more than one")

    def fields(self, workflow: str, id: str) -> Document:
        """Returns the field that a document gets; none if there is one shard."""
        return {} if self.count == 1 else {SHARD: crc32(f"{workflow}/{id}".encode()) % self.count}

    @property
    def read_values(self) -> Sequence[int] | None:
        """The values that a query names. None: it finds documents with and without the field."""
        return range(SHARDS_MAX) if self.are_read else None

    @property
    def groups(self) -> Sequence[Sequence[int]]:
        """These values, divided into as many groups as there are shards; none if shards are not read."""
        return [range(first, SHARDS_MAX, self.count) for first in range(self.count)] if self.are_read else ()

    def ordered(self, query: AsyncQuery, only: Sequence[int] | None = None) -> AsyncQuery:
        """Returns a query, which is ordered by a time, on the index that is read, and if wanted only in one group."""
        values = self.read_values if only is None else only
        return query if values is None else query.where(filter=FieldFilter(SHARD, "in", [*values]))


ONE_SHARD = Shards()
"""No shards."""


async def add_shards(
    calls: Calls, client: AsyncClient, workflow: str, shards: Shards
) -> AsyncIterator[tuple[int, int]]:
    """Writes the field of the documents of a workflow that have none, at most ``WRITES_PER_SECOND`` of them. All other
    writes may go on: a commit that meets this one is repeated as after any conflict.

    Yields, after each page, how many documents it has, and how many of them were written.
    """
    query = client.collection("workflows", workflow, INSTANCES).order_by("__name__").select([SHARD])
    while True:
        snapshots = await calls.run(query.limit(PAGE))
        without = [snapshot for snapshot in snapshots if not _has_shard(snapshot)]
        for first in range(0, len(without), WRITES_AT_ONCE):
            pause = asyncio.create_task(asyncio.sleep(WRITES_AT_ONCE / WRITES_PER_SECOND))
            part = without[first : first + WRITES_AT_ONCE]
            await asyncio.gather(*(_add_shard(calls, client, workflow, snapshot, shards) for snapshot in part))
            await pause
        yield len(snapshots), len(without)
        if len(snapshots) < PAGE:
            return
        query = query.start_after({"__name__": snapshots[-1].reference})


async def has_shards(calls: Calls, client: AsyncClient, workflow: str) -> bool:
    """Whether the first document of a workflow has the field. Reads only this one."""
    query = client.collection("workflows", workflow, INSTANCES).order_by("__name__").select([SHARD])
    return any(_has_shard(snapshot) for snapshot in await calls.run(query.limit(1)))


def _has_shard(snapshot: Snapshot) -> bool:
    return (snapshot.to_dict() or {}).get(SHARD) in range(SHARDS_MAX)


async def _add_shard(calls: Calls, client: AsyncClient, workflow: str, snapshot: Snapshot, shards: Shards) -> None:
    for _ in range(WRITE_ATTEMPTS_MAX):
        writes = calls.writes(client)
        writes.update(snapshot.reference, shards.fields(workflow, snapshot.id), None)
        try:
            await calls.commit(client, writes)
            return
        except NotFound:  # it was deleted meanwhile
            return
        except Aborted:
            continue
    raise Unavailable(f"{workflow!r} {snapshot.id!r} could not be written: other writers were faster; try again")


async def run_merged(calls: Calls, queries: Sequence[AsyncQuery], limit: int, path: str) -> Sequence[Snapshot]:
    """Returns the first documents of several queries with the same order: by the time at ``path`` and by name, both
    descending. Each document is returned once."""
    if len(queries) == 1:
        return await calls.run(queries[0].limit(limit))

    def place(snapshot: Snapshot) -> tuple[datetime, str]:
        at = (snapshot.to_dict() or {}).get(path)
        return at if isinstance(at, datetime) else EPOCH, snapshot.id

    found = await asyncio.gather(*(calls.run(query.limit(limit)) for query in queries))
    distinct = {snapshot.id: snapshot for snapshots in found for snapshot in snapshots}
    return sorted(distinct.values(), key=place, reverse=True)[:limit]
