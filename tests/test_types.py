"""The code of README.md, docs/ and examples/ is accepted by mypy and pyright, in strict mode and without plugins."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]  # pyright downloads itself when it first runs

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)


def code_of(text: str) -> str:
    """The code of a document, each line where it is in the document."""
    lines = [""] * (text.count("\n") + 1)
    for block in BLOCK.finditer(text):
        first = text.count("\n", 0, block.start(1))
        for number, line in enumerate(block[1].splitlines()):
            lines[first + number] = line
    return "\n".join(lines)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a file for each document that contains code, and the files of examples/."""
    folder = tmp_path_factory.mktemp("examples")
    for path in DOCUMENTS:
        text = path.read_text()
        if BLOCK.search(text):
            (folder / f"{path.stem.lower().replace('-', '_')}_md.py").write_text(code_of(text))
    assert len(list(folder.iterdir())) > 5
    for path in (ROOT / "examples").glob("*.py"):
        shutil.copy(path, folder)
    return folder


def check(folder: Path, *command: str) -> str:
    checked = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=folder,
        env={**os.environ, "MYPYPATH": f"{ROOT}{os.pathsep}{ROOT / 'functions'}"},
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
    return checked.stdout


def test_mypy_accepts_the_examples(folder: Path) -> None:
    files = sorted(str(path) for path in folder.glob("*.py"))
    cache = ROOT / ".mypy_cache" / "examples"
    out = check(
        folder, "mypy", "--strict", "--config-file=", f"--cache-dir={cache}", "--explicit-package-bases", *files
    )
    assert f"no issues found in {len(files)} source files" in out


def test_pyright_accepts_the_examples(folder: Path) -> None:
    paths = [str(ROOT), str(ROOT / "functions")]
    (folder / "pyrightconfig.json").write_text(json.dumps({"typeCheckingMode": "strict", "extraPaths": paths}))
    out = check(folder, "pyright", "--project", str(folder), "--pythonpath", sys.executable)
    assert "0 errors" in out
