"""Who an OpenAPI document is for, and the credentials that its operations need."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Any

from workflow_core import EVERYONE, Principal
from workflow_core.records import record

Json = dict[str, Any]

TOKEN = "googleIdentityToken"

_TOKEN_TEXT = (
    "A Google identity token of an account that has `roles/run.invoker` on the function. "
    "`gcloud auth print-identity-token` prints one. Cloud Run checks it before it forwards the request."
)
_TOKEN_SCHEME: Json = {"type": "http", "scheme": "bearer", "bearerFormat": "JWT", "description": _TOKEN_TEXT}
_OWN_HEADER = "X-Serverless-Authorization"
_OWN_HEADER_SCHEME: Json = {
    "type": "apiKey",
    "in": "header",
    "name": _OWN_HEADER,
    "description": f"`Bearer` and a token, because the header `Authorization` is for the service itself. {_TOKEN_TEXT}",
}


@record(frozen=True, slots=True)
class DocumentAccess:
    """Who a document is for.

    Attributes:
        principal: the document contains only what its roles allow. None: code of this process.
        schemes: the security schemes of the authenticators, by name.
        public: whether everyone may call. If not, Cloud Run requires an identity token.
        limited: whether a caller may send only so many requests.
        callbacks: whether workflows can give callback URLs to outside systems.
    """

    principal: Principal | None = EVERYONE
    schemes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    public: bool = True
    limited: bool = False
    callbacks: bool = False

    @property
    def security_schemes(self) -> Json:
        """The section ``securitySchemes``."""
        schemes: Json = {name: dict(scheme) for name, scheme in self.schemes.items()}
        if self.public:
            return schemes
        return {TOKEN: _OWN_HEADER_SCHEME if schemes else _TOKEN_SCHEME} | schemes

    @property
    def security(self) -> list[Json]:
        """The section ``security``: alternatives, each of which may need several credentials."""
        in_front = self.in_front
        return [in_front | {name: []} for name in self.schemes] or ([in_front] if in_front else [])

    @property
    def in_front(self) -> Json:
        """What Cloud Run requires of every request."""
        return {} if self.public else {TOKEN: []}

    @property
    def has_callbacks(self) -> bool:
        """Whether a callback URL stands for other credentials. In an open API, none are needed."""
        return self.callbacks and bool(self.schemes)

    @property
    def refusals_in_front(self) -> Json:
        """The responses of Cloud Run to requests that it does not forward."""
        return {} if self.public else _OF_CLOUD_RUN


OPEN = DocumentAccess()
"""Everyone may do everything."""

_OF_CLOUD_RUN: Json = {
    status: {
        "description": f"{text} Cloud Run sends this response.",
        "content": {"text/html": {"schema": {"type": "string"}}},
    }
    for status, text in {
        "401": "The request has no valid identity token.",
        "403": "The account of the token does not have `roles/run.invoker`.",
    }.items()
}


def merged(ours: Json, other: Json) -> Json:
    """Returns a response that stands for two."""
    description = f"{ours['description']}\n* {other['description']}"
    return ours | {"description": description, "content": ours["content"] | other["content"]}
