"""Results of gathered calls that nothing uses are not stored: of 2,000 rows, they would be rewritten with each row."""

from __future__ import annotations

import asyncio

from workflow_core import Execution, Workflow, aresume, gather, step


class Unused(Workflow, name="unused-results"):
    items: list[int] = [1, 2, 3]
    log: list[str] = []

    @step
    def note(self, n: int) -> str:
        self.log.append(str(n))
        return str(n)

    async def run(self) -> None:
        await gather(*(self.note(n) for n in self.items)).named("unused")
        await gather(*(self.note(n).named("again") for n in self.items))
        found = await gather(*(self.note(n).named("third") for n in self.items))
        self.log.append("".join(found))


def test_results_that_nothing_uses_are_not_stored() -> None:
    workflow, execution = Unused(), Execution.start("x", Unused)
    asyncio.run(aresume(workflow, execution))
    assert (execution.status, workflow.log) == ("finished", [*"123123123", "123"])
    kept = {name: [local.key for local in rest.kept] for name, rest in Unused.__program__.rests.items()}
    assert (kept["unused"], kept["each again"], kept["each third"]) == ([], [], [".each third[]"])
