"""The ``Store`` over one SQLite file, for one machine: as many processes of it as there are may share the file.

This file knows SQLite and how a document becomes a row. It never looks into an execution or into the user's fields,
never reads a clock, and lets no error of SQLite through.

A store has two connections. One writes, and reads lists: a thread alone uses it, so that a call that waits for the disk
holds up no event loop. Writes that wait for it are written in one transaction, and synced once. The other reads single
rows where it is called: that takes some 30 µs and waits for nobody, as no reader does in a write-ahead log.

Times are kept as integers, microseconds since 1970 in UTC: they sort, and come back exactly.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os.path
import sqlite3
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import chain, islice
from pathlib import Path
from typing import Any, TypeVar

from cloud_adapter.document import Document, InboxEntry, Instance, KeyRecord, check_entry, decode, encode
from cloud_adapter.errors import (
    Conflict,
    DamagedDocument,
    DuplicateKey,
    InstanceExists,
    InstanceNotFound,
    SettingsError,
    Unavailable,
)
from cloud_adapter.ports import PAGE_SIZE, Page
from cloud_adapter.stores.cursors import EPOCH, check_limit, read_cursor, write_cursor

APPLICATION_ID = int.from_bytes(b"gorc")
"""Marks a file as ours (SQLite's ``application_id``). Another program's is refused, and left as it is."""

EXPIRED_KEYS_PER_COMMIT = 10
"""How many expired keys a write that brings a key takes along: the table shrinks faster than it grows."""

COLUMNS = (
    *("workflow", "id", "format", "status", "pc", "created_at", "updated_at", "wake_at"),
    *("lease", "tokens", "search", "execution", "fields", "history"),
)
"""The columns of ``instances``, but for ``revision``: the names of a document's values. The long ones stand last."""

WRITES_TOGETHER_MAX = 100
"""How many writes share a transaction."""

LARGE_BYTES = 50_000
"""A write from this size on has a transaction of its own."""

_T = TypeVar("_T")
_log = logging.getLogger(__name__)

_MICROSECOND = timedelta(microseconds=1)
_WAL_RETRY_SECONDS = 0.005

_VERSION_1 = (
    """CREATE TABLE instances (
        workflow TEXT NOT NULL, id TEXT NOT NULL, revision INTEGER NOT NULL, format INTEGER NOT NULL,
        status TEXT NOT NULL, pc INTEGER NOT NULL,
        created_at INTEGER, updated_at INTEGER NOT NULL, wake_at INTEGER,
        lease TEXT, tokens TEXT NOT NULL, search TEXT NOT NULL,
        execution TEXT NOT NULL, fields TEXT NOT NULL, history TEXT NOT NULL,
        PRIMARY KEY (workflow, id)
    )""",
    "CREATE INDEX instances_by_update ON instances (workflow, updated_at, id)",
    "CREATE INDEX instances_by_status ON instances (workflow, status, updated_at, id)",
    "CREATE INDEX instances_due ON instances (wake_at) WHERE wake_at IS NOT NULL",
    """CREATE TABLE idempotency_keys (
        workflow TEXT NOT NULL, id TEXT NOT NULL, key TEXT NOT NULL, expires_at INTEGER NOT NULL,
        fingerprint TEXT NOT NULL, response TEXT NOT NULL,
        PRIMARY KEY (workflow, id, key)
    )""",
    "CREATE INDEX idempotency_keys_by_expiry ON idempotency_keys (expires_at)",
)
_VERSION_2 = (
    """CREATE TABLE inbox (
        workflow TEXT NOT NULL, id TEXT NOT NULL, name TEXT NOT NULL, at INTEGER NOT NULL, body TEXT NOT NULL,
        PRIMARY KEY (workflow, id, name)
    )""",
    "CREATE INDEX inbox_by_arrival ON inbox (workflow, id, at, name)",
    "CREATE INDEX inbox_by_age ON inbox (at, workflow, id)",
)
_VERSIONS = (_VERSION_1, _VERSION_2)
"""What makes a file of each version from one of the version before. What a release has once made never changes."""

SCHEMA_VERSION = len(_VERSIONS)
"""The version of the tables, kept in the file's ``user_version``. A file with an older one is upgraded where it is
opened, one with a newer one is refused."""

_SELECT = f"SELECT revision, {', '.join(COLUMNS)} FROM instances"
_INSERT = (
    f"INSERT INTO instances (revision, {', '.join(COLUMNS)}) VALUES (1{', ?' * len(COLUMNS)}) "
    "ON CONFLICT (workflow, id) DO NOTHING"
)
_UPDATE = (
    f"UPDATE instances SET revision = revision + 1, {', '.join(f'{name} = ?' for name in COLUMNS)} "
    "WHERE workflow = ? AND id = ? AND revision = ?"
)
_DUE = (
    f"{_SELECT} WHERE wake_at IS NOT NULL AND wake_at <= ? AND (wake_at, rowid) > "
    "(?, coalesce((SELECT rowid FROM instances WHERE workflow = ? AND id = ?), 0)) ORDER BY wake_at, rowid"
)
_INSERT_KEY = (
    "INSERT INTO idempotency_keys (workflow, id, key, expires_at, fingerprint, response) VALUES (?, ?, ?, ?, ?, ?) "
    "ON CONFLICT (workflow, id, key) DO UPDATE SET expires_at = excluded.expires_at, "
    "fingerprint = excluded.fingerprint, response = excluded.response WHERE idempotency_keys.expires_at <= ?"
)
_INSERT_ENTRY = (
    "INSERT INTO inbox (workflow, id, name, at, body) VALUES (?, ?, ?, ?, ?) "
    "ON CONFLICT (workflow, id, name) DO NOTHING"
)
_DELETE_ENTRY = "DELETE FROM inbox WHERE workflow = ? AND id = ? AND name = ?"
_INBOX = "SELECT name, at, body FROM inbox WHERE workflow = ? AND id = ? ORDER BY at, name LIMIT ?"
_UNCOLLECTED = "SELECT workflow, id FROM inbox WHERE at <= ? ORDER BY at, workflow, id LIMIT ?"
_PURGE_KEYS = (
    "DELETE FROM idempotency_keys WHERE rowid IN "
    "(SELECT rowid FROM idempotency_keys WHERE expires_at <= ? ORDER BY expires_at LIMIT ?)"
)


class SqliteStore:
    """Keeps instances in one SQLite file; see ``ports.Store`` for what each method does and raises.

    A commit that has returned is on the disk (``synchronous=FULL``). The file is created if there is none, its
    directory is not; a file of an older release is upgraded, and that release then refuses it. It must lie on a local
    disk: SQLite's locks do not hold on most network file systems.

    Args:
        path: the file. SQLite keeps two more beside it while it is open, ``-wal`` and ``-shm``.
        busy_timeout_ms: how long a write waits for other processes before it is ``Unavailable``.

    Raises:
        SettingsError: the file cannot be used; the message says why, and the fix.
        Unavailable: another process kept it locked, or the disk failed.
    """

    def __init__(self, path: str | Path, *, busy_timeout_ms: int = 10_000) -> None:
        self._path = Path(path).absolute()
        self._closed = False
        self._writes: deque[_Write] = deque()
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="sqlite-store")
        opening = self._executor.submit(_open_both, self._path, busy_timeout_ms)
        try:
            self._connection, self._reader = opening.result()
        except BaseException:
            # An interrupt comes while the thread opens it, or just has.
            self._executor.submit(_close_opened, opening)
            self._executor.shutdown()
            raise

    async def create(self, instance: Instance, key: KeyRecord | None = None) -> None:
        """See ``ports.Store.create``. The new version is 1."""
        values = _values(encode(instance))

        def work(connection: sqlite3.Connection) -> None:
            if connection.execute(_INSERT, values).rowcount == 0:
                raise InstanceExists(f"there already is an instance {instance.id!r} of {instance.workflow!r}")
            if key is not None:
                _insert_key(connection, instance.workflow, instance.id, key, instance.execution.updated_at)

        await self._write(work, statements=1 if key is None else 3)

    async def load(self, workflow: str, id: str) -> Instance:
        """See ``ports.Store.load``."""

        def work(connection: sqlite3.Connection) -> Instance:
            row = connection.execute(f"{_SELECT} WHERE workflow = ? AND id = ?", (workflow, id)).fetchone()
            if row is None:
                raise InstanceNotFound(f"there is no instance {id!r} of {workflow!r}")
            return _instance(row)

        return await self._read(work)

    async def commit(
        self, instance: Instance, keys: Sequence[KeyRecord] = (), taken: Sequence[InboxEntry] = ()
    ) -> Instance:
        """See ``ports.Store.commit``. A key that is recorded is told before a conflict."""
        version = instance.version
        values = (*_values(encode(instance)), instance.workflow, instance.id, version)

        def work(connection: sqlite3.Connection) -> None:
            for key in keys:
                _insert_key(connection, instance.workflow, instance.id, key, instance.execution.updated_at)
            if connection.execute(_UPDATE, values).rowcount == 0:
                raise Conflict(f"{instance.workflow!r} {instance.id!r} is no longer at version {version}")
            if taken:
                connection.executemany(_DELETE_ENTRY, _names(taken))

        size = len(instance.fields) + len(values[COLUMNS.index("execution")])
        await self._write(work, statements=1 + 2 * len(keys) + len(taken), size=size)
        return replace(instance, version=version + 1)

    async def post(self, entry: InboxEntry) -> None:
        """See ``ports.Store.post``."""
        check_entry(entry)
        values = (entry.workflow, entry.id, entry.name, _microseconds(entry.at), entry.body)
        await self._write(lambda connection: connection.execute(_INSERT_ENTRY, values), statements=1)

    async def inbox(self, workflow: str, id: str, limit: int = 100) -> Sequence[InboxEntry]:
        """See ``ports.Store.inbox``.

        Raises:
            DamagedDocument: one of the entries cannot be read.
        """
        check_limit(limit)

        def work(connection: sqlite3.Connection) -> Sequence[InboxEntry]:
            with closing(connection.execute(_INBOX, (workflow, id, limit))) as rows:
                return [_entry(workflow, id, row) for row in rows]

        return await self._run(work)

    async def discard(self, entries: Sequence[InboxEntry]) -> None:
        """See ``ports.Store.discard``."""
        names = _names(entries)
        await self._write(lambda connection: connection.executemany(_DELETE_ENTRY, names), statements=len(names))

    async def uncollected(self, before: datetime, limit: int = 100) -> Sequence[tuple[str, str]]:
        """See ``ports.Store.uncollected``."""
        check_limit(limit)

        def work(connection: sqlite3.Connection) -> Sequence[tuple[str, str]]:
            with closing(connection.execute(_UNCOLLECTED, (_microseconds(before), limit))) as rows:
                return [(_text(workflow), _text(id)) for workflow, id in dict.fromkeys(rows)]

        return await self._run(work)

    async def load_key(self, workflow: str, id: str, key: str, now: datetime) -> KeyRecord | None:
        """See ``ports.Store.load_key``."""

        def work(connection: sqlite3.Connection) -> KeyRecord | None:
            row = connection.execute(
                "SELECT fingerprint, response, expires_at FROM idempotency_keys "
                "WHERE workflow = ? AND id = ? AND key = ? AND expires_at > ?",
                (workflow, id, key, _microseconds(now)),
            ).fetchone()
            if row is None:
                return None
            with _damage_of(f"the idempotency key {key!r} of {workflow!r} {id!r}"):
                return KeyRecord(key, row[0].decode(), row[1].decode(), _time(row[2]))

        return await self._read(work)

    async def list(
        self,
        workflow: str,
        *,
        status: str | None = None,
        search: Mapping[str, Any] | None = None,
        limit: int = PAGE_SIZE,
        cursor: str | None = None,
    ) -> Page:
        """See ``ports.Store.list``. Damaged documents are left out.

        An instance that is updated while a caller turns the pages moves before the first one: it is not met twice.
        """
        check_limit(limit)
        query = f"{_SELECT} WHERE workflow = ?"
        parameters: tuple[str | int | float, ...] = (workflow,)
        if status is not None:
            query, parameters = f"{query} AND status = ?", (*parameters, status)
        for name, value in (search or {}).items():
            condition, values = _is_value(f'$."{name}"', value)
            query, parameters = f"{query} AND {condition}", (*parameters, *values)
        if cursor is not None:
            updated_at, id = read_cursor(cursor)
            query, parameters = f"{query} AND (updated_at, id) < (?, ?)", (*parameters, _microseconds(updated_at), id)
        query = f"{query} ORDER BY updated_at DESC, id DESC"
        instances, damaged = await self._run(lambda connection: _readable(connection, query, parameters, limit + 1))
        page = instances[:limit]
        if len(instances) <= limit:
            return Page(page, None, damaged)
        return Page(page, write_cursor(page[-1].execution.updated_at, page[-1].id), damaged)

    async def workflows(self) -> Sequence[str]:
        """See ``ports.Store.workflows``."""

        def work(connection: sqlite3.Connection) -> Sequence[str]:
            with closing(connection.execute("SELECT DISTINCT workflow FROM instances")) as rows:
                return [_text(name) for (name,) in rows]

        return await self._run(work)

    async def due(self, before: datetime, limit: int = 100, *, after: Instance | None = None) -> Sequence[Instance]:
        """See ``ports.Store.due``."""
        check_limit(limit)
        last = (
            (-(2**63), "", "") if after is None else (_microseconds(after.wake_at or EPOCH), after.workflow, after.id)
        )
        parameters = (_microseconds(before), *last)
        instances, _ = await self._run(lambda connection: _readable(connection, _DUE, parameters, limit))
        return instances

    async def ping(self) -> None:
        """See ``ports.Store.ping``. It waits for its turn on the connection that writes: if that one hangs, so does
        this call."""
        await self._run(lambda connection: connection.execute("SELECT 1 FROM instances LIMIT 1").fetchone())

    async def close(self) -> None:
        """See ``ports.Store.close``. What was called before is done first; what is called later is ``Unavailable``."""
        if self._closed:
            return
        self._closed = True
        ending = self._executor.submit(_close_both, self._connection, self._reader)
        self._executor.shutdown(wait=False)
        with self._errors():
            # A caller that gives up does not take the closing back.
            await asyncio.shield(asyncio.wrap_future(ending))
        self._executor.shutdown()

    async def _run(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        if self._closed:
            raise Unavailable(f"the store {self._path} is closed")
        with self._errors():
            return await asyncio.get_running_loop().run_in_executor(self._executor, work, self._connection)

    async def _write(self, work: Callable[[sqlite3.Connection], object], *, statements: int, size: int = 0) -> None:
        """Lets the thread write, with all that waits for it by then.

        Args:
            work: raises without having written anything if it is a single statement.
            size: about how many bytes it writes.
        """
        write = _Write(work, statements == 1)
        if size >= LARGE_BYTES:
            await self._run(lambda connection: _write_together(connection, [write]))
        else:
            self._writes.append(write)
            try:
                await self._run(self._write_waiting)
            except asyncio.CancelledError:
                write.done.cancel()  # unless it is being written already
                raise
        with self._errors():
            write.done.result(timeout=0)

    def _write_waiting(self, connection: sqlite3.Connection) -> None:
        # As many calls of this come as writes: whoever waits for its call is written by then.
        waiting = [self._writes.popleft() for _ in range(min(len(self._writes), WRITES_TOGETHER_MAX))]
        batch = [write for write in waiting if write.done.set_running_or_notify_cancel()]
        if batch:
            _write_together(connection, batch)

    async def _read(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        if self._closed:
            raise Unavailable(f"the store {self._path} is closed")
        with self._errors():
            try:
                return work(self._reader)
            except sqlite3.OperationalError as error:
                if _primary_code(error) != sqlite3.SQLITE_BUSY:
                    raise
        return await self._run(work)  # rare: another process recovers the file; it is waited for elsewhere

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise Unavailable(f"SQLite could not use {self._path}: {error}") from error


# --- the file --------------------------------------------------------------------------------


def _open(path: Path, busy_timeout_ms: int) -> sqlite3.Connection:
    connection: sqlite3.Connection | None = None
    try:
        connection = sqlite3.connect(path, timeout=busy_timeout_ms / 1000, isolation_level=None)
        # Texts come as bytes, because one that is not UTF-8 must fail its own document, not the whole query.
        connection.text_factory = bytes
        connection.execute("PRAGMA synchronous = FULL")
        _create_or_upgrade(connection, path)
        _write_ahead(connection, busy_timeout_ms)
    except BaseException as error:
        if connection is not None:
            connection.close()
        if isinstance(error, sqlite3.Error):
            raise _open_error(path, error) from error
        raise
    return connection


def _open_both(path: Path, busy_timeout_ms: int) -> tuple[sqlite3.Connection, sqlite3.Connection]:
    """The connection that writes, and the one that reads where it is called."""
    connection = _open(path, busy_timeout_ms)
    try:
        reader = sqlite3.connect(path, timeout=0, isolation_level=None, check_same_thread=False)
        reader.text_factory = bytes
        reader.execute("PRAGMA query_only = ON")
    except BaseException as error:
        connection.close()
        if isinstance(error, sqlite3.Error):
            raise _open_error(path, error) from error
        raise
    return connection, reader


def _close_opened(opening: Future[tuple[sqlite3.Connection, sqlite3.Connection]]) -> None:
    if opening.exception() is None:
        _close_both(*opening.result())


def _close_both(connection: sqlite3.Connection, reader: sqlite3.Connection) -> None:
    reader.close()
    connection.close()


def _create_or_upgrade(connection: sqlite3.Connection, path: Path) -> None:
    with _transaction(connection):  # the looking too: another process may be doing the same
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if application == APPLICATION_ID:
            if version == SCHEMA_VERSION:
                return
            if not 1 <= version < SCHEMA_VERSION:
                raise SettingsError(
                    f"the database {path} has schema version {version}, this release knows 1 to {SCHEMA_VERSION}: "
                    f"upgrade gorchestrate, or name another file"
                )
        elif application or version or connection.execute("SELECT 1 FROM sqlite_master").fetchone():
            raise SettingsError(f"the database {path} belongs to another program: name another file")
        for statement in chain.from_iterable(_VERSIONS[version:]):
            connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")


def _write_ahead(connection: sqlite3.Connection, busy_timeout_ms: int) -> None:
    # SQLite does not wait for other processes here, whatever the busy timeout: it says "locked" at once.
    deadline = time.monotonic() + busy_timeout_ms / 1000
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL").fetchone()
            return
        except sqlite3.OperationalError as error:
            if _primary_code(error) != sqlite3.SQLITE_BUSY or time.monotonic() >= deadline:
                raise
            time.sleep(_WAL_RETRY_SECONDS)


def _open_error(path: Path, error: sqlite3.Error) -> SettingsError | Unavailable:
    code = _primary_code(error)
    if code == sqlite3.SQLITE_NOTADB:
        return SettingsError(f"{path} is not a SQLite database: name another file, or delete this one")
    if code == sqlite3.SQLITE_CORRUPT:
        return SettingsError(f"the database {path} is damaged ({error}): restore it from a backup, or delete it")
    if code in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM):
        if not os.path.isdir(path.parent):
            return SettingsError(f"the database {path} cannot be made: create the directory {path.parent} first")
        return SettingsError(
            f"the database {path} cannot be written ({error}): name a file that this user may write, in a directory "
            f"that they may write"
        )
    return Unavailable(f"SQLite could not open {path}: {error}")


def _primary_code(error: sqlite3.Error) -> int:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


@dataclass(eq=False, slots=True)
class _Write:
    """Something to be written.

    Attributes:
        work: writes it, in a transaction, or raises.
        is_single: it is one statement, which SQLite writes wholly or not at all.
    """

    work: Callable[[sqlite3.Connection], object]
    is_single: bool
    done: Future[None] = field(default_factory=Future)


def _write_together(connection: sqlite3.Connection, writes: Sequence[_Write]) -> None:
    """Writes in one transaction. One that raises is left out; if the transaction fails, all of them have failed."""
    failures: Mapping[_Write, BaseException] = {}
    try:
        if len(writes) > 1:
            with _transaction(connection):
                failures = _write_each(connection, writes)
        elif writes[0].is_single:
            writes[0].work(connection)  # a transaction of its own
        else:
            with _transaction(connection):
                writes[0].work(connection)
    except BaseException as error:
        failures = dict.fromkeys(writes, error)
    for write in writes:
        if (failure := failures.get(write)) is None:
            write.done.set_result(None)
        else:
            write.done.set_exception(failure)


def _write_each(connection: sqlite3.Connection, writes: Sequence[_Write]) -> Mapping[_Write, BaseException]:
    """Writes what can be written; gives why the others have failed."""
    failures: dict[_Write, BaseException] = {}
    for write in writes:
        try:
            with nullcontext() if write.is_single else _savepoint(connection):
                write.work(connection)
        except Exception as error:
            if not connection.in_transaction:
                raise  # a failing disk has ended it
            failures[write] = error
    return failures


@contextmanager
def _savepoint(connection: sqlite3.Connection) -> Iterator[None]:
    """A part of a transaction that is taken back alone if it raises."""
    connection.execute("SAVEPOINT part")
    try:
        yield
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK TO part")
        raise
    finally:
        if connection.in_transaction:
            connection.execute("RELEASE part")


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """A transaction that holds the write lock from its first moment, so that nothing it has read can change."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # a failing disk ends it by itself
            connection.execute("ROLLBACK")
        raise


def _is_value(path: str, value: str | float | bool | None) -> tuple[str, tuple[str | float, ...]]:
    """The condition that a search field has a value of the same type, and its parameters."""
    if value is None or isinstance(value, bool):
        return "json_type(search, ?) = ?", (path, json.dumps(value))
    types = "'text'" if isinstance(value, str) else "'integer', 'real'"
    return f"json_type(search, ?) IN ({types}) AND json_extract(search, ?) = ?", (path, path, value)


# --- rows ------------------------------------------------------------------------------------


def _insert_key(connection: sqlite3.Connection, workflow: str, id: str, key: KeyRecord, at: datetime | None) -> None:
    now = _microseconds_or_none(at)  # NULL: nothing has expired
    connection.execute(_PURGE_KEYS, (now, EXPIRED_KEYS_PER_COMMIT))
    values = (workflow, id, key.key, _microseconds(key.expires_at), key.fingerprint, key.response)
    if connection.execute(_INSERT_KEY, (*values, now)).rowcount == 0:
        raise DuplicateKey(f"the idempotency key {key.key!r} of {workflow!r} {id!r} is recorded")


def _names(entries: Sequence[InboxEntry]) -> Sequence[tuple[str, str, str]]:
    return [(entry.workflow, entry.id, entry.name) for entry in entries]


def _entry(workflow: str, id: str, row: Sequence[Any]) -> InboxEntry:
    name, at, body = row
    with _damage_of(f"the inbox entry {_shown(name)} of {workflow!r} {id!r}"):
        return InboxEntry(workflow, id, name.decode(), body.decode(), _time(at))


def _readable(
    connection: sqlite3.Connection, query: str, parameters: Sequence[Any], limit: int
) -> tuple[Sequence[Instance], Sequence[str]]:
    """The first of a query's instances that can be read: those that cannot must not hide what stands behind them.
    Also what is wrong with these."""
    damaged: list[str] = []

    def instances() -> Iterator[Instance]:
        for row in rows:
            try:
                yield _instance(row)
            except DamagedDocument as error:
                _log.warning("left out: %s", error)
                damaged.append(str(error))

    with closing(connection.execute(query, parameters)) as rows:
        return list(islice(instances(), limit)), damaged


def _values(document: Document) -> Sequence[str | int | None]:
    row = document | {
        "created_at": _microseconds_or_none(document["created_at"]),
        "updated_at": _microseconds(document["updated_at"] or EPOCH),
        "wake_at": _microseconds_or_none(document["wake_at"]),
        "search": json.dumps(document["search"], ensure_ascii=False),
    }
    return [row[name] for name in COLUMNS]


def _instance(row: Sequence[Any]) -> Instance:
    revision, *values = row
    stored = dict(zip(COLUMNS, values, strict=True))
    with _damage_of(f"the document of {_shown(stored['workflow'])} {_shown(stored['id'])}"):
        document = {name: value.decode() if isinstance(value, bytes) else value for name, value in stored.items()}
        document["created_at"] = _time_or_none(stored["created_at"])
        document["updated_at"] = _time(stored["updated_at"])
        document["wake_at"] = _time_or_none(stored["wake_at"])
        document["search"] = json.loads(document["search"])
    return decode(document, revision)


@contextmanager
def _damage_of(what: str) -> Iterator[None]:
    try:
        yield
    except (ValueError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise DamagedDocument(f"{what} cannot be read: {error}") from error


def _shown(value: Any) -> str:
    return repr(_text(value) if isinstance(value, bytes) else value)


def _text(value: bytes) -> str:
    return value.decode(errors="replace")


def _microseconds(at: datetime) -> int:
    return (at - EPOCH) // _MICROSECOND


def _microseconds_or_none(at: datetime | None) -> int | None:
    return None if at is None else _microseconds(at)


def _time(microseconds: int) -> datetime:
    return EPOCH + timedelta(microseconds=microseconds)


def _time_or_none(microseconds: int | None) -> datetime | None:
    return None if microseconds is None else _time(microseconds)
