"""Where the worker finds the keys of those who sign its tokens."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from cloud_adapter.auth import OidcVerifier
from cloud_adapter.errors import Unauthenticated, Unavailable

AUDIENCE = "http://worker:8080"
EMAIL = "gorchestrate-tasks@p.iam.gserviceaccount.com"
KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)


@dataclass
class Issuer:
    """Publishes a key as the usual Cloud Tasks emulator does."""

    url: str = ""
    alg: str = "RS256"
    kid: str = "1"
    keys: bool = True
    asked: list[str] = field(default_factory=list)

    def answer(self, path: str) -> Any:
        self.asked.append(path)
        if path == "/.well-known/openid-configuration":
            return {"issuer": self.url, "jwks_uri": f"{self.url}/jwks"}
        if path == "/jwks" and self.keys:
            public = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(KEY.public_key()))
            return {"keys": [public | {"kid": self.kid, "use": "sig", "alg": self.alg}]}
        return None

    def token(self, kid: str = "1") -> str:
        now = datetime.now(UTC)
        claims = {"iss": self.url, "aud": AUDIENCE, "email": EMAIL, "email_verified": True, "iat": now}
        return jwt.encode(claims | {"exp": now + timedelta(minutes=5)}, KEY, "RS256", {"kid": kid})


@contextmanager
def issuing() -> Iterator[Issuer]:
    issuer = Issuer()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer = issuer.answer(self.path)
            self.send_response(404 if answer is None else 200)
            self.end_headers()
            self.wfile.write(json.dumps(answer).encode())

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    issuer.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield issuer
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


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
