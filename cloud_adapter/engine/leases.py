"""Leases: one process at a time runs the user code of an instance, and another process takes over if it dies.

Theory of operation. A lease is a token and an expiry in the instance's document, written by a commit like any other.

1. Only the holder of the lease runs steps, setups, teardowns and deliveries of buffered events. Events, timeouts and
   results wait for its end (``decisions.check_lease``). Operators do not wait: they commit over the lease.
2. Safety does not depend on clocks. Each commit of the holder is compared with the version that it has loaded. After
   another commit, the holder can no longer write: it discards its changes since its last commit.
3. Clocks only prevent two processes from running at the same time. A step therefore begins with at least two thirds of
   the lease left, and while it runs, the lease is renewed after each third. Asynchronous code is interrupted when the
   lease has expired. Synchronous code cannot be interrupted, so its lease is renewed until it ends, even if its changes
   will not be saved.
4. The end of a lease wakes the instance: ``wake_at`` is the end of the lease. A task that finds a live lease is
   postponed until then. The commit that releases a lease creates the tasks for the work that is due.
5. A renewal saves only the lease, because user code may be changing the fields at the same time.

What breaks this: a commit under a lease that drops the lease without creating the tasks for the work that is due; a
step that begins with little of the lease left.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextvars import copy_context
from datetime import datetime, timedelta

from cloud_adapter.clock import CLOCK_SKEW
from cloud_adapter.engine.commits import Committer, Superseded
from cloud_adapter.engine.deliveries import TaskDecision
from cloud_adapter.engine.plan import RELEASE, Hold, next_stops
from cloud_adapter.engine.schedule import resume_at
from cloud_adapter.engine.session import Session
from cloud_adapter.engine.tasks import ResumeTask
from cloud_adapter.errors import Conflict, Unavailable
from cloud_adapter.observability import logs
from cloud_adapter.options import EngineOptions
from cloud_adapter.ports import Clock, Task

_NOTHING = timedelta()


class LeaseLost(Exception):
    """The lease has expired, or another process has committed. Changes since the last commit must not be saved."""


class Leases:
    """Checks and renews leases.

    Attributes:
        enough: how much of a lease a step needs when it begins. When less is left, the lease is renewed.
    """

    def __init__(self, committer: Committer) -> None:
        self.committer = committer
        self.clock = committer.clock
        self.options = committer.options
        self.enough = self.options.lease * 2 / 3
        self._keeps_after = self.options.keeps_after

    async def ensure(self, session: Session, token: str) -> None:
        """Renews the lease if less than two thirds of it are left.

        Raises:
            LeaseLost: the lease has expired.
            Conflict, Superseded: another process has committed.
        """
        left = self.left(session)
        if _NOTHING < left < self.enough:
            # Only once: if a commit takes a third of a lease, another renewal would not leave more of it.
            await self.committer.commit(session, lease=Hold(token, renews=True))
            left = self.left(session)
        if left <= _NOTHING:
            raise LeaseLost

    async def check(self, session: Session) -> None:
        """Checks that no other commit has been made since the last one of this holder.

        Raises:
            LeaseLost: another commit has been made, or the holder is just renewing the lease.
        """
        stored = await self.committer.load(session.ref)
        if stored.instance.version != session.instance.version:
            raise LeaseLost

    def left(self, session: Session, now: datetime | None = None) -> timedelta:
        """Returns how much of the lease is left now, or at that time."""
        lease = session.instance.lease
        assert lease is not None
        return lease.expires_at - (now or self.clock.now())

    def pause(self, session: Session, now: datetime) -> timedelta:
        """Returns the time until the first renewal."""
        assert session.instance.lease is not None
        pause = self.left(session, now) - self.enough
        return pause if session.instance.lease.keeps_events else min(pause, self._keeps_after)

    async def renewed(self, session: Session, token: str) -> bool:
        """Renews the lease. Returns whether the session is still the last version, as far as is known."""
        try:
            await self.committer.commit(session, lease=Hold(token, keeps_events=True, renews=True))
        except (Conflict, Superseded):
            return False
        except Unavailable:
            warn(session, "lease not renewed")
        return True


class Alarm:
    """Calls back after a time, unless it is set anew or turned off before, as it almost always is.

    To start and cancel a timer takes longer than all else that a lease costs a short step. The timer therefore runs on,
    and only at its end is it looked at what it is for.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._pause = _NOTHING
        self._at: datetime | None = None
        self._ring: Callable[[], None] | None = None
        self._ends_at: datetime | None = None
        self._cancel: Callable[[], object] | None = None

    def set(self, now: datetime, pause: timedelta, ring: Callable[[], None]) -> None:
        """Calls ``ring`` after that pause."""
        self._at, self._pause, self._ring = now + pause, pause, ring
        if self._ends_at is None or self._at < self._ends_at:
            self._start(pause)

    def turn_off(self) -> None:
        """Calls nothing. The timer still runs."""
        self._ring = None

    def close(self) -> None:
        """Ends the timer."""
        if self._cancel is not None:
            self._cancel()

    def _start(self, pause: timedelta) -> None:
        self.close()
        self._ends_at = self._at
        self._cancel = self._clock.call_later(pause.total_seconds(), self._ended)

    def _ended(self) -> None:
        self._ends_at = self._cancel = None
        if (ring := self._ring) is None or self._at is None:
            return
        left = self._at - self._clock.now()
        if _NOTHING < left <= self._pause:  # more is left only if the clock was set back
            self._start(left)
        else:
            self._ring = None
            ring()


class Renewals:
    """Renews a lease while the body of an ``async with`` runs.

    Most bodies end long before the first renewal. They cost only an alarm. All else is made when it is needed.

    Args:
        alarm: it rings when the lease has to be renewed for the first time.
        now: the current time.
        hold: the body cannot be interrupted. The lease is renewed until the body ends, even after another commit, so
            that no other code starts at the same time.

    Raises:
        LeaseLost: at the end, if another process has committed.
    """

    def __init__(self, leases: Leases, session: Session, alarm: Alarm, now: datetime, *, hold: bool) -> None:
        self._leases = leases
        self._session = session
        self._began_at = now
        self._alarm = alarm
        self._context = copy_context()  # the alarm may ring in that of an earlier body
        self._hold = hold
        self._has_lost = False
        self._lost: asyncio.Future[None] | None = None
        self._lock: asyncio.Lock | None = None  # held during a commit
        self._task: asyncio.Task[None] | None = None
        self._stop_looking: Callable[[], object] | None = None

    async def __aenter__(self) -> Renewals:
        self._alarm.set(self._began_at, self._leases.pause(self._session, self._began_at), self._begin)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._alarm.turn_off()
        try:
            if self._task is not None and self._lock is not None:
                await _ended(self._task, self._lock)
        finally:
            if self._stop_looking is not None:
                self._stop_looking()
            if self._lost is not None and not self._lost.cancel():
                self._lost.exception()  # so that asyncio does not log that nobody has read it
        if kind is None and self._has_lost:
            raise LeaseLost
        if kind is None and self._task is not None and not self._task.cancelled():
            self._task.result()

    def lost(self) -> asyncio.Future[None]:
        """Returns a future that fails with ``LeaseLost`` when another process has committed, or when the lease has
        expired because no renewal succeeded."""
        if self._lost is None:
            self._lost = asyncio.get_running_loop().create_future()
            if self._has_lost:
                self._lose()
            elif self._task is not None:
                self._look()
        return self._lost

    def _lose(self) -> None:
        if self._lost is not None and not self._lost.done():
            self._lost.set_exception(LeaseLost())

    def _begin(self) -> None:
        self._lock = asyncio.Lock()
        self._task = asyncio.create_task(self._renew(self._session, self._lock), context=self._context)
        if self._lost is not None:
            self._look()

    def _look(self) -> None:
        """Looks whether the lease has expired, and looks again at its end."""
        if (left := self._leases.left(self._session)) > _NOTHING:
            self._stop_looking = self._leases.clock.call_later(left.total_seconds(), self._look)
        else:
            self._lose()

    async def _renew(self, session: Session, lock: asyncio.Lock) -> None:
        assert session.instance.lease is not None
        token, leases = session.instance.lease.token, self._leases
        while True:
            async with lock:
                while not await leases.renewed(session, token):
                    self._has_lost = True
                    self._lose()
                    if not self._hold:
                        return
                    # Another commit was made over the lease. The lease may still have this token.
                    session = await leases.committer.load(session.ref)
                    if session.instance.lease is None or session.instance.lease.token != token:
                        return
            await leases.clock.sleep((leases.options.lease / 3).total_seconds())


async def _ended(task: asyncio.Task[None], lock: asyncio.Lock) -> None:
    """Ends the renewals. Waits for a commit in progress, because the next one needs the version that it returns."""
    try:
        async with lock:
            pass
    finally:
        # Also if this request is cancelled meanwhile. Otherwise the task would renew the lease forever.
        task.cancel()
    await asyncio.wait([task])


class TakeLease(TaskDecision[ResumeTask]):
    """Takes the lease, if something is due. Otherwise, the answer is the tasks to create.

    Args:
        token: the token for the new lease.
        mine: the token of a lease that this same request may have left behind.

    Attributes:
        session: the instance under the lease; None if the lease was not taken.
    """

    alone = True

    def __init__(self, body: ResumeTask, options: EngineOptions, token: str, mine: str) -> None:
        super().__init__(body, options)
        self.token = token
        self.mine = mine
        self.session: Session | None = None

    def deliver(self, session: Session, now: datetime) -> Sequence[Task]:
        """See ``TaskDecision.deliver``.

        Raises:
            UnknownStatement, UserCodeError
        """
        self.session = None
        session.check()
        body, execution, lease = self.body, session.execution, session.instance.lease
        if lease is not None and lease.token != self.mine and session.leased(now):
            # Also if nothing seems to be due, because the holder's clock may be ahead of this one.
            return [body.later(lease.expires_at, now, execution.pc)]
        work = session.next_work()
        if work is None and lease is None:
            at = resume_at(execution, None, now)
            # The task is early, because the clock of the queue or of the process that created the task is ahead.
            is_early = at is not None and now < at <= now + 2 * CLOCK_SKEW
            early = [body.later(at, now, execution.pc)] if at is not None and is_early else []
            return [*early, *next_stops(execution, body, now, self.options.horizon)]
        session.machine.tick()
        # If nothing is due, the lease was left behind when the instance was canceled or paused under it.
        self.session = None if work is None else session
        return ()

    async def commit(self, committer: Committer, session: Session) -> None:
        """See ``Decision.commit``."""
        try:
            await committer.commit(session, lease=RELEASE if self.session is None else Hold(self.token))
        except Superseded as error:
            raise Conflict(str(error)) from error  # the session is no longer the stored state


def warn(session: Session, kind: str) -> None:
    """Logs a warning about the lease of an instance."""
    execution = session.execution
    logs.transition(kind, execution.workflow, execution.id, level=logging.WARNING, pc=execution.pc)
