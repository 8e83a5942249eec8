"""The simulation bites: it finds one half of the deliberate bugs."""

from __future__ import annotations

import pytest

from tests.simulation.bugs import BUGS
from tests.simulation.finding import RARE, check_found

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.mark.parametrize("name", [name for name in BUGS if name not in RARE][::2])
def test_a_deliberate_bug_is_found(name: str) -> None:
    check_found(name)
