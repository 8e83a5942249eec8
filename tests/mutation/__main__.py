"""Mutation testing: ``python -m tests.mutation --sample 400``.

Makes small changes to the product, one at a time, and sees whether a test fails: first the tests that run the changed
line, then some hundred seeds of the simulation. Prints the score of each room, and each mutant that survives as a diff.
Every change is made in a copy of the project. A mutant takes some seconds, one that survives a minute. ``--first`` and
``--count`` run a part of a sample.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack, closing, contextmanager
from itertools import islice
from pathlib import Path
from queue import SimpleQueue
from tempfile import TemporaryDirectory

from tests.firestore_emulator import running
from tests.mutation.coverage_map import EMULATOR, ROOMS, CoverageMap, coverage_map
from tests.mutation.equivalents import reason_for
from tests.mutation.mutants import Mutant, mutants_of
from tests.mutation.trial import Copy, Trial

ROOT = Path(__file__).resolve().parents[2]


def mutants(modules: Sequence[str]) -> list[Mutant]:
    """The mutants of the rooms, or of the files whose path contains one of ``modules``."""
    paths = [str(path.relative_to(ROOT)) for room in ROOMS for path in sorted((ROOT / room).rglob("*.py"))]
    chosen = [path for path in paths if not modules or any(module in path for module in modules)]
    return [mutant for path in chosen for mutant in mutants_of(path, ROOT)]


def draw(every: Sequence[Mutant], count: int, seed: int) -> list[Mutant]:
    """So many of the mutants, at random. Each has a random place in the order, which other mutants do not change. The
    sample of changed code therefore has most of the mutants that the former one had."""
    sources = {path: (ROOT / path).read_bytes() for path in {mutant.path for mutant in every}}
    seen: Counter[bytes] = Counter()
    places: list[tuple[bytes, int, Mutant]] = []
    for number, mutant in enumerate(every):
        name = f"{seed} {mutant.path} {mutant.function} {mutant.operator}".encode()
        name += sources[mutant.path][mutant.start : mutant.end] + b" " + mutant.replacement
        seen[name] += 1
        places.append((hashlib.sha256(name + str(seen[name]).encode()).digest(), number, mutant))
    drawn = (mutant for _, _, mutant in sorted(places))
    return list(islice((mutant for mutant in drawn if mutant.compiles(sources[mutant.path])), count))


def trials(
    sample: Sequence[Mutant], covered: CoverageMap, seeds: int, jobs: int, minutes: float
) -> Iterator[tuple[int, Trial]]:
    """Tries each mutant, and gives its place in the sample. Those that the time does not suffice for are left out."""
    ends = time.monotonic() + 60 * minutes
    with TemporaryDirectory() as folder, ExitStack() as opened, ThreadPoolExecutor(jobs) as pool:
        copies: SimpleQueue[Copy] = SimpleQueue()
        for number in range(jobs):
            copies.put(opened.enter_context(closing(Copy(ROOT, Path(folder, str(number))))))

        def one_trial(mutant: Mutant) -> Trial | None:
            if time.monotonic() > ends:
                return None
            copy = copies.get()
            try:
                return copy.try_mutant(mutant, covered, seeds)
            finally:
                copies.put(copy)

        futures = {pool.submit(one_trial, mutant): place for place, mutant in enumerate(sample)}
        try:
            for future in as_completed(futures):
                if (trial := future.result()) is not None:
                    yield futures[future], trial
        finally:
            pool.shutdown(cancel_futures=True)


@contextmanager
def emulator() -> Iterator[None]:
    """Runs the emulator that the tests of the Firestore store need. Without its programs, they are not tried."""
    if shutil.which("gcloud") is None or shutil.which("java") is None:
        print("without the Firestore emulator: mutants of stores/firestore are not found")
        yield
        return
    with running() as host:
        os.environ[EMULATOR] = host
        yield


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=__doc__)
    parser.add_argument("--module", action="append", default=[], help="only files whose path contains this")
    parser.add_argument("--sample", type=int, default=400, help="how many mutants, drawn at random")
    parser.add_argument("--seed", type=int, default=0, help="of the draw")
    parser.add_argument("--first", type=int, default=0, help="the place in the sample to begin at")
    parser.add_argument("--count", type=int, help="how many mutants of the sample to try; by default, all that follow")
    parser.add_argument("--seeds", type=int, default=200, help="of the simulation, for each mutant that tests let pass")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="how many processes")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="begin no trial after that time")
    parser.add_argument(
        "--recorded",
        action="store_true",
        help="use the coverage recorded last, though code or tests have changed since",
    )
    given = parser.parse_args(arguments)
    every = mutants(given.module)
    sample = draw(every, given.sample, given.seed)
    part = sample[given.first :][: given.count]
    print(f"{len(part)} of a sample of {len(sample)} of {len(every)} mutants", flush=True)
    equivalent = {mutant: reason for mutant in part if (reason := reason_for(mutant, ROOT)) is not None}
    tried = [mutant for mutant in part if mutant not in equivalent]
    print("recording which tests run each line, if that is not known", flush=True)
    done: list[Trial] = []
    with emulator():
        covered = coverage_map(ROOT, given.jobs, recorded=given.recorded)
        for place, trial in trials(tried, covered, given.seeds, given.jobs, given.minutes):
            done.append(trial)
            number = given.first + part.index(tried[place])
            print(f"{number}: {trial.fate.value}: {trial.mutant.path}:{trial.mutant.line} {trial.by}", flush=True)
            if not trial.killed:
                print(trial.mutant.diff((ROOT / trial.mutant.path).read_bytes()), flush=True)
    report(done)
    for mutant, reason in equivalent.items():
        print(f"equivalent: {mutant.path}:{mutant.line}: {reason}")
    return 0


def report(done: Sequence[Trial]) -> None:
    """Prints the score of each room."""
    room_of = {trial: next(room for room in ROOMS if trial.mutant.path.startswith(room)) for trial in done}
    tried, killed = Counter(room_of.values()), Counter(room_of[trial] for trial in done if trial.killed)
    for room in sorted(tried):
        print(f"{room}: {killed[room]} of {tried[room]} killed, {killed[room] / tried[room]:.1%}")
    print(f"all: {killed.total()} of {tried.total()} killed; {dict(Counter(trial.fate.value for trial in done))}")


if __name__ == "__main__":
    sys.exit(main())
