"""Sending events: inputs, outputs, idempotency keys, threads, and instances that are busy."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.http.helpers import Http, expected, problem, serving, until
from tests.http.workflows import GATES, SLASH_EVENT, UNICODE_EVENT, UNICODE_THREAD, Slow

Create = Callable[[str], str]


class TestInputAndOutput:
    def test_the_output_is_the_response(self, http: Http, create: Create) -> None:
        url = create("desk")
        response = http.request("POST", f"{url}/Put", json={"name": "pen", "qty": 2})
        assert (response.status_code, response.headers["content-type"]) == (200, "application/json")
        assert response.json() == [{"name": "pen", "qty": 2}]
        assert http.get(url)["state"]["items"] == [{"name": "pen", "qty": 2}]

    def test_no_output_is_null(self, http: Http, create: Create) -> None:
        response = http.request("POST", f"{create('desk')}/Touch")
        assert (response.status_code, response.content) == (200, b"null")

    @pytest.mark.parametrize("body", [b"", b"null", b" \n null\t"])
    def test_an_event_without_input_takes_nothing(self, http: Http, create: Create, body: bytes) -> None:
        assert http.request("POST", f"{create('desk')}/Count", content=body).json() == 0

    @pytest.mark.parametrize("type", ["application/json", "Application/JSON ; charset=utf-8", ""])
    def test_a_body_may_be_sent_without_a_content_type(self, http: Http, create: Create, type: str) -> None:
        url = f"{create('desk')}/Write"
        assert http.request("POST", url, content=b'"text"', headers={"Content-Type": type}).status_code == 200

    @pytest.mark.parametrize(
        "value", [None, True, 0, -1.5, "", "ü ☕ \u0000", [], [1, [2]], {"a": {"b": None}}, 10**400]
    )
    def test_any_json_value_may_be_an_input(self, http: Http, create: Create, value: object) -> None:
        url = create("desk")
        assert http.send(f"{url}/Keep", value) == value
        assert http.get(url)["state"]["anything"] == value

    def test_an_event_is_committed_when_it_is_answered(self, http: Http, create: Create) -> None:
        url = create("desk")
        pc = http.get(url)["meta"]["pc"]
        for number in range(1, 4):
            http.send(f"{url}/Touch")
            assert http.get(url)["meta"]["pc"] == pc + number

    @pytest.mark.parametrize("event", [UNICODE_EVENT, SLASH_EVENT])
    def test_the_url_of_an_event_works_as_it_is_given(self, http: Http, create: Create, event: str) -> None:
        url = create("desk")
        (given,) = (one["url"] for one in http.get(url)["events"] if one["name"] == event)
        assert given == f"{url}/{quote(event, safe='')}"
        http.send(given)
        assert http.get(url)["history"][-1]["statement"] == event

    def test_every_event_is_accepted_once_it_is_shown(self, http: Http, create: Create) -> None:
        url = create("desk")
        assert http.send(f"{url}/Close") is None
        (event,) = http.get(url)["events"]
        http.send(event["url"])
        assert http.get(url)["meta"]["status"] == "finished"

    def test_many_at_a_time_are_taken_one_after_the_other(self, http: Http, create: Create) -> None:
        url = create("desk")
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda _: http.send(f"{url}/Touch"), range(40)))
        assert http.get(url)["state"]["note"] == "." * 40


class TestIdempotencyKey:
    def test_the_same_request_gets_the_first_response_and_changes_nothing(self, http: Http, create: Create) -> None:
        url = create("desk")
        key = {"Idempotency-Key": "put-1"}
        first = http.send(f"{url}/Put", {"name": "pen"}, headers=key)
        http.send(f"{url}/Put", {"name": "ink"})
        before = http.get(url)
        assert http.send(f"{url}/Put", {"name": "pen"}, headers=key) == first == [{"name": "pen", "qty": 1}]
        assert http.get(url) == before

    def test_also_when_the_event_is_not_accepted_any_more(self, http: Http, create: Create) -> None:
        url = create("desk")
        key = {"Idempotency-Key": "close-1"}
        http.send(f"{url}/Close", headers=key)
        before = http.get(url)
        assert http.send(f"{url}/Close", headers=key) is None
        assert http.get(url) == before
        assert http.problem("POST", f"{url}/Close")["status"] == 409

    @pytest.mark.parametrize(("event", "input"), [("Write", "other"), ("Keep", "text")])
    def test_another_request_under_the_same_key_is_refused(
        self, http: Http, create: Create, event: str, input: str
    ) -> None:
        url = create("desk")
        key = {"Idempotency-Key": "write-1"}
        http.send(f"{url}/Write", "text", headers=key)
        before = http.get(url)
        assert http.problem("POST", f"{url}/{event}", json=input, headers=key) == expected(
            422,
            "Idempotency key reused",
            f"the idempotency key 'write-1' was used for another request on {url.rpartition('/')[2]!r}: use a new key",
        )
        assert http.get(url) == before

    def test_a_request_that_was_refused_leaves_its_key_free(self, http: Http, create: Create) -> None:
        url = create("desk")
        key = {"Idempotency-Key": "put-1"}
        assert http.problem("POST", f"{url}/Put", json={}, headers=key)["status"] == 422
        assert http.problem("POST", f"{url}/Refuse", headers=key)["status"] == 409
        assert http.send(f"{url}/Put", {"name": "pen"}, headers=key) == [{"name": "pen", "qty": 1}]

    def test_each_instance_has_keys_of_its_own(self, http: Http, create: Create) -> None:
        url = create("desk")
        other = http.create(f"{url}-other") and f"{url}-other"
        for one in (url, other):
            http.send(f"{one}/Touch", headers={"Idempotency-Key": "touch-1"})
            assert http.get(one)["state"]["note"] == "."

    def test_at_a_time_it_is_one_event(self, http: Http, create: Create) -> None:
        url = create("desk")
        pc = http.get(url)["meta"]["pc"]
        with ThreadPoolExecutor(8) as pool:
            outputs = pool.map(
                lambda _: http.send(f"{url}/Put", {"name": "pen"}, headers={"Idempotency-Key": "k"}), range(16)
            )
        assert list(outputs) == [[{"name": "pen", "qty": 1}]] * 16
        assert http.get(url)["meta"]["pc"] == pc + 1


class TestThreads:
    def test_the_urls_tell_threads_apart(self, http: Http, create: Create) -> None:
        url = create("twins")
        events = http.get(url)["events"]
        assert [(event["name"], event["thread"]) for event in events] == [("Vote", UNICODE_THREAD), ("Vote", "right")]
        assert events[0]["url"] == f"{url}/Vote?thread={quote(UNICODE_THREAD, safe='')}"
        assert events[1]["url"] == f"{url}/Vote?thread=right"
        assert http.send(events[1]["url"], 2) == "right"
        (left,) = http.get(url)["events"]
        assert left["url"] == f"{url}/Vote", "one thread is left: nothing is to be told apart"
        assert http.send(left["url"], 1) == "left"
        shown = http.get(url)
        assert shown["state"] == {"left": 1, "right": 2} and shown["meta"]["status"] == "finished"

    def test_the_addressed_one_takes_it(self, http: Http, create: Create) -> None:
        url = create("twins")
        assert http.send(f"{url}/Vote?thread={quote(UNICODE_THREAD, safe='')}", 1) == "left"
        assert http.problem("POST", f"{url}/Vote", params={"thread": UNICODE_THREAD}, json=1)["status"] == 409

    def test_without_an_address_it_is_the_first(self, http: Http, create: Create) -> None:
        assert http.send(f"{create('twins')}/Vote", 1) == "left"

    def test_a_thread_that_does_not_wait(self, http: Http, create: Create) -> None:
        url = create("twins")
        before = http.get(url)
        waits = {event["thread"]: event["wait_id"] for event in before["events"]}
        elsewhere = ", ".join(f"{thread!r} under {wait_id!r}" for thread, wait_id in waits.items())
        for thread in ("main", "nobody"):
            assert http.problem("POST", f"{url}/Vote?thread={thread}", json=1) == expected(
                409,
                "Event not accepted",
                f"event 'Vote' is not accepted now in thread {thread!r}, but in thread {elsewhere}: the instance is "
                f"waiting, it accepts: 'Vote'",
                accepted=["Vote"],
                instance_status="waiting",
            )
        assert http.get(url) == before

    def test_a_wait_that_is_over(self, http: Http, create: Create) -> None:
        url = create("desk")
        put = http.get(url)["events"][0]
        address = f"{url}/Put?wait_id={put['wait_id']}"
        http.send(address, {"name": "pen"})
        before = http.get(url)
        document = http.problem("POST", address, json={"name": "pen"})
        assert (document["status"], document["title"]) == (409, "Event not accepted")
        assert http.get(url) == before


class TestBusy:
    @pytest.fixture
    def gate(self, id: str) -> Iterator[threading.Event]:
        GATES[id] = threading.Event()
        yield GATES[id]
        GATES.pop(id).set()

    @pytest.mark.usefixtures("gate")
    def test_after_a_time_it_is_503_with_retry_after(self, tmp_path: Path, id: str) -> None:
        with serving(tmp_path / "busy.db", Slow, max_wait_seconds=0.2) as http:
            http.create(f"/wf/slow/{id}")
            until(lambda: http.get(f"/wf/slow/{id}")["meta"]["leased_until"])
            before = http.get(f"/wf/slow/{id}")
            response = http.request("POST", f"/wf/slow/{id}/Finish")
            assert response.headers["retry-after"] == "1"
            assert problem(response) == expected(
                503, "Busy", f"'slow' {id!r} is busy: a step is running, or other requests come first; try again"
            )
            assert http.get(f"/wf/slow/{id}")["state"] == before["state"]
            GATES[id].set()
            until(lambda: http.request("POST", f"/wf/slow/{id}/Finish").json() == "finished")

    def test_a_client_that_waits_is_served_when_the_step_is_done(
        self, http: Http, create: Create, id: str, gate: threading.Event
    ) -> None:
        url = create("slow")
        until(lambda: http.get(url)["meta"]["leased_until"])
        with ThreadPoolExecutor(1) as pool:
            answer = pool.submit(http.send, f"{url}/Finish")
            gate.set()
            assert answer.result() == "finished"

    def test_what_can_never_be_accepted_is_refused_at_once(
        self, http: Http, create: Create, id: str, gate: threading.Event
    ) -> None:
        url = create("slow")
        document = http.problem("POST", f"{url}/Nonsense")
        assert (document["status"], document["accepted"]) == (409, [])
        assert not gate.is_set()
