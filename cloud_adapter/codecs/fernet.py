"""Encrypts with the keys of a setting: the first one encrypts, and each one decrypts what was encrypted with it.

Fernet authenticates the text, but knows no context. The context is therefore encrypted with the text, as a hash, and
compared when the text is decrypted.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from cloud_adapter.errors import SecretsUnreadable
from cloud_adapter.variables import SECRET_KEYS_VARIABLE


class FernetCodec:
    """See ``ports.Codec``.

    Args:
        keys: the keys, each as ``new_key`` returns it.

    Raises:
        ValueError: a text is not a key.
    """

    def __init__(self, keys: Sequence[str]) -> None:
        self._keys = MultiFernet([Fernet(key) for key in keys])

    async def encrypt(self, text: bytes, context: str) -> str:
        """See ``ports.Codec.encrypt``."""
        return self._keys.encrypt(_hash(context) + text).decode()

    async def decrypt(self, text: str, context: str) -> bytes:
        """See ``ports.Codec.decrypt``."""
        expected = _hash(context)
        try:
            found = self._keys.decrypt(text)
        except (InvalidToken, ValueError):
            raise SecretsUnreadable(
                f"no key of {SECRET_KEYS_VARIABLE} fits, or it was changed: add the key with which it was encrypted"
            ) from None
        if not hmac.compare_digest(found[: len(expected)], expected):
            raise SecretsUnreadable("it was encrypted for another place, and was moved here")
        return found[len(expected) :]

    async def close(self) -> None:
        """Does nothing."""


def new_key() -> str:
    """Returns a new random key."""
    return Fernet.generate_key().decode()


def _hash(context: str) -> bytes:
    return hashlib.sha256(context.encode()).digest()
