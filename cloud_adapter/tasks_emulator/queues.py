"""The queues of the emulator. Each one combines the rules of a queue, their runner, and its settings."""

from __future__ import annotations

import secrets
from datetime import datetime, timedelta
from typing import Final

from google.cloud.tasks_v2 import types
from google.protobuf.timestamp_pb2 import Timestamp
from grpc import StatusCode

from cloud_adapter.ports import Clock
from cloud_adapter.queues.rules import Entry, QueueFull, QueueState
from cloud_adapter.queues.runner import QueueRunner, Reply
from cloud_adapter.tasks_emulator import task_messages
from cloud_adapter.tasks_emulator.dispatch import Dispatcher
from cloud_adapter.tasks_emulator.names import short
from cloud_adapter.tasks_emulator.queue_messages import Message, QueueMessage, rate_limits, retry_config
from cloud_adapter.tasks_emulator.refusal import Refused, not_found
from cloud_adapter.tasks_emulator.task_messages import Job

QUEUE_NAME_RETENTION: Final = timedelta(days=3)
"""How long the name of a deleted queue stays reserved."""


class EmulatedQueue:
    """A queue that runs.

    Args:
        settings: the queue's message, from ``queue_messages.new_queue``.
    """

    def __init__(self, settings: Message, clock: Clock, dispatcher: Dispatcher) -> None:
        self.name: str = settings.name
        self._clock = clock
        self._dispatcher = dispatcher
        self._rules: QueueState[Job] = QueueState()
        self._purged_at: datetime | None = None
        self.configure(settings)
        self.runner = QueueRunner(self._rules, clock, self._attempt, lambda entry: f"{self.name}/tasks/{entry.name}")
        self.runner.start()

    @property
    def running(self) -> int:
        """The number of running attempts."""
        return self._rules.running

    def configure(self, settings: Message) -> None:
        """Applies the settings."""
        self.settings = settings
        self._rules.limits = rate_limits(settings)
        self._rules.retry = retry_config(settings.retry_config)

    def resource(self) -> Message:
        """Returns the queue as clients see it."""
        queue = QueueMessage()
        queue.CopyFrom(self.settings)
        queue.state = types.Queue.State.PAUSED if self._rules.paused else types.Queue.State.RUNNING
        if self._purged_at is not None:
            purged_at = Timestamp()
            purged_at.FromDatetime(self._purged_at)
            queue.purge_time.CopyFrom(purged_at)
        return queue

    def create(self, task_id: str | None, given: Message) -> Entry[Job]:
        """Adds a task. A task without an id gets one.

        Raises:
            Refused: the name is taken, the task is invalid, or the queue is full.
        """
        now = self._clock.now()
        task_id = task_id or str(10**18 + secrets.randbelow(9 * 10**18))
        message, at = task_messages.new_task(given, f"{self.name}/tasks/{task_id}", now)
        job = Job(message)
        try:
            entry = self._rules.create(task_id, job, at, now, retry=job.retry)
        except QueueFull as error:
            raise Refused(StatusCode.RESOURCE_EXHAUSTED, str(error)) from error
        if entry is None:
            raise Refused(
                StatusCode.ALREADY_EXISTS,
                "Requested entity already exists"
                if self._rules.get(task_id)
                else "The task cannot be created because a task with this name existed too recently.",
            )
        self.runner.wake()
        return entry

    def get(self, task_id: str) -> Entry[Job]:
        """Returns a task.

        Raises:
            Refused: the task does not exist or no longer exists.
        """
        return self._rules.get(task_id) or self._missing(task_id)

    def entries(self, after: int, limit: int) -> list[Entry[Job]]:
        """Returns the tasks whose ``sequence`` is greater than ``after``, in the order of their creation."""
        return self._rules.entries(after=after, limit=limit)

    def delete(self, task_id: str) -> None:
        """Deletes a task.

        Raises:
            Refused: the task does not exist or no longer exists.
        """
        if not self._rules.delete(task_id, self._clock.now()):
            raise not_found()
        self.runner.wake()

    def run(self, task_id: str) -> Entry[Job]:
        """Makes an attempt now.

        Raises:
            Refused: the task does not exist or no longer exists.
        """
        entry = self._rules.run(task_id, self._clock.now()) or self._missing(task_id)
        self.runner.send(entry)
        return entry

    def purge(self) -> None:
        """Deletes every task."""
        self._purged_at = self._clock.now()
        self._rules.purge(self._purged_at)
        self.runner.wake()

    def pause(self) -> None:
        """Stops dispatching."""
        self._rules.pause()

    def resume(self) -> None:
        """Resumes dispatching."""
        self._rules.resume()
        self.runner.wake()

    def _missing(self, task_id: str) -> Entry[Job]:
        raise not_found(
            "The task no longer exists, though a task with this name existed recently. The task either successfully "
            "completed or was deleted."
            if self._rules.remembers(task_id, self._clock.now())
            else "Requested entity was not found."
        )

    async def _attempt(self, entry: Entry[Job]) -> Reply:
        return await self._dispatcher.attempt(short(self.name), entry)
