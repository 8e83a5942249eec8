"""Failures of user code: when the code is tried again, the entry in the history, and the report to the machine.

Theory of operation. User code fails in three places: as work under the lease (a step, a setup, a teardown, the delivery
of a buffered event, the message to a parent), as an attempt of an activity, and as a child. The consequences are
decided once, at the failure, as a ``Failure``. ``work_failed`` and ``result_failed`` apply them in memory.

1. The retry policy is the statement's, else the workflow's ``default_retry``, else the one in the engine's options.
   Setups and teardowns use only the one in the options. The message to a parent is repeated until the parent accepts
   it: without it, the parent would wait forever. A buffered event has one attempt: its handler depends only on the
   fields, so it would fail again.
2. Each failure draws one random number for the jitter, even if it is not used, so that a run with a seeded generator is
   repeatable.
3. A failure without a next attempt is thrown at the thread's current statement, so a ``Try`` can catch it. Setups and
   teardowns are an exception: they are only marked as failed. A child that cannot be started fails like a child that
   ended as failed.
4. Code that failed must not have changed the fields: the caller undoes its changes before it reports the failure. If
   the caller does not, the next commit saves the changes of half an attempt.
"""

from __future__ import annotations

import random
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from cloud_adapter.engine.session import ERROR_CHARS_MAX, Session, settle
from cloud_adapter.engine.user_code import call
from cloud_adapter.history import HistoryKind
from cloud_adapter.options import EngineOptions
from workflow_core import ErrorInfo
from workflow_core.error_texts import error_info
from workflow_core.machine.calls import activity_wait
from workflow_core.machine.events import Accepted
from workflow_core.machine.work import Work
from workflow_core.program.cases import ActivityCase
from workflow_core.records import record
from workflow_core.wait_types import ActivityWait


@record(frozen=True, slots=True)
class Failure:
    """A failure of user code and its consequences.

    Attributes:
        error: the error as it is stored.
        retry_at: the time of the next attempt; None: there is none.
        raised: the error itself, for its stack trace in the log; None if it was raised elsewhere.
    """

    error: ErrorInfo
    retry_at: datetime | None
    raised: Exception | None


class Retries:
    """Decides whether and when failed code is tried again.

    Args:
        options: the engine's options, with the default policy.
        rng: generates the jitter.
    """

    def __init__(self, options: EngineOptions, rng: random.Random) -> None:
        self.options = options
        self.rng = rng

    def of_work(self, session: Session, work: Work, error: Exception, now: datetime) -> Failure:
        """Returns the consequences of a failure of work under the lease."""
        policy = session.machine.policy(work) or self.options.retry
        delay = work.delay(policy, error, self.rng.random())
        return Failure(error_info(error, work.statement), None if delay is None else now + delay, error)

    def of_attempt(self, session: Session, accepted: Accepted, error: Exception) -> timedelta | None:
        """Returns the delay between a failed attempt of an activity and the next one; None: there is no next one."""
        assert isinstance(accepted.case, ActivityCase)
        policy = accepted.case.activity.retry or session.cls.default_retry or self.options.retry
        return policy.delay(activity_wait(accepted).attempt + 1, error, self.rng.random())


def work_failed(
    session: Session, work: Work, failure: Failure, kind: HistoryKind, now: datetime, **details: Any
) -> None:
    """Records a failure of work under the lease.

    Args:
        details: other details for the history.
    """
    machine, error = session.machine, failure.raised
    assert error is not None
    machine.failed(work, error, failure.retry_at)
    _note(session, failure, kind, now, details)
    if failure.retry_at is None:
        call(machine.give_up, work, error)


def result_failed(
    session: Session, accepted: Accepted, failure: Failure, kind: HistoryKind, now: datetime, **details: Any
) -> None:
    """Records a failure of an attempt of an activity, of a child, or of the handler of its result.

    Raises:
        UserCodeError: a condition of the workflow raised.
    """
    machine = session.machine
    _note(session, failure, kind, now, {"thread": accepted.thread.id, "statement": accepted.case.event} | details)
    if isinstance(accepted.wait, ActivityWait):
        call(machine.activity_failed, accepted, failure.error, failure.retry_at)
    else:
        call(machine.child_failed, accepted.thread, accepted.case.event, failure.error)
    settle(session)


def take_result(session: Session, accepted: Accepted, result: str, *, is_secret: bool = False) -> Exception | None:
    """Passes the result of an activity or a child, as JSON, to its handler. Returns the error that the handler raised,
    if any. Its changes to the fields are then undone.

    Args:
        is_secret: whether the result contains secrets.

    Raises:
        Exception: the error of the handler, if its changes can be undone only by a new load.
    """
    mark = session.mark()
    try:
        call(partial(session.machine.handle_json, is_secret=is_secret), accepted, result.encode())
        session.check_fields()
    except Exception as raised:
        if not session.undo(mark):
            raise
        return raised
    return None


def _note(session: Session, failure: Failure, kind: HistoryKind, now: datetime, details: dict[str, Any]) -> None:
    session.raised = failure.raised
    session.note(kind, now, error=failure.error.text[:ERROR_CHARS_MAX], **details)
