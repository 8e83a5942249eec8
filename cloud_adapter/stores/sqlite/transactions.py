"""Transactions on a connection, and several writes in one of them. Knows no tables.

Theory of operation. Writes share a transaction because a transaction costs one sync of the disk, however much it
writes. Each write must still succeed or fail as if it were alone. So a write of several statements runs inside a
savepoint, and one that raises is rolled back to it; a single statement needs none, since SQLite applies it as a whole
or not at all. An error of the disk ends the transaction itself: then no savepoint is left, and every write in it has
failed. A write that catches an error of its own statements and goes on would break this.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field


@dataclass(eq=False, slots=True)
class Write:
    """Something to be written.

    Attributes:
        work: writes it, in a transaction, or raises.
        is_single: it is one statement, which SQLite writes wholly or not at all.
    """

    work: Callable[[sqlite3.Connection], object]
    is_single: bool
    done: Future[None] = field(default_factory=Future)


def write_together(connection: sqlite3.Connection, writes: Sequence[Write]) -> None:
    """Writes in one transaction. One that raises is left out; if the transaction fails, all of them have failed."""
    failures: Mapping[Write, BaseException] = {}
    try:
        if len(writes) > 1:
            with transaction(connection):
                failures = _write_each(connection, writes)
        elif writes[0].is_single:
            writes[0].work(connection)  # a transaction of its own
        else:
            with transaction(connection):
                writes[0].work(connection)
    except BaseException as error:
        failures = dict.fromkeys(writes, error)
    for write in writes:
        if (failure := failures.get(write)) is None:
            write.done.set_result(None)
        else:
            write.done.set_exception(failure)


def _write_each(connection: sqlite3.Connection, writes: Sequence[Write]) -> Mapping[Write, BaseException]:
    """Writes what can be written; gives why the others have failed."""
    failures: dict[Write, BaseException] = {}
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
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """A transaction that holds the write lock from its first moment, so that nothing it has read can change."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # a failing disk ends it by itself
            connection.execute("ROLLBACK")
        raise
