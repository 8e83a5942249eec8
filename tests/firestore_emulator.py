"""Google's Firestore emulator for tests: started once a run, ended at its end, a project of its own for each test."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NoReturn

import pytest

from cloud_adapter.sockets import free_ports
from cloud_adapter.variables import FIRESTORE_EMULATOR_VARIABLE

RULES = Path(__file__).parents[1] / "deploy" / "firestore.rules"
START_SECONDS_MAX = 90.0
STOP_SECONDS_MAX = 10.0

_GET_IT = (
    "install the Google Cloud CLI (https://cloud.google.com/sdk/docs/install), then `gcloud components install beta "
    f"cloud-firestore-emulator` (or apt-get install google-cloud-cli-firestore-emulator) and a Java runtime; or set "
    f"{FIRESTORE_EMULATOR_VARIABLE} to an emulator that runs"
)


@pytest.fixture(scope="session")
def firestore_emulator_programs() -> None:
    """Skips the test unless an emulator can be started here."""
    for program in ("gcloud", "java"):
        if shutil.which(program) is None:
            missing(f"the Firestore emulator needs {program}: {_GET_IT}")


@pytest.fixture(scope="session")
def firestore_emulator(request: pytest.FixtureRequest) -> Iterator[str]:
    """``host:port`` of an emulator: the one that ``FIRESTORE_EMULATOR_HOST`` names, or one of the run's own."""
    if host := os.environ.get(FIRESTORE_EMULATOR_VARIABLE):
        yield host
        return
    request.getfixturevalue("firestore_emulator_programs")
    with running() as host:
        yield host


@pytest.fixture
def firestore_project(firestore_emulator: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """An unused project in the emulator; clients that are created without arguments use it."""
    project = f"test-{uuid.uuid4().hex[:20]}"
    monkeypatch.setenv(FIRESTORE_EMULATOR_VARIABLE, firestore_emulator)
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", project)
    return project


def missing(reason: str) -> NoReturn:
    """Skips the test, but on a CI machine, where nothing may go untested, fails it."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


@contextmanager
def running() -> Iterator[str]:
    """Starts an emulator on a free port, and ends it with all of its processes."""
    (port,) = free_ports(1)
    host = f"127.0.0.1:{port}"
    command = ["gcloud", "emulators", "firestore", "start", f"--host-port={host}", f"--rules={RULES}", "--quiet"]
    with tempfile.TemporaryFile() as log:
        # gcloud starts a shell and that starts Java: a session of their own makes them one group that can be ended.
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            if not _answers(process, host):
                log.seek(0)
                missing(
                    f"the Firestore emulator did not start: {log.read().decode(errors='replace')[-2000:]}\n{_GET_IT}"
                )
            yield host
        finally:
            _end_group(process)


def _answers(process: subprocess.Popen[bytes], host: str) -> bool:
    until = time.monotonic() + START_SECONDS_MAX
    while process.poll() is None and time.monotonic() < until:
        with suppress(OSError), urllib.request.urlopen(f"http://{host}/", timeout=1):
            return True
        time.sleep(0.1)  # another process starts: there is nothing to await
    return False


def _end_group(process: subprocess.Popen[bytes]) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        # The group bears the leader's id for as long as one of its processes lives.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(STOP_SECONDS_MAX)
