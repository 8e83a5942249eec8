"""What every test may ask for, and which files are collected."""

import gc
import re
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

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

MAY_BE_SLOW = re.compile(r"mark\.slow|quarters")
"""What the text of each file with slow tests has."""
SLOW_ELSEWHERE = pytest.StashKey[list[str]]()
"""Slow tests in files without it: `pytest -m slow` does not find them."""

LONG = (
    "/deploy/test_deploy.py",
    "/emulator/test_stack.py",
    "/histories/test_histories.py",
    "/kill/test_crashes.py",
    "/simulation/test_bugs.py",
    "/simulation/test_plain.py",
    "/simulation/test_simulation.py",
    "/tests/test_benchmarks.py",
    "/tests/test_types.py",
)
"""The files that take longest. They come first, or one process would go on with the last one alone."""

# How long an example takes says more about the load of the machine than about the code.
settings.register_profile("tests", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("tests")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """`pytest -m slow` imports no file without slow tests: that would take longer than many of them."""
    if config.option.markexpr != "slow" or collection_path.suffix != ".py":
        return None
    return None if MAY_BE_SLOW.search(collection_path.read_text()) else True


@pytest.hookimpl(tryfirst=True)  # before the slow tests are left out
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Orders the files, and checks where slow tests are. A process takes one file after the other."""
    counts = Counter(item.path for item in items)
    items.sort(key=lambda item: (not item.path.as_posix().endswith(LONG), -counts[item.path], item.path))
    slow = [item for item in items if item.get_closest_marker("slow")]
    found = {path for path in {item.path for item in slow} if MAY_BE_SLOW.search(path.read_text())}
    config.stash[SLOW_ELSEWHERE] = [item.nodeid for item in slow if item.path not in found]


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
