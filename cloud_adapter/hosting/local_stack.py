"""``gorchestrate dev --emulators``: the deployed setup on a local machine, without Docker.

Starts gcloud's Firestore emulator, the Cloud Tasks emulator of this project, and both entry points of a source as
functions-framework processes, and stops all of them. It manages processes and ports and does not depend on workflows.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cloud_adapter.errors import SettingsError
from cloud_adapter.sockets import free_ports, listen
from cloud_adapter.store_settings import NO_KEYS
from cloud_adapter.variables import FIRESTORE_EMULATOR_VARIABLE, SECRET_KEYS_VARIABLE, TASKS_EMULATOR_VARIABLE

PROJECT = "demo-gorchestrate"
LOCATION = "local"
QUEUE = "gorchestrate"
TASKS_ACCOUNT = f"tasks@{PROJECT}.iam.gserviceaccount.com"

READY_S_MAX = 60
STOP_S_MAX = 10
SILENT_S_MAX = 1
"""How long a process may take to end before the user is told."""

OUTPUT_SHOWN = 2_000
"""The number of bytes shown from the output of a process that did not start."""


@dataclass(frozen=True, slots=True)
class Stack:
    """The addresses of the running services.

    Attributes:
        environment: the environment variables that a process needs to use them.
        check: raises ``SettingsError`` if one of them has ended.
    """

    api_url: str
    worker_url: str
    environment: Mapping[str, str]
    check: Callable[[], None]


@contextlib.contextmanager
def running_stack(source: Path, *, port: int = 0, output: Path | None = None) -> Iterator[Stack]:
    """Runs the stack while the body runs, then stops every process that it started.

    Args:
        source: a file with the entry points ``api`` and ``worker``.
        port: the port of the api; 0 selects a free port.
        output: a folder for the output of the processes; by default it goes to standard error.

    Raises:
        SettingsError: a program is missing or does not start; the message names it.
    """
    if port:
        listen("127.0.0.1", port).close()  # a program that already listens there would be mistaken for the api
    firestore, tasks, issuer, worker, free = free_ports(5)
    api = port or free
    worker_url = f"http://127.0.0.1:{worker}"
    environment = {
        FIRESTORE_EMULATOR_VARIABLE: f"127.0.0.1:{firestore}",
        TASKS_EMULATOR_VARIABLE: f"127.0.0.1:{tasks}",
        "GORCHESTRATE_BACKEND": "cloud",
        "GORCHESTRATE_UI": "true",
        "GORCHESTRATE_PUBLIC": "true",
        "GORCHESTRATE_ACCESS": "open",
        "GORCHESTRATE_PROJECT": PROJECT,
        "GORCHESTRATE_LOCATION": LOCATION,
        "GORCHESTRATE_QUEUE": QUEUE,
        "GORCHESTRATE_WORKER_URL": worker_url,
        "GORCHESTRATE_TASKS_ACCOUNT": TASKS_ACCOUNT,
        "GORCHESTRATE_ISSUER": f"http://127.0.0.1:{issuer}",
        SECRET_KEYS_VARIABLE: os.environ.get(SECRET_KEYS_VARIABLE) or NO_KEYS,
    }
    commands = {
        "firestore": (firestore, _firestore(firestore)),
        "tasks": (tasks, _tasks(tasks, issuer)),
        "worker": (worker, _function(source, "worker", worker)),
        "api": (api, _function(source, "api", api)),
    }
    processes: dict[str, subprocess.Popen[bytes]] = {}

    def check() -> None:
        for name, process in processes.items():
            if process.poll() is not None:
                raise SettingsError(f"{name} ended with exit code {process.returncode}")

    with contextlib.ExitStack() as stack:
        for name, (listens, command) in commands.items():
            processes[name] = stack.enter_context(_process(name, command, listens, environment, output))
        yield Stack(f"http://127.0.0.1:{api}", worker_url, environment, check)


def _firestore(port: int) -> list[str]:
    gcloud = shutil.which("gcloud")
    if gcloud is None or shutil.which("java") is None:
        raise SettingsError(
            "the Firestore emulator requires gcloud with its component cloud-firestore-emulator, and Java 21 or later: "
            "see https://cloud.google.com/sdk/docs/install"
        )
    return [gcloud, "emulators", "firestore", "start", f"--host-port=127.0.0.1:{port}", "--quiet"]


def _tasks(port: int, issuer: int) -> list[str]:
    queue = f"projects/{PROJECT}/locations/{LOCATION}/queues/{QUEUE}"
    options = ["--port", str(port), "--issuer-port", str(issuer), "--queue", queue]
    return [sys.executable, "-m", "cloud_adapter.cli", "tasks-emulator", *options]


def _function(source: Path, target: str, port: int) -> list[str]:
    options = ["--source", str(source), "--target", target, "--host", "127.0.0.1", "--port", str(port)]
    return [sys.executable, "-m", "functions_framework", *options]


@contextlib.contextmanager
def _process(
    name: str, command: Sequence[str], port: int, environment: Mapping[str, str], output: Path | None
) -> Iterator[subprocess.Popen[bytes]]:
    path = None if output is None else output / f"{name}.log"
    with contextlib.ExitStack() as files:
        log = sys.stderr if path is None else files.enter_context(path.open("wb"))
        # In a new session: Ctrl-C reaches only this process, and the process can be stopped together with its children.
        process = subprocess.Popen(
            command,
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            try:
                _wait_until_ready(name, process, port)
            except SettingsError as error:
                raise SettingsError(f"{error}{_end_of(path)}") from None
            yield process
        finally:
            stop(process, name)


def _end_of(path: Path | None) -> str:
    if path is None:
        return ""
    return ". The end of its output:\n" + path.read_bytes()[-OUTPUT_SHOWN:].decode(errors="replace")


def _wait_until_ready(name: str, process: subprocess.Popen[bytes], port: int) -> None:
    until = time.monotonic() + READY_S_MAX
    while True:
        if process.poll() is not None:
            raise SettingsError(f"{name} ended with exit code {process.returncode} instead of listening on port {port}")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        if time.monotonic() > until:
            raise SettingsError(f"{name} does not listen on port {port} after {READY_S_MAX} s")
        time.sleep(0.05)


def stop(process: subprocess.Popen[bytes], name: str) -> None:
    """Stops the process and its children: with SIGTERM, and after a timeout with SIGKILL. Says so if it takes long."""
    try:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            try:
                process.wait(SILENT_S_MAX)
            except subprocess.TimeoutExpired:
                hint = "Press Ctrl-C again to end it at once."
                sys.stderr.write(f"Waiting {STOP_S_MAX} s at most for the {name} to end. {hint}\n")
                process.wait(STOP_S_MAX)
    finally:  # also if a second Ctrl-C or SIGTERM interrupts the waiting
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
