"""What a process loads until it serves: the less, the sooner it does."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.hosting.cloud_settings import CLOUD
from workflow_core import workflow
from workflow_core.garbage import no_collection

ROOT = Path(__file__).resolve().parents[2]

SETTINGS = CLOUD | {
    "FIRESTORE_EMULATOR_HOST": "127.0.0.1:1",
    "CLOUD_TASKS_EMULATOR_HOST": "127.0.0.1:1",
}


def printed(code: str) -> list[str]:
    """Returns the words that code prints in a fresh process of the cloud backend."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("GORCHESTRATE_", "K_"))}
    env = kept | SETTINGS | {"PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "functions")))}
    return subprocess.run(
        [sys.executable, "-c", code], env=env, stdout=subprocess.PIPE, text=True, check=True
    ).stdout.split()


def test_the_import_of_main_loads_what_definitions_and_a_service_need() -> None:
    loaded = set(printed("import sys, main; print(*sys.modules)"))
    assert {"pizza", "workflow_core.plain.compile", "cloud_adapter.hosting.service"} <= loaded
    rooms = {".".join(name.split(".")[:2]) for name in loaded}
    assert not rooms & {"cloud_adapter.engine", "cloud_adapter.stores", "cloud_adapter.queues", "workflow_core.machine"}
    assert not rooms & {"workflow_core.execution", "workflow_core.diagrams", "workflow_core.library"}
    assert "cloud_adapter.http" not in loaded
    assert not loaded & {"jwt", "cryptography", "google.api_core", "grpc", "cloud_adapter.http.problems"}


def test_the_warm_up_loads_what_the_first_requests_need() -> None:
    loaded = set(printed("import sys, main; main.service.warm_up(); print(*sys.modules)"))
    http = {f"cloud_adapter.http.{name}" for name in ("api", "auth", "callers", "problems", "rate_limit", "worker")}
    others = {
        "cloud_adapter.hosting.cloud",
        "cloud_adapter.observability.telemetry",
        "cloud_adapter.observability.logs",
    }
    assert not loaded & {"cloud_adapter.http.openapi", "cloud_adapter.http.pages.ui", "workflow_core.diagrams.mermaid"}
    assert http | others | {"jwt", "google.cloud.firestore", "google.cloud.tasks_v2"} <= loaded


@pytest.mark.parametrize("is_enabled", [True, False])
def test_no_garbage_is_collected_while_a_class_is_compiled(is_enabled: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bool] = []
    monkeypatch.setattr(workflow, "_prepare", lambda *_: seen.append(gc.isenabled()))
    try:
        (gc.enable if is_enabled else gc.disable)()
        type("Short", (workflow.Workflow,), {"__module__": __name__})
        assert (seen, gc.isenabled()) == ([False], is_enabled)
    finally:
        gc.enable()


@pytest.mark.parametrize("is_frozen", [True, False])
def test_what_was_made_meanwhile_counts_as_old(is_frozen: bool) -> None:
    gc.unfreeze()
    try:
        if is_frozen:
            gc.freeze()
        with no_collection():
            made = [object()]
        assert any(each is made for each in gc.get_objects(generation=0)) is is_frozen
        assert bool(gc.get_freeze_count()) is is_frozen
    finally:
        gc.unfreeze()
