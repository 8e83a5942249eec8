"""Events with ``On(..., verify=...)`` that meet a long step: they are never kept, because their headers would be lost,
and are verified on the state that they are committed with."""

from __future__ import annotations

import asyncio
from asyncio import ensure_future
from datetime import timedelta
from typing import Any

import pytest

from cloud_adapter.errors import Busy, Forbidden, InstanceNotFound, Unauthenticated
from tests.engine.harness import ID, Gate, World, in_world
from workflow_core import (
    ANONYMOUS,
    EVERYONE,
    Access,
    Go,
    On,
    Principal,
    S,
    Select,
    Step,
    WebhookRequest,
    While,
    Workflow,
    WorkflowError,
)

GATE = Gate()
CLERK, STRANGER = Principal("login|cl", roles=frozenset({"clerk"})), Principal("login|eve")
SIGNED = {"x-signature": "first"}


class Shop(Workflow, name="shop"):
    """While its step runs, it accepts signed events. At its end, the step may change the signature."""

    access = Access(read={"clerk"}, send={"clerk"})

    secret: str = "first"
    next: str = "first"
    paid: list[int] = []

    async def bake(self) -> None:
        await GATE.wait()
        self.secret = self.next

    def pay(self, amount: int) -> int:
        self.paid.append(amount)
        return amount

    def is_signed(self, request: WebhookRequest) -> bool:
        return request.headers.get("x-signature") == self.secret

    definition = S(
        Go("till", While("open", lambda w: len(w.paid) < 9, Select("pay", On("Paid", pay, verify=is_signed)))),
        Step("bake", bake),
        Select("early", On("Early", pay, verify=is_signed, buffered=True)),
    )


class Earlier(Shop, name="shop"):
    """The same before the event was signed."""

    definition = S(
        Go("till", While("open", lambda w: len(w.paid) < 9, Select("pay", On("Paid", Shop.pay)))),
        Step("bake", Shop.bake),
        Select("early", On("Early", Shop.pay, buffered=True)),
    )


async def baking(world: World, **fields: Any) -> asyncio.Task[Any]:
    """The step has been running for so long that events would be kept."""
    await world.create(**fields)
    running = ensure_future(world.process.perform(world.queue.resumes[0]))
    await world.clock.advance(6)
    return running


def sending(
    world: World, event: str, headers: dict[str, str], by: Principal = ANONYMOUS, outcome: str = "a"
) -> asyncio.Task[bytes]:
    return ensure_future(world.process.post(event, b"5", principal=by, headers=headers, outcome=outcome))


@pytest.mark.parametrize("event", ["Paid", "Early"])
@pytest.mark.parametrize("changed", [False, True])
def test_it_waits_and_is_verified_on_the_state_that_is_committed(event: str, changed: bool, tmp_path: Any) -> None:
    @in_world(Shop)
    async def run(world: World) -> None:
        running = await baking(world, next="second" if changed else "first")
        sent = sending(world, event, SIGNED)
        await world.clock.advance(1)
        assert not sent.done() and not await world.store.inbox("shop", ID)
        GATE.open()
        await world.finish(running)
        if changed:
            with pytest.raises(Unauthenticated):
                await world.finish(sent)
        else:
            assert await world.finish(sent) in (b"5", b"")  # decided, or buffered after the commit of the step
        await world.pass_time(timedelta(minutes=1))
        assert (await world.fields()).paid == ([] if changed else [5])

    run(tmp_path)


@in_world(Shop)
async def test_if_the_step_takes_too_long_it_takes_no_effect(world: World) -> None:
    running = await baking(world)
    with pytest.raises(Busy):
        await world.finish(sending(world, "Paid", SIGNED))
    assert not await world.store.inbox("shop", ID)
    GATE.open()
    await world.finish(running)
    await world.pass_time(timedelta(minutes=1))
    assert (await world.fields()).paid == []


@pytest.mark.parametrize(
    ("by", "error"),
    [(ANONYMOUS, Unauthenticated), (STRANGER, InstanceNotFound), (CLERK, Forbidden), (EVERYONE, Unauthenticated)],
)
@pytest.mark.parametrize("event", ["Paid", "Early"])
def test_without_a_signature_it_is_refused_at_once(
    by: Principal, error: type[WorkflowError], event: str, tmp_path: Any
) -> None:
    @in_world(Shop)
    async def run(world: World) -> None:
        running = await baking(world)
        before = world.now
        with pytest.raises(error):
            await world.finish(sending(world, event, {"x-signature": "other"}, by))
        assert world.now == before and not await world.store.inbox("shop", ID)
        GATE.open()
        await world.finish(running)

    run(tmp_path)


@in_world(Shop)
async def test_what_was_kept_before_there_was_a_verify_is_denied(world: World) -> None:
    """Earlier code keeps events. The code that decides them wants a signature, which the inbox does not have."""
    running = await baking(world)
    earlier = world.start(Earlier)
    for event, outcome in (("Paid", "a"), ("Early", "")):
        await world.finish(earlier.post(event, b"5", principal=CLERK, headers=SIGNED, outcome=outcome))
    assert len(await world.store.inbox("shop", ID)) == 2
    GATE.open()
    await world.finish(running)
    await world.pass_time(timedelta(minutes=3))
    assert not await world.store.inbox("shop", ID)
    assert (await world.fields()).paid == []
    found = await world.process.engine.outcome("shop", ID, "a", principal=CLERK)
    assert found is not None and found.error == "Forbidden" and "verify of 'shop'" in found.text
