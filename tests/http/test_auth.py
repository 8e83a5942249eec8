"""Who may call the worker: its verifier, with an issuer on a real socket."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from cloud_adapter.hosting.embedded import EmbeddedRuntime
from cloud_adapter.http.auth import OidcVerifier
from cloud_adapter.http.authenticators import keys
from cloud_adapter.http.worker import BODY_BYTES_MAX, create_worker
from cloud_adapter.settings import Settings
from gorchestrate.testing.clock import ManualClock
from tests.http.helpers import problem
from tests.http.issuer import AUDIENCE, EMAIL, KEY, Issuer, issuing
from tests.http.workflows import WORKFLOWS

PATHS = ["/resume", "/callback/timeout", "/recover", "/canary"]
TITLES = {401: {"Unauthenticated", "Invalid credential"}, 403: {"Forbidden"}}


@dataclass
class World:
    """A worker, and an instance whose first step is due."""

    worker: httpx.AsyncClient
    runtime: EmbeddedRuntime

    async def post(self, authorization: str | None, path: str = "/resume", **options: Any) -> httpx.Response:
        headers = {} if authorization is None else {"Authorization": authorization}
        body = {"workflow": "timed", "id": "a", "pc": 1, "created_at": self.runtime.engine.clock.now().isoformat()}
        return await self.worker.post(path, headers=headers, **({"json": body} | options))

    async def instance(self) -> Any:
        return (await self.runtime.engine.get("timed", "a")).instance


Test = Callable[[World], Awaitable[None]]
Run = Callable[..., None]


@pytest.fixture
def run(tmp_path: Path, issuer: Issuer) -> Run:
    """Runs the body of a test with a worker that trusts the issuer; the queue delivers nothing by itself."""

    @asynccontextmanager
    async def world(url: str) -> AsyncIterator[World]:
        runtime = EmbeddedRuntime(WORKFLOWS, Settings(db=tmp_path / "auth.db"), clock=ManualClock())
        try:
            await runtime.engine.create("timed", "a", key="once")
            verifier = OidcVerifier(issuer=url, audience=AUDIENCE, email=EMAIL)
            transport = httpx.ASGITransport(create_worker(runtime.engine, verifier))
            async with httpx.AsyncClient(transport=transport, base_url="http://worker") as worker:
                yield World(worker, runtime)
        finally:
            await runtime.close()

    def run(test: Test, *, url: str | None = None) -> None:
        async def main() -> None:
            async with world(url or issuer.url) as w:
                await test(w)

        asyncio.run(main())

    return run


def refused(run: Run, authorization: str | None, status: int = 401) -> str:
    """Sends it to every path: each refuses it, and nothing is done. Gives the detail."""
    details: set[str] = set()

    async def test(w: World) -> None:
        before = await w.instance()
        for path in PATHS:
            response = await w.post(authorization, path)
            document = problem(response)
            assert response.status_code == status
            assert document["title"] in TITLES[status]
            challenge = response.headers.get("www-authenticate", "")
            assert challenge.startswith('Bearer realm="gorchestrate"') == (status == 401)
            assert ('error="invalid_token"' in challenge) == (document["title"] == "Invalid credential")
            details.add(document["detail"])
        assert await w.instance() == before

    run(test)
    (detail,) = details
    return detail


def unsigned(header: dict[str, Any], claims: dict[str, Any], sign: Callable[[bytes], bytes] = lambda _: b"") -> str:
    """A token by hand: no library makes the wrong ones."""

    def encoded(data: bytes) -> bytes:
        return base64.urlsafe_b64encode(data).rstrip(b"=")

    dated = {name: int(value.timestamp()) if isinstance(value, datetime) else value for name, value in claims.items()}
    content = b".".join(encoded(json.dumps(part).encode()) for part in (header, dated))
    return b".".join([content, encoded(sign(content))]).decode()


def test_the_right_token(run: Run, issuer: Issuer) -> None:
    async def test(w: World) -> None:
        response = await w.post(f"Bearer {issuer.token()}")
        assert (response.status_code, response.json()) == (200, {"outcome": "done"})
        view = await w.runtime.engine.get("timed", "a")
        assert view.workflow.model_dump()["log"] == ["prepared"]
        response = await w.post(f"bearer {issuer.token(aud=['http://other', AUDIENCE])}", "/recover")
        assert (response.status_code, response.json()) == (200, {"scheduled": 0})

    run(test)


@pytest.mark.parametrize(
    "authorization",
    [None, "", "Bearer", "Bearer ", "Basic dXNlcjpwYXNz", "token", "Bearer x", "Bearer a.b.c", "Bearer ."],
)
def test_no_token(run: Run, issuer: Issuer, authorization: str | None) -> None:
    refused(run, authorization)
    assert issuer.asked == []


def test_what_cloud_tasks_says_of_itself_proves_nothing(run: Run) -> None:
    async def test(w: World) -> None:
        headers = {
            "X-CloudTasks-QueueName": "gorchestrate",
            "X-CloudTasks-TaskName": "1",
            "User-Agent": "Google-Cloud-Tasks",
        }
        assert (await w.worker.post("/recover", headers=headers)).status_code == 401

    run(test)


def test_a_body_is_not_read_before_the_token(run: Run) -> None:
    async def test(w: World) -> None:
        for body in (b"{", b" " * (BODY_BYTES_MAX + 1)):
            assert (await w.post(None, json=None, content=body)).status_code == 401

    run(test)


NOW = datetime.now(UTC)
HOUR = timedelta(hours=1)


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"aud": "http://other"}, "Audience"),
        ({"aud": f"{AUDIENCE}/"}, "Audience"),
        ({"aud": []}, "aud"),
        ({"aud": None}, "aud"),
        ({"iss": "https://accounts.google.com"}, "issuer"),
        ({"iss": ""}, "issuer"),
        ({"iss": None}, "iss"),
        ({"exp": NOW - timedelta(minutes=2)}, "expired"),
        ({"exp": None}, "exp"),
        ({"exp": "soon"}, "exp"),
        ({"iat": NOW + HOUR, "exp": NOW + 2 * HOUR}, "not yet valid"),
        ({"nbf": NOW + HOUR}, "not yet valid"),
        ({"iat": None}, "iat"),
    ],
    ids=lambda value: (
        ", ".join(f"{k}={v!r}" for k, v in value.items() if not isinstance(v, datetime)) or "times"
        if isinstance(value, dict)
        else ""
    ),
)
def test_a_token_that_is_not_valid_here(run: Run, issuer: Issuer, changed: dict[str, Any], says: str) -> None:
    detail = refused(run, f"Bearer {issuer.token(**changed)}")
    assert detail.startswith("the OIDC token is not valid: ")
    assert says in detail


@pytest.mark.parametrize(
    "changed",
    [
        {"email": "other@p.iam.gserviceaccount.com"},
        {"email": EMAIL.upper()},
        {"email": [EMAIL]},
        {"email": None},
        {"email_verified": False},
        {"email_verified": "true"},
        {"email_verified": 1},
        {"email_verified": None},
    ],
    ids=str,
)
def test_a_token_of_another_account(run: Run, issuer: Issuer, changed: dict[str, Any]) -> None:
    assert refused(run, f"Bearer {issuer.token(**changed)}", 403) == f"the OIDC token does not belong to {EMAIL}"


def test_a_token_of_another_key(run: Run, issuer: Issuer) -> None:
    other = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    for kid, says in (("1", "Signature verification failed"), ("2", "its key id is unknown there")):
        assert says in refused(run, f"Bearer {issuer.token(kid, key=other)}")


def test_a_token_that_was_changed(run: Run, issuer: Issuer) -> None:
    _, _, signature = issuer.token(email="other@p.iam.gserviceaccount.com").split(".")
    header, claims, _ = issuer.token().split(".")
    assert "Signature verification failed" in refused(run, f"Bearer {header}.{claims}.{signature}")


@pytest.mark.parametrize("alg", ["none", "None", "NONE", ""])
def test_an_unsigned_token(run: Run, issuer: Issuer, alg: str) -> None:
    refused(run, f"Bearer {unsigned({'alg': alg, 'kid': '1', 'typ': 'JWT'}, issuer.claims())}")


@pytest.mark.parametrize("form", [Encoding.PEM, Encoding.DER])
def test_the_public_key_is_no_shared_secret(run: Run, issuer: Issuer, form: Encoding) -> None:
    secret = KEY.public_key().public_bytes(form, PublicFormat.SubjectPublicKeyInfo)
    header = {"alg": "HS256", "kid": "1", "typ": "JWT"}
    token = unsigned(header, issuer.claims(), lambda content: hmac.digest(secret, content, hashlib.sha256))
    assert "alg" in refused(run, f"Bearer {token}")


def test_a_clock_may_be_off_by_a_few_seconds(run: Run, issuer: Issuer) -> None:
    async def test(w: World) -> None:
        now = datetime.now(UTC)
        ahead = issuer.token(iat=now + timedelta(seconds=15))
        behind = issuer.token(exp=now - timedelta(seconds=15))
        for token in (ahead, behind):
            assert (await w.post(f"Bearer {token}", "/recover")).status_code == 200

    run(test)


def test_without_its_issuer_it_fails_but_does_not_throttle_the_queue(run: Run) -> None:
    with issuing() as gone:
        token = gone.token()

    async def unreachable(w: World) -> None:
        before = await w.instance()
        response = await w.post(f"Bearer {token}")
        assert response.status_code == 500, "503 and 429 would slow the whole queue down"
        assert "retry-after" not in response.headers
        assert f"could not fetch the signing keys of {gone.url}" in problem(response)["detail"]
        assert await w.instance() == before

    run(unreachable, url=gone.url)


def test_once_its_issuer_is_back_it_goes_on(run: Run, issuer: Issuer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keys, "KEYS_RETRY_S_MIN", 0)

    async def test(w: World) -> None:
        issuer.keys = False
        assert (await w.post(f"Bearer {issuer.token()}", "/recover")).status_code == 500
        issuer.keys = True
        assert (await w.post(f"Bearer {issuer.token()}", "/recover")).status_code == 200

    run(test)


def test_its_keys_are_fetched_once(run: Run, issuer: Issuer) -> None:
    async def test(w: World) -> None:
        authorization = f"Bearer {issuer.token()}"
        responses = await asyncio.gather(*(w.post(authorization, "/recover") for _ in range(20)))
        assert {response.status_code for response in responses} == {200}
        assert (await w.post(authorization)).status_code == 200
        assert issuer.asked == ["/.well-known/openid-configuration", "/jwks"]

    run(test)


@pytest.mark.parametrize("known", [True, False], ids=["known key", "first token"])
def test_synchronous_code_that_holds_all_threads_keeps_no_task_out(run: Run, issuer: Issuer, known: bool) -> None:
    async def test(w: World) -> None:
        authorization = f"Bearer {issuer.token()}"
        if known:
            await w.post(authorization, "/recover")
        loop, end = asyncio.get_running_loop(), threading.Event()
        loop.set_default_executor(ThreadPoolExecutor(1))
        step = loop.run_in_executor(None, end.wait, 60)
        try:
            response = await asyncio.wait_for(w.post(authorization, "/recover"), 30)
        finally:
            end.set()
        assert response.status_code == 200
        await step

    run(test)
