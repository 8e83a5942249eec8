"""Who sends an event, for its operation: a client with a role, or an outside system, which signs its requests or has a
callback URL."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cloud_adapter import errors
from cloud_adapter.callbacks import PARAMETER
from cloud_adapter.http.openapi.errors import Kind
from cloud_adapter.http.openapi.security import DocumentAccess
from workflow_core.program.cases import ClientCase

Json = dict[str, Any]
Cases = Sequence[tuple[str, ClientCase]]

EVENTS = "events"
"""The tag of events without a role."""
SIGNED = "signed events"
"""The tag of events with ``verify``."""
TAG_TEXTS = {
    EVENTS: "Events without a role.",
    SIGNED: "Events that outside systems sign. A check of the signature decides who may send them, not a role.",
}

CALLBACK = "callbackUrl"
"""The name of the security scheme of callback URLs."""
_CALLBACK_SCHEME: Json = {
    "type": "apiKey",
    "in": "query",
    "name": PARAMETER,
    "description": "The token of a callback URL, with which the workflow asks an outside system for one event of one "
    "wait. The URL is used as it was given, without other credentials.",
}


def security_schemes(access: DocumentAccess) -> Json:
    """Returns the section ``securitySchemes`` of a document. In an open API, nobody needs a callback URL."""
    return access.security_schemes | ({CALLBACK: _CALLBACK_SCHEME} if access.has_callbacks else {})


def tags(cases: Cases) -> list[str]:
    """Returns the tags of an event."""
    roles = sorted({case.role for _, case in cases if case.role})
    return [*roles, *([SIGNED] if _signed(cases) else [])] or [EVENTS]


def text(cases: Cases) -> str:
    """Returns what the description of an event says about signatures; empty if there are none."""
    signed = _signed(cases)
    if not signed:
        return ""
    where = "" if len(signed) == len(cases) else " in " + ", ".join(f"*{select}*" for select in signed)
    return (
        f"Sent by an outside system, which signs the request{where}: the workflow checks the signature, from the "
        f"headers and the body as they are sent. No role replaces it, and no other credentials are needed."
    )


def security(cases: Cases, access: DocumentAccess) -> Json:
    """Returns the ``security`` of an event, if it is not that of the document."""
    if not access.schemes:
        return {}
    signed, in_front = _signed(cases), access.in_front
    found = [] if len(signed) == len(cases) else access.security
    found = [*found, *([in_front] if signed else []), *([in_front | {CALLBACK: []}] if access.has_callbacks else [])]
    return {} if found == access.security else {"security": found}


def refusals(cases: Cases, access: DocumentAccess) -> tuple[Kind, ...]:
    """Returns the errors of an event that concern its sender. A signature is checked in an open API, too."""
    if not access.schemes:
        return (errors.Unauthenticated,) if _signed(cases) else ()
    return (errors.CallbackNotAccepted,) if access.has_callbacks else ()


def _signed(cases: Cases) -> list[str]:
    return [select for select, case in cases if case.verify is not None]
