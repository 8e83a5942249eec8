"""The environment variables that name the emulators: host and port of each. Light to import."""

from __future__ import annotations

from typing import Final

FIRESTORE_EMULATOR_VARIABLE: Final = "FIRESTORE_EMULATOR_HOST"
"""Google's client reads this one itself."""

TASKS_EMULATOR_VARIABLE: Final = "CLOUD_TASKS_EMULATOR_HOST"
"""Ours: Google's client knows no emulator of Cloud Tasks."""
