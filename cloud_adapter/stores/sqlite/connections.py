"""The two connections to the file: how they are opened and closed, the thread of one, and the writes that wait for it.

This module handles how SQLite opens, locks and fails. It contains no queries: callers pass in the work to run on a
connection.

Theory of operation. One connection writes, and reads lists. Only one thread uses it, so a call that waits for the disk
or for another process does not block an event loop. The other connection reads single rows in the thread of its caller.
Such a read takes about 30 µs and waits for no other process, because readers do not wait in a write-ahead log.

A write joins a queue. If no turn of the thread is due, the write requests one. A turn takes the writes that wait when
it begins, writes up to ``WRITES_TOGETHER_MAX`` of them in one transaction, and tells all their results in one call of
the event loop. While it waits for the disk, the writes of the next turn gather. A write that joins after a turn has
begun requests the next one, because a turn first notes that none is due, and only then takes the writes. The other
order would leave a write without a turn.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from cloud_adapter.errors import SettingsError, Unavailable
from cloud_adapter.stores.sqlite.presence import OpenFiles
from cloud_adapter.stores.sqlite.schema import create_or_upgrade
from cloud_adapter.stores.sqlite.thread import OneThread
from cloud_adapter.stores.sqlite.transactions import Write, write_together

WRITES_TOGETHER_MAX = 100
"""The most writes that share a transaction."""

LARGE_BYTES = 50_000
"""A write of this size or more gets its own transaction."""

Results = tuple[Sequence[Write], Mapping[Write, BaseException]]
"""Writes that were made, and the errors of those that failed."""

Ended = asyncio.Future[None]
"""Done when the results of a turn were told."""

_T = TypeVar("_T")

_WAL_RETRY_SECONDS = 0.005


class Connections:
    """The connections of one process to a file. Use its methods in one event loop only.

    Args:
        path: the file. It is created if it does not exist, and upgraded if an older release created it.
        busy_timeout_ms: how long a write waits for other processes before it raises ``Unavailable``.

    Raises:
        SettingsError: the file cannot be used. The message gives the reason and the fix.
        Unavailable: another process kept the file locked, or the disk failed.
    """

    def __init__(self, path: Path, busy_timeout_ms: int) -> None:
        self._path = path
        self._closed = False
        self._writes: deque[Write] = deque()
        self._is_due = False
        self._thread = OneThread("sqlite-store")
        self._turns = _Turns(self._thread)
        opening = self._thread.submit(_open_both, path, busy_timeout_ms)
        try:
            self._writer, self._reader = opening.result()
            self._files = OpenFiles(path)
        except BaseException:
            # An interrupt may arrive while the thread opens the file, or just after.
            self._thread.submit(_close_opened, opening)
            self._thread.shutdown()
            raise

    async def run(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        """Runs ``work`` in the thread, on the connection that writes, after all earlier calls."""
        self._check_usable()
        with self._errors():
            return await asyncio.get_running_loop().run_in_executor(self._thread, work, self._writer)

    async def read(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        """Runs ``work`` in the calling thread, on the connection that reads. It must be fast: a row or two, found by an
        index."""
        self._check_usable()
        with self._errors():
            try:
                return work(self._reader)
            except sqlite3.OperationalError as error:
                if _primary_code(error) != sqlite3.SQLITE_BUSY:
                    raise
        return await self.run(work)  # rare: another process is recovering the file, so the thread waits for it

    async def write(self, work: Callable[[sqlite3.Connection], object], *, statements: int, size: int = 0) -> None:
        """Runs ``work`` in a transaction, together with the other writes that wait for the thread. If the call is
        cancelled while its write still waits, nothing is written.

        Args:
            work: executes the statements. A single statement must write nothing if it raises.
            size: the approximate number of bytes to write.
        """
        self._check_open()
        loop = asyncio.get_running_loop()
        write = Write(work, statements == 1, loop.create_future())
        if size >= LARGE_BYTES:
            self._request(loop, self._write, [write])
        else:
            self._writes.append(write)
            if not self._is_due:
                self._is_due = True
                self._request(loop, self._turn, loop)
        with self._errors():
            await write.done

    async def close(self) -> None:
        """Closes both connections, after all earlier calls have completed. Later calls raise ``Unavailable``."""
        if self._closed:
            return
        self._closed = True
        ending = self._thread.submit(_close_both, self._writer, self._reader)
        self._thread.shutdown(wait=False)
        with self._errors():
            # Closing continues even if the caller is cancelled.
            await asyncio.shield(asyncio.wrap_future(ending))
        self._thread.shutdown()

    def _request(self, loop: asyncio.AbstractEventLoop, work: Callable[..., Results], *args: object) -> None:
        """Requests work of the thread. When it has ended, the event loop is woken once, to tell the results."""
        loop.run_in_executor(self._turns, work, *args)

    def _turn(self, loop: asyncio.AbstractEventLoop) -> Results:
        self._is_due = False
        waiting = [self._writes.popleft() for _ in range(len(self._writes))]
        while len(waiting) > WRITES_TOGETHER_MAX:
            results = self._write(waiting[:WRITES_TOGETHER_MAX])
            del waiting[:WRITES_TOGETHER_MAX]
            with contextlib.suppress(RuntimeError):  # the event loop has ended, and nobody waits any more
                loop.call_soon_threadsafe(_tell, *results)
        return self._write(waiting)

    def _write(self, writes: Sequence[Write]) -> Results:
        # If the files are gone, the writes are lost. Checked in this thread, because closing, which comes after them in
        # it, deletes the write-ahead log.
        writes = [write for write in writes if not write.done.cancelled()]
        return writes, write_together(self._writer, writes, self._files.check) if writes else {}

    def _check_usable(self) -> None:
        self._check_open()
        self._files.check()

    def _check_open(self) -> None:
        if self._closed:
            raise Unavailable(f"the store {self._path} is closed")

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise Unavailable(f"SQLite could not use {self._path}: {error}") from error


class _Turns(Executor):
    """Makes turns in a thread, and tells their results in the event loop.

    For the event loop, it is an executor like any other one, so that a loop that watches its threads sees the turns. As
    ``submit`` returns a future of the loop, the loop need not wrap it, and the end of a turn is one call of the loop.
    """

    def __init__(self, thread: OneThread) -> None:
        self._thread = thread

    def submit(self, turn: Callable[..., Any], /, *args: Any, **_: Any) -> Any:
        """Makes a turn. Returns a future of the running event loop that is done when the results were told."""
        loop = asyncio.get_running_loop()
        ended = loop.create_future()
        self._thread.put(partial(_make, turn, args, loop, ended))
        return ended


def _make(turn: Callable[..., Results], args: Sequence[Any], loop: asyncio.AbstractEventLoop, ended: Ended) -> None:
    results = turn(*args)
    with contextlib.suppress(RuntimeError):  # the event loop has ended, and nobody waits any more
        loop.call_soon_threadsafe(_end, results, ended)


def _end(results: Results, ended: Ended) -> None:
    _tell(*results)
    if not ended.done():
        ended.set_result(None)


def _tell(writes: Sequence[Write], failures: Mapping[Write, BaseException]) -> None:
    for write in writes:
        if write.done.done():
            continue  # cancelled while it was written
        if (failure := failures.get(write)) is None:
            write.done.set_result(None)
        else:
            write.done.set_exception(failure)


# --- opening and closing ---------------------------------------------------------------------


def _open(path: Path, busy_timeout_ms: int) -> sqlite3.Connection:
    connection: sqlite3.Connection | None = None
    try:
        _create_private(path)
        connection = sqlite3.connect(path, timeout=busy_timeout_ms / 1000, isolation_level=None)
        # Texts are read as bytes, so that a text that is not UTF-8 fails only its own document, not the whole query.
        connection.text_factory = bytes
        connection.execute("PRAGMA synchronous = FULL")
        create_or_upgrade(connection, path)
        _write_ahead(connection, busy_timeout_ms)
        connection.execute("PRAGMA schema_version").fetchone()  # the first read creates the write-ahead log
    except BaseException as error:
        if connection is not None:
            connection.close()
        if isinstance(error, sqlite3.Error):
            raise _open_error(path, error) from error
        raise
    return connection


def _create_private(path: Path) -> None:
    """Creates a missing file that only its owner may read. SQLite gives the files beside it the same permissions."""
    with contextlib.suppress(OSError):  # SQLite reports it
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))


def _open_both(path: Path, busy_timeout_ms: int) -> tuple[sqlite3.Connection, sqlite3.Connection]:
    """Opens the connection that writes, and the one that reads in the calling thread."""
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


def _write_ahead(connection: sqlite3.Connection, busy_timeout_ms: int) -> None:
    # Here SQLite ignores the busy timeout: it reports "locked" immediately instead of waiting for other processes.
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
            return SettingsError(f"the database {path} cannot be created: create the directory {path.parent} first")
        return SettingsError(
            f"the database {path} cannot be written ({error}): name a file that this user may write, in a directory "
            f"that this user may write"
        )
    return Unavailable(f"SQLite could not open {path}: {error}")


def _primary_code(error: sqlite3.Error) -> int:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF
