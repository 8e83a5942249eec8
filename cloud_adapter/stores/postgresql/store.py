"""``PostgresqlStore``: the calls of the ``Store`` port, and commits that also create and delete tasks.

The tables are in ``cloud_adapter.postgresql.schema``, the statements in ``statements``, the values of a row in
``rows``. The store never reads the contents of an execution or of the user's fields, and never reads a clock.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import asyncpg

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
from cloud_adapter.errors import (
    Conflict,
    DuplicateKey,
    InstanceExists,
    InstanceNotFound,
)
from cloud_adapter.ports import PAGE_SIZE, Order, Page
from cloud_adapter.postgresql.connections import Connections
from cloud_adapter.postgresql.tasks import NewTask
from cloud_adapter.stores.columns import new_revision
from cloud_adapter.stores.damage import readable
from cloud_adapter.stores.listings import PageReader, check_limit, read_cursor
from cloud_adapter.stores.postgresql import statements
from cloud_adapter.stores.postgresql.rows import entry_of, instance_of, key_of, summary_of, values_of
from cloud_adapter.stores.postgresql.statements import Statement
from cloud_adapter.summaries import Due, read_due


class PostgresqlStore:
    """Stores instances in a PostgreSQL database, in version 14 or later. See ``ports.Store`` for what each method does
    and raises.

    A commit that has returned is as durable as the server's ``synchronous_commit``. The tables are created with the
    first call, or with ``connections.open()``, and those of an older release are upgraded.

    Args:
        connections: the connections to the database, which its queue may share. ``close`` closes them.
    """

    def __init__(self, connections: Connections) -> None:
        self.connections = connections

    async def create(self, instance: Instance, key: KeyRecord | None = None) -> None:
        """See ``ports.Store.create``."""
        await self.create_with(instance, key)

    async def create_with(
        self,
        instance: Instance,
        key: KeyRecord | None = None,
        tasks: Sequence[NewTask] = (),
        now: datetime | None = None,
    ) -> None:
        """Does the same, and creates tasks in the same transaction."""
        document = encode(instance)
        statement = statements.creation(values_of(instance, document))
        keys = [] if key is None else [key]
        if not await self._write(statement, instance, document, (), keys, tasks, (), now):
            raise InstanceExists(f"instance {instance.id!r} of {instance.workflow!r} already exists")

    async def load(self, workflow: str, id: str, *, history: bool = False) -> Instance:
        """See ``ports.Store.load``."""
        rows = await self.connections.read(statements.SELECT_ALL if history else statements.SELECT, workflow, id)
        if not rows:
            raise InstanceNotFound.of(workflow, id)
        return instance_of(rows[0])

    async def commit(
        self, instance: Instance, keys: Sequence[KeyRecord] = (), taken: Sequence[InboxEntry] = ()
    ) -> Instance:
        """See ``ports.Store.commit``. If a key is recorded and there is also a conflict, it raises ``Conflict``."""
        return await self.commit_with(instance, keys, taken)

    async def commit_with(
        self,
        instance: Instance,
        keys: Sequence[KeyRecord] = (),
        taken: Sequence[InboxEntry] = (),
        create: Sequence[NewTask] = (),
        delete: Sequence[str] = (),
        now: datetime | None = None,
    ) -> Instance:
        """Does the same, and creates and deletes tasks in the same transaction."""
        document, stored, revision = encode(instance), list[str](), new_revision()
        if replaces_history(instance):
            # If another commit changes the history now, this one conflicts.
            rows = await self.connections.read(statements.ENTRIES, instance.workflow, instance.id)
            stored = [entry for (entry,) in rows]
            document = with_whole_history(instance, stored)
        statement = statements.change(instance.version, revision, values_of(instance, document))
        statement.take(taken)
        if not await self._write(statement, instance, document, stored, keys, create, delete, now):
            raise Conflict(
                f"{instance.workflow!r} {instance.id!r} is no longer at version {instance.version}", is_certain=True
            )
        return written(instance, revision, document["entries_bytes"])

    async def _write(
        self,
        statement: Statement,
        instance: Instance,
        document: Document,
        stored: Sequence[str],
        keys: Sequence[KeyRecord],
        create: Sequence[NewTask],
        delete: Sequence[str],
        now: datetime | None,
    ) -> bool:
        """Executes the statement with its other parts. Returns whether it has changed the instance."""
        at, updated_at = (instance.workflow, instance.id), instance.execution.updated_at
        statement.change_history(*at, document["entries"], stored)
        statement.record(*at, keys, updated_at)
        if now is not None:
            statement.change_tasks(create, delete, now)
        try:
            rows = await self.connections.write(statement.text, *statement.values)
        except asyncpg.NotNullViolationError:
            names = [key.key for key in keys]
            known = await self.connections.read(statements.KNOWN_KEYS, *at, names, updated_at)
            shown = ", ".join(repr(key) for (key,) in known) or "one of the keys"
            raise DuplicateKey(
                f"the idempotency key {shown} of {instance.workflow!r} {instance.id!r} is already recorded"
            ) from None
        return bool(rows[0][0])

    async def post(self, entry: InboxEntry) -> None:
        """See ``ports.Store.post``."""
        check_entry(entry)
        await self.connections.write(statements.POST, entry.workflow, entry.id, entry.name, entry.at, entry.body)

    async def inbox(
        self, workflow: str, id: str, limit: int = 100, *, prefix: str | None = None
    ) -> Sequence[InboxEntry]:
        """See ``ports.Store.inbox``."""
        check_limit(limit)
        names = () if prefix is None else (prefix, prefix + AFTER_NAMES)
        query = statements.INBOX if prefix is None else statements.INBOX_PREFIX
        rows = await self.connections.read(query, workflow, id, limit, *names)
        return [entry_of(workflow, id, row) for row in rows]

    async def discard(self, entries: Sequence[InboxEntry]) -> None:
        """See ``ports.Store.discard``."""
        await self.connections.write(statements.DISCARD, *statements.names_of(entries))

    async def uncollected(
        self, before: datetime, limit: int = 100, *, since: datetime | None = None
    ) -> Sequence[tuple[str, str]]:
        """See ``ports.Store.uncollected``."""
        check_limit(limit)
        rows = await self.connections.read(statements.UNCOLLECTED, before, limit, since)
        return list(dict.fromkeys((workflow, id) for workflow, id in rows))

    async def load_key(self, workflow: str, id: str, key: str, now: datetime) -> KeyRecord | None:
        """See ``ports.Store.load_key``."""
        rows = await self.connections.read(statements.KEY, workflow, id, key, now)
        return key_of(key, rows[0]) if rows else None

    async def keys(
        self, workflow: str, id: str, now: datetime, limit: int = 100, *, after: str | None = None
    ) -> Sequence[KeyRecord]:
        """See ``ports.CopyableStore.keys``."""
        check_limit(limit)
        rows = await self.connections.read(statements.KEYS, workflow, id, now, after or "", limit)
        return [key_of(key, row) for key, *row in rows]

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
        query, values = statements.LIST, list[object]((workflow,))

        def parameter(value: object) -> str:
            values.append(value)
            return f"${len(values)}"

        if status is not None:
            query += f" AND status = {parameter(status)}"
        for name, alternatives in (search or {}).items():
            found = (f"searchable @> {parameter(json.dumps({name: value}))}::jsonb" for value in alternatives)
            query += f" AND ({' OR '.join(found)})"
        place = None if cursor is None else read_cursor(order, cursor)
        column, ordering = statements.ORDERS[order]
        fixed, count = query, len(values)
        while not reader.is_full:
            query, values[count:] = fixed, []
            if place is not None:
                at, id = place
                if column:
                    query += f" AND ({column}, id) < ({parameter(at)}, {parameter(id)})"
                else:
                    query += f" AND id > {parameter(id)}"
            wanted = reader.wanted
            rows = await self.connections.read(f"{query} ORDER BY {ordering} LIMIT {parameter(wanted)}", *values)
            for summary in readable(rows, summary_of, reader.damaged):
                if reader.add(summary):
                    break
            if len(rows) < wanted:
                break
            place = (rows[-1][column] if column else datetime.min), rows[-1]["id"]
        return reader.page()

    async def workflows(self) -> Sequence[str]:
        """See ``ports.Store.workflows``."""
        return [name for (name,) in await self.connections.read(statements.WORKFLOWS)]

    async def due(self, before: datetime, limit: int = 100, *, after: Due | None = None) -> Sequence[Due]:
        """See ``ports.Store.due``."""
        return await self._due(statements.DUE if after is None else statements.DUE_AFTER, before, limit, after)

    async def postpone(self, due: Due, until: datetime) -> None:
        """See ``ports.Store.postpone``."""
        values = due.workflow, due.id, due.version, until, due.postponed + 1, new_revision()
        await self.connections.write(statements.POSTPONE, *values)

    async def postponed(self, now: datetime, limit: int = 100, *, after: Due | None = None) -> Sequence[Due]:
        """See ``ports.Store.postponed``."""
        query = statements.POSTPONED if after is None else statements.POSTPONED_AFTER
        return await self._due(query, now, limit, after)

    async def _due(self, query: str, at: datetime, limit: int, after: Due | None) -> Sequence[Due]:
        check_limit(limit)
        place = () if after is None else (after.wake_at, after.workflow, after.id)
        rows = await self.connections.read(query, at, limit, *place)
        return list(readable(rows, lambda row: read_due(row, row["revision"]), []))

    async def ping(self) -> None:
        """See ``ports.Store.ping``."""
        await self.connections.read(statements.PING)

    async def close(self) -> None:
        """See ``ports.Store.close``. Closes the connections, after all earlier calls have completed."""
        await self.connections.close()
