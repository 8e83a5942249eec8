"""Lanes: whatever comes for one instance in this process is queued, and decided in its order by one drainer.

Theory of operation. Each instance for which something waits has a lane. Its drainer takes all that wait as one batch,
has it decided and committed (``transaction.py``), and goes on with what has come meanwhile. So no two decisions of a
process conflict with each other, and many cost one write. A lane ends when nothing waits in it.

Others must not starve. While other instances are served too, the batches of a busy one are smaller, large ones let
others have a turn between their parts, and after each of them the lane rests.

Lanes save conflicts within a process; they are not what makes a commit safe. Another process may commit at any time,
and ``transaction.py`` then decides anew. What breaks the order of arrival: a commit to an instance past its lane. The
holder of a lease commits so, and calls ``wake`` afterwards, because the session that a lane has kept is out of date.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Collection, Sequence
from contextvars import Context, copy_context
from datetime import datetime, timedelta
from typing import Any

from cloud_adapter.engine.commits import Committer
from cloud_adapter.engine.decisions import Contended, Decision, NotNow
from cloud_adapter.engine.line import Item, Line
from cloud_adapter.engine.refs import InstanceRef
from cloud_adapter.engine.transaction import BATCH_BYTES_MAX, LARGE_BATCH, Transactor
from cloud_adapter.errors import Busy, Conflict, Unavailable
from cloud_adapter.observability import telemetry
from cloud_adapter.queues.runner import first_of

BATCH_MAX = 200
"""How many decisions one commit makes at most."""

CONTENDED_SECONDS = 5.0
"""For how long an instance counts as contended for after a conflict."""

SERVED_SECONDS = 0.2
"""What has come for others within this time counts: the instance shares the process with them."""

SHARED_BATCH_MAX = 100
"""How many decisions one commit makes at most then."""

REST_SECONDS = 0.002
REST_SECONDS_MAX = 0.2
"""A large batch is followed by a rest of so long for each of its decisions then: an instance with thousands of results
takes about half of a process, not all of it."""

TURN_SECONDS, TURNS_MAX = 0.002, 10
"""A large batch waits so often for so long while anything is decided for other instances."""


class Lanes:
    """The lanes of the instances that something waits for in this process."""

    def __init__(self, committer: Committer) -> None:
        self.committer = committer
        self._lanes: dict[InstanceRef, Lane] = {}
        self._contended: dict[InstanceRef, datetime] = {}
        self._served: deque[tuple[datetime, InstanceRef]] = deque(maxlen=100)

    @property
    def open(self) -> Collection[InstanceRef]:
        """The instances that something waits for."""
        return self._lanes.keys()

    @property
    def contended(self) -> Collection[InstanceRef]:
        """The instances that are remembered as contended for. Those whose time is over are forgotten with the next
        conflict."""
        return self._contended.keys()

    async def decide(self, ref: InstanceRef, decision: Decision) -> Any:
        """Lets a decision be made and committed; gives its answer.

        Raises:
            Busy: it had to wait for too long. Nothing was changed.
            DuplicateKey: its key is recorded already. Nothing was changed.
            Unavailable: whether it was committed is not known.
            Exception: what the decision raises, or loading or saving the instance. Nothing was changed.
        """
        lane = self._lanes.get(ref)
        if lane is None:
            lane = self._lanes[ref] = Lane(self, ref)
            self._served.append((lane.now(), ref))
        return await lane.add(decision)

    def serves_others(self, lane: Lane) -> bool:
        """Whether something came for another instance lately."""
        since, served = lane.now() - timedelta(seconds=SERVED_SECONDS), self._served
        while served and served[0][0] < since:
            served.popleft()
        return any(ref != lane.ref for _, ref in served)

    async def let_others(self, lane: Lane) -> None:
        """Lets what is being decided for other instances go first, but not for long."""
        if not self.serves_others(lane):
            await asyncio.sleep(0)
            return
        for _ in range(TURNS_MAX):
            await self.committer.clock.sleep(TURN_SECONDS)
            if not any(other.is_busy for other in self._lanes.values() if other is not lane):
                break

    def wake(self, ref: InstanceRef) -> None:
        """Somebody in this process has committed another way: what waits may be decided now."""
        if (lane := self._lanes.get(ref)) is not None:
            lane.line.woken.set()
            lane.transactor.session = None

    def is_contended(self, ref: InstanceRef) -> bool:
        """Whether another process has committed to the instance lately, at the same time as this one."""
        self._forget_contended()
        return ref in self._contended

    def met_others(self, ref: InstanceRef) -> None:
        """Another process has committed to an instance at the same time."""
        self._forget_contended()
        until = self.committer.clock.now() + timedelta(seconds=CONTENDED_SECONDS)
        self._contended[ref] = until

    def _forget_contended(self) -> None:
        now = self.committer.clock.now()
        for ref in [ref for ref, until in self._contended.items() if until <= now]:
            del self._contended[ref]

    def closed(self, lane: Lane) -> None:
        """Nothing waits in a lane any more."""
        del self._lanes[lane.ref]


class Lane:
    """What waits for one instance, and who drains it."""

    def __init__(self, lanes: Lanes, ref: InstanceRef) -> None:
        self.lanes = lanes
        self.ref = ref
        self.line = Line()
        self.transactor = Transactor(lanes.committer, ref, self.line, self._let_others)
        self.is_busy = False
        self.drainer: asyncio.Task[None] | None = None

    async def add(self, decision: Decision) -> Any:
        """Queues a decision; gives its answer."""
        item = Item(decision, self.now(), copy_context(), asyncio.get_running_loop().create_future())
        self.line.items.append(item)
        if not self.transactor.leased or decision.alone:
            self.line.woken.set()
        if self.drainer is None:
            # In a context of its own: it serves all that come.
            self.drainer = asyncio.get_running_loop().create_task(self._drain(), context=Context())
        return await item.answer

    def now(self) -> datetime:
        """The time."""
        return self.lanes.committer.clock.now()

    async def _let_others(self) -> None:
        await self.lanes.let_others(self)

    async def _drain(self) -> None:
        error: BaseException = Unavailable(f"{self.ref.id!r} is no longer served here; try again")
        attempt = 0
        try:
            while self.line.waiting():
                self.line.woken.clear()
                before = len(self.line.items)
                self.is_busy = True
                conflict = await self._round()
                self.is_busy = False
                waiting = self.line.waiting()
                attempt = 0 if len(waiting) < before and not conflict else attempt
                if waiting and all(item.waits is not None for item in waiting):
                    await self._wait(waiting, attempt, wakes=not conflict)
                    attempt += 1
                await self._give_way(before - len(self.line.waiting()))
        except asyncio.CancelledError:
            raise
        except BaseException as raised:
            error = raised  # a defect of ours: whoever waits is to hear of it
        finally:
            self.lanes.closed(self)
            for item in self.line.items:
                item.refuse(error)

    async def _give_way(self, decided: int) -> None:
        """Lets other instances of this process have their share: after many decisions, while others are served too,
        what comes meanwhile is left to wait for the next round."""
        if decided >= LARGE_BATCH and self.lanes.serves_others(self):
            await self.lanes.committer.clock.sleep(min(decided * REST_SECONDS, REST_SECONDS_MAX))
        else:
            await asyncio.sleep(0)

    async def _wait(self, waiting: Sequence[Item], attempt: int, *, wakes: bool) -> None:
        """Waits until something may have changed; who has waited for too long is told."""
        committer = self.lanes.committer
        now, ends = self.now(), []
        for item in waiting:
            assert item.waits is not None
            patience = item.waits.patience
            ends.append(item.since + (committer.options.max_wait if patience is None else patience))
            if ends[-1] <= now:
                item.refuse(item.waits.error)
            else:
                telemetry.busy_wait(self.ref.workflow)
        if not self.line.waiting():
            return
        pause = committer.pause(attempt)
        await (first_of(self.line.woken.wait(), pause) if wakes else pause)

    async def _round(self) -> bool:
        """Asks everybody who waits, in their order. Whether another process has committed meanwhile."""
        todo = sorted(self.line.items, key=lambda item: not item.decision.reads)
        while todo:
            batch = self._batch(todo)
            # In the context of its first: what a batch of one does belongs to that request.
            task = asyncio.get_running_loop().create_task(
                self.transactor.decide(batch), context=batch[0].context.copy()
            )
            try:
                again = await task
            except Conflict as error:
                self.lanes.met_others(self.ref)
                message = f"{self.ref} is busy: many others commit to it; try again"
                busy = Busy(message)
                busy.__cause__ = error
                for item in self.line.items:
                    if item.decision.defers:
                        item.refuse(Contended(message))
                    item.waits = item.waits or NotNow(busy)
                return True
            todo = [item for item in [*again, *todo[len(batch) :]] if not item.over]
        return False

    def _batch(self, todo: Sequence[Item]) -> Sequence[Item]:
        """Those that are decided next, together."""
        keys: set[str] = set()
        size = 0
        most = SHARED_BATCH_MAX if self.lanes.serves_others(self) else BATCH_MAX
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
