"""Who may not send an event does not wait for the handlers of others: the wait would take a place in the line, and show
that there is an instance."""

from __future__ import annotations

import asyncio
from asyncio import ensure_future
from collections.abc import Coroutine
from datetime import timedelta
from typing import Any

import pytest

from cloud_adapter.engine.line import CHECKED_SECONDS
from cloud_adapter.engine.operations import SetFields
from cloud_adapter.errors import InstanceNotFound, Unauthenticated
from tests.engine.harness import ID, Gate, World, in_world
from workflow_core import (
    ANONYMOUS,
    Access,
    Action,
    EventRequest,
    On,
    Principal,
    S,
    Select,
    WebhookRequest,
    While,
    Workflow,
    WorkflowError,
)

GATE = Gate()
ANN, BOB = (Principal(f"login|{name}", roles=frozenset({"customer"})) for name in ("ann", "bob"))


class Slowly:
    """Its handler waits for an outside system."""

    def setup(self, request: EventRequest) -> None: ...

    def teardown(self, request: EventRequest, handled: bool) -> None: ...

    async def handle(self, request: EventRequest, input: str) -> None:
        await GATE.wait()
        request.workflow.log.append("slow")


class Order(Workflow, name="order"):
    access = Access(read={"customer"}, send={"customer"})
    owner: str = ANN.id
    log: list[str] = []

    def authorize(self, principal: Principal, action: Action, event: str | None) -> bool | None:
        return principal.id == self.owner or principal.kind == "anonymous"

    def is_signed(self, request: WebhookRequest) -> bool:
        return request.headers.get("x-signature") == "right"

    def note(self) -> None:
        self.log.append("quick")

    definition = S(
        While(
            "open",
            lambda w: len(w.log) < 9,
            Select("wait", On("Slow", Slowly()), On("Quick", note), On("Signed", note, verify=is_signed)),
        )
    )


async def handling(world: World) -> asyncio.Task[bytes]:
    """The handler of Ann's event waits for long."""
    await world.started()
    handled = ensure_future(world.process.post("Slow", b'""', principal=ANN))
    await world.clock.advance(1)
    assert not handled.done()
    return handled


@pytest.mark.parametrize(("event", "by"), [("Quick", BOB), ("Signed", BOB), ("Signed", ANONYMOUS)])
def test_who_may_not_send_it_learns_it_while_a_handler_runs(event: str, by: Principal, tmp_path: Any) -> None:
    error: type[WorkflowError] = InstanceNotFound if by is BOB else Unauthenticated

    @in_world(Order)
    async def run(world: World) -> None:
        handled = await handling(world)
        before, answers = world.now, []
        for id in (ID, "missing"):
            with pytest.raises(error) as refused:
                await world.finish(world.process.post(event, principal=by, id=id))
            answers.append(str(refused.value).replace(id, "ID"))
        assert answers[0] == answers[1]
        assert world.now == before and not handled.done()
        GATE.open()
        await world.finish(handled)
        assert (await world.fields()).log == ["slow"]

    run(tmp_path)


@in_world(Order)
async def test_it_waits_for_a_handler_that_has_just_begun_only_for_a_moment(world: World) -> None:
    await world.started()
    handled = ensure_future(world.process.post("Slow", b'""', principal=ANN))
    await world.clock.advance(0)
    before = world.now
    with pytest.raises(InstanceNotFound):
        await world.finish(world.process.post("Quick", principal=BOB))
    assert world.now - before <= timedelta(seconds=CHECKED_SECONDS) and not handled.done()
    GATE.open()
    await world.finish(handled)


@in_world(Order)
async def test_who_may_send_it_is_checked_again_on_the_state_that_is_committed(world: World) -> None:
    """Another process hands the order over while the event waits."""
    handled = await handling(world)
    waiting: Coroutine[Any, Any, bytes] = world.process.post("Quick", principal=ANN)
    sent = ensure_future(waiting)
    await world.clock.advance(1)
    assert not sent.done()
    await world.start().engine.operate("order", ID, SetFields(fields={"owner": BOB.id}))
    GATE.open()
    results = await world.finish(asyncio.gather(handled, sent, return_exceptions=True))
    assert [type(result) for result in results] == [InstanceNotFound, InstanceNotFound]
    assert (await world.fields()).log == []


@in_world(Order)
async def test_while_the_database_is_down_it_is_not_asked_again_and_again_who_may_send_it(world: World) -> None:
    handled = await handling(world)
    sent = ensure_future(world.process.post("Quick", principal=BOB))
    for number in range(1, 200):
        world.process.unavailable("load", number, applied=False)
    with world.process.calls() as calls:
        await world.clock.advance(5)
    assert 1 <= calls.count("load") < 5
    world.process.wire.faults.clear()
    GATE.open()
    with pytest.raises(InstanceNotFound):
        await world.finish(sent)
    await world.finish(handled)
