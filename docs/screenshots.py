"""Creates the pictures of the README: the page of an order, in light and dark mode. Needs Chromium.

python docs/screenshots.py
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

import httpx
from playwright.sync_api import sync_playwright

ROOT = Path(__file__).parents[1]
IMAGES = ROOT / "docs" / "images"
SIZE = {"width": 1280, "height": 860}

sys.path[:0] = [str(ROOT), str(ROOT / "functions")]

from pizza import PizzaOrder  # noqa: E402

from cloud_adapter.hosting.dev_server import running  # noqa: E402
from cloud_adapter.settings import Settings  # noqa: E402
from cloud_adapter.sockets import listen  # noqa: E402

EVENTS = (
    ("AddToCart", {"name": "margherita", "qty": 2}),
    ("AddToCart", {"name": "quattro stagioni"}),
    ("SubmitCart", None),
    ("ConfirmOrder", {"manager": "Ada", "amount": 31.5}),
)


def main() -> None:
    """Orders a pizza and takes the pictures."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        sys.exit("Chromium is not installed: apt-get install chromium")
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        db = Path(folder) / "order.db"
        with running([PizzaOrder], Settings(db=db), listen("127.0.0.1", 0)) as url:
            order = f"{url}/wf/pizza/order-7"
            httpx.post(order).raise_for_status()
            for event, input in EVENTS:
                httpx.post(f"{order}/{event}", json=input).raise_for_status()
            while "StartCooking" not in [event["name"] for event in httpx.get(order).json()["events"]]:
                pass
            for scheme in ("light", "dark"):
                page = browser.new_page(color_scheme=scheme, viewport=SIZE)
                page.goto(f"{url}/ui/pizza/instances/order-7")
                page.get_by_label("Amount").fill("20")
                page.mouse.click(5, 5)
                page.screenshot(path=IMAGES / f"instance-{scheme}.png")
        browser.close()


if __name__ == "__main__":
    main()
