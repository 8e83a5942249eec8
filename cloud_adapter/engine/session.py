"""One loaded instance that is being changed in memory: its machine, its fields, and what the history is to say.

No I/O here: the engine loads and commits. A session is used for one commit after another by one task of the event
loop; whoever loses a commit throws the session away.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import Context, copy_context
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from cloud_adapter.document import HISTORY_MAX, TOKENS_MAX, HistoryEntry, HistoryKind, Instance
from cloud_adapter.engine.plan import After, Before, Change, LeasePolicy, plan
from cloud_adapter.engine.refs import InstanceRef
from cloud_adapter.engine.schedule import Timer
from cloud_adapter.engine.user_code import call
from cloud_adapter.errors import UserCodeError
from cloud_adapter.options import EngineOptions
from cloud_adapter.stores.search import stored_values
from workflow_core import ErrorInfo, Execution, Parent, Status, Workflow, WorkflowError
from workflow_core.error_texts import error_text
from workflow_core.machine.events import Accepted
from workflow_core.machine.machine import Machine
from workflow_core.machine.work import Work

ERROR_CHARS_MAX = 500
"""How much of an error's text the history keeps."""


@dataclass(frozen=True, slots=True)
class Mark:
    """A session between two decisions, see ``Session.mark``."""

    pc: int
    entries: int
    raised: BaseException | None
    touches: int


class Session:
    """A loaded instance with its typed fields and its machine.

    Attributes:
        before: what is stored, for the plan of the next commit.
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
        self._search: Mapping[str, Any] | None = None
        """What the fields are found by; None: not computed yet."""
        if version != cls.__workflow_version__:
            # In the place of what is stored, so that the next commit saves them, whatever it is about.
            fields, self._search = self.machine.workflow.dump_fields(), stored_values(self.machine.workflow)
            self.instance = replace(instance, fields=fields, search=self._search)
        self.entries: list[HistoryEntry] = []
        self.contexts: list[Context] = []
        self.raised: BaseException | None = None
        self.is_lax = False
        self.delivered: set[Timer] = set()
        self._fields = self.instance.fields
        self._is_known = False
        self._error: ErrorInfo | None = None
        self._touches = 0
        self._look()

    @property
    def ref(self) -> InstanceRef:
        return InstanceRef(self.cls, self.instance.id)

    @property
    def execution(self) -> Execution:
        return self.instance.execution

    def reset_fields(self) -> None:
        """Forgets what user code has done to the fields since they were checked last."""
        self._count_touches()
        if self._touches:
            self.machine.use(self.cls.load_fields(self._fields))
            self._touches = 0

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
            search = stored_values(workflow)
            self.machine.use(workflow)
            self._fields, self._search, self._touches = fields, search, 0

    def _count_touches(self) -> None:
        """Counts the decisions that may have changed the fields since they were checked."""
        self._touches += self.machine.take_touched()

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

    def prepare(self, token: str, now: datetime, policy: LeasePolicy, options: EngineOptions) -> Change:
        """What has to be written for the session's state to be saved, see ``plan``; ``seal`` it before.

        Raises:
            InvalidInput: a search field holds what cannot be searched by.
        """
        program, entries = self.machine.program, tuple(self.entries)
        after = After(self.execution, program, self._fields, self._searched_by(), entries, self.delivered)
        return plan(self.before, after, now, policy, token, options)

    def _searched_by(self) -> Mapping[str, Any]:
        if self._search is None:
            self._search = stored_values(self.machine.workflow)
        return self._search

    def committed(self, instance: Instance) -> None:
        """A change was saved that ``prepare`` has given; ``instance`` bears its new version."""
        self.machine.saved(instance.execution)
        history, tokens = instance.history[-HISTORY_MAX:], instance.tokens[-TOKENS_MAX:]
        execution = self.machine.execution
        self.instance = replace(instance, execution=execution, document=None, history=history, tokens=tokens)
        self.entries = []
        self.contexts = []
        self.raised = None
        self.delivered = set()
        self._look()

    def _look(self) -> None:
        """Notes what is stored, to tell later what is new."""
        execution = self.instance.execution
        self.before = Before.of(self.instance)
        self._pc = execution.pc
        self._error = execution.error
        self.had_ended = execution.ended


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


def begin(ref: InstanceRef, fields: bytes | str, now: datetime, parent: Parent | None = None) -> Session:
    """A new instance, moved on to where its threads rest; not stored yet.

    Raises:
        InvalidInput: the fields do not fit.
        UserCodeError: a condition of the workflow raised.
    """
    execution = Execution.start(ref.id, ref.cls, now=now, parent=parent)
    session = Session(ref.cls, Instance(ref.workflow, ref.id, execution, ref.cls.new(fields).dump_fields()), now)
    settle(session)
    session.note(HistoryKind.CREATED, now)
    session.note_failure(now)
    return session
