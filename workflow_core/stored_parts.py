"""The parts of the stored state that definitions use, too. Defining a workflow need not load the rest."""

from __future__ import annotations

from dataclasses import field
from enum import StrEnum
from operator import attrgetter
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from workflow_core.records import record

MAIN_THREAD = "main"


class StoredEnum(StrEnum):
    """An enum that is stored with each execution. To serialize a member reads its ``value``, which for others takes
    three times as long."""

    if not TYPE_CHECKING:  # for type checkers, it is that of every enum
        value = property(attrgetter("_value_"))


class WaitKind(StrEnum):
    """What a thread waits for."""

    EVENT = "event"
    """An event with a plain handler."""
    HANDLER = "handler"
    """An event with an ``EventHandler`` object, which is set up and torn down in an outside system."""
    TIMEOUT = "timeout"
    CONDITION = "condition"
    """A condition on the fields, or the end of threads that were started in parallel."""
    ACTIVITY = "activity"
    CHILD = "child"


class LeaveKind(StrEnum):
    """Why a thread leaves the sections that it is in."""

    ERROR = "error"
    CANCEL = "cancel"
    RETURN = "return"
    BREAK = "break"
    CONTINUE = "continue"
    WON = "won"
    """A branch of a race has ended, so the other branches are canceled. The thread that waits for them goes on."""
    LATE = "late"
    """The deadline of a ``Within`` has passed: the thread leaves its section."""


@record(slots=True)
class ErrorInfo:
    """An error in the form that is stored with an instance.

    Attributes:
        type: the name of its class.
        statement: the statement that raised it.
        bases: its class and its base classes, as ``module.name``. ``except_`` sections match these.
        leaves: for an ``ExceptionGroup`` of several errors, the ``bases`` of each.
        args: the arguments of the error, if they are plain values and not just the message. They are not shown.
        cause: the error that it was raised from (``raise ... from ...``), or while which it was raised: only its type,
            its message and its own cause; None if there was none.
    """

    type: str
    message: str
    statement: str = ""
    bases: list[str] = field(default_factory=list)
    leaves: Annotated[list[list[str]], Field(exclude_if=lambda leaves: not leaves)] = field(default_factory=list)
    args: Annotated[list[Any] | None, Field(exclude_if=lambda args: args is None)] = None
    cause: Annotated[ErrorInfo | None, Field(exclude_if=lambda cause: cause is None)] = None

    def fits(self, names: frozenset[str]) -> bool:
        """Whether the error, or each error of the group, is of one of these classes."""
        if self.leaves and all(not names.isdisjoint(leaf) for leaf in self.leaves):
            return True
        return not names.isdisjoint(self.bases)

    @property
    def text(self) -> str:
        """The error as one line: its type and its message."""
        return f"{self.type}: {self.message}"
