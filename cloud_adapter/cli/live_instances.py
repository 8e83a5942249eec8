"""Reads all instances of a store that have not ended, or still have something due.

Listings contain only summaries, so the documents are loaded. If Firestore reads shards, the documents come with the
listing of each shard, and shards are read side by side. This costs half the reads and half the CPU time. In both cases,
a limited number is in memory, because many may be large.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import product

from cloud_adapter.clock import CLOCK_SKEW
from cloud_adapter.document import Instance
from cloud_adapter.errors import DamagedDocument, InstanceNotFound
from cloud_adapter.ports import Page, ShardedStore, Store
from cloud_adapter.stores.listings import EPOCH
from cloud_adapter.summaries import Due, Summary
from workflow_core import Status

LIVE = (Status.RUNNING, Status.WAITING, Status.PAUSED)
"""The statuses of instances that have not ended."""

PAGE = 200

LOADS = 64
"""How many instances are loaded at the same time, of all workflows together. Each status of a workflow that is read
holds at most as many in memory. On Firestore, one process can load and check about 1,200 instances a second; at a
distance of 50 ms it reaches that with so many."""

SCANS = 3
"""How many workflows are read at the same time."""

SHARDS = 10
"""How many listings of shards are read at the same time in each of them."""


@dataclass(frozen=True, slots=True)
class Damaged:
    """A document that cannot be read."""

    workflow: str
    what: str


async def live_instances(store: Store) -> AsyncGenerator[Instance | Damaged]:
    """Yields live instances, and ended ones that still have something due: teardowns, or the report to a parent. One
    that moves in the meantime may be yielded twice, with its latest state last. The order is otherwise arbitrary, since
    workflows and statuses are read side by side."""
    reader = _Reader(store)
    async with aclosing(_merged([reader.workflow(name) for name in await store.workflows()], SCANS)) as found:
        async for instance in found:
            yield instance
    last: Due | None = None
    while due := await store.due(datetime.max.replace(tzinfo=UTC), PAGE, after=last):
        async for instance in reader.loaded(_each([entry for entry in due if entry.status not in LIVE])):
            yield instance
        last = due[-1]


class _Reader:
    """Reads instances of a store, a limited number at a time."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._loads = asyncio.Semaphore(LOADS)

    async def workflow(self, name: str) -> AsyncGenerator[Instance | Damaged]:
        """Yields the live instances of a workflow."""
        newest = (await self.store.list(name, limit=1)).instances
        since = (newest[0].updated_at or EPOCH) - CLOCK_SKEW if newest else EPOCH
        # A listing is ordered by the last update. An instance that is updated moves to a page that was already read, so
        # everything that was updated since the start is listed again.
        for listings in (self._listings(name, LIVE, EPOCH), self._listings(name, (None,), since)):
            async with aclosing(_merged(listings, SHARDS)) as found:
                async for instance in found:
                    yield instance

    def _listings(
        self, name: str, statuses: Sequence[str | None], since: datetime
    ) -> Sequence[AsyncGenerator[Instance | Damaged]]:
        """Returns listings that have, together, the live instances in these statuses that were last updated after a
        time."""
        store = self.store
        if isinstance(store, ShardedStore) and store.shards:
            places = product(store.shards, statuses)
            return [_recent(name, store.in_shard(name, shard, status=status), since) for shard, status in places]
        return [self.loaded(self._listed(name, status, since)) for status in statuses]

    async def _listed(
        self, workflow: str, status: str | None = None, since: datetime = EPOCH
    ) -> AsyncGenerator[Summary | Damaged]:
        """Yields the live instances of a listing until the first one that was last updated before ``since``."""
        following: asyncio.Task[Page] | None = self._page(workflow, status, None)
        try:
            while following is not None:
                page, following = await following, None
                recent = [entry for entry in page.instances if (entry.updated_at or EPOCH) >= since]
                if page.cursor is not None and len(recent) == len(page.instances):
                    following = self._page(workflow, status, page.cursor)  # while this one is loaded
                for what in page.damaged:
                    yield Damaged(workflow, what)
                for entry in recent:
                    if entry.status in LIVE:
                        yield entry
        finally:
            if following is not None:
                following.cancel()
                await asyncio.wait([following])

    def _page(self, workflow: str, status: str | None, cursor: str | None) -> asyncio.Task[Page]:
        async def read() -> Page:
            return await self.store.list(workflow, status=status, limit=PAGE, cursor=cursor)

        return asyncio.create_task(read())

    async def loaded(self, found: AsyncGenerator[Summary | Due | Damaged]) -> AsyncGenerator[Instance | Damaged]:
        """Yields those that still exist, in the same order. Later ones are loaded meanwhile."""
        loading: deque[asyncio.Task[Instance | Damaged | None]] = deque()
        try:
            async with aclosing(found):
                async for entry in found:
                    loading.append(asyncio.create_task(self._load(entry)))
                    if len(loading) == LOADS and (instance := await loading.popleft()) is not None:
                        yield instance
            while loading:
                if (instance := await loading.popleft()) is not None:
                    yield instance
        finally:
            for task in loading:
                task.cancel()
            await asyncio.gather(*loading, return_exceptions=True)

    async def _load(self, found: Summary | Due | Damaged) -> Instance | Damaged | None:
        if isinstance(found, Damaged):
            return found
        async with self._loads:
            try:
                return await self.store.load(found.workflow, found.id)
            except DamagedDocument as error:
                return Damaged(found.workflow, str(error))
            except InstanceNotFound:  # deleted in the meantime
                return None


async def _recent(
    workflow: str, found: AsyncGenerator[Instance | str], since: datetime
) -> AsyncGenerator[Instance | Damaged]:
    """Yields the live instances until the first one that was last updated before ``since``."""
    async with aclosing(found):
        async for instance in found:
            if isinstance(instance, str):
                yield Damaged(workflow, instance)
                continue
            if (instance.execution.updated_at or EPOCH) < since:
                return
            if instance.execution.status in LIVE:
                yield instance


async def _each(entries: Sequence[Due]) -> AsyncGenerator[Due]:
    for entry in entries:
        yield entry


async def _merged(
    sources: Sequence[AsyncGenerator[Instance | Damaged]], at_a_time: int
) -> AsyncGenerator[Instance | Damaged]:
    """Yields what several sources yield, reading some of them at a time.

    Raises:
        Exception: the first error of a source. The others were stopped.
    """
    rest = iter(sources)
    results: asyncio.Queue[Instance | Damaged] = asyncio.Queue(maxsize=LOADS)

    async def read() -> None:
        for source in rest:
            async with aclosing(source):
                async for instance in source:
                    await results.put(instance)

    async def read_all() -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(min(at_a_time, len(sources))):
                group.create_task(read())

    reading = asyncio.create_task(read_all())
    try:
        while not (reading.done() and results.empty()):
            getting = asyncio.ensure_future(results.get())
            try:
                await asyncio.wait([reading, getting], return_when=asyncio.FIRST_COMPLETED)
            finally:
                if not getting.done():
                    getting.cancel()
                    await asyncio.wait([getting])
            if not getting.cancelled():
                yield getting.result()
        await reading
    except ExceptionGroup as group:
        raise _first(group) from None
    finally:
        reading.cancel()
        await asyncio.wait([reading])


def _first(group: ExceptionGroup[Exception]) -> Exception:
    error: Exception = group
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return error
