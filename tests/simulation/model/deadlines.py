"""Deadlines of timeouts, sleeps and attempts of activities.

The rule: a deadline is computed from the start of its wait, or from the scheduled time of its attempt. It does not
change until the wait ends. The only exceptions are attempts of activities: a heartbeat moves the deadline, and the end
of a pause computes it again. A timeout never happens before its deadline, and it happens soon afterwards if no fault
interferes. The model therefore keeps each deadline from the start of the wait, independently of what is stored later.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from cloud_adapter.document import Instance
from cloud_adapter.history import HistoryEntry
from tests.simulation.acts import Act, Attempt, attempt_of
from tests.simulation.flows import DELAYS
from tests.simulation.model.executor import is_at_work
from tests.simulation.model.violations import require, require_equal
from workflow_core.wait_types import TimedWait

if TYPE_CHECKING:
    from tests.simulation.actors import Actor
    from tests.simulation.model.instance import Model

LATE_MAX = timedelta(minutes=15)
"""How late a timeout may be that nothing but other work of its instance holds up."""


class Deadlines:
    """The deadlines of one instance.

    Attributes:
        known: until when each wait lasts, by wait, name, and how often it has failed.
    """

    def __init__(self, model: Model) -> None:
        self.model = model
        self.known: dict[Attempt, datetime] = {}

    def written(self, new: Instance, acts: Sequence[Act]) -> None:
        """Compares what is stored with what is known, and learns the deadlines of waits that are new."""
        executor = self.model.executor
        if executor.ended or executor.paused:
            return
        waits = (wait for thread in new.execution.threads for wait in thread.waits if isinstance(wait, TimedWait))
        stored = {attempt_of(wait): wait.deadline for wait in waits if wait.deadline is not None}
        timed = {attempt for _, attempt in executor.timed_waits()}
        require_equal("waits with a deadline", stored.keys(), timed)
        known = {attempt: self.known[attempt] for attempt in timed & self.known.keys()}
        require_equal("deadlines", {attempt: stored[attempt] for attempt in known}, known)
        times = [act.entry.at for act in acts if act.entry is not None]
        for attempt in timed - known.keys() if times else ():
            self._check_new(attempt, stored[attempt], min(times))
        self.known = stored

    def _check_new(self, attempt: Attempt, deadline: datetime, begun: datetime) -> None:
        """A deadline counts from when its wait was begun, not from an earlier time."""
        wait_id, name, _ = attempt
        retry_at = self.model.executor.attempts.retry_at.get(("activity", wait_id, name), begun)
        limit = self.model.world.definitions.least_delays[self.model.workflow].get(name, timedelta(seconds=min(DELAYS)))
        least = max(begun, retry_at) + limit
        require(deadline >= least, f"the deadline of {name!r} is {deadline}, not {least}")

    def move(self, attempt: Attempt, deadline: datetime) -> None:
        """A heartbeat was sent."""
        self.known[attempt] = deadline

    def begin_anew(self) -> None:
        """After a pause, attempts of activities are scheduled again, because their results were ignored during it."""
        for thread, attempt in self.model.executor.timed_waits():
            if is_at_work(thread, attempt[1]):
                self.known.pop(attempt, None)

    def time_out(self, actor: Actor, entry: HistoryEntry) -> None:
        """A timeout has happened."""
        thread, case, name = self.model.events.offer(entry.statement, entry.thread)
        world, deadline = self.model.world, self.known[thread.wait_id, name, 0]
        require(deadline <= actor.process.latest(), f"the timeout {name!r} has happened before its time")
        self.model.lateness.timed_out(name, deadline)
        late = world.now - max(deadline, world.quiet_since)
        require(late < LATE_MAX or world.queue.has_lost, f"the timeout {name!r} has happened {late} late")
        self.model.executor.handle(thread, case, name, None)
