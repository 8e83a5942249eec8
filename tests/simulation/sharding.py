"""Moves the database to indexes with shards, and to another number of them, while instances run.

The processes take each step one after the other, so two revisions are side by side. The last step has been taken by all
for a while before the next one begins, because a write of before may arrive late. The rules are those of all other
runs: each listing and each search for due instances finds what it would find without shards.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from cloud_adapter.stores.firestore.shards import Shards

if TYPE_CHECKING:
    from tests.simulation.world import World

STEPS = (Shards(), Shards(7), Shards(7, True), Shards(2, True), Shards(2), Shards())
"""From no shards to seven, to two, and back. Of seven, instances have one that two do not have."""

STEP_SECONDS, LATE_SECONDS = 10.0, 130.0
"""How long the processes take for a step, and how late a write arrives at most."""


class Sharding:
    """The shards of each process. Each run begins and ends at any of the steps: what is missed while shards are read
    would otherwise be found when they are no longer read."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._rng = world.scenario.stream("steps of shards")
        numbers = range(len(STEPS))
        first, last = sorted(
            (world.scenario.choice("first shards", numbers), world.scenario.choice("last shards", numbers))
        )
        self._steps = STEPS[first : last + 1]
        self._taken: dict[str, Shards] = {}

    def of(self, process: str) -> Shards:
        """The shards that a process writes and reads now."""
        return self._taken.get(process, self._steps[0])

    def plan(self) -> None:
        """Plans the steps. The processes keep their names when they are started anew."""
        at = self._rng.uniform(0, 60)
        for before, after in pairwise(self._steps):
            if after.are_read and not before.are_read:
                self.world.timeline.after(at, self.add, before)
            for process in self.world.hosting.processes.values():
                self.world.timeline.after(at + self._rng.uniform(0, STEP_SECONDS), self._take, process.name, after)
            at += STEP_SECONDS + LATE_SECONDS + self._rng.expovariate(1 / 30)

    def add(self, shards: Shards) -> None:
        """Does what ``gorchestrate add-shards`` does."""
        added = self.world.database.add_shards(shards)
        self.world.say("%d instances get a shard", added)
        if added:
            for process in self.world.hosting.all_processes:
                for actor in process.actors:
                    actor.disturb()

    def _take(self, process: str, shards: Shards) -> None:
        self.world.say("%s has %d shards%s", process, shards.count, ", which it reads" if shards.are_read else "")
        self._taken[process] = shards
