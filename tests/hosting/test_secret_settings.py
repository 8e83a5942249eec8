"""The settings by which secrets are encrypted: which runtime starts with which of them, and what it stores."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from pizza import PizzaOrder
from pydantic import SecretStr

from cloud_adapter.codecs.fernet import new_key
from cloud_adapter.errors import SecretsUnreadable, SettingsError
from cloud_adapter.hosting.cloud import CloudRuntime
from cloud_adapter.hosting.embedded import EmbeddedRuntime
from cloud_adapter.settings import Settings
from cloud_adapter.store_settings import SecretSettings
from workflow_core import On, S, Select, Workflow

CLOUD: dict[str, Any] = {
    "backend": "cloud",
    "project": "p",
    "location": "l",
    "worker_url": "https://w",
    "tasks_account": "t@p",
}
KMS_KEY = "projects/p/locations/l/keyRings/r/cryptoKeys/k"
KEY = base64.urlsafe_b64encode(bytes(range(32))).decode()  # parameters must be the same in every process
SECRET = "hunter2"
BODY = json.dumps({"token": SECRET}).encode()


class Vault(Workflow, name="vault"):
    token: SecretStr = SecretStr("")
    definition = S(Select("open", On("Open", lambda w: None)))


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("GORCHESTRATE_"):
            monkeypatch.delenv(name)


@pytest.mark.parametrize(
    ("setting", "value", "reason"),
    [
        ("SECRET_KEYS", KEY[:-2], "SECRET_KEYS: .*key 1 is not a key of 32 bytes"),
        ("SECRET_KEYS", f"{KEY},none", "SECRET_KEYS: .*key 2 is not a key .*`gorchestrate secret-key`"),
        ("SECRET_KEYS", "hunter2hunter2", "SECRET_KEYS: .*key 1"),
        ("KMS_KEY", "k", "KMS_KEY: .*'k' is not the name of a key: projects/P"),
    ],
)
def test_a_wrong_key_is_named_and_not_shown(
    monkeypatch: pytest.MonkeyPatch, setting: str, value: str, reason: str
) -> None:
    monkeypatch.setenv(f"GORCHESTRATE_{setting}", value)
    for kind in (Settings, SecretSettings):
        with pytest.raises(SettingsError, match=f"GORCHESTRATE_{reason}") as caught:
            kind.load()
        assert setting == "KMS_KEY" or value.partition(",")[0] not in str(caught.value)


def test_the_keys_are_listed_and_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    other = new_key()
    monkeypatch.setenv("GORCHESTRATE_SECRET_KEYS", f" {KEY}, {other},")
    settings = Settings.load()
    assert list(settings.keys) == [KEY, other]
    assert KEY not in repr(settings)


def test_in_the_cloud_somebody_has_to_decide_how_secrets_are_stored() -> None:
    with pytest.raises(SettingsError, match=r"no key encrypts the secrets of 'vault': set GORCHESTRATE_SECRET_KEYS to"):
        CloudRuntime([PizzaOrder, Vault], Settings(**CLOUD))

    async def main() -> None:
        for workflow, keys in ((Vault, "none"), (Vault, KEY), (PizzaOrder, "")):
            await CloudRuntime([workflow], Settings(**CLOUD, secret_keys=SecretStr(keys))).close()

    asyncio.run(main())


def test_cloud_kms_needs_its_client(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "google.cloud.kms_v1", None)
    with pytest.raises(SettingsError, match=r"GORCHESTRATE_KMS_KEY is set, but .* install gorchestrate\[kms\]"):
        CloudRuntime([Vault], Settings(**CLOUD, kms_key=KMS_KEY))


def test_cloud_kms_is_first_reached_by_a_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "google.cloud.kms_v1", object())
    asyncio.run(EmbeddedRuntime([Vault], Settings(db=tmp_path / "db", kms_key=KMS_KEY)).close())


async def created(settings: Settings, workflow: type[Workflow] = Vault) -> None:
    runtime = EmbeddedRuntime([workflow], settings)
    try:
        await runtime.start()
        await runtime.engine.create(workflow.__workflow_name__, "1", BODY if workflow is Vault else b"")
    finally:
        await runtime.close()


@pytest.mark.parametrize(
    ("workflow", "keys", "warnings"), [(Vault, "", 1), (Vault, "none", 0), (Vault, KEY, 0), (PizzaOrder, "", 0)]
)
def test_embedded_warns_once_of_secrets_that_are_not_encrypted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, workflow: type[Workflow], keys: str, warnings: int
) -> None:
    with caplog.at_level(logging.WARNING):
        asyncio.run(created(Settings(db=tmp_path / "db", secret_keys=SecretStr(keys)), workflow))
    assert caplog.text.count("secrets of 'vault' are stored without encryption: set GORCHESTRATE_SECRET") == warnings
    stored = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    assert (SECRET.encode() in stored) == (workflow is Vault and keys != KEY)


def test_embedded_does_not_read_what_it_has_no_key_for(tmp_path: Path) -> None:
    async def main(keys: str) -> Any:
        runtime = EmbeddedRuntime([Vault], Settings(db=tmp_path / "db", secret_keys=SecretStr(keys)))
        try:
            return (await runtime.engine.get("vault", "1")).workflow
        finally:
            await runtime.close()

    asyncio.run(created(Settings(db=tmp_path / "db", secret_keys=SecretStr(KEY))))
    assert asyncio.run(main(f"{new_key()},{KEY}")) == Vault(token=SecretStr(SECRET))
    for keys in ("", "none", new_key()):
        with pytest.raises(SecretsUnreadable, match=r"'token' of 'vault' '1' .*GORCHESTRATE_SECRET_KEYS"):
            asyncio.run(main(keys))
