"""Parts of the store in SQLite: what a failed part of a transaction reports, and the numbers of versions."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest

from cloud_adapter.stores.columns import new_revision
from cloud_adapter.stores.sqlite.transactions import _savepoint


def test_an_error_that_has_ended_the_transaction_is_reported_as_it_is() -> None:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:

        def fail() -> None:
            with _savepoint(connection):
                connection.execute("ROLLBACK")
                raise sqlite3.OperationalError("disk is full")

        connection.execute("BEGIN")
        with pytest.raises(sqlite3.OperationalError, match="disk is full"):
            fail()


def test_earlier_releases_can_add_to_a_revision() -> None:
    """They add 1 to it, and the column has 64 bits."""
    revisions = {new_revision() for _ in range(100)}
    assert len(revisions) == 100
    assert max(revisions) < 2**62
