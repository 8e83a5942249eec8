"""Finds the instances that should be moving but are not, and schedules them again.

Theory of operation. Each stored document says when its next work is due (``wake_at``). A task for that time was created
before the document was written. ``wake_at`` is therefore in the past only while that task is being delivered, or if it
was lost. Scheduling again is safe in both cases, because a task that finds nothing to do changes nothing. A ``wake_at``
that omits a kind of work breaks this; see ``schedule.py``.

An instance that cannot move, because the code no longer has its statement or its document is damaged, would be read by
every call. It is therefore postponed: ``wake_at`` is moved, by ten minutes at first and by twice as much each time. A
commit computes ``wake_at`` anew, so whatever changes the instance ends this. A change of the code does too: the first
call in each process also tries the postponed instances, and the next calls go on if it could not try all.

A call that ends before it has looked at everything remembers where. The next call in the process begins there and then
looks at the rest from the start. Otherwise, instances whose tasks were created, but not yet delivered, would be found
first by each call, and hide the later ones.

A lazy timer has no task before recovery creates it, shortly before the deadline. Until then, each run creates it under
the same name, so it is one task. Once the deadline has passed, that name may be the one of a task that was lost, so the
task gets another one.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Container, Mapping, Sequence
from dataclasses import field, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Final

from cloud_adapter.document import Instance
from cloud_adapter.engine.commits import Committer, concurrently
from cloud_adapter.engine.inbox import UNCOLLECTED_AFTER, Inbox
from cloud_adapter.engine.registry import served
from cloud_adapter.engine.schedule import is_lazy, recoverable_timeouts, resume_at, timer_of
from cloud_adapter.engine.session import Session
from cloud_adapter.engine.tasks import ResumeTask, TimeoutTask, timer_name
from cloud_adapter.engine.timers import accepted_timeout
from cloud_adapter.errors import Unavailable
from cloud_adapter.observability import logs
from cloud_adapter.ports import ShardedStore
from cloud_adapter.summaries import Due
from workflow_core import Workflow
from workflow_core.error_texts import error_text
from workflow_core.records import record

PAGE: Final = 1_000
"""The most instances that are found with one query."""

POSTPONED_FIRST, POSTPONED_MAX = timedelta(minutes=10), timedelta(hours=6)
"""For how long an instance that cannot move is postponed at first, and at most. The time doubles each time."""

OVERDUE_MIN = timedelta(minutes=5)
"""For how long an instance must be overdue before it is postponed: a newer revision of the code, which is just being
deployed, may be able to move it."""

UNSERVED_MIN = timedelta(hours=1)
"""The same for an instance whose workflow this engine does not serve. Another service may share the database, and its
own recovery moves the instance by then."""


Shard = tuple[int, ...]
"""A shard of the store; see ``ports.ShardedStore``."""

_Place = tuple[str, str]


@record(slots=True)
class _Call:
    """One call of recovery.

    Attributes:
        salt: the same for all calls within a minute. They create the same tasks, which the queue accepts only once.
        limit: the number of scheduled instances at which it ends.
        ends_at: when it ends.
        scheduled: the number of instances that were scheduled so far.
        seen: those that were looked at in this scan: workflow and id.
    """

    now: datetime
    ahead: timedelta
    salt: str
    limit: int
    ends_at: datetime
    scheduled: int = 0
    seen: set[_Place] = field(default_factory=set)


_Find = Callable[..., Awaitable[Sequence[Due]]]


class Recovery:
    """Schedules instances again that should be moving but are not.

    Args:
        workflows: the served workflows, by name.
    """

    def __init__(self, committer: Committer, inbox: Inbox, workflows: Mapping[str, type[Workflow]]) -> None:
        self.committer = committer
        self.inbox = inbox
        self.workflows = workflows
        self._has_tried_postponed = False
        self._last_postponed: Due | None = None
        self._last_due: dict[Shard | None, Due | None] = {}

    async def run(
        self, ahead: timedelta, limit: int, seconds: float, try_postponed: bool, shard: Shard | None = None
    ) -> int:
        """See ``Engine.recover``.

        Args:
            shard: schedules only what is due in it; None: in all shards.
        """
        call, store, page = self._call(ahead, limit, seconds), self.committer.store, min(limit, PAGE)
        now = call.now
        if try_postponed or not self._has_tried_postponed:
            # At most half of the call is for them, so that many of them do not hide what is due.
            call.limit, call.ends_at = max(limit // 2, 1), now + timedelta(seconds=seconds / 2)
            last = self._last_postponed
            if last is not None and last.wake_at <= now:
                last = None
            last = await self._recover_all(call, page, partial(store.postponed, now, page), last)
            self._last_postponed = last
            self._has_tried_postponed |= last is None
            call.limit, call.ends_at = limit, now + timedelta(seconds=seconds)
        await self._recover_due(call, page, shard)
        before = now - UNCOLLECTED_AFTER
        return call.scheduled + await self.inbox.recover(
            self.workflows, before, call.salt, limit, everything=try_postponed
        )

    async def run_shard(self, shard: Shard, limit: int, seconds: float) -> int:
        """Schedules what is due in a shard. Returns how many instances these were."""
        call = self._call(timedelta(), limit, seconds)
        await self._recover_due(call, min(limit, PAGE), shard)
        return call.scheduled

    def _call(self, ahead: timedelta, limit: int, seconds: float) -> _Call:
        now = self.committer.clock.now()
        return _Call(now, ahead, f"recover {int(now.timestamp()) // 60}", limit, now + timedelta(seconds=seconds))

    async def _recover_due(self, call: _Call, page: int, shard: Shard | None) -> None:
        """Schedules what is due: at first what follows the last one of the call before, then what precedes it."""
        before, first = call.now + call.ahead, self._last_due.get(shard)
        call.seen.clear()
        store = self.committer.store
        find: _Find = partial(store.due, before, page)
        if shard is not None and isinstance(store, ShardedStore):
            find = partial(store.due, before, page, shard=shard)
        if first is not None and first.wake_at <= before:
            last = self._last_due[shard] = await self._recover_all(call, page, find, first)
            if last is not None or self._is_over(call):
                return
            find = partial(_until, first, frozenset(call.seen), find)
        self._last_due[shard] = await self._recover_all(call, page, find, None)

    async def _recover_all(self, call: _Call, page: int, find: _Find, last: Due | None) -> Due | None:
        """Schedules all instances that ``find`` returns, page by page, until the limit or the end of the time.

        As many are loaded at a time as the queue takes calls, not a whole page: they may be large.

        Args:
            last: only later ones are scheduled.

        Returns: the last one that was looked at, or ``last``; None: all were.
        """
        calls_max = self.committer.queue.calls_max
        while not self._is_over(call):
            found = await find(after=last)
            rest = list(found)
            while rest:
                if self._is_over(call):
                    return last
                batch = rest[: min(calls_max, call.limit - call.scheduled)]
                del rest[: len(batch)]
                await concurrently(partial(self._recover, call), batch, calls_max)
                call.seen |= set(map(_place, batch))
                last = batch[-1]
            if len(found) < page:
                return None
        return last

    def _is_over(self, call: _Call) -> bool:
        return call.scheduled >= call.limit or self.committer.clock.now() > call.ends_at

    async def _recover(self, call: _Call, due: Due) -> None:
        """Schedules an instance, if it can be moved. An error of one instance must not stop the recovery of others."""
        overdue_min = OVERDUE_MIN
        try:
            if due.workflow not in self.workflows:
                overdue_min = UNSERVED_MIN
            cls = served(self.workflows, due.workflow)
            instance = await self.committer.store.load(due.workflow, due.id)
            session = Session(cls, await self.committer.secrets.opened(instance), call.now + call.ahead)
            session.check()
            if _can_move(session, call.now, call.now + call.ahead):
                await self._schedule(instance, call.now, call.ahead, call.salt)
                call.scheduled += 1
                return
            text = "the definition no longer has the statements that are due"
        except Unavailable:
            raise
        except Exception as error:
            text = error_text(error)[:500]
        logs.transition("cannot move", due.workflow, due.id, level=logging.WARNING, error=text)
        if due.wake_at <= call.now - (timedelta() if due.postponed else overdue_min):
            await self.committer.store.postpone(due, call.now + postponement(due.postponed))

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


def postponement(count: int) -> timedelta:
    """Returns for how long an instance is postponed that was already postponed ``count`` times."""
    return min(POSTPONED_FIRST * (1 << min(count, 10)), POSTPONED_MAX)


async def _until(last: Due, seen: Container[_Place], find: _Find, *, after: Due | None) -> Sequence[Due]:
    """Returns what ``find`` returns, up to and including ``last``, and before the first one that was seen. Both may
    have vanished meanwhile."""
    found = list[Due]()
    if after is None or _place(after) != _place(last):
        for due in await find(after=after):
            if _place(due) in seen:
                break
            found.append(due)
            if _place(due) == _place(last):
                break
    return found


def _place(due: Due) -> _Place:
    return due.workflow, due.id


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
