"""Lanes: all decisions for one instance in this process wait in its lane. One drainer makes them in order of arrival.

Theory of operation. Each instance with waiting decisions has a lane. Its drainer takes all waiting decisions as one
batch, has them decided and committed (``transaction.py``), and continues with the decisions that have arrived
meanwhile. Two decisions of one process therefore never conflict, and many decisions need only one write. A lane ends
when no decision waits in it.

A busy instance must not starve the others. While other instances are also being served:

* The batches of a busy instance are smaller.
* Others get a turn between the parts of a large batch: several rounds of the event loop, so that a request that has
  arrived meanwhile is usually answered before the next part. A turn has no fixed duration, because a process without
  other requests would then be idle most of the time.
* After the commit of a large batch, its lane pauses for half as long as the commit took. More decisions then share the
  next commit, so each of them costs less, and the others get more time.

Lanes avoid conflicts within a process, but they do not make commits safe. Another process may commit at any time, and
``transaction.py`` then decides again. A commit that bypasses the lane of its instance breaks the order of arrival. The
holder of a lease commits in this way, and calls ``wake`` afterwards, because the session that the lane has kept is then
out of date.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Coroutine, Generator, Sequence
from contextvars import Context, copy_context
from datetime import datetime, timedelta
from functools import partial
from types import coroutine
from typing import Any, TypeVar

from cloud_adapter.engine.commits import Committer, Reloaded
from cloud_adapter.engine.decisions import Contended, Decision, NotNow
from cloud_adapter.engine.kept_events import KeptEvents
from cloud_adapter.engine.line import Item, Line, item_reads
from cloud_adapter.engine.recent_sessions import RecentSessions
from cloud_adapter.engine.refs import InstanceRef
from cloud_adapter.engine.transaction import BATCH_BYTES_MAX, Transactor
from cloud_adapter.engine.user_code import own_decimal_context
from cloud_adapter.errors import Busy, Conflict, Unavailable
from cloud_adapter.observability import telemetry
from cloud_adapter.queues.runner import first_of

BATCH_MAX = 200
"""The most decisions in one commit."""

CONTENDED_SECONDS = 5.0
"""How long an instance counts as contended after a conflict with another process."""

SERVED_SECONDS = 0.2
"""If decisions for other instances have arrived within this time, the instance shares the process with them."""

SHARED_BATCH_MAX = 100
"""The most decisions in one commit of an instance that shares the process."""

REST_SHARE, REST_SECONDS_MAX = 0.5, 0.05
"""How long a lane pauses after the commit of a large batch: this share of the time that the commit took, and at most
that long."""

TURN_ROUNDS = 8
"""How many rounds of the event loop a turn of others has. A request over HTTP needs about as many, from its arrival to
its response."""


_T = TypeVar("_T")


@coroutine
def in_context(context: Context, work: Coroutine[Any, Any, _T]) -> Generator[Any, Any, _T]:
    """Awaits ``work`` in a context, in the current task. A task of its own would begin and end in later rounds of the
    event loop."""
    advance: Callable[[Any], Any] = work.send
    value: Any = None
    while True:
        try:
            awaited = context.run(advance, value)
        except StopIteration as end:
            result: _T = end.value
            return result
        finally:
            value = None  # an error and this frame in its traceback would be a cycle
        try:
            advance, value = work.send, (yield awaited)
        except BaseException as error:
            advance, value = work.throw, error


class Lanes:
    """The lanes of all instances with waiting decisions in this process."""

    def __init__(self, committer: Committer, kept_events: KeptEvents) -> None:
        self.committer = committer
        self.kept_events = kept_events
        self.recent = RecentSessions(committer)
        self._lanes: dict[InstanceRef, Lane] = {}
        self._contended: dict[InstanceRef, datetime] = {}
        self._served: deque[tuple[datetime, InstanceRef]] = deque(maxlen=100)

    @property
    def open(self) -> Collection[InstanceRef]:
        """The instances with waiting decisions."""
        return self._lanes.keys()

    @property
    def contended(self) -> Collection[InstanceRef]:
        """The instances that are recorded as contended. Expired records are removed at the next conflict."""
        return self._contended.keys()

    def decide(self, ref: InstanceRef, decision: Decision) -> Coroutine[Any, Any, Any]:
        """Makes a decision and commits it. Returns its answer.

        Raises:
            Busy: the decision had to wait for too long. Nothing was changed.
            DuplicateKey: its key is already recorded. Nothing was changed.
            Unavailable: it is unknown whether the decision was committed.
            Exception: the decision raised it, or loading or saving the instance did. Nothing was changed.
        """
        lane = self._lanes.get(ref)
        if lane is None:
            lane = self._lanes[ref] = Lane(self, ref)
            self._served.append((lane.now(), ref))
        return lane.add(decision)

    def serves_others(self, than: InstanceRef) -> bool:
        """Whether decisions for other instances wait, or have arrived recently."""
        since, served = self.committer.clock.now() - timedelta(seconds=SERVED_SECONDS), self._served
        while served and served[0][0] < since:
            served.popleft()
        return any(ref != than for ref in self._lanes) or any(ref != than for _, ref in served)

    async def let_others(self, than: InstanceRef) -> None:
        """Gives others than the instance a turn."""
        for _ in range(TURN_ROUNDS if self.serves_others(than) else 1):
            await asyncio.sleep(0)

    def wake(self, ref: InstanceRef) -> None:
        """Called after a commit that bypassed the lane: waiting decisions may now be possible."""
        if (lane := self._lanes.get(ref)) is not None:
            lane.line.woken.set()
            lane.transactor.session = None

    def is_contended(self, ref: InstanceRef) -> bool:
        """Whether the instance has recently had a conflict with another process."""
        self._forget_contended()
        return ref in self._contended

    def met_others(self, ref: InstanceRef) -> None:
        """Records a conflict with another process."""
        self._forget_contended()
        until = self.committer.clock.now() + timedelta(seconds=CONTENDED_SECONDS)
        self._contended[ref] = until

    def _forget_contended(self) -> None:
        now = self.committer.clock.now()
        for ref in [ref for ref, until in self._contended.items() if until <= now]:
            del self._contended[ref]

    def closed(self, lane: Lane) -> None:
        """Removes a lane in which no decision waits."""
        del self._lanes[lane.ref]


class Lane:
    """The waiting decisions of one instance, and their drainer."""

    def __init__(self, lanes: Lanes, ref: InstanceRef) -> None:
        self.lanes = lanes
        self.ref = ref
        self.line = Line()
        # Not with a method of the lane: they would be a cycle, which only the garbage collector frees.
        let_others = partial(lanes.let_others, ref)
        self.transactor = Transactor(lanes.committer, ref, self.line, let_others, lanes.kept_events, lanes.recent)
        self.drainer: asyncio.Task[None] | None = None

    async def add(self, decision: Decision) -> Any:
        """Queues a decision. Returns its answer."""
        context, loop = copy_context(), asyncio.get_running_loop()
        context.run(own_decimal_context)
        item = Item(decision, self.now(), context, loop.create_future())
        self.line.items.append(item)
        if not self.transactor.leased or decision.alone:
            self.line.woken.set()
        if self.drainer is None:
            # In a new context, because the drainer serves all requests, not only this one.
            self.drainer = loop.create_task(self._drain(), context=Context())
        return await item.answer

    def now(self) -> datetime:
        """Returns the time of the clock."""
        return self.lanes.committer.clock.now()

    async def _drain(self) -> None:
        error: BaseException = Unavailable(f"this process no longer serves {self.ref.id!r}; try again")
        attempt = 0
        try:
            while before := tuple(self.line.waiting()):
                self.line.woken.clear()
                self.transactor.conflicts = attempt
                conflict = await self._round()
                waiting = self.line.waiting()
                if attempt and conflict is None and any(item.over and item.waits is None for item in before):
                    attempt = 0
                if waiting and all(item.waits is not None for item in waiting):
                    await self._wait(waiting, attempt, conflict)
                    attempt += 1
                await self._rest()
        except asyncio.CancelledError:
            raise
        except BaseException as raised:
            error = raised  # a defect of the engine: all waiting requests get the error
        finally:
            self.lanes.closed(self)
            for item in self.line.items:
                item.refuse(error)

    def _rest(self) -> Awaitable[None]:
        """Pauses after the commit of a large batch, if other instances are also being served. Decisions that arrive
        meanwhile wait for the next round."""
        since, self.transactor.commits_since = self.transactor.commits_since, None
        if since is None or not self.lanes.serves_others(self.ref):
            return asyncio.sleep(0)
        seconds = REST_SHARE * (self.now() - since).total_seconds()
        return self.lanes.committer.clock.sleep(min(seconds, REST_SECONDS_MAX))

    async def _wait(self, waiting: Sequence[Item], attempt: int, conflict: Conflict | None) -> None:
        """Waits until something may have changed. Refuses decisions that have waited for too long."""
        committer = self.lanes.committer
        now = self.now()
        for item in waiting:
            if not item.refuse_overdue(now, committer.options.max_wait):
                telemetry.busy_wait(self.ref.workflow)
        if not self.line.waiting() or isinstance(conflict, Reloaded):
            return  # ``Reloaded`` is raised after a pause
        pause = committer.pause(attempt)
        await (first_of(self.line.woken.wait(), pause) if conflict is None else pause)

    async def _round(self) -> Conflict | None:
        """Makes all waiting decisions, in their order. Returns the conflict if another process has committed
        meanwhile."""
        todo = sorted(self.line.items, key=item_reads, reverse=True)
        while todo:
            batch = self._batch(todo)
            try:
                # In the context of the first decision, so that a batch of one runs in the context of its request.
                again = await in_context(batch[0].context.copy(), self.transactor.decide(batch))
            except Conflict as error:
                self.lanes.met_others(self.ref)
                self.transactor.current = error.current if isinstance(error, Reloaded) else None
                message = f"{self.ref} is busy: other processes commit to it; try again"
                busy = Busy(message)
                busy.__cause__ = error
                for item in self.line.items:
                    if item.decision.defers:
                        item.refuse(Contended(message))
                    item.waits = item.waits or NotNow(busy)
                return error
            todo = [item for item in [*again, *todo[len(batch) :]] if not item.over]
        return None

    def _batch(self, todo: Sequence[Item]) -> Sequence[Item]:
        """Returns the next decisions to make together."""
        if len(todo) == 1:
            return todo
        keys: set[str] = set()
        size = 0
        most = SHARED_BATCH_MAX if self.lanes.serves_others(self.ref) else BATCH_MAX
        for number, item in enumerate(todo[:most]):
            decision = item.decision
            by_itself = decision.alone or item.single
            if number and (by_itself or decision.key in keys or size > BATCH_BYTES_MAX):
                return todo[:number]
            if by_itself:
                return todo[:1]
            size += decision.size
            if decision.key is not None:
                keys.add(decision.key)
        return todo[:most]
