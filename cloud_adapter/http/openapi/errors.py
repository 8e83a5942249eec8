"""The errors of an operation in an OpenAPI document, with their meaning and an example.

``cloud_adapter.http.problems`` generates the examples from the errors, in the same way as the responses.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from cloud_adapter import errors
from cloud_adapter.engine.permissions import NO_CREDENTIALS, needed_roles
from cloud_adapter.engine.requests import NOT_WAITED_FOR
from cloud_adapter.http import problems
from cloud_adapter.http.openapi.schemas import ref, summary
from cloud_adapter.names import check_key
from cloud_adapter.request_rate import RequestRate
from workflow_core import EventNotAccepted, EventRejected, InvalidInput, NewerVersion, RepairRefused, WorkflowError
from workflow_core.errors import DuplicateThread, InvalidFields, InvalidOutput, LoopLimitExceeded, UnknownStatement

Json = dict[str, Any]
Kind = type[WorkflowError]

BODY: tuple[Kind, ...] = (errors.TooLarge, errors.UnsupportedEncoding, errors.UnsupportedMediaType, InvalidInput)
"""The errors of a request's body."""
CREATED: tuple[Kind, ...] = (errors.InstanceExists, *BODY, errors.IdempotencyKeyReused)
"""The errors of creating an instance."""
FOUND: tuple[Kind, ...] = (
    errors.InvalidRequest,
    errors.InstanceNotFound,
    errors.DamagedDocument,
    errors.SecretsUnreadable,
    InvalidFields,
    NewerVersion,
)
"""The errors of loading an instance."""
SENT: tuple[Kind, ...] = (
    UnknownStatement,
    EventNotAccepted,
    EventRejected,
    *BODY,
    errors.IdempotencyKeyReused,
    errors.ResponseTooLarge,
    InvalidOutput,
)
"""The errors of an event and its handler."""
MOVED: tuple[Kind, ...] = (errors.UserCodeError, LoopLimitExceeded, DuplicateThread)
"""The errors of moving an instance."""

RETRY_AFTER: Json = {
    "Retry-After": {
        "description": "The number of seconds to wait before trying again.",
        "schema": {"type": "integer", "minimum": 0},
        "example": int(problems.HEADERS[503]["Retry-After"]),
    }
}


class Errors:
    """The errors of a document's operations.

    Attributes:
        shared: an example of each error, by the last part of its type.
    """

    def __init__(self, workflow: str, id: str) -> None:
        self.shared: Json = {}
        self._examples = _examples(workflow, id)

    def responses(self, kinds: Iterable[Kind], known: Iterable[WorkflowError] = ()) -> Json:
        """The error responses of an operation, by status.

        Args:
            kinds: the errors that it raises.
            known: specific errors of the operation, which replace the general examples.
        """
        by_status: dict[int, Json] = {}
        own = {type(error): error for error in known}
        for kind in kinds:
            example: Json = {"summary": summary(kind), "value": problems.of_error(self._examples[kind])}
            shown = self._share(example)
            if kind in own:
                shown = example | {"value": problems.of_error(own[kind])}
            by_status.setdefault(problems.status_of(kind), {})[_name(example["value"])] = shown
        bug: Json = {"summary": "A bug in the server. See its log.", "value": problems.bug(LookupError())}
        by_status.setdefault(500, {})[_name(bug["value"])] = self._share(bug)
        return {str(status): self._response(status, by_status[status]) for status in sorted(by_status)}

    def _share(self, example: Json) -> Json:
        name = _name(example["value"])
        self.shared[name] = example
        return {"$ref": f"#/components/examples/{name}"}

    def _response(self, status: int, examples: Json) -> Json:
        texts = {
            name: (self.shared[name] if "$ref" in example else example)["summary"] for name, example in examples.items()
        }
        response: Json = {"description": "\n".join(f"* `{name}`: {text}" for name, text in texts.items())}
        if status in (429, 503):
            response["headers"] = RETRY_AFTER
        return response | {"content": {problems.MEDIA_TYPE: {"schema": ref("Problem"), "examples": examples}}}


def _name(problem: Json) -> str:
    return str(problem["type"]).removeprefix(problems.TYPE_PREFIX)


def _examples(workflow: str, id: str) -> dict[Kind, WorkflowError]:
    field = {"field": "", "message": "Input should be an object", "type": "model_type"}
    raised = [
        _bad_key(),
        errors.InstanceNotFound.of(workflow, id),
        errors.OutcomeNotFound(f"no event with the outcome 'a1b2' was accepted for {id!r} of {workflow!r}"),
        errors.Unauthenticated(NO_CREDENTIALS),
        errors.InvalidCredential("the token is not valid: Signature has expired"),
        errors.Forbidden(f"sending 'Confirm' is not permitted: {needed_roles({'manager'})}"),
        errors.CallbackNotAccepted(NOT_WAITED_FOR),
        errors.InstanceExists(f"instance {id!r} of {workflow!r} already exists"),
        errors.InstanceEnded(f"{id!r} is finished: it can no longer be paused"),
        EventNotAccepted("Pay", ("Confirm",), "waiting"),
        EventRejected("the reason that the handler gives"),
        errors.TooLarge("the request body exceeds the limit of 256,000 bytes: send less data"),
        errors.UnsupportedEncoding("the request body has the content encoding 'gzip': send it uncompressed"),
        errors.UnsupportedMediaType("the content type is 'text/plain': send application/json"),
        InvalidInput(f"the initial fields of workflow {workflow!r}", [field]),
        errors.IdempotencyKeyReused(
            f"the idempotency key 'key-1' was used for another request on {id!r}: use a new key"
        ),
        errors.ResponseTooLarge("the response has 40,000 bytes, but only 32,000 are kept under an idempotency key"),
        errors.TooManyRequests(RequestRate(20, 1), 1),
        errors.Busy(f"{workflow!r} {id!r} is busy: a step is running, or other requests come first; try again"),
        errors.Unavailable("the database did not answer"),
        errors.DamagedDocument(f"the document of {workflow!r} {id!r} cannot be read: 'fields' is None"),
        errors.SecretsUnreadable(f"'token' of {workflow!r} {id!r} cannot be decrypted: no key of the server fits"),
        InvalidFields(f"the fields of {workflow} do not fit their types: total: Field required"),
        NewerVersion(
            f"the instance was saved by version 2 of workflow {workflow!r}, this code has version 1: try again"
        ),
        RepairRefused(f"{id!r} has changed: its pc is 8, not 7: load it again"),
        UnknownStatement(f"{id!r} is at a statement that the definition no longer contains"),
        errors.UserCodeError(f"code of workflow {workflow!r} raised ValueError: no total"),
        LoopLimitExceeded("a thread moved repeatedly without reaching a step or a wait"),
        DuplicateThread("a live thread already has this id"),
        InvalidOutput("the handler of an event returned what its annotation does not allow"),
    ]
    return {type(error): error for error in raised}


def _bad_key() -> WorkflowError:
    try:
        check_key("")
    except errors.InvalidRequest as error:
        return error
    raise AssertionError("an empty key is accepted")
