"""How late what is due may happen, once no fault disturbs it.

The rule: work, timeouts, retries and results are not held up, except by other work of their instance, or by a pause.
The time during which the instance has no lease and is not paused does therefore not add up to much between the time at
which something is due and the time at which it happens. If tasks were lost, this counts from the next recovery.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from cloud_adapter.document import Instance
from tests.simulation.model.attempts import Work
from tests.simulation.model.children import TELL

if TYPE_CHECKING:
    from tests.simulation.model.instance import Model

IDLE_SECONDS_MAX = 30.0
"""How long an instance may be idle, in all, while something is due."""

LATE_TASK_SECONDS = 60.0
"""How late a bad queue may deliver a task that it got before the faults ended."""


class Lateness:
    """What is due in one instance.

    Attributes:
        due: since when each piece of work is due, in seconds.
        told_at: when it last began to tell its parent of its end.
    """

    def __init__(self, model: Model) -> None:
        self.model = model
        self.due: dict[Work, float] = {}
        self.told_at = 0.0
        self._busy: list[tuple[float, float]] = []
        self._busy_since: float | None = None
        self._busy_until = 0.0

    def written(self, new: Instance) -> None:
        """Notes whether the instance is busy from now on, and what is due."""
        world, executor, now = self.model.world, self.model.executor, self.model.world.timeline.now
        if self._busy_since is not None:
            self._busy.append((self._busy_since, min(now, self._busy_until)))
            self._busy_since = None
        if executor.paused or new.lease is not None:
            self._busy_since, self._busy_until = now, float("inf")
        if not executor.paused and new.lease is not None:
            self._busy_until = world.seconds(new.lease.expires_at) + 2 * world.settings.skew
        retry_at, known = executor.attempts.retry_at, self.due
        self.due = {
            work: world.seconds(retry_at[work]) if work in retry_at else known.get(work, now)
            for work in self.model.work()
        }

    def begun(self, work: Work) -> None:
        """Work under the lease begins."""
        if work == TELL:
            self.told_at = self.model.world.timeline.now
        if work in self.due:
            self._check(f"a {work[0]}", self.due[work])

    def timed_out(self, name: str, deadline: datetime) -> None:
        """The timeout or the attempt of that name has ended."""
        self.came(f"the end of {name!r}", self.model.world.seconds(deadline))

    def came(self, what: str, since: float) -> None:
        """What a task brings has come. If it meets a lease, it waits for its end, even if that is released earlier."""
        self._check(what, since, self.model.world.settings.options.lease.total_seconds())

    def _check(self, what: str, since: float, more_seconds: float = 0.0) -> None:
        """Checks that what was due since then and happens now was not held up for long without a reason."""
        world = self.model.world
        if world.calm_since is None:
            return
        idle = self._idle(max(since, world.calm_since), world.timeline.now)
        most = IDLE_SECONDS_MAX + more_seconds
        if world.queue.badness and not world.settings.is_peaceful:
            most += LATE_TASK_SECONDS
        if idle > most:
            world.violate(f"{what} happens {idle:.0f} s after it was due, and nothing has held it up")

    def _idle(self, start: float, end: float) -> float:
        """For how long nothing has held the instance up between two times."""
        busy = [*self._busy, *([] if self._busy_since is None else [(self._busy_since, min(end, self._busy_until))])]
        held = sum(max(0.0, min(end, until) - max(start, since)) for since, until in busy)
        return max(0.0, end - start) - held
