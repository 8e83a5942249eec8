"""The contract on the store of the simulation: what is found there is about the real ones too."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from cloud_adapter.ports import Store
from tests.contract.local_contract import LocalContract
from tests.contract.store_contract import StoreContract
from tests.simulation.store import Database, SimulatedStore


async def _at_once(name: str, land: Callable[[], Any]) -> Any:
    return land()


class TestSimulatedStore(LocalContract, StoreContract):
    @pytest.fixture
    def make_store(self) -> Callable[[], Store]:
        database = Database()
        return lambda: SimulatedStore(database, _at_once)
