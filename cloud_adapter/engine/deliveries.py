"""Tasks that have come for an instance, as decisions: what holds for each of them, whatever it is to do.

A task is created before the commit that it belongs to. One that comes before that commit waits for it; one whose commit
never came is given up in time.
"""

from __future__ import annotations

import logging
from datetime import datetime, timedelta
from typing import Any, Generic, TypeVar

from cloud_adapter.engine.decisions import Decision, NotNow
from cloud_adapter.engine.session import Session
from cloud_adapter.engine.tasks import InstanceTask
from cloud_adapter.errors import InstanceNotFound, NotYet
from cloud_adapter.observability import logs
from cloud_adapter.options import EngineOptions

AHEAD = timedelta(seconds=1)
"""How long a task that is ahead of its commit waits for it here, before the queue has to send it again."""

B = TypeVar("B", bound=InstanceTask)


class TaskDecision(Decision, Generic[B]):
    """What a task does to its instance. Its answer is None where the task was given up."""

    def __init__(self, body: B, options: EngineOptions) -> None:
        self.body = body
        self.options = options

    def deliver(self, session: Session, now: datetime) -> Any:
        """``Decision.decide``, once the commit that the task belongs to has landed."""
        raise NotImplementedError

    def decide(self, session: Session, now: datetime) -> Any:
        """See ``Decision.decide``.

        Raises:
            NotNow: the commit that the task belongs to has not landed yet.
        """
        if session.execution.pc < self.body.pc:
            return self._ahead(now)
        return self.deliver(session, now)

    def missing(self, error: InstanceNotFound, now: datetime) -> Any:
        """Its creation has not landed yet."""
        return self._ahead(now)

    def _ahead(self, now: datetime) -> None:
        body = self.body
        if now - body.created_at > self.options.task_age_max:
            logs.transition("task given up", body.workflow, body.id, pc=body.pc, level=logging.WARNING)
            return
        raise NotNow(NotYet(f"the commit {body.pc} of {body.workflow!r} {body.id!r} has not landed yet"), AHEAD)
