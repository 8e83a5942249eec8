"""Several codecs as one: the first one encrypts, and each text is decrypted by the one that has encrypted it.

A text begins with the name of its codec, so that a deployment can change from one to the other.
"""

from __future__ import annotations

from collections.abc import Mapping

from cloud_adapter.errors import SecretsUnreadable
from cloud_adapter.ports import Clock, Codec
from cloud_adapter.store_settings import SecretSettings
from cloud_adapter.variables import KMS_KEY_VARIABLE, SECRET_KEYS_VARIABLE

_FERNET, _KMS = "fernet", "kms"
_SETTINGS = {_FERNET: SECRET_KEYS_VARIABLE, _KMS: KMS_KEY_VARIABLE}


class Chain:
    """See ``ports.Codec``.

    Args:
        codecs: the codecs by their names. The first one encrypts.
    """

    def __init__(self, codecs: Mapping[str, Codec]) -> None:
        self._codecs = codecs
        self._name, self._first = next(iter(codecs.items()))

    async def encrypt(self, text: bytes, context: str) -> str:
        """See ``ports.Codec.encrypt``."""
        return f"{self._name}:{await self._first.encrypt(text, context)}"

    async def decrypt(self, text: str, context: str) -> bytes:
        """See ``ports.Codec.decrypt``."""
        name, _, rest = text.partition(":")
        if name in self._codecs:
            return await self._codecs[name].decrypt(rest, context)
        if name in _SETTINGS:
            raise SecretsUnreadable(f"set {_SETTINGS[name]} as it was when it was stored")
        raise SecretsUnreadable("it was changed, or encrypted by a newer release")

    async def close(self) -> None:
        """Closes the codecs."""
        for codec in self._codecs.values():
            await codec.close()


def codec_of(settings: SecretSettings, clock: Clock) -> Codec | None:
    """Returns the codec of the settings; None if they name no key. With both settings, Cloud KMS encrypts.

    Raises:
        SettingsError: Cloud KMS is used, but its client is not installed.
    """
    codecs: dict[str, Codec] = {}
    # Imported lazily: most deployments have no secrets.
    if settings.kms_key:
        from cloud_adapter.codecs.kms import KmsCodec, check_installed

        check_installed()
        codecs[_KMS] = KmsCodec(settings.kms_key, clock)
    if settings.keys:
        from cloud_adapter.codecs.fernet import FernetCodec

        codecs[_FERNET] = FernetCodec(settings.keys)
    return Chain(codecs) if codecs else None
