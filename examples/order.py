"""An order that is shipped from several warehouses at once, until the customer calls it off."""

from __future__ import annotations

from typing import Literal

from services import OutsideService

from gorchestrate import StepContext, Workflow, child, event, gather, race, select, step

bank, warehouses = OutsideService("bank"), OutsideService("warehouse")


class Parcel(Workflow, name="parcel"):
    """One parcel on its way. If it is canceled, its items go back to the warehouse."""

    warehouse: str
    items: list[str]
    signed_by: str = ""

    @event(role="courier")
    def hand_over(self, signed_by: str) -> None:
        """The parcel has arrived."""
        self.signed_by = signed_by

    @step
    def pack(self, step: StepContext) -> None:
        warehouses.request(f"{self.warehouse} packs {', '.join(self.items)}", step.idempotency_key)

    @step
    def put_back(self, step: StepContext) -> None:
        warehouses.request(f"{self.warehouse} puts back {', '.join(self.items)}", step.idempotency_key)

    def result(self) -> str:
        return self.signed_by

    async def run(self) -> None:
        try:
            await self.pack()
            await select(self.hand_over)
        finally:
            if not self.signed_by:
                await self.put_back()


class Order(Workflow, name="order"):
    """A paid order. Each warehouse sends a parcel; the money is paid back if the customer calls the order off."""

    create_fields = ("number", "price", "items")
    number: str
    price: int
    items: dict[str, list[str]]
    status: Literal["open", "delivered", "called off"] = "open"
    receipts: list[str] = []

    @event(role="customer")
    def call_off(self) -> None:
        """Stops all parcels that are still on their way."""

    @step
    def charge(self, step: StepContext) -> None:
        bank.request(f"charge {self.price} for {self.number}", step.idempotency_key)

    @step
    def refund(self, step: StepContext) -> None:
        bank.request(f"refund {self.price} for {self.number}", step.idempotency_key)

    async def send(self, place: str) -> str:
        return await child(Parcel, id=f"{self.number}-{place}", warehouse=place, items=self.items[place])

    async def run(self) -> None:
        await self.charge()
        receipts, called_off = await race(gather(*(self.send(place) for place in self.items)), select(self.call_off))
        if receipts is not None:
            self.status, self.receipts = "delivered", receipts
        if called_off is not None:
            self.status = "called off"
            await self.refund()
