"""The contract of a store on the same machine."""

from __future__ import annotations

from typing import cast

from cloud_adapter.ports import LocalStore
from tests.contract.store_contract import MakeStore, an_instance, asynchronously, changed


class LocalContract:
    @asynchronously
    async def test_only_the_stored_version_is_current(self, make_store: MakeStore) -> None:
        store, other = cast(LocalStore, make_store()), make_store()
        assert isinstance(store, LocalStore)
        await store.create(an_instance())
        loaded = await store.load("pizza", "order-1")
        assert await store.is_current("pizza", "order-1", loaded.version)
        committed = await other.commit(changed(loaded))
        assert not await store.is_current("pizza", "order-1", loaded.version)
        assert await store.is_current("pizza", "order-1", committed.version)
        assert not await store.is_current("pizza", "order-2", committed.version)
        assert not await store.is_current("pasta", "order-1", committed.version)
