"""The trip saga as an explicit definition: the same workflow as in ``trip.py``, as statements."""

from __future__ import annotations

from datetime import timedelta
from typing import Literal

from trip import Booking, agency, tickets

from gorchestrate import Do, ErrorInfo, ForEach, On, Retry, S, Select, Step, StepContext, Try, Workflow


class Trip(Workflow, name="trip"):
    """Books a trip. A booking that cannot be undone is handed to the support team."""

    create_fields = ("wanted",)
    wanted: list[str] = ["flight", "hotel", "car"]
    bookings: list[Booking] = []
    status: Literal["open", "booked", "undone"] = "open"
    reason: str = ""
    settled_by_hand: list[str] = []

    def settle(self, note: str) -> None:
        """The support team has undone a booking."""
        self.settled_by_hand.append(note)

    def book(self, step: StepContext) -> None:
        reference = agency.request(f"book {step.item}", step.idempotency_key)
        self.bookings.append(Booking(what=step.item, reference=reference))

    def undo(self, step: StepContext) -> None:
        agency.request(f"undo {step.item.what}", step.idempotency_key)

    def open_ticket(self, step: StepContext) -> None:
        assert step.error is not None
        tickets.request(f"{step.item.what}: {step.error.message}", step.idempotency_key)

    def confirm(self) -> None:
        self.status = "booked"

    def note(self, error: ErrorInfo) -> None:
        self.reason = error.message

    def give_up(self) -> None:
        self.status = "undone"

    def get_wanted(self) -> list[str]:
        return self.wanted

    def last_first(self) -> list[Booking]:
        return self.bookings[::-1]

    definition = S(
        Try(
            "try for what",
            ForEach(
                "for what",
                get_wanted,
                Step("book", book, retry=Retry(max_attempts=3, initial=timedelta(seconds=10))),
            ),
            Do("confirm", confirm),
        ).except_(
            Exception,
            ForEach(
                "for booking",
                last_first,
                Try(
                    "try undo",
                    Step("undo", undo, retry=Retry(max_attempts=5, initial=timedelta(minutes=1))),
                ).except_(
                    Exception,
                    Step("open_ticket", open_ticket),
                    Select("settle", On("settle", settle, role="support")),
                    name="try undo except 1",
                ),
            ),
            Do("give up", give_up),
            name="try for what except 1",
            then=note,
        ),
    )
