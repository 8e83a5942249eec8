"""What is drawn for a run: a seed gives each topic a stream of random numbers, and a run its rarer conditions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import TypeVar

Drawn = TypeVar("Drawn")

RARITIES = (
    "repairs",
    "search fields",
    "little room",
    "renaming",
    "slow handlers",
    "short keys",
    "other names",
    "long silence",
    "pauses of the queue",
    "jumps of clocks",
    "lost names remembered",
    "long lives",
)
"""Conditions that only some runs have."""

LATER_RARITIES = (
    "rare statements",
    "mistakes",
    "small limits",
    "bad deployment",
    "slow threads",
    "outages",
    "library",
    "visitors",
    "damage",
)
"""Conditions that were added later. Each replaces the one of some runs, and leaves all others as they were."""


@dataclass(frozen=True)
class Scenario:
    """What is run: all of it is drawn from the seed, but for what was taken away to find out what a failure needs.

    Attributes:
        suppressed: the numbers of faults that do not happen.
        clients: how many of the clients come.
        requests: how many requests a client makes at most.
        tape: how much of the random bytes is used that the definition is read from.
        is_plain: whether the definitions are written as ``async def run``.
    """

    seed: int
    suppressed: frozenset[int] = frozenset()
    clients: int = 99
    requests: int = 99
    tape: int = 999
    is_plain: bool = False

    def stream(self, name: str) -> Random:
        """The random numbers of one topic or actor.

        The streams of a seed are independent of each other: a draw that is added to one, or a new stream, leaves what
        the others give as it was. So each topic draws from a stream of its own, and each setting has one. A new draw
        in an old stream moves the later ones of that stream only, but with them what many seeds find.
        """
        return Random(f"{self.seed} {name}")

    def chance(self, name: str, probability: float) -> bool:
        """Draws whether something is so, from the stream of that name."""
        return self.stream(name).random() < probability

    def has(self, rarity: str) -> bool:
        """Whether this is one of the runs with a rarer condition. Four of ten runs have none, and four have one alone,
        so that each condition leaves most seeds to what the others are for. The rest have several."""
        rng = self.stream("rarities")
        point, only = rng.random(), rng.choice(RARITIES)
        for known, later in enumerate(LATER_RARITIES, len(RARITIES)):
            if self.chance(f"{later} instead", 1 / (known + 1)):
                only = later
        return only == rarity if 0.4 <= point < 0.8 else point >= 0.8 and self.chance(rarity, 0.25)

    @property
    def rarities(self) -> list[str]:
        """The rarer conditions that it has."""
        return [rarity for rarity in (*RARITIES, *LATER_RARITIES) if self.has(rarity)]

    @property
    def is_rare(self) -> bool:
        """Whether it has a rarer condition at all."""
        return bool(self.rarities)

    def choice(self, name: str, values: Sequence[Drawn]) -> Drawn:
        """Draws one of the values, from the stream of that name."""
        return self.stream(name).choice(values)
