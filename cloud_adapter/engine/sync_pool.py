"""Threads for synchronous user code, separate from the event loop's own threads.

Theory of operation. ``asyncio.to_thread`` shares one pool of ``cpus + 4`` threads between everything in a process. A
few activities that block for long would delay the steps of every instance, and each other. A runtime therefore has two
pools of its own, one for steps and one for activities. By default, each has a thread for every request that is let in,
so nothing waits for a thread. Threads start on demand and end when they are idle for a while, so a large pool costs
nothing while it is unused.

A smaller pool has a line. Waiting in it is separate from the call (``reserved``), because much can happen meanwhile.
When its thread is free, the caller checks whether the call is still wanted, and counts the time from then on.

The threads are daemons: code that blocks for an hour must not keep a process from ending. The next process does its
work again, as after any other end of a process.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Executor, Future
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext, suppress
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any, Final, ParamSpec, TypeVar

from cloud_adapter.engine.user_code import RunSync, own_decimal_context
from workflow_core.records import record

IDLE_SECONDS_MAX: Final = 30.0
"""How long a thread waits for work before it ends."""

P = ParamSpec("P")
T = TypeVar("T")


class SyncPool:
    """Runs synchronous functions in its own threads. A pool is a ``RunSync``. Use it in one event loop only.

    Args:
        name: the prefix of the threads' names.
        threads_max: how many functions run at the same time. Others wait for a thread, in the order of their calls.
    """

    def __init__(self, name: str, threads_max: int) -> None:
        self.threads_max = threads_max
        self._threads = DaemonThreads(name, threads_max)
        self._free = threads_max
        self._line: deque[asyncio.Future[None]] = deque()

    @property
    def is_full(self) -> bool:
        """Whether a call would wait for a thread."""
        return not self._free

    async def __call__(self, function: Callable[..., Any], *args: Any) -> Any:
        """Calls a function in a thread, with the context variables of the caller, and returns its result.

        Raises:
            BaseException: the function raised it.
            RuntimeError: the pool is closed, or the system cannot start more threads.
        """
        async with self.reserved() as run:
            return await run(function, *args)

    @asynccontextmanager
    async def reserved(self) -> AsyncIterator[RunSync]:
        """Waits for a free thread, and yields what makes one call in it, as the pool does. The thread is free again
        when the call has ended, even if the caller was cancelled before."""
        loop = asyncio.get_running_loop()
        await self._take(loop)
        place = _Place(self._threads)

        async def run(function: Callable[..., Any], *args: Any) -> Any:
            context = contextvars.copy_context()
            context.run(own_decimal_context)
            return await loop.run_in_executor(place, partial(context.run, function, *args))

        def ended(_: Future[Any]) -> None:
            with suppress(RuntimeError):  # the event loop is closed
                loop.call_soon_threadsafe(self._give_back)

        try:
            yield run
        finally:
            if place.call is None or place.call.done():
                self._give_back()
            else:
                place.call.add_done_callback(ended)

    async def _take(self, loop: asyncio.AbstractEventLoop) -> None:
        self._threads.check_open()
        if self._free:
            self._free -= 1
            return
        turn = loop.create_future()
        self._line.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():
                self._give_back()  # it was this call's turn just before
            raise

    def _give_back(self) -> None:
        while self._line:
            turn = self._line.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1

    def close(self) -> None:
        """Cancels the calls that wait for a thread. Running calls continue, but nothing waits for them. May be called
        again."""
        for turn in self._line:
            turn.cancel()
        self._threads.shutdown(wait=False, cancel_futures=True)


def is_full(run_sync: RunSync) -> bool:
    """Whether a call would wait for a thread. Only a pool makes calls wait."""
    return isinstance(run_sync, SyncPool) and run_sync.is_full


def reserved(run_sync: RunSync) -> AbstractAsyncContextManager[RunSync]:
    """Waits until a call would begin at once, and yields what makes it; see ``SyncPool.reserved``."""
    return run_sync.reserved() if isinstance(run_sync, SyncPool) else nullcontext(run_sync)


class SyncPools:
    """The two pools of a runtime. They are separate so that blocking activities do not delay steps.

    Args:
        threads_max: the largest number of threads of each pool.
    """

    def __init__(self, threads_max: int) -> None:
        self.steps = SyncPool("gorchestrate-step", threads_max)
        self.activities = SyncPool("gorchestrate-activity", threads_max)

    def close(self) -> None:
        """Closes both. May be called again."""
        self.steps.close()
        self.activities.close()


@record(frozen=True, slots=True)
class _Call:
    future: Future[Any]
    function: Callable[[], Any]

    def make(self) -> None:
        if not self.future.set_running_or_notify_cancel():
            return
        try:
            result = self.function()
        except BaseException as error:
            self.future.set_exception(error)
            del self  # breaks the cycle of the future, its error, and this frame in the error's traceback
        else:
            self.future.set_result(result)


class _Place(Executor):
    """Passes one call on to an executor.

    Attributes:
        call: the call; None if it was not made. Unlike asyncio's future, it is not done before its thread is free.
    """

    def __init__(self, threads: Executor) -> None:
        self._threads = threads
        self.call: Future[Any] | None = None

    def submit(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """See ``Executor.submit``."""
        self.call = call = self._threads.submit(function, *args, **kwargs)
        return call


class DaemonThreads(Executor):
    """An executor whose threads do not keep the process from ending, and end by themselves when they are idle.

    The threads wait in a ``SimpleQueue``. With a condition, each of them would wake up only to wait for its lock.

    Args:
        name: the prefix of the threads' names.
        threads_max: the largest number of threads.
        idle_seconds_max: how long a thread waits for work.
    """

    def __init__(self, name: str, threads_max: int, idle_seconds_max: float = IDLE_SECONDS_MAX) -> None:
        self._name = name
        self._threads_max = threads_max
        self._idle_seconds_max = idle_seconds_max
        self._queue: SimpleQueue[_Call | None] = SimpleQueue()
        """The calls that have not begun. A thread that gets None ends."""
        self._lock = threading.Lock()
        # Hold `_lock` to use the following attributes, and to put a call.
        self._threads: set[threading.Thread] = set()
        self._calls = 0  # including those that run
        self._started = 0
        self._is_shut_down = False

    @property
    def threads(self) -> int:
        """The number of threads, including idle ones."""
        with self._lock:
            return len(self._threads)

    @property
    def idle(self) -> int:
        """The number of threads that wait for work."""
        with self._lock:
            return max(0, len(self._threads) - self._calls)

    def check_open(self) -> None:
        """Checks that the executor accepts calls.

        Raises:
            RuntimeError: it was shut down.
        """
        if self._is_shut_down:
            raise RuntimeError(f"the threads {self._name} are shut down, because the process is ending")

    def submit(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Calls the function in a thread, when one is available.

        Raises:
            RuntimeError: the executor was shut down, or the system cannot start more threads.
        """
        call = _Call(Future(), partial(function, *args, **kwargs))
        with self._lock:
            self.check_open()
            if self._calls >= len(self._threads) < self._threads_max:
                self._start()
            self._calls += 1
            self._queue.put(call)
        return call.future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Rejects new calls. Calls that were submitted before are made; with ``cancel_futures``, those that have not
        begun are cancelled."""
        with self._lock:
            self._is_shut_down = True
            threads = list(self._threads)
        with suppress(Empty):
            while cancel_futures:
                if (call := self._queue.get_nowait()) is not None:
                    call.future.cancel()
        for _ in threads:
            self._queue.put(None)
        if wait:
            for thread in threads:
                thread.join()

    def _start(self) -> None:
        self._started += 1
        thread = threading.Thread(target=self._work, name=f"{self._name}-{self._started}", daemon=True)
        self._threads.add(thread)
        try:
            thread.start()
        except RuntimeError:  # the system cannot start more threads, so the call waits for an existing one
            self._threads.remove(thread)
            if not self._threads:
                raise

    def _work(self) -> None:
        while (call := self._next()) is not None:
            call.make()
            del call  # so that the call can be freed while the thread is idle
            with self._lock:
                self._calls -= 1

    def _next(self) -> _Call | None:
        """Waits for the next call. Returns None if this thread is no longer needed."""
        while True:
            try:
                call = self._queue.get(timeout=self._idle_seconds_max)
            except Empty:
                with self._lock:
                    if self._calls >= len(self._threads):
                        continue  # a call was put just now, because this thread counts as idle
                    self._threads.remove(threading.current_thread())
                    return None
            if call is None:
                with self._lock:
                    self._threads.remove(threading.current_thread())
            return call
