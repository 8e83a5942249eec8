"""Where SQLite writes: in the event loop or in the thread of the store; and the results of writes of several loops."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Awaitable, Callable, Sequence
from contextlib import closing
from pathlib import Path

import pytest

from cloud_adapter.stores.sqlite import connections, opening, schema
from cloud_adapter.stores.sqlite.store import SqliteStore
from tests.contract.held_writes import held
from tests.contract.store_contract import an_instance


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.db"


@pytest.fixture(autouse=True)
def is_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """However slow the machine is, the disk counts as fast."""
    monkeypatch.setattr(connections, "HERE_SECONDS_MAX", 60.0)


def use(path: Path, work: Callable[[SqliteStore], Awaitable[None]]) -> None:
    async def main() -> None:
        store = SqliteStore(path)
        try:
            await work(store)
        finally:
            await store.close()

    asyncio.run(asyncio.wait_for(main(), 20))


async def places(store: SqliteStore, count: int, *, size: int = 0) -> set[str]:
    """Makes writes that wait for each other. Returns where they were made: ``here`` or ``thread``."""
    found = set()

    def work(connection: sqlite3.Connection) -> None:
        connection.execute("DELETE FROM inbox")
        found.add("here" if threading.current_thread() is threading.main_thread() else "thread")

    await asyncio.gather(*(store.connections.write(work, size=size) for _ in range(count)))
    return found


def test_a_few_writes_are_made_in_the_event_loop_in_one_transaction(path: Path) -> None:
    async def work(store: SqliteStore) -> None:
        queries: list[str] = []
        await store.connections.read(lambda connection: connection.set_trace_callback(queries.append))
        assert await places(store, connections.HERE_TOGETHER_MAX) == {"here"}
        assert queries.count("COMMIT") == 1
        assert await places(store, 1) == {"here"}

    use(path, work)


def test_a_write_is_made_at_once_if_only_one_had_gathered_before(path: Path) -> None:
    async def work(store: SqliteStore) -> None:
        made: list[str] = []

        def write(name: str) -> asyncio.Future[None]:
            return asyncio.ensure_future(store.connections.write(lambda _: made.append(name)))

        async def made_by(*writes: asyncio.Future[None]) -> Sequence[Sequence[str]]:
            """What is made when the writes have begun, and in the end."""
            begun: list[str] = []
            asyncio.get_running_loop().call_soon(lambda: begun.extend(made))
            await asyncio.gather(*writes)
            both = begun, made.copy()
            made.clear()
            return both

        assert await made_by(write("a")) == ([], ["a"])
        assert await made_by(write("b"), write("c")) == (["b"], ["b", "c"])
        assert await made_by(write("d")) == ([], ["d"])
        assert await made_by(write("e")) == (["e"], ["e"])

    use(path, work)


def test_writes_of_two_rounds_share_a_transaction_if_as_many_are_expected(path: Path) -> None:
    async def work(store: SqliteStore) -> None:
        queries: list[str] = []
        await store.connections.read(lambda connection: connection.set_trace_callback(queries.append))

        async def write(*, later: bool) -> None:
            if later:
                await asyncio.sleep(0)
            await places(store, 1)

        async def transactions(*writes: bool) -> int:
            queries.clear()
            await asyncio.gather(*(write(later=later) for later in writes))
            return queries.count("COMMIT")

        assert await transactions(False, False) == 1
        assert await transactions(False, True) == 1
        assert await transactions(False) == 1
        assert await transactions(False, True) == 2, "one was expected"

    use(path, work)


def test_many_writes_and_large_ones_are_made_in_the_thread(path: Path) -> None:
    async def work(store: SqliteStore) -> None:
        assert await places(store, connections.HERE_TOGETHER_MAX + 1) == {"thread"}
        assert await places(store, 1, size=connections.LARGE_BYTES) == {"thread"}
        assert await places(store, 1) == {"here"}

    use(path, work)


def test_while_the_thread_is_at_work_it_makes_the_writes_too(path: Path) -> None:
    async def work(store: SqliteStore) -> None:
        async with held(store):
            waiting = asyncio.ensure_future(places(store, 1))
            await asyncio.wait([waiting], timeout=0.01)
        assert await waiting == {"thread"}
        assert await places(store, 1) == {"here"}

    use(path, work)


def test_after_slow_commits_the_thread_makes_the_writes_for_a_while(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work(store: SqliteStore) -> None:
        assert await places(store, 1) == {"here"}
        monkeypatch.setattr(connections, "HERE_SECONDS_MAX", 0.0)
        assert await places(store, 1) == {"here"}
        assert await places(store, 1) == {"thread"}
        monkeypatch.setattr(connections, "HERE_SECONDS_MAX", 60.0)
        assert await places(store, 1) == {"thread"}
        store.connections._slow_until -= connections.SLOW_SECONDS  # as if that time had passed
        assert await places(store, 1) == {"here"}

    monkeypatch.setattr(connections, "SLOW_SECONDS", 600.0)
    use(path, work)


def test_one_slow_commit_among_fast_ones_changes_nothing_but_several_do(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def commit(store: SqliteStore, *seconds: float) -> bool:
        """Makes commits that take as long as given. Returns whether the next one is made in the thread."""
        loop = asyncio.get_running_loop()
        for each in seconds:
            clock = iter((10.0, 10.0 + each))
            with monkeypatch.context() as patch:
                patch.setattr(loop, "time", lambda clock=clock: next(clock))
                assert store.connections._write_here(loop)
        return store.connections._slow_until > 10.0

    async def work(store: SqliteStore) -> None:
        assert not commit(store, 0.0002, 2.0, *[0.0002] * 10, 0.004, 0.004)
        assert commit(store, 0.004, 0.004)
        store.connections._slow_until = 0.0  # the time is over
        assert not commit(store, 0.0002)
        assert commit(store, 0.004)

    monkeypatch.setattr(connections, "HERE_SECONDS_MAX", 0.001)
    use(path, work)


def test_a_lock_of_another_process_does_not_hold_up_the_event_loop(path: Path) -> None:
    async def work(store: SqliteStore) -> None:
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            waiting = [asyncio.ensure_future(places(store, count)) for count in (1, 3)]
            await asyncio.sleep(0.05)
            assert not any(each.done() for each in waiting)
            other.execute("ROLLBACK")
            assert await asyncio.gather(*waiting) == [{"thread"}] * 2
        assert await places(store, 1) == {"here"}

    use(path, work)


def test_now_and_then_the_thread_makes_writes_and_empties_the_write_ahead_log(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "HERE_IN_A_ROW", 20)

    def pages_max(connection: sqlite3.Connection) -> int:
        (pages,) = connection.execute("PRAGMA wal_autocheckpoint").fetchone()
        return int(pages)

    async def work(store: SqliteStore) -> None:
        assert await store.connections.read(pages_max) == 0, "it would hold up the event loop"
        assert await store.connections.run(pages_max) == opening.WAL_BYTES // opening.PAGE_BYTES
        await store.connections.run(lambda connection: connection.execute("PRAGMA wal_autocheckpoint = 10").fetchone())
        for _ in range(5):
            assert [await places(store, 1) for _ in range(21)] == [{"here"}] * 20 + [{"thread"}]
        for number in range(150):
            await store.create(an_instance(f"order-{number}"))
        log = path.with_name(f"{path.name}-wal")
        assert log.stat().st_size < 1_000_000

    use(path, work)


@pytest.mark.parametrize("page_bytes", [None, 4_096], ids=["a new file", "a file of an earlier release"])
def test_a_file_keeps_its_page_size_and_the_write_ahead_log_has_the_same_size(
    path: Path, page_bytes: int | None
) -> None:
    if page_bytes is not None:
        with closing(sqlite3.connect(path, isolation_level=None)) as earlier:
            earlier.execute(f"PRAGMA page_size = {page_bytes}")
            schema.create_or_upgrade(earlier, path)

    async def work(store: SqliteStore) -> None:
        def sizes(connection: sqlite3.Connection) -> Sequence[int]:
            names = ("page_size", "wal_autocheckpoint")
            return [connection.execute(f"PRAGMA {name}").fetchone()[0] for name in names]

        pages, most = await store.connections.run(sizes)
        assert pages == (page_bytes or opening.PAGE_BYTES)
        assert pages * most == pytest.approx(opening.WAL_BYTES, rel=0.01)

    use(path, work)


def test_a_write_is_made_if_the_store_is_closed_in_the_same_round(path: Path) -> None:
    async def main() -> None:
        store = SqliteStore(path)
        async with held(store):
            waiting = asyncio.create_task(store.create(an_instance()))
            closing_store = asyncio.create_task(store.close())
            await asyncio.wait([closing_store], timeout=0)
        await waiting
        await closing_store

    asyncio.run(asyncio.wait_for(main(), 20))


# --- several event loops, one after another -----------------------------------------------------


@pytest.mark.parametrize("together_max", [0, 20], ids=["in the thread", "in the event loop"])
def test_writes_of_two_event_loops_that_are_made_together_are_told_in_both(
    path: Path, monkeypatch: pytest.MonkeyPatch, together_max: int
) -> None:
    monkeypatch.setattr(connections, "HERE_TOGETHER_MAX", together_max)
    store, end, calls = SqliteStore(path), threading.Event(), list[asyncio.Task[object]]()

    async def begin() -> None:
        calls.append(asyncio.create_task(store.connections.run(lambda _: end.wait())))
        await asyncio.sleep(0)
        calls.append(asyncio.create_task(store.create(an_instance("first"))))
        await asyncio.sleep(0.01)

    async def go_on() -> None:
        waiting = asyncio.create_task(store.create(an_instance("second")))
        await asyncio.sleep(0.01)
        end.set()
        await asyncio.wait_for(waiting, 10)
        assert len((await store.list("pizza")).instances) == 2

    first = asyncio.new_event_loop()
    first.run_until_complete(begin())
    asyncio.run(go_on())
    assert [first.run_until_complete(asyncio.wait_for(call, 10)) for call in calls] == [True, None]
    first.run_until_complete(store.close())
    first.close()


def test_a_write_does_not_wait_for_an_event_loop_that_has_ended_in_the_middle_of_its_round(path: Path) -> None:
    store, first = SqliteStore(path), asyncio.new_event_loop()

    async def go_on() -> None:
        await asyncio.wait_for(store.create(an_instance("second")), 10)
        assert len((await store.list("pizza")).instances) == 2

    waiting = first.create_task(store.create(an_instance("first")))
    first.call_soon(first.stop)
    first.run_forever()
    asyncio.run(go_on())
    first.run_until_complete(waiting)
    first.run_until_complete(store.close())
    first.close()


def test_writes_of_an_event_loop_that_was_closed_harm_no_other(path: Path) -> None:
    store, first = SqliteStore(path), asyncio.new_event_loop()
    waiting = first.create_task(store.create(an_instance("first")))
    first.call_soon(first.stop)
    first.run_forever()
    first.close()

    async def go_on() -> None:
        await asyncio.wait_for(store.create(an_instance("second")), 10)
        await store.close()

    asyncio.run(go_on())
    waiting._log_destroy_pending = False  # type: ignore[attr-defined]
