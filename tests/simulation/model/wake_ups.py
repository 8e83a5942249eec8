"""When an instance is to be woken if every task is lost: recovery finds it by ``wake_at``, in time, and not before.

The rule: an instance is woken when the first thing is due that needs nobody from outside. What that is follows from the
executor alone: work that is to be done is due at once, or at the time of its next attempt; what has a deadline is due
then. Under a lease the work is its holder's until the lease ends. An instance that waits only for clients is not woken
at all. Too late would be a stall after lost tasks; too early, a search that finds it again and again for nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING

from cloud_adapter.document import Instance
from tests.simulation.model.attempts import Work
from tests.simulation.model.children import TELL
from tests.simulation.model.violations import require

if TYPE_CHECKING:
    from tests.simulation.model.instance import Model


def _work(model: Model) -> Iterator[Work]:
    yield from model.executor.work()
    if model.children.is_to_tell:
        yield TELL


def check_wake_up(model: Model, new: Instance) -> None:
    now = new.execution.updated_at
    assert now is not None
    retry_at, deadlines = model.executor.attempts.retry_at, model.deadlines.known
    times: list[datetime] = [deadlines[attempt] for _, attempt in model.executor.timed_waits()]
    times += [retry_at.get(work, now) for work in _work(model)] if new.lease is None else [new.lease.expires_at]
    expected = min(times, default=None)
    require(new.wake_at == expected, f"it is to be woken at {new.wake_at}, and something is due at {expected}")


def check_rest(model: Model, stored: Instance) -> None:
    """Once nothing moves any more, nothing is left that should."""
    left = next(_work(model), None)
    require(left is None, f"it has come to rest, and something is still to be done: {left}")
    timed = next((attempt for _, attempt in model.executor.timed_waits()), None)
    require(timed is None, f"it has come to rest, and a deadline is still to come: {timed}")
    require(stored.lease is None, "it has come to rest under a lease")
    require(stored.wake_at is None, f"it has come to rest, and is to be woken at {stored.wake_at}")
