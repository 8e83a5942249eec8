"""Names of environment variables: those that are needed where no settings are known, and those of emulators."""

from __future__ import annotations

from typing import Final

PREFIX = "GORCHESTRATE_"
"""The names of all settings begin with it."""
SECRET_KEYS_VARIABLE = f"{PREFIX}SECRET_KEYS"
KMS_KEY_VARIABLE = f"{PREFIX}KMS_KEY"

FIRESTORE_EMULATOR_VARIABLE: Final = "FIRESTORE_EMULATOR_HOST"
"""Google's client reads this variable itself."""

TASKS_EMULATOR_VARIABLE: Final = "CLOUD_TASKS_EMULATOR_HOST"
"""Specific to gorchestrate: Google's client does not support an emulator of Cloud Tasks."""
