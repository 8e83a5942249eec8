"""Translates errors of Google's libraries. The messages include the fix where it is known. Makes no calls."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import grpc
import grpc.aio
from google.api_core.exceptions import (
    FailedPrecondition,
    GoogleAPIError,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    Unauthenticated,
)
from google.auth.exceptions import GoogleAuthError

from cloud_adapter.document import InboxEntry, Instance
from cloud_adapter.errors import Unavailable
from cloud_adapter.variables import FIRESTORE_EMULATOR_VARIABLE
from workflow_core import InvalidFields

_FIXES: dict[type[Exception], str] = {
    PermissionDenied: "give the service account the role roles/datastore.user",
    Unauthenticated: "check the credentials",
    GoogleAuthError: f"run `gcloud auth application-default login`, or set {FIRESTORE_EMULATOR_VARIABLE}",
    OSError: "set GOOGLE_CLOUD_PROJECT",  # the client raises OSError without a project
    NotFound: "create the database, or name another one",
    FailedPrecondition: "deploy the indexes of deploy/firestore.indexes.json, on a database in native mode",
}


WRITE_ATTEMPTS_MAX = 5
"""How many times a write is attempted while it is aborted, or the record of its key changes after it was read."""


def contended(written: Instance | InboxEntry) -> Unavailable:
    """Returns the error of a write whose attempts are used up."""
    return Unavailable(
        f"{written.workflow!r} {written.id!r} could not be written: other writers were faster in "
        f"{WRITE_ATTEMPTS_MAX} attempts; try again"
    )


@contextmanager
def refused(instance: Instance) -> Iterator[None]:
    """Raises ``InvalidFields`` if Firestore cannot store an instance. The values in ``search`` are stored natively, and
    Firestore does not support every JSON value."""
    try:
        yield
    except (InvalidArgument, ValueError, TypeError) as error:
        raise InvalidFields(
            f"Firestore cannot store {instance.workflow!r} {instance.id!r}: {error}; the values of search_fields must "
            f"be texts, numbers of 64 bits, booleans or null"
        ) from error


@contextmanager
def google_errors() -> Iterator[None]:
    """Raises ``Unavailable`` instead of any error of Google's libraries."""
    try:
        yield
    # A TimeoutError is also an OSError. asyncio.CancelledError is none of these, so the code that cancels gets it.
    except (GoogleAPIError, GoogleAuthError, grpc.RpcError, grpc.aio.BaseError, OSError) as error:
        fix = next((fix for cls, fix in _FIXES.items() if isinstance(error, cls)), "")
        if isinstance(error, TimeoutError):
            fix = ""
        detail = f"{type(error).__name__}: {error}"
        raise Unavailable(f"Firestore failed: {detail}" + (f": {fix}" if fix else "")) from error
