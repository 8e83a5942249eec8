"""What CONTRIBUTING.md and docs/ say: their code runs, and the commands, tests and files that they name are there."""

from __future__ import annotations

import re
import sys
from contextvars import copy_context
from pathlib import Path
from types import ModuleType

import pytest

from tests.markdown import compiled
from tests.simulation.bugs import BUGS

ROOT = Path(__file__).parents[1]
DOCS = sorted((ROOT / "docs").glob("*.md"))
CONTRIBUTING = ROOT / "CONTRIBUTING.md"


@pytest.mark.parametrize("path", DOCS, ids=lambda path: path.name)
def test_its_code_runs(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = path.read_text()
    blocks = list(re.finditer(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE))
    assert blocks
    module = ModuleType(f"docs_{path.stem}")
    monkeypatch.setitem(sys.modules, module.__name__, module)  # where pydantic looks for the module of a generic class
    context = copy_context()  # what the code sets ends with it
    for block in blocks:
        line = text.count("\n", 0, block.start(1)) + 1
        context.run(exec, compiled(str(path), line, block[1]), vars(module))


@pytest.mark.parametrize("path", [*DOCS, CONTRIBUTING], ids=lambda path: path.name)
def test_the_files_that_it_names_are_there(path: Path) -> None:
    folders = r"tests|cloud_adapter|workflow_core|docs|functions|benchmarks|deploy|\.ci"
    named = set(re.findall(rf"`((?:{folders})/[\w./]*)`", path.read_text()))
    assert named or path != CONTRIBUTING
    for name in named - {"deploy/settings.env"}:  # the user writes it
        assert (ROOT / name).exists(), name


def test_continuous_integration_runs_the_commands_of_the_loop() -> None:
    loop = CONTRIBUTING.read_text().partition("## The loop")[2]
    match = re.search(r"^```bash\n(.*?)^```", loop, re.DOTALL | re.MULTILINE)
    assert match is not None
    run = (ROOT / ".ci" / "run").read_text()
    for command in match[1].splitlines():
        # CI checks the format and changes nothing.
        checked = command.replace("ruff format", "ruff format --check")
        assert re.search(rf"{re.escape(checked)}$", run, re.MULTILINE), command


def test_the_deliberate_bugs_that_are_named_are_there() -> None:
    text = " ".join((ROOT / "docs" / "explanation" / "reliability.md").read_text().split())
    named = {
        bug
        for listing in re.findall(r"Deliberate bugs[^:]*:([^.]*)\.", text)
        for bug in re.findall(r"\*([^*]+)\*", listing)
    }
    assert len(named) > 30
    assert named <= BUGS.keys()
