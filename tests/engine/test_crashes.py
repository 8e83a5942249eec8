"""The process may die, and each call to the outside may fail, at any point: the end is the same.

A scripted run is done once without a fault, then once for each call to the store or the queue that it makes, with a
fault on that very call. The end, the history, the responses and what the outside world has seen must be equal.
"""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest

from cloud_adapter.errors import Busy, Unavailable
from tests.engine.harness import Killed, Process, World, in_world
from workflow_core import EventRequest, Go, On, Return, S, Select, Step, StepContext, Timeout, WaitFor, While, Workflow

pytestmark = pytest.mark.slow

OUTSIDE: dict[str, set[str]] = {}
"""The idempotency keys under which the outside world was asked to do something, by what it was."""

RESTARTS_MAX = 30


def ask(what: str, key: str) -> None:
    OUTSIDE.setdefault(what, set()).add(key)


class Payment:
    async def setup(self, request: EventRequest) -> Any:
        ask("setup", request.idempotency_key)
        return {"link": "pay here"}

    def handle(self, request: EventRequest, input: float) -> str:
        request.workflow.paid += input
        return f"thank you ({request.setup_data['link']})"

    def teardown(self, request: EventRequest, handled: bool) -> None:
        ask(f"teardown {handled}", request.idempotency_key)


class Trip(Workflow, name="trip"):
    travellers: list[str] = []
    submitted: bool = False
    paid: float = 0
    log: list[str] = []

    def add(self, name: str) -> int:
        self.travellers.append(name)
        return len(self.travellers)

    def submit(self) -> str:
        self.submitted = True
        return "submitted"

    def work(self, step: StepContext) -> None:
        ask(step.step, step.idempotency_key)
        self.log.append(step.step)

    async def flaky(self, step: StepContext) -> None:
        self.work(step)
        if step.attempt == 1:
            raise ConnectionError("try again")

    def seen(self) -> None:
        self.log.append("seen that it is paid")

    definition = S(
        While(
            "collecting",
            lambda w: not w.submitted,
            Select(
                "travellers",
                On("Add", add),
                On("Submit", submit),
                Timeout("nobody comes", timedelta(days=1), Return()),
            ),
        ),
        Go("payment", Select("pay", On("Pay", Payment()), On("Cash", seen)), Step("book", work)),
        Step("reserve", work),
        Step("confirm", flaky),
        Select(
            "departure",
            On("Cancel", lambda w: None, Return()),
            Timeout("time to go", timedelta(hours=1), Step("travel", work)),
        ),
        WaitFor("paid", lambda w: w.paid >= 5, seen),
        Step("report", work),
    )


SCRIPT = (("Add", b'"ann"'), ("Add", b'"bob"'), ("Submit", b""), ("Pay", b"5"))


@dataclass(frozen=True)
class End:
    """What is left of a run, as far as it must not depend on faults."""

    status: str
    fields: str
    history: Counter[tuple[str, str]]
    responses: tuple[bytes, ...]
    outside: dict[str, int]


class Run:
    """One run of the script, by a client and a queue that try again until they have an answer."""

    def __init__(self, world: World, id: str, *, recover: bool, rng: random.Random | None = None) -> None:
        self.world = world
        self.id = id
        self.recover = recover
        self.rng = rng
        self.restarts = 0
        self.process = world.process = self._start()

    def _start(self) -> Process:
        process = self.world.start()
        if self.rng is not None and self.restarts < RESTARTS_MAX // 2:
            for _ in range(3):
                error = self.rng.choice([Killed, Killed, Unavailable])("by chance")
                where = self.rng.choice(["before", "after"])
                process.fault("*", self.rng.randint(1, 25), **{where: error})
        return process

    async def again(self, call: Any) -> Any:
        """Makes a call, and again, in a new process if the old one died."""
        while True:
            try:
                return await call(self.process)
            except Killed:
                self.restarts += 1
                assert self.restarts < RESTARTS_MAX
                self.process = self._start()
                if self.recover:
                    await self.again(lambda process: self.world.finish(process.engine.recover()))
            except Unavailable:
                continue
            except Busy:
                await self.pass_time(timedelta(seconds=30))

    async def pass_time(self, time: timedelta) -> None:
        until = self.world.now + time
        await self.again(lambda process: self.world.pass_time(max(timedelta(), until - self.world.now), process))

    async def whole(self) -> End:
        OUTSIDE.clear()
        world, finish = self.world, self.world.finish
        await self.again(lambda process: finish(process.engine.create("trip", self.id, key="create")))
        responses = []
        for number, (event, body) in enumerate(SCRIPT):
            key = f"{event} {number}"
            responses.append(
                await self.again(
                    lambda process, event=event, body=body, key=key: finish(
                        process.post(event, body, id=self.id, key=key)
                    )
                )
            )
            await self.again(world.deliver)
        await self.pass_time(timedelta(hours=3))
        end = await self.end(tuple(responses))
        # Nothing moves any more, and nothing is left behind.
        await self.pass_time(timedelta(days=2))
        assert await self.end(tuple(responses)) == end
        assert world.queue.tasks == {}
        instance = await world.instance(self.id)
        assert (instance.lease, instance.wake_at) == (None, None)
        assert (instance.execution.threads, instance.execution.teardowns) == ([], [])
        assert await finish(world.start().engine.recover()) == 0
        return end

    async def end(self, responses: tuple[bytes, ...]) -> End:
        instance = await self.world.instance(self.id)
        fields = await self.world.fields(self.id)
        fields.log.sort()  # two threads have no order
        return End(
            instance.execution.status,
            fields.dump_fields(),
            Counter((entry.kind, entry.statement) for entry in instance.history),
            responses,
            {what: len(keys) for what, keys in OUTSIDE.items()},
        )


EXPECTED = End(
    "finished",
    '{"travellers":["ann","bob"],"submitted":true,"paid":5.0,'
    '"log":["book","confirm","report","reserve","seen that it is paid","travel"]}',
    Counter(
        {
            ("created", ""): 1,
            ("event", "Add"): 2,
            ("event", "Submit"): 1,
            ("event", "Pay"): 1,
            ("setup", "Pay"): 1,
            ("teardown", "Pay"): 1,
            ("timeout", "time to go"): 1,
            ("step failed", "confirm"): 1,
            **{("step", step): 1 for step in ("book", "confirm", "report", "reserve", "travel")},
        }
    ),
    (b"1", b"2", b'"submitted"', b'"thank you (pay here)"'),
    {
        "setup": 1,
        "teardown True": 1,
        **dict.fromkeys(("book", "confirm", "report", "reserve", "travel"), 1),
    },
)


@in_world(Trip)
async def test_the_run_without_a_fault(world: World) -> None:
    run = Run(world, "healthy", recover=False)
    with run.process.calls() as calls:
        assert await run.whole() == EXPECTED
    events, timeouts, leases, steps = 4, 1, 4, 8
    assert Counter(calls)["commit"] == events + timeouts + leases + steps
    assert set(calls) == {"create", "load", "commit", "create_task", "delete_task"}


@pytest.mark.parametrize("recover", [True, False], ids=["with recovery", "without recovery"])
@pytest.mark.parametrize("where", ["before", "after"])
@pytest.mark.parametrize("error", [Killed, Unavailable])
@in_world(Trip)
async def test_a_fault_at_each_call(world: World, error: type[BaseException], where: str, recover: bool) -> None:
    nth = 0
    hit = True
    while hit:
        nth += 1
        run = Run(world, f"fault-{nth}", recover=recover)
        first = run.process
        first.fault("*", nth, **{where: error(f"at call {nth}")})
        assert await run.whole() == EXPECTED, f"with a fault {where} call {nth}"
        hit = not first.wire.faults
    assert nth > 35


@pytest.mark.parametrize("seed", range(40))
@in_world(Trip)
async def test_faults_by_chance(world: World, seed: int) -> None:
    rng = random.Random(seed)
    run = Run(world, f"seed-{seed}", recover=rng.random() < 0.5, rng=rng)
    assert await run.whole() == EXPECTED, f"seed {seed}"
