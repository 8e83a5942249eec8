"""The errors of the engine and its ports, grouped by who must act. They are independent of HTTP status codes.

The errors of the workflow language are in ``workflow_core.errors``.
"""

from __future__ import annotations

from typing import Any

from cloud_adapter.request_rate import RequestRate
from workflow_core import EventNotAccepted, InvalidInput, WorkflowError

# --- the caller must act ---------------------------------------------------------------------


class InvalidRequest(WorkflowError):
    """A name, an id, a cursor or another argument of a request is invalid."""


class WorkflowNotFound(WorkflowError):
    """No workflow of that name is served."""


class InstanceNotFound(WorkflowError):
    """No instance with that id exists, or the principal may not read it."""

    @classmethod
    def of(cls, workflow: str, id: str) -> InstanceNotFound:
        """Returns the error, whose text is the same in both cases."""
        return cls(f"there is no instance {id!r} of {workflow!r}")


class OutcomeNotFound(WorkflowError):
    """No event with this outcome was accepted for later, or its outcome was forgotten."""


class CallbackNotAccepted(WorkflowError):
    """The workflow does not wait for this callback: it has received it, the wait has ended, or it has not begun."""


class InstanceExists(WorkflowError):
    """An instance with that id already exists."""


class InstanceEnded(WorkflowError):
    """The instance is finished, failed or canceled, so it can no longer be canceled or paused."""


class TooLarge(WorkflowError):
    """A request or an instance is larger than the limit; the message gives the size and the largest field."""


class UnsupportedEncoding(WorkflowError):
    """The body of a request is compressed, or is not UTF-8 text."""


class UnsupportedMediaType(WorkflowError):
    """The body of a request has a content type other than JSON."""


class IdempotencyKeyReused(WorkflowError):
    """An idempotency key was used again with a different request."""


class ResponseTooLarge(WorkflowError):
    """The response is too large to be kept under the idempotency key of the request. Nothing was changed."""


class Unauthenticated(WorkflowError):
    """The request has no valid credentials, and needs some."""


class InvalidCredential(Unauthenticated):
    """The request has a token, a key or another credential that is not valid.

    Attributes:
        hint: what the operator of the server can do. It is logged, and not part of the response.
    """

    def __init__(self, message: str, *, hint: str = "") -> None:
        self.hint = hint
        super().__init__(message)


class Forbidden(WorkflowError):
    """The caller is not permitted to make the request, for example without the role that it needs, with the token of
    another account, from a page of another site, or for a repair."""


# --- the caller must try again ---------------------------------------------------------------


class Busy(WorkflowError):
    """The instance was busy for longer than a request may wait; try again."""


class TooManyRequests(WorkflowError):
    """The caller has sent more requests than the server allows; try again later. Nothing was changed.

    Attributes:
        retry_after: the number of seconds after which the next request is served.
    """

    def __init__(self, rate: RequestRate, retry_after: int) -> None:
        self.retry_after = retry_after
        super().__init__(
            f"a caller may send {rate.requests} requests in {rate.seconds} s: try again in {retry_after} s. "
            "Nothing was changed"
        )


class NotYet(WorkflowError):
    """A task ran before the commit that it belongs to; the queue sends it again."""


class Unavailable(WorkflowError):
    """The database or the queue did not answer; it is unknown whether the call took effect."""


# --- the engine acts -------------------------------------------------------------------------


class Conflict(WorkflowError):
    """The stored document is no longer the version that was loaded; nothing was written.

    Attributes:
        is_certain: whether nothing was written by this call in any case. Otherwise, the client of the database may have
            repeated a write whose reply was lost, and the conflict may be with the write itself.
    """

    def __init__(self, message: str, *, is_certain: bool = False) -> None:
        super().__init__(message)
        self.is_certain = is_certain


class DuplicateKey(WorkflowError):
    """The idempotency key of a commit is already recorded; nothing was written."""


# --- the operator must act -------------------------------------------------------------------


class DamagedDocument(WorkflowError):
    """A stored document cannot be read: it is damaged, or was written by a newer release."""


class SecretsUnreadable(DamagedDocument):
    """A stored secret cannot be decrypted: its key is missing in the settings, or it was changed or moved."""


class SettingsError(WorkflowError):
    """A setting is missing or wrong; the message names it."""


# --- the author of the workflow must act -----------------------------------------------------


class UserCodeError(WorkflowError):
    """A handler or a condition of the workflow raised an error. It is the ``__cause__``. Nothing was changed."""


def details_of(error: BaseException) -> dict[str, Any]:
    """Returns the data of an error, beside its text."""
    if isinstance(error, EventNotAccepted):
        return {"accepted": list(error.accepted), "instance_status": error.status}
    if isinstance(error, TooManyRequests):
        return {"retry_after": error.retry_after}
    return {"errors": error.errors} if isinstance(error, InvalidInput) else {}
