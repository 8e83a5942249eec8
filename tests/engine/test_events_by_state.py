"""Each kind of event in each state of an instance: handled, buffered, put off or refused; and what the view offers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from cloud_adapter.document import Lease
from cloud_adapter.engine.events import BUFFERED
from cloud_adapter.engine.operations import Cancel, Pause, Unpause
from cloud_adapter.errors import Busy
from cloud_adapter.options import EngineOptions
from tests.engine.harness import ID, World, in_world, nothing, write
from workflow_core import (
    EventNotAccepted,
    Go,
    On,
    Return,
    S,
    Select,
    Step,
    TerminalError,
    Timeout,
    Try,
    While,
    Workflow,
    WorkflowError,
)

OPTIONS = EngineOptions(max_wait=timedelta(seconds=10))


def broken(workflow: Any) -> None:
    raise TerminalError("it is broken")


class Mail(Workflow, name="mail"):
    log: list[str] = []

    definition = S(
        Go(
            "beside",
            While(
                "always", lambda w: True, Select("hear", On("Ring", write("ring")), Timeout("late", timedelta(days=9)))
            ),
        ),
        Select(
            "start",
            On("Start", nothing),
            On("Break", nothing, Step("break", broken)),
            On("Finish", nothing, Return()),
        ),
        Try(
            "work",
            Step("drive", write("drive")),
            Select("there", On("Leave", write("left")), On("Letter", write("letter"), buffered=True)),
            Select("next", On("Letter", write("letter"), buffered=True)),
        ).finally_(Select("key", On("Key", write("key")))),
        Step("pack", write("packed")),
        Select("end", On("End", nothing)),
    )


async def starting(world: World) -> None:
    await world.started()


async def running(world: World) -> None:
    """A step is due, and no process has begun it."""
    await world.started()
    await world.send("Start")


async def leased(world: World) -> None:
    """A step is running in another process."""
    await running(world)
    world.queue.tasks.clear()
    instance = await world.instance()
    instance.execution.pc += 1
    lease = Lease("somebody", world.now + timedelta(minutes=1))
    await world.store.commit(replace(instance, lease=lease, tokens=(*instance.tokens, "t")))


async def waiting(world: World) -> None:
    await running(world)
    await world.deliver()


async def paused(world: World) -> None:
    await waiting(world)
    await world.finish(world.process.engine.operate("mail", ID, Pause()))


async def canceling(world: World) -> None:
    await waiting(world)
    await world.finish(world.process.engine.operate("mail", ID, Cancel()))


async def failed(world: World) -> None:
    await world.started()
    await world.send("Break")
    await world.deliver()


async def canceled(world: World) -> None:
    await world.started()
    await world.finish(world.process.engine.operate("mail", ID, Cancel()))


async def finished(world: World) -> None:
    await world.started()
    await world.send("Finish")


HANDLED, KEPT, BUSY, REFUSED = "handled", "buffered", Busy, EventNotAccepted

Outcome = str | type[WorkflowError]

EVENTS = ("Ring", "Leave", "Letter", "Key", "late", "Unknown")

TABLE: dict[Callable[[World], Awaitable[None]], tuple[tuple[str, ...], tuple[Outcome, ...]]] = {
    # state:    offered                      Ring      Leave     Letter    Key      a timeout  of no statement
    starting:  (("Start", "Break", "Finish", "Ring"),
                                            (HANDLED,  REFUSED,  KEPT,     REFUSED, REFUSED,   REFUSED)),
    running:   (("Ring",),                  (HANDLED,  BUSY,     KEPT,     BUSY,    REFUSED,   REFUSED)),
    leased:    (("Ring",),                  (BUSY,     BUSY,     BUSY,     BUSY,    REFUSED,   REFUSED)),
    waiting:   (("Leave", "Letter", "Ring"),
                                            (HANDLED,  HANDLED,  HANDLED,  REFUSED, REFUSED,   REFUSED)),
    paused:    ((),                         (REFUSED,  REFUSED,  REFUSED,  REFUSED, REFUSED,   REFUSED)),
    canceling: (("Key",),                   (REFUSED,  REFUSED,  REFUSED,  HANDLED, REFUSED,   REFUSED)),
    failed:    ((),                         (REFUSED,  REFUSED,  REFUSED,  REFUSED, REFUSED,   REFUSED)),
    canceled:  ((),                         (REFUSED,  REFUSED,  REFUSED,  REFUSED, REFUSED,   REFUSED)),
    finished:  ((),                         (REFUSED,  REFUSED,  REFUSED,  REFUSED, REFUSED,   REFUSED)),
}  # fmt: skip

CASES = [
    pytest.param(state, event, outcome, id=f"{event} {state.__name__}")
    for state, (_, outcomes) in TABLE.items()
    for event, outcome in zip(EVENTS, outcomes, strict=True)
]


@pytest.mark.parametrize(("state", "event", "outcome"), CASES)
@in_world(Mail, options=OPTIONS)
async def test_what_becomes_of_an_event_depends_on_the_state(
    world: World, state: Any, event: str, outcome: Outcome
) -> None:
    await state(world)
    before, tasks, begin = await world.instance(), dict(world.queue.tasks), world.now
    for key in (None, "k"):
        if isinstance(outcome, type):
            with pytest.raises(outcome) as caught:
                await world.finish(world.process.post(event, key=key))
            assert await world.instance() == before
            assert world.queue.tasks == tasks
            if outcome is REFUSED:
                assert isinstance(caught.value, EventNotAccepted)
                assert sorted(caught.value.accepted) == sorted(TABLE[state][0])
                assert world.now == begin, "it is refused at once"
            else:
                assert world.now - begin >= OPTIONS.max_wait * (1 if key is None else 2)
    if isinstance(outcome, type):
        return
    assert await world.process.engine.recorded("mail", ID, "k") is None
    response = await world.finish(world.process.post(event, key="k"))
    assert await world.finish(world.process.post(event, key="k")) == response, "the key is recorded"
    record = await world.process.engine.recorded("mail", ID, "k")
    assert record is not None and record.response.encode() == response
    assert await world.process.engine.recorded("mail", ID, "another key") is None
    after = await world.instance()
    assert len(after.history) == len(before.history) + 1
    entry = after.history[-1]
    if outcome == KEPT:
        assert response == BUFFERED
        assert [kept.event for kept in after.execution.buffer] == [event]
        assert (entry.kind, entry.statement, entry.thread, entry.select) == ("buffered", event, "", "")
        assert after.fields == before.fields
        assert after.execution.threads == before.execution.threads
    else:
        assert response == b"null"
        thread = next(thread for thread in before.execution.threads for wait in thread.waits if wait.event == event)
        assert (entry.kind, entry.statement, entry.thread, entry.select) == ("event", event, thread.id, thread.step)
        assert after.fields != before.fields


@pytest.mark.parametrize("state", TABLE)
@in_world(Mail, options=OPTIONS)
async def test_the_view_offers_what_clients_may_send(world: World, state: Any) -> None:
    await state(world)
    view = await world.process.engine.get("mail", ID)
    assert [one.case.event for one in view.accepted] == list(TABLE[state][0])
    assert view.problem == ""
    assert view.instance == await world.instance()


@in_world(Mail, options=OPTIONS)
async def test_an_event_that_names_a_thread_or_a_wait_is_not_buffered(world: World) -> None:
    await starting(world)
    before = await world.instance()
    addresses: list[dict[str, Any]] = [{"thread_id": "main"}, {"wait_id": "main@1"}]
    for about in (*addresses, addresses[0] | addresses[1]):
        with pytest.raises(EventNotAccepted):
            await world.finish(world.process.post("Letter", **about))
    assert await world.instance() == before


@in_world(Mail, options=OPTIONS)
async def test_an_event_that_names_a_thread_or_a_wait_waits_for_the_step_before_it(world: World) -> None:
    """What it names may be there when the step is done."""
    await running(world)
    addresses: list[dict[str, Any]] = [{"thread_id": "main"}, {"wait_id": "main@1"}]
    for about in addresses:
        with pytest.raises(Busy):
            await world.finish(world.process.post("Leave", **about))
    await world.deliver()
    thread = (await world.instance()).execution.threads[0]
    assert await world.send("Leave", thread_id="main", wait_id=f"main@{thread.pc}") is None


@in_world(Mail, options=OPTIONS)
async def test_one_key_is_for_one_event_with_one_address(world: World) -> None:
    await waiting(world)
    thread = (await world.instance()).execution.threads[0]
    about = {"thread_id": "main", "wait_id": f"main@{thread.pc}"}
    assert await world.send("Leave", key="k", **about) is None
    assert await world.send("Leave", key="k", **about) is None, "it is answered again, though nothing waits for it"
    before = await world.instance()
    for other in ({}, {"thread_id": "main"}, {"wait_id": about["wait_id"]}, about | {"wait_id": "main@1"}):
        with pytest.raises(WorkflowError, match="the idempotency key 'k' was used for another request"):
            await world.send("Leave", key="k", **other)
    with pytest.raises(WorkflowError, match="the idempotency key 'k' was used for another request"):
        await world.send("Letter", key="k", **about)
    assert await world.instance() == before
    assert (await world.fields()).log == ["drive", "left"]


@in_world(Mail, options=OPTIONS)
async def test_what_was_buffered_is_dropped_with_a_cancellation(world: World) -> None:
    await starting(world)
    assert await world.finish(world.process.post("Letter")) == BUFFERED
    await world.send("Start")
    await world.finish(world.process.engine.operate("mail", ID, Cancel()))
    instance = await world.instance()
    assert instance.execution.buffer == []
    await world.deliver()
    await world.send("Key")
    assert (await world.instance()).execution.status == "canceled"
    assert "letter" not in (await world.fields()).log


@in_world(Mail, options=OPTIONS)
async def test_what_was_buffered_before_a_pause_is_handled_after_it(world: World) -> None:
    await starting(world)
    for _ in range(2):
        assert await world.finish(world.process.post("Letter")) == BUFFERED
    await world.finish(world.process.engine.operate("mail", ID, Pause()))
    await world.deliver()
    assert len((await world.instance()).execution.buffer) == 2
    await world.finish(world.process.engine.operate("mail", ID, Unpause()))
    await world.send("Start")
    await world.deliver()
    assert (await world.fields()).log == ["drive", "letter", "letter"]
    assert (await world.instance()).execution.buffer == []
