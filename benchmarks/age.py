"""Measures what an event costs against the age of its instance: the bytes that its commit writes, and CPU time.

    python benchmarks/age.py [--events 10000]

It sends events to one small instance (the pizza order) in this process, on a SQLite file. At each age, it alternates
between this instance and new ones, so that both are measured under the same load.

    age         earlier events of the instance
    bytes       of a commit: names and values of what it writes of the document, and new entries of the history
    removing    one commit in 50 also removes entries of the history; the bytes of such a commit on Firestore, which
                writes all entries that are kept
    CPU         of an event, as a multiple of that of an event of a new instance

Goals: each other commit writes less than 1,500 bytes; the CPU time of an event is at most 1.2 times that of an event of
a new instance. Exits with 1 if a goal is missed.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from statistics import mean, median
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "functions")]

from pizza import PizzaOrder  # noqa: E402

from cloud_adapter.clock import SystemClock  # noqa: E402
from cloud_adapter.document import Instance, encode, replaces_history  # noqa: E402
from cloud_adapter.engine.engine import Engine  # noqa: E402
from cloud_adapter.ports import Task  # noqa: E402
from cloud_adapter.queues.local import LocalQueue  # noqa: E402
from cloud_adapter.stores.sqlite.store import SqliteStore  # noqa: E402

BYTES_MAX = 1_500
GROWTH_MAX = 1.2
FIRST_AGE = 10
WINDOWS, WINDOW = 15, 20
"""At each age, the median of some windows is taken, each of some events to both instances."""


class MeasuredStore(SqliteStore):
    """Notes the size of each commit."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.sizes: list[int] = []
        self.removing: list[int] = []

    async def commit(self, instance: Instance, *args: Any, **kwargs: Any) -> Instance:
        document = encode(instance)
        committed = await super().commit(instance, *args, **kwargs)
        size = sum(len(name) + len(str(value).encode()) for name, value in document.items())
        if replaces_history(instance):
            self.removing.append(size + committed.entries_bytes)
        else:
            self.sizes.append(size)
        return committed


class Orders:
    """Sends events to orders."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.sent: Counter[str] = Counter()

    async def send(self, id: str) -> None:
        number = self.sent[id]
        if not number:
            await self._engine.create("pizza", id)
        name, body = ("EmptyCart", b"") if number % 2 else ("AddToCart", b'{"name": "margherita", "qty": 2}')
        await self._engine.handle_event("pizza", id, name, body)
        self.sent[id] = number + 1

    async def grow(self, id: str, age: int) -> None:
        while self.sent[id] < age:
            await self.send(id)

    async def compare(self, old: str, new: str) -> float:
        """Returns the CPU time of an event of an old instance, as a multiple of that of a new one."""
        await self.grow(new, FIRST_AGE)
        seconds = {old: 0.0, new: 0.0}
        for _ in range(WINDOW):
            for id in (old, new):
                started = time.process_time()
                await self.send(id)
                seconds[id] += time.process_time() - started
        return seconds[old] / seconds[new]


async def measure(folder: Path, events: int) -> bool:
    store = MeasuredStore(folder / "instances.db")
    orders = Orders(Engine([PizzaOrder], store, LocalQueue(_deliver, SystemClock())))
    ages = [FIRST_AGE]
    while ages[-1] * 10 <= events:
        ages.append(ages[-1] * 10)
    print("     age  bytes: mean    most  removing   CPU")
    largest, worst = 0, 0.0
    for age in ages:
        await orders.grow("old", age)
        store.sizes.clear()
        ratio = median([await orders.compare("old", f"new {age} {number}") for number in range(WINDOWS)])
        largest, worst = max(largest, *store.sizes), max(worst, ratio)
        removing = f"{mean(store.removing):8,.0f}" if store.removing else "       -"
        print(f"{age:8,}  {mean(store.sizes):11,.0f}  {max(store.sizes):6,}  {removing}  {ratio:4.2f}")
    await store.close()
    print(f"largest commit {largest:,} bytes (goal: less than {BYTES_MAX:,})")
    print(f"CPU at most {worst:.2f} times that of a new instance (goal: at most {GROWTH_MAX})")
    return largest < BYTES_MAX and worst <= GROWTH_MAX


async def _deliver(task: Task, retries: int) -> bool:
    return True


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=10_000, help="the last age; default 10000")
    events = parser.parse_args().events
    with tempfile.TemporaryDirectory() as folder:
        return 0 if asyncio.run(measure(Path(folder), events)) else 1


if __name__ == "__main__":
    sys.exit(main())
