"""Stores with instances that have all that an instance can have. Holds no test."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from datetime import timedelta

from cloud_adapter.cli.stores import open_store
from cloud_adapter.ports import CopyableStore
from tests.contract.store_contract import (
    MICROSECOND,
    NOW,
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
