"""The two connections to the file: who uses them, and the writes that wait for them.

This module contains no queries: callers pass in the work to run on a connection. ``opening.py`` opens them.

Theory of operation. One connection is used by a thread only. It waits for the disk and for other processes without
blocking an event loop, and reads lists. The other connection is used in the event loop, so it never waits for another
process. It reads single rows, which takes about 30 µs, and makes short writes if the disk is fast.

A write joins a queue. At the end of the round of the event loop, all writes that have gathered are made in one
transaction. As many are expected as have gathered the last time:

* If there are fewer, the others may come one round later, and are waited for. Otherwise, clients that began in two
  rounds would never share a transaction.
* If only one is expected, it is made at once, which saves its caller a round.

To pass writes to the thread and back takes longer than a fast disk needs, so the event loop makes them itself, unless
one of these is the case. Then the thread makes them:

* The thread is at work. While it waits for the disk, the writes of its next turn gather.
* The last commits in the event loop have taken long: the disk is slow, or others use it.
* There are many of them, or a large one.
* Another process holds the lock for writing. Nothing was written then.
* The event loop has made ``HERE_IN_A_ROW`` writes one after another. SQLite copies the write-ahead log to the file now
  and then, which takes long. Only the thread does this, at the end of its turn.

A turn of the thread takes the writes that wait when it begins, writes up to ``WRITES_TOGETHER_MAX`` of them in one
transaction, and tells all their results in one call of the event loop. A write that joins after a turn has begun
requests the next one, because a turn first notes that none is due, and only then takes the writes. The other order
would leave a write without a turn.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from cloud_adapter.errors import Unavailable
from cloud_adapter.stores.sqlite.opening import close_both, close_opened, is_busy, open_both
from cloud_adapter.stores.sqlite.presence import OpenFiles
from cloud_adapter.stores.sqlite.thread import OneThread
from cloud_adapter.stores.sqlite.transactions import Write, write_together

WRITES_TOGETHER_MAX = 100
"""The most writes that share a transaction."""

LARGE_BYTES = 50_000
"""A write of this size or more gets its own transaction."""

HERE_TOGETHER_MAX = 20
"""The most writes that share a transaction in the event loop."""

HERE_IN_A_ROW = 200
"""After this many writes in the event loop, the thread makes the next ones. Each adds a few pages to the write-ahead
log, which SQLite copies to the file when it has ``WAL_BYTES``."""

HERE_SECONDS_MAX = 0.001
"""If commits in the event loop take longer on average, the thread makes those of the next ``SLOW_SECONDS``."""

HERE_AVERAGED = 10
"""About how many commits are averaged."""

HERE_COUNTED_MAX = 3
"""A commit counts as at most this many times ``HERE_SECONDS_MAX``. Single long ones happen on fast disks and busy
processors, too, so it takes a few of them to show that the disk is slow."""

SLOW_SECONDS = 1.0
"""Then one more commit of this kind is enough."""

Results = tuple[Sequence[Write], Mapping[Write, BaseException]]
"""Writes that were made, and the errors of those that failed."""

Ended = asyncio.Future[None]
"""Done when the results of a turn were told."""

_T = TypeVar("_T")


class Connections:
    """The connections of one process to a file. Use its methods in one event loop at a time only.

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
        self._is_due = False  # a turn of the thread is requested, and has not begun
        self._gathers_in: asyncio.AbstractEventLoop | None = None  # the loop in which writes gather
        self._gathered, self._expected = 0, 0
        self._last: asyncio.Future[Any] | None = None  # what was requested of the thread last
        self._made_here = 0
        self._seconds_here = 0.0  # the average of a commit
        self._slow_until = 0.0
        self._thread = OneThread("sqlite-store")
        self._turns = _Turns(self._thread)
        opening = self._thread.submit(open_both, path, busy_timeout_ms)
        try:
            self._writer, self._here = opening.result()
            self._files = OpenFiles(path)
        except BaseException:
            # An interrupt may arrive while the thread opens the file, or just after.
            self._thread.submit(close_opened, opening)
            self._thread.shutdown()
            raise

    async def run(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        """Runs ``work`` in the thread, on the connection that writes, after all earlier calls."""
        self._check_usable()
        try:
            self._last = made = asyncio.get_running_loop().run_in_executor(self._thread, work, self._writer)
            return await made
        except sqlite3.Error as error:
            raise self._unusable(error) from error

    async def read(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        """Runs ``work`` in the calling thread. It must be fast: a row or two, found by an index."""
        self._check_usable()
        try:
            return work(self._here)
        except sqlite3.Error as error:
            if not is_busy(error):
                raise self._unusable(error) from error
        return await self.run(work)  # rare: another process is recovering the file, so the thread waits for it

    async def write(self, work: Callable[[sqlite3.Connection], object], *, size: int = 0) -> None:
        """Runs ``work`` in a transaction, together with the other writes that wait. If the call is cancelled while its
        write still waits, nothing is written.

        Args:
            work: executes the statements. It is called again if another process holds the lock, or if another write of
                the transaction raises an error.
            size: the approximate number of bytes to write.
        """
        self._check_open()
        loop = asyncio.get_running_loop()
        write = Write(work, loop.create_future())
        if size >= LARGE_BYTES:
            self._request(loop, self._write, self._writer, [write])
        else:
            self._writes.append(write)
            if self._gathers_in is loop:
                self._gathered += 1
            else:  # the first one; another event loop may have ended in the middle of its round
                self._gathers_in, self._gathered = loop, 1
                loop.call_soon(self._end_round, loop)
                if self._expected == 1:
                    self._write_waiting(loop)
        try:
            await write.done
        except sqlite3.Error as error:
            raise self._unusable(error) from error

    async def close(self) -> None:
        """Closes both connections, after all earlier calls have completed. Later calls raise ``Unavailable``."""
        if self._closed:
            return
        self._closed = True
        self._request_turn(asyncio.get_running_loop())
        ending = self._thread.submit(close_both, self._writer, self._here)
        self._thread.shutdown(wait=False)
        try:
            # Closing continues even if the caller is cancelled.
            await asyncio.shield(asyncio.wrap_future(ending))
        except sqlite3.Error as error:
            raise self._unusable(error) from error
        self._thread.shutdown()

    def _end_round(self, loop: asyncio.AbstractEventLoop, *, is_second: bool = False) -> None:
        """Makes the writes that have gathered, or waits one more round for those that are expected."""
        if self._gathered < self._expected and not is_second:
            loop.call_soon(partial(self._end_round, loop, is_second=True))
            return
        self._gathers_in, self._expected = None, self._gathered
        if self._writes:
            self._write_waiting(loop)

    def _write_waiting(self, loop: asyncio.AbstractEventLoop) -> None:
        """Makes the writes that wait, here or in the thread."""
        last, count = self._last, len(self._writes)
        is_idle = last is None or last.done() or last.get_loop() is not loop
        is_short = count <= HERE_TOGETHER_MAX and self._made_here < HERE_IN_A_ROW
        if not (is_idle and is_short and loop.time() >= self._slow_until and self._write_here(loop)):
            self._request_turn(loop)

    def _write_here(self, loop: asyncio.AbstractEventLoop) -> bool:
        """Makes the writes that wait. Returns False if it has made none, because another process holds the lock."""
        started = loop.time()
        writes, failures = self._write(self._here, self._taken())
        if any(is_busy(error) for error in failures.values()):
            self._writes.extendleft(reversed(writes))
            return False
        self._made_here += len(writes)
        ended = loop.time()
        counted = min(ended - started, HERE_COUNTED_MAX * HERE_SECONDS_MAX)
        self._seconds_here += (counted - self._seconds_here) / HERE_AVERAGED
        if self._seconds_here > HERE_SECONDS_MAX:
            self._seconds_here, self._slow_until = HERE_SECONDS_MAX, ended + SLOW_SECONDS
        _tell(loop, writes, failures)
        _tell_others(loop, writes, failures)
        return True

    def _request_turn(self, loop: asyncio.AbstractEventLoop) -> None:
        """Requests a turn of the thread if writes wait for one, and none is due."""
        if self._writes and not self._is_due:
            self._is_due, self._made_here = True, 0
            self._request(loop, self._turn)

    def _request(self, loop: asyncio.AbstractEventLoop, work: Callable[..., Results], *args: object) -> None:
        """Requests work of the thread. When it has ended, the event loop is woken once, to tell the results."""
        self._last = loop.run_in_executor(self._turns, work, *args)

    def _turn(self) -> Results:
        self._is_due = False
        waiting = self._taken()
        while len(waiting) > WRITES_TOGETHER_MAX:
            results = self._write(self._writer, waiting[:WRITES_TOGETHER_MAX])
            del waiting[:WRITES_TOGETHER_MAX]
            _tell_others(None, *results)
        return self._write(self._writer, waiting)

    def _taken(self) -> list[Write]:
        """Removes the writes that wait, and returns them."""
        taken: list[Write] = []
        try:
            while True:
                taken.append(self._writes.popleft())
        except IndexError:
            return taken

    def _write(self, connection: sqlite3.Connection, writes: Sequence[Write]) -> Results:
        # If the files are gone, the writes are lost. Checked before anything else can close the connection, because
        # closing deletes the write-ahead log.
        writes = [write for write in writes if not write.done.cancelled()]
        return writes, write_together(connection, writes, self._files.check) if writes else {}

    def _check_usable(self) -> None:
        self._check_open()
        self._files.check()

    def _check_open(self) -> None:
        if self._closed:
            raise Unavailable(f"the store {self._path} is closed")

    def _unusable(self, error: sqlite3.Error) -> Unavailable:
        return Unavailable(f"SQLite could not use {self._path}: {error}")


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
    with contextlib.suppress(RuntimeError):  # the event loop has ended, and nobody waits in it any more
        loop.call_soon_threadsafe(_end, loop, results, ended)
    _tell_others(loop, *results)


def _end(loop: asyncio.AbstractEventLoop, results: Results, ended: Ended) -> None:
    _tell(loop, *results)
    if not ended.done():
        ended.set_result(None)


def _tell(loop: asyncio.AbstractEventLoop, writes: Sequence[Write], failures: Mapping[Write, BaseException]) -> None:
    """Tells the results of the writes that wait in this event loop."""
    for write in writes:
        if write.done.done() or write.done.get_loop() is not loop:
            continue  # cancelled while it was written, or another event loop tells it
        if (failure := failures.get(write)) is None:
            write.done.set_result(None)
        else:
            write.done.set_exception(failure)


def _tell_others(
    loop: asyncio.AbstractEventLoop | None, writes: Sequence[Write], failures: Mapping[Write, BaseException]
) -> None:
    """Has the results of writes told in their event loops, except this one."""
    for other in dict.fromkeys(write.done.get_loop() for write in writes):
        if other is not loop:
            with contextlib.suppress(RuntimeError):  # it has ended, and nobody waits in it any more
                other.call_soon_threadsafe(_tell, other, writes, failures)
