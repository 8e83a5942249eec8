"""A queue that holds only the tasks of the near future. The database has all others.

Theory of operation. ``wake_at`` in the document of an instance says when its next timeout or step is due, and recovery
finds it by that. For a task that is due long after the next recovery, the queue is only a second memory: a hundred
thousand instances that wait for a day would fill it. Such a task is dropped when it is created, and recovery creates it
again shortly before it is due.

What breaks this: a task that is dropped although recovery does not create it. Recovery creates those of timeouts and of
resumes. Activities are held, because recovery cannot know whether an attempt has begun. Recovery must run more often
than ``NEAR_SECONDS_MIN``, or than ``ahead`` if that is longer, and must look as far ahead.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from cloud_adapter.engine.tasks import RESUME_PATH, TIMEOUT_PATH
from cloud_adapter.ports import Clock, Task, TaskQueue

NEAR_SECONDS_MIN: Final = 60.0
"""Tasks that are due sooner are always held, so that short timers need no second read."""

RECOVERED_PATHS = (RESUME_PATH, TIMEOUT_PATH)


class NearTasks:
    """Passes tasks on to a queue, except those that recovery creates in time.

    Args:
        ahead: how far ahead recovery schedules.
    """

    def __init__(self, queue: TaskQueue, clock: Clock, ahead: timedelta) -> None:
        self._queue = queue
        self._clock = clock
        self._near = max(ahead, timedelta(seconds=NEAR_SECONDS_MIN))

    @property
    def calls_max(self) -> int:
        """See ``ports.TaskQueue``."""
        return self._queue.calls_max

    async def create(self, task: Task) -> None:
        """See ``ports.TaskQueue.create``."""
        is_far = task.at is not None and task.at > self._clock.now() + self._near
        if not (is_far and task.path in RECOVERED_PATHS):
            await self._queue.create(task)

    async def delete(self, name: str) -> None:
        """See ``ports.TaskQueue.delete``."""
        await self._queue.delete(name)
