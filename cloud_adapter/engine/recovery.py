"""Finds the instances that should be moving but are not, and schedules them again.

Theory of operation. Each stored document says when its next work is due (``wake_at``). A task for that time was created
before the document was written. ``wake_at`` is therefore in the past only while that task is being delivered, or if it
was lost. Scheduling again is safe in both cases, because a task that finds nothing to do changes nothing. A ``wake_at``
that omits a kind of work breaks this; see ``schedule.py``.

A lazy timer has no task before recovery creates it, shortly before the deadline. Until then, each run creates it under
the same name, so it is one task. Once the deadline has passed, that name may be the one of a task that was lost, so the
task gets another one.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta

from cloud_adapter.document import Instance
from cloud_adapter.engine.commits import Committer
from cloud_adapter.engine.inbox import UNCOLLECTED_AFTER, Inbox
from cloud_adapter.engine.registry import served
from cloud_adapter.engine.schedule import is_lazy, recoverable_timeouts, resume_at, timer_of
from cloud_adapter.engine.session import Session
from cloud_adapter.engine.tasks import ResumeTask, TimeoutTask, timer_name
from cloud_adapter.engine.timers import accepted_timeout
from cloud_adapter.errors import Unavailable
from cloud_adapter.observability import logs
from cloud_adapter.summaries import Due
from workflow_core import Workflow
from workflow_core.error_texts import error_text


class Recovery:
    """Schedules instances again that should be moving but are not.

    Args:
        workflows: the served workflows, by name.
    """

    def __init__(self, committer: Committer, inbox: Inbox, workflows: Mapping[str, type[Workflow]]) -> None:
        self.committer = committer
        self.inbox = inbox
        self.workflows = workflows

    async def run(self, ahead: timedelta, limit: int) -> int:
        """See ``Engine.recover``."""
        now = self.committer.clock.now()
        # Calls within the same minute create the same tasks, which the queue accepts only once.
        salt = f"recover {int(now.timestamp()) // 60}"
        scheduled = 0
        last: Due | None = None
        while scheduled < limit:
            found = await self.committer.store.due(now + ahead, limit, after=last)
            for due in found:
                if scheduled < limit:
                    scheduled += await self._recover(due, now, ahead, salt)
            if len(found) < limit:
                break
            last = found[-1]
        before = now - UNCOLLECTED_AFTER
        return scheduled + await self.inbox.recover(self.workflows, before, salt, limit)

    async def _recover(self, due: Due, now: datetime, ahead: timedelta, salt: str) -> bool:
        """Schedules an instance, if it can be moved. An error of one instance must not stop the recovery of others.

        Instances are loaded one at a time, so that many large ones do not use up the memory.
        """
        try:
            cls = served(self.workflows, due.workflow)
            instance = await self.committer.store.load(due.workflow, due.id)
            session = Session(cls, await self.committer.secrets.opened(instance), now + ahead)
            session.machine.check()
            if _can_move(session, now, now + ahead):
                await self._schedule(instance, now, ahead, salt)
                return True
            text = "the definition no longer has the statements that are due"
        except Unavailable:
            raise
        except Exception as error:
            text = error_text(error)[:500]
        logs.transition("cannot move", due.workflow, due.id, level=logging.WARNING, error=text)
        return False

    async def _schedule(self, instance: Instance, now: datetime, ahead: timedelta, salt: str) -> None:
        execution = instance.execution
        for wait in recoverable_timeouts(execution, now, now + ahead):
            assert wait.deadline is not None
            task = TimeoutTask.of(execution, wait, now).task(salt, max(now, wait.deadline))
            if wait.deadline > now and is_lazy(wait.task):
                assert wait.task is not None
                name = timer_name(instance.workflow, instance.id, *timer_of(wait, wait.task))
                task = replace(task, name=name)
            await self.committer.queue.create(task)
        # In addition, because an overdue timeout hides other work in ``wake_at``.
        at = resume_at(execution, instance.lease, now)
        if at is not None and at <= now + ahead:
            resume = ResumeTask.of(execution, now)
            await self.committer.queue.create(resume.task(f"{salt} {execution.pc}", max(now, at)))


def _can_move(session: Session, now: datetime, before: datetime) -> bool:
    """Whether a task for the work that is due by ``before`` would find something to do.

    Raises:
        UserCodeError: a condition of the workflow raised, as it will when the task is delivered.
    """
    execution, lease = session.execution, session.instance.lease
    waits = recoverable_timeouts(execution, now, before)
    if any(accepted_timeout(session, wait.event, wait.id) for wait in waits):
        return True
    at = resume_at(execution, lease, now)
    if at is None or at > before:
        return False
    # The holder of a live lease may change what raises now. An expired lease has at least to be removed.
    return session.leased(now) or session.next_work() is not None or lease is not None
