"""The pytest plugin: the fixture ``workflow_environment``, and where the instances of a failed test stand.

pytest loads it if gorchestrate is installed. It imports nothing else until a test uses the fixture.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from gorchestrate.testing.environment import Environment

_ENVIRONMENTS = pytest.StashKey[list[Any]]()


@pytest.fixture
def workflow_environment(request: pytest.FixtureRequest) -> Iterator[Callable[..., Environment]]:
    """Makes environments: ``workflow_environment(Approval)``. Closes them after the test."""
    from gorchestrate.testing.environment import Environment

    made = request.node.stash.setdefault(_ENVIRONMENTS, [])
    with contextlib.ExitStack() as stack:

        def make(*workflows: Any, **options: Any) -> Environment:
            environment = Environment(*workflows, **options)
            stack.callback(environment.close)
            made.append(environment)
            return environment

        yield make


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Any:
    """Adds to the report of a failed test where the instances of its environments stand."""
    report = yield
    if report.when == "call" and report.failed:
        from gorchestrate.testing.environment import described

        for environment in item.stash.get(_ENVIRONMENTS, []):
            if text := "the environment is closed" if environment.is_closed else described(environment):
                report.sections.append(("workflow instances", text))
    return report
