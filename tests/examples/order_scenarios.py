"""What happens to an order."""

from __future__ import annotations

from datetime import timedelta

import order
import order_explicit

from tests.examples.running import Example, Run

ITEMS = {"Hamburg": ["tent"], "Wien": ["lamp", "rope"]}


async def delivered(run: Run) -> None:
    await run.create(number="A7", price=120, items=ITEMS)
    await run.pass_time(timedelta(hours=1))
    await run.send("hand_over", "Ann", workflow="parcel", id="A7-Wien")
    assert (await run.fields()).status == "open"
    await run.send("hand_over", "Bob", workflow="parcel", id="A7-Hamburg")
    fields = await run.fields()
    assert (fields.status, sorted(fields.receipts)) == ("delivered", ["Ann", "Bob"])
    assert sorted(run.services["warehouses"].log) == ["Hamburg packs tent", "Wien packs lamp, rope"]
    assert run.services["bank"].log == ["charge 120 for A7"]
    assert await run.status() == "finished"


async def called_off(run: Run) -> None:
    """One parcel has arrived, the other one goes back."""
    await run.create(number="A7", price=120, items=ITEMS)
    await run.pass_time(timedelta(hours=1))
    await run.send("hand_over", "Ann", workflow="parcel", id="A7-Wien")
    await run.send("call_off")
    await run.pass_time(timedelta(hours=1))
    assert sorted(run.services["warehouses"].log) == [
        "Hamburg packs tent",
        "Hamburg puts back tent",
        "Wien packs lamp, rope",
    ]
    assert run.services["bank"].log == ["charge 120 for A7", "refund 120 for A7"]
    assert ((await run.fields()).status, await run.status()) == ("called off", "finished")
    assert (await run.world.store.load("parcel", "A7-Hamburg")).execution.status == "canceled"


EXAMPLE = Example(
    order,
    plain=(order.Order, order.Parcel),
    explicit=(order_explicit.Order, order_explicit.Parcel),
    scenarios=(delivered, called_off),
)
