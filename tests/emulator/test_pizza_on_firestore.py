"""The sample's order from the first pizza to the delivery: engine, Firestore's emulator, the queue of the process."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta

import pytest
from pizza import PizzaOrder

from cloud_adapter.engine import recent_sessions
from cloud_adapter.engine.engine import Engine
from tests.emulator.firestore_engine import firestore_engine
from tests.firestore_client import losing_the_reply
from workflow_core import EventNotAccepted, Status

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

EVENTS = (
    ("AddToCart", {"name": "margherita", "qty": 2}),
    ("SubmitCart", None),
    ("ConfirmOrder", {"manager": "Mia", "amount": 25.5}),
    ("StartCooking", None),
    ("Pay", {"amount": 20}),
    ("FinishCooking", None),
    ("TakeDelivery", {"courier": "Carl"}),
    ("Deliver", None),
    ("Pay", {"amount": 5.5}),
)


async def send(engine: Engine, event: str, body: object, key: str | None = None) -> object:
    return json.loads(
        await engine.handle_event(
            "pizza", "order-1", event, b"" if body is None else json.dumps(body).encode(), key=key
        )
    )


def test_an_order_is_delivered(firestore_project: str) -> None:
    async def main() -> None:
        async with firestore_engine(firestore_project, PizzaOrder) as (engine, _):
            await engine.create("pizza", "order-1")
            for number, (event, body) in enumerate(EVENTS):
                response = await send(engine, event, body, f"key-{number}")
                assert await send(engine, event, body, f"key-{number}") == response  # a client that asks again
            view = await engine.get("pizza", "order-1")
            assert view.instance.execution.status is Status.FINISHED
            order = view.workflow
            assert isinstance(order, PizzaOrder)
            assert (order.status, order.paid_amount, order.courier) == ("completed", 25.5, "Carl")
            assert order.ticket.startswith("T-")
            with pytest.raises(EventNotAccepted):
                await send(engine, "Deliver", None)
            page = await engine.list("pizza", status="finished")
            assert [instance.id for instance in page.instances] == ["order-1"]

    asyncio.run(main())


def test_an_event_is_one_write_and_one_read_unless_it_follows_soon(
    firestore_project: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recent_sessions, "SHARED", timedelta(hours=1))

    async def main() -> None:
        async with firestore_engine(firestore_project, PizzaOrder) as (engine, client):
            await engine.create("pizza", "order-1")
            assert client.taken() == ["Commit"]
            await send(engine, "AddToCart", {"name": "funghi"})
            assert client.taken() == ["GetDocument", "Commit"]
            await send(engine, "AddToCart", {"name": "funghi"}, "key-1")
            assert client.taken() == ["Commit"]
            assert len((await engine.store.load("pizza", "order-1")).tokens) == 3

    asyncio.run(main())


def test_a_write_of_an_event_is_small_at_any_age(firestore_project: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message of a commit, with all names and overhead."""
    monkeypatch.setattr(recent_sessions, "SHARED", timedelta(hours=1))

    async def main() -> None:
        async with firestore_engine(firestore_project, PizzaOrder) as (engine, client):
            await engine.create("pizza", "order-1")
            client.requests.clear()
            for number in range(130):
                event, body = ("EmptyCart", None) if number % 2 else ("AddToCart", {"name": "funghi"})
                await send(engine, event, body)
            sizes = sorted(
                len(getattr(request, "_pb", request).SerializeToString())
                for request in client.requests
                if hasattr(request, "writes")
            )
            assert len(sizes) == 130
            assert sizes[-3] < 1_800, "but for two, which remove older entries of the history"
            reads = len(client.requests) - len(sizes)
            assert reads == 2, "one for the first event, and one for the history that the first of the two shortens"

    asyncio.run(main())


def test_an_event_whose_commit_was_not_heard_of_counts_once(
    firestore_project: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recent_sessions, "SHARED", timedelta())

    async def main() -> None:
        async with firestore_engine(firestore_project, PizzaOrder) as (engine, client):
            client.handlers.append(losing_the_reply)
            await engine.create("pizza", "order-1")
            for key in (None, "key-1"):
                loading, committing = (lambda send: send()), losing_the_reply
                client.handlers.extend([loading, committing])
                await send(engine, "AddToCart", {"name": "funghi"}, key)
            order = (await engine.get("pizza", "order-1")).workflow
            assert isinstance(order, PizzaOrder)
            assert len(order.cart) == 2

    asyncio.run(main())


def test_8_customers_of_one_cart_lose_nothing(firestore_project: str) -> None:
    async def main() -> None:
        async with firestore_engine(firestore_project, PizzaOrder) as (engine, _):
            await engine.create("pizza", "order-1")
            await asyncio.gather(*(send(engine, "AddToCart", {"name": f"pizza {number}"}) for number in range(8)))
            order = (await engine.get("pizza", "order-1")).workflow
            assert isinstance(order, PizzaOrder)
            assert {pizza.name for pizza in order.cart} == {f"pizza {number}" for number in range(8)}

    asyncio.run(main())


def test_what_a_process_leaves_behind_another_takes_over(firestore_project: str) -> None:
    async def main() -> None:
        async with firestore_engine(firestore_project, PizzaOrder) as (engine, _):
            await engine.create("pizza", "order-1")
        async with firestore_engine(firestore_project, PizzaOrder) as (engine, _):  # its queue is empty
            assert await engine.recover(ahead=timedelta(days=2)) == 1  # the timer of the cart
            for event, body in EVENTS:
                await send(engine, event, body)
            assert (await engine.get("pizza", "order-1")).instance.execution.status is Status.FINISHED
            assert await engine.recover(ahead=timedelta(days=2)) == 0

    asyncio.run(main())
