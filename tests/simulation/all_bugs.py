"""All deliberate bugs, from the files that list them."""

from tests.simulation import bugs, wasteful_bugs, weather_bugs
from tests.simulation.bugs import BUGS, applied

__all__ = ["BUGS", "applied", "bugs", "wasteful_bugs", "weather_bugs"]
