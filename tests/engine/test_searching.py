"""What a search field may hold: what no store could find is refused before anything is written."""

from __future__ import annotations

from asyncio import ensure_future
from datetime import timedelta
from typing import Any

import pytest

from cloud_adapter.engine.operations import Pause, Unpause
from cloud_adapter.errors import InvalidRequest
from tests.engine.harness import Gate, World, in_world
from workflow_core import Go, InvalidInput, On, Retry, S, Select, Step, StepContext, While, Workflow


class Counted(Workflow, name="counted"):
    search_fields = ("count", "share", "anything")
    count: int = 0
    share: float = 0
    anything: Any = None
    text: str = ""

    def set(self, count: int) -> None:
        self.count = count

    def double(self) -> None:
        self.count *= 2

    definition = S(
        Select("set", On("Set", set)),
        Step("double", double, retry=Retry(max_attempts=1)),
        Select("later", On("Later", set, buffered=True)),
        Select("end", On("End", lambda w: None)),
    )


GATE = Gate()


class Staged(Workflow, name="staged"):
    """Its search field changes in each of two steps, before and after the step has waited."""

    search_fields = ("stage",)
    stage: str = "new"
    failures: int = 0

    def begin(self) -> None:
        self.stage = "begun"

    async def work(self, step: StepContext) -> None:
        self.stage = "half done"
        await GATE.wait()
        if step.attempt <= self.failures:
            raise ConnectionError("no answer")
        self.stage = "done"

    definition = S(
        Go("clerk", While("open", lambda w: True, Select("note", On("Note", begin)))),
        Step("begin", begin),
        Step("work", work),
        Select("end", On("End", lambda w: None)),
    )


async def found(world: World, stage: str) -> bool:
    """Whether the instance is found by that value of its search field, as its stored fields have it too."""
    listed = (await world.process.engine.list("staged", search={"stage": stage})).instances
    assert (len(listed) == 1) == ((await world.fields()).stage == stage)
    return len(listed) == 1


@in_world(Staged)
async def test_while_a_step_runs_an_instance_is_found_by_what_was_committed(world: World) -> None:
    await world.create(failures=1)
    assert await found(world, "new")
    running = ensure_future(world.process.perform(world.queue.resumes[0]))
    await world.clock.settle()
    assert (await world.instance()).lease is not None
    for _ in range(3):
        assert await found(world, "begun"), "the step before has been committed under the same lease"
        assert not await found(world, "half done")
        await world.clock.advance(20)  # it is renewed
    GATE.open()
    await world.finish(running)
    assert await found(world, "begun"), "what a failed attempt has changed is gone"
    await world.clock.advance(1)
    running = ensure_future(world.process.perform(world.queue.resumes[-1]))
    await world.clock.advance(50)
    assert await found(world, "begun")
    GATE.open()
    await world.finish(running)
    assert await found(world, "done")


@in_world(Staged)
async def test_after_an_interrupted_step_an_instance_is_found_by_what_was_committed(world: World) -> None:
    await world.create()
    running = ensure_future(world.process.perform(world.queue.resumes[0]))
    await world.clock.settle()
    await world.finish(world.start().engine.operate("staged", "order-1", Pause()))
    assert await found(world, "begun")
    await world.clock.advance(20)
    await world.finish(running)
    assert await found(world, "begun")
    await world.finish(world.start().engine.operate("staged", "order-1", Unpause()))
    await world.send("Note")
    assert await found(world, "begun")


@pytest.mark.parametrize("fields", [{"count": 2**63}, {"count": -(2**63) - 1}, {"anything": [[1]]}, {"anything": {}}])
@in_world(Counted)
async def test_a_creation_is_refused(world: World, fields: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput, match="search") as caught:
        await world.create(**fields)
    assert [(e["field"], e["type"]) for e in caught.value.errors] == [(next(iter(fields)), "not_searchable")]
    assert (await world.process.engine.list("counted")).instances == []


@in_world(Counted)
async def test_an_event_is_refused_and_changes_nothing(world: World) -> None:
    await world.started()
    before = await world.instance()
    with pytest.raises(InvalidInput, match="count"):
        await world.send("Set", 2**63)
    assert await world.instance() == before


@in_world(Counted)
async def test_a_step_fails(world: World) -> None:
    await world.started()
    await world.send("Set", 2**62)
    await world.pass_time(timedelta(0))
    after = await world.instance()
    assert after.execution.error is not None
    assert "64 bits" in after.execution.error.text
    assert (await world.fields()).count == 2**62


@in_world(Counted)
async def test_a_buffered_event_is_dropped(world: World) -> None:
    await world.started()
    await world.send("Set", 1)
    await world.process.post("Later", str(2**63).encode())
    await world.process.post("Later", b"5")
    await world.pass_time(timedelta(0))
    assert (await world.instance()).search["count"] == 5
    assert await world.history("event rejected") == [("event rejected", "Later")]


@pytest.mark.parametrize(
    ("field", "text"),
    [
        ("count", "9" * 20),
        ("count", "9" * 5_000),
        ("share", "nan"),
        ("share", "inf"),
        ("share", "1e400"),
        ("anything", "x" * 1_500),
        ("anything", "ü" * 750),
        ("anything", "a\0b"),
        ("text", "x"),
    ],
)
@in_world(Counted)
async def test_what_no_instance_can_have_is_not_looked_for(world: World, field: str, text: str) -> None:
    with pytest.raises(InvalidRequest, match=field):
        await world.process.engine.list("counted", search={field: text})
