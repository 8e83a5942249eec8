"""What every test may ask for."""

import gc

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


THRESHOLD = gc.get_threshold()


def pytest_runtest_teardown() -> None:
    """Undoes what a service on Cloud Run sets for its process: other tests look at what the collector finds."""
    if gc.get_threshold() != THRESHOLD:
        gc.set_threshold(*THRESHOLD)
        gc.unfreeze()


@pytest.fixture(scope="session", params=[0, *(pytest.param(part, marks=pytest.mark.slow) for part in (1, 2, 3))])
def quarters(request: pytest.FixtureRequest) -> int:
    """For tests of random examples: a quarter of the examples is drawn by default, the others by the slow tests."""
    part: int = request.param
    return part


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    """Records the spans and metrics of the test."""
    return Recorder(monkeypatch)
