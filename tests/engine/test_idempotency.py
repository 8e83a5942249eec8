"""Requests that are made again: with a key by the client, without one by the engine when a reply was lost."""

from __future__ import annotations

from asyncio import ensure_future
from datetime import timedelta

import pytest

from cloud_adapter.document import DOCUMENT_BYTES_MAX, TOKENS_MAX
from cloud_adapter.engine.idempotency import sent_key, stored_key
from cloud_adapter.engine.task_handler import Outcome
from cloud_adapter.errors import Busy, IdempotencyKeyReused, InstanceExists, TooLarge, Unavailable
from tests.engine.harness import Gate, World, in_world, write
from workflow_core import EventNotAccepted, EventRejected, On, Principal, S, Select, Step, While, Workflow

OUTAGE = 5
"""So many attempts does a write make."""

GATE = Gate()


async def held_up(workflow: Workflow) -> None:
    await GATE.wait()


class Account(Workflow, name="account"):
    log: list[str] = []
    balance: int = 0
    closed: bool = False
    memo: str = ""

    def deposit(self, amount: int) -> int:
        self.balance += amount
        return self.balance

    def withdraw(self, amount: int) -> int:
        if amount > self.balance:
            raise EventRejected(f"there are only {self.balance}")
        self.balance -= amount
        return self.balance

    def close(self) -> str:
        self.closed = True
        return f"closed with {self.balance}"

    def note(self, memo: str) -> None:
        self.memo += memo

    definition = S(
        While(
            "open",
            lambda w: not w.closed,
            Select(
                "teller",
                On("Deposit", deposit),
                On("Withdraw", withdraw),
                On("Close", close),
                On("Audit", lambda w: "audited", Step("audit", held_up)),
                On("Note", note),
            ),
        ),
        Step("send letter", write("letter")),
    )


# --- the client's key ------------------------------------------------------------------------


@in_world(Account)
async def test_the_same_request_has_one_effect_and_one_response(world: World) -> None:
    await world.create()
    with world.process.calls() as calls:
        assert await world.send("Deposit", 5, key="k1") == 5
    assert calls == ["load", "commit"], "a key costs no call of its own"
    before = await world.instance()
    assert await world.send("Deposit", 5, key="k1") == 5
    assert await world.start().send("Deposit", 5, key="k1") == 5
    assert await world.instance() == before
    assert await world.send("Deposit", 5, key="k2") == 10
    assert await world.send("Deposit", 5) == 15


@in_world(Account)
async def test_the_stored_response_outlives_the_wait_and_the_workflow(world: World) -> None:
    await world.create()
    await world.send("Deposit", 5)
    assert await world.send("Close", key="close") == "closed with 5"
    # A step is due now; a replay does not wait for it.
    asked_at = world.now
    assert await world.send("Close", key="close") == "closed with 5"
    assert world.now == asked_at
    await world.deliver()
    assert (await world.instance()).execution.status == "finished"
    before = await world.instance()
    assert await world.send("Close", key="close") == "closed with 5"
    with pytest.raises(EventNotAccepted):
        await world.send("Close", key="another")
    assert await world.instance() == before
    assert (await world.fields()).log == ["letter"]


@in_world(Account)
async def test_a_key_of_another_request(world: World) -> None:
    await world.create()
    await world.send("Deposit", 5, key="k")
    before = await world.instance()
    with pytest.raises(IdempotencyKeyReused):
        await world.send("Deposit", 6, key="k")
    with pytest.raises(IdempotencyKeyReused):
        await world.send("Withdraw", 5, key="k")
    with pytest.raises(IdempotencyKeyReused):
        await world.send("Deposit", 5, key="k", thread_id="main")
    assert await world.instance() == before
    await world.send("Close")
    await world.deliver()
    with pytest.raises(IdempotencyKeyReused):
        await world.send("Deposit", 6, key="k")


@in_world(Account)
async def test_a_replay_whose_handler_would_refuse_by_now(world: World) -> None:
    await world.create()
    await world.send("Deposit", 5)
    assert await world.send("Withdraw", 5, key="w") == 0
    before = await world.instance()
    assert await world.send("Withdraw", 5, key="w") == 0
    assert await world.instance() == before
    with pytest.raises(EventRejected):
        await world.send("Withdraw", 5, key="w2")


@in_world(Account)
async def test_a_replay_of_what_would_be_too_large_by_now(world: World) -> None:
    await world.create()
    half = "x" * (DOCUMENT_BYTES_MAX // 2)
    await world.send("Note", half, key="n")
    before = await world.instance()
    assert await world.send("Note", half, key="n") is None
    with pytest.raises(TooLarge, match="'memo'"):
        await world.send("Note", half, key="n2")
    assert await world.instance() == before


@in_world(Account)
async def test_a_replay_does_not_wait_for_a_running_step(world: World) -> None:
    await world.create()
    assert await world.send("Deposit", 1, key="d") == 1
    assert await world.send("Audit", key="a") == "audited"
    running = ensure_future(world.process.perform(world.queue.resumes[0]))
    await world.clock.settle()
    asked_at = world.now
    assert await world.start().send("Audit", key="a") == "audited"
    assert await world.start().send("Deposit", 1, key="d") == 1
    assert world.now == asked_at
    with pytest.raises(Busy):
        await world.start().send("Deposit", 1, key="d2")
    GATE.open()
    await world.finish(running)
    assert (await world.fields()).balance == 1


@in_world(Account)
async def test_a_key_expires(world: World) -> None:
    await world.create()
    await world.send("Deposit", 5, key="k")
    await world.clock.advance(timedelta(hours=23, minutes=59).total_seconds())
    assert await world.send("Deposit", 5, key="k") == 5
    await world.clock.advance(60)
    assert await world.send("Deposit", 7, key="k") == 12
    assert await world.send("Deposit", 7, key="k") == 12


@pytest.mark.parametrize("answers_at", [timedelta(0), timedelta(hours=1)])
@in_world(Account)
async def test_a_key_expires_one_day_after_its_commit_to_the_moment(world: World, answers_at: timedelta) -> None:
    await world.create()
    await world.clock.advance(answers_at.total_seconds())
    await world.send("Deposit", 5, key="k")
    await world.clock.advance(timedelta(hours=24).total_seconds() - 0.001)
    assert await world.send("Deposit", 5, key="k") == 5
    record = await world.process.engine.recorded("account", "order-1", "k")
    assert record is not None and record.response == "5"
    with pytest.raises(IdempotencyKeyReused):
        await world.send("Deposit", 7, key="k")
    await world.clock.advance(0.001)
    assert await world.process.engine.recorded("account", "order-1", "k") is None
    assert await world.send("Deposit", 7, key="k") == 12
    # It counts anew from here.
    await world.clock.advance(timedelta(hours=24).total_seconds() - 0.001)
    assert await world.send("Deposit", 7, key="k") == 12
    await world.clock.advance(0.001)
    assert await world.send("Deposit", 1, key="k") == 13


@pytest.mark.parametrize("seed", range(1, 6))  # that of the world would repeat its tokens
@in_world(Account)
async def test_of_many_requests_that_replace_an_expired_key_one_has_an_effect(world: World, seed: int) -> None:
    await world.create()
    await world.send("Deposit", 5, key="k")
    await world.clock.advance(timedelta(days=1).total_seconds())
    world.rng.seed(seed)
    sending = [ensure_future(world.start().post("Deposit", b"1", key="k")) for _ in range(4)]
    sending += [ensure_future(world.process.post("Deposit", b"1", key="k")) for _ in range(3)]
    assert {await world.finish(one) for one in sending} == {b"6"}
    assert (await world.fields()).balance == 6


@in_world(Account)
async def test_a_key_that_expires_while_its_request_waits_is_new(world: World) -> None:
    await world.create()
    await world.send("Deposit", 1, key="d")
    await world.send("Audit")
    await world.clock.advance(timedelta(days=1).total_seconds() - 2)
    running = ensure_future(world.process.perform(world.queue.resumes[0]))
    await world.clock.settle()
    other = world.start()
    asked_at = world.now
    assert await other.send("Deposit", 1, key="d") == 1, "it is known when it begins to wait"
    assert world.now == asked_at
    await world.clock.advance(2)
    sending = ensure_future(other.post("Deposit", b"1", key="d"))
    await world.clock.settle()
    assert not sending.done()
    GATE.open()
    assert await world.finish(sending) == b"2"
    await world.finish(running)
    assert (await world.fields()).balance == 2


@in_world(Account)
async def test_keys_belong_to_their_instance(world: World) -> None:
    await world.create()
    await world.create(id="order-2")
    assert await world.send("Deposit", 5, key="k") == 5
    assert await world.send("Deposit", 6, key="k", id="order-2") == 6


@in_world(Account)
async def test_the_same_request_twice_at_the_same_time(world: World) -> None:
    await world.create()
    other = world.start()
    world.process.fault("commit", before=lambda: other.post("Deposit", b"5", key="k"))
    assert await world.send("Deposit", 5, key="k") == 5
    assert (await world.fields()).balance == 5
    sending = [ensure_future(world.start().post("Deposit", b"1", key="once")) for _ in range(6)]
    assert {await world.finish(one) for one in sending} == {b"6"}
    assert (await world.fields()).balance == 6


@in_world(Account)
async def test_a_request_that_had_to_wait_meets_its_twin(world: World) -> None:
    """The first attempt loses to another event, the second to the same request, sent twice at once."""
    await world.create()
    other = world.start()
    world.process.fault("commit", 1, before=lambda: other.post("Note", b'"x"'))
    world.process.fault("commit", 2, before=lambda: other.post("Deposit", b"5", key="k"))
    assert await world.send("Deposit", 5, key="k") == 5
    assert (await world.fields()).balance == 5


# --- create ----------------------------------------------------------------------------------


@in_world(Account)
async def test_an_instance_that_has_made_many_commits_is_known_to_exist(world: World) -> None:
    """Its document no longer holds the token of its first write."""
    await world.create(key="c", balance=3)
    for _ in range(TOKENS_MAX + 1):
        await world.send("Deposit", 1)
    await world.clock.advance(1)
    before = await world.instance()
    with pytest.raises(InstanceExists):
        await world.create(balance=3)
    assert (await world.create(key="c", balance=3)).instance == before


@in_world(Account)
async def test_create_made_again(world: World) -> None:
    await world.create(key="c", balance=3)
    await world.send("Deposit", 1)
    before = await world.instance()
    view = await world.create(key="c", balance=3)
    assert view.instance == before
    assert isinstance(view.workflow, Account)
    assert view.workflow.balance == 4
    with pytest.raises(IdempotencyKeyReused):
        await world.create(key="c", balance=4)
    with pytest.raises(InstanceExists):
        await world.create(balance=3)
    with pytest.raises(InstanceExists):
        await world.create(key="d", balance=3)
    assert await world.instance() == before


@pytest.mark.parametrize("applied", [False, True])
@in_world(Account)
async def test_create_without_a_reply(world: World, applied: bool) -> None:
    world.process.unavailable("create", applied=applied)
    view = await world.create(balance=3)
    assert isinstance(view.workflow, Account)
    assert view.workflow.balance == 3
    assert await world.history() == [("created", "")]
    await world.send("Deposit", 1)
    assert (await world.fields()).balance == 4


@in_world(Account)
async def test_create_without_a_reply_and_others_on_top_of_it(world: World) -> None:
    async def another() -> None:
        await world.start().post("Deposit", b"1")
        raise Unavailable("the reply is lost")

    world.process.fault("create", after=another)
    view = await world.create(balance=3)
    assert view.instance == await world.instance()
    assert isinstance(view.workflow, Account)
    assert view.workflow.balance == 4


# --- lost replies ----------------------------------------------------------------------------


@pytest.mark.parametrize("key", [None, "k"])
@in_world(Account)
async def test_a_commit_whose_reply_is_lost_has_one_effect(world: World, key: str | None) -> None:
    await world.create()
    world.process.unavailable("commit", applied=True)
    with world.process.calls() as calls:
        assert await world.send("Deposit", 5, key=key) == 5
    assert calls == ["load", "commit", "load"]
    assert (await world.fields()).balance == 5
    assert await world.history("event") == [("event", "Deposit")]
    # The engine knows the new version: it could go on from it.
    assert await world.send("Deposit", 1) == 6


@pytest.mark.parametrize("key", [None, "k"])
@pytest.mark.parametrize("others", [1, 3])
@in_world(Account)
async def test_a_lost_reply_and_others_on_top_of_it(world: World, key: str | None, others: int) -> None:
    await world.create()

    async def others_then_lost() -> None:
        for _ in range(others):
            await world.start().post("Deposit", b"10")
        raise Unavailable("the reply is lost")

    world.process.fault("commit", after=others_then_lost)
    assert await world.send("Deposit", 5, key=key) == 5
    assert (await world.fields()).balance == 5 + 10 * others
    if key:
        assert await world.send("Deposit", 5, key=key) == 5


@pytest.mark.parametrize("key", [None, "k"])
@in_world(Account)
async def test_a_commit_that_fails_before_it_is_applied_is_tried_again(world: World, key: str | None) -> None:
    await world.create()
    world.process.unavailable("commit", applied=False)
    with world.process.calls() as calls:
        assert await world.send("Deposit", 5, key=key) == 5
    assert calls == ["load", "commit", "load", "commit"]
    assert (await world.fields()).balance == 5


@pytest.mark.parametrize("applied", [False, True])
@pytest.mark.parametrize("key", [None, "k"])
@in_world(Account)
async def test_a_commit_and_the_look_after_it_fail(world: World, applied: bool, key: str | None) -> None:
    await world.create()
    world.process.unavailable("commit", applied=applied)
    world.process.unavailable("load", 2, applied=False)
    assert await world.send("Deposit", 5, key=key) == 5
    assert (await world.fields()).balance == 5


@pytest.mark.parametrize("applied", [False, True])
@in_world(Account)
async def test_after_an_outage_the_client_tries_again_with_its_key(world: World, applied: bool) -> None:
    await world.create()
    world.process.unavailable("commit", applied=applied)
    for nth in range(2, 2 + OUTAGE):
        world.process.unavailable("load", nth, applied=False)
    with pytest.raises(Unavailable):
        await world.send("Deposit", 5, key="k")
    assert (await world.fields()).balance == (5 if applied else 0)
    assert await world.send("Deposit", 5, key="k") == 5
    assert (await world.fields()).balance == 5


@in_world(Account)
async def test_a_commit_is_not_tried_for_ever(world: World) -> None:
    await world.create()
    for nth in range(1, OUTAGE + 1):
        world.process.unavailable("commit", nth, applied=False)
    with world.process.calls() as calls, pytest.raises(Unavailable):
        await world.send("Deposit", 5)
    assert calls.count("commit") == OUTAGE
    assert (await world.fields()).balance == 0


@in_world(Account)
async def test_a_task_that_cannot_be_created_stops_the_event(world: World) -> None:
    await world.create()
    before = await world.instance()
    world.process.unavailable("create_task", applied=True)
    with pytest.raises(Unavailable):
        await world.send("Close", key="c")
    assert await world.instance() == before
    # The task that was made for nothing asks to be sent again, then does nothing.
    assert await world.process.deliver(world.queue.resumes[0]) is Outcome.NOT_YET
    assert await world.send("Close", key="c") == "closed with 0"
    await world.deliver()
    assert (await world.fields()).log == ["letter"]
    assert world.queue.tasks != {}
    await world.pass_time(timedelta(minutes=1))
    assert world.queue.tasks == {}
    assert (await world.fields()).log == ["letter"]


@in_world(Account)
async def test_a_lost_reply_of_the_same_request_elsewhere(world: World) -> None:
    """Another process has made the same request, and neither knows that the other's commit has landed."""
    await world.create()
    other = world.start()

    async def the_same() -> None:
        other.unavailable("commit", applied=True)
        await other.post("Deposit", b"5", key="k")
        raise Unavailable("the first one's commit did not get through")

    world.process.fault("commit", before=the_same)
    assert await world.send("Deposit", 5, key="k") == 5
    assert (await world.fields()).balance == 5


@pytest.mark.parametrize("key", ["k", "a key with spaces", " ", "\N{SECTION SIGN}"])
def test_principals_do_not_share_a_key_and_errors_show_what_was_sent(key: str) -> None:
    ann, bob = Principal("login|ann"), Principal("login|bob")
    stored = [stored_key(key, principal) for principal in (ann, bob)]
    assert len({*stored, key}) == 3
    assert [sent_key(one or "") for one in stored] == [key, key]
    assert stored_key(key, Principal("")) == stored_key(key, None) == key
    assert stored_key(None, ann) is None
