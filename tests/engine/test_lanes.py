"""Lanes: concurrent requests for one instance are decided in the order of arrival and committed together. Whatever the
result of one request, the others get the same responses as without it."""

from __future__ import annotations

import asyncio
import json
import logging
import random
from asyncio import ensure_future
from collections import Counter
from collections.abc import Coroutine
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest

from cloud_adapter.document import DOCUMENT_BYTES_MAX, Lease
from cloud_adapter.engine import lanes, transaction
from cloud_adapter.engine.operations import Cancel, Pause, SetFields, Unpause
from cloud_adapter.engine.task_handler import Outcome
from cloud_adapter.engine.tasks import ACTIVITY_PATH
from cloud_adapter.errors import Busy, Conflict, IdempotencyKeyReused, TooLarge, Unavailable, UserCodeError
from cloud_adapter.history import HISTORY_MAX
from tests.engine.harness import ID, Gate, Killed, Process, World, check_idle, in_world, write
from tests.engine.log_lines import Lines
from tests.recorder import Recorder, id_of
from workflow_core import (
    Activity,
    ActivityContext,
    Child,
    EventNotAccepted,
    EventRejected,
    EventRequest,
    Fail,
    Go,
    If,
    InvalidInput,
    On,
    Retry,
    S,
    Select,
    Step,
    Timeout,
    While,
    Workflow,
    WorkflowError,
)
from workflow_core.errors import InvalidFields, InvalidOutput

GATE = Gate()
LARGE = "x" * transaction.LAX_BYTES_MIN
"""In a field of an instance, it lets a batch check the fields at its commit alone."""

SMALL_AND_LARGE = pytest.mark.parametrize("padding", ["", LARGE], ids=["small", "large"])


class Slowly:
    """Its handler is asynchronous, and changes the fields before and after it has waited."""

    def setup(self, request: EventRequest) -> None:
        """There is nothing to be set up."""

    def teardown(self, request: EventRequest, handled: bool) -> None:
        """There is nothing to be torn down."""

    async def handle(self, request: EventRequest, input: str) -> int:
        request.workflow.log.append(f"begin {input}")
        await GATE.wait()
        request.workflow.log[-1] = input
        return len(request.workflow.log)


class Ledger(Workflow, name="ledger"):
    padding: str = ""
    log: list[str] = []
    number: int = 0
    factor: int = 1
    memo: str = ""
    is_open: bool = True

    def add(self, name: str) -> int:
        self.log.append(name)
        return len(self.log)

    def reject(self, name: str) -> int:
        self.log.append(name)
        raise EventRejected("changed, and rejected")

    def crash(self, name: str) -> int:
        self.log.append(name)
        raise ZeroDivisionError("a bug")

    def spoil(self, name: str) -> int:
        self.log.append(name)
        self.number = "no number"  # type: ignore[assignment]
        return len(self.log)

    def trip(self, name: str) -> int:
        self.log.append(name)
        self.factor = 0
        return len(self.log)

    def babble(self, name: str) -> int:
        self.log.append(name)
        return "no number"  # type: ignore[return-value]

    def note(self, memo: str) -> int:
        self.memo += memo
        return len(self.memo)

    def take_first(self, name: str) -> str:
        if self.log:
            raise EventRejected(f"{self.log[0]} was first")
        self.log.append(name)
        return name

    def close(self) -> str:
        self.is_open = False
        return f"closed after {len(self.log)}"

    definition = S(
        While(
            "open",
            lambda w: w.is_open and 1 / w.factor > 0,
            Select(
                "entry",
                On("Add", add),
                On("Reject", reject),
                On("Crash", crash),
                On("Spoil", spoil),
                On("Trip", trip),
                On("Babble", babble),
                On("Note", note),
                On("First", take_first),
                On("Close", close),
            ),
        ),
        Select("closed", On("Archive", lambda w: None)),
    )


class Slow(Ledger, name="slow"):
    definition = S(
        Go("beside", While("adding", lambda w: w.is_open, Select("entry", On("Add", Ledger.add)))),
        While("open", lambda w: w.is_open, Select("slow entry", On("Slowly", Slowly()))),
    )


BAD: dict[str, tuple[str, Any, type[WorkflowError]]] = {
    "not accepted": ("Archive", None, EventNotAccepted),
    "rejected": ("Reject", "bad", EventRejected),
    "input": ("Add", ["no name"], InvalidInput),
    "raises": ("Crash", "bad", UserCodeError),
    "field": ("Spoil", "bad", InvalidFields),
    "condition": ("Trip", "bad", UserCodeError),
    "output": ("Babble", "bad", InvalidOutput),
    "too large": ("Note", "x" * DOCUMENT_BYTES_MAX, TooLarge),
}
"""What an instance refuses: the event, its input, and the error."""


def post(world: World, event: str, input: Any = None, **kwargs: Any) -> Coroutine[Any, Any, bytes]:
    """The bare call of an event with its input."""
    body = b"" if input is None else json.dumps(input).encode()
    process: Process = kwargs.pop("process", world.process)
    return process.post(event, body, **kwargs)


def decoded(answer: Any) -> Any:
    return json.loads(answer) if isinstance(answer, bytes) else answer


async def together(world: World, *calls: Coroutine[Any, Any, Any]) -> list[Any]:
    """What calls that are made at the same time come to, in their order: an answer or an error."""
    answers = await world.finish(asyncio.gather(*calls, return_exceptions=True))
    return [decoded(answer) for answer in answers]


async def commits(world: World) -> int:
    """How many commits the instance has had, up to as many as have their tokens stored."""
    return len((await world.instance()).tokens)


# --- many at a time --------------------------------------------------------------------------


@SMALL_AND_LARGE
@pytest.mark.parametrize("count", [1, 2, 7, 50])
@in_world(Ledger)
async def test_those_that_come_at_the_same_time_take_one_load_and_one_commit(
    world: World, count: int, padding: str
) -> None:
    await world.create(padding=padding)
    with world.process.calls() as calls:
        answers = await together(world, *(post(world, "Add", f"{n}", key=f"key {n}") for n in range(count)))
    assert calls == ["load", "commit"]
    assert answers == list(range(1, count + 1)), "in the order of their arrival"
    assert (await world.fields()).log == [f"{n}" for n in range(count)]
    assert await world.history("event") == [("event", "Add")] * min(count, HISTORY_MAX - 1)
    for n in range(count):
        record = await world.store.load_key("ledger", ID, f"key {n}", world.now)
        assert record is not None
        assert record.response == f"{n + 1}"
    before = await world.instance()
    again = [post(world, "Add", f"{n}", key=f"key {n}", process=world.start()) for n in range(count)]
    assert await together(world, *again) == answers
    assert await world.instance() == before
    check_idle(world.process)


@in_world(Ledger)
async def test_those_that_come_while_a_commit_is_under_way_share_the_next_one(world: World) -> None:
    await world.create()
    world.process.fault("commit", before=lambda: world.clock.sleep(1))
    with world.process.calls() as calls:
        first = ensure_future(post(world, "Add", "first"))
        await world.clock.settle()
        others = [ensure_future(post(world, "Add", f"{n}")) for n in range(5)]
        assert await together(world, first, *others) == [1, 2, 3, 4, 5, 6]  # type: ignore[arg-type]
    assert calls == ["load", "commit", "commit"], "what was committed is gone on with"
    assert (await world.fields()).log == ["first", *"01234"]
    check_idle(world.process)


@in_world(Ledger)
async def test_lanes_of_different_instances_do_not_wait_for_each_other(world: World) -> None:
    await world.create()
    await world.create(id="other")
    world.process.fault("commit", before=lambda: world.clock.sleep(5))
    slow = ensure_future(post(world, "Add", "slow"))
    await world.clock.settle()
    asked_at = world.now
    assert await world.send("Add", "fast", id="other") == 1
    assert world.now == asked_at
    assert await world.finish(slow) == b"1"
    check_idle(world.process)


@SMALL_AND_LARGE
@in_world(Ledger)
async def test_a_thousand_at_once(world: World, padding: str) -> None:
    await world.create(padding=padding)
    with world.process.calls() as calls:
        answers = await together(world, *(post(world, "Add", f"{n}") for n in range(1000)))
    assert answers == list(range(1, 1001))
    assert (await world.fields()).log == [f"{n}" for n in range(1000)]
    assert Counter(calls) == {"load": 1, "commit": 5}, "no batch is larger than 200"
    check_idle(world.process)


@in_world(Ledger)
async def test_large_inputs_and_answers_do_not_share_one_commit_without_a_limit(world: World) -> None:
    await world.create()
    inputs = [f"{n}" * 30_000 for n in range(10)] * 3
    with world.process.calls() as calls:
        answers = await together(world, *(post(world, "Add", text) for text in inputs))
    assert answers == list(range(1, 31))
    assert calls == ["load", "commit", "commit"]
    check_idle(world.process)


@in_world(Ledger)
async def test_others_have_a_turn_between_batches(world: World) -> None:
    """A client that sends without a pause does not keep the process for itself."""
    await world.create()
    await world.create(id="other")
    order: list[str] = []

    async def noted(name: str, call: Coroutine[Any, Any, bytes]) -> None:
        await call
        order.append(name)

    many = [noted("many", post(world, "Add", f"{n}")) for n in range(600)]
    await together(world, *many, noted("other", post(world, "Add", "x", id="other")))
    assert order.index("other") < 600


# --- what was committed here is gone on with ---------------------------------------------------


async def behind(world: World, others: Coroutine[Any, Any, Any], *calls: Coroutine[Any, Any, Any]) -> list[Any]:
    """What calls come to that wait in a lane while it commits, and another process changes the instance after that."""
    world.process.fault("commit", before=lambda: world.clock.sleep(1), after=lambda: others)
    first = ensure_future(post(world, "Add", "first"))
    await world.clock.settle()
    return (await together(world, first, *calls))[1:]  # type: ignore[arg-type]


@in_world(Ledger)
async def test_a_refusal_rests_on_what_is_stored(world: World) -> None:
    await world.create()
    (answer,) = await behind(world, world.start().post("Close"), post(world, "Archive"))
    assert answer is None, "it is accepted, since another process has closed it"
    assert (await world.instance()).execution.status == "finished"
    check_idle(world.process)


@in_world(Ledger)
async def test_what_is_accepted_rests_on_what_is_stored(world: World) -> None:
    await world.create()
    with world.process.calls() as calls:
        (answer,) = await behind(world, world.start().post("Close"), post(world, "Add", "second"))
    assert isinstance(answer, EventNotAccepted)
    assert (await world.fields()).log == ["first"]
    assert calls.count("commit") == 2, "the second one has met a conflict"
    check_idle(world.process)


@in_world(Ledger)
async def test_a_rejection_by_a_handler_rests_on_what_is_stored(world: World) -> None:
    await world.create()
    repair = world.start().engine.operate("ledger", ID, SetFields(fields={"log": []}))
    (answer,) = await behind(world, repair, post(world, "First", "second"))
    assert answer == "second"
    assert (await world.fields()).log == ["second"]
    check_idle(world.process)


@in_world(Ledger)
async def test_a_refusal_and_a_change_are_told_after_the_commit_that_proves_them(world: World) -> None:
    await world.create()
    world.process.fault("commit", before=lambda: world.clock.sleep(1))
    first = ensure_future(post(world, "Add", "first"))
    await world.clock.settle()
    with world.process.calls() as calls:
        answers = await together(world, first, post(world, "Archive"), post(world, "Add", "second"))  # type: ignore[arg-type]
    assert calls == ["commit"], "none is loaded again"
    assert [type(answer) for answer in answers] == [int, EventNotAccepted, int]
    check_idle(world.process)


# --- refusals --------------------------------------------------------------------------------


@SMALL_AND_LARGE
@pytest.mark.parametrize("place", range(4))
@pytest.mark.parametrize("kind", BAD)
@in_world(Ledger)
async def test_one_that_is_refused_disturbs_none_of_the_others(
    world: World, kind: str, place: int, padding: str
) -> None:
    await world.create(padding=padding)
    event, input, error = BAD[kind]
    calls = [post(world, "Add", name, key=name) for name in "abc"]
    calls.insert(place, post(world, event, input, key="bad"))
    answers = await together(world, *calls)
    refusal = answers.pop(place)
    assert type(refusal) is error
    assert answers == [1, 2, 3]
    fields = await world.fields()
    assert (fields.log, fields.number, fields.factor, fields.memo) == (["a", "b", "c"], 0, 1, "")
    assert await world.history("event") == [("event", "Add")] * 3
    assert await world.store.load_key("ledger", ID, "bad", world.now) is None
    assert [await world.send("Add", name, key=name) for name in "abc"] == [1, 2, 3]
    check_idle(world.process)


@SMALL_AND_LARGE
@pytest.mark.parametrize("kind", ["not accepted", "input"])
@in_world(Ledger)
async def test_those_that_are_refused_before_their_handler_is_called_do_not_divide_a_batch(
    world: World, kind: str, padding: str
) -> None:
    await world.create(padding=padding)
    event, input, error = BAD[kind]
    calls = [post(world, "Add", "a") if number % 2 == 0 else post(world, event, input) for number in range(20)]
    with world.process.calls() as made:
        answers = await together(world, *calls)
    assert made == ["load", "commit"]
    assert answers[::2] == list(range(1, 11))
    assert {type(answer) for answer in answers[1::2]} == {error}
    check_idle(world.process)


@SMALL_AND_LARGE
@pytest.mark.parametrize("kind", BAD)
@in_world(Ledger)
async def test_where_all_are_refused_nothing_is_written(world: World, kind: str, padding: str) -> None:
    await world.create(padding=padding)
    before = await world.instance()
    event, input, error = BAD[kind]
    answers = await together(world, *(post(world, event, input) for _ in range(3)))
    assert {type(answer) for answer in answers} == {error}
    assert await world.instance() == before
    assert world.queue.tasks == {}
    check_idle(world.process)


@SMALL_AND_LARGE
@in_world(Ledger)
async def test_every_kind_of_refusal_in_one_batch(world: World, padding: str) -> None:
    await world.create(padding=padding)
    calls: list[Coroutine[Any, Any, bytes]] = []
    for number, (event, input, _) in enumerate(BAD.values()):
        calls += [post(world, event, input), post(world, "Add", f"{number}")]
    answers = await together(world, *calls)
    assert [type(answer) for answer in answers[::2]] == [error for _, _, error in BAD.values()]
    assert answers[1::2] == list(range(1, len(BAD) + 1))
    assert (await world.fields()).log == [f"{number}" for number in range(len(BAD))]
    check_idle(world.process)


@SMALL_AND_LARGE
@in_world(Ledger)
async def test_what_an_event_does_decides_about_those_behind_it(world: World, padding: str) -> None:
    await world.create(padding=padding)
    calls = [post(world, event, input) for event, input in (("Add", "a"), ("Close", None), ("Add", "b"))]
    one, two, refusal = await together(world, *calls)
    assert (one, two) == (1, "closed after 1")
    assert isinstance(refusal, EventNotAccepted)
    assert refusal.accepted == ("Archive",)
    assert (await world.fields()).log == ["a"]
    check_idle(world.process)


@in_world(Ledger)
async def test_a_refusal_that_rests_on_what_was_changed_is_told_after_the_commit(world: World) -> None:
    await world.create()
    world.process.fault("commit", before=lambda: world.clock.sleep(5))
    calls = [post(world, event, input) for event, input in (("Archive", None), ("Close", None), ("Add", "late"))]
    early, close, late = (ensure_future(call) for call in calls)
    await world.clock.settle()
    assert early.done(), "that rests on what was stored"
    assert isinstance(early.exception(), EventNotAccepted)
    assert (close.done(), late.done()) == (False, False)
    await world.clock.advance(5)
    assert close.result() == b'"closed after 0"'
    assert isinstance(late.exception(), EventNotAccepted)
    check_idle(world.process)


@SMALL_AND_LARGE
@in_world(Ledger)
async def test_a_refusal_due_to_an_event_whose_commit_conflicts_is_decided_anew(world: World, padding: str) -> None:
    """Closing loses to another process that has added more; what is refused then is refused for what is stored."""
    await world.create(padding=padding)
    other = world.start()
    world.process.fault("commit", before=lambda: post(world, "First", "other", process=other))
    calls = [post(world, "First", "mine", key="mine"), post(world, "First", "second"), post(world, "Add", "third")]
    mine, second, third = await together(world, *calls)
    assert [str(mine), str(second)] == ["other was first"] * 2
    assert third == 2
    assert (await world.fields()).log == ["other", "third"]
    assert await world.store.load_key("ledger", ID, "mine", world.now) is None
    check_idle(world.process, other)


@in_world(Ledger)
async def test_a_refusal_due_to_a_lost_commit_can_become_a_success(world: World) -> None:
    await world.create()
    other = world.start()
    # The first one is not accepted any more once another process has closed; what was refused behind it is accepted.
    world.process.fault("commit", before=lambda: post(world, "Close", process=other))
    calls = [post(world, event, input) for event, input in (("Add", "a"), ("Archive", None))]
    add, archive = await together(world, *calls)
    assert isinstance(add, EventNotAccepted)
    assert archive is None
    assert (await world.instance()).execution.status == "finished"
    check_idle(world.process, other)


@in_world(Ledger)
async def test_when_only_one_is_to_blame_for_the_size_the_others_are_committed(world: World) -> None:
    await world.create()
    notes = ["x" * 300_000, "y" * 300_000, "z" * 900_000, "w" * 300_000, "v" * 300_000]
    answers = await together(world, *(post(world, "Note", note) for note in notes))
    assert [answers[0], answers[1], answers[3]] == [300_000, 600_000, 900_000]
    assert [type(answers[2]), type(answers[4])] == [TooLarge, TooLarge]
    assert Counter((await world.fields()).memo) == {"x": 300_000, "y": 300_000, "w": 300_000}
    check_idle(world.process)


# --- keys ------------------------------------------------------------------------------------


@SMALL_AND_LARGE
@in_world(Ledger)
async def test_the_same_key_twice_in_one_batch_has_one_effect(world: World, padding: str) -> None:
    await world.create(padding=padding)
    calls = [post(world, "Add", name, key=key) for name, key in (("a", "k"), ("b", "l"), ("a", "k"), ("c", "m"))]
    assert await together(world, *calls) == [1, 2, 1, 3]
    assert (await world.fields()).log == ["a", "b", "c"]
    check_idle(world.process)


@SMALL_AND_LARGE
@pytest.mark.parametrize("place", range(4))
@in_world(Ledger)
async def test_a_key_that_was_recorded_before_gets_its_answer(world: World, place: int, padding: str) -> None:
    await world.create(padding=padding)
    assert await world.send("Add", "old", key="old") == 1
    calls = [post(world, "Add", name, key=name) for name in "abc"]
    calls.insert(place, post(world, "Add", "old", key="old"))
    answers = await together(world, *calls)
    assert answers.pop(place) == 1
    assert answers == [2, 3, 4]
    assert (await world.fields()).log == ["old", "a", "b", "c"]
    assert [await world.send("Add", name, key=name) for name in "abc"] == [2, 3, 4], "each was recorded"
    check_idle(world.process)


@in_world(Ledger)
async def test_a_key_that_came_with_another_body(world: World) -> None:
    await world.create()
    assert await world.send("Add", "old", key="old") == 1
    pairs = (("a", "k"), ("b", "k"), ("new", "old"), ("c", "l"))
    first, second, third, fourth = await together(world, *(post(world, "Add", name, key=key) for name, key in pairs))
    assert (first, fourth) == (2, 3)
    assert [type(second), type(third)] == [IdempotencyKeyReused] * 2
    assert (await world.fields()).log == ["old", "a", "c"]
    check_idle(world.process)


@in_world(Ledger)
async def test_many_requests_that_are_all_made_twice(world: World) -> None:
    await world.create()
    names = [f"{n}" for n in range(20)]
    answers = await together(world, *(post(world, "Add", name, key=name) for name in names * 2))
    assert answers == [*range(1, 21), *range(1, 21)]
    assert (await world.fields()).log == names
    check_idle(world.process)


@in_world(Ledger)
async def test_a_key_that_another_process_records_while_the_batch_is_committed(world: World) -> None:
    await world.create()
    other = world.start()
    world.process.fault("commit", before=lambda: post(world, "Add", "b", key="b", process=other))
    answers = await together(world, *(post(world, "Add", name, key=name) for name in "abc"))
    assert answers == [2, 1, 3]
    assert (await world.fields()).log == ["b", "a", "c"]
    check_idle(world.process, other)


@in_world(Ledger)
async def test_keys_that_have_expired_are_new(world: World) -> None:
    await world.create()
    assert await together(world, *(post(world, "Add", name, key=name) for name in "abc")) == [1, 2, 3]
    await world.clock.advance(timedelta(hours=24).total_seconds())
    assert await together(world, *(post(world, "Add", name, key=name) for name in "abc")) == [4, 5, 6]
    check_idle(world.process)


# --- commits that fail -----------------------------------------------------------------------


@SMALL_AND_LARGE
@in_world(Ledger)
async def test_an_outage_is_told_to_those_that_have_changed_something(world: World, padding: str) -> None:
    await world.create(padding=padding)
    before = await world.instance()
    for nth in range(1, 6):
        world.process.unavailable("commit", nth, applied=False)
    calls = [post(world, event, input) for event, input in (("Archive", None), ("Add", "a"), ("Add", "b"))]
    archive, one, two = await together(world, *calls)
    assert [type(archive), type(one), type(two)] == [EventNotAccepted, Unavailable, Unavailable]
    assert await world.instance() == before
    check_idle(world.process)


@in_world(Ledger)
async def test_a_refusal_due_to_changes_that_came_to_nothing_is_decided_anew(world: World) -> None:
    await world.create()
    for nth in range(1, 6):
        world.process.unavailable("commit", nth, applied=False)
    close, add = await together(world, post(world, "Close"), post(world, "Add", "a"))
    assert isinstance(close, Unavailable)
    assert add == 1, "nobody has closed it"
    check_idle(world.process)


@SMALL_AND_LARGE
@pytest.mark.parametrize("applied", [False, True])
@in_world(Ledger)
async def test_a_reply_that_is_lost_has_one_effect(world: World, applied: bool, padding: str) -> None:
    await world.create(padding=padding)
    world.process.unavailable("commit", applied=applied)
    calls = [post(world, "Add", "a", key="a"), post(world, "Reject", "r"), post(world, "Add", "b", key="b")]
    one, rejected, two = await together(world, *calls)
    assert (one, two) == (1, 2)
    assert isinstance(rejected, EventRejected)
    assert (await world.fields()).log == ["a", "b"]
    assert [await world.send("Add", name, key=name) for name in "ab"] == [1, 2]
    check_idle(world.process)


@in_world(Ledger)
async def test_a_reply_that_is_lost_and_others_on_top_of_it(world: World) -> None:
    await world.create()
    other = world.start()

    async def others() -> None:
        await post(world, "Add", "other", process=other)
        raise Unavailable("the reply is lost")

    world.process.fault("commit", after=others)
    assert await together(world, *(post(world, "Add", name) for name in "abc")) == [1, 2, 3]
    assert (await world.fields()).log == ["a", "b", "c", "other"]
    check_idle(world.process, other)


@in_world(Ledger)
async def test_after_an_outage_whose_commit_was_applied_nothing_is_done_twice(world: World) -> None:
    await world.create()
    world.process.unavailable("commit", applied=True)
    for nth in range(2, 7):
        world.process.unavailable("load", nth, applied=False)
    names = "abc"
    answers = await together(world, *(post(world, "Add", name, key=name) for name in names))
    assert {type(answer) for answer in answers} == {Unavailable}
    assert await together(world, *(post(world, "Add", name, key=name) for name in names)) == [1, 2, 3]
    assert (await world.fields()).log == list(names)
    check_idle(world.process)


@SMALL_AND_LARGE
@pytest.mark.parametrize("conflicts", [1, 3])
@in_world(Ledger)
async def test_a_batch_that_conflicts_is_decided_anew_as_a_whole(world: World, conflicts: int, padding: str) -> None:
    await world.create(padding=padding)
    other = world.start()
    for nth in range(1, conflicts + 1):
        world.process.fault("commit", nth, before=lambda: post(world, "Add", "other", process=other))
    answers = await together(world, *(post(world, "Add", name) for name in "abc"))
    assert answers == [conflicts + 1, conflicts + 2, conflicts + 3]
    assert (await world.fields()).log == ["other"] * conflicts + ["a", "b", "c"]
    check_idle(world.process, other)


@pytest.mark.parametrize("conflicts", [1, 2, 5])
@in_world(Ledger)
async def test_a_conflict_costs_one_more_load_which_is_made_after_a_pause(world: World, conflicts: int) -> None:
    """What is loaded to find out whether the commit was applied is also what the next attempt decides on."""
    await world.create()
    other, times = world.start(), []

    async def overtake() -> None:
        times.append(world.clock.now())
        await post(world, "Add", "other", process=other)

    for nth in range(1, conflicts + 1):
        world.process.fault("commit", nth, before=overtake)
    with world.process.calls() as calls:
        (answer,) = await together(world, post(world, "Add", "a"))
    assert answer == conflicts + 1
    assert calls == ["load", "commit"] * (conflicts + 1)
    times.append(world.clock.now())
    pauses = [(later - earlier).total_seconds() for earlier, later in pairwise(times)]
    assert all(0.01 * 2**nth <= pause <= 0.02 * 2**nth for nth, pause in enumerate(pauses)), pauses
    check_idle(world.process, other)


@in_world(Ledger)
async def test_a_load_that_fails_is_told_to_all(world: World) -> None:
    await world.create()
    world.process.unavailable("load", applied=False)
    answers = await together(world, *(post(world, "Add", name) for name in "abc"))
    assert {type(answer) for answer in answers} == {Unavailable}
    assert await world.send("Add", "d") == 1
    check_idle(world.process)


@pytest.mark.parametrize("call", ["load", "commit"])
@in_world(Ledger)
async def test_the_death_of_the_process_is_told_to_all(world: World, call: str) -> None:
    await world.create()
    world.process.fault(call, before=Killed())
    answers = await together(world, *(settled(post(world, "Add", name)) for name in "abc"))
    assert answers == ["Killed"] * 3
    assert (await world.fields()).log == []
    check_idle(world.process)


async def settled(call: Coroutine[Any, Any, bytes]) -> Any:
    """Returns the result of a call, or the name of what it raised if that is not an ``Exception``."""
    try:
        return await call
    except Exception:
        raise
    except BaseException as error:
        return json.dumps(type(error).__name__).encode()


# --- cancelled requests ----------------------------------------------------------------------


@SMALL_AND_LARGE
@in_world(Ledger)
async def test_a_request_that_is_cancelled_while_it_waits_in_the_lane(world: World, padding: str) -> None:
    await world.create(padding=padding)
    world.process.fault("commit", before=lambda: world.clock.sleep(1))
    first = ensure_future(post(world, "Add", "first"))
    await world.clock.settle()
    one, two, three = (ensure_future(post(world, "Add", name)) for name in "abc")
    await world.clock.settle()
    two.cancel()
    await world.finish(asyncio.wait([first, one, two, three]))
    assert [one.result(), three.result(), two.cancelled()] == [b"2", b"3", True]
    assert (await world.fields()).log == ["first", "a", "c"]
    check_idle(world.process)


@SMALL_AND_LARGE
@in_world(Slow)
async def test_a_request_that_is_cancelled_while_its_handler_runs_has_no_effect(world: World, padding: str) -> None:
    await world.started(padding=padding)
    before, slow, behind = (
        ensure_future(post(world, event, name)) for event, name in (("Add", "a"), ("Slowly", "s"), ("Add", "b"))
    )
    await world.clock.settle()
    assert before.done(), "nobody waits for a handler that was called after"
    slow.cancel()
    await world.finish(asyncio.wait([before, slow, behind]))
    assert slow.cancelled()
    assert [before.result(), behind.result()] == [b"1", b"2"]
    assert (await world.fields()).log == ["a", "b"]
    check_idle(world.process)


@SMALL_AND_LARGE
@in_world(Slow)
async def test_an_operation_interrupts_an_asynchronous_handler(world: World, padding: str) -> None:
    await world.started(padding=padding)
    reached = GATE.reached
    slow = ensure_future(post(world, "Slowly", "s"))
    await world.clock.settle()
    assert GATE.reached == reached + 1
    before = world.now
    await world.process.engine.operate("slow", ID, Pause(by="ann"))
    assert world.now == before, "it has waited for nothing"
    with pytest.raises(EventNotAccepted):
        await world.finish(slow)
    assert (await world.fields()).log == []
    await world.process.engine.operate("slow", ID, Unpause(by="ann"))
    slow = ensure_future(post(world, "Slowly", "s"))
    await world.clock.settle()
    await world.process.engine.operate("slow", ID, SetFields(fields={"number": 7}))
    await world.clock.settle()
    assert GATE.reached == reached + 3, "it is called again"
    GATE.open()
    assert await world.finish(slow) == b"1"
    assert ((await world.fields()).log, (await world.fields()).number) == (["s"], 7)
    check_idle(world.process)


@in_world(Slow)
async def test_nobody_waits_for_long_behind_an_asynchronous_handler(world: World) -> None:
    await world.started()
    slow = ensure_future(post(world, "Slowly", "s"))
    await world.clock.settle()
    await world.clock.advance(5)
    behind = ensure_future(post(world, "Add", "b"))
    await world.clock.advance(9)
    assert not behind.done()
    await world.clock.advance(1)
    with pytest.raises(Busy):
        await behind
    assert not slow.done(), "it has all the time that it takes"
    GATE.open()
    assert await world.finish(slow) == b"1"
    assert (await world.fields()).log == ["s"]
    check_idle(world.process)


@SMALL_AND_LARGE
@in_world(Slow)
async def test_an_asynchronous_handler_in_a_batch(world: World, padding: str) -> None:
    await world.started(padding=padding)
    running = [ensure_future(post(world, event, name)) for event, name in (("Add", "a"), ("Slowly", "s"), ("Add", "b"))]
    await world.clock.settle()
    GATE.open()
    await world.finish(asyncio.wait(running))
    assert [task.result() for task in running] == [b"1", b"2", b"3"]
    assert (await world.fields()).log == ["a", "s", "b"]
    check_idle(world.process)


@in_world(Ledger)
async def test_a_request_that_is_cancelled_while_its_commit_is_under_way_has_its_whole_effect(world: World) -> None:
    await world.create()
    world.process.fault("commit", before=lambda: world.clock.sleep(1))
    one, two = (ensure_future(post(world, "Add", name, key=name)) for name in "ab")
    await world.clock.settle()
    one.cancel()
    await world.clock.advance(1)
    assert (one.cancelled(), two.result()) == (True, b"2")
    assert (await world.fields()).log == ["a", "b"]
    assert await world.send("Add", "a", key="a") == 1
    check_idle(world.process)


@in_world(Ledger)
async def test_when_all_requests_are_cancelled_nothing_is_done(world: World) -> None:
    await world.create()
    world.process.fault("load", before=lambda: world.clock.sleep(1))
    running = [ensure_future(post(world, "Add", name)) for name in "abc"]
    await world.clock.settle()
    for task in running:
        task.cancel()
    with world.process.calls() as calls:
        await world.clock.advance(1)
    assert calls == []
    assert (await world.fields()).log == []
    check_idle(world.process)


async def lease(world: World, seconds: float) -> None:
    """Somebody else takes the lease."""
    instance = await world.instance()
    instance.execution.pc += 1
    lease = Lease("somebody", world.now + timedelta(seconds=seconds))
    await world.store.commit(replace(instance, lease=lease, tokens=(*instance.tokens, "t")))


@pytest.mark.parametrize("exists", [True, False])
@in_world(Ledger)
async def test_a_request_that_is_cancelled_while_its_key_is_looked_up_disturbs_nobody(
    world: World, exists: bool
) -> None:
    await world.create()
    await lease(world, 5)
    world.process.fault("load_key", before=lambda: world.clock.sleep(1))
    one, two, three = (ensure_future(post(world, "Add", name, key=name)) for name in "abc")
    await world.clock.settle()
    one.cancel()
    if not exists:
        two.cancel()
    await world.finish(asyncio.wait([one, two, three]))
    assert one.cancelled()
    if exists:
        assert [two.result(), three.result()] == [b"1", b"2"]
    else:
        assert three.result() == b"1"
    check_idle(world.process)


# --- what has to wait ------------------------------------------------------------------------


class Oven(Workflow, name="oven"):
    log: list[str] = []

    async def bake(self) -> None:
        await GATE.wait()
        self.log.append("baked")

    definition = S(
        Go("shop", While("selling", lambda w: len(w.log) < 1000, Select("sell", On("Sell", write("sold"))))),
        Step("bake", bake),
        Select("end", On("End", write("end"), buffered=True)),
    )


async def baking(world: World) -> asyncio.Task[Outcome]:
    await world.create()
    running = ensure_future(world.process.perform(world.queue.resumes[0]))
    await world.clock.settle()
    return running


@in_world(Oven)
async def test_an_event_goes_on_at_once_when_the_step_of_its_process_is_over(world: World) -> None:
    running = await baking(world)
    sending = [ensure_future(post(world, "Sell")) for _ in range(3)]
    await world.clock.advance(5)
    assert not any(task.done() for task in sending)
    now = world.now
    GATE.open()
    await world.clock.settle()
    assert all(task.done() for task in sending)
    assert world.now == now, "not at the next look"
    assert running.result() is Outcome.DONE
    assert (await world.fields()).log == ["baked", "sold", "sold", "sold"]
    check_idle(world.process)


@in_world(Oven)
async def test_an_event_waits_for_the_step_of_another_process(world: World) -> None:
    running = await baking(world)
    other = world.start()
    sending = ensure_future(post(world, "Sell", process=other))
    await world.clock.advance(5)
    GATE.open()
    await world.clock.settle()
    await world.clock.advance(0.64)
    assert sending.done()
    assert (await world.fields()).log == ["baked", "sold"]
    assert running.result() is Outcome.DONE
    check_idle(world.process, other)


@in_world(Oven)
async def test_what_waits_is_busy_in_the_end_and_changes_nothing(world: World) -> None:
    await world.create()
    await lease(world, 60)
    before, begin = await world.instance(), world.now
    first = ensure_future(post(world, "Sell", key="k"))
    await world.clock.advance(3)
    second = ensure_future(post(world, "Sell"))
    await world.clock.advance(7.7)
    assert isinstance(first.exception(), Busy)
    assert not second.done(), "each waits for its own time"
    await world.clock.advance(2)
    assert not second.done()
    await world.clock.advance(1)
    assert isinstance(second.exception(), Busy)
    assert world.now - begin < timedelta(seconds=14)
    assert await world.instance() == before
    check_idle(world.process)


@pytest.mark.parametrize("operation", [Cancel(), Pause()])
@in_world(Oven)
async def test_operations_do_not_wait_for_the_events_before_them(world: World, operation: Any) -> None:
    running = await baking(world)
    sending = [ensure_future(post(world, "Sell")) for _ in range(3)]
    await world.clock.advance(5)
    begin = world.now
    operating = ensure_future(world.process.engine.operate("oven", ID, operation))
    await world.clock.settle()
    assert operating.done(), "at once"
    view = operating.result()
    assert world.now == begin
    assert view.instance.execution.status in ("canceled", "paused")
    for task in sending:
        with pytest.raises((EventNotAccepted, Busy)):
            await world.finish(task)
    assert (await world.fields()).log == []
    running.cancel()
    await asyncio.wait([running])
    check_idle(world.process)


@in_world(Oven)
async def test_a_buffered_event_that_waits_for_a_short_lease(world: World) -> None:
    running = await baking(world)
    sending = ensure_future(post(world, "End"))
    await world.clock.advance(3)
    assert not sending.done()
    GATE.open()
    assert await world.finish(sending) == b"null"
    await world.finish(running)
    assert (await world.fields()).log == ["baked", "end"]
    check_idle(world.process)


@in_world(Oven)
async def test_a_task_ahead_of_its_commit_waits_beside_events_that_go_on(world: World) -> None:
    await world.create()
    (task,) = world.queue.resumes
    ahead = {**task.body, "pc": task.body["pc"] + 1}
    begin = world.now
    resume = ensure_future(world.process.perform(replace(task, body=ahead)))
    await world.clock.settle()
    assert not resume.done()
    assert await world.send("Sell") is None
    assert world.now == begin
    await world.clock.advance(1)
    assert GATE.reached > 0
    GATE.open()
    assert await world.finish(resume) is Outcome.DONE
    assert (await world.fields()).log == ["sold", "baked"]
    check_idle(world.process)


# --- conflicts that do not end ---------------------------------------------------------------


def always_conflicts(world: World, process: Process, times: int = 2_000) -> None:
    """Another process is always faster."""
    for nth in range(1, times + 1):
        process.fault("commit", nth, before=Conflict("others were faster"))


@in_world(Oven)
async def test_an_event_that_loses_to_others_again_and_again_is_told_so(world: World) -> None:
    await world.create()
    always_conflicts(world, world.process)
    begin = world.now
    with pytest.raises(Busy, match="other processes commit to it"):
        await world.send("Sell")
    assert timedelta(seconds=10) <= world.now - begin < timedelta(seconds=11)
    check_idle(world.process)


@in_world(Oven)
async def test_a_resume_that_loses_to_others_again_and_again_is_not_lost(world: World) -> None:
    await world.create()
    (task,) = world.queue.resumes
    process = world.start()
    always_conflicts(world, process)
    assert await process.deliver(task) is Outcome.NOT_YET, "the queue sends it again"
    running = ensure_future(world.process.perform(task))
    await world.clock.settle()
    GATE.open()
    assert await world.finish(running) is Outcome.DONE
    assert (await world.fields()).log == ["baked"]
    check_idle(world.process, process)


# --- everything at once ----------------------------------------------------------------------

FETCH, BEAT = Gate(), Gate()


async def fetch(_: None) -> str:
    await FETCH.wait()
    return "page"


async def live(_: None, context: ActivityContext) -> None:
    await BEAT.wait()
    await context.heartbeat()
    await BEAT.wait()


class Kid(Workflow, name="kid"):
    definition = S(Select("wait", On("Grow", lambda w: None)))


class Mixed(Workflow, name="mixed"):
    padding: str = ""
    log: list[str] = []

    def keep(self, text: str) -> None:
        self.log.append(text)

    def kid(self, _: Any) -> None:
        self.log.append("kid")

    definition = S(
        Go("a", Activity("fetch", fetch, then=keep, timeout=timedelta(days=1))),
        Go("b", Activity("live", live, heartbeat=timedelta(hours=2))),
        Go("c", Child("child", Kid, id="kid-1", then=kid)),
        Go("d", Select("nap", Timeout("awake", timedelta(hours=1)))),
        Go("e", Activity("slow", fetch, timeout=timedelta(hours=1), retry=Retry(max_attempts=5))),
        While("open", lambda w: True, Select("entry", On("Add", keep), On("Bad", lambda w: w.missing))),
    )


@SMALL_AND_LARGE
@in_world(Mixed, Kid)
async def test_events_results_timers_heartbeats_and_ends_of_children_share_a_commit(world: World, padding: str) -> None:
    await world.create(padding=padding)
    resumes = world.queue.resumes
    for task in resumes:
        await world.process.deliver(task)
    for task in [task for task in world.queue.resumes if task.body["workflow"] == "kid"]:
        await world.process.deliver(task)
    process, timers = world.process, {task.body["event"]: task for task in world.queue.timers}
    running: list[asyncio.Task[Any]] = [
        ensure_future(process.perform(task))
        for task in world.queue.tasks.values()
        if task.path == ACTIVITY_PATH and task.body["event"] != "slow"
    ]
    await world.clock.settle()
    await world.finish(process.engine.handle_event("kid", "kid-1", "Grow"))
    (tell,) = [task for task in world.queue.resumes if task.body["workflow"] == "kid"]
    await world.clock.advance(3600)

    before = await commits(world)
    process.fault("commit", before=lambda: world.clock.sleep(1))
    running.append(ensure_future(post(world, "Add", "first")))
    await world.clock.settle()
    FETCH.open()
    BEAT.open()
    for call in (
        *(process.perform(timers["awake"]), process.perform(timers[""]), process.perform(tell)),
        *(post(world, "Bad"), post(world, "Add", "last", key="last")),
    ):
        running.append(asyncio.create_task(call))
        await world.clock.settle()
    await world.clock.advance(1)
    # The end of an attempt looks into the inbox first, and comes with a commit of its own.
    assert await commits(world) == before + 3
    BEAT.open()
    results = await world.finish(asyncio.gather(*running, return_exceptions=True))
    done, bad = [*results[:6], results[7]], results[6]
    assert isinstance(bad, UserCodeError)
    assert [decoded(answer) for answer in done] == [Outcome.DONE, Outcome.DONE, None, *[Outcome.DONE] * 3, None]
    assert sorted((await world.fields()).log) == ["first", "kid", "last", "page"]
    assert sorted(await world.history("event", "timeout", "child", "activity", "activity failed")) == [
        *(("activity", "fetch"), ("activity", "live"), ("activity failed", "slow"), ("child", "child")),
        *(("event", "Add"), ("event", "Add"), ("timeout", "awake")),
    ]
    check_idle(process)


# --- whose request it is ---------------------------------------------------------------------


class Talk(Workflow, name="talk"):
    is_over: bool = False

    def say(self, text: str) -> None:
        logging.getLogger("talk").warning(text, extra={"fields": {"kind": "said"}})
        if text == "wrong":
            raise EventRejected("no")

    def end(self) -> None:
        self.is_over = True

    definition = S(
        While("talking", lambda w: not w.is_over, Select("turn", On("Say", say), On("End", end))),
        If("always", lambda w: True, Fail("over", "it is over")),
    )


@in_world(Talk)
async def test_lines_and_spans_of_events_in_one_batch_belong_to_their_own_requests(
    world: World, recorder: Recorder
) -> None:
    await world.create()
    lines = Lines()
    loggers = [logging.getLogger("gorchestrate"), logging.getLogger("talk")]
    level = loggers[0].level
    loggers[0].setLevel(logging.INFO)
    for logger in loggers:
        logger.addHandler(lines)

    async def request(name: str, event: str, input: Any) -> Any:
        with recorder.span(name):
            return await post(world, event, input)

    try:
        with world.process.calls() as calls:
            answers = await together(
                world,
                *(request("one", "Say", "a"), request("two", "Say", "wrong")),
                *(request("three", "Say", "c"), request("four", "End", None)),
            )
    finally:
        for logger in loggers:
            logger.removeHandler(lines)
        loggers[0].setLevel(level)
    assert calls == ["load", "commit"]
    assert [type(answer) for answer in answers] == [type(None), EventRejected, type(None), type(None)]
    of = {name: f"{recorder.one(name).context.trace_id:032x}" for name in ("one", "two", "three", "four")}
    assert lines.traces("said") == [of["one"], of["two"], of["three"]]
    assert lines.traces("event") == [of["one"], of["three"], of["four"]]
    assert lines.traces("failed") == [of["four"]], "it failed by the last request"
    events = {f"{span.context.trace_id:032x}": span for span in recorder.spans if span.name.startswith("event ")}
    assert {trace: span.parent.span_id for trace, span in events.items()} == {
        of[name]: id_of(recorder.one(name)) for name in of
    }
    assert [events[of[name]].attributes["gorchestrate.outcome"] for name in of] == [
        *("handled", "rejected", "handled", "handled")
    ]
    check_idle(world.process)


@in_world(Ledger)
async def test_instances_that_were_contended_are_forgotten(world: World) -> None:
    other = world.start()
    for number in range(5):
        id = f"order-{number}"
        await world.create(id=id)
        world.process.fault("commit", before=lambda id=id: post(world, "Add", "other", id=id, process=other))
        await world.send("Add", "mine", id=id)
        await world.clock.advance(lanes.CONTENDED_SECONDS - 1)
    assert len(world.process.engine.lanes.contended) == 2


# --- by chance -------------------------------------------------------------------------------


class Clients:
    """Clients that send events through several processes, and try again until they have an answer."""

    def __init__(self, world: World, seed: int) -> None:
        self.world = world
        self.rng = random.Random(seed)
        self.processes = [world.start() for _ in range(self.rng.randint(1, 3))]
        self.answers: dict[str, int] = {}
        self.faults = 12

    def process(self) -> Process:
        number = self.rng.randrange(len(self.processes))
        if self.processes[number].wire.dead:
            self.processes[number] = self.world.start()
        process = self.processes[number]
        if self.faults and self.rng.random() < 0.2:
            self.faults -= 1
            error = self.rng.choice([Unavailable, Unavailable, Killed])("by chance")
            process.fault("*", self.rng.randint(1, 6), **{self.rng.choice(["before", "after"]): error})
        return process

    async def add(self, name: str) -> None:
        """Adds a name under a key; some clients give up in the middle, and come again."""
        while name not in self.answers:
            call = ensure_future(post(self.world, "Add", name, key=name, process=self.process()))
            if self.rng.random() < 0.3:
                await self.world.clock.sleep(self.rng.choice([0, 0, 0.01, 0.05]))
                call.cancel()
            await asyncio.wait([call])
            if call.cancelled():
                continue
            error = call.exception()
            if error is None:
                self.answers[name] = json.loads(call.result())
            else:
                assert isinstance(error, (Unavailable, Busy, Killed)), error
                await self.world.clock.sleep(self.rng.uniform(0, 1))

    async def be_refused(self, kind: str) -> None:
        event, input, expected = BAD[kind]
        while True:
            call = ensure_future(post(self.world, event, input, process=self.process()))
            await asyncio.wait([call])
            error = call.exception()
            if type(error) is expected:
                return
            assert isinstance(error, (Unavailable, Busy, Killed)), error
            await self.world.clock.sleep(self.rng.uniform(0, 1))


@SMALL_AND_LARGE
@pytest.mark.parametrize("seed", [*range(10), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(10, 40))])
@in_world(Ledger)
async def test_clients_and_faults_by_chance(world: World, seed: int, padding: str) -> None:
    """Each answer is the place at which the name stands in the end: all events have happened one after another."""
    await world.create(padding=padding)
    clients, commit = Clients(world, seed), world.store.commit

    async def slowly(*args: Any, **kwargs: Any) -> Any:
        await world.clock.sleep(clients.rng.uniform(0, 0.05))
        return await commit(*args, **kwargs)

    if seed % 2:
        world.store.commit = slowly  # type: ignore[method-assign]
    names = [f"name {number}" for number in range(30)]

    async def begin(call: Coroutine[Any, Any, None]) -> None:
        await world.clock.sleep(clients.rng.choice([0, 0, 0.02, 0.5]))
        await call

    kinds = [kind for kind in BAD if kind != "too large"]
    calls = [clients.add(name) for name in names] + [clients.be_refused(clients.rng.choice(kinds)) for _ in range(10)]
    clients.rng.shuffle(calls)
    await world.finish(asyncio.gather(*(begin(call) for call in calls)))
    fields = await world.fields()
    assert sorted(fields.log) == sorted(names)
    assert {name: fields.log[place - 1] for name, place in clients.answers.items()} == {name: name for name in names}
    assert (fields.number, fields.factor, fields.memo) == (0, 1, "")
    for name, place in clients.answers.items():
        assert await world.send("Add", name, key=name) == place
    await world.clock.advance(60)
    check_idle(world.process, *clients.processes)
