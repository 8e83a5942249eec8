"""The threads for synchronous user code."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import itertools
import subprocess
import sys
import threading
import time
import weakref
from concurrent.futures import CancelledError, Executor, wait
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any
from unittest.mock import Mock

import pytest

from cloud_adapter.engine import sync_pool
from cloud_adapter.engine.sync_pool import IDLE_SECONDS_MAX, DaemonThreads, SyncPool
from cloud_adapter.engine.user_code import RunSync
from cloud_adapter.hosting.embedded import EmbeddedRuntime
from cloud_adapter.settings import Settings
from workflow_core import Activity, ForEach, S, Step, Workflow

SECONDS_MAX = 20.0


class Gate:
    """Holds threads up until it is opened."""

    def __init__(self) -> None:
        self.reached = threading.Semaphore(0)
        self.opened = threading.Event()

    def __call__(self) -> str:
        self.reached.release()
        assert self.opened.wait(SECONDS_MAX)
        return threading.current_thread().name

    def wait_for(self, number: int) -> None:
        for _ in range(number):
            assert self.reached.acquire(timeout=SECONDS_MAX)


def test_it_is_what_the_engine_takes() -> None:
    pool: RunSync = SyncPool("test", 1)
    assert asyncio.run(_result(pool, divmod, 7, 2)) == (3, 1)


async def _result(pool: RunSync, *call: Any) -> Any:
    return await pool(*call)


def test_context_variables_are_carried_over_and_changes_stay_there() -> None:
    variable = contextvars.ContextVar("variable", default="none")

    def look() -> str:
        found = variable.get()
        variable.set("changed")
        return found

    async def main() -> None:
        pool = SyncPool("test", 1)
        variable.set("caller")
        assert [await pool(look), await pool(look)] == ["caller", "caller"]
        assert variable.get() == "caller"
        pool.close()

    asyncio.run(main())


def test_the_event_loop_waits_for_a_call_unless_it_has_just_waited_in_vain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sync_pool, "BRIEF_SECONDS", SECONDS_MAX)
    monkeypatch.setattr(sync_pool, "SLOW_SECONDS", 3_600.0)

    async def main() -> None:
        pool, gate = SyncPool("test", 3), Gate()
        in_executor = Mock(wraps=asyncio.get_running_loop().run_in_executor)
        monkeypatch.setattr(asyncio.get_running_loop(), "run_in_executor", in_executor)
        with pytest.raises(StopIteration, match="3"):
            pool(len, "abc").send(None)
        with pytest.raises(ZeroDivisionError):
            pool(divmod, 1, 0).send(None)
        assert in_executor.call_count == 0
        monkeypatch.setattr(sync_pool, "BRIEF_SECONDS", 0.001)
        calls = [asyncio.create_task(pool(gate))]
        await asyncio.sleep(0)
        monkeypatch.setattr(sync_pool, "BRIEF_SECONDS", SECONDS_MAX)  # as long as the gate stays closed
        calls.append(asyncio.create_task(pool(gate)))
        await asyncio.sleep(0)
        assert in_executor.call_count == 2, "a loop that watches its threads sees them"
        gate.opened.set()
        assert len(await asyncio.gather(*calls)) == 2
        pool.close()

    began = time.monotonic()
    asyncio.run(main())
    assert time.monotonic() - began < SECONDS_MAX


@pytest.mark.parametrize("error", [LookupError("no"), SystemExit(3), KeyboardInterrupt()])
def test_an_error_comes_out_and_the_thread_lives_on(error: BaseException) -> None:
    def fail() -> None:
        raise error

    threads = DaemonThreads("test", 1)
    assert threads.submit(fail).exception(SECONDS_MAX) is error
    assert threads.submit(len, "abc").result(SECONDS_MAX) == 3
    assert threads.threads == 1
    threads.shutdown()


def test_many_calls_block_at_the_same_time() -> None:
    gate, threads = Gate(), DaemonThreads("test", 50)
    calls = [threads.submit(gate) for _ in range(60)]
    gate.wait_for(50)
    assert threads.threads == 50
    assert not gate.reached.acquire(timeout=0.05)
    gate.opened.set()
    names = {call.result(SECONDS_MAX) for call in calls}
    assert names == {f"test-{number}" for number in range(1, 51)}
    threads.shutdown()
    assert threads.threads == 0


def test_a_thread_is_used_again_and_ends_when_it_is_idle() -> None:
    threads = DaemonThreads("test", 50, idle_seconds_max=0.05)
    for _ in range(20):
        assert threads.submit(len, "abc").result(SECONDS_MAX) == 3
        _until_idle(threads)
    assert threads.threads == 1
    end = time.monotonic() + SECONDS_MAX
    while threads.threads and time.monotonic() < end:
        time.sleep(0.01)
    assert threads.threads == 0
    assert threads.submit(len, "abc").result(SECONDS_MAX) == 3
    threads.shutdown()


def _until_idle(threads: DaemonThreads) -> None:
    end = time.monotonic() + SECONDS_MAX
    while not threads.idle and time.monotonic() < end:
        time.sleep(0)


def test_nothing_is_lost_while_threads_come_and_go() -> None:
    threads = DaemonThreads("test", 8, idle_seconds_max=0.0)
    calls = []
    for number in range(2_000):
        calls.append(threads.submit(time.sleep, 0.0005 * (number % 3)))
        time.sleep(0.0001)
    done, waiting = wait(calls, SECONDS_MAX)
    assert (len(done), len(waiting)) == (2_000, 0)
    threads.shutdown()


def test_a_call_that_comes_while_a_thread_gives_up_waiting_is_made_also_if_all_end_then(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    put, gets = threading.Event(), itertools.count()

    class LateQueue:
        """The second call of ``get`` ends without a result, just after something was put."""

        def __init__(self) -> None:
            self.queue: SimpleQueue[Any] = SimpleQueue()
            self.put, self.get_nowait = self.queue.put, self.queue.get_nowait

        def get(self, timeout: float) -> Any:
            if next(gets) == 1:
                assert put.wait(SECONDS_MAX)
                raise Empty
            return self.queue.get(timeout=timeout)

    monkeypatch.setattr(sync_pool, "SimpleQueue", LateQueue)
    threads = DaemonThreads("test", 1)
    assert threads.submit(len, "abc").result(SECONDS_MAX) == 3
    _until_idle(threads)
    call = threads.submit(len, "ab")
    threads.shutdown(wait=False)
    put.set()
    assert call.result(SECONDS_MAX) == 2


def test_what_a_call_held_is_released_when_it_has_ended() -> None:
    class Large:
        pass

    def fail(large: Large) -> None:
        raise LookupError

    threads, large = DaemonThreads("test", 1), Large()
    held = weakref.ref(large)
    gc.disable()
    try:
        assert isinstance(threads.submit(fail, large).exception(SECONDS_MAX), LookupError)
        del large
        _until_idle(threads)
        assert held() is None
    finally:
        gc.enable()
    threads.shutdown()


def test_closing_cancels_what_has_not_begun_and_waits_for_nothing() -> None:
    async def main() -> None:
        gate, pool = Gate(), SyncPool("test", 1)
        running, waiting = asyncio.ensure_future(pool(gate)), asyncio.ensure_future(pool(gate))
        await asyncio.to_thread(gate.wait_for, 1)
        pool.close()
        pool.close()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        with pytest.raises(RuntimeError, match="shut down"):
            await pool(gate)
        assert not running.done()
        gate.opened.set()
        assert await running == "test-1"

    asyncio.run(main())


def test_calls_that_wait_for_a_thread_begin_in_their_order_and_may_give_up() -> None:
    async def main() -> None:
        gate, pool, made = Gate(), SyncPool("test", 1), list[int]()
        assert not pool.is_full
        running = asyncio.ensure_future(pool(gate))
        await asyncio.sleep(0)
        assert pool.is_full
        waiting = [asyncio.ensure_future(pool(made.append, number)) for number in range(5)]
        await asyncio.sleep(0)
        waiting[2].cancel()
        gate.opened.set()
        await asyncio.gather(running, *waiting, return_exceptions=True)
        assert made == [0, 1, 3, 4]
        assert waiting[2].cancelled()
        assert not pool.is_full
        pool.close()

    asyncio.run(main())


def test_a_call_that_gives_up_just_when_its_thread_is_free_leaves_it_to_the_next() -> None:
    async def main() -> None:
        pool, made = SyncPool("test", 1), list[str]()
        async with pool.reserved():
            first, second = (asyncio.ensure_future(pool(made.append, name)) for name in "ab")
            await asyncio.sleep(0)
        first.cancel()  # the thread is already its own
        await asyncio.wait_for(asyncio.gather(first, second, return_exceptions=True), SECONDS_MAX)
        assert made == ["b"]
        assert not pool.is_full
        pool.close()

    asyncio.run(main())


def test_a_thread_is_taken_until_its_call_has_ended_even_if_the_caller_gives_up() -> None:
    async def main() -> None:
        gate, pool = Gate(), SyncPool("test", 1)
        running = asyncio.ensure_future(pool(gate))
        await asyncio.to_thread(gate.wait_for, 1)
        running.cancel()
        await asyncio.wait([running])
        assert pool.is_full
        waiting = asyncio.ensure_future(pool(threading.current_thread))
        await asyncio.wait([waiting], timeout=0.05)
        assert not waiting.done()
        gate.opened.set()
        assert (await waiting).name == "test-1"
        pool.close()

    asyncio.run(main())


def test_a_cancelled_call_that_has_not_begun_is_not_made() -> None:
    gate, threads, made = Gate(), DaemonThreads("test", 1), list[str]()
    running = threads.submit(gate)
    gate.wait_for(1)
    waiting, last = threads.submit(made.append, "a"), threads.submit(made.append, "b")
    assert waiting.cancel()
    gate.opened.set()
    running.result(SECONDS_MAX)
    last.result(SECONDS_MAX)
    assert made == ["b"]
    with pytest.raises(CancelledError):
        waiting.result()
    threads.shutdown()


def test_calls_are_made_in_their_order() -> None:
    gate, threads, made = Gate(), DaemonThreads("test", 1), list[int]()
    threads.submit(gate)
    gate.wait_for(1)
    calls = [threads.submit(made.append, number) for number in range(10)]
    gate.opened.set()
    wait(calls, SECONDS_MAX)
    assert made == list(range(10))
    threads.shutdown()


def test_one_idle_thread_is_not_taken_for_two_calls() -> None:
    for _ in range(20):
        threads, both = DaemonThreads("test", 2), threading.Barrier(2)
        threads.submit(len, "abc").result(SECONDS_MAX)
        _until_idle(threads)
        calls = [threads.submit(both.wait, SECONDS_MAX) for _ in range(2)]
        assert sorted(call.result(SECONDS_MAX) for call in calls) == [0, 1]
        threads.shutdown()


def test_a_shutdown_ends_every_idle_thread_at_once() -> None:
    threads, all_of_them = DaemonThreads("test", 20), threading.Barrier(20)
    calls = [threads.submit(all_of_them.wait, SECONDS_MAX) for _ in range(20)]
    wait(calls, SECONDS_MAX)
    begin = time.monotonic()
    threads.shutdown()
    assert threads.threads == 0
    assert time.monotonic() - begin < IDLE_SECONDS_MAX / 2


def test_shutting_down_as_other_executors_do() -> None:
    gate, made = Gate(), list[str]()
    threads: Executor
    with DaemonThreads("test", 1) as threads:
        threads.submit(gate)
        threads.submit(made.append, "a")
        gate.wait_for(1)
        threading.Timer(0.05, gate.opened.set).start()
    assert made == ["a"]


def test_where_the_system_starts_no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    gate, threads = Gate(), DaemonThreads("test", 2)

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError, match="new thread"):
            threads.submit(gate)
    running = threads.submit(gate)
    gate.wait_for(1)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        waiting = threads.submit(len, "abc")
    gate.opened.set()
    assert running.result(SECONDS_MAX) == "test-2"
    assert waiting.result(SECONDS_MAX) == 3
    threads.shutdown()


def test_a_call_that_blocks_does_not_keep_the_process_from_ending(tmp_path: Path) -> None:
    source = tmp_path / "blocks.py"
    source.write_text("""
import asyncio, threading, time
from cloud_adapter.engine.sync_pool import SyncPool

async def main():
    pool, begun = SyncPool("test", 2), asyncio.Event()
    loop = asyncio.get_running_loop()
    def block():
        loop.call_soon_threadsafe(begun.set)
        time.sleep(600)
    call = asyncio.ensure_future(pool(block))
    await begun.wait()
    await pool(len, "leaves an idle thread")
    call.cancel()
    pool.close()

asyncio.run(main())
""")
    root = Path(__file__).parents[2]
    ended = subprocess.run(
        [sys.executable, "-W", "error", "-X", "dev", source],
        cwd=root,
        env={"PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")


GATE = Gate()
DONE = threading.Event()


ENDED: SimpleQueue[str] = SimpleQueue()
"""The names of the threads in which activities have ended."""


def block() -> None:
    ENDED.put(GATE())


class Blocked(Workflow, name="blocked"):
    definition = S(ForEach("each", lambda w: range(40), Activity("block", block), parallel=True))


class Small(Workflow, name="small"):
    def do(self) -> None:
        assert threading.current_thread().name.startswith("gorchestrate-step")
        DONE.set()

    definition = S(Step("do", do))


def test_activities_that_block_hold_up_neither_each_other_nor_the_steps_of_other_instances(tmp_path: Path) -> None:
    async def main() -> None:
        runtime = EmbeddedRuntime([Blocked, Small], Settings(db=tmp_path / "blocked.db"))
        await runtime.start()
        try:
            await runtime.engine.create("blocked", "1")
            await asyncio.to_thread(GATE.wait_for, 40)
            await runtime.engine.create("small", "1")
            assert await asyncio.to_thread(DONE.wait, SECONDS_MAX)
            GATE.opened.set()
            for _ in range(40):
                name = await asyncio.to_thread(ENDED.get, timeout=SECONDS_MAX)
                assert name.startswith("gorchestrate-activity-")
        finally:
            GATE.opened.set()
            await runtime.close()
        for pool in (runtime.pools.steps, runtime.pools.activities):
            with pytest.raises(RuntimeError, match="shut down"):
                await pool(len, "abc")

    asyncio.run(asyncio.wait_for(main(), SECONDS_MAX))


@pytest.mark.parametrize(("setting", "threads"), [(None, 400), (7, 7)])
def test_the_number_of_threads_is_that_of_the_deliveries_or_of_the_setting(
    tmp_path: Path, setting: int | None, threads: int
) -> None:
    async def main() -> None:
        runtime = EmbeddedRuntime([Small], Settings(db=tmp_path / "embedded.db", sync_threads=setting))
        assert (runtime.pools.steps.threads_max, runtime.pools.activities.threads_max) == (threads, threads)
        await runtime.close()

    asyncio.run(main())
