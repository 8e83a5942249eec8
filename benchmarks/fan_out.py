"""Measures the throughput and the cost of a parallel ``ForEach`` over an activity.

    python benchmarks/fan_out.py [--backend embedded|emulators|both] [--rows 100,1000] [--limits 1,10,50] [--work 0.1]

Each case creates one instance with a number of rows. For each row, an activity sleeps for ``--work`` seconds
(``--sync``: blocks a thread), at most ``limit`` of them at once. Nothing else happens, so the ideal time is
rows / limit * work. The time is measured from the request that creates the instance to the commit that finishes it. An
instance with one row runs first to warm up and is not counted.

Each case runs in a separate process, with a new database and a new queue. On the backend ``embedded``, the whole
runtime is in this process. On ``emulators``, the process serves the worker over HTTP, while Google's Firestore emulator
and the Cloud Tasks emulator run in other processes, whose CPU time is separate. A case that does not finish within
``--timeout`` is reported as "never", with the number of completed rows. Cases whose goal exceeds ``--timeout`` are
skipped. On ``emulators``, one worker process handles all calls; in the cloud there may be many.

    calls, keys   calls of the activity's function, and the distinct idempotency keys that it received
    peak          maximum number of concurrent calls
    ratio         wall time / ideal time
    writes        commits, including the one that creates the instance
    posts         inbox entries written
    tasks         tasks created
    KB            written to the store, per row (sampled, see counting.py)
    CPU           milliseconds of CPU time per row (process_time, without the counting)
    queue, store  milliseconds of CPU time per row in the emulators of Cloud Tasks and Firestore

Goals: calls == keys == rows; peak <= limit; wall <= 1.3 x ideal + 1 s (emulators: 2 x ideal + 1 s). Exits with 1 if a
goal is missed.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import math
import os
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import uvicorn
from code_under_test import environment, find, root
from counting import count
from importing import Calls, import_workflow
from processes import (
    QUEUE_VARIABLE,
    STORE_VARIABLE,
    cpu_seconds,
    exit_on_sigterm,
    firestore_emulator,
    free_ports,
    tasks_emulator,
)

FACTORS = {"embedded": 1.3, "emulators": 2.0}
"""The maximum ratio of wall time to ideal time."""

SPARE_SECONDS = 1.0
"""The seconds that are added to the goal."""

LATE_SECONDS = 0.5
"""How long calls are still counted after the end."""

ENDED = ("finished", "failed", "canceled")

HARD_LIMIT_SECONDS = 30.0
"""A process that does not even report its timeout is killed after this time."""


@dataclass(frozen=True)
class Case:
    backend: str
    rows: int
    limit: int
    work: float
    sync: bool
    timeout: float

    @property
    def ideal(self) -> float:
        return math.ceil(self.rows / self.limit) * self.work

    @property
    def goal(self) -> float:
        return FACTORS[self.backend] * self.ideal + SPARE_SECONDS


@dataclass(frozen=True)
class Result:
    """The measurements. ``status`` is the status of the instance, or ``never``."""

    status: str
    done: int
    calls: int
    keys: int
    peak: int
    wall: float
    cpu: float
    queue_cpu: float
    store_cpu: float
    commits: int
    posts: int
    tasks: int
    bytes: int
    conflicts: int


# --- the process of one case -------------------------------------------------------------------------------------


async def measure(case: Case) -> None:
    """Runs a case and prints its result as JSON. Ends the process at the timeout."""
    runtime_class = find("EmbeddedRuntime" if case.backend == "embedded" else "CloudRuntime")
    calls, counts = Calls(), count(runtime_class)
    ended = asyncio.Event()
    latest: Any = None

    def on_commit(instance: Any) -> None:
        nonlocal latest
        latest = instance
        if instance.execution.status.value in ENDED:
            ended.set()

    def result(status: str) -> Result:
        return Result(
            status=status,
            done=0 if latest is None else json.loads(latest.fields)["done"],
            calls=calls.made,
            keys=len(calls.keys),
            peak=calls.peak,
            wall=time.perf_counter() - started,
            cpu=time.process_time() - cpu - counts.overhead_s,
            queue_cpu=cpu_seconds(QUEUE_VARIABLE) - queue_cpu,
            store_cpu=cpu_seconds(STORE_VARIABLE) - store_cpu,
            commits=counts.commits,
            posts=counts.posts,
            tasks=counts.tasks,
            bytes=counts.bytes,
            conflicts=counts.conflicts,
        )

    counts.on_commit = on_commit
    workflow = import_workflow(case.limit, case.work, calls, sync=case.sync)
    async with serving(runtime_class([workflow], find("Settings").load())) as engine:
        await engine.create("import", "warm-up", rows(1))
        await ended.wait()
        latest = None
        for what in (ended.clear, calls.reset, counts.reset):
            what()
        queue_cpu, store_cpu = cpu_seconds(QUEUE_VARIABLE), cpu_seconds(STORE_VARIABLE)
        started, cpu = time.perf_counter(), time.process_time()
        watch = watch_the_time(case.timeout, lambda: result("never"))
        await engine.create("import", "import-1", rows(case.rows))
        await ended.wait()
        watch.cancel()
        finished = result(latest.execution.status.value)
        # Calls whose results are no longer needed count too.
        await asyncio.sleep(case.work + LATE_SECONDS)
        leave(replace(finished, calls=calls.made, keys=len(calls.keys), peak=calls.peak))


def rows(count: int) -> bytes:
    """Returns the initial fields of an instance with that number of rows."""
    return json.dumps({"rows": list(range(count))}).encode()


def watch_the_time(seconds: float, result: Callable[[], Result]) -> threading.Timer:
    """Prints the result and ends this process after that time, even if the event loop is blocked."""
    timer = threading.Timer(seconds, lambda: leave(result()))
    timer.daemon = True
    timer.start()
    return timer


def leave(result: Result) -> None:
    """Prints the result and ends this process without waiting for running work."""
    print(json.dumps(asdict(result)), flush=True)
    os._exit(0)


@contextlib.asynccontextmanager
async def serving(runtime: Any) -> AsyncIterator[Any]:
    """Starts a runtime, and its worker if tasks are delivered over HTTP. Yields the engine."""
    await runtime.start()
    if runtime.settings.backend == "embedded":
        yield runtime.engine
        return
    worker = find("create_worker")(runtime.engine, find("OidcVerifier").from_settings(runtime.settings))
    with contextlib.suppress(ImportError):  # older versions do not have it
        find("collect_rarely")()  # as a service on Cloud Run does
    listener = find("listen")("127.0.0.1", int(runtime.settings.worker_url.rpartition(":")[2]))
    server = uvicorn.Server(uvicorn.Config(worker, http="h11", log_config=None, access_log=False, lifespan="off"))
    task = asyncio.create_task(server.serve(sockets=[listener]))
    yield runtime.engine
    server.should_exit = True
    await task


# --- the command -------------------------------------------------------------------------------------------------


def run(case: Case, variables: Mapping[str, str]) -> Result | str:
    """Runs a case in a separate process. Returns its result, or the reason why there is none."""
    with tempfile.TemporaryDirectory() as folder, backend(case, folder, variables) as more:
        command = [sys.executable, str(Path(__file__).resolve()), "--case", json.dumps(asdict(case))]
        try:
            done = subprocess.run(
                command,
                env={**environment(), **more},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=case.timeout + HARD_LIMIT_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return f"did not respond for {case.timeout + HARD_LIMIT_SECONDS:.0f} s and was killed"
        if done.returncode or not done.stdout:
            return f"exit code {done.returncode}: {done.stderr.strip()[-500:]}"
        return Result(**json.loads(done.stdout.splitlines()[-1]))


@contextlib.contextmanager
def backend(case: Case, folder: str, variables: Mapping[str, str]) -> Iterator[dict[str, str]]:
    """Yields the settings of a case, with a separate queue."""
    if case.backend == "embedded":
        yield {"GORCHESTRATE_DB": str(Path(folder) / "benchmark.db")}
        return
    with tasks_emulator() as tasks:
        (port,) = free_ports(1)
        # The project of the queue is fixed. The database differs, so that no case finds the instance of another case.
        database = f"case-{uuid.uuid4().hex[:12]}"
        worker = {"GORCHESTRATE_WORKER_URL": f"http://127.0.0.1:{port}", "GORCHESTRATE_DATABASE": database}
        yield {**variables, **tasks, **worker}


COLUMNS = (
    *("backend", "rows", "limit", "work s", "calls", "keys", "peak", "wall s", "ideal s", "ratio"),
    *("writes", "posts", "tasks", "KB/row", "conflicts", "CPU ms/row"),
    *("queue", "store", ""),
)
WIDTHS = (9, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 5, 6, 7, 9, 10, 5, 5, 0)


def line(values: tuple[object, ...]) -> str:
    cells = [f"{value!s:<{width}}" if i == 0 else f"{value!s:>{width}}" for i, (value, width) in _cells(values)]
    return "  ".join(cells).rstrip()


def _cells(values: tuple[object, ...]) -> Iterator[tuple[int, tuple[object, int]]]:
    return enumerate(zip(values, WIDTHS, strict=True))


def report(case: Case, result: Result) -> str:
    """Returns a case as a line of the table."""
    per_row = max(result.done, 1)
    never = result.status == "never"
    return line(
        (
            *(case.backend, case.rows, case.limit, f"{case.work:g}", result.calls, result.keys, result.peak),
            "never" if never else f"{result.wall:.2f}",
            f"{case.ideal:.2f}",
            "-" if never else f"{result.wall / case.ideal:.2f}",
            *(result.commits, result.posts, result.tasks),
            f"{result.bytes / 1000 / per_row:.1f}",
            result.conflicts,
            *(f"{seconds * 1000 / per_row:.2f}" for seconds in (result.cpu, result.queue_cpu, result.store_cpu)),
            verdict(case, result),
        )
    )


def verdict(case: Case, result: Result) -> str:
    if result.status == "never":
        return f"FAIL: {result.done} of {case.rows} rows after {result.wall:.0f} s"
    missed = []
    if result.status != "finished" or result.done != case.rows:
        missed.append(f"{result.status} with {result.done} rows")
    if result.calls != case.rows:
        missed.append(f"{result.calls / case.rows:.2f} calls per row")
    if result.keys != case.rows:
        missed.append(f"{result.keys} keys")
    if result.peak > case.limit:
        missed.append("peak")
    if result.wall > case.goal:
        missed.append(f"wall > {case.goal:.1f} s")
    return "FAIL: " + ", ".join(missed) if missed else "PASS"


def cases(options: argparse.Namespace) -> list[Case]:
    backends = list(FACTORS) if options.backend == "both" else [options.backend]
    return [
        Case(backend, count, limit, options.work, options.sync, options.timeout)
        for backend, count, limit in itertools.product(backends, options.rows, options.limits)
    ]


def numbers(text: str) -> list[int]:
    values = [int(part) for part in text.split(",")]
    if min(values) < 1:
        raise ValueError(text)
    return values


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backend", choices=(*FACTORS, "both"), default="embedded")
    parser.add_argument("--rows", type=numbers, default="100,1000,10000", help="default 100,1000,10000")
    parser.add_argument("--limits", type=numbers, default="1,10,50,100", help="default 1,10,50,100")
    parser.add_argument("--work", type=float, default=0.1, metavar="SECONDS", help="default 0.1")
    parser.add_argument("--sync", action="store_true", help="use a synchronous function as activity")
    parser.add_argument("--timeout", type=float, default=60.0, metavar="SECONDS", help="for each case; default 60")
    parser.add_argument("--case", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.case:
        asyncio.run(measure(Case(**json.loads(options.case))))
        return 0

    exit_on_sigterm()
    kind = "synchronous" if options.sync else "asynchronous"
    print(f"{kind} activity, at most {options.timeout:g} s a case, code of {root()}")
    print(line(COLUMNS))
    is_passed = True
    with contextlib.ExitStack() as stack:
        variables = {} if options.backend == "embedded" else stack.enter_context(firestore_emulator())
        for case in cases(options):
            if case.goal > case.timeout:
                print(line((case.backend, case.rows, case.limit, *[""] * 15, "skipped: needs a longer --timeout")))
                continue
            result = run(case, variables)
            if isinstance(result, str):
                print(line((case.backend, case.rows, case.limit, *[""] * 15, f"FAIL: {result}")))
                is_passed = False
            else:
                print(report(case, result), flush=True)
                is_passed = is_passed and verdict(case, result) == "PASS"
    return 0 if is_passed else 1


if __name__ == "__main__":
    sys.exit(main())
