"""What a process on Cloud Run prepares before its first request, and that a failure of it changes nothing."""

from __future__ import annotations

import asyncio
import gc
import threading
from pathlib import Path

import google.auth
import pytest
from google.auth.credentials import AnonymousCredentials
from pizza import PizzaOrder

from cloud_adapter.errors import Unavailable
from cloud_adapter.hosting import garbage, warm_up
from cloud_adapter.hosting.cloud import CloudRuntime
from cloud_adapter.hosting.service import Service
from cloud_adapter.hosting.warm_up import WarmUp
from tests.hosting.cloud_settings import CLOUD

SETTINGS = CLOUD | {
    "GORCHESTRATE_WORKER_AUTH": "iam",
    "K_SERVICE": "api",
}


class Refreshed(AnonymousCredentials):  # type: ignore[no-untyped-call, misc, unused-ignore]
    def refresh(self, request: object) -> None:
        self.token = "a token"


@pytest.fixture(autouse=True)
def _on_cloud_run(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FIRESTORE_EMULATOR_HOST", "CLOUD_TASKS_EMULATOR_HOST"):
        monkeypatch.delenv(name, raising=False)
    for name, value in SETTINGS.items():
        monkeypatch.setenv(name, value)


def started(service: Service) -> CloudRuntime:
    runtime = asyncio.run(service._start())
    assert isinstance(runtime, CloudRuntime)
    return runtime


def test_both_clients_use_the_credentials_that_the_start_has_found(monkeypatch: pytest.MonkeyPatch) -> None:
    found = Refreshed()  # type: ignore[no-untyped-call]
    monkeypatch.setattr(google.auth, "default", lambda scopes: (found, "p"))
    runtime = started(Service(PizzaOrder))
    assert found.token == "a token"
    assert runtime.store._calls._credentials is found
    assert runtime.queue._credentials is found


def test_without_credentials_it_starts_and_the_first_request_gets_the_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "missing.json"))
    service = Service(PizzaOrder)

    async def load() -> None:
        runtime = await service._start()
        await runtime.engine.get("pizza", "one")

    with pytest.raises(Unavailable, match=r"missing\.json"):
        asyncio.run(load())


def test_garbage_is_collected_rarely_from_then_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", "127.0.0.1:1")
    WarmUp().run([], modules=[])
    assert gc.get_freeze_count() > 10_000
    assert gc.get_threshold() == (garbage.OBJECTS_MIN, garbage.YOUNG_MAX, garbage.MIDDLE_MAX)


def test_neither_a_missing_module_nor_a_failed_fetch_stops_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", "127.0.0.1:1")
    made: list[str] = []

    def fail() -> None:
        made.append("failed")
        raise OSError("no network")

    WarmUp().run([fail, lambda: made.append("done")], modules=["no_such_module_of_anyone"])
    assert sorted(made) == ["done", "failed"]


def test_the_start_does_not_wait_for_a_network_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", "127.0.0.1:1")
    monkeypatch.setattr(warm_up, "WAIT_SECONDS_MAX", 0.0)
    answer, ended = threading.Event(), threading.Event()

    def wait() -> None:
        answer.wait(60)
        ended.set()

    WarmUp().run([wait], modules=[])
    assert not ended.is_set()
    answer.set()
    assert ended.wait(60)
