"""A deployment that cannot be right does not start, and says which variable is to blame."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from typing import Any

import pytest
from pizza import PizzaOrder
from starlette.requests import Request

from cloud_adapter.errors import SettingsError
from cloud_adapter.hosting.cloud import CloudRuntime
from cloud_adapter.hosting.service import Service
from cloud_adapter.http.auth import OidcVerifier
from cloud_adapter.http.authenticators.api_key import ApiKey, StoredKey, key_hash, new_key
from cloud_adapter.http.authenticators.dev import Dev
from cloud_adapter.ports import Task
from cloud_adapter.queues import cloud_tasks_client
from cloud_adapter.queues.cloud_task import CloudTask
from cloud_adapter.settings import GOOGLE_ISSUER, Settings
from cloud_adapter.sockets import free_ports
from tests.cli.processes import ROOT, environment
from workflow_core import Workflow

CLOUD = {
    "GORCHESTRATE_BACKEND": "cloud",
    "GORCHESTRATE_PROJECT": "p",
    "GORCHESTRATE_LOCATION": "europe-west1",
    "GORCHESTRATE_WORKER_URL": "https://worker.run.app",
    "GORCHESTRATE_TASKS_ACCOUNT": "tasks@p.iam.gserviceaccount.com",
}
EMULATOR = {"CLOUD_TASKS_EMULATOR_HOST": "127.0.0.1:8123"}
ISSUER = {"GORCHESTRATE_ISSUER": "http://127.0.0.1:8124"}
ON_CLOUD_RUN = {"K_SERVICE": "api"}
KEYS = ApiKey(StoredKey("till", key_hash(new_key())))


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("GORCHESTRATE_") or name in {**EMULATOR, **ON_CLOUD_RUN, "FIRESTORE_EMULATOR_HOST": ""}:
            monkeypatch.delenv(name)


def set_all(monkeypatch: pytest.MonkeyPatch, *groups: dict[str, str]) -> None:
    for group in groups:
        for name, value in group.items():
            monkeypatch.setenv(name, value)


@pytest.mark.parametrize("empty", [False, True])
@pytest.mark.parametrize("missing", [name for name in CLOUD if name != "GORCHESTRATE_BACKEND"])
def test_the_cloud_backend_needs_its_settings(monkeypatch: pytest.MonkeyPatch, missing: str, empty: bool) -> None:
    set_all(monkeypatch, CLOUD)
    if empty:
        monkeypatch.setenv(missing, "")
    else:
        monkeypatch.delenv(missing)
    with pytest.raises(SettingsError, match=f"{missing} is missing: the cloud backend requires it"):
        Service(PizzaOrder)


def test_a_file_on_cloud_run_would_be_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    set_all(monkeypatch, ON_CLOUD_RUN)
    with pytest.raises(SettingsError, match=r"GORCHESTRATE_BACKEND is embedded.*set it to cloud"):
        Service(PizzaOrder)


@pytest.mark.parametrize("more", [{}, ON_CLOUD_RUN, ON_CLOUD_RUN | EMULATOR], ids=["here", "cloud", "both"])
def test_nobody_but_google_signs_outside_an_emulator(monkeypatch: pytest.MonkeyPatch, more: dict[str, str]) -> None:
    set_all(monkeypatch, CLOUD, ISSUER, more)
    with pytest.raises(
        SettingsError, match=r"GORCHESTRATE_ISSUER is http://127\.0\.0\.1:8124: allowed only with CLOUD_TASKS_EMULA"
    ):
        Service(PizzaOrder)


@pytest.mark.parametrize(
    ("name", "value"),
    [("GORCHESTRATE_BACKEND", "aws"), ("GORCHESTRATE_LEASE_SECONDS", "0"), ("GORCHESTRATE_TASK_ACCOUNT", "x")],
)
def test_a_wrong_or_unknown_setting_is_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    set_all(monkeypatch, CLOUD, {name: value})
    with pytest.raises(SettingsError, match=name):
        Service(PizzaOrder)


@pytest.mark.parametrize(
    ("setting", "value", "reason"),
    [
        ("GORCHESTRATE_TASKS_ACCOUNT", " ", "is missing"),
        ("GORCHESTRATE_TASKS_ACCOUNT", "tasks", "must be the e-mail of an account"),
        ("GORCHESTRATE_TASKS_ACCOUNT", "@", "must be the e-mail of an account"),
        ("GORCHESTRATE_QUEUE", "", "is missing"),
        ("GORCHESTRATE_DATABASE", "\t", "is missing"),
        ("GORCHESTRATE_WORKER_URL", "http://worker.run.app", "on Cloud Run it must begin with https://"),
        ("GORCHESTRATE_WORKER_URL", "worker.run.app", "is not a URL"),
        ("GORCHESTRATE_WORKER_URL", "https://", "is not a URL"),
        ("FIRESTORE_EMULATOR_HOST", "127.0.0.1:8200", "emulators are not for Cloud Run"),
        ("FIRESTORE_EMULATOR_HOST", "", "emulators are not for Cloud Run"),
        ("CLOUD_TASKS_EMULATOR_HOST", "127.0.0.1:8123", "emulators are not for Cloud Run"),
    ],
)
def test_what_is_not_for_cloud_run_does_not_start(
    monkeypatch: pytest.MonkeyPatch, setting: str, value: str, reason: str
) -> None:
    set_all(monkeypatch, CLOUD, ON_CLOUD_RUN, {setting: value})
    with pytest.raises(SettingsError, match=f"{setting}.*{reason}"):
        Service(PizzaOrder)


def test_a_deployed_api_needs_authenticators(monkeypatch: pytest.MonkeyPatch) -> None:
    set_all(monkeypatch, CLOUD, ON_CLOUD_RUN)
    with pytest.raises(SettingsError, match=r"no authenticators.*GORCHESTRATE_ACCESS=open"):
        Service(PizzaOrder)
    Service(PizzaOrder, authenticators=[KEYS])
    monkeypatch.setenv("GORCHESTRATE_ACCESS", "open")
    Service(PizzaOrder)
    monkeypatch.setenv("GORCHESTRATE_ACCESS", "closed")
    with pytest.raises(SettingsError, match="GORCHESTRATE_ACCESS"):
        Service(PizzaOrder)


def test_elsewhere_the_file_can_be_imported_but_not_served(monkeypatch: pytest.MonkeyPatch) -> None:
    set_all(monkeypatch, CLOUD)
    request = Request({"type": "http", "method": "GET", "path": "/", "headers": []})
    with pytest.raises(SettingsError, match="no authenticators"):
        asyncio.run(Service(PizzaOrder).api(request))


def test_what_does_not_go_together(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SettingsError, match="roles need authenticators"):
        Service(PizzaOrder, roles={"manager": ["group:managers"]})
    made_elsewhere = Dev()
    set_all(monkeypatch, CLOUD, ON_CLOUD_RUN)
    with pytest.raises(SettingsError, match="not for the cloud"):
        Service(PizzaOrder, authenticators=[KEYS, made_elsewhere])


class Bare(Workflow):
    """A workflow without statements."""


@pytest.mark.parametrize(
    ("workflows", "internal", "reason"),
    [
        ([], [], "there is no workflow"),
        ([[PizzaOrder]], [], "is not a workflow class: pass the classes one by one, as in Service(Order, Parcel)"),
        ([(PizzaOrder,)], [], "pass the classes one by one"),
        (["pizza"], [], "'pizza' is not a workflow class: pass the classes of workflows"),
        ([PizzaOrder, None], [], "None is not a workflow class"),
        ([PizzaOrder()], [], "pass the class PizzaOrder, not an instance of it"),
        ([dict], [], "<class 'dict'> is not a workflow class"),
        ([Bare], [], "Bare has neither run nor definition"),
        ([PizzaOrder], ["kid"], "'kid' is not a workflow class"),
        ([PizzaOrder], "kid", "internal is 'kid': pass a list of workflow classes"),
        ([PizzaOrder], PizzaOrder, "pass a list of workflow classes"),
    ],
)
def test_what_is_not_a_workflow_is_explained(workflows: list[Any], internal: Any, reason: str) -> None:
    with pytest.raises(SettingsError, match=f"^Service: .*{re.escape(reason)}"):
        Service(*workflows, internal=internal)


def test_right_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    set_all(monkeypatch, CLOUD, ON_CLOUD_RUN)
    assert Settings.load().issuer == GOOGLE_ISSUER
    monkeypatch.delenv("K_SERVICE")
    set_all(monkeypatch, ISSUER, EMULATOR)
    assert Settings.load().issuer == ISSUER["GORCHESTRATE_ISSUER"]


@pytest.mark.parametrize("end", ["", "/", "// "])
@pytest.mark.parametrize("audience", ["", "https://custom.example"])
def test_a_slash_at_the_end_of_a_url_is_no_matter(monkeypatch: pytest.MonkeyPatch, end: str, audience: str) -> None:
    """Whom the tokens of tasks are for, and whom the worker takes them to be for."""
    url = CLOUD["GORCHESTRATE_WORKER_URL"]
    set_all(monkeypatch, CLOUD, {"GORCHESTRATE_WORKER_URL": url + end, "GORCHESTRATE_AUDIENCE": audience + end})
    settings = Settings.load()
    made: list[CloudTask] = []

    class Client:
        def __init__(self, host: str | None, credentials: object) -> None: ...

        async def create(self, queue: str, task: CloudTask) -> None:
            made.append(task)

    monkeypatch.setattr(cloud_tasks_client, "CloudTasksClient", Client)
    asyncio.run(CloudRuntime([PizzaOrder], settings).queue.create(Task("a", "/resume", {})))
    (task,) = made
    assert task.url == f"{url}/resume"
    assert task.audience == OidcVerifier.from_settings(settings).audience == (audience or url)


@pytest.mark.parametrize("target", ["api", "worker"])
def test_the_function_ends_instead_of_listening(target: str) -> None:
    command = [sys.executable, "-m", "functions_framework", "--source", "functions/main.py", "--target", target]
    ended = subprocess.run(
        [*command, "--host", "127.0.0.1", "--port", str(free_ports(1)[0])],
        cwd=ROOT,
        env=environment(**(CLOUD | {"GORCHESTRATE_WORKER_URL": ""})),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ended.returncode != 0
    assert "GORCHESTRATE_WORKER_URL is missing" in ended.stderr
