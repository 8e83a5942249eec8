"""The contract on Firestore's real emulator, and what is Firestore's own: its RPCs, its indexes, its errors."""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import logging
import os
import socket
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.auth.credentials import AnonymousCredentials
from google.cloud.firestore import DELETE_FIELD
from pydantic_core import to_json

from cloud_adapter.document import DOCUMENT_BYTES_MAX, Instance, encode
from cloud_adapter.errors import (
    Conflict,
    DamagedDocument,
    DuplicateKey,
    InstanceExists,
    InstanceNotFound,
    InvalidRequest,
    TooLarge,
    Unavailable,
)
from cloud_adapter.history import kept_entries
from cloud_adapter.ports import Order
from cloud_adapter.stores.firestore.documents import (
    DUE_PATHS,
    ENTRIES,
    INBOX,
    INSTANCES,
    KEYS,
    LOAD_PATHS,
    RESPONSES_BYTES_MAX,
    SUMMARY_PATHS,
)
from cloud_adapter.stores.firestore.queries import EXECUTIONS_PER_CALL
from cloud_adapter.stores.firestore.store import DELETES_PER_COMMIT, FirestoreStore
from cloud_adapter.variables import FIRESTORE_EMULATOR_VARIABLE
from tests.contract.keys_contract import KeysContract
from tests.contract.store_contract import (
    NOW,
    SECOND,
    StoreContract,
    a_full_instance,
    a_key,
    an_entry,
    an_instance,
    changed,
    some_entries,
)
from tests.firestore_client import RecordingClient, after, failing, losing_the_reply
from workflow_core import ErrorInfo, InvalidFields, Status

pytestmark = pytest.mark.slow

INDEXES = Path(__file__).parents[2] / "deploy" / "firestore.indexes.json"

Work = Callable[[FirestoreStore, RecordingClient], Awaitable[None]]


class TestFirestoreStore(KeysContract, StoreContract):
    @pytest.fixture
    def make_store(self, firestore_project: str) -> Callable[[], FirestoreStore]:
        return FirestoreStore


@pytest.fixture
def use(firestore_project: str) -> Callable[[Work], None]:
    """Runs the work with a store, and with the client that it uses."""

    def run(work: Work) -> None:
        async def main() -> None:
            async with opened(firestore_project) as (store, client):
                await work(store, client)

        asyncio.run(main())

    return run


@asynccontextmanager
async def opened(project: str) -> AsyncIterator[tuple[FirestoreStore, RecordingClient]]:
    client = RecordingClient(project)
    store = FirestoreStore(client)
    try:
        yield store, client
    finally:
        await store.close()
        await client.aclose()


Use = Callable[[Work], None]


# --- RPCs ------------------------------------------------------------------------------------


def test_each_call_is_one_rpc(use: Use) -> None:
    async def work(store: FirestoreStore, client: RecordingClient) -> None:
        await store.create(an_instance())
        assert client.taken() == ["Commit"]
        await store.create(an_instance("order-2"), a_key())
        assert client.taken() == ["Commit"]
        instance = await store.load("pizza", "order-1")
        assert client.taken() == ["GetDocument"]
        instance = await store.commit(changed(instance))
        assert client.taken() == ["Commit"]
        instance = await store.commit(changed(instance), [a_key()])
        assert client.taken() == ["Commit"]
        with pytest.raises(Conflict):
            await store.commit(replace(changed(instance), version=1_000), [a_key("key-2")])
        assert client.taken() == ["Commit"]
        await store.load_key("pizza", "order-1", "key-1", NOW)
        assert client.taken() == ["GetDocument"]
        for number in range(6):
            await store.post(an_entry(f"entry-{number}"))
            assert client.taken() == ["Commit"]
        await store.post(an_entry("entry-5"))
        assert client.taken() == ["Commit"], "an entry that is there"
        entries = await store.inbox("pizza", "order-1", limit=5)
        assert client.taken() == ["RunQuery"]
        await store.commit(changed(instance), [a_key(f"more-{number}") for number in range(3)], entries)
        assert client.taken() == ["Commit"]
        assert await store.uncollected(NOW) == [("pizza", "order-1")]
        assert client.taken() == ["RunQuery"]
        await store.discard([an_entry(f"entry-{number}") for number in range(DELETES_PER_COMMIT)])
        assert client.taken() == ["Commit"]
        await store.discard([])
        assert client.taken() == []
        cursor = (await store.list("pizza", limit=1)).cursor
        assert client.taken() == ["RunQuery"]
        await store.list("pizza", status="waiting", cursor=cursor)
        assert client.taken() == ["RunQuery"]
        await store.list("pizza", search={"customer": ["5", 5], "paid": ["1", 1, True]})
        assert client.taken() == ["RunQuery"]
        await store.due(NOW)
        assert client.taken() == ["RunQuery"]
        await store.ping()
        assert client.taken() == ["GetDocument"]

    use(work)


def test_only_a_key_that_is_there_costs_more(use: Use) -> None:
    async def work(store: FirestoreStore, client: RecordingClient) -> None:
        await store.create(an_instance(), a_key(expires_at=NOW + SECOND))
        instance = await store.load("pizza", "order-1")
        client.taken()
        with pytest.raises(DuplicateKey):
            await store.commit(changed(instance), [a_key()])
        assert client.taken() == ["Commit", "BatchGetDocuments"]
        await store.commit(changed(instance, updated_at=NOW + SECOND), [a_key(expires_at=NOW + 9 * SECOND)])
        assert client.taken() == ["Commit", "BatchGetDocuments", "Commit"]
        keys = [a_key(f"key-{number}", expires_at=NOW + 9 * SECOND) for number in range(2, 5)]
        instance = await store.load("pizza", "order-1")
        instance = await store.commit(changed(instance), keys)
        client.taken()
        with pytest.raises(DuplicateKey):
            await store.commit(changed(instance), [a_key("new"), *keys])
        assert client.taken() == ["Commit", "BatchGetDocuments"], "all keys in one"
        await store.commit(changed(instance, updated_at=NOW + 9 * SECOND), [a_key("new"), *keys])
        assert client.taken() == ["Commit", "BatchGetDocuments", "Commit"]

    use(work)


def test_a_read_that_did_not_get_through_is_made_again(use: Use) -> None:
    async def work(store: FirestoreStore, client: RecordingClient) -> None:
        await store.create(an_instance(wake_at=NOW), a_key())
        client.taken()
        client.handlers.extend([failing(grpc.StatusCode.UNAVAILABLE)] * 2)
        loaded = await store.load("pizza", "order-1")
        assert client.taken() == ["GetDocument"] * 3
        client.handlers.append(failing(grpc.StatusCode.UNAVAILABLE))
        assert len(await store.due(NOW)) == 1
        assert client.taken() == ["RunQuery"] * 2
        await store.post(an_entry())
        for call in (store.inbox("pizza", "order-1"), store.uncollected(NOW)):
            client.taken()
            client.handlers.append(failing(grpc.StatusCode.UNAVAILABLE))
            assert len(await call) == 1
            assert client.taken() == ["RunQuery"] * 2
        client.handlers.append(failing(grpc.StatusCode.UNAVAILABLE))
        assert await store.workflows() == ["pizza"]
        assert client.taken() == ["ListDocuments"] * 2
        client.handlers.extend([through, failing(grpc.StatusCode.UNAVAILABLE)])
        with pytest.raises(DuplicateKey):
            await store.commit(changed(loaded), [a_key()])
        assert client.taken() == ["Commit"] + ["BatchGetDocuments"] * 2

    use(work)


def test_a_missing_document_is_told_from_a_missing_database(use: Use) -> None:
    async def work(store: FirestoreStore, client: RecordingClient) -> None:
        await store.create(an_instance())
        client.taken()
        with pytest.raises(InstanceNotFound):
            await store.load("pizza", "ördér 1")
        assert client.taken() == ["GetDocument"]
        client.handlers.append(failing(grpc.StatusCode.NOT_FOUND))  # its message does not name the document
        assert (await store.load("pizza", "order-1")).id == "order-1"
        assert client.taken() == ["GetDocument", "BatchGetDocuments"]
        client.handlers.extend([failing(grpc.StatusCode.NOT_FOUND)] * 2)
        with pytest.raises(Unavailable, match="create the database"):
            await store.load("pizza", "order-1")

    use(work)


# --- compare-and-set -------------------------------------------------------------------------


# --- the history -----------------------------------------------------------------------------


def writes_of(client: RecordingClient) -> list[Any]:
    """The writes of the last commit."""
    return list(client.requests[-1].writes)


def test_a_commit_adds_to_the_history_in_its_only_write(use: Use) -> None:
    async def work(store: FirestoreStore, client: RecordingClient) -> None:
        await store.create(replace(an_instance(), new_entries=some_entries(0, 1)))
        loaded = await store.load("pizza", "order-1")
        client.taken()
        committed = await store.commit(replace(changed(loaded), new_entries=some_entries(1, 2)))
        assert client.taken() == ["Commit"], "nothing is read"
        (write,) = writes_of(client)
        (transform,) = write.update_transforms
        assert transform.field_path == ENTRIES
        assert len(transform.append_missing_elements.values) == 2
        assert ENTRIES not in {*write.update_mask.field_paths, *write.update.fields}
        assert write.current_document.update_time
        await store.commit(changed(committed))
        (write,) = writes_of(client)
        assert not write.update_transforms

    use(work)


def test_a_load_reads_the_history_only_if_it_is_wanted(use: Use) -> None:
    async def work(store: FirestoreStore, client: RecordingClient) -> None:
        await store.create(replace(an_instance(), new_entries=some_entries(0, 1)))
        for history in (False, True):
            client.taken()
            await store.load("pizza", "order-1", history=history)
            assert client.taken() == ["GetDocument"]
            assert (ENTRIES in client.requests[-1].mask.field_paths) is history
        assert LOAD_PATHS, "a mask without paths would read everything"

    use(work)


def test_a_store_reads_a_history_once(use: Use) -> None:
    async def work(store: FirestoreStore, client: RecordingClient) -> None:
        await store.create(replace(an_instance(), new_entries=some_entries(0, 1)))
        instance = await store.load("pizza", "order-1")
        client.taken()
        for number in range(1, 201):
            instance = await store.commit(replace(changed(instance), new_entries=some_entries(number, 1)))
        calls = client.taken()
        assert (calls.count("Commit"), calls.count("GetDocument")) == (200, 1)
        assert (await store.load("pizza", "order-1", history=True)).history == kept_entries(some_entries(0, 201))

    use(work)


def test_a_history_that_others_have_changed_is_read_again(use: Use) -> None:
    async def work(store: FirestoreStore, client: RecordingClient) -> None:
        await store.create(replace(an_instance(), new_entries=some_entries(0, 1)))
        loaded = await store.load("pizza", "order-1")
        instance = await store.commit(replace(changed(loaded), new_entries=some_entries(1, 50)))
        instance = await FirestoreStore(client).commit(replace(changed(instance), new_entries=some_entries(51, 44)))
        client.taken()
        await store.commit(replace(changed(instance), new_entries=some_entries(95, 5)))
        assert client.taken() == ["GetDocument", "Commit"]
        assert (await store.load("pizza", "order-1", history=True)).history == kept_entries(some_entries(0, 100))

    use(work)


@pytest.mark.parametrize("reads_first", [False, True])
def test_a_history_that_is_replaced_meanwhile_is_a_conflict(use: Use, reads_first: bool) -> None:
    async def work(store: FirestoreStore, client: RecordingClient) -> None:
        await store.create(replace(an_instance(), new_entries=some_entries(0, 1)))
        loaded = await store.load("pizza", "order-1")

        async def overtake() -> None:
            await store.commit(replace(changed(loaded), new_entries=some_entries(1, 1)))

        client.handlers.extend([lambda send: send()] * reads_first + [after(overtake)])
        with pytest.raises(Conflict):
            await store.commit(replace(changed(loaded), new_entries=some_entries(500, 50)))
        assert (await store.load("pizza", "order-1", history=True)).history == some_entries(0, 2)

    use(work)


def test_a_document_of_an_earlier_release_is_read_and_converted(use: Use) -> None:
    async def work(store: FirestoreStore, client: RecordingClient) -> None:
        await store.create(an_instance())
        old = to_json(some_entries(0, 50)).decode()
        fields: dict[str, Any] = dict.fromkeys((ENTRIES, "entries_count", "entries_bytes"), DELETE_FIELD)
        document = client.document("workflows/pizza/instances/order-1")
        await document.update(fields | {"history": old})
        assert (await store.load("pizza", "order-1", history=True)).history == some_entries(0, 50)
        instance = await store.load("pizza", "order-1")
        for number in (50, 51):
            instance = await store.commit(replace(changed(instance), new_entries=some_entries(number, 1)))
            assert await store.load("pizza", "order-1") == instance
        assert (await store.load("pizza", "order-1", history=True)).history == kept_entries(some_entries(0, 52))
        assert ((await document.get()).to_dict() or {})["history"] == "[]"

    use(work)


@pytest.mark.parametrize("entries", [None, "[]", [7], ["0 {"], [["0 {}"]]])
def test_a_damaged_history_stops_only_its_display(use: Use, entries: object) -> None:
    async def work(store: FirestoreStore, client: RecordingClient) -> None:
        await store.create(replace(an_instance(), new_entries=some_entries(0, 1)))
        document = client.document("workflows/pizza/instances/order-1")
        await document.update({ENTRIES: entries if entries != [["0 {}"]] else [{"0": {}}]})
        with pytest.raises(DamagedDocument, match="'order-1'"):
            await store.load("pizza", "order-1", history=True)
        instance = await store.load("pizza", "order-1")
        for number in range(1, 120):
            instance = await store.commit(replace(changed(instance), new_entries=some_entries(number, 1)))

    use(work)


# --- conflicts -------------------------------------------------------------------------------


def test_of_8_who_commit_on_one_version_one_wins(firestore_project: str) -> None:
    async def main() -> None:
        stores = [FirestoreStore() for _ in range(8)]
        await stores[0].create(an_instance())
        loaded = await asyncio.gather(*(store.load("pizza", "order-1") for store in stores))
        results = await asyncio.gather(
            *(
                store.commit(changed(instance, winner=number), [a_key(f"key-{number}")])
                for number, (store, instance) in enumerate(zip(stores, loaded, strict=True))
            ),
            return_exceptions=True,
        )
        winners = [number for number, result in enumerate(results) if isinstance(result, Instance)]
        assert len(winners) == 1
        assert [type(result) for result in results].count(Conflict) == 7
        assert json.loads((await stores[0].load("pizza", "order-1")).fields) == {"winner": winners[0]}
        kept = [await stores[0].load_key("pizza", "order-1", f"key-{number}", NOW) for number in range(8)]
        assert [number for number, key in enumerate(kept) if key is not None] == winners
        await asyncio.gather(*(store.close() for store in stores))

    asyncio.run(main())


def test_a_commit_whose_reply_is_lost_is_applied_once(use: Use) -> None:
    async def work(store: FirestoreStore, client: RecordingClient) -> None:
        await store.create(an_instance())
        loaded = await store.load("pizza", "order-1")
        client.taken()
        client.handlers.append(losing_the_reply)
        written = replace(changed(loaded, count=1), tokens=("mine",))
        with pytest.raises(Unavailable):
            await store.commit(written, [a_key()])
        assert client.taken() == ["Commit"]  # the client did not send it again by itself
        current = await store.load("pizza", "order-1")
        assert current.tokens == ("mine",)
        with pytest.raises((Conflict, DuplicateKey)):
            await store.commit(written, [a_key()])
        assert await store.load("pizza", "order-1") == current

    use(work)


def test_a_create_whose_reply_is_lost_is_applied_once(use: Use) -> None:
    async def work(store: FirestoreStore, client: RecordingClient) -> None:
        client.handlers.append(losing_the_reply)
        with pytest.raises(Unavailable):
            await store.create(an_instance(), a_key())
        with pytest.raises(InstanceExists):
            await store.create(an_instance(), a_key())

    use(work)


def test_a_commit_that_is_aborted_is_a_conflict(use: Use) -> None:
    async def work(store: FirestoreStore, client: RecordingClient) -> None:
        client.handlers.append(failing(grpc.StatusCode.ABORTED))
        await store.create(an_instance())
        loaded = await store.load("pizza", "order-1")
        for code in (grpc.StatusCode.ABORTED, grpc.StatusCode.NOT_FOUND):
            client.handlers.append(failing(code))
            with pytest.raises(Conflict):
                await store.commit(changed(loaded))
        await store.commit(changed(loaded))

    use(work)


# --- the inbox -------------------------------------------------------------------------------


def test_a_post_whose_reply_is_lost_is_made_again_without_harm(use: Use) -> None:
    async def work(store: FirestoreStore, client: RecordingClient) -> None:
        client.handlers.append(losing_the_reply)
        with pytest.raises(Unavailable):
            await store.post(an_entry())
        assert client.taken() == ["Commit"]  # the client did not send it again by itself
        await store.post(an_entry())
        assert list(await store.inbox("pizza", "order-1")) == [an_entry()]

    use(work)


def test_a_post_that_is_aborted_is_made_again(use: Use) -> None:
    async def work(store: FirestoreStore, client: RecordingClient) -> None:
        client.handlers.extend([failing(grpc.StatusCode.ABORTED)] * 4)
        await store.post(an_entry())
        assert client.taken() == ["Commit"] * 5
        client.handlers.extend([failing(grpc.StatusCode.ABORTED)] * 5)
        with pytest.raises(Unavailable, match="could not be written: other writers were faster"):
            await store.post(an_entry("entry-2"))
        assert list(await store.inbox("pizza", "order-1")) == [an_entry()]

    use(work)


def test_lists_read_no_whole_documents(use: Use) -> None:
    async def work(store: FirestoreStore, client: RecordingClient) -> None:
        await store.create(an_instance(wake_at=NOW))
        await store.list("pizza")
        await store.due(NOW)
        listing, due = [one.structured_query for one in client.requests if hasattr(one, "structured_query")]
        assert {field.field_path for field in listing.select.fields} == {*SUMMARY_PATHS}
        assert {field.field_path for field in due.select.fields} == {*DUE_PATHS}

    use(work)


def test_the_errors_in_documents_of_earlier_releases_are_listed(use: Use) -> None:
    async def work(store: FirestoreStore, client: RecordingClient) -> None:
        for number in range(EXECUTIONS_PER_CALL + 1):
            instance = an_instance(f"order-{number}")
            error = ErrorInfo("OSError", f"no {number}", "brew")
            execution = replace(instance.execution, status=Status.FAILED, error=error)
            await store.create(replace(instance, execution=execution))
            document = client.document(f"workflows/pizza/instances/order-{number}")
            await document.update({"error": DELETE_FIELD})
        await client.document("workflows/pizza/instances/order-0").update({"execution": "{"})
        page = await store.list("pizza", limit=100)
        errors = {summary.id: summary.error for summary in page.instances}
        assert errors == {
            f"order-{number}": ErrorInfo("OSError", f"no {number}") for number in range(1, EXECUTIONS_PER_CALL + 1)
        }
        assert len(page.damaged) == 1
        await store.commit(changed(await store.load("pizza", "order-1")))
        snapshot = await client.document("workflows/pizza/instances/order-1").get()
        assert snapshot.get("error") == '{"type":"OSError","message":"no 1"}'

    use(work)


def test_uncollected_reads_no_body(use: Use) -> None:
    async def work(store: FirestoreStore, client: RecordingClient) -> None:
        await store.post(an_entry(body="x" * 1000))
        assert await store.uncollected(NOW) == [("pizza", "order-1")]
        (query,) = [one.structured_query for one in client.requests if hasattr(one, "structured_query")]
        assert [field.field_path for field in query.select.fields] == ["__name__"]

    use(work)


def test_collections_of_that_name_elsewhere_are_none_of_ours(use: Use) -> None:
    async def work(store: FirestoreStore, client: RecordingClient) -> None:
        for path in ("x", "theirs/1/x", "theirs/1/instances/2/x", "workflows/pizza/theirs/order-1/x", "workflows/1/x"):
            await client.collection(f"{path.removesuffix('x')}{INBOX}").document("a").set({"at": NOW, "body": 1})
        await store.post(an_entry())
        assert await store.uncollected(NOW) == [("pizza", "order-1")]

    use(work)


def test_more_entries_are_discarded_than_one_rpc_takes(use: Use) -> None:
    async def work(store: FirestoreStore, client: RecordingClient) -> None:
        entries = [an_entry(f"entry-{number}") for number in range(2 * DELETES_PER_COMMIT + 1)]
        for place in (0, DELETES_PER_COMMIT - 1, DELETES_PER_COMMIT, -1):
            await store.post(entries[place])
        client.taken()
        await store.discard(entries)
        assert client.taken() == ["Commit"] * 3
        assert list(await store.inbox("pizza", "order-1")) == []

    use(work)


def test_the_largest_commit_fits_the_emulators_messages(use: Use) -> None:
    async def work(store: FirestoreStore, client: RecordingClient) -> None:
        id = "ü" * 200
        await store.create(an_instance(id))
        loaded = await store.load("pizza", id)
        keys = [a_key(f"key-{number}", response="x" * (RESPONSES_BYTES_MAX // 4)) for number in range(4)]
        taken = [an_entry(f"{number:03}" + "x" * 497, id=id) for number in range(100)]
        largest: dict[str, Any] = {"photo": "x" * (DOCUMENT_BYTES_MAX - 2_000)}
        with pytest.raises(TooLarge, match=r"5 idempotency keys .* have 3,000,002 bytes"):
            await store.commit(changed(loaded, **largest), [*keys, a_key(response="{}")], taken)
        assert await store.load("pizza", id) == loaded
        await store.commit(changed(loaded, **largest), keys, taken)
        assert await store.load_key("pizza", id, "key-3", NOW) == keys[3]

    use(work)


# --- idempotency keys ------------------------------------------------------------------------


def test_an_expired_key_that_is_deleted_meanwhile_may_be_used(use: Use) -> None:
    async def work(store: FirestoreStore, client: RecordingClient) -> None:
        later = NOW + SECOND
        await store.create(an_instance(), a_key(expires_at=later))
        renewed = a_key(response='"again"', expires_at=later + SECOND)
        loaded = await store.load("pizza", "order-1")

        async def delete() -> None:
            await asyncio.to_thread(deleted, client.project, await key_path(client))

        # The TTL deletes it before it is looked at, and before it is replaced.
        client.handlers.extend([through, after(delete)])
        loaded = await store.commit(changed(loaded, updated_at=later), [renewed])
        assert await store.load_key("pizza", "order-1", "key-1", later) == renewed
        client.handlers.extend([through, through, after(delete)])
        with pytest.raises(Conflict):
            await store.commit(changed(loaded, updated_at=later + SECOND), [a_key(expires_at=later + 9 * SECOND)])
        await store.commit(changed(loaded, updated_at=later + SECOND), [a_key(expires_at=later + 9 * SECOND)])

    use(work)


def test_an_instance_that_was_deleted_leaves_keys_that_expire(use: Use) -> None:
    async def work(store: FirestoreStore, client: RecordingClient) -> None:
        await store.create(an_instance(), a_key(expires_at=NOW + SECOND))
        await client.document("workflows/pizza/instances/order-1").delete()
        with pytest.raises(DuplicateKey):
            await store.create(an_instance(), a_key())
        renewed = a_key(expires_at=NOW + 9 * SECOND)
        await store.create(an_instance(updated_at=NOW + SECOND), renewed)
        assert await store.load_key("pizza", "order-1", "key-1", NOW) == renewed
        assert (await store.load("pizza", "order-1")).id == "order-1"

    use(work)


def test_an_expired_key_of_a_deleted_instance_may_be_deleted_while_it_is_replaced(use: Use) -> None:
    async def work(store: FirestoreStore, client: RecordingClient) -> None:
        later = NOW + SECOND
        await store.create(an_instance(), a_key(expires_at=later))
        await client.document("workflows/pizza/instances/order-1").delete()

        async def delete() -> None:
            await asyncio.to_thread(deleted, client.project, await key_path(client))

        renewed = a_key(response='"again"', expires_at=later + SECOND)
        client.taken()
        client.handlers.extend([through, through, through, after(delete)])
        await store.create(an_instance(updated_at=later), renewed)
        assert await store.load_key("pizza", "order-1", "key-1", later) == renewed
        assert (await store.load("pizza", "order-1")).execution.updated_at == later

    use(work)


def test_a_response_that_no_document_can_hold_is_refused(use: Use) -> None:
    async def work(store: FirestoreStore, client: RecordingClient) -> None:
        await store.create(an_instance())
        loaded = await store.load("pizza", "order-1")
        with pytest.raises(TooLarge, match="the response to 'key-1'"):
            await store.commit(changed(loaded), [a_key(response="x" * (DOCUMENT_BYTES_MAX + 1))])
        with pytest.raises(TooLarge, match="the response to 'key-1'"):
            await store.commit(changed(loaded), [a_key(response="ü" * (DOCUMENT_BYTES_MAX // 2 + 1))])
        with pytest.raises(TooLarge, match="the response to 'key-1'"):
            await store.create(an_instance("order-2"), a_key(response="x" * (DOCUMENT_BYTES_MAX + 1)))
        largest = json.loads(loaded.fields) | {"photo": "x" * (DOCUMENT_BYTES_MAX - 2_000)}
        await store.commit(changed(loaded, **largest), [a_key(response="x" * DOCUMENT_BYTES_MAX)])

    use(work)


async def through(send: Any) -> Any:
    return await send()


async def key_path(client: RecordingClient) -> str:
    keys = client.document("workflows/pizza/instances/order-1").collection(KEYS)
    handlers, client.handlers = client.handlers.copy(), type(client.handlers)()
    (path,) = [str(reference.path) async for reference in keys.list_documents()]
    client.handlers = handlers
    return path


def deleted(project: str, path: str) -> None:
    request = urllib.request.Request(url(project, path), method="DELETE", headers={"Authorization": "Bearer owner"})
    urllib.request.urlopen(request).close()


def url(project: str, path: str) -> str:
    return (
        f"http://{os.environ[FIRESTORE_EMULATOR_VARIABLE]}/v1/projects/{project}/databases/(default)/documents/{path}"
    )


# --- errors ----------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [code for code in grpc.StatusCode if code.name not in ("OK", "ABORTED")])
def test_every_error_is_one_of_the_port(use: Use, code: grpc.StatusCode) -> None:
    async def work(store: FirestoreStore, client: RecordingClient) -> None:
        await store.create(an_instance(), a_key())
        loaded = await store.load("pizza", "order-1")
        calls: list[tuple[Callable[[], Awaitable[object]], type[Exception]]] = [
            (lambda: store.load("pizza", "order-1"), Unavailable),
            (lambda: store.ping(), Unavailable),
            (lambda: store.load_key("pizza", "order-1", "key-1", NOW), Unavailable),
            (lambda: store.list("pizza"), Unavailable),
            (lambda: store.due(NOW), Unavailable),
            (lambda: store.inbox("pizza", "order-1"), Unavailable),
            (lambda: store.uncollected(NOW), Unavailable),
            (lambda: store.discard([an_entry()]), Unavailable),
            (lambda: store.post(an_entry()), Unavailable),
            (lambda: store.commit(changed(loaded)), Unavailable),
            (lambda: store.create(an_instance("order-2")), Unavailable),
        ]
        if code in (grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.NOT_FOUND):
            calls[-2] = (calls[-2][0], Conflict)
        elif code is grpc.StatusCode.INVALID_ARGUMENT:
            calls[-2:] = [(call, InvalidFields) for call, _ in calls[-2:]]
        elif code is grpc.StatusCode.ALREADY_EXISTS:
            del calls[-1], calls[-2]  # of a creation and of a post: they look, or it is success
        elif code is grpc.StatusCode.UNAVAILABLE:
            del calls[:7]  # see the test with an unreachable host
        if code is grpc.StatusCode.NOT_FOUND:
            del calls[:3]  # see the test with a missing database
        for call, error in calls:
            client.handlers.append(failing(code))
            with pytest.raises(error):
                await call()

    use(work)


def test_an_unreachable_host_is_soon_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        host = f"127.0.0.1:{server.getsockname()[1]}"
    monkeypatch.setenv(FIRESTORE_EMULATOR_VARIABLE, host)  # nobody listens there any more

    async def main() -> None:
        store = FirestoreStore(project="p")
        with pytest.raises(Unavailable, match="Firestore failed"):
            await store.load("pizza", "order-1")
        with pytest.raises(Unavailable, match="Firestore failed"):
            await store.ping()
        with pytest.raises(Unavailable, match="Firestore failed"):
            await store.commit(replace(an_instance(), version=1))
        await store.close()

    assert seconds(main) < 20  # less than the timeouts of the calls


def test_a_host_that_does_not_answer_is_soon_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:  # it accepts, and says nothing
        monkeypatch.setenv(FIRESTORE_EMULATOR_VARIABLE, f"127.0.0.1:{server.getsockname()[1]}")

        async def main() -> None:
            store = FirestoreStore(project="p", timeout_seconds=0.2)
            calls = (
                store.load("pizza", "order-1"),
                store.ping(),
                store.create(an_instance()),
                store.commit(replace(an_instance(), version=1)),
                store.post(an_entry()),
                store.discard([an_entry()]),
                store.due(NOW),
                store.workflows(),
            )
            for call in calls:
                with pytest.raises(Unavailable):
                    await call
            await store.close()

        assert seconds(main) < 20  # less than the default timeouts of the calls


def test_missing_credentials_are_unavailable_and_say_the_mend(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(FIRESTORE_EMULATOR_VARIABLE, raising=False)
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "none.json"))

    async def main() -> None:
        store = FirestoreStore(project="p")
        with pytest.raises(Unavailable, match=r"none\.json.*gcloud auth application-default login"):
            await store.load("pizza", "order-1")
        await store.close()

    asyncio.run(main())


def test_a_missing_project_is_unavailable_and_says_the_mend(monkeypatch: pytest.MonkeyPatch) -> None:
    credentials = AnonymousCredentials()  # type: ignore[no-untyped-call]
    for name in ("GOOGLE_CLOUD_PROJECT", "GCLOUD_PROJECT", FIRESTORE_EMULATOR_VARIABLE):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("google.auth.default", lambda *_, **__: (credentials, None))

    async def main() -> None:
        store = FirestoreStore()
        for call in (store.load("pizza", "order-1"), store.create(an_instance()), store.post(an_entry())):
            with pytest.raises(Unavailable, match="set GOOGLE_CLOUD_PROJECT"):
                await call
        await store.close()

    asyncio.run(main())


def test_an_error_of_the_connection_itself_is_unavailable(use: Use) -> None:
    async def work(store: FirestoreStore, client: RecordingClient) -> None:
        async def timeout(_: object) -> object:
            raise TimeoutError("no answer")

        client.handlers.append(timeout)
        with pytest.raises(Unavailable, match=r"TimeoutError: no answer$"):
            await store.load("pizza", "order-1")
        await store.ping()
        await client.aclose()
        for call in (store.load("pizza", "order-1"), store.create(an_instance()), store.due(NOW)):
            with pytest.raises(Unavailable, match="closed"):
                await call

    use(work)


def test_the_message_says_the_mend(use: Use) -> None:
    async def work(store: FirestoreStore, client: RecordingClient) -> None:
        fixes = {
            grpc.StatusCode.PERMISSION_DENIED: "roles/datastore.user",
            grpc.StatusCode.FAILED_PRECONDITION: "deploy/firestore.indexes.json",
            grpc.StatusCode.NOT_FOUND: "create the database",
        }
        for code, fix in fixes.items():
            client.handlers.append(failing(code))
            with pytest.raises(Unavailable, match=fix):
                await store.due(NOW)

    use(work)


def seconds(main: Callable[[], Any]) -> float:
    started = time.monotonic()
    asyncio.run(main())
    return time.monotonic() - started


@pytest.mark.parametrize("value", [[[1]], 2**63, {"": 1}, "\ud800"])
def test_a_search_field_that_firestore_cannot_store_is_told(use: Use, value: object) -> None:
    async def work(store: FirestoreStore, client: RecordingClient) -> None:
        await store.create(an_instance())
        loaded = await store.load("pizza", "order-1")
        search = {"total": value}
        with pytest.raises(InvalidFields, match="search_fields"):
            await store.commit(replace(changed(loaded), search=search), [a_key()])
        with pytest.raises(InvalidFields, match="search_fields"):
            await store.create(replace(an_instance("order-2"), search=search))
        assert await store.load("pizza", "order-1") == loaded

    use(work)


def test_an_id_that_cannot_be_a_documents_is_refused(use: Use) -> None:
    async def work(store: FirestoreStore, client: RecordingClient) -> None:
        for id in ("", "a/b", "..", "__all__", "x" * 1501):
            for call in (
                store.create(an_instance(id)),
                store.load("pizza", id),
                store.commit(replace(an_instance(id), version=1)),
                store.load_key("pizza", id, "key-1", NOW),
                store.post(an_entry(id=id)),
                store.inbox("pizza", id),
                store.discard([an_entry(id=id)]),
            ):
                with pytest.raises(InvalidRequest, match="invalid instance id"):
                    await call
        assert client.calls == []

    use(work)


def test_a_forged_cursor_is_refused(use: Use) -> None:
    async def work(store: FirestoreStore, client: RecordingClient) -> None:
        for text in (f"{2**63}:order-1", "1_0:order-1", "+1:order-1", "1", "1:", ":", "1.5:order-1", "1:a/b", "1:.."):
            cursor = base64.urlsafe_b64encode(text.encode()).rstrip(b"=").decode()
            with pytest.raises(InvalidRequest, match="is not a cursor"):
                await store.list("pizza", cursor=cursor)
        for limit in (0, 10**9):
            with pytest.raises(InvalidRequest, match="limit"):
                await store.list("pizza", limit=limit)
            with pytest.raises(InvalidRequest, match="limit"):
                await store.due(NOW, limit=limit)
            with pytest.raises(InvalidRequest, match="limit"):
                await store.inbox("pizza", "order-1", limit=limit)
            with pytest.raises(InvalidRequest, match="limit"):
                await store.uncollected(NOW, limit=limit)
        assert client.calls == []

    use(work)


# --- the end ---------------------------------------------------------------------------------


def test_a_closed_store_is_unavailable(firestore_project: str) -> None:
    async def main() -> None:
        store = FirestoreStore()
        await store.create(an_instance())
        pending = [asyncio.ensure_future(store.load("pizza", "order-1")) for _ in range(3)]
        await asyncio.wait(pending, timeout=0)  # lets them start
        closing = asyncio.gather(store.close(), store.close())
        await asyncio.wait([closing], timeout=0)
        assert not closing.done()
        with pytest.raises(Unavailable, match="closed"):
            await store.ping()  # what comes while it closes is late, too
        await closing
        assert [(await call).id for call in pending] == ["order-1"] * 3
        with pytest.raises(Unavailable, match="closed"):
            await store.load("pizza", "order-1")
        await FirestoreStore().close()

    asyncio.run(main())


def test_a_client_that_was_given_stays_open(use: Use) -> None:
    async def work(store: FirestoreStore, client: RecordingClient) -> None:
        await store.create(an_instance())
        await store.close()
        assert (await client.document("workflows/pizza/instances/order-1").get()).exists

    use(work)


def test_a_store_whose_calls_have_failed_can_be_closed(use: Use) -> None:
    async def work(store: FirestoreStore, client: RecordingClient) -> None:
        for code in (grpc.StatusCode.INTERNAL, grpc.StatusCode.PERMISSION_DENIED):
            client.handlers.append(failing(code))
            with pytest.raises(Unavailable):
                await store.ping()
        await asyncio.wait_for(store.close(), 5)

    use(work)


def test_a_caller_that_gives_up_harms_no_other(use: Use) -> None:
    async def work(store: FirestoreStore, client: RecordingClient) -> None:
        await store.create(an_instance())
        caller = asyncio.ensure_future(store.load("pizza", "order-1"))
        await asyncio.wait([caller], timeout=0)
        caller.cancel()
        with pytest.raises(asyncio.CancelledError):
            await caller
        assert (await store.load("pizza", "order-1")).id == "order-1"

    use(work)


# --- damage ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("execution", "{}"),
        ("execution", "[" * 100_000),
        ("execution", b"\xff"),
        ("fields", None),
        ("lease", "{"),
        ("lease", 5),
        ("search", "[]"),
        ("tokens", 1.5),
        ("format", 99),
        ("format", None),
        ("id", 7),
    ],
)
def test_a_damaged_document_harms_no_other(
    use: Use, caplog: pytest.LogCaptureFixture, field: str, value: object
) -> None:
    async def work(store: FirestoreStore, client: RecordingClient) -> None:
        for number in range(3):
            await store.create(an_instance(f"order-{number}", updated_at=NOW + number * SECOND, wake_at=NOW))
        damaged = client.document("workflows/pizza/instances/order-1")
        await damaged.update({field: value})
        with pytest.raises(DamagedDocument):
            await store.load("pizza", "order-1")
        with caplog.at_level(logging.WARNING):
            page = await store.list("pizza", limit=3)
        assert page.cursor is None
        if field in ("search", "format", "id"):
            assert [instance.id for instance in page.instances] == ["order-2", "order-0"]
            assert "left out: " in caplog.text
            assert "(workflows/pizza/instances/order-1)" in caplog.text
            assert [one for one in page.damaged if "order-1" in one] == list(page.damaged) != []
            first = await store.list("pizza", limit=1)
            second = await store.list("pizza", limit=1, cursor=first.cursor)
            assert [instance.id for instance in second.instances] == ["order-0"]
        else:
            assert [instance.id for instance in page.instances] == ["order-2", "order-1", "order-0"]
        due = ["order-0", "order-2"] if field == "id" else ["order-0", "order-1", "order-2"]
        assert [instance.id for instance in await store.due(NOW, limit=3)] == due
        await store.commit(changed(await store.load("pizza", "order-0")))

    use(work)


def test_damaged_documents_take_no_place_on_a_page(use: Use) -> None:
    async def work(store: FirestoreStore, client: RecordingClient) -> None:
        for number in range(9):
            await store.create(an_instance(f"order-{number}", updated_at=NOW - number * SECOND, wake_at=NOW))
        for number in (1, 2, 6):
            await client.document(f"workflows/pizza/instances/order-{number}").update({"search": "{", "id": 7})
        good = ["order-0", "order-3", "order-4", "order-5", "order-7", "order-8"]
        for limit in (1, 2, 3, 6):
            listed, cursor = list[list[str]](), None
            while not listed or cursor is not None:
                page = await store.list("pizza", limit=limit, cursor=cursor)
                listed.append([instance.id for instance in page.instances])
                cursor = page.cursor
            assert listed == [good[first : first + limit] for first in range(0, 6, limit)]
            assert [instance.id for instance in await store.due(NOW, limit)] == good[:limit]

    use(work)


@pytest.mark.parametrize(("field", "value"), [("response", 1), ("expires_at", "soon"), ("fingerprint", None)])
def test_a_damaged_key_is_told(use: Use, field: str, value: object) -> None:
    async def work(store: FirestoreStore, client: RecordingClient) -> None:
        await store.create(an_instance(), a_key())
        await client.document(await key_path(client)).update({field: value})
        with pytest.raises(DamagedDocument, match=KEYS):
            await store.load_key("pizza", "order-1", "key-1", NOW)
        loaded = await store.load("pizza", "order-1")
        with pytest.raises(DamagedDocument, match=KEYS):
            await store.commit(changed(loaded), [a_key()])

    use(work)


@pytest.mark.parametrize(
    ("field", "value"), [("body", 1), ("body", None), ("body", b"\xff"), ("at", "soon"), ("at", 0)]
)
def test_a_damaged_entry_harms_that_inbox_alone(use: Use, field: str, value: object) -> None:
    async def work(store: FirestoreStore, client: RecordingClient) -> None:
        await store.create(an_instance())
        for id in ("order-1", "order-2"):
            await store.post(an_entry(id=id))
        await client.document(f"workflows/pizza/instances/order-1/{INBOX}/entry-1").update({field: value})
        with pytest.raises(DamagedDocument, match=f"order-1/{INBOX}/entry-1"):
            await store.inbox("pizza", "order-1")
        assert list(await store.inbox("pizza", "order-2")) == [an_entry(id="order-2")]
        assert ("pizza", "order-2") in await store.uncollected(NOW)
        committed = await store.commit(changed(await store.load("pizza", "order-1")), taken=[an_entry()])
        assert await store.load("pizza", "order-1") == committed
        assert list(await store.inbox("pizza", "order-1")) == []

    use(work)


# --- what is deployed ------------------------------------------------------------------------


def declared() -> tuple[list[Any], dict[tuple[str, str], Any]]:
    """The composite indexes, and what is declared for each field of each collection group."""
    data = json.loads(INDEXES.read_text())
    return data["indexes"], {(one["collectionGroup"], one["fieldPath"]): one for one in data["fieldOverrides"]}


def test_every_query_has_its_index_and_every_index_its_query(use: Use) -> None:
    async def work(store: FirestoreStore, client: RecordingClient) -> None:
        for number in range(2):
            await store.create(an_instance(f"order-{number}"))
        for status, order in itertools.product((None, "waiting"), Order):
            cursor = (await store.list("pizza", status=status, order=order, limit=1)).cursor
            await store.list("pizza", status=status, order=order, cursor=cursor)
        await store.due(NOW)
        await store.postponed(NOW)
        await store.inbox("pizza", "order-1")
        await store.uncollected(NOW)
        await store.uncollected(NOW, since=NOW)
        queries = [request.structured_query for request in client.requests if hasattr(request, "structured_query")]
        assert len(queries) == 17
        composite, fields = declared()
        used: list[Any] = []
        for query in queries:
            (source,) = query.from_
            scope = "COLLECTION_GROUP" if source.all_descendants else "COLLECTION"
            group = source.collection_id
            assert group in (INSTANCES, INBOX)
            wanted = [
                {"fieldPath": order.field.field_path, "order": order.direction.name}
                for order in query.order_by
                if order.field.field_path != "__name__"
            ]
            # The name follows in every index, in the direction of the last field.
            assert {order.direction for order in query.order_by} == {query.order_by[-1].direction}
            if query.where.field_filter.op.name == "EQUAL":
                wanted.insert(0, {"fieldPath": query.where.field_filter.field.field_path, "order": "ASCENDING"})
            if not wanted:
                continue  # by name, which is always possible
            if len(wanted) > 1:
                used.append({"collectionGroup": group, "queryScope": scope, "fields": wanted})
                assert used[-1] in composite
            else:
                index = {"order": wanted[0]["order"], "queryScope": scope}
                used.append((group, wanted[0]["fieldPath"], index))
                assert index in fields[group, wanted[0]["fieldPath"]]["indexes"]
        assert [index for index in composite if index not in used] == []
        singles = [(group, path, index) for (group, path), one in fields.items() for index in one["indexes"]]
        assert [index for index in singles if index not in used] == []

    use(work)


def test_a_search_needs_the_index_that_the_documents_tell_of(use: Use) -> None:
    async def work(store: FirestoreStore, client: RecordingClient) -> None:
        await store.list("pizza", search={"customer": ["Ann"]}, status="failed")
        (query,) = [one.structured_query for one in client.requests if hasattr(one, "structured_query")]
        equal = [one.field_filter.field.field_path for one in query.where.composite_filter.filters]
        assert sorted(equal) == ["search.customer", "status"], "merged from two indexes"
        order = [(one.field.field_path, one.direction.name) for one in query.order_by]
        assert order == [("updated_at", "DESCENDING"), ("__name__", "DESCENDING")]
        told = (
            '{"fieldPath": "search.customer", "order": "ASCENDING"}, {"fieldPath": "updated_at", "order": "DESCENDING"}'
        )
        assert told in (INDEXES.parent / "README.md").read_text()

    use(work)


def test_what_no_query_needs_is_exempt_from_indexing(use: Use) -> None:
    async def work(store: FirestoreStore, client: RecordingClient) -> None:
        await store.create(a_full_instance(), a_key())
        instance = await client.document("workflows/pizza/instances/order-1").get()
        key = await client.document(await key_path(client)).get()
        await store.post(an_entry())
        entry = await client.document(f"workflows/pizza/instances/order-1/{INBOX}/entry-1").get()
        _, fields = declared()
        postponed = {"postponed", "postponed_until"}
        written = set(instance.to_dict() or {}) | postponed
        assert {path for group, path in fields if group == INSTANCES} == written - {"search"}
        assert {path for group, path in fields if group == KEYS} == set(key.to_dict() or {})
        assert {path for group, path in fields if group == INBOX} == set(entry.to_dict() or {})
        assert fields[INBOX, "body"]["indexes"] == []
        assert {group for group, _ in fields} == {INSTANCES, KEYS, INBOX}
        assert set(instance.to_dict() or {}) == {*encode(a_full_instance()), "error"}
        assert [path for path, one in fields.items() if one.get("ttl")] == [(KEYS, "expires_at")]

    use(work)


@pytest.mark.skipif(
    FIRESTORE_EMULATOR_VARIABLE in os.environ, reason="somebody else has started the emulator, with other rules"
)
def test_the_rules_let_nobody_in(use: Use) -> None:
    async def work(store: FirestoreStore, client: RecordingClient) -> None:
        await store.create(an_instance())
        address = url(client.project, "workflows/pizza/instances/order-1")
        with pytest.raises(urllib.error.HTTPError) as caught:
            await asyncio.to_thread(urllib.request.urlopen, address)
        assert caught.value.code == 403
        caught.value.close()

    use(work)
