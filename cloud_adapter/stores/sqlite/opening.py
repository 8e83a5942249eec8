"""Opens and closes the two connections to a file: how SQLite opens, locks and fails. ``connections`` uses them."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from concurrent.futures import Future
from pathlib import Path

from cloud_adapter.errors import SettingsError, Unavailable
from cloud_adapter.stores.sqlite.schema import create_or_upgrade, stored_version

PAGE_BYTES = 1_024
"""The size of a page of a new file. A commit appends each page that it has changed to the write-ahead log. An event
changes a few bytes in each of four indexes and tables, so small pages make the log a third as long."""

WAL_BYTES = 4_000_000
"""From this size on, the write-ahead log is copied to the file."""

_WAL_RETRY_SECONDS = 0.005


def _open(path: Path, busy_timeout_ms: int) -> sqlite3.Connection:
    connection: sqlite3.Connection | None = None
    try:
        _create_private(path)
        connection = sqlite3.connect(path, timeout=busy_timeout_ms / 1000, isolation_level=None)
        # Texts are read as bytes, so that a text that is not UTF-8 fails only its own document, not the whole query.
        connection.text_factory = bytes
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute(f"PRAGMA page_size = {PAGE_BYTES}")  # no effect on an existing file
        create_or_upgrade(connection, path)
        _write_ahead(connection, busy_timeout_ms)
        (page_bytes,) = connection.execute("PRAGMA page_size").fetchone()
        connection.execute(f"PRAGMA wal_autocheckpoint = {WAL_BYTES // page_bytes}")
        connection.execute("PRAGMA schema_version").fetchone()  # the first read creates the write-ahead log
    except BaseException as error:
        if connection is not None:
            connection.close()
        if isinstance(error, sqlite3.Error):
            raise _open_error(path, error) from error
        raise
    return connection


def version_of(path: Path) -> int:
    """Returns the version of the tables in a file that exists, 0 if it is empty. Changes nothing.

    Raises:
        SettingsError: the file cannot be used. The message gives the reason and the fix.
        Unavailable: another process kept the file locked, or the disk failed.
    """
    try:
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
            return stored_version(connection, path)
    except sqlite3.Error as error:
        raise _open_error(path, error) from error


def _create_private(path: Path) -> None:
    """Creates a missing file that only its owner may read. SQLite gives the files beside it the same permissions."""
    with contextlib.suppress(OSError):  # SQLite reports it
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))


def open_both(path: Path, busy_timeout_ms: int) -> tuple[sqlite3.Connection, sqlite3.Connection]:
    """Opens the connection of the thread, and the one of the event loop."""
    connection = _open(path, busy_timeout_ms)
    try:
        timeout = busy_timeout_ms / 1000  # another process may have a lock for a moment, because it opens the file too
        here = sqlite3.connect(path, timeout=timeout, isolation_level=None, check_same_thread=False)
        here.text_factory = bytes
        here.execute("PRAGMA synchronous = FULL")
        here.execute("PRAGMA wal_autocheckpoint = 0")
        here.execute("PRAGMA busy_timeout = 0")
    except BaseException as error:
        connection.close()
        if isinstance(error, sqlite3.Error):
            raise _open_error(path, error) from error
        raise
    return connection, here


def close_opened(opening: Future[tuple[sqlite3.Connection, sqlite3.Connection]]) -> None:
    if opening.exception() is None:
        close_both(*opening.result())


def close_both(connection: sqlite3.Connection, here: sqlite3.Connection) -> None:
    here.close()
    connection.close()


def _write_ahead(connection: sqlite3.Connection, busy_timeout_ms: int) -> None:
    # Here SQLite ignores the busy timeout: it reports "locked" immediately instead of waiting for other processes.
    deadline = time.monotonic() + busy_timeout_ms / 1000
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL").fetchone()
            return
        except sqlite3.OperationalError as error:
            if not is_busy(error) or time.monotonic() >= deadline:
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
            return SettingsError(f"the database {path} cannot be created: create the directory {path.parent} first")
        return SettingsError(
            f"the database {path} cannot be written ({error}): name a file that this user may write, in a directory "
            f"that this user may write"
        )
    return Unavailable(f"SQLite could not open {path}: {error}")


def is_busy(error: BaseException) -> bool:
    return isinstance(error, sqlite3.OperationalError) and _primary_code(error) == sqlite3.SQLITE_BUSY


def _primary_code(error: sqlite3.Error) -> int:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF
