"""The promises hold in a few hundred simulated runs, and a seed is all that it takes to see one again."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.simulation.bugs import applied
from tests.simulation.definitions import LATER
from tests.simulation.failures import first_failure, run, shrink, trace
from tests.simulation.faults import FAULTS
from tests.simulation.finding import TRIED
from tests.simulation.scenario import Scenario

ROOT = Path(__file__).parents[2]
CHUNKS = 20
SEEDS = 10
MEETING = (50, 51, 54, 71, 112, 118, 124, 137, 143, 159, 176, 180, 188)
"""Seeds whose runs together meet all that a run can meet. It takes more of them after a change of what is drawn."""


@pytest.mark.parametrize("chunk", [0, *(pytest.param(chunk, marks=pytest.mark.slow) for chunk in range(1, CHUNKS))])
def test_the_promises_hold(chunk: int) -> None:
    """The slow tests leave out the seeds that are run by the slow tests of the bugs."""
    seeds = range(chunk * SEEDS, (chunk + 1) * SEEDS)
    failure = first_failure(seed for seed in seeds if not chunk or seed not in TRIED)
    assert failure is None, f"python -m tests.simulation --seed {failure.scenario.seed}: {failure.error}"


@pytest.mark.parametrize(
    "chunk", [0, *(pytest.param(chunk, marks=pytest.mark.slow) for chunk in range(1, CHUNKS // 2))]
)
def test_the_promises_hold_for_shapes_that_came_later(chunk: int) -> None:
    first = LATER + chunk * SEEDS
    failure = first_failure(range(first, first + SEEDS))
    assert failure is None, f"python -m tests.simulation --seed {failure.scenario.seed}: {failure.error}"


@pytest.mark.slow
def test_the_runs_meet_all_that_they_are_for() -> None:
    met = [*(f"the fault {fault!r}" for fault in FAULTS), "is lost", "is deleted", "is there already", "recovery"]
    met += [f"commits {kind}" for kind in ("event", "timeout", "step", "step failed", "setup", "teardown")]
    met += [
        f"commits {kind}" for kind in ("setup child", "teardown child", "child child", "child failed", "tell child")
    ]
    met += ["AttemptOver", "commits a sign of life"]
    met += [f"commits {kind}" for kind in ("buffered", "event rejected", "event failed")]
    met += [f", {kind} " for kind in ("event", "activity", "buffered")]
    met += [", failed", "revision 1", "-> Conflict", "-> DuplicateKey", "Outcome.NOT_YET"]
    met += [*(f"commits {kind}" for kind in ("goto", "set", "retry", "pause", "cancel")), "RepairRefused"]
    met += ["TooLarge", "revision 2 is deployed", "NewerVersion", "InvalidRequest", " list for "]
    met += ["EventNotAccepted", "EventRejected", "Busy", "Unavailable", "UserCodeError", "IdempotencyKeyReused"]
    met += ["the queue is paused", "jumps back by", "is set", "an activity is to live for", "is used anew"]
    for seed in (*MEETING, *range(200)):
        if met:
            text = "\n".join(trace(Scenario(seed)))
            met = [one for one in met if one not in text]
    assert met == []


@pytest.mark.slow
@pytest.mark.parametrize(
    "seed",
    [71385, 80145, 301406, 302390, 302834],
    ids=["text for a number", "duplicate id in a try", "kept under an expired key", "interrupted", "seen before"],
)
def test_what_the_model_once_took_for_a_mistake(seed: int) -> None:
    assert run(Scenario(seed)) is None


def test_all_draws_come_from_named_streams() -> None:
    """A generator that is made elsewhere would be shared by topics, and a new draw in one would move the others."""
    sources = {path.name: path.read_text() for path in Path(__file__).parent.rglob("*.py")}
    calls = [node for source in sources.values() for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    assert [ast.unparse(call) for call in calls if ast.unparse(call.func) in ("Random", "random.Random")] == [
        "Random(f'{self.seed} {name}')"
    ]


def test_a_draw_moves_no_other_stream() -> None:
    one, other = Scenario(7), Scenario(7)
    one.stream("latencies").random()
    assert one.stream("faults").random() == other.stream("faults").random()
    assert one.stream("latencies").random() == other.stream("latencies").random()
    assert one.stream("latencies").random() != one.stream("faults").random()


@pytest.mark.slow
def test_a_seed_gives_the_same_run_in_another_process() -> None:
    seed = next(seed for seed in range(100) if len(trace(Scenario(seed))) > 300)
    other = subprocess.run(
        [sys.executable, "-m", "tests.simulation", "--seed", str(seed)],
        cwd=ROOT,
        env=os.environ | {"PYTHONHASHSEED": "17"},
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert other.stdout.splitlines() == trace(Scenario(seed))


def test_a_failure_is_made_small() -> None:
    with applied("early timer dropped"):
        failure = first_failure(range(1_000))
        assert failure is not None
        small = shrink(failure, seconds=6)
        assert small.kind == failure.kind
        assert len(trace(small.scenario)) < len(trace(failure.scenario))
    assert run(small.scenario) is None  # it is the bug, not the scenario
