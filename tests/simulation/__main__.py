"""Explores seeds, or replays one: ``python -m tests.simulation --seeds 100000`` or ``--seed 4711``.

A failing seed is printed with a trace of the smallest scenario that was found to fail in the same way. The same seed
gives the same run, on any machine, as long as the code is the same.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import time
from collections.abc import Sequence
from functools import partial

from tests.simulation.bugs import BUGS
from tests.simulation.failures import Failure, first_failure, prepare, run, shrink, trace
from tests.simulation.scenario import Scenario

CHUNK = 200
"""Seeds that one process runs before a fresh one takes over."""


def explore(first: int, count: int, jobs: int, minutes: float, bug: str | None, *, is_plain: bool) -> list[Failure]:
    """Runs seeds in parallel until all are run or the time is up."""
    started = time.monotonic()
    failures: list[Failure] = []
    done = 0
    chunks = [range(at, min(at + CHUNK, first + count)) for at in range(first, first + count, CHUNK)]
    with multiprocessing.get_context("spawn").Pool(jobs, prepare, (bug,), maxtasksperchild=5) as pool:
        for seeds, failure in zip(chunks, pool.imap(partial(first_failure, is_plain=is_plain), chunks), strict=True):
            done += len(seeds)
            minutes_gone = (time.monotonic() - started) / 60
            if failure is not None:
                failures.append(failure)
                print(f"seed {failure.scenario.seed}: {failure.error}", flush=True)
            if done % (10 * CHUNK) == 0 or seeds is chunks[-1]:
                print(f"{done} seeds in {minutes_gone:.1f} minutes, {len(failures)} failures", flush=True)
            if minutes_gone > minutes:
                pool.terminate()
                break
    return failures


def show(failure: Failure) -> None:
    """Prints the smallest scenario that fails like this one, and what happens in it."""
    small = shrink(failure)
    scenario = small.scenario
    print(f"\nseed {failure.scenario.seed}: {failure.error}")
    print(f"the smallest run that fails like this one ({len(small.faults)} faults), {scenario}:\n")
    print("\n".join(trace(scenario)))


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seed", type=int, help="replay this one, and print all that happens")
    parser.add_argument("--seeds", type=int, default=10_000, help="how many to run")
    parser.add_argument("--first", type=int, default=0, help="the first one")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="stop after that time")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="how many processes")
    parser.add_argument("--bug", choices=sorted(BUGS), help="with this deliberate bug")
    parser.add_argument("--plain", action="store_true", help="with definitions that are written as async def run")
    given = parser.parse_args(arguments)
    if given.seed is not None:
        prepare(given.bug)
        scenario = Scenario(given.seed, is_plain=given.plain)
        print("\n".join(trace(scenario)))
        failure = run(scenario)
        if failure is not None:
            show(failure)
        return int(failure is not None)
    failures = explore(given.first, given.seeds, given.jobs, given.minutes, given.bug, is_plain=given.plain)
    if failures:
        prepare(given.bug)
        show(failures[0])
    return int(bool(failures))


if __name__ == "__main__":
    sys.exit(main())
