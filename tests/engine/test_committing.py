"""What a commit calls, and when: tasks are created before it, timers deleted after it, many at a time."""

from __future__ import annotations

import asyncio
import logging
from asyncio import ensure_future
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import ClassVar

import pytest

from cloud_adapter.document import InboxEntry, Instance, KeyRecord
from cloud_adapter.engine.commits import concurrently
from cloud_adapter.engine.refs import InstanceRef
from cloud_adapter.errors import Conflict, InvalidRequest, Unavailable
from cloud_adapter.ports import Task
from tests.engine.harness import ID, Killed, World, in_world
from workflow_core import Go, On, Retry, S, Select, Sleep, Step, WaitFor, Workflow

TIMERS = 50
CALLS_MAX = 20


class Timers(Workflow, name="timers"):
    n: int = 0

    def begin(self) -> None:
        self.n += 1

    definition = S(
        Select("wait", On("Begin", begin)),
        S(*(Go(f"thread {n}", Sleep(f"sleep {n}", timedelta(hours=1))) for n in range(TIMERS))),
        Select("end", On("End", begin)),
    )


@dataclass
class SlowQueue:
    """Lets each call of the world's queue take a second, and counts them."""

    world: World
    errors: dict[int, BaseException] = field(default_factory=dict)
    calls: Counter[str] = field(default_factory=Counter)
    running: int = 0
    most: int = 0

    def __post_init__(self) -> None:
        self.world.queue.calls_max = CALLS_MAX
        self.real_create, self.real_delete = self.world.queue.create, self.world.queue.delete
        self.world.queue.create = self.create  # type: ignore[method-assign]
        self.world.queue.delete = self.delete  # type: ignore[method-assign]

    async def create(self, task: Task) -> None:
        await self._call("create")
        await self.real_create(task)

    async def delete(self, name: str) -> None:
        await self._call("delete")
        await self.real_delete(name)

    async def _call(self, name: str) -> None:
        self.calls[name] += 1
        error = self.errors.get(self.calls[name])
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await self.world.clock.sleep(1)
            if error is not None:
                raise error
        finally:
            self.running -= 1


@in_world(Timers)
async def test_tasks_are_created_and_deleted_some_at_a_time(world: World) -> None:
    await world.started()
    queue, before, version = SlowQueue(world), world.now, (await world.instance()).version
    sending = ensure_future(world.process.post("Begin"))
    await world.clock.settle()
    await world.clock.advance(2)
    assert (await world.instance()).version == version, "not before all tasks exist"
    await world.finish(sending)
    assert len(world.queue.timers) == TIMERS
    assert (queue.most, world.now - before) == (CALLS_MAX, timedelta(seconds=3))

    before, queue.most = world.now, 0
    await world.send("End")
    assert (await world.instance()).execution.status == "finished"
    assert world.queue.timers == []
    assert (queue.most, world.now - before) == (CALLS_MAX, timedelta(seconds=3))


class Few(Workflow, name="few"):
    definition = S(
        Select("wait", On("Begin", lambda w: None)),
        Go("beside", Sleep("long", timedelta(hours=1))),
        Sleep("short", timedelta(minutes=1)),
    )


@in_world(Few)
async def test_nothing_has_a_turn_between_the_tasks_of_a_local_queue_and_their_commit(world: World) -> None:
    await world.started()
    order: list[str] = []
    create = world.queue.create

    async def at_once(task: Task) -> None:
        await create(task)
        asyncio.get_running_loop().call_soon(order.append, "delivery")

    async def commit() -> None:
        order.append("commit")

    world.queue.create = at_once  # type: ignore[method-assign]
    world.process.fault("commit", before=commit)
    await world.send("Begin")
    assert order == ["commit", "delivery", "delivery"]


@pytest.mark.parametrize("error", [Unavailable("cut"), InvalidRequest("no"), Killed()])
@in_world(Timers)
async def test_a_creation_that_fails_ends_the_others_and_nothing_is_committed(
    world: World, error: BaseException
) -> None:
    await world.started()
    queue, before = SlowQueue(world, {1: error, 2: Unavailable("later")}), await world.instance()
    with pytest.raises(type(error)) as raised:
        await world.send("Begin")
    assert raised.value is error
    assert (queue.running, queue.calls["create"]) == (0, CALLS_MAX)
    await world.clock.advance(10)
    assert queue.calls["create"] == CALLS_MAX, "nothing goes on"
    assert await world.instance() == before
    assert await world.send("Begin") is None


@in_world(Timers)
async def test_a_request_that_is_cancelled_once_its_commit_is_under_way_has_its_whole_effect(world: World) -> None:
    await world.started()
    queue = SlowQueue(world)
    sending = ensure_future(world.process.post("Begin"))
    await world.clock.settle()
    sending.cancel()
    await asyncio.wait([sending])
    assert sending.cancelled()
    await world.clock.advance(1)
    await world.clock.advance(1)
    await world.clock.advance(1)
    assert (queue.running, queue.calls["create"], len(world.queue.timers)) == (0, TIMERS, TIMERS)
    assert (await world.fields()).n == 1


@in_world(Timers)
async def test_a_request_that_is_cancelled_before_it_was_decided_has_no_effect(world: World) -> None:
    await world.started()
    SlowQueue(world)
    first = ensure_future(world.process.post("Begin"))
    await world.clock.settle()
    second = ensure_future(world.process.post("End"))
    await world.clock.settle()
    second.cancel()
    await world.finish(first)
    await world.clock.advance(10)
    assert second.cancelled()
    assert (await world.fields()).n == 1
    assert (await world.instance()).execution.status == "waiting"


@pytest.mark.parametrize("error", [Unavailable("cut"), InvalidRequest("'damaged name' cannot be a task's name")])
@in_world(Timers)
async def test_a_timer_that_cannot_be_deleted_stays_behind(
    world: World, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    await world.started()
    await world.send("Begin")
    SlowQueue(world, {1: error})
    caplog.set_level(logging.WARNING, "gorchestrate")
    assert await world.send("End") is None
    assert (await world.fields()).n == 2
    assert len(world.queue.timers) == 1
    assert "timer not deleted" in caplog.text
    await world.pass_time(timedelta(hours=2))
    assert world.queue.tasks == {}


class Flaky(Workflow, name="flaky"):
    answers: ClassVar[list[bool]] = []
    definition = S(
        Step("fail once", lambda w: None if ATTEMPTS.pop() else 1 / 0, retry=Retry(initial=timedelta(seconds=5))),
        WaitFor("sure", lambda w: bool(w.answers) and w.answers.pop()),
    )


ATTEMPTS: list[bool] = []


def recorded_pcs(world: World) -> list[int]:
    """The pc of each version of the document from now on."""
    pcs: list[int] = []
    commit = world.store.commit

    async def record(instance: Instance, keys: Sequence[KeyRecord] = (), taken: Sequence[InboxEntry] = ()) -> Instance:
        stored = await commit(instance, keys, taken)
        pcs.append(stored.execution.pc)
        return stored

    world.store.commit = record  # type: ignore[method-assign]
    return pcs


@in_world(Flaky)
async def test_a_lease_that_is_given_back_unused_is_a_version_with_a_pc_of_its_own(world: World) -> None:
    ATTEMPTS[:] = [True, False]
    pcs = recorded_pcs(world)
    await world.started()
    assert ATTEMPTS == [True]
    await world.clock.advance(5)

    async def clock_jumps_back() -> None:
        world.clock.jump(-2)

    world.process.fault("commit", after=clock_jumps_back)
    (task,) = world.queue.resumes
    await world.process.deliver(task)
    assert ATTEMPTS == [True], "the attempt is not due any more"
    await world.pass_time(timedelta(seconds=2))
    assert ATTEMPTS == []

    Flaky.answers[:] = [True]
    await world.process.deliver(task)
    assert Flaky.answers == []
    assert (await world.instance()).lease is None
    assert len(pcs) == 8
    assert pcs == sorted(set(pcs))


@in_world(Timers)
async def test_a_store_that_does_not_answer_gets_a_pause_before_each_further_call(world: World) -> None:
    await world.started()
    began = world.now
    world.process.unavailable("commit", applied=False)
    for nth in (2, 3, 4):  # after the load of the request, those that look whether the commit was applied
        world.process.unavailable("load", nth, applied=False)
    await world.send("Begin")
    # 40, 80 and 160 ms between the loads, 40 ms before the second commit, each with up to half of it as jitter.
    assert 0.16 <= (world.now - began).total_seconds() <= 0.32
    assert (await world.fields()).n == 1


@pytest.mark.parametrize("turns", [0, 1, 5])
@pytest.mark.parametrize("calls_max", [2, 3, 7, 50])
def test_when_one_of_several_calls_fails_the_others_have_ended(calls_max: int, turns: int) -> None:
    """A call that takes some turns to end must not go on beside what is done about the error."""
    begun: list[int] = []
    ended: list[int] = []

    async def call(number: int) -> None:
        begun.append(number)
        try:
            await asyncio.sleep(0)
            if number == 1:
                raise Unavailable("cut")
            await asyncio.Event().wait()
        finally:
            for _ in range(turns):
                await asyncio.sleep(0)
            ended.append(number)

    async def calls() -> None:
        with pytest.raises(Unavailable):
            await concurrently(call, range(10), calls_max)
        assert sorted(ended) == sorted(begun) == list(range(min(calls_max, 10)))
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(calls())


@pytest.mark.parametrize("error", [Conflict("others were faster"), Unavailable("cut")])
@in_world(Timers)
async def test_a_document_that_is_damaged_when_it_is_loaded_again_was_not_written(
    world: World, error: Exception
) -> None:
    """The commit has failed as the store says, whatever others have done to the document since."""
    await world.started()
    committer = world.process.engine.lanes.committer
    session = await committer.load(InstanceRef(Timers, ID))
    session.machine.tick()

    async def damage() -> None:
        await world.store.connections.run(
            lambda connection: connection.execute("UPDATE instances SET execution = '{'").close()
        )
        raise error

    world.process.fault("commit", before=damage)
    with pytest.raises(type(error), match=str(error)):
        await world.finish(committer.commit(session))
