"""Decisions of delivered tasks: the rules that apply to every kind of task.

A task is created before the commit that it belongs to. If it is delivered before that commit, it waits for it. If the
commit is never made, the task is given up after a time limit.
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
"""How long a task that is ahead of its commit waits in this process, before the queue has to send it again."""

B = TypeVar("B", bound=InstanceTask)


class TaskDecision(Decision, Generic[B]):
    """The decision of a delivered task. The answer is None if the task was given up."""

    def __init__(self, body: B, options: EngineOptions) -> None:
        self.body = body
        self.options = options

    def deliver(self, session: Session, now: datetime) -> Any:
        """Decides like ``Decision.decide``, after the commit that the task belongs to."""
        raise NotImplementedError

    def decide(self, session: Session, now: datetime) -> Any:
        """See ``Decision.decide``.

        Raises:
            NotNow: the commit that the task belongs to is not complete yet.
        """
        if session.execution.pc < self.body.pc:
            return self._ahead(now)
        return self.deliver(session, now)

    def missing(self, error: InstanceNotFound, now: datetime) -> Any:
        """Waits, because the creation of the instance is not complete yet."""
        return self._ahead(now)

    def _ahead(self, now: datetime) -> None:
        body = self.body
        if now - body.created_at > self.options.task_age_max:
            logs.transition("task given up", body.workflow, body.id, pc=body.pc, level=logging.WARNING)
            return
        raise NotNow(NotYet(f"commit {body.pc} of {body.workflow!r} {body.id!r} is not complete yet"), AHEAD)
