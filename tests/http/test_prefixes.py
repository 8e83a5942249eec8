"""A path prefix under which clients reach the application: it is in every URL and link of a response."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urljoin

import httpx
import pytest
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.types import ASGIApp, Receive, Scope, Send

from cloud_adapter.errors import SettingsError
from cloud_adapter.hosting.embedded import EmbeddedRuntime
from cloud_adapter.http.callers import AllowedCallers
from cloud_adapter.http.worker import create_worker
from cloud_adapter.settings import Settings
from tests.http.helpers import Http, InProcess, deployed, everyone
from tests.http.workflows import Desk, Twins

HOST = "http://shop.example"
PREFIX = "/shop/caf%C3%A9"
BASE = HOST + PREFIX
INSTANCE = "a%20b%25c"


class RootPath:
    """What a server does that is started with ``--root-path``, behind a proxy that removes the prefix."""

    def __init__(self, app: ASGIApp, prefix: str) -> None:
        self.app = app
        self.prefix = prefix

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        raw = self.prefix.encode() + scope["raw_path"]
        paths = {"root_path": self.prefix, "path": self.prefix + scope["path"], "raw_path": raw}
        await self.app(dict(scope) | paths, receive, send)


class Proxy(httpx.BaseTransport):
    """Replaces the prefix of a request's path, and the host."""

    def __init__(self, inner: httpx.BaseTransport, prefix: str = "", host: str = "http://inside:8080") -> None:
        self.inner = inner
        self.prefix = prefix
        self.host = host

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        raw = request.url.raw_path
        if not raw.startswith(f"{PREFIX}/".encode()):
            return httpx.Response(404, text=f"the proxy does not know {request.url}")
        url = httpx.URL(self.host, raw_path=self.prefix.encode() + raw.removeprefix(PREFIX.encode()))
        headers = [(name, value) for name, value in request.headers.items() if name != "host"]
        return self.inner.handle_request(httpx.Request(request.method, url, headers=headers, content=request.read()))


def mounted(path: str, app: ASGIApp) -> ASGIApp:
    return Starlette(routes=[Mount(path, app)])


WAYS: dict[str, dict[str, Any]] = {
    "mounted": {"around": partial(mounted, unquote(PREFIX))},
    "mounted twice": {"around": lambda app: mounted("/shop", mounted("/café", app))},
    "root path": {"between": partial(Proxy, host=HOST), "around": lambda app: RootPath(app, PREFIX)},
    "proxy": {"between": Proxy, "callers": AllowedCallers(public_url=BASE)},
    "proxy to a mount": {
        "between": lambda inner: Proxy(inner, "/in/side"),
        "around": partial(mounted, "/in/side"),
        "callers": AllowedCallers(public_url=BASE),
    },
}


@pytest.fixture(params=WAYS.values(), ids=list(WAYS))
def http(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Http]:
    with deployed(tmp_path / "x.db", Desk, Twins, ui=True, repair=True, base_url=HOST, **request.param) as http:
        yield http


def test_every_url_in_a_response_can_be_followed(http: Http) -> None:
    url = f"{PREFIX}/wf/twins/{INSTANCE}"
    created = http.request("POST", url)
    assert created.status_code == 201 and created.headers["location"] == url
    instance = http.get(created.headers["location"])
    assert instance == created.json()
    assert [event["url"] for event in instance["events"]] == [
        f"{url}/Vote?thread=links%20%26%20%C3%BCber%2F50%25%3F",
        f"{url}/Vote?thread=right",
    ]
    assert http.create(f"{url}/pause")["meta"]["status"] == "paused"
    resumed = http.create(f"{url}/unpause")
    assert resumed["events"] == instance["events"]
    assert [http.send(event["url"], 3) for event in resumed["events"]] == ["left", "right"]
    (listed,) = http.get(f"{PREFIX}/wf/twins")["instances"]
    assert listed["url"] == url
    assert http.get(f"{PREFIX}/")["workflows"] == [f"{PREFIX}/definition/desk", f"{PREFIX}/definition/twins"]
    assert http.get(f"{PREFIX}/definition/twins")["name"] == "twins"


@pytest.mark.parametrize(
    "path", ["a%2Fcancel", "a%2fpause", "a%2Fgoto", "a%2FVote", "a%2Fgraph", "..%2Ftwins%2Fa", "a%2F"]
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_an_encoded_slash_in_an_id_reaches_no_other_resource(http: Http, path: str, method: str) -> None:
    http.create(f"{PREFIX}/wf/twins/a")
    before = http.get(f"{PREFIX}/wf/twins/a")
    for url in (f"{PREFIX}/wf/twins/{path}", f"{PREFIX}/wf/twins%2Fa/{path}", f"{PREFIX}/wf%2Ftwins/{path}"):
        assert http.request(method, url).status_code in (400, 404, 405)
    assert "%2F" in http.problem("POST", f"{PREFIX}/wf/twins/a%2Fcancel")["detail"]
    assert http.get(f"{PREFIX}/wf/twins/a") == before


def test_the_openapi_document_names_the_server(http: Http) -> None:
    document = http.get(f"{PREFIX}/swagger/desk")
    assert document["servers"] == [{"url": BASE}]
    assert document["externalDocs"]["url"] == f"{BASE}/reference/desk"
    assert f"curl -s -X POST {BASE}/wf/desk/desk-1" in http.request("GET", f"{PREFIX}/reference/desk").text


def test_every_link_of_the_pages_can_be_followed(http: Http) -> None:
    http.create(f"{PREFIX}/wf/desk/{INSTANCE}")
    found, seen = [f"{BASE}/ui"], set()
    while found:
        url = found.pop()
        seen.add(url)
        response = http.request("GET", url, follow_redirects=True)
        assert response.status_code == 200 and str(response.url).startswith(f"{BASE}/"), url
        if response.headers["content-type"].startswith("text/html"):
            links = re.findall(r' (?:href|src|action)="([^"#]+)', response.text)
            found += {urljoin(str(response.url), link.replace("&amp;", "&")) for link in links} - seen - {*found}
    paths = {url.removeprefix(BASE).partition("?")[0] for url in seen}
    assert {"/ui/", "/ui/desk", "/ui/desk/new", f"/ui/desk/instances/{INSTANCE}", "/static/style.css"} < paths
    assert {"/ui/desk/graph", "/ui/desk/reference", "/ui/desk/swagger", "/static/ui.js"} < paths


def test_a_server_may_leave_its_root_path_out_of_the_path(tmp_path: Path) -> None:
    def around(app: ASGIApp) -> ASGIApp:
        async def changed(scope: Scope, receive: Receive, send: Send) -> None:
            await app(dict(scope) | {"root_path": PREFIX}, receive, send)

        return changed

    with deployed(tmp_path / "x.db", Desk, ui=True, around=around) as http:
        assert http.request("POST", "/wf/desk/a").headers["location"] == f"{PREFIX}/wf/desk/a"
        assert 'href="../ui/desk"' in http.request("GET", "/ui/").text


def test_tasks_arrive_at_a_worker_under_a_prefix(tmp_path: Path) -> None:
    runtime = EmbeddedRuntime([Desk], Settings(db=tmp_path / "worker.db"))
    with asyncio.Runner() as runner:
        app = mounted("/tasks", create_worker(runtime.engine, everyone))
        with httpx.Client(transport=InProcess(app, runner), base_url="http://test") as client:
            runner.run(runtime.engine.create("desk", "a"))
            task = {"workflow": "desk", "id": "a", "pc": 1, "created_at": datetime.now(UTC).isoformat()}
            response = client.post("/tasks/resume", json=task)
            assert (response.status_code, response.json()) == (200, {"outcome": "done"})
        runner.run(runtime.close())


@pytest.mark.parametrize(
    "url", ["example.com/orders", "/orders", "ftp://a", "https://", "https://a/b?c", "https://a/#b"]
)
def test_the_setting_is_a_url(url: str) -> None:
    with pytest.raises(SettingsError, match=r"GORCHESTRATE_PUBLIC_URL: .* is not a URL such as https://example.com"):
        Settings.load(public_url=url)


def test_a_slash_at_its_end_makes_no_difference() -> None:
    assert Settings.load(public_url=" https://example.com/orders/ ").public_url == "https://example.com/orders"
