"""Query parameters: each route rejects those that it does not know, and those that are repeated."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from starlette.applications import Starlette
from starlette.routing import Route

from cloud_adapter.hosting.embedded import EmbeddedRuntime
from cloud_adapter.http.worker import create_worker
from cloud_adapter.settings import Settings
from tests.http.helpers import Http, InProcess, deployed, everyone, problem
from tests.http.workflows import Desk, Twins

VALUES = {"name": "desk", "id": "one", "event": "Touch", "file": "style.css", "token": "a1b2"}

KNOWN = {
    "/wf/{name}": "status, order, limit, cursor, search.note",
    "/wf/{name}/{id}/graph": "format",
    "/wf/{name}/{id}/{event:path}": "thread, wait_id, callback",
    "/graph/{name}": "format",
    "/ui/{name}/graph": "format",
    "/static/{file}": "v",
    "/healthz": "store",
    "/health": "store",
    "/ui/{name}": "status, order, cursor, search.note",
    "/ui/{name}/instances/{id}": "version, done, sent, key",
}
"""The parameters of each route that has some."""


@pytest.fixture(scope="module")
def http(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Http]:
    with deployed(tmp_path_factory.mktemp("queries") / "q.db", Desk, Twins, ui=True, repair=True) as http:
        http.create("/wf/desk/one")
        yield http


def requests(app: Starlette | None) -> Iterator[tuple[str, str, str]]:
    """Each route of an application: its path, a URL that matches, and each of its methods."""
    assert app is not None
    for route in app.routes:
        assert isinstance(route, Route)
        url = route.path.replace(":path", "").format_map(VALUES)
        for method in sorted((route.methods or set()) - {"HEAD"}):
            yield route.path, url, method


def test_every_route_rejects_an_unknown_parameter(http: Http) -> None:
    before = http.get("/wf/desk/one")
    seen = set()
    for path, url, method in requests(http.app):
        # Pages are HTML, unless a script asks.
        response = http.request(method, f"{url}?thred=b", headers={"Accept": "application/json"})
        document = problem(response)
        assert (document["status"], document["title"]) == (400, "Invalid request"), path
        assert document["detail"] == f"unknown query parameter 'thred'. Available: {KNOWN.get(path, 'none')}", path
        seen.add(path)
    assert KNOWN.keys() < seen
    assert http.get("/wf/desk/one") == before


def test_every_route_rejects_a_repeated_parameter(http: Http) -> None:
    before = http.get("/wf/desk/one")
    for path, url, method in requests(http.app):
        for name in KNOWN.get(path, "").split(", ") if path in KNOWN else ():
            twice = f"{url}?{name}=a&{name}=a"
            document = problem(http.request(method, twice, headers={"Accept": "application/json"}))
            assert document["detail"] == f"the query parameter {name!r} is repeated: pass it once"
            assert document["status"] == 400
    assert http.get("/wf/desk/one") == before


@pytest.mark.parametrize("wrong", ["%FF", "%C3", "a%80b", "%ED%A0%80"])
def test_every_route_rejects_text_that_is_not_utf_8(http: Http, wrong: str) -> None:
    before = http.get("/wf/desk/one")
    for path, url, method in requests(http.app):
        for name in KNOWN.get(path, "").split(", ") if path in KNOWN else ():
            document = problem(http.request(method, f"{url}?{name}={wrong}", headers={"Accept": "application/json"}))
            assert (document["status"], document["detail"].partition(":")[0]) == (
                400,
                "the query contains bytes that are not UTF-8",
            )
        for key in VALUES:
            there = path.replace(":path", "")
            if f"{{{key}}}" in there:
                url = there.format_map(VALUES | {key: wrong})
                document = problem(http.request(method, url, headers={"Accept": "application/json"}))
                assert (document["status"], document["title"]) == (400, "Invalid request"), url
                assert document["detail"].startswith("the path contains bytes that are not UTF-8")
    assert http.get("/wf/desk/one") == before
    assert http.get("/wf/desk?search.note=%EF%BF%BD%C3%A9")["instances"] == []


def test_the_health_check_knows_its_values(http: Http) -> None:
    assert http.get("/healthz?store=1") == {"status": "ok", "store": "ok"}
    assert http.get("/healthz?store=0") == http.get("/health") == {"status": "ok"}
    for value in ("", "yes", "2", "1.0"):
        document = http.problem("GET", f"/health?store={value}")
        assert (document["status"], document["detail"]) == (
            400,
            f"store is {value!r}: pass store=1 to check the store too, or leave it out",
        )


def test_a_page_says_so_as_a_page(http: Http) -> None:
    response = http.request("GET", "/ui/desk?statsu=failed")
    assert response.status_code == 400 and response.headers["content-type"].startswith("text/html")
    assert "unknown query parameter &#39;statsu&#39;" in response.text


def test_an_event_is_not_delivered_to_another_thread(http: Http) -> None:
    http.create("/wf/twins/a")
    document = http.problem("POST", "/wf/twins/a/Vote?thred=right", json=3)
    assert document["detail"] == "unknown query parameter 'thred'. Available: thread, wait_id, callback"
    assert http.get("/wf/twins/a")["state"] == {"left": 0, "right": 0}
    assert http.send("/wf/twins/a/Vote?thread=right", 3) == "right"


def test_the_worker_rejects_parameters(tmp_path: Path) -> None:
    runtime = EmbeddedRuntime([Desk], Settings(db=tmp_path / "worker.db"))
    try:
        worker = create_worker(runtime.engine, everyone)
        with (
            asyncio.Runner() as runner,
            httpx.Client(transport=InProcess(worker, runner), base_url="http://w") as client,
        ):
            for path, url, method in requests(worker):
                document = problem(client.request(method, f"{url}?x=1"))
                assert document["detail"] == f"unknown query parameter 'x'. Available: {KNOWN.get(path, 'none')}"
    finally:
        asyncio.run(runtime.close())
