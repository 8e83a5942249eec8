"""The sample as a tree of statements: the program that ``run`` in ``pizza.py`` becomes.

An instance of one form continues under the other, because the names in both are the same.
"""

from __future__ import annotations

from datetime import timedelta

import pizza

from gorchestrate import Go, On, Return, S, Select, Step, StepContext, Timeout, WaitFor, While


class PizzaOrder(pizza.PizzaOrder, name="pizza"):
    """An order with the fields and the events of the plain form. ``definition`` takes the place of ``run``."""

    def is_open(self) -> bool:
        return self.status != "submitted"

    def is_unpaid(self) -> bool:
        return self.paid_amount < self.amount

    def is_paid(self) -> bool:
        return self.paid_amount >= self.amount

    def give_up_the_cart(self) -> None:
        self.status = "timed out"

    async def print_the_ticket(self, step: StepContext) -> None:
        self.ticket = f"T-{step.idempotency_key[:6]}"

    def complete(self) -> None:
        self.status = "completed"

    definition = S(
        While(
            "order not yet submitted",
            is_open,
            Select(
                "customer fills the cart",
                On("AddToCart", pizza.PizzaOrder.add_to_cart, role="customer"),
                On("EmptyCart", pizza.PizzaOrder.empty_cart, role="customer"),
                On("SubmitCart", pizza.PizzaOrder.submit, role="customer"),
                Timeout(
                    "customer fills the cart timed out",
                    timedelta(hours=24),
                    Step("give up the cart", give_up_the_cart),
                    Return(),
                ),
            ),
        ),
        Select("manager confirms the order", On("ConfirmOrder", pizza.PizzaOrder.confirm, role="manager")),
        Go(
            "go payments",
            S(
                While(
                    "not yet paid in full",
                    is_unpaid,
                    Select("pay", On("Pay", pizza.PizzaOrder.pay, role="customer")),
                ),
                prefix="payments",
            ),
        ),
        Step("print the kitchen ticket", print_the_ticket),
        Select("cook starts", On("StartCooking", pizza.PizzaOrder.start_cooking, role="cook")),
        Select("cook finishes", On("FinishCooking", pizza.PizzaOrder.finish_cooking, role="cook")),
        Select("delivery takes the order", On("TakeDelivery", pizza.PizzaOrder.take_delivery, role="delivery")),
        Select("delivery arrives", On("Deliver", pizza.PizzaOrder.deliver, role="delivery")),
        WaitFor("order is paid", is_paid, complete),
    )
