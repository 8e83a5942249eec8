"""How fast a queue dispatches: its limits, and the token bucket that keeps them. Knows no task.

Theory of operation. A dispatch takes a token; tokens fall into the bucket at a fixed interval, up to its size. The
bucket is kept as one time: that at which it is full again. Taking a token moves that time one interval on, and there is
a token as long as the time is less than the bucket's size ahead. So the bucket is exact, where a sum of fractions of
tokens is not, and limits that change apply at once. A clock that is set back would leave the time far ahead and stop
the queue for as long; therefore it is never taken to be more than a full bucket ahead.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta


@dataclass(frozen=True, slots=True)
class RateLimits:
    """How fast a queue dispatches; fields and defaults are those of Cloud Tasks' ``RateLimits``.

    Attributes:
        max_dispatches_per_second: how fast the token bucket fills (a token's time is rounded to whole microseconds).
        max_burst_size: how many tokens the bucket holds; it is full at first.
        max_concurrent_dispatches: how many attempts may run at a time.
    """

    max_dispatches_per_second: float = 500
    max_burst_size: int = 100
    max_concurrent_dispatches: int = 1_000

    def __post_init__(self) -> None:
        if not 1e-6 <= self.max_dispatches_per_second <= 100_000:
            raise ValueError(f"max_dispatches_per_second is {self.max_dispatches_per_second}: give 0.000001 to 100000")
        if not 1 <= self.max_burst_size <= 100_000:
            raise ValueError(f"max_burst_size is {self.max_burst_size}: give 1 to 100000")
        if not 1 <= self.max_concurrent_dispatches <= 100_000:
            raise ValueError(f"max_concurrent_dispatches is {self.max_concurrent_dispatches}: give 1 to 100000")

    @property
    def interval(self) -> timedelta:
        """The time in which one token falls into the bucket."""
        return timedelta(seconds=1 / self.max_dispatches_per_second)


class TokenBucket:
    """Kept as the time at which the bucket is full again: exact, where a sum of fractions of tokens is not."""

    def __init__(self) -> None:
        self._full_at: datetime | None = None

    def ready_at(self, limits: RateLimits, now: datetime) -> datetime:
        """When there is a token; not after ``now`` if there is one."""
        if self._full_at is None:
            return now
        # A clock that was set back must not stop the queue for as long.
        self._full_at = min(self._full_at, now + limits.interval * limits.max_burst_size)
        return self._full_at - limits.interval * (limits.max_burst_size - 1)

    def take(self, limits: RateLimits, now: datetime) -> None:
        self._full_at = max(self._full_at or now, now) + limits.interval
