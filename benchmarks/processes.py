"""Starts the processes that a benchmark needs, and always ends them by their process ids."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from code_under_test import environment, find

free_ports = find("free_ports")

PROJECT = "demo-benchmark"
LOCATION = "local"
QUEUE = "benchmark"
ACCOUNT = f"tasks@{PROJECT}.iam.gserviceaccount.com"

STORE_VARIABLE, QUEUE_VARIABLE = "BENCHMARK_STORE_PID", "BENCHMARK_QUEUE_PID"
"""The variables with the process ids of the emulators."""

READY_SECONDS_MAX = 90.0
STOP_SECONDS_MAX = 10.0
OUTPUT_SHOWN = 4_000


def exit_on_sigterm() -> None:
    """Makes SIGTERM a normal exit, so that all started processes end."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))


@contextlib.contextmanager
def running(command: Sequence[str], port: int, variables: Mapping[str, str] | None = None) -> Iterator[int]:
    """Runs a command, waits until it listens on a port of 127.0.0.1, and ends it after the body. Yields its process id.

    Raises:
        RuntimeError: it ended or did not listen in time; the message contains the end of its output.
    """
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            command,
            env={**environment(), **(variables or {})},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            if not _listens(process, port):
                log.seek(0)
                output = log.read().decode(errors="replace")[-OUTPUT_SHOWN:]
                raise RuntimeError(f"{' '.join(command)} did not start:\n{output}")
            yield process.pid
        finally:
            _end_group(process)


@contextlib.contextmanager
def firestore_emulator() -> Iterator[dict[str, str]]:
    """Runs Google's Firestore emulator. Yields the environment variables that select it."""
    (port,) = free_ports(1)
    host = f"127.0.0.1:{port}"
    with running(["gcloud", "emulators", "firestore", "start", f"--host-port={host}", "--quiet"], port) as pid:
        yield {"FIRESTORE_EMULATOR_HOST": host, STORE_VARIABLE: str(pid)}


@contextlib.contextmanager
def tasks_emulator() -> Iterator[dict[str, str]]:
    """Runs an emulator of Cloud Tasks with an empty queue. Yields the environment variables that select it."""
    port, issuer = free_ports(2)
    queue = f"projects/{PROJECT}/locations/{LOCATION}/queues/{QUEUE}"
    options = ["--port", str(port), "--issuer-port", str(issuer), "--queue", queue]
    with running([sys.executable, "-m", "cloud_adapter.cli", "tasks-emulator", *options], port) as pid:
        yield {
            QUEUE_VARIABLE: str(pid),
            "CLOUD_TASKS_EMULATOR_HOST": f"127.0.0.1:{port}",
            "GORCHESTRATE_BACKEND": "cloud",
            "GORCHESTRATE_ACCESS": "open",
            "GORCHESTRATE_LOCATION": LOCATION,
            "GORCHESTRATE_QUEUE": QUEUE,
            "GORCHESTRATE_TASKS_ACCOUNT": ACCOUNT,
            "GORCHESTRATE_ISSUER": f"http://127.0.0.1:{issuer}",
            "GORCHESTRATE_PROJECT": PROJECT,
        }


def cpu_seconds(variable: str) -> float:
    """Returns the CPU time of an emulator so far, from ``/proc``; 0.0 if there is none."""
    session, ticks = os.environ.get(variable), 0
    if session is None:
        return 0.0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has ended
            fields = stat.read_text().rpartition(") ")[2].split()
            ticks += sum(map(int, fields[11:13])) if fields[3] == session else 0
    return ticks / os.sysconf("SC_CLK_TCK")


def _listens(process: subprocess.Popen[bytes], port: int) -> bool:
    until = time.monotonic() + READY_SECONDS_MAX
    while process.poll() is None and time.monotonic() < until:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
        time.sleep(0.05)
    return False


def _end_group(process: subprocess.Popen[bytes]) -> None:
    """Ends the process and its children: they share a session, whose id is the process id."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(STOP_SECONDS_MAX)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
