"""Threads for synchronous user code, separate from the event loop's own threads.

Theory of operation. ``asyncio.to_thread`` shares one pool of ``cpus + 4`` threads between everything in a process. A
few activities that block for long would delay the steps of every instance, and each other. A runtime therefore has two
pools of its own, one for steps and one for activities. By default, each has a thread for every request that is let in,
so nothing waits for a thread. Threads start on demand and end when they are idle for a while, so a large pool costs
nothing while it is unused.

A smaller pool has a line. Waiting in it is separate from the call (``reserved``), because much can happen meanwhile.
When its thread is free, the caller checks whether the call is still wanted, and counts the time from then on.

Most steps end within microseconds. To wake the event loop when a call has ended takes longer than that, so the event
loop first waits for the call itself, for ``BRIEF_SECONDS``. Meanwhile the call has the interpreter for itself. If it
has not ended then, the event loop continues, and does so without waiting for any call of the next ``SLOW_SECONDS``.

The threads are daemons: code that blocks for an hour must not keep a process from ending. The next process does its
work again, as after any other end of a process.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future
from contextlib import AbstractAsyncContextManager, nullcontext, suppress
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any, Final, ParamSpec, TypeVar

from cloud_adapter.engine.user_code import RunSync, own_decimal_context

IDLE_SECONDS_MAX: Final = 30.0
"""How long a thread waits for work before it ends."""

BRIEF_SECONDS: Final = 0.0001
"""How long the event loop itself waits for a call."""

SLOW_SECONDS: Final = 0.01
"""How long the event loop waits for no call after it has waited in vain, which thus takes a hundredth of its time."""

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
        self._slow_until = 0.0

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

    def reserved(self) -> AbstractAsyncContextManager[RunSync]:
        """Waits for a free thread, and yields what makes one call in it, as the pool does. The thread is free again
        when the call has ended, even if the caller was cancelled before."""
        return _Reservation(self)

    def begin(self, function: Callable[..., Any], *args: Any) -> Call:
        """Begins a call in a thread, with the context variables of the caller, and waits for it briefly."""
        context = contextvars.copy_context()
        context.run(own_decimal_context)
        call = self._threads.begin(partial(context.run, function, *args))
        now = time.monotonic()
        if now >= self._slow_until and not call.wait(BRIEF_SECONDS):
            self._slow_until = now + SLOW_SECONDS
        return call

    async def _take(self) -> None:
        """Waits for a free thread, and takes it. Call ``_give_back`` once when it is free again."""
        self._threads.check_open()
        if self._free:
            self._free -= 1
            return
        turn = asyncio.get_running_loop().create_future()
        self._line.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():
                self._give_back()  # it was this call's turn just before
            raise

    def _give_back(self) -> None:
        """The thread that a caller has taken is free again."""
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


class Call:
    """A call in a thread.

    Whoever begins it can wait for it without a future, which takes longer than most calls. Calls that take longer get
    one when it is needed.

    Attributes:
        has_ended: whether it has returned or raised.
    """

    __slots__ = ("_ended", "_function", "_future", "_guard", "_has_begun", "_outcome", "has_ended")

    def __init__(self, function: Callable[[], Any]) -> None:
        self._function = function
        self._outcome: tuple[Any, BaseException | None] = (None, None)
        self._ended = threading.Lock()  # released at the end
        self._ended.acquire()
        self._guard = threading.Lock()
        # Hold `_guard` to set the following attributes.
        self._future: Future[Any] | None = None
        self._has_begun = self.has_ended = False

    def make(self) -> None:
        """Makes it, in the thread."""
        with self._guard:
            self._has_begun, future = True, self._future
        if future is not None and not future.set_running_or_notify_cancel():
            return
        try:
            self._outcome = self._function(), None
        except BaseException as error:
            self._outcome = None, error
        with self._guard:
            self.has_ended, future = True, self._future
        self._ended.release()
        if future is not None:
            self._fulfil(future)
        del self, future  # breaks the cycle of the error and this frame in its traceback

    def wait(self, seconds: float) -> bool:
        """Waits for its end, for that time. Returns whether it has ended. Call it once."""
        return self._ended.acquire(timeout=seconds)

    def result(self) -> Any:
        """Returns its result, or raises its error, after it has ended."""
        result, error = self._outcome
        if error is None:
            return result
        try:
            raise error
        finally:
            del self, error  # breaks the cycle of the error and this frame in its traceback

    def future(self) -> Future[Any]:
        """Returns the future of its result."""
        with self._guard:
            if (future := self._future) is not None:
                return future
            future = self._future = Future()
            if self._has_begun:
                future.set_running_or_notify_cancel()
            has_ended = self.has_ended
        if has_ended:
            self._fulfil(future)
        return future

    def _fulfil(self, future: Future[Any]) -> None:
        result, error = self._outcome
        if error is None:
            future.set_result(result)
        else:
            future.set_exception(error)


class _Reservation:
    """See ``SyncPool.reserved``.

    Attributes:
        call: the future of the call; None if it was not made, or has ended before a future was needed. Unlike asyncio's
            future, it is not done before its thread is free.
    """

    def __init__(self, pool: SyncPool) -> None:
        self._pool = pool
        self.call: Future[Any] | None = None

    async def __aenter__(self) -> RunSync:
        await self._pool._take()
        return self._run

    async def __aexit__(self, *_: object) -> None:
        if self.call is None or self.call.done():
            self._pool._give_back()
        else:
            self.call.add_done_callback(partial(self._ended, asyncio.get_running_loop()))

    async def _run(self, function: Callable[..., Any], *args: Any) -> Any:
        call = self._pool.begin(function, *args)
        if call.has_ended:
            return call.result()
        self.call = future = call.future()
        return await asyncio.get_running_loop().run_in_executor(_Begun(future), function)

    def _ended(self, loop: asyncio.AbstractEventLoop, _: Future[Any]) -> None:
        with suppress(RuntimeError):  # the event loop is closed
            loop.call_soon_threadsafe(self._pool._give_back)


class _Begun(Executor):
    """Passes a call that has begun to an event loop, so that a loop that watches its threads sees it."""

    def __init__(self, call: Future[Any]) -> None:
        self._call = call

    def submit(self, *_: Any, **__: Any) -> Future[Any]:
        """Returns the call."""
        return self._call


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
        self._queue: SimpleQueue[Call | None] = SimpleQueue()
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
        return self.begin(partial(function, *args, **kwargs)).future()

    def begin(self, function: Callable[[], Any]) -> Call:
        """Does the same as ``submit``, without a future."""
        call = Call(function)
        with self._lock:
            self.check_open()
            if self._calls >= len(self._threads) < self._threads_max:
                self._start()
            self._calls += 1
            self._queue.put(call)
        return call

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Rejects new calls. Calls that were submitted before are made; with ``cancel_futures``, those that have not
        begun are cancelled."""
        with self._lock:
            self._is_shut_down = True
            threads = list(self._threads)
        with suppress(Empty):
            while cancel_futures:
                if (call := self._queue.get_nowait()) is not None:
                    call.future().cancel()
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

    def _next(self) -> Call | None:
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
