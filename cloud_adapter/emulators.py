"""The environment variables with host and port of each emulator. This module is cheap to import."""

from __future__ import annotations

from typing import Final

FIRESTORE_EMULATOR_VARIABLE: Final = "FIRESTORE_EMULATOR_HOST"
"""Google's client reads this variable itself."""

TASKS_EMULATOR_VARIABLE: Final = "CLOUD_TASKS_EMULATOR_HOST"
"""Specific to gorchestrate: Google's client does not support an emulator of Cloud Tasks."""
