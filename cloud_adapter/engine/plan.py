"""Plans a commit: the document that it writes, the tasks that it needs, and the tasks that it makes obsolete.

Pure: ``plan`` computes a ``Change`` from the stored state and the state to save. It changes neither of them, creates no
task, reads no clock and draws no random number. A commit that is rejected or lost therefore leaves the session
unchanged.

Theory of operation: which tasks a commit creates.

1. In the stored state, pieces of work are due at certain times. For each piece of work that the previous state did not
   have at that time (``Before.due``), the commit creates a resume task. Work that was already due has its task.
2. Two commits are exceptions, because an existing task may already have run: the commit that ends a lease (the holder
   was responsible for the work, so tasks that were delivered under the lease did nothing), and the commit that revives
   an instance that was paused or failed. They treat all work as new. The commit that ends a lease also creates tasks
   for timeouts that are overdue: theirs were put off until the lease expires.
3. Each timeout and each attempt of an activity has its own task. Its wait stores the token of the commit that created
   the task, called its *fence*. A wait without a fence has no task yet. A lazy timer has a fence of its own kind, and
   recovery creates its task; see ``schedule.py``.

Theory of operation: names of tasks. A queue accepts each name only once, which makes a repeated call harmless.

1. Tasks are created before their commit. If the commit is lost, they remain. A task that only its commit needs
   therefore has the token in its name: a lost commit must not take the name that the next one needs.
2. A task for a time that depends only on the state (a next attempt, an intermediate stop before a far deadline) is
   named after its work and its time. Every process that computes it gets the same task.
3. A task that is due immediately has no name. A duplicate finds nothing to do, and names cost the queue time.
4. A fence has two uses. It is part of the task's name, by which the task can be deleted. It is stored in the wait, by
   which a delivered task is recognized. Tasks of lost commits therefore do nothing, and a commit deletes only its own
   tasks.

What breaks this: a kind of work that ``schedule.due`` does not include has no task; if a task is created again for the
same time and its name lacks the token, the queue ignores it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from cloud_adapter.clock import CLOCK_SKEW
from cloud_adapter.document import TOKEN_CHARS_MAX, TOKENS_MAX, Instance, Lease, encode, with_lease
from cloud_adapter.engine import schedule
from cloud_adapter.engine.schedule import Due, Timer
from cloud_adapter.engine.tasks import ACTIVITY_PATH, TIMEOUT_PATH, ActivityTask, ResumeTask, TimeoutTask, timer_name
from cloud_adapter.history import HistoryEntry
from cloud_adapter.options import EngineOptions
from cloud_adapter.ports import Task
from workflow_core import Execution
from workflow_core.machine.saves import to_store
from workflow_core.program.cases import ActivityCase
from workflow_core.program.program import Program
from workflow_core.records import record
from workflow_core.statements.calls import ACTIVITY_TIMEOUT
from workflow_core.wait_types import ActivityWait


@record(frozen=True, slots=True)
class Release:
    """The document has no lease after the commit."""


@record(frozen=True, slots=True)
class Keep:
    """The lease of another process stays unchanged. Work that is due is done after the lease has expired."""


@record(frozen=True, slots=True)
class Hold:
    """From the commit on, the document has the lease with this token.

    Attributes:
        keeps_events: the lease lasts for long already, so clients' events may be kept in the inbox until it ends.
        renews: nothing was done since the last commit. The stored fields stay unchanged, even if user code is changing
            the fields in memory. The commit counts as a transition, so that every version of a document has a different
            pc.
    """

    token: str
    keeps_events: bool = False
    renews: bool = False


LeasePolicy = Release | Keep | Hold
"""What happens to the lease of the document."""

RELEASE, KEEP = Release(), Keep()


@record(slots=True)
class Before:
    """The stored state.

    Attributes:
        instance: the instance as it is stored. Its threads may since have been changed in memory.
        due: the work for which tasks were created.
        timers: the timeouts and attempts that have tasks, and from when on; None: since their commit.
        is_live: whether the instance was live.
    """

    instance: Instance
    due: AbstractSet[Due]
    timers: Mapping[Timer, datetime | None]
    is_live: bool

    @classmethod
    def of(cls, instance: Instance) -> Before:
        """Returns the stored state of an instance that was not changed since it was loaded or saved."""
        execution = instance.execution
        return cls(instance, frozenset(schedule.due(execution)), schedule.timers(execution), execution.live)


@record(slots=True)
class After:
    """The state to save.

    Attributes:
        entries: the new entries of the history.
        delivered: timeouts that were delivered, so their tasks do not have to be deleted.
        has_no_events: whether the inbox, read after the stored state, contained no events of clients.
        is_checked: whether this version of the definition can use what the instance has stored. If that is not known,
            the instance keeps the version that has stored it.
    """

    execution: Execution
    program: Program
    fields: str
    search: Mapping[str, Any]
    entries: Sequence[HistoryEntry] = ()
    delivered: AbstractSet[Timer] = frozenset()
    has_no_events: bool = False
    is_checked: bool = True


@record(slots=True)
class Change:
    """The parts of a commit: tasks to create before it, the document, and tasks to delete after it.

    Attributes:
        due, timers: see ``Before``, for the plan of the commit after this one.
        leases: whether the document has a new lease. ``lease_until`` sets its end.
    """

    instance: Instance
    token: str
    create: tuple[Task, ...]
    delete: tuple[str, ...]
    due: AbstractSet[Due]
    timers: Mapping[Timer, datetime | None]
    leases: bool = False

    @property
    def own_names(self) -> tuple[str, ...]:
        """The names of the tasks with this commit's fence. If the commit fails, nothing needs them."""
        return tuple(task.name for task in self.create if task.name and task.path in (TIMEOUT_PATH, ACTIVITY_PATH))

    def encoded(self, sealed: Instance) -> Change:
        """Returns the same change with its document. It is encoded before the tasks are created, and not in the store,
        so that no tasks are created for a document that is too large.

        Args:
            sealed: the instance with encrypted secrets; see ``Secrets.sealed``.

        Raises:
            TooLarge: see ``document.encode``.
        """
        instance = self.instance.with_values(document=encode(sealed))
        return Change(instance, self.token, self.create, self.delete, self.due, self.timers, self.leases)

    def lease_until(self, expires_at: datetime) -> Change:
        """Returns the same change with this end of its new lease."""
        assert self.instance.lease is not None
        lease = replace(self.instance.lease, expires_at=expires_at)
        wake = schedule.wake_at(self.instance.execution, lease, expires_at)
        return replace(self, instance=with_lease(self.instance, lease, wake))


def plan(
    before: Before, after: After, now: datetime, policy: LeasePolicy, token: str, options: EngineOptions
) -> Change:
    """Returns the change that saves ``after``.

    Args:
        token: the token of the commit. No other commit has it.
    """
    horizon, stored = options.horizon, before.instance
    renews = isinstance(policy, Hold) and policy.renews
    waits = schedule.open_timeouts(after.execution)
    version = after.program.version if after.is_checked else after.execution.definition_version
    fence = partial(schedule.fence_of, token=token, now=now, lazy_after=options.lazy_after)
    execution = to_store(after.execution, waits, fence, version=version, now=now, counts=renews)
    create = list(_timed(execution, after.program, token, now, horizon)) if waits else []
    due, timers = dict.fromkeys(schedule.due(execution)).keys(), schedule.timers(execution)
    lease: Lease | None = None
    # An event may be kept as long as its sender sees the lease in the document. An empty inbox therefore proves nothing
    # unless it was read after the lease was removed.
    may_have_events = stored.has_kept_events and not after.has_no_events
    may_have_events = may_have_events or (stored.lease is not None and stored.lease.keeps_events)
    if isinstance(policy, Hold):
        lease = Lease(policy.token, now + options.lease, policy.keeps_events or may_have_events)
    elif isinstance(policy, Keep):
        lease = stored.lease
        assert lease is not None
        create.append(ResumeTask.of(execution, now).task(token, lease.expires_at))
    else:
        # The holder of the lease was responsible for the work that is due. Without a lease, the work needs tasks.
        create += _resumes(before, due, execution, token, now, horizon)
        if stored.lease is not None:
            create += _put_off(execution, token, now, options.max_wait)
    # A timeout without a task has just got a fence, so without timers there are no timeouts.
    when = schedule.wake_at if timers else schedule.resume_at
    instance = stored.with_values(
        execution=execution,
        fields=stored.fields if renews else after.fields,
        lease=lease,
        new_entries=tuple(after.entries),
        wake_at=when(execution, lease, now, due),
        tokens=(*stored.tokens[-TOKENS_MAX:], token[:TOKEN_CHARS_MAX]),
        search=stored.search if renews else after.search,
        has_kept_events=lease is None and may_have_events,
        document=None,
    )
    delete: Sequence[str] = ()
    if before.timers:
        gone = before.timers.keys() - timers.keys() - after.delivered
        delete = sorted(
            timer_name(instance.workflow, instance.id, *timer) for timer in gone if _has_task(before, timer, now)
        )
    return Change(instance, token, tuple(create), tuple(delete), due, timers, isinstance(policy, Hold))


def _has_task(before: Before, timer: Timer, now: datetime) -> bool:
    """Whether the task of a timer may exist. Recovery, which creates that of a lazy one, has another clock."""
    created_at = before.timers[timer]
    return created_at is None or created_at <= now + CLOCK_SKEW


def _timed(execution: Execution, program: Program, token: str, now: datetime, horizon: timedelta) -> Iterator[Task]:
    """Yields the tasks of the timeouts and attempts that have none yet. One task ends all attempts. Its time is the
    first of their deadlines."""
    deadlines = []
    for wait in schedule.fenced(execution, token):
        assert wait.deadline is not None
        if isinstance(wait, ActivityWait):
            deadlines.append(wait.deadline)
            start = wait.retry_at and min(wait.retry_at, now + horizon)
            attempt = ActivityTask.of(execution, wait, now).task(token, start)
            yield replace(attempt, deadline=request_limit(execution, program, wait))
        else:
            yield TimeoutTask.of(execution, wait, now).task(token, min(wait.deadline, now + horizon))
    if deadlines:
        yield TimeoutTask.of_attempts(execution, token, now).task(token, min(min(deadlines), now + horizon))


def _resumes(
    before: Before, due: Iterable[Due], execution: Execution, token: str, now: datetime, horizon: timedelta
) -> Iterator[Task]:
    """Yields a resume task for each time at which work is due that has no task yet."""
    revived = execution.live and not before.is_live
    anew = revived or before.instance.lease is not None
    soon: list[datetime] = []
    for key, at in due:
        if not anew and (key, at) in before.due:
            continue
        if at is None or (anew and at <= now + CLOCK_SKEW):
            # An existing task may already have been delivered, too early or while the lease was live. One task, for the
            # first of these times, is enough: it schedules the others.
            soon.append(at or now)
        else:
            # If the instance was paused or failed, an existing task may already have been delivered.
            yield _resume(execution, key, at, now, horizon, salt=token if revived else "")
    if soon:
        first = min(soon)
        is_now = first <= now
        yield ResumeTask.of(execution, now).task("" if is_now else token, None if is_now else first)


def _put_off(execution: Execution, token: str, now: datetime, max_wait: timedelta) -> Iterator[Task]:
    """Yields tasks for the overdue timeouts whose own tasks were put off until the expiry of the lease, which this
    commit ends. Under other leases, the same could happen to them again and again."""
    timers: set[Timer] = set()
    for wait in schedule.due_timeouts(execution, now - max_wait):
        assert wait.task is not None
        timer = schedule.timer_of(wait, wait.task)
        if wait.task == token or timer in timers:
            continue
        timers.add(timer)
        is_attempt = isinstance(wait, ActivityWait)
        body = (
            TimeoutTask.of_attempts(execution, wait.task, now) if is_attempt else TimeoutTask.of(execution, wait, now)
        )
        yield body.task("")


def _resume(execution: Execution, key: object, at: datetime, now: datetime, horizon: timedelta, salt: str = "") -> Task:
    """Returns a resume task that is named after its work, not after a commit. Created again, it is the same task."""
    stop = schedule.stop_before(at, now, horizon)
    return ResumeTask.of(execution, now).task(f"{key} {stop.isoformat()} {salt}", stop)


def next_stops(execution: Execution, body: ResumeTask, now: datetime, horizon: timedelta) -> Iterator[Task]:
    """Yields resume tasks for work that is due so late that ``body`` may be an intermediate stop; see
    ``stop_before``."""
    for key, at in schedule.due(execution):
        if at is not None and at > body.created_at + horizon:
            yield _resume(execution, key, at, now, horizon)


def request_limit(execution: Execution, program: Program, wait: ActivityWait) -> timedelta:
    """Returns how long the request that runs an activity may take. With a heartbeat, only the queue limits it."""
    thread = execution.thread(wait.id.rpartition("@")[0])
    assert thread is not None
    case = program.select(thread.step).cases[wait.event]
    assert isinstance(case, ActivityCase)
    spec = case.activity
    return timedelta(days=1) if spec.heartbeat is not None else spec.timeout or ACTIVITY_TIMEOUT
