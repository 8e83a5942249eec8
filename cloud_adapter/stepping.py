"""Runs what is due in an instance, under a lease: steps, setups and teardowns, one commit after each."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from inspect import isawaitable
from typing import Any

from pydantic_core import from_json, to_json

from cloud_adapter import logs
from cloud_adapter.committing import Committer, Superseded
from cloud_adapter.document import Lease
from cloud_adapter.errors import Conflict, InstanceNotFound, NotYet, Unavailable
from cloud_adapter.session import Session, milliseconds, resume_at
from cloud_adapter.tasks import ResumeTask, TimeoutTask
from workflow_core import CheckpointKind, Workflow
from workflow_core.interpreter import MOVES, Machine, Work
from workflow_core.moving import error_text

CLOCK_SKEW = timedelta(seconds=10)
"""A task that comes this much before its time was sent by a clock that runs ahead of ours: it is sent again."""

RunSync = Callable[..., Awaitable[Any]]
"""Runs a synchronous function with its arguments so that the event loop goes on meanwhile."""


class LeaseLost(Exception):
    """Another one has taken the lease: whatever was run since the last commit is not ours to save."""


class Stepper:
    """Moves instances on.

    Args:
        run_sync: runs synchronous user code; by default in a thread.
    """

    def __init__(self, committer: Committer, run_sync: RunSync = asyncio.to_thread) -> None:
        self.committer = committer
        self.clock = committer.clock
        self.options = committer.options
        self.run_sync = run_sync

    async def resume(self, cls: type[Workflow], body: ResumeTask) -> None:
        """Runs an instance until nothing is due. Returns also when there is nothing to do, or when it handed on.

        Raises:
            NotYet: the commit that the task belongs to has not landed yet.
            UnknownStatement: the instance stands on a statement that the definition no longer has.
            UserCodeError: a condition of the workflow raised. Nothing was changed.
        """
        attempt = 0
        while (session := await self.arrived(cls, body)) is not None:
            session.machine.check()
            now = self.clock.now()
            if session.leased(now):
                # Also where nothing seems to be due: the holder's clock may run ahead of ours.
                assert session.instance.lease is not None
                await self.committer.queue.create(body.task(self.committer.token(), session.instance.lease.expires_at))
                return
            if session.next_work() is None:
                at = resume_at(session.execution, None, now)
                if at is not None and now < at <= now + CLOCK_SKEW:
                    await self.committer.queue.create(body.task(self.committer.token(), at))
                return
            lease = Lease(self.committer.token(), now + self.options.lease)
            session.machine.tick()
            try:
                await self.committer.commit(session, lease=lease)
            except (Conflict, Superseded):
                attempt += 1
                await self.committer.pause(attempt)
                continue
            try:
                await self._work(session, lease.token)
                return
            except (LeaseLost, Conflict, Superseded):
                # Looked at again, because it may be our own lease that is left: a renewal of which we never heard.
                _warn(session, "lease lost")

    async def arrived(self, cls: type[Workflow], body: ResumeTask | TimeoutTask) -> Session | None:
        """The instance that a task is for; None if the task's commit never came and the task is too old.

        Raises:
            NotYet: the commit that the task belongs to has not landed yet.
        """
        session: Session | None = None
        with contextlib.suppress(InstanceNotFound):
            session = await self.committer.load(cls, body.id)
        if session is not None and session.execution.pc >= body.pc:
            return session
        if self.clock.now() - body.created_at > self.options.task_age_max:
            logs.transition("task given up", body.workflow, body.id, pc=body.pc, level=logging.WARNING)
            return None
        raise NotYet(f"the commit {body.pc} of {body.workflow!r} {body.id!r} has not landed yet")

    async def _work(self, session: Session, token: str) -> None:
        """Performs what is due until nothing is, or the budget is used up; the last commit releases the lease."""
        until = self.clock.now() + self.options.budget
        performed = 0
        release = False
        while not release:
            statement = ""
            try:
                session.machine.now = self.clock.now()
                work = self._next(session.machine)
                if work is not None:
                    statement = work.statement
                    await self._perform(session, work)
                    performed += 1
                    session.machine.now = self.clock.now()
                    work = self._next(session.machine)
                release = work is None or performed >= self.options.budget_steps or self.clock.now() >= until
                lease = None if release else self._lease(token)
                await self.committer.commit(session, lease=lease)
            except (LeaseLost, Conflict, Superseded, Unavailable):
                raise
            except Exception as error:
                # Not a step that has failed, but the way on from it: a condition raised, a loop never ends, the
                # fields have become too large.
                await self.committer.fail(session.cls, session.execution.id, error, statement, token)
                return

    def _next(self, machine: Machine) -> Work | None:
        machine.settle()
        work = machine.next_work()
        assert work is None or work.kind not in MOVES
        return work

    def _lease(self, token: str) -> Lease:
        return Lease(token, self.clock.now() + self.options.lease)

    async def _perform(self, session: Session, work: Work) -> None:
        """Runs the user's code and notes what came of it, in memory."""
        machine = session.machine
        started = self.clock.now()
        error: Exception | None = None
        result: Any = None
        async with self._renewing(session):
            try:
                result = await self._call(machine, work)
                if work.kind is CheckpointKind.STEP:
                    session.check_fields()
                elif work.kind is CheckpointKind.SETUP:
                    # What cannot be kept is a failure of the setup, not of the instance.
                    result = from_json(to_json(result))
            except Exception as raised:
                error = raised
        now = self.clock.now()
        if error is not None or work.kind is not CheckpointKind.STEP:
            session.reset_fields()
        details = {
            "thread": work.thread.id if work.thread is not None else "",
            "statement": work.statement,
            "duration_ms": milliseconds(started, now),
        }
        if error is None:
            machine.done(work, result)
            session.note(work.kind.value, now, **details)
            return
        delay = self.options.retry.delay(work.attempt + 1)
        machine.failed(work, error, None if delay is None else now + delay)
        text = error_text(error)
        session.note(f"{work.kind.value} failed", now, error=text[:500], **details)
        if work.kind is CheckpointKind.STEP and delay is None:
            machine.fail(error, work.statement)
            session.note("failed", now, statement=work.statement, error=text[:500])

    async def _call(self, machine: Machine, work: Work) -> Any:
        if machine.is_async(work):
            result = machine.call(work)
        else:
            result = await self.run_sync(_call, machine, work)
        return await result if isawaitable(result) else result

    @contextlib.asynccontextmanager
    async def _renewing(self, session: Session) -> AsyncIterator[None]:
        """Renews the lease while the body runs.

        Raises:
            LeaseLost: at the end, if a renewal found that another one has committed.
        """
        lock = asyncio.Lock()
        task = asyncio.create_task(self._renew(session, lock))
        try:
            yield
        finally:
            try:
                # Not in the middle of a commit: the next one needs the version that it gives.
                async with lock:
                    pass
            finally:
                # Also if this request is cancelled meanwhile: left alone, it would renew the lease for ever.
                task.cancel()
            await asyncio.wait([task])
            lost = None if task.cancelled() else task.exception()
        if lost is not None:
            raise lost

    async def _renew(self, session: Session, lock: asyncio.Lock) -> None:
        assert session.instance.lease is not None
        token = session.instance.lease.token
        while True:
            await self.clock.sleep(self.options.lease.total_seconds() / 3)
            async with lock:
                session.machine.tick()
                try:
                    await self.committer.commit(session, lease=self._lease(token), keep_fields=True)
                except (Conflict, Superseded) as error:
                    raise LeaseLost from error
                except Unavailable:
                    _warn(session, "lease not renewed")


def _warn(session: Session, kind: str) -> None:
    execution = session.execution
    logs.transition(kind, execution.workflow, execution.id, level=logging.WARNING, pc=execution.pc)


def _call(machine: Machine, work: Work) -> Any:
    try:
        return machine.call(work)
    except StopIteration as error:
        # A future cannot carry it: the one who awaits it would wait for ever.
        raise RuntimeError(f"{work.statement!r} raised StopIteration") from error
