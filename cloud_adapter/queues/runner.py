"""Runs a queue on asyncio: connects the rules (``rules.py``) to a clock and to a function that makes the attempts.

The in-process queue and the Cloud Tasks emulator both use it. Retries, rates and names are decided by the rules. The
runner does not depend on what a payload means or how it is delivered.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Coroutine
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, Final, Generic, TypeVar

from cloud_adapter.ports import Clock
from cloud_adapter.queues.rules import Entry, Outcome, QueueState
from workflow_core.records import record

logger = logging.getLogger("gorchestrate.queue")

SENT_AT_A_TIME: Final = 2
"""The number of attempts that start before other tasks of the event loop get a turn."""

SLEEP_SECONDS_MAX: Final = 600.0
"""The longest sleep. While a machine is suspended, its timers stop but its clock continues."""

P = TypeVar("P")


@record(frozen=True, slots=True)
class Reply:
    """The result of an attempt: whether it acknowledged its task, and whether there was a response."""

    acknowledged: bool
    responded: bool = True


class QueueRunner(Generic[P]):
    """Makes the attempts that the rules require, in parallel.

    Args:
        rules: the queue. Call ``wake`` after changing it other than through this class.
        clock: the clock for due times.
        attempt: makes one attempt. If it raises an error, the attempt has failed without a response, and the error is
            logged. It must end by itself: the runner does not limit its time.
        describe: returns the name of an entry in the log.
    """

    def __init__(
        self,
        rules: QueueState[P],
        clock: Clock,
        attempt: Callable[[Entry[P]], Awaitable[Reply]],
        describe: Callable[[Entry[P]], str],
    ) -> None:
        self.rules = rules
        self._clock = clock
        self._make = attempt
        self._describe = describe
        self._changed = asyncio.Event()  # there may be a task to send, or a new time to wake up
        self._progress = asyncio.Event()  # a task was sent, or an attempt ended
        self._dispatcher: asyncio.Task[None] | None = None
        self._attempts: set[asyncio.Task[None]] = set()

    @property
    def started(self) -> bool:
        """Whether ``start`` was called."""
        return self._dispatcher is not None

    def wake(self) -> None:
        """Checks the rules again."""
        self._changed.set()

    def start(self, context: contextvars.Context | None = None) -> None:
        """Starts to make attempts in the running event loop. Call it once.

        Args:
            context: the context variables of the attempts; by default none, because their work does not belong to the
                request that may have started them. Each attempt runs in a copy.
        """
        context = contextvars.Context() if context is None else context
        self._dispatcher = asyncio.create_task(self._dispatch(), name="gorchestrate-queue", context=context)

    def send(self, entry: Entry[P]) -> None:
        """Makes the attempt of an entry that the rules have marked as running."""
        attempt = asyncio.create_task(self._attempt(entry), name=f"gorchestrate-task-{entry.name}")
        self._attempts.add(attempt)
        attempt.add_done_callback(self._ended)

    async def stop(self, grace_seconds: float) -> None:
        """Stops dispatching, gives the running attempts that time to end, then cancels them. If this call is cancelled,
        cancels them at once. May be called again."""
        try:
            async with attempts_ended(self._attempts, self._clock, grace_seconds):
                if self._dispatcher is not None:
                    self._dispatcher.cancel()
                    await asyncio.gather(self._dispatcher, return_exceptions=True)
        finally:
            self._progress.set()

    async def idle(self) -> None:
        """Waits until no task can be sent now and no attempt runs, or until the queue stops."""
        while self._attempts or self.overdue:
            self._progress.clear()
            await self._progress.wait()

    @property
    def overdue(self) -> bool:
        """Whether a task is about to be sent."""
        if self._dispatcher is None or self._dispatcher.done():
            return False
        now = self._clock.now()
        at = self.rules.next_event(now)
        return at is not None and at <= now

    async def _dispatch(self) -> None:
        try:
            while True:
                self._changed.clear()
                now = self._clock.now()
                for number, entry in enumerate(self.rules.dispatchable(now), 1):
                    self.send(entry)
                    if not number % SENT_AT_A_TIME:
                        await asyncio.sleep(0)  # lets other tasks run
                self._progress.set()
                await self._change(self.rules.next_event(now))
        except Exception:
            logger.exception("the queue has stopped: this is a defect of gorchestrate")
            raise

    async def _change(self, at: datetime | None) -> None:
        """Waits until the rules may have changed, or until that time."""
        if at is None:
            await self._changed.wait()
            return
        # Negative if time has passed since the rules were asked. The next round then starts at once.
        seconds = min((at - self._clock.now()).total_seconds(), SLEEP_SECONDS_MAX)
        forget = self._clock.call_later(seconds, self._changed.set)
        try:
            await self._changed.wait()
        finally:
            forget()

    async def _attempt(self, entry: Entry[P]) -> None:
        reply = Reply(acknowledged=False, responded=False)
        try:
            reply = await self._make(entry)
        except Exception:
            logger.exception("attempt %d of task %s failed", entry.dispatch_count, self._describe(entry))
        finally:  # also if cancelled: an attempt that is not reported would hold its slot forever
            outcome = self.rules.finished(entry, reply.acknowledged, self._clock.now(), responded=reply.responded)
            if outcome is Outcome.DROPPED:
                logger.error("task %s is given up after %d attempts", self._describe(entry), entry.dispatch_count)

    def _ended(self, attempt: asyncio.Task[None]) -> None:
        self._attempts.discard(attempt)
        self._changed.set()
        self._progress.set()


@asynccontextmanager
async def attempts_ended(
    attempts: Collection[asyncio.Task[Any]], clock: Clock, grace_seconds: float
) -> AsyncIterator[None]:
    """Stop what begins attempts inside the block. At its end, the attempts have that time to end, then they are
    cancelled. None of them continues in the background, also if the caller is cancelled."""
    try:
        yield
        if attempts and grace_seconds > 0:
            # A copy, because the last attempt may end before this wait begins.
            await first_of(asyncio.wait([*attempts]), clock.sleep(grace_seconds))
    finally:
        if attempts:
            logger.warning("%d deliveries were still running after the grace period", len(attempts))
        for attempt in attempts:
            attempt.cancel()
        await asyncio.gather(*attempts, return_exceptions=True)


async def first_of(*awaitables: Coroutine[Any, Any, object]) -> None:
    """Waits until one of them ends, cancels the others, and raises the error of any of them."""
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
