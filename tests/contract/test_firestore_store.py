"""The contract on Firestore's real emulator, and what is Firestore's own: its RPCs, its indexes, its errors."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from cloud_adapter.firestore_store import FirestoreStore
from tests.contract.store_contract import StoreContract


class TestFirestoreStore(StoreContract):
    @pytest.fixture
    def make_store(self, firestore_project: str) -> Callable[[], FirestoreStore]:
        return lambda: FirestoreStore(project=firestore_project)
