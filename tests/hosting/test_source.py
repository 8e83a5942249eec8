"""What is read from a file: its workflows, and how its ``Service`` finds principals."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cloud_adapter.cli.main import app
from cloud_adapter.errors import SettingsError
from cloud_adapter.hosting.source import load
from cloud_adapter.http.authentication import OPEN
from cloud_adapter.http.authenticators.api_key import ApiKey, StoredKey, key_hash
from tests.http.authenticator_contract import found

FILE = """
from cloud_adapter import ApiKey, Service, StoredKey
from workflow_core import On, S, Select, Workflow

class Visit(Workflow, name="visit"):
    definition = S(Select("open", On("End", lambda w: None)))

class Kid(Workflow, name="kid"):
    definition = S(Select("open", On("End", lambda w: None)))

KEYS = ApiKey(StoredKey("till", "0" * 64))
"""


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    source = tmp_path / "visits_source.py"
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "visits_source", raising=False)
    return source


def test_the_service_of_a_file(write: Path) -> None:
    write.write_text(f"{FILE}\nservice = Service(Visit, internal=[Kid], authenticators=[KEYS])")
    served = load(write)
    assert [cls.__workflow_name__ for cls in served.workflows] == ["visit", "kid"]
    assert [cls.__workflow_name__ for cls in served.internal] == ["kid"]
    assert list(served.authentication.schemes) == ["ApiKey"]


def test_a_file_without_a_service_is_open(write: Path) -> None:
    write.write_text(FILE)
    assert (load(write).internal, load(write).authentication) == ((), OPEN)


ENTRY_POINTS = "\nasync def api(request): return await service.api(request)\nworker = api\n"


@pytest.mark.parametrize("service", ["", "service = None", "def service(): ..."])
def test_a_deployment_needs_a_service(write: Path, service: str) -> None:
    write.write_text(FILE + service + ENTRY_POINTS)
    assert len(load(write).workflows) == 2
    with pytest.raises(SettingsError, match=r"has no Service, .* api and worker .*: add service = Service\(\.\.\.\)"):
        load(write, "api", "worker")
    write.write_text(f"{FILE}\nservice = Service(Visit, Kid){ENTRY_POINTS}")
    assert len(load(write, "api", "worker").workflows) == 2


def test_two_services_cannot_be_served_as_one_if_they_differ(write: Path) -> None:
    write.write_text(f"{FILE}\nfirst = Service(Visit)\nsecond = Service(Kid, authenticators=[KEYS])")
    with pytest.raises(SettingsError, match="several Services"):
        load(write)


def test_a_new_api_key_is_accepted() -> None:
    result = CliRunner().invoke(app, ["api-key", "till-1", "--role", "cook"])
    assert result.exit_code == 0
    key = re.search(r"gok_\S+", result.output)
    line = re.search(r"\[ApiKey\((.*)\)\]", result.output)
    assert key is not None and line is not None
    stored: StoredKey = eval(line[1], {"StoredKey": StoredKey})
    assert stored == StoredKey("till-1", key_hash(key[0]), ["cook"])
    principal = found(ApiKey(stored), ("Authorization", f"Bearer {key[0]}"))
    assert principal is not None
    assert principal.id == "api-key|till-1" and principal.roles == {"cook"}
