"""The sample, ``functions/pizza.py``, driven by the library alone: no store, no queue, no clock but ``now=``."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from pizza import Pizza, PizzaOrder

from tests.core.helpers import NOON, accepted, reload, standing, unchanged
from tests.waits import timed
from workflow_core import (
    AsyncInSyncCall,
    EventNotAccepted,
    EventRejected,
    Execution,
    InvalidInput,
    aresume,
    handle_event,
    resume,
)


class Shop:
    """One order and its caller: loads it, calls, saves it, for every single call, as a server would."""

    def __init__(self) -> None:
        self.order, self.execution = PizzaOrder(), Execution.start("order-1", PizzaOrder, now=NOON)
        self.checkpoints: list[str] = []
        self.resume()

    def resume(self) -> None:
        self.order, self.execution = reload(self.order, self.execution)
        asyncio.run(aresume(self.order, self.execution, self.checkpoints.append, now=NOON))

    def send(self, event: str, input: Any = None) -> Any:
        self.order, self.execution = reload(self.order, self.execution)
        output = handle_event(self.order, self.execution, event, input, now=NOON)
        self.resume()
        return output

    def accepts(self) -> list[str]:
        return accepted(self.order, self.execution)


def confirmed() -> Shop:
    shop = Shop()
    shop.send("AddToCart", {"name": "margherita", "qty": 2})
    shop.send("SubmitCart")
    shop.send("ConfirmOrder", {"manager": "Maria", "amount": 20})
    return shop


def test_an_order_from_the_first_click_to_the_delivery() -> None:
    shop = Shop()
    assert shop.accepts() == ["AddToCart", "EmptyCart", "SubmitCart"]
    assert shop.send("AddToCart", {"name": "margherita"}) is not None
    shop.send("AddToCart", Pizza(name="napoli", qty=3))
    assert shop.order.cart == [Pizza(name="margherita"), Pizza(name="napoli", qty=3)]
    assert shop.send("SubmitCart") is None
    assert shop.accepts() == ["ConfirmOrder"]
    shop.send("ConfirmOrder", {"manager": "Maria", "amount": 42.5})
    assert shop.order.ticket.startswith("T-")
    assert standing(shop.execution) == {"main": "cook starts", "customer pays while the order cooks": "customer pays"}
    shop.send("StartCooking")
    assert shop.send("Pay", {"amount": 42.5}) == 0
    assert shop.accepts() == ["FinishCooking"]
    shop.send("FinishCooking")
    shop.send("TakeDelivery", {"courier": "Carlo"})
    assert (shop.order.courier, shop.order.status) == ("Carlo", "delivering")
    shop.send("Deliver")
    assert shop.order.status == "completed"
    assert shop.execution.status == "finished"
    assert shop.accepts() == []
    assert shop.checkpoints == ["resume", "resume", "step"]


def test_whoever_pays_last_completes_the_order() -> None:
    shop = confirmed()
    for event in ("StartCooking", "FinishCooking"):
        shop.send(event)
    shop.send("TakeDelivery", {"courier": "Carlo"})
    shop.send("Deliver")
    assert shop.order.status == "delivered"
    assert shop.accepts() == ["Pay"]
    assert shop.send("Pay", {"amount": 5}) == 15
    assert shop.execution.status == "waiting"
    assert shop.send("Pay", {"amount": 15}) == 0
    assert (shop.order.status, shop.execution.status) == ("completed", "finished")


def test_the_cart_is_filled_and_emptied_and_not_submitted_empty() -> None:
    shop = Shop()
    shop.send("AddToCart", {"name": "napoli"})
    shop.send("EmptyCart")
    with unchanged(shop.order, shop.execution), pytest.raises(EventRejected, match="the cart is empty"):
        handle_event(shop.order, shop.execution, "SubmitCart")
    shop.send("AddToCart", {"name": "napoli"})
    shop.send("SubmitCart")
    assert shop.order.status == "submitted"


@pytest.mark.parametrize(
    ("event", "input", "error"),
    [
        ("AddToCart", {"name": ""}, InvalidInput),
        ("AddToCart", {"name": "napoli", "qty": 0}, InvalidInput),
        ("AddToCart", None, InvalidInput),
        ("SubmitCart", {}, InvalidInput),
        ("Pay", {"amount": 5}, EventNotAccepted),
        ("Deliver", None, EventNotAccepted),
    ],
)
def test_what_is_wrong_changes_nothing(event: str, input: Any, error: type[Exception]) -> None:
    shop = Shop()
    with unchanged(shop.order, shop.execution), pytest.raises(error):
        handle_event(shop.order, shop.execution, event, input)


def test_a_cart_that_is_left_alone_times_out() -> None:
    shop = Shop()
    shop.send("AddToCart", {"name": "napoli"})
    timeout = timed(shop.execution.threads[0].waits)
    assert (timeout.event, timeout.deadline) == ("cart timed out", NOON + timedelta(hours=24))
    handle_event(shop.order, shop.execution, timeout.event, wait_id=timeout.id, now=timeout.deadline)
    shop.resume()
    assert (shop.order.status, shop.execution.status) == ("timed out", "finished")
    with pytest.raises(EventNotAccepted, match="the instance is finished"):
        shop.send("AddToCart", {"name": "napoli"})


def test_the_ticket_is_the_same_in_every_attempt() -> None:
    first, second = confirmed(), confirmed()
    assert first.order.ticket == second.order.ticket


def test_the_sample_needs_aresume() -> None:
    order, execution = PizzaOrder(), Execution.start("order-1", PizzaOrder)
    with unchanged(order, execution), pytest.raises(AsyncInSyncCall, match="'print the kitchen ticket' is async"):
        resume(order, execution)


def test_roles() -> None:
    roles = {event: case.role for event, cases in PizzaOrder.__program__.events.items() for _, case in cases}
    assert roles == {
        "AddToCart": "customer",
        "EmptyCart": "customer",
        "SubmitCart": "customer",
        "ConfirmOrder": "manager",
        "Pay": "customer",
        "StartCooking": "cook",
        "FinishCooking": "cook",
        "TakeDelivery": "delivery",
        "Deliver": "delivery",
    }
