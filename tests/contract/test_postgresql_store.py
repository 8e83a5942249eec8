"""The contract on PostgreSQL, and what is its own: its database, its tables, its errors."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from typing import TypeVar

import pytest

from cloud_adapter.document import encode
from cloud_adapter.errors import Conflict, DamagedDocument, DuplicateKey, SettingsError, Unavailable
from cloud_adapter.postgresql import schema
from cloud_adapter.postgresql.connections import Connections
from cloud_adapter.postgresql.schema import SCHEMA_VERSION
from cloud_adapter.sockets import free_ports
from cloud_adapter.stores.columns import EXPIRED_KEYS_PER_COMMIT
from cloud_adapter.stores.postgresql.store import PostgresqlStore
from tests.contract.keys_contract import KeysContract
from tests.contract.store_contract import (
    NOW,
    SECOND,
    StoreContract,
    a_full_instance,
    a_key,
    an_instance,
    changed,
    increment,
    some_entries,
)
from tests.emulator.harness import until
from tests.lossy_proxy import LossyProxy
from tests.postgresql import Server, running
from workflow_core import Status

T = TypeVar("T")


class TestPostgresqlStore(KeysContract, StoreContract):
    @pytest.fixture
    def make_store(self, postgresql_url: str) -> Callable[[], PostgresqlStore]:
        return lambda: PostgresqlStore(Connections(postgresql_url))


def use(url: str, work: Callable[[PostgresqlStore], Awaitable[T]]) -> T:
    """Opens a store, does the work, closes the store."""

    async def main() -> T:
        store = PostgresqlStore(Connections(url))
        try:
            return await work(store)
        finally:
            await store.close()

    return asyncio.run(main())


async def opened(store: PostgresqlStore) -> None:
    await store.connections.open()


# --- the tables ------------------------------------------------------------------------------


def test_a_newer_database_is_rejected_and_not_changed(postgresql_server: Server, postgresql_url: str) -> None:
    use(postgresql_url, opened)
    postgresql_server.execute(f"UPDATE gorchestrate.schema_version SET version = {SCHEMA_VERSION + 1}")
    with pytest.raises(SettingsError, match=f"has schema version {SCHEMA_VERSION + 1}, .*upgrade gorchestrate"):
        use(postgresql_url, opened)
    assert postgresql_server.execute("SELECT version FROM gorchestrate.schema_version")[0][0] == SCHEMA_VERSION + 1


def test_a_schema_of_another_program_is_rejected_and_not_changed(
    postgresql_server: Server, postgresql_url: str
) -> None:
    postgresql_server.execute("CREATE SCHEMA gorchestrate")
    postgresql_server.execute("CREATE TABLE gorchestrate.songs ()")
    with pytest.raises(SettingsError, match="of another program, with 'songs' in it"):
        use(postgresql_url, opened)
    tables = "SELECT relname FROM pg_class WHERE relnamespace = 'gorchestrate'::regnamespace"
    assert [tuple(row) for row in postgresql_server.execute(tables)] == [("songs",)]


def test_an_older_database_is_upgraded_once(
    postgresql_server: Server, postgresql_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(postgresql_url, lambda store: store.create(an_instance()))
    added = ("ALTER TABLE gorchestrate.instances ADD COLUMN shard INTEGER",)
    monkeypatch.setattr(schema, "VERSIONS", (*schema.VERSIONS, added))
    monkeypatch.setattr(schema, "SCHEMA_VERSION", SCHEMA_VERSION + 1)

    async def open_16() -> None:
        stores = [PostgresqlStore(Connections(postgresql_url)) for _ in range(16)]
        await asyncio.gather(*map(opened, stores))
        assert (await stores[3].load("pizza", "order-1")).id == "order-1"
        for store in stores:
            await store.close()

    asyncio.run(open_16())
    assert postgresql_server.execute("SELECT version FROM gorchestrate.schema_version")[0][0] == SCHEMA_VERSION + 1
    assert postgresql_server.execute("SELECT shard FROM gorchestrate.instances")[0][0] is None


def test_a_failed_upgrade_changes_nothing(
    postgresql_server: Server, postgresql_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(postgresql_url, opened)
    added = ("ALTER TABLE gorchestrate.instances ADD COLUMN shard INTEGER", "SELECT nothing")
    monkeypatch.setattr(schema, "VERSIONS", (*schema.VERSIONS, added))
    monkeypatch.setattr(schema, "SCHEMA_VERSION", SCHEMA_VERSION + 1)
    with pytest.raises(SettingsError, match="cannot be used"):
        use(postgresql_url, opened)
    assert postgresql_server.execute("SELECT version FROM gorchestrate.schema_version")[0][0] == SCHEMA_VERSION
    columns = "SELECT 1 FROM information_schema.columns WHERE table_schema = 'gorchestrate' AND column_name = 'shard'"
    assert not postgresql_server.execute(columns)


def test_a_user_who_may_not_create_tables_can_use_those_that_exist(
    postgresql_server: Server, postgresql_url: str
) -> None:
    use(postgresql_url, lambda store: store.create(an_instance(count=0)))
    for statement in (
        "DROP ROLE IF EXISTS clerk",
        "CREATE ROLE clerk LOGIN",
        "GRANT USAGE ON SCHEMA gorchestrate TO clerk",
        "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA gorchestrate TO clerk",
    ):
        postgresql_server.execute(statement)
    as_clerk = postgresql_url.replace("postgres@", "clerk@")
    assert use(as_clerk, lambda store: increment(store, "pizza", "order-1")) == 1
    postgresql_server.execute("DROP OWNED BY clerk")
    with pytest.raises(SettingsError, match="cannot be used: permission denied"):
        use(as_clerk, opened)
    postgresql_server.execute("DROP ROLE clerk")


def test_an_instance_that_is_deleted_takes_its_history_with_it(postgresql_server: Server, postgresql_url: str) -> None:
    instance = replace(an_instance(), new_entries=some_entries(0, 3))
    use(postgresql_url, lambda store: store.create(instance))
    postgresql_server.execute("DELETE FROM gorchestrate.instances")
    use(postgresql_url, lambda store: store.create(instance))
    assert postgresql_server.execute("SELECT count(*) FROM gorchestrate.history_entries")[0][0] == 3


def test_expired_keys_are_deleted_bit_by_bit(postgresql_server: Server, postgresql_url: str) -> None:
    async def work(store: PostgresqlStore) -> None:
        for number in range(15):
            old = an_instance(f"old-{number}", updated_at=NOW - SECOND)
            await store.create(old, a_key(expires_at=NOW))
        await store.create(an_instance(updated_at=NOW - SECOND), a_key(expires_at=NOW))
        loaded = await store.load("pizza", "order-1")
        await store.commit(changed(loaded, updated_at=NOW), [a_key("new")])

    use(postgresql_url, work)
    count = "SELECT count(*) FROM gorchestrate.idempotency_keys"
    assert postgresql_server.execute(count)[0][0] == 17 - EXPIRED_KEYS_PER_COMMIT


def test_a_commit_that_records_several_keys_deletes_more_expired_ones(
    postgresql_server: Server, postgresql_url: str
) -> None:
    """Otherwise more would be recorded than are deleted."""

    async def work(store: PostgresqlStore) -> None:
        old = [a_key(f"old-{number}", expires_at=NOW) for number in range(25)]
        await store.create(an_instance(updated_at=NOW - SECOND))
        await store.commit(changed(await store.load("pizza", "order-1"), updated_at=NOW - SECOND), old)
        new = [a_key(f"new-{number}") for number in range(2)]
        await store.commit(changed(await store.load("pizza", "order-1"), updated_at=NOW), new)

    use(postgresql_url, work)
    count = "SELECT count(*) FROM gorchestrate.idempotency_keys WHERE key LIKE 'old-%'"
    assert postgresql_server.execute(count)[0][0] == 25 - 2 * EXPIRED_KEYS_PER_COMMIT


# --- damage ----------------------------------------------------------------------------------


def test_a_damaged_document_is_named_and_does_not_hide_others(postgresql_server: Server, postgresql_url: str) -> None:
    async def create(store: PostgresqlStore) -> None:
        for number in range(4):
            at = NOW + number * SECOND
            await store.create(an_instance(f"order-{number}", updated_at=at, wake_at=at))

    use(postgresql_url, create)
    damage = "UPDATE gorchestrate.instances SET search = '{', status = 'odd', execution = '' WHERE id = 'order-2'"
    postgresql_server.execute(damage)

    async def work(store: PostgresqlStore) -> None:
        for limit in (1, 2, 9):
            ids, damaged, cursor = list[str](), list[str](), None
            while not ids or cursor is not None:
                page = await store.list("pizza", limit=limit, cursor=cursor)
                ids += [summary.id for summary in page.instances]
                damaged += page.damaged
                cursor = page.cursor
            assert ids == ["order-3", "order-1", "order-0"], limit
            assert damaged and all("'order-2' cannot be read" in reason for reason in damaged)
        assert [due.id for due in await store.due(NOW + 9 * SECOND)] == ["order-0", "order-1", "order-3"]
        with pytest.raises(DamagedDocument, match="'order-2' cannot be read"):
            await store.load("pizza", "order-2")

    use(postgresql_url, work)


# --- errors ----------------------------------------------------------------------------------


def test_a_missing_database_and_a_missing_user_are_settings(postgresql_server: Server) -> None:
    for url, reason in (
        (postgresql_server.url("nowhere"), '"nowhere" does not exist'),
        (postgresql_server.url().replace("postgres@", "nobody:secret@"), '"nobody" does not exist'),
    ):
        with pytest.raises(SettingsError, match=reason) as caught:
            use(url, opened)
        assert "secret" not in str(caught.value)


def test_a_server_that_does_not_answer_is_unavailable() -> None:
    (port,) = free_ports(1)
    with pytest.raises(Unavailable, match=r"could not use postgresql://127\.0\.0\.1"):
        use(f"postgresql://postgres@127.0.0.1:{port}/x", lambda store: store.ping())


def through(server: Server, work: Callable[[PostgresqlStore, LossyProxy], Awaitable[None]]) -> None:
    """Uses a store through a proxy that loses connections."""

    async def main() -> None:
        async with LossyProxy(server.port).running() as proxy:
            url = f"postgresql://postgres@127.0.0.1:{proxy.port}/postgres?connections=1"
            store = PostgresqlStore(Connections(url))
            try:
                await store.ping()
                await work(store, proxy)
            finally:
                await store.close()

    asyncio.run(main())


def test_a_lost_connection_before_a_commit_writes_nothing(postgresql_server: Server, postgresql_url: str) -> None:
    async def work(store: PostgresqlStore, proxy: LossyProxy) -> None:
        await store.create(an_instance(count=0))
        loaded = await store.load("pizza", "order-1")
        proxy.requests_lost = 1
        with pytest.raises(Unavailable):
            await store.commit(changed(loaded, count=1), [a_key()])
        assert await store.load("pizza", "order-1") == loaded
        await store.commit(changed(loaded, count=1), [a_key()])

    through(postgresql_server, work)


def test_a_lost_reply_of_a_commit_is_uncertain(postgresql_server: Server, postgresql_url: str) -> None:
    async def work(store: PostgresqlStore, proxy: LossyProxy) -> None:
        await store.create(an_instance(count=0))
        loaded = await store.load("pizza", "order-1")
        await store.commit(changed(loaded, count=1))  # the statement is prepared now
        loaded = await store.load("pizza", "order-1")
        proxy.replies_lost = 1
        change = replace(changed(loaded, count=2), tokens=("mine",))
        with pytest.raises(Unavailable):
            await store.commit(change)
        current = await store.load("pizza", "order-1")
        assert current.tokens == ("mine",)
        with pytest.raises(Conflict):
            await store.commit(change)

    through(postgresql_server, work)


def test_reads_survive_lost_connections(postgresql_server: Server, postgresql_url: str) -> None:
    async def work(store: PostgresqlStore, proxy: LossyProxy) -> None:
        await store.create(an_instance(count=0))
        for lost in ("requests_lost", "replies_lost"):
            setattr(proxy, lost, 1)
            assert (await store.load("pizza", "order-1")).id == "order-1"
        proxy.cut()
        assert (await store.load("pizza", "order-1")).id == "order-1"

    through(postgresql_server, work)


def test_a_read_survives_the_loss_of_all_connections(postgresql_server: Server, postgresql_url: str) -> None:
    end_all = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND datname = "

    async def work(store: PostgresqlStore) -> None:
        await store.create(an_instance(count=0))
        for _ in range(3):
            await asyncio.gather(*(store.load("pizza", "order-1") for _ in range(10)))
            await asyncio.to_thread(postgresql_server.execute, f"{end_all} current_database()")
            assert (await store.load("pizza", "order-1")).id == "order-1"

    use(postgresql_url, work)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_a_server_that_restarts_loses_nothing(mode: str) -> None:
    with running(durable=True) as server:

        async def main() -> None:
            store = PostgresqlStore(Connections(server.url()))
            await store.create(an_instance(count=0))
            counts = list[int]()

            async def count() -> None:
                while len(counts) < 200:
                    try:
                        counts.append(await increment(store, "pizza", "order-1"))
                    except Unavailable:
                        await asyncio.sleep(0.05)

            counting = asyncio.create_task(count())
            await until(lambda: len(counts) >= 20)
            await asyncio.to_thread(server.stop, mode)
            with pytest.raises(Unavailable):
                await store.load("pizza", "order-1")
            await asyncio.to_thread(server.start)
            await counting
            assert counts == sorted(set(counts))
            # A commit whose reply was lost counts, and nobody was told.
            assert 200 <= counts[-1] <= 201
            await store.close()

        asyncio.run(main())


def test_a_pooler_that_supports_no_prepared_statements(postgresql_url: str) -> None:
    async def work(store: PostgresqlStore) -> None:
        await store.create(an_instance(count=0), a_key())
        assert await increment(store, "pizza", "order-1") == 1
        with pytest.raises(DuplicateKey, match="key-1"):
            await store.commit(await store.load("pizza", "order-1"), [a_key()])

    use(f"{postgresql_url}?prepared_statements=off", work)


def test_times_and_texts_are_stored_as_they_are(postgresql_server: Server, postgresql_url: str) -> None:
    full = a_full_instance()
    use(postgresql_url, lambda store: store.create(full))
    (row,) = postgresql_server.execute("SELECT * FROM gorchestrate.instances")
    document = encode(full)
    for name in ("workflow", "id", "status", "pc", "updated_at", "wake_at", "execution", "fields", "lease", "tokens"):
        assert row[name] == document[name], name
    assert row["wake_at"] - row["updated_at"] == timedelta(days=365, microseconds=1)
    assert row["status"] == Status.RUNNING
