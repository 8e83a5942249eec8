"""Threads of a simulated process, of which none is real: the pools of the engine put their calls in line for them.

Synchronous code has its effects when it begins, and then takes time. Nothing can interrupt it but the end of its
process: who has called it may give up meanwhile, and its thread is free only when it returns.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, ClassVar, ParamSpec, TypeVar
from unittest.mock import patch

from cloud_adapter.engine import sync_pool
from cloud_adapter.engine.sync_pool import DaemonThreads, SyncPools
from cloud_adapter.engine.user_code import call
from tests.simulation.actors import CURRENT, Killed, Run

if TYPE_CHECKING:
    from tests.simulation.processes import Process

P = ParamSpec("P")
T = TypeVar("T")


def simulated_pools(process: Process, threads_max: int) -> SyncPools:
    """The pools of a process."""
    pools = SyncPools(threads_max)
    for pool in (pools.steps, pools.activities):
        if process.world.settings.has_late_threads:
            pool._threads._idle_seconds_max = 0.0
        else:
            pool._threads = Threads(process, threads_max)
    return pools


@contextmanager
def late_threads() -> Iterator[None]:
    """Lets the engine start threads of its own inside the block, which begin a little later, and then take no time."""
    simulating = threading.current_thread()

    def current_thread() -> object:
        """Real threads, which a test before has left idle, may end inside the block."""
        current = threading.current_thread()
        return LateThread.current if current is simulating else current

    names = SimpleNamespace(Lock=threading.Lock, Thread=LateThread, current_thread=current_thread)
    with patch.object(sync_pool, "threading", names):
        yield


class LateThread:
    """A thread that the engine has started."""

    current: ClassVar[LateThread | None] = None

    def __init__(self, *, target: Callable[[], None], name: str, daemon: bool) -> None:
        self.process, self.target = CURRENT.get().process, target

    def start(self) -> None:
        """Begins a little later."""
        world = self.process.world
        world.timeline.after(world.durations.latency(), self._run)

    def _run(self) -> None:
        process, timeline = self.process, self.process.world.timeline
        if process.paused_until > timeline.now:
            timeline.at(process.paused_until, self._run)
        elif not process.dead:
            LateThread.current = self
            self.target()


class Threads(DaemonThreads):
    """The threads of a pool."""

    def __init__(self, process: Process, threads_max: int) -> None:
        super().__init__(process.name, threads_max)
        self.process = process
        self.futures: dict[Answer, None] = {}

    def begin(self, function: Callable[[], Any]) -> Any:
        """Begins a call."""
        self.check_open()
        self.process.alive()
        actor, answer = CURRENT.get(), Answer()
        self.futures[answer] = None
        if len(self.futures) > self._threads_max:
            self.process.world.violate(f"{actor.name} gets a thread that another call has")
        before = list(actor.running)
        try:
            result: Any = function()
        except BaseException as error:
            self._return(answer, error, None)
        else:
            answer.run = next((run for run in actor.running if run not in before), None)
            seconds = 0.0 if answer.run is None else answer.run.seconds
            self.process.world.timeline.after(seconds, self._end, answer, result)
        return answer

    def _end(self, answer: Answer, result: Any) -> None:
        """The code returns, unless its process stands still."""
        process = self.process
        if answer not in self.futures:
            return
        if process.paused_until > process.world.timeline.now:
            process.world.timeline.at(process.paused_until, self._end, answer, result)
            return
        error: BaseException | None = None
        if answer.run is not None:
            try:
                call(partial(answer.run.end, is_spoilt=answer.run.is_spoilt))
            except BaseException as raised:
                error = raised
        self._return(answer, error, result)

    def _return(self, answer: Answer, error: BaseException | None, result: Any) -> None:
        del self.futures[answer]
        if error is None:
            answer.set_result(result)
        else:
            answer.set_exception(error)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """The process is dead: no call returns."""
        super().shutdown(wait, cancel_futures=cancel_futures)
        for answer in list(self.futures):
            self._return(answer, Killed(), None)


class Answer(Future[Any]):
    """What a thread returns, and its call.

    Attributes:
        run: the user code that it runs; None if nobody waits for it any more.
    """

    run: Run | None = None

    @property
    def has_ended(self) -> bool:
        """See ``sync_pool.Call``."""
        return self.done()

    def wait(self, seconds: float) -> bool:
        """See ``sync_pool.Call``. Nothing happens meanwhile."""
        return self.done()

    def future(self) -> Answer:
        """See ``sync_pool.Call``."""
        return self

    def cancel(self) -> bool:
        """Whoever has called gives up. The code goes on, and what it returns goes nowhere."""
        if self.run is not None and self.run in self.run.actor.running:
            self.run.actor.running.remove(self.run)
        self.run = None
        return False
