"""Runs workflows: the engine, its ports and their adapters, the HTTP application and the command line.

Programs import the public names from here: ``from cloud_adapter import Service``. Each name is loaded when it is first
used, so that importing one module of the package does not import all the others.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cloud_adapter.errors import (
        Busy,
        Forbidden,
        IdempotencyKeyReused,
        InstanceEnded,
        InstanceExists,
        InstanceNotFound,
        InvalidRequest,
        SettingsError,
        TooLarge,
        Unauthenticated,
        Unavailable,
        UserCodeError,
        WorkflowNotFound,
    )
    from cloud_adapter.hosting.cloud import CloudRuntime
    from cloud_adapter.hosting.embedded import EmbeddedRuntime
    from cloud_adapter.hosting.service import Service
    from cloud_adapter.http.authenticators.api_key import ApiKey, StoredKey
    from cloud_adapter.http.authenticators.claims import claim
    from cloud_adapter.http.authenticators.dev import Dev
    from cloud_adapter.http.authenticators.iap import Iap
    from cloud_adapter.http.authenticators.login import Login
    from cloud_adapter.http.authenticators.oidc import Oidc
    from cloud_adapter.http.authenticators.port import Authenticator
    from cloud_adapter.observability.logs import JsonFormatter
    from cloud_adapter.settings import Settings

__all__ = [
    "ApiKey",
    "Authenticator",
    "Busy",
    "CloudRuntime",
    "Dev",
    "EmbeddedRuntime",
    "Forbidden",
    "Iap",
    "IdempotencyKeyReused",
    "InstanceEnded",
    "InstanceExists",
    "InstanceNotFound",
    "InvalidRequest",
    "JsonFormatter",
    "Login",
    "Oidc",
    "Service",
    "Settings",
    "SettingsError",
    "StoredKey",
    "TooLarge",
    "Unauthenticated",
    "Unavailable",
    "UserCodeError",
    "WorkflowNotFound",
    "claim",
]

_AUTHENTICATORS = "cloud_adapter.http.authenticators"

_ERRORS = (
    "Busy",
    "Forbidden",
    "IdempotencyKeyReused",
    "InstanceEnded",
    "InstanceExists",
    "InstanceNotFound",
    "InvalidRequest",
    "SettingsError",
    "TooLarge",
    "Unauthenticated",
    "Unavailable",
    "UserCodeError",
    "WorkflowNotFound",
)

_MODULES = {
    "ApiKey": f"{_AUTHENTICATORS}.api_key",
    "Authenticator": f"{_AUTHENTICATORS}.port",
    "Dev": f"{_AUTHENTICATORS}.dev",
    "Iap": f"{_AUTHENTICATORS}.iap",
    "Login": f"{_AUTHENTICATORS}.login",
    "Oidc": f"{_AUTHENTICATORS}.oidc",
    "StoredKey": f"{_AUTHENTICATORS}.api_key",
    "claim": f"{_AUTHENTICATORS}.claims",
    "CloudRuntime": "cloud_adapter.hosting.cloud",
    "EmbeddedRuntime": "cloud_adapter.hosting.embedded",
    "JsonFormatter": "cloud_adapter.observability.logs",
    "Service": "cloud_adapter.hosting.service",
    "Settings": "cloud_adapter.settings",
    **dict.fromkeys(_ERRORS, "cloud_adapter.errors"),
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'cloud_adapter' has no {name!r}. Available: {', '.join(__all__)}")
    from workflow_core.garbage import no_collection

    with no_collection():
        return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
