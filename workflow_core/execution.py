"""Where an instance stands: ``Execution``, its threads and their waits, as plain values.

This file knows how the state looks and how it becomes JSON. It never changes a state: that is the
interpreter's part alone. It knows no clock; all times are aware ``datetime`` values in UTC.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Protocol

from pydantic import TypeAdapter

MAIN_THREAD = "main"


class _Program(Protocol):
    @property
    def workflow(self) -> str: ...

    @property
    def version(self) -> str: ...


class Definition(Protocol):
    """What is to be known of a ``Workflow`` class here: the name and the version of its definition."""

    @property
    def __program__(self) -> _Program: ...


class Status(StrEnum):
    """The status of an instance."""

    RUNNING = "running"
    """At least one thread can move: it has a step due, or events to set up."""
    WAITING = "waiting"
    """Every thread waits for an event, a timer or a condition."""
    FINISHED = "finished"
    FAILED = "failed"
    CANCELED = "canceled"


_RUNNING, _WAITING = Status.RUNNING, Status.WAITING


class ThreadStatus(StrEnum):
    """The status of one thread."""

    RESUMING = "resuming"
    """To be moved on: it has just been started."""
    EXECUTING = "executing"
    """It stands on a step that is due, or that waits for its next attempt."""
    SETTING_UP = "setting_up"
    """It is parked; some of its events are still to be set up with an outside system."""
    WAITING = "waiting"
    """It is parked until an event, a timer or a condition."""


class WaitKind(StrEnum):
    """What a thread waits for."""

    EVENT = "event"
    """An event with a plain handler."""
    HANDLER = "handler"
    """An event with an ``EventHandler`` object, set up with and torn down from an outside system."""
    TIMEOUT = "timeout"
    CONDITION = "condition"


class WaitStatus(StrEnum):
    """How far one case of a wait has come."""

    PENDING_SETUP = "pending_setup"
    SET_UP = "set_up"
    PENDING_TEARDOWN = "pending_teardown"
    SETUP_ERROR = "setup_error"
    TEARDOWN_ERROR = "teardown_error"


@dataclass(slots=True)
class ErrorInfo:
    """An error as it is kept with an instance: its type's name, its message, the statement it came from."""

    type: str
    message: str
    statement: str = ""


@dataclass(slots=True)
class Wait:
    """One thing that a parked thread waits for.

    Attributes:
        event: the name of the event or of the timeout; for a condition, of its statement.
        id: the wait's id: the thread's id and its pc at entry. All cases of one wait share it.
        deadline: for a timeout, when it is due; None where the caller keeps no time.
        setup_data: what ``setup`` returned, as JSON data; for a timeout, the name of its task.
        attempt: how often ``setup`` has failed.
        retry_at: when ``setup`` is tried again.
        error: why the last attempt failed.
    """

    event: str
    kind: WaitKind
    status: WaitStatus
    id: str
    deadline: datetime | None = None
    setup_data: Any = None
    attempt: int = 0
    retry_at: datetime | None = None
    error: str | None = None


@dataclass(slots=True)
class Teardown:
    """An event that was left and is still to be torn down; it outlives its thread.

    Attributes:
        step: the name of the ``Select`` that the event belongs to.
        id: the id of the wait that was left.
        handled: whether it was this event that happened.
        status: pending teardown, or teardown error.
    """

    step: str
    event: str
    id: str
    handled: bool
    setup_data: Any = None
    status: WaitStatus = WaitStatus.PENDING_TEARDOWN
    attempt: int = 0
    retry_at: datetime | None = None
    error: str | None = None


@dataclass(slots=True)
class Thread:
    """One thread of an instance. A thread that has ended is no longer listed.

    Attributes:
        id: unique among the live threads; ``main`` for the main thread.
        name: the ``Go`` statement that started it; ``main`` for the main thread.
        step: the name of the statement it stands on; empty before its first.
        pc: the instance's pc when the thread reached that statement.
        attempt: how often the step that it stands on has failed.
        retry_at: when that step is tried again.
    """

    id: str
    name: str
    status: ThreadStatus = ThreadStatus.RESUMING
    step: str = ""
    pc: int = 0
    waits: list[Wait] = field(default_factory=list)
    attempt: int = 0
    retry_at: datetime | None = None
    error: ErrorInfo | None = None


@dataclass(slots=True)
class Execution:
    """Where an instance stands, apart from its fields.

    Attributes:
        workflow: the name of the workflow.
        pc: counts the transitions that were saved; never goes back.
        teardowns: events that were left and are still to be torn down.
        definition_version: the version of the definition that moved the instance last.
        error: why the instance has failed.
    """

    id: str
    workflow: str
    status: Status = Status.RUNNING
    pc: int = 0
    threads: list[Thread] = field(default_factory=list)
    teardowns: list[Teardown] = field(default_factory=list)
    definition_version: str = ""
    error: ErrorInfo | None = None
    created_at: datetime | None = None
    updated_at: datetime | None = None

    @classmethod
    def start(cls, id: str, workflow: Definition, *, now: datetime | None = None) -> Execution:
        """A new instance of ``workflow``, a ``Workflow`` class, standing before its first statement.

        Example:
            >>> from workflow_core import Execution, S, Step, Workflow
            >>> class Hello(Workflow):
            ...     definition = S(Step("say hello", lambda w: print("hello")))
            >>> Execution.start("hello-1", Hello).status
            <Status.RUNNING: 'running'>
        """
        main = Thread(MAIN_THREAD, MAIN_THREAD)
        program = workflow.__program__
        return cls(id, program.workflow, _RUNNING, 0, [main], [], program.version, None, now, now)

    @property
    def ended(self) -> bool:
        """Whether the instance is finished, failed or canceled."""
        status = self.status
        return status is not _RUNNING and status is not _WAITING

    def thread(self, id: str) -> Thread | None:
        """The live thread of that id, if there is one."""
        return next((thread for thread in self.threads if thread.id == id), None)

    def to_dict(self) -> dict[str, Any]:
        """The whole state as JSON data, every attribute included."""
        data: dict[str, Any] = _ADAPTER.dump_python(self, mode="json")
        return data

    def to_json(self) -> str:
        """The whole state as JSON; ``from_json`` is its inverse."""
        return _ADAPTER.dump_json(self, exclude_defaults=True).decode()

    @classmethod
    def from_json(cls, data: str | bytes) -> Execution:
        """Reads what ``to_json`` wrote.

        Raises:
            ValueError: (a ``pydantic.ValidationError``) if it is not an execution.
        """
        return _ADAPTER.validate_json(data)


_ADAPTER: TypeAdapter[Execution] = TypeAdapter(Execution)
