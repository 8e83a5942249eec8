"""Instances that old code has parked, with what was scheduled for them, under code that has renamed statements."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from cloud_adapter.engine.refs import InstanceRef
from tests.engine.family import start_and_die
from tests.engine.harness import ID, World, article, in_world, nothing, write
from workflow_core import (
    Activity,
    ActivityContext,
    Child,
    EventRequest,
    If,
    On,
    Retry,
    S,
    Select,
    Step,
    StepContext,
    Timeout,
    WaitFor,
    Workflow,
)

DAY = timedelta(days=1)


STEP = article(Step("write", write("old")))


@in_world(STEP)
async def test_a_step_that_is_due_runs_under_its_new_name(world: World) -> None:
    await world.create()
    await world.deliver(world.start(article(Step("compose", write("new"), renamed_from="write"))))
    assert (await world.fields()).log == ["new"]
    assert ("step", "compose") in await world.history()


def flaky(keys: list[str]) -> Callable[[Any, StepContext], None]:
    def action(w: Any, step: StepContext) -> None:
        keys.append(step.idempotency_key)
        if step.attempt == 1:
            raise TimeoutError

    return action


KEYS: list[str] = []
RETRY = Retry(initial=timedelta(minutes=1))
FLAKY = article(Step("write", flaky(KEYS), retry=RETRY))


@in_world(FLAKY)
async def test_the_next_attempt_comes_by_the_task_that_was_scheduled(world: World) -> None:
    KEYS.clear()
    await world.started()
    assert (await world.instance()).execution.threads[0].attempt == 1
    new = world.start(article(Step("compose", flaky(KEYS), retry=RETRY, renamed_from="write")))
    created = len(world.queue.created)
    await world.pass_time(timedelta(minutes=2), new)
    assert (await world.instance()).execution.status == "finished"
    assert len(world.queue.created) == created
    assert len(KEYS) == 2
    assert len(set(KEYS)) == 1


TIMED = article(Select("pause", On("Go on", nothing), Timeout("pause over", DAY, Step("wake", write("wake")))))
RENAMED_TIMED = article(
    Select(
        "rest",
        On("Resume", write("resumed"), renamed_from="Go on"),
        Timeout("rest over", DAY, Step("wake", write("wake")), renamed_from="pause over"),
        renamed_from="pause",
    )
)


@in_world(TIMED)
async def test_a_timer_that_is_scheduled_under_the_old_name(world: World) -> None:
    await world.started()
    new = world.start(RENAMED_TIMED)
    assert [one.case.event for one in (await new.engine.get("article", ID)).accepted] == ["Resume"]
    await world.pass_time(DAY, new)
    assert (await world.fields()).log == ["wake"]
    assert ("timeout", "rest over") in await world.history()


@in_world(TIMED)
async def test_the_timer_of_the_old_name_is_deleted_when_the_event_comes(world: World) -> None:
    await world.started()
    (timer,) = world.queue.timers
    new = world.start(RENAMED_TIMED)
    await new.send("Resume", key="k")
    assert world.queue.deleted == [timer.name]
    assert (await world.instance()).execution.status == "finished"


@in_world(TIMED)
async def test_an_event_under_the_old_name_with_its_key_is_handled_once(world: World) -> None:
    await world.started()
    new = world.start(RENAMED_TIMED)
    for _ in range(2):
        assert await new.send("Go on", key="k") is None
    assert (await world.fields()).log == ["resumed"]


@in_world(TIMED)
async def test_recovery_finds_what_is_overdue_under_the_old_name(world: World) -> None:
    await world.started()
    world.queue.purge()
    await world.clock.advance(DAY.total_seconds() + 1)
    new = world.start(RENAMED_TIMED)
    assert await new.engine.recover() == 1
    await world.deliver(new)
    assert (await world.fields()).log == ["wake"]


BUFFERED = article(Select("first", On("Begin", nothing)), Select("s", On("E", write("e"), buffered=True)))


@in_world(BUFFERED)
async def test_an_event_that_was_kept_under_the_old_name(world: World) -> None:
    await world.started()
    await world.finish(world.process.post("E"))
    new = world.start(
        article(
            Select("first", On("Begin", nothing)),
            Select("s", On("Event", write("event"), buffered=True, renamed_from="E")),
        )
    )
    await new.send("Begin")
    await world.deliver(new)
    assert (await world.fields()).log == ["event"]


@in_world(BUFFERED)
async def test_an_event_under_the_old_name_is_kept_under_the_new_one(world: World) -> None:
    await world.started()
    new = world.start(
        article(
            Select("first", On("Begin", nothing)),
            Select("s", On("Event", write("event"), buffered=True, renamed_from="E")),
        )
    )
    await world.finish(new.post("E"))
    assert [one.event for one in (await world.instance()).execution.buffer] == ["Event"]


SEEN: list[ActivityContext] = []


def count(input: None, context: ActivityContext) -> int:
    SEEN.append(context)
    if context.attempt == 1:
        raise TimeoutError
    return 7


def note(w: Any, result: int) -> None:
    w.log.append(str(result))


COUNTING = article(Activity("count", count, then=note, retry=RETRY))


@in_world(COUNTING)
async def test_an_activity_that_is_scheduled_under_the_old_name(world: World) -> None:
    SEEN.clear()
    await world.started()
    new = world.start(article(Activity("count them", count, then=note, retry=RETRY, renamed_from="count")))
    await world.pass_time(timedelta(minutes=2), new)
    assert (await world.fields()).log == ["7"]
    assert [(one.activity, one.attempt) for one in SEEN] == [("count", 1), ("count them", 2)]
    assert len({one.idempotency_key for one in SEEN}) == 1
    assert (await world.history())[-1] == ("activity", "count them")


class Part(Workflow, name="part"):
    fails: bool = False

    def done(self) -> None:
        assert not self.fails

    def fail(self) -> None:
        raise ValueError("no luck")

    definition = S(Select("s", On("Done", done), On("Fail", nothing, Step("fail", fail, retry=Retry(max_attempts=1)))))


def whole(name: str, **renamed: Any) -> type[Workflow]:
    return article(Child(name, "part", id="part-1", **renamed), Step("end", write("end")))


@in_world(whole("child"), Part)
async def test_the_end_of_a_child_that_was_started_under_the_old_name(world: World) -> None:
    await world.started()
    new = world.start(whole("ask", renamed_from="child"), Part)
    await world.finish(new.engine.handle_event("part", "part-1", "Done"))
    await world.deliver(new)
    assert (await world.fields()).log == ["end"]


@in_world(whole("child"), Part)
async def test_a_start_that_is_repeated_under_the_new_name_finds_its_child(world: World) -> None:
    await world.create()
    await start_and_die(world)
    await world.clock.advance(61)
    new = world.start(whole("ask", renamed_from="child"), Part)
    await world.deliver(new)
    assert ("setup", "ask") in await world.history()
    await world.finish(new.engine.handle_event("part", "part-1", "Done"))
    await world.deliver(new)
    assert (await world.fields()).log == ["end"]


@in_world(whole("child"), Part)
async def test_the_failure_of_a_child_that_was_started_under_the_old_name(world: World) -> None:
    await world.started()
    new = world.start(whole("ask", renamed_from="child"), Part)
    await world.finish(new.engine.handle_event("part", "part-1", "Fail"))
    await world.deliver(new)
    instance = await world.instance()
    assert instance.execution.status == "failed"
    assert instance.execution.teardowns == []  # it has ended: there is nothing to cancel
    assert ("child failed", "ask") in await world.history()
    assert instance.execution.error is not None
    assert instance.execution.error.statement == "ask"


@in_world(whole("child"), Part)
async def test_an_error_behind_a_child_that_was_started_under_the_old_name(world: World) -> None:
    await world.started()
    behind = If("behind", lambda w: 1 / 0 > 0, Step("never", write("never")))
    new = world.start(article(Child("ask", "part", id="part-1", renamed_from="child"), behind), Part)
    await world.finish(new.engine.handle_event("part", "part-1", "Done"))
    await world.deliver(new)
    error = (await world.instance()).execution.error
    assert error is not None
    assert (error.type, error.statement) == ("ZeroDivisionError", "behind")
    assert ("failed", "behind") in await world.history()


class Outside:
    """Notes what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str, str]] = []

    def setup(self, request: EventRequest) -> None:
        self.told.append((request.action, request.event, request.idempotency_key))
        if len(self.told) == 1:
            raise ConnectionError

    def handle(self, request: EventRequest, input: None) -> None: ...

    def teardown(self, request: EventRequest, handled: bool) -> None:
        self.told.append((request.action, request.event, request.idempotency_key))


OUTSIDE = Outside()


@in_world(article(Select("s", On("Paid", OUTSIDE)), WaitFor("w", lambda w: False)))
async def test_a_registration_that_has_failed_under_the_old_name(world: World) -> None:
    OUTSIDE.told.clear()
    await world.started()
    new = world.start(
        article(
            Select("payment", On("Received", OUTSIDE, renamed_from="Paid"), renamed_from="s"),
            WaitFor("w", lambda w: False),
        )
    )
    await world.pass_time(timedelta(minutes=5), new)
    await new.send("Paid")
    await world.deliver(new)
    assert [one[:2] for one in OUTSIDE.told] == [("setup", "Paid"), ("setup", "Received"), ("teardown", "Received")]
    assert OUTSIDE.told[0][2] == OUTSIDE.told[1][2]
    assert (await world.instance()).execution.teardowns == []


def seven(input: None) -> int:
    return 7


def fail_for_good(input: None) -> int:
    raise ValueError("no luck")


def raises_after_that(w: Any, result: int) -> None:
    raise KeyError("then fails, too")


ONCE = Retry(max_attempts=1)


@pytest.mark.parametrize(
    ("function", "then", "error", "noted"),
    [
        (fail_for_good, note, "ValueError", ["activity failed", "failed"]),
        (seven, raises_after_that, "KeyError", ["activity failed", "failed"]),
        (seven, note, "ZeroDivisionError", ["failed"]),  # of the condition behind it
    ],
)
@in_world(article(Select("s", On("E", nothing))))
async def test_an_error_that_was_posted_under_the_old_name_is_stored_under_the_new_one(
    world: World, function: Callable[..., Any], then: Callable[..., None], error: str, noted: list[str]
) -> None:
    behind = If("behind", lambda w: 1 / 0 > 0, Step("never", write("never")))
    old = world.start(article(Activity("ask", function, then=then, retry=ONCE), behind))
    await world.finish(old.engine.create("article", ID))
    old.engine.lanes.met_others(InstanceRef(old.engine.workflow("article"), ID))
    await world.deliver(old)
    assert len(await world.store.inbox("article", ID)) == 1
    new = world.start(article(Activity("inquire", function, then=then, retry=ONCE, renamed_from="ask"), behind))
    await world.pass_time(timedelta(minutes=1), new)
    execution = (await world.instance()).execution
    assert execution.status == "failed"
    assert execution.error is not None
    place = "behind" if error == "ZeroDivisionError" else "inquire"
    assert (execution.error.type, execution.error.statement) == (error, place)
    assert await world.history("activity", "activity failed", "failed") == [(kind, place) for kind in noted]
