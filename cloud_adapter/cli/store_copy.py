"""Copies all instances of a store to another one, with their histories, their inboxes and their idempotency keys.

Theory of operation. Nothing serves the instances meanwhile: neither the source, where they would change, nor the
destination, where they would run while they are incomplete. An instance is written in steps: the entries of its inbox,
its document with its history, its keys. Each step may be repeated, so a copy that was interrupted continues, and one
that is complete finds nothing to do. An instance that the destination has in another state is never changed. After
its last step, everything is read back and compared. At the end, the listings of both stores are compared, because
something may have changed the source since an earlier call has copied an instance.

Documents are copied as they are stored, so secrets stay encrypted, and need the same keys at the destination. Tasks are
not copied. ``wake_at`` says when an instance is due, and the recovery of the destination creates the tasks. That an
instance is postponed is not copied either: it is due at once, so the code at the destination tries it and decides anew.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import datetime

from cloud_adapter.document import InboxEntry, Instance, KeyRecord
from cloud_adapter.errors import (
    Conflict,
    DamagedDocument,
    DuplicateKey,
    InstanceExists,
    InstanceNotFound,
    InvalidRequest,
    TooLarge,
)
from cloud_adapter.ports import CopyableStore, Order
from cloud_adapter.stores.listings import EPOCH, LIMIT_MAX
from cloud_adapter.summaries import Summary
from workflow_core.wait_types import ActivityWait

PAGE = 100
POSTPONED_PAGE = 1_000
AT_A_TIME = 10
"""How many instances are copied at the same time, so that many large ones fit into the memory."""

KEYS_PER_COMMIT = 50
RESPONSES_PER_COMMIT = 2_000_000
"""The most bytes of the responses of keys that one commit writes, but for a response that is larger."""

_COPY_ANEW = "stop what serves the source, delete it at the destination, and repeat"


@dataclass(slots=True)
class Progress:
    """How far a copy has come.

    Attributes:
        done: the workflows that are complete.
        workflow: the one that is being copied, from ``cursor`` on.
        left: the instances that could not be copied: workflow and id.
    """

    source: str
    destination: str
    done: list[str] = field(default_factory=list)
    workflow: str = ""
    cursor: str | None = None
    left: list[tuple[str, str]] = field(default_factory=list)


@dataclass(slots=True)
class Report:
    """What a copy has done.

    Attributes:
        copied: how many instances of each workflow were copied, or would be, if nothing was to be written.
        present: how many the destination already had, in the same state.
        problems: why an instance was not copied, or differs: workflow, id and reason.
        attempting: how many of the copied ones have an activity whose attempt may have begun.
        counts: how many instances of each workflow the source and the destination have.
    """

    copied: Counter[str] = field(default_factory=Counter)
    present: Counter[str] = field(default_factory=Counter)
    problems: list[tuple[str, str, str]] = field(default_factory=list)
    attempting: int = 0
    counts: dict[str, tuple[int, int]] = field(default_factory=dict)

    @property
    def is_good(self) -> bool:
        """Whether the destination has all instances of the source."""
        return not self.problems


class _Left(Exception):
    """An instance that is not copied. The text is the reason."""


@dataclass(slots=True)
class Copier:
    """Copies the instances of a store.

    Args:
        writes: whether to write; otherwise it only finds out what would be written.
        now: the time, for leases and keys.
        progress: where an earlier call has stopped; updated as the copy goes on.
        save: called whenever the progress has changed.
    """

    source: CopyableStore
    destination: CopyableStore
    writes: bool
    now: datetime
    progress: Progress
    save: Callable[[Progress], None]
    report: Report = field(default_factory=Report)
    _postponed: set[tuple[str, str]] = field(default_factory=set, init=False)

    async def run(self) -> Report:
        """Copies everything, or what an earlier call has left.

        Raises:
            Unavailable: a store did not answer. Call it again to continue.
        """
        await self._find_postponed()
        left, self.progress.left = self.progress.left, []
        await self._copy_all(left)
        workflows = sorted(await self.source.workflows())
        for workflow in workflows:
            if workflow not in self.progress.done:
                await self._copy_workflow(workflow)
        if self.writes:
            for workflow in workflows:
                await self._compare_listings(workflow)
            self.save(self.progress)
        return self.report

    async def _find_postponed(self) -> None:
        last = None
        while True:
            found = await self.source.postponed(self.now, POSTPONED_PAGE, after=last)
            self._postponed |= {(due.workflow, due.id) for due in found}
            if len(found) < POSTPONED_PAGE:
                return
            last = found[-1]

    async def _copy_workflow(self, workflow: str) -> None:
        progress = self.progress
        cursor = progress.cursor if progress.workflow == workflow else None
        while True:
            page = await self.source.list(workflow, order=Order.ID, limit=PAGE, cursor=cursor)
            self.report.problems += [(workflow, "", what) for what in page.damaged]
            await self._copy_all([(workflow, summary.id) for summary in page.instances])
            progress.workflow, progress.cursor = workflow, page.cursor
            if page.cursor is None:
                progress.done.append(workflow)
            self.save(progress)
            if (cursor := page.cursor) is None:
                return

    async def _compare_listings(self, workflow: str) -> None:
        """Finds what has changed in the source since it was copied, and counts the instances."""
        known = {id for name, id, _ in self.report.problems if name == workflow}
        here, there = _Listing(self.source, workflow), _Listing(self.destination, workflow)
        copy = await there.next()
        while (original := await here.next()) is not None:
            while copy is not None and copy.id < original.id:
                copy = await there.next()
            if original.id in known:
                continue
            if copy is None or copy.id != original.id:
                self._leave(
                    workflow, original.id, "the destination does not have it: stop what serves the source, and repeat"
                )
            elif (original.status, original.updated_at or EPOCH) != (copy.status, copy.updated_at or EPOCH):
                self._leave(workflow, original.id, f"it has changed since it was copied: {_COPY_ANEW}")
        while copy is not None:
            copy = await there.next()
        self.report.problems += [(workflow, "", what) for what in there.damaged]
        self.report.counts[workflow] = here.count, there.count

    async def _copy_all(self, places: Sequence[tuple[str, str]]) -> None:
        for first in range(0, len(places), AT_A_TIME):
            copies = [self._copy(*place) for place in places[first : first + AT_A_TIME]]
            # All must have ended before an error is raised, because the caller may repeat the call.
            for result in await asyncio.gather(*copies, return_exceptions=True):
                if result is not None:
                    raise result

    async def _copy(self, workflow: str, id: str) -> None:
        try:
            is_new, is_attempting = await self._copy_one(workflow, id)
        except InstanceNotFound:  # deleted meanwhile
            return
        except (InstanceExists, Conflict, DuplicateKey):
            self._leave(workflow, id, "the destination was changed meanwhile: stop what else writes to it, and repeat")
            return
        except (_Left, DamagedDocument, InvalidRequest, TooLarge) as error:
            self._leave(workflow, id, str(error))
            return
        (self.report.copied if is_new else self.report.present)[workflow] += 1
        self.report.attempting += is_attempting

    def _leave(self, workflow: str, id: str, reason: str) -> None:
        self.report.problems.append((workflow, id, reason))
        self.progress.left.append((workflow, id))

    async def _copy_one(self, workflow: str, id: str) -> tuple[bool, bool]:
        """Copies an instance. Returns whether the destination lacked something of it, and whether it has an activity
        whose attempt may have begun.

        Raises:
            _Left: it was not copied.
        """
        here = await _Whole.load(self.source, workflow, id, self.now)
        lease = here.instance.lease
        if lease is not None and lease.expires_at > self.now:
            raise _Left(f"it is running until {lease.expires_at:%H:%M:%S} UTC: stop what serves the source, and repeat")
        if len(here.inbox) >= LIMIT_MAX:
            raise _Left(f"its inbox has {LIMIT_MAX} entries or more: let it process them first")
        try:
            there = await _Whole.load(self.destination, workflow, id, self.now)
        except InstanceNotFound:
            there = None
        if there is not None and (names := self._differ(here, there)):
            raise _Left(f"the destination has it in another state ({', '.join(names)} differ), and is not changed")
        is_new = there is None or not there.has_all_of(here)
        if is_new and self.writes:
            await self._write(here, there)
        execution = here.instance.execution
        waits = (wait for thread in execution.threads for wait in thread.waits)
        return is_new, execution.live and any(isinstance(wait, ActivityWait) for wait in waits)

    async def _write(self, here: _Whole, there: _Whole | None) -> None:
        workflow, id = here.instance.workflow, here.instance.id
        if there is None:
            # An earlier call may have left entries that the source has processed since.
            found = await self.destination.inbox(workflow, id, LIMIT_MAX)
            await self.destination.discard([entry for entry in found if entry not in here.inbox])
        for entry in here.inbox:
            await self.destination.post(entry)
        if there is None:
            is_postponed = (here.instance.workflow, here.instance.id) in self._postponed
            new = replace(here.instance, wake_at=self.now) if is_postponed else here.instance
            await self.destination.create(_as_new(new))
        known = {key.key async for key in _keys(self.destination, workflow, id, self.now)}
        current = await self.destination.load(workflow, id)
        for keys in _portions([key for key in here.keys if key.key not in known]):
            current = await self.destination.commit(current, keys)
        written = await _Whole.load(self.destination, workflow, id, self.now)
        names = self._differ(here, written)
        if names or not written.has_all_of(here):
            raise _Left(f"what was written is not what was read ({', '.join(names) or 'inbox or keys'} differ)")
        if _differences(here.instance, (await self.source.load(workflow, id, history=True))):
            raise _Left(f"it has changed while it was copied: {_COPY_ANEW}")

    def _differ(self, here: _Whole, there: _Whole) -> list[str]:
        """Returns the names of the parts in which the destination's instance differs, other than by what it lacks."""
        original, copy = here.instance, there.instance
        if copy.wake_at is not None and copy.wake_at <= self.now:
            # It may have been postponed here. A time that has passed is never wrong: recovery looks what is due.
            original = replace(original, wake_at=copy.wake_at)
        names = _differences(original, copy)
        names += ["inbox"] * (not set(there.inbox) <= set(here.inbox))
        return names + ["keys"] * (not set(there.keys) <= set(here.keys))


@dataclass(frozen=True, slots=True)
class _Whole:
    """An instance with everything that belongs to it."""

    instance: Instance
    inbox: Sequence[InboxEntry]
    keys: Sequence[KeyRecord]

    @classmethod
    async def load(cls, store: CopyableStore, workflow: str, id: str, now: datetime) -> _Whole:
        instance = await store.load(workflow, id, history=True)
        inbox = await store.inbox(workflow, id, LIMIT_MAX)
        return cls(instance, inbox, [key async for key in _keys(store, workflow, id, now)])

    def has_all_of(self, other: _Whole) -> bool:
        """Whether it has the entries and the keys of the other."""
        return set(other.inbox) <= set(self.inbox) and set(other.keys) <= set(self.keys)


async def _keys(store: CopyableStore, workflow: str, id: str, now: datetime) -> AsyncIterator[KeyRecord]:
    after = None
    while page := await store.keys(workflow, id, now, PAGE, after=after):
        for key in page:
            yield key
        after = page[-1].key


def _portions(keys: Sequence[KeyRecord]) -> list[list[KeyRecord]]:
    """Divides keys among commits."""
    portions, size = list[list[KeyRecord]](), 0
    for key in keys:
        key_size = len(key.response.encode())
        size += key_size
        if not portions or len(portions[-1]) == KEYS_PER_COMMIT or size > RESPONSES_PER_COMMIT:
            portions.append([])
            size = key_size
        portions[-1].append(key)
    return portions


def _as_new(instance: Instance) -> Instance:
    """Returns an instance as it is created, with its history."""
    return replace(_plain(instance), entries=None, new_entries=instance.history)


def _plain(instance: Instance) -> Instance:
    """Returns an instance without what each store counts by itself."""
    return replace(instance, entries_count=0, entries_bytes=0, old_history="", version=None, document=None)


def _differences(first: Instance, second: Instance) -> list[str]:
    """Returns the names of the parts in which two instances differ."""
    first, second = _plain(first), _plain(second)
    names = (part.name for part in fields(Instance) if part.compare)
    return [name for name in names if getattr(first, name) != getattr(second, name)]


class _Listing:
    """The instances of a workflow in the order of their ids.

    Attributes:
        count: how many were read, with those that are damaged.
    """

    def __init__(self, store: CopyableStore, workflow: str) -> None:
        self.count = 0
        self.damaged: list[str] = []
        self._summaries = self._read(store, workflow)

    async def next(self) -> Summary | None:
        """Returns the next instance; None: there is no more."""
        return await anext(self._summaries, None)

    async def _read(self, store: CopyableStore, workflow: str) -> AsyncIterator[Summary]:
        cursor = None
        while True:
            page = await store.list(workflow, order=Order.ID, limit=LIMIT_MAX, cursor=cursor)
            self.count += len(page.instances) + len(page.damaged)
            self.damaged += page.damaged
            for summary in page.instances:
                yield summary
            if (cursor := page.cursor) is None:
                return
