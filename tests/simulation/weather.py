"""The weather of a run: rarer conditions, each of which a part of the seeds has.

Each is drawn from a stream of its own, so the seeds without it run as if it did not exist.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from tests.simulation.scenario import Scenario

if TYPE_CHECKING:
    from tests.simulation.disturbances import Disturbances

NAME_SECONDS = 3_600.0
"""How long a queue remembers a name after its task has gone, in most runs."""

DAY = timedelta(days=1)

CLOCK_JUMP_SECONDS_MAX = 8.0
"""How far a clock may jump back where no recovery comes: less than ``CLOCK_SKEW``, with the skew of before."""


@dataclass(frozen=True)
class Weather:
    """The conditions of a run.

    Attributes:
        key_ttl: how long idempotency keys are known; they may expire, and be used anew, within a run.
        name_seconds: how long the queue remembers the name of a task that has gone.
        remembers_lost: it also remembers the names of lost tasks.
        silence_seconds: after what time at most a call that was applied is reported to have failed.
        long_lives: activities with heartbeats may live for more than ten minutes.
        pauses: from when and for how long the queue delivers nothing. Then all that was due comes at once.
        outages: from when until when each call to the outside is refused.
        jumps: when the clock of a process jumps back, and how far, as a part of what is possible.
    """

    key_ttl: timedelta
    name_seconds: float
    remembers_lost: bool
    silence_seconds: float
    long_lives: bool
    pauses: tuple[tuple[float, float], ...]
    jumps: tuple[tuple[float, float], ...]
    outages: tuple[tuple[float, float], ...]

    @classmethod
    def of(cls, scenario: Scenario, *, is_peaceful: bool, is_prompt: bool, quiet_at: float) -> Weather:
        """Draws the weather of a scenario."""
        has, choice = scenario.has, scenario.choice
        ttl = timedelta(seconds=choice("life of keys", (5, 40, 150))) if has("short keys") else DAY
        names = choice("memory of names", (0.0, 4 * 3_600.0, 86_400.0)) if has("other names") else NAME_SECONDS
        silence = 10.0
        if has("long silence"):
            silence = choice("silence", (60.0, 150.0))
        pauses, jumps = [], []
        if has("pauses of the queue") and not is_peaceful and not is_prompt:
            rng = scenario.stream("times of the pauses")
            for _ in range(rng.randrange(1, 3)):
                start = rng.uniform(0, quiet_at)
                pauses.append((start, min(quiet_at, start + rng.choice((20, 90, 300)))))
        if has("jumps of clocks") and not is_peaceful and not is_prompt:
            rng = scenario.stream("times of the jumps")
            jumps = [(rng.uniform(0, quiet_at), rng.random()) for _ in range(rng.randrange(1, 4))]
        outages = []
        if has("outages") and not is_peaceful:
            rng = scenario.stream("times of the outages")
            starts = [rng.uniform(5, quiet_at) for _ in range(rng.randrange(1, 5))]
            outages = [(start, min(quiet_at, start + rng.choice((10, 25, 60)))) for start in starts]
        return cls(
            key_ttl=ttl,
            name_seconds=names,
            remembers_lost=has("lost names remembered"),
            silence_seconds=1.0 if is_prompt else silence,
            long_lives=has("long lives"),
            pauses=tuple(pauses),
            jumps=tuple(jumps),
            outages=tuple(outages),
        )

    def plan(self, disturbances: Disturbances) -> None:
        """Plans what happens at certain times."""
        timeline = disturbances.world.timeline
        for start, end in self.pauses:
            timeline.at(start, disturbances.pause_queue, end)
        for start, end in self.outages:
            timeline.at(start, disturbances.fall_out, end)
        for at, size in self.jumps:
            timeline.at(at, disturbances.turn_clock_back, size)
