"""A trip saga: a flight, a hotel and a car are booked, or everything is undone, if necessary by a person."""

from __future__ import annotations

from datetime import timedelta
from typing import Literal

from pydantic import BaseModel
from services import OutsideService

from gorchestrate import Retry, StepContext, TerminalError, Workflow, event, select, step

agency, tickets = OutsideService("agency"), OutsideService("ticket")


class SoldOut(TerminalError):
    """Nothing is left, so another attempt is useless."""


class Booking(BaseModel):
    """A booking that was confirmed."""

    what: str
    reference: str


class Trip(Workflow, name="trip"):
    """Books a trip. A booking that cannot be undone is handed to the support team."""

    create_fields = ("wanted",)
    wanted: list[str] = ["flight", "hotel", "car"]
    bookings: list[Booking] = []
    status: Literal["open", "booked", "undone"] = "open"
    reason: str = ""
    settled_by_hand: list[str] = []

    @event(role="support")
    def settle(self, note: str) -> None:
        """The support team has undone a booking."""
        self.settled_by_hand.append(note)

    @step(retry=Retry(max_attempts=3, initial=timedelta(seconds=10)))
    def book(self, step: StepContext, what: str) -> Booking:
        return Booking(what=what, reference=agency.request(f"book {what}", step.idempotency_key))

    @step(retry=Retry(max_attempts=5, initial=timedelta(minutes=1)))
    def undo(self, step: StepContext, booking: Booking) -> None:
        agency.request(f"undo {booking.what}", step.idempotency_key)

    @step
    def open_ticket(self, step: StepContext, booking: Booking, problem: str) -> None:
        tickets.request(f"{booking.what}: {problem}", step.idempotency_key)

    async def run(self) -> None:
        try:
            for what in self.wanted:
                self.bookings.append(await self.book(what))
            self.status = "booked"
        except Exception as error:
            self.reason = str(error)
            for booking in self.bookings[::-1]:
                try:
                    await self.undo(booking)
                except Exception as problem:
                    await self.open_ticket(booking, str(problem))
                    await select(self.settle)
            self.status = "undone"
