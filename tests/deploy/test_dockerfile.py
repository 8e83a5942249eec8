"""deploy/Dockerfile without docker: its instructions, and that its command serves a project."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from cloud_adapter.cli.projects import TemplateName, create
from cloud_adapter.sockets import free_ports
from tests.deploy.desk import DEPLOY

pytestmark = pytest.mark.slow

TEXT = re.sub(r"\\\n\s*", "", (DEPLOY / "Dockerfile").read_text())
INSTRUCTIONS = [
    (line.split(" ", 1)[0], line.split(" ", 1)[1]) for line in TEXT.splitlines() if line and not line.startswith("#")
]
READY_SECONDS_MAX = 60


def of(name: str) -> list[str]:
    return [value for instruction, value in INSTRUCTIONS if instruction == name]


def test_it_installs_only_files_whose_hashes_are_known_and_does_not_run_as_root() -> None:
    names = [name for name, _ in INSTRUCTIONS]
    assert names == ["FROM", "ENV", "WORKDIR", "COPY", "RUN", "COPY", "RUN", "RUN", "USER", "CMD"]
    assert of("USER") == ["app"]
    assert of("RUN")[2] == "useradd --system app"
    assert "--require-hashes" in of("RUN")[0]


def test_its_own_files_have_bytecode_that_is_used_without_a_look_at_their_times(tmp_path: Path) -> None:
    create(tmp_path, TemplateName.APPROVAL)
    (tmp_path / "wrong.py").write_text("this is no Python")
    command = of("RUN")[1].replace("python ", f"{sys.executable} ", 1)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    subprocess.run(command, shell=True, cwd=tmp_path, env=environment, check=True)
    compiled = {path.name.partition(".")[0]: path for path in tmp_path.glob("__pycache__/*.pyc")}
    assert {"main", "approval"} <= compiled.keys()
    assert "wrong" not in compiled
    assert compiled["main"].read_bytes()[4:8] == b"\1\0\0\0", "PEP 552: with a hash that is not checked"


def test_the_image_has_the_python_of_the_settings() -> None:
    (runtime,) = re.findall(r"^RUNTIME=python3(\d+)$", (DEPLOY / "settings.env.example").read_text(), re.MULTILINE)
    assert of("FROM") == [f"python:3.{runtime}-slim"]


def test_its_command_serves_a_project(tmp_path: Path) -> None:
    create(tmp_path / "shop", TemplateName.APPROVAL)
    (port,) = free_ports(1)
    variables = dict(pair.split("=") for pair in of("ENV")[0].split())
    (command,) = [json.loads(value) for value in of("CMD")]
    environment = os.environ | variables | {"PORT": str(port), "GORCHESTRATE_DB": str(tmp_path / "shop.db")}
    environment["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    process = subprocess.Popen(command, cwd=tmp_path / "shop", env=environment, stderr=subprocess.PIPE, text=True)
    try:
        assert answers(f"http://127.0.0.1:{port}/health"), "it serves its health"
    finally:
        process.terminate()
        process.communicate(timeout=30)


def answers(url: str) -> bool:
    end = time.monotonic() + READY_SECONDS_MAX
    while time.monotonic() < end:
        try:
            with urllib.request.urlopen(url, timeout=5) as response:
                return bool(response.status == 200)
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    return False
