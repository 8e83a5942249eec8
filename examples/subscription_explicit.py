"""Subscription billing as an explicit definition: the same workflow as in ``subscription.py``, as statements."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Literal

from subscription import PRICES, CardDeclined, PlanChange, bank, mail, month_after

from gorchestrate import (
    Break,
    Do,
    ForEach,
    If,
    On,
    Retry,
    S,
    Select,
    Step,
    StepContext,
    Timeout,
    Try,
    While,
    Workflow,
)


class Subscription(Workflow, name="subscription"):
    """Starts at ``paid_until`` with the first charge, and ends when the customer leaves or does not pay."""

    create_fields = ("customer", "paid_until", "plan", "card")
    customer: str
    paid_until: datetime
    plan: Literal["basic", "pro"] = "basic"
    card: str = "card 1"
    due: Decimal = Decimal(0)
    payments: int = 0
    status: Literal["active", "past due", "leaving", "ended"] = "active"

    def change_plan(self, change: PlanChange, *, now: datetime) -> Decimal:
        """Changes the plan at once. Returns what is due for the rest of the month."""
        rest = Decimal((self.paid_until - now) / timedelta(days=30))
        self.due = max(Decimal(0), round((PRICES[change.plan] - PRICES[self.plan]) * rest, 2))
        self.plan = change.plan
        return self.due

    def leave(self) -> datetime:
        """Ends the subscription at the end of what is paid. Returns when that is."""
        self.status = "leaving"
        return self.paid_until

    def update_card(self, card: str) -> None:
        """Replaces the card that was declined."""
        self.card = card

    def charge(self, step: StepContext) -> None:
        bank.request(f"{self.due} from {self.card}", step.idempotency_key)
        self.status, self.due, self.payments = "active", Decimal(0), self.payments + 1

    def remind(self, step: StepContext) -> None:
        text = f"{self.customer}: card declined, next attempt in {step.item} days"
        mail.request(text, step.idempotency_key)

    def say_good_bye(self, step: StepContext) -> None:
        mail.request(f"{self.customer}: good bye", step.idempotency_key)

    def renew(self) -> None:
        """Begins the next month, or ends."""
        if self.status == "leaving":
            self.status = "ended"
        else:
            self.due += PRICES[self.plan]
            self.paid_until = month_after(self.paid_until)

    def is_active(self) -> bool:
        return self.status != "ended"

    def get_paid_until(self) -> datetime:
        return self.paid_until

    def owes(self) -> bool:
        return self.due > 0

    def pauses(self) -> list[int]:
        return [3, 5, 7, 0]

    def pause(self, days: int) -> timedelta:
        return timedelta(days=days)

    def is_last(self, days: int) -> bool:
        return days == 0

    def set_past_due(self) -> None:
        self.status = "past due"

    def end(self) -> None:
        self.status = "ended"

    definition = S(
        While(
            "active",
            is_active,
            Select(
                "change_plan or leave",
                On("change_plan", change_plan, role="customer"),
                On("leave", leave, role="customer"),
                Timeout("change_plan or leave timed out", get_paid_until, handler=renew),
            ),
            If(
                "owes",
                owes,
                ForEach(
                    "collect/for days",
                    pauses,
                    Try(
                        "collect/try charge",
                        Step("collect/charge", charge, retry=Retry(max_attempts=8, initial=timedelta(minutes=1))),
                        Break(),
                    ).except_(CardDeclined, If("last attempt", is_last, Do("end", end), Break())),
                    Do("set past due", set_past_due),
                    Step("collect/write", remind),
                    Select(
                        "collect/update_card",
                        On("update_card", update_card, role="customer"),
                        Timeout("collect/update_card timed out", pause),
                    ),
                ),
            ),
        ),
        Step("say good bye", say_good_bye),
    )
