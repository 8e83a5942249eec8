"""The contract on Firestore's emulator with shards, also while a database is moved to another number of them."""

from __future__ import annotations

import asyncio
import itertools
import random
import re
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import grpc
import pytest

from cloud_adapter.document import Instance
from cloud_adapter.errors import Unavailable
from cloud_adapter.ports import Order
from cloud_adapter.stores.firestore import queries
from cloud_adapter.stores.firestore import shards as shards_module
from cloud_adapter.stores.firestore import store as store_module
from cloud_adapter.stores.firestore.documents import INSTANCES
from cloud_adapter.stores.firestore.refusals import WRITE_ATTEMPTS_MAX
from cloud_adapter.stores.firestore.shards import SHARD, SHARDS_MAX, Shards
from cloud_adapter.stores.firestore.store import FirestoreStore
from cloud_adapter.summaries import Due
from tests.contract.keys_contract import KeysContract
from tests.contract.store_contract import NOW, SECOND, StoreContract, an_instance, changed
from tests.firestore_client import RecordingClient, after, failing

pytestmark = pytest.mark.slow

DEPLOY = Path(__file__).parents[2] / "deploy"
NONE, WRITTEN, READ, FEWER, MOST = Shards(), Shards(4), Shards(4, True), Shards(2, True), Shards(SHARDS_MAX, True)


class TestShards(KeysContract, StoreContract):
    @pytest.fixture
    def make_store(self, firestore_project: str) -> Callable[[], FirestoreStore]:
        return lambda: FirestoreStore(shards=READ)


class TestShardsOfTwoRevisions(StoreContract):
    """Each store that a test makes is the one of the other revision. For the other pairs, see the migration below."""

    @pytest.fixture
    def make_store(self, firestore_project: str) -> Callable[[], FirestoreStore]:
        revisions: Iterator[Shards] = itertools.cycle((READ, FEWER))
        return lambda: FirestoreStore(shards=next(revisions))


Work = Callable[["Migration"], Awaitable[None]]


class Migration:
    """A database with instances that are created and changed by the revisions that run."""

    def __init__(self, client: RecordingClient) -> None:
        self.client = client
        self.random = random.Random(1)
        self.updates: dict[str, int] = {}

    def store(self, shards: Shards) -> FirestoreStore:
        return FirestoreStore(self.client, shards=shards)

    async def write(self, shards: Shards) -> None:
        """Creates some instances and updates others."""
        store = self.store(shards)
        for _ in range(6):
            id = f"order-{len(self.updates)}"
            self.updates[id] = at = self._next()
            await store.create(an_instance(id, updated_at=NOW + at * SECOND, wake_at=NOW + at * SECOND))
        for id in self.random.sample(sorted(self.updates), 3):
            self.updates[id] = at = self._next()
            update = changed(await store.load("pizza", id), updated_at=NOW + at * SECOND)
            await store.commit(replace(update, wake_at=NOW + at * SECOND))

    async def check(self, shards: Shards) -> None:
        """All reads find each instance once, in its order, page after page."""
        store = self.store(shards)
        ids = sorted(self.updates, key=lambda id: self.updates[id])
        assert await listed(store, Order.UPDATED) == ids[::-1]
        assert await listed(store, Order.UPDATED, status="waiting") == ids[::-1]
        assert sorted(await listed(store, Order.CREATED)) == sorted(ids)
        assert await listed(store, Order.ID) == sorted(ids)
        assert await due(store) == ids

    async def shard_of(self, id: str) -> object:
        document = await self.client.document(f"workflows/pizza/{INSTANCES}/{id}").get()
        return (document.to_dict() or {}).get(SHARD)

    def _next(self) -> int:
        return max(self.updates.values(), default=0) + 1


async def listed(store: FirestoreStore, order: Order, status: str | None = None) -> Sequence[str]:
    page = await store.list("pizza", order=order, status=status, limit=7)
    found = [entry.id for entry in page.instances]
    while page.cursor is not None:
        page = await store.list("pizza", order=order, status=status, limit=7, cursor=page.cursor)
        found += [entry.id for entry in page.instances]
    return found


async def due(store: FirestoreStore) -> Sequence[str]:
    found, last = list[Due](), None
    while page := await store.due(NOW + timedelta(days=1), 5, after=last):
        found += page
        last = page[-1]
    return [entry.id for entry in found]


async def add_shards(store: FirestoreStore) -> tuple[int, int]:
    counts = [counts async for counts in store.add_shards("pizza")]
    return sum(read for read, _ in counts), sum(written for _, written in counts)


@pytest.fixture
def migrate(firestore_project: str) -> Callable[[Work], None]:
    def run(work: Work) -> None:
        async def main() -> None:
            async with AsyncExitStack() as stack:
                client = RecordingClient(firestore_project)
                stack.push_async_callback(client.aclose)
                await work(Migration(client))

        asyncio.run(main())

    return run


def test_each_read_finds_each_instance_once_in_each_step(
    migrate: Callable[[Work], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards_module, "PAGE", 5)

    async def work(database: Migration) -> None:
        async def side_by_side(*revisions: Shards) -> None:
            for shards in revisions:
                await database.write(shards)
            for shards in revisions:
                await database.check(shards)

        await side_by_side(NONE)
        await side_by_side(NONE, WRITTEN)
        instances = len(database.updates)
        read, written = await add_shards(database.store(WRITTEN))
        assert read == instances and 0 < written < instances
        assert await add_shards(database.store(WRITTEN)) == (instances, 0)
        await side_by_side(WRITTEN, READ)
        await side_by_side(READ, FEWER)
        assert await add_shards(database.store(FEWER)) == (len(database.updates), 0), "any number is found"
        await side_by_side(FEWER, MOST)
        await side_by_side(MOST, WRITTEN)  # and back
        await side_by_side(WRITTEN, NONE)

    migrate(work)


def test_a_commit_moves_an_instance_to_its_shard(migrate: Callable[[Work], None]) -> None:
    async def work(database: Migration) -> None:
        for shards in (NONE, WRITTEN, FEWER, MOST):
            store = database.store(shards)
            if shards == NONE:
                await store.create(an_instance())
            else:
                await store.commit(changed(await store.load("pizza", "order-1")))
            expected = shards.fields("pizza", "order-1").get(SHARD)
            assert await database.shard_of("order-1") == expected
        store = database.store(NONE)
        await store.commit(changed(await store.load("pizza", "order-1")))
        assert await database.shard_of("order-1") == expected, "another revision may read it"

    migrate(work)


def test_shards_are_added_to_what_is_being_committed_and_deleted(
    migrate: Callable[[Work], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards_module, "PAGE", 4)

    async def work(database: Migration) -> None:
        old, new = database.store(NONE), database.store(WRITTEN)
        for number in range(8):
            await old.create(an_instance(f"order-{number}"))
        loaded = await old.load("pizza", "order-7")
        async for _ in new.add_shards("pizza"):
            await database.client.document(f"workflows/pizza/{INSTANCES}/order-5").delete()
            await old.commit(changed(await old.load("pizza", "order-6")))
        assert await add_shards(new) == (7, 0)
        assert changed(await old.load("pizza", "order-7")) != changed(loaded), "its version is another one"

    migrate(work)


def test_a_shard_that_cannot_be_added_is_an_error(migrate: Callable[[Work], None]) -> None:
    async def work(database: Migration) -> None:
        await database.store(NONE).create(an_instance())
        aborted, store = failing(grpc.StatusCode.ABORTED), database.store(WRITTEN)
        database.client.handlers.extend([after(nothing), *[aborted] * WRITE_ATTEMPTS_MAX])
        with pytest.raises(Unavailable, match="'pizza' 'order-1' could not be written: other writers were faster"):
            await add_shards(store)
        assert await database.shard_of("order-1") is None
        database.client.handlers.extend([after(nothing), *[aborted] * (WRITE_ATTEMPTS_MAX - 1)])
        assert await add_shards(store) == (1, 1)
        assert await database.shard_of("order-1") is not None

    migrate(work)


async def nothing() -> None:
    """The RPC is made without anything before it."""


def test_reads_with_shards_are_one_rpc(migrate: Callable[[Work], None]) -> None:
    async def work(database: Migration) -> None:
        store, client = database.store(READ), database.client
        await database.write(READ)
        client.taken()
        cursor = (await store.list("pizza", limit=1)).cursor
        await store.list("pizza", status="waiting", cursor=cursor)
        await store.list("pizza", search={"customer": ["Ann"]})
        await store.due(NOW)
        await store.postponed(NOW)
        assert client.taken() == ["RunQuery"] * 5
        await store.list("pizza", search={"customer": ["5", 5]})
        assert client.taken() == ["RunQuery"] * 2, "one for each reading of the text"

    migrate(work)


def test_lists_of_several_queries_skip_nothing_between_their_pages(
    migrate: Callable[[Work], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One query is far ahead of the other, and some instances have the same time."""
    monkeypatch.setattr(store_module, "SUMMARIES_PER_CALL", 2)
    found_by = ["5", 5, 5, 5, 5, "5", "5", 5, "5", 5]
    times = [9, 8, 7, 6, 6, 6, 6, 5, 5, 4]

    async def work(database: Migration) -> None:
        store = database.store(READ)
        for number, (value, time) in enumerate(zip(found_by, times, strict=True)):
            instance = an_instance(f"order-{9 - number}", updated_at=NOW + time * SECOND)
            await store.create(replace(instance, search={"customer": value}))
        for limit in (1, 3, 10):
            found, cursor = list[str](), None
            while True:
                page = await store.list("pizza", search={"customer": ["5", 5]}, limit=limit, cursor=cursor)
                found += [entry.id for entry in page.instances]
                if (cursor := page.cursor) is None:
                    break
            assert found == [f"order-{number}" for number in range(9, -1, -1)], limit

    migrate(work)


def test_each_query_has_its_index_and_none_grows_at_one_end(migrate: Callable[[Work], None]) -> None:
    script = [sys.executable, str(DEPLOY / "firestore_indexes.py"), "--project=p", "--database=d", "--dry-run"]
    command = [*script, "--sharded-indexes=only", str(DEPLOY / "firestore.indexes.json")]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    declared = set(re.findall(r"^  index of instances: (.*)$", shown, re.MULTILINE))
    singles = re.findall(r"^  field instances/fields/(\w+): (.*)$", shown, re.MULTILINE)
    assert {path for path, index in singles if index != "no index"} == {"status", "postponed_until"}

    async def work(database: Migration) -> None:
        store, client = database.store(READ), database.client
        for status, order in itertools.product((None, "waiting"), (Order.UPDATED, Order.CREATED)):
            await store.list("pizza", status=status, order=order)
        for status in (None, "waiting"):
            assert [instance async for instance in store.in_shard("pizza", range(2), status=status)] == []
        await store.due(NOW)
        used = set()
        for query in (request.structured_query for request in client.requests):
            filters = query.where.composite_filter.filters or [query.where]
            paths = {one.field_filter.field.field_path: one.field_filter.op.name for one in filters}
            equal = [name for name in (SHARD, "status") if paths.get(name) in ("IN", "EQUAL")]
            time = query.order_by[0]
            used.add(" ".join([*(f"{name} ASCENDING" for name in equal), time.field.field_path, time.direction.name]))
        assert used == declared

    migrate(work)


def test_each_instance_is_in_one_of_the_shards(
    migrate: Callable[[Work], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queries, "INSTANCES_PER_CALL", 2)

    async def work(database: Migration) -> None:
        for shards in (MOST, READ, FEWER):  # some have shards that the next ones do not write
            await database.write(shards)
        store = database.store(FEWER)
        assert len(store.shards) == 2
        everything = await store.due(NOW + timedelta(days=1))
        found, whole = list[Due](), list[str]()
        for shard in store.shards:
            first = await store.due(NOW + timedelta(days=1), 2, shard=shard)
            rest = await store.due(NOW + timedelta(days=1), after=first[-1], shard=shard)
            assert sorted([*first, *rest], key=lambda due: due.wake_at) == [*first, *rest]
            found += [*first, *rest]
            page = [instance async for instance in store.in_shard("pizza", shard, status="waiting")]
            instances = [instance for instance in page if isinstance(instance, Instance)]
            times = [instance.execution.updated_at or NOW for instance in instances]
            assert times == sorted(times, reverse=True)
            whole += [instance.id for instance in instances]
            loaded = await store.load("pizza", instances[0].id)
            assert instances[0] == loaded
        assert sorted(found, key=lambda due: due.wake_at) == list(everything)
        assert sorted(whole) == sorted(database.updates)
        assert database.store(WRITTEN).shards == ()

    migrate(work)


def test_ids_are_spread_evenly() -> None:
    counts = [0] * 30
    for number in range(30_000):
        counts[MOST.fields("pizza", f"order-{number}")[SHARD]] += 1
    assert min(counts) > 800 and max(counts) < 1200


@pytest.mark.parametrize(
    ("count", "are_read", "reason"),
    [(0, False, "between 1 and 30, not 0"), (31, True, "between 1 and 30, not 31"), (1, True, "no shards are written")],
)
def test_a_number_of_shards_that_cannot_be_is_refused(count: int, are_read: bool, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        Shards(count, are_read)
