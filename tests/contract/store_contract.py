"""What every ``Store`` must do. It knows the port alone, no database: an adapter is held to it by a subclass.

    class TestMyStore(StoreContract):
        @pytest.fixture
        def make_store(self) -> Callable[[], Store]:
            return lambda: MyStore(a_database_that_was_empty_before_this_test)

``make_store`` is called inside the test's event loop, and by some tests again and again: each store is another client
of the same database.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import chain, product
from typing import Any

import pytest

from cloud_adapter.document import (
    DOCUMENT_BYTES_MAX,
    INBOX_ENTRY_BYTES_MAX,
    InboxEntry,
    Instance,
    KeyRecord,
    Lease,
    written,
)
from cloud_adapter.errors import (
    Conflict,
    DuplicateKey,
    InstanceExists,
    InstanceNotFound,
    InvalidRequest,
    TooLarge,
    Unavailable,
)
from cloud_adapter.history import FIRST_KEPT, HISTORY_MAX, HistoryEntry, kept_entries
from cloud_adapter.ports import PAGE_BYTES_MAX, Order, Store
from cloud_adapter.stores.listings import LIMIT_MAX
from cloud_adapter.stores.search import INTEGERS, TEXT_BYTES_MAX
from cloud_adapter.summaries import Due, summary_of
from workflow_core.execution import Execution, Status, Thread, ThreadStatus
from workflow_core.stored_parts import ErrorInfo
from workflow_core.wait_types import AnyWait, HandlerTeardown, HandlerWait, TimerWait, WaitStatus

NOW = datetime(2026, 2, 28, 23, 59, 59, 123_457, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
SECOND = timedelta(seconds=1)

MakeStore = Callable[[], Store]


def an_instance(
    id: str = "order-1",
    *,
    workflow: str = "pizza",
    status: Status = Status.WAITING,
    updated_at: datetime = NOW,
    wake_at: datetime | None = None,
    **fields: Any,
) -> Instance:
    execution = Execution(id, workflow, status, created_at=NOW - SECOND, updated_at=updated_at)
    return Instance(workflow, id, execution, json.dumps(fields), wake_at=wake_at)


def a_full_instance(id: str = "order-1") -> Instance:
    """An instance in which no attribute has its default, and every text is one that an encoding could spoil."""
    text = "Größe ☕ 🍕 'quoted' \"twice\" \\ \x00 \u2028 line\nline"
    waits: list[AnyWait] = [
        HandlerWait("Pay", WaitStatus.SETUP_ERROR, "t-7", {"url": text, "n": [1, None]}, 2, NOW, text),
        TimerWait("timed out", WaitStatus.SET_UP, "t-7", NOW + MICROSECOND, "timer-1"),
    ]
    error = ErrorInfo("ValueError", text, "notify kitchen")
    execution = Execution(
        id=id,
        workflow="pizza",
        status=Status.RUNNING,
        pc=2**53 - 1,
        threads=[
            Thread("main", "main", ThreadStatus.EXECUTING, "notify kitchen", 12, [], 3, NOW + SECOND, error),
            Thread("kitchen-ü", "kitchen", ThreadStatus.SETTING_UP, "payment", 7, waits),
        ],
        teardowns=[HandlerTeardown("s", "E", "main-3", True, {"a": 1}, WaitStatus.TEARDOWN_ERROR, 2, NOW, text)],
        definition_version="1a2b",
        error=error,
        created_at=NOW - timedelta(days=400),
        updated_at=NOW,
    )
    return Instance(
        workflow="pizza",
        id=id,
        execution=execution,
        fields=json.dumps({"name": text, "größe": 1.5, "list": [{}, None, True]}, ensure_ascii=False),
        lease=Lease("lease-token", NOW + MICROSECOND),
        new_entries=(
            HistoryEntry(NOW - SECOND, "created"),
            HistoryEntry(NOW, "step", "notify kitchen", "main", 12, 1.25, text),
        ),
        wake_at=NOW + timedelta(days=365, microseconds=1),
        tokens=("token-1", "token-2"),
        search={"customer": "Jürgen ☕", "total": 12.5, "count": 3, "vip": True, "coupon": None},
    )


def a_key(key: str = "key-1", *, response: str = "{}", expires_at: datetime = NOW + SECOND) -> KeyRecord:
    return KeyRecord(key, "fingerprint ☕", response, expires_at)


def an_entry(
    name: str = "entry-1", *, workflow: str = "pizza", id: str = "order-1", body: str = "{}", at: datetime = NOW
) -> InboxEntry:
    return InboxEntry(workflow, id, name, body, at)


def some_entries(first: int, count: int, **details: Any) -> tuple[HistoryEntry, ...]:
    """Entries that are numbered in their statement."""
    return tuple(
        HistoryEntry(NOW + number * SECOND, "step", f"step {number}", **details)
        for number in range(first, first + count)
    )


def changed(instance: Instance, *, updated_at: datetime | None = None, **fields: Any) -> Instance:
    """The instance moved on by one commit."""
    execution = instance.execution
    execution = replace(execution, pc=execution.pc + 1, updated_at=updated_at or execution.updated_at)
    return replace(instance, execution=execution, fields=json.dumps(fields))


async def increment(store: Store, workflow: str, id: str) -> int:
    """Adds one to the field ``count``, however many others do so at the same time."""
    while True:
        instance = await store.load(workflow, id)
        count: int = json.loads(instance.fields)["count"] + 1
        try:
            await store.commit(changed(instance, count=count))
        except Conflict:
            continue
        return count


def asynchronously(test: Callable[[Any, MakeStore], Awaitable[None]]) -> Callable[[Any, MakeStore], None]:
    """Runs a test in its own event loop, and closes the stores that it has made."""

    def run(self: Any, make_store: MakeStore) -> None:
        async def main() -> None:
            stores: list[Store] = []

            def make() -> Store:
                stores.append(make_store())
                return stores[-1]

            try:
                await test(self, make)
            finally:
                for store in stores:
                    await store.close()

        asyncio.run(main())

    run.__name__ = test.__name__
    run.__doc__ = test.__doc__
    return run


class StoreContract:
    # --- create, load, commit ----------------------------------------------------------------

    @asynchronously
    async def test_load_returns_exactly_what_was_created(self, make_store: MakeStore) -> None:
        store = make_store()
        for instance in (a_full_instance(), an_instance("order-2"), a_full_instance("Größe ☕ 🍕 'x' %20 \\ ..")):
            await store.create(instance)
            loaded = await store.load(instance.workflow, instance.id)
            assert loaded.version is not None
            assert loaded == written(instance, loaded.version)
            with_history = await store.load(instance.workflow, instance.id, history=True)
            assert with_history == replace(loaded, entries=instance.new_entries)

    @asynchronously
    async def test_load_returns_exactly_what_was_committed(self, make_store: MakeStore) -> None:
        store = make_store()
        await store.create(an_instance())
        for wanted in (a_full_instance(), an_instance(count=1), a_full_instance()):
            before = await store.load("pizza", "order-1")
            count, size = before.entries_count, before.entries_bytes
            wanted = replace(wanted, version=before.version, entries_count=count, entries_bytes=size)
            committed = await store.commit(wanted)
            assert committed == written(wanted, committed.version)
            assert committed.version != before.version
            assert await store.load("pizza", "order-1") == committed

    @asynchronously
    async def test_a_committed_instance_can_be_committed_again(self, make_store: MakeStore) -> None:
        store = make_store()
        await store.create(an_instance(count=0))
        instance = await store.load("pizza", "order-1")
        for count in range(3):
            instance = await store.commit(changed(instance, count=count))
        assert await store.load("pizza", "order-1") == instance

    @asynchronously
    async def test_what_one_client_commits_another_loads(self, make_store: MakeStore) -> None:
        one, other = make_store(), make_store()
        await one.create(an_instance())
        committed = await other.commit(changed(await other.load("pizza", "order-1"), count=1))
        assert await one.load("pizza", "order-1") == committed

    @asynchronously
    async def test_there_is_no_instance(self, make_store: MakeStore) -> None:
        store = make_store()
        await store.create(an_instance("order-1"))
        with pytest.raises(InstanceNotFound, match="order-2"):
            await store.load("pizza", "order-2")
        with pytest.raises(InstanceNotFound, match="pasta"):
            await store.load("pasta", "order-1")

    @asynchronously
    async def test_an_instance_is_created_once(self, make_store: MakeStore) -> None:
        store = make_store()
        await store.create(an_instance(count=1), a_key("first"))
        with pytest.raises(InstanceExists, match="order-1"):
            await store.create(an_instance(count=2), a_key("second"))
        assert json.loads((await store.load("pizza", "order-1")).fields) == {"count": 1}
        assert await store.load_key("pizza", "order-1", "second", NOW) is None

    @asynchronously
    async def test_an_instance_that_exists_is_told_before_a_key_that_does(self, make_store: MakeStore) -> None:
        store = make_store()
        await store.create(an_instance(), a_key())
        with pytest.raises(InstanceExists):
            await store.create(an_instance(), a_key())

    @asynchronously
    async def test_the_ids_of_two_workflows_do_not_meet(self, make_store: MakeStore) -> None:
        store = make_store()
        pizza, pasta = an_instance(workflow="pizza", count=1), an_instance(workflow="pasta", count=2)
        await store.create(pizza, a_key(response='"pizza"'))
        await store.create(pasta, a_key(response='"pasta"'))
        assert (await store.load("pizza", "order-1")).fields == pizza.fields
        assert (await store.load("pasta", "order-1")).fields == pasta.fields
        key = await store.load_key("pasta", "order-1", "key-1", NOW)
        assert key is not None
        assert key.response == '"pasta"'

    # --- compare-and-set ---------------------------------------------------------------------

    @asynchronously
    async def test_a_stale_version_writes_nothing(self, make_store: MakeStore) -> None:
        store = make_store()
        await store.create(an_instance(count=0))
        stale = await store.load("pizza", "order-1")
        newer = await store.commit(changed(stale, count=1))
        with pytest.raises(Conflict, match="order-1"):
            await store.commit(changed(stale, count=2), [a_key()])
        assert await store.load("pizza", "order-1") == newer
        assert await store.load_key("pizza", "order-1", "key-1", NOW) is None

    @asynchronously
    async def test_a_commit_that_changes_nothing_but_the_pc_is_a_new_version(self, make_store: MakeStore) -> None:
        store = make_store()
        await store.create(an_instance())
        loaded = await store.load("pizza", "order-1")
        execution = replace(loaded.execution, pc=loaded.execution.pc + 1)
        committed = await store.commit(replace(loaded, execution=execution))
        assert committed.version != loaded.version
        with pytest.raises(Conflict):
            await store.commit(loaded)

    @asynchronously
    async def test_a_commit_of_an_instance_that_is_not_there_is_a_conflict(self, make_store: MakeStore) -> None:
        store = make_store()
        await store.create(an_instance("order-1"))
        version = (await store.load("pizza", "order-1")).version
        with pytest.raises(Conflict):
            await store.commit(an_instance("order-2"))
        with pytest.raises(Conflict):
            await store.commit(replace(an_instance("order-2"), version=version), [a_key()])
        with pytest.raises(InstanceNotFound):
            await store.load("pizza", "order-2")
        assert await store.load_key("pizza", "order-2", "key-1", NOW) is None

    @asynchronously
    async def test_of_16_who_create_one_wins(self, make_store: MakeStore) -> None:
        stores = [make_store() for _ in range(16)]
        results = await asyncio.gather(
            *(store.create(an_instance(count=number)) for number, store in enumerate(stores)), return_exceptions=True
        )
        winners = [number for number, result in enumerate(results) if result is None]
        assert len(winners) == 1
        assert [type(result) for result in results].count(InstanceExists) == 15
        assert json.loads((await stores[0].load("pizza", "order-1")).fields) == {"count": winners[0]}

    @asynchronously
    async def test_8_clients_that_count_lose_nothing(self, make_store: MakeStore) -> None:
        stores = [make_store() for _ in range(8)]
        await stores[0].create(an_instance(count=0))

        async def count(store: Store) -> list[int]:
            return [await increment(store, "pizza", "order-1") for _ in range(5)]

        counts = await asyncio.gather(*(count(store) for store in stores))
        assert sorted(chain(*counts)) == list(range(1, 41))
        assert json.loads((await stores[0].load("pizza", "order-1")).fields) == {"count": 40}

    @asynchronously
    async def test_8_callers_of_one_client_that_count_lose_nothing(self, make_store: MakeStore) -> None:
        store = make_store()
        await store.create(an_instance(count=0))
        counts = await asyncio.gather(*(increment(store, "pizza", "order-1") for _ in range(8)))
        assert sorted(counts) == list(range(1, 9))

    # --- the history -------------------------------------------------------------------------

    @asynchronously
    async def test_an_instance_has_the_history_with_which_it_was_created(self, make_store: MakeStore) -> None:
        store = make_store()
        await store.create(replace(an_instance(), new_entries=some_entries(0, 3)))
        await store.create(an_instance("order-2"))
        assert await _history(store) == some_entries(0, 3)
        assert await _history(store, "order-2") == ()

    @asynchronously
    async def test_a_load_without_the_history_knows_that_it_has_none(self, make_store: MakeStore) -> None:
        store = make_store()
        await store.create(replace(an_instance(), new_entries=some_entries(0, 3)))
        loaded = await store.load("pizza", "order-1")
        for unknown in (loaded, await store.commit(changed(loaded))):
            with pytest.raises(ValueError, match="the history of 'pizza' 'order-1' was not loaded"):
                assert unknown.history

    @asynchronously
    async def test_commits_add_to_the_history_in_their_order(self, make_store: MakeStore) -> None:
        one, other = make_store(), make_store()
        await one.create(replace(an_instance(), new_entries=some_entries(0, 1)))
        instance = await one.load("pizza", "order-1")
        for first, size in ((1, 2), (3, 1), (4, 0), (4, 3)):
            instance = await one.commit(replace(changed(instance), new_entries=some_entries(first, size)))
            assert instance.new_entries == ()
        assert await _history(one) == await _history(other) == some_entries(0, 7)
        loaded = await other.load("pizza", "order-1", history=True)
        committed = await other.commit(replace(changed(loaded), new_entries=some_entries(7, 1)))
        assert committed.history == some_entries(0, 8), "what was loaded is continued"
        assert await one.load("pizza", "order-1", history=True) == committed

    @asynchronously
    async def test_equal_entries_are_all_kept(self, make_store: MakeStore) -> None:
        store = make_store()
        await store.create(replace(an_instance(), new_entries=some_entries(0, 1)))
        instance = await store.load("pizza", "order-1")
        for _ in range(2):
            instance = await store.commit(replace(changed(instance), new_entries=some_entries(0, 1) * 2))
        assert await _history(store) == some_entries(0, 1) * 5

    @asynchronously
    async def test_the_history_keeps_its_first_and_its_newest_entries(self, make_store: MakeStore) -> None:
        store = make_store()
        await store.create(replace(an_instance(), new_entries=some_entries(0, 1)))
        instance = await store.load("pizza", "order-1")
        operation = HistoryEntry(NOW, "pause", by="Größe ☕ \n\u2028")
        entries = (*some_entries(0, 20), operation, *some_entries(20, 150))
        for number in range(1, len(entries), 7):
            instance = await store.commit(replace(changed(instance), new_entries=entries[number : number + 7]))
            assert await store.load("pizza", "order-1") == instance
            assert await _history(store) == kept_entries(entries[: number + 7])
        newest = HISTORY_MAX - FIRST_KEPT - 1
        assert await _history(store) == (*entries[:FIRST_KEPT], operation, *entries[-newest:])

    @asynchronously
    async def test_a_commit_of_more_entries_than_are_kept(self, make_store: MakeStore) -> None:
        store = make_store()
        await store.create(replace(an_instance(), new_entries=some_entries(0, 3)))
        instance = await store.load("pizza", "order-1")
        await store.commit(replace(changed(instance), new_entries=some_entries(3, 300)))
        assert await _history(store) == kept_entries(some_entries(0, 303))

    @asynchronously
    async def test_a_conflict_adds_nothing_to_the_history(self, make_store: MakeStore) -> None:
        store = make_store()
        await store.create(replace(an_instance(), new_entries=some_entries(0, 1)), a_key())
        stale = await store.load("pizza", "order-1")
        for number in range(HISTORY_MAX + 1):
            newer = await store.commit(replace(changed(stale), new_entries=some_entries(number + 1, 1)))
            for size in (0, 1, HISTORY_MAX):  # with the last one, the history is replaced
                with pytest.raises(Conflict, match="order-1"):
                    await store.commit(replace(changed(stale), new_entries=some_entries(900, size)))
            stale = newer
        with pytest.raises(DuplicateKey):
            await store.commit(replace(changed(stale), new_entries=some_entries(900, 1)), [a_key()])
        with pytest.raises(InstanceExists):
            await store.create(replace(an_instance(), new_entries=some_entries(900, 1)))
        assert await _history(store) == kept_entries(some_entries(0, HISTORY_MAX + 2))

    @asynchronously
    async def test_a_commit_that_was_applied_and_is_repeated_adds_its_entries_once(self, make_store: MakeStore) -> None:
        store = make_store()
        await store.create(replace(an_instance(), new_entries=some_entries(0, 1)))
        for first, size in ((1, 1), (2, HISTORY_MAX)):
            loaded = await store.load("pizza", "order-1")
            change = replace(changed(loaded), new_entries=some_entries(first, size))
            committed = await store.commit(change)
            with pytest.raises(Conflict):  # as after a lost reply
                await store.commit(change)
            current = await store.load("pizza", "order-1")
            assert written(change, current.version, current.entries_bytes) == committed
        assert await _history(store) == kept_entries(some_entries(0, HISTORY_MAX + 2))

    @asynchronously
    async def test_instances_do_not_share_their_history(self, make_store: MakeStore) -> None:
        store = make_store()
        for number, (workflow, id) in enumerate(product(("pizza", "pasta"), ("order-1", "order-2"))):
            await store.create(replace(an_instance(id, workflow=workflow), new_entries=some_entries(number, 1)))
        for number, (workflow, id) in enumerate(product(("pizza", "pasta"), ("order-1", "order-2"))):
            loaded = await store.load(workflow, id)
            await store.commit(replace(changed(loaded), new_entries=some_entries(number + 1, HISTORY_MAX)))
            history = (await store.load(workflow, id, history=True)).history
            assert history == kept_entries(some_entries(number, HISTORY_MAX + 1))

    @asynchronously
    async def test_the_largest_instance_keeps_what_fits_of_its_history(self, make_store: MakeStore) -> None:
        store = make_store()
        await store.create(replace(an_instance(), new_entries=some_entries(0, 49, error="é" * 500)))
        instance = await store.load("pizza", "order-1")
        photo = "x" * (DOCUMENT_BYTES_MAX - 2_000)
        for number in range(60):
            entries = some_entries(49 + number, 1, error="é" * 500)
            instance = await store.commit(replace(changed(instance, photo=photo), new_entries=entries))
        history = await _history(store)
        assert 7 < len(history) < 20
        assert history[:FIRST_KEPT] == some_entries(0, FIRST_KEPT, error="é" * 500)
        assert history[-2:] == some_entries(107, 2, error="é" * 500)

    # --- idempotency keys --------------------------------------------------------------------

    @asynchronously
    async def test_a_key_is_recorded_with_the_write(self, make_store: MakeStore) -> None:
        store = make_store()
        created = a_key("Schlüssel ☕ / %2F .", response='{"größe": "☕"}', expires_at=NOW + MICROSECOND)
        committed = a_key("key-2", response="null")
        await store.create(an_instance(), created)
        await store.commit(changed(await store.load("pizza", "order-1")), [committed])
        assert await store.load_key("pizza", "order-1", created.key, NOW) == created
        assert await store.load_key("pizza", "order-1", "key-2", NOW) == committed
        assert await store.load_key("pizza", "order-1", "key-3", NOW) is None
        assert await store.load_key("pizza", "order-2", "key-2", NOW) is None
        assert await store.load_key("pasta", "order-1", "key-2", NOW) is None

    @asynchronously
    async def test_a_key_that_is_recorded_rolls_the_instance_back(self, make_store: MakeStore) -> None:
        store = make_store()
        await store.create(an_instance(), a_key(response="1"))
        before = await store.load("pizza", "order-1")
        with pytest.raises(DuplicateKey, match="key-1"):
            await store.commit(changed(before, count=1), [a_key(response="2")])
        assert await store.load("pizza", "order-1") == before
        assert await store.load_key("pizza", "order-1", "key-1", NOW) == a_key(response="1")
        await store.commit(changed(before, count=1), [a_key("key-2")])

    @asynchronously
    async def test_a_duplicate_on_a_stale_version_writes_nothing(self, make_store: MakeStore) -> None:
        """As a client's retry meets it; which of the two errors it gets is the adapter's choice."""
        store = make_store()
        await store.create(an_instance())
        stale = await store.load("pizza", "order-1")
        newer = await store.commit(changed(stale, count=1), [a_key()])
        with pytest.raises((DuplicateKey, Conflict)):
            await store.commit(changed(stale, count=2), [a_key()])
        assert await store.load("pizza", "order-1") == newer

    @asynchronously
    async def test_a_key_expires(self, make_store: MakeStore) -> None:
        store = make_store()
        key = a_key(expires_at=NOW + SECOND)
        await store.create(an_instance(), key)
        assert await store.load_key("pizza", "order-1", "key-1", key.expires_at - MICROSECOND) == key
        assert await store.load_key("pizza", "order-1", "key-1", key.expires_at) is None

    @asynchronously
    async def test_an_expired_key_may_be_used_again(self, make_store: MakeStore) -> None:
        store = make_store()
        key = a_key(expires_at=NOW + SECOND)
        await store.create(an_instance(), key)
        loaded = await store.load("pizza", "order-1")
        renewed = replace(key, fingerprint="another", response='"again"', expires_at=NOW + 9 * SECOND)
        with pytest.raises(DuplicateKey):
            await store.commit(changed(loaded, updated_at=key.expires_at - MICROSECOND), [renewed])
        await store.commit(changed(loaded, updated_at=key.expires_at), [renewed])
        assert await store.load_key("pizza", "order-1", "key-1", key.expires_at) == renewed

    @asynchronously
    async def test_without_a_time_of_the_update_no_key_counts_as_expired(self, make_store: MakeStore) -> None:
        store = make_store()
        timeless = an_instance()
        timeless = replace(timeless, execution=replace(timeless.execution, updated_at=None))
        await store.create(timeless, a_key(response="1", expires_at=NOW - timedelta(days=9)))
        loaded = await store.load("pizza", "order-1")
        with pytest.raises(DuplicateKey):
            await store.commit(loaded, [a_key(response="2")])
        assert await store.load("pizza", "order-1") == loaded
        await store.commit(loaded, [a_key("key-2")])

    @asynchronously
    async def test_of_8_commits_under_one_key_one_wins(self, make_store: MakeStore) -> None:
        stores = [make_store() for _ in range(8)]
        await stores[0].create(an_instance(count=0))

        async def count_once(store: Store) -> bool:
            while True:
                instance = await store.load("pizza", "order-1")
                try:
                    await store.commit(changed(instance, count=json.loads(instance.fields)["count"] + 1), [a_key()])
                except Conflict:
                    continue
                except DuplicateKey:
                    return False
                return True

        assert sum(await asyncio.gather(*(count_once(store) for store in stores))) == 1
        assert json.loads((await stores[0].load("pizza", "order-1")).fields) == {"count": 1}

    @asynchronously
    async def test_several_keys_are_recorded_with_one_commit(self, make_store: MakeStore) -> None:
        store = make_store()
        await store.create(an_instance())
        keys = [a_key(f"key-{number}", response=f'"{number} ☕"') for number in range(5)]
        committed = await store.commit(changed(await store.load("pizza", "order-1"), count=1), keys)
        assert await store.load("pizza", "order-1") == committed
        assert [await store.load_key("pizza", "order-1", key.key, NOW) for key in keys] == keys

    @asynchronously
    async def test_one_key_of_several_that_is_recorded_rolls_all_back(self, make_store: MakeStore) -> None:
        store = make_store()
        await store.create(an_instance(), a_key("known", response="1"))
        await store.post(an_entry())
        before = await store.load("pizza", "order-1")
        for place in range(3):
            keys = [a_key("new-1"), a_key("new-2")]
            keys.insert(place, a_key("known", response="2"))
            with pytest.raises(DuplicateKey, match="known") as caught:
                await store.commit(changed(before, count=1), keys, [an_entry()])
            assert "new-" not in str(caught.value)
        assert await store.load("pizza", "order-1") == before
        assert await _names(store) == ["entry-1"]
        for key in ("new-1", "new-2"):
            assert await store.load_key("pizza", "order-1", key, NOW) is None
        assert await store.load_key("pizza", "order-1", "known", NOW) == a_key("known", response="1")

    @asynchronously
    async def test_expired_keys_among_several_may_be_used_again(self, make_store: MakeStore) -> None:
        store = make_store()
        await store.create(an_instance(), a_key("old-1"))
        loaded = await store.load("pizza", "order-1")
        loaded = await store.commit(changed(loaded), [a_key("old-2"), a_key("live", expires_at=NOW + 2 * SECOND)])
        later = changed(loaded, updated_at=NOW + SECOND)
        renewed = [a_key(name, response='"again"', expires_at=NOW + 9 * SECOND) for name in ("old-2", "new", "old-1")]
        with pytest.raises(DuplicateKey, match="live"):
            await store.commit(later, [*renewed, a_key("live")])
        await store.commit(later, renewed)
        assert [await store.load_key("pizza", "order-1", key.key, NOW + SECOND) for key in renewed] == renewed

    # --- the inbox ---------------------------------------------------------------------------

    @asynchronously
    async def test_the_inbox_gives_exactly_what_was_posted(self, make_store: MakeStore) -> None:
        store = make_store()
        ids = ("order-1", "Größe ☕ 🍕 'x' %20 \\ ..", "never created")
        text = json.dumps("Größe ☕ 🍕 'quoted' \"twice\" \\ \x00 \u2028\nline", ensure_ascii=False)
        for id in ids:
            assert list(await store.inbox("pizza", id)) == []
            for number, body in enumerate(("null", text, json.dumps({"größe": ["\ud800", 1e300]}), "")):
                await store.post(an_entry(f"Az09_-{number}", id=id, body=body, at=NOW + number * MICROSECOND))
        await store.post(an_entry("x" * 500, at=NOW + SECOND))
        for id in ids:
            entries = await store.inbox("pizza", id)
            assert [entry.body for entry in entries][:4] == [
                "null",
                text,
                '{"gr\\u00f6\\u00dfe": ["\\ud800", 1e+300]}',
                "",
            ]
            assert list(entries)[:4] == [
                an_entry(f"Az09_-{number}", id=id, body=entries[number].body, at=NOW + number * MICROSECOND)
                for number in range(4)
            ]
        assert (await store.inbox("pizza", "order-1"))[-1].name == "x" * 500
        with pytest.raises(InstanceNotFound):
            await store.load("pizza", "never created")

    @asynchronously
    async def test_the_inbox_is_in_order_of_time_and_name(self, make_store: MakeStore) -> None:
        store = make_store()
        places = [("b", 1), ("a", 2), ("B", 1), ("_", 1), ("10", 1), ("9", 1), ("-", 1), ("z", 0), ("a0", 1), ("a_", 1)]
        for name, number in places:
            await store.post(an_entry(name, at=NOW + number * MICROSECOND))
        wanted = [name for name, number in sorted(places, key=lambda place: (place[1], place[0]))]
        assert wanted[:2] == ["z", "-"]
        assert await _names(store) == wanted
        for limit in (1, 3, 10, 11):
            assert await _names(store, limit=limit) == wanted[:limit]

    @asynchronously
    async def test_the_entries_of_a_prefix_are_in_order_of_name(self, make_store: MakeStore) -> None:
        store = make_store()
        for number, name in enumerate(
            ("event-9", "event", "event-1-z", "evenu", "event-10", "a", "event-_", "Event-1")
        ):
            await store.post(an_entry(name=name, at=NOW - number * MICROSECOND))
        names = [entry.name for entry in await store.inbox("pizza", "order-1", prefix="event-")]
        assert names == ["event-1-z", "event-10", "event-9", "event-_"]
        assert [entry.name for entry in await store.inbox("pizza", "order-1", 2, prefix="event-")] == names[:2]

    @asynchronously
    async def test_an_inbox_shows_no_entry_of_another(self, make_store: MakeStore) -> None:
        store = make_store()
        places = [
            (workflow, id)
            for workflow in ("pizza", "pizz", "pizza-2")
            for id in ("order-1", "order-10", "order-", "Order-1", "ä", "a\u0308", "order-1 ☕", "%", "*", "inbox")
        ]
        for number, (workflow, id) in enumerate(places):
            await store.post(an_entry("same", workflow=workflow, id=id, body=str(number)))
        for number, (workflow, id) in enumerate(places):
            assert list(await store.inbox(workflow, id)) == [
                an_entry("same", workflow=workflow, id=id, body=str(number))
            ], (workflow, id)
        await store.discard([an_entry("same")])
        assert [len(await store.inbox(workflow, id)) for workflow, id in places] == [0] + [1] * (len(places) - 1)

    @asynchronously
    async def test_what_is_posted_under_one_name_twice_is_once(self, make_store: MakeStore) -> None:
        store = make_store()
        first = an_entry(body="1")
        await store.post(first)
        await store.post(first)
        await store.post(an_entry(body="2", at=NOW - SECOND))
        assert list(await store.inbox("pizza", "order-1")) == [first]

    @asynchronously
    async def test_of_what_16_post_at_the_same_time_none_is_lost(self, make_store: MakeStore) -> None:
        stores = [make_store() for _ in range(16)]
        await stores[0].create(an_instance())
        before = await stores[0].load("pizza", "order-1")

        async def post(store: Store, number: int) -> None:
            for turn in range(3):
                await store.post(an_entry(f"{number}-{turn}", body=str(turn)))

        await asyncio.gather(*(post(store, number) for number, store in enumerate(stores)))
        wanted = sorted(f"{number}-{turn}" for number in range(16) for turn in range(3))
        assert await _names(stores[0]) == wanted
        # Nobody was disturbed who had loaded the instance before.
        await stores[1].commit(changed(before, count=1))

    @asynchronously
    async def test_of_16_who_post_under_one_name_one_wins(self, make_store: MakeStore) -> None:
        stores = [make_store() for _ in range(16)]
        posts = (store.post(an_entry(body=str(number))) for number, store in enumerate(stores))
        assert await asyncio.gather(*posts) == [None] * 16
        (entry,) = await stores[0].inbox("pizza", "order-1")
        assert entry.body in map(str, range(16))

    @asynchronously
    async def test_a_post_leaves_the_instance_as_it_is(self, make_store: MakeStore) -> None:
        store = make_store()
        await store.create(a_full_instance())
        before = await store.load("pizza", "order-1")
        await store.post(an_entry())
        await store.post(an_entry("entry-2"))
        await store.discard([an_entry()])
        assert await store.load("pizza", "order-1") == before
        assert await _listed(store) == ["order-1"]
        await store.commit(changed(before))

    @asynchronously
    async def test_a_commit_deletes_the_entries_that_it_takes_in(self, make_store: MakeStore) -> None:
        store = make_store()
        await store.create(an_instance())
        for number in range(5):
            await store.post(an_entry(f"entry-{number}"))
            await store.post(an_entry(f"entry-{number}", id="order-2"))
        loaded = await store.load("pizza", "order-1")
        entries = await store.inbox("pizza", "order-1", limit=3)
        await store.post(an_entry("entry-00"))  # comes meanwhile, and is first
        committed = await store.commit(changed(loaded, count=1), [a_key(), a_key("key-2")], entries)
        assert await store.load("pizza", "order-1") == committed
        assert await _names(store) == ["entry-00", "entry-3", "entry-4"]
        assert len(await store.inbox("pizza", "order-2")) == 5
        assert await store.load_key("pizza", "order-1", "key-2", NOW) == a_key("key-2")

    @asynchronously
    async def test_a_commit_that_fails_deletes_no_entry(self, make_store: MakeStore) -> None:
        store = make_store()
        await store.create(an_instance(), a_key())
        stale = await store.load("pizza", "order-1")
        newer = await store.commit(changed(stale, count=1))
        await store.post(an_entry())
        entries = await store.inbox("pizza", "order-1")
        with pytest.raises(Conflict):
            await store.commit(changed(stale, count=2), taken=entries)
        with pytest.raises(DuplicateKey):
            await store.commit(changed(newer, count=2), [a_key()], entries)
        with pytest.raises(TooLarge):
            await store.commit(changed(newer, photo="x" * DOCUMENT_BYTES_MAX), taken=entries)
        with pytest.raises(Conflict):
            await store.commit(replace(an_instance("order-2"), version=newer.version), taken=entries)
        assert list(await store.inbox("pizza", "order-1")) == list(entries) == [an_entry()]
        assert await store.load("pizza", "order-1") == newer

    @asynchronously
    async def test_an_entry_that_is_gone_is_taken_in_without_harm(self, make_store: MakeStore) -> None:
        store = make_store()
        await store.create(an_instance())
        await store.post(an_entry())
        loaded = await store.load("pizza", "order-1")
        taken = [an_entry(), an_entry("never posted")]
        for count in range(2):
            loaded = await store.commit(changed(loaded, count=count), taken=taken)
        assert await store.load("pizza", "order-1") == loaded
        assert await _names(store) == []
        await store.post(an_entry(body="2"))  # its name is free again
        assert list(await store.inbox("pizza", "order-1")) == [an_entry(body="2")]

    @asynchronously
    async def test_8_clients_that_post_and_collect_take_each_entry_in_once(self, make_store: MakeStore) -> None:
        stores = [make_store() for _ in range(8)]
        await stores[0].create(an_instance(names=[]))

        async def post_and_collect(store: Store, number: int) -> None:
            for turn in range(2):
                await store.post(an_entry(f"{number}-{turn}"))
            while True:
                instance = await store.load("pizza", "order-1")
                entries = await store.inbox("pizza", "order-1", limit=5)
                if not entries:
                    return
                names = json.loads(instance.fields)["names"] + [entry.name for entry in entries]
                try:
                    await store.commit(changed(instance, names=names), taken=entries)
                except Conflict:
                    continue

        await asyncio.gather(*(post_and_collect(store, number) for number, store in enumerate(stores)))
        names = json.loads((await stores[0].load("pizza", "order-1")).fields)["names"]
        assert sorted(names) == sorted(f"{number}-{turn}" for number in range(8) for turn in range(2))
        assert await _names(stores[0]) == []

    @asynchronously
    async def test_entries_are_discarded(self, make_store: MakeStore) -> None:
        store = make_store()
        for id in ("order-1", "order-2"):
            for number in range(3):
                await store.post(an_entry(f"entry-{number}", id=id))
        await store.discard([])
        gone = [an_entry("entry-0"), an_entry("entry-2"), an_entry("entry-1", id="order-2"), an_entry("never posted")]
        for _ in range(2):
            await store.discard(gone)
            assert await _names(store) == ["entry-1"]
            assert [entry.name for entry in await store.inbox("pizza", "order-2")] == ["entry-0", "entry-2"]

    @asynchronously
    async def test_many_entries_are_discarded(self, make_store: MakeStore) -> None:
        store = make_store()
        entries = [an_entry(f"entry-{number:04}") for number in range(30)]
        for entry in entries:
            await store.post(entry)
        more = [an_entry(f"never-posted-{number}") for number in range(1_000)]
        await store.discard([*entries[:15], *more, *entries[15:]])
        assert await _names(store) == []

    @asynchronously
    async def test_uncollected_gives_each_instance_once_the_oldest_first(self, make_store: MakeStore) -> None:
        store = make_store()
        await store.create(an_instance("b"))
        posted = [
            ("pizza", "b", 3),
            ("pasta", "gone ☕", 1),  # there is no such instance
            ("pizza", "a", 2),
            ("pizza", "b", 0),
            ("pizza", "a", 9),
            ("pizza", "late", 5),
        ]
        for number, (workflow, id, second) in enumerate(posted):
            at = NOW + second * SECOND
            await store.post(an_entry(f"entry-{number}", workflow=workflow, id=id, body="x" * 1000, at=at))
        before = NOW + 5 * SECOND
        wanted = [("pizza", "b"), ("pasta", "gone ☕"), ("pizza", "a"), ("pizza", "late")]
        assert list(await store.uncollected(before)) == wanted
        assert list(await store.uncollected(before - MICROSECOND)) == wanted[:3]
        assert list(await store.uncollected(NOW)) == wanted[:1]
        assert list(await store.uncollected(NOW - MICROSECOND)) == []
        assert list(await store.uncollected(before, since=NOW + 2 * SECOND)) == [("pizza", "b"), ("pizza", "late")]
        assert list(await store.uncollected(NOW, since=NOW)) == []
        # The limit is of entries: the fourth is the second of "b".
        assert [len(await store.uncollected(before, limit)) for limit in (1, 2, 3, 4, 5)] == [1, 2, 3, 3, 4]
        loaded = await store.load("pizza", "b")
        await store.commit(changed(loaded), taken=await store.inbox("pizza", "b"))
        await store.discard(await store.inbox("pasta", "gone ☕"))
        assert list(await store.uncollected(before)) == wanted[2:]

    @asynchronously
    async def test_too_large_an_entry_is_refused(self, make_store: MakeStore) -> None:
        store = make_store()
        for body in ("x" * (INBOX_ENTRY_BYTES_MAX + 1), "ü" * (INBOX_ENTRY_BYTES_MAX // 2) + "x"):
            with pytest.raises(TooLarge, match=r"'entry-1' of 'pizza' 'order-1' has 1,000,001 bytes"):
                await store.post(an_entry(body=body))
        assert await _names(store) == []

    @asynchronously
    async def test_entries_at_the_limit_are_posted_and_taken_in(self, make_store: MakeStore) -> None:
        store = make_store()
        await store.create(an_instance())
        bodies = [letter * (INBOX_ENTRY_BYTES_MAX // len(letter.encode())) for letter in "aüb☕🍕f"]
        for number, body in enumerate(bodies):
            await store.post(an_entry(f"entry-{number}", body=body))
        entries = await store.inbox("pizza", "order-1")
        assert [entry.body for entry in entries] == bodies
        assert list(await store.uncollected(NOW)) == [("pizza", "order-1")]
        largest = changed(await store.load("pizza", "order-1"), photo="x" * (DOCUMENT_BYTES_MAX - 2_000))
        await store.commit(largest, taken=entries)
        assert await _names(store) == []

    @asynchronously
    async def test_a_name_that_no_entry_may_bear_is_refused(self, make_store: MakeStore) -> None:
        store = make_store()
        for name in ("", "a/b", "..", "ü", "a b", "a\n", "x" * 501, "__all__"):
            with pytest.raises(InvalidRequest, match="cannot be the name of an inbox entry"):
                await store.post(an_entry(name))
        assert await _names(store) == []
        for name in ("_", "-", "__", "___", "__a_", "x" * 500):
            await store.post(an_entry(name))
        assert len(await _names(store)) == 6

    # --- limits ------------------------------------------------------------------------------

    @asynchronously
    async def test_too_large_names_the_largest_field_and_writes_nothing(self, make_store: MakeStore) -> None:
        store = make_store()
        large: dict[str, Any] = {"small": "x" * 100, "photo": "x" * DOCUMENT_BYTES_MAX}
        with pytest.raises(TooLarge, match="'photo'"):
            await store.create(an_instance(**large), a_key())
        with pytest.raises(InstanceNotFound):
            await store.load("pizza", "order-1")
        await store.create(an_instance())
        before = await store.load("pizza", "order-1")
        with pytest.raises(TooLarge, match="'photo'"):
            await store.commit(changed(before, **large), [a_key()])
        assert await store.load("pizza", "order-1") == before
        assert await store.load_key("pizza", "order-1", "key-1", NOW) is None

    @asynchronously
    async def test_an_instance_just_below_the_limit_is_stored(self, make_store: MakeStore) -> None:
        store = make_store()
        instance = an_instance(photo="x" * (DOCUMENT_BYTES_MAX - 2_000))
        await store.create(instance)
        assert (await store.load("pizza", "order-1")).fields == instance.fields

    # --- list --------------------------------------------------------------------------------

    @asynchronously
    async def test_list_gives_what_was_updated_last_first(self, make_store: MakeStore) -> None:
        store = make_store()
        for number in (2, 0, 3, 1):
            await store.create(an_instance(f"order-{number}", updated_at=NOW + number * MICROSECOND))
        assert await _listed(store) == ["order-3", "order-2", "order-1", "order-0"]
        await store.commit(changed(await store.load("pizza", "order-1"), updated_at=NOW + SECOND))
        assert await _listed(store) == ["order-1", "order-3", "order-2", "order-0"]

    @asynchronously
    async def test_list_gives_summaries(self, make_store: MakeStore) -> None:
        store = make_store()
        full = a_full_instance()
        full = replace(full, execution=replace(full.execution, error=None))
        failed = replace(full.execution, status=Status.FAILED, error=ErrorInfo("OSError", "no ☕", "brew", ["b"]))
        await store.create(full)
        await store.create(replace(full, id="order-2", execution=failed))
        page = await store.list("pizza", order=Order.ID)
        loaded = [await store.load("pizza", id) for id in ("order-1", "order-2")]
        assert list(page.instances) == [summary_of(instance) for instance in loaded]
        assert [summary.error for summary in page.instances] == [None, ErrorInfo("OSError", "no ☕", bases=["b"])]
        assert page.cursor is None
        # The error of an instance that goes on is gone.
        await store.commit(replace(loaded[1], execution=replace(failed, status=Status.RUNNING, error=None)))
        assert [summary.error for summary in (await store.list("pizza")).instances] == [None, None]

    @asynchronously
    async def test_a_page_has_a_limit_of_bytes(self, make_store: MakeStore) -> None:
        store = make_store()
        for number in range(4):
            await store.create(
                replace(an_instance(f"order-{number}"), search={"note": "x" * (PAGE_BYTES_MAX * 2 // 5)})
            )
        sizes, cursor = list[int](), None
        while not sizes or cursor is not None:
            page = await store.list("pizza", order=Order.ID, cursor=cursor)
            sizes.append(len(page.instances))
            cursor = page.cursor
        assert sizes == [2, 2]

    @asynchronously
    async def test_list_of_nothing(self, make_store: MakeStore) -> None:
        page = await make_store().list("pizza")
        assert list(page.instances) == []
        assert page.cursor is None

    @asynchronously
    async def test_an_instance_without_a_time_of_its_update_is_listed_last(self, make_store: MakeStore) -> None:
        store = make_store()
        timeless = an_instance("a")
        timeless = replace(timeless, execution=replace(timeless.execution, updated_at=None))
        await store.create(timeless)
        for id in ("b", "c"):
            await store.create(an_instance(id, updated_at=NOW - timedelta(days=9_999)))
        assert (await store.load("pizza", "a")).execution == timeless.execution
        assert await _listed(store, limit=LIMIT_MAX) == ["c", "b", "a"]
        cursor = None
        for id in ("c", "b", "a"):
            page = await store.list("pizza", limit=1, cursor=cursor)
            assert [instance.id for instance in page.instances] == [id]
            cursor = page.cursor
        assert cursor is None

    @asynchronously
    async def test_list_pages_without_gap_or_repeat(self, make_store: MakeStore) -> None:
        store = make_store()
        for number in range(25):  # five at each time, so that pages part what was updated at once
            await store.create(an_instance(f"order-{number:02} ☕", updated_at=NOW + number // 5 * SECOND))
        everything = await _listed(store)
        sizes, paged, cursor = [], [], None
        while True:
            page = await store.list("pizza", limit=10, cursor=cursor)
            sizes.append(len(page.instances))
            paged += [instance.id for instance in page.instances]
            cursor = page.cursor
            if cursor is None:
                break
            assert set(cursor) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.~")
            # What comes in while a caller reads goes before the pages that it has had.
            await store.create(an_instance(f"late-{len(sizes)}", updated_at=NOW + timedelta(hours=1)))
        assert sizes == [10, 10, 5]
        assert paged == everything
        assert len(set(paged)) == 25

    @asynchronously
    async def test_a_page_has_50_instances_unless_told(self, make_store: MakeStore) -> None:
        store = make_store()
        for number in range(51):
            await store.create(an_instance(f"order-{number}"))
        page = await store.list("pizza")
        assert len(page.instances) == 50
        assert len((await store.list("pizza", cursor=page.cursor)).instances) == 1

    @asynchronously
    async def test_the_last_page_that_is_full_has_no_cursor(self, make_store: MakeStore) -> None:
        store = make_store()
        for number in range(2):
            await store.create(an_instance(f"order-{number}"))
        assert (await store.list("pizza", limit=2)).cursor is None
        assert (await store.list("pizza", limit=1)).cursor is not None

    @asynchronously
    async def test_list_by_status(self, make_store: MakeStore) -> None:
        store = make_store()
        for number in range(9):
            status = (Status.WAITING, Status.FINISHED, Status.RUNNING)[number % 3]
            await store.create(an_instance(f"order-{number}", status=status, updated_at=NOW + number * SECOND))
        assert await _listed(store, status="finished") == ["order-7", "order-4", "order-1"]
        assert await _listed(store, status="canceled") == []
        first = await store.list("pizza", status="finished", limit=2)
        assert [instance.id for instance in first.instances] == ["order-7", "order-4"]
        assert await _listed(store, status="finished", cursor=first.cursor) == ["order-1"]

    @asynchronously
    async def test_the_workflows_that_have_instances(self, make_store: MakeStore) -> None:
        store = make_store()
        assert await store.workflows() == []
        for workflow, id in (("pizza", "1"), ("pizza", "2"), ("Pizza-2", "1"), ("x", "3")):
            await store.create(an_instance(id, workflow=workflow), a_key(f"key-{id}"))
        assert sorted(await store.workflows()) == ["Pizza-2", "pizza", "x"]

    @asynchronously
    async def test_list_keeps_workflows_apart(self, make_store: MakeStore) -> None:
        store = make_store()
        await store.create(an_instance("order-1", workflow="pizza"))
        await store.create(an_instance("order-2", workflow="pasta"))
        assert await _listed(store, "pizza") == ["order-1"]
        assert await _listed(store, "pasta") == ["order-2"]
        assert await _listed(store, "soup") == []

    @asynchronously
    async def test_list_refuses_a_cursor_that_it_did_not_give(self, make_store: MakeStore) -> None:
        store = make_store()
        for number in range(2):
            await store.create(an_instance(f"order-{number}"))
        cursor = (await store.list("pizza", limit=1)).cursor
        assert cursor is not None
        for bad in ("", "x", "nonsense", "☕", "[" * 5_000, "9" * 5_000, cursor + "!", cursor + "=", cursor[1:]):
            with pytest.raises(InvalidRequest, match="cursor"):
                await store.list("pizza", cursor=bad)

    @asynchronously
    async def test_a_cursor_belongs_to_an_order(self, make_store: MakeStore) -> None:
        store = make_store()
        for number in range(2):
            await store.create(an_instance(f"order-{number}"))
        for order in Order:
            cursor = (await store.list("pizza", order=order, limit=1)).cursor
            assert cursor is not None
            for other in {*Order} - {order}:
                with pytest.raises(InvalidRequest, match="cursor"):
                    await store.list("pizza", order=other, cursor=cursor)

    @asynchronously
    async def test_an_instance_that_changes_is_not_missed(self, make_store: MakeStore) -> None:
        store = make_store()
        ids = ["B", "a", "a:1", "é", "🍕", "Z", "10", "9"]
        for number, id in enumerate(ids):  # two at each time
            instance = replace(an_instance(id), search={"shop": "north"})
            execution = replace(instance.execution, created_at=NOW + number // 2 * SECOND)
            await store.create(replace(instance, execution=execution))
        await store.create(an_instance("other", workflow="pasta"))
        ranks = {Order.CREATED: ["9", "10", "🍕", "Z", "é", "a:1", "a", "B"], Order.ID: sorted(ids)}
        filters: list[dict[str, Any]] = [{}, {"status": "waiting"}, {"search": {"shop": ["north"]}}]
        for (order, expected), given, limit in product(ranks.items(), filters, (1, 3, 8)):
            listed, cursor = list[str](), None
            while not listed or cursor is not None:
                page = await store.list("pizza", order=order, limit=limit, cursor=cursor, **given)
                listed += [instance.id for instance in page.instances]
                cursor = page.cursor
                last = await store.load("pizza", expected[-1])
                await store.commit(changed(last, updated_at=NOW + len(listed) * SECOND))
            assert listed == expected, (order, given, limit)

    @asynchronously
    async def test_an_instance_without_a_time_of_its_creation_is_listed_last(self, make_store: MakeStore) -> None:
        store = make_store()
        timeless = an_instance("z")
        timeless = replace(timeless, execution=replace(timeless.execution, created_at=None))
        await store.create(timeless)
        await store.create(an_instance("a"))
        assert (await store.load("pizza", "z")).execution == timeless.execution
        page = await store.list("pizza", order=Order.CREATED, limit=1)
        assert [instance.id for instance in page.instances] == ["a"]
        page = await store.list("pizza", order=Order.CREATED, limit=1, cursor=page.cursor)
        assert [instance.id for instance in page.instances] == ["z"] and page.cursor is None

    @asynchronously
    async def test_list_finds_by_one_of_several_values(self, make_store: MakeStore) -> None:
        store = make_store()
        values: list[Any] = ["5", 5, None, "null", True, 1]
        for number, value in enumerate(values):
            instance = an_instance(f"i-{number}", updated_at=NOW - number * SECOND)
            await store.create(replace(instance, search={"code": value, "shop": "north"}))
        await store.create(an_instance("without"))
        assert await _listed(store, search={"code": ["5", 5]}) == ["i-0", "i-1"]
        assert await _listed(store, search={"code": ["null", None]}) == ["i-2", "i-3"]
        assert await _listed(store, search={"code": [1, "1"], "shop": ["north", None]}) == ["i-5"]
        assert await _listed(store, search={"code": ["5", 5]}, order=Order.ID, status="waiting") == ["i-0", "i-1"]
        page = await store.list("pizza", search={"code": ["5", 5]}, limit=1)
        assert await _listed(store, search={"code": ["5", 5]}, cursor=page.cursor) == ["i-1"]

    @asynchronously
    async def test_list_finds_by_search_fields(self, make_store: MakeStore) -> None:
        store = make_store()
        values: list[Any] = ["1", 1, 1.5, True, False, None, "Jürgen ☕ 'x' \"y\" %", ""]
        for number, value in enumerate(values):
            status = Status.WAITING if number % 2 else Status.FAILED
            instance = an_instance(f"i-{number}", status=status, updated_at=NOW + number * SECOND)
            await store.create(replace(instance, search={"customer": value, "shop": "north"}))
        await store.create(an_instance("without"))
        for number, value in enumerate(values):
            assert await _listed(store, search={"customer": [value]}) == [f"i-{number}"], repr(value)
        assert await _listed(store, search={"customer": ["1"], "shop": ["north"]}) == ["i-0"]
        assert await _listed(store, search={"customer": ["1"], "shop": ["south"]}) == []
        assert await _listed(store, search={"customer": [1.0]}) == ["i-1"]
        assert await _listed(store, search={"shop": ["north"]}, status="failed") == ["i-6", "i-4", "i-2", "i-0"]
        first = await store.list("pizza", search={"shop": ["north"]}, status="failed", limit=3)
        assert await _listed(store, search={"shop": ["north"]}, status="failed", cursor=first.cursor) == ["i-0"]

    @asynchronously
    async def test_list_finds_whatever_may_be_searched_by(self, make_store: MakeStore) -> None:
        """All that ``search.py`` lets through, up to its limits."""
        store = make_store()
        name = "größe_数"
        values: list[Any] = [*(INTEGERS[0], INTEGERS[-1]), *(1e308, -1e-300, 0), *("x" * TEXT_BYTES_MAX, "🍕")]
        for number, value in enumerate(values):
            await store.create(replace(an_instance(f"i-{number}"), search={name: value}))
        await store.create(replace(an_instance("long"), search={name: "y" * (TEXT_BYTES_MAX + 1)}))
        assert len((await store.load("pizza", "long")).search[name]) == TEXT_BYTES_MAX + 1
        for number, value in enumerate(values):
            assert await _listed(store, search={name: [value]}) == [f"i-{number}"], repr(value)[:100]

    # --- due ---------------------------------------------------------------------------------

    @asynchronously
    async def test_due_gives_the_longest_overdue_first(self, make_store: MakeStore) -> None:
        store = make_store()
        for number in (2, 0, 3, 1):
            workflow = "pizza" if number % 2 else "pasta"
            await store.create(an_instance(f"order-{number}", workflow=workflow, wake_at=NOW + number * SECOND))
        await store.create(an_instance("waiting", wake_at=None))
        assert await _due(store, NOW + 9 * SECOND) == ["order-0", "order-1", "order-2", "order-3"]
        assert await _due(store, NOW + 9 * SECOND, limit=2) == ["order-0", "order-1"]

    @asynchronously
    async def test_due_includes_the_very_moment(self, make_store: MakeStore) -> None:
        store = make_store()
        await store.create(an_instance(wake_at=NOW))
        assert await _due(store, NOW - MICROSECOND) == []
        assert await _due(store, NOW) == ["order-1"]

    @asynchronously
    async def test_due_follows_commits(self, make_store: MakeStore) -> None:
        store = make_store()
        await store.create(an_instance(wake_at=NOW))
        assert list(await store.due(NOW)) == [Due("pizza", "order-1", Status.WAITING, NOW)]
        instance = await store.load("pizza", "order-1")
        instance = await store.commit(replace(changed(instance), wake_at=None))
        assert await _due(store, NOW) == []
        await store.commit(replace(changed(instance), wake_at=NOW - SECOND))
        assert await _due(store, NOW) == ["order-1"]

    @asynchronously
    async def test_due_goes_on_behind_an_instance(self, make_store: MakeStore) -> None:
        store = make_store()
        places = [("pizza", "b", 0), ("pizza", "a", 1), ("parcel", "z", 1), ("pizza", "b2", 1), ("pizza", "a2", 2)]
        for workflow, id, second in places:
            await store.create(an_instance(workflow=workflow, id=id, wake_at=NOW + second * SECOND))
        expected = await _due(store, NOW + 9 * SECOND)
        assert (expected[0], sorted(expected[1:4]), expected[4]) == ("b", ["a", "b2", "z"], "a2")
        for limit in (1, 2, 5):
            met: list[str] = []
            last = None
            while page := await store.due(NOW + 9 * SECOND, limit, after=last):
                met += [instance.id for instance in page]
                last = page[-1]
            assert met == expected, limit

    @asynchronously
    async def test_an_instance_is_postponed_until_it_is_due_again(self, make_store: MakeStore) -> None:
        store = make_store()
        await store.create(an_instance(wake_at=NOW))
        await store.create(an_instance("order-2", wake_at=NOW + SECOND))
        later = NOW
        for count in range(3):
            (due,) = await store.due(later)
            assert (due.id, due.wake_at, due.postponed) == ("order-1", later, count)
            later = NOW + (count + 1) * MICROSECOND
            await store.postpone(due, later)
            assert await _due(store, later - MICROSECOND) == []
            (postponed,) = await store.postponed(NOW)
            assert (postponed, postponed.postponed) == (
                Due("pizza", "order-1", Status.WAITING, later, count + 1),
                count + 1,
            )
            assert list(await store.postponed(later)) == []
        assert (await store.load("pizza", "order-1")).wake_at == later

    @asynchronously
    async def test_postponing_changes_nothing_else_and_a_commit_ends_it(self, make_store: MakeStore) -> None:
        store = make_store()
        await store.create(an_instance(wake_at=NOW))
        before = await store.load("pizza", "order-1", history=True)
        (due,) = await store.due(NOW)
        await store.postpone(due, NOW + 60 * SECOND)
        after = await store.load("pizza", "order-1", history=True)
        assert replace(after, version=before.version, wake_at=NOW) == before
        with pytest.raises(Conflict):
            await store.commit(changed(before))
        await store.commit(replace(changed(after), wake_at=NOW + SECOND))
        (due,) = await store.due(NOW + 90 * SECOND)
        assert (due.wake_at, due.postponed) == (NOW + SECOND, 0)
        assert list(await store.postponed(NOW)) == []
        await store.postpone(due, NOW + 90 * SECOND)
        assert [due.postponed for due in await store.postponed(NOW)] == [1], "it is counted anew"

    @asynchronously
    async def test_only_what_was_found_is_postponed(self, make_store: MakeStore) -> None:
        store = make_store()
        await store.create(an_instance(wake_at=NOW))
        (due,) = await store.due(NOW)
        await store.commit(replace(changed(await store.load("pizza", "order-1")), wake_at=NOW + SECOND))
        committed = await store.load("pizza", "order-1")
        await store.postpone(due, NOW + 60 * SECOND)
        await store.postpone(replace(due, id="gone"), NOW + 60 * SECOND)
        assert await store.load("pizza", "order-1") == committed
        assert list(await store.postponed(NOW)) == []

    @asynchronously
    async def test_the_postponed_come_page_by_page_the_soonest_first(self, make_store: MakeStore) -> None:
        store = make_store()
        for number in (2, 0, 3, 1):
            await store.create(an_instance(f"order-{number}", wake_at=NOW + number * SECOND))
        for due in await store.due(NOW + 9 * SECOND):
            await store.postpone(due, due.wake_at + 60 * SECOND)
        (lifted,) = [due for due in await store.postponed(NOW) if due.id == "order-2"]
        await store.commit(replace(changed(await store.load("pizza", lifted.id)), wake_at=NOW))
        for limit in (1, 2, 5):
            met: list[str] = []
            last = None
            while page := await store.postponed(NOW, limit, after=last):
                assert len(page) <= limit
                met += [due.id for due in page]
                last = page[-1]
            assert met == ["order-0", "order-1", "order-3"], limit

    # --- health ------------------------------------------------------------------------------

    @asynchronously
    async def test_ping_answers_whatever_the_store_holds(self, make_store: MakeStore) -> None:
        store = make_store()
        await store.ping()
        await store.create(an_instance())
        await store.ping()
        assert await _listed(store) == ["order-1"]

    # --- the end -----------------------------------------------------------------------------

    @asynchronously
    async def test_a_store_is_closed_twice_without_harm(self, make_store: MakeStore) -> None:
        store = make_store()
        await store.create(an_instance())
        await store.close()
        await store.close()
        assert (await make_store().load("pizza", "order-1")).id == "order-1"

    @asynchronously
    async def test_a_closed_store_can_do_nothing(self, make_store: MakeStore) -> None:
        store, other = make_store(), make_store()
        await store.create(an_instance())
        loaded = await store.load("pizza", "order-1")
        await store.close()
        calls = [
            store.create(an_instance("order-2")),
            store.load("pizza", "order-1"),
            store.commit(changed(loaded), [a_key()], [an_entry()]),
            store.post(an_entry()),
            store.inbox("pizza", "order-1"),
            store.discard([an_entry()]),
            store.uncollected(NOW),
            store.load_key("pizza", "order-1", "key-1", NOW),
            store.list("pizza"),
            store.workflows(),
            store.due(NOW),
            store.postpone(Due("pizza", "order-1", Status.WAITING, NOW, version=loaded.version), NOW),
            store.postponed(NOW),
            store.ping(),
        ]
        for call in calls:
            with pytest.raises(Unavailable, match="closed"):
                await call
        assert await other.load("pizza", "order-1") == loaded
        assert await _names(other) == []


async def _history(store: Store, id: str = "order-1") -> tuple[HistoryEntry, ...]:
    return (await store.load("pizza", id, history=True)).history


async def _listed(store: Store, workflow: str = "pizza", **arguments: Any) -> list[str]:
    return [instance.id for instance in (await store.list(workflow, **arguments)).instances]


async def _names(store: Store, **arguments: Any) -> list[str]:
    return [entry.name for entry in await store.inbox("pizza", "order-1", **arguments)]


async def _due(store: Store, before: datetime, **arguments: Any) -> list[str]:
    return [instance.id for instance in await store.due(before, **arguments)]
