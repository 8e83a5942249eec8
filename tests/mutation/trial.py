"""One trial of a mutant: the tests that cover it, then seeds of the simulation, in a copy of the project."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from tests.mutation.coverage_map import CoverageMap
from tests.mutation.mutants import Mutant

COPIED = (
    "workflow_core",
    "cloud_adapter",
    "functions",
    "tests",
    "benchmarks",
    "deploy",
    "docs",
    "pyproject.toml",
    "README.md",
)
"""The contents of a copy. Mutants are applied only there, so the project itself never changes."""

TESTS_MAX = 400
"""How many tests one mutant is tried on, the fastest first: a line of the machine's loop is run by nearly all."""

SIMULATED = ("workflow_core/machine", "cloud_adapter/engine")
"""The folders whose code runs in the simulation; it has a store and a queue of its own."""

_TRIAL_SECONDS_MAX = 600


class Fate(StrEnum):
    """What became of a mutant."""

    KILLED = "killed"
    """A test failed."""
    KILLED_BY_SIMULATION = "killed by the simulation"
    HUNG = "hung"
    """The tests did not end. That counts as killed."""
    UNCOVERED = "uncovered"
    """No test runs the line, and the simulation found nothing."""
    SURVIVED = "survived"


@dataclass(frozen=True, slots=True)
class Trial:
    """The result of one trial.

    Attributes:
        by: the test that failed, or what the simulation said.
        tests: how many tests were tried.
    """

    mutant: Mutant
    fate: Fate
    by: str = ""
    tests: int = 0

    @property
    def killed(self) -> bool:
        """Whether a test or the simulation found the mutant."""
        return self.fate in (Fate.KILLED, Fate.KILLED_BY_SIMULATION, Fate.HUNG)


class Copy:
    """A copy of the project, in which one mutant at a time is tried."""

    def __init__(self, root: Path, folder: Path) -> None:
        self.root = root
        self.folder = folder
        for name in COPIED:
            source = root / name
            copy: Callable[..., object] = shutil.copytree if source.is_dir() else shutil.copy2
            copy(source, folder / name)

    def try_mutant(self, mutant: Mutant, covered: CoverageMap, seeds: int) -> Trial:
        """Applies a mutant, runs what could find it, and takes it back."""
        file = self.folder / mutant.path
        source = (self.root / mutant.path).read_bytes()
        file.write_bytes(mutant.applied_to(source))
        try:
            return self._try(mutant, covered.covering(mutant.path, range(mutant.line, mutant.last_line + 1)), seeds)
        finally:
            file.write_bytes(source)

    def _try(self, mutant: Mutant, tests: Sequence[str], seeds: int) -> Trial:
        tried = tests[:TESTS_MAX]
        if tried:
            options = ["-x", "-q", "-n", "0", "-p", "no:cacheprovider", "--timeout", "60", "--no-header"]
            result = self._run(["pytest", *options, *tried])
            if result is None:
                return Trial(mutant, Fate.HUNG, tests=len(tried))
            if result.returncode != 0:
                return Trial(mutant, Fate.KILLED, _failed_test(result.stdout), len(tried))
        if seeds and mutant.path.startswith(SIMULATED):
            result = self._run(["tests.simulation", "--jobs", "1", "--seeds", str(seeds)])
            if result is None:
                return Trial(mutant, Fate.HUNG, "the simulation", len(tried))
            if result.returncode != 0:
                lines = (result.stdout + result.stderr).strip().splitlines() or [""]
                return Trial(mutant, Fate.KILLED_BY_SIMULATION, lines[0], len(tried))
        return Trial(mutant, Fate.SURVIVED if tried else Fate.UNCOVERED, tests=len(tried))

    def _run(self, module: Sequence[str]) -> subprocess.CompletedProcess[str] | None:
        """Runs a module in the copy; None if it does not end in time."""
        environment = os.environ | {"PYTHONPATH": str(self.folder), "PYTHONDONTWRITEBYTECODE": "1"}
        try:
            return subprocess.run(
                [sys.executable, "-m", *module],
                cwd=self.folder,
                env=environment,
                capture_output=True,
                text=True,
                check=False,
                timeout=_TRIAL_SECONDS_MAX,
            )
        except subprocess.TimeoutExpired:
            return None


def _failed_test(output: str) -> str:
    lines = [line for line in output.splitlines() if line.startswith(("FAILED ", "ERROR "))]
    return lines[0].split(" ", 1)[1].split(" - ")[0] if lines else output.strip()[-200:]
