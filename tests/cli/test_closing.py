"""Commands close what they have opened when what follows raises."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from cloud_adapter.cli.connection import Connection
from cloud_adapter.errors import InvalidRequest
from cloud_adapter.hosting import local_stack
from tests.open_files import nothing_stays_open

pytestmark = pytest.mark.slow

SOURCE = Path(__file__).parents[2] / "functions" / "main.py"


class Broken(Exception):
    """What a test lets fail."""


def broken(*_: Any, **__: Any) -> Any:
    raise Broken


async def broken_call(*_: Any, **__: Any) -> Any:
    raise Broken


def connected(folder: Path) -> Connection:
    return Connection("http://127.0.0.1:9", source=SOURCE, db=str(folder / "a.db"), new=True)


@pytest.mark.parametrize("name", ["create_api", "runtime_for", "httpx.AsyncClient"])
def test_a_connection_that_cannot_be_made(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"cloud_adapter.cli.connection.{name}", broken)
    with nothing_stays_open(), pytest.raises(Broken) as error:
        connected(tmp_path)
    assert error


def test_a_client_that_cannot_be_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(httpx.AsyncClient, "aclose", broken_call)
    with nothing_stays_open(), pytest.raises(Broken) as error, connected(tmp_path) as api:
        assert api.get("/")["workflows"]
    assert error


def test_a_command_that_raises(tmp_path: Path) -> None:
    with nothing_stays_open(), pytest.raises(InvalidRequest) as error, connected(tmp_path) as api:
        api.get("/wf/pizza/nobody")
    assert error


def test_an_interrupt_while_a_process_is_stopped_ends_it_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); time.sleep(600)"
    with subprocess.Popen([sys.executable, "-c", deaf], stdout=subprocess.PIPE, start_new_session=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        wait = process.wait

        def interrupted(timeout: float | None = None) -> int:
            if timeout is not None:
                raise KeyboardInterrupt
            return wait()

        monkeypatch.setattr(process, "wait", interrupted)
        with pytest.raises(KeyboardInterrupt):
            local_stack.stop(process, "worker")
        monkeypatch.undo()
        try:
            assert process.poll() == -9
        finally:
            process.kill()
