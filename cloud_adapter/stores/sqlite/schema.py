"""The tables of the file and their versions. This module does not depend on documents, and does not open the file.

Theory of operation. Two values in the header of a file identify it: ``application_id`` marks it as a file of
gorchestrate, and ``user_version`` is the version of its tables. Version n is the result of the first n elements of
``VERSIONS``, so a new file and an upgraded file have the same tables. Both values are read and written in one
transaction that holds the write lock from its start. If several processes open an old file at the same time, one of
them upgrades it, and the others then find it upgraded. Never change an element that a release has shipped: existing
files would not get the change.
"""

from __future__ import annotations

import sqlite3
from itertools import chain
from pathlib import Path

from cloud_adapter.errors import SettingsError
from cloud_adapter.stores.sqlite.transactions import Transaction

APPLICATION_ID = int.from_bytes(b"gorc")
"""Marks a file as one of gorchestrate (SQLite's ``application_id``). Files of other programs are rejected and not
changed."""

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
_VERSION_3 = (
    "UPDATE instances SET created_at = 0 WHERE created_at IS NULL",
    "CREATE INDEX instances_by_creation ON instances (workflow, created_at, id)",
)
_VERSION_4 = (
    # Entries of earlier releases stay in the column `history`, until the next commit of their instance converts them.
    "ALTER TABLE instances ADD COLUMN entries_count INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE instances ADD COLUMN entries_bytes INTEGER NOT NULL DEFAULT 0",
    """CREATE TABLE history_entries (
        workflow TEXT NOT NULL, id TEXT NOT NULL, number INTEGER NOT NULL, entry TEXT NOT NULL,
        PRIMARY KEY (workflow, id, number)
    ) WITHOUT ROWID""",
    """CREATE TRIGGER history_of_deleted AFTER DELETE ON instances BEGIN
        DELETE FROM history_entries WHERE workflow = OLD.workflow AND id = OLD.id;
    END""",
)
_VERSION_5 = (
    "ALTER TABLE instances ADD COLUMN postponed INTEGER",
    "ALTER TABLE instances ADD COLUMN postponed_until INTEGER",
    "CREATE INDEX instances_postponed ON instances (postponed_until) WHERE postponed_until IS NOT NULL",
)
VERSIONS = (_VERSION_1, _VERSION_2, _VERSION_3, _VERSION_4, _VERSION_5)
"""The statements that upgrade a file to each version from the previous one. Elements of past releases never change."""

SCHEMA_VERSION = len(VERSIONS)
"""The version of the tables, stored in the file's ``user_version``. An older file is upgraded when it is opened. A
newer file is rejected."""


def create_or_upgrade(connection: sqlite3.Connection, path: Path) -> None:
    with Transaction(connection):  # includes the checks, because another process may be doing the same
        version = stored_version(connection, path)
        if version == SCHEMA_VERSION:
            return
        for statement in chain.from_iterable(VERSIONS[version:]):
            connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")


def stored_version(connection: sqlite3.Connection, path: Path) -> int:
    """Returns the version of the tables, 0 if the file is empty. Changes nothing.

    Raises:
        SettingsError: the file is newer than this release, or belongs to another program.
    """
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if application == APPLICATION_ID:
        if not 1 <= version <= SCHEMA_VERSION:
            raise SettingsError(
                f"the database {path} has schema version {version}, this release supports 1 to {SCHEMA_VERSION}: "
                f"upgrade gorchestrate, or name another file"
            )
    elif application or version or connection.execute("SELECT 1 FROM sqlite_master").fetchone():
        raise SettingsError(f"the database {path} belongs to another program: name another file")
    return int(version)
