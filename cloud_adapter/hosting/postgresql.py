"""The runtime on PostgreSQL, which has the instances and their tasks. Any number of processes and machines share it."""

from __future__ import annotations

from cloud_adapter.hosting.embedded import InProcessRuntime
from cloud_adapter.postgresql.connections import Connections, check
from cloud_adapter.queues.postgresql import PostgresqlQueue
from cloud_adapter.stores.postgresql.store import PostgresqlStore


class PostgresqlRuntime(InProcessRuntime[PostgresqlStore, PostgresqlQueue]):
    """An engine on a PostgreSQL database, with the queue in the same database. See ``InProcessRuntime``.

    Raises:
        SettingsError, Unavailable: the database cannot be opened. The message gives the reason and the fix.
    """

    def _open(self) -> tuple[PostgresqlStore, PostgresqlQueue]:
        check(self.settings.database_url)
        connections = Connections(self.settings.database_url)
        store = PostgresqlStore(connections)
        return store, PostgresqlQueue(connections, store, self._deliver, self.clock)
