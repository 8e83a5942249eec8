"""Tokens whose signature Cloud Run has removed: who accepts them, and what is checked nevertheless."""

from __future__ import annotations

import asyncio
import logging
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from starlette.requests import Request

from cloud_adapter.errors import Forbidden, InvalidCredential, SettingsError
from cloud_adapter.http.auth import OidcVerifier
from cloud_adapter.http.authentication import Authentication
from cloud_adapter.http.authenticators.oidc import Oidc
from cloud_adapter.http.authenticators.tokens import REMOVED_SIGNATURE
from cloud_adapter.settings import Settings
from tests.http.helpers import Http, deployed
from tests.http.issuer import AUDIENCE, EMAIL, Issuer
from tests.http.test_authentication import Suggestion

NOW = datetime.now(UTC)
HOUR = timedelta(hours=1)
CLOUD = {
    "GORCHESTRATE_BACKEND": "cloud",
    "GORCHESTRATE_PROJECT": "p",
    "GORCHESTRATE_LOCATION": "l",
    "GORCHESTRATE_WORKER_URL": "https://worker.example",
    "GORCHESTRATE_TASKS_ACCOUNT": EMAIL,
    "GORCHESTRATE_WORKER_AUTH": "iam",
}


def check(issuer: Issuer, token: str, *headers: tuple[str, str], iam: bool = True) -> None:
    verifier = OidcVerifier(issuer=issuer.url, audience=AUDIENCE, email=EMAIL, leaves_signature=iam)
    sent = [("authorization", f"Bearer {token}"), *headers]
    scope = {"type": "http", "headers": [(name.lower().encode(), value.encode()) for name, value in sent]}
    asyncio.run(verifier(Request(scope)))


def without_signature(issuer: Issuer, **changed: Any) -> str:
    """The token as Cloud Run hands it on."""
    return issuer.token(**changed).rpartition(".")[0] + f".{REMOVED_SIGNATURE}"


def test_where_cloud_run_has_checked_it_the_signature_may_be_gone(issuer: Issuer) -> None:
    check(issuer, without_signature(issuer))
    assert issuer.asked == [], "there is nothing to be verified with a key"


def test_there_a_token_with_its_signature_is_accepted_too(issuer: Issuer) -> None:
    check(issuer, issuer.token())


def test_elsewhere_it_is_refused_and_the_error_says_what_to_do(issuer: Issuer) -> None:
    with pytest.raises(InvalidCredential, match=r"has removed its signature.*deploy\.sh again.*WORKER_AUTH=iam"):
        check(issuer, without_signature(issuer), iam=False)


@pytest.mark.parametrize(
    "changed",
    [
        {"aud": "http://other"},
        {"aud": f"{AUDIENCE}/"},
        {"aud": []},
        {"aud": None},
        {"iss": "https://accounts.google.com"},
        {"iss": ""},
        {"iss": None},
        {"exp": NOW - timedelta(minutes=2)},
        {"exp": None},
        {"exp": "soon"},
        {"iat": NOW + HOUR, "exp": NOW + 2 * HOUR},
        {"iat": None},
        {"nbf": NOW + HOUR},
        {"events": {}},
    ],
    ids=", ".join,
)
def test_its_claims_are_checked(changed: dict[str, Any], issuer: Issuer) -> None:
    with pytest.raises(InvalidCredential, match="the OIDC token is not valid"):
        check(issuer, without_signature(issuer, **changed))


@pytest.mark.parametrize(
    "changed", [{"email": "other@p.iam.gserviceaccount.com"}, {"email": None}, {"email_verified": "true"}], ids=str
)
def test_it_must_belong_to_the_tasks_account(changed: dict[str, Any], issuer: Issuer) -> None:
    with pytest.raises(Forbidden):
        check(issuer, without_signature(issuer, **changed))


@pytest.mark.parametrize(
    "change",
    [
        lambda token: REMOVED_SIGNATURE,
        lambda token: f".{REMOVED_SIGNATURE}",
        lambda token: f"..{REMOVED_SIGNATURE}",
        lambda token: f"a.b.{REMOVED_SIGNATURE}",
        lambda token: token.removesuffix(REMOVED_SIGNATURE),
        lambda token: token.removesuffix(f".{REMOVED_SIGNATURE}"),
        lambda token: token.lower(),
        lambda token: f"{token}=",
        lambda token: token.replace(REMOVED_SIGNATURE, f"x{REMOVED_SIGNATURE}"),
        lambda token: token.replace(REMOVED_SIGNATURE, "AAAA"),
    ],
)
def test_nothing_else_stands_for_a_signature(change: Any, issuer: Issuer) -> None:
    with pytest.raises(InvalidCredential):
        check(issuer, change(without_signature(issuer)))


def test_a_token_that_cloud_run_did_not_check_is_refused(issuer: Issuer) -> None:
    """Who may call the worker in their own name could add a token that they made up."""
    with pytest.raises(InvalidCredential, match="Cloud Run has checked that in X-Serverless-Authorization"):
        check(issuer, without_signature(issuer), ("X-Serverless-Authorization", "Bearer of.another.account"))
    check(issuer, issuer.token(), ("X-Serverless-Authorization", "Bearer of.another.account"))


@pytest.mark.parametrize("backend", ["cloud", "embedded"])
def test_without_cloud_run_it_does_not_start(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in CLOUD.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("GORCHESTRATE_BACKEND", backend)
    with pytest.raises(SettingsError, match="GORCHESTRATE_WORKER_AUTH is iam: allowed only on Cloud Run"):
        Settings.load()


@pytest.mark.parametrize("variable", ["K_SERVICE", "CLOUD_TASKS_EMULATOR_HOST"])
def test_on_cloud_run_or_with_the_emulator_it_starts(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in CLOUD.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv(variable, "127.0.0.1:1")
    assert OidcVerifier.from_settings(Settings.load()).leaves_signature
    monkeypatch.delenv("GORCHESTRATE_WORKER_AUTH")
    assert not OidcVerifier.from_settings(Settings.load()).leaves_signature


# --- the api, whose clients may send a token that Cloud Run has checked ----------------------


def api(folder: Path, issuer: Issuer) -> AbstractContextManager[Http]:
    authentication = Authentication((Oidc(issuer.url, AUDIENCE),))
    return deployed(folder / "a.db", Suggestion, authentication=authentication, ui=True)


@pytest.mark.parametrize("path", ["/wf/suggestion/1", "/ui/"])
def test_the_api_refuses_it_and_only_the_log_says_what_to_do(
    path: str, tmp_path: Path, issuer: Issuer, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "gorchestrate.http"), api(tmp_path, issuer) as http:
        for claims in ({"sub": "u1"}, {"sub": "u1", "exp": NOW - HOUR}):
            headers = {"Authorization": f"Bearer {without_signature(issuer, **claims)}"}
            caplog.clear()
            response = http.request("GET", path, headers=headers)
            assert response.status_code == 401
            told = response.text + str(response.headers)
            assert "its signature was removed" in told
            for word in ("Cloud Run", "X-Serverless-Authorization", "PUBLIC"):
                assert word not in told
            (line,) = [record.getMessage() for record in caplog.records if "refused" in record.message]
            assert f"GET {path} refused: the token is not valid: its signature was removed. Cloud Run removes" in line
            assert "in the header X-Serverless-Authorization" in line and "PUBLIC=true" in line
        assert (
            http.request("GET", path, headers={"Authorization": f"Bearer {issuer.token(sub='u1')}"}).status_code != 401
        )
    assert issuer.asked == ["/.well-known/openid-configuration", "/jwks"], "only the right token needs keys"


def test_one_of_another_issuer_gets_no_hint(tmp_path: Path, issuer: Issuer, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "gorchestrate.http"), api(tmp_path, issuer) as http:
        token = without_signature(issuer, iss="https://other.example")
        headers = {"Authorization": f"Bearer {token}"}
        assert http.problem("GET", "/wf/suggestion/1", headers=headers)["status"] == 401
    assert "of an issuer that is not accepted here" in caplog.text and "Cloud Run" not in caplog.text
