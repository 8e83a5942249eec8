"""The promises hold for plain definitions: the engine runs ``async def run``, and the model walks the explicit tree.

After each commit, the fields, threads, waits and events of the one form are those of the other.
"""

from __future__ import annotations

import os
from typing import Any

import pytest

from tests.simulation.definitions import LATER
from tests.simulation.failures import first_failure
from tests.simulation.scenario import Scenario
from tests.simulation.world import World
from workflow_core.machine import frames

CHUNKS = 12
SEEDS = 6


@pytest.mark.parametrize("chunk", [0, *(pytest.param(chunk, marks=pytest.mark.slow) for chunk in range(1, CHUNKS))])
def test_both_forms_give_the_same(chunk: int) -> None:
    failure = first_failure(range(chunk * SEEDS, (chunk + 1) * SEEDS), is_plain=True)
    assert failure is None, f"python -m tests.simulation --plain --seed {failure.scenario.seed}: {failure.error}"


@pytest.mark.slow
def test_both_forms_give_the_same_for_shapes_that_came_later() -> None:
    failure = first_failure(range(LATER, LATER + 4 * SEEDS), is_plain=True)
    assert failure is None, f"python -m tests.simulation --plain --seed {failure.scenario.seed}: {failure.error}"


def test_a_plain_run_has_plain_definitions() -> None:
    definitions = World(Scenario(3, is_plain=True)).definitions
    for cls in (*definitions.flows, *definitions.children):
        assert os.path.basename(cls.run.__code__.co_filename).startswith("<plain definition")  # type: ignore[attr-defined]
    assert not hasattr(World(Scenario(3)).definitions.flows[0], "run")


def test_a_lost_local_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    original = frames._packed

    def forgetful(thread: Any, values: Any, needed: Any) -> dict[str, Any]:
        return {key: value for key, value in original(thread, values, needed).items() if not key.startswith("t_")}

    monkeypatch.setattr(frames, "_packed", forgetful)
    failure = first_failure(range(20), is_plain=True)
    assert failure is not None
    assert "t_" in failure.error
