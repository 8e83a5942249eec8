"""Leases: one process at a time runs user code of an instance, and others take over when it dies.

Theory of operation. A lease is a token and a time in the instance's document, written by a commit like any other.

1. Its holder alone runs steps, setups, teardowns and deliveries of buffered events. Events, timeouts and results wait
   for its end (``decisions.check_lease``). Operators do not wait: they commit over it.
2. Safety does not rest on clocks. Each commit of the holder is compared with the version that it has loaded. Once
   anybody else has committed, the holder can write no more: it drops what it has done since its last commit.
3. Clocks only keep two from running at the same time. So a step begins with two thirds of the lease left, and while it
   runs the lease is renewed after each third. Asynchronous code is interrupted when the lease has expired. Synchronous
   code cannot be, so its lease is renewed to its end, even where what it does will not be saved.
4. The end of a lease wakes the instance: ``wake_at`` is the end of the lease, and who finds a live one puts its
   task off until then. The commit that releases a lease creates the tasks for what is due.
5. A renewal saves nothing but the lease, as user code may be in the middle of changing the fields.

What breaks this: a commit under a lease that drops it and does not create the tasks for what is due; a step that begins
with little of the lease left.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Sequence
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


class LeaseLost(Exception):
    """The lease has expired, or another one has committed: what was run since the last commit is not ours to save."""


class Leases:
    """Keeps leases while what they are for runs."""

    def __init__(self, committer: Committer) -> None:
        self.committer = committer
        self.clock = committer.clock
        self.options = committer.options

    async def ensure(self, session: Session, token: str) -> None:
        """Renews the lease unless two thirds of it are left, as there are whenever it is renewed.

        Raises:
            LeaseLost: it has expired.
            Conflict, Superseded: another one has committed.
        """
        # Once: where a commit takes a third of a lease, another renewal finds no more of it.
        if timedelta() < self.left(session) < self.options.lease * 2 / 3:
            await self.committer.commit(session, lease=Hold(token, renews=True))
        if self.left(session) <= timedelta():
            raise LeaseLost

    def left(self, session: Session) -> timedelta:
        assert session.instance.lease is not None
        return session.instance.lease.expires_at - self.clock.now()

    async def expiry(self, session: Session) -> None:
        """Raises ``LeaseLost`` once the lease has expired, because no renewal of it came through."""
        while (left := self.left(session)) > timedelta():
            await self.clock.sleep(left.total_seconds())
        raise LeaseLost

    @contextlib.asynccontextmanager
    async def renewing(self, session: Session, *, hold: bool) -> AsyncIterator[asyncio.Future[None]]:
        """Renews the lease while the body runs; gives a future that fails once another one has committed.

        Args:
            hold: the body cannot be interrupted: the lease is renewed to its end even so, lest something else begins
                beside it.

        Raises:
            LeaseLost: at the end, if another one has committed.
        """
        lock = asyncio.Lock()
        lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        task = asyncio.create_task(self._renew(session, lock, lost, hold=hold))
        try:
            yield lost
        finally:
            try:
                # Not in the middle of a commit: the next one needs the version that it gives.
                async with lock:
                    pass
            finally:
                # Also if this request is cancelled meanwhile: left alone, it would renew the lease for ever.
                task.cancel()
            await asyncio.wait([task])
            has_lost = not lost.cancel() and lost.exception() is not None
        if has_lost:
            raise LeaseLost
        if not task.cancelled():
            task.result()

    async def _renew(self, session: Session, lock: asyncio.Lock, lost: asyncio.Future[None], *, hold: bool) -> None:
        assert session.instance.lease is not None
        token = session.instance.lease.token
        third = self.options.lease / 3
        pause = self.left(session) - 2 * third
        while True:
            await self.clock.sleep(pause.total_seconds())
            pause = third
            async with lock:
                while not await self._renewed(session, token):
                    if not lost.done():
                        lost.set_exception(LeaseLost())
                    if not hold:
                        return
                    # Somebody has committed over the lease, which may be ours still.
                    session = await self.committer.load(session.ref)
                    if session.instance.lease is None or session.instance.lease.token != token:
                        return

    async def _renewed(self, session: Session, token: str) -> bool:
        """Whether the session is the last version, as far as it is known."""
        try:
            await self.committer.commit(session, lease=Hold(token, renews=True))
        except (Conflict, Superseded):
            return False
        except Unavailable:
            warn(session, "lease not renewed")
        return True


class TakeLease(TaskDecision[ResumeTask]):
    """Takes the lease, if something is due. The answer is the tasks to create where it is not.

    Args:
        token: the lease's, if it is taken.
        mine: the token of a lease that may be left behind by this very request.

    Attributes:
        session: the instance under the lease; None if it was not taken.
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
            # Also where nothing seems to be due: the holder's clock may run ahead of ours.
            return [body.later(lease.expires_at, now, execution.pc)]
        work = session.next_work()
        if work is None and lease is None:
            at = resume_at(execution, None, now)
            # Early, by the clock of the queue, and by that of the process that left the rest to this task.
            is_early = at is not None and now < at <= now + 2 * CLOCK_SKEW
            early = [body.later(at, now, execution.pc)] if at is not None and is_early else []
            return [*early, *next_stops(execution, body, now, self.options.horizon)]
        session.machine.tick()
        # Where nothing is due, a lease is left behind by one that was canceled or paused under it.
        self.session = None if work is None else session
        return ()

    async def commit(self, committer: Committer, session: Session) -> None:
        """See ``Decision.commit``."""
        try:
            await committer.commit(session, lease=RELEASE if self.session is None else Hold(self.token))
        except Superseded as error:
            raise Conflict(str(error)) from error  # the session is no longer what is stored


def warn(session: Session, kind: str) -> None:
    """Writes to the log what has happened to the lease of an instance."""
    execution = session.execution
    logs.transition(kind, execution.workflow, execution.id, level=logging.WARNING, pc=execution.pc)
