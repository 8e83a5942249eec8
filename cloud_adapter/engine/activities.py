"""Runs activities and delivers their results. Each attempt runs in its own request, outside the instance's lease.

The wait and the number of the attempt identify an attempt. A result that arrives after the next attempt has begun, or
when the instance no longer waits, changes nothing. Only the task of the commit that has scheduled an attempt can begin
it; the fence identifies this task. Without a fault, an attempt therefore runs once, regardless of how many commits were
tried. If an attempt does not report a result, its deadline ends it. The deadline is a timer.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from inspect import isawaitable
from typing import Any, NoReturn

from cloud_adapter.engine.attempts import ON_TIME, Attempt, Begin, BeginLate, Result, awaited
from cloud_adapter.engine.commits import WRITE_ATTEMPTS_MAX, Committer
from cloud_adapter.engine.decisions import Deferrable, NotListening, check_lease
from cloud_adapter.engine.failures import Failure, Retries, result_failed, take_result
from cloud_adapter.engine.heartbeats import Heartbeats
from cloud_adapter.engine.inbox import Inbox, entry_name
from cloud_adapter.engine.lanes import Lanes
from cloud_adapter.engine.refs import InstanceRef
from cloud_adapter.engine.running_calls import RunningCalls
from cloud_adapter.engine.session import Session, milliseconds, settle
from cloud_adapter.engine.sync_pool import is_full, reserved
from cloud_adapter.engine.tasks import ActivityTask
from cloud_adapter.engine.user_code import RunSync, call, within
from cloud_adapter.errors import InstanceNotFound, TooLarge
from cloud_adapter.history import HistoryKind
from cloud_adapter.observability import logs, telemetry
from cloud_adapter.observability.span import Value
from cloud_adapter.ports import Task
from workflow_core import AttemptOver, Status, TimedOut
from workflow_core.error_texts import error_info, error_text
from workflow_core.events import ActivitySigns
from workflow_core.machine.calls import activity_wait
from workflow_core.machine.events import Accepted
from workflow_core.machine.passing import pack_result
from workflow_core.program.cases import ActivityCase
from workflow_core.times import rfc3339


class Activities:
    """Runs the activities of instances.

    Args:
        run_sync: runs synchronous user code.
        running: lists the running calls.
    """

    def __init__(
        self, committer: Committer, lanes: Lanes, inbox: Inbox, run_sync: RunSync, running: RunningCalls
    ) -> None:
        self.committer = committer
        self.lanes = lanes
        self.inbox = inbox
        self.run_sync = run_sync
        self.running = running
        self.retries = Retries(committer.options, committer.rng)
        inbox.register(_TakeResult.kind, lambda data: _TakeResult(Result.model_validate(data)))

    async def run(self, ref: InstanceRef, body: ActivityTask) -> None:
        """Runs an attempt of an activity, unless it is over. If the task arrives too early, it is scheduled again.

        Raises:
            NotYet: the commit that the task belongs to is not complete yet.
            Unavailable: try again.
        """
        clock = self.committer.clock
        async with contextlib.AsyncExitStack() as thread:
            try:
                attempt, run_sync = await self._begin(ref, body, thread)
            except AttemptOver:
                return
            started = clock.now()
            result, raised = await self._attempt(attempt, body, run_sync)
        if result is not None:
            await self.deliver(ref, result, milliseconds(started, clock.now()), raised)

    async def _begin(
        self, ref: InstanceRef, body: ActivityTask, thread: contextlib.AsyncExitStack
    ) -> tuple[Attempt, RunSync]:
        """Waits until an attempt can begin. Returns it, and what runs its function if that is synchronous.

        Args:
            thread: gets the thread of the function, which it gives back at the end.

        Raises:
            AttemptOver: the instance does not or no longer wait for the attempt, or not yet.
        """
        attempt, run_sync = await self._ready(ref, body), self.run_sync
        if not attempt.is_sync:
            return attempt, run_sync
        place = reserved(run_sync)
        if not is_full(run_sync):
            return attempt, await thread.enter_async_context(place)

        heartbeats = Heartbeats(self.lanes, ref, body)

        async def keep() -> NoReturn:
            while True:
                await self.committer.clock.sleep(attempt.limit.total_seconds() / 2)
                await heartbeats.send()

        kept, free = asyncio.ensure_future(keep()), asyncio.ensure_future(thread.enter_async_context(place))
        try:
            await asyncio.wait([kept, free], return_when=asyncio.FIRST_COMPLETED)
            # If the threads are closed because the process is ending, this raises ``CancelledError``.
            run_sync = await (free if free.done() else kept)
        finally:
            kept.cancel()
            free.cancel()
            await asyncio.wait([kept, free])
            heartbeats.close()
        return await self._ready(ref, body), run_sync

    async def _ready(self, ref: InstanceRef, body: ActivityTask) -> Attempt:
        """Returns the attempt with its full time, if it may begin now. If it is too early, it is scheduled again.

        Raises:
            AttemptOver: the instance does not or no longer wait for the attempt, or not yet.
        """
        options = self.committer.options
        ready = await self.lanes.decide(ref, Begin(body, options))
        if isinstance(ready, Attempt) and ready.is_late:
            ready = await self.lanes.decide(ref, BeginLate(body, options))
        if isinstance(ready, Task):
            await self.committer.queue.create(ready)
        if not isinstance(ready, Attempt):
            raise AttemptOver(f"attempt {body.attempt + 1} of activity {body.event!r} is over, or due later")
        return ready

    async def _attempt(
        self, attempt: Attempt, body: ActivityTask, run_sync: RunSync
    ) -> tuple[Result | None, Exception | None]:
        """Runs the function. Returns the result to deliver (None if the attempt was already over), and the error that
        the function raised."""
        session, accepted = attempt.session, attempt.accepted
        case, thread, number = accepted.case, accepted.thread.id, body.attempt + 1
        assert isinstance(case, ActivityCase)
        common = body.model_dump(include={"workflow", "id", "wait_id", "event", "attempt"})
        about: dict[str, Value] = {"instance": body.id, "thread": thread, "attempt": number, "pc": session.execution.pc}
        with (
            logs.about(body.workflow, body.id, thread=thread, statement=body.event, attempt=number),
            telemetry.attempt("activity", body.event, self.committer.clock, body.workflow, **about) as span,
            self.running.running("activity", body.workflow, body.id, body.event),
        ):
            try:
                with (
                    self.committer.attempts.open(body) as running,
                    contextlib.closing(Heartbeats(self.lanes, attempt.session.ref, body, running)) as heartbeats,
                ):
                    output = await self._call(attempt, body, run_sync, heartbeats)
                return Result(**common, result=pack_result(case, output).decode()), None
            except AttemptOver as error:
                span.outcome = "over"
                span.refused(error)
                return None, None
            except Exception as error:
                span.outcome = "failed"
                span.failed(error)
                delay = self.retries.of_attempt(session, accepted, error)
                seconds = None if delay is None else delay.total_seconds()
                return Result(**common, error=error_info(error, body.event), retry_seconds=seconds), error

    async def deliver(
        self, ref: InstanceRef, result: Result, duration_ms: float = 0, failure: Exception | None = None
    ) -> None:
        """Delivers the result of an attempt to the instance, or to its inbox if the instance is busy. If the result is
        too large for the inbox, the delivery is retried until the attempt is over or its deadline has passed, because
        ``then`` may store less of it.

        Args:
            failure: the error that the attempt raised, for the log.

        Raises:
            Unavailable: try again.
        """
        taking = _TakeResult(result, duration_ms, failure)
        is_delivered = False
        try:
            while not is_delivered:
                try:
                    await self.inbox.deliver(ref, taking)
                    is_delivered = True
                except TooLarge as error:
                    is_delivered = await self._is_over(ref, result, error)
                    await self.committer.pause(WRITE_ATTEMPTS_MAX)
        except InstanceNotFound:
            logs.transition("result of nobody", ref.workflow, ref.id, level=logging.WARNING)

    async def _is_over(self, ref: InstanceRef, result: Result, error: TooLarge) -> bool:
        """Whether the instance no longer waits for a result that is too large for the inbox, or will not: the deadline
        of the attempt has passed, and its task is going to end it. This is no error for the queue, which would send the
        task again: the function would run again and again in the same attempt."""
        accepted = awaited(await self.committer.load(ref), result)
        if accepted is None:
            return True
        deadline = activity_wait(accepted).deadline
        assert deadline is not None
        if self.committer.clock.now() < deadline:
            return False
        text, event = error_text(error)[:500], result.event
        logs.transition("result given up", ref.workflow, ref.id, level=logging.ERROR, statement=event, error=text)
        return True

    async def _call(self, attempt: Attempt, body: ActivityTask, run_sync: RunSync, heartbeats: Heartbeats) -> Any:
        session, accepted = attempt.session, attempt.accepted
        case, machine = accepted.case, session.machine
        assert isinstance(case, ActivityCase)
        spec = case.activity
        signs = ActivitySigns(heartbeats.send, heartbeats.report, lambda: heartbeats.is_over)
        if attempt.is_sync:
            output = await run_sync(call, machine.call_activity, accepted, signs)
        else:
            output = call(machine.call_activity, accepted, signs)
        if not isawaitable(output):
            return output
        # Heartbeats extend the deadline, so it does not limit the call here.
        deadline = activity_wait(accepted).deadline if spec.heartbeat is None else None
        clock = self.committer.clock
        limit = None if deadline is None else max(attempt.left(clock.now()), ON_TIME * attempt.limit)
        try:
            return await within(clock, limit, output, f"activity {body.event!r}", heartbeats.running.over)
        except TimedOut as error:
            if deadline is not None and clock.now() >= deadline:
                # The task of the deadline decides whether the attempt has timed out, because an unpause may have
                # extended the deadline.
                raise AttemptOver(str(error)) from error
            raise

    def timed_out(self, session: Session, accepted: Accepted, now: datetime) -> None:
        """Fails an attempt whose deadline has passed."""
        wait = activity_wait(accepted)
        event = wait.event
        error = TimedOut(f"activity {event!r} did not return a result by {rfc3339(wait.deadline or now)}")
        delay = self.retries.of_attempt(session, accepted, error)
        failure = Failure(error_info(error, event), None if delay is None else now + delay, None)
        result_failed(session, accepted, failure, HistoryKind.ACTIVITY_FAILED, now)


class _TakeResult(Deferrable):
    """Processes the result of an attempt, unless the instance no longer waits for it.

    Args:
        failure: the error that the attempt raised, for the log.
    """

    kind = "result"
    lax = True

    def __init__(self, result: Result, duration_ms: float = 0, failure: Exception | None = None) -> None:
        self.result = result
        self.duration_ms = duration_ms
        self.failure = failure
        self.statement = result.event
        self.size = len(result.result)

    def name(self) -> str:
        """See ``Deferrable.name``."""
        return entry_name(self.kind, self.result.wait_id, self.result.event, self.result.attempt)

    def content(self) -> Mapping[str, Any]:
        """See ``Deferrable.content``."""
        return self.result.model_dump(mode="json")

    def decide(self, session: Session, now: datetime) -> None:
        """See ``Decision.decide``."""
        session.check()
        result = self.result
        accepted = awaited(session, result)
        if accepted is None and self.taken and session.execution.status is Status.PAUSED:
            # The result is already acknowledged. It counts after the pause, if the instance then waits for it.
            raise NotListening(f"{session.execution.id!r} is paused: it cannot process results; unpause it")
        self.stale = accepted is None
        if accepted is None:
            return
        check_lease(session, now)
        # The statement may have been renamed since the attempt began.
        self.statement = event = accepted.case.event
        error, raised = result.error, self.failure
        if error is None and (raised := take_result(session, accepted, result.result)) is not None:
            error = error_info(raised, event)
        duration_ms = self.duration_ms
        if error is None:
            details = {"thread": accepted.thread.id, "statement": event}
            session.note(HistoryKind.ACTIVITY, now, duration_ms=duration_ms, **details)
            settle(session, accepted)
            return
        retry_at = None if result.retry_seconds is None else now + timedelta(seconds=result.retry_seconds)
        failure = Failure(replace(error, statement=event), retry_at, raised)
        result_failed(session, accepted, failure, HistoryKind.ACTIVITY_FAILED, now, duration_ms=duration_ms)
