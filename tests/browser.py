"""A real Chromium for tests of pages: a page in light and one in dark, and what axe says of it. Holds no test."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import Literal

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, sync_playwright

from tests.firestore_emulator import missing

Scheme = Literal["light", "dark"]

_ARGUMENTS = [
    "--headless",
    "--no-sandbox",  # containers run tests as root
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
# Of what it passes one node each is enough: all of them take a minute to bring over.
_AXE = {
    "runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"],
    "resultTypes": ["violations", "incomplete"],
}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A browser. Not for the whole run: as long as it lives, nothing else in its thread can run an event loop."""
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        missing("the tests of pages need Chromium: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=_ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture(params=["light", "dark"])
def page(request: pytest.FixtureRequest, browser: Browser) -> Iterator[Page]:
    """An empty page, once in light and once in dark; the test fails if the page writes to the console."""
    scheme: Scheme = request.param
    context = browser.new_context(color_scheme=scheme)
    page = context.new_page()
    messages: list[str] = []
    page.on("console", lambda message: messages.append(message.text))
    page.on("pageerror", lambda error: messages.append(str(error)))
    yield page
    context.close()
    assert messages == []


def check_accessible(page: Page) -> None:
    """Fails with what axe finds: violations of WCAG 2.2 AA, and of what is good practice."""
    found = Axe().run(page, options=_AXE)
    assert found.violations_count == 0, found.generate_report()
    assert found.response["passes"], "axe has looked at nothing"
