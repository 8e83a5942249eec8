"""Where the worker finds the keys of those who sign its tokens."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from cloud_adapter.auth import OidcVerifier
from cloud_adapter.errors import Unauthenticated, Unavailable
from tests.http.issuer import AUDIENCE, EMAIL, Issuer, issuing


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    with issuing() as issuer:
        yield issuer


def verifier(issuer: Issuer) -> OidcVerifier:
    return OidcVerifier(issuer=issuer.url, audience=AUDIENCE, email=EMAIL)


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
        with pytest.raises(Unauthenticated, match="no key of this id"):
            checks.verify(issuer.token(f"unknown-{number}"))
    assert issuer.asked.count("/jwks") == 1


def test_without_keys_the_task_is_to_be_tried_again(issuer: Issuer) -> None:
    issuer.keys = False
    checks = verifier(issuer)
    with pytest.raises(Unavailable, match="cannot be had"):
        checks.verify(issuer.token())
    issuer.keys = True
    checks.verify(issuer.token())


def test_what_is_no_token_is_refused_without_a_question(issuer: Issuer) -> None:
    with pytest.raises(Unauthenticated, match="is not one"):
        verifier(issuer).verify("nonsense")
    assert issuer.asked == []
