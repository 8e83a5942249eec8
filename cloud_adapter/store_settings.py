"""Reads settings from the environment; the settings by which instances are stored. Others are in ``settings.py``."""

import os
import re
from collections.abc import Sequence
from typing import Any, Literal, Self

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from cloud_adapter.errors import SettingsError
from cloud_adapter.variables import PREFIX

NO_KEYS = "none"
"""Says that secrets are stored without encryption."""

_KEY = r"[A-Za-z0-9_-]{43}="
_KMS_KEY = r"projects/[^/]+/locations/[^/]+/keyRings/[^/]+/cryptoKeys/[^/]+"


def listed_keys(text: str) -> Sequence[str]:
    """The keys in a setting, which are separated by commas. None if it says that there are none."""
    return () if text.strip() == NO_KEYS else [key.strip() for key in text.split(",") if key.strip()]


class _Variables(PydanticBaseSettingsSource):
    """The variables of the environment, whose texts are validated as they are. ``EnvSettingsSource`` finds out for each
    field whether its text may be JSON, which takes a third of the time in which settings are loaded. As there, a name
    may also be written in small letters."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """See ``PydanticBaseSettingsSource``."""
        return self().get(field_name), field_name, False

    def __call__(self) -> dict[str, Any]:
        """Returns the texts by the names of the fields."""
        texts = {name.upper(): text for name, text in os.environ.items()} | os.environ
        variables = {name: PREFIX + name.upper() for name in self.settings_cls.model_fields}
        return {name: texts[variable] for name, variable in variables.items() if variable in texts}


class EnvironmentSettings(BaseSettings):
    """Settings that are variables of the environment. For their names, see ``Settings``."""

    model_config = SettingsConfigDict(defer_build=True)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        *others: PydanticBaseSettingsSource,
        **more: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Reads no files."""
        return init_settings, _Variables(settings_cls)

    @classmethod
    def load(cls, **overrides: object) -> Self:
        """Returns the settings from the environment. ``overrides`` take precedence.

        Raises:
            SettingsError: a setting is wrong; the message names it.
        """
        try:
            return cls(**{name: value for name, value in overrides.items() if value is not None})  # type: ignore[arg-type]
        except ValidationError as error:
            lines = [
                f"{PREFIX}{'.'.join(map(str, e['loc'])).upper()}: {e['msg']}" if e["loc"] else str(e["ctx"]["error"])
                for e in error.errors()
            ]
            raise SettingsError("wrong setting: " + "; ".join(lines)) from None


class IndexSettings(EnvironmentSettings):
    """The settings by which instances are indexed in Firestore."""

    index_shards: int = Field(default=1, ge=1, le=30)
    """Cloud: how many shards the indexes by time have. Each accepts about 500 writes a second."""
    sharded_indexes: Literal["write", "read", "only"] = "write"
    """Cloud: whether indexes with shards are filled (``write``), or also read (``read``, ``only``)."""

    @property
    def reads_shards(self) -> bool:
        """Whether the indexes with shards are read."""
        return self.sharded_indexes != "write"

    @model_validator(mode="after")
    def _reads_what_is_written(self) -> Self:
        if self.reads_shards and self.index_shards == 1:
            raise ValueError(f"{PREFIX}SHARDED_INDEXES is {self.sharded_indexes}: set {PREFIX}INDEX_SHARDS to 2 to 30")
        return self


class SecretSettings(EnvironmentSettings):
    """The settings by which secrets are stored."""

    secret_keys: SecretStr = SecretStr("")
    """The keys that encrypt secrets before they are stored, separated by commas. The first one encrypts; each one
    decrypts. ``none``: secrets are stored as they are."""
    kms_key: str = ""
    """The key in Cloud KMS that encrypts secrets: ``projects/P/locations/L/keyRings/R/cryptoKeys/K``. The keys of
    ``secret_keys`` then only decrypt."""

    @property
    def keys(self) -> Sequence[str]:
        """The keys in ``secret_keys``."""
        return listed_keys(self.secret_keys.get_secret_value())

    @property
    def decides_secrets(self) -> bool:
        """Whether the settings say how secrets are stored."""
        return bool(self.secret_keys.get_secret_value().strip() or self.kms_key)

    @field_validator("secret_keys", "session_keys", check_fields=False)
    @classmethod
    def _are_keys(cls, keys: SecretStr) -> SecretStr:
        for number, key in enumerate(listed_keys(keys.get_secret_value()), 1):
            if not re.fullmatch(_KEY, key):
                raise ValueError(
                    f"key {number} is not a key of 32 bytes in URL-safe base64: make one with `gorchestrate secret-key`"
                )
        return keys

    @field_validator("kms_key")
    @classmethod
    def _is_key_name(cls, name: str) -> str:
        if name and not re.fullmatch(_KMS_KEY, name):
            raise ValueError(f"{name!r} is not the name of a key: projects/P/locations/L/keyRings/R/cryptoKeys/K")
        return name
