"""The workflow that ``fan_out.py`` and ``events.py`` measure: it runs a slow activity for each of its rows."""

from __future__ import annotations

import asyncio
import threading
import time
from dataclasses import dataclass, field
from typing import Any

import code_under_test  # noqa: F401  before the imports of what is measured

from workflow_core import Activity, ActivityContext, ForEach, S, Workflow


@dataclass
class Calls:
    """The calls of the activity's function.

    Attributes:
        keys: the distinct idempotency keys that it received.
        peak: the maximum number of concurrent calls.
    """

    made: int = 0
    running: int = 0
    peak: int = 0
    keys: set[str] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def reset(self) -> None:
        """Resets all counts."""
        self.made = self.peak = 0
        self.keys.clear()

    def begin(self, key: str) -> None:
        with self._lock:
            self.made += 1
            self.running += 1
            self.peak = max(self.peak, self.running)
            self.keys.add(key)

    def end(self) -> None:
        with self._lock:
            self.running -= 1


def import_workflow(limit: int, seconds: float, calls: Calls, *, sync: bool = False) -> type[Workflow]:
    """Returns a workflow ``import`` that calls a function for each of its rows, ``limit`` at a time.

    Args:
        seconds: how long the function sleeps.
        sync: use a synchronous function, which blocks a thread.
    """

    async def wait(row: int, context: ActivityContext) -> int:
        calls.begin(context.idempotency_key)
        try:
            await asyncio.sleep(seconds)
        finally:
            calls.end()
        return row

    def block(row: int, context: ActivityContext) -> int:
        calls.begin(context.idempotency_key)
        try:
            time.sleep(seconds)
        finally:
            calls.end()
        return row

    work: Any = block if sync else wait

    class Import(Workflow, name="import"):
        create_fields = ("rows",)

        rows: list[int]
        done: int = 0
        total: int = 0

        def add(self, row: int) -> None:
            self.done += 1
            self.total += row

        definition = S(
            ForEach("rows", lambda w: w.rows, Activity("work", work, then=add), parallel=True, limit=limit),
        )

    return Import
