"""The pytest plugin, in a pytest of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

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


FAILURES = """
from gorchestrate import Retry, S, Select, On, Step, WaitFor, Workflow


class V1(Workflow, name="v"):
    definition = S(Select("w", On("go", lambda self: None)))


class V2(Workflow, name="v"):
    missing: str
    definition = S(Select("w", On("go", lambda self: None)))


class Broken(Workflow, name="broken"):
    ok: bool = True

    def work(self):
        raise ConnectionError("the bank is closed")

    definition = S(WaitFor("c", lambda self: self.ok), Step("work", work, retry=Retry(max_attempts=None)))


def test_fields_do_not_fit(workflow_environment):
    environment = workflow_environment(V1)
    environment.create(V1)
    environment.restart(V2)
    assert False


def test_closed(workflow_environment):
    with workflow_environment(V1) as environment:
        environment.create(V1)
        assert False


def test_many(workflow_environment):
    environment = workflow_environment(V1, Broken)
    for number in range(20):
        environment.create(V1)
    environment.create(Broken)
    environment.advance(seconds=10)
    assert False


def test_passes():
    pass
"""


@pytest.mark.slow
def test_a_failed_test_never_ends_the_run(tmp_path: Path) -> None:
    (tmp_path / "test_failures.py").write_text(FAILURES)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "gorchestrate.pytest_plugin", "-p", "no:cacheprovider"]
    run = subprocess.run(
        [*command, str(tmp_path)], capture_output=True, text=True, cwd=tmp_path, env=ALONE, check=False, timeout=60
    )
    assert "3 failed, 1 passed" in run.stdout, run.stdout + run.stderr
    assert "cannot be shown: InvalidFields" in run.stdout, run.stdout
    assert "the environment is closed" in run.stdout
    many = run.stdout.partition("test_many")[2]
    assert "'work' has failed 4 times: ConnectionError: the bank is closed; next at 2030-01-01 00:00:15" in many
    assert many.index("broken 'broken-") < many.index("v 'v-")
    assert "and 11 more" in many


def test_it_imports_nothing_until_it_is_used() -> None:
    ours = "[name for name in sys.modules if name.startswith(('cloud_adapter', 'workflow_core'))]"
    code = f"import sys, gorchestrate.pytest_plugin; print({ours})"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert run.stdout.strip() == "[]"
