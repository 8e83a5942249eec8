"""Opens the stores that commands name: a SQLite file, a PostgreSQL database, or Firestore."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from cloud_adapter.database_urls import POSTGRESQL_SCHEMES, shown_url, url_scheme
from cloud_adapter.errors import SettingsError
from cloud_adapter.ports import CopyableStore
from cloud_adapter.postgresql import schema as postgresql_schema
from cloud_adapter.store_settings import IndexSettings
from cloud_adapter.stores.sqlite import schema as sqlite_schema
from cloud_adapter.stores.sqlite.opening import version_of
from cloud_adapter.stores.sqlite.store import SqliteStore
from cloud_adapter.variables import PREFIX

if TYPE_CHECKING:
    from cloud_adapter.postgresql.connections import Connections

TOKEN_VARIABLE = "GOOGLE_ACCESS_TOKEN"
"""An access token for Firestore, from ``gcloud auth print-access-token``. Without it, the application's default
credentials are used."""

_PROJECT = re.compile(
    r"((?:[a-z0-9.-]+:)?[a-z][a-z0-9-]{4,28}[a-z0-9])(?:/(\(default\)|[a-z][a-z0-9-]{2,61}[a-z0-9]))?"
)

_FILE_URL = "sqlite:///"


def open_store(name: str, *, new: bool = False, shards: int | None = None) -> CopyableStore:
    """Opens a store: a SQLite file, ``postgresql://...``, or ``PROJECT`` or ``PROJECT/DATABASE`` for Firestore. The
    first and the last may also be URLs: ``sqlite:///file.db``, ``firestore://PROJECT/DATABASE``. Firestore's indexes
    are those of ``IndexSettings``.

    Args:
        new: whether to create a SQLite file that does not exist, if the name ends with ``.db`` or is a URL.
        shards: the number of shards in Firestore, instead of the setting.

    Raises:
        SettingsError: the name is none of these, or the database cannot be used.
    """
    file = _file(name)
    if file.is_file() or (new and is_missing_file(name)):
        return SqliteStore(file)
    if url_scheme(name) in POSTGRESQL_SCHEMES:
        return _on_postgresql(name)
    match = _PROJECT.fullmatch(name.removeprefix("firestore://"))
    if match is None:
        raise SettingsError(
            f"unknown store {shown_store(name)}: it is neither a file nor a Firestore project. Pass a SQLite file, "
            f"postgresql://USER@HOST/NAME, PROJECT (6 to 30 letters, digits and '-') or PROJECT/DATABASE (DATABASE is "
            f"(default), or 4 to 63 of these characters)"
        )
    # Imported lazily: Google's client takes longer to load than everything else.
    from google.oauth2.credentials import Credentials

    from cloud_adapter.stores.firestore.shards import Shards
    from cloud_adapter.stores.firestore.store import FirestoreStore

    settings = IndexSettings.load(index_shards=shards)
    token = os.environ.get(TOKEN_VARIABLE)
    credentials = None if not token else Credentials(token=token)  # type: ignore[no-untyped-call]
    return FirestoreStore(
        project=match[1],
        database=match[2] or "(default)",
        credentials=credentials,
        shards=Shards(settings.index_shards, settings.reads_shards),
    )


async def has_tables(name: str, *, upgrade: bool) -> bool:
    """Whether a database has the tables of gorchestrate. Changes nothing. Firestore needs no tables.

    Args:
        name: see ``open_store``.
        upgrade: whether tables of an earlier release may be upgraded, as they are when the store is opened.

    Raises:
        SettingsError: the database cannot be used, or its tables are old and may not be upgraded.
        Unavailable: it does not answer.
    """
    if url_scheme(name) in POSTGRESQL_SCHEMES:
        version, newest = await _connections(name).stored_version(), postgresql_schema.SCHEMA_VERSION
    elif _file(name).is_file():
        version, newest = version_of(_file(name)), sqlite_schema.SCHEMA_VERSION
    else:
        return not is_missing_file(name)
    if 0 < version < newest and not upgrade:
        raise SettingsError(
            f"the tables of {shown_store(name)} are those of an earlier release, and are not upgraded without --write: "
            f"upgrade them with gorchestrate check SOURCE --against STORE"
        )
    return version > 0


async def check_tables(name: str, *, upgrade: bool) -> None:
    """Checks that a database has the tables of gorchestrate, so that a wrong name does not look like an empty store.

    Raises:
        SettingsError, Unavailable: see ``has_tables``; or it has none.
    """
    if not (is_missing_file(name) or await has_tables(name, upgrade=upgrade)):
        raise SettingsError(
            f"{shown_store(name)} has no tables of gorchestrate, so it has no instances: check the name of the database"
        )


async def check_shards(store: CopyableStore, name: str) -> None:
    """Checks that what is written to a store gets a shard, if instances that are there have one. Where indexes with
    shards are read, it would not be found otherwise.

    Raises:
        SettingsError: it would get none.
        Unavailable: the store did not answer.
    """
    is_elsewhere = isinstance(store, SqliteStore) or url_scheme(name) in POSTGRESQL_SCHEMES
    if is_elsewhere or IndexSettings.load().index_shards > 1:
        return
    from cloud_adapter.stores.firestore.store import FirestoreStore

    assert isinstance(store, FirestoreStore)
    for workflow in await store.workflows():
        if await store.has_shards(workflow):
            raise SettingsError(
                f"the instances in {shown_store(name)} have shards, but the copies would get none: set "
                f"{PREFIX}INDEX_SHARDS and {PREFIX}SHARDED_INDEXES as its functions have them"
            )


def is_missing_file(name: str) -> bool:
    """Whether the name is that of a SQLite file that does not exist."""
    file = _file(name)
    return not file.exists() and (name.startswith(_FILE_URL) or file.suffix == ".db")


def is_same_store(one: str, other: str) -> bool:
    """Whether two names are equal, or those of the same SQLite file."""
    files = _file(one), _file(other)
    return one == other or (all(file.is_file() for file in files) and files[0].samefile(files[1]))


def shown_store(name: str) -> str:
    """Returns the name of a store without user, password and parameters."""
    return shown_url(name) if "://" in name and not name.startswith(_FILE_URL) else name


def _file(name: str) -> Path:
    return Path(name.removeprefix(_FILE_URL))


def _on_postgresql(url: str) -> CopyableStore:
    connections = _connections(url)
    from cloud_adapter.stores.postgresql.store import PostgresqlStore

    return PostgresqlStore(connections)


def _connections(url: str) -> Connections:
    try:
        from cloud_adapter.postgresql.connections import Connections
    except ModuleNotFoundError as error:
        raise SettingsError(f"{error}: install the extra with pip install 'gorchestrate[postgresql]'") from error
    return Connections(url)
