"""Requests that no client would make on purpose: bodies, paths, queries and headers of every kind, over real sockets.

No answer is an error of the server, every error is a problem document, and an error changes nothing.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import socket
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from cloud_adapter.hosting.embedded import EmbeddedRuntime
from cloud_adapter.http.worker import create_worker
from cloud_adapter.settings import Settings
from tests.http.helpers import BODY_BYTES_MAX, everyone
from tests.input.conftest import Attacked, attack
from tests.input.workflows import Store

pytestmark = pytest.mark.slow

EVENTS = ["Keep", "KeepBox", "KeepPerson", "KeepNumbers", "KeepAmount", "KeepLabel", "KeepEither", "Count"]
ODD_TEXTS = [
    "",
    " ",
    "\x00",
    "\ud800",
    "a\nb",
    "\u202eabc",
    "e\u0301",
    "é",
    "🍕" * 50,
    "..",
    "%2e%2e",
    "__a__",
    "'",
    '"',
    "{}",
]
ODD_NUMBERS = [
    "NaN",
    "Infinity",
    "-Infinity",
    "1e999",
    "-0.0",
    "9" * 5_000,
    "1" + "0" * 400,
    '"inf"',
    '"-1e999"',
    "0.1e-400",
    "1e308",
]
ODD_BODIES = [
    b"\xff\xfe{}", b"\xef\xbb\xbf1", b"[" * 3_000, b"[" * 3_000 + b"]" * 3_000, b'{"a":' * 1_000 + b"1" + b"}" * 1_000,
    b'{"size": "small", "size": "large", "weight": 1}', b'{"weight": 1, "weight": -1}', b'"\\ud800"', b'"\\u0000"',
    b"1 2", b"nul", b"\x00", b"'a'", b'{"__proto__": 1, "weight": 1}', b"0" * 2_000,
    b'"' + b"x" * BODY_BYTES_MAX + b'"',
]  # fmt: skip

texts = st.sampled_from(ODD_TEXTS) | st.text(max_size=30)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts | st.dates().map(str) | st.uuids().map(str),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)
near_misses = st.fixed_dictionaries(
    {},
    optional={
        "size": st.sampled_from(["small", "large", "SMALL", 1, None]),
        "weight": st.floats() | st.integers() | texts,
        "price": st.sampled_from(["1.00", "1.001", "NaN", "1e400", -1, 12345678.9]),
        "tags": st.lists(texts, max_size=7),
        "numbers": st.dictionaries(texts, st.integers(), max_size=3),
        "sent": st.datetimes().map(str) | st.integers() | st.floats(),
        "lasts": st.integers() | st.floats() | st.sampled_from(["P1D", "P999999999999D", "1:2:3"]),
        "opens": st.times().map(str) | st.integers(),
        "name": texts,
        "born": st.dates().map(str) | st.integers(),
        "friends": st.lists(st.fixed_dictionaries({"name": texts}), max_size=3),
        "pets": st.lists(st.fixed_dictionaries({"kind": st.sampled_from(["cat", "dog"]), "lives": st.integers()})),
        "id": texts | st.uuids().map(str),
        "address": texts | st.ip_addresses().map(str) | st.integers(),
        "label": texts,
    },
)  # fmt: skip
bodies: SearchStrategy[bytes] = (
    st.sampled_from(ODD_BODIES)
    | st.sampled_from(ODD_NUMBERS).map(str.encode)
    | st.binary(max_size=40)
    | (values | near_misses).map(lambda value: json.dumps(value).encode())
)
content_types = st.sampled_from(["application/json", "text/plain", "application/x-www-form-urlencoded", "x", "a/b;c"])
keys = st.sampled_from([None, None, "k", "x" * 255, "x" * 256, "", "a\tb", "é", "\x7f", "k k"])
segments = st.one_of(
    st.sampled_from(
        ["store", "pizza", "Keep", "Count", "a", "%00", "%2F", "%2e%2e", "%ff", "%F0%9F%8D%95", "+", "a%0Ab"]
    ),
    st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=12),
    st.binary(max_size=6).map(lambda data: "".join(f"%{byte:02x}" for byte in data)),
)
_numbers = itertools.count()


def check(attacked: Attacked, before: list[Any], response: httpx.Response) -> None:
    """The answer is one that may be, and an error has changed nothing."""
    assert response.status_code < 500 or response.status_code == 503, response.text
    if response.is_error:
        assert response.headers["content-type"] == "application/problem+json"
        problem = response.json()
        assert problem["status"] == response.status_code
        assert problem["title"] and problem["detail"]
        assert attacked.stored() == before


def send(attacked: Attacked, method: str, target: str, body: bytes = b"", **headers: str | None) -> httpx.Response:
    """Sends bytes as they are; httpx would fix the path."""
    client = attacked.http.client
    url = httpx.URL(str(client.base_url), raw_path=target.encode("ascii", "ignore"))
    named = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items() if value is not None]
    return client.send(httpx.Request(method, url, headers=named, content=body))


@pytest.mark.parametrize("event", EVENTS)
def test_bodies(attacked: Attacked, event: str) -> None:
    id = f"body-{next(_numbers)}"
    attacked.http.create(f"/wf/store/{id}")

    @attack(times=8)
    @given(body=bodies, content_type=content_types, key=keys)
    def post(body: bytes, content_type: str, key: str | None) -> None:
        before = attacked.stored()
        path = f"/wf/store/{id}/{event}"
        check(attacked, before, send(attacked, "POST", path, body, content_type=content_type, idempotency_key=key))

    post()


def test_initial_fields(attacked: Attacked) -> None:
    @attack(times=8)
    @given(body=bodies, key=keys)
    def post(body: bytes, key: str | None) -> None:
        before = attacked.stored()
        path = f"/wf/store/fields-{next(_numbers)}"
        check(attacked, before, send(attacked, "POST", path, body, idempotency_key=key))

    post()


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "BREW"])
def test_paths(attacked: Attacked, method: str) -> None:
    roots = st.sampled_from(["wf", "definition", "graph", "swagger", "wf/store", "wf/store/a", "", "resume"])

    @attack(times=8)
    @given(root=roots, path=st.lists(segments, max_size=4), query=segments)
    def ask(root: str, path: list[str], query: str) -> None:
        before = attacked.stored()
        target = "/" + "/".join([root, *path]).replace("?", "").replace("#", "") + f"?{query}".replace("#", "")
        response = send(attacked, method, target)
        if method != "HEAD":
            check(attacked, before, response)
        assert response.status_code < 500 or response.status_code == 503

    ask()


def test_queries(attacked: Attacked) -> None:
    names = st.sampled_from(["status", "limit", "cursor", "thread", "wait_id", "format", "x"])
    odd = st.sampled_from(
        ["", "0", "-1", "201", "1e2", "9" * 30, "٣", "1_0", "waiting", "WAITING", "null", "eyJhIjoxfQ"]
    )

    @attack(times=8)
    @given(
        path=st.sampled_from(["/wf/store", "/graph/store", "/wf/store/q/Count"]),
        query=st.dictionaries(names, odd | texts),
    )
    def ask(path: str, query: dict[str, str]) -> None:
        before = attacked.stored()
        pairs = {name: value.encode("utf-8", "surrogatepass") for name, value in query.items()}
        url = httpx.URL(path, params={name: value.decode("latin-1") for name, value in pairs.items()})
        method = "POST" if path.endswith("Count") else "GET"
        check(attacked, before, attacked.http.client.request(method, url))

    ask()


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"POST /wf/store/raw HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n{",
        b"POST /wf/store/raw HTTP/1.1\r\nHost: a\r\nContent-Length: -5\r\n\r\n{}",
        b"POST /wf/store/raw HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{} ",
        b"POST /wf/store/raw HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n",
        b"POST /wf/store/raw HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: nonsense\r\n\r\n{}",
        b"POST /wf/store/raw HTTP/1.1\r\n\r\n{",
        b"POST /wf/store/r\xff\xfew HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n{",
        b"nonsense\r\n\r\n",
        b"\x00" * 100,
    ],
    ids=["cut off", "negative", "two lengths", "bad chunk", "bad coding", "no host", "no ascii", "no http", "nul"],
)
def test_requests_that_are_no_http(attacked: Attacked, request_bytes: bytes) -> None:
    before = attacked.stored()
    base = attacked.http.client.base_url
    with socket.create_connection((base.host, base.port or 80), timeout=10) as connection:
        connection.sendall(request_bytes)
        connection.shutdown(socket.SHUT_WR)
        answer = b""
        while data := connection.recv(65_536):
            answer += data
    assert not answer.startswith(b"HTTP/1.1 5"), answer
    assert not answer.startswith(b"HTTP/1.1 2"), answer
    assert attacked.stored() == before


def test_tasks_of_every_kind(attacked: Attacked) -> None:
    """What the worker is sent: it is only the queue that may call it, but nothing that it sends may do harm."""
    attacked.http.create("/wf/store/task")
    fields = {
        "workflow": st.sampled_from(["store", "nonsense", ""]),
        "id": st.sampled_from(["task", "nobody", "..", "a/b"]) | texts,
        "pc": st.integers(-5, 5) | st.integers() | texts,
        "created_at": st.datetimes().map(lambda at: f"{at.isoformat()}Z") | texts | st.integers(),
        "wait_id": st.sampled_from(["main@1", "main@0", "@"]) | texts,
        "event": st.sampled_from(["Keep", "long after", "Count"]) | texts,
    }
    tasks = st.fixed_dictionaries({}, optional=fields).map(lambda task: json.dumps(task).encode()) | bodies
    runtime = EmbeddedRuntime([Store], Settings(db=attacked.db))
    transport = httpx.ASGITransport(create_worker(runtime.engine, everyone))
    with asyncio.Runner() as runner:
        client = httpx.AsyncClient(transport=transport, base_url="http://worker")

        @attack(times=8)
        @given(path=st.sampled_from(["/resume", "/callback/timeout"]), body=tasks)
        def post(path: str, body: bytes) -> None:
            before = attacked.stored()
            response = runner.run(client.post(path, content=body))
            assert response.status_code in (200, 400, 404, 413, 415, 425), response.text
            assert attacked.stored() == before

        post()
        runner.run(client.aclose())
        runner.run(runtime.close())
