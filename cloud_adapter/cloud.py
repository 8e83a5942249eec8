"""The cloud runtime: Firestore and Cloud Tasks, or their emulators. Nothing runs between requests."""

from __future__ import annotations

from collections.abc import Iterable

from cloud_adapter.engine import Engine
from cloud_adapter.settings import Settings
from workflow_core import Workflow


class CloudRuntime:
    """An engine on Firestore and Cloud Tasks. ``start`` it in the event loop that it is to run in."""

    def __init__(self, workflows: Iterable[type[Workflow]], settings: Settings) -> None:
        # The one place where the Google clients are loaded: they are most of a cold start, and embedded use needs none.
        from cloud_adapter.cloud_tasks_queue import CloudTasksQueue
        from cloud_adapter.firestore_store import FirestoreStore

        self.settings = settings
        self.store = FirestoreStore(project=settings.project, database=settings.database)
        self.queue = CloudTasksQueue(
            project=settings.project,
            location=settings.location,
            queue=settings.queue,
            target_url=settings.worker_url,
            service_account_email=settings.tasks_account,
            audience=settings.audience or settings.worker_url,
        )
        self.engine = Engine(workflows, self.store, self.queue, options=settings.options())

    async def start(self) -> None:
        """Nothing to start: the clients connect with their first call."""

    async def close(self) -> None:
        """Closes the clients."""
        await self.store.close()
        await self.queue.close()
