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
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
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
from cloud_adapter.ports import Task
from workflow_core.records import record


class LeaseLost(Exception):
    """The lease has expired, or another process has committed. Changes since the last commit must not be saved."""


@record(frozen=True, slots=True)
class Renewal:
    """The renewals of a lease while user code runs.

    Attributes:
        lock: held during a commit.
        lost: fails when another process has committed.
        hold: see ``Leases.renewing``.
    """

    lock: asyncio.Lock
    lost: asyncio.Future[None]
    hold: bool


class Leases:
    """Renews leases while user code runs."""

    def __init__(self, committer: Committer) -> None:
        self.committer = committer
        self.clock = committer.clock
        self.options = committer.options

    async def ensure(self, session: Session, token: str) -> None:
        """Renews the lease if less than two thirds of it are left.

        Raises:
            LeaseLost: the lease has expired.
            Conflict, Superseded: another process has committed.
        """
        # Only once: if a commit takes a third of a lease, another renewal would not leave more of it.
        if timedelta() < self.left(session) < self.options.lease * 2 / 3:
            await self.committer.commit(session, lease=Hold(token, renews=True))
        if self.left(session) <= timedelta():
            raise LeaseLost

    async def check(self, session: Session) -> None:
        """Checks that no other commit has been made since the last one of this holder.

        Raises:
            LeaseLost: another commit has been made, or the holder is just renewing the lease.
        """
        stored = await self.committer.load(session.ref)
        if stored.instance.version != session.instance.version:
            raise LeaseLost

    def left(self, session: Session) -> timedelta:
        assert session.instance.lease is not None
        return session.instance.lease.expires_at - self.clock.now()

    @contextlib.contextmanager
    def expiry(self, session: Session) -> Iterator[asyncio.Future[None]]:
        """Yields a future that fails with ``LeaseLost`` when the lease has expired, because no renewal succeeded."""
        expired: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        cancel: Callable[[], object]

        def look() -> None:
            nonlocal cancel
            if (left := self.left(session)) > timedelta():
                cancel = self.clock.call_later(left.total_seconds(), look)
            elif not expired.done():
                expired.set_exception(LeaseLost())

        cancel = self.clock.call_later(self.left(session).total_seconds(), look)
        try:
            yield expired
        finally:
            cancel()
            if not expired.cancel():
                expired.exception()  # so that asyncio does not log that nobody has read it

    @contextlib.asynccontextmanager
    async def renewing(self, session: Session, *, hold: bool) -> AsyncIterator[asyncio.Future[None]]:
        """Renews the lease while the body runs. Yields a future that fails when another process has committed.

        Most bodies end long before the first renewal. They cost only a timer, not a task.

        Args:
            hold: the body cannot be interrupted. The lease is renewed until the body ends, even after another commit,
                so that no other code starts at the same time.

        Raises:
            LeaseLost: at the end, if another process has committed.
        """
        lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        renewal = Renewal(asyncio.Lock(), lost, hold)
        task: asyncio.Task[None] | None = None

        def begin() -> None:
            nonlocal task
            task = asyncio.create_task(self._renew(session, renewal))

        cancel = self.clock.call_later(self._pause(session).total_seconds(), begin)
        try:
            yield lost
        finally:
            cancel()
            if task is not None:
                await _ended(task, renewal.lock)
            has_lost = not lost.cancel() and lost.exception() is not None
        if has_lost:
            raise LeaseLost
        if task is not None and not task.cancelled():
            task.result()

    def _pause(self, session: Session) -> timedelta:
        """Returns the time until the first renewal."""
        assert session.instance.lease is not None
        pause = self.left(session) - 2 * self.options.lease / 3
        return pause if session.instance.lease.keeps_events else min(pause, self.options.keeps_after)

    async def _renew(self, session: Session, renewal: Renewal) -> None:
        assert session.instance.lease is not None
        token = session.instance.lease.token
        while True:
            async with renewal.lock:
                while not await self._renewed(session, token):
                    if not renewal.lost.done():
                        renewal.lost.set_exception(LeaseLost())
                    if not renewal.hold:
                        return
                    # Another commit was made over the lease. The lease may still have this token.
                    session = await self.committer.load(session.ref)
                    if session.instance.lease is None or session.instance.lease.token != token:
                        return
            await self.clock.sleep((self.options.lease / 3).total_seconds())

    async def _renewed(self, session: Session, token: str) -> bool:
        """Renews the lease. Returns whether the session is still the last version, as far as is known."""
        try:
            await self.committer.commit(session, lease=Hold(token, keeps_events=True, renews=True))
        except (Conflict, Superseded):
            return False
        except Unavailable:
            warn(session, "lease not renewed")
        return True


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
