"""Requests that do harm without credentials: from pages of other sites, to foreign host names, from other machines.

The servers are real: what a client sends arrives as it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.types import ASGIApp, Receive, Scope, Send

from cloud_adapter.engine.operations import ACTIONS, REPAIRS
from cloud_adapter.errors import SettingsError
from cloud_adapter.hosting.dev_server import running
from cloud_adapter.http.authentication import Authentication
from cloud_adapter.http.authenticators.api_key import ApiKey, StoredKey, key_hash, new_key
from cloud_adapter.http.callers import AllowedCallers, is_loopback
from cloud_adapter.http.principals import set_principal
from cloud_adapter.settings import Settings
from cloud_adapter.sockets import listen
from tests.http.helpers import Http, deployed, own_address, problem, serving
from tests.http.workflows import Desk
from workflow_core import EVERYONE

SHOP = "https://shop.example.com"
OTHER_SITES = (
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site", "Origin": "http://127.0.0.1:3000"},
    {"Sec-Fetch-Site": "nonsense"},
    {"Origin": "https://elsewhere.example"},
    {"Origin": "http://127.0.0.1:3000"},
    {"Origin": "http://127.0.0.1"},
    {"Origin": "null"},
    {"Origin": ""},
)


@pytest.fixture(params=["dev", "deployed"])
def http(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Http]:
    if request.param == "dev":
        with serving(tmp_path / "desks.db", Desk) as served:
            yield served
    else:
        with deployed(tmp_path / "desks.db", Desk, ui=True) as served:
            yield served


def test_no_page_of_another_site_changes_anything(http: Http) -> None:
    http.create("/wf/desk/1")
    before = http.get("/wf/desk/1")
    paths = ["/wf/desk/2", "/wf/desk/1/Touch", "/wf/desk/1/", *(f"/wf/desk/1/{name}" for name in (*ACTIONS, *REPAIRS))]
    for headers in OTHER_SITES:
        for path in paths:
            assert "page of another site" in http.problem("POST", path, headers=headers)["detail"], (path, headers)
        for path in ("/ui/desk/new", "/ui/desk/instances/1"):
            response = http.request("POST", path, headers=headers, data={"id": "2", "do": "send"})
            assert response.status_code == 403 and "page of another site" in response.text
            assert response.headers["content-type"] == "text/html; charset=utf-8"
    assert http.get("/wf/desk/1") == before
    assert [one["id"] for one in http.get("/wf/desk")["instances"]] == ["1"]


def test_a_page_of_the_server_and_a_program_may(http: Http) -> None:
    origin = str(http.client.base_url).rstrip("/")
    http.create("/wf/desk/program")
    http.create("/wf/desk/older-browser", headers={"Origin": origin})
    for site in ("same-origin", "none"):
        http.create(f"/wf/desk/{site}", headers={"Sec-Fetch-Site": site, "Origin": origin})


@pytest.mark.parametrize("name", ["Origin", "Sec-Fetch-Site"])
def test_a_request_of_two_pages_is_refused(http: Http, name: str) -> None:
    ours = {"Origin": str(http.client.base_url).rstrip("/"), "Sec-Fetch-Site": "same-origin"}[name]
    refused = http.problem("POST", "/wf/desk/1", headers=[(name, ours), (name, "https://evil.example")])
    assert refused["status"] == 400 and "must not be repeated" in refused["detail"]
    assert http.get("/wf/desk")["instances"] == []


def test_what_a_browser_sends_without_asking_is_no_input(http: Http) -> None:
    http.create("/wf/desk/1")
    before = http.get("/wf/desk/1")
    for given in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "application/json5", "x"):
        for path in ("/wf/desk/2", "/wf/desk/1/Touch", "/wf/desk/1/cancel"):
            response = http.request("POST", path, content=b"{}", headers={"Content-Type": f"{given}; a=b"})
            refused = problem(response)
            assert (refused["status"], refused["title"]) == (415, "Unsupported media type")
            assert f"is {given!r}: send application/json" in refused["detail"]
            assert response.headers["accept"] == "application/json"
        both = [("Content-Type", "application/json"), ("Content-Type", given)]
        assert http.problem("POST", "/wf/desk/1/Touch", headers=both)["status"] == 415
    assert http.get("/wf/desk/1") == before
    assert http.problem("GET", "/wf/desk/2")["status"] == 404


# --- pages of other origins ------------------------------------------------------------------


PREFLIGHT = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type,idempotency-key"}


def shared(headers: httpx.Headers) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name.startswith("access-control")}


def test_by_default_no_other_origin_may_read(http: Http) -> None:
    assert not shared(http.request("GET", "/", headers={"Origin": SHOP}).headers)
    response = http.request("OPTIONS", "/wf/desk/1", headers={"Origin": SHOP} | PREFLIGHT)
    assert response.status_code == 405 and not shared(response.headers)


def test_an_origin_of_the_setting_may_call_the_api_but_not_use_the_pages(tmp_path: Path) -> None:
    with serving(tmp_path / "desks.db", Desk, cors_origins=f"{SHOP}, http://localhost:3000") as http:
        ours = {"Origin": SHOP, "Sec-Fetch-Site": "cross-site"}
        allowed = http.request("OPTIONS", "/wf/desk/1", headers=ours | PREFLIGHT)
        assert (allowed.status_code, allowed.headers["access-control-allow-origin"]) == (200, SHOP)
        assert "access-control-allow-credentials" not in allowed.headers
        created = http.request("POST", "/wf/desk/1", json={}, headers=ours)
        assert (created.status_code, created.headers["access-control-allow-origin"]) == (201, SHOP)
        for origin in ("https://shop.example.com.evil.example", "http://shop.example.com", f"{SHOP}:8443", "null"):
            theirs = {"Origin": origin, "Sec-Fetch-Site": "cross-site"}
            assert http.problem("POST", "/wf/desk/1/Touch", headers=theirs)["status"] == 403
            assert "access-control-allow-origin" not in http.request("GET", "/", headers=theirs).headers
            refused = http.request("OPTIONS", "/wf/desk/1", headers=theirs | PREFLIGHT)
            assert "access-control-allow-origin" not in refused.headers
        page = "/ui/desk/instances/1"
        assert http.request("POST", page, data={"operation": "cancel"}, headers=ours).status_code == 403
        assert not shared(http.request("GET", page, headers=ours).headers)
        assert http.get("/wf/desk/1")["meta"]["status"] == "waiting"


@pytest.mark.parametrize("origins", ["*", "https://*.example.com", "shop.example.com", f"{SHOP}/", f"{SHOP}/a", "null"])
def test_a_setting_that_is_no_list_of_origins_is_refused(origins: str) -> None:
    with pytest.raises(SettingsError, match=r"GORCHESTRATE_CORS_ORIGINS: .* is not an origin such as"):
        Settings.load(cors_origins=f"{SHOP},{origins}")


# --- host names ------------------------------------------------------------------------------

REBOUND = ("evil.example", "evil.example:8080", "127.0.0.1.evil.example", "localhost.evil.example", "192.168.0.7")


def test_a_name_that_resolves_to_this_machine_reaches_no_developers_server(tmp_path: Path) -> None:
    with serving(tmp_path / "desks.db", Desk) as http:
        http.create("/wf/desk/1")
        before = http.get("/wf/desk/1")
        for host in REBOUND:
            headers = {"Host": host, "Sec-Fetch-Site": "same-origin", "Origin": f"http://{host}"}
            for method in ("GET", "POST"):
                for path in ("/wf/desk/1", "/wf/desk/1/set", "/ui/", "/ui/desk/instances/1", "/swagger/desk"):
                    response = http.request(method, path, headers=headers)
                    assert response.status_code == 403 and "GORCHESTRATE_ALLOWED_HOSTS" in response.text, (host, path)
            assert http.request("GET", "/healthz", headers=headers).status_code == 200, "probes use addresses"
        for host in ("localhost", "LOCALHOST:99", "127.0.0.1", "127.9.9.9:1", "[::1]:80", "a.localhost", "localhost."):
            assert http.request("GET", "/", headers={"Host": host}).status_code == 200, host
        assert http.get("/wf/desk/1") == before


@pytest.mark.parametrize("allowed", [{"allowed_hosts": "shop.example.com, b.example"}, {"public_url": f"{SHOP}/x"}])
def test_more_hosts_are_allowed_by_settings(tmp_path: Path, allowed: dict[str, Any]) -> None:
    with serving(tmp_path / "desks.db", Desk, **allowed) as http:
        assert http.request("GET", "/", headers={"Host": "Shop.example.com:443"}).status_code == 200
        assert http.request("GET", "/", headers={"Host": "evil.example"}).status_code == 403


@pytest.mark.parametrize("hosts", ["https://shop.example.com", "shop.example.com:443", "shop.example.com/x", "a b"])
def test_a_setting_that_is_no_list_of_hosts_is_refused(hosts: str) -> None:
    with pytest.raises(SettingsError, match=r"GORCHESTRATE_ALLOWED_HOSTS: .* is not a host name such as"):
        Settings.load(allowed_hosts=hosts)


def test_the_cloud_serves_every_name_on_cloud_run_only(monkeypatch: pytest.MonkeyPatch) -> None:
    cloud = {"backend": "cloud", "project": "p", "location": "l", "worker_url": "https://w", "tasks_account": "a@b"}
    settings = Settings.load(**cloud)
    monkeypatch.delenv("K_SERVICE", raising=False)
    assert AllowedCallers.from_settings(settings).hosts == frozenset({"localhost"})
    assert AllowedCallers.from_settings(settings).remote, "the worker has authentication, the platform checks callers"
    assert AllowedCallers.from_settings(Settings.load(**cloud, allowed_hosts="*")).hosts is None
    monkeypatch.setenv("K_SERVICE", "api")
    assert AllowedCallers.from_settings(settings).hosts is None
    assert AllowedCallers.from_settings(Settings.load(**cloud, allowed_hosts="a.b")).hosts == frozenset(
        {"a.b", "localhost"}
    )


def test_a_host_that_looks_like_a_path_names_no_operation(http: Http) -> None:
    http.create("/wf/desk/1")
    for host in ("h/wf/desk/1/cancel?", "h/wf/desk/1/cancel#", "user@h", "h\\x", "", "a b"):
        assert http.request("POST", "/wf/desk/1/pause", headers={"Host": host}).status_code == 400, host
    assert http.get("/wf/desk/1")["meta"]["status"] == "waiting"


def test_the_operation_is_that_of_the_route(tmp_path: Path) -> None:
    with deployed(tmp_path / "desks.db", Desk, around=_without_middleware) as http:
        http.create("/wf/desk/1")
        http.create("/wf/desk/1/pause", headers={"Host": "h/wf/desk/1/cancel?"})
        assert http.get("/wf/desk/1")["meta"]["status"] == "paused"


def _without_middleware(app: ASGIApp) -> ASGIApp:
    assert isinstance(app, Starlette)
    router = app.router

    async def as_everyone(scope: Scope, receive: Receive, send: Send) -> None:
        set_principal(scope, EVERYONE)
        await router(scope, receive, send)

    return as_everyone


# --- other machines --------------------------------------------------------------------------


@pytest.mark.parametrize("remote", [False, True])
def test_other_machines_are_served_only_if_a_setting_says_so(tmp_path: Path, remote: bool) -> None:
    address = own_address()
    settings = Settings(db=tmp_path / "desks.db", remote_clients=remote, allowed_hosts=(address,))
    listener = listen("0.0.0.0", 0)
    port = listener.getsockname()[1]
    with running([Desk], settings, listener), httpx.Client() as client:
        assert client.post(f"http://127.0.0.1:{port}/wf/desk/1").status_code == 201
        for claim in ({}, {"X-Forwarded-For": "127.0.0.1"}, {"Forwarded": "for=127.0.0.1"}, {"X-Real-IP": "::1"}):
            response = client.post(f"http://{address}:{port}/wf/desk/1/pause", headers=claim)
            assert response.status_code == (200 if remote else 403), response.text
            assert remote or "GORCHESTRATE_REMOTE_CLIENTS=true" in problem(response)["detail"]
        status = client.get(f"http://127.0.0.1:{port}/wf/desk/1").json()["meta"]["status"]
        assert status == ("paused" if remote else "waiting")
        through = {"X-Forwarded-For": "203.0.113.7"}  # a proxy on this machine says who its client is
        assert client.get(f"http://127.0.0.1:{port}/", headers=through).status_code == (200 if remote else 403)


@pytest.mark.parametrize("has_authenticators", [False, True])
def test_the_refusal_of_another_machine_says_what_is_true(tmp_path: Path, has_authenticators: bool) -> None:
    def elsewhere(app: ASGIApp) -> ASGIApp:
        async def from_elsewhere(scope: Scope, receive: Receive, send: Send) -> None:
            await app({**scope, "client": ("203.0.113.7", 1)}, receive, send)

        return from_elsewhere

    key = new_key()
    keys = (ApiKey(StoredKey("ann", key_hash(key))),) if has_authenticators else ()
    with deployed(
        tmp_path / "desks.db",
        Desk,
        around=elsewhere,
        callers=AllowedCallers(remote=False),
        authentication=Authentication(keys),
        ui=True,
    ) as http:
        for path in ("/wf/desk/1", "/ui/"):
            response = http.request("GET", path, headers={"Authorization": f"Bearer {key}"})
            assert response.status_code == 403
            for text in ("serves only clients on its own machine, whatever their credentials", "REMOTE_CLIENTS=true"):
                assert text in response.text
            assert "no authentication" not in response.text


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "::ffff:127.0.0.1", "localhost", "a.localhost"])
def test_addresses_of_the_machine_itself(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "::ffff:10.0.0.1", "localhost.a", "xlocalhost", "", "1"])
def test_addresses_that_others_may_have(host: str) -> None:
    assert not is_loopback(host)


# --- responses -------------------------------------------------------------------------------


def test_no_response_is_kept_by_a_cache_or_taken_for_another_type(http: Http) -> None:
    http.create("/wf/desk/1")
    for method, path in [
        *(("GET", path) for path in ("/", "/wf/desk", "/wf/desk/1", "/swagger/desk", "/definition/desk", "/healthz")),
        *(("GET", path) for path in ("/wf/desk/1/graph", "/wf/desk/1/graph?format=json", "/ui/", "/nonsense")),
        *(("POST", path) for path in ("/wf/desk/1/Touch", "/wf/desk/1/pause", "/wf/desk/1/Touch", "/wf/desk/2")),
    ]:
        headers = http.request(method, path).headers
        assert (headers["cache-control"], headers["x-content-type-options"]) == ("no-store", "nosniff"), path
    assert http.request("GET", "/static/style.css").headers["x-content-type-options"] == "nosniff"
