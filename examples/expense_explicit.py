"""Expense approval as an explicit definition: the same workflow as in ``expense.py``, as statements."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Literal

from expense import Decision, bank, mail

from gorchestrate import Do, If, On, Retry, S, Select, Step, StepContext, Timeout, While, Workflow


class Expense(Workflow, name="expense"):
    """An employee wants money back. Small amounts need no approval."""

    create_fields = ("employee", "amount")
    employee: str
    amount: Decimal
    status: Literal["open", "approved", "rejected"] = "open"
    decided_by: str = ""
    reminders: int = 0
    payment: str = ""

    def decide(self, decision: Decision) -> None:
        """Records the decision of the manager, or of the director once the expense was escalated."""
        self.status, self.decided_by = decision.verdict, decision.by

    def accept_by_policy(self) -> None:
        self.status, self.decided_by = "approved", "policy"

    def remind(self, step: StepContext) -> None:
        mail.request(f"manager: reminder {self.reminders + 1}", step.idempotency_key)
        self.reminders += 1

    def escalate(self, step: StepContext) -> None:
        mail.request("director: please decide", step.idempotency_key)

    def reject(self) -> None:
        self.status, self.decided_by = "rejected", "nobody"

    def pay(self, step: StepContext) -> None:
        self.payment = bank.request(f"{self.amount} to {self.employee}", step.idempotency_key)

    def tell(self, step: StepContext) -> None:
        mail.request(f"{self.employee}: {self.status}", step.idempotency_key)

    def is_small(self) -> bool:
        return self.amount < 50

    def is_open(self) -> bool:
        return self.status == "open"

    def is_approved(self) -> bool:
        return self.status == "approved"

    def waits_for_manager(self) -> bool:
        return self.is_open() and self.reminders < 3

    definition = S(
        If("small amount", is_small, Do("approve by policy", accept_by_policy)),
        While(
            "manager has not decided",
            waits_for_manager,
            Select(
                "decide",
                On("decide", decide, role="manager"),
                Timeout("decide timed out", timedelta(days=3), Step("remind", remind)),
            ),
        ),
        If(
            "still open",
            is_open,
            Step("escalate", escalate),
            Select(
                "director decides",
                On("decide", decide, role="manager"),
                Timeout("director decides timed out", timedelta(days=7), handler=reject),
            ),
        ),
        If("approved", is_approved, Step("pay", pay, retry=Retry(max_attempts=None))),
        Step("tell the employee", tell),
    )
