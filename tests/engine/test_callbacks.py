"""Callbacks: what the holder of a callback URL may send, and that it may do nothing else."""

from __future__ import annotations

import json
from collections.abc import Awaitable
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

from cloud_adapter.callbacks import PARAMETER
from cloud_adapter.engine.engine import Engine
from cloud_adapter.engine.operations import Cancel
from cloud_adapter.engine.permissions import Caller
from cloud_adapter.engine.refs import InstanceRef
from cloud_adapter.errors import (
    CallbackNotAccepted,
    Forbidden,
    InstanceNotFound,
    WorkflowNotFound,
)
from tests.engine.harness import ID, World, in_world
from workflow_core import (
    ANYONE,
    Access,
    Action,
    Callback,
    EventRejected,
    EventRequest,
    ExecutionError,
    InvalidInput,
    On,
    Principal,
    Retry,
    S,
    Select,
    Step,
    StepContext,
    Timeout,
    While,
    Workflow,
)
from workflow_core.machine.machine import Machine

OPEN = frozenset({ANYONE, "authenticated"})
URLS: list[str] = []
"""What the outside systems were given, in this order."""


class Payment:
    """Registers a payment with a provider, which calls back."""

    def setup(self, request: EventRequest) -> None:
        URLS.append(request.callback_url(expires=timedelta(hours=1)))

    def handle(self, request: EventRequest, amount: int) -> int:
        if amount < 0:
            raise EventRejected("a payment is not negative")
        request.workflow.paid.append(amount)
        return amount

    def teardown(self, request: EventRequest, handled: bool) -> None:
        pass


class Shop(Workflow, name="shop"):
    """Everyone may read it and send the other events, but only the provider knows what was paid."""

    access = Access(create=OPEN, read=OPEN, list=OPEN, operate=OPEN, repair=OPEN, send=OPEN)
    paid: list[int] = []
    answers: list[str] = []
    closed: bool = False

    def authorize(self, principal: Principal, action: Action, event: str | None) -> bool | None:
        return not self.closed

    def ask(self, step: StepContext) -> None:
        URLS.append(step.callback_url("Answer", expires=timedelta(days=10)))

    def answer(self, text: str) -> str:
        self.answers.append(text)
        return text.upper()

    def close(self) -> None:
        self.closed = True

    definition = S(
        While(
            "rounds",
            lambda w: len(w.paid) < 3,
            Select("pay", On("Paid", Payment(), role="provider"), On("Close", close), On("Skip", lambda w: None)),
            Step("ask", ask),
            Select("answers", On("Answer", answer, role="customer"), Timeout("late", timedelta(days=1))),
        )
    )


def principal_of(world: World, url: str) -> Principal:
    """Whom the API finds behind a URL."""
    parts = urlsplit(url)
    _, _, workflow, id, event = map(unquote, parts.path.split("/"))
    query = {name: texts[0] for name, texts in parse_qs(parts.query).items()}
    callback = world.callbacks.read(query[PARAMETER], workflow, id, event, query.get("thread"), query.get("wait_id"))
    return Principal("callback|it", kind="callback", callback=callback)


def send(world: World, by: Principal, input: Any, event: str | None = None, **more: Any) -> Awaitable[bytes]:
    assert by.callback is not None
    event, body = event or by.callback.event, json.dumps(input).encode()
    return world.finish(world.process.engine.handle_event("shop", ID, event, body, principal=by, **more))


async def begun(world: World) -> Principal:
    """An instance that waits for a payment, and who may report it."""
    URLS.clear()
    await world.create()
    await world.deliver()
    return principal_of(world, URLS[-1])


@in_world(Shop)
async def test_a_callback_is_accepted_once_without_a_role(world: World) -> None:
    provider = await begun(world)
    assert await send(world, provider, 5) == b"5"
    assert await send(world, provider, 5) == b"5"  # the response got lost
    with pytest.raises(CallbackNotAccepted):
        await send(world, provider, 6)
    assert (await world.fields()).paid == [5]
    [entry] = [entry for entry in (await world.instance()).history if entry.kind == "event"]
    assert (entry.statement, entry.by_id) == ("Paid", "callback|it")


@in_world(Shop)
async def test_a_key_of_the_sender_makes_no_second_request_of_it(world: World) -> None:
    provider = await begun(world)
    await send(world, provider, 5, key="a")
    assert await send(world, provider, 5, key="b", thread_id="x", wait_id="y") == b"5"
    assert (await world.fields()).paid == [5]


@in_world(Shop)
async def test_an_input_that_is_wrong_or_rejected_can_be_sent_again(world: World) -> None:
    provider = await begun(world)
    with pytest.raises(InvalidInput):
        await send(world, provider, "five")
    with pytest.raises(EventRejected, match="not negative"):
        await send(world, provider, -1)
    assert await send(world, provider, 5) == b"5"


@in_world(Shop)
async def test_the_same_select_in_the_next_round_is_another_wait(world: World) -> None:
    first = await begun(world)
    await world.send("Skip")
    await world.deliver()
    await world.pass_time(timedelta(days=1))
    second = principal_of(world, URLS[-1])
    assert first.callback is not None
    assert second.callback is not None
    assert first.callback.wait_id != second.callback.wait_id
    before = await world.instance()
    with pytest.raises(CallbackNotAccepted) as refused:
        await send(world, first, 5)
    assert "Paid" not in str(refused.value)
    assert await world.instance() == before
    assert await send(world, second, 7) == b"7"


@in_world(Shop)
async def test_it_may_do_nothing_else(world: World) -> None:
    provider = await begun(world)
    engine: Engine = world.process.engine
    before = await world.instance()
    requests = [
        engine.get("shop", ID, principal=provider),
        engine.recorded("shop", ID, "key", principal=provider),
        engine.operate("shop", ID, Cancel(), principal=provider),
        engine.handle_event("shop", ID, "Close", principal=provider),
        engine.handle_event("shop", ID, "Unknown", principal=provider),
        engine.handle_event("shop", "order-2", "Paid", b"5", principal=provider),
    ]
    for request in requests:
        with pytest.raises(InstanceNotFound):
            await world.finish(request)
    with pytest.raises(Forbidden):
        await world.finish(engine.list("shop", principal=provider))
    with pytest.raises(Forbidden):
        await world.finish(engine.create("shop", "order-2", principal=provider))
    assert await world.instance() == before


@in_world(Shop)
async def test_it_would_see_no_other_event(world: World) -> None:
    provider = await begun(world)
    instance = await world.instance()
    machine = Machine(Shop.load_fields(instance.fields), instance.execution, world.now)
    sendable = Caller(provider, InstanceRef(Shop, ID)).sendable(machine.workflow, machine.accepted())
    assert [found.case.event for found in sendable] == ["Paid"]


@in_world(Shop)
async def test_authorize_may_deny_it(world: World) -> None:
    provider = await begun(world)
    await world.process.engine.handle_event("shop", ID, "Close")
    await world.deliver()
    with pytest.raises(CallbackNotAccepted):
        await send(world, provider, 5)
    customer = principal_of(world, URLS[-1])
    with pytest.raises(Forbidden, match="authorize of 'shop' denies it"):
        await send(world, customer, "yes")
    assert (await world.fields()).answers == []


# --- of steps --------------------------------------------------------------------------------


@in_world(Shop)
async def test_the_callback_of_a_step_is_for_the_wait_after_it(world: World) -> None:
    provider = await begun(world)
    await send(world, provider, 5)
    await world.deliver()
    customer = principal_of(world, URLS[-1])
    assert await send(world, customer, "yes") == b'"YES"'
    await world.deliver()
    await send(world, principal_of(world, URLS[-1]), 6)
    await world.deliver()  # it waits for an answer again, for which there is another URL
    assert await send(world, customer, "yes") == b'"YES"'
    with pytest.raises(CallbackNotAccepted):
        await send(world, customer, "no")
    assert (await world.fields()).answers == ["yes"]


@in_world(Shop)
async def test_the_response_is_kept_for_as_long_as_the_url_is_valid(world: World) -> None:
    provider = await begun(world)
    await send(world, provider, 5)
    await world.deliver()
    customer = principal_of(world, URLS[-1])
    await send(world, customer, "yes")
    await world.deliver()
    await world.pass_time(timedelta(days=9))
    assert world.options.key_ttl < timedelta(days=9)
    await world.send("Paid", 6)
    await world.deliver()
    with pytest.raises(CallbackNotAccepted):
        await send(world, customer, "no")
    assert await send(world, customer, "yes") == b'"YES"'


class Asking(Workflow, name="asking"):
    """Fails once after it has sent its question."""

    answers: list[str] = []

    def ask(self, step: StepContext) -> None:
        URLS.append(step.callback_url("Answer"))
        if step.attempt == 1:
            raise ConnectionError("no reply")

    def check(self, step: StepContext) -> None:
        for event, expires in (("Unknown", timedelta(1)), ("Answer", timedelta(0)), ("Answer", timedelta(400))):
            with pytest.raises(ExecutionError) as refused:
                step.callback_url(event, expires=expires)
            self.answers.append(str(refused.value)[:45])

    def answer(self, text: str) -> None:
        self.answers.append(text)

    definition = S(
        Step("ask", ask, retry=Retry(max_attempts=2)),
        Select("first", On("Answer", answer)),
        Select("second", On("Answer", answer)),
        Step("check", check),
    )


@in_world(Asking)
async def test_attempts_of_a_step_share_their_callback(world: World) -> None:
    URLS.clear()
    await world.create()
    await world.pass_time(timedelta(minutes=1))
    lost, kept = (principal_of(world, url) for url in URLS)

    def answer(by: Principal, text: str) -> Awaitable[bytes]:
        body = json.dumps(text).encode()
        return world.finish(world.process.engine.handle_event("asking", ID, "Answer", body, principal=by))

    await answer(lost, "yes")
    with pytest.raises(CallbackNotAccepted):
        await answer(kept, "no")
    assert (await world.fields()).answers == ["yes"]
    await world.send("Answer", "by hand")
    await world.deliver()
    assert (await world.fields()).answers[2:] == [
        "callback_url: unknown event 'Unknown'. Availa",
        "the lifespan of a callback URL is datetime.ti",
        "the lifespan of a callback URL is datetime.ti",
    ]


class Hidden(Workflow, name="hidden"):
    paid: list[int] = []

    definition = S(Select("pay", On("Paid", Payment())))


@in_world(Hidden)
async def test_an_internal_workflow_receives_its_callbacks_only(world: World) -> None:
    provider = await begun(world)
    engine = world.process.engine
    engine.addressable = {}
    with pytest.raises(WorkflowNotFound):
        await world.finish(engine.handle_event("hidden", ID, "Paid", b"5", principal=Principal("a|b")))
    with pytest.raises(InstanceNotFound):
        await world.finish(engine.get("hidden", ID, principal=provider))
    await world.finish(engine.handle_event("hidden", ID, "Paid", b"5", principal=provider))
    assert (await world.fields()).paid == [5]


def test_without_a_server_there_is_no_url() -> None:
    with pytest.raises(ExecutionError, match="needs a server"):
        StepContext("shop", "1", "main", "ask", 1, 1).callback_url("Answer")
    request = EventRequest(Shop(), "1", "main", "main@1", "Paid", None, "handle")
    with pytest.raises(ExecutionError, match=r"is for setup: in handle"):
        request.callback_url()
    with pytest.raises(ValueError, match="only one of kind 'callback'"):
        Principal("a|b", callback=Callback("shop", "1", "Answer", "main", None, "nonce"))
