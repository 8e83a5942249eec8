"""Kept events whose entries arrive late, arrive again, or are damaged: nobody waits for long because of them."""

from __future__ import annotations

import asyncio
import logging
from asyncio import ensure_future
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from cloud_adapter.engine.events import BUFFERED, LATER
from cloud_adapter.engine.kept_events import Outcome
from cloud_adapter.engine.operations import Cancel
from cloud_adapter.errors import IdempotencyKeyReused, Unavailable
from cloud_adapter.options import EngineOptions
from tests.engine.harness import ID, World, in_world
from tests.engine.test_kept_events import GATE, Shop, baked, baking, outcome, send
from workflow_core import Go, On, S, Select, Step, Try, While, Workflow


@in_world(Shop)
async def test_a_post_that_arrives_again_delays_no_event_behind_it(world: World) -> None:
    running = await baking(world)
    await send(world, "Add", 13, outcome="a")
    await send(world, "Add", 1, outcome="b")
    repeated, _ = await world.store.inbox("shop", ID)
    world.process.fault("inbox", 3, before=Unavailable("only the first event is decided"))
    GATE.open()
    await world.finish(running)
    rejected = Outcome(error="EventRejected", text="not thirteen")
    assert (await outcome(world, "a"), (await world.fields()).log) == (rejected, ["baked"])
    await world.store.post(repeated)
    before = world.now
    assert await send(world, "Add", 2, world.start()) == b'"sum 2"'
    assert (await world.fields()).log == ["baked", "add 1", "add 2"]
    assert world.now == before, "at once"
    assert await outcome(world, "a") == rejected


@in_world(Shop, options=EngineOptions(buffer_max=1))
async def test_an_event_that_processes_have_kept_beyond_the_limit_is_known(world: World) -> None:
    """Each has found room for its own event."""
    await baking(world)
    await send(world, "Add", 1, outcome="a")
    (first,) = await world.store.inbox("shop", ID)
    for number, token in enumerate("bcd", int(first.name.split("-")[1]) + 1):
        await world.store.post(replace(first, name=f"event-{number:017d}-{token}"))
    for token in "abcd":
        waiting = await outcome(world, token)
        assert waiting is not None and waiting.waits
    assert await outcome(world, "e") is None


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("{", "Expecting property name"),
        ('{"event": "Add"}', "'body'"),
        ('{"event": "Add", "body": 1, "key": null, "thread_id": null, "wait_id": null}', "'encode'"),
        ("1", "not subscriptable"),
    ],
    ids=["no-json", "a-part-is-missing", "a-wrong-type", "no-object"],
)
@in_world(Shop)
async def test_an_event_that_was_damaged_in_the_inbox_is_logged_as_an_error_and_delays_no_other(
    world: World, caplog: pytest.LogCaptureFixture, body: str, reason: str
) -> None:
    running = await baking(world)
    await send(world, "Add", 1, outcome="a")
    await send(world, "Add", 2, outcome="b")
    entry, _ = await world.store.inbox("shop", ID)
    await world.store.discard([entry])
    await world.store.post(replace(entry, body=body))
    world.process.fault("inbox", before=Unavailable("the process that runs the step does not collect"))
    GATE.open()
    await world.finish(running)
    before = world.now
    with caplog.at_level(logging.INFO):
        assert await send(world, "Add", 3, world.start()) == b'"sum 3"'
    assert (await world.fields()).log == ["baked", "add 2", "add 3"]
    assert world.now == before, "at once"
    logged = [record for record in caplog.records if "damaged inbox entry" in record.getMessage()]
    assert {record.levelname for record in logged} == {"ERROR"}
    assert all(reason in vars(record)["fields"]["error"] for record in logged)


class Once(Workflow, name="shop"):
    """A step, beside a wait for one event."""

    log: list[str] = []

    async def bake(self) -> None:
        await GATE.wait()
        self.log.append("baked")

    def add(self, amount: int) -> str:
        self.log.append(f"add {amount}")
        return f"sum {amount}"

    definition = S(Go("once", Select("sum", On("Add", add))), Step("bake", bake), Select("end", On("End", add)))


@pytest.mark.parametrize(("amount", "error"), [(1, ""), (2, "IdempotencyKeyReused")])
@in_world(Once)
async def test_a_post_that_arrives_after_its_repetition_took_effect_has_the_same_outcome(
    world: World, amount: int, error: str
) -> None:
    """Although nothing waits for the event any more. Another event under the same key has an error as its outcome."""
    running = await baking(world)
    other = world.start()

    async def end() -> None:
        GATE.open()
        await asyncio.wait([running])
        assert await world.start().post("Add", b"1", key="k") == b'"sum 1"'

    other.fault("post", before=end)
    late = ensure_future(other.post("Add", str(amount).encode(), outcome="a", key="k"))
    with suppress(IdempotencyKeyReused):
        await world.finish(late)
    await world.pass_time(timedelta(minutes=3))
    assert (await world.fields()).log == ["baked", "add 1"]
    found = await outcome(world, "a")
    assert found is not None
    assert (found.answer, found.error) == (None if error else '"sum 1"', error)
    assert not await world.history("event rejected") or error


class Shift(Workflow, name="shop"):
    """Two steps, one after the other, beside a counter."""

    log: list[str] = []

    async def bake(self) -> None:
        await GATE.wait()
        self.log.append("baked")

    def add(self, amount: int) -> None:
        self.log.append(f"add {amount}")

    definition = S(
        Go("counter", While("open", lambda w: len(w.log) < 100, Select("sum", On("Add", add)))),
        Step("bake", bake),
        Select("between", On("Next", lambda w: None)),
        Step("bake again", bake),
        Select("end", On("End", lambda w: None)),
    )


@in_world(Shift)
async def test_a_request_that_is_repeated_after_its_event_was_decided_is_answered_at_once(world: World) -> None:
    """Also while the next step runs for long."""
    running = await baking(world)
    assert await send(world, "Add", 1, outcome="a") == LATER
    assert await baked(world, running) == ["baked", "add 1"]
    await send(world, "Next", None)
    running = ensure_future(world.process.perform(world.queue.resumes[0]))
    await world.clock.advance(6)
    before = world.now
    assert await send(world, "Add", 1, outcome="a") == LATER
    assert world.now == before, "at once"
    assert await baked(world, running) == ["baked", "add 1", "baked"]


@in_world(Shift)
async def test_an_event_that_arrives_in_the_inbox_after_its_step_is_answered_during_the_next_step(world: World) -> None:
    running = await baking(world)
    other, third = world.start(), world.start()
    next_running: list[asyncio.Task[Any]] = []

    async def end() -> None:
        GATE.open()
        await asyncio.wait([running])
        await third.post("Next")
        reached = GATE.reached
        next_running.append(ensure_future(third.perform(world.queue.resumes[-1])))
        while GATE.reached == reached:  # noqa: ASYNC110
            await asyncio.sleep(0)

    other.fault("post", before=end)
    before = world.now
    assert await world.finish(other.post("Add", b"1", outcome="a")) == LATER
    assert world.now - before < timedelta(seconds=10)
    assert not next_running[0].done()
    assert await baked(world, next_running[0]) == ["baked", "baked", "add 1"]


class Tab(Workflow, name="shop"):
    """``Pay`` is buffered while a step runs. If the instance is canceled, the cleanup waits for it."""

    log: list[str] = []

    async def bake(self) -> None:
        await GATE.wait()

    def pay(self, amount: int) -> None:
        self.log.append(f"pay {amount}")

    definition = S(Try("open", Step("bake", bake)).finally_(Select("bill", On("Pay", pay, buffered=True))))


@in_world(Tab)
async def test_an_event_that_is_kept_before_a_cancel_comes_to_the_cleanup_that_waits_for_it(world: World) -> None:
    running = await baking(world)
    assert await send(world, "Pay", 1) == BUFFERED
    await world.finish(world.start().engine.operate("shop", ID, Cancel()))
    assert await baked(world, running) == ["pay 1"]
    assert not await world.history("event rejected")
