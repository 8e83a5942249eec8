"""Each example in both forms goes through the same scenarios, also with a crash at each commit."""

from __future__ import annotations

import pytest

from tests.engine.harness import World, in_world
from tests.examples import batch_scenarios, expense_scenarios, trip_scenarios
from tests.examples.running import Example, Scenario, crash, play
from workflow_core import Workflow

EXAMPLES = [module.EXAMPLE for module in (expense_scenarios, trip_scenarios, batch_scenarios)]
CASES = [
    pytest.param(example, workflows, scenario, id=f"{example.module.__name__}-{form}-{scenario.__name__}")
    for example in EXAMPLES
    for form, workflows in (("plain", example.plain), ("explicit", example.explicit))
    for scenario in example.scenarios
]
cases = pytest.mark.parametrize(("example", "workflows", "scenario"), CASES)


@cases
@in_world()
async def test_scenario(
    world: World, example: Example, workflows: tuple[type[Workflow], ...], scenario: Scenario
) -> None:
    world.workflows = workflows
    await play(world, example.module, scenario)


@cases
@in_world()
async def test_crash_at_each_commit(
    world: World, example: Example, workflows: tuple[type[Workflow], ...], scenario: Scenario
) -> None:
    world.workflows = workflows
    await crash(world, example.module, scenario)
