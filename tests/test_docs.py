"""What the documents in docs/ say: their code runs, and the tests and files that they name are there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tests.simulation.bugs import BUGS

ROOT = Path(__file__).parents[1]
DOCS = sorted((ROOT / "docs").glob("*.md"))


@pytest.mark.parametrize("path", DOCS, ids=lambda path: path.name)
def test_its_code_runs(path: Path) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```", path.read_text(), re.DOTALL | re.MULTILINE)
    assert blocks
    names: dict[str, Any] = {"__name__": f"docs_{path.stem}"}
    for block in blocks:
        exec(compile(block, str(path), "exec", dont_inherit=True), names)


@pytest.mark.parametrize("path", DOCS, ids=lambda path: path.name)
def test_the_files_that_it_names_are_there(path: Path) -> None:
    named = set(re.findall(r"`((?:tests|cloud_adapter|workflow_core|docs)/[\w./]*)`", path.read_text()))
    for name in named:
        assert (ROOT / name).exists(), name


def test_the_deliberate_bugs_that_are_named_are_there() -> None:
    text = " ".join((ROOT / "docs" / "reliability.md").read_text().split())
    named = {
        bug
        for listing in re.findall(r"Deliberate bugs[^:]*:([^.]*)\.", text)
        for bug in re.findall(r"\*([^*]+)\*", listing)
    }
    assert len(named) > 30
    assert named <= BUGS.keys()
