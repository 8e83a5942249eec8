"""Activities of plain definitions: what their methods are given."""

from __future__ import annotations

import asyncio
from typing import Any

from workflow_core import ActivityContext, Execution, Workflow, activity, aresume, gather


class Defaults(Workflow, name="defaults"):
    got: list[Any] = []

    @activity
    async def one(self, number: int = 5) -> int:
        return number

    @activity
    async def two(self, number: int = 5, other: int = 6) -> list[int]:
        return [number, other]

    @activity
    async def watched(self, context: ActivityContext, number: int = 5) -> str:
        return f"{number} in attempt {context.attempt}"

    @activity
    async def alone(self, context: ActivityContext) -> int:
        return context.attempt

    async def run(self) -> None:
        self.got.append(await self.alone())
        for item in (1, 2):
            self.got.append(await self.one())
            self.got.append(await self.two())
            self.got.append(await self.watched())
            self.got.append(await self.one(item).named("of the item"))
        self.got += await gather(*(self.one().named("gathered") for _ in range(2)))


def test_a_default_is_not_replaced_by_the_item_of_a_loop() -> None:
    workflow, execution = Defaults(), Execution.start("x", Defaults)
    asyncio.run(aresume(workflow, execution))
    rounds = [[5, [5, 6], "5 in attempt 1", item] for item in (1, 2)]
    assert workflow.got == [1, *rounds[0], *rounds[1], 5, 5]
