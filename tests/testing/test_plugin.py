"""The pytest plugin, in a pytest of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ALONE = os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_ADDOPTS": ""}
"""Without the other plugins, which take seconds to load."""

TEST = """
from gorchestrate import On, S, Select, Workflow


class Approval(Workflow, name="approval"):
    note: str = "new"

    def decide(self, note: str) -> None:
        self.note = note

    definition = S(Select("wait for Ann", On("decide", decide)))


def test_passes(workflow_environment):
    environment = workflow_environment(Approval)
    approval = environment.create(Approval, "a-1")
    approval.send("decide", "yes")
    assert approval.is_finished


def test_fails(workflow_environment):
    environment = workflow_environment(Approval)
    approval = environment.create(Approval, "a-2")
    assert approval.is_finished


def test_fails_without_instances(workflow_environment):
    workflow_environment(Approval)
    assert False
"""


def test_a_failure_shows_where_the_instances_stand(tmp_path: Path) -> None:
    (tmp_path / "test_approval.py").write_text(TEST)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "gorchestrate.pytest_plugin", "-p", "no:cacheprovider"]
    run = subprocess.run(
        [*command, str(tmp_path)], capture_output=True, text=True, cwd=tmp_path, env=ALONE, check=False, timeout=60
    )
    assert "2 failed, 1 passed" in run.stdout, run.stdout + run.stderr
    assert run.stdout.count("workflow instances") == 1
    for line in (
        "approval 'a-2' is waiting",
        "thread 'main' stands at 'wait for Ann' (waiting)",
        "accepts: decide",
        "fields: Approval(note='new')",
        "history: created",
    ):
        assert line in run.stdout


def test_it_imports_nothing_until_it_is_used() -> None:
    ours = "[name for name in sys.modules if name.startswith(('cloud_adapter', 'workflow_core'))]"
    code = f"import sys, gorchestrate.pytest_plugin; print({ours})"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert run.stdout.strip() == "[]"
