"""What documents show of events that outside systems send: signed ones, and those of callback URLs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from cloud_adapter.hosting.dev_server import running
from cloud_adapter.http import openapi
from cloud_adapter.http.authentication import Authentication
from cloud_adapter.http.authenticators.api_key import ApiKey, StoredKey, key_hash, new_key
from cloud_adapter.http.openapi.security import TOKEN
from cloud_adapter.settings import Settings
from cloud_adapter.sockets import listen
from tests.http.helpers import BODY_BYTES_MAX, Http, deployed
from workflow_core import EVERYONE, Access, On, S, Select, WebhookRequest, Workflow

KEY = new_key()
KEYS = ApiKey(StoredKey("till-1", key_hash(KEY), ["till"]))
SCHEME: dict[str, list[str]] = {"ApiKey": []}
CALLBACK: dict[str, list[str]] = {"callbackUrl": []}


class Sale(Workflow, name="sale"):
    access = Access(create={"till"}, read={"till"}, send={"till"})

    def is_signed(self, request: WebhookRequest) -> bool:
        """The header `X-Signature` contains the signature."""
        return request.headers.get("x-signature") == "right"

    def take(self, amount: int) -> None: ...

    definition = S(
        Select("pay", On("Paid", take, role="till"), On("Signed", take, verify=is_signed)),
        Select("again", On("Either", take, verify=is_signed)),
        Select("then", On("Either", take, role="till"), On("Close", take)),
    )


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The document of a server with an authenticator and callback URLs, as a till sees it."""
    settings = Settings(db=tmp_path_factory.mktemp("senders") / "db")
    with (
        running((Sale,), settings, listen("127.0.0.1", 0), authentication=Authentication((KEYS,))) as url,
        httpx.Client(base_url=url, headers={"Authorization": f"Bearer {KEY}"}) as client,
    ):
        return Http(client).get("/swagger/sale")


def post(document: Any, event: str) -> Any:
    return document["paths"][f"/wf/sale/{{id}}/{event}"]["post"]


def test_the_document_is_valid(document: Any) -> None:
    OpenAPIV31SpecValidator(document).validate()


def test_each_event_says_which_credentials_it_takes(document: Any) -> None:
    schemes: list[dict[str, list[str]]] = [
        {name: []} for name in document["components"]["securitySchemes"] if name != "callbackUrl"
    ]
    assert SCHEME in schemes and document["security"] == schemes
    assert document["components"]["securitySchemes"]["callbackUrl"]["in"] == "query"
    security = {event: post(document, event)["security"] for event in ("Paid", "Signed", "Either", "Close")}
    assert security == {
        "Paid": [*schemes, CALLBACK],
        "Signed": [{}, CALLBACK],
        "Either": [*schemes, {}, CALLBACK],
        "Close": [*schemes, CALLBACK],
    }
    assert "security" not in document["paths"]["/wf/sale/{id}"]["post"]
    assert "callback-not-accepted" in post(document, "Paid")["responses"]["409"]["description"]


def test_a_signed_event_says_how_it_is_signed(document: Any) -> None:
    tags = {event: post(document, event)["tags"] for event in ("Paid", "Signed", "Either", "Close")}
    assert tags == {
        "Paid": ["till"],
        "Signed": ["signed events"],
        "Either": ["till", "signed events"],
        "Close": ["events"],
    }
    assert {"signed events"} <= {tag["name"] for tag in document["tags"]}
    for event, where in (("Signed", ""), ("Either", " in *again*")):
        text = post(document, event)["description"]
        assert f"which signs the request{where}: the workflow checks the signature" in text
        assert "The header `X-Signature` contains the signature." in text
    assert "sign" not in post(document, "Paid")["description"]


def test_in_front_of_a_private_service_everyone_needs_its_token() -> None:
    access = openapi.DocumentAccess(EVERYONE, {"ApiKey": KEYS.scheme}, public=False, callbacks=True)
    found = openapi.document(Sale, "https://a.b", access, max_body_bytes=BODY_BYTES_MAX)
    OpenAPIV31SpecValidator(found).validate()
    assert post(found, "Signed")["security"] == [{TOKEN: []}, {TOKEN: []} | CALLBACK]


def test_in_an_open_api_a_signed_event_is_shown_and_may_be_refused(tmp_path: Path) -> None:
    with deployed(tmp_path / "db", Sale, public=True) as http:
        found = http.get("/swagger/sale")
        http.create("/wf/sale/1")
        assert "securitySchemes" not in found["components"]
        assert "security" not in post(found, "Signed")
        assert "unauthenticated" in post(found, "Signed")["responses"]["401"]["description"]
        assert "401" not in post(found, "Paid")["responses"]
        assert http.problem("POST", "/wf/sale/1/Signed", json=5)["status"] == 401
        assert "signed events" in http.client.get("/reference/sale").text


def test_definitions_and_diagrams_show_it(tmp_path: Path) -> None:
    with deployed(tmp_path / "db", Sale) as http:
        events = {(event["name"], event["select"]): event for event in http.get("/definition/sale")["events"]}
        assert {key: event["verify"] for key, event in events.items()} == {
            ("Paid", "pay"): False,
            ("Signed", "pay"): True,
            ("Either", "again"): True,
            ("Either", "then"): False,
            ("Close", "then"): False,
        }
        (pay, *_) = http.get("/definition/sale")["statements"]
        assert [(case["name"], case["role"], case["verify"]) for case in pay["cases"]] == [
            ("Paid", "till", False),
            ("Signed", None, True),
        ]
        assert "Signed (signed)" in http.client.get("/graph/sale").text
        assert ">signed<" in http.client.get("/graph/sale?format=svg").text
