"""Secrets, and numbers that JSON does not have, over HTTP and on the pages."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel, ConfigDict, SecretStr

from tests.http.helpers import Http, serving
from workflow_core import On, S, Select, Workflow
from workflow_core.secret_values import MASK

SECRET = "hunter2"


class Vault(Workflow, name="vault"):
    """A workflow with a secret that has a default."""

    create_fields = ("key", "note")

    key: SecretStr = SecretStr("hunter2 by default")
    note: str = ""

    def put(self, key: SecretStr = SecretStr("hunter2 by default")) -> str:  # noqa: B008 - it is not changed
        self.key = key
        return key.get_secret_value()[:1]

    definition = S(Select("wait", On("Put", put)))


class Ratio(BaseModel):
    model_config = ConfigDict(ser_json_inf_nan="constants")
    value: float = 1.0


class Endless(Workflow, name="endless"):
    model_config = ConfigDict(ser_json_inf_nan="constants")
    ratio: float = 1.0
    inner: Ratio = Ratio()

    def grow(self) -> None:
        self.ratio, self.inner = float("-inf"), Ratio(value=float("nan"))

    definition = S(Select("wait", On("Grow", grow), On("Look", lambda w: None)), Select("end", On("End", grow)))


@pytest.fixture(scope="module")
def http(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Http]:
    path: Path = tmp_path_factory.mktemp("http") / "http.db"
    with serving(path, Vault, Endless, ui=True) as http:
        yield http


def test_a_secret_is_taken_and_never_shown(http: Http) -> None:
    created = http.create("/wf/vault/a", json={"key": SECRET})
    assert created["state"] == {"key": MASK, "note": ""}
    page = http.request("GET", "/ui/vault/instances/a").text
    assert MASK in page
    assert 'type="password"' in page
    for url in (
        "/wf/vault/a",
        "/ui/vault/instances/a",
        "/ui/vault",
        "/wf/vault",
        "/swagger/vault",
        "/definition/vault",
    ):
        response = http.request("GET", url)
        assert response.is_success, url
        assert SECRET not in response.text, url
    assert MASK not in http.request("GET", "/swagger/vault").text, "nobody is told to send this"
    assert http.send("/wf/vault/a/Put", "other") == "o"


@pytest.mark.parametrize("url", ["/wf/vault/b", "/wf/vault/b/Put"])
def test_what_is_shown_is_not_taken_for_the_secret(http: Http, url: str) -> None:
    if url.endswith("Put"):
        http.create("/wf/vault/b", json={"key": SECRET})
    problem = http.problem("POST", url, json=MASK if url.endswith("Put") else {"key": MASK})
    assert problem["status"] == 422
    (error,) = problem["errors"]
    assert error["type"] == "masked_secret"
    assert error["field"] == ("" if url.endswith("Put") else "key")


def test_a_number_that_json_does_not_have_is_shown_by_its_name(http: Http) -> None:
    http.create("/wf/endless/a")
    http.send("/wf/endless/a/Grow")
    assert http.get("/wf/endless/a")["state"] == {"ratio": "-Infinity", "inner": {"value": "NaN"}}
    assert "-Infinity" in http.request("GET", "/ui/endless/instances/a").text
