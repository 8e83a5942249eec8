"""The README: every block in it is run, its links lead somewhere, and it stays short."""

from __future__ import annotations

import re
import runpy
import sys
from pathlib import Path
from types import ModuleType

import pytest

from tests.cli.processes import GORCHESTRATE, ROOT, bash, started
from tests.markdown import Block, blocks_of, compiled
from workflow_core import Workflow

PAGE = ROOT / "README.md"
README = PAGE.read_text()
BLOCKS = blocks_of(PAGE)


def text_of(kind: str) -> str:
    (block,) = [block for block in BLOCKS if block.kind == kind]
    return block.text


def test_each_block_is_of_a_kind_that_is_tested() -> None:
    assert [block.kind for block in BLOCKS] == ["python", "bash start", "bash curl", "bash fresh"]


def test_it_can_be_read_in_some_minutes() -> None:
    assert 700 <= len(README.split()) <= 900


def test_its_workflow_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    block: Block = BLOCKS[0]
    module = ModuleType("readme")
    monkeypatch.setitem(sys.modules, "readme", module)
    exec(compiled("README.md", block.line, block.text), vars(module))
    workflow = vars(module)["Approval"]
    assert issubclass(workflow, Workflow) and workflow.__workflow_name__ == "approval"


def test_its_workflow_can_be_served(tmp_path: Path) -> None:
    source = tmp_path / "readme_approval.py"
    source.write_text(text_of("python"))
    command = [*GORCHESTRATE, "dev", str(source), "--port", "0", "--db", str(tmp_path / "readme.db")]
    with started(command, tmp_path) as process:
        process.wait_for("/wf/approval/ID")


@pytest.mark.slow
def test_the_commands_of_the_start_do_what_is_said(tmp_path: Path) -> None:
    """Runs them beside the settings of a clone, whose options for pytest need plugins that a user does not have.

    The installation is left out: the environment of the tests has the packages.
    """
    (tmp_path / "pyproject.toml").write_text((ROOT / "pyproject.toml").read_text())
    environ, install, new, enter, test, serve = text_of("bash start").strip().splitlines()
    assert environ == "python3 -m venv .venv && source .venv/bin/activate"
    assert install == "pip install pytest ."
    assert enter == "cd shop"
    alone = {"PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_ADDOPTS": ""}
    bash(new.replace("gorchestrate", " ".join(GORCHESTRATE), 1), tmp_path, **alone)
    folder = tmp_path / "shop"
    assert " passed" in bash(f"{sys.executable} -m {test} -p no:cacheprovider", folder, **alone)
    binary, *arguments = serve.split()
    assert binary == "gorchestrate"
    with started([*GORCHESTRATE, *arguments, "--port", "0"], tmp_path, cwd=folder, **alone) as process:
        url = process.wait_for("Serving ").split(" on ")[1].split(",")[0]
        printed = bash(text_of("bash curl").replace("http://127.0.0.1:8080", url))
    assert "urn:gorchestrate:problem" not in printed, "it is refused"
    assert '"status": "approved"' in README and '"status":"approved"' in printed.replace('": "', '":"')


def test_continuous_integration_runs_the_tests_as_on_a_fresh_machine() -> None:
    command = text_of("bash fresh").strip()
    assert command == "python3 -m venv .venv && .venv/bin/pip install -e '.[test]' && .venv/bin/pytest"
    lines = [line.strip() for line in (ROOT / ".ci/run").read_text().splitlines()]
    (slow,) = [line for line in lines if line.startswith(".venv/bin/pytest -m slow")]
    assert "`pytest -m slow` runs the other tests" in README
    steps = [lines.index(step) for step in ("rm -rf .venv", command, slow)]
    assert steps == sorted(steps)
    assert "set -euo pipefail" in lines[: steps[0]]


def test_the_version_of_python_is_that_of_the_project() -> None:
    project = (ROOT / "pyproject.toml").read_text()
    assert 'requires-python = ">=3.11"' in project and "Python 3.11 or later" in README
    assert "Python 3.11 or later" in (ROOT / "docs" / "start" / "install.md").read_text()


def test_the_description_for_a_package_index_has_nothing_that_only_works_here() -> None:
    text = runpy.run_path(str(ROOT / "hatch_build.py"))["description"](README)
    assert not re.search(r"\]\((?!https?:)|<(img|source|picture)", text)
    assert len(text.split()) > 600 and "the tutorial" in text.lower() and "```python" in text


def test_every_file_that_it_links_to_is_there() -> None:
    targets = re.findall(r"\]\(([^)#:]+)[)#]|(?:src|srcset)=\"([^\":]+)\"", README)
    assert len(targets) > 20
    for target in map("".join, targets):
        assert (ROOT / target).is_file(), target
