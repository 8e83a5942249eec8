"""The contract on SQLite, and what is SQLite's own: its file, the processes that share it, its errors."""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import logging
import resource
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import pytest
from pydantic_core import to_json

from cloud_adapter.document import encode
from cloud_adapter.errors import (
    Conflict,
    DamagedDocument,
    InstanceExists,
    InvalidRequest,
    SettingsError,
    Unavailable,
)
from cloud_adapter.history import HISTORY_MAX
from cloud_adapter.ports import Order
from cloud_adapter.stores.columns import COLUMNS, EXPIRED_KEYS_PER_COMMIT
from cloud_adapter.stores.sqlite import connections, schema
from cloud_adapter.stores.sqlite.schema import SCHEMA_VERSION
from cloud_adapter.stores.sqlite.store import SqliteStore
from tests.contract.held_writes import held
from tests.contract.keys_contract import KeysContract
from tests.contract.local_contract import LocalContract
from tests.contract.store_contract import (
    NOW,
    SECOND,
    StoreContract,
    a_full_instance,
    a_key,
    an_entry,
    an_instance,
    changed,
    increment,
    some_entries,
)
from workflow_core import Status

ROOT = Path(__file__).parents[2]

SCHEMA_OF_VERSION_1 = """
    CREATE TABLE instances (
        workflow TEXT NOT NULL, id TEXT NOT NULL, revision INTEGER NOT NULL, format INTEGER NOT NULL,
        status TEXT NOT NULL, pc INTEGER NOT NULL,
        created_at INTEGER, updated_at INTEGER NOT NULL, wake_at INTEGER,
        lease TEXT, tokens TEXT NOT NULL, search TEXT NOT NULL,
        execution TEXT NOT NULL, fields TEXT NOT NULL, history TEXT NOT NULL,
        PRIMARY KEY (workflow, id)
    );
    CREATE INDEX instances_by_update ON instances (workflow, updated_at, id);
    CREATE INDEX instances_by_status ON instances (workflow, status, updated_at, id);
    CREATE INDEX instances_due ON instances (wake_at) WHERE wake_at IS NOT NULL;
    CREATE TABLE idempotency_keys (
        workflow TEXT NOT NULL, id TEXT NOT NULL, key TEXT NOT NULL, expires_at INTEGER NOT NULL,
        fingerprint TEXT NOT NULL, response TEXT NOT NULL,
        PRIMARY KEY (workflow, id, key)
    );
    CREATE INDEX idempotency_keys_by_expiry ON idempotency_keys (expires_at);
    PRAGMA application_id = 1735357027;
    PRAGMA user_version = 1;
    PRAGMA journal_mode = WAL;
"""
"""What the releases made that knew no inbox. It never changes."""

T = TypeVar("T")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store ☕.db"


class TestSqliteStore(KeysContract, LocalContract, StoreContract):
    @pytest.fixture(autouse=True)
    def set_backup(self, path: Path) -> None:
        def copy(source: Path, target: Path) -> None:
            with closing(sqlite3.connect(source)) as one, closing(sqlite3.connect(target)) as other:
                one.backup(other)

        def backup() -> Callable[[], None]:
            copy(path, kept := path.with_name("backup.db"))
            return lambda: copy(kept, path)

        self.backup = backup

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


OLD_HISTORY = to_json(a_full_instance().new_entries).decode()
"""The history of that instance, as releases stored it that kept it in the document."""


def make_version_1(path: Path) -> None:
    """The file of a release that knew no inbox, with an instance and its key."""
    newer = path.with_name("newer.db")
    use(newer, lambda store: store.create(a_full_instance(), a_key()))
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(SCHEMA_OF_VERSION_1)
        connection.execute("ATTACH ? AS newer", (str(newer),))
        with connection:
            for table in ("instances", "idempotency_keys"):
                columns = ", ".join(name for _, name, *_ in connection.execute(f"PRAGMA main.table_info({table})"))
                connection.execute(f"INSERT INTO {table} ({columns}) SELECT {columns} FROM newer.{table}")
            connection.execute("UPDATE instances SET history = ?", (OLD_HISTORY,))


def layout(path: Path) -> list[tuple[object, ...]]:
    return [
        *execute(path, "SELECT name, replace(sql, ' ', '') FROM sqlite_master ORDER BY name"),
        *execute(path, "PRAGMA user_version"),
        *execute(path, "PRAGMA application_id"),
    ]


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


@pytest.mark.slow
@pytest.mark.parametrize("is_old", [False, True])
def test_processes_that_make_or_upgrade_the_file_and_count_in_it_lose_nothing(path: Path, is_old: bool) -> None:
    if is_old:
        make_version_1(path)
        execute(path, "DELETE FROM instances")
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


@pytest.mark.slow
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


@pytest.mark.parametrize("version", [SCHEMA_VERSION + 1, SCHEMA_VERSION + 100, 0, -1])
def test_a_schema_that_this_release_does_not_know_is_refused(path: Path, version: int) -> None:
    use(path, lambda store: store.create(an_instance()))
    execute(path, f"PRAGMA user_version = {version}")
    before = path.read_bytes()
    with pytest.raises(SettingsError, match=f"{path}.* schema version {version}, .*upgrade gorchestrate"):
        SqliteStore(path)
    assert path.read_bytes() == before


def test_a_file_of_version_1_is_upgraded(path: Path) -> None:
    make_version_1(path)

    async def work(store: SqliteStore) -> None:
        loaded = await store.load("pizza", "order-1")
        assert loaded == replace(a_full_instance(), version=loaded.version, new_entries=(), old_history=OLD_HISTORY)
        entries = a_full_instance().new_entries
        assert (await store.load("pizza", "order-1", history=True)).history == entries
        assert await store.load_key("pizza", "order-1", "key-1", NOW) == a_key()
        assert list(await store.inbox("pizza", "order-1")) == []
        await store.post(an_entry())
        await store.post(an_entry("entry-2"))
        loaded = await store.commit(changed(loaded), [a_key("key-3")], [an_entry()])
        assert (await store.load("pizza", "order-1", history=True)).history == entries
        await store.commit(replace(changed(loaded), new_entries=some_entries(0, 1)))
        assert (await store.load("pizza", "order-1", history=True)).history == (*entries, *some_entries(0, 1))

    use(path, work)
    assert execute(path, "SELECT history, entries_count FROM instances") == [("[]", 3)]
    assert layout(path) == layout(path.with_name("newer.db"))
    assert execute(path, "PRAGMA integrity_check") == [("ok",)]
    use(path, lambda store: store.discard([an_entry("entry-2")]))  # and opened again
    assert execute(path, "SELECT count(*) FROM inbox") == [(0,)]


def test_a_history_that_an_older_release_goes_on_writing_is_read_and_converted(path: Path) -> None:
    async def work(store: SqliteStore) -> None:
        await store.create(replace(an_instance(), new_entries=some_entries(0, 1)))
        for number in (1, 3, 5):  # the older release had opened the file before it was upgraded
            text = to_json(some_entries(number, 1)).decode()
            execute(path, "UPDATE instances SET revision = revision + 1, history = ?", text)
            instance = await store.load("pizza", "order-1", history=True)
            assert instance.history == some_entries(0, number + 1)
            instance = await store.commit(replace(changed(instance), new_entries=some_entries(number + 1, 1)))
            assert instance.history == some_entries(0, number + 2)
            assert await store.load("pizza", "order-1", history=True) == instance

    use(path, work)


def test_the_history_of_an_instance_that_is_deleted_is_deleted_too(path: Path) -> None:
    async def work(store: SqliteStore) -> None:
        for id in ("order-1", "order-2"):
            await store.create(replace(an_instance(id), new_entries=some_entries(0, 3)))
        execute(path, "DELETE FROM instances WHERE id = 'order-1'")
        assert execute(path, "SELECT DISTINCT id FROM history_entries") == [("order-2",)]
        await store.create(replace(an_instance(), new_entries=some_entries(5, 1)))
        assert (await store.load("pizza", "order-1", history=True)).history == some_entries(5, 1)

    use(path, work)


def test_a_history_takes_few_rows(path: Path) -> None:
    async def work(store: SqliteStore) -> None:
        await store.create(replace(an_instance(), new_entries=some_entries(0, 1)))
        instance, most = await store.load("pizza", "order-1"), 0
        for number in range(1, 500):
            instance = await store.commit(replace(changed(instance), new_entries=some_entries(number, 1)))
            most = max(most, len(execute(path, "SELECT 1 FROM history_entries")))
        assert most == 2 * HISTORY_MAX - 1

    use(path, work)


@pytest.mark.parametrize("entry", ["{", "7", b"\xff", '{"at":"noon"}', "{}\n{}"])
def test_a_damaged_entry_of_a_history_stops_only_its_display(path: Path, entry: object) -> None:
    async def work(store: SqliteStore) -> None:
        await store.create(replace(an_instance(), new_entries=some_entries(0, 2)))
        execute(path, "UPDATE history_entries SET entry = ? WHERE number = 0", entry)
        instance = await store.load("pizza", "order-1")
        for number in range(2, 120):
            instance = await store.commit(replace(changed(instance), new_entries=some_entries(number, 1)))
        with pytest.raises(DamagedDocument, match="'pizza' 'order-1'"):
            await store.load("pizza", "order-1", history=True)
        execute(path, "DELETE FROM history_entries WHERE number = 0")
        assert len((await store.load("pizza", "order-1", history=True)).history) == HISTORY_MAX

    use(path, work)


def test_a_file_in_use_by_an_older_release_is_upgraded(path: Path) -> None:
    make_version_1(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as older:
        ((revision,),) = older.execute("SELECT revision FROM instances")
        use(path, lambda store: store.post(an_entry()))
        older.execute("UPDATE instances SET revision = revision + 1")
    assert use(path, lambda store: store.load("pizza", "order-1")).version == revision + 1
    assert execute(path, "PRAGMA user_version") == [(SCHEMA_VERSION,)], "the older release refuses it from now on"


def test_many_may_upgrade_a_file_at_once(path: Path, tmp_path: Path) -> None:
    make_version_1(path)
    before = path.read_bytes()

    def open_and_post(number: int) -> None:
        use(path, lambda store: store.post(an_entry(f"entry-{number}")))

    with ThreadPoolExecutor(8) as pool:
        for _ in range(5):
            path.write_bytes(before)
            list(pool.map(open_and_post, range(8)))
            assert len(use(path, lambda store: store.inbox("pizza", "order-1"))) == 8
            assert layout(path) == layout(path.with_name("newer.db"))


def test_an_upgrade_that_fails_leaves_the_file_as_it_was(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_version_1(path)
    before = layout(path)
    first, *others = schema.VERSIONS
    with monkeypatch.context() as patch:
        patch.setattr(schema, "VERSIONS", (first, *others, ("CREATE TABLE instances (a)",)))
        with pytest.raises(Unavailable, match="table instances already exists"):
            SqliteStore(path)
    assert layout(path) == before
    use(path, lambda store: store.post(an_entry()))


def test_a_file_whose_upgrade_waits_too_long_is_unavailable(path: Path) -> None:
    make_version_1(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(Unavailable, match="locked"):
            SqliteStore(path, busy_timeout_ms=0)
        other.execute("ROLLBACK")
    use(path, lambda store: store.post(an_entry()), busy_timeout_ms=0)


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
    def synchronous(connection: sqlite3.Connection) -> tuple[int]:
        found: tuple[int] = connection.execute("PRAGMA synchronous").fetchone()
        return found

    async def work(store: SqliteStore) -> list[tuple[int]]:
        return [await store.connections.run(synchronous), await store.connections.read(synchronous)]

    assert use(path, work) == [(2,), (2,)]


# --- writes that wait ------------------------------------------------------------------------


def test_writes_that_wait_share_a_transaction_and_one_that_fails_is_left_out(path: Path) -> None:
    async def work(store: SqliteStore) -> None:
        instances = [an_instance(f"order-{number}") for number in range(10)]
        for instance in instances:
            await store.create(instance)
        loaded = [await store.load("pizza", instance.id) for instance in instances]
        await store.commit(changed(loaded[3]))
        queries: list[str] = []
        await store.connections.run(lambda connection: connection.set_trace_callback(queries.append))
        async with held(store):
            keyed = changed(loaded[5])
            writes = [
                *(store.commit(changed(one)) for one in loaded[:5]),  # the fourth one is stale
                store.commit(keyed, [a_key("a"), a_key("b"), a_key("a")]),  # fails after it has written
                store.commit(changed(loaded[6]), [a_key("c")]),
                store.create(instances[7]),  # is there already
                store.create(an_instance("new"), a_key("d")),
                store.post(an_entry("entry")),
            ]
            waiting = asyncio.gather(*writes, return_exceptions=True)
            await asyncio.wait([waiting], timeout=0)
            assert (await store.load("pizza", "order-0")) == loaded[0], "a load waits for none of them"
        results = await waiting
        await store.connections.run(lambda connection: connection.set_trace_callback(None))
        assert [type(result).__name__ for result in results] == [
            *("Instance", "Instance", "Instance", "Conflict", "Instance"),
            *("DuplicateKey", "Instance", "InstanceExists", "NoneType", "NoneType"),
        ]
        assert queries.count("COMMIT") == 1
        has_changed = [(await store.load("pizza", one.id)).version != one.version for one in loaded]
        assert has_changed == [number in (0, 1, 2, 3, 4, 6) for number in range(10)]
        for key, is_recorded in (("a", False), ("b", False), ("c", True)):
            for instance in (loaded[5], loaded[6]):
                record = await store.load_key("pizza", instance.id, key, NOW)
                assert (record is not None) == (is_recorded and instance is loaded[6]), key
        assert await store.load_key("pizza", "new", "d", NOW) is not None
        assert len(await store.inbox("pizza", "order-1")) == 1

    use(path, work)


def test_if_the_transaction_fails_all_writes_in_it_have_failed(path: Path) -> None:
    async def work(store: SqliteStore) -> None:
        loaded = []
        for number in range(4):
            await store.create(an_instance(f"order-{number}"))
            loaded.append(await store.load("pizza", f"order-{number}"))
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            async with held(store):
                waiting = asyncio.gather(*(store.commit(changed(one)) for one in loaded), return_exceptions=True)
                await asyncio.wait([waiting], timeout=0)
            assert [type(result) for result in await waiting] == [Unavailable] * 4
            other.execute("ROLLBACK")
        for one in loaded:
            await store.commit(changed(one))

    use(path, work, busy_timeout_ms=0)


def test_a_write_that_is_cancelled_while_it_waits_is_not_made(path: Path) -> None:
    async def work(store: SqliteStore) -> None:
        async with held(store):
            writes = [asyncio.ensure_future(store.create(an_instance(f"order-{number}"))) for number in range(5)]
            await asyncio.wait(writes, timeout=0)
            writes[1].cancel()
            writes[3].cancel()
            await asyncio.wait([writes[1], writes[3]])
        results = await asyncio.gather(*writes, return_exceptions=True)
        assert [type(result).__name__ for result in results] == ["NoneType", "CancelledError"] * 2 + ["NoneType"]
        page = await store.list("pizza")
        assert sorted(instance.id for instance in page.instances) == ["order-0", "order-2", "order-4"]

    use(path, work)


def test_a_write_that_waits_behind_many_cancelled_ones_is_made(path: Path) -> None:
    async def work(store: SqliteStore) -> None:
        async with held(store):
            names = [f"order-{number}" for number in range(2 * connections.WRITES_TOGETHER_MAX)]
            cancelled = [asyncio.ensure_future(store.create(an_instance(name))) for name in names]
            await asyncio.wait(cancelled, timeout=0)
            last = asyncio.ensure_future(store.create(an_instance("last")))
            await asyncio.wait([last], timeout=0)
            for write in cancelled:
                write.cancel()
            await asyncio.wait(cancelled)
        await last
        assert [instance.id for instance in (await store.list("pizza")).instances] == ["last"]

    use(path, work)


def test_more_writes_than_share_a_transaction(path: Path) -> None:
    async def work(store: SqliteStore) -> None:
        count = 2 * connections.WRITES_TOGETHER_MAX + 10
        large = replace(an_instance("large"), fields=json.dumps("x" * connections.LARGE_BYTES))
        async with held(store):
            writes = [store.create(an_instance(f"order-{number}")) for number in range(count)]
            waiting = asyncio.gather(*writes, store.create(large))
            await asyncio.wait([waiting], timeout=0)
        await waiting
        await store.commit(changed(await store.load("pizza", "large")))
        assert execute(path, "SELECT count(*) FROM instances") == [(count + 1,)]

    use(path, work)


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
        with pytest.raises(Unavailable, match="no such table: instances"):
            await store.ping()

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


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[sqlite3.Connection]:
    """The connections that are opened in the test."""
    connect, opened = sqlite3.connect, list[sqlite3.Connection]()

    def opening(*arguments: Any, **options: Any) -> sqlite3.Connection:
        opened.append(connect(*arguments, **options))
        return opened[-1]

    monkeypatch.setattr(sqlite3, "connect", opening)
    return opened


def is_closed(connection: sqlite3.Connection) -> bool:
    try:
        return connection.total_changes < 0
    except sqlite3.ProgrammingError as error:
        return "closed" in str(error)


def test_a_caller_that_gives_up_closing_closes_it_nevertheless(path: Path, opened: list[sqlite3.Connection]) -> None:
    async def main() -> None:
        before = set(threading.enumerate())
        store = SqliteStore(path)
        pending = asyncio.gather(*(store.create(an_instance(f"order-{number}")) for number in range(3)))
        closer = asyncio.create_task(store.close())
        await asyncio.wait([closer], timeout=0)  # lets it start
        closer.cancel()
        with pytest.raises(asyncio.CancelledError):
            await closer
        await pending
        for thread in set(threading.enumerate()) - before:
            thread.join()
        assert len(opened) == 2
        assert all(is_closed(connection) for connection in opened)

    asyncio.run(main())
    assert list(path.parent.iterdir()) == [path], "SQLite deletes the other two when the last connection is closed"


def test_an_interrupt_while_the_file_is_opened_leaves_it_closed(
    path: Path, opened: list[sqlite3.Connection], monkeypatch: pytest.MonkeyPatch
) -> None:
    result, interrupts = Future.result, [KeyboardInterrupt()]

    def interrupted(future: Future[Any], timeout: float | None = None) -> Any:
        if interrupts:
            raise interrupts.pop()
        return result(future, timeout)

    monkeypatch.setattr(Future, "result", interrupted)
    with pytest.raises(KeyboardInterrupt):
        SqliteStore(path)
    assert len(opened) == 2
    assert all(is_closed(connection) for connection in opened)
    assert list(path.parent.iterdir()) == [path]


def test_a_limit_below_one_is_refused(path: Path) -> None:
    async def work(store: SqliteStore) -> None:
        for limit in (0, -1, 10**30):
            with pytest.raises(InvalidRequest, match="limit"):
                await store.list("pizza", limit=limit)
            with pytest.raises(InvalidRequest, match="limit"):
                await store.due(NOW, limit=limit)
            with pytest.raises(InvalidRequest, match="limit"):
                await store.inbox("pizza", "order-1", limit=limit)
            with pytest.raises(InvalidRequest, match="limit"):
                await store.uncollected(NOW, limit=limit)

    use(path, work)


def test_a_forged_cursor_is_refused(path: Path) -> None:
    async def work(store: SqliteStore) -> None:
        for text in (
            f"{2**63}:order-1",
            f"-{2**70}:order-1",
            "1_0:order-1",
            "+1:order-1",
            "1",
            "1:",
            ":",
            "1.5:order-1",
        ):
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
            page = await store.list("pizza", limit=3)
            due = [instance.id for instance in await store.due(NOW, limit=3)]
        if column in ("search", "wake_at", "updated_at", "format"):
            assert sorted(instance.id for instance in page.instances) == ["order-0", "order-2"]
            assert "left out: the document of 'pizza' 'order-1'" in caplog.text
            assert [one for one in page.damaged if "order-1" in one] == list(page.damaged) != []
        else:
            assert [instance.id for instance in page.instances] == ["order-2", "order-1", "order-0"]
        assert due == (["order-0", "order-2"] if column == "wake_at" else ["order-0", "order-1", "order-2"])
        await store.commit(changed(await store.load("pizza", "order-0")))

    use(path, work)


@pytest.mark.parametrize("execution", ["{", b"\xff", "5", '{"error": null}'])
def test_a_failed_instance_whose_execution_is_damaged_is_listed(path: Path, execution: object) -> None:
    async def work(store: SqliteStore) -> None:
        await store.create(an_instance(status=Status.FAILED))
        execute(path, "UPDATE instances SET execution = ?", execution)
        (summary,) = (await store.list("pizza")).instances
        assert (summary.status, summary.error) == (Status.FAILED, None)

    use(path, work)


def test_damaged_rows_take_no_place_on_a_page(path: Path) -> None:
    async def work(store: SqliteStore) -> None:
        for number in range(9):
            await store.create(an_instance(f"order-{number}", updated_at=NOW - number * SECOND, wake_at=NOW))
        execute(path, "UPDATE instances SET search = '{', status = x'ff' WHERE id IN ('order-1', 'order-2', 'order-6')")
        good = ["order-0", "order-3", "order-4", "order-5", "order-7", "order-8"]
        for limit in (1, 2, 3, 6):
            listed, cursor = list[list[str]](), None
            while not listed or cursor is not None:
                page = await store.list("pizza", limit=limit, cursor=cursor)
                listed.append([instance.id for instance in page.instances])
                cursor = page.cursor
            assert listed == [good[first : first + limit] for first in range(0, 6, limit)]
            assert [instance.id for instance in await store.due(NOW, limit)] == good[:limit]

    use(path, work)


@pytest.mark.parametrize("years", [-50, 0, 200])
def test_times_keep_their_microseconds(path: Path, years: int) -> None:
    async def work(store: SqliteStore) -> None:
        times = [NOW + timedelta(days=365 * years, microseconds=number) for number in range(20)]
        for time in times:
            await store.post(an_entry(f"entry-{time:%f}", at=time))
        assert [entry.at for entry in await store.inbox("pizza", "order-1")] == times

    use(path, work)


def test_a_damaged_key_is_told(path: Path) -> None:
    async def work(store: SqliteStore) -> None:
        await store.create(an_instance(), a_key())
        execute(path, "UPDATE idempotency_keys SET response = ?", b"\xff")
        with pytest.raises(DamagedDocument, match="'key-1'"):
            await store.load_key("pizza", "order-1", "key-1", NOW)

    use(path, work)


@pytest.mark.parametrize(
    ("column", "value"), [("body", b"\xff"), ("name", b"\xfe"), ("at", "yesterday"), ("at", 2**62), ("at", -(2**62))]
)
def test_a_damaged_entry_harms_that_inbox_alone(path: Path, column: str, value: object) -> None:
    async def work(store: SqliteStore) -> None:
        await store.create(an_instance())
        for id in ("order-1", "order-2"):
            await store.post(an_entry(id=id))
        execute(path, f"UPDATE inbox SET {column} = ? WHERE id = 'order-1'", value)
        with pytest.raises(DamagedDocument, match=r"the inbox entry .* of 'pizza' 'order-1' cannot be read"):
            await store.inbox("pizza", "order-1")
        assert list(await store.inbox("pizza", "order-2")) == [an_entry(id="order-2")]
        assert ("pizza", "order-2") in await store.uncollected(NOW)
        await store.post(an_entry("entry-2"))
        committed = await store.commit(changed(await store.load("pizza", "order-1")), taken=[an_entry("entry-2")])
        assert await store.load("pizza", "order-1") == committed
        execute(path, "DELETE FROM inbox WHERE id = 'order-1'")
        assert list(await store.inbox("pizza", "order-1")) == []

    use(path, work)


def test_an_entry_whose_instance_has_a_damaged_name_hides_no_other(path: Path) -> None:
    async def work(store: SqliteStore) -> None:
        await store.post(an_entry())
        await store.post(an_entry(id="order-2"))
        execute(path, "UPDATE inbox SET workflow = ? WHERE id = 'order-1'", b"\xff")
        assert sorted(await store.uncollected(NOW)) == [("pizza", "order-2"), ("\ufffd", "order-1")]

    use(path, work)


# --- tables ----------------------------------------------------------------------------------


def test_every_value_of_a_document_has_its_column() -> None:
    assert {*COLUMNS, "entries"} == set(encode(an_instance()))


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
        await store.connections.read(lambda connection: connection.set_trace_callback(queries.append))
        await store.connections.run(lambda connection: connection.set_trace_callback(queries.append))
        await store.create(an_instance(), a_key())
        instance = await store.load("pizza", "order-1")
        for name in ("entry-1", "entry-2", "entry-1"):
            await store.post(an_entry(name))
        await store.commit(changed(instance), [a_key("key-2")], await store.inbox("pizza", "order-1"))
        await store.post(an_entry("entry-3"))
        assert await store.uncollected(NOW) == [("pizza", "order-1")]
        await store.discard([an_entry("entry-3")])
        with pytest.raises(Conflict):
            await store.commit(changed(instance))
        await store.load_key("pizza", "order-1", "key-1", NOW)
        await store.due(NOW)
        await store.create(an_instance("order-2"))
        for status, order in itertools.product((None, "waiting"), Order):
            cursor = (await store.list("pizza", status=status, order=order, limit=1)).cursor
            assert (await store.list("pizza", status=status, order=order, cursor=cursor)).instances
        await store.connections.run(lambda connection: connection.set_trace_callback(None))
        await store.connections.read(lambda connection: connection.set_trace_callback(None))
        return queries

    used = set()
    for query in use(path, work):
        if query.startswith(("SELECT", "UPDATE", "DELETE")):
            plan = [str(row[3]) for row in execute(path, f"EXPLAIN QUERY PLAN {query}")]
            steps = [line for line in plan if "SUBQUERY" not in line]
            assert steps
            assert all(line.startswith("SEARCH") for line in steps), (query, plan)
            used |= {word for line in steps for word in line.split() if "_by_" in word or word.endswith("_due")}
    indexes = {"instances_by_update", "instances_by_creation", "instances_by_status", "instances_due"}
    indexes |= {"idempotency_keys_by_expiry"}
    assert used == indexes | {"inbox_by_arrival", "inbox_by_age"}
