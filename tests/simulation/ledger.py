"""Counts how often activities were scheduled and run, and checks that each time has a reason.

An attempt belongs to one commit, identified by its fence, and has one task from that commit. It therefore runs once,
and once more for each repeated delivery and for each time that it was scheduled again after a pause.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING

from cloud_adapter.document import Instance
from cloud_adapter.engine.tasks import ACTIVITY_PATH, ActivityTask
from cloud_adapter.ports import Task
from tests.simulation.acts import Attempt, attempt_of
from tests.simulation.model.violations import require
from tests.simulation.renaming import first_name
from workflow_core.events import stable_key
from workflow_core.wait_types import ActivityWait

if TYPE_CHECKING:
    from tests.simulation.actors import Run
    from tests.simulation.world import World

Place = tuple[str, Attempt]
"""An attempt at an activity, by its instance."""


class Ledger:
    """The activities of all instances."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.runs: Counter[tuple[str, int]] = Counter()
        self.renewals: Counter[str] = Counter()
        self._again: Counter[tuple[str, int]] = Counter()
        self._deliveries: Counter[str] = Counter()
        self._scheduled: dict[Place, list[str | None]] = defaultdict(list)
        self._stored: dict[Place, set[str]] = defaultdict(set)
        self._due: dict[tuple[str, int], float] = {}

    def scheduled(self, task: Task) -> None:
        """A task was created."""
        if task.path == ACTIVITY_PATH:
            body = ActivityTask.model_validate(task.body)
            if not body.again:
                self._scheduled[body.id, (body.wait_id, first_name(body.event), body.attempt)].append(body.fence)

    def delivered(self, task: Task) -> None:
        """A task has come."""
        if task.path == ACTIVITY_PATH:
            body = ActivityTask.model_validate(task.body)
            self._deliveries[task.name] += 1
            if self._deliveries[task.name] > 1:
                model = self.world.models.get(body.id)  # None if its creation has not landed yet
                about = body.wait_id, body.event
                key = stable_key(body.workflow, body.id, *about) if model is None else model.activity_key(*about)
                self._again[key, body.attempt + 1] += 1

    def was_repeated(self, task: Task) -> bool:
        """Whether a task has come more than once, so that several requests may run the same attempt."""
        return self._deliveries[task.name] > 1

    def began(self, run: Run) -> None:
        """An attempt runs."""
        at = run.key, run.attempt
        self.runs[at] += 1
        again = 0 if self.world.settings.is_peaceful else self._again[at]
        if self.runs[at] > 1 + again + self.renewals[run.id]:
            self.world.violate(f"attempt {run.attempt} of an activity of {run.id!r} runs {self.runs[at]} times")
        if self.runs[at] == 1 and not self.world.settings.has_slow_threads:  # in which it may wait in line
            self.world.models[run.id].lateness.came(f"attempt {run.attempt} of an activity", self._due[at])

    def written(self, instance: Instance) -> None:
        """What is stored of attempts: each is of one commit, but for those that were scheduled anew."""
        for thread in instance.execution.threads if instance.execution.live else ():
            for wait in thread.waits:
                if isinstance(wait, ActivityWait):
                    fences = self._stored[instance.id, attempt_of(wait)]
                    if (wait.task or "") not in fences:
                        self._begin(instance.id, wait)
                    fences.add(wait.task or "")
                    fine = len(fences) <= 1 + self.renewals[instance.id]
                    require(fine, f"attempt {wait.attempt + 1} of {wait.event!r} is scheduled {len(fences)} times")

    def _begin(self, id: str, wait: ActivityWait) -> None:
        """An attempt is scheduled: now, or for a later time."""
        key, world = self.world.models[id].activity_key(wait.id, wait.event), self.world
        due = 0.0 if wait.retry_at is None else world.seconds(wait.retry_at)
        self._due[key, wait.attempt + 1] = max(world.timeline.now, due)

    def check_rest(self) -> None:
        """Each attempt that is stored had one task; without a fault, others are of commits that have lost."""
        for place, fences in self._scheduled.items():
            id, (_, event, attempt) = place
            what = f"attempt {attempt + 1} of {event!r} of {id!r}"
            require(len(fences) == len(set(fences)), f"{what} has several tasks of one commit: {fences}")
            lost, conflicts = set(fences) - self._stored[place], self.world.sent[id] - self.world.models[id].commits
            fine = not self.world.settings.is_peaceful or len(lost) <= conflicts
            require(fine, f"{what} has {len(lost)} tasks of no commit, after {conflicts} conflicts")
        for place, stored in self._stored.items():
            missing = stored - set(self._scheduled[place])
            require(not missing, f"{place} has no task for {missing}")
