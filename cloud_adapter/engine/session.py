"""One loaded instance that is being changed in memory, and what has to be written for it to be saved.

No I/O here: the engine loads and commits. A session is used for one commit after another by one task of the event
loop; whoever loses a commit throws the session away.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextvars import Context, copy_context
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from cloud_adapter.clock import CLOCK_SKEW
from cloud_adapter.document import (
    HISTORY_MAX,
    TOKENS_MAX,
    HistoryEntry,
    HistoryKind,
    Instance,
    Lease,
    encode,
    with_lease,
)
from cloud_adapter.engine import schedule
from cloud_adapter.engine.tasks import ACTIVITY_PATH, TIMEOUT_PATH, ActivityTask, ResumeTask, TimeoutTask, timer_name
from cloud_adapter.engine.user_code import call
from cloud_adapter.errors import UserCodeError
from cloud_adapter.names import check_id
from cloud_adapter.ports import Task
from cloud_adapter.stores.search import stored_values
from workflow_core import ErrorInfo, Execution, Parent, Status, Workflow, WorkflowError
from workflow_core.error_texts import error_text
from workflow_core.machine.events import Accepted
from workflow_core.machine.machine import Machine
from workflow_core.machine.work import Work
from workflow_core.statements.calls import ACTIVITY_TIMEOUT
from workflow_core.wait_types import ActivityWait

ERROR_CHARS_MAX = 500
"""How much of an error's text the history keeps."""


@dataclass(frozen=True, slots=True)
class Mark:
    """A session between two decisions, see ``Session.mark``."""

    pc: int
    entries: int
    raised: BaseException | None
    touches: int


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

    def leased(self, expires_at: datetime) -> Change:
        """The same change, with its new lease ending then."""
        assert self.instance.lease is not None
        lease = replace(self.instance.lease, expires_at=expires_at)
        wake = schedule.wake_at(self.instance.execution, lease, expires_at)
        return replace(self, instance=with_lease(self.instance, lease, wake))


class Session:
    """A loaded instance with its typed fields and its machine.

    Attributes:
        entries: what the next commit adds to the history.
        contexts: for each of these, the context of whoever it is about: its line in the log belongs to that request.
        raised: what user code has raised last, since the last commit; its stack trace is logged with the entry.
        had_ended: whether the instance had ended by the last commit.
        is_lax: what user code does to the fields is checked at the commit alone, not after each decision: where the
            fields are large, that is most of the work. If the commit fails, each decision is made again by itself.
        delivered: timeouts that have come, so that nobody has to delete their tasks.

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
            self.instance = replace(instance, fields=fields, search=stored_values(self.machine.workflow))
        self.entries: list[HistoryEntry] = []
        self.contexts: list[Context] = []
        self.raised: BaseException | None = None
        self.is_lax = False
        self.delivered: set[schedule.Timer] = set()
        self._fields = self.instance.fields
        self._is_known = False
        self._error: ErrorInfo | None = None
        self._touches = 0
        self._look()

    @property
    def execution(self) -> Execution:
        return self.instance.execution

    def reset_fields(self) -> None:
        """Forgets what user code has done to the fields since they were checked last."""
        self.machine.workflow = self.cls.load_fields(self._fields)
        self.machine.touched, self._touches = False, 0

    @property
    def is_fresh(self) -> bool:
        """Whether the state is that of the last load or commit."""
        return self.execution.pc == self._pc

    def check_fields(self) -> None:
        """Checks what user code has done to the fields, and goes on with what a restart would load.

        Raises:
            InvalidFields: a field holds what could not be loaded again.
            InvalidInput: a search field holds what cannot be searched by.
        """
        if not self.is_lax:
            self.seal()

    def seal(self) -> None:
        """Checks the fields if they may have been changed, see ``check_fields``."""
        self._count_touches()
        if self._touches:
            fields = self.machine.workflow.dump_fields()
            workflow = self.cls.load_fields(fields)
            stored_values(workflow)
            self.machine.workflow, self._fields = workflow, fields
            self._touches = 0

    def _count_touches(self) -> None:
        """Counts the decisions that may have changed the fields since they were checked."""
        self._touches += self.machine.touched
        self.machine.touched = False

    def check(self) -> None:
        """Raises ``UnknownStatement`` if the definition no longer has what the instance stands on. Looked at once: from
        there on it comes to known statements alone."""
        if not self._is_known:
            self.machine.check()
            self._is_known = True

    def mark(self) -> Mark:
        """The state as it is before a decision, for ``undo``."""
        self._count_touches()
        return Mark(self.execution.pc, len(self.entries), self.raised, self._touches)

    def undo(self, mark: Mark) -> bool:
        """Takes back what a decision that has raised did; False if only a new load can."""
        self._count_touches()
        touched = self._touches != mark.touches
        if self.execution.pc != mark.pc or (touched and mark.touches):
            return False
        if touched:
            self.reset_fields()
        del self.entries[mark.entries :], self.contexts[mark.entries :]
        self.raised = mark.raised
        return True

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
        """Adds an entry to the instance's history.

        Args:
            kind: a ``HistoryKind``, or the name of an operation.
        """
        self.entries.append(HistoryEntry(now, kind, pc=self.execution.pc, **details))
        self.contexts.append(copy_context())

    def note_failure(self, now: datetime) -> None:
        """Adds to the history that the instance has failed, if it has and that is not there yet."""
        error = self.execution.error
        if self.execution.status is Status.FAILED and error is not None and error is not self._error:
            self.note(HistoryKind.FAILED, now, statement=error.statement, error=error.text[:ERROR_CHARS_MAX])
            self._error = error

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
        self.note_failure(now)
        execution.updated_at = now
        execution.definition_version = self.machine.program.version
        fields, search = self.instance.fields, self.instance.search
        if not keep_fields:
            self.seal()
            fields, search = self._fields, stored_values(self.machine.workflow)
        create = list(self._timed(token, now, horizon))
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
            wake_at=schedule.wake_at(execution, lease, now),
            tokens=(*self.instance.tokens, token),
            search=search,
            document=None,
        )
        gone = self._timers - set(schedule.timers(execution)) - self.delivered
        names = (timer_name(instance.workflow, instance.id, *timer) for timer in gone)
        return Change(instance, token, tuple(create), tuple(sorted(names)), leases)

    def next_stops(self, body: ResumeTask, now: datetime, horizon: timedelta) -> Iterator[Task]:
        """Resume tasks for what is due so late that ``body`` may be a stop on the way there, see ``stop_before``."""
        for key, at in schedule.due(self.execution):
            if at is not None and at > body.created_at + horizon:
                yield self._resume(key, at, now, horizon)

    def request_limit(self, wait: ActivityWait) -> timedelta:
        """How long the request that runs an activity may take; one with a heartbeat, as long as the queue lets it."""
        thread = self.execution.thread(wait.id.rpartition("@")[0])
        assert thread is not None
        spec = self.machine.program.at(thread.step).cases[wait.event].activity
        assert spec is not None
        return timedelta(days=1) if spec.heartbeat is not None else spec.timeout or ACTIVITY_TIMEOUT

    def committed(self, instance: Instance) -> None:
        """The change was saved; ``instance`` bears its new version."""
        history, tokens = instance.history[-HISTORY_MAX:], instance.tokens[-TOKENS_MAX:]
        self.instance = replace(instance, document=None, history=history, tokens=tokens)
        self.entries = []
        self.contexts = []
        self.raised = None
        self.delivered = set()
        self._look()

    def _look(self) -> None:
        """Notes what is stored, to tell later what is new."""
        execution = self.instance.execution
        self._pc = execution.pc
        self._due = set(schedule.due(execution))
        self._timers = set(schedule.timers(execution))
        self._error = execution.error
        self._was_live = execution.live
        self.had_ended = execution.ended

    def _timed(self, token: str, now: datetime, horizon: timedelta) -> Iterator[Task]:
        """The tasks of the timeouts and attempts that have none yet. One ends all attempts: its time is the first of
        their deadlines."""
        execution, deadlines = self.execution, []
        for wait in schedule.open_timeouts(execution):
            wait.task = token
            assert wait.deadline is not None
            if isinstance(wait, ActivityWait):
                deadlines.append(wait.deadline)
                start = wait.retry_at and min(wait.retry_at, now + horizon)
                attempt = ActivityTask.of(execution, wait, now).task(token, start)
                yield replace(attempt, deadline=self.request_limit(wait))
            else:
                yield TimeoutTask.of(execution, wait, now).task(token, min(wait.deadline, now + horizon))
        if deadlines:
            yield TimeoutTask.of_attempts(execution, token, now).task(token, min(min(deadlines), now + horizon))

    def _resumes(self, token: str, now: datetime, horizon: timedelta, anew: bool) -> Iterator[Task]:
        """A resume task for each time at which something is due that no task was created for yet."""
        revived = self.execution.live and not self._was_live
        anew = anew or revived
        soon: list[datetime] = []
        for key, at in schedule.due(self.execution):
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
            is_now = first <= now
            # One more that is due at once finds nothing to do: it needs no name, which costs a queue time.
            yield ResumeTask.of(self.execution, now).task("" if is_now else token, None if is_now else first)

    def _resume(self, key: object, at: datetime, now: datetime, horizon: timedelta, salt: str = "") -> Task:
        """A resume task named after what is due, not after a commit: made again, it is the same task."""
        stop = schedule.stop_before(at, now, horizon)
        return ResumeTask.of(self.execution, now).task(f"{key} {stop.isoformat()} {salt}", stop)


def milliseconds(start: datetime, end: datetime) -> float:
    """How long something took, as the history keeps it."""
    return round((end - start).total_seconds() * 1000, 3)


def condition_error(cls: type[Workflow], error: Exception) -> UserCodeError:
    """The error for what a condition of the workflow has raised."""
    notes = "; ".join(getattr(error, "__notes__", []))
    return UserCodeError(f"a condition of workflow {cls.__workflow_name__!r} raised {error_text(error)} ({notes})")


def settle(session: Session, happened: Accepted | None = None) -> None:
    """Moves every thread on, in memory, until it rests; first the one that an event has happened to.

    Raises:
        UserCodeError: a condition of the workflow raised.
    """
    try:
        if happened is not None:
            call(session.machine.handled, happened)
        call(session.machine.settle)
    except WorkflowError:
        raise
    except Exception as error:
        raise condition_error(session.cls, error) from error


def begin(cls: type[Workflow], id: str, fields: bytes | str, now: datetime, parent: Parent | None = None) -> Session:
    """A new instance, moved on to where its threads rest; not stored yet.

    Raises:
        InvalidInput, InvalidRequest
        UserCodeError: a condition of the workflow raised.
    """
    first = cls.new(fields)
    execution = Execution.start(check_id(id), cls, now=now)
    execution.parent = parent
    session = Session(cls, Instance(cls.__workflow_name__, id, execution, first.dump_fields()), now)
    settle(session)
    session.note(HistoryKind.CREATED, now)
    return session
