"""Ids of children: nobody can foresee them, and an instance that has one by chance is not taken for the child."""

from __future__ import annotations

from dataclasses import replace

from tests.engine.harness import ID, World, in_world
from workflow_core import Child, On, S, Select, Step, Workflow
from workflow_core.events import stable_key
from workflow_core.wait_types import ChildWait


class Kid(Workflow, name="kid"):
    by_parent: bool = False
    definition = S(Select("play", On("Stop", lambda w: None)))


class Parent(Workflow, name="parent"):
    definition = S(Child("start", Kid, input=lambda w: {"by_parent": True}), Step("end", lambda w: None))


FORESEEN = stable_key("parent", ID, "main@1", "start")
"""The id that older releases gave to the child."""


async def child_id(world: World) -> str:
    (wait,) = (await world.instance()).execution.threads[0].waits
    assert isinstance(wait, ChildWait)
    return str(wait.child["id"])


@in_world(Parent, Kid)
async def test_an_id_cannot_be_foreseen(world: World) -> None:
    await world.process.engine.create("kid", FORESEEN)
    await world.started()
    id = await child_id(world)
    assert id != FORESEEN
    assert (await world.process.engine.get("kid", id)).workflow.by_parent  # type: ignore[attr-defined]
    assert not (await world.process.engine.get("kid", FORESEEN)).workflow.by_parent  # type: ignore[attr-defined]


@in_world(Parent, Kid)
async def test_ids_differ_although_everything_else_is_the_same(world: World) -> None:
    await world.create(id="a")
    await world.create(id="b")
    ids = {
        wait.child["id"]
        for id in ("a", "b")
        for wait in (await world.instance(id)).execution.threads[0].waits
        if isinstance(wait, ChildWait)
    }
    assert len(ids) == 2


@in_world(Parent, Kid)
async def test_a_start_that_is_repeated_creates_one_child(world: World) -> None:
    """The id is stored before the start, so an attempt whose reply is lost starts the same child again."""
    await world.create()
    world.process.unavailable("create", applied=True)
    await world.deliver()
    page = await world.process.engine.list("kid")
    assert [instance.id for instance in page.instances] == [await child_id(world)]


@in_world(Parent, Kid)
async def test_an_instance_of_an_older_release_goes_on_with_its_id(world: World) -> None:
    await world.create()
    instance = await world.instance()
    (wait,) = instance.execution.threads[0].waits
    assert isinstance(wait, ChildWait)
    old = replace(wait, child=wait.child | {"id": FORESEEN})
    thread = replace(instance.execution.threads[0], waits=[old])
    await world.store.commit(replace(instance, execution=replace(instance.execution, threads=[thread])))
    await world.deliver()
    await world.process.engine.handle_event("kid", FORESEEN, "Stop")
    await world.deliver()
    assert (await world.instance()).execution.status == "finished"
