"""The queue in PostgreSQL: the contract of all queues, and what is its own."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from cloud_adapter.errors import Conflict, DuplicateKey, InstanceExists, InvalidRequest, TooLarge
from cloud_adapter.ports import TASK_BYTES_MAX, Task, TransactionalQueue
from cloud_adapter.postgresql.connections import Connections
from cloud_adapter.queues.postgresql import CLAIM_SECONDS, PostgresqlQueue
from cloud_adapter.queues.retries import RetryConfig
from cloud_adapter.queues.rules import RETENTION
from cloud_adapter.queues.turns import Shares
from cloud_adapter.stores.postgresql.store import PostgresqlStore
from gorchestrate.testing.clock import START, ManualClock
from tests.contract.queue_contract import QueueContract, QueueHarness, Receiver, task
from tests.contract.store_contract import a_key, an_instance, changed
from tests.emulator.harness import until
from tests.postgresql import Server


@dataclass
class Harness:
    """A queue of one process; ``other`` makes one of another process on the same database."""

    url: str
    clock: ManualClock = field(default_factory=ManualClock)
    options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.receiver = Receiver(self.clock.now)
        self.store = PostgresqlStore(Connections(self.url))
        self.queue = PostgresqlQueue(self.store.connections, self.store, self.receiver, self.clock, **self.options)
        self.all = [self]

    def other(self) -> Harness:
        self.all.append(Harness(self.url, self.clock, self.options))
        return self.all[-1]

    def now(self) -> datetime:
        return self.clock.now()

    async def advance(self, seconds: float = 0) -> None:
        target = self.now() + timedelta(seconds=seconds)
        await until(self._is_quiet)
        while (wake_at := self.clock.next_wake) is not None and wake_at <= target:
            await self.clock.advance_to(max(wake_at, self.now()))
            await until(self._is_quiet)
        await self.clock.advance_to(target)
        await until(self._is_quiet)

    async def _is_quiet(self) -> bool:
        await self.clock.settle()
        return not any(each.store.connections.busy for each in self.all)

    async def close(self) -> None:
        await self.queue.close(grace_seconds=0)
        await self.store.close()


class TestContract(QueueContract):
    @pytest.fixture(autouse=True)
    def database(self, postgresql_url: str) -> None:
        self.url = postgresql_url

    @asynccontextmanager
    async def open(self) -> AsyncIterator[QueueHarness]:
        harness = Harness(self.url)
        await harness.queue.start()
        yield harness
        await harness.close()


def run(url: str, scenario: Callable[[Harness], Awaitable[None]], *, started: bool = True, **options: Any) -> None:
    async def main() -> None:
        harness = Harness(url, options=options)
        if started:
            await harness.queue.start()
        try:
            await scenario(harness)
        finally:
            for each in harness.all:
                await each.close()

    asyncio.run(main())


def rows(server: Server) -> dict[str, Any]:
    """The tasks that have not ended, by name."""
    found = server.execute("SELECT * FROM gorchestrate.tasks WHERE ended_at IS NULL ORDER BY name")
    return {row["name"]: row for row in found}


# --- several processes -----------------------------------------------------------------------


def test_of_several_processes_one_delivers_a_task(postgresql_url: str) -> None:
    async def scenario(h: Harness) -> None:
        names = [f"task-{number:03}" for number in range(300)]
        await asyncio.gather(*(h.queue.create(task(name)) for name in names))
        for _ in range(3):
            await h.other().store.ping()
        await asyncio.gather(*(each.queue.start() for each in h.all))
        await h.advance(2 * CLAIM_SECONDS)
        delivered = [each.receiver.names for each in h.all]
        assert sorted(name for each in delivered for name in each) == names
        assert sum(bool(each) for each in delivered) > 1

    run(postgresql_url, scenario, started=False)


def test_the_task_of_a_process_that_died_is_delivered_by_another(postgresql_url: str) -> None:
    async def scenario(h: Harness) -> None:
        dead = h.other()
        dead.receiver.hold("a")
        await dead.queue.start()
        await dead.queue.create(task("a", id="x"))
        await h.advance()
        assert dead.receiver.names == ["a"]
        await dead.close()  # nothing is reported: its store is closed before its deliveries end
        await h.queue.start()
        await h.advance(CLAIM_SECONDS + 2)
        assert [(each.task.body, each.retries) for each in h.receiver.deliveries] == [({"id": "x"}, 1)]

    run(postgresql_url, scenario, started=False)


def test_a_claim_is_renewed_while_its_delivery_runs(postgresql_server: Server, postgresql_url: str) -> None:
    async def scenario(h: Harness) -> None:
        other = h.other()
        h.receiver.hold("slow")
        await h.queue.create(task("slow"))
        await h.advance()
        await other.queue.start()
        await h.advance(10 * CLAIM_SECONDS)
        h.receiver.release("slow")
        await h.advance(2 * CLAIM_SECONDS)
        assert h.receiver.acknowledged == ["slow"]
        assert other.receiver.names == []

    run(postgresql_url, scenario)
    assert rows(postgresql_server) == {}


def test_a_process_whose_claim_has_ended_moves_nothing(postgresql_url: str, postgresql_server: Server) -> None:
    async def scenario(h: Harness) -> None:
        other = h.other()
        h.receiver.hold("a")
        other.receiver.hold("a")
        await h.queue.create(task("a"))
        await h.advance()
        # As after a pause of the whole process, the claim of the first one has ended.
        await h.store.connections.write("UPDATE gorchestrate.tasks SET due_at = '2000-01-01'")
        await other.queue.start()
        await other.advance()
        assert other.receiver.names == ["a"]
        h.receiver.refuse("a", 1)
        h.receiver.release("a")
        await h.advance(5)
        assert h.receiver.names == other.receiver.names == ["a"]
        other.receiver.release("a")
        await h.advance(60)
        assert (h.receiver.acknowledged, other.receiver.acknowledged) == ([], ["a"])

    run(postgresql_url, scenario)
    assert rows(postgresql_server) == {}


def test_what_is_delivered_at_the_end_is_cancelled_and_comes_again(
    postgresql_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario(h: Harness) -> None:
        h.receiver.hold("a")
        await h.queue.create(task("a"))
        await h.advance()
        await h.queue.close(grace_seconds=0)
        assert h.receiver.cancelled == ["a"]
        await h.queue.close(grace_seconds=0)
        other = h.other()
        await other.queue.start()
        await h.advance(1)
        assert other.receiver.acknowledged == ["a"]

    run(postgresql_url, scenario)
    assert "1 deliveries were still running" in caplog.text


# --- limits ----------------------------------------------------------------------------------


def test_a_group_gets_its_share(postgresql_url: str) -> None:
    async def scenario(h: Harness) -> None:
        names = [f"big-{number:03}" for number in range(150)]
        for name in names:
            h.receiver.hold(name)
        await asyncio.gather(*(h.queue.create(Task(name, "/resume", {}, group="big")) for name in names))
        await h.advance(3)
        assert 50 < len(h.receiver.names) <= 100
        for number in range(5):
            await h.queue.create(Task(f"small-{number}", "/resume", {}, group=f"small-{number}"))
        await h.advance()
        assert sorted(h.receiver.acknowledged) == [f"small-{number}" for number in range(5)]
        for name in names:
            h.receiver.release(name) if name in h.receiver.names else h.receiver.gates.pop(name)
        await h.advance(10)
        assert sorted(h.receiver.acknowledged)[:150] == names

    run(postgresql_url, scenario, concurrent_max=200, shares=Shares(of_group=100, beyond_first=150))


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"concurrent_max": 1}, id="deliveries"),
        pytest.param({"concurrent_max": 10, "shares": Shares(of_group=1, beyond_first=10)}, id="deliveries of a group"),
    ],
)
def test_the_end_of_a_delivery_makes_room_for_the_next_one_at_once(
    postgresql_url: str, options: dict[str, Any]
) -> None:
    async def scenario(h: Harness) -> None:
        h.receiver.hold("first")
        for name in ("first", "second"):
            await h.queue.create(Task(name, "/resume", {}, group="a"))
            await h.advance()
        assert h.receiver.names == ["first"]
        h.receiver.release("first")
        await h.advance()
        assert h.receiver.names == ["first", "second"]
        assert h.now() == START

    run(postgresql_url, scenario, **options)


def test_a_task_is_given_up_after_its_attempts(
    postgresql_server: Server, postgresql_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario(h: Harness) -> None:
        h.receiver.refuse("a", 9, LookupError("no such thing"))
        await h.queue.create(task("a"))
        await h.advance(60)
        assert [each.retries for each in h.receiver.deliveries] == [0, 1, 2]

    run(postgresql_url, scenario, retry=RetryConfig(max_attempts=3))
    assert "task a is given up after 3 attempts" in caplog.text
    assert rows(postgresql_server) == {}


def test_a_name_is_free_after_an_hour(postgresql_server: Server, postgresql_url: str) -> None:
    async def scenario(h: Harness) -> None:
        for seconds in (0, RETENTION.total_seconds() + 120):
            h.clock.jump(seconds)
            await h.advance(5)
            await h.queue.create(task("a"))
            await h.advance()
        assert h.receiver.names == ["a", "a"]

    run(postgresql_url, scenario)


def test_a_queue_survives_that_its_database_does_not_answer(
    postgresql_server: Server, postgresql_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario(h: Harness) -> None:
        await h.advance()
        await h.store.connections.write("ALTER TABLE gorchestrate.tasks RENAME TO elsewhere")
        await h.advance(5)
        await h.store.connections.write("ALTER TABLE gorchestrate.elsewhere RENAME TO tasks")
        await h.queue.create(task("a"))
        await h.advance(5)
        assert h.receiver.names == ["a"]

    with caplog.at_level(logging.WARNING):
        run(postgresql_url, scenario)
    assert "the queue waits for its database" in caplog.text


# --- one transaction -------------------------------------------------------------------------


def test_a_commit_and_its_tasks_are_one_transaction(postgresql_server: Server, postgresql_url: str) -> None:
    async def scenario(h: Harness) -> None:
        assert isinstance(h.queue, TransactionalQueue)
        instance, later = an_instance(count=0), START + timedelta(days=1)
        await h.queue.writer([task("first"), task("timer", later)], []).create(instance, a_key())
        await h.advance()
        assert h.receiver.names == ["first"]

        loaded = await h.store.load("pizza", "order-1")
        writer = h.queue.writer([task("second")], ["timer"])
        await h.store.commit(changed(loaded, count=1))
        with pytest.raises(Conflict):
            await writer.commit(changed(loaded, count=2))
        with pytest.raises(InstanceExists):
            await writer.create(instance)
        loaded = await h.store.load("pizza", "order-1")
        with pytest.raises(DuplicateKey):
            await writer.commit(changed(loaded, count=2), [a_key()])
        await h.advance(60)
        assert h.receiver.names == ["first"]
        assert await h.store.load("pizza", "order-1") == loaded

        await writer.commit(changed(loaded, count=2), [a_key("key-2")])
        await h.advance()
        assert h.receiver.names == ["first", "second"]

    run(postgresql_url, scenario)
    assert rows(postgresql_server) == {}, "the timer was deleted"


def test_a_writer_that_writes_twice_creates_a_task_once(postgresql_url: str) -> None:
    async def scenario(h: Harness) -> None:
        await h.store.create(an_instance(count=0))
        writer = h.queue.writer([Task("", "/resume", {})], [])
        for count in range(2):
            await writer.commit(changed(await h.store.load("pizza", "order-1"), count=count))
        await h.advance(5)
        assert len(h.receiver.names) == 1

    run(postgresql_url, scenario)


def test_a_writer_checks_its_tasks_before_anything_is_written(postgresql_url: str) -> None:
    async def scenario(h: Harness) -> None:
        for wrong, error in (
            (Task("a b", "/resume", {}), InvalidRequest),
            (Task("a", "/resume", {}, datetime(2030, 1, 1)), InvalidRequest),
            (Task("a", "/resume", {}, datetime.max.replace(tzinfo=UTC)), InvalidRequest),
            (Task("a", "/resume", {"text": "x" * TASK_BYTES_MAX}), TooLarge),
        ):
            with pytest.raises(error):
                h.queue.writer([task("fine"), wrong], [])

    run(postgresql_url, scenario, started=False)


def test_it_cannot_be_started_twice(postgresql_url: str) -> None:
    async def scenario(h: Harness) -> None:
        with pytest.raises(RuntimeError, match="only once"):
            await h.queue.start()

    run(postgresql_url, scenario)
