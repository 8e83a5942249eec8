"""An issuer of OIDC tokens on a socket of its own, which signs whatever a test wants. Holds no test."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qsl

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.http_target import threaded_server

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
    more: list[dict[str, Any]] = field(default_factory=list)
    """Other keys that it publishes."""
    held: threading.Event | None = None
    """Until it is set, it does not answer."""
    endpoints: dict[str, str] = field(default_factory=dict)
    """More of its discovery document."""
    posted: Callable[[str, dict[str, str]], tuple[int, Any]] | None = None
    """Answers POST requests: path and form to status and data."""

    def answer(self, path: str) -> Any:
        self.asked.append(path)
        if self.held is not None:
            self.held.wait(10)
        if path == "/.well-known/openid-configuration":
            return {"issuer": self.url, "jwks_uri": f"{self.url}/jwks"} | self.endpoints
        if path == "/jwks" and self.keys:
            public = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(KEY.public_key()))
            return {"keys": [public | {"kid": self.kid, "use": "sig", "alg": self.alg}, *self.more]}
        return None

    def claims(self, **changed: Any) -> dict[str, Any]:
        """What a right token says; a claim that is changed to None is left out."""
        now = datetime.now(UTC)
        claims = {"iss": self.url, "aud": AUDIENCE, "email": EMAIL, "email_verified": True, "iat": now}
        claims |= {"exp": now + timedelta(minutes=5)} | changed
        return {name: value for name, value in claims.items() if value is not None}

    def token(self, kid: str = "1", *, key: rsa.RSAPrivateKey = KEY, **changed: Any) -> str:
        return jwt.encode(self.claims(**changed), key, "RS256", {"kid": kid})


@contextmanager
def issuing() -> Iterator[Issuer]:
    issuer = Issuer()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer = issuer.answer(self.path)
            self.send_response(404 if answer is None else 200)
            self.end_headers()
            self.wfile.write(json.dumps(answer).encode())

        def do_POST(self) -> None:
            form = dict(parse_qsl(self.rfile.read(int(self.headers["Content-Length"])).decode()))
            status, answer = issuer.posted(self.path, form) if issuer.posted else (404, None)
            self.send_response(status)
            self.end_headers()
            self.wfile.write(json.dumps(answer).encode())

        def log_message(self, format: str, *args: object) -> None:
            pass

    with threaded_server(Handler) as port:
        issuer.url = f"http://127.0.0.1:{port}"
        yield issuer
