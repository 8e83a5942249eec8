"""What fails between a child and its parent: starting it, and reporting its end. Both are tried again. A start is given
up at some time, a report never, because the parent waits for it."""

from __future__ import annotations

from datetime import timedelta

import pytest

from cloud_adapter.engine.operations import Cancel, Goto, Pause, SetFields, Unpause
from tests.engine.family import HOUR, OPTIONS, Kid, Mother, change, entries, grow, kid, link, operate, start_and_die
from tests.engine.harness import ID, World, in_world, nothing
from tests.waits import the
from workflow_core import (
    Child,
    Done,
    ErrorInfo,
    On,
    Parent,
    S,
    Select,
    Try,
    While,
    Workflow,
)
from workflow_core.wait_types import ChildWait

# --- the report of the end -------------------------------------------------------------------


@pytest.mark.parametrize("why", ["paused", "damaged"])
@in_world(Mother, Kid, options=OPTIONS)
async def test_an_end_is_reported_again_and_again_until_the_parent_hears_it(world: World, why: str) -> None:
    await world.started()
    if why == "paused":
        await operate(world, Pause())
    else:
        await change(world, "mother", ID, number="no number")
    before = await world.instance()
    await grow(world)
    # One, two and then a hundred seconds: it is never given up, after more attempts than the policy has.
    for number, delay in enumerate((1, 2, 100, 100, 100), 1):
        await world.deliver()
        child, parent = await kid(world), await link(world)
        assert (parent.told, parent.attempt) == (False, number)
        assert parent.retry_at == child.wake_at == world.now + timedelta(seconds=delay)
        assert parent.error is not None
        assert ("is paused" if why == "paused" else "InvalidFields") in parent.error
        noted = await entries(world, "tell", "tell failed", workflow="kid", id="kid-1")
        assert [(one.kind, one.statement, one.error) for one in noted][-1] == ("tell failed", "kid", parent.error)
        assert len(noted) == number
        assert child.execution.status == "finished"
        assert await world.instance() == before
        await world.clock.advance(delay)
    if why == "paused":
        await operate(world, Unpause())
    else:
        await operate(world, SetFields(fields={"number": 1}))
    await world.deliver()
    parent = await link(world)
    assert (parent.told, parent.attempt, parent.retry_at, parent.error) == (True, 0, None, None)
    assert (await kid(world)).wake_at is None
    assert (await world.fields()).log == ["got 1000"]
    assert [one.statement for one in await entries(world, "child", "child failed")] == ["kid"]
    before = await world.instance()
    await world.pass_time(HOUR)
    assert await world.instance() == before
    assert len(await entries(world, "tell", workflow="kid", id="kid-1")) == 1


@pytest.mark.parametrize("is_leased", [True, False])
@in_world(Mother, Kid, options=OPTIONS)
async def test_an_end_that_comes_before_its_start_is_known_waits_for_it(world: World, is_leased: bool) -> None:
    """The parent's process died after it had created the child, and before it noted that. While its lease lasts, the
    end is posted to the inbox; later, it is reported again."""
    await world.create()
    task = await start_and_die(world)
    del world.queue.tasks[task.name]
    await world.clock.advance(30 if is_leased else 61)
    await grow(world)
    before = await world.instance()
    assert the(ChildWait, before.execution.threads[0].waits).status == "pending_setup"
    if is_leased:
        await world.pass_time(timedelta(minutes=3))
        assert (await link(world)).told
        assert len(await world.store.inbox("mother", ID)) == 1
    else:
        for number, delay in enumerate((1, 2, 100), 1):
            await world.deliver()
            parent = await link(world)
            assert (parent.told, parent.attempt) == (False, number)
            assert parent.retry_at == world.now + timedelta(seconds=delay)
            await world.clock.advance_to(parent.retry_at)
    assert await world.instance() == before
    assert await world.finish(world.process.engine.recover()) >= 1
    await world.pass_time(timedelta(minutes=5))
    assert (await world.fields()).log == ["got 1000"]
    noted = await entries(world, "setup", "setup failed", "child", "child failed")
    assert [(one.kind, one.statement) for one in noted] == [("setup", "kid"), ("child", "kid")]
    assert (await link(world)).told
    assert await world.store.inbox("mother", ID) == []
    assert [task.path for task in world.queue.tasks.values() if task not in world.queue.timers] == []


@in_world(Mother, Kid, options=OPTIONS)
async def test_a_result_that_cannot_be_computed_is_a_failure_at_the_parent(world: World) -> None:
    await world.started()
    await change(world, "kid", "kid-1", number=0)
    await grow(world)
    await world.deliver()
    (line,) = (await world.fields()).log
    assert line == "ZeroDivisionError of kid: integer division or modulo by zero"
    assert ((await kid(world)).execution.status, (await link(world)).told) == ("finished", True)
    assert [one.kind for one in await entries(world, "child", "child failed")] == ["child failed"]


@in_world(Mother, Kid, options=OPTIONS)
async def test_the_end_of_a_child_that_is_no_longer_waited_for_is_not_that_of_the_next_one(world: World) -> None:
    await world.started()
    await operate(world, Pause(), SetFields(fields={"number": 2}), Goto(statement="kid"), Unpause())
    await world.deliver()
    assert ((await kid(world)).execution.status, (await link(world)).told) == ("canceled", True)
    instance = await world.instance()
    assert instance.execution.threads[0].step == "kid"
    assert instance.execution.teardowns == []
    assert await entries(world, "child", "child failed") == []
    await grow(world, "kid-2")
    await world.deliver()
    assert (await world.fields()).log == ["got 500"]


@pytest.mark.parametrize("parent", [("mother", "nobody", "main@1", "kid"), ("mother", ID, "main@1", "end")])
@in_world(Mother, Kid, options=OPTIONS)
async def test_whose_parent_is_gone_or_waits_for_no_child_there_has_told_it(
    world: World, parent: tuple[str, str, str, str]
) -> None:
    await world.started()
    await world.finish(world.process.engine.create("kid", "orphan"))
    orphan = await kid(world, "orphan")
    orphan.execution.parent = Parent(*parent)
    await world.store.commit(orphan)
    before = await world.instance()
    await grow(world, "orphan")
    await world.deliver()
    assert (await link(world, "orphan")).told
    assert [one.kind for one in await entries(world, "tell", "tell failed", workflow="kid", id="orphan")] == ["tell"]
    assert await world.instance() == before
    assert not world.queue.resumes


# --- the start -------------------------------------------------------------------------------


async def unreadable(world: World) -> None:
    """The parent has created its child, and cannot find out: its process died, and the child cannot be loaded."""
    await world.create()
    await start_and_die(world)
    world.queue.tasks.clear()
    await change(world, "kid", "kid-1", number="no number")
    await world.clock.advance(60)
    assert await world.finish(world.process.engine.recover()) >= 1


async def fails_to_start(world: World, delays: tuple[float, ...]) -> None:
    """Each attempt to start the child fails, and the next one comes after its delay."""
    for number, delay in enumerate(delays, 1):
        await world.deliver()
        instance = await world.instance()
        wait = the(ChildWait, instance.execution.threads[0].waits)
        assert (wait.attempt, wait.status) == (number, "setup_error")
        assert wait.retry_at == instance.wake_at == world.now + timedelta(seconds=delay)
        noted = await entries(world, "setup", "setup failed")
        assert [(one.kind, one.statement, one.thread) for one in noted] == [("setup failed", "kid", "main")] * number
        assert noted[-1].error == wait.error
        assert wait.error is not None and wait.error.startswith("InvalidFields: ")
        assert (await world.fields()).log == []
        await world.send("Poke")  # another thread is not held up
        await world.clock.advance(delay)


@in_world(Mother, Kid, options=OPTIONS)
async def test_a_start_is_tried_again_with_the_delays_of_the_engine_s_policy(world: World) -> None:
    await unreadable(world)
    await fails_to_start(world, (1, 2))
    await operate(world, SetFields(fields={"number": 1}), workflow="kid", id="kid-1")
    await world.deliver()
    wait = the(ChildWait, (await world.instance()).execution.threads[0].waits)
    assert (wait.status, wait.attempt, wait.retry_at, wait.error) == ("set_up", 0, None, None)
    await grow(world)
    await world.deliver()
    assert (await world.fields()).log == ["got 1000"]


@in_world(Mother, Kid, options=OPTIONS)
async def test_a_start_that_is_given_up_is_a_failure_of_the_statement(world: World) -> None:
    await unreadable(world)
    await fails_to_start(world, (1, 2))
    await world.deliver()
    (line,) = (await world.fields()).log
    assert line.startswith("InvalidFields of kid: ")
    instance = await world.instance()
    assert (instance.execution.threads[0].step, instance.execution.teardowns) == ("end", [])
    assert len(await entries(world, "setup failed")) == 3
    assert instance.wake_at == world.now + timedelta(days=9)
    assert not world.queue.resumes, "there is no further attempt"


class Twins(Workflow, name="twins"):
    log: list[str] = []
    rounds: int = 0

    def keep(self, result: int) -> None:
        self.rounds += 1
        self.log.append(f"got {result}")

    def note(self, error: ErrorInfo) -> None:
        self.rounds += 1
        self.log.append(f"{error.type} of {error.statement}: {error.message}")

    definition = S(
        While(
            "again",
            lambda w: w.rounds < 2,
            Try("care", Child("kid", Kid, id="kid-1", then=keep)).except_(Exception, then=note, name="sad"),
        ),
        Select("end", On("End", nothing)),
    )


@in_world(Twins, Kid, options=OPTIONS)
async def test_the_child_of_an_earlier_wait_is_not_that_of_a_later_one(world: World) -> None:
    """Its id is taken, although by a child of the same parent and statement. Nobody waits for an end that was told."""
    await world.started()
    await grow(world)
    await world.deliver()
    first, second = (await world.fields()).log
    assert first == "got 1000"
    assert second.startswith("ChildFailed of kid: ")
    assert "give the child another id" in second
    assert (await world.instance()).execution.threads[0].step == "end"
    assert (await link(world)).wait_id == "main@1"


class Pair(Twins, name="pair"):
    definition = S(
        Try(
            "care",
            Select(
                "first of them",
                Done("one", Child("kid", Kid, id="kid-1", then=Twins.keep)),
                Done("other", Child("twin", Kid, id="kid-1", then=Twins.keep)),
            ),
        ).except_(Exception, then=Twins.note, name="sad"),
        Select("end", On("End", nothing)),
    )


@in_world(Pair, Kid, options=OPTIONS)
async def test_the_child_of_one_case_is_not_that_of_another_one(world: World) -> None:
    """Its id is taken, although by a child of the same select: no end would ever come to the other case."""
    await world.started()
    await world.deliver()
    (line,) = (await world.fields()).log
    assert line.startswith("ChildFailed of twin: ") and "give the child another id" in line
    assert (await link(world)).event == "kid"
    assert (await kid(world)).execution.status == "canceled"


class Aunt(Mother, name="aunt"):
    definition = S(Child("kid", Kid, id="kid-1", then=Mother.keep))


@in_world(Mother, Aunt, Kid, options=OPTIONS)
async def test_a_child_of_another_parent_is_neither_taken_nor_canceled(world: World) -> None:
    """Of another instance of the same workflow, and of an instance of the same id of another workflow."""
    await world.started()
    started = (await kid(world)).execution
    for workflow, id in (("mother", "mother-2"), ("aunt", ID)):
        await world.finish(world.process.engine.create(workflow, id))
        await operate(world, Cancel(), workflow=workflow, id=id)
        await world.deliver()
        canceled = (await world.store.load(workflow, id)).execution
        assert (canceled.status, canceled.teardowns) == ("canceled", [])
        assert (await kid(world)).execution == started
    await world.finish(world.process.engine.create("mother", "mother-3"))
    await world.deliver()
    (line,) = Mother.load_fields((await world.store.load("mother", "mother-3")).fields).log
    assert line.startswith("ChildFailed of kid: ") and "give the child another id" in line
    assert (await kid(world)).execution == started
