"""Checks ``wake_at``, the time at which recovery resumes an instance if every task is lost.

The rule: ``wake_at`` is the earliest time at which something is due that needs no input from outside. The state of the
executor determines it: work is due immediately, or at the time of its next attempt; a wait with a deadline is due at
the deadline. While a lease is held, the work belongs to its holder, so it is due when the lease ends. An instance that
waits only for clients has no such time. A lazy timer has no task until recovery creates it, so the instance is due that
much earlier. A time that is too late would stall the instance after lost tasks; a time that
is too early would make recovery load it repeatedly without effect.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from cloud_adapter.document import Instance
from cloud_adapter.engine.schedule import LAZY_AHEAD
from tests.simulation.model.violations import require

if TYPE_CHECKING:
    from tests.simulation.model.instance import Model


def check_wake_up(model: Model, new: Instance) -> None:
    now = new.execution.updated_at
    assert now is not None
    retry_at, deadlines = model.executor.attempts.retry_at, model.deadlines.known
    lazy = model.tasks.lazy
    times: list[datetime] = [
        deadlines[attempt] - LAZY_AHEAD * (attempt in lazy) for _, attempt in model.executor.timed_waits()
    ]
    times += [retry_at.get(work, now) for work in model.work()] if new.lease is None else [new.lease.expires_at]
    expected = min(times, default=None)
    require(new.wake_at == expected, f"it is to be woken at {new.wake_at}, and something is due at {expected}")


def check_rest(model: Model, stored: Instance) -> None:
    """Once nothing moves any more, nothing is left that should."""
    left = next(iter(model.work()), None)
    require(left is None, f"it has come to rest, and something is still to be done: {left}")
    timed = next((attempt for _, attempt in model.executor.timed_waits()), None)
    require(timed is None, f"it has come to rest, and a deadline is still to come: {timed}")
    require(stored.lease is None, "it has come to rest under a lease")
    require(stored.wake_at is None, f"it has come to rest, and is to be woken at {stored.wake_at}")
