"""Decides about attempts of activities: whether one may begin, how its deadline moves, and whether one is awaited.

Theory of operation. The deadline of an attempt is set when the attempt is scheduled, so that it ends even if its task
is lost. The timeout is meant for the call, however. An attempt that begins late, because it has waited in a queue or
for a thread, therefore moves its deadline when it begins (``BeginLate``). The task of the deadline
finds a later deadline and is postponed. It does not come first: it is in the same group of the queue, and due later.

What breaks this: a queue that sends the task of the deadline before that of the attempt, although it was due later. The
attempt then counts as failed, although it has not begun.
"""

from __future__ import annotations

from copy import copy
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Final

from pydantic import BaseModel
from pydantic_core import to_json

from cloud_adapter.engine.decisions import Decision, check_lease
from cloud_adapter.engine.deliveries import TaskDecision
from cloud_adapter.engine.plan import request_limit
from cloud_adapter.engine.session import Session
from cloud_adapter.engine.tasks import ActivityTask
from cloud_adapter.ports import Task
from workflow_core import AttemptOver, ErrorInfo, ExecutionError
from workflow_core.machine.calls import activity_wait
from workflow_core.machine.events import Accepted
from workflow_core.machine.values import json_of
from workflow_core.machine.waits import attempt_limit
from workflow_core.program.cases import ActivityCase
from workflow_core.records import record
from workflow_core.signatures import is_async

ON_TIME: Final = 0.9
"""An attempt that has at least this share of its time left when it begins keeps its deadline, which saves a commit."""

LINE_MAX: Final = timedelta(hours=1)
"""How long an attempt may wait without using up its time. This ends an attempt that ends its process each time it is
sent."""


class Result(BaseModel, defer_build=True):
    """The result of an attempt of an activity.

    Attributes:
        attempt: the number of failed attempts before this one.
        result: the returned value as JSON, if the attempt has succeeded.
        error: the error, if it has failed.
        retry_seconds: the delay until the next attempt; None: there is none.
    """

    workflow: str
    id: str
    wait_id: str
    event: str
    attempt: int
    result: str = "null"
    error: ErrorInfo | None = None
    retry_seconds: float | None = None


@record(frozen=True, slots=True)
class Attempt:
    """An attempt that may begin, with copies of the thread and the wait at that time.

    Attributes:
        is_late: whether so much of its time has passed that its deadline must move when it begins.
    """

    session: Session
    accepted: Accepted
    is_late: bool

    @property
    def is_sync(self) -> bool:
        """Whether its function needs a thread."""
        case = self.accepted.case
        assert isinstance(case, ActivityCase)
        return not is_async(case.activity.function)

    @property
    def limit(self) -> timedelta:
        """Its timeout, or the time between its heartbeats."""
        return attempt_limit(self.accepted.case)

    def left(self, now: datetime) -> timedelta:
        """Returns the time until its deadline."""
        return _left(self.accepted, now)


class Begin(TaskDecision[ActivityTask]):
    """Decides whether an attempt may begin. The answer is the attempt, a task for a later time, or None if the attempt
    is over."""

    lax = True
    reads = True

    def deliver(self, session: Session, now: datetime) -> Attempt | Task | None:
        """See ``TaskDecision.deliver``."""
        session.check()
        body = self.body
        accepted = awaited(session, body)
        if accepted is None or not body.is_for(activity_wait(accepted)):
            return None
        wait = activity_wait(accepted)
        retry_at = wait.retry_at
        if retry_at is not None and retry_at > now:
            # The clock of the queue is ahead, or this task is an intermediate stop before a far date.
            later = body.later(min(retry_at, now + self.options.horizon), now, session.execution.pc)
            limit = request_limit(session.execution, session.machine.program, wait)
            return replace(later, deadline=limit)
        scheduled_at = max(body.created_at, retry_at or body.created_at)
        is_late = _left(accepted, now) < ON_TIME * attempt_limit(accepted.case) and now - scheduled_at < LINE_MAX
        # Not while a step runs: to wait for its end would delay the attempt.
        return self.begin(session, accepted, is_late=is_late and not session.leased(now))

    def begin(self, session: Session, accepted: Accepted, *, is_late: bool) -> Attempt:
        """Returns the attempt. Its thread and its wait are copied, because later decisions change the session."""
        copied = replace(accepted, thread=copy(accepted.thread), wait=copy(accepted.wait))
        return Attempt(session, copied, is_late)


class BeginLate(Begin):
    """Decides whether an attempt may begin that was late just before, and moves its deadline."""

    reads = False

    def begin(self, session: Session, accepted: Accepted, *, is_late: bool) -> Attempt:
        """See ``Begin.begin``."""
        if is_late:
            session.machine.heartbeat(accepted)
        return super().begin(session, accepted, is_late=False)


def _left(accepted: Accepted, now: datetime) -> timedelta:
    deadline = activity_wait(accepted).deadline
    assert deadline is not None
    return deadline - now


@record(frozen=True, slots=True)
class Report:
    """What an attempt reports about its progress, as JSON data."""

    data: Any

    @classmethod
    def of(cls, data: Any, event: str) -> Report:
        """Returns a report with any data.

        Raises:
            ExecutionError: the data cannot be stored, or is too large.
        """
        stored = json_of(data, f"the report of activity {event!r}")
        size = len(to_json(stored))
        if size > REPORT_BYTES_MAX:
            raise ExecutionError(
                f"the report of activity {event!r} has {size:,} bytes, the limit is {REPORT_BYTES_MAX:,}. Report less, "
                f"such as a number"
            )
        return cls(stored)


REPORT_BYTES_MAX: Final = 2_000
"""The most bytes of a report: it is stored in the document of the instance."""


class Beat(Decision):
    """Processes a heartbeat of an attempt, which extends its deadline if it has one between heartbeats, and stores its
    report, if it has one."""

    lax = True
    patience = LINE_MAX

    def __init__(self, body: ActivityTask, report: Report | None = None) -> None:
        self.body = body
        self.report = report

    def decide(self, session: Session, now: datetime) -> None:
        """See ``Decision.decide``.

        Raises:
            AttemptOver: the instance no longer waits for the attempt.
        """
        session.check()
        accepted = awaited(session, self.body)
        if accepted is None:
            number, event = self.body.attempt + 1, self.body.event
            raise AttemptOver(f"attempt {number} of activity {event!r} is over: stop")
        check_lease(session, now)
        if self.report is None:
            session.machine.heartbeat(accepted)
        else:
            session.machine.report(accepted, self.report.data)


def awaited(session: Session, body: ActivityTask | Result) -> Accepted | None:
    """Returns what waits for this attempt; None if nothing does any more, or while the instance is paused."""
    if not session.execution.live:
        return None
    return session.machine.activity(body.event, body.wait_id, body.attempt)
