"""Threads that ``go`` starts inside of a ``try``."""

from __future__ import annotations

from datetime import timedelta

import pytest

from gorchestrate import TerminalError, Workflow, activity, event, go, race, select, step, timeout, until
from gorchestrate.testing import Environment


class Refused(TerminalError):
    """What a thread fails with."""

    def __init__(self, who: str, cents: int) -> None:
        super().__init__(who, cents)
        self.cents = cents


class Trip(Workflow, name="go-trip"):
    log: list[str] = []

    @event
    def refuse(self) -> None: ...

    @event
    def arrive(self) -> None: ...

    @event
    def leave(self) -> None: ...

    @activity
    async def drive(self, to: str) -> str:
        return to

    @step
    def refund(self, cents: int) -> None:
        self.log.append(f"refund {cents}")

    @step
    def charge(self, cents: int) -> None:
        raise Refused("the bank", cents)

    async def payment(self, cents: int) -> None:
        await select(self.refuse)
        await self.charge(cents)

    async def run(self) -> None:
        begun = "begun"
        try:
            go(self.payment(950))
            to = await self.drive("Rome")
            try:
                async with timeout(timedelta(days=3)):
                    await race(select(self.arrive), until(lambda: self.log == [to]).named("at home"))
            except Exception as error:
                self.log.append(f"not caught here: {error!r}")
            finally:
                self.log.append(f"stop {to}")
        except Refused as error:
            self.log.append(f"{begun}: {error.cents}")
            await self.refund(error.cents)
        else:
            self.log.append("paid")
        await select(self.leave)


@pytest.mark.parametrize(
    ("events", "log", "status"),
    [
        (["refuse"], ["stop Rome", "begun: 950", "refund 950"], "waiting"),
        (["refuse", "leave"], ["stop Rome", "begun: 950", "refund 950"], "finished"),
        (["arrive", "leave"], ["stop Rome", "paid"], "finished"),
        (["arrive", "refuse"], ["stop Rome", "paid"], "failed"),
    ],
)
def test_it_is_covered_while_the_try_is_not_left(events: list[str], log: list[str], status: str) -> None:
    with Environment(Trip) as environment:
        trip = environment.create(Trip)
        for name in events:
            trip.send(name)
        assert (trip.fields.log, trip.status) == (log, status)


class Slow(Workflow, name="go-slow"):
    log: list[str] = []

    @activity
    async def fail(self) -> None:
        raise Refused("at once", 1)

    @event
    def begin(self) -> None: ...

    @step
    def work(self) -> None:
        raise ConnectionError("not yet")

    async def side(self) -> None:
        await select(self.begin)
        await self.fail()

    async def run(self) -> None:
        try:
            go(self.side())
            await self.work()
        except Refused as error:
            self.log.append(f"refused {error.cents}")


def test_a_step_that_waits_for_its_next_attempt_is_not_tried_again() -> None:
    with Environment(Slow) as environment:
        slow = environment.create(Slow)
        assert (slow.places, slow.status) == ({"work", "side/begin"}, "running")
        slow.send("begin")
        assert (slow.fields.log, slow.status) == (["refused 1"], "finished")
