"""The sample in both forms, driven by the library alone: no store, no queue, no clock but ``now=``."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pizza
import pizza_explicit
import pytest
from pizza import Pizza

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
from workflow_core.diagrams import describe
from workflow_core.program.code import BranchOfItemOp, CodeOp, DoOp, FrameStepOp, Instruction

FORMS: dict[str, type[pizza.PizzaOrder]] = {"plain": pizza.PizzaOrder, "explicit": pizza_explicit.PizzaOrder}
Form = type[pizza.PizzaOrder]


@pytest.fixture(params=[*FORMS.values()], ids=[*FORMS])
def form(request: pytest.FixtureRequest) -> Form:
    workflow: Form = request.param
    return workflow


class Shop:
    """One order and its caller: loads it, calls, saves it, for every single call, as a server would."""

    def __init__(self, form: Form) -> None:
        self.order, self.execution = form(), Execution.start("order-1", form, now=NOON)
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


def confirmed(form: Form) -> Shop:
    shop = Shop(form)
    shop.send("AddToCart", {"name": "margherita", "qty": 2})
    shop.send("SubmitCart")
    shop.send("ConfirmOrder", {"manager": "Maria", "amount": 20})
    return shop


def test_an_order_from_the_first_click_to_the_delivery(form: Form) -> None:
    shop = Shop(form)
    assert shop.accepts() == ["AddToCart", "EmptyCart", "SubmitCart"]
    assert shop.send("AddToCart", {"name": "margherita"}) is not None
    shop.send("AddToCart", Pizza(name="napoli", qty=3))
    assert shop.order.cart == [Pizza(name="margherita"), Pizza(name="napoli", qty=3)]
    assert shop.send("SubmitCart") is None
    assert shop.accepts() == ["ConfirmOrder"]
    shop.send("ConfirmOrder", {"manager": "Maria", "amount": 42.5})
    assert shop.order.ticket.startswith("T-")
    assert standing(shop.execution) == {"main": "cook starts", "go payments": "payments/pay"}
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


def test_whoever_pays_last_completes_the_order(form: Form) -> None:
    shop = confirmed(form)
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


def test_the_cart_is_filled_and_emptied_and_not_submitted_empty(form: Form) -> None:
    shop = Shop(form)
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
def test_what_is_wrong_changes_nothing(event: str, input: Any, error: type[Exception], form: Form) -> None:
    shop = Shop(form)
    with unchanged(shop.order, shop.execution), pytest.raises(error):
        handle_event(shop.order, shop.execution, event, input)


def test_a_cart_that_is_left_alone_times_out(form: Form) -> None:
    shop = Shop(form)
    shop.send("AddToCart", {"name": "napoli"})
    timeout = timed(shop.execution.threads[0].waits)
    assert (timeout.event, timeout.deadline) == ("customer fills the cart timed out", NOON + timedelta(hours=24))
    handle_event(shop.order, shop.execution, timeout.event, wait_id=timeout.id, now=timeout.deadline)
    shop.resume()
    assert (shop.order.status, shop.execution.status) == ("timed out", "finished")
    with pytest.raises(EventNotAccepted, match="the instance is finished"):
        shop.send("AddToCart", {"name": "napoli"})


def test_the_ticket_is_the_same_in_every_attempt(form: Form) -> None:
    first, second = confirmed(form), confirmed(form)
    assert first.order.ticket == second.order.ticket


def test_the_sample_needs_aresume(form: Form) -> None:
    order, execution = form(), Execution.start("order-1", form)
    with unchanged(order, execution), pytest.raises(AsyncInSyncCall, match="'print the kitchen ticket' is async"):
        resume(order, execution)


def test_roles(form: Form) -> None:
    roles = {event: case.role for event, cases in form.__program__.events.items() for _, case in cases}
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


# --- both forms ------------------------------------------------------------------------------


def outline(form: Form) -> list[tuple[str, str, dict[str, str | None]]]:
    """The instructions of a form, without code: their kinds, their names, and the cases with their roles."""
    kinds: dict[type[Instruction], str] = {FrameStepOp: "StepOp", BranchOfItemOp: "BranchOp"}
    return [
        (
            kinds.get(type(part), type(part).__name__),
            part.name,
            {case.event: getattr(case, "role", None) for case in getattr(part, "cases", {}).values()},
        )
        for part in form.__program__.code
        if not isinstance(part, (CodeOp, DoOp))
    ]


def test_both_forms_are_the_same_program() -> None:
    plain, explicit = FORMS["plain"], FORMS["explicit"]
    assert outline(plain) == outline(explicit)
    assert list(plain.__program__.rests) == list(explicit.__program__.rests)
    assert plain.__program__.entries.keys() == explicit.__program__.entries.keys()


def test_both_forms_have_the_same_events_and_diagram() -> None:
    plain, explicit = (form.__program__ for form in FORMS.values())
    described = [
        [{key: event[key] for key in event if key != "output"} for event in describe.events(program)]
        for program in (plain, explicit)
    ]
    assert described[0] == described[1]
    assert describe.statements(plain) == describe.statements(explicit)


ORDER: list[tuple[str, Any]] = [
    ("AddToCart", {"name": "margherita", "qty": 2}),
    ("SubmitCart", None),
    ("ConfirmOrder", {"manager": "Maria", "amount": 20}),
    ("StartCooking", None),
    ("Pay", {"amount": 20}),
    ("FinishCooking", None),
    ("TakeDelivery", {"courier": "Carlo"}),
    ("Deliver", None),
]


@pytest.mark.parametrize("before", range(len(ORDER)))
def test_an_order_of_one_form_goes_on_under_the_other(form: Form, before: int) -> None:
    (other,) = (found for found in FORMS.values() if found is not form)
    shop, expected = Shop(form), Shop(other)
    for number, (event, input) in enumerate(ORDER):
        if number == before:
            shop.order = other.load_fields(shop.order.dump_fields())
        shop.send(event, input)
        expected.send(event, input)
        assert standing(shop.execution) == standing(expected.execution)
        assert shop.order.dump_fields() == expected.order.dump_fields()
    assert (shop.order.status, shop.execution.status) == ("completed", "finished")


def test_a_timeout_of_one_form_happens_under_the_other(form: Form) -> None:
    (other,) = (found for found in FORMS.values() if found is not form)
    shop = Shop(form)
    timeout = timed(shop.execution.threads[0].waits)
    shop.order = other.load_fields(shop.order.dump_fields())
    handle_event(shop.order, shop.execution, timeout.event, wait_id=timeout.id, now=timeout.deadline)
    shop.resume()
    assert (shop.order.status, shop.execution.status) == ("timed out", "finished")
