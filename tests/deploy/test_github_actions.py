"""The example of continuous deployment: its form, its rights, and that its commands exist."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from cloud_adapter.cli.main import app
from cloud_adapter.cli.projects import TemplateName, create
from tests.deploy.desk import DEPLOY
from tests.deploy.tools import need

WORKFLOW: dict[str, Any] = yaml.load((DEPLOY / "github-actions.yml").read_text(), yaml.BaseLoader)
JOBS = WORKFLOW["jobs"]
ALL_STEPS = [(name, step) for name, job in JOBS.items() for step in job["steps"]]
SCRIPTS = [step["run"] for _, step in ALL_STEPS if "run" in step]
GORCHESTRATE = [line for script in SCRIPTS for line in script.splitlines() if line.startswith("gorchestrate ")]


def test_only_the_jobs_that_deploy_may_get_a_token() -> None:
    assert WORKFLOW["permissions"] == {}
    rights = {name: job["permissions"] for name, job in JOBS.items()}
    assert rights.pop("check") == {"contents": "read"}
    assert list(rights.values()) == [{"contents": "read", "id-token": "write"}] * 2
    for name in rights:
        assert JOBS[name]["environment"] == "production"
        assert "github.ref == 'refs/heads/main'" in JOBS[name]["if"]


def test_nothing_is_deployed_unchecked_and_what_fails_goes_back() -> None:
    assert JOBS["deploy"]["needs"] == "check"
    names = [step.get("run", step.get("uses", "")) for step in JOBS["deploy"]["steps"]]
    assert names.index("gorchestrate deploy deploy.env --yes") < names.index(
        "gorchestrate deploy deploy.env --rollback --yes"
    )
    last = JOBS["deploy"]["steps"][-1]
    assert last["if"] == "${{ failure() && steps.smoke.outcome == 'failure' }}"
    assert WORKFLOW["concurrency"]["cancel-in-progress"] == "false"


def test_each_step_that_is_named_exists() -> None:
    for name, step in ALL_STEPS:
        ids = {one.get("id") for one in JOBS[name]["steps"]}
        assert {*re.findall(r"steps\.(\w+)\.", str(step))} <= ids


@pytest.mark.parametrize("command", sorted({*GORCHESTRATE}))
def test_the_commands_exist(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is run in a new project, whose settings are not filled in: only 'deploy' has something to say about that."""
    from typer.testing import CliRunner

    create(tmp_path / "shop", TemplateName.APPROVAL)
    monkeypatch.chdir(tmp_path / "shop")
    ended = CliRunner().invoke(app, shlex.split(command)[1:])
    if " deploy " in command:
        assert "PROJECT is still my-project" in str(ended.exception)
    else:
        assert ended.exit_code == 0, ended.output


def test_the_scripts_are_good_bash() -> None:
    for script in SCRIPTS:
        shell = re.sub(r"\$\{\{.*?\}\}", "x", f"#!/bin/bash\n{script}")
        checked = subprocess.run([need("shellcheck"), "-"], input=shell, capture_output=True, text=True, timeout=60)
        assert checked.stdout == ""


def test_no_text_of_others_gets_into_a_script() -> None:
    """An expression in a script is replaced before bash reads it, so the name of a branch could add commands."""
    assert not [script for script in SCRIPTS if "${{" in script]
