"""``gorchestrate deploy``: runs the deployment scripts for a project, first without changing anything.

The scripts upload the wheel of gorchestrate with the project. In a clone of the repository, they build it. Otherwise,
the wheel is packed again from the installed files, so the code that was tested is the code that is deployed.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
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
    if not settings.is_file():
        raise SettingsError(f"settings file {settings} not found: copy {DEPLOY / 'settings.env.example'} and edit it")
    bash = shutil.which("bash")
    if bash is None:
        raise SettingsError(
            "bash not found: the deployment scripts need it. Deploy from Linux, macOS, WSL or Cloud Shell"
        )
    values = _values(settings)
    if values.get("PROJECT") == PLACEHOLDER:
        raise SettingsError(f"{settings}: PROJECT is still {PLACEHOLDER}: write the id of your Google Cloud project")
    if not (skip_check or rollback or _check(settings, values)):
        return 1
    options = [*([] if yes else ["--dry-run"]), *(["--skip-check"] if skip_check else [])]
    options += ["--rollback"] if rollback else []
    with tempfile.TemporaryDirectory(prefix="gorchestrate-wheel-") as folder:
        if not (rollback or (DEPLOY.parent / "pyproject.toml").is_file()):
            options += ["--wheel", str(packed(distribution(PACKAGE), Path(folder)))]
        # `gorchestrate check` must be the one of this environment.
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
        command = [bash, str(DEPLOY / "deploy.sh"), *options, str(settings)]
        return subprocess.run(command, env=os.environ | {"PATH": path}, check=False).returncode


def _values(settings: Path) -> dict[str, str]:
    """Returns the settings of a file. The scripts explain what is wrong with it."""
    lines = re.findall(r"^([A-Z_]+)=(.*?)\r?$", settings.read_text(encoding="utf-8", errors="replace"), re.MULTILINE)
    return {name: re.sub(r"""^(["'])(.*)\1$""", r"\2", value) for name, value in lines}


def _check(settings: Path, values: dict[str, str]) -> bool:
    """Checks the source of a deployment before anything is sent, so it needs no network. The scripts explain a source
    that does not exist.

    Returns:
        Whether it can be deployed.

    Raises:
        SettingsError: it lacks something, or its ``Service`` does not fit ACCESS.
    """
    base = settings.resolve().parent
    folder = (DEPLOY.parent if base == DEPLOY.resolve() else base) / values.get("SOURCE", "")
    source = Path(os.path.normpath(folder / "main.py"))
    if not source.is_file():
        return True

    def accept(served: Served) -> None:
        has_authenticators = bool(served.authentication.authenticators)
        if values.get("ACCESS") == "authenticated" and not has_authenticators:
            raise SettingsError(
                f"{settings}: ACCESS is authenticated, but the Service in {source} has no authenticators: pass "
                "authenticators=[...] to Service(...), or write ACCESS=open if everyone may do everything"
            )
        if values.get("ACCESS") == "open" and has_authenticators:
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
