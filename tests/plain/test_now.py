"""``now()`` in ``run`` is the time of the engine's clock."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from tests.waits import timed
from workflow_core import (
    DefinitionError,
    Execution,
    ExecutionError,
    Status,
    Workflow,
    aresume,
    event,
    handle_event,
    now,
    select,
    sleep,
    until,
)

START = datetime(2026, 1, 1, 22, tzinfo=UTC)


class Clock(Workflow, name="clock"):
    log: list[str] = []
    due: datetime | None = None

    @event
    def tick(self) -> None:
        self.log.append("tick")

    async def later(self) -> datetime:
        return now() + timedelta(hours=1)

    async def run(self) -> None:
        began = now()
        days = [now().date() for _ in range(1)]
        await select(self.tick)
        self.log.append(f"{days[0]} {(now() - began).total_seconds():.0f} {began:%H}")
        self.due = await self.later()
        await sleep(now().replace(hour=23)).named("until eleven")
        await until(lambda: now() >= START + timedelta(hours=2)).named("midnight")


def test_code_and_waits_read_the_clock() -> None:
    clock, execution = Clock(), Execution.start("x", Clock)
    asyncio.run(aresume(clock, execution, now=START))
    at = START + timedelta(minutes=5)
    handle_event(clock, execution, "tick", now=at)
    asyncio.run(aresume(clock, execution, now=at))
    assert clock.log == ["tick", "2026-01-01 300 22"]
    assert clock.due == at + timedelta(hours=1)
    assert timed(execution.threads[0].waits).deadline == at.replace(hour=23)
    handle_event(clock, execution, "until eleven", now=at.replace(hour=23))
    asyncio.run(aresume(clock, execution, now=at.replace(hour=23)))
    assert execution.threads[0].step == "midnight"
    asyncio.run(aresume(clock, execution, now=START + timedelta(hours=2)))
    assert execution.status is Status.FINISHED


def test_without_a_clock() -> None:
    with pytest.raises(ExecutionError, match="the current time is not known here"):
        asyncio.run(aresume(Clock(), Execution.start("x", Clock)))


def test_outside_of_run() -> None:
    with pytest.raises(DefinitionError, match="it was called outside of 'async def run'"):
        now()
