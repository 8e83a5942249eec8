"""The sample: a pizza shop's order, from the first click to the delivery. It depends on no cloud and no database.

``pizza_explicit.py`` has the same program as a tree of statements.
"""

from datetime import timedelta
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, Field

from gorchestrate import (
    Access,
    Action,
    CreatedBy,
    EventRejected,
    Principal,
    StepContext,
    Workflow,
    event,
    go,
    named,
    select,
    step,
    until,
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

    @event("AddToCart", role="customer")
    def add_to_cart(self, pizza: Pizza) -> Self:
        """Adds a line to the cart. Returns the order."""
        self.cart.append(pizza)
        return self

    @event("EmptyCart", role="customer")
    def empty_cart(self) -> Self:
        """Removes everything from the cart. Returns the order."""
        self.cart.clear()
        return self

    @event("SubmitCart", role="customer")
    def submit(self) -> None:
        """Sends the cart to the shop. An empty cart is rejected."""
        if not self.cart:
            raise EventRejected("the cart is empty: add a pizza first")
        self.status = "submitted"

    @step
    def give_up(self) -> None:
        self.status = "timed out"

    @event("ConfirmOrder", role="manager")
    def confirm(self, confirmation: Confirmation) -> Self:
        """Confirms the order and sets its price. Returns the order."""
        self.manager = confirmation.manager
        self.amount = confirmation.amount
        self.status = "confirmed"
        return self

    @event("Pay", role="customer")
    def pay(self, payment: Payment) -> float:
        """Records a full or partial payment. Returns the remaining amount."""
        self.paid_amount += payment.amount
        return max(0.0, self.amount - self.paid_amount)

    @step
    async def print_ticket(self, context: StepContext) -> None:
        """Represents the kitchen's printer. The ticket number comes from the idempotency key, so a repeated attempt
        prints the same ticket."""
        self.ticket = f"T-{context.idempotency_key[:6]}"

    @event("StartCooking", role="cook")
    def start_cooking(self) -> None:
        """Puts the pizzas into the oven."""
        self.status = "cooking"

    @event("FinishCooking", role="cook")
    def finish_cooking(self) -> None:
        """Takes the pizzas out of the oven."""
        self.status = "cooked"

    @event("TakeDelivery", role="delivery")
    def take_delivery(self, delivery: Delivery) -> None:
        """Hands the order to a courier."""
        self.courier = delivery.courier
        self.status = "delivering"

    @event("Deliver", role="delivery")
    def deliver(self) -> None:
        """Delivers the pizzas to the customer."""
        self.status = "delivered"

    async def run(self) -> None:
        # order not yet submitted
        while self.status != "submitted":
            got = await named(
                "customer fills the cart",
                select(self.add_to_cart, self.empty_cart, self.submit, timeout=timedelta(hours=24)),
            )
            if got.timed_out:
                await self.give_up().named("give up the cart")
                return
        await select(self.confirm).named("manager confirms the order")
        go(self.payments())
        await self.print_ticket().named("print the kitchen ticket")
        await select(self.start_cooking).named("cook starts")
        await select(self.finish_cooking).named("cook finishes")
        await select(self.take_delivery).named("delivery takes the order")
        await select(self.deliver).named("delivery arrives")
        await until(lambda: self.paid_amount >= self.amount).named("order is paid")
        self.status = "completed"

    async def payments(self) -> None:
        """The customer pays while the order cooks."""
        # not yet paid in full
        while self.paid_amount < self.amount:
            await select(self.pay)


def _is_only_customer(principal: Principal) -> bool:
    return principal.roles.isdisjoint(("manager", "cook", "delivery"))
