"""An event loop without time, threads or I/O, and a timeline of planned calls. A simulation waits only on these.

Nothing here is random or depends on what is simulated: the same calls in the same order lead to the same run.
"""

from __future__ import annotations

import asyncio
import heapq
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context
from itertools import count
from typing import Any, Self, TypeVarTuple

Ts = TypeVarTuple("Ts")


class Loop(asyncio.AbstractEventLoop):
    """Runs coroutines, first in, first out, until each of them waits for a future that somebody else resolves."""

    @classmethod
    def make(cls) -> Self:
        """A loop. It has only those methods of a loop that a simulation uses; type checkers count it as abstract."""
        return cls()

    def __init__(self) -> None:
        self._ready: deque[asyncio.Handle] = deque()

    def run_ready(self) -> None:
        """Runs whatever can run."""
        before = asyncio._get_running_loop()
        asyncio._set_running_loop(self)
        try:
            while self._ready:
                handle = self._ready.popleft()
                if not handle.cancelled():
                    handle._run()
        finally:
            asyncio._set_running_loop(before)

    def call_soon(
        self, callback: Callable[[*Ts], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        self._ready.append(handle)
        return handle

    call_soon_threadsafe = call_soon

    def run_in_executor(self, executor: Any, func: Callable[[*Ts], Any], *args: *Ts) -> Any:
        """Lets an executor that has no real threads make a call."""
        return asyncio.wrap_future(executor.submit(func, *args), loop=self)

    def is_closed(self) -> bool:
        return False

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(self, coro: Any, *, name: Any = None, context: Context | None = None, **_: Any) -> Any:
        return asyncio.Task(coro, loop=self, name=name, context=context)

    def get_debug(self) -> bool:
        return False

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Errors that nobody has fetched are those of processes that were killed."""


class Timeline:
    """What is to happen when, in seconds; what is planned for the same time happens in the order of planning."""

    def __init__(self) -> None:
        self.now = 0.0
        self._planned: list[tuple[float, int, Callable[..., object], tuple[Any, ...]]] = []
        self._number = count()

    def at(self, time: float, callback: Callable[..., object], *args: Any) -> None:
        heapq.heappush(self._planned, (max(time, self.now), next(self._number), callback, args))

    def after(self, seconds: float, callback: Callable[..., object], *args: Any) -> None:
        self.at(self.now + seconds, callback, *args)

    def next(self) -> bool:
        """Lets the next thing happen; False if there is none."""
        if not self._planned:
            return False
        self.now, _, callback, args = heapq.heappop(self._planned)
        callback(*args)
        return True


def run_alone(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Runs a coroutine that waits for nothing outside of itself."""
    loop = Loop.make()
    task = loop.create_task(coroutine)
    loop.run_ready()
    return task.result()
