"""Children: started once, awaited, reported to their parent once, and canceled with it."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from cloud_adapter.engine.commits import WRITE_ATTEMPTS_MAX
from cloud_adapter.engine.operations import Cancel, Terminate
from cloud_adapter.engine.registry import by_name
from cloud_adapter.engine.task_handler import Outcome
from cloud_adapter.errors import InstanceExists, Unavailable
from tests.engine.harness import Killed, World, in_world, write
from workflow_core import (
    Child,
    DefinitionError,
    ErrorInfo,
    EventNotAccepted,
    Fail,
    Go,
    If,
    On,
    S,
    Select,
    Step,
    Try,
    Workflow,
)
from workflow_core.wait_types import ChildWait


class Delivery(Workflow, name="delivery"):
    address: str = ""
    fails: bool = False
    log: list[str] = []

    def result(self) -> dict[str, Any]:
        return {"to": self.address, "steps": len(self.log)}

    definition = S(
        Step("drive", write("drive")),
        If("no such address", lambda w: w.fails, Fail("nobody there", "nobody opens")),
        Try("wait", Select("at the door", On("Sign", lambda w: None))).finally_(Step("drive back", write("back"))),
    )


class Shop(Workflow, name="shop"):
    address: str = "Main Street"
    fails: bool = False
    got: dict[str, Any] = {}
    log: list[str] = []

    def keep(self, result: dict[str, Any]) -> None:
        self.got = result

    def note(self, error: ErrorInfo) -> None:
        self.log.append(f"{error.type}: {error.message}")

    definition = S(
        Try(
            "delivered",
            Child(
                "deliver",
                Delivery,
                id=lambda w: "delivery-1",
                input=lambda w: {"address": w.address, "fails": w.fails},
                then=keep,
            ),
        ).except_(Exception, then=note, name="not delivered"),
        Select("end", On("End", lambda w: None)),
    )


class Leaflets(Workflow, name="leaflets"):
    log: list[str] = []
    definition = S(
        Child("throw in", "delivery", id="leaflet-1", detached=True),
        Step("next", write("next")),
        Select("end", On("End", lambda w: None)),
    )


async def child(world: World, id: str = "delivery-1") -> Any:
    return await world.store.load("delivery", id)


async def sign(world: World, id: str = "delivery-1") -> None:
    await world.finish(world.process.engine.handle_event("delivery", id, "Sign"))
    await world.deliver()


@in_world(Shop, Delivery)
async def test_the_parent_waits_for_the_child_and_gets_its_result(world: World) -> None:
    await world.started()
    started = await child(world)
    assert started.execution.parent.id == "order-1"
    assert Delivery.load_fields(started.fields).address == "Main Street"
    assert (await world.instance()).execution.status == "waiting"
    assert not world.queue.tasks, "both sleep"
    await sign(world)
    assert (await world.fields()).got == {"to": "Main Street", "steps": 2}
    assert (await child(world)).execution.parent.told
    assert (await child(world)).wake_at is None
    assert await world.history("setup", "child") == [("setup", "deliver"), ("child", "deliver")]


@in_world(Shop, Delivery)
async def test_an_outage_is_no_failed_attempt_to_start_it(world: World) -> None:
    await world.create()
    for nth in range(1, 2 * WRITE_ATTEMPTS_MAX + 1):
        world.process.unavailable("create", nth, applied=False)
    (task,) = world.queue.resumes
    assert await world.process.deliver(task) is Outcome.FAILED
    (wait,) = (await world.instance()).execution.threads[0].waits
    assert isinstance(wait, ChildWait)
    assert (wait.attempt, wait.retry_at, wait.error) == (0, None, None)
    await world.pass_time(timedelta(minutes=5))
    assert await world.history("setup", "setup failed") == [("setup", "deliver")]
    assert (await child(world)).execution.status == "waiting"


@in_world(Shop, Delivery)
async def test_its_failure_is_raised_at_the_statement(world: World) -> None:
    await world.started(fails=True)
    assert (await child(world)).execution.status == "failed"
    (line,) = (await world.fields()).log
    assert line == "ChildFailed: 'delivery' 'delivery-1' is failed: Failure: nobody opens"
    assert (await world.instance()).execution.threads[0].step == "end"


@in_world(Shop, Delivery)
async def test_its_cancellation_is_a_failure_too(world: World) -> None:
    await world.started()
    await world.finish(world.process.engine.operate("delivery", "delivery-1", Cancel()))
    await world.deliver()
    assert (await world.fields()).log == ["ChildFailed: 'delivery' 'delivery-1' is canceled"]


@in_world(Shop, Delivery)
async def test_canceling_the_parent_cancels_the_child(world: World) -> None:
    await world.started()
    await world.finish(world.process.engine.operate("shop", "order-1", Cancel()))
    await world.deliver()
    assert (await world.instance()).execution.status == "canceled"
    stopped = await child(world)
    assert stopped.execution.status == "canceled"
    assert Delivery.load_fields(stopped.fields).log == ["drive", "back"]
    assert stopped.execution.parent.told, "nobody listens any more, and that is all right"
    assert not world.queue.tasks


@in_world(Shop, Delivery)
async def test_terminating_the_parent_cancels_the_child(world: World) -> None:
    await world.started()
    await world.finish(world.process.engine.operate("shop", "order-1", Terminate()))
    await world.deliver()
    assert (await world.instance()).execution.status == "canceled"
    stopped = await child(world)
    assert (stopped.execution.status, stopped.execution.parent.told) == ("canceled", True)
    assert Delivery.load_fields(stopped.fields).log == ["drive", "back"]
    assert not world.queue.tasks


@in_world(Shop, Delivery)
async def test_an_id_that_is_taken_is_a_failure_without_another_attempt(world: World) -> None:
    await world.create()
    # The id is taken by an instance of somebody else.
    await world.finish(world.process.engine.create("delivery", "delivery-1"))
    await world.deliver()
    (line,) = (await world.fields()).log
    assert line.startswith("ChildFailed: ")
    assert "give the child another id" in line


@in_world(Shop, Delivery)
async def test_an_instance_of_that_id_that_is_somebody_else_s_is_not_canceled(world: World) -> None:
    await world.create()
    await world.finish(world.process.engine.create("delivery", "delivery-1"))
    await world.finish(world.process.engine.operate("shop", "order-1", Cancel()))
    await world.deliver()
    assert (await world.instance()).execution.status == "canceled"
    assert (await world.instance()).execution.teardowns == []
    assert (await child(world)).execution.status == "waiting"


@in_world(Shop, Delivery)
async def test_a_start_that_arrives_after_the_parent_was_canceled_finds_its_id_taken(world: World) -> None:
    """The canceling process cannot know whether the call of a dead process may still arrive."""
    await world.create()
    await world.finish(world.process.engine.operate("shop", "order-1", Cancel()))
    await world.deliver()
    assert (await world.instance()).execution.teardowns == []
    canceled = await child(world)
    assert (canceled.execution.status, canceled.execution.parent.wait_id) == ("canceled", "main@1")
    assert Delivery.load_fields(canceled.fields).log == [], "no step of it has run"
    with pytest.raises(InstanceExists):
        await world.store.create(replace(canceled, version=None))
    assert not world.queue.tasks


@in_world(Leaflets, Delivery)
async def test_a_detached_child_is_not_waited_for(world: World) -> None:
    await world.started()
    assert (await world.fields()).log == ["next"]
    assert (await child(world, "leaflet-1")).execution.status == "waiting"
    await world.finish(world.process.engine.operate("leaflets", "order-1", Cancel()))
    await world.deliver()
    assert (await child(world, "leaflet-1")).execution.status == "waiting", "it has its own life"


@in_world(Leaflets, Delivery)
async def test_the_end_of_a_detached_child_is_reported_to_nobody(world: World) -> None:
    await world.started()
    assert (await child(world, "leaflet-1")).execution.parent.told
    before = await world.instance()
    await sign(world, "leaflet-1")
    assert (await child(world, "leaflet-1")).execution.status == "finished"
    assert (await world.instance()).version == before.version


class Orphan(Workflow, name="orphan"):
    log: list[str] = []
    definition = S(Go("beside", Child("nobody", "leaflets")), Select("end", On("End", lambda w: None)))


def test_the_workflow_of_a_child_is_served_beside_its_parents() -> None:
    with pytest.raises(DefinitionError, match=r"Child 'nobody' of workflow 'orphan'.*'leaflets' is not served here"):
        by_name([Orphan])


@in_world(Orphan, Leaflets, Delivery)
async def test_a_workflow_that_is_no_longer_served_fails_the_parent(world: World) -> None:
    world.process.engine.workflows = {"orphan": Orphan}
    await world.started()
    execution = (await world.instance()).execution
    assert execution.status == "failed"
    assert execution.error is not None
    assert "unknown workflow 'leaflets'" in execution.error.message


@pytest.mark.parametrize("kind", ["dies", "unavailable"])
@pytest.mark.parametrize("applied", [False, True])
@pytest.mark.parametrize("call", ["create", "commit", "create_task", "load"])
@in_world(Shop, Delivery)
async def test_a_fault_at_each_call_of_the_start_and_of_the_end(
    world: World, call: str, applied: bool, kind: str
) -> None:
    """Whichever process dies, and wherever: the child is created once, and its end reaches the parent once."""
    await world.create()
    for nth in range(1, 7):
        process = world.start()
        error = Killed() if kind == "dies" else Unavailable("cut")
        process.fault(call, nth, before=None if applied else error, after=error if applied else None)
        for task in [task for task in world.queue.tasks.values() if task.at is None or task.at <= world.now]:
            try:
                await process.deliver(task)
            except Killed:
                process.die()
                break
        if nth == 3:
            await world.pass_time(timedelta(minutes=3))
            await sign_if_possible(world)
        await world.clock.advance(70)
    await world.pass_time(timedelta(minutes=10))
    await sign_if_possible(world)
    await world.pass_time(timedelta(minutes=10))
    assert (await world.fields()).got == {"to": "Main Street", "steps": 2}
    assert await world.history("child") == [("child", "deliver")]
    assert not world.queue.tasks


async def sign_if_possible(world: World) -> None:
    with suppress(EventNotAccepted):
        await sign(world)
