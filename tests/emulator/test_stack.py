"""The deployed shape as ``dev --emulators`` runs it: Firestore's emulator, the emulator of Cloud Tasks, and both
functions, each a process of its own. Whatever is started here is found again by a mark in its environment."""

from __future__ import annotations

import asyncio
import io
import json
import os
import re
import signal
import socket
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from google.cloud import tasks_v2
from rich.console import Console

from cloud_adapter.cli import demo
from cloud_adapter.errors import SettingsError
from cloud_adapter.hosting.local_stack import LOCATION, PROJECT, QUEUE, TASKS_ACCOUNT, Stack, running_stack
from cloud_adapter.sockets import listen
from cloud_adapter.token_issuer import TokenIssuer
from tests.cli.processes import GORCHESTRATE, ROOT, run, started
from tests.emulator.harness import a_client
from tests.emulator.harness import until as auntil
from tests.firestore_emulator import missing
from tests.http.helpers import problem, until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

SOURCE = ROOT / "functions" / "main.py"
QUEUE_PATH = f"projects/{PROJECT}/locations/{LOCATION}/queues/{QUEUE}"
MARK = "STACK_OF_A_TEST"
INTERNAL = ["/resume", "/callback/timeout", "/recover"]
GONE_SECONDS_MAX = 5
"""How long the kernel may take to end what was killed."""


@pytest.fixture(scope="module", autouse=True)
def programs(firestore_emulator_programs: None) -> None:
    if not Path("/proc/self/environ").exists():
        missing("the processes of a stack are found through /proc: run this on Linux")


@contextmanager
def marked() -> Iterator[Callable[[], list[int]]]:
    """Marks what is started in the body; gives what finds those that live. In the end none may be left."""
    mark = uuid.uuid4().hex
    wanted = f"{MARK}={mark}".encode()

    def living() -> list[int]:
        found = []
        for folder in Path("/proc").iterdir():
            # This process bears no mark there: what it sets is not seen in its own file.
            with suppress(OSError):
                if folder.name.isdigit() and wanted in (folder / "environ").read_bytes().split(b"\0"):
                    found.append(int(folder.name))
        return found

    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv(MARK, mark)
            yield living
        until(lambda: not living(), GONE_SECONDS_MAX)
    finally:
        for pid in living():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def ports(environment: Mapping[str, str], *urls: str) -> list[int]:
    hosts = [f"//{environment[name]}" for name in ("FIRESTORE_EMULATOR_HOST", "CLOUD_TASKS_EMULATOR_HOST")]
    found = [urlsplit(url).port for url in (*hosts, environment["GORCHESTRATE_ISSUER"], *urls)]
    return [port for port in found if port is not None]


def name_of(pid: int) -> str:
    with suppress(OSError):
        return Path(f"/proc/{pid}/comm").read_text().strip()
    return ""


def listens(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=5):
        return True
    return False


class Played:
    """A stack that has played the sample's order."""

    def __init__(self, stack: Stack, folder: Path, living: Callable[[], list[int]]) -> None:
        self.stack = stack
        self.folder = folder
        self.living = living
        self.api = httpx.Client(base_url=stack.api_url, timeout=60)
        self.worker = httpx.Client(base_url=stack.worker_url, timeout=60)
        self.shown = io.StringIO()
        self.good = demo.play(stack.api_url, Console(file=self.shown, width=200))

    def lines(self, name: str) -> list[dict[str, Any]]:
        """The JSON lines that a process has logged."""
        text = (self.folder / f"{name}.log").read_text()
        return [json.loads(line) for line in text.splitlines() if line.startswith("{")]

    def token(self, **changed: Any) -> str:
        """A token as the queue sends it, but for the key: that is another one."""
        now = int(time.time())
        claims: dict[str, object] = {"iss": self.stack.environment["GORCHESTRATE_ISSUER"], "aud": self.stack.worker_url}
        claims |= {"email": TASKS_ACCOUNT, "email_verified": True, "iat": now, "exp": now + 600}
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        return jwt.encode(claims, key, "RS256", changed)


@pytest.fixture(scope="module")
def played(programs: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Played]:
    folder = tmp_path_factory.mktemp("stack")
    with marked() as living, running_stack(SOURCE, output=folder) as stack:
        played = Played(stack, folder, living)
        with played.api, played.worker:
            yield played


def test_the_order_is_completed(played: Played) -> None:
    assert played.good, played.shown.getvalue()
    instance = played.api.get(demo.ORDER).json()
    assert instance["meta"]["status"] == "finished"
    assert instance["state"]["status"] == "completed"
    assert (instance["state"]["paid_amount"], instance["state"]["courier"]) == (31.5, "Grace")


def test_it_is_four_processes(played: Played) -> None:
    assert len({os.getsid(pid) for pid in played.living()}) == 4
    assert all(map(listens, ports(played.stack.environment, played.stack.api_url, played.stack.worker_url)))


def test_the_kitchens_step_ran_on_the_worker_through_the_queue(played: Played) -> None:
    assert played.api.get(demo.ORDER).json()["state"]["ticket"].startswith("T-")
    step = "print the kitchen ticket"

    def ran_on(name: str) -> bool:
        return any(line.get("id") == "order-1" and line.get("statement") == step for line in played.lines(name))

    assert ran_on("worker")
    assert not ran_on("api")
    messages = [line["message"] for line in played.lines("tasks")]
    assert any(message.endswith("HTTP status code 200") for message in messages), messages
    assert not [line for name in ("api", "worker") for line in played.lines(name) if line["severity"] == "ERROR"]


@pytest.mark.parametrize("path", INTERNAL)
def test_the_api_does_not_serve_what_is_the_workers(played: Played, path: str) -> None:
    assert problem(played.api.post(path, json={}))["status"] == 404
    assert problem(played.worker.get(demo.ORDER))["status"] == 404


@pytest.mark.parametrize("path", INTERNAL)
def test_the_worker_refuses_whoever_is_not_the_queue(played: Played, path: str) -> None:
    issuer, url = played.stack.environment["GORCHESTRATE_ISSUER"], played.stack.worker_url
    (key,) = httpx.get(f"{issuer}/jwks").json()["keys"]
    authorizations = {
        "without": None,
        "garbage": "Bearer garbage",
        "garbage of three parts": "Bearer a.b.c",
        "another scheme": "Basic dXNlcjpwYXNz",
        "another key": f"Bearer {TokenIssuer(issuer).token(TASKS_ACCOUNT, url, datetime.now(UTC))}",
        "another key of the same id": f"Bearer {played.token(kid=key['kid'])}",
    }
    before = played.api.get(demo.ORDER).json()
    body = {"workflow": "pizza", "id": "order-1", "pc": 1, "created_at": datetime.now(UTC).isoformat()}
    for what, authorization in authorizations.items():
        headers = {"X-CloudTasks-QueueName": QUEUE} | ({"Authorization": authorization} if authorization else {})
        response = played.worker.post(path, json=body, headers=headers)
        assert response.status_code == 401, what
        has_token = authorization is not None and authorization.startswith("Bearer")
        assert problem(response)["title"] == ("Invalid credential" if has_token else "Unauthenticated"), what
        assert response.headers["www-authenticate"].startswith("Bearer"), what
    assert played.api.get(demo.ORDER).json() == before


@pytest.mark.parametrize(
    ("email", "audience", "status"),
    [
        (TASKS_ACCOUNT, None, 200),
        ("other@x.iam.gserviceaccount.com", None, 403),
        (TASKS_ACCOUNT, "https://other.example", 401),
    ],
)
def test_the_queues_own_token_says_whose_it_is(played: Played, email: str, audience: str | None, status: int) -> None:
    """A task that the test puts into the queue: the token is signed by the right key."""
    name = f"{QUEUE_PATH}/tasks/test-{uuid.uuid4().hex}"
    token = {"service_account_email": email, "audience": audience or played.stack.worker_url}
    request = {"url": f"{played.stack.worker_url}/recover", "oidc_token": token}

    def outcomes() -> list[str]:
        task = name.rpartition("/")[2]
        return [line["message"] for line in played.lines("tasks") if task in line["message"]]

    async def main() -> None:
        async with a_client(played.stack.environment["CLOUD_TASKS_EMULATOR_HOST"]) as client:
            task = tasks_v2.Task(name=name, http_request=request)
            await client.create_task(parent=QUEUE_PATH, task=task)
            await auntil(lambda: bool(outcomes()), poll_seconds=0.02)
            if status != 200:
                await client.delete_task(name=name)

    asyncio.run(main())
    assert outcomes()[0].endswith(f"HTTP status code {status}")


def test_what_does_not_come_up_is_named_and_nothing_is_left(tmp_path: Path) -> None:
    broken = tmp_path / "main.py"
    broken.write_text("raise RuntimeError('broken on purpose')\n")
    with (
        marked(),
        pytest.raises(SettingsError, match=r"(?s)worker ended with exit code \d+.*broken on purpose"),
        running_stack(broken, output=tmp_path),
    ):
        raise AssertionError("it must not come up")


def test_who_listens_already_is_not_taken_for_the_api() -> None:
    with closing(listen("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for command in ("dev", "demo"):
            ended = run(command, "--emulators", "--port", str(port))
            assert ended.returncode == 2
            assert f"cannot listen on 127.0.0.1:{port}" in ended.stderr


def test_a_missing_source_is_an_error_before_anything_starts(tmp_path: Path) -> None:
    for command in ("dev", "demo"):
        ended = run(command, str(tmp_path / "none.py"), "--emulators")
        assert (ended.returncode, ended.stdout) == (2, "")
        assert "not found: pass the Python file" in ended.stderr and ended.stderr.count("\n") == 1


def test_the_demo_ends_well_and_leaves_nothing() -> None:
    with marked():
        ended = run("demo", "--emulators")
        assert ended.returncode == 0, ended.stdout + ended.stderr
        assert "The order is completed, the workflow finished" in ended.stdout


def test_dev_tells_its_urls_and_ends_with_all_of_its_processes(tmp_path: Path) -> None:
    command = [*GORCHESTRATE, "dev", "--emulators", "--port", "0"]
    with marked() as living, started(command, tmp_path) as process:
        until(lambda: "GORCHESTRATE_ISSUER=" in process.output() or process.process.poll() is not None, 90)
        found = re.fullmatch(r"Serving .* on (\S+), the worker on (\S+)\. For .*", process.wait_for("Serving "))
        assert found is not None, process.output()
        api_url, worker_url = found.groups()
        # The last one may still be on its way.
        until(lambda: process.output().endswith("'\n"))
        exports = [one.split("export ")[1] for one in process.output().splitlines() if "export " in one]
        environment = {name: value.strip("'") for name, _, value in (one.partition("=") for one in exports)}
        assert environment["GORCHESTRATE_WORKER_URL"] == worker_url
        assert httpx.post(f"{api_url}/wf/pizza/a", timeout=60).status_code == 201
        assert httpx.post(f"{worker_url}/recover", timeout=60).status_code == 401
        used = ports(environment, api_url, worker_url)
        assert len(used) == 5 and all(map(listens, used))
        assert len(living()) >= 5
        assert process.end(signal.SIGTERM) == 0, process.errors()
        assert "Traceback" not in process.errors()


@pytest.mark.parametrize("command", ["dev", "demo"])
def test_ended_while_it_starts_it_leaves_nothing(tmp_path: Path, command: str) -> None:
    with marked() as living, started([*GORCHESTRATE, command, "--emulators", "--port", "0"], tmp_path) as process:

        def starts() -> bool:
            assert process.process.poll() is None, process.errors()
            return any(name_of(pid) == "java" for pid in living())

        until(starts, 60)
        assert process.end(signal.SIGTERM) == 128 + signal.SIGTERM


def test_it_ends_with_any_of_its_processes(tmp_path: Path) -> None:
    with marked() as living, started([*GORCHESTRATE, "dev", "--emulators", "--port", "0"], tmp_path) as process:
        until(lambda: "GORCHESTRATE_ISSUER=" in process.output() or process.process.poll() is not None, 90)
        (tasks,) = (pid for pid in living() if b"tasks-emulator" in Path(f"/proc/{pid}/cmdline").read_bytes())
        os.kill(tasks, signal.SIGKILL)
        assert process.process.wait(30) == 2
        assert "gorchestrate: tasks ended with exit code -9" in process.errors()
