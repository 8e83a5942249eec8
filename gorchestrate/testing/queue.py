"""The TaskQueue port for tests: it holds the tasks, and the environment delivers them when they are due."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Final

from cloud_adapter.ports import Task

REDELIVERY_DELAY: Final = timedelta(seconds=5)
"""When a task that was not acknowledged is delivered again."""


class HeldTasks:
    """The tasks that wait. A name is accepted once, as by the other queues.

    Attributes:
        calls_max: see ``ports.TaskQueue``. One call at a time, so that a run is repeatable.
    """

    calls_max: Final = 1

    def __init__(self) -> None:
        self._tasks: dict[str, Task] = {}
        self._names: set[str] = set()
        self._unnamed = 0

    async def create(self, task: Task) -> None:
        """See ``ports.TaskQueue.create``."""
        if not task.name:
            self._unnamed += 1
            task = replace(task, name=f"unnamed-{self._unnamed}")
        if task.name not in self._names:
            self._names.add(task.name)
            self._tasks[task.name] = replace(task, body=json.loads(json.dumps(task.body)))

    async def delete(self, name: str) -> None:
        """See ``ports.TaskQueue.delete``."""
        self._tasks.pop(name, None)

    def next_task(self, until: datetime) -> Task | None:
        """Returns the task that is due first, if it is due at or before ``until``. Tasks without a time are due."""
        task = min(self._tasks.values(), key=_due_at, default=None)
        return task if task is not None and _due_at(task) <= until else None

    def remove(self, task: Task) -> None:
        """Removes a task that was acknowledged."""
        self._tasks.pop(task.name, None)

    def postpone(self, task: Task, now: datetime) -> None:
        """Delivers a task again later."""
        if task.name in self._tasks:
            self._tasks[task.name] = replace(task, at=now + REDELIVERY_DELAY)


_AT_ONCE = datetime.min.replace(tzinfo=UTC)


def _due_at(task: Task) -> datetime:
    return task.at or _AT_ONCE
