"""The engine's limits and policies, as plain values."""

from __future__ import annotations

from dataclasses import field
from datetime import timedelta

from workflow_core import Retry
from workflow_core.records import record


@record(frozen=True)
class EngineOptions:
    """The engine's limits.

    Attributes:
        lease: how long a lease lasts. While a step runs, it is renewed each time a third of this
            passes; for the first time after ``keeps_after``, if this is earlier.
        max_wait: how long an event waits for a busy instance.
        retry: the policy for setups and teardowns, and for steps and activities without a policy.
        budget: after this time, ``resume`` creates another task that continues.
        budget_steps: after this number of steps, it does the same.
        task_age_max: a task that still waits for its commit is dropped at this age.
        key_ttl: how long an idempotency key is remembered.
        buffer_max: the maximum number of buffered events of an instance.
        horizon: no task is scheduled further ahead. Anything due later is scheduled again at that time.
        lazy_after: a timer that is due later than this has no task until shortly before. Recovery then creates it, so
            recovery must run every minute. None: each timer has a task from the start.
    """

    lease: timedelta = timedelta(seconds=60)
    max_wait: timedelta = timedelta(seconds=10)
    retry: Retry = field(default_factory=Retry)
    budget: timedelta = timedelta(seconds=30)
    budget_steps: int = 500
    task_age_max: timedelta = timedelta(minutes=10)
    key_ttl: timedelta = timedelta(days=1)
    buffer_max: int = 100
    horizon: timedelta = timedelta(days=29)
    lazy_after: timedelta | None = None

    @property
    def keeps_after(self) -> timedelta:
        """The age of a lease from which on events of clients may be kept until it ends. Half of the time that an event
        waits, so that each event that waits for a lease finds that it may be kept."""
        return self.max_wait / 2
