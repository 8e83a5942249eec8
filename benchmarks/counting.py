"""Counts the calls of an engine to its store and its queue, with proxies around both ports.

The proxies depend only on ``cloud_adapter.ports`` and forward calls that they do not count. The size of a document
comes from ``document.encode``, which is the only slow operation here: after the first commits, only one in ``SAMPLE``
documents is measured and represents the others. ``Counts.overhead_s`` contains the time of the counting itself, so that
it can be subtracted.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from code_under_test import find

Conflict = find("Conflict")
encode = find("encode")

MEASURED_ALL = 50
"""The number of initial writes of documents that are all measured."""

SAMPLE = 10
"""Of the later writes, one in this number is measured."""


@dataclass
class Counts:
    """The calls of an engine so far.

    Attributes:
        commits: documents written: instances created and successful commits.
        posts: entries added to inboxes.
        conflicts: commits that failed because another commit came first.
        tasks: tasks created, including those that the queue already had.
        bytes: bytes written to the store.
        overhead_s: CPU seconds used for counting.
        on_commit: called with each written instance.
    """

    commits: int = 0
    posts: int = 0
    conflicts: int = 0
    tasks: int = 0
    bytes: int = 0
    overhead_s: float = 0.0
    on_commit: Callable[[Any], None] | None = None

    def reset(self) -> None:
        """Resets all counts."""
        self.commits = self.posts = self.conflicts = self.tasks = self.bytes = 0
        self.overhead_s = 0.0

    def wrote(self, instance: Any) -> None:
        """Counts a written document."""
        started = time.thread_time()
        self.commits += 1
        if self.commits <= MEASURED_ALL:
            self.bytes += document_bytes(instance)
        elif self.commits % SAMPLE == 0:
            self.bytes += SAMPLE * document_bytes(instance)
        self.overhead_s += time.thread_time() - started
        if self.on_commit is not None:
            self.on_commit(instance)


def document_bytes(instance: Any) -> int:
    """Returns the size of an instance's document."""
    return sum(len(name) + len(str(value).encode()) for name, value in encode(instance).items())


class CountedStore:
    """A store that counts its writes."""

    def __init__(self, store: Any, counts: Counts) -> None:
        self._store = store
        self._counts = counts

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def create(self, instance: Any, *args: Any, **kwargs: Any) -> Any:
        created = await self._store.create(instance, *args, **kwargs)
        self._counts.wrote(instance)
        return created

    async def commit(self, instance: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            committed = await self._store.commit(instance, *args, **kwargs)
        except Conflict:
            self._counts.conflicts += 1
            raise
        self._counts.wrote(instance)
        return committed

    async def post(self, entry: Any, *args: Any, **kwargs: Any) -> Any:
        posted = await self._store.post(entry, *args, **kwargs)
        self._counts.posts += 1
        self._counts.bytes += len(entry.body.encode())
        return posted


class CountedQueue:
    """A queue that counts created tasks."""

    def __init__(self, queue: Any, counts: Counts) -> None:
        self._queue = queue
        self._counts = counts

    def __getattr__(self, name: str) -> Any:
        return getattr(self._queue, name)

    async def create(self, task: Any, *args: Any, **kwargs: Any) -> Any:
        self._counts.tasks += 1
        return await self._queue.create(task, *args, **kwargs)


def count(runtime: type) -> Counts:
    """Counts the calls of all engines that a runtime class creates from now on.

    This replaces the name ``Engine`` in the module of the runtime, which calls it with the workflows, the store and the
    queue. The benchmarks replace nothing else.
    """
    counts = Counts()
    module = sys.modules[runtime.__module__]
    engine = module.Engine

    def counted(workflows: Any, store: Any, queue: Any, *args: Any, **kwargs: Any) -> Any:
        return engine(workflows, CountedStore(store, counts), CountedQueue(queue, counts), *args, **kwargs)

    module.Engine = counted  # type: ignore[attr-defined]
    return counts
