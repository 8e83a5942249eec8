"""Measures how many events one instance accepts over HTTP, and how an import affects events to other instances.

    python benchmarks/events.py [--backend embedded|emulators] [--part throughput|fairness] [--seconds 3]

The server runs in a separate process: on ``embedded`` the embedded runtime on uvicorn, on ``emulators`` the stack of
``gorchestrate dev --emulators``, where api and worker are two processes. The clients run in this process. Each has one
persistent connection and sends its next event after it receives the response to the previous one.

Throughput: 1, 10 and 50 clients send events to one instance, for some seconds each.

    events/s    events with status 200 in a second
    p50, p99    milliseconds from the request to its response, of all responses
    commits     for each event with status 200; also the conflicts, and the CPU time of the api's process

Goals: 10 and 50 clients get at least the throughput of one; the instance has counted each event with status 200, and no
other event.

Fairness: 5 clients each send 20 events a second to an instance of their own, and one client creates 20 instances a
second, if the server is fast enough: a late response delays the next request. The first phase runs alone. In the second
phase, one instance imports rows through a parallel ForEach (limit 100, an asynchronous activity of 0.05 s). The second
phase lasts until the import finishes, but not longer than ``--import-seconds``.

Goals: the import finishes in that time; the p99 of the events is at most 3 times the p99 without the import; no event
gets 503. Exits with 1 if a goal is missed.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from code_under_test import FOLDER, environment, find, root
from processes import exit_on_sigterm, free_ports, running

ANSWER_SECONDS_MAX = 30.0
CLIENTS = (1, 10, 50)
OTHERS = 5
"""The number of instances that get events during the import."""

PER_SECOND = 20.0
"""The number of events for each of them, and the number of created instances."""

RATIO_MAX = 3.0
LIMIT, WORK = 100, 0.05
"""The concurrency of the import, and the seconds for each row."""

IMPORT = "/wf/import/import-1"
ENDED = ("finished", "failed", "canceled")
APP = FOLDER / "events_app.py"

COUNTED = ("commits", "conflicts", "cpu")
NO_ANSWER = 0
"""The status of a request without a response."""


@dataclass(frozen=True)
class Server:
    """The URLs of the api, and of the process that runs the import. Embedded, both are the same process."""

    api: str
    worker: str


class Connection:
    """A persistent HTTP connection with little code, so that the clients use little CPU time."""

    def __init__(self, url: str) -> None:
        self.host, self.port = urlsplit(url).hostname, urlsplit(url).port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def request(self, method: str, path: str, body: bytes = b"") -> tuple[int, bytes]:
        """Returns the status and the body of the response; ``NO_ANSWER`` if none arrives in time."""
        try:
            async with asyncio.timeout(ANSWER_SECONDS_MAX):
                return await self._request(method, path, body)
        except (OSError, EOFError, TimeoutError):
            self.close()
            return NO_ANSWER, b""

    async def _request(self, method: str, path: str, body: bytes) -> tuple[int, bytes]:
        if self._streams is None:
            self._streams = await asyncio.open_connection(self.host, self.port)
        reader, writer = self._streams
        head = f"{method} {path} HTTP/1.1\r\nHost: {self.host}\r\nContent-Length: {len(body)}\r\n"
        writer.write(head.encode() + b"Content-Type: application/json\r\n\r\n" + body)
        lines = (await reader.readuntil(b"\r\n\r\n")).decode().lower().split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines[1:] if line)
        content = await reader.readexactly(int(headers["content-length"]))
        if headers.get("connection") == "close":
            self.close()
        return int(lines[0].split()[1]), content

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


@dataclass
class Answers:
    """The responses to requests: the number of each status, and the time of each response."""

    statuses: Counter[int] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)

    @property
    def good(self) -> int:
        return sum(count for status, count in self.statuses.items() if 200 <= status < 300)

    @property
    def errors(self) -> str:
        names = {NO_ANSWER: "no answer"}
        bad = {status: count for status, count in sorted(self.statuses.items()) if not 200 <= status < 300}
        return ", ".join(f"{count} x {names.get(status, status)}" for status, count in bad.items()) or "none"

    def percentile(self, percent: float) -> float:
        """Returns a percentile in milliseconds."""
        ordered = sorted(self.seconds)
        return ordered[min(int(len(ordered) * percent / 100), len(ordered) - 1)] * 1000 if ordered else float("nan")


async def timed(answers: Answers, connection: Connection, method: str, path: str, body: bytes = b"") -> None:
    started = time.perf_counter()
    status, _ = await connection.request(method, path, body)
    answers.statuses[status] += 1
    answers.seconds.append(time.perf_counter() - started)


@contextlib.contextmanager
def connected(url: str) -> Iterator[Connection]:
    connection = Connection(url)
    try:
        yield connection
    finally:
        connection.close()


async def get(url: str, path: str) -> Any:
    with connected(url) as connection:
        status, body = await connection.request("GET", path)
    if status != 200:
        raise RuntimeError(f"GET {path}: {status} {body[:500]!r}")
    return json.loads(body)


async def create(url: str, path: str, body: bytes = b"") -> None:
    with connected(url) as connection:
        status, answer = await connection.request("POST", path, body)
    if status != 201:
        raise RuntimeError(f"POST {path}: {status} {answer[:500]!r}")


# --- throughput --------------------------------------------------------------------------------------------------


async def throughput(url: str, seconds: float) -> bool:
    """Prints a line for each number of clients. Returns whether the goals are met."""
    print(f"\nEvents to one instance, {seconds:g} s for each number of clients")
    print("clients  events/s    p50 ms    p99 ms  commits  conflicts  CPU ms  goal  errors")
    alone = 0.0
    is_passed = True
    for clients in CLIENTS:
        path = f"/wf/counter/throughput-{clients}"
        await create(url, path)
        await load(url, path, clients, 0.3)  # warms up
        first, before = (await get(url, path))["state"]["count"], await get(url, "/counts")
        answers, took = await load(url, path, clients, seconds)
        last, after = (await get(url, path))["state"]["count"], await get(url, "/counts")
        rate = answers.good / took
        alone = alone or rate
        each = {name: (after[name] - before[name]) / max(answers.good, 1) for name in COUNTED}
        missed = "" if rate >= alone else "slower than one client"
        if last - first != answers.good and not answers.statuses[NO_ANSWER]:
            missed = f"{answers.good} answered, {last - first} counted"
        is_passed = is_passed and not missed
        print(
            f"{clients:>7}  {rate:8.1f}  {answers.percentile(50):8.1f}  {answers.percentile(99):8.1f}"
            f"  {each['commits']:7.2f}  {each['conflicts']:9.2f}  {each['cpu'] * 1000:6.2f}"
            f"  {f'FAIL: {missed}' if missed else 'PASS'}  {answers.errors}",
            flush=True,
        )
    return is_passed


async def load(url: str, path: str, clients: int, seconds: float) -> tuple[Answers, float]:
    """Sends events from some clients for that time. Returns the responses, and the time until the last one."""
    answers = Answers()
    started = time.perf_counter()
    until = started + seconds

    async def client() -> None:
        with connected(url) as connection:
            while time.perf_counter() < until:
                await timed(answers, connection, "POST", f"{path}/Add", b"1")

    async with asyncio.TaskGroup() as group:
        for _ in range(clients):
            group.create_task(client())
    return answers, time.perf_counter() - started


# --- fairness ----------------------------------------------------------------------------------------------------


@dataclass
class Phase:
    """The responses to the other clients in one phase."""

    events: Answers = field(default_factory=Answers)
    creations: Answers = field(default_factory=Answers)
    seconds: float = 0.0


async def fairness(server: Server, seconds: float, rows: int, import_seconds: float) -> bool:
    """Prints a line for each phase. Returns whether the goals are met."""
    url = server.api
    print(f"\nEvents to {OTHERS} instances, {PER_SECOND:g} a second each, beside an import of {rows:,} rows")
    print("phase     seconds  events/s    p50 ms    p99 ms  created/s  create p99 ms  503s  errors")
    for number in range(OTHERS):
        await create(url, f"/wf/counter/other-{number}")
    await others(url, "warm-up", lambda elapsed: elapsed > 0.5)
    idle = await others(url, "idle", lambda elapsed: elapsed > seconds)
    print(phase_line("idle", idle), flush=True)

    started = time.perf_counter()
    importing = asyncio.create_task(import_rows(server, rows))
    busy = await others(url, "busy", lambda elapsed: elapsed > import_seconds or importing.done())
    took = time.perf_counter() - started
    print(phase_line("import", busy), flush=True)
    end = importing.result() if importing.done() else "not finished"
    importing.cancel()
    ratio = busy.events.percentile(99) / idle.events.percentile(99)
    is_passed = end == "finished" and ratio <= RATIO_MAX and not busy.events.statuses[503]
    ideal = rows / LIMIT * WORK
    print(f"import: {end}, {await rows_done(server):,} of {rows:,} rows after {took:.1f} s (ideal: {ideal:.1f} s)")
    print(f"p99 ratio: {ratio:.2f} (goal: at most {RATIO_MAX:g}): {'PASS' if is_passed else 'FAIL'}")
    return is_passed


async def others(url: str, phase: str, is_over: Callable[[float], bool]) -> Phase:
    """Sends events to the other instances and creates instances, until the phase is over."""
    result = Phase()
    started = time.perf_counter()

    def elapsed() -> float:
        return time.perf_counter() - started

    async def client(answers: Answers, path: str, body: bytes, offset: float) -> None:
        with connected(url) as connection:
            due = offset
            for number in itertools.count():
                await asyncio.sleep(max(0.0, due - elapsed()))
                if is_over(elapsed()):
                    return
                await timed(answers, connection, "POST", path.format(number=number), body)
                due = max(due + 1 / PER_SECOND, elapsed())

    async with asyncio.TaskGroup() as group:
        for number in range(OTHERS):
            offset = number / OTHERS / PER_SECOND
            group.create_task(client(result.events, f"/wf/counter/other-{number}/Add", b"1", offset))
        group.create_task(client(result.creations, f"/wf/counter/{phase}-{{number}}", b"", 0.0))
    result.seconds = elapsed()
    return result


async def import_rows(server: Server, rows: int) -> str:
    """Creates the import and waits for it to end. Returns how it ended."""
    with connected(server.api) as connection:
        body = json.dumps({"rows": list(range(rows))}).encode()
        status, answer = await connection.request("POST", IMPORT, body)
    if status != 201:
        return f"not created ({'no answer' if status == NO_ANSWER else f'{status} {answer.decode()[:200]}'})"
    while True:
        # Not with a GET of the instance: with that many rows, it would use CPU time that the measured requests need.
        if (ended := (await get(server.worker, "/counts"))["import"]) in ENDED:
            return str(ended)
        await asyncio.sleep(0.5)


async def rows_done(server: Server) -> int:
    with connected(server.api) as connection:
        status, body = await connection.request("GET", IMPORT)
    return json.loads(body)["state"]["done"] if status == 200 else 0


def phase_line(name: str, phase: Phase) -> str:
    events, creations = phase.events, phase.creations
    busy = events.statuses[503] / max(events.statuses.total(), 1)
    errors = f"{events.errors}; creations: {creations.errors}"
    return (
        f"{name:<8}  {phase.seconds:7.1f}  {events.good / phase.seconds:8.1f}  {events.percentile(50):8.1f}"
        f"  {events.percentile(99):8.1f}  {creations.good / phase.seconds:9.1f}  {creations.percentile(99):13.1f}"
        f"  {busy:4.0%}  {errors}"
    )


# --- the command -------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def serving(backend: str) -> Iterator[Server]:
    """Serves the workflows while the body runs."""
    variables = {"IMPORT_LIMIT": str(LIMIT), "IMPORT_WORK": str(WORK)}
    with tempfile.TemporaryDirectory() as folder:
        if backend == "embedded":
            (port,) = free_ports(1)
            settings = {"GORCHESTRATE_DB": str(Path(folder) / "benchmark.db")}
            with running([sys.executable, str(APP), str(port)], port, variables | settings):
                yield Server(*[f"http://127.0.0.1:{port}"] * 2)
        else:
            # The processes of the stack inherit the environment.
            os.environ.update(environment() | variables)
            with find("running_stack")(APP, output=Path(folder)) as stack:
                yield Server(stack.api_url, stack.worker_url)


async def measure(server: Server, options: argparse.Namespace) -> bool:
    is_passed = True
    if options.part != "fairness":
        is_passed = await throughput(server.api, options.seconds)
    if options.part != "throughput":
        is_passed = await fairness(server, 2 * options.seconds, options.rows, options.import_seconds) and is_passed
    return is_passed


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backend", choices=("embedded", "emulators"), default="embedded")
    parser.add_argument("--part", choices=("throughput", "fairness", "both"), default="both")
    parser.add_argument("--seconds", type=float, default=3.0, help="for each number of clients; default 3")
    parser.add_argument("--rows", type=int, default=20_000, help="of the import; default 20000")
    parser.add_argument("--import-seconds", type=float, default=30.0, help="maximum for the import; default 30")
    options = parser.parse_args()
    exit_on_sigterm()
    print(f"backend {options.backend}, code of {root()}")
    with serving(options.backend) as server:
        return 0 if asyncio.run(measure(server, options)) else 1


if __name__ == "__main__":
    sys.exit(main())
