"""Delays of ``select``, ``until`` and ``sleep``."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from workflow_core import Execution, TimedOut, Workflow, aresume, event, handle_event, select, sleep, until
from workflow_core.diagrams.mermaid import draw
from workflow_core.wait_types import TimerWait

NOW = datetime(2026, 1, 1, tzinfo=UTC)


class Bill(Workflow, name="bill"):
    paid: int = 0
    days: int = 2
    log: list[str] = []

    @event
    def pay(self, cents: int) -> None:
        self.paid += cents

    async def run(self) -> None:
        try:
            await until(lambda: self.paid > 100, timeout=timedelta(days=self.days)).named("paid")
            self.log.append("paid in time")
        except TimedOut:
            self.log.append("late")
        await sleep(timedelta(hours=1))
        await select(self.pay, timeout=timedelta(weeks=1))


def started(**fields: int) -> tuple[Bill, Execution]:
    bill, execution = Bill(**fields), Execution.start("b", Bill)
    asyncio.run(aresume(bill, execution, now=NOW))
    return bill, execution


def test_a_condition_that_is_not_true_in_time_raises_an_error() -> None:
    bill, execution = started()
    timers = [wait for wait in execution.threads[0].waits if isinstance(wait, TimerWait)]
    assert [wait.deadline for wait in timers] == [NOW + timedelta(days=2)]
    handle_event(bill, execution, "paid timeout", now=NOW + timedelta(days=2))
    assert bill.log == ["late"]
    assert execution.threads[0].step == "sleep(timedelta(hours=1))"


def test_a_condition_that_is_true_in_time() -> None:
    bill, execution = started(paid=101)
    assert bill.log == ["paid in time"]
    assert execution.threads[0].step == "sleep(timedelta(hours=1))"


@pytest.mark.parametrize("text", ["after 7 d", "after 1 h"])
def test_diagrams_show_constant_delays(text: str) -> None:
    assert text in draw(Bill.__program__)
