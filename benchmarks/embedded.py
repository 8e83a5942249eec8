"""Compares the rates of the embedded runtime with the floor: single-row commits of the same size to a SQLite file, with
a write-ahead log and ``synchronous=FULL``, one after another in one thread.

    python benchmarks/embedded.py [--rounds 40] [--waiting 10000] [--timers 100000]

All run in this process, on files in the same folder, and take turns in short rounds. Each ratio is the median of the
ratios to the floor of the same turn, because the speed of a disk varies from second to second. Rates and CPU times are
medians, too.

    events      one client sends events to one instance, one after another
    8 on 8      8 clients, each with an instance of its own
    8 on 1      8 clients send events to one instance
    steps       workflows of 20 steps, one after another; the rate is that of the steps, which run in a thread
    async steps the same with asynchronous steps, which need no thread
    least ...   what an event or a step costs in Python without all that the engine is for (``least.py``): a bound

    CPU         milliseconds of CPU time for each event or step

``--waiting`` adds instances that wait for an event, and measures what each of them costs: bytes of the file, bytes of
memory, and the CPU time of the whole process while nothing happens. ``--timers`` adds timers to the database and to the
queue, and compares the CPU time of an event with that before. Exits with 1 if a goal is missed.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import itertools
import os
import sqlite3
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import closing
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from statistics import median

from least import Least

from cloud_adapter.engine.tasks import TIMEOUT_PATH
from cloud_adapter.hosting.embedded import EmbeddedRuntime
from cloud_adapter.ports import Task
from cloud_adapter.settings import Settings
from workflow_core import On, S, Select, Step, While, Workflow

CLIENTS, STEPS = 8, 20
PER_ROUND = 80
"""The number of commits of the floor, of events and of steps in a round."""

GOALS = {"events": 0.5, "8 on 8": 0.7, "8 on 1": 1.0, "steps": 0.6, "async steps": 0.6}
"""The minimum ratios to the floor."""

WAITING_BYTES_MAX = 1_500
WAITING_MEMORY_MAX = 5_000_000
"""The maximum memory that all waiting instances may take together, whatever their number: the cache of the database and
the last sessions are limited."""
IDLE_SECONDS = 3.0
IDLE_SHARE_MAX = 0.01
"""The maximum share of a core that an idle process may use."""

SLOWER_MAX = 1.2
"""The maximum ratio of an event's CPU time with many timers to that without them."""


class Counter(Workflow, name="counter"):
    """Accepts the same event forever."""

    count: int = 0
    text: str = "x" * 200

    def add(self, amount: int) -> int:
        self.count += amount
        return self.count

    definition = S(While("for ever", lambda w: True, Select("wait", On("Add", add))))


class Steps(Workflow, name="steps"):
    """Runs its steps, then ends."""

    done: int = 0
    text: str = "x" * 200

    def step(self) -> None:
        self.done += 1

    definition = S(*map(Step, [f"step {number}" for number in range(STEPS)], [step] * STEPS))


class AsyncSteps(Workflow, name="async-steps"):
    """Does the same with asynchronous steps."""

    done: int = 0
    text: str = "x" * 200

    async def step(self) -> None:
        self.done += 1

    definition = S(*map(Step, [f"step {number}" for number in range(STEPS)], [step] * STEPS))


@dataclass
class Round:
    """What each event, step or commit of a round took."""

    seconds: float
    cpu_ms: float


class Floor:
    """Updates the same row of a file of its own again and again."""

    def __init__(self, path: Path, size: int) -> None:
        self._connection = sqlite3.connect(path, isolation_level=None)
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = FULL")
        self._connection.execute("CREATE TABLE row (id TEXT PRIMARY KEY, number INTEGER, value TEXT)")
        self._connection.execute("INSERT INTO row VALUES ('a', 0, '')")
        self._text = "x" * size

    async def run(self) -> None:
        for number in range(PER_ROUND):
            self._connection.execute("UPDATE row SET number = ?, value = ? WHERE id = 'a'", (number, self._text))

    def close(self) -> None:
        self._connection.close()


class Embedded:
    """The rounds on the embedded runtime."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.runtime = EmbeddedRuntime([Counter, Steps, AsyncSteps], Settings(db=str(path)))
        self.engine = self.runtime.engine
        self._ids = (f"steps-{number}" for number in itertools.count())

    async def start(self) -> None:
        await self.runtime.start()
        for number in range(CLIENTS):
            await self.engine.create("counter", f"counter-{number}")

    async def events(self) -> None:
        await self._send("counter-0", PER_ROUND)

    async def on_eight(self) -> None:
        await asyncio.gather(*(self._send(f"counter-{number}", PER_ROUND // CLIENTS) for number in range(CLIENTS)))

    async def on_one(self) -> None:
        await asyncio.gather(*(self._send("counter-0", PER_ROUND // CLIENTS) for _ in range(CLIENTS)))

    async def steps(self) -> None:
        await self._run("steps")

    async def async_steps(self) -> None:
        await self._run("async-steps")

    async def _run(self, workflow: str) -> None:
        for _ in range(PER_ROUND // STEPS):
            id = next(self._ids)
            await self.engine.create(workflow, id)
            await self.runtime.queue.idle()
        view = await self.engine.get(workflow, id)
        assert view.workflow.model_dump()["done"] == STEPS, view.instance.execution

    async def _send(self, id: str, count: int) -> None:
        for _ in range(count):
            await self.engine.handle_event("counter", id, "Add", b"1")

    async def bytes_of_event(self) -> int:
        """Returns the approximate size of what an event writes: the row, without its history."""
        return await self.runtime.store.connections.run(
            lambda connection: connection.execute(
                "SELECT length(execution) + length(fields) + length(tokens) FROM instances WHERE id = 'counter-0'"
            ).fetchone()[0]
        )


async def timed(round: Callable[[], Awaitable[None]]) -> Round:
    gc.collect()
    started, cpu = time.perf_counter(), time.process_time()
    await round()
    seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
    return Round(seconds / PER_ROUND, cpu * 1000 / PER_ROUND)


async def rates(embedded: Embedded, folder: Path, rounds: int) -> bool:
    """Prints the table of the rates. Returns whether all goals are met."""
    kinds = {"events": embedded.events, "8 on 8": embedded.on_eight, "8 on 1": embedded.on_one}
    kinds |= {"steps": embedded.steps, "async steps": embedded.async_steps}
    await embedded.events()
    size = await embedded.bytes_of_event()
    with (
        closing(Floor(folder / "floor.db", size)) as floor,
        closing(Least(folder / "least.db", embedded.path, Counter, "counter-0")) as least,
    ):
        for kind, make in {"event": least.events, "step": least.steps, "async step": least.async_steps}.items():
            kinds[f"least {kind}"] = partial(make, PER_ROUND)
        results: dict[str, list[Round]] = {kind: [] for kind in ("floor", *kinds)}
        for _ in range(rounds):
            for kind, round in {"floor": floor.run, **kinds}.items():
                results[kind].append(await timed(round))
    print(f"rows of {size:,} bytes, medians of {rounds} rounds of {PER_ROUND}")
    print(f"{'':16}  {'per second':>10}  {'CPU ms':>6}  {'ratio':>5}  {'goal':>4}")
    is_passed = True
    for kind, made in results.items():
        seconds, cpu_ms = median(each.seconds for each in made), median(each.cpu_ms for each in made)
        line = f"{kind:16}  {1 / seconds:10,.0f}  {cpu_ms:6.3f}"
        if kind != "floor":
            ratio = median(one.seconds / each.seconds for one, each in zip(results["floor"], made, strict=True))
            line += f"  {ratio:5.2f}"
        if kind in GOALS:
            is_passed = is_passed and ratio >= GOALS[kind]
            line += f"  {GOALS[kind]:4.1f}  {'PASS' if ratio >= GOALS[kind] else 'FAIL'}"
        print(line, flush=True)
    return is_passed


async def waiting(embedded: Embedded, count: int) -> bool:
    """Prints what instances that wait cost. Returns whether all goals are met."""

    def checkpoint() -> None:
        with closing(sqlite3.connect(embedded.path)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()

    checkpoint()
    size, memory = embedded.path.stat().st_size, _resident_bytes()
    for number in range(0, count, 100):
        ids = [f"waiting-{number + more}" for more in range(min(100, count - number))]
        await asyncio.gather(*(embedded.engine.create("counter", id) for id in ids))
    checkpoint()
    each, kept = (embedded.path.stat().st_size - size) / count, _resident_bytes() - memory
    gc.collect()
    cpu = time.process_time()
    await asyncio.sleep(IDLE_SECONDS)
    share = (time.process_time() - cpu) / IDLE_SECONDS
    print(f"{count:,} waiting instances: {each:,.0f} bytes of the file each (goal: less than {WAITING_BYTES_MAX:,}),")
    print(f"  {kept:,} bytes of memory for all (goal: less than {WAITING_MEMORY_MAX:,}, whatever their number),")
    print(f"  {share:.2%} of a core while idle (goal: at most {IDLE_SHARE_MAX:.0%})")
    return each < WAITING_BYTES_MAX and kept < WAITING_MEMORY_MAX and share <= IDLE_SHARE_MAX


async def timers(embedded: Embedded, count: int, rounds: int) -> bool:
    """Prints what timers cost an event. Returns whether the goal is met."""
    before = [await timed(embedded.events) for _ in range(rounds)]
    at = embedded.runtime.clock.now() + timedelta(days=1)
    for number in range(count):
        await embedded.runtime.queue.create(Task(f"timer-{number}", TIMEOUT_PATH, {}, at + timedelta(seconds=number)))
    await embedded.runtime.store.connections.run(lambda connection: _copy(connection, count, at.timestamp()))
    after = [await timed(embedded.events) for _ in range(rounds)]
    slow, fast = (min(each.cpu_ms for each in made) for made in (after, before))
    ratio = slow / fast
    print(f"{count:,} timers: an event takes {slow:.3f} ms of CPU time, without them {fast:.3f} ms;")
    print(f"  ratio {ratio:.2f} (goal: at most {SLOWER_MAX})")
    return ratio <= SLOWER_MAX


def _copy(connection: sqlite3.Connection, count: int, at: float) -> None:
    """Copies an instance many times, each with a timer of its own."""
    columns = [row[1].decode() for row in connection.execute("PRAGMA table_info(instances)")]
    values = {"id": "'timed-' || number", "wake_at": f"{int(at * 1_000_000)} + number * 1000000"}
    numbers = f"SELECT 1 UNION ALL SELECT number + 1 FROM numbers LIMIT {count}"  # nosec B608
    copied = ", ".join(values.get(name, name) for name in columns)
    connection.execute(
        f"WITH RECURSIVE numbers (number) AS ({numbers}) "  # nosec B608 - the names of our own columns
        f"INSERT INTO instances ({', '.join(columns)}) SELECT {copied} FROM instances, numbers WHERE id = 'counter-0'"
    )


def _resident_bytes() -> int:
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def measure(folder: Path, options: argparse.Namespace) -> bool:
    embedded = Embedded(folder / "instances.db")
    await embedded.start()
    try:
        results = [await rates(embedded, folder, options.rounds)]
        if options.waiting:
            results.append(await waiting(embedded, options.waiting))
        if options.timers:
            results.append(await timers(embedded, options.timers, options.rounds))
    finally:
        await embedded.runtime.close()
    return all(results)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=40, help="of each (default 40)")
    parser.add_argument("--waiting", type=int, default=0, metavar="N", help="also measure N waiting instances")
    parser.add_argument("--timers", type=int, default=0, metavar="N", help="also measure events beside N timers")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        return 0 if asyncio.run(measure(Path(folder), options)) else 1


if __name__ == "__main__":
    sys.exit(main())
