"""What a search field may hold: what no store could find is refused before anything is written."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from cloud_adapter.errors import InvalidRequest
from tests.engine.harness import World, in_world
from workflow_core import InvalidInput, On, Retry, S, Select, Step, Workflow


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
