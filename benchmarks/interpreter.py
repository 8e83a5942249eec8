"""What the interpreter costs beside the user code that it runs.

Measures one small workflow from start to end through the public API: a loop in which a step runs five times, a
step, then twice a wait for an event, the event, and a step. A checkpoint callback is called after each transition.
Beside it, the floor: what one would write without any interpreter. The same methods of the same model are called in
the same order, the loop is a Python ``while`` with its condition written in place, and there are as many checkpoint
calls. Both create their model.

The two take turns in many short rounds and the best round of each counts, so that what else the machine does
hits both or neither. Garbage collection is off while they run, as in ``timeit``.

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

GOAL = 3.0
"""At most this many times the floor."""

RUNS_PER_ROUND = 200
"""A round takes a few milliseconds: short enough to pass undisturbed now and then, even on a busy machine."""


class Sample(Workflow, name="sample"):
    """Counts; each function does next to nothing, so what is left is the cost of calling it."""

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


# Bound once: looking a member up costs time, and the floor must hold nothing that can be avoided.
STARTED, STEPPED = CheckpointKind.RESUME, CheckpointKind.STEP

checkpoints = 0


def checkpoint(kind: CheckpointKind) -> None:
    """Stands for saving the state; costs as little as a callback can."""
    global checkpoints
    checkpoints += 1


def interpreted() -> Sample:
    """The workflow, run by the interpreter."""
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
    """The floor: what ``interpreted`` calls, called directly."""
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
    """The fields that a run ends with, and how often it called the checkpoint."""
    before = checkpoints
    return run(), checkpoints - before


def time_round(run: Callable[[], Sample]) -> float:
    """Nanoseconds a run, in one round."""
    start = time.perf_counter_ns()
    for _ in range(RUNS_PER_ROUND):
        run()
    return (time.perf_counter_ns() - start) / RUNS_PER_ROUND


def main() -> int:
    """Measures, prints, and tells by the exit code whether a ratio that was to be checked is kept."""
    parser = argparse.ArgumentParser(description="What the interpreter costs beside the user code that it runs.")
    parser.add_argument("--rounds", type=int, default=400, help="rounds of each; the best one counts (default 400)")
    parser.add_argument("--check", type=float, metavar="RATIO", help="exit with 1 if the ratio is above this")
    options = parser.parse_args()
    if options.rounds < 1:
        parser.error("--rounds must be at least 1")

    same, calls = outcome(direct)
    if outcome(interpreted) != (same, calls):
        raise SystemExit(f"the two differ: {outcome(interpreted)} and {(same, calls)}; the figures would mean nothing")

    interpreted_ns = direct_ns = float("inf")
    gc.disable()
    for _ in range(options.rounds):
        interpreted_ns = min(interpreted_ns, time_round(interpreted))
        direct_ns = min(direct_ns, time_round(direct))
    gc.enable()
    ratio = interpreted_ns / direct_ns

    print(f"Python {platform.python_version()}, best of {options.rounds} rounds of {RUNS_PER_ROUND} workflows")
    print(f"both end with {same!r} after {calls} checkpoints")
    print(f"interpreted: {interpreted_ns:8.0f} ns a workflow")
    print(f"direct:      {direct_ns:8.0f} ns a workflow (the floor)")
    print(f"ratio:       {ratio:8.2f} (goal: at most {GOAL})")
    return 1 if options.check is not None and ratio > options.check else 0


if __name__ == "__main__":
    sys.exit(main())
