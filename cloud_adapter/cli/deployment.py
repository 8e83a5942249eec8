"""``gorchestrate deploy`` and ``teardown``: run the deployment scripts for a project, first without changing anything.

The scripts upload the wheel of gorchestrate with the project. In a clone of the repository, they build it. Otherwise,
the wheel is packed again from the installed files, so the code that was tested is the code that is deployed.
"""

from __future__ import annotations

import base64
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from importlib.metadata import Distribution, distribution
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

from cloud_adapter.cli import check
from cloud_adapter.cli.packaged_files import DEPLOY
from cloud_adapter.errors import SettingsError
from cloud_adapter.hosting.source import ENTRY_POINTS, Served

PACKAGE = "gorchestrate"
PLACEHOLDER = "my-project"
"""The project in the settings of a new project."""

_MADE_BY_THE_INSTALLER = ("RECORD", "INSTALLER", "REQUESTED", "direct_url.json", "uv_cache.json")


_READ = """
unset CDPATH
HERE=$1
source "$HERE/lib.sh"
source "$HERE/settings.sh"
load_settings "$2"
find_source "$2"
printf '%s\\n' "$PROJECT" "$ACCESS" "$SOURCE"
"""
"""Prints what ``Deployment`` contains, as the scripts read it. Their values contain no line ends."""


@dataclass(frozen=True)
class Deployment:
    """What is checked before a script runs.

    Attributes:
        settings: its settings file.
        project: the id of the Google Cloud project.
        access: ``open``, ``authenticated`` or empty.
        source: the folder of the source. It may not exist.
    """

    settings: Path
    project: str
    access: str
    source: Path


def run(settings: Path, *, yes: bool, skip_check: bool, rollback: bool = False) -> int:
    """Deploys a project, or goes back to the deployment before.

    Args:
        settings: the settings of the deployment.
        yes: deploy. Otherwise, only print the commands.
        skip_check: deploy without a check of the source and of live instances.
        rollback: deploy nothing; requests go to the deployment before, whatever the source is now.

    Returns:
        The exit code of the scripts; 1 if the source has a mistake.

    Raises:
        SettingsError: the settings file does not exist or was not filled in, the source cannot be deployed with it, or
            there is no bash.
    """
    deployment = _read(settings)
    if deployment is None or not (skip_check or rollback or _check(deployment)):
        return 1
    options = ["--skip-check"] if skip_check else []
    options += ["--rollback"] if rollback else []
    with tempfile.TemporaryDirectory(prefix="gorchestrate-wheel-") as folder:
        if not (rollback or (DEPLOY.parent / "pyproject.toml").is_file()):
            options += ["--wheel", str(packed(distribution(PACKAGE), Path(folder)))]
        return _call("deploy.sh", settings, *([] if yes else ["--dry-run"]), *options)


def tear_down(settings: Path, *, yes: bool, delete_data: bool) -> int:
    """Removes what a deployment has created.

    Args:
        settings: the settings of the deployment.
        yes: remove it, without a question. Otherwise, only print the commands.
        delete_data: also delete the database with all instances, and the keys.

    Returns:
        The exit code of the script.

    Raises:
        SettingsError: the settings file does not exist or was not filled in, or there is no bash.
    """
    if _read(settings) is None:
        return 1
    options = ["--delete-data"] if delete_data else []
    return _call("teardown.sh", settings, "--yes" if yes else "--dry-run", *options)


def _read(settings: Path) -> Deployment | None:
    """Reads the settings of a deployment, as the scripts read them.

    Returns:
        None if a setting is missing or has a wrong value; the scripts have then printed which one.

    Raises:
        SettingsError: the settings file does not exist or was not filled in, or there is no bash.
    """
    if not settings.is_file():
        raise SettingsError(f"settings file {settings} not found: copy {DEPLOY / 'settings.env.example'} and edit it")
    command = [_bash(), "-euo", "pipefail", "-c", _READ, "deploy.sh", str(DEPLOY), str(settings)]
    ended = subprocess.run(command, check=False, stdout=subprocess.PIPE, text=True)
    if ended.returncode:
        return None
    project, access, source = ended.stdout.splitlines()
    if project == PLACEHOLDER:
        raise SettingsError(f"{settings}: PROJECT is still {PLACEHOLDER}: write the id of your Google Cloud project")
    return Deployment(settings, project, access, Path(source))


def _call(script: str, settings: Path, *options: str) -> int:
    """Runs a deployment script. Returns its exit code."""
    # `gorchestrate check` must be the one of this environment.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    command = [_bash(), str(DEPLOY / script), *options, str(settings)]
    return subprocess.run(command, env=os.environ | {"PATH": path}, check=False).returncode


def _bash() -> str:
    bash = shutil.which("bash")
    if bash is None:
        raise SettingsError(
            "bash not found: the deployment scripts need it. Deploy from Linux, macOS, WSL or Cloud Shell"
        )
    return bash


def _check(deployment: Deployment) -> bool:
    """Checks the source of a deployment before anything is sent, so it needs no network. The scripts explain a source
    that does not exist.

    Returns:
        Whether it can be deployed.

    Raises:
        SettingsError: it lacks something, or its ``Service`` does not fit ACCESS.
    """
    settings, access = deployment.settings, deployment.access
    source = Path(os.path.normpath(deployment.source / "main.py"))
    if not source.is_file():
        return True

    def accept(served: Served) -> None:
        has_authenticators = bool(served.authentication.authenticators)
        if access == "authenticated" and not has_authenticators:
            raise SettingsError(
                f"{settings}: ACCESS is authenticated, but the Service in {source} has no authenticators: pass "
                "authenticators=[...] to Service(...), or write ACCESS=open if everyone may do everything"
            )
        if access == "open" and has_authenticators:
            raise SettingsError(
                f"{settings}: ACCESS is open, but the Service in {source} has authenticators: write "
                "ACCESS=authenticated"
            )

    good = check.run(source, None, as_json=False, functions=ENTRY_POINTS, accept=accept)
    sys.stdout.flush()  # before the output of the scripts
    return good


def packed(installed: Distribution, folder: Path) -> Path:
    """Packs an installed package as a wheel again. The same files give the same wheel.

    See https://packaging.python.org/en/latest/specifications/binary-distribution-format/.

    Raises:
        SettingsError: the package does not know its files.
    """
    files = {
        str(path): Path(str(installed.locate_file(path))).read_bytes()
        for path in sorted(installed.files or (), key=str)
        if path.suffix != ".pyc" and not str(path).startswith("..") and path.name not in _MADE_BY_THE_INSTALLER
    }
    info = next((name.partition("/")[0] for name in files if name.endswith(".dist-info/WHEEL")), None)
    if info is None:
        raise SettingsError(f"the installed {PACKAGE} has no list of its files: install it again with pip")
    lines = [f"{name},sha256={_digest(data)},{len(data)}" for name, data in files.items()]
    files[f"{info}/RECORD"] = "\n".join([*lines, f"{info}/RECORD,,", ""]).encode()
    wheel = folder / f"{info.removesuffix('.dist-info')}-py3-none-any.whl"
    with ZipFile(wheel, "w", ZIP_DEFLATED) as archive:
        for name, data in files.items():
            entry = ZipInfo(name)  # its time is 1980-01-01
            entry.external_attr = 0o644 << 16
            entry.compress_type = ZIP_DEFLATED
            archive.writestr(entry, data)
    return wheel


def _digest(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
