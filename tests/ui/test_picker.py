"""Choosing who one is, in a real browser."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from pizza import PizzaOrder
from playwright.sync_api import Page, expect

from tests.browser import check_accessible
from tests.http.helpers import Http, serving

pytestmark = pytest.mark.slow


@pytest.fixture
def http(tmp_path: Path) -> Iterator[Http]:
    with serving(tmp_path / "a.db", PizzaOrder) as http:
        yield http


def act_as(page: Page, name: str, *roles: str) -> None:
    page.locator(".visitor summary").click()
    page.get_by_label("Name", exact=True).fill(name)
    for role in ("cook", "customer", "delivery", "manager"):
        page.get_by_role("checkbox", name=role, exact=True).set_checked(role in roles)
    page.get_by_role("button", name="Act as this user").click()
    expect(page.locator(".visitor summary")).to_have_text(f"Acting as {name} ({', '.join(roles)})")


def test_an_order_through_two_roles(page: Page, http: Http) -> None:
    page.goto(f"{http.client.base_url}/ui/pizza/new")
    expect(page.locator(".visitor summary")).to_have_text("Acting as everyone")
    act_as(page, "ann", "customer")
    page.get_by_label("Id", exact=True).fill("order-1")
    page.get_by_role("button", name="Create", exact=True).click()
    card = page.locator(".card", has=page.get_by_role("heading", name="AddToCart"))
    card.get_by_label("Name", exact=True).fill("funghi")
    card.get_by_role("button", name="Send AddToCart").click()
    expect(page.locator("#outcome")).to_contain_text("AddToCart was handled")
    page.get_by_role("button", name="Send SubmitCart").click()
    expect(page.locator("#outcome")).to_contain_text("SubmitCart was handled")
    expect(page.locator(".card")).to_have_count(0)
    expect(page.get_by_text("There is nothing that you can send now.")).to_be_visible()
    page.locator(".visitor summary").click()
    check_accessible(page)
    page.locator(".visitor summary").click()

    act_as(page, "kim", "manager")
    expect(page.get_by_role("heading", level=1)).to_have_text("order-1")
    expect(page.get_by_role("button", name="Send ConfirmOrder")).to_be_visible()
    expect(page.get_by_role("heading", name="Operate")).to_be_visible()

    page.locator(".crumbs").get_by_text("pizza").click()
    expect(page.get_by_role("link", name="order-1")).to_be_visible()
    act_as(page, "ben", "customer")
    expect(page.get_by_text("No instances.")).to_be_visible()
    page.locator(".visitor summary").click()
    page.get_by_role("button", name="Act as everyone").click()
    expect(page.get_by_role("link", name="order-1")).to_be_visible()
