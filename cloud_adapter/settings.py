"""The settings: read once from the environment, checked at the start."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from cloud_adapter.errors import SettingsError
from cloud_adapter.options import EngineOptions

PREFIX = "GORCHESTRATE_"


class Settings(BaseSettings):
    """Each field is the environment variable ``GORCHESTRATE_`` and its name in capitals."""

    model_config = SettingsConfigDict(env_prefix=PREFIX)

    db: Path = Path("gorchestrate.db")
    """The file of the embedded database; made if it is not there."""
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    lease_seconds: float = Field(8, ge=1, le=3600)
    """How long a crashed process can hold an instance back; a step that runs longer renews its lease."""
    max_wait_seconds: float = Field(10, ge=0, le=60)
    """How long an event waits for a busy instance before it gets 503."""
    max_body_bytes: int = Field(1_000_000, ge=1_000, le=10_000_000)
    recover_seconds: float = Field(10, ge=0.1, le=3600)
    """How often the embedded runtime looks for instances that should be moving and are not."""

    def options(self) -> EngineOptions:
        """The engine's part of the settings."""
        return EngineOptions(
            lease=timedelta(seconds=self.lease_seconds), max_wait=timedelta(seconds=self.max_wait_seconds)
        )

    @classmethod
    def load(cls, **overrides: object) -> Settings:
        """The settings from the environment; ``overrides`` win over it.

        Raises:
            SettingsError: one is unknown or wrong; the message names it.
        """
        known = {PREFIX + name.upper() for name in cls.model_fields}
        unknown = sorted(name for name in os.environ if name.startswith(PREFIX) and name not in known)
        if unknown:
            raise SettingsError(f"unknown setting {unknown[0]}: there are {', '.join(sorted(known))}")
        try:
            return cls(**{name: value for name, value in overrides.items() if value is not None})  # type: ignore[arg-type]
        except ValidationError as error:
            lines = [f"{PREFIX}{'.'.join(map(str, e['loc'])).upper()}: {e['msg']}" for e in error.errors()]
            raise SettingsError("wrong setting " + "; ".join(lines)) from None
