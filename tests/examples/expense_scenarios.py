"""What happens to an expense."""

from __future__ import annotations

from datetime import timedelta

import expense
import expense_explicit

from tests.examples.running import Example, Run

ANN = {"by": "Ann", "verdict": "approved"}


async def approved_after_reminders(run: Run) -> None:
    await run.create(employee="Bob", amount="120.50")
    await run.pass_time(timedelta(days=7))
    assert await run.places() == {"decide"}
    await run.send("decide", ANN)
    fields = await run.fields()
    assert (fields.status, fields.decided_by, fields.reminders) == ("approved", "Ann", 2)
    assert fields.payment.startswith("bank-")
    assert run.services["mail"].log == ["manager: reminder 1", "manager: reminder 2", "Bob: approved"]
    assert run.services["bank"].log == ["120.50 to Bob"]
    assert await run.status() == "finished"


async def rejected_by_nobody(run: Run) -> None:
    await run.create(employee="Bob", amount="99")
    await run.pass_time(timedelta(days=9))
    assert await run.places() == {"director decides"}
    await run.pass_time(timedelta(days=7))
    fields = await run.fields()
    assert (fields.status, fields.decided_by, fields.payment) == ("rejected", "nobody", "")
    reminders = [f"manager: reminder {number}" for number in (1, 2, 3)]
    assert run.services["mail"].log == [*reminders, "director: please decide", "Bob: rejected"]
    assert await run.status() == "finished"


async def paid_by_policy_after_outages(run: Run) -> None:
    run.services["bank"].errors["12 to Bob"] = [ConnectionError("no line")] * 3
    await run.create(employee="Bob", amount="12")
    await run.pass_time(timedelta(hours=1))
    assert run.services["bank"].log == ["12 to Bob"]
    assert (await run.fields()).decided_by == "policy"
    assert await run.status() == "finished"


EXAMPLE = Example(
    expense,
    plain=(expense.Expense,),
    explicit=(expense_explicit.Expense,),
    scenarios=(approved_after_reminders, rejected_by_nobody, paid_by_policy_after_outages),
)
