"""Parameters with a default: the body of an event may be empty, and OpenAPI and the forms say so."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import ConfigDict

from tests.http.helpers import Http, serving
from workflow_core import On, S, Select, While, Workflow


class Parcels(Workflow, name="parcels"):
    """Its events have an input that may be left out."""

    log: list[str] = []

    def ship(self, priority: int = 1) -> str:
        self.log.append(f"priority {priority}")
        return self.log[-1]

    def keep(self, text: str | None = "for ever") -> str:
        self.log.append(f"keep {text}")
        return self.log[-1]

    definition = S(
        While("open", lambda w: True, Select("wait", On("Ship", ship), On("Keep", keep), On("Late", ship))),
        Select("early", On("Early", ship, buffered=True)),
    )


class Capped(Workflow, name="capped"):
    """Its default is a number that JSON does not have."""

    create_fields = ("limit",)

    model_config = ConfigDict(ser_json_inf_nan="constants")
    limit: float = math.inf

    definition = S(Select("wait", On("Stop", lambda w: None)))


@pytest.fixture(scope="module")
def http(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Http]:
    path: Path = tmp_path_factory.mktemp("defaults") / "parcels.db"
    with serving(path, Parcels, Capped) as http:
        http.create("/wf/parcels/a")
        yield http


@pytest.mark.parametrize(
    ("event", "body", "output"),
    [
        ("Ship", b"", "priority 1"),
        ("Ship", b"3", "priority 3"),
        ("Keep", b"", "keep for ever"),
        ("Keep", b"null", "keep None"),
    ],
)
def test_an_empty_body_means_the_default(http: Http, event: str, body: bytes, output: str) -> None:
    assert http.ok("POST", f"/wf/parcels/a/{event}", content=body) == output


def test_a_kept_event_has_the_default_too(http: Http) -> None:
    response = http.request("POST", "/wf/parcels/a/Early", content=b"")
    assert response.status_code == 202, response.text


def test_null_is_no_number(http: Http) -> None:
    assert http.problem("POST", "/wf/parcels/a/Ship", content=b"null")["status"] == 422


def test_it_is_optional_in_the_openapi_document(http: Http) -> None:
    paths = http.get("/swagger/parcels")["paths"]
    body = paths["/wf/parcels/{id}/Ship"]["post"]["requestBody"]
    assert body["required"] is False
    assert body["content"]["application/json"]["schema"] == {"type": "integer", "default": 1}


def test_its_form_shows_the_default(http: Http) -> None:
    page = http.request("GET", "/ui/parcels/instances/a").text
    assert 'value="1"' in page
    assert 'value="for ever"' in page or "for ever</textarea>" in page


def test_a_default_that_json_does_not_have(http: Http) -> None:
    assert "default" not in http.get("/definition/capped")["input"]["properties"]["limit"]
    assert http.get("/swagger/capped")["paths"]
    http.create("/wf/capped/a")
    assert http.get("/wf/capped/a")["state"]["limit"] == "Infinity"
    problem = http.problem("POST", "/wf/capped/b", json={"limit": "inf"})
    assert (problem["status"], problem["errors"][0]["field"]) == (422, "limit")
    assert http.request("GET", "/ui/capped").status_code == 200
