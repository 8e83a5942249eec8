"""Children that are canceled with their parent, or because another child could not be started. What fails is tried
again, and holds nothing up."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from cloud_adapter.document import Instance
from cloud_adapter.engine.operations import Cancel, Pause, SetFields
from cloud_adapter.engine.task_handler import Outcome
from cloud_adapter.errors import Conflict
from tests.engine.family import HOUR, OPTIONS, Kid, Mother, change, entries, kid, link, operate
from tests.engine.harness import World, in_world, nothing
from tests.waits import the
from workflow_core import (
    Child,
    ErrorInfo,
    ForEach,
    On,
    S,
    Select,
    Try,
    Workflow,
)
from workflow_core.wait_types import ChildTeardown


class Family(Workflow, name="family"):
    names: list[str] = ["ann", "bob", "cid"]
    log: list[str] = []

    def note(self, error: ErrorInfo) -> None:
        self.log.append(f"{error.type} of {error.statement}: {error.message}")

    definition = S(
        Try(
            "care",
            ForEach("each", lambda w: w.names, Child("kid", Kid, id=lambda w, item: item), parallel=True),
        ).except_(Exception, then=note, name="sad"),
        Select("end", On("End", nothing)),
    )


@pytest.mark.parametrize("taken", ["ann", "bob", "cid"])
@in_world(Family, Kid, options=OPTIONS)
async def test_one_that_cannot_be_started_cancels_the_others_those_that_are_not_started_yet_too(
    world: World, taken: str
) -> None:
    await world.finish(world.process.engine.create("kid", taken))
    foreign = await kid(world, taken)
    await world.started()
    (line,) = (await world.fields()).log
    assert line.startswith("ChildFailed of kid: ") and f"'{taken}'" in line
    assert await kid(world, taken) == foreign
    for name in {"ann", "bob", "cid"} - {taken}:
        child = await kid(world, name)
        assert child.execution.status == "canceled"
        assert (await link(world, name)).told
        assert Kid.load_fields(child.fields).log == ["tidy"]
    instance = await world.instance()
    assert instance.execution.teardowns == []
    assert [thread.step for thread in instance.execution.threads] == ["end"]
    kinds = ("setup", "setup failed", "teardown", "child", "child failed")
    noted = [one.kind for one in await entries(world, *kinds, workflow="family")]
    assert noted == ["setup"] * ["ann", "bob", "cid"].index(taken) + ["setup failed"] + ["teardown"] * 2
    assert world.queue.tasks == {}


@in_world(Family, Kid, options=OPTIONS)
async def test_a_cancellation_of_another_that_fails_holds_nothing_up(world: World) -> None:
    """One child cannot be started, and one that was started cannot be canceled at first."""
    await world.finish(world.process.engine.create("kid", "cid"))
    commit = world.store.commit

    async def spoiling(instance: Instance, *args: Any, **kwargs: Any) -> Any:
        stored = await commit(instance, *args, **kwargs)
        if instance.workflow == "family" and len(instance.execution.teardowns) == 2:
            await change(world, "kid", "ann", number="no number")
        return stored

    world.store.commit = spoiling  # type: ignore[method-assign]
    await world.started()
    world.store.commit = commit  # type: ignore[method-assign]
    assert len((await world.fields()).log) == 1
    instance = await world.instance()
    assert instance.execution.threads[0].step == "end", "the thread goes on"
    teardown = the(ChildTeardown, instance.execution.teardowns)
    assert (teardown.child["id"], teardown.attempt, teardown.status) == ("ann", 1, "teardown_error")
    assert (await kid(world, "bob")).execution.status == "canceled"
    await operate(world, SetFields(fields={"number": 1}), workflow="kid", id="ann")
    await world.pass_time(timedelta(seconds=1))
    assert (await kid(world, "ann")).execution.status == "canceled"
    assert (await world.instance()).execution.teardowns == []
    assert world.queue.tasks == {}


async def canceled_while_unreadable(world: World) -> None:
    await world.started()
    await change(world, "kid", "kid-1", number="no number")
    await operate(world, Cancel())


async def fails_to_cancel(world: World, delays: tuple[float, ...], error: str) -> None:
    for number, delay in enumerate(delays, 1):
        for task in [task for task in world.queue.resumes if task.body["workflow"] == "mother"]:
            await world.process.deliver(task)
        instance = await world.instance()
        teardown = the(ChildTeardown, instance.execution.teardowns)
        assert (teardown.status, teardown.attempt) == ("teardown_error", number)
        assert teardown.retry_at == instance.wake_at
        assert teardown.error is not None and teardown.error.startswith(error)
        noted = await entries(world, "teardown", "teardown failed")
        assert [(one.kind, one.statement, one.error) for one in noted][-1] == (
            "teardown failed",
            "kid",
            teardown.error,
        )
        assert len(noted) == number
        assert noted[-1].at + timedelta(seconds=delay) == teardown.retry_at
        assert instance.execution.status == "canceled", "the parent does not wait for it"
        assert (await kid(world)).execution.status == "waiting"
        await world.clock.advance_to(max(world.now, teardown.retry_at))


@in_world(Mother, Kid, options=OPTIONS)
async def test_a_cancellation_that_fails_is_tried_again(world: World) -> None:
    await canceled_while_unreadable(world)
    await fails_to_cancel(world, (1, 2), "InvalidFields: ")
    await operate(world, SetFields(fields={"number": 1}), workflow="kid", id="kid-1")
    await world.deliver()
    stopped = (await kid(world)).execution
    assert (stopped.status, Kid.load_fields((await kid(world)).fields).log) == ("canceled", ["tidy"])
    instance = await world.instance()
    assert (instance.execution.teardowns, instance.wake_at) == ([], None)
    assert [one.kind for one in await entries(world, "cancel", workflow="kid", id="kid-1")] == ["cancel"]
    assert world.queue.tasks == {}


@in_world(Mother, Kid, options=OPTIONS)
async def test_a_cancellation_is_given_up_after_the_attempts_of_the_engine_s_policy(world: World) -> None:
    await canceled_while_unreadable(world)
    await fails_to_cancel(world, (1, 2), "InvalidFields: ")
    await world.deliver()
    instance = await world.instance()
    teardown = the(ChildTeardown, instance.execution.teardowns)
    assert (teardown.status, teardown.attempt, teardown.retry_at) == ("teardown_error", 3, None)
    assert instance.wake_at is None
    before = instance
    await world.pass_time(HOUR)
    assert await world.instance() == before
    assert world.queue.tasks == {}


@in_world(Mother, Kid, options=replace(OPTIONS, max_wait=timedelta(seconds=0.2)))
async def test_a_child_to_which_others_commit_all_the_time_is_canceled_later(world: World) -> None:
    await world.started()
    commit, is_busy = world.store.commit, True

    async def losing(instance: Instance, *args: Any, **kwargs: Any) -> Any:
        if is_busy and instance.workflow == "kid":
            raise Conflict("others were faster")
        return await commit(instance, *args, **kwargs)

    world.store.commit = losing  # type: ignore[method-assign]
    await operate(world, Cancel())
    await fails_to_cancel(world, (1, 2), "Busy: ")
    is_busy = False
    world.queue.tasks = {task.name: task for task in world.queue.resumes if task.body["workflow"] == "mother"}
    await world.deliver()
    assert (await kid(world)).execution.status == "canceled"
    assert (await world.instance()).execution.teardowns == []
    assert [one.kind for one in await entries(world, "cancel", workflow="kid", id="kid-1")] == ["cancel"]


@in_world(Mother, Kid, options=OPTIONS)
async def test_a_child_is_canceled_while_its_step_runs_and_the_step_has_no_effect(world: World) -> None:
    await world.started()
    await world.finish(world.process.engine.handle_event("kid", "kid-1", "Work"))
    (resume,) = world.queue.resumes
    other = world.start()
    running = asyncio.ensure_future(other.perform(resume))
    await world.clock.settle()
    del world.queue.tasks[resume.name]
    await operate(world, Cancel())
    await world.deliver()
    child = await kid(world)
    assert (child.execution.canceling, child.execution.status) == (True, "running")
    assert child.lease is not None
    assert (await world.instance()).execution.teardowns == [], "the child is being canceled"
    await world.clock.advance(20)  # the renewal of its lease finds out
    assert await world.finish(running) is Outcome.DONE
    await world.pass_time(timedelta(minutes=2))
    child = await kid(world)
    assert (child.execution.status, Kid.load_fields(child.fields).log) == ("canceled", ["tidy"])
    assert (await link(world)).told
    assert (await world.instance()).execution.status == "canceled"
    assert world.queue.tasks == {}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("paused", "canceled"),
        ("canceling", "canceled"),
        ("canceled", "canceled"),
        ("finished", "finished"),
        ("failed", "failed"),
    ],
)
@in_world(Mother, Kid, options=OPTIONS)
async def test_a_child_in_any_state_is_canceled_with_its_parent_unless_it_has_ended(
    world: World, before: str, after: str
) -> None:
    await world.started()
    await operate(world, Pause())  # so that it does not hear of an end
    if before in ("finished", "failed"):
        await world.finish(
            world.process.engine.handle_event("kid", "kid-1", "Grow" if before == "finished" else "Fall")
        )
    else:
        await operate(world, Pause() if before == "paused" else Cancel(), workflow="kid", id="kid-1")
    if before != "canceling":
        await world.deliver()
        assert (await kid(world)).execution.status == before
    await operate(world, Cancel())
    await world.pass_time(timedelta(minutes=5))
    assert (await kid(world)).execution.status == after
    assert (await link(world)).told
    instance = await world.instance()
    assert (instance.execution.status, instance.execution.teardowns) == ("canceled", [])
    assert [one.kind for one in await entries(world, "child", "child failed", "teardown")] == ["teardown"]
    assert (await world.fields()).log == []
    assert world.queue.tasks == {}
