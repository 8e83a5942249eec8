"""``SqliteStore``: the queries of each call of the ``Store`` port.

The tables are in ``schema``, the values of a row in ``rows``, and the connections in ``connections``. The store never
reads the contents of an execution or of the user's fields, never reads a clock, and translates all errors of SQLite.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from cloud_adapter.document import (
    AFTER_NAMES,
    Document,
    InboxEntry,
    Instance,
    KeyRecord,
    check_entry,
    encode,
    replaces_history,
    with_whole_history,
    written,
)
from cloud_adapter.errors import Conflict, DuplicateKey, InstanceExists, InstanceNotFound
from cloud_adapter.ports import PAGE_SIZE, Order, Page
from cloud_adapter.stores.columns import COLUMNS, DUE_COLUMNS, EXPIRED_KEYS_PER_COMMIT, FIXED, new_revision, numbered
from cloud_adapter.stores.damage import readable
from cloud_adapter.stores.listings import PageReader, check_limit, read_cursor
from cloud_adapter.stores.sqlite.connections import Connections
from cloud_adapter.stores.sqlite.rows import (
    due_of,
    entries_of,
    entry_of,
    instance_of,
    instance_with_history,
    key_of,
    microseconds,
    microseconds_or_none,
    readable_text,
    summary_of,
    values_of,
)
from cloud_adapter.summaries import SUMMARY_FIELDS, Due

T = TypeVar("T")


# Composed of constants only; values are parameters.
_SELECT = f"SELECT revision, {', '.join(COLUMNS)} FROM instances"  # nosec B608
_REVISION = "SELECT revision FROM instances WHERE workflow = ? AND id = ?"
_INSERT = (
    f"INSERT INTO instances (revision, {', '.join(COLUMNS)}) VALUES (?{', ?' * len(COLUMNS)}) "  # nosec B608
    "ON CONFLICT (workflow, id) DO NOTHING"
)
_UPDATE = (
    f"UPDATE instances SET revision = ?, {', '.join(f'{c} = ?' for c in COLUMNS[len(FIXED) :])} "  # nosec B608
    "WHERE workflow = ? AND id = ? AND revision = ?"
)
_SELECT_ALL = (
    "SELECT (SELECT group_concat(number || ' ' || entry, char(10)) FROM history_entries AS entries "
    "WHERE entries.workflow = instances.workflow AND entries.id = instances.id), "
    f"revision, {', '.join(COLUMNS)} FROM instances"  # nosec B608
)
_ENTRIES = "SELECT number, entry FROM history_entries WHERE workflow = ? AND id = ? ORDER BY number"
_ADD_ENTRY = "INSERT INTO history_entries (workflow, id, number, entry) VALUES (?, ?, ?, ?)"
_REMOVE_ENTRY = "DELETE FROM history_entries WHERE workflow = ? AND id = ? AND number = ?"
# Only a failed instance has an error. SQLite reads it from the execution, which would else be read into this process.
_LIST = (
    f"SELECT {', '.join(SUMMARY_FIELDS)}, CASE WHEN status = 'failed' AND json_valid(execution) "  # nosec B608
    "THEN json_extract(execution, '$.error') END FROM instances WHERE workflow = ?"
)
_SELECT_DUE = f"SELECT {', '.join(DUE_COLUMNS)} FROM instances "  # nosec B608
_PLACE = "(?, coalesce((SELECT rowid FROM instances WHERE workflow = ? AND id = ?), 0))"
_DUE = f"{_SELECT_DUE} WHERE wake_at <= ? AND (wake_at, rowid) > {_PLACE} ORDER BY wake_at, rowid"  # nosec B608
_POSTPONED = (
    f"{_SELECT_DUE} WHERE postponed_until IS NOT NULL AND postponed_until > ? AND postponed_until = wake_at "  # nosec B608
    f"AND (postponed_until, rowid) > {_PLACE} ORDER BY postponed_until, rowid"
)
_POSTPONE = (
    "UPDATE instances SET revision = ?, wake_at = ?, postponed = ?, postponed_until = ? "
    "WHERE workflow = ? AND id = ? AND revision = ?"
)
_ORDERS = {
    Order.UPDATED: ("(updated_at, id) < (?, ?)", "updated_at DESC, id DESC"),
    Order.CREATED: ("(created_at, id) < (?, ?)", "created_at DESC, id DESC"),
    Order.ID: ("id > ?", "id"),
}
"""The SQL of each order: the condition for the instances after a place, and the sorting."""
_INSERT_KEY = (
    "INSERT INTO idempotency_keys (workflow, id, key, expires_at, fingerprint, response) VALUES (?, ?, ?, ?, ?, ?) "
    "ON CONFLICT (workflow, id, key) DO UPDATE SET expires_at = excluded.expires_at, "
    "fingerprint = excluded.fingerprint, response = excluded.response WHERE idempotency_keys.expires_at <= ?"
)
_KEYS = (
    "SELECT key, fingerprint, response, expires_at FROM idempotency_keys "
    "WHERE workflow = ? AND id = ? AND expires_at > ? AND key > ? ORDER BY key LIMIT ?"
)
_INSERT_ENTRY = (
    "INSERT INTO inbox (workflow, id, name, at, body) VALUES (?, ?, ?, ?, ?) "
    "ON CONFLICT (workflow, id, name) DO NOTHING"
)
_DELETE_ENTRY = "DELETE FROM inbox WHERE workflow = ? AND id = ? AND name = ?"
_INBOX = "SELECT name, at, body FROM inbox WHERE workflow = ? AND id = ? ORDER BY at, name LIMIT ?"
_INBOX_PREFIX = (
    "SELECT name, at, body FROM inbox WHERE workflow = ? AND id = ? AND name >= ? AND name < ? ORDER BY name LIMIT ?"
)
_UNCOLLECTED = "SELECT workflow, id FROM inbox WHERE at <= ? AND at > ? ORDER BY at, workflow, id LIMIT ?"
_PURGE_KEYS = (
    "DELETE FROM idempotency_keys WHERE rowid IN "
    "(SELECT rowid FROM idempotency_keys WHERE expires_at <= ? ORDER BY expires_at LIMIT ?)"
)


class SqliteStore:
    """Stores instances in one SQLite file. See ``ports.Store`` for what each method does and raises.

    A commit that has returned is on the disk (``synchronous=FULL``). The file is created if it does not exist, but its
    directory is not. A file of an older release is upgraded, and the older release then rejects it. The file must be on
    a local disk: SQLite's locks do not work on most network file systems.

    Args:
        path: the file. While it is open, SQLite keeps two more files beside it, ``-wal`` and ``-shm``.
        busy_timeout_ms: how long a write waits for other processes before it raises ``Unavailable``.

    Attributes:
        connections: can run any SQL on the file, between the calls of the store.

    Raises:
        SettingsError: the file cannot be used. The message gives the reason and the fix.
        Unavailable: another process kept the file locked, or the disk failed.
    """

    def __init__(self, path: str | Path, *, busy_timeout_ms: int = 10_000) -> None:
        self.connections = Connections(Path(path).absolute(), busy_timeout_ms)

    async def create(self, instance: Instance, key: KeyRecord | None = None) -> None:
        """See ``ports.Store.create``."""
        document = encode(instance)
        values = new_revision(), *values_of(document)

        def work(connection: sqlite3.Connection) -> None:
            if connection.execute(_INSERT, values).rowcount == 0:
                raise InstanceExists(f"instance {instance.id!r} of {instance.workflow!r} already exists")
            _change_history(connection, instance, (), document)
            if key is not None:
                _insert_key(connection, instance.workflow, instance.id, key, instance.execution.updated_at)

        await self.connections.write(work)

    async def load(self, workflow: str, id: str, *, history: bool = False) -> Instance:
        """See ``ports.Store.load``."""
        select, read = (_SELECT_ALL, instance_with_history) if history else (_SELECT, instance_of)

        def work(connection: sqlite3.Connection) -> Instance:
            row = connection.execute(f"{select} WHERE workflow = ? AND id = ?", (workflow, id)).fetchone()
            if row is None:
                raise InstanceNotFound.of(workflow, id)
            return read(row)

        return await self.connections.read(work)

    async def is_current(self, workflow: str, id: str, version: int) -> bool:
        """See ``ports.LocalStore.is_current``."""
        row = await self.connections.read(lambda connection: connection.execute(_REVISION, (workflow, id)).fetchone())
        return bool(row == (version,))

    async def commit(
        self, instance: Instance, keys: Sequence[KeyRecord] = (), taken: Sequence[InboxEntry] = ()
    ) -> Instance:
        """See ``ports.Store.commit``. If a key is recorded and there is also a conflict, it raises ``DuplicateKey``."""
        at, version = (instance.workflow, instance.id), instance.version
        document, replaces = encode(instance), replaces_history(instance)
        row, revision = values_of(document), new_revision()

        def work(connection: sqlite3.Connection) -> None:
            nonlocal document, row
            stored: Sequence[str] = ()
            if replaces:
                stored = entries_of(connection.execute(_ENTRIES, at))
                document = with_whole_history(instance, stored)
                row = values_of(document)
            for key in keys:
                _insert_key(connection, instance.workflow, instance.id, key, instance.execution.updated_at)
            if connection.execute(_UPDATE, (revision, *row[len(FIXED) :], *at, version)).rowcount == 0:
                raise Conflict(
                    f"{instance.workflow!r} {instance.id!r} is no longer at version {version}", is_certain=True
                )
            _change_history(connection, instance, stored, document)
            if taken:
                connection.executemany(_DELETE_ENTRY, _names(taken))

        size = len(document["fields"]) + len(document["execution"])
        await self.connections.write(work, size=size)
        return written(instance, revision, document["entries_bytes"])

    async def post(self, entry: InboxEntry) -> None:
        """See ``ports.Store.post``."""
        check_entry(entry)
        values = (entry.workflow, entry.id, entry.name, microseconds(entry.at), entry.body)
        await self.connections.write(lambda connection: connection.execute(_INSERT_ENTRY, values))

    async def inbox(
        self, workflow: str, id: str, limit: int = 100, *, prefix: str | None = None
    ) -> Sequence[InboxEntry]:
        """See ``ports.Store.inbox``.

        Raises:
            DamagedDocument: one of the entries cannot be read.
        """
        check_limit(limit)
        names = () if prefix is None else (prefix, prefix + AFTER_NAMES)
        query = _INBOX if prefix is None else _INBOX_PREFIX

        def work(connection: sqlite3.Connection) -> Sequence[InboxEntry]:
            with closing(connection.execute(query, (workflow, id, *names, limit))) as rows:
                return [entry_of(workflow, id, row) for row in rows]

        return await self.connections.run(work)

    async def discard(self, entries: Sequence[InboxEntry]) -> None:
        """See ``ports.Store.discard``."""
        names = _names(entries)
        await self.connections.write(lambda connection: connection.executemany(_DELETE_ENTRY, names))

    async def uncollected(
        self, before: datetime, limit: int = 100, *, since: datetime | None = None
    ) -> Sequence[tuple[str, str]]:
        """See ``ports.Store.uncollected``."""
        check_limit(limit)
        first = -(2**63) if since is None else microseconds(since)

        def work(connection: sqlite3.Connection) -> Sequence[tuple[str, str]]:
            with closing(connection.execute(_UNCOLLECTED, (microseconds(before), first, limit))) as rows:
                return [(readable_text(workflow), readable_text(id)) for workflow, id in dict.fromkeys(rows)]

        return await self.connections.run(work)

    async def load_key(self, workflow: str, id: str, key: str, now: datetime) -> KeyRecord | None:
        """See ``ports.Store.load_key``."""

        def work(connection: sqlite3.Connection) -> KeyRecord | None:
            row = connection.execute(
                "SELECT fingerprint, response, expires_at FROM idempotency_keys "
                "WHERE workflow = ? AND id = ? AND key = ? AND expires_at > ?",
                (workflow, id, key, microseconds(now)),
            ).fetchone()
            return None if row is None else key_of(workflow, id, key, row)

        return await self.connections.read(work)

    async def keys(
        self, workflow: str, id: str, now: datetime, limit: int = 100, *, after: str | None = None
    ) -> Sequence[KeyRecord]:
        """See ``ports.CopyableStore.keys``."""
        check_limit(limit)
        values = (workflow, id, microseconds(now), after or "", limit)

        def work(connection: sqlite3.Connection) -> Sequence[KeyRecord]:
            with closing(connection.execute(_KEYS, values)) as rows:
                return [key_of(workflow, id, readable_text(key), row) for key, *row in rows]

        return await self.connections.run(work)

    async def list(
        self,
        workflow: str,
        *,
        status: str | None = None,
        search: Mapping[str, Sequence[Any]] | None = None,
        order: Order = Order.UPDATED,
        limit: int = PAGE_SIZE,
        cursor: str | None = None,
    ) -> Page:
        """See ``ports.Store.list``.

        An instance that is updated while a caller reads page after page in the order of updates moves before the first
        page. The caller does not get it twice.
        """
        reader = PageReader(order, limit)
        following, ordered = _ORDERS[order]
        query = _LIST
        parameters: tuple[str | int | float, ...] = (workflow,)
        if status is not None:
            # The unary plus keeps SQLite from sorting all instances of a status, page after page.
            column = "status" if order is Order.UPDATED else "+status"
            query, parameters = f"{query} AND {column} = ?", (*parameters, status)
        for name, alternatives in (search or {}).items():
            conditions = [_is_value(f'$."{name}"', value) for value in alternatives]
            query = f"{query} AND ({' OR '.join(condition for condition, _ in conditions)})"
            parameters = (*parameters, *(value for _, values in conditions for value in values))
        if cursor is not None:
            at, id = read_cursor(order, cursor)
            place = (id,) if order is Order.ID else (microseconds(at), id)
            query, parameters = f"{query} AND {following}", (*parameters, *place)
        query = f"{query} ORDER BY {ordered}"

        def work(connection: sqlite3.Connection) -> Page:
            with closing(_readable(connection, query, parameters, summary_of, reader.damaged)) as summaries:
                for summary in summaries:
                    if reader.add(summary):
                        break
            return reader.page()

        return await self.connections.run(work)

    async def workflows(self) -> Sequence[str]:
        """See ``ports.Store.workflows``."""

        def work(connection: sqlite3.Connection) -> Sequence[str]:
            with closing(connection.execute("SELECT DISTINCT workflow FROM instances")) as rows:
                return [readable_text(name) for (name,) in rows]

        return await self.connections.run(work)

    async def due(self, before: datetime, limit: int = 100, *, after: Due | None = None) -> Sequence[Due]:
        """See ``ports.Store.due``."""
        return await self._due(_DUE, before, limit, after)

    async def postpone(self, due: Due, until: datetime) -> None:
        """See ``ports.Store.postpone``."""
        at = microseconds(until)
        values = (new_revision(), at, due.postponed + 1, at, due.workflow, due.id, due.version)
        await self.connections.write(lambda connection: connection.execute(_POSTPONE, values))

    async def postponed(self, now: datetime, limit: int = 100, *, after: Due | None = None) -> Sequence[Due]:
        """See ``ports.Store.postponed``."""
        return await self._due(_POSTPONED, now, limit, after)

    async def _due(self, query: str, at: datetime, limit: int, after: Due | None) -> Sequence[Due]:
        check_limit(limit)
        last = (-(2**63), "", "") if after is None else (microseconds(after.wake_at), after.workflow, after.id)

        def work(connection: sqlite3.Connection) -> Sequence[Due]:
            with closing(_readable(connection, query, (microseconds(at), *last), due_of, [])) as due:
                return list(islice(due, limit))

        return await self.connections.run(work)

    async def ping(self) -> None:
        """See ``ports.Store.ping``. It waits for its turn on the connection that writes. If that connection hangs, this
        call hangs too."""
        await self.connections.run(lambda connection: connection.execute("SELECT 1 FROM instances LIMIT 1").fetchone())

    async def close(self) -> None:
        """See ``ports.Store.close``. It waits for all earlier calls. Later calls raise ``Unavailable``."""
        await self.connections.close()


def _is_value(path: str, value: str | float | bool | None) -> tuple[str, tuple[str | float, ...]]:
    """Returns the SQL condition that a search field has this value, of the same type, and its parameters."""
    if value is None or isinstance(value, bool):
        return "json_type(search, ?) = ?", (path, json.dumps(value))
    types = "'text'" if isinstance(value, str) else "'integer', 'real'"
    return f"json_type(search, ?) IN ({types}) AND json_extract(search, ?) = ?", (path, path, value)


def _insert_key(connection: sqlite3.Connection, workflow: str, id: str, key: KeyRecord, at: datetime | None) -> None:
    now = microseconds_or_none(at)  # with NULL, no key counts as expired
    connection.execute(_PURGE_KEYS, (now, EXPIRED_KEYS_PER_COMMIT))
    values = (workflow, id, key.key, microseconds(key.expires_at), key.fingerprint, key.response)
    if connection.execute(_INSERT_KEY, (*values, now)).rowcount == 0:
        raise DuplicateKey(f"the idempotency key {key.key!r} of {workflow!r} {id!r} is already recorded")


def _change_history(
    connection: sqlite3.Connection, instance: Instance, stored: Sequence[str], document: Document
) -> None:
    """Writes the entries of a document. Removes those of the stored ones that it does not have."""
    workflow, id, new = instance.workflow, instance.id, document["entries"]
    if stored:
        gone = numbered(set(stored).difference(new))
        connection.executemany(_REMOVE_ENTRY, [(workflow, id, number) for number, _ in gone])
        new = [text for text in new if text not in stored]
    for number, entry in numbered(new):
        connection.execute(_ADD_ENTRY, (workflow, id, number, entry))


def _names(entries: Sequence[InboxEntry]) -> Sequence[tuple[str, str, str]]:
    return [(entry.workflow, entry.id, entry.name) for entry in entries]


def _readable(
    connection: sqlite3.Connection,
    query: str,
    parameters: Sequence[Any],
    read: Callable[[Sequence[Any]], T],
    damaged: list[str],
) -> Generator[T]:
    """Yields what is ``readable`` of the rows of a query."""
    with closing(connection.execute(query, parameters)) as rows:
        yield from readable(rows, read, damaged)
