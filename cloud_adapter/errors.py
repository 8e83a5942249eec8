"""The errors of the engine and its ports, sorted by who must act. Knows nothing of HTTP status codes.

What the workflow language itself raises is in ``workflow_core.errors``.
"""

from __future__ import annotations

from workflow_core import WorkflowError

# --- the caller must act ---------------------------------------------------------------------


class InvalidRequest(WorkflowError):
    """A name, an id, a cursor or another argument of a request cannot be right."""


class WorkflowNotFound(WorkflowError):
    """No workflow of that name is served here."""


class InstanceNotFound(WorkflowError):
    """There is no instance of that id."""


class InstanceExists(WorkflowError):
    """There already is an instance of that id."""


class InstanceEnded(WorkflowError):
    """The instance is finished, failed or canceled, so it can no longer be canceled or paused."""


class TooLarge(WorkflowError):
    """A request or an instance is larger than the limit; the message gives the size and the largest field."""


class IdempotencyKeyReused(WorkflowError):
    """An idempotency key came with another request than the one it was first used for."""


class Unauthenticated(WorkflowError):
    """The request bears no valid token."""


class Forbidden(WorkflowError):
    """Whoever makes the request may not: its token is another one's, a page of another site sent it, it is a repair."""


# --- whoever calls must try again ------------------------------------------------------------


class Busy(WorkflowError):
    """The instance was busy for longer than a request may wait; try again."""


class NotYet(WorkflowError):
    """A task ran before the commit it belongs to; the queue tries it again."""


class Unavailable(WorkflowError):
    """The database or the queue did not answer; whether the call took effect is not known."""


# --- the engine acts -------------------------------------------------------------------------


class Conflict(WorkflowError):
    """The document is no longer the version that was loaded; nothing was written."""


class DuplicateKey(WorkflowError):
    """The idempotency key of a commit has been recorded before; nothing was written."""


# --- the operator must act -------------------------------------------------------------------


class DamagedDocument(WorkflowError):
    """A stored document cannot be read: it is damaged, or was written by a newer release."""


class SettingsError(WorkflowError):
    """A setting is missing or wrong; the message names it."""


# --- the author of the workflow must act -----------------------------------------------------


class UserCodeError(WorkflowError):
    """A handler or a condition of the workflow raised; the error is the cause. Nothing was changed."""
