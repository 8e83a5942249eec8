"""The order in a lane: requests that arrive at the same time have the outcomes that they would have in sequence."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Coroutine
from datetime import timedelta
from typing import Any

import pytest

from cloud_adapter.engine import transaction
from cloud_adapter.engine.operations import Cancel, Operation, Pause, SetFields, Unpause
from cloud_adapter.engine.task_handler import Outcome
from cloud_adapter.engine.tasks import ACTIVITY_PATH
from tests.engine.harness import World, check_idle, in_world, write
from workflow_core import (
    Activity,
    ErrorInfo,
    EventNotAccepted,
    EventRejected,
    ForEach,
    Go,
    If,
    On,
    Retry,
    S,
    Select,
    Step,
    Timeout,
    Try,
    While,
    Workflow,
)

LARGE = "x" * transaction.LAX_BYTES_MIN
"""In a field of an instance, it lets a batch check the fields at its commit alone."""


class Desk(Workflow, name="desk"):
    padding: str = ""
    log: list[str] = []
    number: int = 0
    shift: str = "early"

    def add(self, name: str) -> str:
        self.log.append(name)
        return "-".join(self.log)

    def once(self, name: str) -> str:
        if name in self.log:
            self.log.append("spoiled")
            raise EventRejected(f"{name} is there")
        self.log.append(name)
        return name

    def spoil(self, name: str) -> None:
        self.log.append(name)
        self.number = "no number"  # type: ignore[assignment]

    def crash(self, name: str) -> None:
        self.log.append(name)
        raise ZeroDivisionError("a bug")

    def change(self) -> str:
        self.shift = "late" if self.shift == "early" else "early"
        return self.shift

    definition = S(
        Go("counter", While("counting", lambda w: True, Select("count", On("Add", add), On("Once", once)))),
        While(
            "open",
            lambda w: len(w.log) < 30,
            Select("early shift", On("Change", change), On("Spoil", spoil), On("Crash", crash)),
            Select("late shift", On("Back", change), On("Work", write("work"))),
        ),
    )


Request = tuple[str, Any, str | None] | Operation
"""An event, its input and its key; or an operation."""


def requests(seed: int) -> list[Request]:
    """Requests of all kinds, some of them twice, with keys in any order."""
    rng = random.Random(seed)
    made: list[Request] = []
    for _ in range(rng.randrange(2, 14)):
        name, key = rng.choice("abc"), rng.choice([None, f"key {rng.random()}"])
        event = rng.choice(["Add", "Add", "Add", "Once", "Once", "Change", "Back", "Spoil", "Crash", "Work", "Unknown"])
        input: Any = None if event in ("Change", "Back", "Unknown", "Work") else rng.choice([name, name, name, 7])
        made.append((event, input, key))
        if rng.random() < 0.3:
            made.append(rng.choice(made))
        if rng.random() < 0.15:
            fields: dict[str, Any] = {"log": ["set"]}
            made.append(rng.choice([Pause(), Unpause(), SetFields(fields=fields), Cancel()]))
    return made


def call(world: World, id: str, request: Request) -> Coroutine[Any, Any, Any]:
    if isinstance(request, Operation):
        return world.process.engine.operate("desk", id, request)
    event, input, key = request
    return world.process.post(event, b"" if input is None else json.dumps(input).encode(), id=id, key=key)


async def outcome(coroutine: Coroutine[Any, Any, Any]) -> str:
    """What a request comes to, without what tells the instances apart."""
    try:
        answer = await coroutine
    except Exception as error:
        return f"refused: {type(error).__name__}: {error}".replace("together", "").replace("alone", "")
    return answer.decode() if isinstance(answer, bytes) else f"({answer.instance.execution.status})"


async def state(world: World, id: str) -> Any:
    instance = await world.instance(id)
    fields, execution = await world.fields(id), instance.execution
    return fields.log, fields.number, fields.shift, execution.status, [thread.step for thread in execution.threads]


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("padding", ["", LARGE], ids=["small", "large"])
@in_world(Desk)
async def test_at_the_same_time_is_as_one_after_the_other(world: World, seed: int, padding: str) -> None:
    for id in ("together", "alone"):
        await world.create(id=id, padding=padding)
    made = requests(seed)
    expected = [await world.finish(outcome(call(world, "alone", request))) for request in made]
    answers = await world.finish(asyncio.gather(*(outcome(call(world, "together", request)) for request in made)))
    assert answers == expected
    assert await state(world, "together") == await state(world, "alone")
    assert await world.history(id="together") == await world.history(id="alone")
    for request, answer in zip(made, expected, strict=True):
        if not isinstance(request, Operation) and request[2] is not None and not answer.startswith("refused"):
            assert await world.finish(outcome(call(world, "together", request))) == answer, "as its key tells"
    await world.clock.advance(1)
    check_idle(world.process)


@in_world(Desk)
async def test_keys_do_not_change_the_order(world: World) -> None:
    await world.create()
    keys = ["z", None, "y", "a", None, "b"]
    calls = [world.process.post("Add", b'"%d"' % number, key=key) for number, key in enumerate(keys)]
    await world.finish(asyncio.gather(*calls))
    assert (await world.fields()).log == ["0", "1", "2", "3", "4", "5"]


@in_world(Desk)
async def test_an_operation_keeps_its_place_among_events(world: World) -> None:
    await world.create()
    clear = world.process.engine.operate("desk", "order-1", SetFields(fields={"log": []}))
    before, _, after, last = await world.finish(
        asyncio.gather(
            world.process.post("Add", b'"a"'),
            clear,
            world.process.post("Add", b'"b"'),
            world.process.post("Add", b'"c"'),
        )
    )
    assert (before, after, last) == (b'"a"', b'"b"', b'"b-c"')


def fetch(how: str) -> str:
    return how


class Results(Workflow, name="results"):
    """Results of activities that are accepted, raise, or spoil a field. Those that cannot be taken in are noted."""

    padding: str = ""
    hows: list[str] = []
    log: list[str] = []
    number: int = 0

    def take(self, how: str) -> None:
        self.log.append(how)
        if how == "raises":
            raise ValueError("it cannot be used")
        if how == "spoils":
            self.number = "no number"  # type: ignore[assignment]
        if how == "second" and self.log.count("second") > 1:
            raise ValueError("one is enough")

    def note(self, error: ErrorInfo) -> None:
        self.log.append(f"{error.type} at {len(self.log)}")

    definition = S(
        ForEach(
            "each",
            lambda w: w.hows,
            Try("fetched", Activity("fetch", fetch, then=take, retry=Retry(max_attempts=1))).except_(
                Exception, then=note, name="not fetched"
            ),
            parallel=True,
        ),
        Select("end", On("End", lambda w: None)),
    )


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("padding", ["", LARGE], ids=["small", "large"])
@in_world(Results)
async def test_results_at_the_same_time_are_as_one_after_the_other(world: World, seed: int, padding: str) -> None:
    rng = random.Random(seed)
    hows = [rng.choice(["good", "good", "raises", "spoils", "second"]) for _ in range(rng.randrange(2, 9))]
    logs = []
    for id in ("alone", "together"):
        await world.create(id=id, padding=padding, hows=hows)
        tasks = [task for task in world.queue.tasks.values() if task.path == ACTIVITY_PATH and task.body["id"] == id]
        assert len(tasks) == len(hows)
        if id == "alone":
            for task in tasks:
                assert await world.finish(world.process.perform(task)) is Outcome.DONE
        else:
            outcomes = await world.finish(asyncio.gather(*(world.process.perform(task) for task in tasks)))
            assert set(outcomes) == {Outcome.DONE}
        logs.append(((await world.fields(id)).log, await world.history(id=id)))
        assert (await world.instance(id)).execution.threads[0].step == "end"
    assert logs[0] == logs[1]
    await world.clock.advance(1)
    check_idle(world.process)


class Broken(Workflow, name="broken"):
    log: list[str] = []

    def add(self, name: str) -> None:
        self.log.append(name)

    definition = S(
        Go("counter", While("counting", lambda w: True, Select("count", On("Add", add)))),
        Select("late", Timeout("too late", timedelta(seconds=1))),
        If("big", lambda w: w.log[100] == "", Step("never", write("never"))),
    )


@in_world(Broken)
async def test_an_instance_that_fails_is_failed_for_what_came_later(world: World) -> None:
    """Nobody receives the error that the timeout leads to, so it is decided a second time, as the failure."""
    await world.started()
    await world.clock.advance(2)
    (timer,) = world.queue.timers
    late, *added = await world.finish(
        asyncio.gather(
            world.process.perform(timer),
            *(world.process.post("Add", b'"a"') for _ in range(3)),
            return_exceptions=True,
        )
    )
    assert late is Outcome.DONE
    assert [type(answer) for answer in added] == [EventNotAccepted] * 3
    assert ((await world.instance()).execution.status, (await world.fields()).log) == ("failed", [])
