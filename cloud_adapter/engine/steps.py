"""Runs what is due in an instance, under a lease: steps, setups and teardowns, one commit after each."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Sequence
from datetime import datetime, timedelta
from inspect import isawaitable
from typing import Any

from pydantic_core import from_json, to_json

from cloud_adapter.clock import CLOCK_SKEW
from cloud_adapter.document import HistoryKind
from cloud_adapter.engine.children import Children
from cloud_adapter.engine.commits import Committer, Superseded
from cloud_adapter.engine.deliveries import TaskDecision
from cloud_adapter.engine.lanes import Lanes
from cloud_adapter.engine.schedule import resume_at
from cloud_adapter.engine.session import ERROR_CHARS_MAX, Session, milliseconds
from cloud_adapter.engine.tasks import ResumeTask
from cloud_adapter.engine.user_code import RunSync, call, within
from cloud_adapter.errors import Conflict, Unavailable
from cloud_adapter.observability import logs, telemetry
from cloud_adapter.observability.span import Span, Value
from cloud_adapter.options import EngineOptions
from cloud_adapter.ports import Task
from workflow_core import CheckpointKind, NewerVersion, Workflow
from workflow_core.error_texts import error_text
from workflow_core.machine.machine import Machine
from workflow_core.machine.work import Work

_NOTED = {
    CheckpointKind.STEP: (HistoryKind.STEP, HistoryKind.STEP_FAILED),
    CheckpointKind.EVENT: (HistoryKind.EVENT, HistoryKind.EVENT_FAILED),
    CheckpointKind.SETUP: (HistoryKind.SETUP, HistoryKind.SETUP_FAILED),
    CheckpointKind.TEARDOWN: (HistoryKind.TEARDOWN, HistoryKind.TEARDOWN_FAILED),
    CheckpointKind.TELL: (HistoryKind.TELL, HistoryKind.TELL_FAILED),
}
"""What the history says of each kind of work that is performed here: of a success and of a failure."""


class LeaseLost(Exception):
    """The lease has expired, or another one has committed: what was run since the last commit is not ours to save."""


class Stepper:
    """Moves instances on.

    Args:
        run_sync: runs synchronous user code.
    """

    def __init__(self, committer: Committer, lanes: Lanes, children: Children, run_sync: RunSync) -> None:
        self.committer = committer
        self.lanes = lanes
        self.children = children
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
        mine = ""
        while True:
            taking = _TakeLease(body, self.options, self.committer.token(), mine)
            for task in await self.lanes.decide(cls, body.id, taking) or ():
                await self.committer.queue.create(task)
            session = taking.session
            if session is None:
                return
            mine = taking.token
            try:
                await self._work(session, mine)
                return
            except (LeaseLost, Conflict, Superseded):
                # Looked at again, because it may be our own lease that is left: after a renewal of which we never
                # heard, or where the instance was canceled or paused under it. Nothing of ours runs any more.
                _warn(session, "lease lost")
            finally:
                self.lanes.wake(body.workflow, body.id)

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
                    await self._ensure_lease(session, token)
                    await self._attempt(session, work)
                    performed += 1
                    session.machine.now = self.clock.now()
                    work = self._next(session.machine)
                release = work is None or performed >= self.options.budget_steps or self.clock.now() >= until
                await self.committer.commit(session, lease=None if release else token)
            except (LeaseLost, Conflict, Superseded, Unavailable, NewerVersion):
                raise
            except Exception as error:
                # Not a step that has failed, but the way on from it: a condition raised, a loop never ends, the
                # fields have become too large.
                await self.committer.fail(session.cls, session.execution.id, error, statement, token)
                return

    def _next(self, machine: Machine) -> Work | None:
        call(machine.settle)
        work: Work | None = call(machine.next_work)
        assert work is None or not work.is_move
        return work

    async def _ensure_lease(self, session: Session, token: str) -> None:
        """Renews the lease unless two thirds of it are left, as there are whenever it is renewed.

        Raises:
            LeaseLost: it has expired.
            Conflict, Superseded: another one has committed.
        """
        # Once: where a commit takes a third of a lease, another renewal finds no more of it.
        if timedelta() < self._lease_left(session) < self.options.lease * 2 / 3:
            session.machine.tick()
            await self.committer.commit(session, lease=token, keep_fields=True)
        if self._lease_left(session) <= timedelta():
            raise LeaseLost

    def _lease_left(self, session: Session) -> timedelta:
        assert session.instance.lease is not None
        return session.instance.lease.expires_at - self.clock.now()

    async def _attempt(self, session: Session, work: Work) -> None:
        """Performs what is due, and tells the logs and the telemetry of it."""
        execution, number = session.execution, work.attempt + 1
        thread = work.thread_id
        about: dict[str, Value] = {"instance": execution.id, "thread": thread, "attempt": number, "pc": execution.pc}
        kind, workflow = work.kind.value, execution.workflow
        with (
            logs.about(workflow, execution.id, thread=thread, statement=work.statement, attempt=number),
            telemetry.attempt(kind, work.statement, self.clock, workflow, **about) as span,
        ):
            await self._perform(session, work, span)

    async def _perform(self, session: Session, work: Work, span: Span) -> None:
        """Runs the user's code and notes what came of it, in memory.

        Raises:
            LeaseLost: another one has committed meanwhile, or the lease of asynchronous code has expired.
            Unavailable: nothing came of it; try again.
            NewerVersion: another instance that it concerns is for newer code.
        """
        started = self.clock.now()
        error: Exception | None = None
        result: Any = None
        async with self._renewing(session, hold=_is_blocking(session, work)) as lost:
            try:
                result = await self._call(session, work, lost)
                if work.changes_fields:
                    session.check_fields()
                elif work.keeps_result:
                    # What cannot be kept is a failure of the setup, not of the instance.
                    result = from_json(to_json(result))
            except LeaseLost:
                raise
            except Exception as raised:
                if work.concerns_others and isinstance(raised, (Unavailable, NewerVersion)):
                    raise
                error = raised
        if error is not None or not work.changes_fields:
            session.reset_fields()
        # What is waited for next counts from now, not from the beginning of the step.
        now = session.machine.now = self.clock.now()
        details = {
            "thread": work.thread_id,
            "statement": work.statement,
            "select": work.select,
            "duration_ms": milliseconds(started, now),
        }
        if error is None:
            call(session.machine.done, work, result)
            session.note(_NOTED[work.kind][0], now, **details)
        elif work.is_refused(error):
            session.note(HistoryKind.EVENT_REJECTED, now, error=error_text(error)[:ERROR_CHARS_MAX], **details)
            session.machine.drop(work)
            span.outcome = "rejected"
            span.refused(error)
        else:
            self._failed(session, work, error, now, details)
            span.outcome = "failed"
            span.failed(error)

    def _failed(self, session: Session, work: Work, error: Exception, now: datetime, details: dict[str, Any]) -> None:
        """Notes a failure: for another attempt, or for good."""
        machine = session.machine
        text = error_text(error)
        policy = machine.policy(work) or self.options.retry
        delay = work.delay(policy, error, self.committer.rng.random())
        machine.failed(work, error, None if delay is None else now + delay)
        session.raised = error
        session.note(_NOTED[work.kind][1], now, error=text[:ERROR_CHARS_MAX], **details)
        if delay is None:
            call(machine.give_up, work, error)

    async def _call(self, session: Session, work: Work, lost: asyncio.Future[None]) -> Any:
        machine = session.machine
        result: Any
        if work.concerns_others:
            result = self.children.perform(session, work)
        elif machine.is_async(work):
            result = call(machine.call, work)
        else:
            result = await self.run_sync(call, machine.call, work)
        if not isawaitable(result):
            return result
        limit = work.timeout(machine)
        expiry = asyncio.ensure_future(self._expiry(session))
        try:
            return await within(self.clock, limit, result, repr(work.statement), lost, expiry)
        finally:
            expiry.cancel()

    async def _expiry(self, session: Session) -> None:
        """Raises ``LeaseLost`` once the lease has expired, because no renewal of it came through."""
        while (left := self._lease_left(session)) > timedelta():
            await self.clock.sleep(left.total_seconds())
        raise LeaseLost

    @contextlib.asynccontextmanager
    async def _renewing(self, session: Session, *, hold: bool) -> AsyncIterator[asyncio.Future[None]]:
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
        pause = self._lease_left(session) - 2 * third
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
                    session = await self.committer.load(session.cls, session.execution.id)
                    if session.instance.lease is None or session.instance.lease.token != token:
                        return

    async def _renewed(self, session: Session, token: str) -> bool:
        """Whether the session is the last version, as far as it is known."""
        session.machine.tick()
        try:
            await self.committer.commit(session, lease=token, keep_fields=True)
        except (Conflict, Superseded):
            return False
        except Unavailable:
            _warn(session, "lease not renewed")
        return True


class _TakeLease(TaskDecision[ResumeTask]):
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
            # Early, by the clock of the queue, and by that of whoever left the rest to this task.
            is_early = at is not None and now < at <= now + 2 * CLOCK_SKEW
            early = [body.later(at, now, execution.pc)] if at is not None and is_early else []
            return [*early, *session.next_stops(body, now, self.options.horizon)]
        session.machine.tick()
        # Where nothing is due, a lease is left behind by one that was canceled or paused under it.
        self.session = None if work is None else session
        return ()

    async def commit(self, committer: Committer, session: Session) -> None:
        """See ``Decision.commit``."""
        try:
            await committer.commit(session, lease=None if self.session is None else self.token)
        except Superseded as error:
            raise Conflict(str(error)) from error  # the session is no longer what is stored


def _is_blocking(session: Session, work: Work) -> bool:
    """Whether the code cannot be interrupted."""
    return not work.concerns_others and not session.machine.is_async(work)


def _warn(session: Session, kind: str) -> None:
    execution = session.execution
    logs.transition(kind, execution.workflow, execution.id, level=logging.WARNING, pc=execution.pc)
