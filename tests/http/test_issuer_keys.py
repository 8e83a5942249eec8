"""Where the worker finds the keys of those who sign its tokens."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from cloud_adapter.errors import Unauthenticated, Unavailable
from cloud_adapter.http.auth import KEYS_LIFESPAN_S, KEYS_LIFESPAN_S_MAX, KEYS_REFRESH_S_MIN, OidcVerifier
from tests.http.helpers import until
from tests.http.issuer import AUDIENCE, EMAIL, Issuer


def verifier(issuer: Issuer, monotonic: Callable[[], float] = time.monotonic) -> OidcVerifier:
    return OidcVerifier(issuer=issuer.url, audience=AUDIENCE, email=EMAIL, monotonic=monotonic)


class Seconds:
    """A time that the test moves."""

    def __init__(self) -> None:
        self.passed = 1.0

    def __call__(self) -> float:
        return self.passed


def test_the_keys_are_discovered_with_the_first_token_and_kept(issuer: Issuer) -> None:
    checks = verifier(issuer)
    assert issuer.asked == []
    for _ in range(3):
        checks.verify(issuer.token())
    assert issuer.asked == ["/.well-known/openid-configuration", "/jwks"]


def test_an_algorithm_that_does_not_exist_is_no_matter(issuer: Issuer) -> None:
    issuer.alg = "RSA256"
    verifier(issuer).verify(issuer.token())


def test_unknown_key_ids_do_not_make_us_ask_again_and_again(issuer: Issuer) -> None:
    checks = verifier(issuer)
    for number in range(5):
        with pytest.raises(Unauthenticated, match="its key id is unknown there"):
            checks.verify(issuer.token(f"unknown-{number}"))
    assert issuer.asked.count("/jwks") == 1


def test_without_keys_the_task_is_to_be_tried_again(issuer: Issuer) -> None:
    issuer.keys = False
    checks = verifier(issuer)
    with pytest.raises(Unavailable, match="could not fetch the signing keys"):
        checks.verify(issuer.token())
    issuer.keys = True
    checks.verify(issuer.token())


def test_what_is_no_token_is_refused_without_a_question(issuer: Issuer) -> None:
    with pytest.raises(Unauthenticated, match="cannot be read"):
        verifier(issuer).verify("nonsense")
    assert issuer.asked == []


def test_known_keys_are_used_while_they_cannot_be_fetched_again(issuer: Issuer) -> None:
    seconds = Seconds()
    checks = verifier(issuer, seconds)
    checks.verify(issuer.token())
    issuer.keys = False
    seconds.passed += KEYS_LIFESPAN_S + 1
    for _ in range(3):
        checks.verify(issuer.token())
    with pytest.raises(Unavailable, match="could not fetch the signing keys"):
        checks.verify(issuer.token("unknown"))
    assert issuer.asked.count("/jwks") == 2, "the issuer is not asked by each of them"
    seconds.passed += KEYS_REFRESH_S_MIN + 1
    checks.verify(issuer.token())
    assert issuer.asked.count("/jwks") == 3
    seconds.passed += KEYS_LIFESPAN_S_MAX
    with pytest.raises(Unavailable, match="could not fetch the signing keys"):
        checks.verify(issuer.token())
    issuer.keys = True
    seconds.passed += KEYS_REFRESH_S_MIN + 1
    checks.verify(issuer.token())


def test_a_key_that_the_issuer_has_given_up_is_forgotten(issuer: Issuer) -> None:
    seconds = Seconds()
    checks = verifier(issuer, seconds)
    checks.verify(issuer.token())
    issuer.kid = "2"
    seconds.passed += KEYS_LIFESPAN_S + 1
    with pytest.raises(Unauthenticated, match="its key id is unknown there"):
        checks.verify(issuer.token("1"))
    checks.verify(issuer.token("2"))


def test_a_new_key_is_fetched_when_it_is_met(issuer: Issuer) -> None:
    seconds = Seconds()
    checks = verifier(issuer, seconds)
    checks.verify(issuer.token())
    issuer.kid = "2"
    seconds.passed += KEYS_REFRESH_S_MIN + 1
    checks.verify(issuer.token("2"))


def test_those_who_wait_for_keys_that_cannot_be_had_do_not_ask_one_after_the_other(issuer: Issuer) -> None:
    issuer.keys = False
    issuer.held = threading.Event()
    checks = verifier(issuer)
    begun: list[str] = []

    def verify(token: str) -> None:
        begun.append(token)
        checks.verify(token)

    with ThreadPoolExecutor(8) as threads:
        calls = [threads.submit(verify, issuer.token()) for _ in range(8)]
        until(lambda: issuer.asked and len(begun) == 8)
        issuer.held.set()
        assert all(isinstance(call.exception(), Unavailable) for call in calls)
    assert issuer.asked.count("/jwks") < 4, "one, but for those who came too late for it"


def test_nobody_who_has_a_key_waits_for_the_next_ones(issuer: Issuer) -> None:
    seconds = Seconds()
    checks = verifier(issuer, seconds)
    checks.verify(issuer.token())
    issuer.held = threading.Event()
    seconds.passed += KEYS_LIFESPAN_S + 1
    with ThreadPoolExecutor(1) as threads:
        asking = threads.submit(checks.verify, issuer.token())
        until(lambda: len(issuer.asked) == 3)
        checks.verify(issuer.token())
        assert not asking.done()
        issuer.held.set()
        asking.result()
