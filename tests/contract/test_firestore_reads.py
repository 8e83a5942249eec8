"""A document that was read has what a snapshot of Google's client has."""

from __future__ import annotations

from typing import Any

import pytest
from google.auth.credentials import AnonymousCredentials
from google.cloud.firestore import AsyncClient
from google.cloud.firestore_v1 import types
from google.cloud.firestore_v1._helpers import decode_dict

from cloud_adapter.stores.firestore.reads import ReadDocument, read_request
from cloud_adapter.stores.firestore.recent_histories import HISTORIES_MAX, RecentHistories
from cloud_adapter.stores.firestore.writes import Writes
from tests.contract.test_firestore_writes import DATABASE, VALUES


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> AsyncClient:
    monkeypatch.delenv("FIRESTORE_EMULATOR_HOST", raising=False)
    return AsyncClient(project="p", database="d", credentials=AnonymousCredentials())  # type: ignore[no-untyped-call]


def test_its_values_are_those_of_googles_client(client: AsyncClient) -> None:
    reference = client.document("workflows", "w", "instances", "1")
    writes = Writes(DATABASE)
    writes.create(reference, {f"f{number}": value for number, value in enumerate(VALUES)})
    fields = writes.request.writes[0].update.fields

    document = ReadDocument(reference, types.Document.pb()(fields=fields, update_time={"seconds": 5, "nanos": 7}))
    assert document.exists
    assert (document.update_time.seconds, document.update_time.nanos) == (5, 7)
    values = document.to_dict() or {}
    assert values == decode_dict(fields, client)
    assert [type(values[f"f{number}"]) for number in range(len(VALUES))] == [type(value) for value in VALUES]


def test_a_value_that_is_never_written_is_no_text(client: AsyncClient) -> None:
    fields: Any = {"location": {"geo_point_value": {"latitude": 1}}, "bytes": {"bytes_value": b"a"}}
    document = ReadDocument(client.document("a/b"), types.Document.pb()(fields=fields)).to_dict()
    assert document is not None
    assert not any(isinstance(value, str) for value in document.values())


def test_a_document_that_does_not_exist(client: AsyncClient) -> None:
    document = ReadDocument(client.document("a/b"), None)
    assert (document.exists, document.update_time, document.to_dict()) == (False, None, None)


def test_a_request_names_the_fields_to_read() -> None:
    assert list(read_request("a/b", ["x", "y"]).mask.field_paths) == ["x", "y"]
    assert not read_request("a/b", None).HasField("mask")


def test_entries_are_only_known_in_the_version_in_which_they_were_kept() -> None:
    histories = RecentHistories()
    histories.keep("a/b", 1, ["0 {}"])
    assert histories.take("a/b", 2) is None
    histories.keep("a/b", 2, ["0 {}", "1 {}"])
    assert histories.take("a/b", 2) == ["0 {}", "1 {}"]
    assert histories.take("a/b", 2) is None, "the commit that follows replaces that version"


def test_the_oldest_histories_are_forgotten() -> None:
    histories = RecentHistories()
    for number in range(HISTORIES_MAX + 1):
        histories.keep(f"a/{number}", 1, [])
    assert histories.take("a/0", 1) is None
    assert histories.take("a/1", 1) == []
