"""How ``gorchestrate check --against`` reads a store: side by side, within bounds, and each live instance."""

from __future__ import annotations

import asyncio
import io
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from cloud_adapter.cli import live_instances as reading
from cloud_adapter.cli.check import PROGRESS_SECONDS, Progress
from cloud_adapter.cli.stored_instances import check_store
from cloud_adapter.document import Instance
from cloud_adapter.errors import Unavailable
from cloud_adapter.stores.firestore import queries
from cloud_adapter.stores.firestore.shards import Shards
from cloud_adapter.stores.firestore.store import FirestoreStore
from tests.firestore_client import RecordingClient
from tests.simulation.store import Database, SimulatedStore
from workflow_core import Execution, Status

NOW = datetime(2030, 1, 1, tzinfo=UTC)
WORKFLOWS, EACH = 5, 23


class InShards(SimulatedStore):
    """A store that reads shards."""

    @property
    def shards(self) -> Sequence[Sequence[int]]:
        return ((0, 4), (1,), (2,), (3,))

    async def in_shard(
        self, workflow: str, shard: Sequence[int], *, status: str | None = None
    ) -> AsyncGenerator[Instance | str]:
        page = await self.list(workflow, status=status, limit=1_000)
        for summary in page.instances:
            if int(summary.id[1:]) % 5 in shard:
                yield await self.load(workflow, summary.id)


class Wire:
    """The calls of a store. Each takes some turns of the loop.

    Attributes:
        running, most: how many calls of each kind run at the moment, and ran at most.
        fails: the kind of call that fails, from the tenth on.
        turns: how many turns of the loop a call takes: those of the kind, or 5.
    """

    def __init__(self, fails: str = "", **turns: int) -> None:
        self.calls, self.running, self.most = Counter[str](), Counter[str](), Counter[str]()
        self.fails = fails
        self.turns = turns

    async def __call__(self, name: str, land: Callable[[], Any]) -> Any:
        self.calls[name] += 1
        self.running[name] += 1
        self.most[name] = max(self.most[name], self.running[name])
        try:
            for _ in range(self.turns.get(name, 5)):
                await asyncio.sleep(0)
            if name == self.fails and self.calls[name] > 10:
                raise Unavailable("the test cut the call")
            return land()
        finally:
            self.running[name] -= 1


def some_instances(workflows: int, statuses: Sequence[Status]) -> Iterator[Instance]:
    for number in range(WORKFLOWS * EACH):
        workflow, status = f"w{number % workflows}", statuses[number % len(statuses)]
        at = NOW + timedelta(seconds=number)
        execution = Execution(f"i{number}", workflow, status=status, pc=1, created_at=at, updated_at=at)
        wake_at = NOW if status is Status.CANCELED and number % 2 else None
        yield Instance(workflow, f"i{number}", execution, "{}", wake_at=wake_at)


@asynccontextmanager
async def stored(
    wire: Wire,
    workflows: int = WORKFLOWS,
    statuses: Sequence[Status] = tuple(Status),
    cls: type[SimulatedStore] = SimulatedStore,
) -> AsyncIterator[SimulatedStore]:
    """A store of instances in these statuses; nothing is left running at the end."""
    database = Database()
    for instance in some_instances(workflows, statuses):
        database.write(instance, (), (), create=True)
    before = asyncio.all_tasks()
    yield cls(database, wire)
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == before


def expected() -> set[str]:
    statuses = [list(Status)[number % len(Status)] for number in range(WORKFLOWS * EACH)]
    return {
        f"i{number}"
        for number, status in enumerate(statuses)
        if status in reading.LIVE or (status is Status.CANCELED and number % 2)
    }


@pytest.mark.parametrize("page", [1, 2, 7, 100])
@pytest.mark.parametrize("loads", [1, 4, 32])
def test_each_live_instance_is_read_side_by_side(monkeypatch: pytest.MonkeyPatch, page: int, loads: int) -> None:
    monkeypatch.setattr(reading, "PAGE", page)
    monkeypatch.setattr(reading, "LOADS", loads)
    wire = Wire()

    async def main() -> None:
        async with stored(wire) as store:
            found = [instance.id async for instance in reading.live_instances(store) if isinstance(instance, Instance)]
            assert set(found) == expected()

    asyncio.run(main())
    assert wire.most["load"] <= loads
    assert wire.most["load"] > 1 or loads == 1
    assert 1 < wire.most["list"] <= 2 * reading.SCANS * len(reading.LIVE), (
        "one page is read while another one is loaded"
    )


def test_the_instances_of_several_pages_are_loaded_side_by_side(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "PAGE", 10)
    monkeypatch.setattr(reading, "LOADS", 15)
    wire = Wire(load=50)

    async def main() -> None:
        async with stored(wire, workflows=1, statuses=[Status.WAITING]) as store:
            assert (
                len({one.id async for one in reading.live_instances(store) if isinstance(one, Instance)})
                == WORKFLOWS * EACH
            )

    asyncio.run(main())
    assert wire.most["load"] == 15


def test_shards_are_read_side_by_side(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "SHARDS", 7)
    wire = Wire()

    async def main() -> None:
        async with stored(wire, workflows=1, cls=InShards) as store:
            found = [one.id async for one in reading.live_instances(store) if isinstance(one, Instance)]
            assert set(found) == expected()

    asyncio.run(main())
    assert wire.most["list"] == 7


def test_an_instance_that_is_updated_while_shards_are_read_is_found() -> None:
    class Moving(InShards):
        moved = False

        async def in_shard(
            self, workflow: str, shard: Sequence[int], *, status: str | None = None
        ) -> AsyncGenerator[Instance | str]:
            async for instance in super().in_shard(workflow, shard, status=status):
                assert isinstance(instance, Instance)
                if instance.id == "i1" and not self.moved:
                    type(self).moved = True
                    later = replace(instance.execution, updated_at=NOW + timedelta(days=1))
                    await self.commit(replace(instance, execution=later))
                else:
                    yield instance

    async def main() -> None:
        async with stored(Wire(), statuses=[Status.WAITING], cls=Moving) as store:
            found = {one.id async for one in reading.live_instances(store) if isinstance(one, Instance)}
            assert Moving.moved
            assert len(found) == WORKFLOWS * EACH

    asyncio.run(main())


@pytest.mark.slow
def test_each_live_instance_comes_with_the_listing_of_its_shard(
    monkeypatch: pytest.MonkeyPatch, firestore_project: str
) -> None:
    monkeypatch.setattr(queries, "INSTANCES_PER_CALL", 2)

    async def main() -> None:
        client = RecordingClient(firestore_project)
        store = FirestoreStore(client, shards=Shards(4, True))
        await asyncio.gather(*map(store.create, some_instances(WORKFLOWS, list(Status))))
        damaged = {"workflow": "w1", "id": "x", "status": "waiting", "updated_at": NOW, "shard": 29}
        await client.document("workflows/w1/instances/x").set(damaged)
        client.taken()
        found = [instance async for instance in reading.live_instances(store)]
        calls = client.taken()
        report = await check_store(store, [])
        await store.close()
        await client.aclose()
        assert {instance.id for instance in found if isinstance(instance, Instance)} == expected()
        assert {one.what for one in found if isinstance(one, reading.Damaged)} == {
            "the document of 'w1' 'x' has format None, this release reads 1 to 3: upgrade gorchestrate"
        }
        ended = sum(instance.execution.ended for instance in found if isinstance(instance, Instance))
        assert calls.count("GetDocument") == ended, "only ended instances that are due are loaded"
        assert sum(report.checked.values()) == len(expected()) + 1

    asyncio.run(main())


@pytest.mark.parametrize("cls", [SimulatedStore, InShards])
@pytest.mark.parametrize("call", ["list", "load", "due"])
def test_an_error_ends_everything(call: str, cls: type[SimulatedStore]) -> None:
    async def main() -> None:
        wire = Wire(call)
        wire.calls["due"] = 10
        async with stored(wire, cls=cls) as store:
            with pytest.raises(Unavailable, match="the test cut the call"):
                await check_store(store, [])

    asyncio.run(main())


@pytest.mark.parametrize("cls", [SimulatedStore, InShards])
def test_a_reader_may_stop_early(cls: type[SimulatedStore]) -> None:
    async def main() -> None:
        async with stored(Wire(), cls=cls) as store, aclosing(reading.live_instances(store)) as found:
            async for _ in found:
                break

    asyncio.run(main())


def test_the_progress_counts_what_is_checked() -> None:
    async def main() -> None:
        counts: list[int] = []
        async with stored(Wire()) as store:
            report = await check_store(store, [], progress=counts.append)
        assert counts[-1] == sum(report.checked.values()) == len(expected())
        assert counts == sorted(counts)

    asyncio.run(main())


def test_the_progress_is_printed_every_few_seconds() -> None:
    now = 100.0
    stream = io.StringIO()
    progress = Progress(stream, lambda: now)
    for count in range(1, 1_001):
        now += 0.012
        progress(count)
    lines = stream.getvalue().splitlines()
    assert lines == ["417 live instances read, 83 a second", "834 live instances read, 83 a second"]
    assert len(lines) == int(1_000 * 0.012 / PROGRESS_SECONDS)
