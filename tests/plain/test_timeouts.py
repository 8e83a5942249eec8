"""``async with timeout(...)``: deadlines for blocks and for whole workflows."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.waits import timed
from workflow_core import (
    Execution,
    Status,
    TimedOut,
    Workflow,
    aresume,
    event,
    handle_event,
    select,
    sleep,
    step,
    timeout,
    until,
)
from workflow_core.program.code import WithinOp

START = datetime(2026, 1, 1, tzinfo=UTC)


class Offer(Workflow, name="offer"):
    log: list[str] = []
    hours: int = 2

    @event
    def accept(self) -> None:
        self.log.append("accepted")

    @event
    def ask(self) -> None:
        self.log.append("asked")

    @step
    def withdraw(self, why: str) -> None:
        self.log.append(f"withdraw {why}")

    async def run(self) -> None:
        why = "too late"
        hours = self.hours
        self.hours = 100  # the deadline is what the local says
        await select(self.ask).named("before")
        try:
            async with timeout(timedelta(hours=hours)).named("offer open"):
                while True:
                    got = await select(self.accept, self.ask)
                    if got.happened(self.accept):
                        return
        except TimedOut as error:
            self.log.append(str(error))
            await self.withdraw(why)


class Catching(Workflow, name="catching"):
    """Catches the error as code around ``asyncio.timeout`` does."""

    log: list[str] = []

    async def run(self) -> None:
        try:
            async with timeout(timedelta(hours=1)).named("an hour"):
                await sleep(timedelta(days=1))
        except TimeoutError as error:
            self.log.append(f"{type(error).__name__}: {error}")
        try:
            await until(lambda: False, timeout=timedelta(hours=1)).named("never")
        except TimeoutError as error:
            self.log.append(f"{type(error).__name__}: {error}")


class Limited(Workflow, name="limited"):
    async def run(self) -> None:
        async with timeout(timedelta(days=1)):
            await sleep(timedelta(days=2))


def started(cls: Any) -> tuple[Any, Execution]:
    workflow, execution = cls(), Execution.start("x", cls)
    asyncio.run(aresume(workflow, execution, now=START))
    return workflow, execution


def send(workflow: Any, execution: Execution, name: str) -> None:
    handle_event(workflow, execution, name, now=START)
    asyncio.run(aresume(workflow, execution, now=START))


def test_a_block_that_takes_too_long_is_left_with_timed_out() -> None:
    workflow, execution = started(Offer)
    send(workflow, execution, "ask")
    deadlines = {thread.id: timed(thread.waits).deadline for thread in execution.threads if thread.watches}
    assert deadlines == {"offer open": START + timedelta(hours=2)}
    send(workflow, execution, "offer open")
    assert workflow.log == ["asked", "'offer open' did not end in time", "withdraw too late"]
    assert execution.status is Status.FINISHED


def test_it_is_a_timeout_error_as_that_of_asyncio() -> None:
    workflow, execution = started(Catching)
    send(workflow, execution, "an hour")
    send(workflow, execution, "never timeout")
    assert workflow.log == ["TimedOut: 'an hour' did not end in time", "TimedOut: 'never' did not become true in time"]
    assert execution.status is Status.FINISHED


def test_what_ends_in_time_ends_the_deadline() -> None:
    workflow, execution = started(Offer)
    send(workflow, execution, "ask")
    send(workflow, execution, "ask")
    send(workflow, execution, "accept")
    assert (workflow.log, execution.status) == (["asked", "asked", "accepted"], Status.FINISHED)


def test_a_timer_stores_no_locals() -> None:
    workflow, execution = started(Offer)
    send(workflow, execution, "ask")
    assert [thread.locals for thread in execution.threads] == [{"why": "too late", ".offer open": "PT2H"}, {}]


def test_a_whole_workflow_has_a_deadline() -> None:
    workflow, execution = started(Limited)
    assert [thread.id for thread in execution.threads] == ["main", "timeout(timedelta(days=1))"]
    send(workflow, execution, "timeout(timedelta(days=1))")
    assert execution.status is Status.FAILED
    assert execution.error is not None
    assert execution.error.type == "TimedOut"
    delays = [op.within.timer.cases[op.name].delay for op in Limited.__program__.code if isinstance(op, WithinOp)]  # type: ignore[union-attr]
    assert delays == [timedelta(days=1)]  # which diagrams show


class Rounds(Workflow, name="rounds"):
    hours: list[int] = [3, 1]

    async def run(self) -> None:
        for item in self.hours:
            async with timeout(timedelta(hours=item)).named("round"):
                await sleep(timedelta(minutes=1))


def test_the_deadline_of_a_round_may_use_its_item() -> None:
    workflow, execution = started(Rounds)
    deadlines = []
    for _ in range(2):
        deadlines.append(timed(execution.threads[1].waits).deadline)
        send(workflow, execution, "sleep(timedelta(minutes=1))")
    assert deadlines == [START + timedelta(hours=3), START + timedelta(hours=1)]
    assert execution.status is Status.FINISHED
