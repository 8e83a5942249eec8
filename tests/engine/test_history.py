"""What the history tells of code that has run: how long it took, and, in its log line, where it failed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Sequence
from datetime import timedelta
from typing import Any

import pytest

from cloud_adapter.engine.tasks import ACTIVITY_PATH
from cloud_adapter.history import HISTORY_MAX, bytes_of
from tests.engine.harness import ID, Gate, World, in_world
from workflow_core import Activity, Child, EventHandler, EventRequest, On, Retry, S, Select, Step, While, Workflow

GATE = Gate()
FAILS: set[str] = set()
"""The places whose code fails the next time."""

AGAIN = Retry(max_attempts=2, initial=timedelta(seconds=1))


@pytest.fixture(autouse=True)
def _fresh() -> None:
    FAILS.clear()


async def take_time(place: str) -> None:
    await GATE.wait()
    fail(place)


def fail(place: str) -> None:
    if place in FAILS:
        FAILS.remove(place)
        raise ConnectionError(f"the {place} has failed")


class Outside(EventHandler):
    async def setup(self, request: EventRequest) -> None:
        await take_time("setup")

    async def handle(self, request: EventRequest, input: Any) -> None:
        await take_time("event")

    async def teardown(self, request: EventRequest, handled: bool) -> None:
        await take_time("teardown")


async def fetch(_: None) -> None:
    await take_time("activity")


class Slow(Workflow, name="slow"):
    log: list[str] = []

    async def work(self) -> None:
        await take_time("step")

    definition = S(
        Step("work", work, retry=AGAIN),
        Activity("fetch", fetch, retry=AGAIN),
        Select("call", On("Call", Outside())),
        Select("end", On("End", lambda w: None)),
    )


async def take(world: World, seconds: float, awaitable: Awaitable[Any]) -> None:
    """Lets code run for so long."""
    running = asyncio.ensure_future(awaitable)
    await world.clock.settle()
    await world.clock.advance(seconds)
    GATE.open()
    await world.finish(running)


def resumed(world: World) -> Awaitable[Any]:
    task = world.queue.resumes[0]
    del world.queue.tasks[task.name]
    return world.process.perform(task)


def fetched(world: World) -> Awaitable[Any]:
    (task,) = [task for task in world.queue.tasks.values() if task.path == ACTIVITY_PATH]
    del world.queue.tasks[task.name]
    return world.process.perform(task)


@in_world(Slow)
async def test_an_entry_tells_how_long_the_code_has_run(world: World) -> None:
    await world.create()
    FAILS.update(["step", "activity"])
    for seconds in (1.5, 2):
        await take(world, seconds, resumed(world))
        await world.clock.advance(1)
    for seconds in (3.25, 4):
        await take(world, seconds, fetched(world))
        await world.clock.advance(1)
    await take(world, 5, resumed(world))
    await take(world, 6, world.process.post("Call"))
    await take(world, 7, resumed(world))
    await world.send("End")
    entries = [(one.kind, one.statement, one.duration_ms) for one in (await world.instance()).history]
    assert entries == [
        ("created", "", 0),
        ("step failed", "work", 1_500),
        ("step", "work", 2_000),
        ("activity failed", "fetch", 3_250),
        ("activity", "fetch", 4_000),
        ("setup", "Call", 5_000),
        ("event", "Call", 6_000),
        ("teardown", "Call", 7_000),
        ("event", "End", 0),
    ]


class Part(Workflow, name="part"):
    definition = S(Select("wait", On("Go", lambda w: None)))


def then(workflow: Any, _: Any) -> None:
    fail("then")


class Fragile(Workflow, name="fragile"):
    log: list[str] = []
    definition = S(
        Step("work", lambda w: fail("step"), retry=AGAIN),
        Activity("fetch", lambda: fail("activity"), retry=AGAIN),
        Activity("take", lambda: None, then=then),
    )


class Family(Workflow, name="family"):
    log: list[str] = []
    definition = S(Child("part", Part, id="part-1", then=then))


@pytest.mark.parametrize(
    ("workflow", "place", "lines"),
    [
        (Fragile, "step", ["step failed"]),
        (Fragile, "activity", ["activity failed"]),
        (Fragile, "then", ["activity failed", "failed"]),
        (Family, "then", ["child failed", "failed"]),
    ],
)
@in_world(Fragile)
async def test_the_log_line_of_a_failure_has_its_stack_trace(
    world: World, workflow: type[Workflow], place: str, lines: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "gorchestrate")
    world.process = world.start(workflow, Part)
    FAILS.add(place)
    await world.finish(world.process.engine.create(workflow.__workflow_name__, ID))
    await world.deliver()
    if workflow is Family:
        await world.finish(world.process.engine.handle_event("part", "part-1", "Go"))
    await world.pass_time(timedelta(seconds=1))
    fields = [vars(record)["fields"] for record in caplog.records if "fields" in vars(record)]
    traced = [one for one in fields if "exception" in one]
    assert [one["kind"] for one in traced] == lines
    for one in traced:
        assert one["exception"].splitlines()[-1] == f"ConnectionError: the {place} has failed"
        assert "in fail\n" in one["exception"]


class Many(Workflow, name="many"):
    done: int = 0

    def work(self) -> None:
        self.done += 1

    definition = S(
        While("more", lambda w: w.done < 2 * HISTORY_MAX + 7, Step("work", work)), Select("end", On("End", then))
    )


@pytest.mark.parametrize("cut", [(), range(1, 150, 2), range(1, 300)], ids=["none", "some", "all"])
@in_world(Many)
async def test_the_size_of_a_history_is_known_whichever_replies_are_lost(world: World, cut: Sequence[int]) -> None:
    await world.create()
    for nth in cut:
        world.process.unavailable("commit", nth, applied=True)
    await world.deliver()
    instance = await world.instance()
    rows = await world.store.connections.run(
        lambda connection: connection.execute("SELECT number, entry FROM history_entries").fetchall()
    )
    assert len(rows) < 2 * HISTORY_MAX
    assert instance.entries_bytes == bytes_of(f"{number} {entry.decode()}" for number, entry in rows)
    assert instance.entries_count == 2 * HISTORY_MAX + 8
    assert [kind for kind, _ in await world.history()][:2] == ["created", "step"]
