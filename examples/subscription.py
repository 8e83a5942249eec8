"""Subscription billing over years: monthly charges, changes of the plan at any time, and dunning for declined cards."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Literal

from pydantic import BaseModel
from services import OutsideService

from gorchestrate import Retry, StepContext, TerminalError, Workflow, event, select, step

bank, mail = OutsideService("bank"), OutsideService("mail")

PRICES = {"basic": Decimal(10), "pro": Decimal(30)}


class CardDeclined(TerminalError):
    """Only the customer can change this, so another attempt is useless."""


class PlanChange(BaseModel):
    """The plan that a customer wants from now on."""

    plan: Literal["basic", "pro"]


def month_after(time: datetime) -> datetime:
    """Returns the same day of the next month, or its 28th."""
    year, month = divmod(time.year * 12 + time.month, 12)
    return time.replace(year=year, month=month + 1, day=min(time.day, 28))


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

    @event(role="customer")
    def change_plan(self, change: PlanChange, *, now: datetime) -> Decimal:
        """Changes the plan at once. Returns what is due for the rest of the month."""
        rest = Decimal((self.paid_until - now) / timedelta(days=30))
        self.due = max(Decimal(0), round((PRICES[change.plan] - PRICES[self.plan]) * rest, 2))
        self.plan = change.plan
        return self.due

    @event(role="customer")
    def leave(self) -> datetime:
        """Ends the subscription at the end of what is paid. Returns when that is."""
        self.status = "leaving"
        return self.paid_until

    @event(role="customer")
    def update_card(self, card: str) -> None:
        """Replaces the card that was declined."""
        self.card = card

    @step(retry=Retry(max_attempts=8, initial=timedelta(minutes=1)))
    def charge(self, step: StepContext) -> None:
        bank.request(f"{self.due} from {self.card}", step.idempotency_key)

    @step
    def write(self, step: StepContext, text: str) -> None:
        mail.request(f"{self.customer}: {text}", step.idempotency_key)

    def renew(self) -> None:
        """Begins the next month, or ends."""
        if self.status == "leaving":
            self.status = "ended"
        else:
            self.due += PRICES[self.plan]
            self.paid_until = month_after(self.paid_until)

    async def collect(self) -> None:
        """Charges what is due. If the card is declined, tries again after 3, 5 and 7 days, or with a new card."""
        for days in (3, 5, 7, 0):
            try:
                await self.charge()
                self.status, self.due, self.payments = "active", Decimal(0), self.payments + 1
                return
            except CardDeclined:
                self.status = "past due" if days else "ended"
            if days:
                await self.write(f"card declined, next attempt in {days} days")
                await select(self.update_card, timeout=timedelta(days=days))

    async def run(self) -> None:
        while self.status != "ended":
            if (await select(self.change_plan, self.leave, timeout=self.paid_until)).timed_out:
                self.renew()
            if self.due:
                await self.collect()
        await self.write("good bye").named("say good bye")
