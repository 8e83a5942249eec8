"""Which tests run each line of the product, recorded once for each state of the code and kept in ``.mutation/``."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from coverage import CoverageData

from cloud_adapter.variables import FIRESTORE_EMULATOR_VARIABLE
from tests.mutation.recording import SECONDS_FILE

ROOMS = ("workflow_core/machine", "cloud_adapter/engine", "cloud_adapter/stores", "cloud_adapter/queues")
"""The folders that are mutated."""

SUITES = ("tests/core", "tests/plain", "tests/engine", "tests/contract", "tests/hosting", "tests/http", "tests/cli")
"""The tests that may find a mutant. Each is recorded in a process of its own."""

EMULATED = ("tests/contract/test_firestore_store.py", "tests/contract/test_firestore_shards.py")
"""Slow tests that may find a mutant too: those of the store on Firestore, if there is an emulator."""

EMULATOR = "MUTATION_FIRESTORE_EMULATOR"
"""The environment variable with the emulator's host and port. The tests that need it get it by its usual name; others
would fail with it."""

_CONFIG = """[run]
source = workflow_core,cloud_adapter
concurrency = thread
core = ctrace
relative_files = true
"""


@dataclass(frozen=True, slots=True)
class CoverageMap:
    """Which tests run each line.

    Attributes:
        tests: for each file, and each line of it, the ids of the tests that run it; an empty one if the line runs when
            the tests are imported.
        seconds: how long each test takes.
    """

    tests: dict[str, dict[int, list[str]]]
    seconds: dict[str, float]

    def covering(self, path: str, lines: Iterable[int]) -> list[str]:
        """The tests that run one of the lines, the fastest first. If none does, the lines may run when the file is
        imported, as the defaults of fields do: then all tests that run any line of the file."""
        of_file = self.tests.get(path, {})
        found = {test for line in lines for test in of_file.get(line, ()) if test}
        found = found or {test for tests in of_file.values() for test in tests if test}
        return sorted(found, key=lambda test: (self.seconds.get(test, 0.0), test))

    def imported(self, path: str, lines: Iterable[int]) -> bool:
        """Whether one of the lines runs when the tests are imported."""
        of_file = self.tests.get(path, {})
        return any("" in of_file.get(line, ()) for line in lines)


def coverage_map(root: Path, jobs: int, *, recorded: bool = False) -> CoverageMap:
    """The map of the code as it is now; takes some minutes if it is not recorded yet.

    Args:
        recorded: use the map that was recorded last, even if the code or its tests have changed since.

    Raises:
        SystemExit: a suite fails without any change, or there is no map to use.
    """
    if recorded:
        done = sorted((root / ".mutation").glob("*/done"), key=lambda file: file.stat().st_mtime)
        if not done:
            raise SystemExit("no map is recorded; leave out --recorded")
        return _read(done[-1].parent)
    folder = root / ".mutation" / _state_of(root)
    if not (folder / "done").exists():
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "coveragerc").write_text(_CONFIG)
        suites = (*SUITES, *EMULATED) if EMULATOR in os.environ else SUITES
        with ThreadPoolExecutor(jobs) as pool:
            list(pool.map(lambda suite: _record(root, folder, suite), suites))
        (folder / "done").touch()
    return _read(folder)


def emulated(tests: Iterable[str]) -> dict[str, str]:
    """Returns the environment variables that tests need, if some of them need the emulator."""
    is_emulated = EMULATOR in os.environ and any(test.startswith(EMULATED) for test in tests)
    return {FIRESTORE_EMULATOR_VARIABLE: os.environ[EMULATOR]} if is_emulated else {}


def _state_of(root: Path) -> str:
    """A name for the state of the code and its tests."""
    digest = hashlib.sha256()
    for top in ("workflow_core", "cloud_adapter", "tests"):
        for path in sorted((root / top).rglob("*.py")):
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _record(root: Path, folder: Path, suite: str) -> None:
    """Records a suite, unless an earlier run has that was ended before it had recorded all."""
    name = suite.replace("/", "-")
    if (folder / f"{name}.done").exists():
        return
    options = [
        "-q",
        "-n",
        "0",
        "-m",
        "slow" if suite in EMULATED else "not slow",
        "-p",
        "tests.mutation.recording",
        "-p",
        "no:cacheprovider",
        "--timeout",
        "600",
    ]
    command = [
        sys.executable,
        "-m",
        "coverage",
        "run",
        f"--rcfile={folder}/coveragerc",
        "-m",
        "pytest",
        suite,
        *options,
    ]
    environment = os.environ | {
        "COVERAGE_FILE": str(folder / f"{name}.coverage"),
        SECONDS_FILE: str(folder / f"{name}.seconds.json"),
        "PYTHONPATH": str(root),
    }
    environment |= emulated([suite])
    result = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise SystemExit(f"{suite} fails as it is; fix it first:\n{result.stdout[-3000:]}{result.stderr[-1000:]}")
    (folder / f"{name}.done").touch()


def _read(folder: Path) -> CoverageMap:
    tests: dict[str, dict[int, list[str]]] = {}
    seconds: dict[str, float] = {}
    for suite in (*SUITES, *EMULATED):
        name = suite.replace("/", "-")
        if not (folder / f"{name}.coverage").exists():  # it was recorded without an emulator
            continue
        seconds |= json.loads((folder / f"{name}.seconds.json").read_text())
        data = CoverageData(str(folder / f"{name}.coverage"))
        data.read()
        for file in data.measured_files():
            if file.startswith(ROOMS):
                lines = tests.setdefault(file, {})
                for line, contexts in data.contexts_by_lineno(file).items():
                    lines.setdefault(line, []).extend(contexts)
    return CoverageMap(tests, seconds)
