"""Recovery of each shard by a task of its own: the scheduler's call and the tasks find, together, everything once."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from cloud_adapter.document import Instance
from cloud_adapter.engine.engine import Engine
from cloud_adapter.engine.recovery_tasks import LATE, RECOVER_PATH, recover
from cloud_adapter.errors import InvalidRequest, Unavailable
from cloud_adapter.ports import ShardedStore, Store, Task
from cloud_adapter.stores.sqlite.store import SqliteStore
from cloud_adapter.summaries import Due
from gorchestrate.testing.clock import ManualClock
from tests.engine.harness import ManualQueue
from workflow_core import S, Step, Workflow

COUNT = 30
MINUTE = timedelta(minutes=1)


class Stalled(Workflow, name="stalled"):
    definition = S(Step("move", lambda w: None))


class InShards(SqliteStore):
    """A store that reads three shards, of which one has two numbers."""

    shards: Sequence[Sequence[int]] = ((0, 3), (1,), (2,))

    async def due(
        self, before: datetime, limit: int = 100, *, after: Due | None = None, shard: Sequence[int] | None = None
    ) -> Sequence[Due]:
        found = await super().due(before, 1_000, after=after)
        return [due for due in found if shard is None or int(due.id) % 4 in shard][:limit]

    async def in_shard(
        self, workflow: str, shard: Sequence[int], *, status: str | None = None
    ) -> AsyncGenerator[Instance | str]:
        raise NotImplementedError
        yield


class World:
    """Stalled instances, and a process that recovers them."""

    def __init__(self, store: SqliteStore) -> None:
        self.store = store
        self.clock = ManualClock()
        self.queue = ManualQueue(self.clock)
        self.engine = Engine([Stalled], store, self.queue, clock=self.clock)

    async def stall(self) -> None:
        for number in range(COUNT):
            await self.engine.create("stalled", str(number))
        self.queue.purge()

    async def recover(self, body: bytes = b"", limit: int = 1_000) -> int:
        count: int = await self.clock.finish(recover(self.engine, body, limit, 45.0))
        return count

    @property
    def tasks(self) -> list[Task]:
        return [task for task in self.queue.tasks.values() if task.path == RECOVER_PATH]

    @property
    def resumed(self) -> list[int]:
        return sorted(int(task.body["id"]) for task in self.queue.resumes)


@asynccontextmanager
async def world(folder: Path) -> AsyncIterator[World]:
    store = InShards(folder / "stalled.db")
    try:
        yield World(store)
    finally:
        await store.close()


def body_of(task: Task) -> bytes:
    return json.dumps(task.body).encode()


def test_the_call_and_its_tasks_find_each_instance_once(tmp_path: Path) -> None:
    async def main() -> None:
        async with world(tmp_path) as w:
            await w.stall()
            assert isinstance(w.store, ShardedStore)
            counts = [await w.recover()]
            assert len(w.tasks) == 2
            assert {tuple(task.body["shard"]) for task in w.tasks} < {(0, 3), (1,), (2,)}
            counts += [await w.recover(body_of(task)) for task in w.tasks]
            assert sum(counts) == COUNT
            assert sorted(counts) == [7, 8, 15], "each has found what is in its shard"
            assert w.resumed == list(range(COUNT))

    asyncio.run(main())


def test_the_call_comes_to_each_shard_if_no_task_is_delivered(tmp_path: Path) -> None:
    async def main() -> None:
        async with world(tmp_path) as w:
            await w.stall()
            for _ in range(3):
                await w.recover()
                await w.clock.advance_to(w.clock.now() + MINUTE)
            assert w.resumed == list(range(COUNT))

    asyncio.run(main())


def test_two_calls_in_a_minute_create_the_same_tasks(tmp_path: Path) -> None:
    async def main() -> None:
        async with world(tmp_path) as w:
            await w.recover()
            first = w.tasks
            await w.clock.advance(1)
            await w.recover()
            assert (w.tasks, len(w.queue.refused)) == (first, 2)
            await w.clock.advance_to(w.clock.now() + MINUTE)
            await w.recover()
            assert len(w.tasks) == 4

    asyncio.run(main())


def test_each_shard_goes_on_where_its_last_call_ended(tmp_path: Path) -> None:
    async def main() -> None:
        async with world(tmp_path) as w:
            await w.stall()
            bodies = [
                json.dumps({"shard": shard, "created_at": w.clock.now().isoformat()}).encode() for shard in ([1], [2])
            ]
            for _ in range(4):
                for body in bodies:
                    assert 1 <= await w.recover(body, limit=2) <= 2
            assert w.resumed == [number for number in range(COUNT) if number % 4 in (1, 2)]

    asyncio.run(main())


def test_a_late_task_and_a_task_of_a_store_that_reads_no_shards_do_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        async with world(tmp_path) as w:
            await w.stall()
            await w.recover()
            task, other = w.tasks
            w.queue.purge()
            await w.clock.advance_to(w.clock.now() + LATE + timedelta(seconds=1))
            assert await w.recover(body_of(task)) == 0
            fresh = other.body | {"created_at": w.clock.now().isoformat()}
            InShards.shards, shards = (), InShards.shards
            try:
                assert await w.recover(json.dumps(fresh).encode()) == 0
                assert w.queue.tasks == {}
                assert await w.recover() == COUNT, "the call looks at everything"
                assert w.tasks == []
            finally:
                InShards.shards = shards
            assert await w.recover(json.dumps(fresh).encode()) > 0

    asyncio.run(main())


def test_one_shard_needs_no_task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(InShards, "shards", ((0, 1, 2, 3),))

    async def main() -> None:
        async with world(tmp_path) as w:
            await w.stall()
            assert await w.recover() == COUNT
            assert w.tasks == []

    asyncio.run(main())


@pytest.mark.parametrize("body", [b"", b"x", b"[]", b"{}", b"null", b'{"by": "the scheduler"}'])
def test_each_other_body_is_that_of_the_scheduler(tmp_path: Path, body: bytes) -> None:
    async def main() -> None:
        async with world(tmp_path) as w:
            await w.recover(body)
            assert len(w.tasks) == len(InShards.shards) - 1

    asyncio.run(main())


@pytest.mark.parametrize(
    "body",
    [
        b'"shard"',
        b'{"shard": [0]}',
        b'{"shard": [], "created_at": "2030-01-01T00:00:00Z"}',
        b'{"shard": [-1], "created_at": "2030-01-01T00:00:00Z"}',
        b'{"shard": 0, "created_at": "2030-01-01T00:00:00Z"}',
    ],
)
def test_a_body_with_a_shard_that_is_not_one_of_a_task_is_refused(tmp_path: Path, body: bytes) -> None:
    async def main() -> None:
        async with world(tmp_path) as w:
            with pytest.raises(InvalidRequest, match="the body of a task to '/recover' is invalid"):
                await w.recover(body)

    asyncio.run(main())


def test_a_queue_that_does_not_answer_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(task: Task) -> None:
        raise Unavailable("the queue does not answer")

    async def main() -> None:
        async with world(tmp_path) as w:
            monkeypatch.setattr(w.queue, "create", fail)
            with pytest.raises(Unavailable):
                await w.recover()

    asyncio.run(main())


def test_only_firestore_has_shards(tmp_path: Path) -> None:
    store: Store = SqliteStore(tmp_path / "a.db")
    assert not isinstance(store, ShardedStore)
    asyncio.run(store.close())
