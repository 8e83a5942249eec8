"""What a commit consists of: the document that it writes, the tasks that it needs, and those that it makes useless.

Pure: ``plan`` computes a ``Change`` from what is stored and what is to be saved. It changes neither, creates no task,
reads no clock and draws no random number, so a commit that is refused or lost leaves the session as it was.

Theory of operation: which tasks a commit creates.

1. Something is due in the state that is stored, at a time. For each such moment that the state before did not have
   (``Before.due``), the commit creates a resume task. What was due before has its task already, so it gets none.
2. Two commits make an exception, because the task may have come and gone: the one that ends a lease (the holder was to
   do what is due, so tasks that came under the lease did nothing), and the one that revives an instance that was paused
   or had failed. They count everything as new.
3. Each timeout, and each attempt of an activity, has a task of its own. Its wait stores the token of the commit that
   has created it, its *fence*; a wait without a fence has no task yet.

Theory of operation: names of tasks. A queue takes each name once, which is what makes a repeated call harmless.

1. Tasks are created before their commit. If the commit is lost, they stay. So a task that only its commit needs has the
   token in its name: an attempt to commit that lost must not take the name that the next one needs.
2. A task for a moment that is known by the state alone (a next attempt, a stop on the way to a far deadline) is named
   after what is due and when. Whoever computes it again gets the same task.
3. A task that is due at once has no name. One too many finds nothing to do, and a name costs a queue time.
4. A fence is both: part of the task's name, by which the task can be deleted, and stored in the wait, by which the task
   is recognized when it comes. So tasks of lost commits do nothing, and only those of one's own are deleted.

What breaks this: a kind of work that ``schedule.due`` does not know has no task; a name without the token, where the
task is created anew for the same moment, is a task that the queue refuses.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from cloud_adapter.clock import CLOCK_SKEW
from cloud_adapter.document import HistoryEntry, Instance, Lease, encode, with_lease
from cloud_adapter.engine import schedule
from cloud_adapter.engine.schedule import Due, Timer
from cloud_adapter.engine.tasks import ACTIVITY_PATH, TIMEOUT_PATH, ActivityTask, ResumeTask, TimeoutTask, timer_name
from cloud_adapter.options import EngineOptions
from cloud_adapter.ports import Task
from workflow_core import Execution
from workflow_core.machine.saves import to_store
from workflow_core.program.program import Program
from workflow_core.statements.calls import ACTIVITY_TIMEOUT
from workflow_core.wait_types import ActivityWait


@dataclass(frozen=True, slots=True)
class Release:
    """The document bears no lease after the commit."""


@dataclass(frozen=True, slots=True)
class Keep:
    """The lease of somebody else stays as it is. What is due is done when it has expired."""


@dataclass(frozen=True, slots=True)
class Hold:
    """The document bears the lease with this token, from the commit on.

    Attributes:
        renews: nothing was done since the last commit. The fields stay as they were stored, whatever user code does to
            them meanwhile, and the commit counts as a transition, so that every version of a document has another pc.
    """

    token: str
    renews: bool = False


LeasePolicy = Release | Keep | Hold
"""What becomes of the lease of the document."""

RELEASE, KEEP = Release(), Keep()


@dataclass(frozen=True, slots=True)
class Before:
    """What is stored.

    Attributes:
        instance: as it is stored, but for its execution, which may have been changed in memory since.
        due: what tasks were created for.
        timers: the timeouts and attempts that have tasks.
        is_live: whether it was live.
    """

    instance: Instance
    due: AbstractSet[Due]
    timers: AbstractSet[Timer]
    is_live: bool

    @classmethod
    def of(cls, instance: Instance) -> Before:
        """What is stored, from an instance that was not changed since."""
        execution = instance.execution
        due, timers = frozenset(schedule.due(execution)), frozenset(schedule.timers(execution))
        return cls(instance, due, timers, execution.live)


@dataclass(frozen=True, slots=True)
class After:
    """What is to be saved.

    Attributes:
        entries: what the history gets.
        delivered: timeouts that have come, so that nobody has to delete their tasks.
    """

    execution: Execution
    program: Program
    fields: str
    search: Mapping[str, Any]
    entries: Sequence[HistoryEntry] = ()
    delivered: AbstractSet[Timer] = frozenset()


@dataclass(frozen=True, slots=True)
class Change:
    """What a commit consists of: tasks to create before it, the document, tasks to delete after it.

    Attributes:
        leases: whether the document bears a new lease; ``lease_until`` says until when.
    """

    instance: Instance
    token: str
    create: tuple[Task, ...]
    delete: tuple[str, ...]
    leases: bool = False

    @property
    def own_names(self) -> tuple[str, ...]:
        """The names of the tasks that carry this commit's fence: if it is not made, nobody needs them."""
        return tuple(task.name for task in self.create if task.path in (TIMEOUT_PATH, ACTIVITY_PATH))

    def encoded(self) -> Change:
        """The same change with its document: now, and not by the store, as no task is created for what is too large.

        Raises:
            TooLarge: see ``document.encode``.
        """
        return replace(self, instance=replace(self.instance, document=encode(self.instance)))

    def lease_until(self, expires_at: datetime) -> Change:
        """The same change, with its new lease ending then."""
        assert self.instance.lease is not None
        lease = replace(self.instance.lease, expires_at=expires_at)
        wake = schedule.wake_at(self.instance.execution, lease, expires_at)
        return replace(self, instance=with_lease(self.instance, lease, wake))


def plan(
    before: Before, after: After, now: datetime, policy: LeasePolicy, token: str, options: EngineOptions
) -> Change:
    """What has to be written for ``after`` to be saved.

    Args:
        token: the commit's; no other commit has it.
    """
    horizon, stored = options.horizon, before.instance
    renews = isinstance(policy, Hold) and policy.renews
    waits = list(schedule.open_timeouts(after.execution))
    version = after.program.version
    execution = to_store(after.execution, waits, token, version=version, now=now, counts=renews)
    create = list(_timed(execution, after.program, token, now, horizon)) if waits else []
    lease: Lease | None = None
    if isinstance(policy, Hold):
        lease = Lease(policy.token, now + options.lease)
    elif isinstance(policy, Keep):
        lease = stored.lease
        assert lease is not None
        create.append(ResumeTask.of(execution, now).task(token, lease.expires_at))
    else:
        # Whoever held the lease was to do what is due: that takes a task now.
        create += _resumes(before, execution, token, now, horizon)
    instance = replace(
        stored,
        execution=execution,
        fields=stored.fields if renews else after.fields,
        lease=lease,
        history=(*stored.history, *after.entries),
        wake_at=schedule.wake_at(execution, lease, now),
        tokens=(*stored.tokens, token),
        search=stored.search if renews else after.search,
        document=None,
    )
    gone = before.timers - set(schedule.timers(execution)) - after.delivered
    names = (timer_name(instance.workflow, instance.id, *timer) for timer in gone)
    return Change(instance, token, tuple(create), tuple(sorted(names)), isinstance(policy, Hold))


def _timed(execution: Execution, program: Program, token: str, now: datetime, horizon: timedelta) -> Iterator[Task]:
    """The tasks of the timeouts and attempts that have none yet. One ends all attempts: its time is the first of
    their deadlines."""
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


def _resumes(before: Before, execution: Execution, token: str, now: datetime, horizon: timedelta) -> Iterator[Task]:
    """A resume task for each time at which something is due that no task was created for yet."""
    revived = execution.live and not before.is_live
    anew = revived or before.instance.lease is not None
    soon: list[datetime] = []
    for key, at in schedule.due(execution):
        if not anew and (key, at) in before.due:
            continue
        if at is None or (anew and at <= now + CLOCK_SKEW):
            # The task that it had may have come by now, too early, or at its time under the lease, and be gone. The
            # first of them will do: it is followed by the others.
            soon.append(at or now)
        else:
            # If the instance was paused or had failed, the task that it had may have come and gone.
            yield _resume(execution, key, at, now, horizon, salt=token if revived else "")
    if soon:
        first = min(soon)
        is_now = first <= now
        yield ResumeTask.of(execution, now).task("" if is_now else token, None if is_now else first)


def _resume(execution: Execution, key: object, at: datetime, now: datetime, horizon: timedelta, salt: str = "") -> Task:
    """A resume task named after what is due, not after a commit: made again, it is the same task."""
    stop = schedule.stop_before(at, now, horizon)
    return ResumeTask.of(execution, now).task(f"{key} {stop.isoformat()} {salt}", stop)


def next_stops(execution: Execution, body: ResumeTask, now: datetime, horizon: timedelta) -> Iterator[Task]:
    """Resume tasks for what is due so late that ``body`` may be a stop on the way there; see ``stop_before``."""
    for key, at in schedule.due(execution):
        if at is not None and at > body.created_at + horizon:
            yield _resume(execution, key, at, now, horizon)


def request_limit(execution: Execution, program: Program, wait: ActivityWait) -> timedelta:
    """How long the request that runs an activity may take; one with a heartbeat, as long as the queue lets it."""
    thread = execution.thread(wait.id.rpartition("@")[0])
    assert thread is not None
    spec = program.at(thread.step).cases[wait.event].activity
    assert spec is not None
    return timedelta(days=1) if spec.heartbeat is not None else spec.timeout or ACTIVITY_TIMEOUT
