"""Diagrams over HTTP: of definitions, and of instances with where they stand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pizza import PizzaOrder

from tests.core.diagrams.svg_reader import check_geometry, group, groups, parse, texts
from tests.http.helpers import Http, serving, until
from tests.http.workflows import Timed, Twins
from workflow_core import On, Retry, S, Select, Step, Workflow
from workflow_core.diagrams import svg


def states(root: Any) -> dict[str | None, str | None]:
    return {one.get("data-name"): one.get("data-state") for one in groups(root) if one.get("data-state")}


def picture(http: Http, url: str) -> Any:
    response = http.request("GET", url)
    assert response.is_success, response.text
    assert response.headers["content-type"] == "image/svg+xml"
    root = parse(response.text)
    check_geometry(root)
    return root


def test_the_picture_of_a_definition(http: Http) -> None:
    response = http.request("GET", "/graph/pizza?format=svg")
    assert response.text == svg.draw(PizzaOrder.__program__)
    assert response.headers["content-type"] == "image/svg+xml"
    assert response.headers["content-security-policy"] == f"default-src 'none'; style-src {svg.STYLE_SOURCE}"
    assert http.request("HEAD", "/graph/pizza?format=svg").headers["content-type"] == "image/svg+xml"


def test_an_order_on_its_way(http: Http, create: Callable[[str], str]) -> None:
    url = create("pizza")
    root = picture(http, f"{url}/graph")
    assert states(root) == {"customer fills the cart": "here"}
    assert any(line.startswith("due 20") for line in texts(group(root, "customer fills the cart timed out")))

    http.send(f"{url}/AddToCart", {"name": "margherita"})
    http.send(f"{url}/SubmitCart")
    http.send(f"{url}/ConfirmOrder", {"manager": "Ada", "amount": 10})
    expected = {
        "order not yet submitted": "passed",
        "customer fills the cart": "passed",
        "AddToCart": "passed",
        "SubmitCart": "passed",
        "manager confirms the order": "passed",
        "ConfirmOrder": "passed",
        "go payments": "passed",
        "payments/pay": "here",
        "print the kitchen ticket": "passed",
        "cook starts": "here",
    }
    until(lambda: states(picture(http, f"{url}/graph")) == expected)

    text = http.request("GET", f"{url}/graph?format=mermaid").text
    assert '{{"#9679; cook starts (main#58; waiting)"}}' in text
    statements = http.get(f"{url}/graph?format=json")
    (cook,) = (one for one in statements if one.get("name") == "cook starts")
    assert cook["live"] == {
        "threads": [{"id": "main", "status": "waiting", "attempt": 0, "error": None}],
        "passed": False,
        "error": None,
        "due": None,
    }

    for event in ("StartCooking", "FinishCooking"):
        http.send(f"{url}/{event}")
    http.send(f"{url}/TakeDelivery", {"courier": "Bob"})
    http.send(f"{url}/Deliver")
    http.send(f"{url}/Pay", {"amount": 10})
    root = picture(http, f"{url}/graph")
    passed = states(root)
    assert passed["order is paid"] == passed["Pay"] == passed["Deliver"] == "passed"
    assert set(passed.values()) == {"passed"}
    assert passed.keys().isdisjoint({"EmptyCart", "customer fills the cart timed out", "give up the cart"})
    assert "end, passed" in [one.get("aria-label") for one in root]
    assert root.get("aria-label", "").endswith(": finished")


def test_an_event_that_two_selects_wait_for(http: Http, create: Callable[[str], str]) -> None:
    url = create("twins")
    http.send(f"{url}/Vote?thread=right", 3)
    root = picture(http, f"{url}/graph")
    votes = [one.get("data-state") for one in groups(root) if one.get("data-name") == "Vote"]
    assert votes == [None, "passed"]
    assert states(root)["left votes"] == "here"
    entry = http.get(url)["history"][-1]
    assert (entry["statement"], entry["select"]) == ("Vote", "right votes")


class Broken(Workflow, name="broken"):
    """Its step fails finally, once an event asked for it."""

    def burn(self) -> None:
        raise ValueError('the <oven> & "all"')

    definition = S(Select("asked", On("Go", lambda w: None)), Step("bake", burn, retry=Retry(max_attempts=1)))


def test_an_instance_that_fails(tmp_path: Path) -> None:
    with serving(tmp_path / "broken.db", Broken) as http:
        http.create("/wf/broken/1")
        http.send("/wf/broken/1/Go")
        message = 'ValueError: the <oven> & "all"'
        until(lambda: http.get("/wf/broken/1")["meta"]["status"] == "failed")
        root = picture(http, "/wf/broken/1/graph")
        assert states(root) == {"asked": "passed", "Go": "passed", "bake": "failed"}
        assert message in texts(group(root, "bake"))
        assert texts(root)[1:3] == ["instance 1: failed", message]
        assert "#10007; bake" in http.request("GET", "/wf/broken/1/graph?format=mermaid").text


def test_an_instance_on_what_the_definition_no_longer_has(tmp_path: Path) -> None:
    def version(select: str) -> type[Workflow]:
        class Moved(Workflow, name="moved"):
            definition = S(Select(select, On("Go", lambda w: None)))

        return Moved

    with serving(tmp_path / "moved.db", version("old")) as http:
        http.create("/wf/moved/1")
    with serving(tmp_path / "moved.db", version("new")) as http:
        root = picture(http, "/wf/moved/1/graph")
        assert "main is at “old”, which the definition no longer contains" in texts(root)
        assert states(root) == {}


def test_an_event_that_is_named_graph(tmp_path: Path) -> None:
    class Named(Workflow, name="named"):
        count: int = 0

        def add(self) -> int:
            self.count += 1
            return self.count

        definition = S(Select("s", On("graph", add)), Select("t", On("end", add)))

    with serving(tmp_path / "named.db", Named) as http:
        http.create("/wf/named/1")
        assert http.send("/wf/named/1/graph") == 1
        assert states(picture(http, "/wf/named/1/graph")) == {"s": "passed", "graph": "passed", "t": "here"}
        item = http.get("/swagger/named")["paths"]["/wf/named/{id}/graph"]
        assert {"get", "post"} <= item.keys()


def test_of_what_is_not_there(http: Http, id: str) -> None:
    for format in ("svg", "mermaid", "json"):
        assert http.problem("GET", f"/wf/pizza/{id}/graph?format={format}")["status"] == 404
        assert http.problem("GET", f"/wf/nonsense/{id}/graph?format={format}")["status"] == 404
        assert http.problem("GET", f"/graph/nonsense?format={format}")["status"] == 404


@pytest.mark.parametrize("cls", [Timed, Twins])
def test_the_pictures_of_others(http: Http, cls: type[Workflow]) -> None:
    picture(http, f"/graph/{cls.__workflow_name__}?format=svg")
