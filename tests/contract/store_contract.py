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
from itertools import chain
from typing import Any

import pytest

from cloud_adapter.document import DOCUMENT_BYTES_MAX, HistoryEntry, Instance, KeyRecord, Lease
from cloud_adapter.errors import Conflict, DuplicateKey, InstanceExists, InstanceNotFound, InvalidRequest, TooLarge
from cloud_adapter.ports import Store
from cloud_adapter.searching import INTEGERS, TEXT_BYTES_MAX
from workflow_core.execution import (
    ErrorInfo,
    Execution,
    Status,
    Teardown,
    Thread,
    ThreadStatus,
    Wait,
    WaitKind,
    WaitStatus,
)

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
    waits = [
        Wait("Pay", WaitKind.HANDLER, WaitStatus.SETUP_ERROR, "t-7", None, {"url": text, "n": [1, None]}, 2, NOW, text),
        Wait("timed out", WaitKind.TIMEOUT, WaitStatus.SET_UP, "t-7", NOW + MICROSECOND, "timer-1"),
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
        teardowns=[Teardown("s", "E", "main-3", True, {"a": 1}, WaitStatus.TEARDOWN_ERROR, 2, NOW, text)],
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
        history=(
            HistoryEntry(NOW - SECOND, "created"),
            HistoryEntry(NOW, "step", "notify kitchen", "main", 12, 1.25, text),
        ),
        wake_at=NOW + timedelta(days=365, microseconds=1),
        tokens=("token-1", "token-2"),
        search={"customer": "Jürgen ☕", "total": 12.5, "count": 3, "vip": True, "coupon": None},
    )


def a_key(key: str = "key-1", *, response: str = "{}", expires_at: datetime = NOW + SECOND) -> KeyRecord:
    return KeyRecord(key, "fingerprint ☕", response, expires_at)


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
            assert loaded == replace(instance, version=loaded.version)

    @asynchronously
    async def test_load_returns_exactly_what_was_committed(self, make_store: MakeStore) -> None:
        store = make_store()
        await store.create(an_instance())
        for wanted in (a_full_instance(), an_instance(count=1), a_full_instance()):
            before = await store.load("pizza", "order-1")
            committed = await store.commit(replace(wanted, version=before.version))
            assert committed == replace(wanted, version=committed.version)
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
        renewed = replace(key, response='"again"', expires_at=NOW + 9 * SECOND)
        with pytest.raises(DuplicateKey):
            await store.commit(changed(loaded, updated_at=key.expires_at - MICROSECOND), [renewed])
        await store.commit(changed(loaded, updated_at=key.expires_at), [renewed])
        assert await store.load_key("pizza", "order-1", "key-1", key.expires_at) == renewed

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

    # --- limits ------------------------------------------------------------------------------

    @asynchronously
    async def test_too_large_names_the_largest_field_and_writes_nothing(self, make_store: MakeStore) -> None:
        store = make_store()
        large = {"small": "x" * 100, "photo": "x" * DOCUMENT_BYTES_MAX}
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
    async def test_list_gives_what_load_gives(self, make_store: MakeStore) -> None:
        store = make_store()
        await store.create(a_full_instance())
        page = await store.list("pizza")
        assert list(page.instances) == [await store.load("pizza", "order-1")]
        assert page.cursor is None
        (listed,) = page.instances
        await store.commit(changed(listed))

    @asynchronously
    async def test_list_of_nothing(self, make_store: MakeStore) -> None:
        page = await make_store().list("pizza")
        assert list(page.instances) == []
        assert page.cursor is None

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
    async def test_list_finds_by_search_fields(self, make_store: MakeStore) -> None:
        store = make_store()
        values: list[Any] = ["1", 1, 1.5, True, False, None, "Jürgen ☕ 'x' \"y\" %", ""]
        for number, value in enumerate(values):
            status = Status.WAITING if number % 2 else Status.FAILED
            instance = an_instance(f"i-{number}", status=status, updated_at=NOW + number * SECOND)
            await store.create(replace(instance, search={"customer": value, "shop": "north"}))
        await store.create(an_instance("without"))
        for number, value in enumerate(values):
            assert await _listed(store, search={"customer": value}) == [f"i-{number}"], repr(value)
        assert await _listed(store, search={"customer": "1", "shop": "north"}) == ["i-0"]
        assert await _listed(store, search={"customer": "1", "shop": "south"}) == []
        assert await _listed(store, search={"customer": 1.0}) == ["i-1"]
        assert await _listed(store, search={"shop": "north"}, status="failed") == ["i-6", "i-4", "i-2", "i-0"]
        first = await store.list("pizza", search={"shop": "north"}, status="failed", limit=3)
        assert await _listed(store, search={"shop": "north"}, status="failed", cursor=first.cursor) == ["i-0"]

    @asynchronously
    async def test_list_finds_whatever_may_be_searched_by(self, make_store: MakeStore) -> None:
        """All that ``searching`` lets through, up to its limits."""
        store = make_store()
        name = "größe_数"
        values: list[Any] = [*(INTEGERS[0], INTEGERS[-1]), *(1e308, -1e-300, 0), *("x" * TEXT_BYTES_MAX, "🍕")]
        for number, value in enumerate(values):
            await store.create(replace(an_instance(f"i-{number}"), search={name: value}))
        await store.create(replace(an_instance("long"), search={name: "y" * (TEXT_BYTES_MAX + 1)}))
        assert len((await store.load("pizza", "long")).search[name]) == TEXT_BYTES_MAX + 1
        for number, value in enumerate(values):
            assert await _listed(store, search={name: value}) == [f"i-{number}"], repr(value)[:100]

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
        (instance,) = await store.due(NOW)
        assert instance == await store.load("pizza", "order-1")
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

    # --- the end -----------------------------------------------------------------------------

    @asynchronously
    async def test_a_store_is_closed_twice_without_harm(self, make_store: MakeStore) -> None:
        store = make_store()
        await store.create(an_instance())
        await store.close()
        await store.close()
        assert (await make_store().load("pizza", "order-1")).id == "order-1"


async def _listed(store: Store, workflow: str = "pizza", **arguments: Any) -> list[str]:
    return [instance.id for instance in (await store.list(workflow, **arguments)).instances]


async def _due(store: Store, before: datetime, **arguments: Any) -> list[str]:
    return [instance.id for instance in await store.due(before, **arguments)]
