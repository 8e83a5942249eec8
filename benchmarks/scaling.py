"""Measures whether the cost of an event and its step depends on the size of what is around them.

One event, its handler and one step after it are measured on a small and on a large instance, in two ways: ``memory``
calls ``handle_event`` and ``resume`` on an instance in memory; ``embedded`` sends the event to the embedded runtime,
which loads and saves the instance in SQLite. The cost is CPU time of the process.

    statements  the definition has 10 and 10,000 statements
    events      the instance has handled 10 and 100,000 events (in memory only; see age.py for the other)
    threads     1 and 1,000 threads of the instance wait for other events

Small and large alternate in many short rounds, and the best round of each counts, so that other load on the machine
affects both or neither. Exits with 1 if a ratio is above the goal.

    python benchmarks/scaling.py [--rounds N]
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from cloud_adapter.hosting.embedded import EmbeddedRuntime
from cloud_adapter.settings import Settings
from workflow_core import Execution, Go, If, On, S, Select, Step, While, Workflow, handle_event, resume

GOAL = 1.3
"""The maximum ratio of the large one to the small one."""

PER_ROUND = {"memory": 200, "embedded": 20}
"""A round takes some milliseconds, so that some rounds run undisturbed even on a busy machine."""


class Scaled(Workflow):
    """Counts its events and steps."""

    handled: int = 0
    steps: int = 0

    def handle(self) -> None:
        self.handled += 1

    def step(self) -> None:
        self.steps += 1


def scaled(statements: int, threads: int) -> type[Workflow]:
    """Returns a workflow of that size. Its main thread is in a loop of an event and a step; all others wait."""
    rest = [Step(f"unused {number}", Scaled.step) for number in range(statements - 5)]
    waiting = Select("other", On("Other", Scaled.handle))
    name = f"scaled-{statements}-{threads}"

    class Sized(Scaled, name=name):
        started: int = 0

        def start(self) -> None:
            self.started += 1

        definition = S(
            While(
                "threads to start",
                lambda w: w.started < threads - 1,
                Step("start", start),
                Go("waiting", waiting, id=lambda w: f"waiting-{w.started}"),
            ),
            While(
                "forever",
                lambda w: True,
                Select("event", On("Event", Scaled.handle)),
                If("never", lambda w: w.handled < 0, *rest),
                Step("step", Scaled.step),
            ),
        )

    return Sized


async def in_memory(cls: type[Workflow], events: int) -> Callable[[], Awaitable[None]]:
    """Returns a function that sends an event to an instance in memory that has handled some."""
    workflow, execution = cls(), Execution.start("scaled-1", cls)

    async def send() -> None:
        handle_event(workflow, execution, "Event")
        resume(workflow, execution)

    resume(workflow, execution)
    for _ in range(events):
        await send()
    return send


async def embedded(runtime: EmbeddedRuntime, cls: type[Workflow], threads: int) -> Callable[[], Awaitable[None]]:
    """Returns a function that sends an event to an instance in SQLite, and waits for its step."""
    engine, name = runtime.engine, cls.__workflow_name__

    async def send() -> None:
        await engine.handle_event(name, "scaled-1", "Event")

    await engine.create(name, "scaled-1")
    while True:
        view = await engine.get(name, "scaled-1")
        if len(view.instance.execution.threads) >= threads:
            break
        await asyncio.sleep(0.01)
    await send()
    return send


async def cost(send: Callable[[], Awaitable[None]], repetitions: int) -> float:
    """Returns the CPU time of one event in microseconds."""
    start = time.process_time_ns()
    for _ in range(repetitions):
        await send()
    return (time.process_time_ns() - start) / repetitions / 1000


async def compare(
    what: str,
    where: str,
    small: Callable[[], Awaitable[None]],
    large: Callable[[], Awaitable[None]],
    rounds: int,
) -> float:
    """Measures and prints a line. Returns the ratio."""
    best_small = best_large = float("inf")
    gc.collect()
    gc.disable()
    for _ in range(rounds):
        best_small = min(best_small, await cost(small, PER_ROUND[where]))
        best_large = min(best_large, await cost(large, PER_ROUND[where]))
    gc.enable()
    ratio = best_large / best_small
    print(f"{what:32}  {where:8}  {best_small:9.1f}  {best_large:9.1f}  {ratio:6.2f}", flush=True)
    return ratio


async def measure(rounds: int) -> bool:
    """Returns whether all goals are met."""
    plain, long, wide = scaled(10, 1), scaled(10_000, 1), scaled(10, 1_000)
    print("CPU time of an event and its step      where     small µs   large µs   ratio")
    ratios = [
        await compare(
            "10 and 10,000 statements", "memory", await in_memory(plain, 10), await in_memory(long, 10), rounds
        ),
        await compare(
            "10 and 100,000 earlier events",
            "memory",
            await in_memory(plain, 10),
            await in_memory(plain, 100_000),
            rounds,
        ),
        await compare(
            "1 and 1,000 waiting threads", "memory", await in_memory(plain, 10), await in_memory(wide, 10), rounds
        ),
    ]
    with tempfile.TemporaryDirectory() as folder:
        runtime = EmbeddedRuntime((plain, long, wide), Settings(db=Path(folder) / "scaling.db"))
        await runtime.start()
        try:
            small = await embedded(runtime, plain, 1)
            large = await embedded(runtime, long, 1)
            ratios.append(await compare("10 and 10,000 statements", "embedded", small, large, rounds))
            large = await embedded(runtime, wide, 1_000)
            ratios.append(await compare("1 and 1,000 waiting threads", "embedded", small, large, max(rounds // 2, 3)))
        finally:
            await runtime.close()
    missed = sum(ratio > GOAL for ratio in ratios)
    print(f"goal: a ratio of at most {GOAL}; missed in {missed} lines")
    return not missed


def main() -> int:
    parser = argparse.ArgumentParser(description="Measures whether the cost of an event depends on what is around it.")
    parser.add_argument("--rounds", type=int, default=60, help="rounds of each; the best one counts (default 60)")
    options = parser.parse_args()
    return 0 if asyncio.run(measure(options.rounds)) else 1


if __name__ == "__main__":
    sys.exit(main())
