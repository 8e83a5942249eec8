"""``race``: the first call to end cancels the others."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Literal

import pytest
from pydantic import BaseModel

from workflow_core import (
    DefinitionError,
    Execution,
    StepContext,
    Workflow,
    aresume,
    event,
    gather,
    handle_event,
    race,
    select,
    sleep,
    step,
)

NOW = datetime(2026, 1, 1, tzinfo=UTC)


class Bid(BaseModel):
    amount: int


class Auction(Workflow, name="auction"):
    log: list[str] = []
    winner: int = 0

    @event
    def bid(self, bid: Bid) -> None: ...

    @event
    def close(self) -> None: ...

    @step
    def note(self, context: StepContext, text: str) -> None:
        self.log.append(text)

    async def clean_up(self) -> str:
        try:
            await sleep(timedelta(days=1))
            return "a day"
        finally:
            await self.note("cleaned up")

    async def run(self) -> None:
        offer, waited = await race(select(self.bid), self.clean_up()).named("first bid")
        await self.note("after the race").named("after")
        if offer is not None:
            self.winner = offer.input.amount
        self.log.append(f"{waited}")


def auction() -> tuple[Auction, Execution]:
    workflow, execution = Auction(), Execution.start("a", Auction)
    asyncio.run(aresume(workflow, execution, now=NOW))
    return workflow, execution


def reloaded(workflow: Auction, execution: Execution) -> tuple[Auction, Execution]:
    return Auction.load_fields(workflow.dump_fields()), Execution.from_json(execution.to_json())


def test_the_first_one_cancels_the_others() -> None:
    workflow, execution = reloaded(*auction())
    handle_event(workflow, execution, "bid", {"amount": 7}, now=NOW)
    workflow, execution = reloaded(workflow, execution)
    asyncio.run(aresume(workflow, execution, now=NOW))
    assert workflow.log == ["cleaned up", "after the race", "None"]
    assert (workflow.winner, execution.status) == (7, "finished")


def test_the_result_stands_in_the_place_of_its_call() -> None:
    workflow, execution = auction()
    handle_event(workflow, execution, "clean_up/sleep(timedelta(days=1))", now=NOW + timedelta(days=1))
    asyncio.run(aresume(workflow, execution, now=NOW))
    assert workflow.log == ["cleaned up", "after the race", "a day"]
    assert (workflow.winner, execution.status) == (0, "finished")


def test_a_race_against_the_time() -> None:
    class Late(Auction, name="late"):
        async def run(self) -> None:
            offer, nothing = await race(select(self.bid), sleep(timedelta(days=1)).named("a day"))
            await self.note(f"{offer} {nothing}")

    workflow, execution = Late(), Execution.start("l", Late)
    asyncio.run(aresume(workflow, execution, now=NOW))
    handle_event(workflow, execution, "a day", now=NOW + timedelta(days=1))
    asyncio.run(aresume(workflow, execution, now=NOW))
    assert (workflow.log, execution.status) == (["None None"], "finished")


def test_a_race_and_a_gather_have_the_names_that_they_are_given() -> None:
    class Named(Auction, name="named"):
        async def run(self) -> None:
            await race(select(self.bid), select(self.close)).named("who is first")
            await gather(self.note("a").named("one"), self.note("b").named("two")).named("both")

    assert {"who is first", "bid", "close", "both", "one", "two"} <= set(Named.__program__.rests)


def test_one_call_is_not_a_race() -> None:
    with pytest.raises(DefinitionError, match="race takes two calls or more"):

        class Alone(Auction, name="alone"):
            async def run(self) -> None:
                await race(select(self.bid))  # type: ignore[call-overload,unused-ignore]


def test_what_a_select_gives_is_stored_by_the_types_of_its_events() -> None:
    class Kept(Workflow, name="kept"):
        seen: list[str] = []

        @event
        def bid(self, bid: Bid) -> Bid:
            return bid

        @event
        def close(self, how: Literal["now", "later"]) -> None: ...

        @event
        def end(self, *, now: datetime) -> None: ...

        async def run(self) -> None:
            one = await select(self.bid)
            other = await select(self.close, self.bid).named("other")
            last = await select(self.end)
            await sleep(NOW)
            self.seen += [f"{last.input}"]
            self.seen += [str(one.input.amount + one.output.amount), str(other.input)]

    workflow, execution = Kept(), Execution.start("k", Kept)
    asyncio.run(aresume(workflow, execution))
    for name, value in (("bid", {"amount": 2}), ("close", "now"), ("end", None)):
        workflow, execution = Kept.load_fields(workflow.dump_fields()), Execution.from_json(execution.to_json())
        handle_event(workflow, execution, name, value, now=NOW)
    handle_event(workflow, execution, "sleep(NOW)")
    asyncio.run(aresume(workflow, execution))
    assert (workflow.seen, execution.status) == (["None", "4", "now"], "finished")
