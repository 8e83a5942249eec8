"""The errors of the workflow language, sorted by who must act. Imports nothing.

Nothing of stores, queues or HTTP belongs here: those errors live in ``cloud_adapter.errors``.
"""

from collections.abc import Sequence
from typing import Any


class WorkflowError(Exception):
    """The root of every error that gorchestrate raises on purpose."""


# --- the author of the workflow must act -----------------------------------------------------


class DefinitionError(WorkflowError):
    """A workflow's definition is wrong; raised while the class is created.

    Args:
        statement: the name of the statement (or class, or function) that is wrong.
        reason: what is wrong with it.
        fix: what to write instead.
    """

    def __init__(self, statement: str, reason: str, fix: str) -> None:
        super().__init__(f"{statement}: {reason}. {fix}")
        self.statement = statement
        self.reason = reason
        self.fix = fix


class ExecutionError(WorkflowError):
    """A running instance met something that only a change of its code can fix."""


class LoopLimitExceeded(ExecutionError):
    """A thread moved on and on without ever reaching a step or a wait."""


class DuplicateThread(ExecutionError):
    """A ``Go`` was to start a thread under the id of one that still lives."""


class UnknownStatement(ExecutionError):
    """An instance stands on a statement that its definition no longer has."""


class IllegalTransition(ExecutionError):
    """A caller of the machine reported what cannot happen to the thread or wait in its state. Nothing was changed."""


class AsyncInSyncCall(ExecutionError):
    """``resume`` or ``handle_event`` met asynchronous code; ``aresume`` or ``ahandle_event`` runs it."""


# --- what a workflow can catch with Try ------------------------------------------------------


class TerminalError(WorkflowError):
    """Raised by a step or an activity, itself or a subclass of it: another attempt would fail as well.

    Example:
        >>> def charge(order):
        ...     if order.card_expired:
        ...         raise TerminalError("the card has expired")
    """


class Failure(TerminalError):
    """What a ``Fail`` statement raises."""


class TimedOut(WorkflowError):
    """A step or an activity has taken longer than its ``timeout``, or an activity gave no heartbeat; it is retried."""


class ChildFailed(TerminalError):
    """The instance that a ``Child`` has started failed or was canceled, or could not be started."""


class AttemptOver(WorkflowError):
    """Raised by an activity's heartbeat: the attempt was given up, or the instance no longer waits for it."""


# --- the caller must act ---------------------------------------------------------------------


class EventNotAccepted(WorkflowError):
    """No thread waits for the event now (or not under the thread or wait id that was named).

    Attributes:
        event: the event that was sent.
        accepted: the names of the events that are accepted now.
        status: the status of the instance.
    """

    def __init__(self, event: str, accepted: Sequence[str], status: str, detail: str = "") -> None:
        now = ", ".join(repr(name) for name in accepted) or "none"
        super().__init__(f"event {event!r} is not accepted now{detail}: the instance is {status}, it accepts: {now}")
        self.event = event
        self.accepted = tuple(accepted)
        self.status = status


class InvalidInput(WorkflowError):
    """The input of an event, or the initial fields of a workflow, do not fit their type.

    Attributes:
        errors: a list of ``{"field": "qty", "message": "...", "type": "int_parsing"}``; ``field`` is a
            dotted path, empty for the input as a whole.
    """

    def __init__(self, what: str, errors: list[dict[str, Any]]) -> None:
        listing = "; ".join(f"{e['field'] or 'input'}: {e['message']}" for e in errors)
        super().__init__(f"invalid input for {what}: {listing}")
        self.errors = errors


class NewerVersion(WorkflowError):
    """The instance was saved by a newer version of its workflow than this code has: the newer code can go on with it.
    Nothing was changed."""


class RepairRefused(WorkflowError):
    """What an operator wanted to fix cannot be done as the instance stands. Nothing was changed."""


class EventRejected(WorkflowError):
    """Raised by an event's handler to refuse the event: the sender gets the message, and nothing is changed.

    Example:
        >>> def submit(order):
        ...     if not order.cart:
        ...         raise EventRejected("the cart is empty: add a pizza first")
    """
