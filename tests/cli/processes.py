"""Starts and ends processes, and waits for what they do. Holds no test."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx

from tests.http.helpers import until

ROOT = Path(__file__).parents[2]
GORCHESTRATE = [sys.executable, "-m", "cloud_adapter.cli"]


def environment(**variables: str) -> dict[str, str]:
    """The environment without settings of gorchestrate, but for those that are given."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GORCHESTRATE_")}
    return kept | {"COLUMNS": "200", "PYTHONUNBUFFERED": "1"} | variables


def run(*arguments: str, cwd: Path = ROOT, **variables: str) -> subprocess.CompletedProcess[str]:
    """Runs ``gorchestrate`` to its end."""
    return subprocess.run(
        [*GORCHESTRATE, *arguments],
        cwd=cwd,
        env=environment(**variables),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )


def bash(text: str, cwd: Path = ROOT, **variables: str) -> str:
    """Runs commands, which must succeed; gives what they print."""
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", text],
        cwd=cwd,
        env=environment(**variables),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@contextmanager
def _interruptible() -> Iterator[None]:
    """Ctrl-C ends what the body starts, as in a terminal, also where a shell runs the tests in the background.

    Such a shell lets the tests ignore the signal, and programs inherit that. They do not inherit a handler. A
    ``preexec_fn`` could reset the signal too, but makes ``subprocess`` fork: then gRPC, once it has connections in this
    process, starts its threads in the child, and these abort it (https://github.com/grpc/grpc/issues/43055).
    """
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


class Process:
    """A process of its own session, whose output goes to files."""

    def __init__(self, command: Sequence[str], folder: Path, cwd: Path, variables: dict[str, str]) -> None:
        number = len(list(folder.glob("*.out")))
        self.out, self.err = folder / f"{number}.out", folder / f"{number}.err"
        with self.out.open("wb") as out, self.err.open("wb") as err, _interruptible():
            self.process = subprocess.Popen(
                command,
                cwd=cwd,
                env=environment(**variables),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
            )

    def output(self) -> str:
        return self.out.read_text()

    def errors(self) -> str:
        return self.err.read_text()

    def wait_for(self, text: str) -> str:
        """Waits until the process has printed that; gives the line."""

        def line() -> str | None:
            assert self.process.poll() is None, f"it has ended: {self.output()}{self.errors()}"
            return next((line for line in self.output().splitlines() if text in line), None)

        return until(line) or ""

    def end(self, number: int = signal.SIGTERM) -> int:
        """Sends a signal; gives the exit code."""
        self.process.send_signal(number)
        return self.process.wait(20)

    def kill(self) -> None:
        """As the kernel does, without a word, with all that it has started."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(20)


@contextmanager
def started(command: Sequence[str], folder: Path, *, cwd: Path = ROOT, **variables: str) -> Iterator[Process]:
    """A process while the body runs."""
    process = Process(command, folder, cwd, variables)
    try:
        yield process
    finally:
        process.kill()


@contextmanager
def dev(source: Path | str, db: Path | str, *, cwd: Path = ROOT, **variables: str) -> Iterator[Server]:
    """``gorchestrate dev`` on a free port, and on a file or the URL of a database."""
    folder = db.parent if isinstance(db, Path) else Path(source).parent
    command = [*GORCHESTRATE, "dev", str(source), "--port", "0", "--db", str(db)]
    with started(command, folder, cwd=cwd, **variables) as process:
        url = process.wait_for("Serving ").split(" on ")[1].split(",")[0]
        with httpx.Client(base_url=url, timeout=60) as client:
            yield Server(process, client)


class Server:
    """A process that serves, and its client."""

    def __init__(self, process: Process, client: httpx.Client) -> None:
        self.process = process
        self.client = client

    def get(self, path: str) -> Any:
        response = self.client.get(path)
        assert response.is_success, response.text
        return response.json()

    def post(self, path: str, input: Any = None, **options: Any) -> Any:
        response = self.client.post(path, **({} if input is None else {"json": input}), **options)
        assert response.is_success, response.text
        return response.json()

    def at(self, path: str, step: str) -> Any:
        """Waits until a thread of the instance waits at that statement; gives the instance."""

        def look() -> Any:
            instance = self.get(path)
            threads = instance["meta"]["threads"]
            return any(one["step"] == step and one["status"] == "waiting" for one in threads) and instance

        return until(look)

    def finished(self, path: str) -> Any:
        """Waits until the instance is finished; gives its fields."""
        return until(lambda: (one := self.get(path))["meta"]["status"] == "finished" and one)["state"]
