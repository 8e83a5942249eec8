"""The messages of a commit are those that Google's client makes."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from google.auth.credentials import AnonymousCredentials
from google.cloud.firestore import ArrayUnion, AsyncClient
from google.cloud.firestore_v1 import types
from google.protobuf.timestamp_pb2 import Timestamp

from cloud_adapter.stores.firestore.writes import Writes

DATABASE = "projects/p/databases/d"
VALUES = [
    *("", "ü", None, True, False, 0, -(2**63), 2**63 - 1, 1.5, float("inf")),
    *(datetime(2030, 1, 2, 3, 4, 5, 678_901, UTC), datetime(1, 1, 1, tzinfo=UTC)),
    *([], [1, "a", None, {"b": 2}], {}, {"a.b": {"ü": [True]}, "c": None}),
]


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> AsyncClient:
    monkeypatch.delenv("FIRESTORE_EMULATOR_HOST", raising=False)
    return AsyncClient(project="p", database="d", credentials=AnonymousCredentials())  # type: ignore[no-untyped-call]


def test_they_are_those_of_googles_client(client: AsyncClient) -> None:
    reference = client.document("workflows", "w", "instances", "ü 1")
    fields: dict[str, Any] = {f"f{number}": value for number, value in enumerate(VALUES)}
    added = {"entries": ArrayUnion(["a", "b"])}
    version = Timestamp(seconds=1_900_000_000, nanos=123_456_789)
    batch = client.batch()
    batch.create(reference, fields)
    batch.update(reference, fields | added, option=client.write_option(last_update_time=version))
    batch.update(reference, {"shard": 1})
    batch.delete(reference)
    theirs = types.CommitRequest.pb(types.CommitRequest(database=DATABASE, writes=batch._write_pbs))

    ours = Writes(DATABASE)
    ours.create(reference, fields)
    ours.update(reference, fields | added, 1_900_000_000_123_456_789)
    ours.update(reference, {"shard": 1}, None)
    ours.delete(reference)
    for write in (*theirs.writes, *ours.request.writes):
        write.update_mask.field_paths.sort()
    assert ours.request == theirs


@pytest.mark.parametrize("value", [2**63, -(2**63) - 1, {1}, object(), "\ud800"])
def test_what_firestore_cannot_store_is_refused(client: AsyncClient, value: Any) -> None:
    with pytest.raises((ValueError, TypeError)):
        Writes(DATABASE).create(client.document("a/b"), {"search": {"x": value}})
