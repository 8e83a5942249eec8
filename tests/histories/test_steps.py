"""Steps of one instance that ran at the same time are found by the lines that they have left."""

from __future__ import annotations

import pytest

from tests.histories.steps import Line, Trouble, overlaps

FIRST = Line("begin", "a", "k1", 1.0, 11)
ENDS = Line("end", "a", "k1", 1.5, 11)
BESIDE = Line("begin", "a", "k1", 1.2, 22)


def test_a_step_beside_another_one_is_found() -> None:
    (found,) = overlaps([FIRST, BESIDE, ENDS], [], 0.4)
    assert "process 22" in found and "process 11" in found


@pytest.mark.parametrize(
    ("lines", "troubles"),
    [
        ([FIRST, ENDS, Line("begin", "a", "k2", 1.6, 22)], []),
        ([FIRST, Line("begin", "b", "k3", 1.2, 22), ENDS], []),
        ([FIRST, BESIDE, ENDS], [Trouble(11, 1.1, float("inf"))]),
        ([FIRST, BESIDE, ENDS], [Trouble(11, 0.8, 1.05)]),
        ([FIRST, Line("begin", "a", "k1", 1.45, 22), ENDS], []),
    ],
    ids=["afterwards", "of another instance", "after a kill", "after a standstill", "once the lease may be over"],
)
def test_what_may_be_is_not_found(lines: list[Line], troubles: list[Trouble]) -> None:
    assert overlaps(lines, troubles, 0.4) == []


def test_a_standstill_that_was_over_excuses_nothing() -> None:
    assert overlaps([FIRST, BESIDE, ENDS], [Trouble(11, 0.5, 0.9), Trouble(22, 0.5, 3.0)], 0.4)
