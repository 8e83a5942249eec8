"""Stores with instances that have all that an instance can have, and copies of them. Holds no test."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from cloud_adapter.cli.store_copy import Copier, Progress, Report
from cloud_adapter.cli.stores import open_store
from cloud_adapter.ports import CopyableStore
from cloud_adapter.summaries import Due
from tests.contract.store_contract import (
    MICROSECOND,
    NOW,
    SECOND,
    a_full_instance,
    a_key,
    an_entry,
    an_instance,
    changed,
    some_entries,
)

LATER = NOW + timedelta(days=1)
"""Unlike the full instance's lease, its keys last longer."""


@asynccontextmanager
async def opened(*names: str) -> AsyncIterator[Sequence[CopyableStore]]:
    async with AsyncExitStack() as stack:
        stores = [open_store(name, new=True) for name in names]
        for store in stores:
            stack.push_async_callback(store.close)
        yield stores


async def fill(store: CopyableStore, count: int = 3) -> None:
    """Instances of two workflows, with all that an instance can have."""
    full = a_full_instance()
    full = replace(full, execution=replace(full.execution, error=None))
    await store.create(full, a_key("first", expires_at=LATER))
    instance = await store.load("pizza", "order-1")
    for number in range(60):
        keys = [a_key(f"key-{number} ☕", response=f'"{number}"', expires_at=LATER)] if number < 55 else []
        change = replace(changed(instance), new_entries=some_entries(number, 2))
        instance = await store.commit(change, keys)
    await store.commit(changed(instance), [a_key("old", expires_at=NOW)])
    for number in range(3):
        await store.post(an_entry(f"entry-{number}", at=NOW + number * MICROSECOND, body=json.dumps({"ü": "\x00"})))
    for number in range(count):
        await store.create(an_instance(f"id {number:03} ☕", workflow="pasta", wake_at=LATER, count=number))


async def copied(
    source: CopyableStore,
    destination: CopyableStore,
    *,
    writes: bool = True,
    now: datetime = NOW + SECOND,
    **state: Any,
) -> tuple[Report, Progress]:
    progress = state.get("progress") or Progress("a", "b")
    copier = Copier(source, destination, writes, now, progress, lambda progress: None)
    return await copier.run(), progress


async def whole(store: CopyableStore, workflow: str, id: str) -> tuple[Any, ...]:
    instance = await store.load(workflow, id, history=True)
    plain = replace(instance, entries_count=0, entries_bytes=0, version=None, document=None)
    keys = sorted(await store.keys(workflow, id, NOW, 1000), key=lambda key: key.key)
    return plain, list(await store.inbox(workflow, id)), keys


async def same(one: CopyableStore, other: CopyableStore) -> None:
    assert sorted(await one.workflows()) == sorted(await other.workflows())
    for workflow in await one.workflows():
        here, there = await one.list(workflow, limit=1000), await other.list(workflow, limit=1000)
        assert list(here.instances) == list(there.instances)
        for summary in here.instances:
            assert await whole(one, workflow, summary.id) == await whole(other, workflow, summary.id)
    # Instances that are due at the same time have no order.
    due = [sorted(await store.due(LATER + timedelta(days=9999)), key=_place) for store in (one, other)]
    assert due[0] == due[1]


def _place(due: Due) -> tuple[datetime, str, str]:
    return due.wake_at, due.workflow, due.id
