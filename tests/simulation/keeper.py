"""Applications that keep an instance themselves, by the library alone: the naive executor tells what it must come to.

The rule: whatever process dies at, the next one goes on from the last save, and comes to the same end as if none had.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime
from random import Random
from typing import TYPE_CHECKING, Any, ClassVar

from tests.core import generate
from tests.core.generate import ERRORS, EVENTS, Builder, Fields, Spec, Tape, operations
from tests.core.helpers import reload
from tests.core.pair import Pair, fail
from tests.core.reference import arity
from tests.simulation.loop import run_alone
from tests.simulation.model.violations import require
from workflow_core import EventNotAccepted, InvalidInput, Retry, StepContext, ahandle_event, aresume, resume

if TYPE_CHECKING:
    from tests.simulation.world import World


def steps(data: bytes, *, calm: bool = False) -> list[Spec]:
    """One thread, most of whose steps fail, inside statements that catch their errors."""
    tape = Tape(data, calm=calm)

    def step() -> Spec:
        return tape.of_kind(tape.of(("step", "step" if calm else "risky", "activity")), 0)

    def attempt() -> Spec:
        return ("try", tape.many(1, 3, step), [(tape.below(len(ERRORS) + 2), [step()])], tape.of((None, [step()])))

    return [step(), attempt(), *tape.many(1, 3, attempt), tape.select(0, in_loop=False), attempt()]


SHAPES = (generate.definition, generate.orders, generate.inbox, generate.cleanups, generate.fan_out, steps)


class Death(BaseException):
    """The process of the application dies."""


class Keeper:
    """One application, which sends its instance what comes to its mind."""

    def __init__(self, world: World, number: int) -> None:
        self.world = world
        self.rng = world.scenario.stream(f"application {number}")
        self.name = f"application {number}"

    async def run(self) -> None:
        """Lives through one instance."""
        rng = self.rng
        spec = rng.choice(SHAPES)(rng.randbytes(250), calm=rng.random() < 0.3)
        kept = Kept(spec, rng, is_async=rng.random() < 0.5)
        ops = operations(rng.randbytes(45))
        for way, pick, amount in [("resume", 0, 0), *ops, ("resume", 0, 0)]:
            await self.world.wait(rng.expovariate(1 / 5))
            kept.now = self.world.now if kept.knows_time else None
            try:
                self.do(kept, way, pick, amount)
            except AssertionError as error:
                self.world.violate(f"{self.name}: {way} has come to something else: {error}")
                return
            execution = kept.execution
            self.world.say("%s: %s, pc %d, %s", self.name, way, execution.pc, execution.status)
            if kept.broken:
                return

    def do(self, kept: Kept, way: str, pick: int, amount: int) -> None:
        if way == "resume":
            kept.resume()
        elif way == "cancel":
            kept.cancel()
        else:
            kept.send((way, pick, amount))
            kept.refuse(EVENTS[pick % len(EVENTS)])
        kept.save()


class Kept(Pair):
    """The instance, its last save, and the naive executor.

    Attributes:
        now: the time that the application tells the library.
    """

    def __init__(self, spec: list[Spec], rng: Random, *, is_async: bool) -> None:
        builder = AsyncBuilder() if is_async else Builder()
        policy = rng.choice((None, Retry(max_attempts=1)))

        class Flow(Fields, name="flow"):
            trace: ClassVar[list[str]] = []
            default_retry = policy
            definition = builder.section(spec)

        super().__init__(generate.build(spec))
        self.order, self.is_async = Flow(), is_async
        self.rng, self.mortality = rng, rng.choice((0.0, 0.2, 0.5))
        self.knows_time = rng.random() < 0.5
        self.now: datetime | None = None
        self.save()

    def save(self) -> None:
        self.saved = reload(self.order, self.execution)

    def outcome(self, call: Callable[[], Any]) -> tuple[Any, list[str]]:
        """What is told twice by a process that has died is no difference."""
        return super().outcome(call)[0], []

    def checkpoint(self, kind: str) -> None:
        if self.rng.random() < self.mortality:
            raise Death
        self.save()
        if self.rng.random() < self.mortality:
            raise Death

    def go_on(self) -> None:
        self.save()
        while True:
            checkpoint = self.checkpoint if self.mortality else None
            try:
                if self.is_async:
                    run_alone(aresume(self.order, self.execution, checkpoint, now=self.now))
                else:
                    resume(self.order, self.execution, checkpoint, now=self.now)
                return
            except Death:
                self.order, self.execution = reload(*self.saved)
            except ERRORS as error:
                fail(self.order, self.execution, error)
                self.save()

    def deliver(self, name: str, input: Any = None, **address: Any) -> Any:
        if self.is_async:
            return run_alone(ahandle_event(self.order, self.execution, name, input, now=self.now, **address))
        return super().deliver(name, input, **address)

    def refuse(self, event: str) -> None:
        """What is not accepted changes nothing."""
        before = self.order.dump_fields(), self.execution.to_json()
        wrongs: tuple[dict[str, Any], ...] = (
            {"wait_id": "nowhere"},
            {"thread_id": "nobody"},
            {"input": "no number", "pc": -1},
        )
        for wrong in wrongs:
            try:
                self.deliver(event, **wrong)
            except (EventNotAccepted, InvalidInput):
                require((self.order.dump_fields(), self.execution.to_json()) == before, f"{wrong} changes something")
            else:
                require(False, f"{event!r} is accepted with {wrong}")


class AsyncBuilder(Builder):
    """Builds the same with asynchronous code in between."""

    def action(self, action: Callable[..., Any]) -> Callable[..., Any]:
        if self.count % 2:
            return action
        count = arity(action)

        async def in_time(w: Fields, step: StepContext) -> Any:
            await asyncio.sleep(0)
            return action(*(w, step)[:count])

        return in_time
