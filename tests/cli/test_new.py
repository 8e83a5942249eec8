"""``gorchestrate new``: each project passes its tests, is checked, and can be served as it stands."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from functools import partial
from importlib.metadata import version
from pathlib import Path

import pytest

from cloud_adapter.cli.projects import TemplateName, create
from cloud_adapter.errors import InvalidRequest
from tests.cli.processes import ROOT, Server, dev, run
from tests.http.helpers import until

ALONE = os.environ | {"PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_ADDOPTS": ""}


def in_project(directory: Path, *arguments: str) -> str:
    """Runs a module of Python in a project. Returns what it prints."""
    command = [sys.executable, "-m", *arguments]
    done = subprocess.run(command, cwd=directory, env=ALONE, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize(
    "template",
    [TemplateName.APPROVAL, *(pytest.param(t, marks=pytest.mark.slow) for t in TemplateName if t != "approval")],
)
def test_a_project_works_as_it_stands(tmp_path: Path, template: TemplateName) -> None:
    directory = tmp_path / "some" / "project"
    (tmp_path / "pytest.ini").write_text("[pytest]\naddopts = --unknown-option\n")  # of a folder above
    files = create(directory, template)
    assert sorted(directory.iterdir()) == sorted(files)
    assert " passed" in in_project(directory, "pytest", "-q", "-p", "no:cacheprovider")
    assert "Traceback" not in in_project(directory, "cloud_adapter.cli", "check", "main.py")
    in_project(directory, "ruff", "check", "--isolated", "--select", "E,F,B,UP", "--line-length", "120", ".")
    in_project(directory, "ruff", "format", "--isolated", "--line-length", "120", "--check", ".")


@pytest.mark.slow
def test_the_command_creates_and_serves_a_project(tmp_path: Path) -> None:
    made = run("new", "shop", cwd=tmp_path, PYTHONPATH=str(ROOT))
    assert made.returncode == 0, made.stderr
    assert "Now run: cd shop && pytest && gorchestrate dev main.py" in made.stdout
    readme = (tmp_path / "shop" / "README.md").read_text()
    assert "--json '{" in readme
    assert "$" not in readme.replace("$title", "")
    again = run("new", "shop", cwd=tmp_path, PYTHONPATH=str(ROOT))
    assert again.returncode == 2
    assert "shop exists and is not empty: choose another directory" in again.stderr


def test_its_settings_name_no_file_that_only_the_repository_has(tmp_path: Path) -> None:
    create(tmp_path, TemplateName.APPROVAL)
    settings = (tmp_path / "deploy.env").read_text()
    assert settings.startswith("# The settings of `gorchestrate deploy`.")
    assert "\nSOURCE=.\n" in settings
    for wrong in ("settings.env", "teardown.sh", "to the repository", " requirements.lock"):
        assert wrong not in settings


def test_the_path_that_is_printed_can_be_pasted(tmp_path: Path) -> None:
    made = run("new", "an order's", cwd=tmp_path, PYTHONPATH=str(ROOT))
    assert made.returncode == 0, made.stderr
    (line,) = [line for line in made.stdout.splitlines() if line.startswith("Now run: ")]
    moved = line.removeprefix("Now run: ").split(" && ")[0] + " && ls main.py"
    assert subprocess.run(["/bin/sh", "-c", moved], cwd=tmp_path, check=False).returncode == 0


def test_a_project_in_the_current_folder(tmp_path: Path) -> None:
    made = run("new", ".", cwd=tmp_path, PYTHONPATH=str(ROOT))
    assert made.returncode == 0, made.stderr
    assert "Now run: pytest && gorchestrate dev main.py" in made.stdout


def test_the_version() -> None:
    printed = run("--version")
    assert (printed.returncode, printed.stdout) == (0, f"gorchestrate {version('gorchestrate')}\n")


def test_a_file_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(InvalidRequest, match="choose another directory"):
        create(tmp_path / "file", TemplateName.APPROVAL)
    assert (tmp_path / "file").read_text() == "mine"


def test_an_unknown_template_is_refused(tmp_path: Path) -> None:
    made = run("new", "shop", "--template", "shop", cwd=tmp_path, PYTHONPATH=str(ROOT))
    assert made.returncode == 2
    assert "'approval', 'order', 'agent', 'batch'" in made.stderr
    assert not (tmp_path / "shop").exists()


def test_the_folder_may_exist_if_it_is_empty(tmp_path: Path) -> None:
    assert len(create(tmp_path, TemplateName.APPROVAL)) == 9


@pytest.mark.slow
@pytest.mark.parametrize("template", TemplateName)
def test_the_first_instance_of_its_readme_can_be_created(tmp_path: Path, template: TemplateName) -> None:
    create(tmp_path / "project", template)
    readme = (tmp_path / "project" / "README.md").read_text()
    posts = re.findall(r"POST http://127.0.0.1:8080(\S+) --json '(.*)'$", readme, re.MULTILINE)
    assert len(posts) == (1 if template == TemplateName.BATCH else 2)
    (first, fields), *events = posts
    with dev("main.py", tmp_path / "new.db", cwd=tmp_path / "project", PYTHONPATH=str(ROOT)) as server:
        server.post(first, json.loads(fields))
        assert server.get(first)["meta"]["workflow"] == template
        for path, input in events:
            instance, _, event = path.rpartition("/")
            until(partial(is_accepted, server, instance, event))
            server.post(path, json.loads(input))
        server.finished(first)


def is_accepted(server: Server, instance: str, event: str) -> bool:
    """Whether there is the instance, and it waits for the event."""
    response = server.client.get(instance)
    return response.is_success and event in [accepted["name"] for accepted in response.json()["events"]]
