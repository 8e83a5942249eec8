"""The contract on the store of the simulation: what is found there is about the real ones too."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest

from cloud_adapter.ports import Store
from cloud_adapter.stores.firestore.shards import Shards
from tests.contract.local_contract import LocalContract
from tests.contract.store_contract import StoreContract
from tests.simulation.store import Database, LocalSimulatedStore, SimulatedStore


async def _at_once(name: str, land: Callable[[], Any]) -> Any:
    return land()


class TestSimulatedStore(LocalContract, StoreContract):
    @pytest.fixture
    def make_store(self) -> Callable[[], Store]:
        database = Database()

        def backup() -> Callable[[], None]:
            kept = dict(database.documents)
            return lambda: setattr(database, "documents", dict(kept))

        self.backup = backup
        return lambda: LocalSimulatedStore(database, _at_once)


class TestSimulatedStoreWithShards(StoreContract):
    @pytest.fixture(params=[[Shards(4, True)], [Shards(4), Shards(4, True)], [Shards(4, True), Shards(2, True)]])
    def make_store(self, request: pytest.FixtureRequest) -> Callable[[], Store]:
        """Each store is of the next revision."""
        database, revisions = Database(), itertools.cycle(request.param)

        def make() -> Store:
            shards = next(revisions)
            return SimulatedStore(database, _at_once, shards=lambda: shards)

        return make
