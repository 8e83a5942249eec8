"""The faults of calls to the outside: which call is affected, and by what."""

from __future__ import annotations

from tests.simulation.scenario import Scenario

RATES = (0.0, 0.0, 0.003, 0.01, 0.03, 0.1)
FAULTS = (
    "refused",
    "lost",
    "late",
    "slow",
    "slow reply",
    "pause",
    "cancelled",
    "killed before",
    "killed during",
    "killed after",
)
SLOW = ("late", "slow", "slow reply", "pause")


class Faults:
    """Decides which fault affects which call."""

    def __init__(self, scenario: Scenario, prompt: bool) -> None:
        self.rng = scenario.stream("faults")
        self.on = True
        self.is_out = False
        self.suppressed = scenario.suppressed
        self.laid: list[int] = []
        kinds = (kind for kind in FAULTS if not (prompt and kind in SLOW))
        self.rates = {kind: scenario.choice(f"rate of {kind}", RATES) for kind in kinds}
        self._count = 0

    def draw(self) -> tuple[str | None, float]:
        """A fault, or None, and its size between 0 and 1."""
        point, size = self.rng.random(), self.rng.random()
        self._count += 1
        if self.on and self.is_out:
            return "refused", size
        if self.on:
            for kind, rate in self.rates.items():
                if point < rate:
                    return (kind, size) if self.happens(self._count) else (None, size)
                point -= rate
        return None, size

    def planned(self) -> bool:
        """Whether a planned fault happens."""
        self._count += 1
        return self.on and self.happens(self._count)

    def happens(self, number: int) -> bool:
        if number in self.suppressed:
            return False
        self.laid.append(number)
        return True
