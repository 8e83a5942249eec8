"""The simulated task queue: delivers each task at least once, in any order, and as badly as a queue may."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from random import Random
from typing import TYPE_CHECKING

from cloud_adapter.engine.task_handler import Outcome
from cloud_adapter.ports import Task
from tests.simulation.model.sizes import check_task_size

if TYPE_CHECKING:
    from tests.simulation.world import World

ATTEMPTS_MAX = 100
BACKOFF_MAX_SECONDS = 10.0
EARLY_SECONDS_MAX = 3.0
"""How far the queue's clock may be ahead."""


@dataclass(eq=False)
class Entry:
    """A task in the queue; ``attempt`` is the number of the one that is under way, or was last."""

    task: Task
    attempt: int = 0
    gone: bool = False


class SimulatedQueue:
    """Tasks by name.

    Args:
        badness: how likely a delivery is early, late or made twice.
        deadline_seconds: an attempt that takes longer counts as failed, and goes on.
    """

    def __init__(self, world: World, rng: Random, badness: float, deadline_seconds: float) -> None:
        self.world = world
        self.rng = rng
        self.badness = badness
        self.deadline_seconds = deadline_seconds
        self.entries: dict[str, Entry] = {}
        self.has_lost = False
        self.paused_until = 0.0
        self._forget_at: dict[str, float] = {}
        self._unnamed = 0

    # --- what calls do when they arrive ---------------------------------------------------

    def create(self, task: Task) -> None:
        world = self.world
        if not task.name:
            self._unnamed += 1
            task = replace(task, name=f"#{self._unnamed}")
        if task.name in self.entries or self._forget_at.get(task.name, -1) > world.timeline.now:
            world.say("task %s is there already, or was", task.name[:6])
            return
        check_task_size(task)
        assert task.at is None or task.at <= world.now + timedelta(days=30), "further than Cloud Tasks takes it"
        self.entries[task.name] = entry = Entry(task)
        world.activities.scheduled(task)
        delay = max(0.0, (task.at - world.now).total_seconds()) if task.at is not None else 0.0
        world.say("task %s: %s in %.1f s", task.name[:6], task.path, delay)
        self._plan(entry, max(0.0, delay + self._error()))

    def delete(self, name: str) -> None:
        entry = self.entries.pop(name, None)
        if entry is not None:
            self.world.say("task %s is deleted", name[:6])
            entry.gone = True
            self._forget_at[name] = self.world.timeline.now + self.world.settings.weather.name_seconds

    def lose(self, *, all: bool) -> None:
        """A task is gone, or all of them are."""
        for name in list(self.entries) if all else list(self.entries)[:1]:
            self.world.say("task %s is lost", name[:6])
            self.entries.pop(name).gone = self.has_lost = True
            if self.world.settings.weather.remembers_lost:
                self._forget_at[name] = self.world.timeline.now + self.world.settings.weather.name_seconds

    # --- deliveries ----------------------------------------------------------------------

    def _error(self) -> float:
        """How much a delivery is off its time."""
        point = self.rng.random()
        size = self.rng.random()
        if not self.world.faults.on or point >= self.badness:
            return 0.0
        return -EARLY_SECONDS_MAX * size if point < self.badness / 3 else 60 * size**4

    def _plan(self, entry: Entry, seconds: float) -> None:
        self.world.timeline.after(seconds + self.world.durations.latency(), self._dispatch, entry, entry.attempt)

    def _dispatch(self, entry: Entry, attempt: int) -> None:
        if entry.gone or entry.attempt != attempt:
            return
        if self.paused_until > self.world.timeline.now:
            self.world.timeline.at(self.paused_until, self._dispatch, entry, attempt)
            return
        entry.attempt += 1
        if entry.attempt > ATTEMPTS_MAX:
            self.world.violate(f"task {entry.task.name[:6]} was given up after {ATTEMPTS_MAX} attempts")
            entry.gone = True
            self.entries.pop(entry.task.name, None)
            return
        ended = self._ended(entry, entry.attempt)
        self.world.hosting.deliver(entry.task, ended)
        self.world.timeline.after(self.deadline_seconds, ended, None)
        if self.rng.random() < self.badness / 2 and self.world.faults.on:
            delay = 30 * self.rng.random() ** 2
            self.world.timeline.after(delay, self.world.hosting.deliver, entry.task, lambda outcome: None)

    def _ended(self, entry: Entry, attempt: int) -> Callable[[Outcome | None], None]:
        def ended(outcome: Outcome | None) -> None:
            if entry.gone or (entry.attempt != attempt and outcome is not Outcome.DONE):
                return
            if outcome is Outcome.DONE:
                entry.gone = True
                del self.entries[entry.task.name]
                self._forget_at[entry.task.name] = self.world.timeline.now + self.world.settings.weather.name_seconds
                return
            calm = self.world.is_quiet or self.world.settings.is_peaceful
            if outcome is Outcome.FAILED and calm and self.world.settings.tokens_kept > 2:
                self.world.violate(f"task {entry.task.name[:6]} failed though nothing disturbed it")
            backoff = min(0.1 * 2 ** min(attempt, 10), BACKOFF_MAX_SECONDS)
            self._plan(entry, backoff)

        return ended
