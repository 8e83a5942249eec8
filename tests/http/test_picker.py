"""The pages of the development server: who one is there, and what one sees and may do."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest
from pizza import PizzaOrder

from cloud_adapter.hosting.dev_server import running
from cloud_adapter.http.pages.picker import COOKIE
from cloud_adapter.http.sign_in import page_after
from cloud_adapter.settings import Settings
from cloud_adapter.sockets import listen
from tests.http.helpers import Http, serving
from tests.http.issuer import Issuer, issuing
from tests.http.pages import forms
from tests.http.test_authentication import PARCEL, Parcel, authentication
from workflow_core import On, S, Select, Workflow

ORDER = "/ui/pizza/instances/order-1"


class Plain(Workflow, name="plain"):
    """A workflow without roles."""

    definition = S(Select("closed", On("Open", lambda workflow: None)))


@pytest.fixture
def http(tmp_path: Path) -> Iterator[Http]:
    with serving(tmp_path / "a.db", PizzaOrder) as http:
        yield http


def act_as(http: Http, name: str, *roles: str, **more: str) -> httpx.Response:
    """Chooses who the pages act as, as the form does."""
    return http.request("POST", "/ui/", data={"name": name, **{f"role.{role}": "on" for role in roles}, **more})


def page(http: Http, url: str, status: int = 200) -> str:
    response = http.request("GET", url)
    assert response.status_code == status, response.text
    return response.text


def who(html: str) -> str:
    found = re.search(r'<details class="visitor"(?: open)?>\s*<summary>(.*?)</summary>', html)
    return found[1] if found else ""


def events(html: str) -> list[str]:
    return [text for form in forms(html) for name, text in form.data if name == "event"]


def test_at_first_one_is_everyone(http: Http) -> None:
    html = page(http, "/ui/")
    assert who(html) == "Acting as everyone"
    assert re.findall(r'name="role\.(\w+)"', html) == ["cook", "customer", "delivery", "manager"]
    http.create("/wf/pizza/order-1")
    assert "Operate" in page(http, ORDER) and events(page(http, ORDER)) == ["AddToCart", "EmptyCart", "SubmitCart"]


def test_a_choice_counts_until_it_is_taken_back(http: Http) -> None:
    chosen = act_as(http, "ann", "customer", next="/ui/pizza?status=waiting")
    assert (chosen.status_code, chosen.headers["location"]) == (303, "../ui/pizza?status=waiting")
    cookie = chosen.headers["set-cookie"]
    assert "HttpOnly" in cookie and "SameSite=strict" in cookie and "Path=/ui;" in cookie and "Max-Age" not in cookie
    html = page(http, "/ui/pizza?status=waiting")
    assert who(html) == "Acting as ann (customer)"
    assert 'name="next" value="/ui/pizza?status=waiting"' in html
    assert "Max-Age=0" in act_as(http, "ann", do="clear").headers["set-cookie"]
    assert who(page(http, "/ui/")) == "Acting as everyone"


def test_the_pages_show_and_allow_what_this_user_may(http: Http) -> None:
    act_as(http, "ann", "customer")
    created = http.request("POST", "/ui/pizza/new", data={"id": "order-1", "do": "send", "key": "1"})
    assert created.status_code == 303
    assert http.get("/wf/pizza/order-1")["state"]["customer"] == "dev|ann"
    html = page(http, ORDER)
    assert events(html) == ["AddToCart", "EmptyCart", "SubmitCart"]
    assert '<section aria-labelledby="title-operations" hidden>' in html
    cancel = http.request("POST", ORDER, data={"operation": "cancel", "do": "send"})
    assert cancel.status_code == 403 and "it needs the role &#39;manager&#39;" in cancel.text

    act_as(http, "ben", "customer")
    assert "order-1" not in page(http, "/ui/pizza") and who(page(http, ORDER, 404)) == "Acting as ben (customer)"

    act_as(http, "kim", "cook", "manager")
    html = page(http, ORDER)
    assert events(html) == [] and '<section aria-labelledby="title-operations">' in html
    assert "order-1" in page(http, "/ui/pizza") and "New instance" not in page(http, "/ui/pizza") + page(http, "/ui/")

    act_as(http, "zoe")
    assert "No workflows for zoe." in page(http, "/ui/")
    page(http, "/ui/pizza", 403)


def test_the_cookie_counts_on_the_pages_only(http: Http) -> None:
    http.create("/wf/pizza/order-1")
    value = quote('["ben", ["customer"]]')
    cookie = {"Cookie": f"{COOKIE}={value}"}
    assert http.request("GET", ORDER, headers=cookie).status_code == 404
    assert http.ok("GET", "/wf/pizza/order-1", headers=cookie)["state"]["customer"] == ""
    assert http.request("GET", "/reference/pizza", headers=cookie).status_code == 200


def test_a_header_counts_more_and_also_outside_of_the_pages(http: Http) -> None:
    http.create("/wf/pizza/order-1", headers={"X-Dev-User": "ann; roles=customer"})
    assert http.get("/wf/pizza/order-1")["state"]["customer"] == "dev|ann"
    ben = {"X-Dev-User": "ben; roles=customer"}
    assert http.problem("GET", "/wf/pizza/order-1", headers=ben)["status"] == 404
    act_as(http, "ann", "customer")
    assert http.request("GET", ORDER, headers=ben).status_code == 404


@pytest.mark.parametrize(
    "value", ["", "x", "%22ann%22", "%5B%5D", "[1,[]]", '["a",1]', '["a",[1]]', '["\\n",[]]', "{}", "[" * 2000, "é"]
)
def test_a_cookie_that_is_not_from_the_form_is_ignored(http: Http, value: str) -> None:
    html = http.request("GET", "/ui/", headers=[(b"Cookie", f"{COOKIE}={value}".encode())]).text
    assert who(html) == "Acting as everyone"


def test_names_in_all_scripts(http: Http) -> None:
    act_as(http, "Ünal, a;b 李", "customer")
    assert who(page(http, "/ui/")) == "Acting as Ünal, a;b 李 (customer)"
    for name in ("", " ", "x" * 101, "a\tb"):
        assert act_as(http, name).status_code == 400
    act_as(http, "<b>", "nonsense")
    assert who(page(http, "/ui/")) == "Acting as &lt;b&gt;"


def test_not_for_other_machines_and_other_sites(http: Http) -> None:
    choice = {"name": "ann", "role.manager": "on"}
    for header in ({"Origin": "http://evil.example"}, {"Sec-Fetch-Site": "same-site"}, {"X-Forwarded-For": "1.2.3.4"}):
        assert http.request("POST", "/ui/", data=choice, headers=header).status_code == 403
    assert who(page(http, "/ui/")) == "Acting as everyone"
    assert who(http.request("GET", "/ui/", headers={"X-Forwarded-For": "1.2.3.4"}).text) == ""


def test_without_roles_or_for_other_machines_there_is_nothing_to_choose(tmp_path: Path) -> None:
    for db, workflow, more in (("a.db", Plain, {}), ("b.db", PizzaOrder, {"remote_clients": True})):
        with serving(tmp_path / db, workflow, **more) as http:
            assert "visitor" not in page(http, "/ui/")
            assert http.request("POST", "/ui/", data={"name": "ann"}).status_code == 405


@pytest.fixture(scope="module")
def issuer() -> Iterator[Issuer]:
    with issuing() as issuer:
        yield issuer


def test_beside_the_authenticators_of_a_service(tmp_path: Path, issuer: Issuer) -> None:
    settings = Settings(db=tmp_path / "a.db")
    with (
        running([Parcel], settings, listen("127.0.0.1", 0), authentication=authentication(issuer)) as url,
        httpx.Client(base_url=url) as client,
    ):
        http = Http(client)
        assert who(page(http, "/ui/", 401)) == "Not signed in"
        act_as(http, "ann", "customer")
        assert who(page(http, "/ui/")) == "Acting as ann (customer)"
        assert "Sign out" in page(http, "/ui/")
        assert http.problem("POST", PARCEL)["status"] == 401


@pytest.mark.parametrize(
    "path",
    [
        "/ui/",
        "/ui/pizza",
        "/ui/pizza?status=waiting&search.a=%2F",
        "/ui/pizza/instances/a%20b",
        "/ui/pizza/instances/a.b",
    ],
)
def test_pages_to_return_to(path: str) -> None:
    assert page_after(path) == path


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/",
        "/wf/pizza/1",
        "/uix",
        "ui/",
        "//evil.example/ui/",
        "https://evil.example/ui/",
        "/\\evil.example/ui/",
        "/ui/../wf/pizza",
        "/ui/%2e%2e/wf/pizza",
        "/ui/..",
        "/ui//evil.example",
        "/ui/%5c%5cevil.example",
        "/ui/\r\nX: y",
        "javascript:/ui/",
        "/ui/é",
    ],
)
def test_no_other_places_to_return_to(path: str) -> None:
    assert page_after(path) == "/ui/"
