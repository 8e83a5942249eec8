"""What becomes of a write when SQLite fails, of the other writes in its transaction, and of what comes after it."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import stat
import threading
from collections.abc import Awaitable, Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from cloud_adapter.document import Instance
from cloud_adapter.errors import SettingsError, Unavailable
from cloud_adapter.stores.sqlite import connections, opening
from cloud_adapter.stores.sqlite.store import SqliteStore
from tests.contract.held_writes import held
from tests.contract.store_contract import NOW, SECOND, a_key, an_entry, an_instance, changed
from tests.open_files import nothing_stays_open

PAGE = opening.PAGE_BYTES

Work = Callable[[SqliteStore], Awaitable[None]]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.db"


def use(path: Path, work: Work) -> None:
    """Opens a store, does the work, closes the store."""

    async def main() -> None:
        store = SqliteStore(path, busy_timeout_ms=0)
        try:
            await work(store)
        finally:
            await store.close()

    asyncio.run(asyncio.wait_for(main(), 20))


def execute(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path, isolation_level=None, timeout=0)) as other:
        for statement in statements:
            other.execute(statement)


async def created(store: SqliteStore, count: int) -> Sequence[Instance]:
    for number in range(count):
        await store.create(an_instance(f"order-{number}"))
    return [await store.load("pizza", f"order-{number}") for number in range(count)]


async def created_one(store: SqliteStore) -> None:
    await created(store, 1)


async def together(store: SqliteStore, *writes: Awaitable[object]) -> list[str]:
    """Makes the writes in one transaction. For each, the name of its result's type."""
    async with held(store):
        waiting = asyncio.gather(*writes, return_exceptions=True)
        await asyncio.wait([waiting], timeout=0)
    return [type(result).__name__ for result in await waiting]


async def set_pragma(store: SqliteStore, pragma: str) -> None:
    """Sets it on both connections: either may make a write."""
    for on_connection in (store.connections.run, store.connections.read):
        await on_connection(lambda connection: connection.execute(f"PRAGMA {pragma}").fetchall())


async def versions(store: SqliteStore, count: int) -> list[int]:
    return [(await store.load("pizza", f"order-{number}")).execution.pc + 1 for number in range(count)]


def check_nothing_is_open(path: Path) -> None:
    """Fails if a transaction of the store holds the file."""
    execute(path, "BEGIN IMMEDIATE", "ROLLBACK")


# --- errors of one write --------------------------------------------------------------------


def refusing(what: str) -> str:
    """A trigger that lets SQLite refuse changes of one instance: an ``IntegrityError``."""
    return (
        "CREATE TRIGGER refuse AFTER UPDATE ON instances WHEN NEW.id = 'order-1' "
        f"BEGIN SELECT RAISE({what}, 'refused'); END"
    )


@pytest.mark.parametrize("keys", [[], [a_key("new")]], ids=["one statement", "several statements"])
def test_a_write_that_breaks_a_constraint_is_unavailable_and_left_out(path: Path, keys: list[Any]) -> None:
    async def work(store: SqliteStore) -> None:
        loaded = await created(store, 3)
        execute(path, refusing("ABORT"))
        with pytest.raises(Unavailable, match="refused"):
            await store.commit(changed(loaded[1]), keys, [an_entry()])
        check_nothing_is_open(path)
        results = await together(store, *(store.commit(changed(instance), keys) for instance in loaded))
        assert results == ["Instance", "Unavailable", "Instance"]
        assert await versions(store, 3) == [2, 1, 2]
        assert await store.load_key("pizza", "order-1", "new", NOW) is None
        check_nothing_is_open(path)

    use(path, work)


@pytest.mark.parametrize("count", [1, 2])
def test_a_commit_whose_inbox_entries_cannot_be_deleted_changes_nothing(path: Path, count: int) -> None:
    async def work(store: SqliteStore) -> None:
        loaded = await created(store, count)
        await store.post(an_entry(id="order-0"))
        execute(path, "CREATE TRIGGER refuse BEFORE DELETE ON inbox BEGIN SELECT RAISE(ABORT, 'refused'); END")
        writes = (store.commit(changed(instance), taken=[an_entry(id="order-0")]) for instance in loaded)
        assert await together(store, *writes) == ["Unavailable"] * count
        assert await versions(store, count) == [1] * count
        assert list(await store.inbox("pizza", "order-0")) == [an_entry(id="order-0")]

    use(path, work)


@pytest.mark.parametrize("keys", [[], [a_key("new")]], ids=["one statement", "several statements"])
def test_an_error_that_ends_the_transaction_fails_all_writes_in_it_and_none_after_it(
    path: Path, keys: list[Any]
) -> None:
    async def work(store: SqliteStore) -> None:
        loaded = await created(store, 3)
        execute(path, refusing("ROLLBACK"))
        with pytest.raises(Unavailable, match="refused"):
            await store.commit(changed(loaded[1]), keys)
        results = await together(store, *(store.commit(changed(instance), keys) for instance in loaded))
        assert results == ["Unavailable"] * 3
        assert await versions(store, 3) == [1, 1, 1]
        check_nothing_is_open(path)
        execute(path, "DROP TRIGGER refuse")
        results = await together(store, *(store.commit(changed(instance), keys) for instance in loaded))
        assert results == ["Instance"] * 3

    use(path, work)


@pytest.mark.parametrize("count", [1, 3])
def test_writes_that_cannot_be_committed_are_unavailable_and_leave_no_transaction_open(path: Path, count: int) -> None:
    async def work(store: SqliteStore) -> None:
        loaded = await created(store, count)
        execute(
            path,
            "CREATE TABLE parents (id PRIMARY KEY)",
            "CREATE TABLE children (parent REFERENCES parents DEFERRABLE INITIALLY DEFERRED)",
            "CREATE TRIGGER orphan AFTER UPDATE ON instances BEGIN INSERT INTO children VALUES (1); END",
        )
        await set_pragma(store, "foreign_keys = ON")
        writes = (store.commit(changed(instance), [a_key()]) for instance in loaded)
        assert await together(store, *writes) == ["Unavailable"] * count
        assert await versions(store, count) == [1] * count
        check_nothing_is_open(path)
        execute(path, "DROP TRIGGER orphan")
        writes = (store.commit(changed(instance), [a_key()]) for instance in loaded)
        assert await together(store, *writes) == ["Instance"] * count

    use(path, work)


def test_a_full_file_fails_the_large_write_and_the_store_goes_on(path: Path) -> None:
    async def work(store: SqliteStore) -> None:
        loaded = await created(store, 3)
        (pages,) = await store.connections.run(lambda connection: connection.execute("PRAGMA page_count").fetchone())
        await set_pragma(store, f"max_page_count = {pages + 2}")
        large = [changed(instance, ballast="x" * 9 * PAGE) for instance in loaded]
        with pytest.raises(Unavailable, match="full"):
            await store.commit(large[1], [a_key()])
        check_nothing_is_open(path)
        results = await together(
            store, store.commit(changed(loaded[0])), store.commit(large[1], [a_key()]), store.commit(changed(loaded[2]))
        )
        assert results[1] == "Unavailable"
        assert [2 if result == "Instance" else 1 for result in results] == await versions(store, 3)
        check_nothing_is_open(path)
        await set_pragma(store, "max_page_count = 100000")
        await store.commit(large[1], [a_key()])

    use(path, work)


@pytest.mark.parametrize("deletes", [False, True])
def test_a_defect_in_one_write_harms_no_other(path: Path, deletes: bool) -> None:
    async def work(store: SqliteStore) -> None:
        loaded = await created(store, 2)

        def defect(connection: sqlite3.Connection) -> None:
            if deletes:
                connection.execute("DELETE FROM instances")
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await store.connections.write(defect)
        check_nothing_is_open(path)
        results = await together(
            store,
            store.commit(changed(loaded[0])),
            store.connections.write(defect),
            store.commit(changed(loaded[1])),
        )
        assert results == ["Instance", "ZeroDivisionError", "Instance"]
        assert await versions(store, 2) == [2, 2]
        check_nothing_is_open(path)

    use(path, work)


# --- errors of the file ---------------------------------------------------------------------


def test_a_file_that_is_damaged_while_it_is_open_is_unavailable(path: Path) -> None:
    async def fill(store: SqliteStore) -> None:
        await created(store, 3)
        await store.post(an_entry())

    async def work(store: SqliteStore) -> None:
        with path.open("r+b") as file:
            size = file.seek(0, 2)
            file.seek(PAGE)
            file.write(b"\xa5" * (size - PAGE))
        calls: list[Awaitable[object]] = [
            store.load("pizza", "order-1"),
            store.load_key("pizza", "order-1", "key-1", NOW),
            store.list("pizza"),
            store.workflows(),
            store.due(NOW),
            store.inbox("pizza", "order-1"),
            store.uncollected(NOW + SECOND),
            store.create(an_instance("order-4"), a_key()),
            store.post(an_entry("entry-2")),
            store.ping(),
        ]
        for call in calls:
            with pytest.raises(Unavailable, match=f"SQLite could not use {path}: .*malformed"):
                await call
        check_nothing_is_open(path)

    use(path, fill)
    use(path, work)


def with_code(code: int | None, kind: type[sqlite3.Error] = sqlite3.OperationalError) -> sqlite3.Error:
    error = kind(f"for a test: {code}")
    if code is not None:
        error.sqlite_errorcode = code
    return error


@pytest.mark.parametrize(
    ("error", "raised", "message"),
    [
        (with_code(sqlite3.SQLITE_NOTADB, sqlite3.DatabaseError), SettingsError, "is not a SQLite database"),
        (with_code(sqlite3.SQLITE_CORRUPT, sqlite3.DatabaseError), SettingsError, "is damaged .*restore it"),
        (with_code(sqlite3.SQLITE_CORRUPT_INDEX, sqlite3.DatabaseError), SettingsError, "is damaged .*restore it"),
        (with_code(sqlite3.SQLITE_CANTOPEN), SettingsError, "cannot be written"),
        (with_code(sqlite3.SQLITE_READONLY), SettingsError, "cannot be written"),
        (with_code(sqlite3.SQLITE_READONLY_DIRECTORY), SettingsError, "cannot be written"),
        (with_code(sqlite3.SQLITE_PERM), SettingsError, "cannot be written"),
        (with_code(sqlite3.SQLITE_FULL), Unavailable, "could not open"),
        (with_code(sqlite3.SQLITE_IOERR_READ), Unavailable, "could not open"),
        (with_code(sqlite3.SQLITE_BUSY), Unavailable, "could not open"),
        (with_code(sqlite3.SQLITE_PROTOCOL), Unavailable, "could not open"),
        (with_code(None, sqlite3.InterfaceError), Unavailable, "could not open"),
    ],
    ids=repr,
)
@pytest.mark.parametrize("nth", [0, 1], ids=["the first connection", "the second connection"])
def test_an_error_while_the_file_is_opened_is_told_and_leaves_nothing_open(
    path: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: sqlite3.Error,
    raised: type[Exception],
    message: str,
    nth: int,
) -> None:
    connect, opened = sqlite3.connect, list[sqlite3.Connection]()

    def failing(*arguments: Any, **options: Any) -> sqlite3.Connection:
        if len(opened) == nth:
            raise error
        opened.append(connect(*arguments, **options))
        return opened[-1]

    with monkeypatch.context() as patch:
        patch.setattr(sqlite3, "connect", failing)
        with pytest.raises(raised, match=f"{path}.*{message}|{message} {path}"):
            SqliteStore(path)
    assert len(opened) == nth
    for connection in opened:
        with pytest.raises(sqlite3.ProgrammingError, match="closed"):
            assert connection.total_changes  # may be asked for in any thread


@pytest.mark.parametrize(
    "statements",
    [
        ["CREATE TABLE theirs (a)"],
        ["PRAGMA application_id = 7"],
        ["CREATE TABLE instances (a)", "PRAGMA user_version=9"],
    ],
)
def test_a_file_that_is_refused_is_left_closed(path: Path, statements: list[str]) -> None:
    execute(path, *statements)
    with nothing_stays_open(), pytest.raises(SettingsError) as refused:
        SqliteStore(path)
    assert refused


def test_a_file_that_others_read_for_too_long_cannot_be_opened(path: Path) -> None:
    """A file can change to a write-ahead log only while nobody reads it."""

    async def no_work(store: SqliteStore) -> None: ...

    use(path, no_work)
    execute(path, "PRAGMA journal_mode = DELETE")
    with closing(sqlite3.connect(path, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM instances").fetchone()
        with pytest.raises(Unavailable, match="locked"):
            SqliteStore(path, busy_timeout_ms=20)
    use(path, no_work)


def test_a_file_that_others_read_for_a_moment_is_opened_when_they_have_read_it(path: Path) -> None:
    async def work(store: SqliteStore) -> None:
        assert await store.connections.read(
            lambda connection: connection.execute("PRAGMA journal_mode").fetchone()
        ) == (b"wal",)

    use(path, work)
    execute(path, "PRAGMA journal_mode = DELETE")
    with closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM instances").fetchone()
        ending = threading.Timer(0.05, reader.execute, ["ROLLBACK"])
        ending.start()

        async def main() -> None:
            store = SqliteStore(path)
            await work(store)
            await store.close()

        asyncio.run(main())
        ending.join()


# --- reads ----------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [sqlite3.SQLITE_BUSY, sqlite3.SQLITE_BUSY_RECOVERY, sqlite3.SQLITE_BUSY_SNAPSHOT])
def test_a_read_that_meets_a_locked_file_is_made_again_in_the_thread(path: Path, code: int) -> None:
    async def work(store: SqliteStore) -> None:
        threads = []

        def read(connection: sqlite3.Connection) -> tuple[int]:
            threads.append(threading.current_thread())
            if len(threads) == 1:
                raise with_code(code)
            found: tuple[int] = connection.execute("SELECT 7").fetchone()
            return found

        assert await store.connections.read(read) == (7,)
        assert threads[0] is threading.current_thread() is not threads[1]

    use(path, work)


@pytest.mark.parametrize(
    "error", [with_code(sqlite3.SQLITE_IOERR), with_code(sqlite3.SQLITE_CORRUPT, sqlite3.DatabaseError)], ids=repr
)
def test_a_read_that_meets_another_error_is_unavailable_at_once(path: Path, error: sqlite3.Error) -> None:
    async def work(store: SqliteStore) -> None:
        calls = []

        def read(connection: sqlite3.Connection) -> None:
            calls.append(connection)
            raise error

        with pytest.raises(Unavailable, match="for a test"):
            await store.connections.read(read)
        assert len(calls) == 1

    use(path, work)


def test_only_the_connection_that_writes_waits_for_other_processes(path: Path) -> None:
    async def main() -> None:
        def timeout(connection: sqlite3.Connection) -> int:
            (milliseconds,) = connection.execute("PRAGMA busy_timeout").fetchone()
            return int(milliseconds)

        store = SqliteStore(path, busy_timeout_ms=1234)
        assert await store.connections.run(timeout) == 1234
        assert await store.connections.read(timeout) == 0, "it would hold up the event loop"
        await store.close()

    asyncio.run(main())


# --- closing --------------------------------------------------------------------------------


def test_all_writes_that_wait_are_made_before_the_store_closes(path: Path) -> None:
    async def main() -> None:
        count = 2 * connections.WRITES_TOGETHER_MAX + 10
        store = SqliteStore(path)
        async with held(store):
            waiting = asyncio.gather(*(store.create(an_instance(f"order-{number}")) for number in range(count)))
            await asyncio.wait([waiting], timeout=0)
            closing_store = asyncio.create_task(store.close())
            await asyncio.wait([closing_store], timeout=0)
            with pytest.raises(Unavailable, match="is closed"):
                await store.create(an_instance("too late"))
        await waiting
        await closing_store
        with closing(sqlite3.connect(path)) as other:
            assert other.execute("SELECT count(*) FROM instances").fetchone() == (count,)

    asyncio.run(asyncio.wait_for(main(), 20))


# --- permissions of the files ------------------------------------------------------------------


def test_only_the_owner_may_read_the_files(path: Path) -> None:
    async def work(store: SqliteStore) -> None:
        await created(store, 1)
        with os.scandir(path.parent) as files:
            modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in files}
        assert modes == dict.fromkeys(("store.db", "store.db-wal", "store.db-shm"), 0o600)

    before = os.umask(0)
    try:
        use(path, work)
    finally:
        os.umask(before)


def test_the_permissions_that_a_file_has_are_kept(path: Path) -> None:
    path.touch()
    path.chmod(0o660)
    use(path, created_one)
    assert stat.S_IMODE(path.stat().st_mode) == 0o660
