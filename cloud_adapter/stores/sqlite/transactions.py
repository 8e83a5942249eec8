"""Transactions on a connection, and several writes in one transaction. This module does not depend on tables.

Theory of operation. Writes share a transaction because a transaction costs one disk sync, regardless of how much it
writes. Each write must still succeed or fail as if it were alone. A write of several statements therefore runs inside a
savepoint. If it raises, it is rolled back to the savepoint. A single statement needs no savepoint, because SQLite
applies it completely or not at all. A disk error ends the transaction itself: then no savepoint is left, and every
write in it has failed. A write that catches an error of its own statements and continues would break this.
"""

from __future__ import annotations

import sqlite3
from asyncio import Future
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass


@dataclass(eq=False, slots=True)
class Write:
    """A write that waits for its transaction.

    Attributes:
        work: executes the statements in a transaction, or raises.
        is_single: whether it is one statement, which SQLite applies completely or not at all.
        done: gets the result in its event loop. This module does not use it.
    """

    work: Callable[[sqlite3.Connection], object]
    is_single: bool
    done: Future[None]


def write_together(
    connection: sqlite3.Connection, writes: Sequence[Write], check: Callable[[], None]
) -> Mapping[Write, BaseException]:
    """Makes the writes in one transaction. A write that raises is left out. If the transaction fails, all of them have
    failed. Returns the errors of those that have failed.

    Args:
        check: called after the transaction. If it raises, all writes have failed.
    """
    failures: Mapping[Write, BaseException] = {}
    try:
        if len(writes) > 1:
            with Transaction(connection):
                failures = _write_each(connection, writes)
        elif writes[0].is_single:
            writes[0].work(connection)  # a transaction of its own
        else:
            with Transaction(connection):
                writes[0].work(connection)
        check()
    except BaseException as error:
        return dict.fromkeys(writes, error)
    return failures


def _write_each(connection: sqlite3.Connection, writes: Sequence[Write]) -> Mapping[Write, BaseException]:
    """Makes the writes, and returns the errors of those that failed."""
    failures: dict[Write, BaseException] = {}
    for write in writes:
        try:
            with nullcontext() if write.is_single else _savepoint(connection):
                write.work(connection)
        except Exception as error:
            if not connection.in_transaction:
                raise  # a disk error has ended the transaction
            failures[write] = error
    return failures


@contextmanager
def _savepoint(connection: sqlite3.Connection) -> Iterator[None]:
    """A part of a transaction. If the body raises, only this part is rolled back."""
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


class Transaction:
    """A transaction that holds the write lock from its start, so that nothing that it reads can change. A class takes a
    fifth of the time of a generator."""

    __slots__ = ("_connection",)

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def __enter__(self) -> None:
        self._connection.execute("BEGIN IMMEDIATE")

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self._connection.execute("COMMIT")
        finally:
            if self._connection.in_transaction:  # a disk error may already have ended it
                self._connection.execute("ROLLBACK")
