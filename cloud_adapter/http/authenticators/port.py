"""The port ``Authenticator``, and how credentials are read from the headers of a request."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from starlette.requests import HTTPConnection

from cloud_adapter.errors import InvalidCredential
from workflow_core import ANY_ROLE, ANYONE, AUTHENTICATED, Principal

CREDENTIAL_BYTES_MAX = 16_000
"""Longer credentials are rejected unread. Servers limit all headers together to about the same size."""

BEARER: Mapping[str, Any] = {"type": "http", "scheme": "bearer"}
"""The OpenAPI security scheme of tokens in the header ``Authorization``."""

RESERVED_ROLES = frozenset({ANY_ROLE, ANYONE, AUTHENTICATED})
"""Roles that the runtime gives. No authenticator can."""


class Authenticator(Protocol):
    """Finds the principal that sends a request, by one kind of credential."""

    @property
    def scheme(self) -> Mapping[str, Any]:
        """Its security scheme in OpenAPI documents."""
        ...

    async def __call__(self, connection: HTTPConnection) -> Principal | None:
        """Returns the principal; None if the request has no credential of this kind: the next authenticator is asked.

        Raises:
            InvalidCredential: the request has a credential of this kind that is not valid. No other authenticator is
                asked.
            Unavailable: the credential could not be checked.
        """
        ...


def header_of(connection: HTTPConnection, name: str) -> str | None:
    """Returns a header that contains a credential; None if the request does not have it.

    Raises:
        InvalidCredential: it is repeated, or too long. Proxies and servers would disagree about which one counts.
    """
    values = connection.headers.getlist(name)
    if not values:
        return None
    if len(values) > 1:
        raise InvalidCredential(f"the header {name} is repeated: send it once")
    if len(values[0]) > CREDENTIAL_BYTES_MAX:
        raise InvalidCredential(f"the header {name} is longer than {CREDENTIAL_BYTES_MAX:,} bytes")
    return values[0]


def bearer_token(connection: HTTPConnection) -> str | None:
    """Returns the token in the header ``Authorization``; None if it has no token or one of another scheme.

    Raises:
        InvalidCredential: the header is repeated, too long, or has an empty token.
    """
    scheme, _, token = (header_of(connection, "Authorization") or "").partition(" ")
    if scheme.lower() != "bearer":
        return None
    token = token.strip(" ")
    if not token:
        raise InvalidCredential("the header Authorization has no token after 'Bearer'")
    return token
