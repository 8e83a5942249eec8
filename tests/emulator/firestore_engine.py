"""An engine on Firestore's emulator, with the queue of the process."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from cloud_adapter.clock import SystemClock
from cloud_adapter.engine.engine import Engine
from cloud_adapter.engine.task_handler import Outcome, run_task
from cloud_adapter.ports import Codec, Task
from cloud_adapter.queues.local import LocalQueue
from cloud_adapter.stores.firestore.store import FirestoreStore
from tests.firestore_client import RecordingClient
from workflow_core import Workflow


@asynccontextmanager
async def firestore_engine(
    project: str, *workflows: type[Workflow], codec: Codec | None = None
) -> AsyncIterator[tuple[Engine, RecordingClient]]:
    """What one instance of a function has; its queue is its own, as nothing else would deliver to it."""

    async def deliver(task: Task, retries: int) -> bool:
        return await run_task(engine, task.path, task.body) is Outcome.DONE

    client = RecordingClient(project)
    store = FirestoreStore(client)
    clock = SystemClock()
    queue = LocalQueue(deliver, clock)
    engine = Engine(workflows, store, queue, clock=clock, codec=codec)
    await queue.start()
    try:
        yield engine, client
    finally:
        await queue.close()
        await store.close()
        await client.aclose()
