"""The pages under /ui/, without a browser: what they show, what their forms do, and what they refuse."""

from __future__ import annotations

import asyncio
import re
import sqlite3
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from pizza import PizzaOrder
from pydantic import Field

from cloud_adapter.engine.operations import ACTIONS
from cloud_adapter.hosting.embedded import EmbeddedRuntime
from cloud_adapter.http.api import create_api
from cloud_adapter.http.pages import outcomes
from cloud_adapter.http.pages.forms import Form
from cloud_adapter.http.pages.rendering import templates
from cloud_adapter.http.pages.times import relative
from cloud_adapter.settings import Settings
from tests.http.helpers import BODY_BYTES_MAX, Http, serving, until
from tests.http.pages import PageForm, form, forms
from tests.http.test_forms import Tree, json_values, schema_of, trees
from tests.http.workflows import UNICODE_EVENT
from tests.input.workflows import Store
from workflow_core import On, S, Select, Step, WaitFor, Workflow

JSON = {"Accept": "application/json"}


def path(url: str) -> str:
    """The page of an instance, by its address in the API."""
    _, _, workflow, id = url.split("/")
    return f"/ui/{workflow}/instances/{id}"


class Ui:
    """A browser without scripts."""

    def __init__(self, http: Http) -> None:
        self.http = http

    def get(self, url: str, status: int = 200) -> str:
        response = self.http.request("GET", url)
        return self.page(response, status)

    def post(self, url: str, data: dict[str, str], status: int = 200, **headers: str) -> str:
        response = self.http.request("POST", url, data=data, headers=headers)
        if status == 200 and response.status_code == 303:
            assert response.headers["location"].startswith("../")
            response = self.http.request("GET", str(response.url.join(response.headers["location"]).raw_path, "ascii"))
        return self.page(response, status)

    def page(self, response: httpx.Response, status: int) -> str:
        assert response.status_code == status, response.text
        assert response.headers["content-type"] == "text/html; charset=utf-8"
        policy = response.headers["content-security-policy"]
        assert "default-src 'none'" in policy and "unsafe" not in policy
        assert response.headers["cache-control"] == "no-store"
        return response.text


@pytest.fixture
def ui(http: Http) -> Ui:
    return Ui(http)


# --- lists -----------------------------------------------------------------------------------


def test_the_workflows(ui: Ui) -> None:
    html = ui.get("/ui/")
    assert '<a href="../ui/pizza">pizza</a>' in html
    assert "A customer fills a cart" in html
    response = ui.http.request("GET", "/ui")
    assert (response.status_code, response.headers["location"]) == (308, "./ui/")


def test_the_instances_page_by_page(ui: Ui, tmp_path: Path) -> None:
    with serving(tmp_path / "many.db", PizzaOrder) as http:
        ui = Ui(http)
        assert "No instances." in ui.get("/ui/pizza")
        for number in range(53):
            http.create(f"/wf/pizza/n-{number}")
        http.ok("POST", "/wf/pizza/n-7/cancel")
        until(lambda: http.get("/wf/pizza/n-7")["meta"]["status"] == "canceled")
        first = ui.get("/ui/pizza")
        assert first.count('<th scope="row">') == 50 and "n-52" in first
        following = first.partition('" rel="next"')[0].rpartition('href="../')[2]
        second = ui.get("/" + following.replace("&amp;", "&"))
        assert second.count('<th scope="row">') == 3 and "First page" in second and "Next page" not in second
        only = ui.get("/ui/pizza?status=canceled")
        assert only.count('<th scope="row">') == 1 and "instances/n-7" in only
        assert '<option value="canceled" selected>' in only
        by_id = ui.get("/ui/pizza?order=id&status=")
        assert '<option value="id" selected>' in by_id and "Instances of pizza, by id" in by_id
        following = by_id.partition('" rel="next"')[0].rpartition('href="../')[2]
        assert "order=id" in following
        assert 'instances/n-9"' in ui.get("/" + following.replace("&amp;", "&"))
        assert "unknown status" in ui.get("/ui/pizza?status=odd", 400)
        assert "unknown order" in ui.get("/ui/pizza?order=odd", 400)
        assert "is not a cursor" in ui.get("/ui/pizza?cursor=odd", 400)


def test_search_fields_are_shown(ui: Ui, http: Http, id: str) -> None:
    http.create(f"/wf/desk/{id}", json={"note": "<b>for & Ann"})
    assert "<td>&lt;b&gt;for &amp; Ann</td>" in ui.get("/ui/desk")


def test_search_fields_are_searched_by(ui: Ui, http: Http, id: str) -> None:
    http.create(f"/wf/desk/{id}-1", json={"note": "Ann & <Bob>"})
    http.create(f"/wf/desk/{id}-2", json={"note": "Cleo"})
    search = forms(ui.get("/ui/desk"))[0]
    assert dict(search.data) == {"status": "", "search.note": "", "order": "updated"}
    html = ui.page(http.request("GET", "/ui/desk", params={"status": "", "search.note": "Ann & <Bob>"}), 200)
    assert html.count('<th scope="row">') == 1 and f"{id}-1" in html and 'value="Ann &amp; &lt;Bob&gt;"' in html


def test_each_control_of_the_filter_has_a_label_of_its_own(tmp_path: Path) -> None:
    class Booked(Workflow, name="booked"):
        search_fields = ("customer_name", "status", "no")
        customer_name: str = ""
        status: str = "new"
        no: int = Field(0, title="Number")
        definition = S(WaitFor("done", lambda w: w.status == "done"))

    with serving(tmp_path / "booked.db", Booked) as http:
        http.create("/wf/booked/a")
        html = Ui(http).get("/ui/booked")
    labels = dict(re.findall(r'<label for="([^"]+)">([^<]+)</label>', html.partition('role="search"')[2]))
    assert labels == {
        "status": "Status",
        "search-customer_name": "Customer Name",
        "search-status": "Status (field)",
        "search-no": "Number",
        "order": "Sort",
    }
    columns = re.findall(r'<th scope="col">([^<]+)</th>', html)
    assert columns == ["Id", "Status", "Updated", "Next due", "Customer Name", "Status (field)", "Number", "Error"]


# --- a new instance --------------------------------------------------------------------------


def test_a_new_instance(ui: Ui, http: Http, id: str) -> None:
    new = form(ui.get("/ui/pizza/new"), "Create")
    assert new.action == "../../ui/pizza/new"
    html = ui.post("/ui/pizza/new", new.posted("Add to Cart"))
    new = form(html, "Create")
    html = ui.post("/ui/pizza/new", new.posted("Create", id=id, v__cart__0__name="funghi"))
    assert "Created." in html and ">Waiting for<" in html
    state = http.get(f"/wf/pizza/{id}")["state"]
    assert state == PizzaOrder(cart=[{"name": "funghi"}]).model_dump(mode="json")


def test_a_new_instance_that_cannot_be(ui: Ui, http: Http, id: str) -> None:
    url = "/ui/desk/new"
    new = form(ui.get(url), "Create")
    html = ui.post(url, new.posted("Create", id="a/b", v__note="kept"), 400)
    assert "invalid instance id" in html and "kept</textarea>" in html
    item = form(ui.post(url, new.posted("Add to Items")), "Create")
    html = ui.post(url, item.posted("Create", id=id, v__items__0__name="pen", v__items__0__qty="much"), 422)
    assert "Input should be a valid integer" in html and 'value="much"' in html and 'aria-invalid="true"' in html
    assert http.problem("GET", f"/wf/desk/{id}")["status"] == 404
    http.create(f"/wf/desk/{id}")
    html = ui.post(url, new.posted("Create", id=id), 409)
    assert "already exists" in html


def test_the_same_creation_sent_twice_is_one(ui: Ui, id: str) -> None:
    data = form(ui.get("/ui/pizza/new"), "Create").posted("Create", id=id)
    assert "Created." in ui.post("/ui/pizza/new", data)
    assert "Created." in ui.post("/ui/pizza/new", data)


@pytest.mark.parametrize("id", ["new", "live", "a?b#c%2F", "ünï cöde", "..x", "<b>&amp;"])
def test_ids_of_every_kind(ui: Ui, http: Http, id: str) -> None:
    data = form(ui.get("/ui/timed/new"), "Create").posted("Create", id=id)
    html = ui.post("/ui/timed/new", data)
    assert form(html, "Pause this instance").action in html
    assert "<b>&amp;</h1>" not in html
    action = httpx.URL("http://x/ui/timed/instances/x").join(form(html, "Pause this instance").action)
    url = str(action.raw_path, "ascii")
    assert "Paused." in ui.post(url, form(html, "Pause this instance").posted())
    status = [one["status"] for one in http.get("/wf/timed?limit=200")["instances"] if one["id"] == id]
    assert status == ["paused"]


# --- events ----------------------------------------------------------------------------------


def test_an_event_is_sent_and_its_output_shown(ui: Ui, http: Http, create: Callable[[str], str]) -> None:
    url = create("desk")
    html = ui.get(path(url))
    sent = ui.post(path(url), form(html, "Send Put").posted("Send Put", v__name="<i>pen"))
    assert "<strong>Put</strong> was handled." in sent and "&lt;i&gt;pen" in sent and "<i>pen" not in sent
    assert http.get(url)["state"]["items"] == [{"name": "<i>pen", "qty": 1}]
    counted = ui.post(path(url), form(sent, "Send Count").posted())
    assert "Output: <code>1</code>" in counted
    again = form(counted, f"Send {UNICODE_EVENT}").posted(j='{"a": [1]}')
    ui.post(path(url), again)
    assert http.get(url)["state"]["anything"] == {"a": [1]}


def test_the_same_form_sent_twice_is_one_event(ui: Ui, http: Http, create: Callable[[str], str]) -> None:
    url = create("desk")
    data = form(ui.get(path(url)), "Send Put").posted("Send Put", v__name="pen")
    assert "was handled" in ui.post(path(url), data)
    assert "was handled" in ui.post(path(url), data)
    assert len(http.get(url)["state"]["items"]) == 1
    html = ui.post(path(url), data | {"v/name": "another"}, 422)
    assert "was used for another request" in html and 'value="another"' in html
    assert "was handled" in ui.post(path(url), form(html, "Send Put").posted("Send Put") | {"key": "fresh"}, 200)


def test_rows_are_added_without_a_script(ui: Ui, http: Http, create: Callable[[str], str]) -> None:
    url = create("desk")
    html = ui.get(path(url))
    html = ui.post(path(url), form(html, "Send PutBox").posted("Add to Items"))
    html = ui.post(path(url), form(html, "Send PutBox").posted("Add to Items", v__items__0__name="a"))
    html = ui.post(path(url), form(html, "Send PutBox").posted("Add to Items", v__items__1__name="b"))
    assert http.get(url)["state"]["items"] == []
    assert html.count(" autofocus") == 1
    html = ui.post(path(url), form(html, "Send PutBox").posted("Remove Items, Item 1", v__items__2__name="c"))
    html = ui.post(path(url), form(html, "Send PutBox").posted("Send PutBox", v__items__1__qty="3"))
    assert "Output: <code>2</code>" in html
    assert http.get(url)["state"]["items"] == [{"name": "b", "qty": 1}, {"name": "c", "qty": 3}]


def test_an_invalid_form_says_what_is_wrong_where_it_is(ui: Ui, http: Http, create: Callable[[str], str]) -> None:
    url = create("desk")
    before = http.get(url)
    data = form(ui.get(path(url)), "Send Put").posted("Send Put", v__name="", v__qty="-3")
    html = ui.post(path(url), data, 422)
    (id,) = {part.partition('"')[0] for part in html.split('aria-invalid="true"')[0].split(' id="')[-1:]}
    assert f'<a href="#{id}">Name</a>: String should have at least 1 character' in html
    assert f'<label for="{id}">' in html and f"{id}-error" in html
    assert 'value="-3"' in html and html.count('aria-invalid="true"') == 2
    assert html.count(" autofocus") == 1, "the summary has the focus"
    data = form(html, "Send Keep").posted("Send Keep", j="{")
    assert "not valid JSON" in ui.post(path(url), data, 422)
    assert http.get(url) == before


@pytest.mark.parametrize(
    ("button", "status", "text"),
    [
        ("Send Refuse", 409, "the desk refuses: ask tomorrow"),
        ("Send Crash", 500, "RuntimeError"),
        ("Send Lie", 500, "returned what its annotation does not allow"),
    ],
)
def test_what_the_handler_says_is_shown(
    ui: Ui, create: Callable[[str], str], button: str, status: int, text: str
) -> None:
    url = path(create("desk"))
    assert text in ui.post(url, form(ui.get(url), button).posted(), status)


def test_an_event_that_has_gone(ui: Ui, http: Http, create: Callable[[str], str]) -> None:
    url = create("desk")
    html = ui.get(path(url))
    http.send(f"{url}/Close")
    html = ui.post(path(url), form(html, "Send Put").posted("Send Put", v__name="half typed"), 409)
    assert "No longer accepted." in html and 'value="half typed"' in html and "data-gone" in html
    assert "Send Put" not in [text for one in forms(html) for text in one.buttons], "it is disabled"
    assert "Send Archive" in html


def test_an_event_of_a_later_wait_is_not_sent_by_the_form_of_an_earlier_one(
    ui: Ui, http: Http, create: Callable[[str], str]
) -> None:
    url = create("desk")
    data = form(ui.get(path(url)), "Send Put").posted("Send Put", v__name="pen")
    http.send(f"{url}/Touch")
    html = ui.post(path(url), data, 409)
    assert "The instance has changed. It accepts this event again" in html and "data-gone" not in html
    assert http.get(url)["state"]["items"] == []
    ui.post(path(url), form(html, "Send Put").posted("Send Put"))
    assert http.get(url)["state"]["items"] == [{"name": "pen", "qty": 1}]


def test_each_of_two_threads_gets_its_own_event(ui: Ui, http: Http, create: Callable[[str], str]) -> None:
    url = create("twins")
    both = [one for one in forms(ui.get(path(url))) if "Send Vote" in one.buttons]
    assert len({dict(one.data)["thread"] for one in both}) == 2
    ui.post(path(url), both[1].posted("Send Vote", v="7"))
    assert (http.get(url)["state"]["left"], http.get(url)["state"]["right"]) == (0, 7)
    (timeline,) = re.findall(r'<ol class="timeline".*?</ol>', ui.get(path(url)), re.DOTALL)
    assert "thread " in timeline
    assert not re.search(r"</(span|strong|time)><(?!/)", timeline), "words without a space between them"


# --- operations ------------------------------------------------------------------------------


def test_pause_unpause_cancel(ui: Ui, http: Http, create: Callable[[str], str]) -> None:
    url = create("desk")
    html = ui.get(path(url))
    html = ui.post(path(url), form(html, "Pause this instance").posted(v__by="Ann", v__reason="lunch <3"))
    assert "Paused." in html and "by Ann: lunch &lt;3" in html and "Send Put" not in html
    html = ui.post(path(url), form(html, "Unpause this instance").posted())
    assert "Send Put" in html
    stale = form(html, "Pause this instance").posted()
    html = ui.post(path(url), form(html, "Cancel this instance").posted())
    assert http.get(url)["meta"]["status"] == "canceled"
    html = ui.post(path(url), stale, 409)
    assert "it can no longer be paused" in html
    assert forms(ui.get(path(url))) == [], "nothing can be done with it any more"


def test_what_an_operator_says_may_be_too_long(ui: Ui, http: Http, create: Callable[[str], str]) -> None:
    url = create("desk")
    html = ui.post(path(url), form(ui.get(path(url)), "Pause this instance").posted(v__by="x" * 201), 422)
    assert "String should have at most 200 characters" in html and "<details open>" in html
    assert http.get(url)["meta"]["status"] == "waiting"


class Fragile(Workflow, name="fragile"):
    """Its step fails again and again."""

    def work(self) -> None:
        raise ValueError("not <yet> mended")

    definition = S(Step("work", work))


class Old(Workflow, name="changing"):
    definition = S(Select("old place", On("Go", lambda w: None)))


class New(Workflow, name="changing"):
    definition = S(Select("new place", On("Go", lambda w: None)))


class Newest(Workflow, name="changing", version=3):
    definition = S(Select("new place", On("Go", lambda w: None)))


def test_a_step_that_is_tried_again_says_why(tmp_path: Path) -> None:
    with serving(tmp_path / "fragile.db", Fragile) as http:
        http.create("/wf/fragile/1")
        html = until(lambda: "attempt 2" in (html := Ui(http).get("/ui/fragile/instances/1")) and html)
    assert "ValueError: not &lt;yet&gt; mended" in html


def test_a_failed_instance_can_be_retried(ui: Ui, http: Http, create: Callable[[str], str]) -> None:
    url = create("failing")
    until(lambda: http.get(url)["meta"]["status"] == "failed")
    html = ui.get(path(url))
    assert html.index("ZeroDivisionError") < html.index(">Position<"), "the error comes first"
    assert [list(one.buttons) for one in forms(html)] == [["Retry this instance"]]
    assert "The instance has failed and waits for nothing." in html and "Step, due" not in html
    ui.post(path(url), form(html, "Retry this instance").posted())
    assert [one["kind"] for one in http.get(url)["history"]].count("retry") == 1


def test_what_cannot_move_says_so(tmp_path: Path) -> None:
    db = tmp_path / "changing.db"
    with serving(db, Newest) as http:
        http.create("/wf/changing/newer")
    with serving(db, Old) as http:
        http.create("/wf/changing/1")
    with serving(db, New) as http:
        html = Ui(http).get("/ui/changing/instances/1")
        assert "This instance cannot move." in html and "old place" in html
        assert forms(html) == []
        assert "deploy that again" in Ui(http).get("/ui/changing/instances/newer", 503)
        with sqlite3.connect(db) as connection:
            connection.execute("UPDATE instances SET execution = 'spoilt', search = '{' WHERE id = '1'")
        connection.close()
        assert "cannot be read" in Ui(http).get("/ui/changing/instances/1", 500)
        assert "One instance cannot be read and is not listed" in Ui(http).get("/ui/changing")


# --- what is refused -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "https://elsewhere.example"},
        {"Origin": "null"},
    ],
)
def test_what_another_site_posts_is_refused(
    ui: Ui, http: Http, create: Callable[[str], str], headers: dict[str, str]
) -> None:
    url = create("desk")
    data = form(ui.get(path(url)), "Send Close").posted()
    before = http.get(url)
    assert "another site" in ui.post(path(url), data, 403, **headers)
    assert "another site" in ui.post("/ui/desk/new", {"id": "forged"}, 403, **headers)
    assert http.get(url) == before
    assert http.problem("GET", "/wf/desk/forged")["status"] == 404


def test_what_a_page_of_ours_posts_is_not(ui: Ui, http: Http, create: Callable[[str], str]) -> None:
    url = create("desk")
    data = form(ui.get(path(url)), "Send Touch").posted()
    origin = str(http.client.base_url).rstrip("/")
    ui.post(path(url), data, 200, **{"Origin": origin, "Sec-Fetch-Site": "same-origin"})
    ui.post(path(url), form(ui.get(path(url)), "Send Touch").posted(), Origin=origin)
    assert http.get(url)["state"]["note"] == ".."


def test_what_no_page_posts_is_refused(ui: Ui, http: Http, create: Callable[[str], str]) -> None:
    url = create("desk")
    before, page = http.get(url), path(url)
    good = form(ui.get(page), "Send Put").posted("Send Put", v__name="pen")
    assert "unknown event" in ui.post(page, good | {"event": "Nothing"}, 400)
    assert "unknown event" in ui.post(page, good | {"select": "elsewhere"}, 400)
    assert "unknown operation" in ui.post(page, {"operation": "goto"}, 400)
    assert "has no field" in ui.post(page, good | {"do": "add/nothing"}, 400)
    assert "unknown action &#39;x&#39; of this form" in ui.post(
        page, form(ui.get(page), "Send Touch").posted() | {"do": "x"}, 400
    )
    assert "invalid idempotency key: it must have" in ui.post(page, good | {"key": "ü"}, 400)
    assert "exceeds the limit" in ui.post(page, good | {"v/name": "x" * BODY_BYTES_MAX}, 413)
    response = http.request("POST", page, json=good)
    assert response.status_code == 400 and "application/json" in response.text
    assert "Workflow not found" in ui.get("/ui/nope/instances/1", 404)
    assert "Instance not found" in ui.get("/ui/desk/instances/nobody", 404)
    assert "Workflow not found" in ui.get("/ui/nope", 404)
    assert http.get(url) == before


def test_a_link_cannot_make_the_page_say_what_was_not_done(
    ui: Ui, http: Http, create: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    instance = create("desk")
    url, notice = path(instance), 'class="notice good"'
    http.send(f"{instance}/Write", "I am yours", headers={"Idempotency-Key": "mine"})
    links = ["sent=Put&key=guessed", "sent=Put&key=mine", "sent=<b>&key=x", "sent=Put", "done=explode", "done=event"]
    for query in (*links, *(f"done={name}" for name in ACTIONS), "done=new", "done=Write"):
        assert notice not in ui.get(f"{url}?{query}"), query
    assert "<strong>Write</strong> was handled." in ui.get(f"{url}?sent=Write&key=mine")
    assert "Created." in ui.get(f"{url}?done=created")
    http.send(f"{instance}/Keep", "mine", headers={"Idempotency-Key": "other"})
    assert "was handled. Output" not in ui.get(f"{url}?sent=Write&key=other"), "that is the output of another event"
    assert "Output: <code>&#34;mine&#34;</code>" in ui.get(f"{url}?sent=Keep&key=other")
    http.create(f"{instance}/pause")
    assert ACTIONS["pause"].result in ui.get(f"{url}?done=pause")
    monkeypatch.setattr(outcomes, "RECENT", timedelta(0))
    for query in ("done=created", "done=pause", "sent=Write&key=mine"):
        assert notice not in ui.get(f"{url}?{query}"), "it was done long ago"


# --- in the background -----------------------------------------------------------------------


def test_the_page_is_followed_in_the_background(http: Http, create: Callable[[str], str]) -> None:
    url = create("desk")
    first = http.request("GET", path(url), headers=JSON).json()
    assert set(first["parts"]) == {"status", "diagram", "waits", "fields", "timeline", "raw"}
    assert [one["id"] for one in first["operations"]] == ["card-pause", "card-cancel"]
    version = {"version": first["version"]}
    assert http.request("GET", path(url), headers=JSON, params=version).status_code == 204
    http.send(f"{url}/Touch")
    second = http.request("GET", path(url), headers=JSON, params=version).json()
    assert second["version"] != first["version"]
    assert [one["id"] for one in second["events"]] == [one["id"] for one in first["events"]], "the same forms"
    assert second["events"][0]["wait_id"] != first["events"][0]["wait_id"]


def test_a_form_is_sent_in_the_background(ui: Ui, http: Http, create: Callable[[str], str]) -> None:
    url = create("desk")
    data = form(ui.get(path(url)), "Send Put").posted("Send Put", v__name="")
    refused = http.request("POST", path(url), data=data, headers=JSON)
    assert refused.status_code == 422
    assert refused.json()["focus"] == f"{refused.json()['id']}-summary"
    sent = http.request("POST", path(url), data=data | {"v/name": "pen"}, headers=JSON).json()
    assert "was handled" in sent["outcome"] and "pen" in sent["parts"]["fields"]
    gone = http.request("GET", "/ui/desk/instances/nobody", headers=JSON)
    assert gone.headers["content-type"] == "application/problem+json"


def test_the_pages_are_served_only_where_they_are_wanted(tmp_path: Path) -> None:
    async def ask() -> httpx.Response:
        runtime = EmbeddedRuntime([PizzaOrder], Settings(db=tmp_path / "x.db"))
        try:
            transport = httpx.ASGITransport(create_api(runtime.engine, max_body_bytes=BODY_BYTES_MAX))
            async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
                response = await client.get("/ui/")
        finally:
            await runtime.close()
        return response

    assert asyncio.run(ask()).status_code == 404
    assert Settings().serves_ui
    cloud: dict[str, Any] = {"project": "p", "location": "l", "worker_url": "https://w", "tasks_account": "t@p"}
    assert not Settings(backend="cloud", **cloud).serves_ui
    assert Settings(backend="cloud", ui=True, **cloud).serves_ui
    assert not Settings(ui=False).serves_ui


# --- templates -------------------------------------------------------------------------------


def rendered(form: Form) -> PageForm:
    template = templates().from_string(
        '{% from "fields.html" import field %}<form method="post">{{ field(form.root, "x", "") }}</form>'
    )
    (result,) = forms(template.render(form=form))
    return result


@pytest.mark.slow
@settings(max_examples=60)
@given(trees | json_values)
def test_the_html_of_a_form_posts_what_the_form_was_made_from(value: Any) -> None:
    form = Form(schema_of(Tree), value=value)
    data = {name: text.replace("\n", "\r\n") for name, text in rendered(form).data}
    assert repr(Form(schema_of(Tree), data).value()) == repr(form.value())


def test_times_in_words() -> None:
    now = datetime(2026, 1, 31, 12, tzinfo=UTC)
    said = {seconds: relative(now + timedelta(seconds=seconds), now) for seconds in (0, 1, -59, 90, 7200, -200_000)}
    assert said == {
        0: "now",
        1: "in 1 second",
        -59: "59 seconds ago",
        90: "in 1 minute",
        7200: "in 2 hours",
        -200_000: "2 days ago",
    }


def test_every_event_of_the_stress_workflow_can_be_sent_by_its_form(tmp_path: Path) -> None:
    filled = {
        "Send KeepBox": {"v__weight": "2", "v__price": "3.10", "j__numbers": '{"a": 1}', "v__code": "AB123"},
        "Send KeepPerson": {"v__name": "Ann", "v__born": "2000-02-29"},
        "Send KeepAmount": {"v": "1e2"},
        "Send KeepLabel": {"v": "ü"},
        "Send KeepEither": {"j": "[true]"},
        "Send Keep": {"j": "null"},
        "Send KeepNumbers": {},
        "Send Count": {},
        "Send an event / with % a name?": {},
    }
    with serving(tmp_path / "stress.db", Store) as http:
        ui, url = Ui(http), "/ui/store/instances/1"
        http.create("/wf/store/1")
        for button, data in filled.items():
            html = ui.post(url, form(ui.get(url), button).posted(button, **data))
            assert "was handled" in html, button
        state = http.get("/wf/store/1")["state"]
    assert state["box"]["weight"] == 2 and state["box"]["price"] == "3.10" and state["box"]["numbers"] == {"a": 1}
    assert state["person"]["born"] == "2000-02-29" and state["amount"] == 100 and state["label"] == "ü"
