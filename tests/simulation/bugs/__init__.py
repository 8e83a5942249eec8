"""Deliberate bugs: what the simulation must find. Each replaces a part of the product, inside a ``with`` block.

A bug is one that a person could make: a check left out, two calls in the wrong order, a name that is not unique.
``bug_list.py`` has the list; the other files fill it.
"""

from tests.simulation.bugs import (
    activities,
    children,
    commits,
    events,
    loops,
    operations,
    shards,
    steps,
    surroundings,
    tasks,
    waste,
    weather,
)
from tests.simulation.bugs.bug_list import BUGS, applied

__all__ = [
    "BUGS",
    "activities",
    "applied",
    "children",
    "commits",
    "events",
    "loops",
    "operations",
    "shards",
    "steps",
    "surroundings",
    "tasks",
    "waste",
    "weather",
]
