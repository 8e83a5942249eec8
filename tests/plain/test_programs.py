"""Generated programs give what plain asyncio gives for the same source. ``compared`` runs more of them."""

from __future__ import annotations

import pytest

from tests.plain import compared
from tests.plain.compared import DoesNotEnd, differences, limited
from tests.plain.programs import class_of


@pytest.mark.parametrize("first", [0, *(pytest.param(first, marks=pytest.mark.slow) for first in range(10, 80, 10))])
def test_programs_agree_with_asyncio(first: int) -> None:
    assert differences(first, 10) == []


def test_nothing_but_the_loop_assigns_its_counter() -> None:
    """Otherwise a program may not end."""
    for seed in range(300):
        for line in (lines := class_of(seed).splitlines()):
            counter = line.strip().removeprefix("while ").partition(" ")[0]
            if line.strip().startswith("while u"):
                assigned = [one.strip() for one in lines if one.strip().startswith((f"{counter} =", f"{counter} +="))]
                assert assigned == [f"{counter} = 0", f"{counter} += 1"]


def test_a_program_that_does_not_end_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compared, "CPU_SECONDS_MAX", 0.05)
    with pytest.raises(DoesNotEnd), limited():
        _spin()
    with limited():  # the next one gets time of its own
        pass


def _spin() -> None:
    while True:
        pass
