"""What happens to a subscription."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import subscription
import subscription_explicit

from tests.examples.running import Example, Run

DAY = timedelta(days=1)


async def start(run: Run) -> None:
    await run.create(customer="Ann", paid_until=run.world.now.isoformat())
    await run.pass_time(DAY)
    assert run.services["bank"].log == ["10 from card 1"]


async def three_years_with_an_upgrade(run: Run) -> None:
    await start(run)
    await run.pass_time(380 * DAY)  # to the 17th of January
    assert run.services["bank"].log == ["10 from card 1"] * 13
    assert Decimal(await run.send("change_plan", {"plan": "pro"})) == 10
    await run.pass_time(2 * 365 * DAY)
    assert run.services["bank"].log[13:] == ["10.00 from card 1"] + ["30 from card 1"] * 24
    await run.send("leave")
    await run.pass_time(32 * DAY)
    fields = await run.fields()
    assert (fields.status, fields.payments) == ("ended", 38)
    assert run.services["mail"].log == ["Ann: good bye"]
    assert await run.status() == "finished"


async def dunning_until_there_is_a_new_card(run: Run) -> None:
    await start(run)
    bank = run.services["bank"]
    bank.errors["10 from card 1"] = [subscription.CardDeclined("expired")] * 9
    await run.pass_time(34 * DAY)
    assert (await run.fields()).status == "past due"
    assert len(run.services["mail"].log) == 2
    await run.send("update_card", "card 2")
    fields = await run.fields()
    assert (fields.status, fields.payments) == ("active", 2)
    await run.pass_time(31 * DAY)
    assert bank.log == ["10 from card 1", "10 from card 2", "10 from card 2"]


async def ended_because_nobody_pays(run: Run) -> None:
    await start(run)
    run.services["bank"].errors["10 from card 1"] = [subscription.CardDeclined("expired")] * 9
    await run.pass_time(47 * DAY)
    reminders = [f"Ann: card declined, next attempt in {days} days" for days in (3, 5, 7)]
    assert run.services["mail"].log == [*reminders, "Ann: good bye"]
    assert ((await run.fields()).status, await run.status()) == ("ended", "finished")


EXAMPLE = Example(
    subscription,
    plain=(subscription.Subscription,),
    explicit=(subscription_explicit.Subscription,),
    scenarios=(dunning_until_there_is_a_new_card, ended_because_nobody_pays),
    long_scenarios=(three_years_with_an_upgrade,),
)
