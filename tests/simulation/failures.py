"""Runs scenarios, and makes a failing one small enough to be read."""

from __future__ import annotations

import gc
import logging
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace

from tests.simulation.bugs import applied
from tests.simulation.scenario import Scenario
from tests.simulation.world import World

Kind = tuple[str, str]

SHRINK_SECONDS = 20.0
"""Of this process: a busy machine shrinks as far as an idle one."""


@dataclass(frozen=True)
class Failure:
    """A scenario that broke a promise.

    Attributes:
        faults: the numbers of those that happened.
        size: how many lines its trace has.
    """

    scenario: Scenario
    error: str
    kind: Kind
    faults: tuple[int, ...]
    size: int


def prepare(bug: str | None) -> None:
    """Makes this process one that only runs scenarios: without logs, and with that deliberate bug, if one is named."""
    logging.getLogger("gorchestrate").propagate = False
    _bug.enter_context(applied(bug))


_bug = ExitStack()


def run(scenario: Scenario) -> Failure | None:
    """Runs a scenario; gives how it failed, if it did."""
    world = World(scenario)
    try:
        world.run()
    except Exception as error:
        text = str(error) or type(error).__name__
        return Failure(scenario, text, (type(error).__name__, _words(text)), tuple(world.faults.laid), world.lines)
    return None


def first_failure(seeds: Iterable[int], *, is_plain: bool = False) -> Failure | None:
    """The first of these seeds that fails; ``is_plain``: with plain definitions."""
    for seed in seeds:
        failure = run(Scenario(seed, is_plain=is_plain))
        if failure is not None:
            return failure
        if seed % 50 == 0:
            gc.collect()  # each run leaves classes behind, which refer to themselves
    return None


def shrink(failure: Failure, seconds: float = SHRINK_SECONDS) -> Failure:
    """Takes away what the failure does not need: clients, requests, the end of the definition, faults."""
    until = time.process_time() + seconds
    smaller: Failure | None = failure
    while smaller is not None:
        failure, smaller = smaller, None
        for scenario in _smaller(failure):
            if time.process_time() > until:
                return failure
            other = run(scenario)
            if (
                other is not None
                and other.kind == failure.kind
                and ((other.size, len(other.faults)) < (failure.size, len(failure.faults)))
            ):
                smaller = other
                break
    return failure


def _smaller(failure: Failure) -> Iterator[Scenario]:
    scenario = failure.scenario
    for clients in range(1, min(scenario.clients, 6)):
        yield replace(scenario, clients=clients)
    for tape in range(10, min(scenario.tape, 250), 10):
        yield replace(scenario, tape=tape)
    for requests in range(min(scenario.requests, 8)):
        yield replace(scenario, requests=requests)
    faults = failure.faults
    size = len(faults)
    while size:
        for first in range(0, len(faults), size):
            yield replace(scenario, suppressed=scenario.suppressed | set(faults[first : first + size]))
        size //= 2


def _words(text: str) -> str:
    """What is the same in the messages of one promise: without names, numbers and details."""
    words = text.partition(";")[0].split()
    return " ".join(word for word in words if word.isalpha() and word.islower())


def trace(scenario: Scenario) -> list[str]:
    """All that happens in a scenario, one line each."""
    world = World(scenario, recording=True)
    try:
        world.run()
    except Exception as error:
        return [*world.trace, f"{type(error).__name__}: {error}"]
    return world.trace
