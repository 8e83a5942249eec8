"""``gorchestrate login`` and ``--token-command``: where the other commands get their token from."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from cloud_adapter.cli.device_flow import GRANT, OAuthClient, Prompt, Tokens
from cloud_adapter.cli.main import app
from cloud_adapter.cli.tokens import Logins, StoredLogin, printed_token, token_for
from cloud_adapter.errors import InvalidRequest, SettingsError, Unavailable
from tests.http.issuer import Issuer, issuing

API = "https://api.example.com"
TOKENS = {"access_token": "at", "id_token": "it", "refresh_token": "rt", "expires_in": 3600}
PENDING: tuple[int, Any] = (400, {"error": "authorization_pending"})


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    with issuing() as issuer:
        issuer.endpoints = {
            "device_authorization_endpoint": f"{issuer.url}/device",
            "token_endpoint": f"{issuer.url}/token",
        }
        yield issuer


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    return tmp_path / "gorchestrate"


class Clock:
    """Time that passes only by sleeping."""

    def __init__(self) -> None:
        self.time = 1_000.0
        self.slept: list[float] = []

    def now(self) -> float:
        return self.time

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.time += seconds


def answering(issuer: Issuer, *polls: tuple[int, Any], **device: Any) -> list[dict[str, str]]:
    """Makes the issuer answer the request for a code, then the polls. Returns the forms that it gets."""
    forms: list[dict[str, str]] = []
    left = list(polls)
    code = {"device_code": "dc", "user_code": "AB-CD", "verification_uri": f"{issuer.url}/go", "expires_in": 100}

    def posted(path: str, form: dict[str, str]) -> tuple[int, Any]:
        forms.append(form)
        return (200, code | device) if path == "/device" else left.pop(0)

    issuer.posted = posted
    return forms


def log_in(issuer: Issuer, clock: Clock, show: Callable[[Prompt], None] = lambda prompt: None) -> Tokens:
    client = OAuthClient.of(issuer.url, "cli")
    return client.log_in(show, scope="openid", audience="shop", sleep=clock.sleep, now=clock.now)


def test_polls_until_the_user_has_confirmed(issuer: Issuer) -> None:
    clock, shown = Clock(), list[Prompt]()
    slow_down = (400, {"error": "slow_down"})
    forms = answering(issuer, PENDING, slow_down, PENDING, (503, {}), (200, TOKENS), interval=2)
    assert log_in(issuer, clock, shown.append).access_token == "at"
    assert clock.slept == [2, 2, 7, 7, 12]
    assert shown == [Prompt(f"{issuer.url}/go", "AB-CD", "")]
    assert forms[0] == {"client_id": "cli", "scope": "openid", "audience": "shop"}
    assert forms[1] == {"client_id": "cli", "grant_type": GRANT, "device_code": "dc"}


@pytest.mark.parametrize(
    ("poll", "text"),
    [
        ((400, {"error": "access_denied"}), "denied in the browser"),
        ((400, {"error": "expired_token"}), "expired before"),
        ((400, {"error": "invalid_client", "error_description": "no"}), "invalid_client: no"),
        ((200, {"token_type": "x"}), "no 'access_token'"),
    ],
)
def test_what_ends_it(issuer: Issuer, poll: tuple[int, Any], text: str) -> None:
    answering(issuer, PENDING, poll)
    with pytest.raises(InvalidRequest, match=text):
        log_in(issuer, Clock())


def test_the_code_expires(issuer: Issuer) -> None:
    clock = Clock()
    answering(issuer, *[PENDING] * 100, expires_in=12)
    with pytest.raises(InvalidRequest, match="expired before"):
        log_in(issuer, clock)
    assert clock.slept == [5, 5, 5]


@pytest.mark.parametrize("url", ["http://evil.example/go", "javascript:alert(1)", 7])
def test_a_page_that_is_not_secure(issuer: Issuer, url: Any) -> None:
    answering(issuer, verification_uri=url)
    with pytest.raises(InvalidRequest, match="https"):
        log_in(issuer, Clock())


def test_an_issuer_that_cannot_be_used(issuer: Issuer) -> None:
    with pytest.raises(SettingsError, match="must begin with https"):
        OAuthClient.of("http://login.example.com", "cli")
    with pytest.raises(SettingsError, match="calls itself"):
        OAuthClient.of(f"{issuer.url}/", "cli")
    issuer.endpoints["token_endpoint"] = "http://login.example.com/token"
    with pytest.raises(SettingsError, match="does not begin with https"):
        OAuthClient.of(issuer.url, "cli")
    issuer.endpoints = {}
    with pytest.raises(SettingsError, match="no device flow"):
        OAuthClient.of(issuer.url, "cli")
    with pytest.raises(Unavailable, match="does not answer"):
        OAuthClient.of("http://127.0.0.1:9", "cli")


# --- the file ------------------------------------------------------------------------------


def test_login_stores_the_token_for_one_api(issuer: Issuer, config: Path) -> None:
    answering(issuer, (200, TOKENS), interval=1, verification_uri_complete=f"{issuer.url}/go?c=AB-CD")
    arguments = ["login", "--issuer", issuer.url, "--client-id", "cli", "--url", f"{API}/"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert f"Open {issuer.url}/go?c=AB-CD and check that it shows the code AB-CD" in result.output
    file = config / "logins.json"
    assert (file.stat().st_mode & 0o777, file.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    assert "at" not in result.output.split()
    assert [token_for(url, "", "") for url in (API, f"{API}/x", "https://other.example")] == ["at", "", ""]
    assert token_for(API, "given", "") == "given"
    assert "Logged out" in CliRunner().invoke(app, ["logout", "--url", API]).output
    assert "no login" in CliRunner().invoke(app, ["logout", "--url", API]).output
    assert json.loads(file.read_text()) == {}


def stored(issuer: Issuer, folder: Path, clock: Clock, **tokens: Any) -> Logins:
    logins = Logins(folder, clock.now)
    client = OAuthClient(client_id="cli", token_url=f"{issuer.url}/token", device_url="")
    logins.store(API, StoredLogin(client=client, tokens=Tokens.model_validate(tokens)))
    return logins


def test_a_token_is_renewed(issuer: Issuer, tmp_path: Path) -> None:
    clock = Clock()
    logins = stored(issuer, tmp_path, clock, access_token="old", refresh_token="rt", expires_at=clock.time + 100)
    forms = answering(issuer, (200, {"access_token": "new", "expires_in": 500}), (400, {"error": "invalid_grant"}))
    assert logins.token(API) == "old"
    clock.time += 50
    assert [logins.token(API), logins.token(API)] == ["new", "new"]
    assert forms == [{"grant_type": "refresh_token", "client_id": "cli", "refresh_token": "rt"}]
    clock.time += 500
    with pytest.raises(InvalidRequest, match=r"expired \(invalid_grant\)"):
        logins.token(API)


def test_without_a_refresh_token_it_expires(issuer: Issuer, tmp_path: Path) -> None:
    logins = stored(issuer, tmp_path, Clock(), access_token="old", expires_at=0)
    with pytest.raises(InvalidRequest, match="run gorchestrate login again"):
        logins.token(API)


def test_a_file_that_cannot_be_used(issuer: Issuer, tmp_path: Path) -> None:
    logins = stored(issuer, tmp_path, Clock(), access_token="at", expires_at=1e9)
    logins.file.chmod(0o640)
    with pytest.raises(SettingsError, match="chmod 600"):
        logins.token(API)
    logins.file.chmod(0o600)
    for text in ("{", "[]", '{"a": {}}', '{"a": 1}'):
        logins.file.write_text(text)
        with pytest.raises(SettingsError, match="delete it"):
            logins.token(API)


def test_no_login_to_an_api_without_https(config: Path) -> None:
    arguments = ["login", "--issuer", "https://login.example.com", "--client-id", "cli", "--url", "http://a.example"]
    assert isinstance(CliRunner().invoke(app, arguments).exception, SettingsError)


# --- the token command ---------------------------------------------------------------------


def command(code: str) -> str:
    return f'"{sys.executable}" -c "{code}"'


def test_a_command_prints_the_token() -> None:
    assert printed_token(command("print('abc')")) == "abc"
    assert token_for(API, "given", "false") == "given"
    assert token_for(API, "", command("print('abc')")) == "abc"


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("no-such-program x", "cannot be run: No such file"),
        ("echo 'a", "cannot be parsed: No closing quotation"),
        (command("import sys; sys.exit('please log in')"), "failed with exit code 1: please log in"),
        (command("raise SystemExit(3)"), "failed with exit code 3: no reason"),
        (command("print()"), "it printed 0 words"),
        (command("print('a b')"), "it printed 2 words"),
        ("echo a; echo b", "it printed 3 words"),  # no shell
    ],
)
def test_a_command_that_fails(text: str, error: str) -> None:
    with pytest.raises(SettingsError, match=error):
        printed_token(text)


def test_commands_send_the_token(issuer: Issuer, monkeypatch: pytest.MonkeyPatch, config: Path) -> None:
    seen: list[str] = []
    monkeypatch.setattr("cloud_adapter.cli.instances.Connection", lambda url, token, *_, **__: seen.append(token))
    monkeypatch.setenv("GORCHESTRATE_TOKEN_COMMAND", command("print('abc')"))
    CliRunner().invoke(app, ["ls"])
    CliRunner().invoke(app, ["ls", "--token-command", command("print('xyz')")])
    CliRunner().invoke(app, ["ls", "--source", "x.py"])
    assert seen == ["abc", "xyz", ""]
