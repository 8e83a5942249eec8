"""A token that was verified is not verified again, as long as nothing could make the result another one."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from cloud_adapter.errors import InvalidCredential
from cloud_adapter.http.authenticators import tokens
from cloud_adapter.http.authenticators.keys import KEYS_LIFESPAN_S, IssuerKeys
from cloud_adapter.http.authenticators.tokens import TokenVerifier
from tests.http import issuer as issuers
from tests.http.issuer import AUDIENCE, Issuer

REQUIRED = ("exp", "iat", "iss", "aud")


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The tokens whose signatures were verified."""
    verified: list[str] = []
    decode = jwt.decode

    def counted(token: str, *args: Any, **kwargs: Any) -> Any:
        verified.append(token)
        return decode(token, *args, **kwargs)

    monkeypatch.setattr(jwt, "decode", counted)
    return verified


def verifier(issuer: Issuer, monotonic: Callable[[], float] = time.monotonic) -> TokenVerifier:
    keys = IssuerKeys(issuer.url, monotonic=monotonic)
    return TokenVerifier(keys, issuers=[issuer.url], audience=AUDIENCE, required=REQUIRED)


def claims(verifier: TokenVerifier, token: str) -> dict[str, Any]:
    return asyncio.run(verifier.claims(token))


def test_a_token_is_verified_once_and_its_claims_are_the_same(issuer: Issuer, decoded: list[str]) -> None:
    checks, token = verifier(issuer), issuer.token(roles=["a"])
    first = claims(checks, token)
    assert first["roles"] == ["a"]
    first["roles"].append("admin")  # what a caller does to its claims is its own
    second = claims(checks, token)
    assert (second["roles"], second["email"]) == (["a"], issuers.EMAIL)
    second["roles"].append("admin")
    assert claims(checks, token)["roles"] == ["a"]
    assert decoded == [token]
    other = issuer.token(roles=["b"])
    assert claims(checks, other)["roles"] == ["b"]
    assert decoded == [token, other]


def test_an_invalid_token_is_never_remembered(issuer: Issuer, decoded: list[str]) -> None:
    checks = verifier(issuer)
    other = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    for token in (issuer.token(aud="https://other"), issuer.token(key=other), issuer.token(events={})):
        for _ in range(2):
            with pytest.raises(InvalidCredential):
                claims(checks, token)
    assert len(decoded) == 6


def test_from_its_expiry_on_a_token_is_checked_again(
    issuer: Issuer, decoded: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    checks = verifier(issuer)
    for exp in (datetime.now(UTC) - timedelta(seconds=5), "0"):  # within the accepted difference of clocks; malformed
        token = issuer.token(exp=exp)
        for _ in range(2):
            if exp == "0":
                with pytest.raises(InvalidCredential):
                    claims(checks, token)
            else:
                claims(checks, token)
    assert len(decoded) == 4
    token = issuer.token()
    claims(checks, token)
    expires_at = jwt.decode(token, options={"verify_signature": False})["exp"]
    decoded.clear()
    monkeypatch.setattr(time, "time", lambda: expires_at)
    claims(checks, token)
    assert decoded == [token]


def test_a_token_of_a_key_that_was_replaced_is_refused(issuer: Issuer, monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = [1.0]
    checks, token = verifier(issuer, lambda: seconds[0]), issuer.token()
    claims(checks, token)
    # Another key under the same id.
    monkeypatch.setattr(issuers, "KEY", rsa.generate_private_key(public_exponent=65537, key_size=2048))
    claims(checks, token)
    seconds[0] += KEYS_LIFESPAN_S + 1
    with pytest.raises(InvalidCredential, match="Signature verification failed"):
        claims(checks, token)


def test_a_limited_number_of_tokens_is_remembered(
    issuer: Issuer, decoded: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokens, "VERIFIED_MAX", 2)
    checks, known = verifier(issuer), [issuer.token(jti=str(number)) for number in range(3)]
    for token in known:
        claims(checks, token)
    claims(checks, known[2])
    assert decoded == known
    claims(checks, known[0])
    assert decoded == [*known, known[0]]
