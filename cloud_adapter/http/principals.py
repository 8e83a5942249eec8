"""The principal of a request, where the middleware has put it."""

from __future__ import annotations

from starlette.authentication import AuthCredentials
from starlette.requests import HTTPConnection
from starlette.types import Scope

from workflow_core import Principal

_KEY = "gorchestrate.principal"
"""Not ``user``: an application that this one is mounted in may have set that."""


def set_principal(scope: Scope, principal: Principal | None) -> None:
    """Sets the principal, also as Starlette's ``request.user``, and its roles as ``request.auth``."""
    scope[_KEY] = scope["user"] = principal
    scope["auth"] = AuthCredentials([] if principal is None else sorted(principal.all_roles))


def principal_of(connection: HTTPConnection) -> Principal | None:
    """Returns the principal of a request, as the engine takes it: None for trusted code."""
    principal: Principal | None = connection.scope[_KEY]
    return principal


def is_known(connection: HTTPConnection) -> bool:
    """Whether the principal of a request was found. It was not if the request was rejected before."""
    return _KEY in connection.scope
