"""requirements.lock: what is deployed is pinned, complete, and within the bounds of pyproject.toml."""

from __future__ import annotations

import tomllib
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]


def pinned() -> dict[str, str]:
    """The versions of the lock, by name."""
    lines = (ROOT / "deploy" / "requirements.lock").read_text().splitlines()
    pairs = [line.split("==") for line in lines if not line.startswith("#")]
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
    for name, requirements in closure(project["dependencies"]).items():
        assert name in versions, f"{name} is not in requirements.lock: run deploy/lock.sh"
        for requirement in requirements:
            assert requirement.specifier.contains(versions[name], prereleases=True), (
                f"requirements.lock has {name} {versions[name]}, but {requirement} is required: run deploy/lock.sh"
            )


def test_the_lock_has_what_the_cloud_backend_imports() -> None:
    assert {"google-cloud-firestore", "google-cloud-tasks", "pyjwt", "cryptography"} <= set(pinned())
