"""Encrypts with a key that never leaves Cloud KMS (envelope encryption).

Theory of operation. KMS does not encrypt the secrets: that would be a call for each of them. Each process makes a
random data key, has KMS encrypt it (wrap it), and encrypts with it in memory, with AES-GCM. The wrapped key is stored
beside each encrypted text. A process that reads a text with a data key that it does not know has KMS unwrap it, and
remembers it. A new data key is made every hour, so that a process makes few calls and no key encrypts too much.

AES-GCM must never use a nonce twice with one key. Nonces are random and have 96 bits, which is safe for four billion
texts. A process encrypts far fewer in an hour.
"""

from __future__ import annotations

import asyncio
import base64
import os
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from cloud_adapter.errors import SecretsUnreadable, SettingsError, Unavailable
from cloud_adapter.ports import Clock
from cloud_adapter.variables import KMS_KEY_VARIABLE

LIFETIME: Final = timedelta(hours=1)
"""How long a process encrypts with the same data key."""

UNWRAPPED_MAX: Final = 1_000
"""How many data keys of other processes are remembered."""

TIMEOUT_SECONDS: Final = 10.0

PURPOSE: Final = b"gorchestrate"
"""Sent to KMS with each data key, which is then of no use for other programs."""

_NONCE_BYTES, _KEY_BYTES, _LENGTH_BYTES = 12, 32, 2


@dataclass(frozen=True, slots=True)
class _DataKey:
    """A data key, as it is stored, and in memory."""

    wrapped: bytes
    cipher: AESGCM
    until: datetime


class KmsCodec:
    """See ``ports.Codec``.

    Args:
        key_name: ``projects/P/locations/L/keyRings/R/cryptoKeys/K``.
        client: by default Google's, which is created for the first call, because it belongs to the event loop.
    """

    def __init__(self, key_name: str, clock: Clock, client: Any = None) -> None:
        self.key_name = key_name
        self._clock = clock
        self._client = client
        self._own: _DataKey | None = None
        self._unwrapped: OrderedDict[bytes, AESGCM] = OrderedDict()
        self._making = asyncio.Lock()

    async def encrypt(self, text: bytes, context: str) -> str:
        """See ``ports.Codec.encrypt``."""
        key = await self._data_key()
        nonce = os.urandom(_NONCE_BYTES)
        sealed = key.cipher.encrypt(nonce, text, context.encode())
        parts = len(key.wrapped).to_bytes(_LENGTH_BYTES), key.wrapped, nonce, sealed
        return base64.b64encode(b"".join(parts)).decode()

    async def decrypt(self, text: str, context: str) -> bytes:
        """See ``ports.Codec.decrypt``."""
        try:
            data = base64.b64decode(text, validate=True)
        except ValueError:
            raise SecretsUnreadable("it was changed: it is not base64") from None
        start = _LENGTH_BYTES + int.from_bytes(data[:_LENGTH_BYTES])
        wrapped, nonce, sealed = data[_LENGTH_BYTES:start], data[start:][:_NONCE_BYTES], data[start + _NONCE_BYTES :]
        if not wrapped or len(nonce) < _NONCE_BYTES:
            raise SecretsUnreadable("it was changed: it is too short")
        cipher = await self._cipher(wrapped)
        try:
            return cipher.decrypt(nonce, sealed, context.encode())
        except InvalidTag:
            raise SecretsUnreadable("it was changed, or encrypted for another place and moved here") from None

    async def close(self) -> None:
        """Closes the connection to KMS."""
        if self._client is not None:
            await self._client.transport.close()

    async def _data_key(self) -> _DataKey:
        """Returns the data key of this process."""
        async with self._making:  # one call to KMS, however many requests come first
            now = self._clock.now()
            if self._own is None or now >= self._own.until:
                plain = os.urandom(_KEY_BYTES)
                with self._errors():
                    response = await self._kms().encrypt(request=self._request(plaintext=plain), **_limits())
                self._own = _DataKey(response.ciphertext, AESGCM(plain), now + LIFETIME)
                self._remember(self._own.wrapped, self._own.cipher)
            return self._own

    async def _cipher(self, wrapped: bytes) -> AESGCM:
        """Returns the cipher of a stored data key."""
        cipher = self._unwrapped.get(wrapped)
        if cipher is None:
            with self._errors():
                response = await self._kms().decrypt(request=self._request(ciphertext=wrapped), **_limits())
            cipher = AESGCM(response.plaintext)
        self._remember(wrapped, cipher)
        return cipher

    def _remember(self, wrapped: bytes, cipher: AESGCM) -> None:
        self._unwrapped[wrapped] = cipher
        self._unwrapped.move_to_end(wrapped)
        if len(self._unwrapped) > UNWRAPPED_MAX:
            self._unwrapped.popitem(last=False)

    def _request(self, **content: bytes) -> dict[str, Any]:
        return {"name": self.key_name, "additional_authenticated_data": PURPOSE, **content}

    def _kms(self) -> Any:
        if self._client is None:
            self._client = _new_client()
        return self._client

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Raises ``Unavailable`` instead of any error of Google's libraries; ``SecretsUnreadable`` if the key in KMS
        has not encrypted the data key."""
        from google.api_core import exceptions
        from google.auth.exceptions import GoogleAuthError

        fixes: dict[type[Exception], str] = {
            exceptions.PermissionDenied: "give the service account the role "
            "roles/cloudkms.cryptoKeyEncrypterDecrypter on the key",
            exceptions.NotFound: f"check {KMS_KEY_VARIABLE}",
            exceptions.FailedPrecondition: "enable the version of the key",
            GoogleAuthError: "run `gcloud auth application-default login`",
        }
        try:
            yield
        except exceptions.InvalidArgument as error:
            raise SecretsUnreadable(
                f"Cloud KMS refused its data key: set {KMS_KEY_VARIABLE} to the key that encrypted it ({error})"
            ) from error
        except (exceptions.GoogleAPIError, GoogleAuthError, OSError) as error:
            fix = next((f": {fix}" for cls, fix in fixes.items() if isinstance(error, cls)), "")
            raise Unavailable(f"Cloud KMS failed: {type(error).__name__}: {error}{fix}") from error


def check_installed() -> None:
    """Raises ``SettingsError`` if the client of KMS is not installed."""
    try:
        import google.cloud.kms_v1  # noqa: F401
    except ImportError as error:
        raise SettingsError(
            f"{KMS_KEY_VARIABLE} is set, but google-cloud-kms is not installed: install gorchestrate[kms]"
        ) from error


def _limits() -> dict[str, Any]:
    """Returns how long a call may take, with its retries. By default, the client tries for a minute."""
    from google.api_core import exceptions, retry, retry_async

    is_transient = retry.if_exception_type(exceptions.ServiceUnavailable)
    retries = retry_async.AsyncRetry(predicate=is_transient, initial=0.1, maximum=1.0, timeout=TIMEOUT_SECONDS)
    return {"retry": retries, "timeout": TIMEOUT_SECONDS}


def _new_client() -> Any:
    from google.cloud.kms_v1 import KeyManagementServiceAsyncClient

    return KeyManagementServiceAsyncClient()
