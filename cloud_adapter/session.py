"""One loaded instance that is being changed in memory, and what has to be written for it to be saved.

No I/O here: the engine loads and commits. A session is used for one commit after another by one task of the event
loop; whoever loses a commit throws the session away.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from cloud_adapter.document import HistoryEntry, Instance, Lease
from cloud_adapter.errors import UserCodeError
from cloud_adapter.ports import Task
from cloud_adapter.searching import stored_values
from cloud_adapter.tasks import ActivityTask, ResumeTask, TimeoutTask
from cloud_adapter.user_code import call
from workflow_core import (
    Execution,
    Status,
    ThreadStatus,
    Wait,
    WaitKind,
    WaitStatus,
    Workflow,
    WorkflowError,
)
from workflow_core.calls import ACTIVITY_TIMEOUT
from workflow_core.execution import TIMED_KINDS
from workflow_core.interpreter import Machine, Work
from workflow_core.moving import error_text

CLOCK_SKEW = timedelta(seconds=10)
"""By how much the clocks of processes and queues may differ: so much before its time a task may come."""

ERROR_CHARS_MAX = 500
"""How much of an error's text the history keeps."""


@dataclass(frozen=True, slots=True)
class Change:
    """What a commit consists of: tasks to create before it, the document, tasks to delete after it.

    Attributes:
        leases: whether the document bears a new lease; ``leased`` says until when.
    """

    instance: Instance
    token: str
    create: tuple[Task, ...]
    delete: tuple[str, ...]
    leases: bool = False

    def leased(self, expires_at: datetime) -> Change:
        """The same change, with its new lease ending then."""
        assert self.instance.lease is not None
        lease = replace(self.instance.lease, expires_at=expires_at)
        wake = wake_at(self.instance.execution, lease, expires_at)
        return replace(self, instance=replace(self.instance, lease=lease, wake_at=wake))


class Session:
    """A loaded instance with its typed fields and its machine.

    Attributes:
        raised: what user code has raised last, since the last commit; its stack trace is logged with the entry.
        had_ended: whether the instance had ended by the last commit.

    Raises:
        InvalidFields: the stored fields do not fit the workflow's types, or cannot be migrated.
        NewerVersion: they are of a newer version of the workflow.
    """

    def __init__(self, cls: type[Workflow], instance: Instance, now: datetime) -> None:
        self.cls = cls
        self.instance = instance
        version = instance.execution.fields_version
        self.machine = Machine(cls.load_fields(instance.fields, version), instance.execution, now)
        if version != cls.__workflow_version__:
            # In the place of what is stored, so that the next commit saves them, whatever it is about.
            fields = self.machine.workflow.dump_fields()
            self.instance = replace(instance, fields=fields, search=self._search())
        self.entries: list[HistoryEntry] = []
        self.raised: BaseException | None = None
        self._look()

    @property
    def execution(self) -> Execution:
        return self.instance.execution

    def reset_fields(self) -> None:
        """Forgets what user code has done to the fields since the last commit."""
        self.machine.workflow = self.cls.load_fields(self.instance.fields)

    def check_fields(self) -> None:
        """Raises ``InvalidFields`` if a field holds what could not be loaded again, ``InvalidInput`` if it cannot be
        searched by, though it is a search field."""
        stored_values(self.cls.load_fields(self.machine.workflow.dump_fields()))

    def next_work(self) -> Work | None:
        """What is due next.

        Raises:
            UserCodeError: a condition of the workflow raised.
        """
        try:
            work: Work | None = call(self.machine.next_work)
            return work
        except WorkflowError:
            raise
        except Exception as error:
            raise condition_error(self.cls, error) from error

    def note(self, kind: str, now: datetime, **details: Any) -> None:
        """Adds an entry to the instance's history."""
        self.entries.append(HistoryEntry(now, kind, pc=self.execution.pc, **details))

    def leased(self, now: datetime) -> bool:
        """Whether somebody holds a live lease."""
        return self.instance.lease is not None and self.instance.lease.expires_at > now

    def prepare(
        self,
        token: str,
        now: datetime,
        horizon: timedelta,
        *,
        lease: Lease | None = None,
        keep_lease: bool = False,
        keep_fields: bool = False,
    ) -> Change:
        """What has to be written for the session's state to be saved.

        Args:
            lease: the lease that the document bears from then on.
            keep_lease: leave another one's lease as it is: what is due is done when it has expired.
            keep_fields: leave the fields as they were stored, whatever user code did to them.

        Raises:
            InvalidFields: a field holds what its type does not allow.
            InvalidInput: a search field holds what cannot be searched by.
        """
        execution, leases = self.execution, lease is not None
        error = execution.error
        if execution.status is Status.FAILED and error is not None and error is not self._error:
            self.note("failed", now, statement=error.statement, error=error.text[:ERROR_CHARS_MAX])
        execution.updated_at = now
        execution.definition_version = self.machine.program.version
        fields = self.instance.fields
        if not keep_fields:
            fields = self.machine.workflow.dump_fields()
            # From here on the machine works on what a restart would load.
            self.machine.workflow = self.cls.load_fields(fields)
        create: list[Task] = []
        for wait in _open_timeouts(execution):
            task = self._timer(wait, token, now, horizon)
            wait.setup_data = task.name
            create.append(task)
            if wait.kind is WaitKind.ACTIVITY:
                start = wait.retry_at and min(wait.retry_at, now + horizon)
                attempt = ActivityTask.of(execution, wait, now).task(token, start)
                create.append(replace(attempt, deadline=self.request_limit(wait)))
        if keep_lease:
            lease = self.instance.lease
            assert lease is not None
            create.append(ResumeTask.of(execution, now).task(token, lease.expires_at))
        elif lease is None:
            # Whoever held the lease was to do what is due: that takes a task now.
            create += self._resumes(token, now, horizon, anew=self.instance.lease is not None)
        instance = replace(
            self.instance,
            fields=fields,
            lease=lease,
            history=(*self.instance.history, *self.entries),
            wake_at=wake_at(execution, lease, now),
            tokens=(*self.instance.tokens, token),
            search=self.instance.search if keep_fields else self._search(),
        )
        gone = self._timers - set(_timers(execution))
        return Change(instance, token, tuple(create), tuple(sorted(gone)), leases)

    def next_stops(self, body: ResumeTask, now: datetime, horizon: timedelta) -> Iterator[Task]:
        """Resume tasks for what is due so late that ``body`` may be a stop on the way there, see ``stop_before``."""
        for key, at in _due(self.execution):
            if at is not None and at > body.created_at + horizon:
                yield self._resume(key, at, now, horizon)

    def request_limit(self, wait: Wait) -> timedelta:
        """How long the request that runs an activity may take; one with a heartbeat, as long as the queue lets it."""
        thread = self.execution.thread(wait.id.rpartition("@")[0])
        assert thread is not None
        spec = self.machine.program.at(thread.step).cases[wait.event].activity
        assert spec is not None
        return timedelta(days=1) if spec.heartbeat is not None else spec.timeout or ACTIVITY_TIMEOUT

    def committed(self, instance: Instance) -> None:
        """The change was saved; ``instance`` bears its new version."""
        self.instance = instance
        self.entries = []
        self.raised = None
        self._look()

    def _look(self) -> None:
        """Notes what is stored, to tell later what is new."""
        execution = self.instance.execution
        self._due = set(_due(execution))
        self._timers = set(_timers(execution))
        self._error = execution.error
        self._was_live = execution.live
        self.had_ended = execution.ended

    def _search(self) -> dict[str, Any]:
        return stored_values(self.machine.workflow)

    def _timer(self, wait: Wait, salt: str, now: datetime, horizon: timedelta) -> Task:
        assert wait.deadline is not None
        return TimeoutTask.of(self.execution, wait, now).task(salt, min(wait.deadline, now + horizon))

    def _resumes(self, token: str, now: datetime, horizon: timedelta, anew: bool) -> Iterator[Task]:
        """A resume task for each time at which something is due that no task was created for yet."""
        revived = self.execution.live and not self._was_live
        anew = anew or revived
        soon: list[datetime] = []
        for key, at in _due(self.execution):
            if not anew and (key, at) in self._due:
                continue
            if at is None or (anew and at <= now + CLOCK_SKEW):
                # The task that it had may have come by now, too early, or at its time under the lease, and be gone. The
                # first of them will do: it is followed by the others.
                soon.append(at or now)
            else:
                # If the instance was paused or had failed, the task that it had may have come and gone.
                yield self._resume(key, at, now, horizon, salt=token if revived else "")
        if soon:
            first = min(soon)
            yield ResumeTask.of(self.execution, now).task(token, first if first > now else None)

    def _resume(self, key: object, at: datetime, now: datetime, horizon: timedelta, salt: str = "") -> Task:
        """A resume task named after what is due, not after a commit: made again, it is the same task."""
        stop = stop_before(at, now, horizon)
        return ResumeTask.of(self.execution, now).task(f"{key} {stop.isoformat()} {salt}", stop)


def stop_before(at: datetime, now: datetime, horizon: timedelta) -> datetime:
    """When a task comes for what is due at ``at``: then, or if that is beyond the horizon, at a stop on the way there,
    where a task for the rest of the way is made.

    Stops are half a horizon apart, counted back from ``at``: so they are the same ones whoever counts, and the next one
    is never that at which a task has just come, whatever its clock.
    """
    beyond = at - (now + horizon)
    if beyond <= timedelta():
        return at
    half = horizon / 2
    return at - half * -(-beyond // half)


def milliseconds(start: datetime, end: datetime) -> float:
    """How long something took, as the history keeps it."""
    return round((end - start).total_seconds() * 1000, 3)


def condition_error(cls: type[Workflow], error: Exception) -> UserCodeError:
    """The error for what a condition of the workflow has raised."""
    notes = "; ".join(getattr(error, "__notes__", []))
    return UserCodeError(f"a condition of workflow {cls.__workflow_name__!r} raised {error_text(error)} ({notes})")


SET_UP_KINDS = (WaitKind.HANDLER, WaitKind.CHILD)
"""What is to be set up when it is waited for."""

_Due = tuple[tuple[object, ...], datetime | None]


def _due(execution: Execution) -> Iterator[_Due]:
    """Each piece of work that ``resume`` has to do, by a name of its own, and when; None: now."""
    for teardown in execution.teardowns:
        if teardown.status is WaitStatus.PENDING_TEARDOWN or teardown.retry_at is not None:
            yield (("teardown", teardown.id, teardown.event), teardown.retry_at)
    parent = execution.parent
    if parent is not None and not parent.told and execution.ended:
        yield (("tell", parent.wait_id), parent.retry_at)
    if not execution.live:
        return
    buffered = {one.event for one in execution.buffer}
    for thread in execution.threads:
        if thread.status in (ThreadStatus.EXECUTING, ThreadStatus.RESUMING):
            yield (("thread", thread.id, thread.pc), thread.retry_at)
        for wait in thread.waits:
            # Not while another event of the thread is still to be set up: that comes first, at its time.
            if wait.buffered and wait.event in buffered and thread.status is ThreadStatus.WAITING:
                yield (("buffered", wait.id, wait.event), None)
            elif wait.status is WaitStatus.PENDING_SETUP or (wait.retry_at is not None and wait.kind in SET_UP_KINDS):
                yield (("setup", wait.id, wait.event), wait.retry_at)


def _timeouts(execution: Execution) -> Iterator[Wait]:
    for thread in execution.threads:
        for wait in thread.waits:
            if wait.kind in TIMED_KINDS:
                yield wait


def _open_timeouts(execution: Execution) -> Iterator[Wait]:
    return (wait for wait in _timeouts(execution) if wait.setup_data is None)


def _timers(execution: Execution) -> Iterator[str]:
    return (wait.setup_data for wait in _timeouts(execution) if wait.setup_data is not None)


def resume_at(execution: Execution, lease: Lease | None, now: datetime) -> datetime | None:
    """When ``resume`` has something to do next; what a live lease's holder does counts from the lease's end."""
    if lease is not None:
        return lease.expires_at
    return min((at or now for _, at in _due(execution)), default=None)


def wake_at(execution: Execution, lease: Lease | None, now: datetime) -> datetime | None:
    """When the next thing is due, a timeout included."""
    times = [] if not execution.live else [wait.deadline for wait in _timeouts(execution) if wait.deadline is not None]
    resume = resume_at(execution, lease, now)
    return min([*times, *([] if resume is None else [resume])], default=None)


def due_timeouts(execution: Execution, before: datetime) -> list[Wait]:
    """The timeouts whose deadline is not after ``before``."""
    if not execution.live:
        return []
    return [wait for wait in _timeouts(execution) if wait.deadline is not None and wait.deadline <= before]
