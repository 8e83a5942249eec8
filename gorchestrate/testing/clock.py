"""A Clock whose time moves only when a test says so. Knows asyncio and nothing of the project."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from heapq import heappop, heappush
from typing import Any

START = datetime(2030, 1, 1, tzinfo=UTC)

WAKES_MAX = 1_000_000
ROUNDS_MAX = 100_000
THREADS_SECONDS_MAX = 10.0

_TICK = timedelta(microseconds=1)


class ManualClock:
    """The Clock port for tests.

    ``await clock.advance(60)`` moves the time from one sleeper's end to the next one's, in order, and lets everything
    that a wake-up causes happen before it goes on: code that runs sees the very time it waited for. Work in threads
    (``asyncio.to_thread``, ``loop.run_in_executor``) is waited for as well; a test that holds a thread up itself says
    ``wait_for_threads=False``. Not seen are: sockets, other processes, ``asyncio.sleep`` and ``asyncio.timeout``.
    """

    def __init__(self, start: datetime = START, *, wait_for_threads: bool = True) -> None:
        self._now = start.astimezone(UTC)
        self._wait_for_threads = wait_for_threads
        self._sequence = 0
        self._sleepers: list[tuple[datetime, int, asyncio.Future[None]]] = []
        self._threads: set[asyncio.Future[Any]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._advancing = False
        self._watch_threads()

    def now(self) -> datetime:
        self._watch_threads()
        return self._now

    async def sleep(self, seconds: float) -> None:
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        self._watch_threads()
        self._sequence += 1
        future = asyncio.get_running_loop().create_future()
        # Never the present, so that a short sleep in a loop makes time move.
        wake_at = self._now + max(timedelta(seconds=seconds), _TICK)
        heappush(self._sleepers, (wake_at, self._sequence, future))
        await future

    def call_later(self, seconds: float, callback: Callable[[], None]) -> Callable[[], object]:
        async def later() -> None:
            await self.sleep(seconds)
            callback()

        return asyncio.ensure_future(later()).cancel

    @property
    def next_wake(self) -> datetime | None:
        """When the next sleeper wakes; None if nobody sleeps."""
        while self._sleepers and self._sleepers[0][2].done():
            heappop(self._sleepers)
        return self._sleepers[0][0] if self._sleepers else None

    @property
    def sleeping(self) -> int:
        """How many sleep."""
        return sum(not future.done() for _, _, future in self._sleepers)

    def jump(self, seconds: float) -> None:
        """Lets the time pass while nobody runs: sleepers notice only when it is advanced the next time."""
        self._now += timedelta(seconds=seconds)

    async def advance(self, seconds: float = 0) -> None:
        """Moves the time on; 0: only lets happen what can happen now. Returns when all of it has happened."""
        await self.advance_to(self._now + timedelta(seconds=seconds))

    async def advance_to(self, target: datetime) -> None:
        """Moves the time on to that time."""
        if self._advancing:
            raise RuntimeError("the clock is being advanced already: one task of a test moves the time")
        if target < self._now:
            raise ValueError(f"it is {self._now} already: time does not go back to {target}")
        self._advancing = True
        try:
            await self.settle()
            for _ in range(WAKES_MAX):
                wake_at = self.next_wake
                if wake_at is None or wake_at > target:
                    break
                self._now = max(self._now, wake_at)
                heappop(self._sleepers)[2].set_result(None)
                await self.settle()
            else:
                raise RuntimeError(
                    f"more than {WAKES_MAX} sleepers woke up until {self._now}: does one sleep in a loop?"
                )
            self._now = target.astimezone(UTC)
            await self.settle()
        finally:
            self._advancing = False

    async def finish(
        self,
        awaitable: Awaitable[Any],
        *,
        before_moving: Callable[[asyncio.Future[Any]], Awaitable[None]] | None = None,
    ) -> Any:
        """Awaits something, and moves the time on whenever all that is left to do is to sleep.

        Args:
            before_moving: is awaited with the task before the time is moved; it waits for what the clock does not see.
        """
        task = asyncio.ensure_future(awaitable)
        try:
            while True:
                await self.settle()
                if not task.done() and before_moving is not None:
                    await before_moving(task)
                if task.done():
                    return task.result()
                wake_at = self.next_wake
                assert wake_at is not None, "it waits for something that is not the time"
                await self.advance_to(wake_at)
        finally:
            task.cancel()

    async def settle(self) -> None:
        """Lets every other task of the loop run until all of them wait for something."""
        self._watch_threads()
        loop = asyncio.get_running_loop()
        for _ in range(ROUNDS_MAX):
            await asyncio.sleep(0)
            # What is ready beside this task; a loop that does not tell is given a number of turns.
            ready = getattr(loop, "_ready", None)
            if ready is None:
                for _ in range(50):
                    await asyncio.sleep(0)
            elif ready:
                continue
            if not self._threads or not self._wait_for_threads:
                return
            done, _ = await asyncio.wait(
                self._threads, timeout=THREADS_SECONDS_MAX, return_when=asyncio.FIRST_COMPLETED
            )
            if not done:
                raise RuntimeError(
                    f"{len(self._threads)} threads have run for {THREADS_SECONDS_MAX:.0f} real seconds: "
                    "if the test holds them up, make its clock with wait_for_threads=False"
                )
        raise RuntimeError(f"the loop is still busy after {ROUNDS_MAX} rounds: a task spins without sleeping")

    def _watch_threads(self) -> None:
        """Counts the work that the running loop gives to threads, from the first use of the clock on."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return
        if loop is self._loop:
            return
        self._loop = loop
        self._threads = threads = set[asyncio.Future[Any]]()
        run_in_executor = loop.run_in_executor

        def watched(executor: Any, func: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:
            future = run_in_executor(executor, func, *args)
            threads.add(future)
            future.add_done_callback(threads.discard)
            return future

        loop.run_in_executor = watched  # type: ignore[assignment,method-assign]
