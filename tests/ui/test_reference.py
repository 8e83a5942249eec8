"""The reference page in a real browser: it can be read by everybody, and needs no script."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from pizza import PizzaOrder
from playwright.sync_api import Browser, Page

from tests.browser import check_accessible
from tests.http.helpers import Http, serving
from tests.http.workflows import WORKFLOWS

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def http(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Http]:
    with serving(tmp_path_factory.mktemp("ui") / "ui.db", PizzaOrder, *WORKFLOWS) as http:
        yield http


def url(http: Http, workflow: str) -> str:
    return f"{http.client.base_url}/reference/{workflow}"


@pytest.mark.parametrize("workflow", ["pizza", "twins"])
def test_it_is_accessible(page: Page, http: Http, workflow: str) -> None:
    page.goto(url(http, workflow))
    assert page.title() == f"{workflow}: reference · gorchestrate"
    assert page.evaluate("getComputedStyle(document.querySelector('.top')).position") == "sticky", "no style sheet"
    page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
    check_accessible(page)


def test_it_follows_the_scheme_of_the_reader(page: Page, http: Http) -> None:
    page.goto(url(http, "pizza"))
    dark = page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == (
        "rgb(19, 23, 29)" if dark else "rgb(255, 255, 255)"
    )


def test_every_link_within_it_leads_somewhere(page: Page, http: Http) -> None:
    page.goto(url(http, "pizza"))
    links: list[str] = page.eval_on_selector_all("a", "all => all.map(one => one.getAttribute('href'))")
    for link in {*links}:
        if link.startswith("#"):
            assert page.locator(f'[id="{link[1:]}"]').count() == 1, link
        else:
            assert http.request("GET", f"/reference/{link}").is_success, link
    ids: list[str] = page.eval_on_selector_all("[id]", "all => all.map(one => one.id)")
    assert len(set(ids)) == len(ids)


def test_a_narrow_screen_need_not_be_scrolled_sideways(page: Page, http: Http) -> None:
    page.set_viewport_size({"width": 360, "height": 800})
    page.goto(url(http, "pizza"))
    page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
    assert page.evaluate("document.documentElement.scrollWidth") == 360


def test_a_click_takes_the_whole_line_for_the_shell(page: Page, http: Http) -> None:
    page.goto(url(http, "pizza"))
    line = page.locator("article:has(#send_add_to_cart) .curl code")
    line.click()
    assert page.evaluate("getSelection().toString()") == line.inner_text()


def test_it_works_without_scripts(browser: Browser, http: Http) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(url(http, "pizza"))
    page.locator("nav >> text=AddToCart").click()
    assert page.url.endswith("#send_add_to_cart")
    article = page.locator("article:has(#send_add_to_cart)")
    article.locator("summary").first.click()
    article.locator("pre", has_text='"status": "new"').wait_for()
    context.close()
