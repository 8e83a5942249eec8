"""The cloud runtime: Firestore and Cloud Tasks, or their emulators. Nothing runs between requests."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from contextvars import Context
from typing import Final

from cloud_adapter.clock import SystemClock
from cloud_adapter.codecs.chain import codec_of
from cloud_adapter.engine.engine import Engine
from cloud_adapter.engine.registry import by_name
from cloud_adapter.engine.sync_pool import SyncPools
from cloud_adapter.hosting.callback_keys import callbacks
from cloud_adapter.hosting.unencrypted import check_secrets
from cloud_adapter.queues.cloud_tasks import CloudTasksQueue, TaskTarget
from cloud_adapter.settings import Settings
from workflow_core import Workflow

REQUESTS_MAX: Final = 1_000
"""The most requests that Cloud Run lets into an instance, regardless of its settings."""


class CloudRuntime:
    """An engine on Firestore and Cloud Tasks.

    Raises:
        DefinitionError: the workflows cannot be served together.
        SettingsError: a workflow has secrets, and the settings do not say how to store them.
    """

    def __init__(
        self, workflows: Iterable[type[Workflow]], settings: Settings, *, internal: Iterable[type[Workflow]] = ()
    ) -> None:
        # Imported lazily: Google's client takes most of a cold start, and embedded use does not need it.
        from cloud_adapter.stores.firestore.store import FirestoreStore

        self.settings = settings
        clock = SystemClock()
        table = by_name(workflows)
        check_secrets(table.values(), settings)
        self.codec = codec_of(settings, clock)
        self.store = FirestoreStore(project=settings.project, database=settings.database)
        target = TaskTarget(settings.worker_url, settings.tasks_account, settings.audience or None)
        self.queue = CloudTasksQueue(settings.project, settings.location, settings.queue, target, clock)
        self.pools = SyncPools(settings.sync_threads or REQUESTS_MAX)
        self.engine = Engine(
            table.values(),
            self.store,
            self.queue,
            clock=clock,
            options=settings.options(),
            run_sync=self.pools.steps,
            run_activity_sync=self.pools.activities,
            internal=internal,
            codec=self.codec,
            callbacks=callbacks(settings, clock),
        )

    async def start(self, context: Context | None = None) -> None:
        """Does nothing: the clients connect with their first call, and tasks run in the context of their requests."""

    async def close(self) -> None:
        """Closes the clients and the threads for synchronous code, each even if closing another one raises."""
        async with contextlib.AsyncExitStack() as stack:
            stack.callback(self.pools.close)
            stack.push_async_callback(self.queue.close)
            stack.push_async_callback(self.store.close)
            if self.codec is not None:
                stack.push_async_callback(self.codec.close)
