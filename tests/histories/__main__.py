"""Checks histories of real processes for as long as you like: ``python -m tests.histories --minutes 60``."""

from __future__ import annotations

import argparse
import asyncio
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from tests.histories.backends import BACKENDS
from tests.histories.disturbances import DISTURBANCES
from tests.histories.rounds import Report, run


def kinds_of(seed: int, available: Sequence[str]) -> Sequence[str]:
    """What disturbs a round: two kinds, or all; wrong clocks only in some, since less can be checked then."""
    rng = random.Random(f"kinds {seed}")
    return list(available) if rng.random() < 0.3 else rng.sample(available, 2)


async def explore(backend: str, minutes: float, seconds: float, seed: int, folder: Path) -> Sequence[Report]:
    """Runs rounds until the time is up, or one finds something."""
    until, reports = time.monotonic() + 60 * minutes, list[Report]()
    while time.monotonic() < until:
        site_folder = folder / f"site-{len(reports)}"
        site_folder.mkdir()
        async with BACKENDS[backend].running(site_folder) as site:
            available = [kind for kind in DISTURBANCES if kind != "disk" or site.disks]
            for _ in range(BACKENDS[backend].rounds):
                report = await run(site, seconds, seed, kinds_of(seed, available))
                reports.append(report)
                print(report, flush=True)
                if report.violations:
                    print("\n".join(report.violations), flush=True)
                    print(f"the output of the processes is in {site_folder}")
                    return reports
                if time.monotonic() > until:
                    break
                seed += 1
        shutil.rmtree(site_folder)
    return reports


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.histories", description=__doc__)
    parser.add_argument("--backend", choices=sorted(BACKENDS), default="sqlite")
    parser.add_argument("--minutes", type=float, default=5, help="how long")
    parser.add_argument("--seconds", type=float, default=12, help="how long clients work in a round")
    parser.add_argument("--seed", type=int, default=0, help="of the first round; the next ones count on from it")
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="histories-"))
    reports = asyncio.run(explore(given.backend, given.minutes, given.seconds, given.seed, folder))
    disturbances = sum((Counter(report.disturbances) for report in reports), Counter[str]())
    print(
        f"{len(reports)} rounds, {sum(report.instances for report in reports)} instances, "
        f"{sum(report.operations for report in reports)} operations, {sum(report.lost for report in reports)} answers "
        f"lost, {sum(report.steps for report in reports)} runs of steps, {dict(disturbances)}"
    )
    if any(report.violations for report in reports):
        return 1
    shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
