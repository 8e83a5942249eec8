"""A definition with an endless loop: it is stopped with a clear error, and other instances are not affected."""

from __future__ import annotations

import itertools
from typing import Any

from tests.http.helpers import until
from tests.input.conftest import Attacked

_numbers = itertools.count()


def create(attacked: Attacked, when: str) -> str:
    url = f"/wf/endless/endless-{next(_numbers)}"
    attacked.http.create(url, json={"when": when})
    return url


def assert_tells(problem: dict[str, Any]) -> None:
    assert (problem["status"], problem["title"]) == (500, "Loop limit exceeded")
    assert "it is in an endless loop. Put a Step, Select or WaitFor on every path through the loop" in problem["detail"]


def test_at_the_start_nothing_is_created(attacked: Attacked) -> None:
    before = attacked.stored()
    assert_tells(attacked.http.problem("POST", "/wf/endless/start", json={"when": "start"}))
    assert attacked.stored() == before
    assert attacked.http.problem("GET", "/wf/endless/start")["status"] == 404


def test_after_an_event_the_event_has_not_happened(attacked: Attacked) -> None:
    url = create(attacked, "event")
    before = attacked.stored()
    for _ in range(3):
        assert_tells(attacked.http.problem("POST", f"{url}/Go"))
    assert attacked.stored() == before
    assert [event["name"] for event in attacked.http.get(url)["events"]] == ["Go"]


def test_after_a_step_the_instance_has_failed_and_says_why(attacked: Attacked) -> None:
    url = create(attacked, "step")
    assert attacked.http.send(f"{url}/Go") == 1
    until(lambda: attacked.http.get(url)["meta"]["status"] == "failed")
    seen = attacked.http.get(url)
    assert seen["meta"]["error"]["type"] == "LoopLimitExceeded"
    assert "it is in an endless loop" in seen["meta"]["error"]["message"]
    assert (seen["state"]["handled"], seen["state"]["worked"]) == (1, False)


def test_others_go_on(attacked: Attacked) -> None:
    create(attacked, "step")
    url = create(attacked, "never")
    assert attacked.http.send(f"{url}/Go") == 1
    until(lambda: attacked.http.get(url)["state"]["worked"])
    assert attacked.http.get(url)["meta"]["status"] == "waiting"
