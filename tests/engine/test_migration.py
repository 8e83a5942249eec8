"""Instances whose fields older code has stored, and those that newer code has stored already."""

from __future__ import annotations

import json
import logging
from datetime import timedelta
from typing import Any

import pytest

from cloud_adapter.engine.operations import Cancel, Goto, Operation, Pause, SetFields
from cloud_adapter.engine.task_handler import Outcome
from tests.engine.harness import ID, World, in_world
from workflow_core import (
    Activity,
    ActivityContext,
    Child,
    EventNotAccepted,
    EventRejected,
    InvalidFields,
    NewerVersion,
    On,
    S,
    Select,
    Step,
    Timeout,
    Workflow,
)

DAY = timedelta(days=1)


def pay(w: Any) -> None:
    if w.paid:
        raise EventRejected("it is paid")
    w.paid = True


DEFINITION = S(
    Select("payment", On("Pay", pay), Timeout("never paid", DAY)),
    Select("end", On("End", lambda w: None)),
)


class First(Workflow, name="invoice"):
    search_fields = ("amount",)
    amount: float = 0
    paid: bool = False
    definition = DEFINITION


class Second(Workflow, name="invoice", version=2):
    search_fields = ("cents",)
    cents: int
    paid: bool = False
    definition = DEFINITION

    @classmethod
    def migrate(cls, version: int, fields: dict[str, Any]) -> dict[str, Any]:
        return {"cents": round(fields["amount"] * 100), "paid": fields["paid"]}


@in_world(First)
async def test_it_is_shown_migrated_and_stored_with_the_next_commit(world: World) -> None:
    await world.started(amount=9.5)
    before = await world.instance()
    new = world.start(Second)
    view = await new.engine.get("invoice", ID)
    assert view.workflow == Second(cents=950)
    assert json.loads(view.instance.fields) == {"cents": 950, "paid": False}
    assert await world.instance() == before

    await new.send("Pay")
    after = await world.instance()
    assert json.loads(after.fields) == {"cents": 950, "paid": True}
    assert after.execution.fields_version == 2
    assert after.search == {"cents": 950}
    await new.send("End")
    assert (await world.instance()).execution.status == "finished"


@in_world(First)
async def test_what_is_refused_migrates_nothing(world: World) -> None:
    await world.started(amount=9.5, paid=True)
    before = await world.instance()
    new = world.start(Second)
    for event, error in (("Pay", EventRejected), ("End", EventNotAccepted)):
        with pytest.raises(error):
            await new.send(event)
    assert await world.instance() == before


@in_world(First)
async def test_a_commit_that_keeps_the_fields_stores_them_migrated(world: World) -> None:
    await world.started(amount=9.5)
    new = world.start(Second)
    await world.finish(new.engine.operate("invoice", ID, Pause()))
    paused = await world.instance()
    assert (json.loads(paused.fields)["cents"], paused.execution.fields_version) == (950, 2)


@pytest.mark.parametrize(
    ("operation", "cents"), [(SetFields(fields={"paid": True}), 950), (SetFields(fields={"cents": 7}), 7)]
)
@in_world(First)
async def test_they_are_migrated_before_they_are_set(world: World, operation: Operation, cents: int) -> None:
    await world.started(amount=9.5)
    new = world.start(Second)
    view = await world.finish(new.engine.operate("invoice", ID, operation.model_copy(update={"dry_run": True})))
    assert view.workflow.cents == cents
    assert (await world.instance()).execution.fields_version == 1
    view = await world.finish(new.engine.operate("invoice", ID, operation))
    after = await world.instance()
    assert json.loads(after.fields) == view.workflow.model_dump()
    assert (after.execution.fields_version, after.search) == (2, {"cents": cents})
    assert (await new.engine.get("invoice", ID)).workflow == view.workflow


@in_world(First)
async def test_what_is_put_elsewhere_is_migrated_once(world: World) -> None:
    await world.started(amount=9.5)
    new = world.start(Second)
    await world.finish(new.engine.operate("invoice", ID, Goto(statement="end")))
    assert (await new.engine.get("invoice", ID)).workflow == Second(cents=950)


@in_world(Second)
async def test_older_code_sets_nothing_that_newer_code_has_stored(world: World) -> None:
    await world.started(cents=950)
    before = await world.instance()
    with pytest.raises(NewerVersion):
        await world.finish(world.start(First).engine.operate("invoice", ID, SetFields(fields={"paid": True})))
    assert await world.instance() == before


async def work(input: None, context: ActivityContext) -> None:
    await context.heartbeat()


BEATING = S(Activity("work", work, heartbeat=timedelta(minutes=1)), Select("end", On("End", lambda w: None)))


class FirstBeating(First, name="invoice"):
    definition = BEATING


class SecondBeating(Second, name="invoice"):
    definition = BEATING


@in_world(FirstBeating)
async def test_a_heartbeat_stores_them_migrated(world: World) -> None:
    await world.create(amount=9.5)
    new = world.start(SecondBeating)
    seen: list[tuple[Any, int, Any]] = []

    async def look() -> None:
        instance = await world.instance()
        seen.append((json.loads(instance.fields), instance.execution.fields_version, instance.search))

    new.fault("commit", 1, after=look)
    await world.deliver(new)
    assert seen == [({"cents": 950, "paid": False}, 2, {"cents": 950})]
    assert (await world.instance()).execution.threads[0].step == "end"


@in_world(Second)
async def test_an_instance_of_a_newer_version_is_left_to_the_newer_code(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    await world.started(cents=950)
    before = await world.instance()
    old = world.start(First)
    with pytest.raises(NewerVersion, match="saved by version 2 of workflow 'invoice', this code has version 1"):
        await old.send("Pay")
    with pytest.raises(NewerVersion):
        await old.engine.get("invoice", ID)
    with pytest.raises(NewerVersion):
        await world.finish(old.engine.operate("invoice", ID, Cancel()))
    await world.clock.advance(DAY.total_seconds())
    (timer,) = world.queue.timers
    caplog.set_level(logging.WARNING, "gorchestrate")
    assert await old.deliver(timer) is Outcome.NOT_YET
    assert "this code has version 1" in caplog.text
    assert await old.engine.recover() == 0
    assert await world.instance() == before
    assert timer.name in world.queue.tasks

    await world.pass_time(DAY)
    assert (await world.instance()).execution.threads[0].step == "end"


@in_world(Second)
async def test_what_was_done_under_a_key_is_answered_by_the_older_code_too(world: World) -> None:
    await world.started(cents=950)
    await world.send("Pay", key="k")
    assert await world.start(First).send("Pay", key="k") is None


class Unmigrated(Workflow, name="invoice", version=2):
    cents: int
    definition = DEFINITION


@in_world(First)
async def test_fields_that_cannot_be_migrated_are_left_as_they_are(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    await world.started(amount=9.5)
    before = await world.instance()
    bad = world.start(Unmigrated)
    with pytest.raises(InvalidFields, match="cents: Field required"):
        await bad.send("Pay")
    await world.clock.advance(DAY.total_seconds())
    (timer,) = world.queue.timers
    assert await bad.deliver(timer) is Outcome.DONE
    assert await world.instance() == before

    new = world.start(Second)
    assert await new.engine.recover() == 1
    await world.deliver(new)
    assert (await world.instance()).execution.threads[0].step == "end"


class Parent(Workflow, name="parent"):
    definition = S(Child("invoice", "invoice", id=ID), Step("end", lambda w: None))


class NewParent(Parent, name="parent", version=2):
    definition = S(Child("invoice", "invoice", id=ID), Step("end", lambda w: None))


class Part(Workflow, name="invoice"):
    definition = S(Select("end", On("End", lambda w: None)))


@in_world(Part, NewParent)
async def test_an_end_that_older_code_brings_to_a_newer_parent_is_taken_by_newer_code(world: World) -> None:
    await world.finish(world.process.engine.create("parent", "p"))
    await world.deliver()
    await world.send("End")
    old = world.start(Part, Parent)
    (told,) = world.queue.resumes
    assert await old.deliver(told) is Outcome.DONE
    assert (await world.instance()).execution.status == "finished"
    assert len(await world.store.inbox("parent", "p", 10)) == 1
    assert (await world.store.load("parent", "p")).execution.status == "waiting"
    await world.pass_time(timedelta(minutes=2))
    assert (await world.store.load("parent", "p")).execution.status == "finished"
