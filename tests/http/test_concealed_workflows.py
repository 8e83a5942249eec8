"""What one learns of a workflow on which one has no right: nothing that only its definition says, on any route."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cloud_adapter.http.authentication import Authentication
from cloud_adapter.http.authenticators.api_key import ApiKey, StoredKey, key_hash
from tests.http.helpers import Http, deployed
from workflow_core import ANYONE, Access, On, S, Select, Workflow

KEY = "gok_till"


class Sealed(Workflow, name="sealed"):
    """Knows a wax."""

    create_fields = search_fields = ("wax",)
    access = Access(create={"king"}, read={"king"}, list={"king"}, send={"king"})
    wax: int = 0

    def melt(self, heat: int) -> None: ...

    definition = S(Select("waxen", On("MeltWax", melt, max_bytes=20)))


class Inner(Workflow, name="inner"):
    """Its roles allow everything, but no client may address it."""

    create_fields = search_fields = ("wax",)
    access = Access(*[{ANYONE}] * 6)
    wax: int = 0

    def melt(self, heat: int) -> None: ...

    definition = S(Select("waxen", On("MeltWax", melt, max_bytes=20)))


class Shown(Workflow, name="shown"):
    access = Access(create={"clerk"}, read={"clerk", "guest"}, list={"clerk", "guest"})
    definition = S(Select("never", On("Go", lambda w: None)))


@pytest.fixture
def http(tmp_path: Path) -> Iterator[Http]:
    keys = ApiKey(StoredKey("till", key_hash(KEY), ["guest"]))
    workflows = Sealed, Inner, Shown
    with deployed(
        tmp_path / "a.db", *workflows, internal=[Inner], ui=True, authentication=Authentication((keys,))
    ) as http:
        yield http


NOBODY: dict[str, str] = {}
GUEST = {"Authorization": f"Bearer {KEY}"}

PROBES: list[tuple[str, str, dict[str, Any]]] = [
    ("GET", "/wf/sealed", {}),
    ("GET", "/wf/sealed?x=1", {}),
    ("GET", "/wf/sealed?search.wax=no", {}),
    ("GET", "/wf/sealed?search.wax=1", {}),
    ("GET", "/ui/sealed?x=1", {}),
    ("GET", "/ui/sealed?search.wax=no", {}),
    ("GET", "/ui/sealed/new", {}),
    ("POST", "/ui/sealed/new", {"data": {"id": "1", "v/wax": "no"}}),
    ("POST", "/ui/sealed/new", {"data": {"id": "1", "do": "add"}}),
    ("POST", "/ui/sealed/instances/1", {"data": {"event": "MeltWax", "select": "waxen"}}),
    ("POST", "/ui/sealed/instances/1", {"data": {"event": "MeltWax", "select": "waxen", "do": "add"}}),
    ("POST", "/ui/sealed/instances/1", {"data": {"event": "No", "select": "waxen"}}),
    ("POST", "/ui/sealed/instances/1", {"data": {"operation": "no"}}),
    ("POST", "/ui/sealed/instances/1", {"json": {}}),
    ("POST", "/wf/sealed/1/MeltWax", {"json": "x" * 50}),
    ("POST", "/wf/sealed/1/set", {"json": {}}),
    ("GET", "/definition/sealed", {}),
    ("GET", "/swagger/sealed", {}),
]


@pytest.mark.parametrize("headers", [NOBODY, GUEST])
@pytest.mark.parametrize(("method", "url", "body"), PROBES)
def test_a_workflow_without_rights(
    http: Http, headers: dict[str, str], method: str, url: str, body: dict[str, Any]
) -> None:
    response = http.request(method, url, headers=headers, **body)
    assert response.status_code in ((401,) if headers == NOBODY else (403, 404)), response.text
    assert not re.search("wax", response.text.replace("search.wax", ""), re.IGNORECASE)

    inner = http.request(method, url.replace("sealed", "inner"), headers=headers, **body)
    missing = http.request(method, url.replace("sealed", "missing"), headers=headers, **body)
    assert inner.status_code == missing.status_code == 404
    assert inner.text == missing.text.replace("missing", "inner")
    assert "sealed" not in missing.text


def test_the_denial_of_a_form_is_logged(http: Http, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        for method, url in (("GET", "/ui/sealed?x"), ("GET", "/ui/sealed/new"), ("POST", "/ui/sealed/instances/1")):
            http.request(method, url, headers=GUEST)
    assert [record.getMessage() for record in caplog.records] == [
        "denied list sealed to api-key|till",
        "denied create sealed to api-key|till",
        "denied read sealed/1 to api-key|till",
    ]


def test_only_who_may_create_gets_the_button(http: Http) -> None:
    assert "New instance" not in http.request("GET", "/ui/shown", headers=GUEST).text
    assert http.request("GET", "/ui/shown/new", headers=GUEST).status_code == 403


LONG = "x" * 9_000


@pytest.mark.parametrize(
    ("method", "url", "data"),
    [
        ("POST", "/ui/shown/instances/1", {"event": LONG}),
        ("POST", "/ui/shown/instances/1", {"operation": LONG}),
        ("POST", "/ui/shown/instances/1", {"event": "Go", "select": "never", "do": LONG}),
        ("GET", f"/wf/shown?status={LONG}", {}),
        ("GET", f"/wf/shown?order={LONG}", {}),
        ("GET", f"/wf/shown?limit={LONG}", {}),
        ("GET", f"/wf/shown?cursor={LONG}", {}),
        ("GET", f"/graph/shown?format={LONG}", {}),
    ],
)
def test_a_long_request_is_not_sent_back_as_an_error(http: Http, method: str, url: str, data: dict[str, str]) -> None:
    response = http.request(method, url, headers=GUEST, **({"data": data} if data else {}))
    assert response.status_code == 400 and len(response.content) < 2_000
