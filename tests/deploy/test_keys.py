"""The keys in Secret Manager: the functions of deploy/keys.sh, with the real gcloud, where a whole deployment would not
show it."""

from __future__ import annotations

import base64
import subprocess

import pytest

from tests.deploy.desk import (
    API_ACCOUNT,
    CALLBACK_KEYS,
    DEPLOY,
    PROJECT,
    SECRET_KEYS,
    SESSION_KEYS,
    WORKER_ACCOUNT,
    Desk,
)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

READS = "roles/secretmanager.secretAccessor"


def run(desk: Desk, script: str, **changes: str) -> str:
    """Runs lines that call the functions. Returns their output."""
    parts = "".join(f"source '{DEPLOY}/{name}.sh'\n" for name in ("lib", "settings", "keys"))
    settings = f"load_settings '{desk.settings(**changes)}'; derive\n"
    command = ["bash", "-euo", "pipefail", "-c", parts + settings + script]
    ended = subprocess.run(command, env=desk.environment(), capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def gcloud(desk: Desk, *arguments: str, input: str = "") -> None:
    command = ["gcloud", "secrets", *arguments, "--project=my-project"]
    subprocess.run(command, env=desk.environment(), input=input, check=True, capture_output=True, text=True)


def test_a_secret_without_a_version_gets_one(desk: Desk) -> None:
    gcloud(desk, "create", "gorchestrate-secret-keys")  # as an interrupted run leaves it
    run(desk, "create_keys", CALLBACK_KEYS="none", SESSION_KEYS="none")
    assert list(desk.google.secrets) == [SECRET_KEYS]
    (value,) = desk.google.secrets[SECRET_KEYS]
    assert len(base64.urlsafe_b64decode(value.strip())) == 32


def test_a_secret_of_the_users_own_is_used_and_never_changed_or_deleted(desk: Desk) -> None:
    gcloud(desk, "create", "our-keys", "--data-file=-", input="ours")
    names = {"SECRET_KEYS": "our-keys", "SESSION_KEYS": "none"}
    run(desk, "create_keys", **names)
    ours = f"{PROJECT}/secrets/our-keys"
    accounts = {f"serviceAccount:{account}" for account in (API_ACCOUNT, WORKER_ACCOUNT)}
    assert desk.google.secrets[ours] == ["ours"]
    assert desk.google.bindings(ours) == desk.google.bindings(CALLBACK_KEYS) == {READS: accounts}
    assert SESSION_KEYS not in desk.google.resources
    said = run(desk, "for_each_key delete_key", **names)
    assert "kept: deploy.sh has not made it" in said
    assert desk.google.secrets == {ours: ["ours"]}
    assert not any(desk.google.bindings(ours).values()), "the accounts of the deployment can no longer read it"


def test_a_teardown_that_keeps_the_data_keeps_the_keys(desk: Desk) -> None:
    run(desk, "create_keys", CALLBACK_KEYS="none")
    before = {secret: list(values) for secret, values in desk.google.secrets.items()}
    run(desk, "for_each_key deny_key", CALLBACK_KEYS="none")
    assert desk.google.secrets == before
    assert set(before) == {SECRET_KEYS, SESSION_KEYS}
    assert not any(members for secret in before for members in desk.google.bindings(secret).values())


def test_a_secret_that_cannot_be_read_is_not_replaced(desk: Desk) -> None:
    desk.google.forbidden = "/versions/latest"
    with pytest.raises(AssertionError, match="cannot tell whether it exists"):
        run(desk, "create_keys")
    assert desk.google.secrets == {}
