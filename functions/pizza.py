"""The sample: a pizza shop's order, from the first click to the delivery. It depends on no cloud and no database."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from workflow_core import (
    Access,
    Action,
    CreatedBy,
    EventRejected,
    Go,
    On,
    Principal,
    Return,
    S,
    Select,
    Step,
    StepContext,
    Timeout,
    WaitFor,
    While,
    Workflow,
)


class Pizza(BaseModel):
    """One line of the cart."""

    name: Annotated[str, Field(min_length=1, max_length=100, examples=["margherita"])]
    qty: Annotated[int, Field(ge=1, le=100)] = 1


class Confirmation(BaseModel):
    """The manager's confirmation of the order, with its price."""

    manager: Annotated[str, Field(min_length=1, max_length=100, examples=["Ada"])]
    amount: Annotated[float, Field(gt=0, examples=[31.5])]


class Payment(BaseModel):
    """A payment of the customer."""

    amount: Annotated[float, Field(gt=0, examples=[31.5])]


class Delivery(BaseModel):
    """The courier who delivers the order."""

    courier: Annotated[str, Field(min_length=1, max_length=100, examples=["Grace"])]


OrderStatus = Literal[
    "new", "submitted", "timed out", "confirmed", "cooking", "cooked", "delivering", "delivered", "completed"
]


class PizzaOrder(Workflow, name="pizza"):
    """A customer fills a cart and a manager confirms it. The customer pays while a cook and a courier do their work."""

    create_fields = ("cart",)
    search_fields = ("customer",)
    access = Access(
        create={"customer"},
        read={"customer", "manager", "cook", "delivery"},
        list={"customer", "manager", "cook", "delivery"},
        operate={"manager"},
    )

    customer: Annotated[str, CreatedBy] = ""
    cart: list[Pizza] = []
    status: OrderStatus = "new"
    manager: str = ""
    amount: float = 0
    paid_amount: float = 0
    ticket: str = ""
    courier: str = ""

    def authorize(self, principal: Principal, action: Action, event: str | None) -> bool | None:
        """Customers have access to their own orders only. For everyone else, the roles decide."""
        if _is_only_customer(principal):
            return principal.id == self.customer
        return None

    @classmethod
    def visible(cls, principal: Principal) -> dict[str, Any] | None:
        """Lists show customers their own orders only."""
        return {"customer": principal.id} if _is_only_customer(principal) else None

    def add_to_cart(self, pizza: Pizza) -> PizzaOrder:
        """Adds a line to the cart. Returns the order."""
        self.cart.append(pizza)
        return self

    def empty_cart(self) -> PizzaOrder:
        """Removes everything from the cart. Returns the order."""
        self.cart.clear()
        return self

    def submit(self) -> None:
        """Sends the cart to the shop. An empty cart is rejected."""
        if not self.cart:
            raise EventRejected("the cart is empty: add a pizza first")
        self.status = "submitted"

    def give_up(self, step: StepContext) -> None:
        self.status = "timed out"

    def confirm(self, confirmation: Confirmation) -> PizzaOrder:
        """Confirms the order and sets its price. Returns the order."""
        self.manager = confirmation.manager
        self.amount = confirmation.amount
        self.status = "confirmed"
        return self

    def pay(self, payment: Payment) -> float:
        """Records a full or partial payment. Returns the remaining amount."""
        self.paid_amount += payment.amount
        return max(0.0, self.amount - self.paid_amount)

    async def print_ticket(self, step: StepContext) -> None:
        """Represents the kitchen's printer. The ticket number comes from the idempotency key, so a repeated attempt
        prints the same ticket."""
        self.ticket = f"T-{step.idempotency_key[:6]}"

    def start_cooking(self) -> None:
        """Puts the pizzas into the oven."""
        self.status = "cooking"

    def finish_cooking(self) -> None:
        """Takes the pizzas out of the oven."""
        self.status = "cooked"

    def take_delivery(self, delivery: Delivery) -> None:
        """Hands the order to a courier."""
        self.courier = delivery.courier
        self.status = "delivering"

    def deliver(self) -> None:
        """Delivers the pizzas to the customer."""
        self.status = "delivered"

    def complete(self) -> None:
        self.status = "completed"

    definition = S(
        While(
            "order not yet submitted",
            lambda o: o.status != "submitted",
            Select(
                "customer fills the cart",
                On("AddToCart", add_to_cart, role="customer"),
                On("EmptyCart", empty_cart, role="customer"),
                On("SubmitCart", submit, role="customer"),
                Timeout("cart timed out", timedelta(hours=24), Step("give up the cart", give_up), Return()),
            ),
        ),
        Select("manager confirms the order", On("ConfirmOrder", confirm, role="manager")),
        Go(
            "customer pays while the order cooks",
            While(
                "not yet paid in full",
                lambda o: o.paid_amount < o.amount,
                Select("customer pays", On("Pay", pay, role="customer")),
            ),
        ),
        Step("print the kitchen ticket", print_ticket),
        Select("cook starts", On("StartCooking", start_cooking, role="cook")),
        Select("cook finishes", On("FinishCooking", finish_cooking, role="cook")),
        Select("delivery takes the order", On("TakeDelivery", take_delivery, role="delivery")),
        Select("delivery arrives", On("Deliver", deliver, role="delivery")),
        WaitFor("order is paid", lambda o: o.paid_amount >= o.amount, complete),
    )


def _is_only_customer(principal: Principal) -> bool:
    return principal.roles.isdisjoint(("manager", "cook", "delivery"))
