"""Events that must be registered with an outside system: set up when a wait begins, torn down when it ends."""

from __future__ import annotations

from asyncio import ensure_future
from collections import Counter
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest

from cloud_adapter.engine.operations import Terminate
from cloud_adapter.engine.task_handler import Outcome
from cloud_adapter.errors import Busy
from cloud_adapter.options import EngineOptions
from tests.engine.harness import ID, Killed, World, in_world, write
from tests.waits import the, timed
from workflow_core import (
    EventNotAccepted,
    EventRequest,
    Go,
    On,
    Retry,
    Return,
    S,
    Select,
    Step,
    TerminalError,
    Timeout,
    WaitStatus,
    While,
    Workflow,
)
from workflow_core.wait_types import HandlerTeardown, HandlerWait


@dataclass
class Bank:
    """The outside system: records its requests, and fails when the test says so."""

    calls: list[tuple[str, EventRequest]] = field(default_factory=list)
    failures: Counter[str] = field(default_factory=Counter)
    gives: Any = None
    before: Any = None

    def reset(self) -> None:
        self.calls.clear()
        self.failures.clear()
        self.gives = {"account": 7}
        self.before = None

    def call(self, action: str, request: EventRequest) -> None:
        self.calls.append((action, request))
        request.workflow.log.append(f"{action} {request.event}")
        if self.failures[action] > 0:
            self.failures[action] -= 1
            raise ConnectionError(f"{action} failed")

    @property
    def actions(self) -> list[str]:
        return [f"{action} {request.event}" for action, request in self.calls]

    def keys(self, action: str) -> set[str]:
        return {request.idempotency_key for name, request in self.calls if name == action}


BANK = Bank()


class Payment:
    """Its setup is async, its teardown is not."""

    async def setup(self, request: EventRequest) -> Any:
        if BANK.before:
            await BANK.before()
        BANK.call("setup", request)
        return BANK.gives

    def handle(self, request: EventRequest, input: float) -> str:
        request.workflow.paid += input
        return f"paid to {request.setup_data['account']}"

    def teardown(self, request: EventRequest, handled: bool) -> Any:
        BANK.call(f"teardown {handled}", request)
        return BANK.gives


class Order(Workflow, name="order"):
    log: list[str] = []
    paid: float = 0
    hours: int = 2

    definition = S(
        Go("beside", While("for ever", lambda w: True, Select("other", On("Other", lambda w: None)))),
        Step("cook", write("cook")),
        Select(
            "payment",
            On("Pay", Payment()),
            On("Wire", Payment()),
            On("Cash", write("cash")),
            Timeout("too late", lambda w: timedelta(hours=w.hours), Step("cancel", write("cancel"))),
        ),
        Select("end", On("End", lambda w: None)),
    )


@pytest.fixture(autouse=True)
def _bank() -> None:
    BANK.reset()


async def waits(world: World) -> dict[str, HandlerWait]:
    """The waits of the main thread that are set up, by event."""
    thread = (await world.instance()).execution.thread("main")
    assert thread is not None
    return {wait.event: wait for wait in thread.waits if isinstance(wait, HandlerWait)}


@in_world(Order)
async def test_a_wait_is_set_up_under_the_lease_and_torn_down_after_it(world: World) -> None:
    leases: list[Any] = []

    async def look() -> None:
        leases.append((await world.instance()).lease)

    BANK.before = look
    await world.started()
    assert BANK.actions == ["setup Pay", "setup Wire"]
    assert all(lease is not None for lease in leases)
    instance = await world.instance()
    assert instance.lease is None
    assert instance.execution.status == "waiting"
    wait = (await waits(world))["Pay"]
    assert (wait.status, wait.setup_data, wait.attempt, wait.error) == (WaitStatus.SET_UP, {"account": 7}, 0, None)
    (_, request) = BANK.calls[0]
    assert (request.workflow_id, request.thread_id, request.wait_id) == (ID, "main", wait.id)
    assert len(BANK.keys("setup")) == 2, "each event has a key of its own"
    assert (await world.fields()).log == ["cook"], "a setup does not change the fields"

    with world.process.calls() as calls:
        assert await world.send("Pay", 5) == "paid to 7"
    assert calls == ["load", "create_task", "commit", "delete_task"]
    execution = (await world.instance()).execution
    assert [(t.event, t.handled, the(HandlerTeardown, [t]).setup_data) for t in execution.teardowns] == [
        ("Pay", True, {"account": 7}),
        ("Wire", False, {"account": 7}),
    ]
    await world.deliver()
    assert BANK.actions[2:] == ["teardown True Pay", "teardown False Wire"]
    assert BANK.calls[2][1].setup_data == {"account": 7}
    assert (await world.instance()).execution.teardowns == []
    assert world.queue.tasks == {}
    assert await world.history() == [
        ("created", ""),
        ("step", "cook"),
        ("setup", "Pay"),
        ("setup", "Wire"),
        ("event", "Pay"),
        ("teardown", "Pay"),
        ("teardown", "Wire"),
    ]
    fields = await world.fields()
    assert (fields.log, fields.paid) == (["cook"], 5)


@in_world(Order)
async def test_setting_up_costs_one_commit_an_event(world: World) -> None:
    await world.create()
    with world.process.calls() as calls:
        await world.deliver()
    assert calls == ["load", "commit", "create_task", "commit", "commit", "commit"]


@in_world(Order)
async def test_no_event_is_accepted_before_it_is_set_up(world: World) -> None:
    await world.create()
    seen: list[Any] = []

    async def look() -> None:
        view = await world.start().engine.get("order", ID)
        seen.append([one.case.event for one in view.accepted])

    BANK.before = look
    await world.deliver()
    assert seen == [["Cash", "Other"], ["Pay", "Cash", "Other"]]


@in_world(Order)
async def test_a_timeout_tears_down_too(world: World) -> None:
    await world.started()
    await world.pass_time(timedelta(hours=2))
    assert BANK.actions[2:] == ["teardown False Pay", "teardown False Wire"]
    assert (await world.fields()).log == ["cook", "cancel"]


# --- failing setups --------------------------------------------------------------------------


@in_world(Order)
async def test_a_failing_setup_is_tried_again_with_backoff_and_the_same_key(world: World) -> None:
    BANK.failures["setup"] = 3
    await world.started()
    begin = world.now
    pay, wire = (await waits(world))["Pay"], (await waits(world))["Wire"]
    assert pay.status is WaitStatus.SETUP_ERROR
    assert (pay.attempt, pay.error) == (1, "ConnectionError: setup failed")
    assert pay.retry_at == begin + timedelta(seconds=1) == (await world.instance()).wake_at
    assert wire.attempt == 1
    assert (await world.fields()).log == ["cook"]
    assert (await world.instance()).lease is None

    # The other events are not disturbed.
    await world.send("Other")
    await world.pass_time(timedelta(seconds=1))
    assert (await waits(world))["Wire"].status is WaitStatus.SET_UP
    assert (await waits(world))["Pay"].attempt == 2
    await world.pass_time(timedelta(seconds=2))
    assert (await waits(world))["Pay"].status is WaitStatus.SET_UP
    assert (await world.instance()).execution.status == "waiting"
    assert Counter(BANK.actions) == {"setup Pay": 3, "setup Wire": 2}
    assert len(BANK.keys("setup")) == 2
    assert await world.send("Pay", 1) == "paid to 7"


@in_world(Order, options=EngineOptions(retry=Retry(max_attempts=3)))
async def test_a_setup_is_given_up_after_its_attempts(world: World) -> None:
    BANK.failures["setup"] = 99
    await world.started()
    await world.pass_time(timedelta(minutes=30))
    assert Counter(BANK.actions) == {"setup Pay": 3, "setup Wire": 3}
    instance = await world.instance()
    assert instance.execution.status == "waiting", "the instance itself has not failed"
    pay = (await waits(world))["Pay"]
    assert (pay.status, pay.attempt, pay.retry_at) == (WaitStatus.SETUP_ERROR, 3, None)
    assert [task.path for task in world.queue.tasks.values()] == ["/callback/timeout"]
    with pytest.raises(EventNotAccepted):
        await world.send("Pay", 5)

    # The plain case still works; what may have been registered nevertheless is torn down.
    await world.send("Cash")
    await world.deliver()
    assert BANK.actions[-2:] == ["teardown False Pay", "teardown False Wire"]
    assert BANK.calls[-1][1].setup_data is None
    assert (await world.fields()).log == ["cook", "cash"]


@in_world(Order)
async def test_an_event_while_the_setups_are_still_tried(world: World) -> None:
    BANK.failures["setup"] = 2
    await world.started()
    await world.send("Cash")
    await world.deliver()
    assert BANK.actions[2:] == ["teardown False Pay", "teardown False Wire"]
    await world.pass_time(timedelta(hours=3))
    assert len(BANK.calls) == 4, "nothing is set up for a wait that was left"
    assert world.queue.tasks == {}


@pytest.mark.parametrize("gives", [object(), {"account": lambda: None}, "\udce9"])
@in_world(Order, options=EngineOptions(retry=Retry(max_attempts=2)))
async def test_a_setup_that_gives_what_cannot_be_kept_has_failed(world: World, gives: Any) -> None:
    BANK.gives = gives
    await world.started()
    assert (await world.instance()).execution.status != "failed"
    pay = (await waits(world))["Pay"]
    assert pay.status is WaitStatus.SETUP_ERROR
    assert pay.setup_data is None
    await world.pass_time(timedelta(minutes=1))
    await world.send("Cash")
    await world.deliver()
    assert (await world.instance()).execution.teardowns == []


@in_world(Order)
async def test_setup_data_is_json_data(world: World) -> None:
    BANK.gives = {"account": [1, "é", None, {"a": 0.5}]}
    await world.started()
    assert (await waits(world))["Pay"].setup_data == BANK.gives
    assert await world.send("Pay", 5) == "paid to [1, 'é', None, {'a': 0.5}]"
    await world.deliver()
    assert BANK.calls[-1][1].setup_data == BANK.gives


# --- failing teardowns -----------------------------------------------------------------------


class Spoiled(Workflow, name="spoiled"):
    log: list[str] = []

    def spoil(self) -> None:
        raise TerminalError("no oven")

    definition = S(
        Go("beside", Select("payment", On("Pay", Payment()), On("Wire", Payment()))),
        Select("begin", On("Begin", lambda w: None)),
        Step("cook", spoil),
    )


@in_world(Spoiled)
async def test_the_cleanup_of_an_instance_that_has_failed_does_not_note_its_failure_again(world: World) -> None:
    await world.started()
    BANK.failures["teardown False"] = 1
    await world.send("Begin")
    await world.deliver()
    await world.pass_time(timedelta(minutes=1))
    assert await world.history("failed", "teardown", "teardown failed") == [
        ("failed", "cook"),
        ("teardown failed", "Pay"),
        ("teardown", "Wire"),
        ("teardown", "Pay"),
    ]


@in_world(Order)
async def test_what_a_teardown_returns_does_not_matter(world: World) -> None:
    await world.started()
    BANK.gives = object()
    await world.send("Cash")
    await world.deliver()
    assert await world.history("teardown", "teardown failed") == [("teardown", "Pay"), ("teardown", "Wire")]


@in_world(Order, options=EngineOptions(retry=Retry(max_attempts=4)))
async def test_a_failing_teardown_blocks_nothing(world: World) -> None:
    BANK.failures["teardown True"] = 2
    BANK.failures["teardown False"] = 99
    await world.started()
    await world.send("Pay", 5)
    await world.deliver()
    first = (await world.instance()).execution
    assert [(t.event, t.status, t.attempt) for t in first.teardowns] == [
        ("Pay", WaitStatus.TEARDOWN_ERROR, 1),
        ("Wire", WaitStatus.TEARDOWN_ERROR, 1),
    ]
    # The workflow goes on meanwhile, to its end.
    asked_at = world.now
    await world.send("End")
    assert world.now == asked_at
    assert (await world.instance()).execution.status == "finished"
    await world.pass_time(timedelta(minutes=30))
    instance = await world.instance()
    (left,) = instance.execution.teardowns
    assert (left.event, left.status, left.attempt, left.retry_at) == ("Wire", WaitStatus.TEARDOWN_ERROR, 4, None)
    assert left.error == "ConnectionError: teardown False failed"
    assert Counter(BANK.actions[2:]) == {"teardown True Pay": 3, "teardown False Wire": 4}
    assert len(BANK.keys("teardown True")) == 1
    assert instance.wake_at is None
    assert world.queue.tasks == {}
    assert instance.execution.status == "finished"


class Short(Workflow, name="short"):
    """It ends while a thread still waits for an event that was set up."""

    log: list[str] = []
    paid: float = 0

    definition = S(
        Go("payment", Select("pay", On("Pay", Payment()))),
        Select("end", On("End", lambda w: None), On("Break", lambda w: None, Step("fail", write("fail")), Return())),
    )


@in_world(Short)
async def test_teardown_after_the_end(world: World) -> None:
    await world.started()
    assert BANK.actions == ["setup Pay"]
    await world.send("End")
    instance = await world.instance()
    assert instance.execution.status == "finished"
    assert instance.wake_at == world.now
    with pytest.raises(EventNotAccepted, match="the instance is finished"):
        await world.send("Pay", 1)
    assert instance.wake_at == world.now, "an event does not wait for a teardown that leads nowhere"
    await world.deliver()
    assert BANK.actions == ["setup Pay", "teardown False Pay"]
    instance = await world.instance()
    assert instance.execution.teardowns == []
    assert instance.execution.status == "finished"
    assert instance.wake_at is None


@in_world(Short)
async def test_a_teardown_that_always_fails_ends_with_a_termination(world: World) -> None:
    BANK.failures["teardown False"] = 99
    await world.started()
    await world.send("End")
    await world.deliver()
    instance = await world.instance()
    assert (instance.execution.status, len(instance.execution.teardowns)) == ("finished", 1)
    assert instance.wake_at is not None
    await world.finish(world.process.engine.operate(world.name, ID, Terminate(by="ann")))
    instance = await world.instance()
    assert (instance.execution.status, instance.execution.teardowns) == ("finished", [])
    assert (instance.wake_at, instance.history[-1].kind, instance.history[-1].by) == (None, "terminate", "ann")
    calls = len(BANK.calls)
    await world.pass_time(timedelta(hours=1))
    assert (len(BANK.calls), world.queue.tasks) == (calls, {})


@in_world(Short)
async def test_the_end_comes_before_the_setup(world: World) -> None:
    await world.create()
    await world.send("End")
    await world.pass_time(timedelta(minutes=1))
    assert BANK.actions == ["teardown False Pay"], "it may have been set up: nobody knows"


class Loop(Workflow, name="loop"):
    log: list[str] = []
    paid: float = 0

    definition = S(While("until paid", lambda w: w.paid < 3, Select("pay", On("Pay", Payment()))))


@in_world(Loop)
async def test_each_round_sets_up_and_tears_down_under_keys_of_its_own(world: World) -> None:
    await world.started()
    for _ in range(3):
        assert await world.send("Pay", 1) == "paid to 7"
        await world.deliver()
    assert (await world.instance()).execution.status == "finished"
    assert Counter(BANK.actions) == {"setup Pay": 3, "teardown True Pay": 3}
    assert len(BANK.keys("setup")) == 3
    assert len(BANK.keys("teardown True")) == 3


@in_world(Loop)
async def test_the_next_event_waits_until_it_is_set_up(world: World) -> None:
    await world.started()
    await world.send("Pay", 1)
    with pytest.raises(Busy):
        await world.send("Pay", 1)
    sending = ensure_future(world.process.post("Pay", b"1"))
    await world.clock.advance(1)
    await world.deliver()
    assert await world.finish(sending) == b'"paid to 7"'


@in_world(Loop)
async def test_a_process_dies_in_a_setup(world: World) -> None:
    await world.create()
    world.process.fault("commit", 2, before=Killed())
    with pytest.raises(Killed):
        await world.process.perform(world.queue.resumes[0])
    assert BANK.actions == ["setup Pay"]
    other = world.start()
    await world.pass_time(timedelta(minutes=2), other)
    assert BANK.actions == ["setup Pay"] * 2
    assert len(BANK.keys("setup")) == 1
    assert await other.send("Pay", 3) == "paid to 7"


class Async(Workflow, name="async"):
    log: list[str] = []
    paid: float = 0

    class Slow(Payment):
        async def handle(self, request: EventRequest, input: float) -> str:  # type: ignore[override]
            request.workflow.paid += input
            if BANK.before:
                await BANK.before()
            if input < 0:
                raise ValueError("negative")
            return "slowly"

    definition = S(Select("pay", On("Pay", Slow())), Select("pay twice", On("Pay", Slow())))


@in_world(Async)
async def test_an_async_handle_loses_its_effect_if_another_event_comes_first(world: World) -> None:
    await world.started()
    other = world.start()

    async def another() -> None:
        BANK.before = None
        assert await other.post("Pay", b"10") == b'"slowly"'

    BANK.before = another
    sending = ensure_future(world.process.post("Pay", b"1"))
    await world.clock.settle()
    assert await world.process.deliver(world.queue.resumes[0]) is Outcome.DONE
    assert await world.finish(sending) == b'"slowly"'
    assert (await world.fields()).paid == 11


class Slowly(Workflow, name="slowly"):
    log: list[str] = []
    paid: float = 0

    definition = S(Select("pay", On("Pay", Async.Slow())), Select("rest", Timeout("late", timedelta(minutes=1))))


@in_world(Slowly)
async def test_a_deadline_counts_from_the_end_of_an_async_handle(world: World) -> None:
    async def take_time() -> None:
        await world.clock.sleep(5)

    await world.started()
    BANK.before, began = take_time, world.now
    assert await world.send("Pay", 1) == "slowly"
    assert world.now == began + timedelta(seconds=5)
    (thread,) = (await world.instance()).execution.threads
    assert timed(thread.waits).deadline == began + timedelta(seconds=65)
