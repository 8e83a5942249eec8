"""Events that arrive while a step runs for long: kept in the inbox, decided afterwards in order, each once."""

from __future__ import annotations

import asyncio
import json
from asyncio import ensure_future
from datetime import timedelta
from typing import Any

import pytest

from cloud_adapter.engine.events import BUFFERED, LATER
from cloud_adapter.engine.kept_events import Outcome
from cloud_adapter.engine.operations import Cancel, Pause, Unpause
from cloud_adapter.engine.refs import InstanceRef
from cloud_adapter.engine.task_handler import Outcome as Delivered
from cloud_adapter.engine.tasks import ACTIVITY_PATH
from cloud_adapter.errors import Busy, IdempotencyKeyReused, Unavailable
from cloud_adapter.options import EngineOptions
from tests.engine.harness import ID, Gate, Process, World, check_idle, in_world
from workflow_core import Activity, EventRejected, Go, InvalidInput, On, S, Select, Step, WaitFor, While, Workflow

GATE = Gate()


class Shop(Workflow, name="shop"):
    """A step runs beside a counter that accepts ``Add`` at once; ``Pay`` is buffered until the step is done."""

    log: list[str] = []

    async def bake(self) -> None:
        await GATE.wait()
        self.log.append("baked")

    def add(self, amount: int) -> str:
        if amount == 13:
            raise EventRejected("not thirteen")
        self.log.append(f"add {amount}")
        return f"sum {amount}"

    def pay(self, amount: int) -> None:
        self.log.append(f"pay {amount}")

    definition = S(
        Go("counter", While("open", lambda w: len(w.log) < 100, Select("sum", On("Add", add)))),
        Step("bake", bake),
        While("unpaid", lambda w: len(w.log) < 100, Select("till", On("Pay", pay, buffered=True))),
    )


async def baking(world: World, seconds: float = 6) -> asyncio.Task[Delivered]:
    """The step has been running for so long."""
    await world.create()
    running = ensure_future(world.process.perform(world.queue.resumes[0]))
    await world.clock.advance(seconds)
    return running


async def baked(world: World, running: asyncio.Task[Delivered]) -> list[str]:
    """The step ends, and what was kept is delivered: gives the log."""
    GATE.open()
    await world.finish(running)
    await world.pass_time(timedelta(minutes=3))
    assert not await world.store.inbox("shop", ID)
    log: list[str] = (await world.fields()).log
    return log


async def send(world: World, event: str, amount: Any, process: Process | None = None, **kwargs: Any) -> bytes:
    process = process or world.process
    response: bytes = await world.finish(process.post(event, json.dumps(amount).encode(), **kwargs))
    return response


async def outcome(world: World, token: str) -> Outcome | None:
    return await world.start().engine.outcome("shop", ID, token)


@in_world(Shop)
async def test_a_buffered_event_is_kept_while_a_step_runs(world: World) -> None:
    running = await baking(world)
    before = world.now
    assert [await send(world, "Pay", amount) for amount in (1, 2, 3)] == [BUFFERED] * 3
    assert world.now == before, "at once"
    assert await baked(world, running) == ["baked", "pay 1", "pay 2", "pay 3"]
    check_idle(world.process)


@in_world(Shop)
async def test_before_it_is_known_that_the_step_takes_long_an_event_waits(world: World) -> None:
    running = await baking(world, seconds=1)
    before = world.now
    assert await send(world, "Pay", 1) == BUFFERED
    assert timedelta(seconds=4) <= world.now - before < timedelta(seconds=5)
    assert await baked(world, running) == ["baked", "pay 1"]


@in_world(Shop)
async def test_the_outcomes_of_events_that_are_decided_later(world: World) -> None:
    running = await baking(world)
    for token, amount in (("a", 1), ("b", 13), ("c", 2)):
        assert await send(world, "Add", amount, outcome=token) == LATER
        waiting = await outcome(world, token)
        assert waiting is not None
        assert waiting.waits
    assert await baked(world, running) == ["baked", "add 1", "add 2"]
    assert await outcome(world, "a") == Outcome('"sum 1"')
    assert await outcome(world, "b") == Outcome(error="EventRejected", text="not thirteen")
    assert await outcome(world, "c") == Outcome('"sum 2"')
    assert await outcome(world, "d") is None
    assert await world.history("event rejected") == [("event rejected", "Add")]
    await world.clock.advance_to(world.now + world.options.key_ttl)
    assert await outcome(world, "a") is None, "it is forgotten like a key"


@in_world(Shop)
async def test_without_a_long_step_the_answer_comes_at_once(world: World) -> None:
    await world.create()
    assert await send(world, "Add", 1, outcome="a") == b'"sum 1"'
    assert await outcome(world, "a") is None


@in_world(Shop)
async def test_an_event_that_may_not_be_kept_is_refused_as_busy(world: World) -> None:
    running = await baking(world)
    with pytest.raises(Busy):
        await send(world, "Add", 1)
    with pytest.raises(Busy):
        await send(world, "Pay", 1, thread_id="main")
    assert await baked(world, running) == ["baked"]


@pytest.mark.parametrize("about", [{}, {"outcome": "a"}])
@in_world(Shop)
async def test_invalid_input_is_refused_before_it_is_kept(world: World, about: Any) -> None:
    running = await baking(world)
    with pytest.raises(InvalidInput):
        await send(world, "Pay", "much", **about)
    assert await baked(world, running) == ["baked"]


@in_world(Shop, options=EngineOptions(buffer_max=2))
async def test_no_more_are_kept_than_are_buffered(world: World) -> None:
    running = await baking(world)
    assert [await send(world, "Add", amount, outcome=f"{amount}") for amount in (1, 2)] == [LATER] * 2
    with pytest.raises(Busy, match="2 events already wait"):
        await send(world, "Add", 3, outcome="3")
    assert await outcome(world, "3") is None
    assert await baked(world, running) == ["baked", "add 1", "add 2"]


# --- each once -------------------------------------------------------------------------------


@in_world(Shop)
async def test_under_a_key_it_is_kept_once(world: World) -> None:
    running = await baking(world)
    about: Any = {"key": "k", "outcome": "a"}
    assert [await send(world, "Add", 1, **about) for _ in range(3)] == [LATER] * 3
    assert [await send(world, "Pay", 2, key="p") for _ in range(3)] == [BUFFERED] * 3
    assert await baked(world, running) == ["baked", "add 1", "pay 2"]
    assert await send(world, "Add", 1, **about) == b'"sum 1"', "a repeated request gets the response"
    assert await send(world, "Pay", 2, key="p") == BUFFERED
    with pytest.raises(IdempotencyKeyReused):
        await send(world, "Add", 2, key="k")


@in_world(Shop)
async def test_a_post_that_arrives_again_after_its_event_was_decided_is_discarded(world: World) -> None:
    running = await baking(world)
    await send(world, "Add", 1, outcome="a")
    (entry,) = await world.store.inbox("shop", ID)
    assert await baked(world, running) == ["baked", "add 1"]
    await world.store.post(entry)
    await world.process.engine._inbox.try_collect(InstanceRef(Shop, ID))
    assert not await world.store.inbox("shop", ID)
    assert (await world.fields()).log == ["baked", "add 1"]
    assert await outcome(world, "a") == Outcome('"sum 1"')


@in_world(Shop)
async def test_a_post_that_arrives_again_after_its_event_was_rejected_is_discarded(world: World) -> None:
    running = await baking(world)
    await send(world, "Add", 13, outcome="a")
    (entry,) = await world.store.inbox("shop", ID)
    assert await baked(world, running) == ["baked"]
    await world.store.post(entry)
    await world.process.engine._inbox.try_collect(InstanceRef(Shop, ID))
    assert not await world.store.inbox("shop", ID)
    assert await outcome(world, "a") == Outcome(error="EventRejected", text="not thirteen")
    check_idle(world.process)


@in_world(Shop)
async def test_an_event_that_is_rejected_delays_no_event_behind_it(world: World) -> None:
    running = await baking(world)
    for token, amount in (("a", 13), ("b", 1)):
        assert await send(world, "Add", amount, outcome=token) == LATER
    world.process.fault("inbox", before=Unavailable("the process that runs the step does not collect"))
    GATE.open()
    await world.finish(running)
    before = world.now
    assert await send(world, "Add", 2, world.start()) == b'"sum 2"'
    assert (await world.fields()).log == ["baked", "add 1", "add 2"]
    assert world.now == before, "at once"
    assert await outcome(world, "a") == Outcome(error="EventRejected", text="not thirteen")


@pytest.mark.parametrize("applied", [False, True])
@pytest.mark.parametrize("name", ["post", "commit", "inbox", "load", "load_key", "create_task", "discard"])
@pytest.mark.parametrize("nth", [1, 2, 3])
@in_world(Shop)
async def test_a_call_fails(world: World, name: str, nth: int, applied: bool) -> None:
    running = await baking(world)
    other = world.start()
    for process in (world.process, other):
        process.unavailable(name, nth, applied=applied)
    sent = []
    for amount in (1, 2, 3):
        for _ in range(5):
            try:
                sent.append(await send(world, "Add", amount, other, key=f"{amount}", outcome=f"{amount}"))
                break
            except Unavailable:
                continue
    assert sent == [LATER] * 3
    GATE.open()
    await world.finish(asyncio.wait([running]))
    await world.pass_time(timedelta(minutes=3))
    await world.process.engine.recover()
    await world.pass_time(timedelta(minutes=3))
    assert (await world.fields()).log == ["baked", "add 1", "add 2", "add 3"]
    assert [await outcome(world, f"{amount}") for amount in (1, 2, 3)] == [Outcome(f'"sum {n}"') for n in (1, 2, 3)]


# --- in order --------------------------------------------------------------------------------


@in_world(Shop)
async def test_a_later_event_of_another_process_does_not_overtake(world: World) -> None:
    running = await baking(world)
    assert await send(world, "Add", 1, outcome="a") == LATER
    world.process.fault("inbox", before=Unavailable("the process that runs the step does not collect"))
    GATE.open()
    await world.finish(running)
    assert (await world.fields()).log == ["baked"]
    assert await send(world, "Add", 2, world.start()) == b'"sum 2"'
    assert (await world.fields()).log == ["baked", "add 1", "add 2"]


@in_world(Shop)
async def test_clocks_that_differ_do_not_change_the_order(world: World) -> None:
    running = await baking(world)
    await send(world, "Add", 1, outcome="a")
    other = world.start()
    behind = world.clock.now() - timedelta(seconds=5)
    other.engine.clock = other.engine._committer.clock = type(world.clock)(behind)
    assert await other.post("Add", b"2", outcome="b") == LATER
    assert await baked(world, running) == ["baked", "add 1", "add 2"]


@in_world(Shop)
async def test_the_lease_ends_while_an_event_is_being_kept(world: World) -> None:
    """Another process has looked into the inbox just before the event arrives there."""
    running = await baking(world)
    other = world.start()

    async def end() -> None:
        GATE.open()
        await asyncio.wait([running])
        assert await world.start().post("Add", b"1") == b'"sum 1"'

    other.fault("post", before=end)
    sending = ensure_future(other.post("Add", b"2", outcome="b"))
    assert await world.finish(sending) == LATER
    assert (await world.fields()).log == ["baked", "add 1", "add 2"], "decided before the answer"
    assert await outcome(world, "b") == Outcome('"sum 2"')


@pytest.mark.parametrize("seconds", [15, 60])
@in_world(Shop)
async def test_an_event_that_may_be_in_the_inbox_is_not_said_to_be_without_effect(world: World, seconds: int) -> None:
    """The lease ends before it is answered, and then the next event of the lane takes long to be kept."""
    running = await baking(world)
    other = world.start()

    async def end() -> None:
        GATE.open()
        await asyncio.wait([running])

    other.fault("post", before=end)
    other.fault("inbox", 2, before=lambda: world.clock.sleep(seconds))
    sending = [ensure_future(other.post("Add", b"%d" % amount, outcome=f"{amount}")) for amount in (1, 2)]
    await world.finish(asyncio.wait(sending))
    if seconds < 30:
        assert sending[0].result() == LATER
    else:
        assert str(sending[0].exception()) == "the instance may have kept 'Add', and may handle it later; try again"
    await world.pass_time(timedelta(minutes=3))
    assert (await world.fields()).log == ["baked", "add 1", "add 2"]


RUNS: list[int] = []


class Counting(Workflow, name="shop"):
    """An activity runs beside the step."""

    log: list[str] = []

    async def bake(self) -> None:
        await GATE.wait()

    def add(self, amount: int) -> None:
        self.log.append(f"add {amount}")

    def counted(self) -> None:
        self.log.append("counted")

    definition = S(
        Go("counter", Select("sum", On("Add", add))),
        Go("counting", Activity("count", lambda: RUNS.append(1), then=counted)),
        Step("bake", bake),
        WaitFor("done", lambda w: len(w.log) == 2),
    )


@in_world(Counting)
async def test_a_result_before_an_event_that_takes_long_to_be_kept_is_posted(world: World) -> None:
    RUNS.clear()
    running = await baking(world)
    other = world.start()
    (task,) = [task for task in world.queue.tasks.values() if task.path == ACTIVITY_PATH]
    other.fault("inbox", before=lambda: world.clock.sleep(20))
    counting = ensure_future(other.perform(task))
    await world.clock.advance(1)
    assert RUNS == [1]
    assert await send(world, "Add", 1, other, outcome="a") == LATER
    assert await world.finish(counting) is Delivered.DONE
    GATE.open()
    await world.finish(running)
    await world.pass_time(timedelta(minutes=3))
    assert RUNS == [1], "the result was not lost"
    assert sorted((await world.fields()).log) == ["add 1", "counted"]


# --- the instance ends, or pauses ------------------------------------------------------------


@in_world(Shop)
async def test_when_the_instance_is_canceled_the_outcome_says_so(world: World) -> None:
    running = await baking(world)
    await send(world, "Add", 1, outcome="a")
    await send(world, "Pay", 2)
    await world.finish(world.start().engine.operate("shop", ID, Cancel()))
    await world.finish(running)
    await world.pass_time(timedelta(minutes=3))
    refused = await outcome(world, "a")
    assert refused is not None
    assert (refused.error, refused.details) == ("EventNotAccepted", {"accepted": [], "instance_status": "canceled"})
    assert await world.history("event rejected") == [("event rejected", "Add"), ("event rejected", "Pay")]
    assert not await world.store.inbox("shop", ID)


@in_world(Shop)
async def test_a_pause_refuses_nothing_that_was_kept(world: World) -> None:
    running = await baking(world)
    await send(world, "Add", 1, outcome="a")
    await world.finish(world.start().engine.operate("shop", ID, Pause()))
    await world.finish(running)
    await world.pass_time(timedelta(minutes=3))
    waiting = await outcome(world, "a")
    assert waiting is not None
    assert waiting.waits
    await world.finish(world.process.engine.operate("shop", ID, Unpause()))
    assert (await world.fields()).log == ["add 1"]


# --- what it costs ---------------------------------------------------------------------------


@in_world(Shop)
async def test_an_event_costs_no_read_more_unless_a_long_step_came_before(world: World) -> None:
    running = await baking(world, seconds=4.9)
    GATE.open()
    await world.finish(running)
    with world.process.calls() as calls:
        await send(world, "Add", 1)
    assert calls == ["commit"], "this process has made the last commit"


@in_world(Shop)
async def test_after_a_long_step_one_event_costs_one_read_more(world: World) -> None:
    running = await baking(world)
    GATE.open()
    with world.process.calls() as calls:
        await world.finish(running)
    assert calls == ["commit", "inbox"], "the end of a long step: what was kept is decided at once"
    with world.process.calls() as calls:
        await send(world, "Add", 1)
        await send(world, "Add", 2)
    assert calls == ["load", "inbox", "commit", "commit"]
