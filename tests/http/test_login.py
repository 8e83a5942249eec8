"""Logging in to the pages at an OpenID Connect issuer: the right way, and what somebody could change on it."""

from __future__ import annotations

import base64
import hashlib
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlsplit

import httpx
import pytest
from pizza import PizzaOrder
from pydantic import SecretStr

from cloud_adapter.errors import SettingsError
from cloud_adapter.hosting.service import Service
from cloud_adapter.http.authentication import Authentication
from cloud_adapter.http.authenticators.claims import claim
from cloud_adapter.http.authenticators.login import Login
from cloud_adapter.http.authenticators.memberships import Memberships
from cloud_adapter.http.authenticators.oidc import Oidc
from cloud_adapter.http.callers import AllowedCallers
from cloud_adapter.http.pages.login import ATTEMPT, SESSION, PageLogin, with_login
from cloud_adapter.http.sealing import Sealer
from cloud_adapter.settings import Settings
from tests.http.helpers import Http, deployed
from tests.http.issuer import Issuer, issuing
from workflow_core import S, Step, Workflow

URL = "https://shop.test"
KEY, OLD_KEY, OTHER_KEY = (f"{letter * 43}=" for letter in "koa")
ORDERS = "/ui/pizza?status=waiting"


@dataclass
class Shop:
    """The pages, the issuer and the time."""

    http: Http
    issuer: Issuer
    login: PageLogin
    time: list[float]
    codes: dict[str, dict[str, str]] = field(default_factory=dict)
    claims: dict[str, Any] = field(default_factory=dict)
    """Changes of the ID token."""

    def authorize(self, location: str) -> dict[str, str]:
        """The issuer's page: the person logs in. Returns the parameters with which they are sent back."""
        asked = dict(parse_qsl(urlsplit(location).query))
        code = secrets.token_hex(8)
        self.codes[code] = asked
        return {"code": code, "state": asked["state"], "iss": self.issuer.url, "session_state": "x"}

    def token(self, path: str, form: dict[str, str]) -> tuple[int, Any]:
        """The issuer's token endpoint. A code counts once."""
        asked = self.codes.pop(form["code"], None)
        if asked is None:
            return 400, {"error": "invalid_grant"}
        assert path == "/token" and form["redirect_uri"] == asked["redirect_uri"]
        digest = hashlib.sha256(form["code_verifier"].encode()).digest()
        assert base64.urlsafe_b64encode(digest).decode().rstrip("=") == asked["code_challenge"]
        claims = {"aud": "pages", "sub": "7", "name": "Ann", "groups": ["customer"], "nonce": asked["nonce"]}
        return 200, {"id_token": self.issuer.token(**(claims | self.claims)), "access_token": "x"}

    def start(self, after: str = ORDERS) -> str:
        """Begins a login. Returns the URL at the issuer."""
        response = self.http.request("GET", "/ui/login", params={"next": after})
        assert response.status_code == 303, response.text
        return response.headers["location"]

    def finish(self, answer: dict[str, str]) -> httpx.Response:
        return self.http.request("GET", "/ui/login/callback", params=answer)

    def log_in(self) -> httpx.Response:
        return self.finish(self.authorize(self.start()))

    @property
    def status(self) -> int:
        """Of the list of orders: 303 leads to the login."""
        return self.http.request("GET", ORDERS).status_code


@pytest.fixture(scope="module")
def issuer() -> Iterator[Issuer]:
    with issuing() as issuer:
        yield issuer


@pytest.fixture
def shop(issuer: Issuer, tmp_path: Path) -> Iterator[Shop]:
    issuer.endpoints = {
        "authorization_endpoint": f"{issuer.url}/authorize?tenant=1",
        "token_endpoint": f"{issuer.url}/token",
    }
    time = [1_000.0]
    login = PageLogin(
        Login(issuer.url, "pages", "s3:cret", roles=claim("groups")), URL, [KEY, OLD_KEY], lambda: time[0]
    )
    authentication = Authentication(
        (Oidc(issuer.url, "shop"),), Memberships({"manager": ["user:kim@shop.example"]}), sign_in=login
    )
    options: dict[str, Any] = {"authentication": authentication, "callers": AllowedCallers(public_url=URL), "ui": True}
    with deployed(tmp_path / "a.db", PizzaOrder, base_url=URL, **options) as http:
        shop = Shop(http, issuer, login, time)
        issuer.posted = shop.token
        yield shop


def test_the_right_way(shop: Shop) -> None:
    response = shop.http.request("GET", ORDERS)
    assert (response.status_code, response.headers["location"]) == (
        303,
        "../ui/login?next=%2Fui%2Fpizza%3Fstatus%3Dwaiting",
    )
    start = shop.http.request("GET", response.url.join(response.headers["location"]).raw_path.decode())
    location = start.headers["location"]
    assert location.startswith(f"{shop.issuer.url}/authorize?tenant=1&response_type=code&client_id=pages&")
    query = parse_qs(urlsplit(location).query)
    assert query["redirect_uri"] == [f"{URL}/ui/login/callback"] and query["code_challenge_method"] == ["S256"]
    for flag in ("HttpOnly", "Secure", "SameSite=lax", "Path=/", "Max-Age=600"):
        assert flag in start.headers["set-cookie"] and "Domain" not in start.headers["set-cookie"]

    done = shop.finish(shop.authorize(location))
    assert (done.status_code, done.headers["location"]) == (303, "../../ui/pizza?status=waiting")
    session, attempt = done.headers.get_list("set-cookie")
    assert session.startswith(f"{SESSION}=") and attempt.startswith(f'{ATTEMPT}="";')
    for flag in ("HttpOnly", "Secure", "SameSite=lax", "Path=/", "Max-Age=28800"):
        assert flag in session
    html = shop.http.request("GET", ORDERS).text
    assert "<span>Ann</span>" in html and "Log out" in html

    out = shop.http.request("POST", "/ui/logout")
    assert out.status_code == 200 and "You are logged out here" in out.text and "Log in" in out.text
    assert shop.status == 303


def test_one_is_the_same_as_in_the_api(shop: Shop) -> None:
    shop.log_in()
    data = {"id": "order-1", "do": "send", "key": "1"}
    assert shop.http.request("POST", "/ui/pizza/new", data=data).status_code == 303
    shop.claims = {"sub": "8", "email": "kim@shop.example", "email_verified": True, "groups": []}
    shop.log_in()
    html = shop.http.request("GET", "/ui/pizza/instances/order-1").text
    assert f"{shop.issuer.url}|7" in html and '<section aria-labelledby="title-operations">' in html


def test_the_cookie_counts_on_the_pages_only(shop: Shop) -> None:
    shop.log_in()
    assert shop.status == 200
    for method, path in (("GET", "/wf/pizza/1"), ("POST", "/wf/pizza/1"), ("GET", "/wf/pizza")):
        assert shop.http.problem(method, path)["status"] == 401
    assert shop.http.get("/") == {"workflows": []}
    for what in ("reference", "graph", "swagger", "definition"):
        assert shop.http.request("GET", f"/ui/pizza/{what}").status_code == 200
        assert shop.http.request("GET", f"/{what}/pizza").status_code == 401
    assert 'href="../../ui/pizza/swagger"' in shop.http.request("GET", "/ui/pizza/reference").text


def test_pages_of_other_sites_cannot_post(shop: Shop) -> None:
    shop.log_in()
    for path in ("/ui/logout", "/ui/pizza/new"):
        response = shop.http.request("POST", path, headers={"Origin": "https://evil.test"}, data={"id": "x"})
        assert response.status_code == 403
    assert shop.status == 200


@pytest.mark.parametrize(
    "changed",
    [
        {"state": "other"},
        {"state": ""},
        {"state": "é"},
        {"code": ""},
        {"code": "other"},
        {"error": "access_denied"},
        {"iss": "https://evil.test"},
    ],
)
def test_a_changed_answer(shop: Shop, changed: dict[str, str]) -> None:
    response = shop.finish(shop.authorize(shop.start()) | changed)
    assert response.status_code == 401 and SESSION not in str(response.headers)
    assert shop.status == 303


@pytest.mark.parametrize(
    "claims",
    [
        {"nonce": None},
        {"nonce": "other"},
        {"nonce": 7},
        {"aud": "shop"},
        {"aud": ["pages", "shop"], "azp": "shop"},
        {"iss": "https://evil.test"},
        {"exp": 1},
        {"sub": None},
    ],
)
def test_another_id_token(shop: Shop, claims: dict[str, Any]) -> None:
    shop.claims = claims
    response = shop.log_in()
    assert response.status_code == 401 and SESSION not in str(response.headers)
    assert shop.status == 303


def test_a_code_counts_once(shop: Shop) -> None:
    answer = shop.authorize(shop.start())
    attempt = shop.http.client.cookies[ATTEMPT]
    assert shop.finish(answer).status_code == 303
    assert shop.finish(answer).status_code == 400  # the cookie of the attempt is gone
    shop.http.client.cookies.set(ATTEMPT, attempt, domain="shop.test")
    assert shop.finish(answer).status_code == 401  # the issuer knows


def test_an_answer_for_another_browser(shop: Shop) -> None:
    """An attacker cannot make somebody else's browser finish the attacker's login."""
    answer = shop.authorize(shop.start())
    shop.http.client.cookies.clear()
    response = shop.finish(answer)
    assert response.status_code == 400 and "was not started in this browser" in response.text
    shop.start()
    assert shop.finish(answer).status_code == 401


def test_a_login_must_be_finished_in_time(shop: Shop) -> None:
    answer = shop.authorize(shop.start())
    shop.time[0] += 600
    assert shop.finish(answer).status_code == 400


def test_a_session_ends(shop: Shop) -> None:
    shop.log_in()
    shop.time[0] += 8 * 3600 - 1
    assert shop.status == 200
    shop.time[0] += 1
    assert shop.status == 303


def test_each_login_is_a_new_session(shop: Shop) -> None:
    shop.http.client.cookies.set(SESSION, "planted", domain="shop.test")
    shop.log_in()
    first = shop.http.client.cookies.get(SESSION, domain="shop.test")
    shop.log_in()
    assert len({"planted", first, shop.http.client.cookies.get(SESSION, domain="shop.test")}) == 3


def test_tampered_cookies(shop: Shop) -> None:
    shop.log_in()
    jar = shop.http.client.cookies
    good = jar[SESSION]
    middle = len(good) // 2
    other = "A" if good[middle] != "A" else "B"
    principal = ["x|1", "x", "user", ["customer"], {}]
    forged = [
        good[:middle] + other + good[middle + 1 :],
        good[:-4],
        "x",
        "é",
        Sealer([OTHER_KEY], lambda: shop.time[0]).seal(SESSION, principal, 100),
        Sealer([KEY], lambda: shop.time[0]).seal(ATTEMPT, principal, 100),
    ]
    for value in forged:
        headers = [(b"Cookie", f"{SESSION}={value}".encode())]
        jar.clear()
        assert shop.http.request("GET", ORDERS, headers=headers).status_code == 303, value
    for key in (KEY, OLD_KEY):  # old keys of the ring still open
        value = Sealer([key], lambda: shop.time[0]).seal(SESSION, principal, 100)
        assert shop.http.request("GET", ORDERS, headers={"Cookie": f"{SESSION}={value}"}).status_code == 200


@pytest.mark.parametrize(
    "after",
    ["https://evil.test/ui/", "//evil.test/ui/", "/wf/pizza/1", "/ui/../wf/pizza", "/ui/login/callback?code=1", ""],
)
def test_no_open_redirect(shop: Shop, after: str) -> None:
    done = shop.finish(shop.authorize(shop.start(after)))
    assert (done.status_code, done.headers["location"]) == (303, "../../ui/")


def test_too_many_claims_for_a_cookie(shop: Shop) -> None:
    shop.claims = {"groups": [f"group-{number}" for number in range(400)]}
    response = shop.log_in()
    assert response.status_code == 401 and "too many claims for a cookie" in response.text


def test_an_issuer_that_does_not_answer(shop: Shop) -> None:
    location = shop.start()
    shop.issuer.posted = lambda path, form: (500, {})
    assert shop.finish(shop.authorize(location)).status_code == 503


def test_a_wrong_token_does_not_lead_to_the_login(shop: Shop) -> None:
    headers = {"Authorization": f"Bearer {shop.issuer.token(aud='other', sub='7')}"}
    assert shop.http.request("GET", ORDERS, headers=headers).status_code == 401
    background = shop.http.request("GET", ORDERS, headers={"Accept": "application/json"})
    assert background.status_code == 401


class NamedLogin(Workflow, name="login"):
    definition = S(Step("step", lambda workflow: None))


def test_what_it_needs(shop: Shop, tmp_path: Path) -> None:
    login = Login(shop.issuer.url, "pages")
    with pytest.raises(SettingsError, match="SESSION_KEYS"):
        PageLogin(login, URL, [])
    for url in ("", "http://shop.test"):
        with pytest.raises(SettingsError, match="PUBLIC_URL"):
            PageLogin(login, url, [KEY])
    with pytest.raises(SettingsError, match="openid"):
        Login(shop.issuer.url, "pages", scope="email")
    with pytest.raises(SettingsError, match="needs authenticators"):
        Service(PizzaOrder, login=login)
    authentication = Authentication((Oidc(shop.issuer.url, "shop"),), login=login)
    bound = with_login(authentication, Settings(public_url=URL, session_keys=SecretStr(f"{KEY}, {OLD_KEY}")))
    assert isinstance(bound.sign_in, PageLogin)
    with (
        pytest.raises(SettingsError, match="cannot be named 'login'"),
        deployed(tmp_path / "b.db", NamedLogin, authentication=bound, ui=True),
    ):
        pass


def test_other_keys_are_rejected_and_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GORCHESTRATE_SESSION_KEYS", f"{KEY},short-secret")
    with pytest.raises(SettingsError, match="key 2 is not a key of 32 bytes") as failed:
        Settings.load()
    assert "short-secret" not in str(failed.value)
    monkeypatch.setenv("GORCHESTRATE_SESSION_KEYS", KEY)
    assert Settings.load().listed_session_keys == [KEY] and KEY not in repr(Settings.load())
