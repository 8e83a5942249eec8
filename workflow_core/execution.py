"""The state of an instance apart from its fields: ``Execution``, its threads and their waits, as plain values.

This file defines the state and its JSON form. Only ``workflow_core.machine`` changes a state. Nothing here reads a
clock; all times are aware ``datetime`` values in UTC.
"""

from __future__ import annotations

from dataclasses import field, replace
from datetime import datetime
from functools import cache
from typing import Annotated, Any, Protocol

from pydantic import AwareDatetime, Field, TypeAdapter

from workflow_core.compact import FOLDED_MIN, may_be_folded
from workflow_core.known_groups import folded_text, read
from workflow_core.principal import Principal, PrincipalKind
from workflow_core.records import record
from workflow_core.shown import shown_event, shown_teardown, shown_wait
from workflow_core.stored_parts import MAIN_THREAD, ErrorInfo, LeaveKind, StoredEnum
from workflow_core.wait_types import StoredTeardown, StoredWait


def is_hidden(key: str) -> bool:
    """Whether the compiler made a local: ``.remind.number``, ``deliver/.1``."""
    return key.rpartition("/")[2].startswith(".")


class _Program(Protocol):
    @property
    def workflow(self) -> str: ...

    @property
    def digest(self) -> str: ...

    @property
    def version(self) -> str: ...

    @property
    def fields_version(self) -> int: ...


class Definition(Protocol):
    """The part of a ``Workflow`` class that this file uses: its name and the versions of its definition and fields."""

    @property
    def __program__(self) -> _Program: ...


class Status(StoredEnum):
    """The status of an instance."""

    RUNNING = "running"
    """At least one thread can move: it has a step that is due, or events to set up."""
    WAITING = "waiting"
    """Every thread waits for an event, a timer or a condition."""
    PAUSED = "paused"
    """Nothing moves until it is unpaused."""
    FINISHED = "finished"
    FAILED = "failed"
    CANCELED = "canceled"


_RUNNING, _WAITING = Status.RUNNING, Status.WAITING
_new = object.__new__
_ENDS = frozenset((Status.FINISHED, Status.FAILED, Status.CANCELED))


class ThreadStatus(StoredEnum):
    """The status of one thread."""

    RESUMING = "resuming"
    """It was started or restarted, and moves when it is next resumed."""
    EXECUTING = "executing"
    """It is at a step that is due, or that waits for its next attempt."""
    SETTING_UP = "setting_up"
    """It is parked, and some of its events are not yet set up with an outside system."""
    WAITING = "waiting"
    """It waits for an event, a timer or a condition."""


_RESUMING = ThreadStatus.RESUMING


@record(slots=True)
class Leave:
    """Why a thread is leaving its sections. Stored while a ``finally_`` section runs or while branches end.

    Attributes:
        error: for an error, the error; for a cancellation, the error of a branch whose cleanup failed, if there is one.
        step: for an error, the name of the statement that the thread was at; for a race that is won, the name of the
            branch that has ended first; for a deadline that has passed, the name of the ``Within``.
        pc: for an error, the pc of the thread at that statement.
        until: for the error of another thread, the name of the ``Try`` in which that was started: no ``except_``
            section inside of it catches the error.
        failed: the threads that have failed with the error. They continue if it fails the instance and that is retried.
        locals: for an error in a plain definition, the locals of the thread at that statement, except large ones.
            ``finally_`` sections need other ones, and a retry needs these.
    """

    kind: LeaveKind
    error: ErrorInfo | None = None
    step: str = ""
    pc: int = 0
    until: Annotated[str, Field(exclude_if=lambda until: not until)] = ""
    failed: list[Thread] = field(default_factory=list)
    locals: dict[str, Any] | None = None


@record(slots=True)
class Sender:
    """Who sent an event, without roles and claims: they were checked when it arrived."""

    id: str = ""
    name: str = ""
    kind: PrincipalKind = "user"


@record(slots=True)
class BufferedEvent:
    """An event that arrived before a thread waited for it.

    Attributes:
        input: the JSON text.
        by_name: whether the text has the names of fields, and not the aliases that clients use.
        shown: the text as clients see it, if it contains secrets.
        sender: who sent it, if it was a principal.
    """

    event: str
    input: str
    at: AwareDatetime | None = None
    by_name: bool = False
    shown: str | None = None
    sender: Sender | None = None

    @property
    def principal(self) -> Principal | None:
        """Who sent it, as its handler sees it."""
        sender = self.sender
        return None if sender is None else Principal(sender.id, sender.name, sender.kind)


@record(slots=True)
class Parent:
    """The parent of an instance: the instance that started it and waits for its end.

    Attributes:
        id: the id of the parent.
        wait_id: the wait of the parent that ends with this instance.
        event: the name of the ``Child`` statement.
        told: whether the parent was notified of the end.
        attempt: how often the notification has failed.
        retry_at: when the notification is retried.
    """

    workflow: str
    id: str
    wait_id: str
    event: str
    told: bool = False
    attempt: int = 0
    retry_at: AwareDatetime | None = None
    error: str | None = None


@record(frozen=True, slots=True)
class Cover:
    """A ``Try`` in which a thread was started: if the thread fails, its error is thrown there.

    Attributes:
        statement: the name of the ``Try``.
        thread: the id of the thread that is in it.
        by_branch: whether a branch of that thread has started the thread, and starts it again if it is repeated.
    """

    statement: str
    thread: str
    by_branch: bool = False


@record(slots=True)
class Thread:
    """One thread of an instance. A thread that has ended is removed from the list.

    Attributes:
        id: unique among the live threads; ``main`` for the main thread.
        name: the name of the ``Go`` statement or the branch that it runs; ``main`` for the main thread.
        step: the name of its current statement; empty before the first.
        pc: the instance's pc when the thread reached its current statement.
        attempt: how often its current step has failed.
        retry_at: when its current step is retried.
        parent: the id of the thread that waits for its end; empty if there is none.
        positions: its position in each ``ForEach`` that it is in.
        errors: for each ``except_`` section that it is or was in, the error that was caught.
        pending: for each ``Try`` that it is leaving, how it continues after the ``finally_`` section.
        leaving: how it continues once the branches that it has started have ended.
        caused_by: see ``StepContext``.
        watches: if it is the timer of a ``Within``, the id of the thread that is in its section; otherwise empty.
        locals: the local variables of a plain definition that are needed where it rests, as JSON data.
        covers: if it was started by a ``Go`` inside of a ``Try``, each such ``Try``, the innermost first.
    """

    id: str
    name: str
    status: ThreadStatus = ThreadStatus.RESUMING
    step: str = ""
    pc: int = 0
    waits: list[StoredWait] = field(default_factory=list)
    attempt: int = 0
    retry_at: AwareDatetime | None = None
    error: ErrorInfo | None = None
    parent: str = ""
    positions: dict[str, int] = field(default_factory=dict)
    errors: dict[str, ErrorInfo] = field(default_factory=dict)
    pending: dict[str, Leave] = field(default_factory=dict)
    leaving: Leave | None = None
    caused_by: str = ""
    watches: str = ""
    locals: dict[str, Any] = field(default_factory=dict)
    covers: list[Cover] = field(default_factory=list)


@record(slots=True)
class Execution:
    """The state of an instance, apart from its fields.

    Attributes:
        workflow: the name of the workflow.
        pc: the number of transitions. It never decreases.
        teardowns: waits that were left and must still be torn down.
        definition_version: the version of the definition that last moved the instance.
        error: the error with which the instance failed.
        canceling: it was canceled, and its ``finally_`` sections still run, or one of them has failed.
        buffer: events that arrived before a thread waited for them, in order of arrival.
        parent: the instance that waits for its end.
        fields_version: the version of the workflow that stored its fields; see ``Workflow.migrate``.
    """

    id: str
    workflow: str
    status: Status = Status.RUNNING
    pc: int = 0
    threads: list[Thread] = field(default_factory=list)
    teardowns: list[StoredTeardown] = field(default_factory=list)
    definition_version: str = ""
    error: ErrorInfo | None = None
    created_at: AwareDatetime | None = None
    updated_at: AwareDatetime | None = None
    canceling: bool = False
    buffer: list[BufferedEvent] = field(default_factory=list)
    parent: Parent | None = None
    fields_version: int = 1

    @classmethod
    def start(
        cls,
        id: str,
        workflow: Definition,
        *,
        now: datetime | None = None,
        parent: Parent | None = None,
        caused_by: str = "",
    ) -> Execution:
        """Returns a new instance that has not started its first statement.

        Args:
            workflow: its ``Workflow`` class.
            now: the current time.
            parent: the instance that waits for its end.
            caused_by: the id of the principal that creates it.

        Example:
            >>> from gorchestrate import Execution, S, Step, Workflow
            >>> class Hello(Workflow):
            ...     definition = S(Step("say hello", lambda w: print("hello")))
            >>> Execution.start("hello-1", Hello).status
            <Status.RUNNING: 'running'>
        """
        # A call with so many arguments takes twice as long.
        main = _new(Thread)
        main.id = main.name = MAIN_THREAD
        main.status, main.pc, main.attempt = _RESUMING, 0, 0
        main.step = main.parent = main.watches = ""
        main.retry_at = main.error = main.leaving = None
        main.waits, main.covers = [], []
        main.positions, main.errors = {}, {}
        main.pending, main.locals = {}, {}
        main.caused_by = caused_by
        program = workflow.__program__
        new = _new(cls)
        new.id, new.workflow = id, program.workflow
        new.status, new.pc, new.canceling = _RUNNING, 0, False
        new.threads, new.teardowns, new.buffer = [main], [], []
        new.definition_version, new.fields_version = program.digest or program.version, program.fields_version
        new.created_at = new.updated_at = now
        new.parent, new.error = parent, None
        return new

    @property
    def ended(self) -> bool:
        """Whether the instance is finished, failed or canceled."""
        return self.status in _ENDS

    @property
    def live(self) -> bool:
        """Whether the instance is running or waiting: neither ended nor paused."""
        return self.status is _RUNNING or self.status is _WAITING

    def thread(self, id: str) -> Thread | None:
        """Returns the live thread with this id, if there is one."""
        return next((thread for thread in self.threads if thread.id == id), None)

    def to_dict(self) -> dict[str, Any]:
        """Returns the whole state as JSON data, with every attribute that clients know."""
        data: dict[str, Any] = _adapter().dump_python(
            replace(self, threads=list(self.threads)), mode="json", by_alias=True, exclude=_NOT_SHOWN
        )
        for thread in data["threads"]:
            thread["waits"] = [shown_wait(wait) for wait in thread["waits"]]
            thread["locals"] = {key: value for key, value in thread["locals"].items() if not is_hidden(key)}
            for name in ("caused_by", "watches", "locals", "covers"):
                if not thread[name]:
                    del thread[name]
        data["teardowns"] = [shown_teardown(teardown) for teardown in data["teardowns"]]
        data["buffer"] = [shown_event(event) for event in data["buffer"]]
        return data

    def to_json(self) -> str:
        """Returns the whole state as JSON; ``from_json`` is the inverse. Data that threads share is stored once."""
        if len(self.threads) >= FOLDED_MIN or len(self.teardowns) >= FOLDED_MIN:
            folded = folded_text(self, self._data, self._text)
            if folded is not None:
                return folded.decode()
        threads = self.threads
        return self._text(threads if type(threads) is list else list(threads)).decode()

    def _text(self, threads: list[Thread]) -> bytes:
        """Returns the state as plain JSON, with some of its threads."""
        whole = self if threads is self.threads else replace(self, threads=threads)
        return _adapter().serializer.to_json(whole, by_alias=True, exclude_defaults=True)

    def _data(self, threads: list[Thread]) -> dict[str, Any]:
        """Returns the state as JSON data, with some of its threads."""
        data: dict[str, Any] = _adapter().dump_python(
            replace(self, threads=threads), mode="json", by_alias=True, exclude_defaults=True
        )
        return data

    @classmethod
    def from_json(cls, data: str | bytes) -> Execution:
        """Reads the output of ``to_json``, of this release or an earlier one.

        Raises:
            ValueError: ``data`` is not an execution.
        """
        if may_be_folded(data):
            execution, threads = read(data if isinstance(data, str) else data.decode(), _adapter())
            return replace(execution, threads=threads)
        return _adapter().validate_json(data)


_NOT_SHOWN: Any = {
    "error": {"args"},
    "threads": {
        "__all__": {
            "error": {"args"},
            "errors": {"__all__": {"args"}},
            "pending": {"__all__": {"error": {"args"}, "failed": True, "locals": True}},
            "leaving": {"error": {"args"}, "failed": True, "locals": True},
        }
    },
}


@cache
def _adapter() -> TypeAdapter[Execution]:
    """Built when the first state is saved or loaded: building it takes a fifth of the import of this package."""
    return TypeAdapter(Execution)
