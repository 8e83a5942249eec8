"""Events that are accepted for later (RFC 7240, ``Prefer: respond-async``), and the resources of their outcomes."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.requests import Request

from cloud_adapter.engine.kept_events import Outcome
from cloud_adapter.hosting.dev_server import running
from cloud_adapter.http.authentication import Authentication
from cloud_adapter.http.authenticators.dev import Dev
from cloud_adapter.http.preferences import prefers_async
from cloud_adapter.http.problems import of_outcome
from cloud_adapter.settings import Settings
from cloud_adapter.sockets import listen
from tests.http.helpers import Http, expected, problem, serving, until
from tests.http.test_openapi import Spec
from tests.http.workflows import GATES
from workflow_core import (
    Access,
    Action,
    EventRejected,
    Go,
    On,
    Principal,
    S,
    Select,
    Step,
    StepContext,
    While,
    Workflow,
)


class Shop(Workflow, name="shop"):
    """Events beside a step that lasts until its gate opens."""

    log: list[str] = []

    def bake(self, step: StepContext) -> None:
        assert GATES[step.workflow_id].wait(30)

    def add(self, amount: int) -> str:
        if amount == 13:
            raise EventRejected("not thirteen")
        if amount == 0:
            raise ValueError("secret")
        self.log.append(f"add {amount}")
        return f"sum {amount}"

    def pay(self, amount: int) -> None:
        self.log.append(f"pay {amount}")

    definition = S(
        Go("counter", While("open", lambda w: len(w.log) < 100, Select("sum", On("Add", add)))),
        Step("bake", bake),
        While("unpaid", lambda w: len(w.log) < 100, Select("till", On("Pay", pay, buffered=True))),
    )


@pytest.fixture
def http(tmp_path: Path) -> Iterator[Http]:
    with serving(tmp_path / "later.db", Shop, max_wait_seconds=2) as http:
        yield http


@pytest.fixture
def url(http: Http, id: str) -> Iterator[str]:
    """An instance whose step runs."""
    GATES[id] = threading.Event()
    http.create(f"/wf/shop/{id}")
    until(lambda: http.get(f"/wf/shop/{id}")["meta"]["leased_until"])
    yield f"/wf/shop/{id}"
    GATES.pop(id).set()


def later(http: Http, url: str, amount: Any, **headers: str) -> Any:
    return http.request("POST", url, json=amount, headers={"Prefer": "respond-async", **headers})


def test_outcomes_tell_what_became_of_the_events(http: Http, url: str, id: str) -> None:
    locations = []
    for amount in (1, 13, 0, 2):
        response = later(http, f"{url}/Add", amount)
        assert (response.status_code, response.content) == (202, b"")
        assert response.headers["preference-applied"] == "respond-async"
        locations.append(response.headers["location"])
    assert len(set(locations)) == 4
    assert all(location.startswith(f"{url}/outcomes/") for location in locations)
    waiting = http.request("GET", locations[0])
    assert (waiting.status_code, waiting.json()) == (202, {"state": "waiting"})
    assert waiting.headers["retry-after"] == "1"

    GATES[id].set()
    until(lambda: http.request("GET", locations[-1]).status_code == 200)
    shape = Spec(http, "shop").validator({"$ref": "#/components/schemas/Outcome"})
    for location in locations:
        shape.validate(http.get(location))
    first, rejected, broken, last = (http.get(location) for location in locations)
    assert (first, last) == ({"state": "handled", "output": "sum 1"}, {"state": "handled", "output": "sum 2"})
    assert rejected == {"state": "refused", "problem": expected(409, "Event rejected", "not thirteen")}
    assert broken["problem"]["title"] == "User code error"
    assert http.get(url)["state"] == {"log": ["add 1", "add 2"]}


def test_a_repeated_request_has_the_same_outcome(http: Http, url: str, id: str) -> None:
    key = {"Idempotency-Key": "k"}
    locations = {later(http, f"{url}/Add", 1, **key).headers["location"] for _ in range(3)}
    (location,) = locations
    GATES[id].set()
    until(lambda: http.request("GET", location).status_code == 200)
    response = later(http, f"{url}/Add", 1, **key)
    assert (response.status_code, response.json()) == (200, "sum 1")
    assert http.get(url)["state"] == {"log": ["add 1"]}


def test_a_buffered_event_is_kept_without_the_preference(http: Http, url: str, id: str) -> None:
    response = http.request("POST", f"{url}/Pay", json=1)
    assert (response.status_code, response.content) == (202, b"")
    assert "location" not in response.headers
    assert problem(http.request("POST", f"{url}/Pay", json="much"))["status"] == 422
    GATES[id].set()
    until(lambda: http.get(url)["state"] == {"log": ["pay 1"]})


def test_without_a_step_the_preference_has_no_effect(http: Http, url: str, id: str) -> None:
    GATES[id].set()
    until(lambda: http.get(url)["meta"]["leased_until"] is None)
    response = later(http, f"{url}/Add", 1)
    assert (response.status_code, response.json()) == (200, "sum 1")
    assert "preference-applied" not in response.headers


def test_an_unknown_outcome(http: Http, url: str, id: str) -> None:
    detail = f"no event with the outcome 'a1' was accepted for {id!r} of 'shop', or it was forgotten"
    assert http.problem("GET", f"{url}/outcomes/a1") == expected(404, "Outcome not found", detail)


def test_the_error_of_user_code_is_shown_only_to_operators() -> None:
    refused = Outcome(error="UserCodeError", text="the handler raised ValueError: secret")
    assert of_outcome(refused, internals=True)["detail"] == refused.text
    assert "secret" not in of_outcome(refused)["detail"]
    assert of_outcome(Outcome(error="OfAnotherRelease", text="secret"))["status"] == 500


class Club(Workflow, name="club"):
    """Its members may send events; operators see all outcomes."""

    access = Access(create={"boss"}, read={"member", "boss"}, send={"member"}, operate={"boss"})
    log: list[str] = []

    def authorize(self, principal: Principal, action: Action, event: str | None) -> bool | None:
        return action is not Action.SEND or f"add {principal.name}" not in self.log

    def bake(self, step: StepContext) -> None:
        assert GATES[step.workflow_id].wait(30)

    def add(self, amount: int, *, principal: Principal | None) -> str:
        assert principal is not None
        self.log.append(f"add {principal.name}")
        return f"sum {amount} of {principal.name}"

    definition = S(
        Go("counter", While("open", lambda w: len(w.log) < 100, Select("sum", On("Add", add)))),
        Step("bake", bake),
        Select("end", On("End", add)),
    )


def test_outcomes_are_for_those_who_have_sent_the_events(tmp_path: Path, id: str) -> None:
    def by(name: str, role: str, **headers: str) -> dict[str, str]:
        return {"X-Dev-User": f"{name}; roles={role}", **headers}

    GATES[id] = threading.Event()
    url, options = f"/wf/club/{id}", {"authentication": Authentication((Dev(),))}
    settings = Settings(db=tmp_path / "club.db", max_wait_seconds=2)
    with (
        running([Club], settings, listen("127.0.0.1", 0), **options) as server,
        httpx.Client(base_url=server, timeout=60) as client,
    ):
        ann, max, boss = by("ann", "member"), by("max", "member"), by("eve", "boss")
        assert client.post(url, headers=boss).status_code == 201
        until(lambda: client.get(url, headers=boss).json()["meta"]["leased_until"])
        prefer = {"Prefer": "respond-async", "Idempotency-Key": "k"}
        denied = [client.post(f"{url}/Add", json=1, headers=who | prefer) for who in (boss, by("x", "y"), {})]
        assert [response.status_code for response in denied] == [403, 404, 401]
        sent = [client.post(f"{url}/Add", json=1, headers=who | prefer) for who in (ann, max)]
        sent.append(client.post(f"{url}/Add", json=2, headers=ann | prefer | {"Idempotency-Key": "other"}))
        assert [response.status_code for response in sent] == [202] * 3
        first, second, third = (response.headers["location"] for response in sent)
        assert first != second, "keys belong to principals"
        GATES.pop(id).set()
        until(lambda: client.get(third, headers=ann).status_code == 200)
        assert client.get(first, headers=ann).json() == {"state": "handled", "output": "sum 1 of ann"}
        assert client.get(second, headers=max).json() == {"state": "handled", "output": "sum 1 of max"}
        text = "sending 'Add' is not permitted: authorize of 'club' denies it"
        refused = {"state": "refused", "problem": expected(403, "Forbidden", text)}
        assert [client.get(third, headers=who).json() for who in (ann, boss)] == [refused] * 2
        hidden = [client.get(first, headers=who) for who in (max, by("x", "y"), {})]
        assert [response.status_code for response in hidden] == [404, 404, 401]
        assert hidden[0].json()["title"] == "Outcome not found"


@pytest.mark.parametrize(
    ("headers", "is_preferred"),
    [
        (["respond-async"], True),
        (["Respond-Async"], True),
        (["wait=10, respond-async"], True),
        (['handling=lenient; a="b, respond-async"', "respond-async; x=1"], True),
        (["return=minimal", "respond-async"], True),
        ([" ,, respond-async"], True),
        (['respond-async=""'], True),
        (['foo="a\\", respond-async"'], False),
        (["respond-async=no"], False),
        (["respond-asynchronously"], False),
        (["wait=10; respond-async"], False),
        (["@@, respond-async"], False),
        ([""], False),
        ([], False),
    ],
)
def test_the_header_is_a_list_of_preferences(headers: list[str], is_preferred: bool) -> None:
    scope = {"type": "http", "headers": [(b"prefer", text.encode()) for text in headers]}
    assert prefers_async(Request(scope)) is is_preferred
