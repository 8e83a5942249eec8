"""Activities: run outside the instance, at least once; their result takes effect once, if a thread still waits."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from cloud_adapter.document import Lease
from cloud_adapter.engine.commits import WRITE_ATTEMPTS_MAX
from cloud_adapter.engine.operations import Pause, Unpause
from cloud_adapter.engine.task_handler import Outcome
from cloud_adapter.engine.tasks import ACTIVITY_PATH, COLLECT_PATH
from cloud_adapter.errors import TooLarge
from tests.engine.harness import Gate, Killed, World, in_world, write
from tests.waits import the
from workflow_core import (
    Activity,
    ActivityContext,
    AttemptOver,
    ErrorInfo,
    EventNotAccepted,
    ForEach,
    Go,
    On,
    Retry,
    S,
    Select,
    Step,
    TerminalError,
    Try,
    While,
    Workflow,
)
from workflow_core.wait_types import ActivityWait

GATE = Gate()
CALLS: list[tuple[Any, str, int]] = []
FAILURES: list[Exception] = []
ONCE = Retry(max_attempts=1)
TWICE = Retry(max_attempts=2, initial=timedelta(seconds=5))
SLOWLY = Retry(max_attempts=2, initial=timedelta(days=1), max_delay=timedelta(days=1))


@pytest.fixture(autouse=True)
def _fresh() -> None:
    CALLS.clear()
    FAILURES.clear()


async def fetch(url: str, context: ActivityContext) -> int:
    CALLS.append((url, context.idempotency_key, context.attempt))
    await asyncio.sleep(0)
    if FAILURES:
        raise FAILURES.pop(0)
    return len(url)


async def hold(_: None, context: ActivityContext) -> str:
    CALLS.append((None, context.idempotency_key, context.attempt))
    await GATE.wait()
    return f"attempt {context.attempt}"


class Crawl(Workflow, name="crawl"):
    urls: list[str] = ["a", "bb", "ccc"]
    sizes: dict[str, int] = {}
    log: list[str] = []

    def keep(self, size: int, *, item: str) -> None:
        self.sizes[item] = size

    def note(self, error: ErrorInfo) -> None:
        self.log.append(f"{error.type} {error.message} of {error.statement}")

    definition = S(
        Try(
            "crawl",
            ForEach("each url", lambda w: w.urls, Activity("fetch", fetch, then=keep, retry=TWICE), parallel=True),
        ).except_(ConnectionError, then=note, name="no connection"),
        Step("done", write("done")),
        Select("end", On("End", lambda w: None)),
    )


class Hold(Workflow, name="hold"):
    sold: int = 0
    log: list[str] = []

    def sell(self) -> int:
        self.sold += 1
        return self.sold

    def keep(self, text: str) -> None:
        self.log.append(text)

    definition = S(
        Go("shop", While("selling", lambda w: w.sold < 9, Select("sell", On("Sell", sell)))),
        Activity("hold", hold, then=keep, timeout=timedelta(seconds=90), retry=TWICE),
        Step("after", write("after")),
        Select("end", On("End", lambda w: None)),
    )


def activities(world: World) -> list[Any]:
    return [task for task in world.queue.tasks.values() if task.path == ACTIVITY_PATH]


@in_world(Crawl)
async def test_the_rounds_of_a_parallel_loop_run_each_in_a_task_of_its_own(world: World) -> None:
    await world.create()
    assert len(activities(world)) == 3
    await world.deliver()
    assert (await world.fields()).sizes == {"a": 1, "bb": 2, "ccc": 3}
    assert (await world.fields()).log == ["done"]
    assert sorted(url for url, _, _ in CALLS) == ["a", "bb", "ccc"]
    assert len({key for _, key, _ in CALLS}) == 3
    assert await world.history("activity") == [("activity", "fetch")] * 3
    assert not world.queue.tasks, "no timer is left"


@in_world(Crawl)
async def test_a_failed_attempt_is_followed_by_another_one_under_the_same_key(world: World) -> None:
    FAILURES.append(ConnectionError("first"))
    await world.started(urls=["a"])
    instance = await world.instance()
    (wait,) = [wait for thread in instance.execution.threads for wait in thread.waits if isinstance(wait, ActivityWait)]
    assert wait.event == "fetch"
    assert (wait.attempt, wait.error, wait.retry_at) == (1, "ConnectionError: first", world.now + timedelta(seconds=5))
    await world.pass_time(timedelta(seconds=6))
    assert (await world.fields()).sizes == {"a": 1}
    assert [attempt for _, _, attempt in CALLS] == [1, 2]
    assert len({key for _, key, _ in CALLS}) == 1


@in_world(Crawl)
async def test_without_another_attempt_the_failure_cancels_the_others_and_is_caught(world: World) -> None:
    await world.create(urls=["a", "b", "c"])
    FAILURES.extend([ConnectionError("x")] * 6)
    await world.pass_time(timedelta(minutes=30))
    assert (await world.fields()).log == ["ConnectionError x of fetch", "done"]
    assert (await world.fields()).sizes == {}
    assert not world.queue.tasks
    assert (await world.instance()).execution.status == "waiting"


@in_world(Crawl)
async def test_a_terminal_error_is_not_tried_again_and_fails_the_instance_if_nobody_catches_it(world: World) -> None:
    FAILURES.append(TerminalError("never"))
    await world.started(urls=["a"])
    execution = (await world.instance()).execution
    assert execution.status == "failed"
    assert execution.error is not None
    assert (execution.error.type, execution.error.statement) == ("TerminalError", "fetch")
    assert await world.history("failed", "activity failed") == [("activity failed", "fetch"), ("failed", "fetch")]
    assert len(CALLS) == 1


@in_world(Hold)
async def test_its_request_may_take_as_long_as_the_attempt(world: World) -> None:
    await world.create()
    assert [task.deadline for task in activities(world)] == [timedelta(seconds=90)]


@in_world(Hold)
async def test_while_it_runs_events_and_other_threads_go_on(world: World) -> None:
    await world.create()
    running = asyncio.ensure_future(world.process.perform(activities(world)[0]))
    await world.clock.settle()
    assert (await world.instance()).lease is None, "it runs outside of the lease"
    assert [await world.send("Sell") for _ in range(3)] == [1, 2, 3]
    GATE.open()
    assert await world.finish(running) is Outcome.DONE
    assert (await world.fields()).log == ["attempt 1"]


@in_world(Hold)
async def test_an_attempt_that_takes_too_long_is_over_and_its_result_changes_nothing(world: World) -> None:
    await world.create()
    first = world.start()
    running = asyncio.ensure_future(first.perform(activities(world)[0]))
    await world.clock.settle()
    first.die()  # its process hangs: nobody interrupts it
    await world.clock.advance(91)
    (timer,) = world.queue.timers
    assert await world.process.deliver(timer) is Outcome.DONE
    assert await world.history("activity failed") == [("activity failed", "hold")]
    (again,) = [task for task in activities(world) if task.body["attempt"] == 1]
    late = [task for task in activities(world) if task.body["attempt"] == 0]
    for task in late:
        assert await world.process.deliver(task) is Outcome.DONE
    assert len(CALLS) == 1, "the task of the first attempt does nothing any more"
    await world.clock.advance(5)
    second = asyncio.ensure_future(world.process.perform(again))
    await world.clock.settle()
    GATE.open()
    assert await world.finish(second) is Outcome.DONE
    assert (await world.fields()).log == ["attempt 2"]
    running.cancel()


@in_world(Hold)
async def test_an_asynchronous_function_is_interrupted_when_its_time_is_over(world: World) -> None:
    await world.create()
    running = asyncio.ensure_future(world.process.perform(activities(world)[0]))
    await world.clock.settle()
    deadline = world.now + timedelta(seconds=90)
    await world.clock.advance(90)
    assert await world.finish(running) is Outcome.DONE
    await world.process.deliver(world.queue.timers[0])
    wait = the(ActivityWait, (await world.instance()).execution.threads[0].waits)
    assert (wait.attempt, wait.error) == (
        1,
        f"TimedOut: activity 'hold' did not return a result by {deadline:%Y-%m-%dT%H:%M:%SZ}",
    )


@in_world(Hold)
async def test_an_attempt_that_was_put_off_by_a_pause_does_not_end_by_its_old_deadline(world: World) -> None:
    await world.create()
    running = asyncio.ensure_future(world.process.perform(activities(world)[0]))
    await world.clock.settle()
    await world.clock.advance(80)
    for operation in (Pause(), Unpause()):
        await world.process.engine.operate("hold", "order-1", operation)
    await world.clock.advance(10)
    assert await world.finish(running) is Outcome.DONE
    wait = the(ActivityWait, (await world.instance()).execution.threads[0].waits)
    assert (wait.attempt, wait.error) == (0, None)


@in_world(Hold)
async def test_a_lost_task_is_made_up_for_at_the_deadline(world: World) -> None:
    await world.create()
    world.queue.tasks.clear()
    await world.clock.advance(100)
    assert await world.process.engine.recover() == 1
    await world.process.deliver(world.queue.timers[0])
    assert [task.body["attempt"] for task in activities(world)] == [1]


class Deadlines(Workflow, name="deadlines"):
    log: list[str] = []

    definition = S(
        *(
            Go(
                f"after {seconds}",
                Try(f"try {seconds}", task).except_(Exception, Step(f"{seconds} over", write(f"{seconds}"))),
            )
            for seconds in (90, 60, 120)
            for task in [Activity(f"task {seconds}", hold, timeout=timedelta(seconds=seconds), retry=ONCE)]
        ),
        Go("later", Activity("task later", hold, timeout=timedelta(seconds=90), retry=SLOWLY)),
        Select("end", On("End", lambda w: None)),
    )


@in_world(Deadlines)
async def test_one_task_ends_all_attempts_of_a_commit_each_at_its_time(world: World) -> None:
    await world.create()
    (deadlines,) = world.queue.timers
    assert deadlines.at == world.now + timedelta(seconds=60)
    for task in activities(world):
        del world.queue.tasks[task.name]  # none of them is heard of
    await world.pass_time(timedelta(seconds=59))
    assert (await world.fields()).log == []
    for seconds, log in ((1, ["60"]), (29, ["60"]), (1, ["60", "90"]), (29, ["60", "90"]), (1, ["60", "90", "120"])):
        await world.pass_time(timedelta(seconds=seconds))
        assert (await world.fields()).log == log
    (second,) = activities(world)
    assert (second.body["event"], second.body["attempt"]) == ("task later", 1)
    (deadline,) = world.queue.timers
    assert deadline.body["fence"] == second.body["fence"] != deadlines.body["fence"]


@in_world(Hold)
async def test_the_result_waits_in_the_inbox_while_a_step_runs(world: World) -> None:
    await world.create()
    running = asyncio.ensure_future(world.process.perform(activities(world)[0]))
    await world.clock.settle()
    instance = await world.instance()
    instance.execution.pc += 1
    lease = Lease("somebody", world.now + timedelta(seconds=60))
    await world.store.commit(replace(instance, lease=lease, tokens=(*instance.tokens, "t")))
    GATE.open()
    assert await world.finish(running) is Outcome.DONE
    assert (await world.fields()).log == []
    assert len(await world.store.inbox("hold", "order-1")) == 1
    (collect,) = [task for task in world.queue.tasks.values() if task.path == COLLECT_PATH]
    assert collect.at is not None
    assert lease.expires_at < collect.at <= lease.expires_at + timedelta(seconds=1)
    await world.clock.advance_to(collect.at)
    with world.process.calls() as calls:
        assert await world.process.deliver(collect) is Outcome.DONE
    assert calls == ["inbox", "load", "create_task", "commit", "delete_task", "create_task"]
    assert (await world.fields()).log == ["attempt 1"]
    assert await world.store.inbox("hold", "order-1") == []
    assert len(CALLS) == 1, "it was not run again"


async def ends_under_a_lease(world: World, seconds: int, refused: int) -> asyncio.Task[Outcome]:
    """The delivery of an activity whose result comes while a step runs, and is too large for the inbox."""
    await world.create()
    running = asyncio.ensure_future(world.process.perform(activities(world)[0]))
    await world.clock.settle()
    instance = await world.instance()
    instance.execution.pc += 1
    lease = Lease("somebody", world.now + timedelta(seconds=seconds))
    await world.store.commit(replace(instance, lease=lease, tokens=(*instance.tokens, "t")))
    for nth in range(1, refused + 1):
        world.process.fault("post", nth, before=TooLarge("an entry has 1 MB at most"))
    GATE.open()
    return running


@in_world(Hold)
async def test_a_result_that_is_too_large_for_the_inbox_comes_in_when_the_lease_is_over(world: World) -> None:
    running = await ends_under_a_lease(world, seconds=15, refused=1)  # it is put off after 10
    await world.clock.advance(14)
    assert (running.done(), world.process.wire.faults) == (False, [])
    assert await world.finish(running) is Outcome.DONE
    await world.deliver()
    assert (await world.fields()).log == ["attempt 1", "after"]
    assert len(CALLS) == 1


@in_world(Hold)
async def test_a_result_that_is_too_large_for_the_inbox_is_not_waited_for_for_ever(world: World) -> None:
    running = await ends_under_a_lease(world, seconds=600, refused=20)
    begin = world.now
    assert await world.finish(running) is Outcome.DONE, "the queue does not send the task again under the lease"
    assert timedelta(seconds=90) <= world.now - begin <= timedelta(seconds=101)
    (task,) = activities(world)
    del world.queue.tasks[task.name]
    world.process.wire.faults.clear()
    await world.pass_time(timedelta(seconds=600))
    assert [attempt for *_, attempt in CALLS] == [1, 2], "its deadline has ended the first attempt, which ran once"


@in_world(Hold)
async def test_a_result_that_is_too_large_for_the_inbox_and_is_no_longer_waited_for(world: World) -> None:
    running = await ends_under_a_lease(world, seconds=600, refused=1)
    await world.start().engine.operate("hold", "order-1", Pause())
    assert await world.finish(running) is Outcome.DONE
    assert (await world.fields()).log == []


@in_world(Crawl)
async def test_a_task_ahead_of_its_commit_comes_again(world: World) -> None:
    await world.create(urls=["a"])
    (task,) = activities(world)
    early = {**task.body, "pc": task.body["pc"] + 5}
    assert await world.finish(world.process.perform(type(task)(task.name, task.path, early))) is Outcome.NOT_YET


@in_world(Crawl)
async def test_a_task_that_comes_twice_runs_twice_and_counts_once(world: World) -> None:
    await world.create(urls=["a"])
    (task,) = activities(world)
    assert await world.process.perform(task) is Outcome.DONE
    assert await world.process.perform(task) is Outcome.DONE
    assert await world.history("activity") == [("activity", "fetch")]


@pytest.mark.parametrize("applied", [False, True])
@pytest.mark.parametrize("nth", [1, 2])
@in_world(Crawl)
async def test_the_reply_of_the_commit_is_lost(world: World, nth: int, applied: bool) -> None:
    await world.create(urls=["a"])
    world.process.unavailable("commit", nth, applied=applied)
    await world.deliver()
    assert (await world.fields()).sizes == {"a": 1}
    assert await world.history("activity") == [("activity", "fetch")]


@in_world(Crawl)
async def test_when_the_process_dies_the_queue_runs_it_again(world: World) -> None:
    await world.create(urls=["a"])
    dying = world.start()

    async def die() -> None:
        dying.die()
        raise Killed

    dying.fault("commit", before=die)
    with pytest.raises(Killed):
        await world.finish(dying.perform(activities(world)[0]))
    await world.deliver()
    assert (await world.fields()).sizes == {"a": 1}
    assert len(CALLS) == 2


async def live(_: None, context: ActivityContext) -> None:
    try:
        for _round in range(3):
            await GATE.wait()
            await context.heartbeat()
    except AttemptOver:
        CALLS.append(("over", "", context.attempt))
        raise


class Alive(Workflow, name="alive"):
    log: list[str] = []

    definition = S(
        Activity("live", live, heartbeat=timedelta(seconds=30), retry=ONCE), Select("end", On("End", lambda w: None))
    )


@in_world(Alive)
async def test_heartbeats_put_the_deadline_off(world: World) -> None:
    await world.create()
    running = asyncio.ensure_future(world.process.perform(activities(world)[0]))
    for _ in range(3):
        await world.clock.settle()
        await world.clock.advance(20)
        GATE.open()
    assert await world.finish(running) is Outcome.DONE
    assert (await world.instance()).execution.threads[0].step == "end", "60 s passed, no 30 s without a sign of life"


@pytest.mark.parametrize(("call", "times"), [("load", 1), ("commit", WRITE_ATTEMPTS_MAX)])
@in_world(Alive)
async def test_a_heartbeat_that_does_not_come_through_is_no_failure(world: World, call: str, times: int) -> None:
    await world.create()
    running = asyncio.ensure_future(world.process.perform(activities(world)[0]))
    await world.clock.settle()
    await world.clock.advance(20)
    for nth in range(1, times + 1):
        world.process.unavailable(call, nth, applied=False)
    GATE.open()
    for _ in range(2):
        await world.clock.settle()
        await world.clock.advance(5)
        GATE.open()
    assert await world.finish(running) is Outcome.DONE
    assert (await world.instance()).execution.threads[0].step == "end"
    assert await world.history("activity failed") == []


@in_world(Alive)
async def test_without_a_heartbeat_it_counts_as_dead_and_is_told_so(world: World) -> None:
    await world.create()
    running = asyncio.ensure_future(world.process.perform(activities(world)[0]))
    await world.clock.settle()
    await world.clock.advance(31)
    await world.start(Alive).deliver(world.queue.timers[0])
    assert (await world.instance()).execution.status == "failed"
    GATE.open()
    assert await world.finish(running) is Outcome.DONE
    assert CALLS == [("over", "", 1)]


@in_world(Hold)
async def test_no_client_can_send_the_result(world: World) -> None:
    await world.create()
    with pytest.raises(EventNotAccepted, match=r"it is an activity"):
        await world.send("hold", "forged")
