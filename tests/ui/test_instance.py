"""The pages under /ui/ in a real browser: a whole order by clicks, two tabs at once, keyboard, no scripts, axe."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest
from pizza import PizzaOrder
from playwright.sync_api import Browser, BrowserContext, Locator, Page, Route, expect

from tests.browser import check_accessible
from tests.http.helpers import Http, serving, until
from tests.http.workflows import WORKFLOWS
from tests.input.workflows import Store

pytestmark = pytest.mark.slow

_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def http(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Http]:
    with serving(tmp_path_factory.mktemp("ui") / "ui.db", PizzaOrder, *WORKFLOWS, Store) as http:
        yield http


@pytest.fixture
def id() -> str:
    return f"order-{next(_numbers)}"


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    """A browser window with as many tabs as a test wants; what they write to the console fails it."""
    context = browser.new_context()
    messages: list[str] = []
    context.on("console", lambda message: messages.append(message.text))
    context.on("weberror", lambda error: messages.append(str(error.error)))
    yield context
    context.close()
    # That a request was refused, or not answered, is no fault of the page.
    assert [one for one in messages if not one.startswith("Failed to load resource")] == []


def url(http: Http, path: str) -> str:
    return f"{http.client.base_url}{path}"


def card(page: Page, event: str) -> Locator:
    return page.locator(".card", has=page.get_by_role("heading", name=event))


def send(page: Page, event: str, **filled: str) -> None:
    """Fills in the form of an event, sends it, and waits until it was handled."""
    form = card(page, event)
    for label, text in filled.items():
        form.get_by_label(label).fill(text)
    outcome = page.locator("#outcome")
    outcome.evaluate("one => one.replaceChildren()")  # the last one may be of the same event
    form.get_by_role("button", name=f"Send {event}").click()
    expect(outcome).to_contain_text(f"{event} was handled")


def test_a_whole_order_by_clicks(context: BrowserContext, http: Http, id: str) -> None:
    page = context.new_page()
    page.goto(url(http, "/ui/"))
    page.get_by_role("link", name="pizza", exact=True).click()
    page.get_by_role("link", name="New instance").click()
    page.get_by_label("Id", exact=True).fill(id)
    page.get_by_role("button", name="Create").click()
    expect(page.get_by_role("heading", level=1)).to_have_text(id)
    expect(page.get_by_role("heading", name="Operate")).to_be_visible()
    send(page, "AddToCart", Name="margherita", Qty="2")
    send(page, "AddToCart", Name="funghi")
    send(page, "SubmitCart")
    send(page, "ConfirmOrder", Manager="Ada", Amount="31.5")
    send(page, "StartCooking")
    send(page, "Pay", Amount="20")
    expect(page.locator("#outcome")).to_contain_text("11.5")
    send(page, "FinishCooking")
    send(page, "TakeDelivery", Courier="Grace")
    send(page, "Deliver")
    send(page, "Pay", Amount="11.5")
    expect(page.locator("#part-status .status")).to_have_text("finished")
    expect(page.locator("#part-fields")).to_contain_text("completed")
    assert page.title().startswith(f"{id}: finished")
    assert page.locator(".card").count() == 0
    expect(page.get_by_role("heading", name="Operate")).to_be_hidden()
    state = http.get(f"/wf/pizza/{id}")["state"]
    assert state["status"] == "completed" and [one["qty"] for one in state["cart"]] == [2, 1]


def test_two_tabs_at_once(context: BrowserContext, http: Http, id: str) -> None:
    http.create(f"/wf/pizza/{id}", json={"cart": [{"name": "funghi"}]})
    one, other = context.new_page(), context.new_page()
    for page in (one, other):
        page.goto(url(http, f"/ui/pizza/instances/{id}"))
    name = card(other, "AddToCart").get_by_label("Name")
    name.fill("half ty")
    other.locator("#part-raw summary").click()

    send(one, "AddToCart", Name="margherita")
    expect(other.locator("#part-fields")).to_contain_text("margherita")
    expect(name).to_have_value("half ty")
    name.press("End")
    name.press_sequentially("ped")
    assert other.locator("#part-raw details[open]").count() == 1
    card(other, "AddToCart").get_by_role("button").last.click()  # the wait has changed, so has the form's
    expect(other.locator("#part-fields")).to_contain_text("half typed")
    name.fill("too late")

    expect(one.locator("#part-fields")).to_contain_text("half typed")  # by now its forms are those of the new wait
    send(one, "SubmitCart")
    expect(card(other, "ConfirmOrder")).to_be_visible()
    gone = card(other, "AddToCart")
    expect(gone.get_by_text("No longer accepted.")).to_be_visible()
    expect(name).to_have_value("too late")
    expect(gone.get_by_role("button", name="Send AddToCart")).to_be_disabled()
    expect(card(other, "EmptyCart")).to_have_count(0)
    gone.get_by_role("button", name="Discard").click()
    expect(gone).to_have_count(0)


def test_a_form_comes_back_also_when_the_page_was_told_before_the_answer(
    context: BrowserContext, http: Http, id: str
) -> None:
    http.create(f"/wf/pizza/{id}")
    page = context.new_page()

    def answer_late(route: Route) -> None:
        if route.request.method == "POST":
            response = route.fetch()
            with page.expect_response(lambda one: one.request.method == "GET" and one.status == 200):
                pass
            route.fulfill(response=response)
        else:
            route.continue_()

    page.goto(url(http, f"/ui/pizza/instances/{id}"))
    page.route(f"**/instances/{id}*", answer_late)
    send(page, "AddToCart", Name="margherita")
    expect(card(page, "AddToCart").get_by_label("Name")).to_have_value("", timeout=10_000)
    page.unroute_all()


def test_a_form_that_was_typed_in_comes_back_with_its_event(context: BrowserContext, http: Http, id: str) -> None:
    http.create(f"/wf/desk/{id}")
    page = context.new_page()
    page.goto(url(http, f"/ui/desk/instances/{id}"))
    name = card(page, "Put").first.get_by_label("Name")
    name.fill("pen")
    http.ok("POST", f"/wf/desk/{id}/pause")
    expect(card(page, "Put").first.get_by_text("No longer accepted.")).to_be_visible()
    expect(name).to_have_attribute("readonly", "")
    http.ok("POST", f"/wf/desk/{id}/unpause")
    expect(card(page, "Put").first.get_by_text("No longer accepted.")).to_be_hidden()
    expect(name).to_have_value("pen")
    name.press("Enter")
    expect(page.locator("#outcome")).to_contain_text("Put was handled")
    assert http.get(f"/wf/desk/{id}")["state"]["items"] == [{"name": "pen", "qty": 1}]


def test_an_invalid_form(context: BrowserContext, http: Http, id: str) -> None:
    http.create(f"/wf/desk/{id}")
    page = context.new_page()
    page.goto(url(http, f"/ui/desk/instances/{id}"))
    page.evaluate("document.querySelectorAll('form').forEach(one => one.noValidate = true)")
    other = card(page, "Write").get_by_label("Input")
    other.fill("untouched")
    form = page.locator(".card", has=page.get_by_role("button", name="Send PutBox", exact=True))
    form.get_by_role("button", name="Add to Items").click()
    expect(form.get_by_label("Name")).to_have_count(1)
    form.get_by_label("Qty").fill("0")
    page.evaluate("document.querySelectorAll('form').forEach(one => one.noValidate = true)")
    form.get_by_role("button", name="Send PutBox").last.click()
    summary = form.get_by_role("alert")
    expect(summary).to_be_focused()
    expect(summary).to_contain_text("Name: String should have at least 1 character")
    summary.get_by_role("link", name="Qty").click()
    expect(form.get_by_label("Qty")).to_be_focused()
    expect(form.get_by_label("Qty")).to_have_attribute("aria-invalid", "true")
    expect(form.get_by_label("Qty")).to_have_value("0")
    expect(form.get_by_label("Name")).to_have_accessible_description("Error: String should have at least 1 character")
    expect(other).to_have_value("untouched")
    check_accessible(page)
    form.get_by_label("Name").fill("pen")
    form.get_by_label("Qty").fill("3")
    form.get_by_role("button", name="Send PutBox").last.click()
    expect(page.locator("#outcome")).to_contain_text("Output: 1")
    expect(page.locator("#outcome .notice")).to_be_focused()


def test_the_browser_itself_says_what_it_can_see(context: BrowserContext, http: Http, id: str) -> None:
    http.create(f"/wf/pizza/{id}")
    page = context.new_page()
    page.goto(url(http, f"/ui/pizza/instances/{id}"))
    card(page, "AddToCart").get_by_role("button").last.click()
    name = card(page, "AddToCart").get_by_label("Name")
    expect(name).to_be_focused()
    assert not name.evaluate("one => one.validity.valid")
    assert http.get(f"/wf/pizza/{id}")["state"]["cart"] == []


def test_by_keyboard_alone(context: BrowserContext, http: Http, id: str) -> None:
    http.create(f"/wf/pizza/{id}")
    page = context.new_page()
    page.goto(url(http, f"/ui/pizza/instances/{id}"))

    def tab_to(name: str) -> None:
        for _ in range(40):
            page.keyboard.press("Tab")
            focused = page.evaluate("(document.activeElement.labels?.[0] ?? document.activeElement).innerText")
            outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
            assert outline == "solid", f"where the focus is cannot be seen at {focused!r}"
            if focused.startswith(name):
                return
        raise AssertionError(f"{name!r} is not reached")

    page.keyboard.press("Tab")
    page.keyboard.press("Enter")  # skip to the content
    tab_to("Name")
    page.keyboard.type("margherita")
    page.keyboard.press("Enter")
    expect(page.locator("#outcome .notice")).to_be_focused()
    tab_to("Send SubmitCart")
    page.keyboard.press("Space")
    expect(card(page, "ConfirmOrder")).to_be_visible()
    tab_to("Cancel")
    page.keyboard.press("Enter")
    tab_to("Reason")
    page.keyboard.type("changed my mind")
    tab_to("Cancel this instance")
    page.keyboard.press("Enter")
    expect(page.locator("#part-status .status")).to_have_text("canceled")
    expect(page.locator("#part-timeline")).to_contain_text("changed my mind")


def test_without_scripts(browser: Browser, http: Http, id: str) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(url(http, "/ui/pizza/new"))
    page.get_by_label("Id", exact=True).fill(id)
    page.get_by_role("button", name="Create").last.click()
    send(page, "AddToCart", Name="margherita", Qty="2")
    assert "sent=AddToCart" in page.url
    send(page, "SubmitCart")
    send(page, "ConfirmOrder", Manager="Ada", Amount="10")
    page.locator("summary", has_text="Cancel").click()
    page.get_by_label("Reason").last.fill("no flour")
    page.get_by_role("button", name="Cancel this instance").last.click()
    expect(page.locator("#outcome")).to_contain_text("Canceled.")
    until(lambda: http.get(f"/wf/pizza/{id}")["meta"]["status"] == "canceled")
    page.reload()
    expect(page.locator("#part-timeline")).to_contain_text("no flour")
    context.close()


def test_a_service_that_is_gone_is_told_and_what_was_typed_stays(context: BrowserContext, http: Http, id: str) -> None:
    http.create(f"/wf/desk/{id}")
    page = context.new_page()
    page.goto(url(http, f"/ui/desk/instances/{id}"))
    text = card(page, "Write").get_by_label("Input")
    text.fill("to be kept")
    cut = [True]
    page.route("**/ui/**", lambda route: route.abort() if cut[0] else route.continue_())
    expect(page.locator("#connection")).to_contain_text("cannot be reached")
    card(page, "Write").get_by_role("button").last.click()
    expect(card(page, "Write").get_by_role("alert")).to_contain_text("takes effect only once")
    expect(text).to_have_value("to be kept")
    cut[0] = False
    expect(page.locator("#connection")).to_be_hidden(timeout=10_000)
    card(page, "Write").get_by_role("button").last.click()
    expect(page.locator("#outcome")).to_contain_text("Write was handled")
    assert http.get(f"/wf/desk/{id}")["state"]["note"] == "to be kept"
    page.unroute_all()


def test_they_are_accessible(page: Page, http: Http, id: str) -> None:
    http.create(f"/wf/store/{id}")
    http.create(f"/wf/failing/{id}")
    http.create(f"/wf/pizza/{id}", json={"cart": [{"name": "funghi"}]})
    http.send(f"/wf/pizza/{id}/SubmitCart")
    http.send(f"/wf/pizza/{id}/ConfirmOrder", {"manager": "Ada", "amount": 3})
    until(lambda: http.get(f"/wf/failing/{id}")["meta"]["status"] == "failed")
    paths = ["", "pizza", "pizza/new", *(f"{name}/instances/{id}" for name in ("pizza", "store", "failing"))]
    for path in paths:
        page.goto(url(http, f"/ui/{path}"))
        page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
        check_accessible(page)
        ids: list[str] = page.eval_on_selector_all("[id]", "all => all.map(one => one.id)")
        assert len(set(ids)) == len(ids)


def test_a_narrow_screen_need_not_be_scrolled_sideways(page: Page, http: Http, id: str) -> None:
    http.create(f"/wf/store/{id}")
    page.set_viewport_size({"width": 360, "height": 800})
    for path in ("", "store", "store/new", f"store/instances/{id}"):
        page.goto(url(http, f"/ui/{path}"))
        assert page.evaluate("document.documentElement.scrollWidth") == 360, path


def test_the_way_back_on_a_narrow_screen(page: Page, http: Http, id: str) -> None:
    id = f"{id}-{'long' * 12}"
    http.create(f"/wf/store/{id}")
    page.set_viewport_size({"width": 390, "height": 800})
    page.goto(url(http, f"/ui/store/instances/{id}"))
    page.evaluate(
        "document.querySelector('.top').append(Object.assign(document.createElement('p'), "
        "{className: 'visitor', textContent: 'a-visitor-with-a-long-name@shop.example'}))"
    )
    way = page.get_by_role("navigation", name="Breadcrumb")
    box = way.bounding_box()
    assert box is not None and box["width"] > 300
    for link in way.get_by_role("link").all():
        inner = link.bounding_box()
        assert inner is not None and inner["x"] + inner["width"] <= box["x"] + box["width"]
    way.get_by_role("link", name="store").click()
    expect(page).to_have_url(url(http, "/ui/store"))


def test_the_diagram_is_dark_in_the_dark(page: Page, http: Http, id: str) -> None:
    http.create(f"/wf/pizza/{id}")
    page.goto(url(http, f"/ui/pizza/instances/{id}"))
    dark = page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches")
    ground = page.evaluate("getComputedStyle(document.querySelector('.wf-page')).fill")
    assert ground == ("rgb(16, 21, 27)" if dark else "rgb(255, 255, 255)")
