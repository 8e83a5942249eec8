"""How long things take in a run: calls, user code, handlers, and the lives of activities."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.simulation.world import World


class Durations:
    """Draws how long things take."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.settings = world.settings
        stream = world.scenario.stream
        self._latencies, self._code, self._lives = map(stream, ("latencies", "user code", "signs of life"))
        self._handlers, self._long_lives = stream("handlers"), stream("long lives of activities")

    def latency(self) -> float:
        """How long a call takes on its way there, or back."""
        point = self._latencies.random()
        return (0.002 + 0.03 * point) * self.settings.drag if point < 0.95 else (point - 0.95) * 20

    def user_code(self) -> tuple[float, bool]:
        """How long user code takes, and whether it fails."""
        lease, slowness = self.settings.options.lease.total_seconds(), self.settings.slowness
        point, size = self._code.random(), self._code.random()
        seconds = size * 0.1 if point >= slowness else size * 5 if point >= slowness / 3 else size * 3 * lease
        return seconds, self._code.random() < self.settings.failing

    def handler_seconds(self) -> float:
        """How long a handler takes that waits for the outside."""
        point, size = self._handlers.random(), self._handlers.random()
        return size * 0.1 if point < 0.5 else size * 3 if point < 0.9 else size * 15

    def life(self, seconds: float, limit_seconds: float) -> tuple[bool, bool, float]:
        """Draws whether an activity with heartbeats hangs, whether it outlives its attempt, and its duration."""
        rng = self._lives
        hangs, is_stubborn = rng.random() < self.settings.slowness, rng.random() < 0.3
        if self.settings.weather.long_lives and self._long_lives.random() < 0.3:
            long = self._long_lives.uniform(600, 900)
            self.world.say("an activity is to live for %.0f s", long)
            return hangs, is_stubborn, long
        return hangs, is_stubborn, seconds if rng.random() < 0.5 else rng.uniform(0, 3) * limit_seconds
