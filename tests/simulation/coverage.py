"""Measures what the simulation runs of the engine: ``python -m tests.simulation.coverage --seeds 2000``, or, in less
time, ``--seeds 9000 --each 30``.

Prints the statements and branches of each file that the runs have met, and each gap: statements that no run has met, or
a way out of a statement. A gap that ``unmet.py`` gives a reason for counts apart.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from coverage import Coverage

from tests.simulation.scenario import LATER_RARITIES, RARITIES, Scenario
from tests.simulation.unmet import UNMET

ROOT = Path(__file__).resolve().parents[2]

MEASURED = (
    "cloud_adapter/engine/*",
    "cloud_adapter/document.py",
    "cloud_adapter/document_size.py",
    "cloud_adapter/stores/search.py",
    "workflow_core/compact.py",
    "workflow_core/events.py",
    "workflow_core/execution.py",
    "workflow_core/machine/*",
    "workflow_core/program/cases.py",
    "workflow_core/program/code.py",
    "workflow_core/program/program.py",
    "workflow_core/retry.py",
    "workflow_core/wait_types.py",
    "workflow_core/workflow.py",
)
"""The engine, the machine, and what these two use while they run. What is used at definition time only is left out."""

UNMEASURED = ("cloud_adapter/engine/permissions.py",)
"""No request of the simulation has a principal. ``tests/engine/test_permission_properties.py`` compares these decisions
with an oracle."""

CHUNK = 25
"""Scenarios that one process runs at a time."""

PLAIN_EACH = 4
"""One seed in so many runs with plain definitions, too."""


@dataclass(frozen=True, slots=True)
class Gap:
    """Consecutive statements that no run has met, or one way out of a statement.

    Attributes:
        code: the text of the first line; for a way out, of the statement that it leaves.
        statements, branches: how many are missed in it.
        way: for a way out, the number of the line that it leads to, or the end of the function, in text; else empty.
    """

    path: str
    function: str
    first: int
    last: int
    code: str
    statements: int
    branches: int
    way: str = ""

    @property
    def reason(self) -> str | None:
        """Why it is left; None if nobody has said so."""
        return UNMET.get((self.path, self.function, self.code))

    def __str__(self) -> str:
        lines = f"{self.first}" if self.first == self.last else f"{self.first}-{self.last}"
        return f"    {lines}{self.way} in {self.function or 'the module'}: {self.code}"


def record(folder: str, scenarios: Sequence[Scenario]) -> int:
    """Runs scenarios, and keeps what they have met in a file of the folder. Gives how many have failed."""
    coverage = Coverage(
        os.path.join(folder, "data"),
        data_suffix=True,
        branch=True,
        include=MEASURED,
        omit=UNMEASURED,
        config_file=False,
    )
    coverage.start()
    from tests.simulation.failures import prepare, run  # imports are measured too

    prepare(None)
    failures = sum(run(scenario) is not None for scenario in scenarios)
    coverage.stop()
    coverage.save()
    return failures


def measure(seeds: Sequence[int], jobs: int) -> dict[str, Any]:
    """The report of ``coverage`` on these seeds."""
    os.chdir(ROOT)
    scenarios = [Scenario(seed) for seed in seeds]
    scenarios += [Scenario(seed, is_plain=True) for seed in seeds[::PLAIN_EACH]]
    chunks = [scenarios[at : at + CHUNK] for at in range(0, len(scenarios), CHUNK)]
    with TemporaryDirectory() as folder:
        with multiprocessing.get_context("spawn").Pool(jobs, maxtasksperchild=1) as pool:
            failures = sum(pool.imap_unordered(partial(record, folder), chunks, chunksize=1))
        if failures:
            print(f"{failures} seeds fail: see python -m tests.simulation")
        coverage = Coverage(os.path.join(folder, "data"), branch=True, config_file=False)
        coverage.combine()
        coverage.json_report(outfile=os.path.join(folder, "report.json"))
        files: dict[str, Any] = json.loads(Path(folder, "report.json").read_text())["files"]
        return files


def gaps(path: str, file: dict[str, Any]) -> Iterator[Gap]:
    """The gaps in a file, from top to bottom."""
    source = (ROOT / path).read_text().splitlines()
    for function, part in sorted(file["functions"].items(), key=lambda item: item[1].get("start_line", 0)):
        missed = set(part["missing_lines"])
        known = sorted(missed | set(part["executed_lines"]))
        found = [list(lines) for is_missed, lines in groupby(known, missed.__contains__) if is_missed]
        branches = part["missing_branches"]
        for lines in found:
            inside = sum(start in lines or (start not in missed and end in lines) for start, end in branches)
            yield Gap(path, function, lines[0], lines[-1], source[lines[0] - 1].strip(), len(lines), inside)
        for start, end in branches:
            if start not in missed and end not in missed:
                way = f" -> {end}" if end > 0 else " -> the end"
                yield Gap(path, function, start, start, source[start - 1].strip(), 0, 1, way)


def some_of_each(seeds: Sequence[int], count: int) -> list[int]:
    """The first seeds, until so many have each rarer condition and each later shape: they meet almost as much as all
    do."""
    from tests.simulation.definitions import LATER, LATER_SHAPES, shape_of  # not where imports are measured
    from tests.simulation.settings import Settings

    chosen: list[int] = []
    counts: Counter[str] = Counter()
    known = (*RARITIES, *LATER_RARITIES, *(shape.__name__ for shape in LATER_SHAPES))
    for seed in seeds:
        if all(counts[condition] >= count for condition in known):
            break
        scenario = Scenario(seed)
        conditions = scenario.rarities
        if seed >= LATER and (shape := shape_of(scenario, Settings(scenario))) in LATER_SHAPES:
            conditions.append(shape.__name__)
        if any(counts[one] < count for one in conditions):
            counts.update(conditions)
            chosen.append(seed)
    return chosen


def show(files: dict[str, Any], *, every: bool) -> None:
    """Prints the report; ``every`` with the gaps that have a reason."""
    known = dict.fromkeys(UNMET, 0)
    left_out: dict[str, Counter[str]] = defaultdict(Counter)
    names = ("num_statements", "covered_lines", "num_branches", "covered_branches")
    totals = dict.fromkeys(names, 0)
    for path, file in sorted(files.items()):
        summary = file["summary"]
        totals = {name: totals[name] + summary[name] for name in names}
        print(f"{path}: {_rates(summary)}")
        for gap in gaps(path, file):
            if gap.reason is not None:
                known[gap.path, gap.function, gap.code] += 1
                left_out[gap.reason] += Counter(gaps=1, statements=gap.statements, branches=gap.branches)
            if every or gap.reason is None:
                print(gap, f"({gap.reason})" if gap.reason else "")
    print(f"\nall: {_rates(totals)}")
    for reason, counts in sorted(left_out.items()):
        totals["num_statements"] -= counts["statements"]
        totals["num_branches"] -= counts["branches"]
        print(f"    left out: {counts['statements']} statements and {counts['branches']} branches: {reason}")
    print(f"without the {sum(known.values())} gaps that have a reason: {_rates(totals)}")
    for place in (place for place, count in known.items() if not count):
        print(f"no gap any more: {place}")


def _rates(summary: dict[str, int]) -> str:
    def rate(part: int, whole: int) -> str:
        return f"{part} of {whole} ({100 * part / whole if whole else 100:.1f} %)"

    statements = rate(summary["covered_lines"], summary["num_statements"])
    return f"statements {statements}, branches {rate(summary['covered_branches'], summary['num_branches'])}"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.coverage", description=__doc__)
    parser.add_argument("--seeds", type=int, default=400, help="how many to run")
    parser.add_argument("--first", type=int, default=0, help="the first one")
    parser.add_argument("--rare", action="store_true", help="only those of them that have rarer conditions")
    parser.add_argument("--each", type=int, help="only so many of them with each rarer condition")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="how many processes")
    parser.add_argument("--all", action="store_true", help="print the gaps that have a reason, too")
    given = parser.parse_args(arguments)
    seeds = range(given.first, given.first + given.seeds)
    chosen: Sequence[int] = [seed for seed in seeds if Scenario(seed).is_rare] if given.rare else seeds
    if given.each is not None:
        chosen = some_of_each(chosen, given.each)
    print(f"{len(chosen)} seeds")
    show(measure(chosen, given.jobs), every=given.all)
    return 0


if __name__ == "__main__":
    sys.exit(main())
