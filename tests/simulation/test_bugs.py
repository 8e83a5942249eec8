"""The simulation bites: each deliberate bug is found within a bounded number of seeds."""

from __future__ import annotations

import pytest

from tests.simulation.bugs import BUGS, applied
from tests.simulation.failures import first_failure

SEEDS = 4_000


@pytest.mark.parametrize("name", BUGS)
def test_a_deliberate_bug_is_found(name: str) -> None:
    with applied(name):
        failure = first_failure(range(SEEDS))
    assert failure is not None, f"{SEEDS} seeds have not found the bug: {name}"
