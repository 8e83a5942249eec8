"""What a principal may do: decided in the engine, on the state that is committed."""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from typing import Annotated, Any

import pytest

from cloud_adapter.engine import permissions
from cloud_adapter.engine.engine import Engine
from cloud_adapter.engine.operations import Cancel, Pause, SetFields
from cloud_adapter.errors import (
    Busy,
    Conflict,
    Forbidden,
    InstanceExists,
    InstanceNotFound,
    InvalidRequest,
    Unauthenticated,
    UserCodeError,
    WorkflowNotFound,
)
from cloud_adapter.observability.line_limit import LINES_MAX, LineLimit
from tests.engine.harness import ID, World, in_world
from workflow_core import (
    ANONYMOUS,
    EVERYONE,
    Access,
    Action,
    Child,
    CreatedBy,
    DefinitionError,
    EventNotAccepted,
    InvalidFields,
    InvalidInput,
    On,
    Principal,
    S,
    Select,
    Step,
    Workflow,
    WorkflowError,
)


def principal(id: str, *roles: str) -> Principal:
    return Principal(f"login|{id}", id.title(), roles=frozenset(roles))


ANN, BOB = principal("ann", "customer"), principal("bob", "customer")
MAX, COOK, ADMIN = principal("max", "manager"), principal("cora", "cook"), principal("ada", "admin", "manager")
NOBODY = principal("eve")


class Order(Workflow, name="order"):
    owner: Annotated[str, CreatedBy] = ""
    note: str = ""
    log: list[str] = []
    create_fields = ("note",)
    search_fields = ("owner",)
    access = Access(
        create={"customer"},
        read={"customer", "manager", "cook", "admin"},
        list={"customer", "manager"},
        operate={"manager"},
        repair={"admin"},
    )

    def authorize(self, principal: Principal, action: Action, event: str | None) -> bool | None:
        if self.note == "broken" and action is not Action.CREATE:
            raise RuntimeError("broken")
        if "customer" in principal.roles:
            return principal.id == self.owner
        return None

    @classmethod
    def visible(cls, principal: Principal) -> dict[str, Any] | None:
        return {"owner": principal.id} if "customer" in principal.roles else None

    def write(self) -> None:
        self.log.append("written")

    definition = S(
        Select("cart", On("Submit", write, role="customer"), On("Approve", write, role="manager"), On("Poke", write)),
        Select("kitchen", On("Approve", write, role="cook")),
        Select("end", On("Keep", write, role="cook", buffered=True)),
    )


async def created(world: World, by: Principal | None = ANN, id: str = ID, **fields: Any) -> None:
    body = json.dumps(fields).encode()
    await world.finish(world.process.engine.create(world.name, id, body, principal=by))


def send(engine: Engine, event: str, by: Principal | None, id: str = ID, **more: Any) -> Awaitable[bytes]:
    return engine.handle_event("order", id, event, principal=by, **more)


@in_world(Order)
async def test_the_role_of_the_case_that_is_accepted_now(world: World) -> None:
    await created(world)
    engine = world.process.engine
    with pytest.raises(Forbidden, match=r"sending 'Approve' is not permitted: it needs the role 'manager'"):
        await world.finish(send(engine, "Approve", COOK))
    await world.finish(send(engine, "Approve", MAX))
    with pytest.raises(Forbidden, match=r"it needs the role 'cook'"):
        await world.finish(send(engine, "Approve", MAX))
    await world.finish(send(engine, "Approve", COOK))
    assert (await world.fields()).log == ["written", "written"]


@in_world(Order)
async def test_an_event_without_a_role_is_denied(world: World) -> None:
    await created(world)
    with pytest.raises(Forbidden, match="sending 'Poke' is not permitted: no role allows it"):
        await world.finish(send(world.process.engine, "Poke", MAX))
    await world.finish(send(world.process.engine, "Poke", EVERYONE))


@in_world(Order)
async def test_events_that_are_accepted_are_listed_only_if_one_may_send_them(world: World) -> None:
    await created(world)
    engine = world.process.engine
    for who, events in ((ANN, ["Submit"]), (MAX, ["Approve"]), (COOK, []), (None, ["Submit", "Approve", "Poke"])):
        view = await world.finish(engine.get("order", ID, principal=who))
        assert [accepted.case.event for accepted in view.accepted] == events
        assert view.operator is (who in (MAX, None))
    with pytest.raises(EventNotAccepted) as raised:
        await world.finish(send(engine, "Unknown", ANN))
    assert raised.value.accepted == ("Submit",)
    with pytest.raises(Forbidden, match="'cook'"):  # not now, and never by a customer: it does not wait
        await world.finish(send(engine, "Keep", ANN))


@in_world(Order)
async def test_an_early_event_needs_the_role_of_each_case_that_may_receive_it(world: World) -> None:
    await created(world)
    with pytest.raises(Forbidden, match="'cook'"):
        await world.finish(send(world.process.engine, "Keep", MAX))
    assert await world.finish(send(world.process.engine, "Keep", COOK)) == b""


Request = Callable[[Engine, Principal, str], Awaitable[Any]]

REQUESTS: dict[str, Request] = {
    "get": lambda engine, who, id: engine.get("order", id, principal=who),
    "event": lambda engine, who, id: send(engine, "Submit", who, id),
    "unknown event": lambda engine, who, id: send(engine, "Unknown", who, id),
    "event with a key": lambda engine, who, id: send(engine, "Submit", who, id, key="k"),
    "operation": lambda engine, who, id: engine.operate("order", id, Cancel(), principal=who),
    "dry run": lambda engine, who, id: engine.operate("order", id, Cancel(dry_run=True), principal=who),
    "repair": lambda engine, who, id: engine.operate(
        "order", id, SetFields(fields={"owner": who.id, "note": 3}), principal=who
    ),
    "record": lambda engine, who, id: engine.recorded("order", id, "k", principal=who),
}


@pytest.mark.parametrize("request_name", REQUESTS)
@pytest.mark.parametrize("state", ["waiting", "paused", "authorize broken", "fields broken"])
@in_world(Order)
async def test_who_may_not_read_cannot_tell_an_instance_from_a_missing_one(
    world: World, request_name: str, state: str
) -> None:
    engine, request = world.process.engine, REQUESTS[request_name]
    await created(world, note="broken" if state == "authorize broken" else "")
    if state == "paused":
        await world.finish(engine.operate("order", ID, Pause()))
    if state == "fields broken":
        await damage(world)

    async def refused(who: Principal, id: str) -> tuple[type[Exception], str]:
        with pytest.raises(WorkflowError) as raised:
            await world.finish(request(engine, who, id))
        return type(raised.value), str(raised.value).replace(id, "ID")

    before = await world.instance()
    for who, error in ((BOB, InstanceNotFound), (NOBODY, InstanceNotFound), (ANONYMOUS, Unauthenticated)):
        there, missing = await refused(who, ID), await refused(who, "other-1")
        assert there == missing
        assert there[0] is error
    assert await world.instance() == before


@pytest.mark.parametrize("request_name", [name for name in REQUESTS if name not in ("repair", "record")])
@in_world(Order)
async def test_without_authentication_it_is_told_that_an_instance_cannot_be_loaded(
    world: World, request_name: str
) -> None:
    await created(world)
    await damage(world)
    with pytest.raises(InvalidFields, match="log"):
        await world.finish(REQUESTS[request_name](world.process.engine, EVERYONE, ID))


async def damage(world: World) -> None:
    """Makes the stored fields not match their types, as an older release may have left them."""
    await world.store.commit(replace(await world.instance(), fields='{"log": 3}'))


@in_world(Order)
async def test_a_repair_does_not_permit_itself(world: World) -> None:
    """``authorize`` is asked on what is stored, not on what the repair makes of it."""
    await created(world)
    thief = principal("tom", "customer", "admin")
    repair = SetFields(fields={"owner": thief.id})
    with pytest.raises(InstanceNotFound):
        await world.finish(world.process.engine.operate("order", ID, repair, principal=thief))
    await world.finish(world.process.engine.operate("order", ID, repair, principal=ADMIN))
    assert (await world.fields()).owner == thief.id


@in_world(Order)
async def test_who_may_read_but_not_operate(world: World) -> None:
    await created(world)
    engine = world.process.engine
    with pytest.raises(Forbidden, match="'cancel' is not permitted: it needs the role 'manager'"):
        await world.finish(engine.operate("order", ID, Cancel(), principal=ANN))
    with pytest.raises(Forbidden, match="'set' is not permitted: it needs the role 'admin'"):
        await world.finish(engine.operate("order", ID, SetFields(fields={"note": ""}), principal=MAX))
    view = await world.finish(engine.operate("order", ID, Cancel(), principal=MAX))
    assert view.instance.execution.ended


@in_world(Order)
async def test_a_denied_operation_interrupts_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """An operation interrupts a handler that runs, as soon as it is in the lane."""
    await created(world)
    monkeypatch.setattr(world.process.engine.lanes, "decide", None)
    for who, error in ((COOK, Forbidden), (BOB, InstanceNotFound), (ANONYMOUS, Unauthenticated)):
        with pytest.raises(error):
            await world.finish(world.process.engine.operate("order", ID, Cancel(), principal=who))


@in_world(Order)
async def test_a_creator(world: World) -> None:
    engine = world.process.engine
    with pytest.raises(InvalidInput, match="owner: this field is not in create_fields"):
        await created(world, ANN, owner=BOB.id)
    with pytest.raises(InvalidInput, match="log: this field is not in create_fields"):
        await created(world, EVERYONE, log=["forged"])
    with pytest.raises(
        Forbidden, match="creating an instance of 'order' is not permitted: it needs the role 'customer'"
    ):
        await created(world, MAX)
    with pytest.raises(Unauthenticated):
        await created(world, ANONYMOUS)
    await created(world, ANN, note="hot")
    fields = await world.fields()
    assert (fields.owner, fields.note) == (ANN.id, "hot")
    with pytest.raises(InstanceExists):
        await created(world, BOB)
    await world.finish(engine.create("order", "trusted", b'{"log": ["mine"], "owner": "any"}'))


@in_world(Order)
async def test_keys_belong_to_principals(world: World) -> None:
    engine = world.process.engine
    await world.finish(engine.create("order", ID, b"", key="k", principal=ANN))
    again = await world.finish(engine.create("order", ID, b"", key="k", principal=ANN))
    assert again.workflow.owner == ANN.id
    with pytest.raises(InstanceExists):
        await world.finish(engine.create("order", ID, b"", key="k", principal=BOB))
    first = await world.finish(send(engine, "Approve", MAX, key="a"))
    assert await world.finish(send(engine, "Approve", MAX, key="a")) == first  # although it now needs another role
    await world.finish(send(engine, "Approve", COOK, key="a"))
    assert len((await world.fields()).log) == 2
    assert await world.finish(engine.recorded("order", ID, "a", principal=MAX)) is not None
    assert await world.finish(engine.recorded("order", ID, "a", principal=ADMIN)) is None
    assert await world.finish(engine.recorded("order", ID, "a")) is None


@in_world(Order)
async def test_a_check_is_made_again_after_a_conflict(world: World) -> None:
    """Another process hands the order over between the load and the commit of its former owner's request."""
    await created(world)
    other = world.start()

    async def hand_over() -> None:
        await other.engine.operate("order", ID, SetFields(fields={"owner": BOB.id}))

    world.process.fault("commit", before=hand_over)
    with pytest.raises(InstanceNotFound):
        await world.finish(send(world.process.engine, "Submit", ANN))
    assert (await world.fields()).log == []


@in_world(Order)
async def test_an_instance_that_is_busy_is_missing_to_who_may_not_read_it(world: World) -> None:
    """Its requests wait behind those of others, and are not decided in time."""
    await created(world)
    for nth in range(1, 1_000):
        world.process.fault("commit", nth, before=Conflict("others were faster"))
    requests = [send(world.process.engine, "Submit", who) for who in (ANN, BOB, NOBODY, ANONYMOUS)]
    answers = await world.finish(asyncio.gather(*requests, return_exceptions=True))
    assert [type(answer) for answer in answers] == [Busy, InstanceNotFound, InstanceNotFound, Unauthenticated]


@in_world(Order)
async def test_an_authorize_that_cannot_be_asked_denies_and_is_logged(
    world: World, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(permissions, "FAILURES", LineLimit())  # other tests have written lines of this process
    await created(world, None, note="broken", owner=ANN.id)
    with caplog.at_level(logging.ERROR), pytest.raises(InstanceNotFound):
        await world.finish(world.process.engine.get("order", ID, principal=ANN))
    assert [record.message.split(" ")[:2] for record in caplog.records] == [["authorize", "failed"]]
    assert "RuntimeError: broken" in caplog.records[0].fields["error"]  # type: ignore[attr-defined]


@in_world(Order)
async def test_an_authorize_that_changes_fields_changes_nothing_if_it_denies(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also if an event that is allowed is committed together with the denied ones."""

    def authorize(self: Order, principal: Principal, action: Action, event: str | None) -> bool | None:
        if principal.id == BOB.id:
            self.log.append("forged")
            self.note = "forged"
            return False
        return None

    monkeypatch.setattr(Order, "authorize", authorize)
    await created(world)
    engine = world.process.engine
    requests = (send(engine, "Submit", BOB), send(engine, "Submit", ANN), send(engine, "Approve", BOB))
    outcomes = await world.finish(asyncio.gather(*requests, return_exceptions=True))
    assert [type(outcome) for outcome in outcomes] == [InstanceNotFound, bytes, InstanceNotFound]
    fields = await world.fields()
    assert (fields.log, fields.note) == (["written"], "")


# --- lists -----------------------------------------------------------------------------------


@in_world(Order)
async def test_a_list_contains_what_is_visible(world: World) -> None:
    engine = world.process.engine
    for number in range(3):
        await created(world, ANN, f"a{number}")
        await created(world, BOB, f"b{number}")

    async def ids(who: Principal | None, **more: Any) -> list[str]:
        found, cursor = [], None
        while True:
            page = await engine.list("order", principal=who, order="id", limit=2, cursor=cursor, **more)
            found += [instance.id for instance in page.instances]
            if (cursor := page.cursor) is None:
                return found

    assert await ids(ANN) == ["a0", "a1", "a2"]
    assert await ids(BOB, status="waiting") == ["b0", "b1", "b2"]
    assert await ids(MAX) == await ids(None) == await ids(EVERYONE) == ["a0", "a1", "a2", "b0", "b1", "b2"]
    assert await ids(ANN, search={"owner": BOB.id}) == []
    assert await ids(ANN, search={"owner": ANN.id}) == ["a0", "a1", "a2"]
    cursor = (await engine.list("order", principal=ANN, order="id", limit=2)).cursor
    for who in (BOB, MAX, None):
        with pytest.raises(InvalidRequest, match="is not a cursor of this list"):
            await engine.list("order", principal=who, order="id", cursor=cursor)
    with pytest.raises(Forbidden, match="listing the instances of 'order' is not permitted: it needs the role"):
        await engine.list("order", principal=COOK)
    with pytest.raises(Unauthenticated):
        await engine.list("order", principal=ANONYMOUS)


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        ({"note": ""}, "returned the field 'note', which is not a search field. Those are: owner"),
        ({"owner": 3}, "returned a value that its field does not allow"),
        ([], r"returned \[\]. Return a dict"),
        (True, "returned True"),
    ],
)
@in_world(Order)
async def test_a_wrong_visible(world: World, found: Any, reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Order, "visible", classmethod(lambda cls, principal: found))
    with pytest.raises(UserCodeError, match=reason):
        await world.process.engine.list("order", principal=ANN)


# --- views and internal workflows ------------------------------------------------------------


class Box(Workflow, name="box"):
    text: str = ""
    create_fields = ("text",)
    access = Access(create={"customer"})
    definition = S(Select("open", On("Empty", lambda w: None)))


@in_world(Box)
async def test_who_may_create_but_not_read(world: World) -> None:
    view = await world.finish(world.process.engine.create("box", ID, b'{"text": "a"}', principal=ANN))
    assert (view.readable, view.operator, view.accepted, view.state) == (False, False, (), {})
    assert (await world.fields()).text == "a"


class Kid(Workflow, name="kid"):
    definition = S(Step("nothing", lambda w: None))


class Boss(Workflow, name="boss"):
    definition = S(Child("start", Kid))


@in_world(Boss, Kid)
async def test_internal_workflows_do_not_exist_for_clients(world: World) -> None:
    engine = Engine((Boss, Kid), world.store, world.queue, clock=world.clock, rng=world.rng, internal=[Kid])
    for who, names in ((ANN, ""), (EVERYONE, ". Available: boss")):
        for request in (
            engine.create("kid", ID, principal=who),
            engine.get("kid", ID, principal=who),
            engine.list("kid", principal=who),
            engine.handle_event("kid", ID, "Go", principal=who),
            engine.operate("kid", ID, Cancel(), principal=who),
            engine.recorded("kid", ID, "k", principal=who),
        ):
            with pytest.raises(WorkflowNotFound, match=re.escape(f"unknown workflow 'kid'{names}") + "$"):
                await request
    await engine.create("kid", ID)
    with pytest.raises(DefinitionError, match="internal workflow 'kid': it is not served here"):
        Engine((Box,), world.store, world.queue, internal=[Kid])


# --- the audit -------------------------------------------------------------------------------


def audit(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    lines = [getattr(record, "fields", {}) for record in caplog.records]
    return [line for line in lines if line.get("audit")]


@in_world(Order)
async def test_each_decision_is_logged(world: World, caplog: pytest.LogCaptureFixture) -> None:
    engine = world.process.engine
    with caplog.at_level(logging.INFO):
        await created(world)
        for who in (BOB, ANN, ANONYMOUS):
            with suppress(WorkflowError):
                await world.finish(send(engine, "Submit", who))
        for request in (
            engine.get("order", ID, principal=COOK),
            engine.operate("order", ID, Cancel(), principal=COOK),
            engine.operate("order", ID, Cancel(), principal=MAX),
            engine.list("order", principal=NOBODY),
            engine.list("order", principal=MAX),
            engine.get("order", "missing", principal=MAX),  # no decision about the principal
            engine.get("order", ID, principal=EVERYONE),
            engine.get("order", ID),
        ):
            with suppress(WorkflowError):
                await world.finish(request)
    assert [
        (line["kind"], line["action"], line.get("event", ""), line["id"], line["principal"]) for line in audit(caplog)
    ] == [
        ("allowed", "create", "", ID, ANN.id),
        ("denied", "send", "Submit", ID, BOB.id),
        ("allowed", "send", "Submit", ID, ANN.id),
        ("denied", "send", "Submit", ID, ""),
        ("allowed", "read", "", ID, COOK.id),
        ("denied", "operate", "cancel", ID, COOK.id),
        ("allowed", "operate", "cancel", ID, MAX.id),
        ("denied", "list", "", "", NOBODY.id),
        ("allowed", "list", "", "", MAX.id),
    ]


@in_world(Order)
async def test_a_flood_of_denials_does_not_flood_the_log(world: World, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        for _ in range(LINES_MAX + 5):
            with pytest.raises(InstanceNotFound):
                await world.process.engine.get("order", ID, principal=NOBODY)
        await world.clock.advance_to(world.now + timedelta(seconds=1))
        with pytest.raises(InstanceNotFound):
            await world.process.engine.get("order", ID, principal=NOBODY)
    lines = audit(caplog)
    assert len(lines) == LINES_MAX + 1
    assert [line.get("left_out") for line in lines][-2:] == [None, 5]
