"""``ApiKey``: keys for machines, such as a till or another service."""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Collection, Mapping
from typing import Any, Final

from starlette.requests import HTTPConnection

from cloud_adapter.errors import InvalidCredential, SettingsError
from cloud_adapter.http.authenticators.port import BEARER, RESERVED_ROLES, bearer_token
from workflow_core.principal import Principal
from workflow_core.printable import is_printable
from workflow_core.records import record

KEY_PREFIX: Final = "gok_"
"""The beginning of every key. Scanners for leaked secrets can search for it."""
KEY_BYTES: Final = 32
ID_PREFIX: Final = "api-key|"

_DIGEST = re.compile(r"[0-9a-f]{64}")


@record(frozen=True, slots=True)
class StoredKey:
    """What is stored of a key: its hash, who has it, and its roles.

    A simple hash is enough: the keys are random and have 256 bits, so they cannot be guessed even if the hashes are
    known. They may therefore be in the source code.

    Args:
        name: who has the key: ``till-1``. The principal's id is ``api-key|till-1``. While a key is replaced, two keys
            may have the same name.
        sha256: the SHA-256 hash of the key, in hexadecimal digits; see ``new_key``.
        roles: the roles of who has the key.
    """

    name: str
    sha256: str
    roles: Collection[str] = ()

    def __post_init__(self) -> None:
        if not is_printable(self.name):
            raise SettingsError(f"StoredKey: the name {self.name!r} must be printable text")
        if not _DIGEST.fullmatch(self.sha256):
            # Not shown: it may be the key itself.
            raise SettingsError(
                f"StoredKey {self.name!r}: sha256 must be 64 hexadecimal digits, as `gorchestrate api-key` prints them"
            )
        if isinstance(self.roles, str) or RESERVED_ROLES & set(self.roles):
            raise SettingsError(f"StoredKey {self.name!r}: roles must be a list of roles, without '*'")


class ApiKey:
    """Accepts keys in the header ``Authorization: Bearer gok_...``. Never in a URL, because URLs are logged.

    Args:
        keys: the keys that are accepted; see ``StoredKey``.
    """

    scheme: Mapping[str, Any] = dict(BEARER) | {"description": f"An API key, which begins with `{KEY_PREFIX}`."}

    def __init__(self, *keys: StoredKey) -> None:
        if not keys:
            raise SettingsError("ApiKey: there is no key: pass ApiKey(StoredKey(...))")
        self._keys = [
            (key.sha256.encode(), Principal(f"{ID_PREFIX}{key.name}", key.name, "service", frozenset(key.roles)))
            for key in keys
        ]

    async def __call__(self, connection: HTTPConnection) -> Principal | None:
        """Returns the principal of a key. See ``Authenticator``."""
        token = bearer_token(connection)
        if token is None or not is_api_key(token):
            return None
        digest = key_hash(token).encode()
        found: Principal | None = None
        for known, principal in self._keys:  # all of them, so that the time does not depend on which one it is
            if secrets.compare_digest(known, digest):
                found = principal
        if found is None:
            raise InvalidCredential("the API key is unknown")
        return found


def is_api_key(token: str) -> bool:
    """Whether a token has the form of a key, so that only ``ApiKey`` checks it."""
    return token.startswith(KEY_PREFIX)


def new_key() -> str:
    """Returns a new random key. Give it to its holder and store only its hash."""
    return KEY_PREFIX + secrets.token_urlsafe(KEY_BYTES)


def key_hash(key: str) -> str:
    """Returns the hash of a key, for ``StoredKey``."""
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()
