"""Decisions of delivered timeouts: of a case of a select, or of an attempt of an activity."""

from __future__ import annotations

from datetime import datetime

from cloud_adapter.engine.activities import Activities
from cloud_adapter.engine.decisions import check_lease
from cloud_adapter.engine.deliveries import TaskDecision
from cloud_adapter.engine.schedule import attempts, timer_of
from cloud_adapter.engine.session import Session, settle
from cloud_adapter.engine.tasks import TimeoutTask
from cloud_adapter.history import HistoryKind
from cloud_adapter.options import EngineOptions
from workflow_core import EventNotAccepted
from workflow_core.machine.events import Accepted
from workflow_core.wait_types import ActivityWait, AnyTimedWait, TimedWait


class TimeOut(TaskDecision[TimeoutTask]):
    """Delivers a timeout, or ends attempts of activities, if the instance still waits for them. The answer is when to
    deliver the task again; None: never.

    Args:
        has_collected: whether the instance's inbox was already collected.

    Attributes:
        pc: the pc of the instance at the decision.
        wants_inbox: the deadline of an attempt has passed, but its result may be in the inbox. Collect the inbox first.
    """

    def __init__(
        self, body: TimeoutTask, options: EngineOptions, activities: Activities, *, has_collected: bool = False
    ) -> None:
        super().__init__(body, options)
        self.activities = activities
        self.has_collected = has_collected
        self.wants_inbox = False
        self.statement = body.event  # for a group of attempts, the statement of the attempt that is ended
        self.pc = body.pc

    def deliver(self, session: Session, now: datetime) -> datetime | None:
        """See ``TaskDecision.deliver``."""
        session.check()
        self.pc = session.execution.pc
        while (accepted := self._first(session, now)) is not None:
            wait = timed_wait(accepted)
            deadline = wait.deadline
            if deadline is not None and deadline > now:
                return min(deadline, now + self.options.horizon)
            check_lease(session, now)
            is_activity = isinstance(wait, ActivityWait)
            self.wants_inbox = is_activity and not self.has_collected
            if self.wants_inbox:
                return None
            self.statement = accepted.case.event
            if wait.task is not None:
                session.delivered.add(timer_of(wait, wait.task))
            if is_activity:
                self.activities.timed_out(session, accepted, now)
            else:
                thread = accepted.thread.id
                settle(session, accepted)
                session.note(HistoryKind.TIMEOUT, now, statement=accepted.case.event, thread=thread)
            if self.body.wait_id:
                break
        return None

    def _first(self, session: Session, now: datetime) -> Accepted | None:
        """Returns what waits for the timeout, or the attempt that ends first; None if nothing waits any more."""
        body = self.body
        if body.wait_id:
            accepted = accepted_timeout(session, body.event, body.wait_id)
            return accepted if accepted is not None and body.is_for(timed_wait(accepted)) else None
        waits = attempts(session.execution, body.fence or "")
        waits.sort(key=lambda wait: wait.deadline or now)
        found = (accepted_timeout(session, wait.event, wait.id) for wait in waits)
        return next((accepted for accepted in found if accepted is not None), None)


def accepted_timeout(session: Session, event: str, wait_id: str) -> Accepted | None:
    """Returns what waits for a timeout, or for the end of an attempt of an activity; None if nothing does any more."""
    try:
        accepted = session.machine.accept(event, wait_id=wait_id)
    except EventNotAccepted:
        return None
    # In the current definition, a case of that name may be of another kind.
    is_timed = issubclass(accepted.case.wait_type, TimedWait) and isinstance(accepted.wait, accepted.case.wait_type)
    return accepted if is_timed else None


def timed_wait(accepted: Accepted) -> AnyTimedWait:
    """Returns the wait for a timeout, or for the end of an attempt."""
    assert isinstance(accepted.wait, AnyTimedWait)
    return accepted.wait
