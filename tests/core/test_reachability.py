"""The statements that no path leads to: after an end, after a loop without an end, and behind constants."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from cloud_adapter.cli.definition_warnings import advise
from cloud_adapter.store_settings import SecretSettings
from gorchestrate.testing import Coverage
from workflow_core import (
    Break,
    Continue,
    Fail,
    ForEach,
    Go,
    If,
    On,
    Parallel,
    Race,
    Return,
    S,
    Select,
    Sleep,
    Step,
    Timeout,
    Try,
    WaitFor,
    When,
    While,
    Within,
    Workflow,
    event,
    parallel,
    select,
    step,
    timeout,
    until,
)
from workflow_core.program.reachability import unreachable
from workflow_core.statements.basic import Section


def work(name: str) -> Step:
    return Step(name, lambda w: None)


def is_open(w: Any) -> bool:
    return bool(w.flag)


HOUR = timedelta(hours=1)
SENT = On("E", lambda w: None)
EXPLICIT: dict[str, tuple[Section, list[str]]] = {
    "return": (S(work("a"), Return(), work("b"), Sleep("c", HOUR)), ["b", "c"]),
    "return of a branch": (S(If("if", is_open, Return()).else_(Fail("f", "no")), work("b")), ["b"]),
    "return of one branch": (S(If("if", is_open, Return()), work("b")), []),
    "fail": (S(Fail("f", "no"), work("b")), ["b"]),
    "caught": (S(Try("t", Fail("f", "no"), work("b")).except_(Exception, work("c")), work("d")), ["b"]),
    "endless": (S(While("loop", lambda w: True, work("a")), work("b")), ["b"]),
    "with a break": (S(While("loop", lambda w: True, work("a"), If("if", is_open, Break())), work("b")), []),
    "after continue": (S(While("loop", is_open, work("a"), Continue(), work("c")), work("b")), ["c"]),
    "false": (S(If("if", lambda w: False, work("a")).else_(work("b"))), ["a"]),
    "true": (S(If("if", lambda w: 1, work("a")).else_(work("b"))), ["b"]),
    "never": (S(WaitFor("w", lambda w: False), work("a")), ["a"]),
    "never in time": (S(WaitFor("w", lambda w: False, timeout=HOUR).on_timeout(work("a")), work("b")), []),
    "a case": (S(Select("s", SENT, When("x", lambda w: False, work("a")), Timeout("t", HOUR, work("b")))), ["a"]),
    "a thread": (S(Return(), Go("g", work("a"))), ["a"]),
    "beside a thread": (S(Go("g", Return(), work("a")), work("b")), ["a"]),
    "branches that end": (S(Parallel("p", S(work("a")), S(Return()))), []),
    "a branch that goes on": (
        S(Parallel("p", S(While("l", lambda w: True, work("a"))), S(work("c"))), work("b")),
        ["b"],
    ),
    "a race": (
        S(Race("r", S(While("l", lambda w: True, work("a")), prefix="l"), S(work("c"), prefix="r")), work("b")),
        [],
    ),
    "a race that nobody wins": (S(Race("r", S(Fail("f", "no")), S(Fail("g", "no"))), work("b")), ["b"]),
    "items": (S(ForEach("e", lambda w: [1], Fail("f", "no"), parallel=True, limit=2), work("b")), []),
    "finally": (S(Try("t", Return()).finally_(work("a")), work("b")), ["b"]),
    "finally after work": (S(Try("t", work("x")).finally_(work("a")), work("b")), []),
    "finally with a loop": (
        S(Try("t", Return()).finally_(While("l", is_open, work("a"))), work("b")),
        ["b"],
    ),
    "break through finally": (
        S(While("l", lambda w: True, Try("t", Break()).finally_(work("a")), work("b")), work("c")),
        ["b"],
    ),
    "a deadline": (S(Within("w", HOUR, While("l", lambda w: True, work("a"))).on_timeout(work("b")), work("c")), []),
}


@pytest.mark.parametrize("what", EXPLICIT)
def test_a_definition(what: str) -> None:
    content, names = EXPLICIT[what]

    class Flow(Workflow, name="flow"):
        flag: bool = False
        definition = content

    assert unreachable(Flow.__program__) == names


class Base(Workflow):
    n: int = 0

    @step
    async def work(self) -> int:
        return 1

    @step
    async def lost(self) -> int:
        return 1

    @event
    def answer(self) -> None: ...


class AfterLoop(Base, name="after-loop"):
    async def run(self) -> None:
        while True:
            await self.work()
            self.n += 1
        await self.lost()


class AfterReturns(Base, name="after-returns"):
    async def run(self) -> None:
        got = await select(self.answer, timeout=timedelta(days=1))
        if got.timed_out:
            return
        await self.work()
        return
        await self.lost()


class AfterRaise(Base, name="after-raise"):
    async def run(self) -> None:
        try:
            await self.work()
            raise ValueError("always")
            await self.lost()
        except ValueError:
            await self.work().named("caught")


class BehindConstant(Base, name="behind-constant"):
    async def run(self) -> None:
        if False:
            await self.lost()
        while 1:
            async with timeout(timedelta(days=1)):
                await until(lambda: self.n > 3)
            if self.n > 4:
                break
        async with parallel() as branch:
            branch.start(self.work())


@pytest.mark.parametrize("cls", [AfterLoop, AfterReturns, AfterRaise, BehindConstant])
def test_run(cls: type[Base]) -> None:
    assert unreachable(cls.__program__) == ["lost"]


def test_it_is_a_warning_and_in_the_coverage() -> None:
    (warning,) = advise([AfterLoop], SecretSettings())
    assert str(warning) == (
        "statement 'lost' of workflow 'after-loop': no path leads to it: what stands before it ends the thread, loops "
        "without an end, or has a condition that is a constant. Remove it, unless instances from earlier code "
        "stand there."
    )
    coverage = Coverage(AfterLoop)
    assert (coverage.unreachable, coverage.missing) == (["lost"], ["lost", "work"])
