"""``gorchestrate demo``: what a visitor sees first."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest
from pizza import PizzaOrder
from playwright.sync_api import Browser, expect

from cloud_adapter.cli.demo import ORDER
from cloud_adapter.cli.demo_users import FORGER, USERS, authentication, tokens
from cloud_adapter.hosting.dev_server import running
from cloud_adapter.hosting.local_issuer import running_issuer
from cloud_adapter.settings import Settings
from cloud_adapter.sockets import listen
from tests.cli.processes import GORCHESTRATE, ROOT, Process, run, started
from tests.http.pages import forms

pytestmark = pytest.mark.slow


def test_plays_the_order_to_its_end(tmp_path: Path) -> None:
    result = run("demo", cwd=tmp_path, PYTHONPATH=str(ROOT))  # anywhere, without a clone of the repository
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    text = result.stdout
    assert re.search(
        r"Each user has a token of the issuer http://127\.0\.0\.1:\d+, with these roles:\n +ann  cust", text
    )
    assert "409 as expected  event 'StartCooking' is not accepted now: the instance is waiting, it accepts:" in text
    assert "422 as expected  invalid input for event 'AddToCart': qty: Input should be a valid integer" in text
    for role in ("customer", "manager", "cook", "delivery"):
        assert f"{role:>8}  POST /wf/pizza/order-1" in text
    assert "go payments is at payments/pay, accepts Pay" in text
    assert "The order is completed, the workflow finished; its fields:" in text
    assert '"status": "completed"' in text and '"courier": "Grace"' in text
    assert re.search(r'"customer": "http://127\.0\.0\.1:\d+\|ann"', text)
    assert "403 as expected  sending 'ConfirmOrder' is not permitted: it needs the role 'manager'" in text
    assert answer(text, "customer  GET /wf/pizza/order-1").startswith('200 as expected  {"meta":{"id":"order-1",')
    for request in ("ben  GET /wf/pizza/order-1", "ben  POST /wf/pizza/order-1/EmptyCart"):
        assert answer(text, request) == "404 as expected  there is no instance 'order-1' of 'pizza'"
    assert answer(text, "forger  POST /wf/pizza/order-1/EmptyCart").startswith(
        "401 as expected  the token is not valid"
    )
    assert text.rstrip().endswith("run this command with --keep.")
    assert "expected 2" not in text and "expected 4" not in text


def answer(text: str, request: str) -> str:
    """What is shown below a request."""
    lines = text.splitlines()
    (number,) = (number for number, line in enumerate(lines) if line.strip() == request)
    return lines[number + 1].strip()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_keep_leaves_the_server_and_the_issuer_up_until_a_signal(tmp_path: Path, number: signal.Signals) -> None:
    # The setting is for other commands: the demo is for this machine only.
    with started([*GORCHESTRATE, "demo", "--keep"], tmp_path, GORCHESTRATE_REMOTE_CLIENTS="true") as demo:
        demo.wait_for("The server keeps running")
        url = base_url(demo)
        assert httpx.get(f"{url}{ORDER}").status_code == 401
        headers = {"X-Dev-User": "ann; roles=customer"}
        assert f"  curl -H 'X-Dev-User: ann; roles=customer' {url}{ORDER}" in demo.output().splitlines()
        assert httpx.get(f"{url}{ORDER}", headers=headers).json()["state"]["status"] == "completed"
        issuer = re.findall(r"the issuer (\S+),", demo.output())[0]
        (key,) = httpx.get(httpx.get(f"{issuer}/.well-known/openid-configuration").json()["jwks_uri"]).json()["keys"]
        assert "d" not in key, "the private key stays in the process"
        assert demo.end(number) == 0
        assert demo.errors() == ""
        for gone in (url, issuer):
            with pytest.raises(httpx.ConnectError):
                httpx.get(gone)


def base_url(demo: Process) -> str:
    return demo.wait_for("Server: ").split()[-1]


def test_the_page_that_it_names_is_of_use_to_who_opens_it(browser: Browser, tmp_path: Path) -> None:
    with started([*GORCHESTRATE, "demo", "--keep"], tmp_path) as demo, browser.new_context() as context:
        page = context.new_page()
        page.goto(demo.wait_for("The page of the order").split()[-1])
        assert "choose ann and customer there, or ada and manager" in demo.wait_for("you need no token")
        for name, role in (("ann", "customer"), ("ada", "manager")):
            if name != "ann":
                page.locator(".visitor summary").click()
            page.get_by_label("Name", exact=True).fill(name)  # at first, the form is open
            for other in ("customer", "manager"):
                page.get_by_role("checkbox", name=other, exact=True).set_checked(other == role)
            page.get_by_role("button", name="Act as this user").click()
            expect(page.locator(".visitor summary")).to_have_text(f"Acting as {name} ({role})")
            expect(page.get_by_role("heading", level=1)).to_have_text("order-1")
            expect(page.get_by_text("completed").first).to_be_visible()


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[tuple[httpx.Client, dict[str, str]]]:
    """The server of the demo, and its tokens."""
    settings = Settings(db=tmp_path / "a.db")
    with (
        running_issuer() as issuer,
        running(
            [PizzaOrder],
            settings,
            listen("127.0.0.1", 0),
            authentication=authentication(issuer),
            dev_issuer=issuer.url,
        ) as url,
        httpx.Client(base_url=url) as client,
    ):
        yield client, tokens(issuer)


def asked(
    shop: tuple[httpx.Client, dict[str, str]], user: str, method: str, path: str, **options: Any
) -> httpx.Response:
    client, tokens = shop
    return client.request(method, path, headers={"Authorization": f"Bearer {tokens[user]}"}, **options)


def test_customers_see_and_change_only_their_own_orders(shop: tuple[httpx.Client, dict[str, str]]) -> None:
    for user in ("ann", "ben"):
        assert asked(shop, user, "POST", f"/wf/pizza/order-of-{user}").status_code == 201
    for user, other in (("ann", "ben"), ("ben", "ann")):
        listed = asked(shop, user, "GET", "/wf/pizza").json()["instances"]
        assert [instance["id"] for instance in listed] == [f"order-of-{user}"]
        pizza = {"name": "funghi"}
        assert asked(shop, user, "POST", f"/wf/pizza/order-of-{user}/AddToCart", json=pizza).status_code == 200
        for method, path in (("GET", ""), ("POST", "/AddToCart"), ("POST", "/SubmitCart"), ("POST", "/cancel")):
            input = pizza if path == "/AddToCart" else None
            response = asked(shop, user, method, f"/wf/pizza/order-of-{other}{path}", json=input)
            assert response.status_code == 404, (user, path)
    listed = asked(shop, "ada", "GET", "/wf/pizza").json()["instances"]
    assert {instance["id"] for instance in listed} == {"order-of-ann", "order-of-ben"}
    assert asked(shop, "joe", "POST", "/wf/pizza/order-of-joe").status_code == 403


def test_only_the_issuer_makes_tokens(shop: tuple[httpx.Client, dict[str, str]]) -> None:
    client, tokens = shop
    assert set(tokens) == {*USERS, FORGER}
    for name, roles in USERS.items():
        claims = jwt.decode(tokens[name], options={"verify_signature": False})
        assert (claims["sub"], claims["roles"], claims["aud"]) == (name, list(roles), "pizza-shop")
        assert claims["exp"] - claims["iat"] == 3_600
    with running_issuer() as other:
        own = jwt.decode(tokens["ann"], options={"verify_signature": False})
        forgeries = [tokens[FORGER], other.sign(own, own["iat"], type="at+jwt"), jwt.encode(own, "", "none")]
    for token in forgeries:
        response = client.post("/wf/pizza/order-1", headers={"Authorization": f"Bearer {token}"})
        assert response.status_code == 401, response.text


def test_who_looks_at_the_pages_can_act_as_the_customer(shop: tuple[httpx.Client, dict[str, str]]) -> None:
    client, _ = shop
    asked(shop, "ann", "POST", "/wf/pizza/order-1")
    page = client.get("/ui/pizza/instances/order-1")
    assert page.status_code == 401 and '<details class="visitor" open>' in page.text
    client.post("/ui/", data={"name": "ann", "role.customer": "on"})
    page = client.get("/ui/pizza/instances/order-1")
    assert page.status_code == 200 and '<details class="visitor">' in page.text
    assert ("event", "AddToCart") in [field for form in forms(page.text) for field in form.data]
    assert client.get("/wf/pizza/order-1").status_code == 401, "the choice counts on the pages only"
    client.post("/ui/", data={"name": "ben", "role.customer": "on"})
    assert client.get("/ui/pizza/instances/order-1").status_code == 404


@pytest.mark.parametrize("options", [[], ["--emulators"]])
def test_a_workflow_that_does_something_else_is_told_from_the_demo(tmp_path: Path, options: list[str]) -> None:
    source = tmp_path / "other.py"
    source.write_text(
        "from gorchestrate import S, Service, Step, Workflow\n"
        "class Other(Workflow, name='other'):\n"
        "    definition = S(Step('step', lambda w: None))\n"
        "service = Service(Other)\n"
        "api = worker = print\n"
    )
    result = run("demo", str(source), *options)
    assert result.returncode == 2
    assert result.stderr == "gorchestrate: the demo is for the sample workflow 'pizza'. Served here: other\n"
    assert result.stdout == ""
