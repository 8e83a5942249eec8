"""Runtimes that deliver their tasks themselves, in this process. The embedded one is on SQLite, without other services.
State outlives the process."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterable
from contextvars import Context
from datetime import timedelta
from typing import Final, Generic, Protocol, TypeVar

from cloud_adapter.clock import SystemClock
from cloud_adapter.codecs.chain import codec_of
from cloud_adapter.engine.engine import Engine
from cloud_adapter.engine.registry import by_name
from cloud_adapter.engine.sync_pool import SyncPools
from cloud_adapter.engine.task_handler import Outcome, run_task
from cloud_adapter.errors import Unavailable
from cloud_adapter.hosting.callback_keys import callbacks
from cloud_adapter.hosting.near_tasks import NearTasks
from cloud_adapter.hosting.unencrypted import FIX, unencrypted
from cloud_adapter.observability.background import background_context
from cloud_adapter.observability.span import Value
from cloud_adapter.observability.telemetry import Delivery
from cloud_adapter.ports import Clock, Store, Task, TaskQueue
from cloud_adapter.queues.local import LOCAL_LIMITS, LocalQueue
from cloud_adapter.settings import Settings
from cloud_adapter.stores.sqlite.store import SqliteStore
from workflow_core import Workflow

RECOVERED_MAX: Final = 1_000
"""The most instances that one recovery schedules."""

FULL_PAUSE_SECONDS: Final = 1.0
"""The pause after a recovery that found that many. When it is over, most of them have been delivered."""

RECOVERIES_AHEAD: Final = 2
"""How far ahead recovery schedules, in intervals. With one, what is due just before the next recovery would be late if
that recovery is late."""

_logger = logging.getLogger("gorchestrate.embedded")


class Queue(TaskQueue, Protocol):
    """A queue that delivers its tasks in this process."""

    async def start(self, context: Context | None = None) -> None: ...

    async def close(self, grace_seconds: float = 10) -> None: ...


S = TypeVar("S", bound=Store)
Q = TypeVar("Q", bound=Queue)


class InProcessRuntime(Generic[S, Q]):
    """An engine, a store, and a queue in this process. Call ``start`` in the event loop where it should run, and
    ``close`` at the end.

    Several processes may serve one database. Each continues the instances that another process leaves behind.

    Raises:
        DefinitionError: the workflows cannot be served together. The database was not opened.
        SettingsError, Unavailable: the database cannot be opened.
    """

    GRACE_SECONDS: Final = 10.0
    """How long ``close`` waits for running work."""

    def __init__(
        self,
        workflows: Iterable[type[Workflow]],
        settings: Settings,
        *,
        clock: Clock | None = None,
        internal: Iterable[type[Workflow]] = (),
    ) -> None:
        self.settings = settings
        self.clock = clock or SystemClock()
        # All checks come before the store is opened, because a constructor cannot await the store's `close`.
        table, options = by_name(workflows), settings.options()
        self._clear = unencrypted(table.values(), settings)
        self.codec = codec_of(settings, self.clock)
        self._ahead = timedelta(seconds=RECOVERIES_AHEAD * settings.recover_seconds)
        self.pools = SyncPools(settings.sync_threads or LOCAL_LIMITS.max_concurrent_dispatches)
        self.callbacks = callbacks(settings, self.clock)
        self.store, self.queue = self._open()
        self.engine = Engine(
            table.values(),
            self.store,
            self._tasks(),
            clock=self.clock,
            options=options,
            run_sync=self.pools.steps,
            run_activity_sync=self.pools.activities,
            internal=internal,
            codec=self.codec,
            callbacks=self.callbacks,
        )
        self._recovery: asyncio.Task[None] | None = None

    def _open(self) -> tuple[S, Q]:
        """Returns the store and the queue, which passes its deliveries to ``_deliver``."""
        raise NotImplementedError

    def _tasks(self) -> TaskQueue:
        """Returns the queue as the engine uses it."""
        return self.queue

    async def start(self, context: Context | None = None) -> None:
        """Starts to deliver tasks and to recover instances of earlier processes. Repeated calls have no effect.

        Args:
            context: the context variables that steps and activities see, including the ``decimal`` context; by default
                the current ones.
        """
        if self._recovery is None:
            if self._clear:
                names = ", ".join(map(repr, self._clear))
                _logger.warning("secrets of %s are stored without encryption: %s", names, FIX)
            context = background_context() if context is None else context
            await self.queue.start(context)
            self._recovery = asyncio.create_task(self._recover(), context=context.copy())

    async def close(self) -> None:
        """Stops the runtime. The next process continues unfinished work.

        May be called repeatedly, and without ``start``. The store is closed even if stopping the rest raises an error.
        """
        async with contextlib.AsyncExitStack() as stack:
            if self.codec is not None:
                stack.push_async_callback(self.codec.close)
            stack.push_async_callback(self.store.close)
            stack.callback(self.pools.close)
            stack.push_async_callback(self.queue.close, self.GRACE_SECONDS)
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
            pause = every
            try:
                if await self.engine.recover(ahead=self._ahead, limit=RECOVERED_MAX) >= RECOVERED_MAX:
                    pause = min(every, FULL_PAUSE_SECONDS)
            except Unavailable as error:
                _logger.warning("recovery: %s", error)
            except Exception:
                _logger.exception("recovery failed")
            await self.clock.sleep(pause)


class EmbeddedRuntime(InProcessRuntime[SqliteStore, LocalQueue]):
    """An engine on a SQLite file, with a queue in memory. See ``InProcessRuntime`` and ``SqliteStore``."""

    def _open(self) -> tuple[SqliteStore, LocalQueue]:
        return SqliteStore(self.settings.db), LocalQueue(self._deliver, self.clock)

    def _tasks(self) -> TaskQueue:
        return NearTasks(self.queue, self.clock, self._ahead)
