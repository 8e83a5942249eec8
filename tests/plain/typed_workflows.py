"""Workflows as type checkers see them: what each await gives. The module is only checked, and imported."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Literal, assert_type

from pydantic import BaseModel

from workflow_core import (
    ActivityContext,
    Retry,
    Selected,
    StepContext,
    Workflow,
    activity,
    child,
    event,
    gather,
    go,
    local,
    named,
    parallel,
    section,
    select,
    sleep,
    step,
    until,
)


class Decision(BaseModel):
    verdict: Literal["approved", "rejected"]


class Receipt(BaseModel):
    number: int


class Parcel(Workflow, name="typed-parcel"):
    weight: int = 0

    async def run(self) -> None:
        await sleep(timedelta(1))

    def result(self) -> Receipt:
        return Receipt(number=1)


class Plain(Workflow, name="typed-plain"):
    weight: int = 0

    async def run(self) -> None:
        await sleep(timedelta(1))


class Expense(Workflow, name="typed-expense"):
    amount: Decimal = Decimal(1)
    status: Literal["new", "approved", "rejected"] = "new"
    rows: list[int] = []

    @event(role="manager")
    def decide(self, decision: Decision) -> str:
        self.status = decision.verdict
        return self.status

    @event
    def stop(self) -> None: ...
    @event("Other")
    def other(self, n: int) -> int:
        return n

    @step(retry=Retry(max_attempts=5))
    async def remind(self, number: int) -> None: ...
    @step
    async def pay(self, amount: Decimal, *, note: str = "") -> Receipt:
        return Receipt(number=1)

    @step
    def sync_pay(self, context: StepContext, amount: Decimal) -> Receipt:
        return Receipt(number=1)

    @step(retry=Retry(max_attempts=2))
    def sync_opt(self, amount: Decimal) -> Receipt:
        return Receipt(number=1)

    @step
    async def loose(self, what: object, n: int = 0) -> int:
        return 1

    @step(timeout=timedelta(1))
    async def ctx(self, context: StepContext, n: int) -> int:
        return 1

    @activity
    async def act(self, context: ActivityContext, n: int) -> int:
        return 1

    @activity
    async def check(self, n: int) -> bool:
        return True

    @activity(retry=Retry(max_attempts=5))
    def check_sync(self, n: int, m: str = "") -> list[str]:
        return []

    @section
    async def deliver(self, n: int) -> str | None:
        await self.remind(n)
        return None

    async def plain_section(self, n: int) -> str:
        await self.remind(n)
        return ""

    async def run(self) -> None:
        reminders = 0
        while self.status == "new":
            got = await select(self.decide, timeout=timedelta(days=3))
            assert_type(got, Selected[Decision, str])
            if got.timed_out:
                reminders += 1
                assert_type(await self.remind(reminders), None)
                if reminders == 3:
                    await self.escalate()
                    return
            else:
                assert_type(got.input, Decision)
        both = await select(self.decide, self.stop).named("both")
        if both.happened(self.decide):
            pass
        stopped = await select(self.stop).named("stopped")
        assert_type(stopped.output, None)
        receipt = await self.pay(self.amount, note="x")
        assert_type(receipt, Receipt)
        assert_type(await self.sync_opt(self.amount), Receipt)
        assert_type(await self.pay(self.amount).named("second pay"), Receipt)
        assert_type(await self.check(1), bool)
        assert_type(await self.check_sync(1, m="x"), list[str])
        assert_type(await self.deliver(1), str | None)
        assert_type(await self.deliver(1).named("again"), str | None)
        assert_type(await self.plain_section(1), str)
        a, b = await gather(self.check(1).named("c1"), self.pay(Decimal(1)).named("p3"))
        assert_type(a, bool)
        assert_type(b, Receipt)
        all_ = await gather(*(self.check(row).named("each") for row in self.rows), limit=3)
        assert_type(all_, list[bool])
        assert_type(await child(Parcel, id="x", weight=1), Receipt)
        assert_type(await child(Plain, weight=1).named("plain child"), Plain)
        await child(Plain, detached=True).named("detached")
        await until(lambda: self.status == "new" and reminders > 1)
        await sleep(timedelta(days=1))
        go(self.deliver(3).named("third delivery"), id="x")
        async with parallel() as branch:
            branch.start(self.pay(Decimal(1)).named("p4"))
            branch.start(named("p5", self.plain_section(1)))
        n = local("n", default=0)
        assert_type(n, int)
        await named("ps", self.plain_section(2))
        assert_type(await self.sync_pay(Decimal(1)), Receipt)
        assert_type(await self.ctx(1), int)
        assert_type(await self.act(1), int)
        assert_type(await self.loose(1), int)

    async def escalate(self) -> None:
        await self.remind(9).named("escalate")
