"""Each example in both forms goes through the same scenarios; the plain form also with a crash at each commit."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.examples import (
    agent_scenarios,
    batch_scenarios,
    expense_scenarios,
    order_scenarios,
    subscription_scenarios,
    trip_scenarios,
)
from tests.examples.running import Example, Scenario, crash, play
from workflow_core import Workflow

EXAMPLES = [
    module.EXAMPLE
    for module in (
        expense_scenarios,
        subscription_scenarios,
        trip_scenarios,
        order_scenarios,
        agent_scenarios,
        batch_scenarios,
    )
]


FORMS = ("plain", "explicit")


def cases(*forms: str, with_long: bool) -> pytest.MarkDecorator:
    """Runs a test with each example and scenario in these forms."""
    found = [
        pytest.param(example, workflows, scenario, id=f"{example.module.__name__}-{form}-{scenario.__name__}")
        for example in EXAMPLES
        for form, workflows in (("plain", example.plain), ("explicit", example.explicit))
        if form in forms
        for scenario in (*example.scenarios, *(example.long_scenarios if with_long else ()))
    ]
    return pytest.mark.parametrize(("example", "workflows", "scenario"), found)


@cases(*FORMS, with_long=True)
def test_scenario(tmp_path: Path, example: Example, workflows: tuple[type[Workflow], ...], scenario: Scenario) -> None:
    asyncio.run(play(tmp_path, workflows, example.module, scenario))


@pytest.mark.slow
@cases("plain", with_long=False)
def test_crash_at_each_commit(
    tmp_path: Path, example: Example, workflows: tuple[type[Workflow], ...], scenario: Scenario
) -> None:
    assert asyncio.run(crash(tmp_path, workflows, example.module, scenario)) > 5
