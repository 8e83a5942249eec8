"""What the coverage of a test says beside what is missing."""

from __future__ import annotations

from datetime import timedelta

from gorchestrate.testing import Environment
from workflow_core import Access, Retry, Status, Workflow, event, go, select, sleep, step, timeout, until


class Parcel(Workflow, name="parcel"):
    access = Access(read={"clerk"})
    weight: int = 0
    signed: bool = False

    @event(role="clerk")
    def weigh(self, weight: int) -> None:
        self.weight = weight

    @event
    def sign(self) -> None:
        self.signed = True

    @step(retry=Retry(max_attempts=None))
    def send(self) -> None: ...

    async def watch(self) -> None:
        await select(self.sign)

    async def run(self) -> None:
        go(self.watch())
        await select(self.weigh)
        await self.send()
        await until(lambda: self.signed).named("signed")
        await sleep(timedelta(days=1)).named("last day")


def broken(self: Parcel) -> None:
    raise ConnectionError("no courier")


def test_waits_that_nothing_has_ended() -> None:
    with Environment(Parcel) as environment:
        coverage = environment.coverage(Parcel)
        assert coverage.unsendable == ["sign"]
        first = environment.create(Parcel)
        assert coverage.never_left == ["watch/sign", "weigh"]
        first.send("weigh", 5)
        assert coverage.never_left == ["signed", "watch/sign"]
        first.cancel()
        assert coverage.never_left == ["signed", "watch/sign"], "a canceled instance has left nothing"
        second = environment.create(Parcel)
        second.send("weigh", 5)
        second.send("sign")
        assert coverage.never_left == ["last day"]
        environment.advance(days=1)
        assert second.is_finished
        assert coverage.never_left == []
        assert coverage.missing == []


def test_a_step_that_has_never_succeeded() -> None:
    with Environment(Parcel) as environment:
        environment.fake(Parcel, "send", broken)
        environment.create(Parcel).send("weigh", 5)
        environment.advance(hours=1)
        assert environment.coverage(Parcel).never_left == ["send", "watch/sign"]


class Slow(Workflow, name="slow"):
    async def run(self) -> None:
        async with timeout(timedelta(hours=1)):
            await until(lambda: False).named("answer")


def test_a_timeout_that_has_expired_was_left() -> None:
    with Environment(Slow) as environment:
        slow = environment.create(Slow)
        assert environment.coverage(Slow).never_left == ["answer", "timeout(timedelta(hours=1))"]
        environment.advance(hours=1)
        assert slow.status == Status.FAILED
        assert environment.coverage(Slow).never_left == []


def test_an_event_that_is_also_a_statement_is_missing_once() -> None:
    with Environment(Parcel) as environment:
        environment.create(Parcel)
        assert environment.coverage(Parcel).missing == ["last day", "send", "sign", "weigh"]
