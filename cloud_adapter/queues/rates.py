"""The rate at which a queue dispatches: its limits, and the token bucket that enforces them. Independent of tasks.

Theory of operation. A dispatch takes a token from the bucket. The bucket gets tokens at a fixed interval, up to its
size. The bucket is stored as one time: the time at which it is full again. Taking a token moves that time forward by
one interval. A token is available while that time is less than the bucket's size ahead. Unlike a sum of fractions of
tokens, this time is exact, and changed limits apply immediately. If the clock were set back, the time would be far
ahead and stop the queue for as long. It is therefore limited to one full bucket ahead.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from workflow_core.records import record


@record(frozen=True, slots=True)
class RateLimits:
    """The limits of a queue's rate. The fields and defaults are those of ``RateLimits`` in Cloud Tasks.

    Attributes:
        max_dispatches_per_second: how fast the token bucket fills. The interval is rounded to whole microseconds.
        max_burst_size: how many tokens the bucket holds. It is full at first.
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
        """The time between two tokens."""
        return timedelta(seconds=1 / self.max_dispatches_per_second)


class TokenBucket:
    """A token bucket, stored as the time at which it is full again. Unlike a sum of fractions of tokens, it is
    exact."""

    def __init__(self) -> None:
        self._full_at: datetime | None = None

    def ready_at(self, limits: RateLimits, now: datetime) -> datetime:
        """Returns when a token is available. If one is available now, the time is not after ``now``."""
        if self._full_at is None:
            return now
        # If the clock was set back, the queue must not stop for as long.
        self._full_at = min(self._full_at, now + limits.interval * limits.max_burst_size)
        return self._full_at - limits.interval * (limits.max_burst_size - 1)

    def take(self, limits: RateLimits, now: datetime) -> None:
        self._full_at = max(self._full_at or now, now) + limits.interval
