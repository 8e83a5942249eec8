"""A process assumes that nobody else has committed, while another one has: clients must not notice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from cloud_adapter.engine.engine import Engine
from cloud_adapter.engine.operations import Operation, Pause, Unpause
from cloud_adapter.errors import InstanceNotFound, TooLarge
from cloud_adapter.hosting.embedded import EmbeddedRuntime
from cloud_adapter.settings import Settings
from tests.engine.harness import ID, World, in_world
from workflow_core import Access, Action, On, Principal, S, Select, While, Workflow

ANN, BOSS = (Principal(kind="user", id=id, roles=frozenset({"clerk"})) for id in ("ann", "boss"))


class Ledger(Workflow, name="ledger"):
    """Once it is closed, only the boss may see it."""

    access = Access(read={"clerk"}, send={"clerk"})
    text: str = ""
    is_closed: bool = False

    def add(self, count: int) -> int:
        self.text += "x" * count
        return len(self.text)

    def clear(self) -> None:
        self.text = ""

    def close(self) -> None:
        self.is_closed = True

    def authorize(self, principal: Principal, action: Action, event: str | None) -> bool:
        return principal.id == "boss" or not self.is_closed

    definition = S(
        While("for ever", lambda w: True, Select("wait", On("Add", add), On("Clear", clear), On("Close", close)))
    )


@asynccontextmanager
async def two_engines(path: Path) -> AsyncIterator[tuple[Engine, Engine]]:
    """Two processes on one file; the first one has created an instance."""
    one, other = (EmbeddedRuntime([Ledger], Settings(db=str(path / "db"))) for _ in range(2))
    try:
        await one.engine.create("ledger", "a")
        yield one.engine, other.engine
    finally:
        await one.close()
        await other.close()


def test_an_event_is_not_too_large_because_of_an_assumption(tmp_path: Path) -> None:
    async def run() -> None:
        async with two_engines(tmp_path) as (one, other):
            await one.handle_event("ledger", "a", "Add", b"600000")
            await other.handle_event("ledger", "a", "Clear")
            assert await one.handle_event("ledger", "a", "Add", b"600000") == b"600000"
            with pytest.raises(TooLarge):
                await one.handle_event("ledger", "a", "Add", b"600000")

    asyncio.run(run())


@pytest.mark.parametrize("event", ["Add", "Unknown"])
def test_a_stored_response_is_not_returned_because_of_an_assumption(tmp_path: Path, event: str) -> None:
    async def run() -> None:
        async with two_engines(tmp_path) as (one, other):
            assert await one.handle_event("ledger", "a", "Add", b"3", key="k", principal=ANN) == b"3"
            await other.handle_event("ledger", "a", "Close", principal=BOSS)
            with pytest.raises(InstanceNotFound):
                await one.handle_event("ledger", "a", event, b"3", key="k", principal=ANN)

    asyncio.run(run())


def test_a_repeated_request_still_gets_its_stored_response(tmp_path: Path) -> None:
    async def run() -> None:
        async with two_engines(tmp_path) as (one, other):
            for engine in (one, one, other, one):
                assert await engine.handle_event("ledger", "a", "Add", b"3", key="k", principal=ANN) == b"3"

    asyncio.run(run())


@in_world(Ledger)
async def test_nothing_is_assumed_of_an_instance_that_an_operation_of_the_same_process_has_changed(
    world: World,
) -> None:
    one = world.process
    await world.create()
    await one.send("Add", 1)
    operations: list[Operation] = [Pause(), Unpause()]
    for operation in operations:
        await world.finish(one.engine.operate("ledger", ID, operation))
    with one.calls() as calls:
        assert [await one.send("Add", 1) for _ in range(3)] == [2, 3, 4]
    assert calls == ["load", "commit", "commit", "commit"]
