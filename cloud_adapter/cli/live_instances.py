"""Reads all instances of a store that have not ended, or still have something due.

Listings contain only summaries. The documents are loaded a few at a time, so that many large ones fit into the memory.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from cloud_adapter.clock import CLOCK_SKEW
from cloud_adapter.document import Instance
from cloud_adapter.errors import DamagedDocument, InstanceNotFound
from cloud_adapter.ports import Store
from cloud_adapter.stores.listings import EPOCH
from cloud_adapter.summaries import Due, Summary
from workflow_core import Status

LIVE = (Status.RUNNING, Status.WAITING, Status.PAUSED)
"""The statuses of instances that have not ended."""

PAGE = 100

LOADS = 10
"""How many instances are loaded at the same time."""


@dataclass(frozen=True, slots=True)
class Damaged:
    """A document that cannot be read."""

    workflow: str
    what: str


async def live_instances(store: Store) -> AsyncIterator[Instance | Damaged]:
    """Yields live instances, and ended ones that still have something due: teardowns, or the report to a parent. One
    that moves in the meantime may be yielded twice, with its latest state last."""
    for workflow in await store.workflows():
        newest = (await store.list(workflow, limit=1)).instances
        since = (newest[0].updated_at or EPOCH) - CLOCK_SKEW if newest else EPOCH
        for status in LIVE:
            async for found in _listed(store, workflow, status):
                yield found
        # A listing is ordered by the last update. An instance that is updated moves to a page that was already read, so
        # everything that was updated since the start is listed again.
        async for found in _listed(store, workflow, since=since):
            yield found
    last: Due | None = None
    while due := await store.due(datetime.max.replace(tzinfo=UTC), PAGE, after=last):
        async for found in _loaded(store, [entry for entry in due if entry.status not in LIVE]):
            yield found
        last = due[-1]


async def _listed(
    store: Store, workflow: str, status: str | None = None, since: datetime = EPOCH
) -> AsyncIterator[Instance | Damaged]:
    """Yields the live instances of a listing until the first one that was last updated before ``since``."""
    cursor: str | None = None
    while True:
        page = await store.list(workflow, status=status, limit=PAGE, cursor=cursor)
        for what in page.damaged:
            yield Damaged(workflow, what)
        recent = [entry for entry in page.instances if (entry.updated_at or EPOCH) >= since]
        async for found in _loaded(store, [entry for entry in recent if entry.status in LIVE]):
            yield found
        cursor = page.cursor
        if cursor is None or len(recent) < len(page.instances):
            return


async def _loaded(store: Store, found: Sequence[Summary | Due]) -> AsyncIterator[Instance | Damaged]:
    for first in range(0, len(found), LOADS):
        for instance in await asyncio.gather(*(_load(store, entry) for entry in found[first : first + LOADS])):
            if instance is not None:
                yield instance


async def _load(store: Store, found: Summary | Due) -> Instance | Damaged | None:
    try:
        return await store.load(found.workflow, found.id)
    except DamagedDocument as error:
        return Damaged(found.workflow, str(error))
    except InstanceNotFound:  # deleted in the meantime
        return None
