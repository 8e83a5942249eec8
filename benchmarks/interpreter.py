"""Measures the overhead of the interpreter over the user code that it runs.

Runs one small workflow from start to end through the public API: a loop in which a step runs five times, a step, then
twice a wait for an event, the event, and a step. A checkpoint callback is called after each transition. The baseline
(the floor) is the same code without an interpreter: it calls the same methods of the same model in the same order, its
loop is a Python ``while`` with an inline condition, and it makes the same number of checkpoint calls. Both create their
model.

Both alternate in many short rounds, and the best round of each counts, so that other load on the machine affects both
or neither. Garbage collection is off while they run, as in ``timeit``.

Run it from the root of the repository:

    python benchmarks/interpreter.py [--rounds N] [--check RATIO]
"""

from __future__ import annotations

import argparse
import gc
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from workflow_core import CheckpointKind, Execution, On, S, Select, Step, While, Workflow, handle_event, resume

GOAL = 2.0
"""The maximum ratio to the floor."""

RUNS_PER_ROUND = 200
"""A round takes a few milliseconds, so that some rounds run undisturbed even on a busy machine."""


class Sample(Workflow, name="sample"):
    """Counts. Each function does almost nothing, so that the cost of the call remains."""

    i: int = 0
    handled: int = 0
    steps: int = 0

    def increment(self) -> None:
        self.i += 1

    def reset(self) -> None:
        self.i = 0

    def handle(self) -> None:
        self.handled += 1

    def step(self) -> None:
        self.steps += 1

    definition = S(
        While("fewer than five", lambda w: w.i < 5, Step("increment", increment)),
        Step("reset", reset),
        Select("wait for the first", On("First", handle)),
        Step("after the first", step),
        Select("wait for the second", On("Second", handle)),
        Step("after the second", step),
    )


# Bound once: attribute lookups take time, and the floor must contain nothing avoidable.
STARTED, STEPPED = CheckpointKind.RESUME, CheckpointKind.STEP

checkpoints = 0


def checkpoint(kind: CheckpointKind) -> None:
    """Represents saving the state, at the minimum cost of a callback."""
    global checkpoints
    checkpoints += 1


def interpreted() -> Sample:
    """Runs the workflow with the interpreter."""
    sample = Sample()
    execution = Execution.start("sample-1", Sample)
    resume(sample, execution, checkpoint)
    handle_event(sample, execution, "First")
    checkpoint(STEPPED)
    resume(sample, execution, checkpoint)
    handle_event(sample, execution, "Second")
    checkpoint(STEPPED)
    resume(sample, execution, checkpoint)
    return sample


def direct() -> Sample:
    """Runs the floor: calls directly what ``interpreted`` calls."""
    sample = Sample()
    checkpoint(STARTED)
    while sample.i < 5:
        sample.increment()
        checkpoint(STEPPED)
    sample.reset()
    checkpoint(STEPPED)
    sample.handle()
    checkpoint(STEPPED)
    sample.step()
    checkpoint(STEPPED)
    sample.handle()
    checkpoint(STEPPED)
    sample.step()
    checkpoint(STEPPED)
    return sample


def outcome(run: Callable[[], Sample]) -> tuple[Sample, int]:
    """Returns the final fields of a run, and the number of checkpoint calls."""
    before = checkpoints
    return run(), checkpoints - before


def time_round(run: Callable[[], Sample]) -> float:
    """Returns the nanoseconds of each run in one round."""
    start = time.perf_counter_ns()
    for _ in range(RUNS_PER_ROUND):
        run()
    return (time.perf_counter_ns() - start) / RUNS_PER_ROUND


def main() -> int:
    """Measures and prints. The exit code is 1 if the ratio exceeds ``--check``."""
    parser = argparse.ArgumentParser(description="Measures the overhead of the interpreter over the user code.")
    parser.add_argument("--rounds", type=int, default=400, help="rounds of each; the best one counts (default 400)")
    parser.add_argument("--check", type=float, metavar="RATIO", help="exit with 1 if the ratio is above this")
    options = parser.parse_args()
    if options.rounds < 1:
        parser.error("--rounds must be at least 1")

    same, calls = outcome(direct)
    if outcome(interpreted) != (same, calls):
        raise SystemExit(f"the results differ: {outcome(interpreted)} and {(same, calls)}; the comparison is invalid")

    interpreted_ns = direct_ns = float("inf")
    gc.disable()
    for _ in range(options.rounds):
        interpreted_ns = min(interpreted_ns, time_round(interpreted))
        direct_ns = min(direct_ns, time_round(direct))
    gc.enable()
    ratio = interpreted_ns / direct_ns

    print(f"Python {platform.python_version()}, best of {options.rounds} rounds of {RUNS_PER_ROUND} workflows")
    print(f"both end with {same!r} after {calls} checkpoints")
    print(f"interpreted: {interpreted_ns:8.0f} ns per workflow")
    print(f"direct:      {direct_ns:8.0f} ns per workflow (the floor)")
    print(f"ratio:       {ratio:8.2f} (goal: at most {GOAL})")
    return 1 if options.check is not None and ratio > options.check else 0


if __name__ == "__main__":
    sys.exit(main())
