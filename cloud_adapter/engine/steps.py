"""Runs the work that is due in an instance, under a lease: steps, setups and teardowns, with a commit after each."""

from __future__ import annotations

from datetime import datetime
from inspect import isawaitable
from typing import Any

from cloud_adapter.engine.children import Children
from cloud_adapter.engine.commits import Committer, Superseded
from cloud_adapter.engine.decisions import FailInstance
from cloud_adapter.engine.failures import Retries, work_failed
from cloud_adapter.engine.lanes import Lanes
from cloud_adapter.engine.leases import Alarm, LeaseLost, Leases, Renewals, TakeLease, warn
from cloud_adapter.engine.plan import RELEASE, Hold
from cloud_adapter.engine.refs import InstanceRef
from cloud_adapter.engine.running_calls import RunningCalls
from cloud_adapter.engine.session import ERROR_CHARS_MAX, Session, attributed, milliseconds
from cloud_adapter.engine.sync_pool import is_full, reserved
from cloud_adapter.engine.tasks import ResumeTask
from cloud_adapter.engine.user_code import RunSync, call, within
from cloud_adapter.errors import Conflict, SecretsUnreadable, Unavailable
from cloud_adapter.history import HistoryKind
from cloud_adapter.observability import logs, telemetry
from cloud_adapter.observability.span import Span, Value
from workflow_core import CheckpointKind, NewerVersion
from workflow_core.error_texts import error_text
from workflow_core.machine.work import Work

NOT_NOW = (Unavailable, NewerVersion, SecretsUnreadable)
"""The errors with which a task is sent again, possibly to a process with newer code or another key."""

NOTED = {
    CheckpointKind.STEP: (HistoryKind.STEP, HistoryKind.STEP_FAILED),
    CheckpointKind.EVENT: (HistoryKind.EVENT, HistoryKind.EVENT_FAILED),
    CheckpointKind.SETUP: (HistoryKind.SETUP, HistoryKind.SETUP_FAILED),
    CheckpointKind.TEARDOWN: (HistoryKind.TEARDOWN, HistoryKind.TEARDOWN_FAILED),
    CheckpointKind.TELL: (HistoryKind.TELL, HistoryKind.TELL_FAILED),
}
"""The kinds of history entries for each kind of work: for a success and for a failure."""


class Stepper:
    """Runs the work of instances.

    Args:
        run_sync: runs synchronous user code.
        running: lists the running calls.
    """

    def __init__(
        self, committer: Committer, lanes: Lanes, children: Children, run_sync: RunSync, running: RunningCalls
    ) -> None:
        self.committer = committer
        self.lanes = lanes
        self.children = children
        self.clock = committer.clock
        self.options = committer.options
        self.run_sync = run_sync
        self.running = running
        self.leases = Leases(committer)
        self.retries = Retries(self.options, committer.rng)

    async def resume(self, ref: InstanceRef, body: ResumeTask) -> None:
        """Runs an instance until nothing is due, or until the rest is left to another task.

        Raises:
            NotYet: the commit that the task belongs to is not complete yet.
            UnknownStatement: the instance is at a statement that the definition no longer has.
            UserCodeError: a condition of the workflow raised. Nothing was changed.
        """
        mine = ""
        while True:
            taking = TakeLease(body, self.options, self.committer.token(), mine)
            for task in await self.lanes.decide(ref, taking) or ():
                await self.committer.queue.create(task)
            session = taking.session
            if session is None:
                return
            mine, alarm = taking.token, Alarm(self.clock)
            try:
                await self._work(session, mine, alarm)
                self.lanes.recent.keep(session)
                return
            except (LeaseLost, Conflict, Superseded):
                # Try again, because the remaining lease may be this request's own: after a renewal whose reply was
                # lost, or if the instance was canceled or paused under it. No code of this request runs any more.
                warn(session, "lease lost")
            finally:
                alarm.close()
                self.lanes.wake(ref)

    async def _work(self, session: Session, token: str, alarm: Alarm) -> None:
        """Performs work until nothing is due, or the budget is used up. The last commit releases the lease."""
        began = now = self.clock.now()
        performed = 0
        release = False
        work: Work | None = None
        while not release:
            statement = ""
            try:
                # What was due after the last work still is: nobody else commits under the lease.
                work = work or self._next(session, now)
                # Moves that became due at the load are saved first, because a renewal does not save their changes to
                # the fields.
                if work is not None and session.is_fresh:
                    statement = work.statement
                    await self.leases.ensure(session, token)
                    await self._attempt(session, work, alarm)
                    performed += 1
                    now = self.clock.now()
                    work = self._next(session, now)
                held = now - began
                release = work is None or performed >= self.options.budget_steps or held >= self.options.budget
                hold = Hold(token, keeps_events=held >= self.options.keeps_after)
                if session.is_fresh:
                    # The work was due when the lease was taken, and is not any more: the clock has jumped back, or a
                    # condition has changed its mind. Each version of a document has its own pc.
                    session.machine.tick()
                await self.committer.commit(session, lease=RELEASE if release else hold)
            except (LeaseLost, Conflict, Superseded, *NOT_NOW):
                raise
            except Exception as error:
                # The step did not fail, but the move after it did: a condition raised, a loop never ends, or the fields
                # have become too large.
                await self.lanes.decide(session.ref, FailInstance(error, statement, lease=token))
                return

    def _next(self, session: Session, now: datetime) -> Work | None:
        """Moves the threads on until they rest. Returns the work that is then due."""
        session.machine.set_time(now)
        work: Work | None = call(session.machine.settle)
        session.note_failure(now)
        return work

    async def _attempt(self, session: Session, work: Work, alarm: Alarm) -> None:
        """Performs one piece of work, with context for the logs and the telemetry."""
        execution, number = session.execution, work.attempt + 1
        id, workflow, kind = execution.id, execution.workflow, work.kind.value
        thread, statement = work.thread_id, work.statement
        about: dict[str, Value] = {"instance": id, "thread": thread, "attempt": number, "pc": execution.pc}
        with (
            logs.about(workflow, id, thread=thread, statement=statement, attempt=number),
            telemetry.attempt(kind, statement, self.clock, workflow, **about) as span,
            self.running.running(kind, workflow, id, statement),
        ):
            await self._perform(session, work, span, alarm)

    async def _perform(self, session: Session, work: Work, span: Span, alarm: Alarm) -> None:
        """Runs the user's code and records the outcome in memory.

        Raises:
            LeaseLost: another process has committed meanwhile, or the lease expired while asynchronous code ran.
            Unavailable: the work was not done; try again.
            NewerVersion, SecretsUnreadable: the work concerns another instance that needs newer code or another key.
        """
        started = self.clock.now()
        session.machine.set_time(started)  # the commit before may have taken long
        error: Exception | None = None
        result: Any = None
        is_blocking = not work.concerns_others and not session.machine.is_async(work)  # it cannot be interrupted
        async with Renewals(self.leases, session, alarm, started, hold=is_blocking) as renewals:
            try:
                result = await self._call(session, work, renewals, is_blocking=is_blocking)
                session.machine.handle_result(work, result)
                if work.changes_fields:
                    session.check_fields()
            except LeaseLost:
                raise
            except Exception as raised:
                if work.concerns_others and isinstance(raised, NOT_NOW):
                    raise
                error = raised
        if error is not None or not work.changes_fields:
            session.reset_fields()
        # The next timeouts count from now, not from the start of the step.
        now = self.clock.now()
        session.machine.set_time(now)
        details = {
            "thread": work.thread_id,
            "statement": work.statement,
            "select": work.select,
            "duration_ms": milliseconds(started, now),
        }
        if (sender := work.sender(session.machine)) is not None:
            details |= attributed(sender)
        if error is None:
            call(session.machine.done, work, result)
            session.note(NOTED[work.kind][0], now, **details)
        elif work.is_refused(error):
            session.note(HistoryKind.EVENT_REJECTED, now, error=error_text(error)[:ERROR_CHARS_MAX], **details)
            session.machine.drop(work)
            span.outcome = "rejected"
            span.refused(error)
        else:
            failure = self.retries.of_work(session, work, error, now)
            work_failed(session, work, failure, NOTED[work.kind][1], now, **details)
            span.outcome = "failed"
            span.failed(error)

    async def _call(self, session: Session, work: Work, renewals: Renewals, *, is_blocking: bool) -> Any:
        machine = session.machine
        result: Any
        if work.concerns_others:
            result = self.children.perform(session, work)
        elif not is_blocking:
            result = call(machine.call, work)
        else:
            waits = is_full(self.run_sync)
            async with reserved(self.run_sync) as run:
                if waits:
                    await self.leases.check(session)
                result = await run(call, machine.call, work)
        if not isawaitable(result):
            return result
        return await within(self.clock, work.timeout(machine), result, repr(work.statement), renewals.lost())
