"""What every test may ask for."""

import pytest

from tests.browser import browser, page
from tests.firestore_emulator import firestore_emulator, firestore_emulator_programs, firestore_project
from tests.postgresql import postgresql_programs, postgresql_server, postgresql_url
from tests.recorder import Recorder

__all__ = [
    "browser",
    "firestore_emulator",
    "firestore_emulator_programs",
    "firestore_project",
    "page",
    "postgresql_programs",
    "postgresql_server",
    "postgresql_url",
]


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    """Records the spans and metrics of the test."""
    return Recorder(monkeypatch)
