"""``gorchestrate deploy`` checks the settings and the source on this machine, before the scripts begin."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from cloud_adapter.cli.main import app
from cloud_adapter.errors import SettingsError
from tests.deploy.desk import DEPLOY, settings_file

MAIN = """
from gorchestrate import ApiKey, On, S, Select, Service, StoredKey, Workflow

class Visit(Workflow, name="visit"):
    definition = S(Select("open", On("End", lambda w: None)))

KEYS = ApiKey(StoredKey("till", "0" * 64))
service = Service(Visit{more})

async def api(request): return await service.api(request)
async def worker(request): return await service.worker(request)
"""
GUARDED = MAIN.format(more=", authenticators=[KEYS]")
OPEN = MAIN.format(more="")


class Project:
    """A project to deploy. What would be run is in ``commands``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.settings = folder / "settings.env"
        self.source = folder / "app" / "main.py"
        self.source.parent.mkdir()
        self.commands: list[list[str]] = []

    def deploy(self, main: str, *options: str, project: str = "shop-1", access: str = "open") -> Result:
        self.source.write_text(main)
        self.write_settings(PROJECT=project, ACCESS=f"{access}\r")
        return CliRunner().invoke(app, ["deploy", str(self.settings), *options])

    def write_settings(self, **changes: str) -> None:
        settings_file(self.folder, SOURCE="'./app/'", **changes)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    made = Project(tmp_path)

    class Ended:
        returncode = 0

    really_run = subprocess.run

    def run(command: list[str], **options: Any) -> Any:
        if "-c" in command:  # reads the settings
            return really_run(command, **options)
        made.commands.append(command)
        return Ended()

    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(shutil, "which", lambda name: f"/bin/{name}")
    monkeypatch.setattr(subprocess, "run", run)
    return made


@pytest.mark.parametrize("options", [(), ("--yes",)])
@pytest.mark.parametrize(("main", "access"), [(OPEN, "open"), (GUARDED, "authenticated"), (GUARDED, "")])
def test_a_good_source_is_given_to_the_script(
    project: Project, options: tuple[str, ...], main: str, access: str
) -> None:
    ended = project.deploy(main, *options, access=access)
    assert ended.exit_code == 0, ended.exception
    assert f"{project.source} compiles: visit" in ended.output
    (command,) = project.commands
    assert command[-1] == str(project.settings)
    assert ("--dry-run" in command) is (not options)


@pytest.mark.parametrize("options", [(), ("--yes",)])
@pytest.mark.parametrize(
    ("main", "access", "reason"),
    [
        (OPEN.replace("service = Service(Visit)", ""), "open", "has no Service"),
        (OPEN.replace("def worker", "def work"), "open", "has no function 'worker'"),
        (OPEN + "raise ValueError('no')", "open", "cannot be imported: ValueError: no"),
        (OPEN, "authenticated", "ACCESS is authenticated, but the Service in .* has no authenticators: pass auth"),
        (GUARDED, "open", "ACCESS is open, but the Service in .* has authenticators: write ACCESS=authenticated"),
    ],
)
def test_what_cannot_be_deployed_does_not_reach_the_script(
    project: Project, options: tuple[str, ...], main: str, access: str, reason: str
) -> None:
    ended = project.deploy(main, *options, access=access)
    with pytest.raises(SettingsError, match=reason):
        raise ended.exception or AssertionError("it was deployed")
    assert project.commands == []
    assert project.deploy(main, *options, "--skip-check", access=access).exit_code == 0
    assert len(project.commands) == 1


def test_a_mistake_in_a_definition_stops_it(project: Project) -> None:
    ended = project.deploy(OPEN.replace("S(Select", 'S(Select("open", On("Again", lambda w: None)), Select'))
    assert (ended.exit_code, project.commands) == (1, [])
    assert "The definition has a mistake." in ended.output


def test_the_placeholder_is_no_project(project: Project) -> None:
    for options in ((), ("--yes", "--skip-check")):
        ended = project.deploy(OPEN, *options, project="my-project")
        with pytest.raises(SettingsError, match="PROJECT is still my-project: write the id of your Google Cloud proj"):
            raise ended.exception or AssertionError("it was deployed")
    assert project.commands == []


def test_the_script_explains_a_source_that_does_not_exist(project: Project) -> None:
    project.source.parent.rmdir()
    project.source = project.folder / "main.py"
    assert project.deploy(OPEN).exit_code == 0
    assert len(project.commands) == 1


def test_settings_that_are_wrong_are_explained_by_the_script_and_stop_it(
    project: Project, capfd: pytest.CaptureFixture[str]
) -> None:
    project.write_settings(PROJECT="shop-1", RUNTIME="ruby")
    for command in ("deploy", "teardown"):
        assert CliRunner().invoke(app, [command, str(project.settings), "--yes"]).exit_code == 1
        assert "deploy.sh: " in (error := capfd.readouterr().err) and "RUNTIME is 'ruby'" in error
    assert project.commands == []


@pytest.mark.parametrize(
    ("options", "passed"),
    [
        ([], ["--dry-run"]),
        (["--yes"], ["--yes"]),
        (["--delete-data"], ["--dry-run", "--delete-data"]),
        (["--yes", "--delete-data"], ["--yes", "--delete-data"]),
    ],
)
def test_a_teardown_changes_nothing_without_yes(project: Project, options: list[str], passed: list[str]) -> None:
    project.write_settings(PROJECT="shop-1")
    ended = CliRunner().invoke(app, ["teardown", str(project.settings), *options])
    assert ended.exit_code == 0, ended.exception
    (command,) = project.commands
    assert command[1:] == [str(DEPLOY / "teardown.sh"), *passed, str(project.settings)]
    assert ("Nothing was changed" in ended.output) is ("--yes" not in options)


def test_a_teardown_reads_its_settings_under_a_cdpath(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    project.write_settings(PROJECT="shop-1")
    monkeypatch.chdir(project.settings.parent.parent)
    monkeypatch.setenv("CDPATH", ".")
    relative = project.settings.relative_to(project.settings.parent.parent)
    ended = CliRunner().invoke(app, ["teardown", str(relative)])
    assert ended.exit_code == 0, ended.exception


def test_a_teardown_needs_a_project_of_yours(project: Project) -> None:
    project.write_settings(PROJECT="my-project")
    with pytest.raises(SettingsError, match="PROJECT is still my-project"):
        raise CliRunner().invoke(app, ["teardown", str(project.settings), "--yes"]).exception or AssertionError
    assert project.commands == []
