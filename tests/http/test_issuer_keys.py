"""Where the worker finds the keys of those who sign its tokens."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from urllib.request import urlopen

import pytest

from cloud_adapter.errors import Unauthenticated, Unavailable
from cloud_adapter.http.auth import OidcVerifier
from cloud_adapter.http.authenticators import keys
from cloud_adapter.http.authenticators.keys import (
    KEYS_LIFESPAN_S,
    KEYS_LIFESPAN_S_MAX,
    KEYS_REFRESH_S_MIN,
    KEYS_RETRY_S_MIN,
    KEYS_TIMEOUT_S,
)
from tests.http.helpers import until
from tests.http.issuer import AUDIENCE, EMAIL, Issuer


def verifier(issuer: Issuer, monotonic: Callable[[], float] = time.monotonic) -> OidcVerifier:
    return OidcVerifier(issuer=issuer.url, audience=AUDIENCE, email=EMAIL, monotonic=monotonic)


def verify(checks: OidcVerifier, *tokens: str) -> None:
    """Checks tokens at the same time."""

    async def all() -> None:
        for result in await asyncio.gather(*map(checks.verify, tokens), return_exceptions=True):
            if result is not None:
                raise result

    asyncio.run(all())


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
        verify(checks, issuer.token())
    assert issuer.asked == ["/.well-known/openid-configuration", "/jwks"]


def test_an_algorithm_that_does_not_exist_is_no_matter(issuer: Issuer) -> None:
    issuer.alg = "RSA256"
    verify(verifier(issuer), issuer.token())


def test_unknown_key_ids_do_not_make_us_ask_again_and_again(issuer: Issuer) -> None:
    checks = verifier(issuer)
    for number in range(5):
        with pytest.raises(Unauthenticated, match="its key id is unknown there"):
            verify(checks, issuer.token(f"unknown-{number}"))
    assert issuer.asked.count("/jwks") == 1


def test_without_keys_the_task_is_to_be_tried_again(issuer: Issuer) -> None:
    issuer.keys = False
    seconds = Seconds()
    checks = verifier(issuer, seconds)
    for _ in range(3):
        with pytest.raises(Unavailable, match="could not fetch the signing keys"):
            verify(checks, issuer.token())
    assert issuer.asked.count("/jwks") == 1
    issuer.keys = True
    seconds.passed += KEYS_RETRY_S_MIN + 1
    verify(checks, issuer.token())


def test_what_is_no_token_is_refused_without_a_question(issuer: Issuer) -> None:
    with pytest.raises(Unauthenticated, match="cannot be read"):
        verify(verifier(issuer), "nonsense")
    assert issuer.asked == []


def test_known_keys_are_used_while_they_cannot_be_fetched_again(issuer: Issuer) -> None:
    seconds = Seconds()
    checks = verifier(issuer, seconds)
    verify(checks, issuer.token())
    issuer.keys = False
    seconds.passed += KEYS_LIFESPAN_S + 1
    for _ in range(3):
        verify(checks, issuer.token())
    with pytest.raises(Unavailable, match="could not fetch the signing keys"):
        verify(checks, issuer.token("unknown"))
    assert issuer.asked.count("/jwks") == 2, "the issuer is not asked by each of them"
    seconds.passed += KEYS_REFRESH_S_MIN + 1
    verify(checks, issuer.token())
    assert issuer.asked.count("/jwks") == 3
    seconds.passed += KEYS_LIFESPAN_S_MAX
    with pytest.raises(Unavailable, match="could not fetch the signing keys"):
        verify(checks, issuer.token())
    issuer.keys = True
    seconds.passed += KEYS_REFRESH_S_MIN + 1
    verify(checks, issuer.token())


def test_a_key_that_the_issuer_has_given_up_is_forgotten(issuer: Issuer) -> None:
    seconds = Seconds()
    checks = verifier(issuer, seconds)
    verify(checks, issuer.token())
    issuer.kid = "2"
    seconds.passed += KEYS_LIFESPAN_S + 1
    with pytest.raises(Unauthenticated, match="its key id is unknown there"):
        verify(checks, issuer.token("1"))
    verify(checks, issuer.token("2"))


def test_a_new_key_is_fetched_when_it_is_met(issuer: Issuer) -> None:
    seconds = Seconds()
    checks = verifier(issuer, seconds)
    verify(checks, issuer.token())
    issuer.kid = "2"
    seconds.passed += KEYS_REFRESH_S_MIN + 1
    verify(checks, issuer.token("2"))


def test_those_who_wait_for_keys_that_cannot_be_had_do_not_ask_one_after_the_other(issuer: Issuer) -> None:
    issuer.keys = False
    checks = verifier(issuer)

    async def all() -> list[BaseException | None]:
        return await asyncio.gather(*(checks.verify(issuer.token()) for _ in range(8)), return_exceptions=True)

    assert {type(error) for error in asyncio.run(all())} == {Unavailable}
    assert issuer.asked.count("/jwks") == 1


def test_nobody_who_has_a_key_waits_for_the_next_ones(issuer: Issuer, monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = Seconds()
    checks = verifier(issuer, seconds)
    verify(checks, issuer.token())
    issuer.held = threading.Event()
    seconds.passed += KEYS_LIFESPAN_S + 1
    try:
        begun = time.monotonic()
        verify(checks, issuer.token())  # the one that asks for new keys waits only a moment
        assert time.monotonic() - begun < KEYS_TIMEOUT_S / 2
        until(lambda: len(issuer.asked) == 3)
        monkeypatch.setattr(keys, "KEYS_PATIENCE_S", 60)
        begun = time.monotonic()
        verify(checks, *(issuer.token() for _ in range(8)))
        assert time.monotonic() - begun < 60, "the others do not wait at all"
        assert len(issuer.asked) == 3, "nor do they ask"
    finally:
        issuer.held.set()
    until(lambda: checks.keys._running is None)
    assert issuer.asked[-1] == "/jwks", "the issuer has answered at last"


def test_an_issuer_that_sends_for_ever_is_given_up(issuer: Issuer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keys, "KEYS_BYTES_MAX", 10)
    with pytest.raises(Unavailable, match="sends too slowly or too much"):
        verify(verifier(issuer), issuer.token())


def test_tokens_of_unknown_keys_do_not_wait_for_ever(issuer: Issuer, monkeypatch: pytest.MonkeyPatch) -> None:
    checks = verifier(issuer)
    issuer.held = threading.Event()
    try:
        monkeypatch.setattr(keys, "KEYS_TIMEOUT_S", 0.05)
        monkeypatch.setattr(keys, "urlopen", lambda url, timeout: urlopen(url, timeout=10))
        with pytest.raises(Unavailable, match="it does not answer"):
            verify(checks, issuer.token("unknown"))
    finally:
        issuer.held.set()
        until(lambda: checks.keys._running is None)


def test_keys_that_were_fetched_ahead_are_not_fetched_again(issuer: Issuer) -> None:
    checks = verifier(issuer)
    checks.keys.prefetch()
    asked = list(issuer.asked)
    verify(checks, issuer.token())
    assert issuer.asked == asked == ["/.well-known/openid-configuration", "/jwks"]


def test_a_failed_fetch_ahead_leaves_it_to_the_first_token(issuer: Issuer) -> None:
    issuer.keys = False
    checks = verifier(issuer)
    checks.keys.prefetch()
    with pytest.raises(Unavailable, match="could not fetch the signing keys"):
        verify(checks, issuer.token())
    issuer.keys = True
