"""Creating instances, looking at them, listing them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Literal
from urllib.parse import quote

import pytest

from tests.http.helpers import Http, expected, serving, until
from tests.http.workflows import UNICODE_EVENT, WORKFLOWS, Desk, Timed
from workflow_core import On, S, Select, Workflow


class TestCreate:
    def test_answers_201_with_the_instance_and_where_it_is(self, http: Http, id: str) -> None:
        response = http.request("POST", f"/wf/desk/{id}")
        assert response.status_code == 201
        assert response.headers["content-type"] == "application/json"
        assert response.headers["location"] == f"/wf/desk/{id}"
        assert response.json() == http.get(response.headers["location"])
        assert set(response.json()) == {"meta", "state", "events", "history"}

    def test_without_a_body_the_fields_have_their_defaults(self, http: Http, id: str) -> None:
        created = http.create(f"/wf/desk/{id}")
        assert created["state"] == {"items": [], "note": "", "anything": None, "broken": False, "is_open": True}

    @pytest.mark.parametrize("body", [b"", b"  \n", b"{}"])
    def test_an_empty_body_is_none(self, http: Http, id: str, body: bytes) -> None:
        assert http.create(f"/wf/desk/{id}", content=body)["state"]["items"] == []

    def test_the_body_is_the_initial_fields(self, http: Http, id: str) -> None:
        fields = {"items": [{"name": "pen"}], "note": "grüß Gott ☕"}
        created = http.create(f"/wf/desk/{id}", json=fields)
        assert created["state"]["items"] == [{"name": "pen", "qty": 1}]
        assert created["state"]["note"] == "grüß Gott ☕"
        assert http.get(f"/wf/desk/{id}") == created

    def test_the_body_may_decide_where_it_goes(self, http: Http, id: str) -> None:
        created = http.create(f"/wf/desk/{id}", json={"is_open": False})
        assert [event["name"] for event in created["events"]] == ["Archive"]

    def test_runs_on_to_the_first_wait_through_the_queue(self, http: Http, id: str) -> None:
        created = http.create(f"/wf/timed/{id}")
        assert created["meta"]["status"] == "running"
        assert created["meta"]["threads"][0]["step"] == "prepare"
        until(lambda: http.get(f"/wf/timed/{id}")["state"]["log"] == ["prepared"])
        shown = until(lambda: (view := http.get(f"/wf/timed/{id}"))["meta"]["status"] == "waiting" and view)
        assert [event["name"] for event in shown["events"]] == ["Answer"]

    def test_a_second_time_is_refused(self, http: Http, id: str) -> None:
        before = http.create(f"/wf/desk/{id}", json={"note": "first"})
        document = http.problem("POST", f"/wf/desk/{id}", json={"note": "second"})
        assert document == expected(409, "Instance exists", document["detail"]) and f"{id!r}" in document["detail"]
        assert http.get(f"/wf/desk/{id}") == before

    def test_under_the_same_key_it_is_one_request(self, http: Http, id: str) -> None:
        key = {"Idempotency-Key": "create-1"}
        first = http.request("POST", f"/wf/desk/{id}", json={"note": "first"}, headers=key)
        again = http.request("POST", f"/wf/desk/{id}", json={"note": "first"}, headers=key)
        assert (again.status_code, again.headers["location"], again.json()) == (
            201,
            first.headers["location"],
            first.json(),
        )

    def test_again_under_the_same_key_shows_it_as_it_is_by_now(self, http: Http, id: str) -> None:
        key = {"Idempotency-Key": "create-1"}
        http.create(f"/wf/desk/{id}", headers=key)
        http.send(f"/wf/desk/{id}/Write", "by now")
        now = http.get(f"/wf/desk/{id}")
        assert http.create(f"/wf/desk/{id}", headers=key) == now == http.get(f"/wf/desk/{id}")

    def test_under_another_key_it_is_refused(self, http: Http, id: str) -> None:
        before = http.create(f"/wf/desk/{id}", headers={"Idempotency-Key": "create-1"})
        document = http.problem("POST", f"/wf/desk/{id}", headers={"Idempotency-Key": "create-2"})
        assert (document["status"], document["title"]) == (409, "Instance exists")
        assert http.get(f"/wf/desk/{id}") == before

    def test_another_body_under_the_same_key_is_refused(self, http: Http, id: str) -> None:
        key = {"Idempotency-Key": "create-1"}
        before = http.create(f"/wf/desk/{id}", json={"note": "first"}, headers=key)
        document = http.problem("POST", f"/wf/desk/{id}", json={"note": "second"}, headers=key)
        assert document == expected(422, "Idempotency key reused", document["detail"])
        assert "'create-1'" in document["detail"]
        assert http.get(f"/wf/desk/{id}") == before

    def test_one_id_may_be_taken_in_each_workflow(self, http: Http, id: str) -> None:
        http.create(f"/wf/desk/{id}")
        assert http.create(f"/wf/twins/{id}")["meta"]["workflow"] == "twins"

    def test_a_condition_that_raises_is_an_error_of_the_server_and_nothing_is_created(
        self, http: Http, id: str
    ) -> None:
        document = http.problem("POST", f"/wf/desk/{id}", json={"broken": True})
        assert (document["status"], document["title"]) == (500, "User code error")
        assert "Traceback" not in document["detail"]
        assert http.problem("GET", f"/wf/desk/{id}")["status"] == 404


IDS = [
    "Bestellung 7",
    "Ünïcødé-☕",
    "100%",
    "a?b=c&d",
    "a#b",
    "a+b",
    "%2F",
    "'; DROP TABLE instances",
    "x" * 400,
    "\N{WOMAN}\u200d\N{COOKING}",
    "\N{WAVING BLACK FLAG}\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f",  # the flag of England
    "سفارش\u200cی نو-\u0600",
    "क्\u200dष",
]


@pytest.mark.parametrize("id", IDS)
def test_an_id_is_any_plain_text(http: Http, id: str) -> None:
    url = f"/wf/desk/{quote(id, safe='')}"
    response = http.request("POST", url)
    assert response.headers["location"] == url
    assert response.json()["meta"]["id"] == id
    event = next(event for event in http.get(url)["events"] if event["name"] == UNICODE_EVENT)
    assert http.send(event["url"], "done") == "done"
    assert http.get(url)["state"]["anything"] == "done"


def test_what_is_shown_of_an_instance(http: Http, id: str) -> None:
    http.create(f"/wf/desk/{id}")
    http.send(f"/wf/desk/{id}/Write", "hello")
    shown = http.get(f"/wf/desk/{id}")

    meta = shown["meta"]
    assert meta["id"] == id and meta["workflow"] == "desk" and meta["status"] == "waiting"
    assert meta["error"] is None and meta["wake_at"] is None and meta["leased_until"] is None
    assert meta["definition_version"] == Desk.__program__.version
    assert meta["created_at"] <= meta["updated_at"]
    (thread,) = meta["threads"]
    assert thread["step"] == "at the desk" and thread["status"] == "waiting" and thread["pc"] == meta["pc"]

    put = next(event for event in shown["events"] if event["name"] == "Put")
    assert put["role"] == "clerk" and put["thread"] == "main" and put["wait_id"] == f"main@{meta['pc']}"
    assert put["url"] == f"/wf/desk/{id}/Put"
    assert set(put["input"]["properties"]) == {"name", "qty"}
    count = next(event for event in shown["events"] if event["name"] == "Count")
    assert count["input"] is None and count["role"] is None

    assert [(entry["kind"], entry["statement"], entry["thread"]) for entry in shown["history"]] == [
        ("created", "", ""),
        ("event", "Write", "main"),
    ]
    keys = {"at", "kind", "statement", "thread", "pc", "duration_ms", "error", "select", "by", "reason", "detail"}
    keys |= {"by_id", "claimed"}
    assert all(set(entry) == keys for entry in shown["history"])
    assert meta["problem"] is None


def test_a_timeout_is_no_event_that_may_be_sent(http: Http, id: str) -> None:
    http.create(f"/wf/timed/{id}")
    before = until(lambda: (view := http.get(f"/wf/timed/{id}"))["meta"]["status"] == "waiting" and view)
    assert before["meta"]["wake_at"] is not None
    document = http.problem("POST", f"/wf/timed/{id}/no%20answer")
    assert document == expected(
        409,
        "Event not accepted",
        "event 'no answer' is not accepted now (it is a timeout): the instance is waiting, it accepts: 'Answer'",
        accepted=["Answer"],
        instance_status="waiting",
    )
    assert http.get(f"/wf/timed/{id}") == before


def test_a_finished_instance_accepts_nothing(http: Http, id: str) -> None:
    http.create(f"/wf/timed/{id}")
    http.send(f"/wf/timed/{id}/Answer")
    before = http.get(f"/wf/timed/{id}")
    assert before["meta"]["status"] == "finished" and before["events"] == []
    assert http.problem("POST", f"/wf/timed/{id}/Answer") == expected(
        409,
        "Event not accepted",
        "event 'Answer' is not accepted now: the instance is finished, it accepts: none",
        accepted=[],
        instance_status="finished",
    )
    assert http.get(f"/wf/timed/{id}") == before


def test_a_failed_instance_is_kept_with_its_error(http: Http, id: str) -> None:
    http.create(f"/wf/failing/{id}")
    shown = until(lambda: (view := http.get(f"/wf/failing/{id}"))["meta"]["status"] == "failed" and view)
    assert shown["meta"]["error"]["type"] == "ZeroDivisionError"
    assert shown["meta"]["error"]["message"] == "the condition is wrong"
    assert shown["history"][-1]["kind"] == "failed"
    document = http.problem("POST", f"/wf/failing/{id}/Anything")
    assert (document["status"], document["instance_status"]) == (409, "failed")
    listed = next(one for one in http.get("/wf/failing?status=failed")["instances"] if one["id"] == id)
    assert listed["error"] == "the condition is wrong"


@pytest.fixture(scope="module")
def listed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Http]:
    """A server of its own, with seven desks, of which the third was updated last, and a timed one."""
    with serving(tmp_path_factory.mktemp("list") / "list.db", *WORKFLOWS) as http:
        for number in range(7):
            http.create(f"/wf/desk/desk-{number}", json={"note": f"note {number}"})
        http.send("/wf/desk/desk-2/Close")
        http.send("/wf/desk/desk-2/Archive")
        http.create("/wf/timed/other")
        yield http


class TestList:
    def test_those_updated_last_come_first(self, listed: Http) -> None:
        page = listed.get("/wf/desk")
        assert [one["id"] for one in page["instances"]] == [f"desk-{n}" for n in (2, 6, 5, 4, 3, 1, 0)]
        assert page["cursor"] is None

    def test_what_is_shown_of_each(self, listed: Http) -> None:
        one = listed.get("/wf/desk?limit=1")["instances"][0]
        meta = listed.get(one["url"])["meta"]
        assert one == {
            "id": "desk-2",
            "status": "finished",
            "created_at": one["created_at"],
            "updated_at": one["updated_at"],
            "wake_at": None,
            "error": None,
            "search": {"note": "note 2."},
            "url": "/wf/desk/desk-2",
        }
        assert meta["status"] == "finished"

    def test_pages_follow_one_another(self, listed: Http) -> None:
        ids, cursor, pages = [], "", 0
        while cursor is not None:
            page = listed.get("/wf/desk?limit=3" + (f"&cursor={cursor}" if cursor else ""))
            ids += [one["id"] for one in page["instances"]]
            cursor = page["cursor"]
            pages += 1
        assert pages == 3
        assert ids == [one["id"] for one in listed.get("/wf/desk")["instances"]]

    @pytest.mark.parametrize("order", ["created", "id"])
    def test_an_instance_that_changes_is_not_missed(self, listed: Http, order: str) -> None:
        ids, cursor, pages = [], "", 0
        while cursor is not None:
            page = listed.get(f"/wf/desk?limit=2&order={order}" + (f"&cursor={cursor}" if cursor else ""))
            ids += [instance["id"] for instance in page["instances"]]
            cursor, pages = page["cursor"], pages + 1
            last = "desk-0" if order == "created" else "desk-6"
            listed.send(f"/wf/desk/{last}/Write", f"after page {pages}")
        assert ids == sorted((f"desk-{number}" for number in range(7)), reverse=order == "created")
        cursor = listed.get(f"/wf/desk?limit=2&order={order}")["cursor"]
        document = listed.problem("GET", f"/wf/desk?cursor={cursor}")
        assert document["status"] == 400 and "in the order 'updated'" in document["detail"]

    def test_by_status(self, listed: Http) -> None:
        assert [one["id"] for one in listed.get("/wf/desk?status=finished")["instances"]] == ["desk-2"]
        assert len(listed.get("/wf/desk?status=waiting")["instances"]) == 6
        assert listed.get("/wf/desk?status=canceled") == {"instances": [], "cursor": None}

    def test_each_status_can_be_asked_for_and_none_other(self, listed: Http) -> None:
        for status in ("running", "waiting", "paused", "finished", "failed", "canceled"):
            listed.get(f"/wf/desk?status={status}")
        assert listed.problem("GET", "/wf/desk?status=broken") == expected(
            400,
            "Invalid request",
            "unknown status 'broken'. Available: running, waiting, paused, finished, failed, canceled",
        )

    @pytest.mark.parametrize("name", ["stauts", "search", "Status", "search_note", ""])
    def test_a_parameter_that_there_is_none(self, listed: Http, name: str) -> None:
        assert listed.problem("GET", "/wf/desk", params={"status": "waiting", name: "failed"}) == expected(
            400,
            "Invalid request",
            f"unknown query parameter {name!r}. Available: status, order, limit, cursor, search.note",
        )

    def test_a_page_has_50_instances_unless_told(self, listed: Http) -> None:
        for number in range(51):
            listed.create(f"/wf/timed/many-{number}")
        assert len(listed.get("/wf/timed")["instances"]) == 50
        assert len(listed.get("/wf/timed?limit=200")["instances"]) == 52
        parameters = listed.get("/swagger/desk")["paths"]["/wf/desk"]["get"]["parameters"]
        (limit,) = [one["schema"] for one in parameters if one["name"] == "limit"]
        assert limit == {"type": "integer", "minimum": 1, "maximum": 200, "default": 50}

    @pytest.mark.parametrize("limit", ["0", "201", "-1"])
    def test_a_limit_that_is_none(self, listed: Http, limit: str) -> None:
        assert listed.problem("GET", f"/wf/desk?limit={limit}") == expected(
            400, "Invalid request", f"limit is {limit}: it must be 1 to 200"
        )

    @pytest.mark.parametrize("limit", ["many", "", "1.5", "9" * 5_000])
    def test_a_limit_that_is_no_number(self, listed: Http, limit: str) -> None:
        assert listed.problem("GET", "/wf/desk", params={"limit": limit}) == expected(
            400, "Invalid request", f"limit is {limit[:100]!r}: it must be an integer"
        )

    @pytest.mark.parametrize("cursor", ["x", "", "☕", "MTI6YQ==", "-1"])
    def test_a_cursor_that_is_none(self, listed: Http, cursor: str) -> None:
        document = listed.problem("GET", "/wf/desk", params={"cursor": cursor})
        assert document == expected(400, "Invalid request", document["detail"])
        assert document["detail"].startswith(f"{cursor!r} is not a cursor of this list")


def test_the_start_page_names_the_workflows(http: Http) -> None:
    paths = http.get("/")["workflows"]
    assert paths == [f"/definition/{name}" for name in ("desk", "failing", "pizza", "slow", "timed", "twins")]
    for path in paths:
        http.get(path)


def test_instances_outlive_the_server(tmp_path: Path) -> None:
    with serving(tmp_path / "kept.db", Desk, Timed) as http:
        http.create("/wf/desk/a")
        http.send("/wf/desk/a/Write", "kept", headers={"Idempotency-Key": "k"})
        before = http.get("/wf/desk/a")
    with serving(tmp_path / "kept.db", Desk, Timed) as http:
        assert http.get("/wf/desk/a") == before
        assert http.send("/wf/desk/a/Write", "kept", headers={"Idempotency-Key": "k"}) is None
        assert http.get("/wf/desk/a") == before


class Parcel(Workflow, name="parcel"):
    """Searched by fields of several types."""

    search_fields = ("customer", "weight", "fragile", "sent", "kind", "größe")
    create_fields = search_fields

    customer: str = ""
    weight: float = 0
    fragile: bool = False
    sent: date | None = None
    kind: Literal["box", "bag"] = "box"
    größe: int = 0

    definition = S(Select("on its way", On("Arrive", lambda w: None)))


def test_instances_are_listed_by_their_search_fields(tmp_path: Path) -> None:
    with serving(tmp_path / "parcels.db", Parcel) as http:
        http.create("/wf/parcel/a", json={"customer": "Ann", "weight": 2, "sent": "2026-01-31", "kind": "bag"})
        http.create("/wf/parcel/b", json={"customer": "Bob", "weight": 2.5, "fragile": True, "größe": 2})
        http.ok("POST", "/wf/parcel/b/pause")

        def listed(**params: str) -> list[str]:
            instances = http.ok("GET", "/wf/parcel", params={k.replace("__", "."): v for k, v in params.items()})
            return [one["id"] for one in instances["instances"]]

        assert listed() == ["b", "a"]
        assert listed(search__customer="Ann") == ["a"]
        assert listed(search__weight="2") == ["a"]
        assert listed(search__weight="2.5", search__fragile="true", status="paused") == ["b"]
        assert listed(search__weight="2.5", search__fragile="false") == []
        assert listed(search__sent="2026-01-31", search__kind="bag") == ["a"]
        refused = (
            ("size", "1", "unknown query parameter 'search.size'"),
            ("weight", "much", "search field 'weight' cannot be 'much'"),
        )
        for name, text, said in refused:
            problem = http.problem("GET", "/wf/parcel", params={f"search.{name}": text})
            assert problem["status"] == 400 and said in problem["detail"]
        assert listed(**{"search.größe": "2"}) == ["b"]
        too_much = (("GET", {"params": {"search.größe": 2**63}}, 400), ("POST", {"json": {"größe": 2**63}}, 422))
        for method, options, status in too_much:
            problem = http.problem(method, "/wf/parcel" if method == "GET" else "/wf/parcel/c", **options)
            assert problem["status"] == status and "64 bits" in problem["detail"]
        parameters = http.get("/swagger/parcel")["paths"]["/wf/parcel"]["get"]["parameters"]
        assert "search.weight" in [one["name"] for one in parameters]
