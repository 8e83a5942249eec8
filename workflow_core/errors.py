"""The errors of the workflow language, grouped by who must act. Imports nothing of the project.

The errors of stores, queues and HTTP are in ``cloud_adapter.errors``.
"""

from collections.abc import Sequence
from typing import Any


class WorkflowError(Exception):
    """The base class of all errors that gorchestrate raises."""


# --- the author of the workflow must act -----------------------------------------------------


class DefinitionError(WorkflowError):
    """A workflow's definition has a mistake. Raised when the class is created.

    Args:
        statement: the name of the statement, class or function with the mistake.
        reason: the mistake, without a period at its end.
        fix: what to write instead.
    """

    def __init__(self, statement: str, reason: str, fix: str) -> None:
        super().__init__(f"{statement}: {reason}. {fix}")
        self.statement = statement
        self.reason = reason
        self.fix = fix


class ExecutionError(WorkflowError):
    """A running instance has a problem that only a code change can fix."""


class LoopLimitExceeded(ExecutionError):
    """A thread moved repeatedly without reaching a step or a wait."""


class DuplicateThread(ExecutionError):
    """A ``Go`` tried to start a thread with the id of a live thread."""


class UnknownStatement(ExecutionError):
    """An instance is at a statement that its definition no longer contains, or has stored a value that the code can no
    longer use."""


class IllegalTransition(ExecutionError):
    """A caller of the machine reported what cannot happen to the thread or wait in its state. Nothing was changed."""


class UnusableResult(ExecutionError):
    """A function of the workflow returned a coroutine, a generator or a function, because something was forgotten."""


class InvalidOutput(WorkflowError):
    """A handler or an activity returned a value that does not match its return annotation."""


class InvalidFields(WorkflowError):
    """The fields of an instance do not match their declared types, so they could not be loaded again."""


class AsyncInSyncCall(ExecutionError):
    """``resume`` or ``handle_event`` reached asynchronous code. Use ``aresume`` or ``ahandle_event``."""


# --- a workflow can catch these with Try -----------------------------------------------------


class TerminalError(WorkflowError):
    """Raised by a step or an activity if another attempt would fail as well. Subclasses have the same effect.

    Example:
        >>> def charge(order):
        ...     if order.card_expired:
        ...         raise TerminalError("the card has expired")
    """


class Failure(TerminalError):
    """Raised by a ``Fail`` statement."""


class TimedOut(WorkflowError, TimeoutError):
    """A step or an activity exceeded its ``timeout``, or an activity sent no heartbeat. It is retried. The end of a
    block with a ``timeout`` raises it, too."""


class ChildFailed(TerminalError):
    """The instance of a ``Child`` failed, was canceled, or could not be started."""


class AttemptOver(WorkflowError):
    """Raised by an activity's heartbeat: the attempt is over, or the instance no longer waits for it."""


# --- the caller must act ---------------------------------------------------------------------


class EventNotAccepted(WorkflowError):
    """No thread waits for the event now, or not with the given thread or wait id.

    Attributes:
        event: the event that was sent.
        accepted: the names of the events that are accepted now.
        status: the status of the instance.
        detail: more about the refusal, as part of the message.
    """

    def __init__(self, event: str, accepted: Sequence[str], status: str, detail: str = "") -> None:
        now = ", ".join(repr(name) for name in accepted) or "none"
        super().__init__(f"event {event!r} is not accepted now{detail}: the instance is {status}, it accepts: {now}")
        self.event = event
        self.accepted = tuple(accepted)
        self.status = status
        self.detail = detail


class InvalidInput(WorkflowError):
    """The input of an event, or the initial fields of a workflow, do not fit their type.

    Attributes:
        errors: a list of ``{"field": "qty", "message": "...", "type": "int_parsing"}``. ``field`` is a dotted path,
            empty for the whole input.
    """

    def __init__(self, what: str, errors: list[dict[str, Any]]) -> None:
        listing = "; ".join(f"{e['field'] or 'input'}: {e['message']}" for e in errors)
        super().__init__(f"invalid input for {what}: {listing}")
        self.errors = errors


class NewerVersion(WorkflowError):
    """A newer version of the workflow saved the instance, and only that version can continue it. Nothing was
    changed."""


class RepairRefused(WorkflowError):
    """A repair is not possible in the current state of the instance. Nothing was changed."""


class EventRejected(WorkflowError):
    """Raised by an event's handler to reject the event. The sender gets the message, and nothing is changed.

    Example:
        >>> def submit(order):
        ...     if not order.cart:
        ...         raise EventRejected("the cart is empty: add a pizza first")
    """
