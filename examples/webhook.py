"""A payment whose provider sends signed notices: some twice, some late, some in the wrong order."""

from __future__ import annotations

import hmac
from datetime import UTC, datetime, timedelta
from typing import Literal

from pydantic import BaseModel
from services import OutsideService

from gorchestrate import (
    EventRejected,
    StepContext,
    TimedOut,
    WebhookRequest,
    Workflow,
    event,
    select,
    step,
    timeout,
)

shop = OutsideService("shop")

SECRET = b"whsec_example"  # read it from a secret manager
TOLERANCE = timedelta(minutes=5)
REPEATED = timedelta(days=3)
"""How long the provider repeats a notice that got no response of success."""

State = Literal["new", "authorized", "paid", "failed", "refunded"]


class Notice(BaseModel):
    """What the provider says about a payment: its state since ``created``, in seconds since 1970."""

    id: str
    payment: str
    created: int
    state: State


def signature(body: bytes, at: int) -> str:
    """The header with which the provider signs a request: the time, and an HMAC of the time and the raw body."""
    return f"t={at},v1={hmac.new(SECRET, f'{at}.'.encode() + body, 'sha256').hexdigest()}"


def is_from_provider(workflow: Workflow, request: WebhookRequest) -> bool:
    """Signed by the provider, in the header `Provider-Signature`, at most 5 minutes ago."""
    parts = [part.partition("=") for part in request.headers.get("provider-signature", "").split(",")]
    at = next((value for name, _, value in parts if name == "t"), "")
    if not (at.isascii() and at.isdigit() and len(at) < 15):
        return False
    if abs(datetime.now(UTC).timestamp() - int(at)) > TOLERANCE.total_seconds():
        return False  # an old request, which somebody has kept
    expected = signature(request.body, int(at)).rpartition("=")[2].encode()
    # While a secret is replaced, the provider sends one value for each.
    return any(hmac.compare_digest(expected, value.encode()) for name, _, value in parts if name == "v1")


class Payment(Workflow, name="payment"):
    """Ships an order once it is paid, and takes it back if the money is paid back within 30 days."""

    create_fields = ("payment",)
    payment: str
    state: State = "new"
    since: int = 0
    notices: list[str] = []
    outcome: Literal["open", "expired", "failed", "shipped", "taken back"] = "open"

    @event(verify=is_from_provider)
    def notify(self, notice: Notice) -> Literal["taken", "known", "outdated"]:
        """A notice of the provider. Also one that changes nothing is accepted, or the provider would send it again.

        When the instance has ended, a notice gets 409. That is long after the last one; see ``run``.
        """
        if notice.payment != self.payment:  # the signature does not say for which instance it is
            raise EventRejected(f"this is not the payment {notice.payment}")
        if notice.id in self.notices:
            return "known"
        self.notices.append(notice.id)
        if notice.created < self.since:
            return "outdated"
        self.state, self.since = notice.state, notice.created
        return "taken"

    def is_in(self, *states: State) -> bool:
        return self.state in states

    @step
    def ship(self, step: StepContext) -> None:
        shop.request(f"ship {self.payment}", step.idempotency_key)

    @step
    def take_back(self, step: StepContext) -> None:
        shop.request(f"take back {self.payment}", step.idempotency_key)

    async def run(self) -> None:
        try:
            async with timeout(timedelta(days=3)).named("time to pay"):
                while self.is_in("new", "authorized"):
                    await select(self.notify)
        except TimedOut:
            self.outcome = "expired"
        if self.is_in("failed"):
            self.outcome = "failed"
        if self.is_in("paid"):
            await self.ship()
            self.outcome = "shipped"
            try:
                async with timeout(timedelta(days=30)).named("time for refunds"):
                    while not self.is_in("refunded"):
                        await select(self.notify).named("later notices")
                await self.take_back()
                self.outcome = "taken back"
            except TimedOut:
                pass
        # Nothing more happens, but the provider may still send notices, and repeats those that it finds unanswered.
        while True:
            late = await select(self.notify, timeout=REPEATED).named("notices after the outcome")
            if late.timed_out:
                return
