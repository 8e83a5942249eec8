"""Timeouts that have come, as decisions: of a case of a select, or of an attempt of an activity."""

from __future__ import annotations

from datetime import datetime

from cloud_adapter.activities import Activities
from cloud_adapter.decisions import check_lease
from cloud_adapter.deliveries import TaskDecision
from cloud_adapter.options import EngineOptions
from cloud_adapter.schedule import timer_of
from cloud_adapter.session import Session, settle
from cloud_adapter.tasks import TimeoutTask
from workflow_core import EventNotAccepted, WaitKind
from workflow_core.execution import TIMED_KINDS
from workflow_core.interpreter import Accepted


class TimeOut(TaskDecision[TimeoutTask]):
    """Delivers a timeout, if its thread still waits for it. The answer is when it is to come again; None: never.

    Args:
        has_collected: the instance's inbox was taken in.

    Attributes:
        pc: that of the instance as it was met.
        wants_inbox: the time of an attempt is over, but its result may be in the inbox: collect that first.
    """

    def __init__(
        self, body: TimeoutTask, options: EngineOptions, activities: Activities, *, has_collected: bool = False
    ) -> None:
        super().__init__(body, options)
        self.activities = activities
        self.has_collected = has_collected
        self.wants_inbox = False
        self.statement = body.event
        self.pc = body.pc

    def deliver(self, session: Session, now: datetime) -> datetime | None:
        """See ``TaskDecision.deliver``."""
        session.check()
        self.pc = session.execution.pc
        accepted = accepted_timeout(session, self.body.event, self.body.wait_id)
        if accepted is None or accepted.wait is None or not self.body.is_for(accepted.wait):
            return None
        deadline = accepted.wait.deadline
        if deadline is not None and deadline > now:
            return min(deadline, now + self.options.horizon)
        check_lease(session, now)
        self.wants_inbox = accepted.case.kind is WaitKind.ACTIVITY and not self.has_collected
        if self.wants_inbox:
            return None
        session.delivered.add(timer_of(accepted.wait))
        if accepted.case.kind is WaitKind.ACTIVITY:
            self.activities.timed_out(session, accepted, now)
            settle(session)
            return None
        thread = accepted.thread.id
        settle(session, accepted)
        session.note("timeout", now, statement=accepted.case.event, thread=thread)
        return None


def accepted_timeout(session: Session, event: str, wait_id: str) -> Accepted | None:
    """Who waits for a timeout, or for the end of an attempt of an activity; None if nobody does any more."""
    try:
        accepted = session.machine.accept(event, wait_id=wait_id)
    except EventNotAccepted:
        return None
    return accepted if accepted.case.kind in TIMED_KINDS and accepted.wait is not None else None
