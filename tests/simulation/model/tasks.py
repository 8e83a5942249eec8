"""The tasks that are created for a write.

The rule: each timeout that begins has one task, except lazy timers, which are due much later. Each attempt of an
activity that begins has one, and the attempts that one write begins have one more, for their deadlines. Work that is
due under a lease belongs to its holder and has no task. Otherwise one task is created if work is due now that was not
due before, and one for each later time at which work becomes due. The write that ends a lease and the one that ends a
pause create tasks for all the work that there is, because earlier ones may have found the lease or the pause, and done
nothing. The write that ends a lease has one more for each deadline that passed long ago, since its own task was put off
until the lease expires.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from cloud_adapter.clock import CLOCK_SKEW
from cloud_adapter.document import Instance
from cloud_adapter.engine.tasks import ACTIVITY_PATH, RESUME_PATH, TIMEOUT_PATH
from cloud_adapter.ports import Task
from tests.simulation.acts import Act, Attempt, attempt_of
from tests.simulation.model.executor import is_at_work
from tests.simulation.model.leases import OVER_LEASES
from tests.simulation.model.violations import require_equal
from workflow_core.wait_types import AnyTimedWait

if TYPE_CHECKING:
    from tests.simulation.model.instance import Model


class Tasks:
    """The tasks of one instance.

    Attributes:
        lazy: the timers whose writes created no task, because they are due much later.
    """

    def __init__(self, model: Model) -> None:
        self.model = model
        self.lazy: set[Attempt] = set()
        self._timed: set[Attempt] = set()
        self._due: dict[Any, datetime | None] = {}
        self._was_live = False

    def written(self, old: Instance | None, new: Instance, acts: Sequence[Act], created: Sequence[Task]) -> None:
        """Checks how many tasks of each kind were created for a write."""
        executor = self.model.executor
        is_live = not executor.ended and not executor.paused
        revived = is_live and not self._was_live
        timed = {attempt for _, attempt in executor.timed_waits()}
        at_work = {attempt for thread, attempt in executor.timed_waits() if is_at_work(thread, attempt[1])}
        begun = timed if revived else timed - self._timed
        activities = begun & at_work
        lazy = self._are_lazy(begun - at_work, new)
        timeouts = len(begun - at_work - lazy)
        expected = Counter({ACTIVITY_PATH: len(activities), TIMEOUT_PATH: timeouts + bool(activities)})
        due = dict(self._all_due())
        if new.lease is not None:
            expected[RESUME_PATH] = int(acts[0].kind in OVER_LEASES)
        else:
            anew = revived or (old is not None and old.lease is not None)
            expected[RESUME_PATH] = self._resumes(due, new, anew=anew)
            if old is not None and old.lease is not None:
                expected[TIMEOUT_PATH] += self._put_off(new, timed - begun, at_work)
        require_equal("kinds of tasks that a write creates", Counter(task.path for task in created), +expected)
        if is_live:
            self._timed, self.lazy = timed, (self.lazy & timed - begun) | lazy
        self._due, self._was_live = due, is_live

    def _are_lazy(self, timers: set[Attempt], new: Instance) -> set[Attempt]:
        """The timers that recovery gives their tasks."""
        lazy_after = self.model.world.settings.options.lazy_after
        if lazy_after is None:
            return set()
        assert new.execution.updated_at is not None
        far = new.execution.updated_at + lazy_after
        return {attempt for attempt in timers if self.model.deadlines.known[attempt] > far}

    def _put_off(self, new: Instance, timed: set[Attempt], at_work: set[Attempt]) -> int:
        """How many tasks there are for what is overdue, because their own tasks may have met the lease that ends."""
        assert new.execution.updated_at is not None
        latest = new.execution.updated_at - self.model.world.settings.options.max_wait
        overdue = {attempt for attempt in timed if self.model.deadlines.known[attempt] <= latest}
        waits = [wait for thread in new.execution.threads for wait in thread.waits if isinstance(wait, AnyTimedWait)]
        groups = {wait.task for wait in waits if attempt_of(wait) in overdue & at_work}
        return len(overdue - at_work) + len(groups)

    def _resumes(self, due: dict[Any, datetime | None], new: Instance, *, anew: bool) -> int:
        assert new.execution.updated_at is not None
        soon = new.execution.updated_at + CLOCK_SKEW
        fresh = [at for work, at in due.items() if anew or (work, at) not in self._due.items()]
        later = [at for at in fresh if at is not None and not (anew and at <= soon)]
        return len(later) + (len(later) < len(fresh))

    def _all_due(self) -> Iterator[tuple[Any, datetime | None]]:
        """Work, and when it is due; None: now. Each event that can be delivered is work of its own here."""
        executor, retry_at = self.model.executor, self.model.executor.attempts.retry_at
        for work in self.model.work():
            if work[0] != "delivery of an event that was kept":
                yield work, retry_at.get(work)
        for thread in executor.live_threads:
            for event in {event for event, _ in executor.buffer if not executor.is_setting_up(thread)}:
                if executor.buffering_case(thread, event) is not None:
                    yield ("delivery", thread.wait_id, event), None
