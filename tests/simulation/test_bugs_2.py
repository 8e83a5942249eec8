"""The simulation bites: it finds the other half of the deliberate bugs."""

from __future__ import annotations

import pytest

from tests.simulation.finding import FOUND, check_found

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.mark.parametrize("name", FOUND[len(FOUND) // 2 :])
def test_a_deliberate_bug_is_found(name: str) -> None:
    check_found(name)
