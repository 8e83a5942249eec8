"""The contract of a store on the same machine."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import pytest

from cloud_adapter.document import Instance
from cloud_adapter.errors import Conflict
from cloud_adapter.ports import LocalStore
from tests.contract.store_contract import NOW, MakeStore, an_instance, asynchronously, changed


class LocalContract:
    backup: Callable[[], Callable[[], None]]
    """Makes a backup of what is stored. Gives a function that restores it while stores are open. The classes with this
    contract set it, in a fixture."""

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

    @asynchronously
    async def test_an_instance_that_was_deleted_and_created_again_has_other_versions(
        self, make_store: MakeStore
    ) -> None:
        store, other = cast(LocalStore, make_store()), make_store()
        assert not await store.workflows()
        delete = self.backup()
        await store.create(an_instance())
        loaded = await store.load("pizza", "order-1")
        committed = await store.commit(changed(loaded, owner="Ann"))
        delete()
        await other.create(an_instance())
        await _refuses(store, loaded)
        wanted = await other.commit(changed(await other.load("pizza", "order-1"), owner="Bob"))
        await _refuses(store, committed)
        assert (await store.load("pizza", "order-1")).fields == wanted.fields

    @asynchronously
    async def test_what_follows_a_restored_backup_has_other_versions(self, make_store: MakeStore) -> None:
        store, other = cast(LocalStore, make_store()), make_store()
        await store.create(an_instance(wake_at=NOW))
        loaded = await store.load("pizza", "order-1")
        restore = self.backup()
        committed = await store.commit(changed(loaded, undone=True))
        restore()
        wanted = await other.commit(changed(await other.load("pizza", "order-1"), undone=False))
        await _refuses(store, committed)
        assert (await store.load("pizza", "order-1")).fields == wanted.fields
        restore()
        (due,) = await other.due(NOW)
        await other.postpone(due, NOW)
        await _refuses(store, committed)


async def _refuses(store: LocalStore, instance: Instance) -> None:
    """Checks that the store no longer takes the instance for what it has."""
    assert not await store.is_current(instance.workflow, instance.id, instance.version)
    with pytest.raises(Conflict):
        await store.commit(changed(instance))
