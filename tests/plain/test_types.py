"""Type checkers see ordinary Python: they infer what an await gives, and find wrong arguments, without a plugin."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.plain import typed_definition, typed_workflows
from workflow_core import Execution

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]  # pyright downloads itself when it first runs

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
RIGHT = ("typed_workflows.py", "typed_definition.py")
WRONG = ("wrong_types.txt", "wrong_definition.txt")


def check(folder: Path, *command: str) -> str:
    environment = {**os.environ, "MYPYPATH": str(ROOT)}
    checked = subprocess.run(
        [sys.executable, "-m", *command], cwd=folder, env=environment, capture_output=True, text=True, timeout=280
    )
    return checked.stdout + checked.stderr


def mypy(folder: Path) -> str:
    cache = ROOT / ".mypy_cache" / "plain"
    files = sorted(path.name for path in folder.glob("*.py"))
    return check(folder, "mypy", "--strict", "--config-file=", f"--cache-dir={cache}", *files)


def pyright(folder: Path) -> str:
    options = {"include": ["*.py"], "typeCheckingMode": "strict", "extraPaths": [str(ROOT)]}
    (folder / "pyrightconfig.json").write_text(json.dumps(options))
    return check(folder, "pyright", "--project", str(folder), "--pythonpath", sys.executable)


@pytest.fixture(scope="module", params=[mypy, pyright], ids=["mypy", "pyright"])
def printed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """What a type checker prints of all files: it reads the library for seconds, so it is started once."""
    folder = tmp_path_factory.mktemp("types")
    for name in (*RIGHT, *WRONG):
        (folder / name).with_suffix(".py").write_text((HERE / name).read_text())
    text: str = request.param(folder)
    return text


def lines_of(printed: str, name: str) -> set[int]:
    """The lines of a file in which something was found."""
    return {int(line) for line in re.findall(rf"\b{Path(name).stem}\.py:(\d+)", printed)}


@pytest.mark.parametrize("name", RIGHT)
def test_results_are_inferred(printed: str, name: str) -> None:
    assert lines_of(printed, name) == set(), printed


@pytest.mark.parametrize("name", WRONG)
def test_wrong_calls_are_found(printed: str, name: str) -> None:
    lines = enumerate((HERE / name).read_text().splitlines(), 1)
    expected = {number for number, line in lines if line.endswith("# wrong")}
    assert lines_of(printed, name) == expected, printed
    # Each file is checked, and there are no mistakes but those.
    assert re.search(
        r"Found \d+ errors in 2 files \(checked 4 source files\)|^\d+ errors, 0 warnings", printed, re.MULTILINE
    )


def test_the_typed_workflows_compile() -> None:
    for workflow in (typed_workflows.Expense, typed_workflows.Parcel, typed_definition.Typed):
        assert Execution.start("x", workflow).threads
