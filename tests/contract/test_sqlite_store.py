"""The contract on SQLite, and what is SQLite's own: its file, the processes that share it, its errors."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import resource
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

import pytest

from cloud_adapter.document import encode
from cloud_adapter.errors import (
    Conflict,
    DamagedDocument,
    InstanceExists,
    InvalidRequest,
    SettingsError,
    Unavailable,
)
from cloud_adapter.sqlite_store import COLUMNS, EXPIRED_KEYS_PER_COMMIT, SCHEMA_VERSION, SqliteStore
from tests.contract.store_contract import (
    NOW,
    SECOND,
    StoreContract,
    a_full_instance,
    a_key,
    an_instance,
    changed,
    increment,
)

ROOT = Path(__file__).parents[2]

T = TypeVar("T")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store ☕.db"


class TestSqliteStore(StoreContract):
    @pytest.fixture
    def make_store(self, path: Path) -> Callable[[], SqliteStore]:
        return lambda: SqliteStore(path)


def use(path: Path, work: Callable[[SqliteStore], Awaitable[T]], *, busy_timeout_ms: int = 10_000) -> T:
    """Opens a store, does the work, closes the store."""

    async def main() -> T:
        store = SqliteStore(path, busy_timeout_ms=busy_timeout_ms)
        try:
            return await work(store)
        finally:
            await store.close()

    return asyncio.run(main())


def execute(path: Path, statement: str, *parameters: object) -> list[tuple[object, ...]]:
    """What a person does with the sqlite3 shell."""
    with closing(sqlite3.connect(path)) as connection, connection:
        return connection.execute(statement, parameters).fetchall()


# --- processes -------------------------------------------------------------------------------


def process(call: str, *arguments: object) -> subprocess.Popen[str]:
    """Calls a function of this file in a new process; it starts when a line is written to it."""
    code = f"import sys; from tests.contract import test_sqlite_store; test_sqlite_store.{call}(*sys.argv[1:])"
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(command, cwd=ROOT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def report(text: object) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def count_in_process(path: str, times: str) -> None:
    async def work(store: SqliteStore) -> None:
        with suppress(InstanceExists):
            await store.create(an_instance(count=0))
        for _ in range(int(times)):
            report(await increment(store, "pizza", "order-1"))

    sys.stdin.readline()
    use(Path(path), work)


def write_in_process_until_killed(path: str) -> None:
    async def work(store: SqliteStore) -> None:
        while True:
            instance = await store.load("pizza", "order-1")
            count = json.loads(instance.fields)["count"] + 1
            await store.commit(changed(instance, count=count, ballast="x" * 50_000), [a_key(f"key-{count}")])
            report(count)

    use(Path(path), work)


def fill_disk_in_process(path: str) -> None:
    async def work(store: SqliteStore) -> None:
        await store.create(an_instance(count=0))
        before = await store.load("pizza", "order-1")
        _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, hard))
        with pytest.raises(Unavailable, match="SQLite could not use"):
            await store.commit(changed(before, ballast="x" * 500_000))
        assert await store.load("pizza", "order-1") == before
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
        await store.commit(changed(before, ballast="x" * 500_000))
        report("ok")

    use(Path(path), work)


def test_processes_that_make_the_file_and_count_in_it_lose_nothing(path: Path) -> None:
    processes = [process("count_in_process", path, 20) for _ in range(4)]
    for each in processes:
        assert each.stdin is not None
        each.stdin.write("go\n")
        each.stdin.flush()
    counts = [int(line) for each in processes for line in each.communicate()[0].split()]
    assert [each.returncode for each in processes] == [0] * 4
    assert sorted(counts) == list(range(1, 81))
    instance = use(path, lambda store: store.load("pizza", "order-1"))
    assert json.loads(instance.fields) == {"count": 80}


def test_a_killed_process_leaves_every_commit_that_it_acknowledged(path: Path) -> None:
    use(path, lambda store: store.create(an_instance(count=0)))
    acknowledged = 0
    for commits in (1, 7, 30):
        with process("write_in_process_until_killed", path) as writer:
            assert writer.stdout is not None
            for _ in range(commits):
                acknowledged = int(writer.stdout.readline())
            writer.send_signal(signal.SIGKILL)
            for line in writer.stdout:  # what it had reported before it died
                acknowledged = int(line) if line.endswith("\n") else acknowledged
        instance = use(path, lambda store: store.load("pizza", "order-1"))
        count = json.loads(instance.fields)["count"]
        assert count in (acknowledged, acknowledged + 1)  # one may have been saved and not reported
        assert execute(path, "SELECT count(*) FROM idempotency_keys") == [(count,)]
        assert execute(path, "PRAGMA integrity_check") == [("ok",)]


def test_a_full_disk_is_unavailable_and_loses_nothing(path: Path) -> None:
    assert process("fill_disk_in_process", path).communicate()[0] == "ok\n"


def test_many_may_make_the_file_at_once(tmp_path: Path) -> None:
    def open_and_close(path: Path) -> None:
        use(path, lambda store: store.list("pizza"))

    with ThreadPoolExecutor(8) as pool:
        for number in range(5):
            list(pool.map(open_and_close, [tmp_path / f"{number}.db"] * 8))
            assert execute(tmp_path / f"{number}.db", "PRAGMA journal_mode") == [("wal",)]


# --- the file --------------------------------------------------------------------------------


def test_the_file_is_kept(path: Path) -> None:
    use(path, lambda store: store.create(a_full_instance()))
    before = path.read_bytes()
    assert use(path, lambda store: store.load("pizza", "order-1")).search == a_full_instance().search
    assert path.read_bytes() == before


def test_a_newer_schema_is_refused(path: Path) -> None:
    use(path, lambda store: store.create(an_instance()))
    execute(path, f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    with pytest.raises(SettingsError, match=f"{path}.* schema version {SCHEMA_VERSION + 1}.*upgrade gorchestrate"):
        SqliteStore(path)


@pytest.mark.parametrize("statement", ["CREATE TABLE theirs (a)", "PRAGMA application_id = 7", "PRAGMA user_version=1"])
def test_the_database_of_another_program_is_refused_and_left_alone(path: Path, statement: str) -> None:
    execute(path, statement)
    before = path.read_bytes()
    with pytest.raises(SettingsError, match=f"{path}.* belongs to another program: name another file"):
        SqliteStore(path)
    assert path.read_bytes() == before


def test_a_file_that_is_no_database_is_refused_and_left_alone(path: Path) -> None:
    path.write_text("customer;pizza\n" * 1000)
    with pytest.raises(SettingsError, match=f"{path} is not a SQLite database"):
        SqliteStore(path)
    assert path.read_text() == "customer;pizza\n" * 1000


def test_a_missing_directory_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=f"create the directory {tmp_path}/missing first"):
        SqliteStore(tmp_path / "missing" / "store.db")
    assert list(tmp_path.iterdir()) == []


def test_a_directory_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=f"{tmp_path} cannot be written"):
        SqliteStore(tmp_path)


def test_a_file_that_cannot_be_written_is_refused(path: Path) -> None:
    use(path, lambda store: store.create(an_instance()))
    path.chmod(0o444)
    try:
        with path.open("ab"):
            pytest.skip("this user may write every file")
    except PermissionError:
        pass
    with pytest.raises(SettingsError, match=f"{path} cannot be written"):
        SqliteStore(path)


def test_the_path_may_be_a_text(path: Path) -> None:
    async def main() -> None:
        await SqliteStore(str(path)).close()

    asyncio.run(main())
    assert path.exists()


def test_commits_are_synced(path: Path) -> None:
    async def work(store: SqliteStore) -> tuple[int]:
        pragma = "PRAGMA synchronous"
        synchronous: tuple[int] = await store._run(lambda connection: connection.execute(pragma).fetchone())
        return synchronous

    assert use(path, work) == (2,)


# --- errors ----------------------------------------------------------------------------------


def test_a_file_that_stays_locked_is_unavailable(path: Path) -> None:
    async def work(store: SqliteStore) -> None:
        await store.create(an_instance())
        loaded = await store.load("pizza", "order-1")
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(Unavailable, match="locked"):
                await store.commit(changed(loaded))
            with pytest.raises(Unavailable, match="locked"):
                SqliteStore(path, busy_timeout_ms=0)
            assert await store.load("pizza", "order-1") == loaded  # a reader never waits for a writer
            other.execute("ROLLBACK")
        await store.commit(changed(loaded))

    use(path, work, busy_timeout_ms=0)


def test_any_other_error_of_sqlite_is_unavailable(path: Path) -> None:
    async def work(store: SqliteStore) -> None:
        execute(path, "DROP TABLE instances")
        with pytest.raises(Unavailable, match="no such table: instances"):
            await store.load("pizza", "order-1")

    use(path, work)


def test_a_closed_store_is_unavailable(path: Path) -> None:
    async def main() -> None:
        store = SqliteStore(path)
        pending = asyncio.gather(*(store.create(an_instance(f"order-{number}")) for number in range(3)))
        await asyncio.wait([pending], timeout=0)  # lets them start
        await store.close()
        await pending
        with pytest.raises(Unavailable, match="closed"):
            await store.load("pizza", "order-1")

    asyncio.run(main())


def test_a_limit_below_one_is_refused(path: Path) -> None:
    async def work(store: SqliteStore) -> None:
        for limit in (0, -1, 10**30):
            with pytest.raises(InvalidRequest, match="limit"):
                await store.list("pizza", limit=limit)
            with pytest.raises(InvalidRequest, match="limit"):
                await store.due(NOW, limit=limit)

    use(path, work)


def test_a_forged_cursor_is_refused(path: Path) -> None:
    async def work(store: SqliteStore) -> None:
        for text in (f"{2**63}:order-1", f"-{2**70}:order-1", "1_0:order-1", "+1:order-1", "1", ":", "1.5:order-1"):
            cursor = base64.urlsafe_b64encode(text.encode()).rstrip(b"=").decode()
            with pytest.raises(InvalidRequest, match="is not a cursor"):
                await store.list("pizza", cursor=cursor)

    use(path, work)


def test_a_caller_that_gives_up_leaves_no_transaction_open(path: Path) -> None:
    async def work(store: SqliteStore) -> None:
        caller = asyncio.create_task(store.create(an_instance("order-1")))
        await asyncio.wait([caller], timeout=0)  # lets it start
        caller.cancel()
        await asyncio.wait([caller])
        assert caller.cancelled()
        await store.create(an_instance("order-2"))
        execute(path, "DELETE FROM instances")  # nobody holds the lock

    use(path, work)


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("execution", "{}"),
        ("execution", "[" * 100_000),
        ("execution", b"\xff\xfe"),
        ("fields", b'{"name": "\xff"}'),
        ("history", "[1]"),
        ("lease", "{"),
        ("search", "[]"),
        ("search", "[" * 100_000),
        ("search", "{"),
        ("tokens", b"\xff"),
        ("wake_at", "yesterday"),
        ("updated_at", 2**62),
        ("format", 99),
        ("format", "one"),
    ],
)
def test_a_damaged_row_harms_no_other(path: Path, caplog: pytest.LogCaptureFixture, column: str, value: object) -> None:
    async def work(store: SqliteStore) -> None:
        for number in range(3):
            await store.create(an_instance(f"order-{number}", updated_at=NOW + number * SECOND, wake_at=NOW))
        execute(path, f"UPDATE instances SET {column} = ? WHERE id = 'order-1'", value)
        with pytest.raises(DamagedDocument, match="'pizza' 'order-1'"):
            await store.load("pizza", "order-1")
        with caplog.at_level(logging.WARNING):
            page = await store.list("pizza", limit=2)
        assert [instance.id for instance in page.instances] == ["order-2", "order-0"]
        assert "left out: the document of 'pizza' 'order-1'" in caplog.text
        assert [one for one in page.damaged if "order-1" in one] == list(page.damaged) != []
        assert [instance.id for instance in await store.due(NOW, limit=2)] == ["order-0", "order-2"]
        await store.commit(changed(await store.load("pizza", "order-0")))

    use(path, work)


def test_a_damaged_key_is_told(path: Path) -> None:
    async def work(store: SqliteStore) -> None:
        await store.create(an_instance(), a_key())
        execute(path, "UPDATE idempotency_keys SET response = ?", b"\xff")
        with pytest.raises(DamagedDocument, match="'key-1'"):
            await store.load_key("pizza", "order-1", "key-1", NOW)

    use(path, work)


# --- tables ----------------------------------------------------------------------------------


def test_every_value_of_a_document_has_its_column() -> None:
    assert set(COLUMNS) == set(encode(an_instance()))


def test_expired_keys_are_deleted_a_few_at_a_time(path: Path) -> None:
    async def work(store: SqliteStore) -> None:
        await store.create(an_instance())
        instance = await store.load("pizza", "order-1")
        for number in range(15):
            expires_at = NOW + timedelta(seconds=1 + number)
            instance = await store.commit(changed(instance), [a_key(f"key-{number}", expires_at=expires_at)])
        last_expiry = NOW + timedelta(seconds=15)
        again = a_key("key-14", response='"again"', expires_at=NOW + timedelta(hours=1))  # not among those deleted
        instance = await store.commit(changed(instance, updated_at=last_expiry), [again])
        assert execute(path, "SELECT count(*) FROM idempotency_keys") == [(15 - EXPIRED_KEYS_PER_COMMIT,)]
        assert await store.load_key("pizza", "order-1", "key-14", last_expiry) == again
        await store.commit(changed(instance), [a_key("a", expires_at=NOW + timedelta(hours=1))])
        assert execute(path, "SELECT key FROM idempotency_keys ORDER BY key") == [("a",), ("key-14",)]

    use(path, work)


def test_no_query_reads_or_sorts_more_than_it_returns(path: Path) -> None:
    async def work(store: SqliteStore) -> list[str]:
        queries: list[str] = []
        await store._run(lambda connection: connection.set_trace_callback(queries.append))
        await store.create(an_instance(), a_key())
        instance = await store.load("pizza", "order-1")
        await store.commit(changed(instance), [a_key("key-2")])
        with pytest.raises(Conflict):
            await store.commit(changed(instance))
        await store.load_key("pizza", "order-1", "key-1", NOW)
        await store.due(NOW)
        await store.create(an_instance("order-2"))
        for status in (None, "waiting"):
            cursor = (await store.list("pizza", status=status, limit=1)).cursor
            assert (await store.list("pizza", status=status, cursor=cursor)).instances
        await store._run(lambda connection: connection.set_trace_callback(None))
        return queries

    used = set()
    for query in use(path, work):
        if query.startswith(("SELECT", "UPDATE", "DELETE")):
            plan = [str(row[3]) for row in execute(path, f"EXPLAIN QUERY PLAN {query}")]
            steps = [line for line in plan if "SUBQUERY" not in line]
            assert steps
            assert all(line.startswith("SEARCH") for line in steps), (query, plan)
            used |= {word for line in steps for word in line.split() if "_by_" in word or word.endswith("_due")}
    assert used == {"instances_by_update", "instances_by_status", "instances_due", "idempotency_keys_by_expiry"}
