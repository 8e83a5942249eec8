"""Writes of SQLite that wait for each other. Holds no test."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from cloud_adapter.stores.sqlite.store import SqliteStore


@asynccontextmanager
async def held(store: SqliteStore) -> AsyncIterator[None]:
    """What is written inside the block waits until its end."""
    end = threading.Event()
    holding = asyncio.create_task(store.connections.run(lambda _: end.wait()))
    await asyncio.wait([holding], timeout=0)  # lets it start
    try:
        yield
    finally:
        end.set()
        await holding
