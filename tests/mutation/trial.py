"""One trial of a mutant: the tests that cover it, then seeds of the simulation, in a copy of the project."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path

from _pytest.outcomes import Skipped

from tests import postgresql
from tests.mutation.coverage_map import CoverageMap, emulated
from tests.mutation.mutants import Mutant
from tests.mutation.warm import OPTIONS, READY, SECONDS_MAX, Reply, Request

COPIED = (
    "workflow_core",
    "cloud_adapter",
    "gorchestrate",
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

PARAMETERS_FIRST = 2
"""How many cases of a parametrized test come before other tests: the other cases seldom find more."""

SIMULATED = ("workflow_core/machine", "cloud_adapter/engine")
"""The folders whose code runs in the simulation; it has a store and a queue of its own."""


class Fate(StrEnum):
    """What became of a mutant."""

    KILLED = "killed"
    """A test failed, or the simulation."""
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
        return self.fate in (Fate.KILLED, Fate.HUNG)


class Copy:
    """A copy of the project, in which one mutant at a time is tried. Close it at the end."""

    def __init__(self, root: Path, folder: Path) -> None:
        self.root = root
        self.folder = folder
        for name in COPIED:
            source = root / name
            copy: Callable[..., object] = shutil.copytree if source.is_dir() else shutil.copy2
            copy(source, folder / name)
        self._server = ExitStack()
        self._environment = self._with_server()
        self._warm = self._start("tests.mutation.warm", stdin=subprocess.PIPE)
        assert self._warm.stdout is not None
        if self._warm.stdout.readline().strip() != READY:
            raise SystemExit("the tests cannot be collected; see the error above")
        self._sound: set[str] = set()
        self._unsound: set[str] = set()
        self._killers: dict[str, Counter[str]] = {}

    def close(self) -> None:
        """Ends the process that has the tests."""
        assert self._warm.stdin is not None
        self._warm.stdin.close()
        self._warm.wait()
        self._server.close()

    def _with_server(self) -> dict[str, str]:
        """Starts the PostgreSQL server of all trials: a trial that a test ends would leave one of its own behind."""
        try:
            server = self._server.enter_context(postgresql.running())
        except Skipped as error:
            sys.stderr.write(f"mutants of stores/postgresql are not found: {error}\n")
            return {}
        return {postgresql.SERVER_VARIABLE: f"{server.port}:{server.folder}"}

    def try_mutant(self, mutant: Mutant, covered: CoverageMap, seeds: int) -> Trial:
        """Applies a mutant, runs what could find it, and takes it back."""
        file = self.folder / mutant.path
        source = (self.root / mutant.path).read_bytes()
        file.write_bytes(mutant.applied_to(source))
        try:
            return self._try(mutant, source.decode(), covered, seeds)
        finally:
            file.write_bytes(source)

    def _try(self, mutant: Mutant, source: str, covered: CoverageMap, seeds: int) -> Trial:
        lines = range(mutant.line, mutant.last_line + 1)
        tests = self._likely_first(mutant.path, covered.covering(mutant.path, lines))[:TESTS_MAX]
        seeds = seeds if mutant.path.startswith(SIMULATED) else 0
        reply = self._ask_tests(mutant.path, source, tests)
        if reply.end == "passed" and seeds:
            reply = self._ask(Request(mutant.path, source, (), seeds))
        if reply.by in tests:
            self._killers.setdefault(mutant.path, Counter())[_file_of(reply.by)] += 1
        if reply.end == "unable" or (reply.end == "passed" and covered.imported(mutant.path, lines)):
            reply = self._afresh(tests, seeds)
        fate = {"failed": Fate.KILLED, "hung": Fate.HUNG}.get(reply.end, Fate.SURVIVED if tests else Fate.UNCOVERED)
        return Trial(mutant, fate, reply.by, len(tests))

    def _likely_first(self, path: str, tests: Sequence[str]) -> Sequence[str]:
        """Puts the tests first that have found most mutants of the file, with those beside them, then those that are
        named after it."""
        killers: Mapping[str, int] = self._killers.get(path, {})
        stem = Path(path).stem
        ranks: Counter[str] = Counter()
        few: dict[str, bool] = {}
        for test in tests:
            function = test.partition("[")[0]
            ranks[function] += 1
            few[test] = ranks[function] <= PARAMETERS_FIRST
        return sorted(
            tests, key=lambda test: (not few[test], -killers.get(_file_of(test), 0), stem not in _file_of(test))
        )

    def _ask_tests(self, path: str, source: str, tests: Sequence[str]) -> Reply:
        """Tries tests on the change. One that fails must pass without the change; otherwise it does not count."""
        while tests := tuple(test for test in tests if test not in self._unsound):
            reply = self._ask(Request(path, source, tests, 0))
            if reply.by not in tests or reply.by in self._sound:
                return reply
            file = self.folder / path
            changed = file.read_bytes()
            file.write_text(source)
            again = self._ask(Request(path, source, tests, 0, last=reply.by))
            file.write_bytes(changed)
            passes = again.by != reply.by
            (self._sound if passes else self._unsound).add(reply.by)
            if passes:
                return reply
            sys.stderr.write(f"left out: {reply.by} fails without a change\n{again.error}\n")
        return Reply("passed")

    def _ask(self, request: Request) -> Reply:
        """Tries the change in a child of the process that has the tests."""
        assert self._warm.stdin is not None and self._warm.stdout is not None
        self._warm.stdin.write(f"{json.dumps(asdict(request))}\n")
        self._warm.stdin.flush()
        reply = self._warm.stdout.readline()
        if not reply:
            raise SystemExit("the process that has the tests has ended; see its error above")
        return Reply(**json.loads(reply))

    def _afresh(self, tests: Sequence[str], seeds: int) -> Reply:
        """Tries the change in processes that import the changed file."""
        commands = [["pytest", "-x", *OPTIONS, *tests]] if tests else []
        if seeds:
            commands.append(["tests.simulation", "--jobs", "1", "--seeds", str(seeds)])
        for command in commands:
            with self._start(*command, stderr=subprocess.STDOUT) as process:
                try:
                    output, _ = process.communicate(timeout=SECONDS_MAX)
                except subprocess.TimeoutExpired:
                    process.kill()
                    return Reply("hung", command[0])
            if process.returncode != 0:
                return Reply("failed", _failed_test(output))
        return Reply("passed")

    def _start(self, *module: str, stdin: int | None = None, stderr: int | None = None) -> subprocess.Popen[str]:
        environment = os.environ | {"PYTHONPATH": str(self.folder), "PYTHONDONTWRITEBYTECODE": "1"}
        environment |= self._environment | emulated(module)
        return subprocess.Popen(
            [sys.executable, "-m", *module],
            cwd=self.folder,
            env=environment,
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        )


def _file_of(test: str) -> str:
    return test.partition("::")[0]


def _failed_test(output: str) -> str:
    lines = [line for line in output.splitlines() if line.startswith(("FAILED ", "ERROR ", "seed "))]
    return lines[0].removeprefix("FAILED ").split(" - ")[0] if lines else output.strip()[-200:]
