"""Expense approval: reminders every three days, then the director decides, then the expense is rejected."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Literal

from pydantic import BaseModel
from services import OutsideService

from gorchestrate import Retry, StepContext, Workflow, event, select, step

mail, bank = OutsideService("mail"), OutsideService("bank")


class Decision(BaseModel):
    """The decision of a manager or a director."""

    by: str
    verdict: Literal["approved", "rejected"]


class Expense(Workflow, name="expense"):
    """An employee wants money back. Small amounts need no approval."""

    create_fields = ("employee", "amount")
    employee: str
    amount: Decimal
    status: Literal["open", "approved", "rejected"] = "open"
    decided_by: str = ""
    reminders: int = 0
    payment: str = ""

    @event(role="manager")
    def decide(self, decision: Decision) -> None:
        """Records the decision of the manager, or of the director once the expense was escalated."""
        self.status, self.decided_by = decision.verdict, decision.by

    @step
    def write(self, step: StepContext, to: str, text: str) -> None:
        mail.request(f"{to}: {text}", step.idempotency_key)

    @step(retry=Retry(max_attempts=None))
    def pay(self, step: StepContext) -> str:
        return bank.request(f"{self.amount} to {self.employee}", step.idempotency_key)

    async def run(self) -> None:
        if self.amount < 50:
            self.status, self.decided_by = "approved", "policy"
        while self.status == "open" and self.reminders < 3:
            answer = await select(self.decide, timeout=timedelta(days=3))
            if answer.timed_out:
                self.reminders += 1
                await self.write("manager", f"reminder {self.reminders}").named("remind")
        if self.status == "open":
            await self.write("director", "please decide").named("escalate")
            if (await select(self.decide, timeout=timedelta(days=7)).named("director decides")).timed_out:
                self.status, self.decided_by = "rejected", "nobody"
        if self.status == "approved":
            self.payment = await self.pay()
        await self.write(self.employee, self.status).named("tell the employee")
