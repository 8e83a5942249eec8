"""The command line with encrypted secrets: it uses the same settings as the runtimes."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from cloud_adapter.cli.main import app
from cloud_adapter.errors import InvalidRequest, SettingsError

SOURCE = """
from pydantic import SecretStr
from workflow_core import On, S, Select, Workflow

class Vault(Workflow, name="vault"):
    token: SecretStr = SecretStr("")
    definition = S(Select("open", On("Open", lambda w: None)))
"""
SECRET = "hunter2"
Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    for name in [name for name in os.environ if name.startswith("GORCHESTRATE_")]:
        monkeypatch.delenv(name)
    source, db = tmp_path / "vault_source.py", tmp_path / "vault.db"
    source.write_text(SOURCE)
    monkeypatch.setenv("GORCHESTRATE_DB", str(db))

    def run(*arguments: str, keys: str = "") -> Result:
        monkeypatch.setenv("GORCHESTRATE_SECRET_KEYS", keys)
        places = {"SOURCE": str(source), "DB": str(db)}
        result = CliRunner().invoke(app, [places.get(argument, argument) for argument in arguments])
        if isinstance(result.exception, InvalidRequest | SettingsError):
            raise result.exception
        return result

    return run


def test_the_database_is_read_with_the_keys_of_the_settings(run: Run, tmp_path: Path) -> None:
    key, other = run("secret-key").output.strip(), run("secret-key").output.strip()
    assert key != other
    started = run("start", "vault", "1", f"token={SECRET}", "--source", "SOURCE", keys=key)
    assert started.exit_code == 0, started.output
    assert SECRET.encode() not in b"".join(file.read_bytes() for file in tmp_path.glob("vault.db*"))
    shown = run("show", "vault", "1", "--source", "SOURCE", "--json", keys=f"{other},{key}")
    assert json.loads(shown.output)["state"] == {"token": "**********"}
    with pytest.raises(InvalidRequest, match=r"no key of GORCHESTRATE_SECRET_KEYS fits"):
        run("show", "vault", "1", "--source", "SOURCE", keys=other)


def test_check_says_what_would_not_be_encrypted_and_what_cannot_be_decrypted(run: Run, tmp_path: Path) -> None:
    key = run("secret-key").output.strip()
    clear = run("check", "SOURCE")
    assert clear.exit_code == 0
    assert "Secrets of workflow 'vault': these settings have no key, so they would not be encrypted" in clear.output
    assert "Set GORCHESTRATE_SECRET_KEYS to a key from" in clear.output
    for keys in (key, "none"):
        assert "Secrets of" not in run("check", "SOURCE", keys=keys).output
    run("start", "vault", "1", f"token={SECRET}", "--source", "SOURCE", keys=key)
    good = run("check", "SOURCE", "--against", "DB", keys=key)
    assert (good.exit_code, "All of them can continue" in good.output) == (0, True)
    bad = run("check", "SOURCE", "--against", "DB", keys="none")
    assert bad.exit_code == 1
    assert "its secrets cannot be decrypted with the keys that are set here" in bad.output
    assert "Fix: set GORCHESTRATE_SECRET_KEYS or GORCHESTRATE_KMS_KEY as in the deployment" in bad.output
