"""The Clock port on the machine's own clock. The one module of the package that reads the time."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

CLOCK_SKEW = timedelta(seconds=10)
"""By how much the clocks of processes and queues may differ: so much before its time a task may come."""


class SystemClock:
    """The time of the machine; waiting for it is ``asyncio.sleep``."""

    def now(self) -> datetime:
        """The current time, aware, in UTC."""
        return datetime.now(UTC)

    async def sleep(self, seconds: float) -> None:
        """Returns after that time; at once (but not before other tasks had their turn) if it is not positive."""
        await asyncio.sleep(max(seconds, 0))
