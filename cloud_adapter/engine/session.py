"""One loaded instance that is changed in memory: its machine, its fields, and its new history entries.

No I/O: the engine loads and commits. One task of the event loop uses a session for one commit after another. After a
commit that failed, the session is discarded.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextvars import Context, copy_context
from dataclasses import replace
from datetime import datetime
from typing import Any

from cloud_adapter.document import Instance
from cloud_adapter.engine.plan import After, Before, Change, LeasePolicy, plan
from cloud_adapter.engine.refs import InstanceRef
from cloud_adapter.engine.schedule import Timer
from cloud_adapter.engine.user_code import call
from cloud_adapter.errors import UserCodeError
from cloud_adapter.history import OPERATIONS, HistoryEntry, HistoryKind
from cloud_adapter.options import EngineOptions
from cloud_adapter.stores.search import stored_values
from workflow_core import ErrorInfo, Execution, Parent, Principal, Status, Workflow, WorkflowError
from workflow_core.access import is_everyone
from workflow_core.error_texts import error_text
from workflow_core.machine.events import Accepted
from workflow_core.machine.machine import Machine
from workflow_core.machine.work import Work
from workflow_core.records import record

ATTRIBUTED = frozenset(
    (HistoryKind.CREATED, HistoryKind.EVENT, HistoryKind.EVENT_REJECTED, HistoryKind.BUFFERED, *OPERATIONS)
)
"""The kinds of history entries of what a principal does."""

ERROR_CHARS_MAX = 500
"""The most characters of an error's text that the history keeps."""


@record(slots=True)
class Mark:
    """The state of a session between two decisions. See ``Session.mark``."""

    pc: int
    entries: int
    raised: BaseException | None
    touches: int


class Session:
    """A loaded instance with its typed fields and its machine.

    Attributes:
        before: the stored state, for the plan of the next commit.
        entries: the entries that the next commit adds to the history.
        contexts: for each entry, the context of the request that it belongs to, so that the log line is part of it.
        raised: the last error of user code since the last commit. Its stack trace is logged with the entry.
        had_ended: whether the instance had ended by the last commit.
        is_lax: changes that user code makes to the fields are checked only at the commit, not after each decision. With
            large fields, these checks are most of the work. If the commit fails, each decision is made again in its own
            commit.
        delivered: timeouts that were delivered, so their tasks do not have to be deleted.
        has_no_events: whether the inbox, read after the stored state, contained no events of clients.
        conflicts: the number of attempts that met a conflict one after another before this one; None: no other attempt
            follows a conflict.
        chars: the size of the fields and the execution that were written last.
        is_assumed: it is only assumed that the store still has this state; see ``recent_sessions.py``.

    Raises:
        InvalidFields: the stored fields do not match the workflow's types, or cannot be migrated.
        NewerVersion: the stored fields are of a newer version of the workflow.
    """

    def __init__(
        self, cls: type[Workflow], instance: Instance, now: datetime, salt: Callable[[], str] | None = None
    ) -> None:
        self.cls = cls
        self.instance = instance
        version = instance.execution.fields_version
        self.machine = Machine(cls.load_fields(instance.fields, version), instance.execution, now)
        self.machine.salt = salt
        self.execution: Execution = self.machine.execution
        self._search: Mapping[str, Any] | None = None
        """The values of the search fields; None: not computed yet."""
        if version != cls.__workflow_version__:
            # Replaces the stored values, so that any next commit saves the migrated ones.
            fields, self._search = self.machine.workflow.dump_fields(), stored_values(self.machine.workflow)
            self.instance = replace(instance, fields=fields, search=self._search)
        self.entries: list[HistoryEntry] = []
        self.contexts: list[Context] = []
        self.raised: BaseException | None = None
        self.is_lax = False
        self.delivered: set[Timer] = set()
        self.has_no_events = False
        self.conflicts: int | None = None
        self.chars = 0
        self.is_assumed = False
        self._fields = self.instance.fields
        self._is_known = False
        self._error: ErrorInfo | None = None
        self._touches = 0
        self._look(Before.of(self.instance))

    @property
    def ref(self) -> InstanceRef:
        return InstanceRef(self.cls, self.instance.id)

    def reset_fields(self) -> None:
        """Discards the changes that user code has made to the fields since they were last checked."""
        self._count_touches()
        if self._touches:
            self.load_fields()

    def load_fields(self) -> None:
        """Replaces the fields by those that were last checked."""
        self.machine.use(self.cls.load_fields(self._fields))
        self._touches = 0

    @property
    def is_fresh(self) -> bool:
        """Whether the state is that of the last load or commit."""
        return self.execution.pc == self._pc

    def check_fields(self) -> None:
        """Checks the changes that user code has made to the fields, and replaces the fields by what a restart would
        load.

        Raises:
            InvalidFields: the value of a field could not be loaded again, or would be loaded as another value.
            InvalidInput: the value of a search field is not searchable.
        """
        if not self.is_lax:
            self.seal()

    def seal(self) -> None:
        """Checks the fields if they may have been changed. See ``check_fields``."""
        self._count_touches()
        if self._touches:
            fields = self.machine.workflow.dump_fields()
            workflow = self.cls.load_fields(fields)
            self.machine.workflow.refuse_changes(workflow)
            search = stored_values(workflow)
            self.machine.use(workflow)
            self.machine.is_unused = not search  # whose serializers may be code of the workflow
            self._fields, self._search, self._touches = fields, search, 0

    def _count_touches(self) -> None:
        """Counts the decisions that may have changed the fields since they were checked."""
        self._touches += self.machine.take_touched()

    def check(self) -> None:
        """Raises ``UnknownStatement`` if the definition no longer has a statement at which the instance is, or cannot
        use a value that is stored there. Checked only once, because the instance can only move to known statements. The
        values of a failed instance are not needed, and are checked when it is retried."""
        if not self._is_known:
            self.machine.check()
            if self.execution.definition_version != self.machine.program.version:
                self.machine.check_values()
            self._is_known = self.execution.status is not Status.FAILED

    def mark(self) -> Mark:
        """Returns the state before a decision, for ``undo``."""
        self._count_touches()
        return Mark(self.execution.pc, len(self.entries), self.raised, self._touches)

    def undo(self, mark: Mark) -> bool:
        """Undoes the changes of a decision that has raised an error. Returns False if only a new load can undo them."""
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
        """Returns the work that is due next.

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
        if self.machine.principal is not None and kind in ATTRIBUTED:
            details |= attributed(self.machine.principal, details.get("by", ""))
        self.entries.append(HistoryEntry(now, kind, pc=self.execution.pc, **details))
        self.contexts.append(copy_context())

    def note_failure(self, now: datetime) -> None:
        """Adds a failure of the instance to the history, unless the history already contains it."""
        error = self.execution.error
        if error is not None and error is not self._error and self.execution.status is Status.FAILED:
            self.note(HistoryKind.FAILED, now, statement=error.statement, error=error.text[:ERROR_CHARS_MAX])
            self._error = error

    def leased(self, now: datetime) -> bool:
        """Whether the instance has a live lease."""
        return self.instance.lease is not None and self.instance.lease.expires_at > now

    @property
    def may_have_events(self) -> bool:
        """Whether the inbox may contain events of clients, which come before later ones."""
        instance = self.instance
        may = instance.has_kept_events if instance.lease is None else instance.lease.keeps_events
        return may and not self.has_no_events

    @property
    def has_due(self) -> bool:
        """Whether work is due at once, in the stored state."""
        return any(at is None for _, at in self.before.due)

    def prepare(self, token: str, now: datetime, policy: LeasePolicy, options: EngineOptions) -> Change:
        """Returns the change that saves the session's state; see ``plan``. Call ``seal`` first.

        Raises:
            InvalidInput: the value of a search field is not searchable.
        """
        program, entries = self.machine.program, tuple(self.entries)
        after = After(
            self.execution, program, self._fields, self._searched_by(), entries, self.delivered, self.has_no_events
        )
        after.is_checked = self._is_known
        return plan(self.before, after, now, policy, token, options)

    def _searched_by(self) -> Mapping[str, Any]:
        if self._search is None:
            self._search = stored_values(self.machine.workflow)
        return self._search

    def committed(self, instance: Instance, change: Change) -> None:
        """Records that ``change``, a result of ``prepare``, was saved. ``instance`` is its instance as it is
        ``written``."""
        self.machine.saved(instance.execution)
        self.instance = instance
        self.entries = []
        self.contexts = []
        self.raised = None
        self.delivered = set()
        self.has_no_events = False
        self.conflicts = None
        self.is_assumed = False
        self._look(Before(instance, change.due, change.timers, instance.execution.live))

    def _look(self, stored: Before) -> None:
        """Records the stored state, to find out later what is new."""
        execution = stored.instance.execution
        self.before = stored
        self._pc = execution.pc
        self._error = execution.error
        self.had_ended = execution.ended


def attributed(principal: Principal, claimed: str = "") -> dict[str, Any]:
    """Returns the attributes of a history entry for something that a principal does.

    Args:
        claimed: the name that the request gives.
    """
    if is_everyone(principal):  # nobody in particular: there is only the claim
        return {}
    shown = principal.name or principal.id or principal.kind
    return {"by": shown, "by_id": principal.id, "claimed": "" if claimed == shown else claimed}


def milliseconds(start: datetime, end: datetime) -> float:
    """Returns a duration in the unit of the history."""
    return round((end - start).total_seconds() * 1000, 3)


def condition_error(cls: type[Workflow], error: Exception) -> UserCodeError:
    """Returns the error to raise if a condition of the workflow, or code in its ``run``, has raised."""
    notes = "; ".join(getattr(error, "__notes__", []))
    return UserCodeError(f"code of workflow {cls.__workflow_name__!r} raised {error_text(error)} ({notes})")


def settle(session: Session, happened: Accepted | None = None) -> None:
    """Moves every thread on, in memory, until it rests. The thread whose wait has ended moves first.

    Raises:
        UserCodeError: a condition of the workflow, or code in its ``run``, raised.
    """
    try:
        if happened is not None:
            call(session.machine.handled, happened)
        call(session.machine.settle)
    except WorkflowError:
        raise
    except Exception as error:
        raise condition_error(session.cls, error) from error


def begin(
    ref: InstanceRef,
    fields: bytes | str,
    now: datetime,
    parent: Parent | None = None,
    *,
    salt: Callable[[], str],
    principal: Principal | None = None,
    check: Callable[[Workflow], None] | None = None,
) -> Session:
    """Returns a new instance whose threads have moved until they rest. It is not stored yet.

    Args:
        salt: see ``MachineState``.
        principal: who creates it.
        check: called with the initial fields.

    Raises:
        InvalidInput: the fields do not match their types.
        UserCodeError: a condition of the workflow raised.
    """
    caused_by = "" if principal is None else principal.id
    execution = Execution.start(ref.id, ref.cls, now=now, parent=parent, caused_by=caused_by)
    new = ref.cls.new(fields)
    if check is not None:
        check(new)
    session = Session(ref.cls, Instance(ref.workflow, ref.id, execution, new.dump_fields(), entries=()), now, salt)
    new.refuse_changes(session.machine.workflow)
    session.machine.principal = principal
    settle(session)
    session.note(HistoryKind.CREATED, now)
    session.note_failure(now)
    return session
