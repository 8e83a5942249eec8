"""Requests of anonymous clients do not write a line each: a flood leaves most out, and the next line counts them."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from starlette.requests import HTTPConnection

from cloud_adapter.engine import permissions
from cloud_adapter.engine.engine import Engine
from cloud_adapter.errors import Unavailable
from cloud_adapter.http.authentication import Authentication
from cloud_adapter.http.authenticators.api_key import ApiKey, StoredKey, key_hash, new_key
from cloud_adapter.observability import line_limit
from cloud_adapter.observability.line_limit import LINES_MAX, LineLimit
from tests.http.helpers import deployed
from workflow_core import ANYONE, Access, On, Principal, S, Select, WebhookRequest, Workflow


class Hook(Workflow, name="hook"):
    access = Access(create={ANYONE}, read={"clerk"})

    def is_signed(self, request: WebhookRequest) -> bool:
        return request.headers["x-signature"] == "right"  # raises an error if it is missing

    definition = S(Select("open", On("Paid", lambda w: None, verify=is_signed)))


class Hanging:
    """An authenticator whose issuer does not answer."""

    scheme: Mapping[str, Any] = {}

    async def __call__(self, connection: HTTPConnection) -> Principal | None:
        if "authorization" in connection.headers:
            raise Unavailable("the keys of the issuer could not be fetched")
        return None


WRONG = {"Authorization": "Bearer gok_wrong"}
KEYS = ApiKey(StoredKey("ann", key_hash(new_key())))


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time of the limits, which stands still."""
    time = [1_000.0]
    monkeypatch.setattr(line_limit, "monotonic", lambda: time[0])
    monkeypatch.setattr(permissions, "FAILURES", LineLimit())
    return time


@pytest.mark.parametrize(
    ("authenticator", "method", "path", "headers", "status", "words"),
    [
        (KEYS, "GET", "/wf/hook/1", WRONG, 401, ["refused:"]),
        (KEYS, "POST", "/wf/hook/1/Paid?callback=v1.a.b.c.d", {}, 401, ["refused:"]),
        (Hanging(), "GET", "/wf/hook/1", WRONG, 503, ["refused:", "the keys of the issuer could not be fetched"]),
        (KEYS, "POST", "/wf/hook/1/Paid", {}, 401, ["verify failed", "denied send Paid hook/1 to anonymous"]),
        (KEYS, "GET", "/health?store=1", {}, 503, ["the store cannot be read"]),
    ],
)
def test_a_flood_does_not_fill_the_log(
    authenticator: Any,
    method: str,
    path: str,
    headers: dict[str, str],
    status: int,
    words: list[str],
    now: list[float],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def broken(engine: Engine) -> None:
        raise Unavailable("broken")

    monkeypatch.setattr(Engine, "check_store", broken)
    with deployed(tmp_path / "db", Hook, authentication=Authentication((authenticator,))) as http:
        http.create("/wf/hook/1")
        caplog.set_level(logging.INFO)
        caplog.clear()
        for _ in range(LINES_MAX + 7):
            assert http.request(method, path, headers=headers).status_code == status
        ours = [record for record in caplog.records if record.name.startswith("gorchestrate")]
        limited = [record for record in ours if not getattr(record, "fields", {}).get("audit")]
        assert len(limited) <= LINES_MAX * len(words)
        for word in words[:1]:
            assert sum(word in record.getMessage() for record in ours) == LINES_MAX
        assert {word for word in words if not any(word in record.getMessage() for record in ours)} == set()
        now[0] += 1
        caplog.clear()
        http.request(method, path, headers=headers)
        (line,) = [record for record in caplog.records if words[0] in record.getMessage()]
        assert "7 lines like this one" in line.getMessage() or line.fields["left_out"] == 7  # type: ignore[attr-defined]


def test_the_lines_that_were_left_out_are_counted_once() -> None:
    now = [timedelta()]
    limit = LineLimit(2, lambda: now[0])
    assert [limit.next() for _ in range(4)] == [0, 0, None, None]
    now[0] += timedelta(seconds=1)
    assert [limit.next() for _ in range(3)] == [2, 0, None]
    now[0] -= timedelta(hours=1)  # the clock was set back
    assert [limit.next() for _ in range(3)] == [1, 0, None]
