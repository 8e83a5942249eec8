"""Locals have the types of what they were made from, so that they are loaded as the same objects."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from typing import Any

from pydantic import BaseModel

from workflow_core import ActivityContext, Execution, StepContext, Workflow, activity, aresume, step


class Row(BaseModel):
    n: int


class Loops(Workflow, name="loops"):
    rows: list[Row] = [Row(n=1), Row(n=2), Row(n=3)]
    by_name: dict[str, Row] = {"b": Row(n=5), "a": Row(n=4)}
    seen: list[str] = []

    @step
    async def note(self, context: StepContext, what: Row | str) -> None:
        self.seen.append(f"{context.step} {what.n if isinstance(what, Row) else what}")

    @activity
    async def double(self, context: ActivityContext, row: Row) -> Row:
        return Row(n=row.n * 2)

    async def run(self) -> None:
        for row in self.rows[::-1]:
            await self.note(row)
        for odd in [row for row in self.rows if row.n % 2]:
            await self.note(odd).named("odd")
        for name in sorted(self.by_name):
            await self.note(name).named("name")
        last = list(reversed(self.rows))
        await self.note(await self.double(last[0])).named("last")
        for left in last:
            await self.note(left).named("left")


class Picks(Loops, name="picks"):
    prices: dict[str, Decimal] = {"a": Decimal("1.5"), "b": Decimal(2)}

    async def run(self) -> None:
        best = None
        for row in self.rows:
            if best is None or row.n > best.n:
                best = row
        second = next((row for row in self.rows if row.n == 2), None)
        first, *others = self.rows
        total = sum(self.prices.values())
        count = sum((row.n for row in self.rows), Decimal(0))
        await self.note("stored")
        assert best is not None
        assert second is not None
        self.seen += [f"{best.n} {second.n} {first.n} {[row.n for row in others]} {total!r} {count!r}"]


async def run_reloading(cls: type[Workflow]) -> Any:
    """Runs an instance, and loads it anew from the stored JSON after each checkpoint."""
    workflow, execution = cls(), Execution.start("x", cls)

    class Stopped(Exception):
        pass

    def stop(kind: object) -> None:
        raise Stopped

    while not execution.ended:
        try:
            await aresume(workflow, execution, stop)
        except Stopped:
            workflow, execution = cls.load_fields(workflow.dump_fields()), Execution.from_json(execution.to_json())
    return workflow


def test_locals_made_of_typed_collections_stay_typed() -> None:
    workflow = asyncio.run(run_reloading(Loops))
    assert workflow.seen == [
        *("note 3", "note 2", "note 1"),
        *("odd 1", "odd 3"),
        *("name a", "name b"),
        "last 6",
        *("left 3", "left 2", "left 1"),
    ]


def test_a_variable_of_a_comprehension_is_not_the_one_of_a_loop() -> None:
    workflow = asyncio.run(run_reloading(Picks))
    assert workflow.seen == ["note stored", "3 2 1 [2, 3] Decimal('3.5') Decimal('6')"]
