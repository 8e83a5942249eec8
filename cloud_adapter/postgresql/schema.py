"""The tables in the database and their versions. This module does not depend on documents, and opens no connections.

Theory of operation. All tables are in a schema of their own, ``gorchestrate``, so they do not meet those of other
programs, and queries name it, so they do not depend on a ``search_path``. Version n of the tables is the result of the
first n elements of ``VERSIONS``. The version is read and written in one transaction that holds an advisory lock: if
several processes open an old database at the same time, one of them upgrades it, and the others then find it upgraded.
Never change an element that a release has shipped: existing databases would not get the change. An upgrade must leave
tables that processes of the previous release can still use, because they continue until they are replaced.

Texts are compared by their bytes (``COLLATE "C"``), which is the order of listings in every store.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import TYPE_CHECKING

from cloud_adapter.errors import SettingsError

if TYPE_CHECKING:
    from asyncpg import Connection

_LOCK = int.from_bytes(b"gorc")
"""Identifies the advisory lock among those of other programs in the database."""

_VERSION_1 = (
    """CREATE TABLE gorchestrate.instances (
        workflow TEXT COLLATE "C" NOT NULL, id TEXT COLLATE "C" NOT NULL,
        revision BIGINT NOT NULL, format INTEGER NOT NULL, status TEXT COLLATE "C" NOT NULL, pc BIGINT NOT NULL,
        created_at TIMESTAMPTZ NOT NULL, updated_at TIMESTAMPTZ NOT NULL, wake_at TIMESTAMPTZ,
        lease TEXT, tokens TEXT NOT NULL, entries_count BIGINT NOT NULL, entries_bytes BIGINT NOT NULL,
        history TEXT NOT NULL, search TEXT NOT NULL, searchable JSONB NOT NULL, error TEXT,
        execution TEXT NOT NULL, fields TEXT NOT NULL,
        PRIMARY KEY (workflow, id)
    )""",
    "CREATE INDEX instances_by_update ON gorchestrate.instances (workflow, updated_at, id)",
    "CREATE INDEX instances_by_status ON gorchestrate.instances (workflow, status, updated_at, id)",
    "CREATE INDEX instances_by_creation ON gorchestrate.instances (workflow, created_at, id)",
    "CREATE INDEX instances_due ON gorchestrate.instances (wake_at, workflow, id) WHERE wake_at IS NOT NULL",
    "CREATE INDEX instances_by_search ON gorchestrate.instances USING GIN (searchable jsonb_path_ops)",
    """CREATE TABLE gorchestrate.history_entries (
        workflow TEXT COLLATE "C" NOT NULL, id TEXT COLLATE "C" NOT NULL, number BIGINT NOT NULL, entry TEXT NOT NULL,
        PRIMARY KEY (workflow, id, number)
    )""",
    """CREATE FUNCTION gorchestrate.delete_history() RETURNS TRIGGER LANGUAGE plpgsql AS $$ BEGIN
        DELETE FROM gorchestrate.history_entries WHERE workflow = OLD.workflow AND id = OLD.id;
        RETURN NULL;
    END $$""",
    """CREATE TRIGGER history_of_deleted AFTER DELETE ON gorchestrate.instances
        FOR EACH ROW EXECUTE FUNCTION gorchestrate.delete_history()""",
    """CREATE TABLE gorchestrate.idempotency_keys (
        workflow TEXT COLLATE "C" NOT NULL, id TEXT COLLATE "C" NOT NULL, key TEXT COLLATE "C" NOT NULL,
        expires_at TIMESTAMPTZ NOT NULL, fingerprint TEXT NOT NULL, response TEXT NOT NULL,
        PRIMARY KEY (workflow, id, key)
    )""",
    "CREATE INDEX idempotency_keys_by_expiry ON gorchestrate.idempotency_keys (expires_at)",
    """CREATE TABLE gorchestrate.inbox (
        workflow TEXT COLLATE "C" NOT NULL, id TEXT COLLATE "C" NOT NULL, name TEXT COLLATE "C" NOT NULL,
        at TIMESTAMPTZ NOT NULL, body TEXT NOT NULL,
        PRIMARY KEY (workflow, id, name)
    )""",
    "CREATE INDEX inbox_by_arrival ON gorchestrate.inbox (workflow, id, at, name)",
    "CREATE INDEX inbox_by_age ON gorchestrate.inbox (at, workflow, id)",
    """CREATE TABLE gorchestrate.tasks (
        name TEXT COLLATE "C" PRIMARY KEY, path TEXT NOT NULL, body BYTEA NOT NULL, turns TEXT COLLATE "C" NOT NULL,
        scheduled_at TIMESTAMPTZ NOT NULL, due_at TIMESTAMPTZ NOT NULL, created_at TIMESTAMPTZ NOT NULL,
        attempts INTEGER NOT NULL DEFAULT 0, first_attempt_at TIMESTAMPTZ, ended_at TIMESTAMPTZ
    )""",
    "CREATE INDEX tasks_due ON gorchestrate.tasks (due_at, name) INCLUDE (turns) WHERE ended_at IS NULL",
    "CREATE INDEX tasks_ended ON gorchestrate.tasks (ended_at) WHERE ended_at IS NOT NULL",
)
_VERSION_2 = (
    "ALTER TABLE gorchestrate.instances ADD COLUMN postponed INTEGER, ADD COLUMN postponed_until TIMESTAMPTZ",
    "CREATE INDEX instances_postponed ON gorchestrate.instances (postponed_until, workflow, id) "
    "WHERE postponed_until IS NOT NULL",
)
VERSIONS = (_VERSION_1, _VERSION_2)
"""The statements that upgrade a database to each version from the previous one. Elements of past releases never
change."""

SCHEMA_VERSION = len(VERSIONS)
"""The version of the tables. An older database is upgraded when it is opened. A newer one is rejected."""


async def create_or_upgrade(connection: Connection) -> None:
    """Brings the tables to ``SCHEMA_VERSION``. If they have it already, nothing but this is read, so that it needs no
    right to create tables.

    Raises:
        SettingsError: the database is newer than this release, or its encoding or its schema is not supported.
    """
    if await stored_version(connection) == SCHEMA_VERSION:
        return
    encoding = await connection.fetchval("SHOW server_encoding")
    if encoding != "UTF8":
        raise SettingsError(f"the encoding of the database is {encoding}: create one with ENCODING 'UTF8'")
    async with connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock($1)", _LOCK)
        version = await stored_version(connection)
        if version == SCHEMA_VERSION:
            return
        if version == 0:
            await connection.execute("CREATE SCHEMA IF NOT EXISTS gorchestrate")
            await connection.execute("CREATE TABLE gorchestrate.schema_version (version INTEGER NOT NULL)")
            await connection.execute("INSERT INTO gorchestrate.schema_version VALUES (0)")
        for statement in chain.from_iterable(VERSIONS[version:]):
            await connection.execute(statement)
        await connection.execute("UPDATE gorchestrate.schema_version SET version = $1", SCHEMA_VERSION)


async def stored_version(connection: Connection) -> int:
    """Returns the version of the tables, 0 if there are none. Changes nothing.

    Raises:
        SettingsError: the database is newer than this release, or its schema belongs to another program.
    """
    tables = await _tables(connection)
    if not tables:
        return 0
    if "schema_version" not in tables:
        raise SettingsError(
            f"the database has a schema 'gorchestrate' of another program, with {tables[0]!r} in it: use another "
            f"database"
        )
    version: int = await connection.fetchval("SELECT version FROM gorchestrate.schema_version") or 0
    if not 1 <= version <= SCHEMA_VERSION:
        raise SettingsError(
            f"the database has schema version {version}, this release supports 1 to {SCHEMA_VERSION}: upgrade "
            f"gorchestrate, or use another database"
        )
    return version


async def _tables(connection: Connection) -> Sequence[str]:
    # Not `to_regclass`, which may not see what another process has created a moment ago.
    rows = await connection.fetch(
        "SELECT relname FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace "
        "WHERE nspname = 'gorchestrate' ORDER BY relname"
    )
    return [name for (name,) in rows]
