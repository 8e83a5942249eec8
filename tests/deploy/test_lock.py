"""The locks: what is deployed is pinned by hashes, complete, and within the bounds of pyproject.toml."""

from __future__ import annotations

import re
import subprocess
import tomllib
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"


def pinned(lock: str = "requirements.lock") -> dict[str, str]:
    """The versions of a lock, by name."""
    pairs = re.findall(r"^([\w.-]+)==(\S+)", (DEPLOY / lock).read_text(), re.MULTILINE)
    return {canonicalize_name(name): version for name, version in pairs}


def closure(requirements: list[str], extras: frozenset[str] = frozenset()) -> dict[str, list[Requirement]]:
    """All that the requirements require, by name, as the installed packages tell."""
    found: dict[str, list[Requirement]] = {}
    todo = [(Requirement(text), extras) for text in requirements]
    while todo:
        requirement, extras = todo.pop()
        if requirement.marker is not None and not any(
            requirement.marker.evaluate({"extra": extra}) for extra in extras or {""}
        ):
            continue
        known = found.setdefault(canonicalize_name(requirement.name), [])
        if requirement in known:
            continue
        known.append(requirement)
        try:
            todo += [(Requirement(text), frozenset(requirement.extras)) for text in requires(requirement.name) or []]
        except PackageNotFoundError:
            raise AssertionError(f"{requirement.name} is not installed: pip install -e '.[test]'") from None
    return found


def test_the_lock_pins_all_that_the_package_requires() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    versions = pinned()
    required = project["dependencies"] + project["optional-dependencies"]["postgresql"]
    for name, requirements in closure(required).items():
        assert name in versions, f"{name} is not in requirements.lock: run deploy/lock.sh"
        for requirement in requirements:
            assert requirement.specifier.contains(versions[name], prereleases=True), (
                f"requirements.lock has {name} {versions[name]}, but {requirement} is required: run deploy/lock.sh"
            )


def test_the_lock_has_what_the_cloud_backend_imports() -> None:
    assert {"google-cloud-firestore", "google-cloud-tasks", "pyjwt", "cryptography"} <= set(pinned())


@pytest.mark.parametrize("lock", ["requirements.lock", "build.lock"])
def test_no_file_is_installed_that_was_not_there_when_the_lock_was_made(lock: str) -> None:
    comment, option, *requirements = (DEPLOY / lock).read_text().replace("\\\n", "").splitlines()
    assert comment.startswith("#")
    assert option == "--only-binary :all:", "a source distribution would run unpinned code to build itself"
    for requirement in filter(None, requirements):
        assert re.fullmatch(r"[\w.-]+==\S+( +--hash=sha256:[0-9a-f]{64})+", requirement), requirement


def test_the_wheel_is_built_with_the_locked_packages() -> None:
    build = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"]
    versions = pinned("build.lock")
    for requirement in map(Requirement, build):
        assert requirement.specifier.contains(versions[canonicalize_name(requirement.name)])


def test_the_checks_run_on_the_versions_of_the_lock() -> None:
    """pip requires the hashes of everything once a constraint has some, so .ci/run drops them."""
    (command,) = re.findall(r"^sed .*(?= >)", (ROOT / ".ci" / "run").read_text(), re.MULTILINE)
    lines = subprocess.run(["bash", "-c", command], check=True, capture_output=True, text=True, cwd=ROOT).stdout
    assert {canonicalize_name(name): version for name, version in re.findall(r"(.+)==(.+)\n", lines)} == pinned()
    assert len(lines.splitlines()) == len(pinned())
