"""Finds the workflows whose secrets would be stored without encryption, although nobody has decided that."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from cloud_adapter.errors import SettingsError
from cloud_adapter.store_settings import NO_KEYS, SecretSettings
from cloud_adapter.variables import KMS_KEY_VARIABLE, SECRET_KEYS_VARIABLE
from workflow_core import Workflow
from workflow_core.machine.secrets import handles_secrets

FIX = (
    f"set {SECRET_KEYS_VARIABLE} to a key from `gorchestrate secret-key`, or {KMS_KEY_VARIABLE} to a key in Cloud KMS, "
    f"or {SECRET_KEYS_VARIABLE}={NO_KEYS} to store secrets without encryption"
)


def unencrypted(workflows: Iterable[type[Workflow]], settings: SecretSettings) -> Sequence[str]:
    """Returns the names of the workflows with secrets, unless the settings say how secrets are stored."""
    if settings.decides_secrets:
        return ()
    return [cls.__workflow_name__ for cls in workflows if handles_secrets(cls)]


def check_secrets(workflows: Iterable[type[Workflow]], settings: SecretSettings) -> None:
    """Raises ``SettingsError`` if secrets would be stored without encryption, and nobody has decided that."""
    if names := unencrypted(workflows, settings):
        raise SettingsError(f"no key encrypts the secrets of {', '.join(map(repr, names))}: {FIX}")
