"""The embedded runtime: SQLite and a queue in this process, no other service. State outlives the process."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
from collections.abc import Iterable
from datetime import timedelta

from cloud_adapter.clock import SystemClock
from cloud_adapter.engine.engine import Engine
from cloud_adapter.engine.registry import by_name
from cloud_adapter.engine.sync_pool import SyncPools
from cloud_adapter.engine.task_handler import Outcome, run_task
from cloud_adapter.errors import Unavailable
from cloud_adapter.observability.span import Value
from cloud_adapter.observability.telemetry import Delivery
from cloud_adapter.ports import Clock, Task
from cloud_adapter.queues.local import LocalQueue
from cloud_adapter.settings import Settings
from cloud_adapter.stores.sqlite.store import SqliteStore
from workflow_core import Workflow

_logger = logging.getLogger("gorchestrate.embedded")


class EmbeddedRuntime:
    """An engine on SQLite. ``start`` it in the event loop that it is to run in, and ``close`` it at the end.

    Several processes may serve one database file: each takes over what another one leaves behind.

    Raises:
        DefinitionError: the workflows cannot be served together. The database is not opened.
        SettingsError, Unavailable: the database cannot be opened, see ``SqliteStore``.
    """

    def __init__(self, workflows: Iterable[type[Workflow]], settings: Settings, *, clock: Clock | None = None) -> None:
        self.settings = settings
        self.clock = clock or SystemClock()
        # What can be refused is refused before the store is opened: a constructor cannot await the store's `close`.
        table, options = by_name(workflows), settings.options()
        self.queue = LocalQueue(self._deliver, self.clock)
        self.pools = SyncPools()
        self.store = SqliteStore(settings.db)
        self.engine = Engine(
            table.values(),
            self.store,
            self.queue,
            clock=self.clock,
            options=options,
            run_sync=self.pools.steps,
            run_activity_sync=self.pools.activities,
        )
        self._recovery: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begins to deliver tasks, and to look for what an earlier process has left. Twice is once."""
        if self._recovery is None:
            await self.queue.start()
            # In a context of its own: it is no part of the request that may have started it.
            self._recovery = asyncio.create_task(self._recover(), context=contextvars.Context())

    async def close(self) -> None:
        """Stops; what was not finished goes on when the next process starts.

        May be called again, and without ``start``. The store is closed even if stopping the rest raises.
        """
        async with contextlib.AsyncExitStack() as stack:
            stack.push_async_callback(self.store.close)
            stack.callback(self.pools.close)
            stack.push_async_callback(self.queue.close)
            if self._recovery is not None:
                recovery, self._recovery = self._recovery, None
                recovery.cancel()
                await asyncio.wait([recovery])

    async def _deliver(self, task: Task, retries: int) -> bool:
        about: dict[str, Value] = {"messaging.system": "gorchestrate", "messaging.message.id": task.name}
        about |= {"gorchestrate.retry": retries}
        return await run_task(self.engine, task.path, task.body, Delivery(task.at, about)) is Outcome.DONE

    async def _recover(self) -> None:
        every = self.settings.recover_seconds
        while True:
            try:
                await self.engine.recover(ahead=timedelta(seconds=every))
            except Unavailable as error:
                _logger.warning("recovery: %s", error)
            except Exception:
                _logger.exception("recovery failed")
            await self.clock.sleep(every)
