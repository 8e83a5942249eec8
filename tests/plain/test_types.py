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


def mypy(folder: Path, file: str) -> str:
    cache = ROOT / ".mypy_cache" / "plain"
    return check(folder, "mypy", "--strict", "--config-file=", f"--cache-dir={cache}", file)


def pyright(folder: Path, file: str) -> str:
    options = {"include": [file], "typeCheckingMode": "strict", "extraPaths": [str(ROOT)]}
    (folder / "pyrightconfig.json").write_text(json.dumps(options))
    return check(folder, "pyright", "--project", str(folder), "--pythonpath", sys.executable)


CHECKERS = pytest.mark.parametrize("checker", [mypy, pyright], ids=["mypy", "pyright"])


@CHECKERS
@pytest.mark.parametrize("name", RIGHT)
def test_results_are_inferred(tmp_path: Path, checker: object, name: str) -> None:
    assert callable(checker)
    (tmp_path / "right.py").write_text((HERE / name).read_text())
    out = checker(tmp_path, "right.py")
    assert "error" not in out.replace("0 errors", ""), out


@CHECKERS
@pytest.mark.parametrize("name", WRONG)
def test_wrong_calls_are_found(tmp_path: Path, checker: object, name: str) -> None:
    assert callable(checker)
    text = (HERE / name).read_text()
    (tmp_path / "wrong.py").write_text(text)
    out = checker(tmp_path, "wrong.py")
    expected = {number for number, line in enumerate(text.splitlines(), 1) if line.endswith("# wrong")}
    assert {int(found) for found in re.findall(r"wrong\.py:(\d+)", out)} == expected, out


def test_the_typed_workflows_compile() -> None:
    for workflow in (typed_workflows.Expense, typed_workflows.Parcel, typed_definition.Typed):
        assert Execution.start("x", workflow).threads
