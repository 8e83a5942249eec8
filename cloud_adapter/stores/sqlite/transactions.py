"""Transactions on a connection, and several writes in one transaction. This module does not depend on tables.

Theory of operation. Writes share a transaction because a transaction costs one disk sync, regardless of how much it
writes. Each write must still succeed or fail as if it were alone. If one of them raises, which is rare, all are rolled
back and made again, each inside a savepoint of its own. One that raises then is rolled back to its savepoint. A disk
error ends the transaction itself: then no savepoint is left, and every write in it has failed. A write that catches an
error of its own statements and continues would break this.
"""

from __future__ import annotations

import sqlite3
from asyncio import Future
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(eq=False, slots=True)
class Write:
    """A write that waits for its transaction.

    Attributes:
        work: executes the statements in a transaction, or raises. It may be called several times: only the last one
            counts.
        done: gets the result in its event loop. This module does not use it.
    """

    work: Callable[[sqlite3.Connection], object]
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
        with Transaction(connection):
            if len(writes) == 1:
                writes[0].work(connection)
            else:
                failures = _write_several(connection, writes)
        check()
    except BaseException as error:
        return dict.fromkeys(writes, error)
    return failures


def _write_several(connection: sqlite3.Connection, writes: Sequence[Write]) -> Mapping[Write, BaseException]:
    """Makes the writes, and returns the errors of those that failed."""
    failures: dict[Write, BaseException] = {}
    try:
        with _savepoint(connection):
            for write in writes:
                write.work(connection)
        return failures
    except Exception:
        if not connection.in_transaction:
            raise  # a disk error has ended the transaction
    for write in writes:
        try:
            with _savepoint(connection):
                write.work(connection)
        except Exception as error:
            if not connection.in_transaction:
                raise
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
