"""The engine's limits and policies, as plain values."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """When a step, a setup or a teardown that has failed is tried again.

    Attributes:
        max_attempts: how often it is tried in all.
        initial: the delay after the first failure; each further one is ``factor`` times as long.
        max_delay: no delay is longer.
    """

    max_attempts: int = 10
    initial: timedelta = timedelta(seconds=1)
    factor: float = 2.0
    max_delay: timedelta = timedelta(minutes=5)

    def delay(self, failures: int) -> timedelta | None:
        """The delay after that many failures; None when no attempt is left."""
        if failures >= self.max_attempts:
            return None
        try:
            return min(self.max_delay, self.initial * self.factor ** (failures - 1))
        except OverflowError:
            return self.max_delay


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """The engine's limits.

    Attributes:
        lease: how long a lease lasts; it is renewed each third of that while a step runs.
        max_wait: how long an event waits for a busy instance.
        retry: the policy for steps, setups and teardowns.
        budget: after this time ``resume`` hands on to a task of its own.
        budget_steps: after so many steps too.
        task_age_max: a task that still waits for its commit is given up at this age.
        key_ttl: how long an idempotency key is remembered.
        horizon: no task is scheduled further ahead; a later timer re-arms itself.
    """

    lease: timedelta = timedelta(seconds=60)
    max_wait: timedelta = timedelta(seconds=10)
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    budget: timedelta = timedelta(seconds=30)
    budget_steps: int = 500
    task_age_max: timedelta = timedelta(minutes=10)
    key_ttl: timedelta = timedelta(days=1)
    horizon: timedelta = timedelta(days=29)
