"""The Clock port on the system clock. No other module reads the time of day."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

CLOCK_SKEW = timedelta(seconds=10)
"""The maximum difference between the clocks of processes and queues. A task may arrive this long before its time."""


class SystemClock:
    """The system time; waits with ``asyncio.sleep``."""

    def now(self) -> datetime:
        """Returns the current time, timezone-aware, in UTC."""
        return datetime.now(UTC)

    async def sleep(self, seconds: float) -> None:
        """Waits for that time. If it is not positive, only lets other tasks run once."""
        await asyncio.sleep(max(seconds, 0))

    def call_later(self, seconds: float, callback: Callable[[], None]) -> Callable[[], None]:
        """Calls ``callback`` after that time. Returns a function that prevents it."""
        return asyncio.get_running_loop().call_later(seconds, callback).cancel
