"""Buffered events: kept while no thread waits for them, then delivered in order, each once."""

from __future__ import annotations

import json
from typing import Any

import pytest

from cloud_adapter.engine.events import BUFFERED
from cloud_adapter.options import EngineOptions
from tests.engine.harness import World, in_world, write
from tests.waits import the
from workflow_core import (
    EventNotAccepted,
    EventRejected,
    EventRequest,
    InvalidInput,
    On,
    S,
    Select,
    Step,
    Try,
    While,
    Workflow,
)
from workflow_core.wait_types import HandlerWait


class Till(Workflow, name="till"):
    paid: list[int] = []
    log: list[str] = []

    def pay(self, amount: int) -> int:
        if amount == 13:
            raise EventRejected("not thirteen")
        if amount == 666:
            self.paid.append(amount)
            raise ValueError("the handler has a bug")
        self.paid.append(amount)
        return len(self.paid)

    definition = S(
        Select("closed", On("Open", write("open"))),
        Step("warm up", write("warm")),
        Try("day", While("open", lambda w: len(w.paid) < 4, Select("till", On("Pay", pay, buffered=True)))).except_(
            ValueError, Step("call the manager", write("manager")), name="bug"
        ),
        Select("end", On("End", lambda w: None)),
    )


async def early(world: World, amount: object, **kwargs: Any) -> bytes:
    response: bytes = await world.finish(world.process.post("Pay", json.dumps(amount).encode(), **kwargs))
    return response


@in_world(Till)
async def test_they_are_kept_and_delivered_in_their_order(world: World) -> None:
    await world.started()
    assert [await early(world, amount) for amount in (1, 2, 3)] == [BUFFERED] * 3
    assert (await world.fields()).paid == []
    assert not world.queue.tasks, "they cost nothing while they wait"
    await world.send("Open")
    await world.deliver()
    assert (await world.fields()).paid == [1, 2, 3]
    assert await early(world, 4) == b"4", "now somebody waits: the handler's output is the response"
    assert (await world.instance()).execution.buffer == []
    assert await world.history("buffered", "event") == [
        *[("buffered", "Pay")] * 3,
        ("event", "Open"),
        *[("event", "Pay")] * 4,
    ]


@in_world(Till)
async def test_under_a_key_it_is_kept_once(world: World) -> None:
    await world.started()
    assert [await early(world, 1, key="k") for _ in range(3)] == [BUFFERED] * 3
    assert len((await world.instance()).execution.buffer) == 1


@in_world(Till, options=EngineOptions(buffer_max=2))
async def test_the_buffer_is_bounded_and_wrong_input_is_refused_at_once(world: World) -> None:
    await world.started()
    with pytest.raises(InvalidInput):
        await early(world, "much")
    await early(world, 1)
    await early(world, 2)
    before = await world.instance()
    with pytest.raises(EventNotAccepted, match="and 2 events are already buffered"):
        await early(world, 3)
    with pytest.raises(EventNotAccepted):
        await early(world, 3, thread_id="main")
    assert await world.instance() == before


@in_world(Till)
async def test_one_that_its_handler_refuses_is_dropped(world: World) -> None:
    await world.started()
    for amount in (1, 13, 2):
        await early(world, amount)
    await world.send("Open")
    await world.deliver()
    assert (await world.fields()).paid == [1, 2]
    assert await world.history("event rejected") == [("event rejected", "Pay")]


@in_world(Till)
async def test_a_bug_of_its_handler_is_a_failure_of_the_statement(world: World) -> None:
    await world.started()
    await early(world, 666)
    await world.send("Open")
    await world.deliver()
    assert (await world.fields()).log == ["open", "warm", "manager"]
    assert (await world.fields()).paid == [], "what the handler did before it failed is undone"
    assert (await world.instance()).execution.buffer == []


@in_world(Till)
async def test_a_later_one_does_not_overtake(world: World) -> None:
    await world.started()
    await early(world, 1)
    await world.send("Open")
    await world.process.deliver(world.queue.resumes[0])
    assert await early(world, 2) == b"2"
    assert (await world.fields()).paid == [1, 2]


@pytest.mark.parametrize("applied", [False, True])
@pytest.mark.parametrize("nth", [1, 2, 3, 4])
@in_world(Till)
async def test_the_reply_of_a_commit_is_lost(world: World, nth: int, applied: bool) -> None:
    await world.started()
    world.process.unavailable("commit", nth, applied=applied)
    await early(world, 1, key="one")
    await early(world, 2, key="two")
    await world.send("Open")
    await world.deliver()
    assert (await world.fields()).paid == [1, 2]


class Registered:
    """An event whose first setup fails."""

    failures = 0

    async def setup(self, request: EventRequest) -> None:
        if self.failures:
            Registered.failures -= 1
            raise ConnectionError("not now")

    def handle(self, request: EventRequest, input: int) -> None: ...

    def teardown(self, request: EventRequest, handled: bool) -> None: ...


class Desk(Workflow, name="desk"):
    paid: list[int] = []

    def pay(self, amount: int) -> int:
        self.paid.append(amount)
        return amount

    definition = S(
        Select("closed", On("Open", lambda w: None)),
        Select("till", On("Pay", pay, buffered=True), On("Wire", Registered())),
        Select("end", On("End", lambda w: None)),
    )


@in_world(Desk)
async def test_where_a_setup_comes_first_and_fails_its_next_attempt_has_a_task(world: World) -> None:
    await world.started()
    await early(world, 1)
    Registered.failures = 1
    await world.send("Open")
    await world.deliver()
    instance = await world.instance()
    retry_at = the(HandlerWait, instance.execution.threads[0].waits).retry_at
    assert retry_at is not None
    assert instance.wake_at == retry_at > world.now
    assert [task.at for task in world.queue.tasks.values()] == [retry_at]
    await world.pass_time(retry_at - world.now)
    assert (await world.fields()).paid == [1]
