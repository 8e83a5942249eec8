"""Types of results that plain definitions look up: those of children, with the names around their classes."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import timedelta

from workflow_core import Execution, Workflow, aresume, child, sleep


def test_the_result_of_a_child_may_have_a_type_of_the_function_around_it() -> None:
    @dataclass
    class Receipt:
        number: int

    class Shop(Workflow, name="shop"):
        def result(self) -> Receipt:
            return Receipt(1)

        async def run(self) -> None:
            await sleep(timedelta(days=1))

    class Customer(Workflow, name="customer"):
        total: int = 0

        async def run(self) -> None:
            receipt = await child(Shop)
            await sleep(timedelta(days=1))
            self.total = receipt.number

    rests = {name: [local.key for local in rest.kept] for name, rest in Customer.__program__.rests.items()}
    assert rests["sleep(timedelta(days=1))"] == ["receipt"]
    customer, execution = Customer(), Execution.start("x", Customer)
    asyncio.run(aresume(customer, execution))
    assert execution.threads[0].step == "child shop"
