"""Events with ``On(..., verify=...)``: a function of the workflow decides who sends them, from the request as it is."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from cloud_adapter.errors import CallbackNotAccepted, Forbidden, InstanceNotFound, Unauthenticated
from tests.engine.harness import ID, World, in_world
from workflow_core import (
    ANONYMOUS,
    ANYONE,
    EVERYONE,
    Access,
    Action,
    Callback,
    DefinitionError,
    EventNotAccepted,
    EventRequest,
    NewerVersion,
    On,
    Principal,
    S,
    Select,
    WebhookRequest,
    Workflow,
    WorkflowError,
)

MANAGER, STRANGER = Principal("login|max", roles=frozenset({"manager"})), Principal("login|eve")


def sign(body: bytes, secret: str = "s3cret") -> dict[str, str]:
    return {"x-signature": hmac.new(secret.encode(), body, "sha256").hexdigest()}


class Invoice(Workflow, name="invoice"):
    access = Access(read={"manager"}, send={"manager"})
    secret: str = "s3cret"
    paid: list[int] = []
    answer: Any = None

    def is_signed(self, request: WebhookRequest) -> Any:
        self.paid.append(-1)  # against the rules: it must not stay
        if self.answer == "raise":
            raise RuntimeError("broken")
        if self.answer is not None:
            return self.answer
        expected = hmac.new(self.secret.encode(), request.body, hashlib.sha256).hexdigest()
        return hmac.compare_digest(expected, request.headers.get("x-signature", ""))

    def authorize(self, principal: Principal, action: Action, event: str | None) -> bool | None:
        return event != "Paid" or self.secret != "closed"

    def pay(self, amount: int) -> int:
        self.paid = [amount]
        return amount

    definition = S(
        Select("open", On("Paid", pay, verify=is_signed), On("Close", lambda w: None)),
        Select("closed", On("Early", pay, verify=is_signed, buffered=True), On("Reopen", lambda w: None)),
    )


def paying(world: World, body: bytes = b"5", by: Principal | None = ANONYMOUS, id: str = ID, **more: Any) -> Any:
    more = {"headers": sign(body)} | more
    return world.finish(world.process.engine.handle_event("invoice", id, "Paid", body, principal=by, **more))


@in_world(Invoice)
async def test_who_signs_it_needs_no_role(world: World) -> None:
    await world.create()
    assert await paying(world) == b"5"
    assert (await world.fields()).paid == [5]


@pytest.mark.parametrize(
    ("by", "error", "text"),
    [
        (ANONYMOUS, Unauthenticated, "needs credentials"),
        (STRANGER, InstanceNotFound, "no instance"),
        (MANAGER, Forbidden, "verify of 'invoice' did not accept the request"),
        (EVERYONE, Unauthenticated, "verify of 'invoice' did not accept the request"),
    ],
)
def test_who_does_not_sign_it_changes_nothing(
    by: Principal, error: type[WorkflowError], text: str, tmp_path: Any
) -> None:
    @in_world(Invoice)
    async def run(world: World) -> None:
        await world.create()
        before = await world.instance()
        for headers in ({}, sign(b"6"), sign(b"5", "other")):
            with pytest.raises(error, match=text) as refused:
                await paying(world, by=by, headers=headers)
            if by in (ANONYMOUS, STRANGER):  # it learns nothing about instances
                with pytest.raises(error) as missing:
                    await paying(world, by=by, headers=headers, id="missing")
                assert str(missing.value).replace("missing", ID) == str(refused.value)
        assert await world.instance() == before

    run(tmp_path)


class Newer(Invoice, name="invoice", version=2):
    @classmethod
    def migrate(cls, version: int, fields: dict[str, Any]) -> dict[str, Any]:
        return fields


@in_world(Newer)
async def test_an_instance_that_cannot_be_loaded_is_shown_to_nobody_who_may_not_read_it(world: World) -> None:
    await world.create()
    old = world.start(Invoice).engine
    for by, error in ((ANONYMOUS, Unauthenticated), (STRANGER, InstanceNotFound), (MANAGER, NewerVersion)):
        with pytest.raises(error):
            await world.finish(old.handle_event("invoice", ID, "Paid", b"5", principal=by, headers=sign(b"5")))


@in_world(Invoice)
async def test_code_of_the_process_is_trusted(world: World) -> None:
    await world.create()
    assert await paying(world, by=None, headers={}) == b"5"


@pytest.mark.parametrize("answer", ["raise", 1, "yes", [], None])
def test_only_true_is_a_yes(answer: Any, tmp_path: Any, caplog: pytest.LogCaptureFixture) -> None:
    @in_world(Invoice)
    async def run(world: World) -> None:
        await world.create(answer=answer)
        with caplog.at_level(logging.ERROR), pytest.raises(Forbidden):
            await paying(world, by=MANAGER, headers={})
        logged = "verify failed" in caplog.text
        assert logged is (answer is not None)
        assert (await world.fields()).paid == []

    run(tmp_path)


@in_world(Invoice)
async def test_authorize_may_deny_it(world: World) -> None:
    await world.create(secret="closed")
    for by in (ANONYMOUS, MANAGER):
        with pytest.raises(Forbidden, match="authorize of 'invoice' denies it"):
            await paying(world, headers=sign(b"5", "closed"), by=by)


@in_world(Invoice)
async def test_who_signs_it_learns_that_nothing_waits_for_it(world: World) -> None:
    await world.create()
    await world.send("Close")
    with pytest.raises(EventNotAccepted) as refused:
        await paying(world)
    assert refused.value.accepted == ()
    with pytest.raises(Unauthenticated):
        await paying(world, headers={})


@in_world(Invoice)
async def test_an_early_event_is_verified_when_it_arrives(world: World) -> None:
    await world.create()
    engine = world.process.engine
    with pytest.raises(Unauthenticated):
        await world.finish(engine.handle_event("invoice", ID, "Early", b"7", principal=ANONYMOUS))
    await world.finish(engine.handle_event("invoice", ID, "Early", b"7", principal=ANONYMOUS, headers=sign(b"7")))
    await world.send("Close")
    await world.deliver()
    assert (await world.fields()).paid == [7]


@in_world(Invoice)
async def test_it_is_not_listed_as_an_event_that_one_may_send(world: World) -> None:
    await world.create()
    view = await world.finish(world.process.engine.get("invoice", ID, principal=MANAGER))
    assert [found.case.event for found in view.accepted] == ["Close"]


class Provider:
    def setup(self, request: EventRequest) -> str:
        return request.callback_url()

    def handle(self, request: EventRequest, amount: int) -> None:
        request.workflow.paid.append(amount)

    def teardown(self, request: EventRequest, handled: bool) -> None:
        pass


class Signed(Workflow, name="signed"):
    paid: list[int] = []

    def is_right(self, request: WebhookRequest) -> bool:
        if request.headers.get("x-signature") == "right":
            return True
        self.paid.append(-1)  # against the rules
        return False

    definition = S(
        Select("pay", On("Paid", Provider(), verify=is_right)),
        Select("again", On("Again", lambda w: None, verify=is_right)),
    )


@in_world(Signed)
async def test_a_callback_and_a_signature_must_both_be_right(world: World) -> None:
    await world.create()
    await world.deliver()
    expires_at = world.now + timedelta(days=1)
    targets = [Callback("signed", ID, "Paid", None, wait, "n", expires_at) for wait in ("main@1", "main@2")]
    right, other = (Principal("callback|it", kind="callback", callback=target) for target in targets)

    def pay(by: Principal, signature: str) -> Any:
        headers = {"x-signature": signature}
        return world.finish(
            world.process.engine.handle_event("signed", ID, "Paid", b"5", principal=by, headers=headers)
        )

    with pytest.raises(Forbidden, match="verify of 'signed' did not accept the request"):
        await pay(right, "wrong")
    with pytest.raises(CallbackNotAccepted):
        await pay(other, "right")
    assert (await world.fields()).paid == []
    await pay(right, "right")
    assert (await world.fields()).paid == [5]


@in_world(Signed)
async def test_what_a_denial_has_changed_is_undone_for_the_next_request_too(world: World) -> None:
    await world.create()
    await world.deliver()
    await world.send("Paid", 5)
    again = [
        world.process.engine.handle_event("signed", ID, "Again", principal=by, headers={"x-signature": signature})
        for by, signature in ((ANONYMOUS, "wrong"), (ANONYMOUS, "right"))
    ]
    denied, accepted = await world.finish(asyncio.gather(*again, return_exceptions=True))
    assert isinstance(denied, Unauthenticated)
    assert accepted == b"null"
    assert (await world.fields()).paid == [5]


async def _later(w: Any, request: Any) -> bool:
    return True


def _yielding(w: Any, request: Any) -> Any:
    yield True


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"verify": _later}, "it is async"),
        ({"verify": _yielding}, "generator"),
        ({"verify": lambda w: True}, r"\(workflow, request\)"),
        ({"verify": True}, "its verify is True"),
        ({"verify": lambda w, r: True, "role": ANYONE}, "a role and verify"),
    ],
)
def test_a_verify_that_cannot_be_asked_is_refused(options: dict[str, Any], text: str) -> None:
    def define() -> Callable[..., Any]:
        class Wrong(Workflow):
            definition = S(Select("open", On("Paid", lambda w: None, **options)))

        return Wrong

    with pytest.raises(DefinitionError, match=text):
        define()
