"""Decides when a failed attempt of a task is followed by another attempt. Independent of queues."""

from __future__ import annotations

from datetime import datetime, timedelta

from workflow_core.records import record

TASK_LIFE_MAX = timedelta(days=31)
"""A task is not retried beyond this age, regardless of the retry configuration."""

_UNLIMITED = -1
_NONE = timedelta(0)


@record(frozen=True, slots=True)
class RetryConfig:
    """The configuration of retries. The fields and defaults are those of ``RetryConfig`` in Cloud Tasks.

    Cloud Tasks documents two surprising rules:

    * A task is dropped only when ``max_attempts`` *and* ``max_retry_duration`` are both exhausted. A limit that is not
      set counts as exhausted, so the other limit alone decides. A task is retried without end (here: for 31 days) only
      if neither limit is set.
    * The interval starts at ``min_backoff`` and doubles ``max_doublings`` times. Then it grows linearly, each time by
      the interval that it had reached (``2**max_doublings * min_backoff``). It never exceeds ``max_backoff``. With 10
      s, 300 s and three doublings, the intervals are 10, 20, 40, 80, 160, 240, 300, 300, ... seconds.

    Attributes:
        max_attempts: the number of attempts, including the first one; -1: no limit.
        max_retry_duration: the time since the first attempt in which retries are made; 0: no limit.
        min_backoff: the interval between the first failure and the second attempt.
        max_backoff: the longest interval.
        max_doublings: how many times the interval doubles before it grows linearly; 0 to 64.
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
        """Returns the interval before the next attempt, after this number of failed attempts (1 or more)."""
        doublings = min(failures - 1, self.max_doublings)
        steps = failures - doublings
        # Calculated in multiples of min_backoff, because a timedelta would overflow before the maximum is applied.
        if self.min_backoff and (factor := steps << doublings) <= self.max_backoff // self.min_backoff:
            return self.min_backoff * factor
        return self.max_backoff if self.min_backoff else _NONE

    def spent(self, attempts: int, first_attempt: datetime, now: datetime) -> bool:
        """Whether a task is dropped after a failed attempt, given its number of attempts and the time of the first."""
        attempts_limited = self.max_attempts != _UNLIMITED
        duration_limited = bool(self.max_retry_duration)
        if not attempts_limited and not duration_limited:
            return False
        attempts_spent = not attempts_limited or attempts >= self.max_attempts
        duration_spent = not duration_limited or now - first_attempt >= self.max_retry_duration
        return attempts_spent and duration_spent
