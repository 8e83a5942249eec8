"""Opens the stores that commands name: a SQLite file, a PostgreSQL database, or Firestore."""

from __future__ import annotations

import os
import re
from importlib import import_module
from pathlib import Path

from cloud_adapter.database_urls import shown_url, url_scheme
from cloud_adapter.errors import SettingsError
from cloud_adapter.ports import CopyableStore
from cloud_adapter.store_settings import IndexSettings
from cloud_adapter.stores.sqlite.store import SqliteStore

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
    if url_scheme(name) in ("postgresql", "postgres"):
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
    try:
        connections = import_module("cloud_adapter.postgresql.connections")
    except ModuleNotFoundError as error:
        raise SettingsError(f"{error}: install the extra with pip install 'gorchestrate[postgresql]'") from error
    from cloud_adapter.stores.postgresql.store import PostgresqlStore

    return PostgresqlStore(connections.Connections(url))
