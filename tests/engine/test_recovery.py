"""``recover()``: whatever got lost outside of the database, an instance that should be moving is moved again."""

from __future__ import annotations

import asyncio
import logging
from asyncio import ensure_future
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from cloud_adapter.document import Lease
from cloud_adapter.engine.operations import Cancel, Pause
from cloud_adapter.errors import InvalidRequest, Unavailable
from tests.engine.harness import Gate, World, in_world, write
from workflow_core import Go, If, On, S, Select, Step, StepContext, Timeout, WaitFor, Workflow
from workflow_core.execution import Thread

GATE = Gate()
MINUTE = timedelta(minutes=1)


class Parcel(Workflow, name="parcel"):
    log: list[str] = []
    failures: int = 0
    hold: bool = False

    async def pack(self, step: StepContext) -> None:
        if self.hold:
            await GATE.wait()
        if step.attempt <= self.failures:
            raise ConnectionError("no tape")
        self.log.append("pack")

    definition = S(
        Select(
            "address",
            On("Send", lambda w: None, Go("label", Step("print label", write("label"))), Step("pack", pack)),
            On("Keep", lambda w: None),
            Timeout("forgotten", timedelta(hours=1), Step("return", write("return"))),
        ),
        Select("signature", On("Sign", lambda w: None), Timeout("lost", timedelta(days=30))),
    )


async def recover(world: World, **kwargs: Any) -> int:
    count: int = await world.finish(world.start().engine.recover(**kwargs))
    return count


@in_world(Parcel)
async def test_a_lost_resume_task(world: World) -> None:
    await world.create()
    await world.send("Send")
    world.queue.purge()
    assert await recover(world) == 1
    (task,) = world.queue.tasks.values()
    assert (task.path, task.at) == ("/resume", world.now)
    await world.deliver()
    assert sorted((await world.fields()).log) == ["label", "pack"]
    assert await recover(world) == 0


@in_world(Parcel)
async def test_a_lost_retry(world: World) -> None:
    await world.create(failures=2)
    await world.send("Send")
    await world.deliver()
    world.queue.purge()
    assert await recover(world) == 0, "its time has not come"
    await world.clock.advance(1)
    assert await recover(world) == 1
    await world.pass_time(MINUTE)
    assert (await world.fields()).log == ["label", "pack"]


@in_world(Parcel)
async def test_a_lost_timer(world: World) -> None:
    await world.create()
    world.queue.purge()
    await world.clock.advance(3599)
    assert await recover(world) == 0
    await world.clock.advance(1)
    assert await recover(world) == 1
    (task,) = world.queue.tasks.values()
    assert task.path == "/callback/timeout"
    await world.deliver()
    assert (await world.fields()).log == ["return"]
    assert await world.history("timeout") == [("timeout", "forgotten")]


@in_world(Parcel)
async def test_an_expired_lease(world: World) -> None:
    await world.create(hold=True)
    await world.send("Send")
    running = ensure_future(world.process.perform(world.queue.resumes[0]))
    await world.clock.settle()
    world.process.die()
    running.cancel()
    await asyncio.wait([running])
    world.queue.purge()
    assert await recover(world) == 0, "the lease is live"
    await world.clock.advance(60)
    assert await recover(world) == 1
    other = world.start()
    running = ensure_future(other.perform(world.queue.resumes[0]))
    await world.clock.settle()
    GATE.open()
    await world.finish(running)
    assert sorted((await world.fields()).log) == ["label", "pack"]


@in_world(Parcel)
async def test_nothing_is_done_for_healthy_instances(world: World) -> None:
    await world.create(id="waits")
    await world.create(id="held", hold=True)
    await world.send("Send", id="held")
    running = ensure_future(world.process.perform(world.queue.resumes[0]))
    await world.create(id="retries", failures=1)
    await world.send("Send", id="retries")
    (task,) = [task for task in world.queue.resumes if task.body["id"] == "retries"]
    await world.process.deliver(task)
    await world.create(id="ended")
    await world.send("Keep", id="ended")
    await world.send("Sign", id="ended")
    tasks = dict(world.queue.tasks)
    process = world.start()
    with process.calls() as calls:
        assert await process.engine.recover() == 0
    assert calls == ["postponed", "due", "uncollected"]
    with process.calls() as calls:
        assert await process.engine.recover() == 0
    assert set(calls) == {"due", "uncollected"}, "only new code can move what is postponed"
    assert world.queue.tasks == tasks
    GATE.open()
    await world.finish(running)


@in_world(Parcel)
async def test_recovery_ahead_of_time(world: World) -> None:
    await world.create()
    begin = world.now
    world.queue.purge()
    await world.clock.advance(3000)
    assert await recover(world, ahead=9 * MINUTE) == 0
    assert await recover(world, ahead=10 * MINUTE) == 1
    (timer,) = world.queue.timers
    assert timer.at == begin + timedelta(hours=1)
    await world.pass_time(timedelta(minutes=10))
    assert (await world.fields()).log == ["return"]
    assert await world.history("timeout") == [("timeout", "forgotten")]


@in_world(Parcel)
async def test_recovery_called_again_within_a_minute_makes_no_second_task(world: World) -> None:
    await world.create()
    await world.send("Send")
    world.queue.purge()
    for _ in range(3):
        assert await recover(world) == 1
    assert len(world.queue.tasks) == 1
    await world.clock.advance(60)
    await recover(world)
    assert len(world.queue.tasks) == 2
    await world.deliver()
    assert sorted((await world.fields()).log) == ["label", "pack"]


@in_world(Parcel)
async def test_recovery_beside_a_task_that_is_not_lost_does_no_harm(world: World) -> None:
    await world.create()
    await world.send("Send")
    await recover(world)
    assert len(world.queue.resumes) == 2
    await world.deliver()
    assert sorted((await world.fields()).log) == ["label", "pack"]


class Both(Workflow, name="both"):
    """A timer in one thread, a step in another one."""

    log: list[str] = []

    definition = S(
        Go("timer", Select("pause", Timeout("pause over", timedelta(hours=1)))),
        Select("begin", On("Begin", lambda w: None)),
        Step("work", write("work")),
        Select("end", On("End", lambda w: None)),
    )


@in_world(Both)
async def test_an_overdue_timer_and_a_due_step_are_both_found_at_once(world: World) -> None:
    await world.create()
    world.queue.purge()
    await world.clock.advance(7200)
    await world.send("Begin")
    world.queue.purge()
    assert await recover(world) == 1
    await world.deliver()
    assert (await world.fields()).log == ["work"]
    assert await world.history("timeout") == [("timeout", "pause over")]


class Later(Workflow, name="later"):
    log: list[str] = []

    def never(self) -> None:
        raise ConnectionError

    definition = S(
        Go("timer", Select("pause", Timeout("pause over", timedelta(seconds=2)))),
        Step("work", never),
    )


@in_world(Later)
async def test_an_overdue_timer_beside_a_retry_whose_time_has_not_come(world: World) -> None:
    await world.started()
    for _ in range(2):
        await world.clock.advance(1.5)
        for task in world.queue.resumes:
            await world.process.deliver(task)
    world.queue.purge()
    retry_at = (await world.instance()).execution.threads[0].retry_at
    assert retry_at is not None
    assert retry_at > world.now
    assert await recover(world) == 1
    assert [task.path for task in world.queue.tasks.values()] == ["/callback/timeout"]


@in_world(Parcel)
async def test_a_purge_of_the_whole_queue(world: World) -> None:
    """Instances in every state; the queue is emptied again and again, and recovery alone brings them to their end."""
    ids = [f"{state}-{n}" for state in ("new", "sent", "kept", "failing", "signed") for n in range(3)]
    for id in ids:
        await world.create(id=id, failures=3 if id.startswith("failing") else 0)
        if id.startswith(("sent", "failing", "signed")):
            await world.send("Send", id=id)
        if id.startswith("kept"):
            await world.send("Keep", id=id)
    for _ in range(62):
        world.queue.purge()
        await recover(world)
        await world.deliver()
        await world.clock.advance(60)
    for id in ids:
        if id.startswith("signed"):
            await world.send("Sign", id=id)
    await world.clock.advance(timedelta(days=31).total_seconds())
    for _ in range(2):
        world.queue.purge()
        await recover(world)
        await world.deliver()
    for id in ids:
        instance = await world.instance(id)
        assert instance.execution.status == "finished", id
        expected = {"new": ["return"], "kept": []}.get(id.partition("-")[0], ["label", "pack"])
        assert sorted((await world.fields(id)).log) == expected, id
    assert await recover(world) == 0


@in_world(Parcel)
async def test_a_limit_takes_the_longest_overdue_first(world: World) -> None:
    for n in range(3):
        await world.create(id=f"order-{n}")
        await world.send("Send", id=f"order-{n}")
        await world.clock.advance(1)
    world.queue.purge()
    assert await recover(world, limit=2) == 2
    assert [task.body["id"] for task in world.queue.resumes] == ["order-0", "order-1"]
    await world.deliver()
    await world.clock.advance(60)
    assert await recover(world, limit=2) == 1


@in_world(Parcel)
async def test_recovery_while_the_queue_does_not_answer(world: World) -> None:
    await world.create()
    await world.send("Send")
    world.queue.purge()
    process = world.start()
    process.unavailable("create_task", applied=False)
    with pytest.raises(Unavailable):
        await process.engine.recover()
    assert await process.engine.recover() == 1
    await world.deliver()
    assert sorted((await world.fields()).log) == ["label", "pack"]


@in_world(Parcel, Later)
async def test_what_cannot_be_moved_hides_nothing(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """It is not even scheduled: a workflow that is not served, a statement that is gone, fields that do not fit."""
    caplog.set_level(logging.WARNING, "gorchestrate")
    for n in range(3):
        await world.create(id=f"stuck-{n}")
        await world.send("Send", id=f"stuck-{n}")
        instance = await world.instance(f"stuck-{n}")
        if n == 1:
            instance.execution.threads[0].step = "gone"
        await world.store.commit(replace(instance, fields='{"log": 5}') if n == 2 else instance)
    await world.finish(world.process.engine.create("later", "stuck-too", b""))
    await world.clock.advance(1)
    await world.create(id="sound")
    await world.send("Send", id="sound")
    world.queue.purge()
    alone = world.start(Parcel)
    assert await alone.engine.recover(limit=2) == 2
    assert [task.body["id"] for task in world.queue.resumes] == ["stuck-0", "sound"]
    assert passed_over(caplog) == ["stuck-1", "stuck-2", "stuck-too"]


def passed_over(caplog: pytest.LogCaptureFixture) -> list[str]:
    """The ids of the instances that recovery could not move, as the log tells them."""
    ids = {record.fields["id"] for record in caplog.records if "cannot move" in record.message}  # type: ignore[attr-defined]
    return sorted(ids)


RATES = {"EUR": 1, "CHF": 2}


class Priced(Workflow, name="priced"):
    currency: str = "EUR"
    log: list[str] = []

    def model_post_init(self, context: Any) -> None:
        RATES[self.currency]

    definition = S(Select("pause", Timeout("pause over", timedelta(hours=1))), Step("work", write("work")))


@in_world(Priced)
async def test_whatever_one_instance_raises_the_others_are_recovered(
    world: World, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.WARNING, "gorchestrate")
    for id, currency in (("wrong-validator", "CHF"), ("wrong-task", "EUR"), ("sound", "EUR")):
        await world.create(id=id, currency=currency)
        await world.clock.advance(1)
    monkeypatch.delitem(RATES, "CHF")
    world.queue.purge()
    await world.clock.advance(3600)
    process = world.start()
    process.fault("create_task", 1, before=InvalidRequest("the queue does not take it"))
    assert await process.engine.recover() == 1
    assert [task.body["id"] for task in world.queue.tasks.values()] == ["sound"]
    assert passed_over(caplog) == ["wrong-task", "wrong-validator"]


def errand(timeout: str = "late", condition: Callable[[Any], bool] = lambda w: False) -> type[Workflow]:
    """A workflow as one of its releases has it."""

    class Errand(Workflow, name="errand"):
        kind: str = ""
        log: list[str] = []
        definition = S(
            If("watched", lambda w: w.kind != "timer", Go("watch", WaitFor("never", condition))),
            If("works", lambda w: w.kind != "timer", Step("work", write("work"))),
            Select("wait", On("End", lambda w: None), Timeout(timeout, timedelta(hours=1))),
        )

    return Errand


def raises_for_some(workflow: Any) -> bool:
    if workflow.kind == "condition":
        raise KeyError("no such shop")
    return False


@pytest.mark.parametrize(
    ("kind", "release", "error"),
    [
        ("timer", errand(timeout="too late"), "the definition no longer has the statements that are due"),
        ("condition", errand(condition=raises_for_some), "code of workflow 'errand' raised KeyError"),
    ],
)
@in_world(errand())
async def test_what_is_overdue_for_ever_hides_nothing(
    world: World, caplog: pytest.LogCaptureFixture, kind: str, release: type[Workflow], error: str
) -> None:
    """Two of them would take all that a call schedules, as they are always the longest overdue."""
    caplog.set_level(logging.WARNING, "gorchestrate")
    for id in ("stuck-1", "stuck-2"):
        await world.create(id=id, kind=kind)
        await world.clock.advance(1)
    await world.clock.advance(3599)
    await world.create(id="sound", kind="step")
    world.queue.purge()
    process = world.start(release)
    assert await process.engine.recover(limit=2) == 1
    await world.deliver(process)
    assert (await world.fields("sound")).log == ["work"]
    assert passed_over(caplog) == ["stuck-1", "stuck-2"]
    assert all(error in record.fields["error"] for record in caplog.records if "cannot move" in record.message)  # type: ignore[attr-defined]


@in_world(errand())
async def test_a_step_is_found_beside_a_timer_that_is_gone(world: World) -> None:
    await world.create(kind="timer")
    instance = await world.instance()
    instance.execution.threads.append(Thread("other", "watch"))
    await world.store.commit(instance)
    await world.clock.advance(3600)
    process = world.start(errand(timeout="too late"))
    assert await process.engine.recover() == 1
    await world.deliver(process)
    assert (await world.instance()).execution.threads[1].step == "never"
    await world.clock.advance(60)
    assert await process.engine.recover() == 0


@pytest.mark.parametrize("kind", ["step", "timer"])
@pytest.mark.parametrize("ahead", [timedelta(), MINUTE])
@in_world(errand())
async def test_a_lease_that_is_left_behind_is_found_where_nothing_is_due(
    world: World, kind: str, ahead: timedelta
) -> None:
    """It may be that of a process that has died after an operator had ended the work."""
    await world.started(kind=kind)
    instance = await world.instance()
    assert instance.execution.status == "waiting"
    expires = world.now + MINUTE
    await world.store.commit(replace(instance, lease=Lease("dead", expires), wake_at=expires))
    world.queue.purge()
    await world.clock.advance_to(expires - ahead)
    assert await recover(world, ahead=ahead) == 1
    assert [task.at for task in world.queue.tasks.values()] == [expires]
    await world.pass_time(ahead)
    after = await world.instance()
    assert after.lease is None
    assert after.wake_at == instance.wake_at
    assert await recover(world) == 0


@in_world(Parcel)
async def test_an_attempt_of_the_near_future_is_recovered_for_its_time(world: World) -> None:
    await world.create(failures=3)
    await world.send("Send")
    await world.deliver()
    world.queue.purge()
    retry_at = (await world.instance()).wake_at
    assert retry_at == world.now + timedelta(seconds=1)
    assert await recover(world, ahead=timedelta(seconds=0.5)) == 0
    assert await recover(world, ahead=timedelta(seconds=1)) == 1
    assert [task.at for task in world.queue.tasks.values()] == [retry_at]
    await world.pass_time(MINUTE)
    assert (await world.fields()).log == ["label", "pack"]


@in_world(Parcel)
async def test_an_instance_whose_tasks_are_lost_twice_within_a_minute_is_recovered_twice(world: World) -> None:
    await world.create(failures=2)
    await world.send("Send")
    for seconds in (1, 2, 4):
        world.queue.purge()
        assert await recover(world) == 1
        assert len(world.queue.tasks) == 1, "the queue has taken it, although it knows the first one"
        await world.deliver()
        await world.clock.advance(seconds)
    assert (await world.fields()).log == ["label", "pack"]


@pytest.mark.parametrize("stuck", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("limit", [1, 2, 3])
@in_world(errand())
async def test_what_cannot_move_takes_no_place_of_what_can(world: World, stuck: int, limit: int) -> None:
    for number in range(stuck):
        await world.create(id=f"stuck-{number}", kind="timer")
        await world.clock.advance(1)
    await world.clock.advance(3600)
    for number in range(4):
        await world.create(id=f"sound-{number}", kind="step")
        await world.clock.advance(1)
    world.queue.purge()
    process = world.start(errand(timeout="too late"))
    assert await process.engine.recover(limit=limit) == limit
    assert [task.body["id"] for task in world.queue.tasks.values()] == [f"sound-{number}" for number in range(limit)]


@pytest.mark.parametrize("end", [Pause(), Cancel(), None], ids=["paused", "canceled", "failed"])
@in_world(Later)
async def test_timers_of_an_instance_that_does_not_move_are_not_overdue(
    world: World, end: Pause | Cancel | None, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "gorchestrate")
    await world.started()
    if end is not None:
        await world.finish(world.process.engine.operate("later", "order-1", end))
    else:
        for _ in range(20):  # it stands at its timer no longer than its step is tried
            for task in world.queue.resumes:
                await world.clock.advance_to(task.at or world.now)
                await world.process.deliver(task)
    instance = await world.instance()
    assert (instance.execution.live, instance.wake_at) == (False, None)
    await world.clock.advance(3600)
    world.queue.purge()
    assert await recover(world) == 0
    assert world.queue.tasks == {}
    assert passed_over(caplog) == []
