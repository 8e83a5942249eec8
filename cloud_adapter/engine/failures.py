"""User code that has failed: when it is tried again, what the history says of it, and what the machine is told.

Theory of operation. User code fails in three places: as work under the lease (a step, a setup, a teardown, the delivery
of a buffered event, the message to a parent), as an attempt of an activity, and as a child. What follows is decided
once, when it has failed, as a ``Failure``; ``work_failed`` and ``result_failed`` carry it out in memory.

1. The policy is the statement's, else the workflow's ``default_retry``, else that of the engine's options. Setups and
   teardowns have the last one alone. The message to a parent is repeated until it is taken: without it the parent would
   wait forever. A buffered event has one attempt: its handler depends on the fields alone, so it would fail again.
2. Each failure draws one random number for the jitter, used or not: a run with a seeded generator can be repeated.
3. A failure without a next attempt is thrown where the thread stands, so a ``Try`` can catch it. Setups and teardowns
   are an exception: they are only marked as failed. A child that cannot be started has failed like one that ended so.
4. What failed has not changed the fields: the caller takes them back before it reports the failure. If it does not, the
   next commit saves what half of an attempt has done.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from cloud_adapter.document import HistoryKind
from cloud_adapter.engine.session import ERROR_CHARS_MAX, Session, settle
from cloud_adapter.engine.user_code import call
from cloud_adapter.options import EngineOptions
from workflow_core import ErrorInfo
from workflow_core.error_texts import error_info
from workflow_core.machine.calls import activity_wait
from workflow_core.machine.events import Accepted
from workflow_core.machine.work import Work
from workflow_core.wait_types import ActivityWait


@dataclass(frozen=True, slots=True)
class Failure:
    """A failure of user code, and what follows.

    Attributes:
        error: as it is stored.
        retry_at: when it is tried again; None: it is given up.
        raised: the error itself, for its stack trace in the log; None if it was raised elsewhere.
    """

    error: ErrorInfo
    retry_at: datetime | None
    raised: Exception | None


class Retries:
    """Decides whether and when what has failed is tried again.

    Args:
        options: have the policy for what has none.
        rng: gives the jitter.
    """

    def __init__(self, options: EngineOptions, rng: random.Random) -> None:
        self.options = options
        self.rng = rng

    def of_work(self, session: Session, work: Work, error: Exception, now: datetime) -> Failure:
        """What follows the failure of work under the lease."""
        policy = session.machine.policy(work) or self.options.retry
        delay = work.delay(policy, error, self.rng.random())
        return Failure(error_info(error, work.statement), None if delay is None else now + delay, error)

    def of_attempt(self, session: Session, accepted: Accepted, error: Exception) -> timedelta | None:
        """After which time an attempt of an activity that has failed is followed by another one; None: by none."""
        assert accepted.case.activity is not None
        policy = accepted.case.activity.retry or session.cls.default_retry or self.options.retry
        return policy.delay(activity_wait(accepted).attempt + 1, error, self.rng.random())


def work_failed(
    session: Session, work: Work, failure: Failure, kind: HistoryKind, now: datetime, **details: Any
) -> None:
    """Work under the lease has failed.

    Args:
        details: what else the history keeps.
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
    """An attempt of an activity, or a child, has failed, or the handler of its result has.

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


def take_result(session: Session, accepted: Accepted, result: str) -> Exception | None:
    """Hands the result of an activity or a child, as JSON, to its handler. Gives what the handler has raised; then the
    fields are what they were before.

    Raises:
        Exception: what the handler has raised, if what it has done can be taken back only by a new load.
    """
    mark = session.mark()
    try:
        call(session.machine.handle_json, accepted, result.encode())
        session.check_fields()
    except Exception as raised:
        if not session.undo(mark):
            raise
        return raised
    return None


def _note(session: Session, failure: Failure, kind: HistoryKind, now: datetime, details: dict[str, Any]) -> None:
    session.raised = failure.raised
    session.note(kind, now, error=failure.error.text[:ERROR_CHARS_MAX], **details)
