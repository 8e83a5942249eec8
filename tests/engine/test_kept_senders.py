"""The senders of events that are kept while a step runs: they are authorized again, and only they see outcomes."""

from __future__ import annotations

import asyncio
import json
import logging
from asyncio import ensure_future
from datetime import timedelta
from typing import Any

import pytest
from pydantic import SecretStr

from cloud_adapter.codecs.fernet import FernetCodec, new_key
from cloud_adapter.engine.events import BUFFERED, LATER
from cloud_adapter.engine.kept_events import Outcome
from cloud_adapter.errors import Busy, Forbidden, IdempotencyKeyReused, InstanceNotFound
from tests.engine.harness import ID, Gate, World, in_world
from tests.engine.test_permissions import audit
from workflow_core import EVERYONE, Access, Action, Go, On, Principal, S, Select, Step, While, Workflow

GATE = Gate()

ANN = Principal("login|ann", "Ann", roles=frozenset({"member"}), claims={"shop": ["north"]})
MAX = Principal("login|max", "Max", roles=frozenset({"member"}))
READER = Principal("login|rea", roles=frozenset({"reader"}))
BOSS = Principal("login|eve", roles=frozenset({"boss"}))
STRANGER = Principal("login|bob")


class Shop(Workflow, name="shop"):
    """While a step runs, all members may send events. Afterwards, one may not send them, and one does not see it."""

    access = Access(read={"member", "reader", "boss"}, send={"member"}, operate={"boss"})

    log: list[str] = []
    is_baked: bool = False
    muted: str = ""
    banned: str = ""

    def authorize(self, principal: Principal, action: Action, event: str | None) -> bool | None:
        is_muted = principal.id == self.muted and action is Action.SEND
        return not (self.is_baked and (is_muted or principal.id == self.banned))

    async def bake(self) -> None:
        await GATE.wait()
        self.is_baked = True

    def add(self, amount: int, *, principal: Principal | None) -> str:
        who = principal and (principal.name, sorted(principal.roles), dict(principal.claims))
        self.log.append(f"add {amount} by {who}")
        return f"sum {amount}"

    def pay(self, amount: int, *, principal: Principal | None) -> None:
        self.log.append(f"pay {amount} by {principal and principal.name}")

    definition = S(
        Go("counter", While("open", lambda w: len(w.log) < 100, Select("sum", On("Add", add)))),
        Step("bake", bake),
        While("unpaid", lambda w: len(w.log) < 100, Select("till", On("Pay", pay, buffered=True))),
    )


async def baking(world: World, **fields: Any) -> asyncio.Task[Any]:
    """The step has been running for so long that events are kept."""
    await world.create(**fields)
    running = ensure_future(world.process.perform(world.queue.resumes[0]))
    await world.clock.advance(6)
    return running


async def baked(world: World, running: asyncio.Task[Any]) -> None:
    """The step ends, and what was kept is decided."""
    GATE.open()
    await world.finish(running)
    await world.pass_time(timedelta(minutes=3))
    assert not await world.store.inbox("shop", ID)


async def send(world: World, event: str, input: Any, principal: Principal | None, **kwargs: Any) -> bytes:
    body = json.dumps(input).encode()
    response: bytes = await world.finish(world.process.post(event, body, principal=principal, **kwargs))
    return response


async def outcome(world: World, token: str, principal: Principal | None) -> Outcome | None:
    return await world.start().engine.outcome("shop", ID, token, principal=principal)


@in_world(Shop)
async def test_it_is_decided_for_its_sender(world: World) -> None:
    running = await baking(world)
    assert await send(world, "Add", 1, ANN, outcome="a") == LATER
    assert await send(world, "Pay", 2, MAX) == BUFFERED
    assert await send(world, "Add", 3, None, outcome="b") == LATER
    await baked(world, running)
    about = ("Ann", ["member"], {"shop": ["north"]})
    assert (await world.fields()).log == [f"add 1 by {about}", "add 3 by None", "pay 2 by Max"]
    entries = [(entry.kind, entry.statement, entry.by) for entry in (await world.instance()).history]
    assert {("event", "Add", "Ann"), ("event", "Add", ""), ("buffered", "Pay", "Max")} <= set(entries)


@in_world(Shop)
async def test_who_may_no_longer_send_it_gets_a_denial_as_the_outcome(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    running = await baking(world, muted=ANN.id)
    assert await send(world, "Add", 1, ANN, outcome="a") == LATER
    assert await send(world, "Pay", 2, ANN) == BUFFERED
    assert await send(world, "Add", 3, MAX, outcome="b") == LATER
    with caplog.at_level(logging.INFO):
        await baked(world, running)
    assert [entry.split(" by")[0] for entry in (await world.fields()).log] == ["add 3"]
    text = "sending 'Add' is not permitted: authorize of 'shop' denies it"
    assert await outcome(world, "a", ANN) == Outcome(error="Forbidden", text=text, by=ANN.id)
    assert await outcome(world, "b", MAX) == Outcome('"sum 3"', by=MAX.id)
    rejected = [entry for entry in (await world.instance()).history if entry.kind == "event rejected"]
    assert [(entry.statement, entry.by, entry.by_id) for entry in rejected] == [
        ("Add", "Ann", ANN.id),
        ("Pay", "Ann", ANN.id),
    ]
    denied = [(line["event"], line["principal"]) for line in audit(caplog) if line["kind"] == "denied"]
    assert denied == [("Add", ANN.id), ("Pay", ANN.id)]


@in_world(Shop)
async def test_who_may_no_longer_read_the_instance_learns_nothing(world: World) -> None:
    running = await baking(world, banned=ANN.id)
    assert await send(world, "Add", 1, ANN, outcome="a") == LATER
    await baked(world, running)
    with pytest.raises(InstanceNotFound):
        await outcome(world, "a", ANN)
    seen = await outcome(world, "a", BOSS)
    assert seen is not None
    assert (seen.error, seen.text) == ("InstanceNotFound", str(InstanceNotFound.of("shop", ID)))
    assert (await world.fields()).log == []


@pytest.mark.parametrize(("who", "error"), [(STRANGER, InstanceNotFound), (READER, Forbidden), (BOSS, Forbidden)])
@pytest.mark.parametrize(("event", "about"), [("Add", {"outcome": "a"}), ("Pay", {"outcome": "a"}), ("Pay", {})])
@in_world(Shop)
async def test_who_has_no_right_learns_it_at_once_and_nothing_is_kept(
    world: World, who: Principal, error: type[Exception], event: str, about: Any
) -> None:
    running = await baking(world)
    before = world.now
    for input in (1, "much"):
        with pytest.raises(error):
            await send(world, event, input, who, **about)
    assert world.now == before
    assert not await world.store.inbox("shop", ID)
    await baked(world, running)


@in_world(Shop)
async def test_only_the_sender_and_operators_see_the_outcome(world: World) -> None:
    running = await baking(world)
    await send(world, "Add", 1, ANN, outcome="a")
    await send(world, "Add", 2, None, outcome="code")
    for is_decided in (False, True):
        for who in (ANN, BOSS, EVERYONE, None):
            seen = await outcome(world, "a", who)
            assert seen is not None
            assert seen.waits is not is_decided
        for who in (MAX, READER):
            assert await outcome(world, "a", who) is None
            assert await outcome(world, "code", who) is None
        assert await outcome(world, "code", BOSS) is not None
        with pytest.raises(InstanceNotFound):
            await outcome(world, "a", STRANGER)
        if not is_decided:
            await baked(world, running)


@in_world(Shop)
async def test_who_may_not_read_the_instance_and_asks_for_an_outcome_is_in_the_audit_log(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    running = await baking(world)
    await send(world, "Add", 1, ANN, outcome="a")
    with caplog.at_level(logging.INFO), pytest.raises(InstanceNotFound):
        await outcome(world, "a", STRANGER)
    denied = [(line["action"], line["principal"]) for line in audit(caplog) if line["kind"] == "denied"]
    assert denied == [("read", STRANGER.id)]
    await baked(world, running)


@in_world(Shop)
async def test_the_key_of_another_principal_is_another_key(world: World) -> None:
    running = await baking(world)
    for who, amount in ((ANN, 1), (MAX, 2), (ANN, 1)):
        assert await send(world, "Add", amount, who, key="k", outcome=f"{who.name}") == LATER
        assert await send(world, "Pay", amount, who, key="p") == BUFFERED
    await baked(world, running)
    assert [entry.split(" by")[0] for entry in (await world.fields()).log] == ["add 1", "add 2", "pay 1", "pay 2"]
    for who, amount in ((ANN, 1), (MAX, 2)):
        assert await send(world, "Add", amount, who, key="k") == f'"sum {amount}"'.encode()


@in_world(Shop)
async def test_another_event_under_the_same_key_is_refused_at_once(world: World) -> None:
    running = await baking(world)
    assert await send(world, "Pay", 1, ANN, key="p") == BUFFERED
    with pytest.raises(IdempotencyKeyReused):
        await send(world, "Pay", 2, ANN, key="p")
    await baked(world, running)
    assert (await world.fields()).log == ["pay 1 by Ann"]


@in_world(Shop)
async def test_a_sender_that_cannot_be_stored_waits(world: World) -> None:
    running = await baking(world)
    odd = Principal(ANN.id, roles=ANN.roles, claims={"shops": ("north",)})
    with pytest.raises(Busy, match="claims of its sender are not JSON"):
        await send(world, "Add", 1, odd, outcome="a")
    await baked(world, running)


class Vault(Workflow, name="shop"):
    access = Access(read={"member"}, send={"member"})

    async def bake(self) -> None:
        await GATE.wait()

    def open(self, pin: SecretStr) -> str:
        return f"opened with {pin.get_secret_value()}"

    definition = S(Go("door", Select("closed", On("Open", open))), Step("bake", bake), Select("end", On("End", open)))


@in_world(Vault, codec=FernetCodec([new_key()]))
async def test_secrets_in_kept_events_and_outcomes_are_encrypted(world: World) -> None:
    running = await baking(world)
    assert await send(world, "Open", "4711", ANN, key="k", outcome="a") == LATER
    (entry,) = await world.store.inbox("shop", ID)
    assert "4711" not in entry.body
    assert "Ann" not in entry.body
    await baked(world, running)
    record = await world.store.load_key("shop", ID, "outcome\ta", world.now)
    assert record is not None
    assert "4711" not in record.response
    assert await outcome(world, "a", ANN) == Outcome('"opened with 4711"', by=ANN.id)
