"""The example of a webhook: signed requests over HTTP, and what notices do in which order."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from itertools import permutations
from typing import Any

import httpx
import pytest
import webhook

from gorchestrate.testing import Environment, crash_everywhere
from gorchestrate.testing.instances import InstanceHandle
from tests.examples.running import services_of
from tests.http.helpers import Http, serving, until


@pytest.fixture(autouse=True)
def shop() -> Any:
    return services_of(webhook)["shop"]


def notice(state: str, created: int, id: str = "", payment: str = "p-1") -> dict[str, Any]:
    return {"id": id or f"{state}-{created}", "payment": payment, "created": created, "state": state}


# --- over HTTP -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def http(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Http]:
    with serving(tmp_path_factory.mktemp("webhook") / "webhook.db", webhook.Payment) as http:
        yield http


def test_a_notice_after_a_refund(http: Http) -> None:
    http.ok("POST", "/wf/payment/refunded", json={"payment": "p-1"})
    paid, refunded = (json.dumps(notice(*what)).encode() for what in (("paid", 5), ("refunded", 9)))

    def outcome() -> str:
        return str(http.get("/wf/payment/refunded")["state"]["outcome"])

    assert post(http, "refunded", paid, webhook.signature(paid, int(time.time()))).json() == "taken"
    until(lambda: outcome() == "shipped")
    assert post(http, "refunded", refunded, webhook.signature(refunded, int(time.time()))).json() == "taken"
    until(lambda: outcome() == "taken back")
    assert post(http, "refunded", refunded, webhook.signature(refunded, int(time.time()))).json() == "known"


def post(http: Http, id: str, body: bytes, signature: str | bytes | None) -> httpx.Response:
    headers: dict[str, Any] = {"Content-Type": "application/json"}
    if signature is not None:
        headers["Provider-Signature"] = signature
    return http.client.post(f"/wf/payment/{id}/notify", content=body, headers=headers)


def test_a_signed_notice_and_its_repetition(http: Http, shop: Any) -> None:
    http.ok("POST", "/wf/payment/signed", json={"payment": "p-1"})
    body = json.dumps(notice("paid", 5), indent=3).encode()  # the raw body counts
    at = int(time.time())
    two = webhook.signature(body, at).replace(",v1=", ",v1=00,v1=")
    assert post(http, "signed", body, two).json() == "taken"
    until(lambda: http.get("/wf/payment/signed")["state"]["outcome"] == "shipped")
    assert post(http, "signed", body, webhook.signature(body, at)).json() == "known"
    assert shop.log == ["ship p-1"]


def test_what_the_provider_has_not_signed_changes_nothing(http: Http) -> None:
    http.ok("POST", "/wf/payment/forged", json={"payment": "p-1"})
    body = json.dumps(notice("paid", 5)).encode()
    now = int(time.time())
    right = webhook.signature(body, now)
    wrong: dict[str, str | bytes | None] = {
        "none": None,
        "empty": "",
        "another body": webhook.signature(body + b" ", now),
        "old": webhook.signature(body, now - 400),
        "of the future": webhook.signature(body, now + 400),
        "another time": right.replace(f"t={now}", f"t={now + 1}"),
        "no time": right.partition(",")[2],
        "a long time": right.replace(f"t={now}", "t=" + "9" * 400),
        "no number": "t=\u00b2,v1=x".encode(),
        "another version": right.replace("v1=", "v0="),
    }
    for what, signature in wrong.items():
        assert post(http, "forged", body, signature).status_code == 401, what
    assert http.get("/wf/payment/forged")["state"]["notices"] == []


def test_a_notice_for_another_payment(http: Http) -> None:
    http.ok("POST", "/wf/payment/other", json={"payment": "p-2"})
    body = json.dumps(notice("paid", 5)).encode()
    response = post(http, "other", body, webhook.signature(body, int(time.time())))
    assert (response.status_code, response.json()["detail"]) == (409, "this is not the payment p-1")


# --- what they do --------------------------------------------------------------------------------


def sent(environment: Environment, *notices: dict[str, Any]) -> InstanceHandle[webhook.Payment]:
    payment = environment.create(webhook.Payment, payment="p-1")
    for each in notices:
        payment.send("notify", each)
    return payment


ORDERS = list(permutations([notice("authorized", 1), notice("paid", 2), notice("paid", 2)]))


@pytest.mark.parametrize("order", ORDERS, ids=range(len(ORDERS)))
def test_the_order_of_notices_does_not_matter(order: tuple[dict[str, Any], ...], shop: Any) -> None:
    with Environment(webhook.Payment) as environment:
        payment = sent(environment, *order)
        assert (payment.fields.state, payment.fields.outcome) == ("paid", "shipped")
        assert len(payment.fields.notices) == 2
        environment.advance(days=30)
        assert not payment.is_finished
        environment.advance(days=3)
        assert payment.is_finished
        assert shop.log == ["ship p-1"]


def test_a_refund(shop: Any) -> None:
    with Environment(webhook.Payment) as environment:
        payment = sent(environment, notice("paid", 2), notice("authorized", 1), notice("refunded", 9))
        assert payment.fields.outcome == "taken back"
        assert shop.log == ["ship p-1", "take back p-1"]


@pytest.mark.parametrize(("notices", "outcome"), [([], "expired"), ([notice("failed", 1)], "failed")])
def test_nothing_is_shipped_without_money(notices: list[dict[str, Any]], outcome: str, shop: Any) -> None:
    with Environment(webhook.Payment) as environment:
        payment = sent(environment, *notices)
        environment.advance(days=3)
        assert payment.fields.outcome == outcome
        environment.advance(days=3)
        assert payment.is_finished
        assert shop.log == []


@pytest.mark.parametrize("last", [[notice("paid", 2), notice("refunded", 9)], [notice("failed", 9)], []])
def test_notices_after_the_outcome_are_accepted(last: list[dict[str, Any]]) -> None:
    with Environment(webhook.Payment) as environment:
        payment = sent(environment, *last)
        environment.advance(days=2 if last else 4)
        outcome, log = payment.fields.outcome, list(services_of(webhook)["shop"].log)
        assert outcome in ("taken back", "failed", "expired")
        if last:
            assert payment.send("notify", last[-1]) == "known"
        assert payment.send("notify", notice("authorized", 1)) == ("outdated" if last else "taken")
        environment.advance(days=2)
        assert payment.send("notify", notice("paid", 12)) == "taken", "the last notice was less than three days ago"
        environment.advance(days=3)
        assert payment.is_finished
        assert (payment.fields.outcome, services_of(webhook)["shop"].log) == (outcome, log)


def test_a_crash_at_each_save() -> None:
    def script(environment: Environment) -> list[str]:
        log = services_of(webhook)["shop"]
        sent(environment, notice("authorized", 1), notice("paid", 2), notice("paid", 2), notice("refunded", 9))
        return list(log.log)

    assert crash_everywhere(script, webhook.Payment) > 8
