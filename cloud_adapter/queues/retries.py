"""When a failed attempt of a task is followed by another one. Knows no queue."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

TASK_LIFE_MAX = timedelta(days=31)
"""A task is not retried beyond this age, whatever the retry configuration says."""

_UNLIMITED = -1
_NONE = timedelta(0)


@dataclass(frozen=True, slots=True)
class RetryConfig:
    """When a failed attempt is followed by another one; fields and defaults are those of Cloud Tasks' ``RetryConfig``.

    Cloud Tasks documents two rules that surprise:

    * A task is dropped only when ``max_attempts`` *and* ``max_retry_duration`` are both spent. A limit that is not set
      counts as spent, so that the other one decides alone; a task is retried for ever (here: for 31 days) only if
      neither is set.
    * The interval starts at ``min_backoff``, doubles ``max_doublings`` times, then grows linearly, each time by what it
      had reached (``2**max_doublings * min_backoff``), and never exceeds ``max_backoff``. With 10 s, 300 s and three
      doublings it is 10, 20, 40, 80, 160, 240, 300, 300, ... seconds.

    Attributes:
        max_attempts: how often a task is tried, the first attempt included; -1: no limit.
        max_retry_duration: the time since the first attempt in which retries are made; 0: no limit.
        min_backoff: the interval between the first failure and the second attempt.
        max_backoff: the longest interval.
        max_doublings: how often the interval doubles before it grows linearly; 0 to 64.
    """

    max_attempts: int = 100
    max_retry_duration: timedelta = _NONE
    min_backoff: timedelta = timedelta(seconds=0.1)
    max_backoff: timedelta = timedelta(hours=1)
    max_doublings: int = 16

    def __post_init__(self) -> None:
        if self.max_attempts < 1 and self.max_attempts != _UNLIMITED:
            raise ValueError(f"max_attempts is {self.max_attempts}: give 1 or more, or -1 for no limit")
        if self.max_retry_duration < _NONE:
            raise ValueError(f"max_retry_duration is {self.max_retry_duration}: give a duration, or 0 for no limit")
        if not _NONE <= self.min_backoff <= self.max_backoff <= TASK_LIFE_MAX:
            raise ValueError(
                f"min_backoff is {self.min_backoff} and max_backoff is {self.max_backoff}: "
                f"give 0 <= min_backoff <= max_backoff <= {TASK_LIFE_MAX}"
            )
        if not 0 <= self.max_doublings <= 64:
            raise ValueError(f"max_doublings is {self.max_doublings}: give 0 to 64")

    def backoff(self, failures: int) -> timedelta:
        """The interval before the next attempt, after that many failed ones (1 or more)."""
        doublings = min(failures - 1, self.max_doublings)
        steps = failures - doublings
        # In whole numbers of min_backoff: a timedelta would overflow before the cap is applied.
        if self.min_backoff and (factor := steps << doublings) <= self.max_backoff // self.min_backoff:
            return self.min_backoff * factor
        return self.max_backoff if self.min_backoff else _NONE

    def spent(self, attempts: int, first_attempt: datetime, now: datetime) -> bool:
        """Whether a task whose attempt just failed is dropped, after that many attempts since the first one."""
        attempts_limited = self.max_attempts != _UNLIMITED
        duration_limited = bool(self.max_retry_duration)
        if not attempts_limited and not duration_limited:
            return False
        attempts_spent = not attempts_limited or attempts >= self.max_attempts
        duration_spent = not duration_limited or now - first_attempt >= self.max_retry_duration
        return attempts_spent and duration_spent
