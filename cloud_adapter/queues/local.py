"""The TaskQueue port inside the process, on asyncio: for the embedded runtime and for tests.

It stands on the rules of a queue (``rules.py``) and what runs them (``runner.py``), and hands each delivery to a
function. It must never know what a task asks for, and decides nothing about retries, rates or names itself.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Final
from uuid import uuid4

from cloud_adapter.errors import InvalidRequest, TooLarge, Unavailable
from cloud_adapter.ports import TASK_BYTES_MAX, Clock, Task
from cloud_adapter.queues.rates import RateLimits
from cloud_adapter.queues.retries import RetryConfig
from cloud_adapter.queues.rules import Entry, QueueFull, QueueState
from cloud_adapter.queues.runner import QueueRunner, Reply
from cloud_adapter.queues.turns import Shares

LOCAL_RETRY: Final = RetryConfig(max_attempts=100, max_backoff=timedelta(seconds=10))
LOCAL_LIMITS: Final = RateLimits(max_dispatches_per_second=10_000, max_burst_size=1_000, max_concurrent_dispatches=400)
LOCAL_SHARES: Final = Shares(of_group=200, beyond_first=350)
"""A ``ForEach`` of the widest usual limit (100) always runs at full width, and 50 places are kept for instances that
have nothing running."""

Deliver = Callable[[Task, int], Awaitable[bool]]


class LocalQueue:
    """A task queue in memory.

    The tasks are lost with the process. That is no loss of work: an instance's document says when it should move, so
    ``recover()``, which the embedded runtime calls at its start, schedules again what was lost.

    Due tasks of different groups take turns; tasks without a group are one group. Within a group the order is by time.

    Attributes:
        calls_max: 1, as a call costs no round trip. Nothing else has a turn between tasks that are created one after
            another, so their commit is on its way before the first one is delivered.

    Args:
        deliver: gets a task and how often it was retried so far, and returns whether it is acknowledged. If not, or if
            it raises (which is logged), it is called again after a backoff. It must end by itself: nothing here limits
            its time.
        clock: the time that tasks are due by.
        retry: how failed deliveries are repeated; as Cloud Tasks does by default, but at most 10 s apart.
        limits: how fast tasks are delivered, and how many (400) at a time.
        shares: how many of these deliveries may be of one group.
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
        """Adds a task. A name that the queue has, or had within the last hour, changes nothing and is no error. A task
        without a name gets one.

        Raises:
            InvalidRequest: the name is not one, the body is not JSON, or the task is due in more than 30 days.
            TooLarge: the body has more than ``TASK_BYTES_MAX``.
            Unavailable: the queue is full, or closed.
        """
        if self._closed:
            raise Unavailable("the queue is closed: the process is about to end, and recovery will bring the task back")
        try:
            body = json.dumps(task.body, allow_nan=False, ensure_ascii=False)
            size = len(task.path.encode()) + len(body.encode(errors="surrogatepass"))
            if size > TASK_BYTES_MAX:
                raise TooLarge(
                    f"task {task.name or task.path} has {size} bytes, {TASK_BYTES_MAX} is the limit: send a reference"
                )
            name = task.name or uuid4().hex
            self._rules.create(name, (task.path, body), task.at, self._clock.now(), group=task.group)
        except (ValueError, TypeError) as error:
            raise InvalidRequest(str(error)) from error
        except QueueFull as error:
            raise Unavailable(str(error)) from error
        self._runner.wake()

    async def delete(self, name: str) -> None:
        """Takes a task out; one that is not there (any more) is no error. A delivery that runs goes on."""
        self._rules.delete(name, self._clock.now())
        self._runner.wake()

    def tasks(self) -> list[Task]:
        """The tasks that are to be delivered or are being delivered, in the order of their creation."""
        return [_task(entry) for entry in self._rules.entries(limit=len(self._rules))]

    async def start(self) -> None:
        """Begins to deliver; tasks created before are kept.

        Raises:
            RuntimeError: it was started or closed before.
        """
        if self._closed or self._runner.started:
            raise RuntimeError("a queue is started once: make a new one")
        self._runner.start()

    async def close(self, grace_seconds: float = 10) -> None:
        """Stops dispatching, gives the running deliveries that time to end, then cancels them. May be called again.

        Tasks created meanwhile are accepted and never delivered; afterwards ``create`` raises ``Unavailable``.
        """
        await self._runner.stop(grace_seconds)
        self._closed = True

    async def idle(self) -> None:
        """Returns once nothing can be sent at this time and no delivery runs (or the queue does not run)."""
        await self._runner.idle()

    async def _attempt(self, entry: Entry[tuple[str, str]]) -> Reply:
        return Reply(bool(await self._deliver(_task(entry), entry.dispatch_count - 1)))


def _task(entry: Entry[tuple[str, str]]) -> Task:
    path, body = entry.payload
    return Task(entry.name, path, json.loads(body), entry.schedule_time)
