"""Instances that are as large as a document may be: they can still be leased, paused, canceled and failed."""

from __future__ import annotations

import re
from asyncio import ensure_future
from datetime import timedelta
from typing import Any

import pytest

from cloud_adapter.document import DOCUMENT_BYTES_MAX
from cloud_adapter.engine.operations import Cancel, Operation, Pause, Unpause
from cloud_adapter.engine.task_handler import Outcome
from cloud_adapter.errors import TooLarge
from tests.engine.harness import ID, Gate, World, in_world
from workflow_core import EventRequest, Go, On, S, Select, Step, Timeout, Try, While, Workflow

GATE = Gate()
CALLS: list[str] = []
LONG = ("statement with a long name " * 6).strip()
"""In teardowns, names of events take some space."""


class Registered:
    def setup(self, request: EventRequest) -> Any:
        return {"registered as": "x" * 300}

    def handle(self, request: EventRequest, input: str) -> None: ...

    def teardown(self, request: EventRequest, handled: bool) -> None:
        CALLS.append(f"teardown {request.event}")


class Archive(Workflow, name="archive"):
    """It has waits that have to be torn down, a cleanup with steps, and a step that takes long."""

    text: str = ""

    def write(self, text: str) -> None:
        self.text += text

    async def work(self) -> None:
        await GATE.wait()

    def clean(self) -> None:
        CALLS.append("clean")

    definition = S(
        Go("shelves", While("open", lambda w: True, Select("shelf", On("Write", write)))),
        *(
            Go(
                f"watch {n}",
                Select(f"watching {n}", On(f"Event {n}", Registered()), Timeout(f"too late {n}", timedelta(days=9))),
            )
            for n in range(5)
        ),
        Try(
            "archived",
            Select("begin", On("Begin", lambda w: None)),
            Step("work", work),
            Select("end", On("End", lambda w: None)),
        ).finally_(Step("clean", clean), Step(LONG, clean)),
    )


async def fill(world: World) -> None:
    """Makes the instance as large as it may be."""
    size = DOCUMENT_BYTES_MAX
    with pytest.raises(TooLarge) as raised:
        await world.send("Write", "x" * size)
    taken, limit = (int(number.replace(",", "")) for number in re.findall(r"([\d,]+) bytes", str(raised.value))[:2])
    await world.send("Write", "x" * (size - (taken - limit) - 20))
    with pytest.raises(TooLarge):
        await world.send("Write", "x" * 40)


@pytest.mark.parametrize("before", [(), (Pause(), Unpause(), Pause())])
@in_world(Archive)
async def test_it_can_be_canceled_and_its_cleanup_runs(world: World, before: tuple[Operation, ...]) -> None:
    CALLS.clear()
    await world.started()
    await world.send("Begin")
    await fill(world)
    for operation in before:
        await world.finish(world.process.engine.operate("archive", ID, operation))
    await world.finish(world.process.engine.operate("archive", ID, Cancel(by="x" * 200, reason="y" * 500)))
    await world.pass_time(timedelta(minutes=10))
    instance = await world.instance()
    assert (instance.execution.status, instance.lease, instance.execution.teardowns) == ("canceled", None, [])
    assert sorted(CALLS) == [*["clean"] * 2, *(f"teardown Event {n}" for n in range(5))]


@pytest.mark.parametrize("operation", [Cancel(by="x" * 200), Pause(by="x" * 200)])
@in_world(Archive)
async def test_it_can_be_canceled_and_paused_while_its_step_runs(world: World, operation: Operation) -> None:
    CALLS.clear()
    await world.started()
    await world.send("Begin")
    await fill(world)
    running = ensure_future(world.process.perform(world.queue.resumes[0]))
    await world.clock.settle()
    assert (await world.instance()).lease is not None, "it can be leased"
    await world.clock.advance(40)
    lease = (await world.instance()).lease
    assert lease is not None and lease.expires_at > world.now, "the lease can be renewed"
    await world.finish(world.start().engine.operate("archive", ID, operation))
    await world.clock.advance(20)
    assert await world.finish(running) is Outcome.DONE
    if isinstance(operation, Pause):
        assert (await world.instance()).execution.status == "paused"
        await world.finish(world.start().engine.operate("archive", ID, Cancel()))
    await world.pass_time(timedelta(minutes=10))
    instance = await world.instance()
    assert (instance.execution.status, instance.lease, instance.execution.teardowns) == ("canceled", None, [])
    assert sorted(CALLS) == [*["clean"] * 2, *(f"teardown Event {n}" for n in range(5))]


def cleaned(text: str) -> Any:
    return lambda workflow: CALLS.append(text)


class Vault(Workflow, name="vault"):
    """It has one thread, and a cleanup that takes more space than what it interrupts."""

    text: str = ""

    def write(self, text: str) -> None:
        self.text += text

    definition = S(
        Try("v", While("w", lambda w: True, Select("s", On("Write", write)))).finally_(
            Step(LONG, cleaned("first")),
            *(Go(f"{LONG} {n}", Step(f"{LONG} step {n}", cleaned(f"beside {n}"))) for n in range(6)),
            Select(f"{LONG} wait", On("Confirm", cleaned("confirmed"))),
        ),
    )


@in_world(Vault)
async def test_a_cleanup_may_take_more_space_than_what_it_interrupts(world: World) -> None:
    CALLS.clear()
    await world.started()
    await fill(world)
    await world.finish(world.process.engine.operate("vault", ID, Cancel(by="x" * 200, reason="y" * 500)))
    assert (await world.instance()).execution.canceling
    await world.deliver()
    await world.send("Confirm")
    await world.deliver()
    instance = await world.instance()
    assert (instance.execution.status, instance.lease) == ("canceled", None)
    assert CALLS[0] == "first"
    assert CALLS[-1] == "confirmed"
    assert len(CALLS) == 8
