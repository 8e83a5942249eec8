"""Callback URLs and signed requests on served applications."""

from __future__ import annotations

import hmac
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from cloud_adapter.errors import SettingsError
from cloud_adapter.hosting.callback_keys import KeyFile
from cloud_adapter.hosting.dev_server import running
from cloud_adapter.http.authentication import Authentication
from cloud_adapter.http.authenticators.api_key import ApiKey, StoredKey, key_hash, new_key
from cloud_adapter.settings import Settings
from cloud_adapter.sockets import listen
from tests.http.helpers import Http, expected, until
from workflow_core import Access, EventRequest, On, S, Select, Step, StepContext, WebhookRequest, Workflow

URLS: dict[tuple[str, str], str] = {}
"""What the outside systems were given, by instance and event."""

KEY = new_key()
OLD, NEW = "b2xk" * 11, "bmV3" * 11
REFUSED = expected(
    409,
    "Callback not accepted",
    "the workflow does not wait for this callback: it has received it, no longer waits, or does not wait yet",
)


class Provider:
    def setup(self, request: EventRequest) -> None:
        URLS[request.workflow_id, request.event] = request.callback_url()

    def handle(self, request: EventRequest, amount: int) -> int:
        request.workflow.paid.append(amount)
        return amount

    def teardown(self, request: EventRequest, handled: bool) -> None:
        pass


class Sale(Workflow, name="sale"):
    access = Access(create={"till"}, read={"till"}, operate={"till"}, send={"till"})
    paid: list[int] = []
    text: str = ""

    def ask(self, step: StepContext) -> None:
        URLS[step.workflow_id, "Answer/it"] = step.callback_url("Answer/it")

    def answer(self, text: str) -> None:
        self.text = text

    def is_signed(self, request: WebhookRequest) -> bool:
        expected = hmac.new(b"s3cret", request.body, "sha256").hexdigest()
        return hmac.compare_digest(request.headers.get("x-signature", ""), expected)

    definition = S(
        Select("pay", On("Paid", Provider(), role="till")),
        Step("ask", ask),
        Select("answer", On("Answer/it", answer), On("Close", answer)),
        Select("signed", On("Sign", answer, verify=is_signed)),
    )


@pytest.fixture(scope="module")
def sales(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Http]:
    """A server with an authenticator. Its client sends no credentials."""
    settings = Settings(db=tmp_path_factory.mktemp("callbacks") / "sales.db")
    authentication = Authentication((ApiKey(StoredKey("till-1", key_hash(KEY), ["till"])),))
    with (
        running((Sale,), settings, listen("127.0.0.1", 0), authentication=authentication) as url,
        httpx.Client(base_url=url, timeout=60) as client,
    ):
        yield Http(client)


TILL = {"Authorization": f"Bearer {KEY}"}


def url_of(sales: Http, id: str, event: str = "Paid") -> str:
    """The URL that an outside system was given for an event of an instance."""
    if (id, "Paid") not in URLS:
        sales.ok("POST", f"/wf/sale/{id}", headers=TILL)
    return until(lambda: URLS.get((id, event)))


def state(sales: Http, id: str) -> Any:
    return sales.ok("GET", f"/wf/sale/{id}", headers=TILL)["state"]


def accepted(sales: Http, url: str, input: Any) -> Any:
    """The response to a callback. It may come before the commit of the setup that made its URL."""
    return until(lambda: (found := sales.request("POST", url, json=input)).is_success and found).json()


def test_an_outside_system_needs_only_the_url(sales: Http, id: str) -> None:
    url = url_of(sales, id)
    assert url.startswith(str(sales.client.base_url))
    assert accepted(sales, url, 5) == 5
    assert sales.send(url, 5) == 5
    assert sales.problem("POST", url, json=6) == REFUSED
    answer = url_of(sales, id, "Answer/it")
    assert sales.send(answer, "yes") is None
    assert sales.problem("POST", answer, json="no") == REFUSED
    assert state(sales, id) == {"paid": [5], "text": "yes"}


def test_other_credentials_beside_it_do_not_count(sales: Http, id: str) -> None:
    url = url_of(sales, id)
    assert accepted(sales, url, 5) == 5
    for headers in (TILL, {"Authorization": "Bearer other"}, {"X-Dev-User": "ann; roles=till"}):
        assert sales.problem("POST", url, json=6, headers=headers) == REFUSED


def test_nothing_else_can_be_done_with_it(sales: Http, id: str) -> None:
    url = url_of(sales, id)
    path = f"/wf/sale/{id}"
    query = f"?{urlsplit(url).query}"
    token = re.sub(r".*callback=", "", url)
    other = f"{id}-other"
    sales.ok("POST", f"/wf/sale/{other}", headers=TILL)
    statuses = {
        ("POST", f"{path}/Close{query}"): 401,
        ("POST", f"{path}/cancel{query}"): 401,
        ("POST", f"{path}{query}"): 401,
        ("POST", f"{path}-new{query}"): 401,
        ("POST", f"/wf/sale/{other}/Paid{query}"): 401,
        ("POST", f"{path}/Paid?callback={token}"): 401,
        ("POST", f"{path}/Paid?thread=main&callback={token}"): 401,
        ("POST", f"{path}/Paid{query.replace('main', 'side')}"): 401,
        ("POST", f"{url}&callback={token}"): 400,
        ("POST", f"{url}&thread=main"): 401,
        ("POST", f"{url}&wait_id=main%401"): 400,
        ("POST", f"{url}&more=1"): 400,
        ("POST", url[:-1]): 401,
        ("POST", f"{url}%20"): 401,
        ("GET", f"{path}?callback={token}"): 400,
        ("GET", f"{path}{query}"): 400,
        ("GET", f"/wf/sale?callback={token}"): 401,
        ("GET", url): 405,
    }
    assert {sent: sales.request(*sent, json=5).status_code for sent in statuses} == statuses
    assert state(sales, id)["paid"] == []
    assert accepted(sales, url, 5) == 5


def test_a_token_stands_in_no_log_of_ours(sales: Http, id: str, caplog: pytest.LogCaptureFixture) -> None:
    url = url_of(sales, id)
    token = re.sub(r".*callback=", "", url)
    with caplog.at_level(logging.DEBUG):
        until(lambda: sales.problem("POST", f"{url}x", json=5) and "refused" in caplog.text)  # a flood is not logged
        accepted(sales, url, 5)
        sales.problem("POST", url, json=6)
    ours = [str(vars(record)) for record in caplog.records if record.name.startswith("gorchestrate")]
    assert not [line for line in ours if token in line or token.rpartition(".")[2] in line]


# --- with a limit for each caller ------------------------------------------------------------


def test_each_url_has_a_limit_of_its_own_and_a_wrong_one_counts_for_its_address(tmp_path: Path, id: str) -> None:
    settings = Settings(db=tmp_path / "limited.db", rate_limit="6/h")
    authentication = Authentication((ApiKey(StoredKey("till-1", key_hash(KEY), ["till"])),))
    with (
        running((Sale,), settings, listen("127.0.0.1", 0), authentication=authentication) as url,
        httpx.Client(base_url=url, timeout=60) as client,
    ):
        sales = Http(client)
        urls = [url_of(sales, f"{id}-{number}") for number in range(2)]

        def status(url: str, input: Any = 5) -> int:
            return sales.request("POST", url, json=input).status_code

        for _ in range(6):
            assert status(f"{urls[0]}x") == 401
        assert status(f"{urls[0]}x") == 429
        assert sales.request("GET", "/wf/sale/1").status_code == 429, "the address has sent too many"
        found = [status(urls[0]) for _ in range(7)]
        assert 200 in found and found[-1] == 429 and 429 not in found[:-1], "whoever has a right URL is served"
        assert status(urls[1], []) == 422, "one URL takes nothing from another one"
        limited = sales.problem("POST", urls[0], json=5)
        assert limited["title"] == "Too many requests"
        paid = {sales.ok("GET", f"/wf/sale/{id}-{number}", headers=TILL)["state"]["paid"] == [5] for number in (0, 1)}
        assert paid == {True, False}


# --- signed requests -------------------------------------------------------------------------


def test_a_signature_is_checked_on_the_body_as_it_was_sent(sales: Http, id: str) -> None:
    accepted(sales, url_of(sales, id), 5)
    sales.send(url_of(sales, id, "Answer/it"), "yes")
    url, body = f"/wf/sale/{id}/Sign", b' "signed"\n'
    signature = hmac.new(b"s3cret", body, "sha256").hexdigest()

    def sign(body: bytes, *signatures: str, type: str = "application/json") -> int:
        headers = [("Content-Type", type), *(("X-Signature", text) for text in signatures)]
        return sales.request("POST", url, content=body, headers=headers).status_code

    assert sign(body) == sign(body.strip(), signature) == sign(b'"Signed"', signature) == 401
    assert sign(body, signature, signature) == 401
    assert sign(body, signature, type="application/x-www-form-urlencoded") == 415
    assert state(sales, id)["text"] == "yes"
    assert sign(body, signature) == 200
    assert state(sales, id)["text"] == "signed"


# --- the keys --------------------------------------------------------------------------------


def test_the_keys_of_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GORCHESTRATE_CALLBACK_KEYS", f" {NEW} ,{OLD},")
    settings = Settings.load()
    assert settings.callback_ring == [b"new" * 11, b"old" * 11]
    assert NEW not in repr(settings)
    for wrong in ("c2hvcnQ", "not base64 at all!", f"{NEW},short"):
        monkeypatch.setenv("GORCHESTRATE_CALLBACK_KEYS", wrong)
        with pytest.raises(SettingsError, match=r"CALLBACK_KEYS: .*key \d is not 32 bytes or more") as refused:
            Settings.load()
        assert wrong.split(",")[-1] not in str(refused.value)


def test_the_embedded_runtime_makes_a_key(tmp_path: Path) -> None:
    path = tmp_path / "my.db.callback-key"
    file, other = KeyFile(path), KeyFile(path)
    assert file.all() == ()
    key = file.signing()
    assert len(key) == 32
    assert other.signing() == key
    assert other.all() == (key,)
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]
    path.write_text("damaged")
    for use in (file.signing, file.all):
        with pytest.raises(SettingsError, match=r"my.db.callback-key is not usable: .* Remove it, or set"):
            use()
    with pytest.raises(SettingsError, match="is not usable"):
        KeyFile(tmp_path / "missing" / "key").signing()


def test_of_two_processes_one_makes_the_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = KeyFile(tmp_path / "key"), KeyFile(tmp_path / "key")
    key = first.signing()
    answers = iter([None])  # the file was not there yet
    monkeypatch.setattr(KeyFile, "_read", lambda self: next(answers))
    assert second.signing() == key
