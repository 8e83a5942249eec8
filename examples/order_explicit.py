"""The order with parallel parcels as an explicit definition: the same workflow as in ``order.py``, as statements."""

from __future__ import annotations

from typing import Literal

from order import bank, warehouses

from gorchestrate import Child, ForEach, If, On, Race, S, Select, Step, StepContext, Try, Workflow


class Parcel(Workflow, name="parcel"):
    """One parcel on its way. If it is canceled, its items go back to the warehouse."""

    warehouse: str
    items: list[str]
    signed_by: str = ""

    def hand_over(self, signed_by: str) -> None:
        """The parcel has arrived."""
        self.signed_by = signed_by

    def pack(self, step: StepContext) -> None:
        warehouses.request(f"{self.warehouse} packs {', '.join(self.items)}", step.idempotency_key)

    def put_back(self, step: StepContext) -> None:
        warehouses.request(f"{self.warehouse} puts back {', '.join(self.items)}", step.idempotency_key)

    def is_lost(self) -> bool:
        return not self.signed_by

    def result(self) -> str:
        return self.signed_by

    definition = S(
        Try(
            "try pack",
            Step("pack", pack),
            Select("hand_over", On("hand_over", hand_over, role="courier")),
        ).finally_(If("not handed over", is_lost, Step("put_back", put_back)))
    )


class Order(Workflow, name="order"):
    """A paid order. Each warehouse sends a parcel; the money is paid back if the customer calls the order off."""

    create_fields = ("number", "price", "items")
    number: str
    price: int
    items: dict[str, list[str]]
    status: Literal["open", "delivered", "called off"] = "open"
    receipts: list[str] = []

    def call_off(self) -> None:
        """Stops all parcels that are still on their way."""

    def charge(self, step: StepContext) -> None:
        bank.request(f"charge {self.price} for {self.number}", step.idempotency_key)

    def refund(self, step: StepContext) -> None:
        bank.request(f"refund {self.price} for {self.number}", step.idempotency_key)

    def places(self) -> list[str]:
        return list(self.items)

    def parcel_id(self, place: str) -> str:
        return f"{self.number}-{place}"

    def parcel(self, place: str) -> Parcel:
        return Parcel(warehouse=place, items=self.items[place])

    def signed(self, signed_by: str) -> None:
        self.receipts.append(signed_by)

    def decided(self, first: Literal["ship", "call off"]) -> None:
        self.status = "delivered" if first == "ship" else "called off"

    def is_called_off(self) -> bool:
        return self.status == "called off"

    definition = S(
        Step("charge", charge),
        Race(
            "ship until it is called off",
            S(
                ForEach(
                    "each parcel",
                    places,
                    Child("parcel", Parcel, id=parcel_id, input=parcel, then=signed),
                    parallel=True,
                ),
                prefix="ship",
            ),
            S(Select("call_off", On("call_off", call_off, role="customer")), prefix="call off"),
            then=decided,
        ),
        If("called off", is_called_off, Step("refund", refund)),
    )
