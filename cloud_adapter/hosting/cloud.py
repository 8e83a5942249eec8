"""The cloud runtime: Firestore and Cloud Tasks, or their emulators. Nothing runs between requests."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from contextvars import Context
from typing import TYPE_CHECKING, Final

from cloud_adapter.clock import SystemClock
from cloud_adapter.codecs.chain import codec_of
from cloud_adapter.engine.engine import Engine
from cloud_adapter.engine.registry import by_name
from cloud_adapter.engine.sync_pool import SyncPools
from cloud_adapter.hosting.callback_keys import callbacks
from cloud_adapter.hosting.unencrypted import check_secrets
from cloud_adapter.queues.cloud_tasks import CloudTasksQueue, TaskTarget
from cloud_adapter.settings import Settings
from cloud_adapter.variables import FIRESTORE_EMULATOR_VARIABLE
from workflow_core import Workflow

if TYPE_CHECKING:
    from google.auth.credentials import Credentials

REQUESTS_MAX: Final = 1_000
"""The most requests that Cloud Run lets into an instance, regardless of its settings."""


class CloudRuntime:
    """An engine on Firestore and Cloud Tasks.

    Args:
        internal: the workflows that no client may address.
        credentials: Google credentials for both; by default, the application default credentials.

    Raises:
        DefinitionError: the workflows cannot be served together.
        SettingsError: a workflow has secrets, and the settings do not say how to store them.
    """

    def __init__(
        self,
        workflows: Iterable[type[Workflow]],
        settings: Settings,
        *,
        internal: Iterable[type[Workflow]] = (),
        credentials: Credentials | None = None,
    ) -> None:
        # Imported lazily: Google's client takes most of a cold start, and embedded use does not need it.
        from cloud_adapter.stores.firestore.shards import Shards
        from cloud_adapter.stores.firestore.store import FirestoreStore

        self.settings = settings
        self._may_connect = credentials is not None or FIRESTORE_EMULATOR_VARIABLE in os.environ
        clock = SystemClock()
        table = by_name(workflows)
        check_secrets(table.values(), settings)
        self.codec = codec_of(settings, clock)
        self.store = FirestoreStore(
            project=settings.project,
            database=settings.database,
            credentials=credentials,
            shards=Shards(settings.index_shards, settings.reads_shards),
        )
        target = TaskTarget(settings.worker_url, settings.tasks_account, settings.audience or None)
        self.queue = CloudTasksQueue(
            *(settings.project, settings.location, settings.queue, target, clock, credentials),
            queues=settings.queues,
            long_queue=settings.activity_queue,
        )
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
        """Opens both connections side by side, and does not wait for them. Tasks run in the context of their requests.

        Credentials that are not known yet are left to the first call, which may wait for them.
        """
        if self._may_connect:
            self.store.connect()
            self.queue.connect()

    async def close(self) -> None:
        """Closes the clients and the threads for synchronous code, each even if closing another one raises."""
        async with contextlib.AsyncExitStack() as stack:
            stack.callback(self.pools.close)
            stack.push_async_callback(self.queue.close)
            stack.push_async_callback(self.store.close)
            if self.codec is not None:
                stack.push_async_callback(self.codec.close)
