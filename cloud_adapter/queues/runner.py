"""Runs a queue on asyncio: joins the rules (``rules.py``) to a clock and to whoever makes the attempts.

The in-process queue and the emulator of Cloud Tasks both run on it. It decides nothing about retries, rates or names,
and must never know what a payload means or how it is delivered.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from cloud_adapter.ports import Clock
from cloud_adapter.queues.rules import Entry, Outcome, QueueState

logger = logging.getLogger("gorchestrate.queue")

SENT_AT_A_TIME: Final = 2
"""How many attempts begin before others in the event loop have a turn."""

SLEEP_SECONDS_MAX: Final = 600.0
"""The longest sleep: the timers of a machine stand still while it is suspended, its clock does not."""

P = TypeVar("P")


@dataclass(frozen=True, slots=True)
class Reply:
    """How an attempt ended: whether its task is done with, and whether there was any response."""

    acknowledged: bool
    responded: bool = True


class QueueRunner(Generic[P]):
    """Makes the attempts that the rules ask for, in parallel.

    Args:
        rules: the queue. Whoever changes it by another way than this class calls ``wake`` afterwards.
        clock: the time that tasks are due by.
        attempt: makes one attempt. If it raises, the attempt has failed without a response, and the error is logged. It
            must end by itself: nothing here limits its time.
        describe: how an entry is called in the log.
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
        self._changed = asyncio.Event()  # there may be something to send, or another time to wake up
        self._progress = asyncio.Event()  # something was sent, or an attempt ended
        self._dispatcher: asyncio.Task[None] | None = None
        self._attempts: set[asyncio.Task[None]] = set()

    @property
    def started(self) -> bool:
        """Whether ``start`` was called."""
        return self._dispatcher is not None

    def wake(self) -> None:
        """Looks at the rules again."""
        self._changed.set()

    def start(self) -> None:
        """Begins to make attempts, in the running event loop. To be called once."""
        # In a context of its own: what it sends is no part of the request that may have started it.
        context = contextvars.Context()
        self._dispatcher = asyncio.create_task(self._dispatch(), name="gorchestrate-queue", context=context)

    def send(self, entry: Entry[P]) -> None:
        """Makes the attempt of an entry that the rules have marked as running."""
        attempt = asyncio.create_task(self._attempt(entry), name=f"gorchestrate-task-{entry.name}")
        self._attempts.add(attempt)
        attempt.add_done_callback(self._ended)

    async def stop(self, grace_seconds: float) -> None:
        """Dispatches no more, gives the running attempts that time to end, then cancels them; at once if this call is
        cancelled. May be called again."""
        try:
            if self._dispatcher is not None:
                self._dispatcher.cancel()
                await asyncio.gather(self._dispatcher, return_exceptions=True)
            if self._attempts and grace_seconds > 0:
                await first_of(asyncio.wait(self._attempts), self._clock.sleep(grace_seconds))
        finally:  # also when whoever stops it is cancelled: no attempt goes on behind its back
            if self._attempts:
                logger.warning("%d deliveries were still running after the grace period", len(self._attempts))
            for attempt in self._attempts:
                attempt.cancel()
            await asyncio.gather(*self._attempts, return_exceptions=True)
            self._progress.set()

    async def idle(self) -> None:
        """Returns once nothing can be sent at this time and no attempt runs (or the queue does not run)."""
        while self._attempts or self.overdue:
            self._progress.clear()
            await self._progress.wait()

    @property
    def overdue(self) -> bool:
        """Whether there is something that is about to be sent."""
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
                        await asyncio.sleep(0)  # what else this process does has a turn
                self._progress.set()
                at = self.rules.next_event(now)
                if at is None:
                    await self._changed.wait()
                else:
                    # The time that passed since `now` may make this negative: then the next round is at once.
                    seconds = min((at - self._clock.now()).total_seconds(), SLEEP_SECONDS_MAX)
                    await first_of(self._changed.wait(), self._clock.sleep(seconds))
        except Exception:
            logger.exception("the queue has stopped: this is a defect of gorchestrate")
            raise

    async def _attempt(self, entry: Entry[P]) -> None:
        reply = Reply(acknowledged=False, responded=False)
        try:
            reply = await self._make(entry)
        except Exception:
            logger.exception("attempt %d of task %s failed", entry.dispatch_count, self._describe(entry))
        finally:  # also when cancelled: an attempt that is not reported would hold its place for ever
            outcome = self.rules.finished(entry, reply.acknowledged, self._clock.now(), responded=reply.responded)
            if outcome is Outcome.DROPPED:
                logger.error("task %s is given up after %d attempts", self._describe(entry), entry.dispatch_count)

    def _ended(self, attempt: asyncio.Task[None]) -> None:
        self._attempts.discard(attempt)
        self._changed.set()
        self._progress.set()


async def first_of(*awaitables: Coroutine[Any, Any, object]) -> None:
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
