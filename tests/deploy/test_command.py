"""``gorchestrate deploy``: the scripts for a project of its own, and the wheel that they upload."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from importlib.metadata import distributions
from pathlib import Path
from zipfile import ZipFile

import pytest

from cloud_adapter.cli.deployment import packed
from cloud_adapter.cli.projects import TemplateName, create
from cloud_adapter.errors import SettingsError
from tests.cli.processes import ROOT, run
from tests.deploy.tools import need

pytestmark = pytest.mark.slow


FOR_DEVELOPERS = {"emulator.Dockerfile", "lock.sh"}
"""The files of deploy/ that only a clone of the repository needs."""


def test_a_wheel_has_all_files_of_a_deployment() -> None:
    included = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    files = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "deploy").rglob("*")
        if path.is_file() and path.suffix != ".pyc" and path.name not in FOR_DEVELOPERS | {"settings.env"}
    }
    for source, target in included["force-include"].items():
        assert target == f"gorchestrate/{source}" or not source.startswith("deploy/")
        files = {file for file in files if file != source and not file.startswith(f"{source}/")}
    assert files == set()


@pytest.fixture
def project(tmp_path: Path) -> Path:
    create(tmp_path / "shop", TemplateName.APPROVAL)
    return tmp_path / "shop"


def test_a_new_project_is_deployed_after_its_settings_are_filled_in(project: Path) -> None:
    need("gcloud")
    settings = project / "deploy.env"
    settings.write_text(settings.read_text().replace("\nPROJECT=my-project\n", "\nPROJECT=shop-1\n"))
    ended = run("deploy", cwd=project, PYTHONPATH=str(ROOT))
    assert (ended.returncode, "ACCESS" in ended.stderr) == (1, True), ended.stderr
    settings.write_text(settings.read_text().replace("\nACCESS=\n", "\nACCESS=open\n"))
    ended = run("deploy", cwd=project, PYTHONPATH=str(ROOT))
    assert ended.returncode == 0, ended.stderr
    assert f"gorchestrate check --deployable {project}/main.py" in ended.stdout
    assert f"{project}/main.py compiles: approval" in ended.stdout
    assert f"== Files of {project}\n" in ended.stdout
    assert "Dry run: nothing is sent" in ended.stdout
    assert "Nothing was changed. To do this, run the command again with --yes." in ended.stdout


def test_the_settings_must_exist(tmp_path: Path) -> None:
    ended = run("deploy", cwd=tmp_path, PYTHONPATH=str(ROOT))
    assert ended.returncode == 2
    assert "settings file deploy.env not found: copy " in ended.stderr


def test_an_installed_package_is_packed_again(tmp_path: Path) -> None:
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "wheel", "--no-deps", "--wheel-dir", str(tmp_path), str(ROOT)], check=True, timeout=100)
    (built,) = tmp_path.glob("*.whl")
    target = tmp_path / "installed"
    subprocess.run([*pip, "install", "--no-deps", "--target", str(target), str(built)], check=True, timeout=100)
    (installed,) = distributions(path=[str(target)])
    first, second = (packed(installed, folder) for folder in (_made(tmp_path / "a"), _made(tmp_path / "b")))
    assert (first.name, first.read_bytes()) == (built.name, second.read_bytes())
    with ZipFile(built) as expected, ZipFile(first) as found:
        records = {name for name in expected.namelist() if name.endswith("/RECORD")}
        assert set(found.namelist()) == set(expected.namelist())
        assert not [n for n in set(expected.namelist()) - records if found.read(n) != expected.read(n)]
        (record,) = records
        assert set(found.read(record).split()) == set(expected.read(record).split())
        assert "gorchestrate/deploy/deploy.sh" in found.namelist()
    again = tmp_path / "again"
    subprocess.run([*pip, "install", "--no-deps", "--target", str(again), str(first)], check=True, timeout=100)
    (again_installed,) = distributions(path=[str(again)])
    assert again_installed.version == installed.version


def test_a_package_without_a_list_of_files_is_refused(tmp_path: Path) -> None:
    info = _made(tmp_path / "gorchestrate-9.dist-info")
    (info / "METADATA").write_text("Name: gorchestrate\nVersion: 9\n")
    (installed,) = distributions(path=[str(tmp_path)])
    with pytest.raises(SettingsError, match="install it again with pip"):
        packed(installed, tmp_path)


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder
