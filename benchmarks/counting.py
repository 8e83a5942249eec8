"""Counts what an engine asks of its store and its queue, through proxies around both ports.

The proxies rely on ``cloud_adapter.ports`` alone and pass on whatever they do not count. The size of a document is
that of ``document.encode``, the one thing here that costs time worth mentioning: after the first commits only one in
``SAMPLE`` is measured, and stands for the others. What the counting itself takes is kept in ``Counts.overhead_s``, so
that it can be subtracted.
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
"""The first so many writes of documents are all measured."""

SAMPLE = 10
"""Of the later ones, one in so many."""


@dataclass
class Counts:
    """What an engine has asked for so far.

    Attributes:
        commits: documents written: instances created and commits that succeeded.
        posts: entries put into inboxes.
        conflicts: commits that failed because somebody else had committed.
        tasks: tasks created, those that the queue knew already included.
        bytes: written to the store.
        overhead_s: CPU seconds that the counting has taken.
        on_commit: called with each instance that was written.
    """

    commits: int = 0
    posts: int = 0
    conflicts: int = 0
    tasks: int = 0
    bytes: int = 0
    overhead_s: float = 0.0
    on_commit: Callable[[Any], None] | None = None

    def reset(self) -> None:
        """Begins anew."""
        self.commits = self.posts = self.conflicts = self.tasks = self.bytes = 0
        self.overhead_s = 0.0

    def wrote(self, instance: Any) -> None:
        """Counts a document that was written."""
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
    """The size of an instance's document."""
    return sum(len(name) + len(str(value).encode()) for name, value in encode(instance).items())


class CountedStore:
    """A store that counts what is written to it."""

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
    """A queue that counts the tasks that are created."""

    def __init__(self, queue: Any, counts: Counts) -> None:
        self._queue = queue
        self._counts = counts

    def __getattr__(self, name: str) -> Any:
        return getattr(self._queue, name)

    async def create(self, task: Any, *args: Any, **kwargs: Any) -> Any:
        self._counts.tasks += 1
        return await self._queue.create(task, *args, **kwargs)


def count(runtime: type) -> Counts:
    """Counts what the engines ask for that a runtime class makes from now on.

    This is the one attribute that the benchmarks replace: the name ``Engine`` in the module of the runtime, which calls
    it with the workflows, the store and the queue.
    """
    counts = Counts()
    module = sys.modules[runtime.__module__]
    engine = module.Engine

    def counted(workflows: Any, store: Any, queue: Any, *args: Any, **kwargs: Any) -> Any:
        return engine(workflows, CountedStore(store, counts), CountedQueue(queue, counts), *args, **kwargs)

    module.Engine = counted  # type: ignore[attr-defined]
    return counts
