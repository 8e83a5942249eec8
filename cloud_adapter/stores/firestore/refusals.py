"""What errors of Google's libraries become; each says how to fix it, where that is known. Knows no calls."""

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

from cloud_adapter.document import Instance
from cloud_adapter.emulators import FIRESTORE_EMULATOR_VARIABLE
from cloud_adapter.errors import Unavailable
from workflow_core import InvalidFields

_FIXES: dict[type[Exception], str] = {
    PermissionDenied: "give the service account the role roles/datastore.user",
    Unauthenticated: "check the credentials",
    GoogleAuthError: f"run `gcloud auth application-default login`, or set {FIRESTORE_EMULATOR_VARIABLE}",
    OSError: "set GOOGLE_CLOUD_PROJECT",  # so says the client without a project
    NotFound: "create the database, or name another one",
    FailedPrecondition: "deploy the indexes of deploy/firestore.indexes.json, on a database in native mode",
}


@contextmanager
def refused(instance: Instance) -> Iterator[None]:
    """``InvalidFields`` if Firestore cannot store an instance: ``search`` has native values, and some JSON is none."""
    try:
        yield
    except (InvalidArgument, ValueError, TypeError) as error:
        raise InvalidFields(
            f"Firestore cannot store {instance.workflow!r} {instance.id!r}: {error}; search_fields may name texts, "
            f"numbers of 64 bits, booleans and null"
        ) from error


@contextmanager
def google_errors() -> Iterator[None]:
    """``Unavailable`` in the place of any error of Google's libraries."""
    try:
        yield
    # A TimeoutError is an OSError, too. asyncio.CancelledError is none of these: the code that cancels a call gets it.
    except (GoogleAPIError, GoogleAuthError, grpc.RpcError, grpc.aio.BaseError, OSError) as error:
        fix = next((fix for cls, fix in _FIXES.items() if isinstance(error, cls)), "")
        if isinstance(error, TimeoutError):
            fix = ""
        detail = f"{type(error).__name__}: {error}"
        raise Unavailable(f"Firestore failed: {detail}" + (f": {fix}" if fix else "")) from error
