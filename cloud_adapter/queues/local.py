"""The TaskQueue port in the process, on asyncio, for the embedded runtime and for tests.

It uses the rules of a queue (``rules.py``) and their runner (``runner.py``), and passes each delivery to a function. It
does not depend on what a task means. The rules decide about retries, rates and names.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from contextvars import Context
from datetime import timedelta
from typing import Final
from uuid import uuid4

from cloud_adapter.errors import InvalidRequest, Unavailable
from cloud_adapter.ports import Clock, Task
from cloud_adapter.queues.bodies import encoded_body
from cloud_adapter.queues.rates import RateLimits
from cloud_adapter.queues.retries import RetryConfig
from cloud_adapter.queues.rules import Entry, QueueFull, QueueState
from cloud_adapter.queues.runner import QueueRunner, Reply
from cloud_adapter.queues.turns import Shares

LOCAL_RETRY: Final = RetryConfig(max_attempts=100, max_backoff=timedelta(seconds=10))
LOCAL_LIMITS: Final = RateLimits(max_dispatches_per_second=10_000, max_burst_size=1_000, max_concurrent_dispatches=400)
LOCAL_SHARES: Final = Shares(of_group=200, beyond_first=350)
"""A ``ForEach`` with the default limit (100) always gets its full concurrency, and 50 slots are reserved for instances
that have nothing running."""

Deliver = Callable[[Task, int], Awaitable[bool]]


class LocalQueue:
    """A task queue in memory.

    The tasks are lost with the process, but no work is lost: an instance's document says when it should move, so
    ``recover()``, which the embedded runtime calls at its start, schedules the lost tasks again.

    Due tasks of different groups take turns. Tasks without a group are one group. Within a group, the order is by time.

    Attributes:
        calls_max: 1, because a call needs no round trip. If tasks are created one after another, nothing else runs in
            between, so their commit is already in progress when the first one is delivered.

    Args:
        deliver: receives a task and the number of previous retries, and returns whether the task is acknowledged. If it
            returns False or raises an error (which is logged), it is called again after a backoff. It must end by
            itself: the queue does not limit its time.
        clock: the clock for due times.
        retry: how failed deliveries are retried; by default as in Cloud Tasks, but at most 10 s apart.
        limits: the rate and the concurrency (400) of deliveries.
        shares: how many of the concurrent deliveries one group may have.
    """

    calls_max: Final = 1

    def __init__(
        self,
        deliver: Deliver,
        clock: Clock,
        *,
        retry: RetryConfig = LOCAL_RETRY,
        limits: RateLimits = LOCAL_LIMITS,
        shares: Shares = LOCAL_SHARES,
    ) -> None:
        self._deliver = deliver
        self._clock = clock
        self._rules: QueueState[tuple[str, str]] = QueueState(retry=retry, limits=limits, shares=shares)
        self._runner = QueueRunner(self._rules, clock, self._attempt, lambda e: f"{e.name} ({e.payload[0]})")
        self._closed = False

    async def create(self, task: Task) -> None:
        """Adds a task. If the queue has or had a task of that name within the last hour, nothing changes and it is not
        an error. A task without a name gets one.

        Raises:
            InvalidRequest: the name is invalid, the body is not JSON, or the task is due in more than 30 days.
            TooLarge: the body exceeds ``TASK_BYTES_MAX``.
            Unavailable: the queue is full or closed.
        """
        if self._closed:
            raise Unavailable("the queue is closed: the process is stopping, and recovery will schedule the task again")
        body = encoded_body(task, len(task.path.encode())).decode(errors="surrogatepass")
        try:
            name = task.name or uuid4().hex
            self._rules.create(name, (task.path, body), task.at, self._clock.now(), group=task.group)
        except ValueError as error:
            raise InvalidRequest(str(error)) from error
        except QueueFull as error:
            raise Unavailable(str(error)) from error
        self._runner.wake()

    async def delete(self, name: str) -> None:
        """Deletes a task. A missing task is not an error. A running delivery continues."""
        self._rules.delete(name, self._clock.now())
        self._runner.wake()

    def tasks(self) -> list[Task]:
        """The tasks that wait for delivery or are being delivered, in the order of their creation."""
        return [_task(entry) for entry in self._rules.entries(limit=len(self._rules))]

    async def start(self, context: Context | None = None) -> None:
        """Starts to deliver, including tasks that were created before.

        Args:
            context: the context variables of the deliveries; by default none. Each delivery runs in a copy.

        Raises:
            RuntimeError: the queue was already started or closed.
        """
        if self._closed or self._runner.started:
            raise RuntimeError("a queue can be started only once: create a new one")
        self._runner.start(context)

    async def close(self, grace_seconds: float = 10) -> None:
        """Stops dispatching, gives the running deliveries that time to end, then cancels them. May be called again.

        Tasks created in the meantime are accepted and never delivered. Afterwards, ``create`` raises ``Unavailable``.
        """
        await self._runner.stop(grace_seconds)
        self._closed = True

    async def idle(self) -> None:
        """Waits until no task can be sent now and no delivery runs, or until the queue stops."""
        await self._runner.idle()

    async def _attempt(self, entry: Entry[tuple[str, str]]) -> Reply:
        return Reply(bool(await self._deliver(_task(entry), entry.dispatch_count - 1)))


def _task(entry: Entry[tuple[str, str]]) -> Task:
    path, body = entry.payload
    return Task(entry.name, path, json.loads(body), entry.schedule_time)
