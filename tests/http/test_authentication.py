"""Who sends a request, and what it gets: authenticators, roles and views on served applications."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import httpx
import pytest
from pizza import PizzaOrder
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Receive, Scope, Send

from cloud_adapter.errors import InvalidCredential
from cloud_adapter.hosting.dev_server import running
from cloud_adapter.http.authentication import Authentication
from cloud_adapter.http.authenticators.api_key import ApiKey, StoredKey, key_hash, new_key
from cloud_adapter.http.authenticators.claims import claim
from cloud_adapter.http.authenticators.dev import Dev
from cloud_adapter.http.authenticators.memberships import Memberships
from cloud_adapter.http.authenticators.oidc import Oidc
from cloud_adapter.http.authenticators.port import BEARER, Authenticator
from cloud_adapter.http.openapi import DocumentAccess, document
from cloud_adapter.settings import Settings
from cloud_adapter.sockets import listen
from tests.http.helpers import Http, deployed, problem, until
from tests.http.issuer import Issuer
from tests.http.test_authenticators import AUDIENCE, bearer, wrong_tokens
from workflow_core import (
    ANYONE,
    Access,
    Action,
    CreatedBy,
    EventRejected,
    On,
    Principal,
    Retry,
    S,
    Select,
    Step,
    TerminalError,
    Workflow,
)

SECRET = "password hunter2 of https://db.example/orders"


class Parcel(Workflow, name="parcel"):
    """A parcel of a customer."""

    access = Access(create={"customer"}, read={"customer", "manager"}, list={"manager"}, operate={"manager"})
    create_fields = ("note",)

    customer: Annotated[str, CreatedBy] = ""
    note: str = ""
    price: float = 0

    def authorize(self, principal: Principal, action: Action, event: str | None) -> bool | None:
        return "manager" in principal.roles or principal.id == self.customer

    def confirm(self, price: float) -> None:
        self.price = price

    def crash(self) -> None:
        raise RuntimeError(SECRET)

    def refuse(self) -> None:
        raise EventRejected("the parcel is too heavy")

    def ship(self) -> None:
        raise (TerminalError if self.note == "heavy" else RuntimeError)(SECRET)

    definition = S(
        Select(
            "open",
            On("Crash", crash, role="customer"),
            On("Refuse", refuse, role="customer"),
            On("Confirm", confirm, role="manager"),
        ),
        Step("ship", ship, retry=Retry(max_attempts=1)),
    )


class Hidden(Workflow, name="hidden"):
    """A workflow of nobody."""

    definition = S(Select("open", On("Go", lambda w: None)))


class Suggestion(Workflow, name="suggestion"):
    """A box into which anyone may put something."""

    access = Access(create={ANYONE})
    create_fields = ("text",)
    text: str = ""

    definition = S(Select("open", On("Read", lambda w: None, role="manager")))


KEY = new_key()
WORKFLOWS = (Parcel, Hidden, Suggestion)


def ann(issuer: Issuer, **changed: Any) -> dict[str, str]:
    """The headers of a customer."""
    said = {"sub": "ann", "email": "ann@shop.example", "groups": ["customer"]}
    return {"Authorization": bearer(issuer, **(said | changed))}


def manager(issuer: Issuer) -> dict[str, str]:
    return ann(issuer, sub="mia", groups=["managers@shop.example"])


def authentication(issuer: Issuer) -> Authentication:
    keys = ApiKey(StoredKey("till", key_hash(KEY), ["customer"]))
    memberships = Memberships({"manager": ["group:managers@shop.example"]})
    return Authentication((Oidc(issuer.url, AUDIENCE, roles=claim("groups")), keys), memberships)


@pytest.fixture
def http(tmp_path: Path, issuer: Issuer) -> Iterator[Http]:
    with deployed(tmp_path / "a.db", *WORKFLOWS, authentication=authentication(issuer), ui=True, public=True) as http:
        yield http


PARCEL = "/wf/parcel/1"


@pytest.fixture
def parcel(http: Http, issuer: Issuer) -> str:
    http.create(PARCEL, headers=ann(issuer), json={"note": "a"})
    return PARCEL


# --- credentials ---------------------------------------------------------------------------


def test_without_credentials(http: Http, parcel: str) -> None:
    for method, url in (
        ("GET", parcel),
        ("GET", "/wf/parcel/other"),
        ("POST", "/wf/parcel/2"),
        ("POST", f"{parcel}/Confirm"),
        ("POST", f"{parcel}/cancel"),
        ("GET", "/wf/parcel"),
        ("GET", f"{parcel}/graph"),
        ("GET", "/definition/parcel"),
        ("GET", "/swagger/parcel"),
        ("GET", "/reference/parcel"),
        ("GET", "/graph/parcel"),
    ):
        response = http.request(method, url)
        assert problem(response)["title"] == "Unauthenticated", url
        assert (response.status_code, response.headers["www-authenticate"]) == (401, 'Bearer realm="gorchestrate"')
    assert http.create("/wf/suggestion/1", json={"text": "more cheese"})["meta"]["status"] == "waiting"


def test_a_wrong_credential_is_not_taken_for_none(http: Http, issuer: Issuer) -> None:
    foreign = bearer(issuer, iss="https://other.example")
    for authorization in [*wrong_tokens(issuer), foreign, "Bearer gok_x", f"Bearer {KEY}x", "Bearer opaque"]:
        for method, url in (("POST", "/wf/suggestion/1"), ("GET", "/ui/"), ("GET", "/")):
            response = http.request(method, url, headers={"Authorization": authorization})
            assert response.status_code == 401, authorization
            assert 'error="invalid_token", error_description="' in response.headers["www-authenticate"]
    assert http.problem("POST", "/wf/suggestion/1/Read")["title"] == "Unauthenticated"


class Tickets:
    """An authenticator of an application. It reads other tokens than those that the test sends."""

    scheme = BEARER

    async def __call__(self, connection: HTTPConnection) -> Principal | None:
        return None


ONLY_KEYS = "the token is no API key: these begin with gok_, and no other tokens are accepted here"
OTHER_ISSUER = "the token is of an issuer that is not accepted here"


@pytest.mark.parametrize(
    ("kinds", "sent", "reason"),
    [
        (("keys",), "opaque", ONLY_KEYS),
        (("keys",), "foreign", ONLY_KEYS),
        (("keys",), "key", "the API key is unknown"),
        (("issuer",), "foreign", OTHER_ISSUER),
        (("issuer",), "key", "API keys are not accepted here"),
        (("issuer", "keys"), "foreign", OTHER_ISSUER),
        (("keys", "issuer"), "opaque", "the token cannot be read: it is not a JWT"),
        (("keys", "tickets"), "opaque", "the token is of a kind that is not accepted here"),
    ],
)
def test_why_a_token_is_refused(issuer: Issuer, kinds: tuple[str, ...], sent: str, reason: str) -> None:
    known: dict[str, Authenticator] = {
        "keys": ApiKey(StoredKey("till", key_hash(KEY))),
        "issuer": Oidc(issuer.url, AUDIENCE),
        "tickets": Tickets(),
    }
    tokens = {"opaque": "Bearer k", "key": "Bearer gok_x", "foreign": bearer(issuer, iss="https://other.example")}
    headers = [(b"authorization", tokens[sent].encode())]
    authentication = Authentication(tuple(known[kind] for kind in kinds))
    with pytest.raises(InvalidCredential, match=f"^{reason}$"):
        asyncio.run(authentication.principal(HTTPConnection({"type": "http", "headers": headers})))


@pytest.mark.parametrize(
    "headers",
    [
        {"X-Goog-Authenticated-User-Email": "accounts.google.com:mia@shop.example"},
        {"X-Goog-IAP-JWT-Assertion": "accounts.google.com:mia@shop.example"},
        {"X-Dev-User": "mia; roles=manager"},
        {"X-Forwarded-User": "mia", "X-Forwarded-Email": "mia@shop.example", "X-Forwarded-Groups": "manager"},
        {"Authorization": "Basic bWlhOm1pYQ=="},
        {"Cookie": "session=mia"},
    ],
)
def test_what_proves_nothing_is_ignored(http: Http, parcel: str, headers: dict[str, str]) -> None:
    assert http.problem("GET", parcel, headers=headers)["title"] == "Unauthenticated"


def test_a_token_in_the_url_is_refused(http: Http, parcel: str, issuer: Issuer) -> None:
    token = ann(issuer)["Authorization"].removeprefix("Bearer ")
    assert http.problem("GET", f"{parcel}?access_token={token}")["status"] in (400, 401)


def test_two_credentials_of_one_kind_are_refused(http: Http, parcel: str, issuer: Issuer) -> None:
    headers = [("Authorization", ann(issuer)["Authorization"]), ("authorization", f"Bearer {KEY}")]
    assert "repeated" in http.problem("GET", parcel, headers=headers)["detail"]


def test_roles_of_the_runtime_cannot_be_given(http: Http, parcel: str, issuer: Issuer) -> None:
    for groups in (["*"], ["*", "anyone", "authenticated"], "*"):
        assert http.problem("GET", parcel, headers=ann(issuer, sub="eve", groups=groups))["status"] == 404
        assert http.problem("GET", "/wf/parcel", headers=ann(issuer, sub="eve", groups=groups))["status"] == 403


def test_health_needs_no_credentials_and_no_issuer(http: Http, issuer: Issuer) -> None:
    assert http.get("/healthz") == {"status": "ok"}
    assert http.ok("GET", "/healthz", headers={"Authorization": "Bearer wrong"}) == {"status": "ok"}
    assert issuer.asked == []


def test_an_issuer_that_cannot_be_reached_is_said_without_its_address(http: Http, issuer: Issuer) -> None:
    issuer.keys = False
    response = http.request("GET", PARCEL, headers=ann(issuer))
    assert (response.status_code, response.headers["retry-after"]) == (503, "1")
    assert issuer.url not in response.text


def test_an_issuer_that_hangs_blocks_nobody_else(tmp_path: Path, issuer: Issuer) -> None:
    issuer.held = threading.Event()
    with (
        running(
            WORKFLOWS, Settings(db=tmp_path / "a.db"), listen("127.0.0.1", 0), authentication=authentication(issuer)
        ) as url,
        httpx.Client(base_url=url, timeout=30) as client,
    ):
        answers: list[int] = []

        def ask() -> None:
            answers.append(httpx.get(f"{url}{PARCEL}", headers=ann(issuer), timeout=30).status_code)

        waiting = [threading.Thread(target=ask) for _ in range(20)]
        for thread in waiting:
            thread.start()
        until(lambda: issuer.asked)
        assert client.post("/wf/parcel/2", headers={"Authorization": f"Bearer {KEY}"}).status_code == 201
        assert client.get("/healthz").status_code == 200
        issuer.held.set()
        for thread in waiting:
            thread.join()
    assert set(answers) == {404}
    assert issuer.asked.count("/jwks") == 1


# --- rights --------------------------------------------------------------------------------


def test_a_creator(http: Http, parcel: str, issuer: Issuer) -> None:
    mine = http.ok("GET", parcel, headers=ann(issuer))
    assert mine["state"] == {"customer": f"{issuer.url}|ann", "note": "a", "price": 0}
    assert [event["name"] for event in mine["events"]] == ["Crash", "Refuse"]
    for method, url in (("GET", parcel), ("GET", f"{parcel}/graph"), ("POST", f"{parcel}/Refuse"), ("POST", parcel)):
        of_another = http.request(method, url, headers=ann(issuer, sub="bob"))
        assert of_another.status_code in (404, 409 if url == parcel else 404), url
    refused = http.problem("POST", f"{parcel}/Confirm", headers=ann(issuer), json=3)
    assert (refused["status"], "'manager'" in refused["detail"], "mia" in refused["detail"]) == (403, True, False)
    assert http.problem("POST", f"{parcel}/pause", headers=ann(issuer))["status"] == 403
    assert http.problem("GET", "/wf/parcel", headers=ann(issuer))["status"] == 403
    (error,) = http.problem("POST", "/wf/parcel/2", headers=ann(issuer), json={"customer": "bob"})["errors"]
    assert (error["field"], error["type"]) == ("customer", "not_in_create_fields")


def test_a_manager_and_a_machine(http: Http, parcel: str, issuer: Issuer) -> None:
    assert http.ok("POST", f"{parcel}/pause", headers=manager(issuer))["meta"]["status"] == "paused"
    assert http.ok("POST", f"{parcel}/unpause", headers=manager(issuer))["history"]
    assert [one["id"] for one in http.ok("GET", "/wf/parcel", headers=manager(issuer))["instances"]] == ["1"]
    till = {"Authorization": f"bearer {KEY}"}
    assert http.create("/wf/parcel/2", headers=till)["state"]["customer"] == "api-key|till"
    assert http.problem("GET", parcel, headers=till)["status"] == 404


# --- views ---------------------------------------------------------------------------------


def test_two_views_of_an_instance(http: Http, parcel: str, issuer: Issuer) -> None:
    public, operator = (http.ok("GET", parcel, headers=headers) for headers in (ann(issuer), manager(issuer)))
    assert public.keys() == {"meta", "state", "events"}
    assert public["meta"].keys() == {"id", "workflow", "status", "created_at", "updated_at", "wake_at", "error"}
    assert operator.keys() == {"meta", "state", "events", "history"}
    assert {"threads", "buffer", "leased_until"} < operator["meta"].keys()
    assert "setup_data" not in json.dumps(operator)


@pytest.mark.parametrize("note", ["light", "heavy"])
def test_texts_of_errors_are_for_operators(tmp_path: Path, issuer: Issuer, note: str) -> None:
    options = {"authentication": authentication(issuer)}
    with (
        running(WORKFLOWS, Settings(db=tmp_path / "a.db"), listen("127.0.0.1", 0), **options) as url,
        httpx.Client(base_url=url) as client,
    ):
        http = Http(client)
        http.create(PARCEL, headers=ann(issuer), json={"note": note})
        http.send(f"{PARCEL}/Confirm", 3, headers=manager(issuer))
        until(lambda: http.ok("GET", PARCEL, headers=manager(issuer))["meta"]["status"] == "failed")
        written_for_clients = note == "heavy"
        for path in (PARCEL, f"{PARCEL}/graph", f"{PARCEL}/graph?format=json", "/ui/parcel/instances/1"):
            assert SECRET in http.request("GET", path, headers=manager(issuer)).text, path
            assert (SECRET in http.request("GET", path, headers=ann(issuer)).text) == written_for_clients, path
        error = http.ok("GET", PARCEL, headers=ann(issuer))["meta"]["error"]
        assert error["type"] == ("TerminalError" if written_for_clients else "RuntimeError")
        assert SECRET in http.request("GET", "/wf/parcel", headers=manager(issuer)).text


def test_errors_of_handlers(http: Http, parcel: str, issuer: Issuer, caplog: pytest.LogCaptureFixture) -> None:
    response = http.request("POST", f"{parcel}/Crash", headers=ann(issuer))
    assert (response.status_code, SECRET in response.text) == (500, False)
    (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert record.__dict__["fields"] == {"error_id": response.json()["error_id"]}
    assert SECRET in record.getMessage()
    assert http.problem("POST", f"{parcel}/Refuse", headers=ann(issuer))["detail"] == "the parcel is too heavy"


def test_an_operator_reads_the_text_of_an_error(tmp_path: Path, issuer: Issuer) -> None:
    headers = ann(issuer, sub="mia", groups=["managers@shop.example", "customer"])
    with deployed(tmp_path / "a.db", *WORKFLOWS, authentication=authentication(issuer)) as http:
        http.create(PARCEL, headers=headers)
        assert SECRET in http.problem("POST", f"{PARCEL}/Crash", headers=headers)["detail"]


def test_pages_show_what_one_may_do(http: Http, parcel: str, issuer: Issuer) -> None:
    page, headers = "/ui/parcel/instances/1", ann(issuer)
    public, operator = (http.request("GET", page, headers=who).text for who in (headers, manager(issuer)))
    assert "Send Refuse" in public and "Send Confirm" not in public and "Pause this instance" not in public
    assert "Send Confirm" in operator and "Pause this instance" in operator
    assert http.request("GET", page, headers=ann(issuer, sub="bob")).status_code == 404
    assert http.request("GET", page).status_code == 401
    assert 'name="v/note"' in (new := http.request("GET", "/ui/parcel/new", headers=headers).text)
    assert "price" not in new and "customer" not in new
    workflows = http.request("GET", "/ui/", headers=headers).text
    assert "ui/parcel" in workflows and "hidden" not in workflows.replace("hidden>", "")
    posted = http.request("POST", page, headers=headers, data={"operation": "pause", "do": "send"})
    assert (posted.status_code, "&#39;manager&#39;" in posted.text) == (403, True)


# --- documents -----------------------------------------------------------------------------


def test_documents_show_what_one_may_do(http: Http, issuer: Issuer) -> None:
    customer = http.ok("GET", "/swagger/parcel", headers=ann(issuer))
    boss = http.ok("GET", "/swagger/parcel", headers=manager(issuer))
    assert _operations(customer) == {
        *("post /wf/parcel/{id}", "get /wf/parcel/{id}", "get /wf/parcel/{id}/graph", "get /graph/parcel"),
        *("post /wf/parcel/{id}/Crash", "post /wf/parcel/{id}/Refuse"),
        "get /wf/parcel/{id}/outcomes/{token}",
    }
    assert {"post /wf/parcel/{id}/Confirm", "post /wf/parcel/{id}/pause", "get /wf/parcel"} < _operations(boss)
    assert "post /wf/parcel/{id}" not in _operations(boss)
    assert customer["components"]["securitySchemes"].keys() == {"Oidc", "ApiKey"}
    assert customer["security"] == [{"Oidc": []}, {"ApiKey": []}]
    create = customer["paths"]["/wf/parcel/{id}"]["post"]
    assert {"401", "403"} < create["responses"].keys()
    schema = create["requestBody"]["content"]["application/json"]["schema"]["allOf"][0]["$ref"].rpartition("/")[2]
    assert list(customer["components"]["schemas"][schema]["properties"]) == ["note"]
    assert http.ok("GET", "/definition/parcel", headers=ann(issuer))["input"]["properties"].keys() == {"note"}


def test_examples_name_no_event_that_one_may_not_send() -> None:
    for roles, named in ((["customer"], False), (["customer", "manager"], True)):
        access = DocumentAccess(Principal("iss|ann", roles=frozenset(roles)), {}, True)
        shop = document(PizzaOrder, "http://test", access, max_body_bytes=1)
        assert ("ConfirmOrder" in json.dumps(shop)) is named


def _operations(document: Mapping[str, Any]) -> set[str]:
    return {f"{method} {path}" for path, item in document["paths"].items() for method in item if method != "parameters"}


def test_a_workflow_of_nobody_is_not_described(http: Http, issuer: Issuer) -> None:
    assert http.get("/")["workflows"] == ["/definition/suggestion"]
    assert http.ok("GET", "/", headers=ann(issuer))["workflows"] == ["/definition/parcel", "/definition/suggestion"]
    for path in ("definition", "graph", "swagger", "reference"):
        details = [http.problem("GET", f"/{path}/{name}", headers=manager(issuer)) for name in ("hidden", "nonsense")]
        assert [detail["status"] for detail in details] == [404, 404]
        assert details[0]["detail"].replace("hidden", "nonsense") == details[1]["detail"]


# --- Dev -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("peer", "status"), [("127.0.0.1", 201), ("::1", 201), ("192.0.2.7", 401), ("", 401)])
def test_dev_is_for_this_machine(tmp_path: Path, peer: str, status: int) -> None:
    def from_peer(app: ASGIApp) -> ASGIApp:
        async def peered(scope: Scope, receive: Receive, send: Send) -> None:
            await app(dict(scope) | {"client": (peer, 5000)}, receive, send)

        return peered

    with deployed(tmp_path / "a.db", Parcel, authentication=Authentication((Dev(),)), around=from_peer) as http:
        response = http.request("POST", PARCEL, headers={"X-Dev-User": "ann; roles=customer"})
        assert response.status_code == status
        claims = {"X-Dev-User": "ann; roles=customer", "X-Forwarded-For": "127.0.0.1"}
        assert http.request("POST", PARCEL, headers=claims).status_code == 401


def test_the_development_server_also_takes_dev_users(tmp_path: Path, issuer: Issuer) -> None:
    options = {"authentication": authentication(issuer), "internal": [Hidden]}
    with (
        running(WORKFLOWS, Settings(db=tmp_path / "a.db"), listen("127.0.0.1", 0), **options) as url,
        httpx.Client(base_url=url, headers={"X-Dev-User": "ann; roles=customer"}) as client,
    ):
        assert client.post(PARCEL).json()["state"]["customer"] == "dev|ann"
        assert client.post(f"{PARCEL}/set", json={"fields": {"price": 1}}).status_code == 403
        forwarded = client.get(PARCEL, headers={"X-Forwarded-For": "127.0.0.1"})
        assert forwarded.status_code == 401
        assert client.get(PARCEL, headers={"X-Dev-User": ""}).status_code == 401
        assert client.post("/wf/hidden/1").status_code == 404
        assert httpx.get(f"{url}{PARCEL}").status_code == 401
