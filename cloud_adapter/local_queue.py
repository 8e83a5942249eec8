"""The TaskQueue port inside the process, on asyncio: for the embedded runtime and for tests.

It joins the rules of a queue (``queue_rules``) to a clock and to whoever takes the deliveries. It must never know what
a task asks for, and decides nothing about retries, rates or names itself.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Coroutine
from datetime import timedelta
from typing import Any, Final

from cloud_adapter.errors import InvalidRequest, TooLarge, Unavailable
from cloud_adapter.ports import Clock, Task
from cloud_adapter.queue_rules import Entry, Outcome, QueueFull, QueueState, RateLimits, RetryConfig

logger = logging.getLogger("gorchestrate.queue")

LOCAL_RETRY: Final = RetryConfig(max_attempts=100, max_backoff=timedelta(seconds=10))
LOCAL_LIMITS: Final = RateLimits(max_dispatches_per_second=10_000, max_burst_size=1_000, max_concurrent_dispatches=100)
TASK_BYTES_MAX: Final = 1_000_000
SLEEP_SECONDS_MAX: Final = 600.0
"""The longest sleep: the timers of a machine stand still while it is suspended, its clock does not."""

Deliver = Callable[[Task, int], Awaitable[bool]]


class LocalQueue:
    """A task queue in memory.

    The tasks are lost with the process. That is no loss of work: an instance's document says when it should move, so
    ``recover()``, which the embedded runtime calls at its start, schedules again what was lost.

    Args:
        deliver: gets a task and how often it was retried so far, and returns whether it is acknowledged. If not, or if
            it raises (which is logged), it is called again after a backoff. It must end by itself: nothing here limits
            its time.
        clock: the time that tasks are due by.
        retry: how failed deliveries are repeated; as Cloud Tasks does by default, but at most 10 s apart.
        limits: how fast tasks are delivered, and how many (100) at a time.
    """

    def __init__(
        self, deliver: Deliver, clock: Clock, *, retry: RetryConfig = LOCAL_RETRY, limits: RateLimits = LOCAL_LIMITS
    ) -> None:
        self._deliver = deliver
        self._clock = clock
        self._rules: QueueState[tuple[str, str]] = QueueState(retry=retry, limits=limits)
        self._changed = asyncio.Event()  # there may be something to send, or another time to wake up
        self._progress = asyncio.Event()  # something was sent, or a delivery ended
        self._dispatcher: asyncio.Task[None] | None = None
        self._deliveries: set[asyncio.Task[None]] = set()
        self._closed = False

    async def create(self, task: Task) -> None:
        """Adds a task. A name that the queue has, or had within the last hour, changes nothing and is no error.

        Raises:
            InvalidRequest: the name is not one, the body is not JSON, or the task is due in more than 30 days.
            TooLarge: the body is larger than 1 MB.
            Unavailable: the queue is full, or closed.
        """
        if self._closed:
            raise Unavailable("the queue is closed: the process is about to end, and recovery will bring the task back")
        try:
            body = json.dumps(task.body, allow_nan=False)
            size = len(task.path.encode()) + len(body)  # json.dumps writes ASCII
            if size > TASK_BYTES_MAX:
                raise TooLarge(f"task {task.name} has {size} bytes, {TASK_BYTES_MAX} is the limit: send a reference")
            self._rules.create(task.name, (task.path, body), task.at, self._clock.now())
        except (ValueError, TypeError) as error:
            raise InvalidRequest(str(error)) from error
        except QueueFull as error:
            raise Unavailable(str(error)) from error
        self._changed.set()

    async def delete(self, name: str) -> None:
        """Takes a task out; one that is not there (any more) is no error. A delivery that runs goes on."""
        self._rules.delete(name, self._clock.now())
        self._changed.set()

    async def start(self) -> None:
        """Begins to deliver; tasks created before are kept.

        Raises:
            RuntimeError: it was started or closed before.
        """
        if self._closed or self._dispatcher is not None:
            raise RuntimeError("a queue is started once: make a new one")
        self._dispatcher = asyncio.create_task(self._dispatch(), name="gorchestrate-queue")

    async def close(self, grace_seconds: float = 10) -> None:
        """Stops dispatching, gives the running deliveries that time to end, then cancels them. May be called again.

        Tasks created meanwhile are accepted and never delivered; afterwards ``create`` raises ``Unavailable``.
        """
        if self._dispatcher is not None:
            self._dispatcher.cancel()
            await asyncio.gather(self._dispatcher, return_exceptions=True)
        if self._deliveries and grace_seconds > 0:
            await _first_of(asyncio.wait(self._deliveries), self._clock.sleep(grace_seconds))
        self._closed = True
        if self._deliveries:
            logger.warning("%d deliveries were still running after the grace period", len(self._deliveries))
        for delivery in self._deliveries:
            delivery.cancel()
        await asyncio.gather(*self._deliveries, return_exceptions=True)
        self._progress.set()

    async def idle(self) -> None:
        """Returns once nothing can be sent at this time and no delivery runs (or the queue does not run)."""
        while self._deliveries or self._overdue():
            self._progress.clear()
            await self._progress.wait()

    def _overdue(self) -> bool:
        if self._dispatcher is None or self._dispatcher.done():
            return False
        now = self._clock.now()
        at = self._rules.next_event(now)
        return at is not None and at <= now

    async def _dispatch(self) -> None:
        try:
            while True:
                self._changed.clear()
                now = self._clock.now()
                for entry in self._rules.dispatchable(now):
                    delivery = asyncio.create_task(self._attempt(entry), name=f"gorchestrate-task-{entry.name}")
                    self._deliveries.add(delivery)
                    delivery.add_done_callback(self._ended)
                self._progress.set()
                at = self._rules.next_event(now)
                if at is None:
                    await self._changed.wait()
                else:
                    # The time that passed since `now` may make this negative: then the next round is at once.
                    seconds = min((at - self._clock.now()).total_seconds(), SLEEP_SECONDS_MAX)
                    await _first_of(self._changed.wait(), self._clock.sleep(seconds))
        except Exception:
            logger.exception("the queue has stopped: this is a defect of gorchestrate")
            raise

    async def _attempt(self, entry: Entry[tuple[str, str]]) -> None:
        path, body = entry.payload
        acknowledged = False
        try:
            task = Task(entry.name, path, json.loads(body), entry.schedule_time)
            acknowledged = bool(await self._deliver(task, entry.dispatch_count - 1))
        except Exception:
            logger.exception("attempt %d of task %s (%s) failed", entry.dispatch_count, entry.name, path)
        finally:  # also when cancelled: an attempt that is not reported would hold its place for ever
            outcome = self._rules.finished(entry, acknowledged, self._clock.now())
            if outcome is Outcome.DROPPED:
                logger.error("task %s (%s) is given up after %d attempts", entry.name, path, entry.dispatch_count)

    def _ended(self, delivery: asyncio.Task[None]) -> None:
        self._deliveries.discard(delivery)
        self._changed.set()
        self._progress.set()


async def _first_of(*awaitables: Coroutine[Any, Any, object]) -> None:
    """Waits until one of them has ended, ends the others, and raises what one of them raised."""
    tasks = [asyncio.ensure_future(awaitable) for awaitable in awaitables]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
    for result in results:
        if isinstance(result, Exception):
            raise result
