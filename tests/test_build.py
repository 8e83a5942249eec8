"""What a release consists of: the wheel and the sdist."""

from __future__ import annotations

import os
import re
import tarfile
from email import message_from_bytes
from email.message import Message
from pathlib import Path
from zipfile import ZipFile

import pytest
from hatchling import build

import gorchestrate
from tests.cli.processes import ROOT


def _built(source: Path, target: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """The files that a folder of the sources becomes, by name."""
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    monkeypatch.chdir(source)
    target.mkdir()
    for make in (build.build_sdist, build.build_wheel):
        make(str(target))
    return {file.name: file.read_bytes() for file in target.iterdir()}


@pytest.mark.slow
def test_the_same_sources_give_the_same_files_from_a_clone_and_from_an_sdist(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from_clone = _built(ROOT, tmp_path / "from_clone", monkeypatch)
    name = f"gorchestrate-{gorchestrate.__version__}"
    assert set(from_clone) == {f"{name}.tar.gz", f"{name}-py3-none-any.whl"}

    with tarfile.open(tmp_path / "from_clone" / f"{name}.tar.gz") as archive:
        archive.extractall(tmp_path, filter="data")
    for path in (tmp_path / name).rglob("*"):  # as with another umask, at another time
        path.chmod(path.stat().st_mode & 0o700)
        os.utime(path, (1_800_000_000, 1_800_000_000))
    from_sdist = _built(tmp_path / name, tmp_path / "from_sdist", monkeypatch)
    assert {name for name in from_clone if from_clone[name] != from_sdist.get(name)} == set()

    metadata = _metadata(tmp_path / "from_clone" / f"{name}-py3-none-any.whl")
    assert (metadata["Version"], metadata["License-Expression"]) == (gorchestrate.__version__, "Apache-2.0")
    description = str(metadata.get_payload())
    assert description.startswith("# gorchestrate\n")
    assert not re.search(r"\]\((?!https?:)", description), "a link that only works in the repository"


def _metadata(wheel: Path) -> Message:
    with ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        return message_from_bytes(archive.read(name))


def test_the_changelog_begins_with_this_version() -> None:
    headings = re.findall(r"^## (.*)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert headings[0] == "Unreleased"
    assert re.fullmatch(rf"{re.escape(gorchestrate.__version__)} \(\d{{4}}-\d\d-\d\d\)", headings[1])
