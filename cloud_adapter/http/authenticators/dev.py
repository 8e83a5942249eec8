"""``Dev``: for development. The client says itself who it is."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any, Final

from starlette.requests import HTTPConnection

from cloud_adapter.errors import InvalidCredential, SettingsError
from cloud_adapter.http.authenticators.port import header_of
from cloud_adapter.http.callers import is_loopback
from cloud_adapter.settings import ON_CLOUD_RUN
from cloud_adapter.variables import PREFIX
from workflow_core.principal import Principal
from workflow_core.printable import is_printable

DEV_HEADER: Final = "X-Dev-User"
DEV_ISSUER: Final = "dev"

_PROXY_HEADERS = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip", "via")


class Dev:
    """Accepts the header ``X-Dev-User: ann; roles=manager,cook`` of clients on this machine, without a proof.

    It is only for the embedded runtime. Requests of other machines are rejected, also if a proxy on this machine
    forwards them. ``gorchestrate dev`` adds it by itself to the authenticators of a ``Service``.

    Args:
        backend: the backend of the server. Defaults to that of the settings.
        issuer: the issuer in the ids of principals. With that of an ``Oidc``, clients can act as its users.

    Raises:
        SettingsError: the backend is the cloud.
    """

    scheme: Mapping[str, Any] = {
        "type": "apiKey",
        "in": "header",
        "name": DEV_HEADER,
        "description": "A name and roles without a proof, for development on one machine: `ann; roles=manager,cook`.",
    }

    def __init__(self, backend: str | None = None, issuer: str = DEV_ISSUER) -> None:
        if backend is None:
            backend = os.environ.get(f"{PREFIX}BACKEND", "")
        check_backend("cloud" if ON_CLOUD_RUN in os.environ else backend)
        self._issuer = issuer

    async def __call__(self, connection: HTTPConnection) -> Principal | None:
        """Returns the principal that the header names. See ``Authenticator``."""
        text = header_of(connection, DEV_HEADER)
        if text is None:
            return None
        if not is_local(connection):
            raise InvalidCredential(f"the header {DEV_HEADER} is only for clients on the same machine, without a proxy")
        return dev_principal(*_read(text), self._issuer)


def dev_principal(name: str, roles: Iterable[str], issuer: str = DEV_ISSUER) -> Principal:
    """Returns the principal that says that this is its name."""
    return Principal(f"{issuer}|{name}", name, "user", frozenset(roles))


def _read(text: str) -> tuple[str, frozenset[str]]:
    name, *parameters = (part.strip() for part in text.split(";"))
    roles: frozenset[str] = frozenset()
    for parameter in parameters:
        key, _, value = parameter.partition("=")
        if key.strip().lower() != "roles":
            raise InvalidCredential(f"the header {DEV_HEADER} must have the form 'ann; roles=manager,cook'")
        roles |= {role.strip() for role in value.split(",") if role.strip()}
    if not is_printable(name):
        raise InvalidCredential(f"the header {DEV_HEADER} must begin with a name")
    return name, roles


def is_local(connection: HTTPConnection) -> bool:
    """Whether a client is on this machine, and no proxy has forwarded its request."""
    client = connection.client
    return (
        client is not None
        and is_loopback(client.host)
        and not any(name in connection.headers for name in _PROXY_HEADERS)
    )


def check_backend(backend: str) -> None:
    """Checks that ``Dev`` may be used with a backend.

    Raises:
        SettingsError: it is the cloud.
    """
    if backend == "cloud":
        raise SettingsError(
            "Dev() accepts every name without a proof, so it is not for the cloud backend: use Oidc, Iap or ApiKey"
        )
