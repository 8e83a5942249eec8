"""emulator-compose.yml, as far as it can be checked where no containers run."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from cloud_adapter.settings import Settings
from cloud_adapter.variables import PREFIX
from tests.deploy.tools import need

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def config() -> dict[str, str]:
    """The file as docker-compose understands it: each service's text, by its name."""
    command = [need("docker-compose"), "-f", str(ROOT / "emulator-compose.yml"), "config"]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    services = text.partition("services:\n")[2]
    parts = re.split(r"^  (\S+):\n", services, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def environment(service: str) -> dict[str, str]:
    block = re.search(r"^    environment:\n((?:      .*\n)+)", service, re.MULTILINE)
    assert block is not None
    return dict(re.findall(r"^      (\w+): (.*)$", block[1], re.MULTILINE))


def test_every_service_has_a_health_check(config: dict[str, str]) -> None:
    assert set(config) == {"firestore", "cloud-tasks", "worker", "api"}
    for name, service in config.items():
        assert "healthcheck:" in service, name


def test_the_functions_wait_for_the_emulators(config: dict[str, str]) -> None:
    for name in ("worker", "api"):
        waits = re.findall(r"^      (\S+):\n        condition: service_healthy", config[name], re.MULTILINE)
        assert waits == ["cloud-tasks", "firestore"]
        assert environment(config[name])["FUNCTION_TARGET"] == name


@pytest.mark.parametrize("name", ["worker", "api"])
def test_the_settings_are_accepted(name: str, config: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for variable, value in environment(config[name]).items():
        monkeypatch.setenv(variable, value)
    settings = Settings.load()
    assert settings.backend == "cloud"
    queue = f"projects/{settings.project}/locations/{settings.location}/queues/{settings.queue}"
    assert re.search(rf"-initial-queue\s+{queue}$", config["cloud-tasks"], re.MULTILINE)
    assert re.search(rf"-openid-issuer\s+{settings.issuer}\s", config["cloud-tasks"])
    assert f"--project={settings.project}" in config["firestore"]
    assert settings.worker_url == "http://worker:8080"


def test_every_variable_of_the_functions_is_a_setting(config: dict[str, str]) -> None:
    known = {PREFIX + name.upper() for name in Settings.model_fields}
    assert {name for name in environment(config["api"]) if name.startswith(PREFIX)} <= known


def test_the_image_is_made_of_files_that_are_there() -> None:
    dockerfile = (ROOT / "deploy" / "emulator.Dockerfile").read_text()
    sources = [source for line in re.findall(r"^COPY (.*) \S+$", dockerfile, re.MULTILINE) for source in line.split()]
    assert sources
    assert [source for source in sources if not (ROOT / source).exists()] == []


def test_nothing_is_published_beyond_this_machine(config: dict[str, str]) -> None:
    text = (ROOT / "emulator-compose.yml").read_text()
    ports = re.findall(r"^ +ports:\n((?: +- .*\n)+)", text, re.MULTILINE)
    published = re.findall(r'- "(.*)"', "".join(ports))
    assert len(published) == 3 and all(port.startswith("127.0.0.1:") for port in published)
    assert sum(service.count("host_ip: 127.0.0.1") + service.count("127.0.0.1:8") for service in config.values()) >= 3
