"""The list of what no run meets is up to date."""

from __future__ import annotations

from pathlib import Path

from tests.simulation.unmet import UNMET

ROOT = Path(__file__).parents[2]


def test_every_gap_is_a_line_of_its_file() -> None:
    paths = {path for path, _, _ in UNMET}
    lines = {path: {line.strip() for line in (ROOT / path).read_text().splitlines()} for path in paths}
    assert [(path, code) for path, _, code in UNMET if code not in lines[path]] == []
