"""The first task of an instance that is delivered before the commit that creates the instance."""

from __future__ import annotations

import asyncio

import pytest

from cloud_adapter.engine.task_handler import Outcome
from tests.engine.harness import World, in_world, write
from workflow_core import Child, S, Step, Workflow


class Oven(Workflow, name="oven"):
    log: list[str] = []

    definition = S(Step("bake", write("baked")))


class Shop(Workflow, name="shop"):
    definition = S(Child("bake", Oven, id="oven-1"))


def deliver_at_the_creation(world: World) -> list[asyncio.Task[Outcome]]:
    """Delivers the last task just before the next instance is created. Returns the delivery, when there is one."""
    deliveries: list[asyncio.Task[Outcome]] = []

    async def deliver() -> None:
        deliveries.append(asyncio.ensure_future(world.process.perform(world.queue.resumes[-1])))
        await asyncio.sleep(0.01)  # it finds no instance, and waits

    world.process.fault("create", before=deliver)
    return deliveries


@pytest.mark.parametrize("is_child", [False, True])
@in_world(Shop, Oven)
async def test_it_continues_as_soon_as_the_instance_is_created(world: World, is_child: bool) -> None:
    if is_child:
        await world.create()
        (task,) = world.queue.resumes
    deliveries, begin = deliver_at_the_creation(world), world.now
    if is_child:
        assert await world.process.perform(task) is Outcome.DONE
    else:
        await world.process.engine.create("oven", "oven-1")
    await world.clock.settle()
    (delivery,) = deliveries
    assert delivery.done(), "it waits for some time to pass"
    assert delivery.result() is Outcome.DONE
    assert world.now == begin
    stored = await world.store.load("oven", "oven-1")
    assert Oven.load_fields(stored.fields).log == ["baked"]
