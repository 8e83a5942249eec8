"""Attacks on served applications that belong to no other file: fields that nobody may set, texts that are markup."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated
from urllib.parse import quote

import pytest

from tests.http.helpers import Http, deployed
from tests.http.pages import forms
from workflow_core import CreatedBy, On, S, Select, Workflow

MARKUP = """<script>alert(1)</script><img src=x onerror=alert(2)>"'</textarea></title>"""


class Parcel(Workflow, name="parcel"):
    create_fields = ("note", "text")
    search_fields = ("note",)

    customer: Annotated[str, CreatedBy] = ""
    note: str = ""
    text: str = ""
    price: float = 10

    def write(self, text: str) -> str:
        self.text = text
        return text

    definition = S(Select("open", On("Write", write)), Select("written", On("Write again", write)))


@pytest.fixture
def http(tmp_path: Path) -> Iterator[Http]:
    with deployed(tmp_path / "parcels.db", Parcel, ui=True) as http:
        yield http


@pytest.mark.parametrize(
    "body",
    [
        b'{"note": "a", "price": 1}',
        b'{"price": 1, "price": 10}',
        b'{"note": "a", "note": "b"}',
        b'{"pr\\u0069ce": 1}',
        b'{"note": "a", "note": {"price": 1}}',
        b'{"customer": "", "customer": "bob"}',
        b'{"Price": 1}',
        b'{" price": 1}',
        b'{"price\\u0000": 1}',
        b'{"note.price": 1}',
        b'{"__dict__": {"price": 1}}',
        b'{"model_extra": {"price": 1}}',
        b'[["price", 1]]',
        b'"{\\"price\\": 1}"',
    ],
)
def test_no_spelling_gets_around_the_fields_of_a_creator(http: Http, body: bytes) -> None:
    assert http.problem("POST", "/wf/parcel/1", content=body)["status"] == 422
    assert http.problem("GET", "/wf/parcel/1")["status"] == 404


def test_a_form_sets_no_field_that_it_does_not_have(http: Http) -> None:
    (new,) = [form for form in forms(http.request("GET", "/ui/parcel/new").text) if "Create" in form.buttons]
    for field in ("v/price", "j/price", "v/customer", "j/"):
        http.request("POST", "/ui/parcel/new", data=new.posted("Create", id="1") | {field: "1"})
    response = http.request("GET", "/wf/parcel/1")
    assert response.status_code == 404 or response.json()["state"]["price"] == 10
    assert response.status_code == 404 or response.json()["state"]["customer"] == ""


def test_stored_texts_are_no_markup_on_a_page(http: Http) -> None:
    http.create("/wf/parcel/1", json={"note": MARKUP, "text": MARKUP})
    http.send("/wf/parcel/1/Write", MARKUP, headers={"Idempotency-Key": "k"})
    http.send("/wf/parcel/1/pause", {"by": MARKUP, "reason": MARKUP})
    pages = ("/ui/parcel/instances/1", "/ui/parcel/instances/1?sent=Write&key=k", "/ui/parcel")
    for path in (*pages, "/ui/<script>alert(1)<img src=x>", f"/ui/parcel?search.note={quote(MARKUP)}"):
        response = http.request("GET", path)
        assert "alert(1)" in response.text
        assert "<script>alert" not in response.text and "<img src=x" not in response.text
        policy = response.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'") and "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
