"""How many requests a caller may send: each on its own, without side effects, and in bounded memory."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cloud_adapter.errors import SettingsError, TooManyRequests
from cloud_adapter.http.authentication import Authentication
from cloud_adapter.http.authenticators.api_key import ApiKey, StoredKey, key_hash, new_key
from cloud_adapter.http.rate_limit import RateLimit, address_of
from cloud_adapter.http.worker import create_worker
from cloud_adapter.request_rate import RequestRate
from cloud_adapter.settings import ON_CLOUD_RUN, Settings
from tests.http.helpers import Http, deployed, everyone, expected, problem, serving
from tests.http.workflows import Desk
from workflow_core import ANYONE, Access

SECOND = 1_000_000_000
DETAIL = "a caller may send 2 requests in 60 s: try again in 30 s. Nothing was changed"
KEYS = {"ann": new_key(), "bob": new_key()}


class Public(Desk, name="public"):
    access = Access(create={ANYONE}, read={ANYONE})
    definition = Desk.definition


class Time:
    """A monotonic time that moves only when a test says so."""

    now = 7

    def __call__(self) -> int:
        return self.now


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def reads() -> list[str]:
    """The paths of the requests whose bodies were read."""
    return []


@pytest.fixture
def http(tmp_path: Path, time: Time, reads: list[str]) -> Iterator[Http]:
    """An application that lets each caller send two requests in a minute."""

    def watched(app: ASGIApp) -> ASGIApp:
        async def watching(scope: Scope, receive: Receive, send: Send) -> None:
            async def reading() -> Message:
                reads.append(scope["path"])
                return await receive()

            await app(scope, reading, send)

        return watching

    keys = ApiKey(*(StoredKey(name, key_hash(key)) for name, key in KEYS.items()))
    limit = RateLimit(RequestRate.parse("2/m"), time)
    with deployed(
        tmp_path / "limited.db",
        Public,
        around=watched,
        authentication=Authentication((keys,)),
        limit=limit,
        ui=True,
    ) as http:
        yield http


def of(name: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {KEYS.get(name, name)}"}


def test_no_caller_takes_the_requests_of_another(http: Http, time: Time) -> None:
    def status(name: str) -> int:
        return http.request("GET", "/", headers=of(name) if name else {}).status_code

    assert [status("ann") for _ in range(4)] == [200, 200, 429, 429]
    assert [status("bob"), status("")] == [200, 200]
    time.now += 30 * SECOND
    assert [status("ann"), status("ann")] == [200, 429]


def test_what_is_rejected_is_not_read_and_changes_nothing(http: Http, time: Time, reads: list[str]) -> None:
    for id in "ab":
        http.create(f"/wf/public/{id}", content=b"{}")
    response = http.request("POST", "/wf/public/c", content=b"{}")
    assert problem(response) == expected(429, "Too many requests", DETAIL, retry_after=30)
    assert response.headers["retry-after"] == "30"
    assert set(reads) == {"/wf/public/a", "/wf/public/b"}
    time.now += 60 * SECOND
    assert http.problem("GET", "/wf/public/c")["status"] == 404


def test_wrong_credentials_count_for_their_address(http: Http, time: Time, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "gorchestrate.http")
    found = [http.request("GET", "/", headers=of(f"gok_wrong-{number}")).status_code for number in range(5)]
    assert found == [401, 401, 429, 429, 429]
    time.now += SECOND
    assert http.request("GET", "/", headers=of("gok_wrong")).status_code == 429
    refused, rejected = caplog.messages[:2], caplog.messages[2:]
    assert all("GET / refused: " in message for message in refused)
    assert rejected == [
        f"too many requests: rejected {count}, the last one of address 127.0.0.1" for count in (1, 3)
    ], "a flood does not fill the log"
    assert http.request("GET", "/").status_code == 429
    assert http.request("GET", "/", headers=of("ann")).status_code == 200, "nobody locks out who has a key"


def test_probes_are_always_served(http: Http) -> None:
    for _ in range(5):
        http.get("/healthz")
    statuses = [http.request("GET", "/healthz?store=1").status_code for _ in range(3)]
    assert statuses == [200, 200, 429], "this one reads the database"


def test_the_queue_is_not_slowed_down() -> None:
    worker = create_worker(None, everyone)  # type: ignore[arg-type]
    assert "RateLimited" not in str(worker.user_middleware)


def test_a_page_says_so_as_a_page(http: Http) -> None:
    response = [http.request("GET", "/ui/", headers=of("ann")) for _ in range(3)][-1]
    assert (response.status_code, response.headers["retry-after"]) == (429, "30")
    assert response.headers["content-type"].startswith("text/html") and "try again in 30 s" in response.text


def test_the_openapi_document_says_so_if_there_is_a_limit(http: Http, tmp_path: Path) -> None:
    limited = http.get("/swagger/public")["paths"]["/wf/public/{id}"]["get"]["responses"]
    assert "Retry-After" in limited["429"]["headers"]
    with deployed(tmp_path / "unlimited.db", Public) as other:
        assert "429" not in other.get("/swagger/public")["paths"]["/wf/public/{id}"]["get"]["responses"]


def test_it_is_a_setting(tmp_path: Path) -> None:
    with serving(tmp_path / "served.db", Public, rate_limit="2/h") as http:
        statuses = [http.request("GET", path).status_code for path in ("/", "/ui/", "/")]
    assert statuses == [200, 200, 429]
    assert Settings().request_rate is None


@pytest.mark.parametrize("text", ["20", "20/", "/s", "0/s", "-1/s", "1.5/s", "1000001/s", "20/d", "20 / s", "٢/s"])
def test_what_is_no_rate_prevents_the_start(text: str) -> None:
    with pytest.raises(SettingsError, match=r"GORCHESTRATE_RATE_LIMIT: .* such as 20/s or 600/m"):
        Settings.load(rate_limit=text)


# --- buckets -----------------------------------------------------------------------------


def connection(peer: str | None, *forwarded: str) -> HTTPConnection:
    headers = [(b"x-forwarded-for", value.encode()) for value in forwarded]
    return HTTPConnection({"type": "http", "headers": headers, "client": (peer, 1) if peer else None})


def served(limit: RateLimit, id: str) -> bool:
    try:
        limit.count(connection(None), id)
    except TooManyRequests as error:
        return error.retry_after < 1  # a client would try again at once
    return True


@pytest.mark.parametrize("text", ["1/s", "3/s", "7/m", "999/h", "1000000/s"])
def test_all_requests_of_a_rate_may_come_at_once_and_then_one_in_each_interval(text: str, time: Time) -> None:
    rate = RequestRate.parse(text)
    limit = RateLimit(rate, time)
    at_once = min(rate.requests, 2_000)
    assert sum(served(limit, "ann") for _ in range(at_once)) == at_once
    if at_once < rate.requests:
        return
    interval = rate.seconds * SECOND // rate.requests
    for _ in range(20):
        assert not served(limit, "ann")
        time.now += interval - 1
        assert not served(limit, "ann")
        time.now += 1
        assert served(limit, "ann")


def test_many_callers_do_not_fill_the_memory(time: Time) -> None:
    limit = RateLimit(RequestRate.parse("1/h"), time, callers_max=3)
    assert served(limit, "ann")
    for number in range(1_000):
        assert served(limit, f"other-{number}")
        assert not served(limit, "ann"), "who floods is not forgotten"
        assert len(limit._full_at) <= 3
    assert [served(limit, id) for id in ("a", "b", "c", "ann")] == [True] * 4


def test_no_id_is_an_address(time: Time) -> None:
    limit = RateLimit(RequestRate.parse("1/h"), time)
    limit.count(connection("192.0.2.1"))
    assert served(limit, "192.0.2.1")


@pytest.mark.parametrize(
    ("peer", "forwarded", "address"),
    [
        ("192.0.2.1", (), "192.0.2.1"),
        ("::ffff:192.0.2.1", (), "192.0.2.1"),
        ("2001:db8::1", (), "2001:db8::/64"),
        ("2001:db8::ffff:1", (), "2001:db8::/64"),
        ("192.0.2.1", ("203.0.113.9",), "192.0.2.1"),
        (None, (), ""),
    ],
)
def test_an_address_is_that_of_the_connection(peer: str | None, forwarded: tuple[str, ...], address: str) -> None:
    assert address_of(connection(peer, *forwarded)) == address


@pytest.mark.parametrize(
    ("forwarded", "address"),
    [
        ((), "169.254.8.1"),
        (("203.0.113.9",), "203.0.113.9"),
        (("198.51.100.1, 203.0.113.9",), "203.0.113.9"),
        (("198.51.100.1", "198.51.100.2,203.0.113.9"), "203.0.113.9"),
        (("198.51.100.1, 2001:db8::1",), "2001:db8::/64"),
        (("203.0.113.9,",), "169.254.8.1"),
        (("x" * 1_000,), "x" * 100),
    ],
)
def test_on_cloud_run_it_is_the_last_one_that_was_added(
    forwarded: tuple[str, ...], address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(ON_CLOUD_RUN, "api")
    assert address_of(connection("169.254.8.1", *forwarded)) == address
