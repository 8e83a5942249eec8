"""What every store must do whose instances can be copied: it lists the keys of an instance."""

from __future__ import annotations

from typing import cast

import pytest

from cloud_adapter.document import KeyRecord
from cloud_adapter.errors import InvalidRequest
from cloud_adapter.ports import CopyableStore
from cloud_adapter.stores.listings import LIMIT_MAX
from tests.contract.store_contract import (
    MICROSECOND,
    NOW,
    SECOND,
    MakeStore,
    a_key,
    an_instance,
    asynchronously,
    changed,
)


class KeysContract:
    @asynchronously
    async def test_the_keys_of_an_instance(self, make_store: MakeStore) -> None:
        store = cast(CopyableStore, make_store())
        keys = [a_key(f"Schlüssel {number} ☕ / %2F .", response=f'"{number}"') for number in range(25)]
        await store.create(an_instance(), a_key("gone", expires_at=NOW))
        await store.create(an_instance("order-2"), a_key("other"))
        await store.create(an_instance(workflow="pasta"), a_key("other"))
        await store.commit(changed(await store.load("pizza", "order-1")), keys)
        for limit in (1, 7, 25, 100):
            found, after = list[KeyRecord](), None
            while page := await store.keys("pizza", "order-1", NOW, limit, after=after):
                assert len(page) <= limit
                found += page
                after = page[-1].key
            assert sorted(found, key=lambda key: key.key) == sorted(keys, key=lambda key: key.key), limit
        assert list(await store.keys("pizza", "order-2", NOW)) == [a_key("other")]
        assert list(await store.keys("pizza", "order-3", NOW)) == []
        assert len(await store.keys("pizza", "order-1", NOW + SECOND - MICROSECOND)) == 25
        assert list(await store.keys("pizza", "order-1", NOW + SECOND)) == []

    @asynchronously
    async def test_a_limit_outside_of_the_range_is_rejected(self, make_store: MakeStore) -> None:
        store = cast(CopyableStore, make_store())
        for limit in (-1, 0, LIMIT_MAX + 1):
            for call in (
                store.list("pizza", limit=limit),
                store.inbox("pizza", "order-1", limit),
                store.uncollected(NOW, limit),
                store.keys("pizza", "order-1", NOW, limit),
                store.due(NOW, limit),
                store.postponed(NOW, limit),
            ):
                with pytest.raises(InvalidRequest, match="limit must be between 1 and 10,000"):
                    await call
        assert list(await store.keys("pizza", "order-1", NOW, LIMIT_MAX)) == []
