"""Repair of a plain definition by an operator: a thread is put elsewhere."""

from __future__ import annotations

import pytest

from tests.core.helpers import reload, start, unchanged
from workflow_core import RepairRefused, Workflow, event, resume, select, step
from workflow_core.machine.machine import Machine
from workflow_core.machine.operations import goto


class Billing(Workflow, name="billing"):
    billed: list[int] = []

    @event
    def pay(self) -> None: ...

    @step
    def bill(self, cents: int) -> None:
        self.billed.append(cents)

    async def month(self, cents: int) -> None:
        await self.bill(cents)

    async def run(self) -> None:
        await select(self.pay)
        await self.bill(100)
        await self.bill(len(self.billed) + 200).named("bill more")
        await self.month(300)


@pytest.mark.parametrize("statement", ["bill more", "month/bill"])
def test_a_thread_is_not_put_before_a_step_whose_arguments_it_does_not_have(statement: str) -> None:
    billing, execution = start(Billing)
    message = (
        f"it does not have the argument 'cents' of '{statement.partition('/')[2] or statement}', which run computes"
    )
    with unchanged(billing, execution), pytest.raises(RepairRefused, match=message):
        goto(Machine(billing, execution), "main", statement)
    goto(Machine(billing, execution), "main", "bill")  # its argument is a constant
    billing, execution = reload(billing, execution)
    resume(billing, execution)
    assert billing.billed == [100, 201, 300]
