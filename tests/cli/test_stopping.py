"""How ``gorchestrate dev`` ends: what it waits for, what it says, and what a second signal does."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from cloud_adapter.hosting import local_stack
from tests.cli.processes import Server, dev
from tests.http.helpers import until

pytestmark = pytest.mark.slow

NAPS = """
import time
from workflow_core import Activity, On, S, Select, Step, Workflow

def nap() -> None:
    print("asleep", flush=True)
    time.sleep(600)

class Nap(Workflow, name="nap"):
    definition = S({statement})
"""


@pytest.mark.parametrize(("number", "codes"), [(signal.SIGTERM, (0, -15, 143)), (signal.SIGINT, (0, -2, 130))])
def test_ends_on_a_signal_without_a_word(tmp_path: Path, number: int, codes: tuple[int, ...]) -> None:
    source = tmp_path / "naps.py"
    source.write_text(NAPS.format(statement="Select('bed', On('Nap', lambda w: nap()))"))
    with dev(source, tmp_path / "naps.db") as server:
        server.post("/wf/nap/1")
        assert server.process.end(number) in codes
        assert "Traceback" not in server.process.errors()
        assert "Stopping" not in server.process.errors()


PATIENT = """
from cloud_adapter.hosting.embedded import InProcessRuntime

InProcessRuntime.GRACE_SECONDS = 600
"""
"""Waits for much longer than a test."""

NAP_CODE = {"step": "Step('take a nap', lambda w: nap())", "activity": "Activity('take a nap', nap)"}


@contextmanager
def napping(folder: Path, kind: str, settings: str = "") -> Iterator[Server]:
    """A server that runs synchronous code for a long time."""
    source = folder / "naps.py"
    source.write_text(NAPS.format(statement=NAP_CODE[kind]) + settings)
    with dev(source, folder / "naps.db") as server:
        server.post("/wf/nap/1")
        server.process.wait_for("asleep")
        yield server


WAITING = re.compile(
    r"^Stopping\. Waiting (?:10|600) s at most for (step|activity) 'take a nap' of nap/1 \(running for \d+ s\)\. "
    r"Press Ctrl-C again to end at once\. What has not ended runs again after the next start\.$",
    re.MULTILINE,
)


@pytest.mark.parametrize("kind", NAP_CODE)
def test_ends_while_synchronous_code_sleeps_and_says_what_it_waits_for(tmp_path: Path, kind: str) -> None:
    with napping(tmp_path, kind) as server:
        assert server.process.end(signal.SIGINT) in (0, -2, 130)  # within 20 s
        assert len(WAITING.findall(server.process.errors())) == 1
        assert "Traceback" not in server.process.errors()


@pytest.mark.parametrize("kind", NAP_CODE)
def test_a_second_interrupt_ends_at_once(tmp_path: Path, kind: str) -> None:
    with napping(tmp_path, kind, PATIENT) as server:
        server.process.process.send_signal(signal.SIGINT)
        until(lambda: WAITING.search(server.process.errors()))
        assert server.process.end(signal.SIGINT) == 130
        assert "Traceback" not in server.process.errors()


def test_a_second_interrupt_ends_at_once_even_if_the_event_loop_is_blocked(tmp_path: Path) -> None:
    source = tmp_path / "naps.py"
    source.write_text(NAPS.format(statement="Select('bed', On('Nap', lambda w: nap()))") + PATIENT)
    with dev(source, tmp_path / "naps.db") as server:
        server.post("/wf/nap/1")
        with pytest.raises(httpx.ReadTimeout):
            server.client.post("/wf/nap/1/Nap", timeout=1)
        server.process.wait_for("asleep")
        process = server.process.process

        def is_ended() -> bool:
            process.send_signal(signal.SIGINT)  # again and again: two signals at the same moment count as one
            return process.poll() is not None

        until(is_ended)
        assert process.poll() == 130


DEAF = """
import asyncio
from cloud_adapter.hosting import dev_server
from cloud_adapter.hosting.embedded import InProcessRuntime
from workflow_core import Activity, On, S, Select, Step, Workflow

InProcessRuntime.GRACE_SECONDS = dev_server.REQUESTS_SECONDS = 1
dev_server.CANCELED_SECONDS = {canceled_seconds}

async def nap(_: None) -> None:
    print("asleep", flush=True)
    while True:
        try:
            await asyncio.sleep(600)
        except asyncio.CancelledError:
            print("cancelled", flush=True)

class Handler:
    def setup(self, request) -> None: ...
    def teardown(self, request, handled: bool) -> None: ...
    async def handle(self, request, input: None) -> None:
        await nap(input)

class Nap(Workflow, name="nap"):
    definition = S({statement})
"""

DEAF_CODE = {
    "step": "Step('take a nap', nap)",
    "activity": "Activity('take a nap', nap, input=lambda w: None)",
    "handler": "Select('bed', On('Nap', Handler()))",
}


@contextmanager
def deaf(folder: Path, kind: str, canceled_seconds: float) -> Iterator[Server]:
    """A server that runs asynchronous code which swallows its cancellation."""
    source = folder / "naps.py"
    code = DEAF.replace("{statement}", DEAF_CODE[kind]).replace("{canceled_seconds}", str(canceled_seconds))
    source.write_text(code)
    with dev(source, folder / "naps.db") as server:
        server.post("/wf/nap/1")
        if kind == "handler":
            until(lambda: server.get("/wf/nap/1")["events"])
            with pytest.raises(httpx.ReadTimeout):
                server.client.post("/wf/nap/1/Nap", timeout=1)
        server.process.wait_for("asleep")
        yield server


@pytest.mark.parametrize("kind", DEAF_CODE)
def test_ends_although_code_swallows_its_cancellation(tmp_path: Path, kind: str) -> None:
    with deaf(tmp_path, kind, canceled_seconds=1) as server:
        assert server.process.end(signal.SIGINT) == 130  # within 20 s
        assert re.search(r"Ending without .*: it was cancelled, and continued\.", server.process.errors())
        assert "cancelled" in server.process.output()


@pytest.mark.parametrize("kind", DEAF_CODE)
def test_a_second_interrupt_ends_at_once_after_code_has_swallowed_its_cancellation(tmp_path: Path, kind: str) -> None:
    with deaf(tmp_path, kind, canceled_seconds=600) as server:
        server.process.process.send_signal(signal.SIGINT)
        server.process.wait_for("cancelled")
        time.sleep(0.2)  # the server may have stopped listening to signals
        assert server.process.end(signal.SIGINT) in (130, -2)
        assert "Ending without" not in server.process.errors()


def test_what_was_interrupted_runs_again_after_the_next_start(tmp_path: Path) -> None:
    source = tmp_path / "naps.py"
    source.write_text(NAPS.format(statement="Step('take a nap', lambda w: nap())"))
    with dev(source, tmp_path / "naps.db", GORCHESTRATE_LEASE_SECONDS="1") as server:
        server.post("/wf/nap/1")
        server.process.wait_for("asleep")
        server.process.process.send_signal(signal.SIGINT)
        until(lambda: "Stopping" in server.process.errors())
        server.process.end(signal.SIGINT)
    with dev(source, tmp_path / "naps.db") as server:
        server.process.wait_for("asleep")


def test_a_process_of_the_emulators_that_does_not_end_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); time.sleep(600)"
    monkeypatch.setattr(local_stack, "SILENT_S_MAX", 0.1)
    monkeypatch.setattr(local_stack, "STOP_S_MAX", 1)
    with subprocess.Popen([sys.executable, "-c", deaf], stdout=subprocess.PIPE, start_new_session=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        local_stack.stop(process, "worker")
        assert process.poll() == -9
    expected = "Waiting 1 s at most for the worker to end. Press Ctrl-C again to end it at once.\n"
    assert capsys.readouterr().err == expected
