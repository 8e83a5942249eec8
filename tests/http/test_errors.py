"""Every error of the public application: its whole problem document, and that it changed nothing."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import TypeAdapter, ValidationError

from cloud_adapter.clock import SystemClock
from cloud_adapter.engine.engine import Engine
from cloud_adapter.errors import Unavailable
from cloud_adapter.http.api import create_api
from cloud_adapter.http.problems import STATUS
from cloud_adapter.ports import Task
from cloud_adapter.queues.local import LocalQueue
from cloud_adapter.stores.sqlite.store import SqliteStore
from tests.http.helpers import BODY_BYTES_MAX, Http, expected, problem, serving
from tests.http.workflows import SLASH_EVENT, UNICODE_EVENT, Desk
from workflow_core import NewerVersion
from workflow_core.error_texts import field_errors

Create = Callable[[str], str]

DESK_EVENTS = [
    "Put",
    "PutBox",
    "Keep",
    "Write",
    "Count",
    "Touch",
    "Refuse",
    "Crash",
    "Lie",
    "Stutter",
    "Spoil",
    "Close",
]
DESK_EVENTS += [UNICODE_EVENT, SLASH_EVENT]
UNANSWERED = (
    "The database or the queue did not answer; it is unknown whether the call took effect. See the log of the server."
)
LISTED = ", ".join(map(repr, DESK_EVENTS))


@pytest.fixture
def desk(http: Http, create: Create) -> Any:
    """The URL of an instance; it must be the same when the test is over."""
    url = create("desk")
    before = http.get(url)
    yield url
    assert http.get(url) == before


def no_input(event: str) -> dict[str, Any]:
    message = "this event takes no input: send none"
    error = {"field": "", "message": message, "type": "no_input"}
    return expected(422, "Invalid input", f"invalid input for event {event!r}: input: {message}", errors=[error])


def not_accepted(event: str) -> dict[str, Any]:
    why = "" if event == "Archive" else ", because the workflow has no such event"
    detail = f"event {event!r} is not accepted now{why}: the instance is waiting, it accepts: {LISTED}"
    return expected(409, "Event not accepted", detail, accepted=DESK_EVENTS, instance_status="waiting")


@pytest.mark.parametrize("body", [b"1", b"{}", b'""', b"false", b"nonsense", b"\xff", b"["])
def test_an_event_that_takes_no_input(http: Http, desk: str, body: bytes) -> None:
    assert http.problem("POST", f"{desk}/Count", content=body) == no_input("Count")


@pytest.mark.parametrize(
    ("event", "input", "fields"),
    [
        ("Put", {"name": "pen", "qty": "many"}, {"qty": "int_parsing"}),
        ("Put", {"name": "pen", "qty": 0}, {"qty": "greater_than_equal"}),
        ("Put", {"name": "", "qty": 0}, {"name": "string_too_short", "qty": "greater_than_equal"}),
        ("Put", {}, {"name": "missing"}),
        ("Put", [], {"": "model_type"}),
        ("Put", None, {"": "missing_input"}),
        ("PutBox", {"items": [{"name": "a"}, {"name": "b", "qty": -1}]}, {"items.1.qty": "greater_than_equal"}),
        ("PutBox", {"items": {}}, {"items": "list_type"}),
        ("Write", 5, {"": "string_type"}),
    ],
)
def test_a_wrong_input_names_each_field(http: Http, desk: str, event: str, input: Any, fields: dict[str, str]) -> None:
    document = http.problem("POST", f"{desk}/{event}", json=input)
    errors = document["errors"]
    assert {error["field"]: error["type"] for error in errors} == fields
    assert all(set(error) == {"field", "message", "type"} for error in errors)
    listing = "; ".join(f"{error['field'] or 'input'}: {error['message']}" for error in errors)
    assert document == expected(422, "Invalid input", f"invalid input for event {event!r}: {listing}", errors=errors)


def test_at_most_a_hundred_errors_are_told(http: Http, desk: str) -> None:
    hundred = http.problem("POST", f"{desk}/PutBox", json={"items": [0] * 100})["errors"]
    assert len(hundred) == 100 and hundred[-1]["field"] == "items.99"
    for path, input in ((f"{desk}/PutBox", {"items": [0] * 101}), ("/wf/desk/new", {"items": [0] * 101})):
        *told, last = http.problem("POST", path, json=input)["errors"]
        assert told == [one | {"field": f"items.{index}"} for index, one in enumerate(hundred)]
        message = "the input has 101 errors; these are the first 100"
        assert last == {"field": "", "message": message, "type": "too_many_errors"}
    (long,) = http.problem("POST", "/wf/desk/new", json={"x" * 5_000: 1})["errors"]
    assert long["field"] == "x" * 1_000 + "..."


def test_of_very_many_errors_only_the_number_is_told() -> None:
    box = TypeAdapter(list[int])
    with pytest.raises(ValidationError) as caught:
        box.validate_python([""] * 10_001)
    (error,) = field_errors(caught.value)
    assert error["message"] == "the input has 10,001 errors, too many to list"


@pytest.mark.parametrize("event", ["Put", "Keep", "Write"])
@pytest.mark.parametrize(
    "body",
    [b"{", b"{'name': 'pen'}", b"pen", b'"\xff"', b'"\\ud800"', b"[" * 5_000, b"1 2", b"\x00"],
    ids=["cut", "quotes", "word", "no UTF-8", "surrogate", "deep", "two", "nul"],
)
def test_a_body_that_is_no_json(http: Http, desk: str, event: str, body: bytes) -> None:
    document = http.problem("POST", f"{desk}/{event}", content=body)
    (error,) = document["errors"]
    assert (error["field"], error["type"]) == ("", "json_invalid")
    assert document == expected(
        422, "Invalid input", f"invalid input for event {event!r}: input: {error['message']}", errors=[error]
    )


@pytest.mark.parametrize("body", [b"", b"  "])
@pytest.mark.parametrize(
    ("event", "wanted"),
    [("Write", "Input should be a valid string, as JSON"), ("Put", "Input should be an object with 'name', as JSON")],
)
def test_an_empty_body_is_no_input(http: Http, desk: str, body: bytes, event: str, wanted: str) -> None:
    error = {"field": "", "message": f"the body is empty: {wanted}", "type": "missing_input"}
    assert http.problem("POST", f"{desk}/{event}", content=body) == expected(
        422, "Invalid input", f"invalid input for event {event!r}: input: {error['message']}", errors=[error]
    )


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        (b'{"nonsense": 1}', {"nonsense": "not_in_create_fields"}),
        (b'{"note": 1, "items": [{"qty": 2}]}', {"note": "string_type", "items.0.name": "missing"}),
        (b"[]", {"": "model_type"}),
        (b"null", {"": "model_type"}),
        (b"{", {"": "json_invalid"}),
        (b"\xff", {"": "json_invalid"}),
    ],
)
def test_wrong_initial_fields(http: Http, id: str, body: bytes, fields: dict[str, str]) -> None:
    document = http.problem("POST", f"/wf/desk/{id}", content=body)
    assert {error["field"]: error["type"] for error in document["errors"]} == fields
    assert document == expected(422, "Invalid input", document["detail"], errors=document["errors"])
    assert document["detail"].startswith("invalid input for the initial fields of workflow 'desk': ")
    assert http.problem("GET", f"/wf/desk/{id}")["status"] == 404, "nothing was created"


@pytest.mark.parametrize("event", ["Archive", "Nonsense", "put", "at the desk", "a/b", ".hidden"])
def test_an_event_that_is_not_accepted(http: Http, desk: str, event: str) -> None:
    assert http.problem("POST", f"{desk}/{event}", json={"name": "pen"}) == not_accepted(event)


def test_an_event_without_its_name_creates_nothing_and_sends_nothing(http: Http, desk: str) -> None:
    assert http.problem("POST", f"{desk}/") == not_accepted("")
    assert http.problem("POST", f"{desk}-new/", json={})["status"] == 404
    assert http.problem("GET", f"{desk}-new")["status"] == 404


def test_an_event_that_its_handler_refuses(http: Http, desk: str) -> None:
    assert http.problem("POST", f"{desk}/Refuse") == expected(409, "Event rejected", "the desk refuses: ask tomorrow")


def test_an_error_whose_text_is_no_unicode(http: Http, desk: str) -> None:
    assert http.problem("POST", f"{desk}/Stutter") == expected(409, "Event rejected", r"no Unicode: \udcff")


@pytest.mark.parametrize(
    ("event", "title", "detail"),
    [
        ("Crash", "User code error", "the handler of event 'Crash' raised RuntimeError: the handler is wrong"),
        ("Lie", "Invalid output", None),
        ("Spoil", "User code error", None),
    ],
)
def test_a_bug_in_the_workflow_is_an_error_of_the_server(
    http: Http, desk: str, event: str, title: str, detail: str | None
) -> None:
    response = http.request("POST", f"{desk}/{event}")
    document = problem(response)
    assert document == expected(500, title, detail or document["detail"])
    assert "Traceback" not in response.text and ".py" not in response.text


def test_fields_that_would_be_wrong_are_not_saved(http: Http, desk: str) -> None:
    document = http.problem("POST", f"{desk}/Write", json="x" * 3_000)
    assert (document["status"], document["title"]) == (500, "Invalid fields")
    assert "note" in document["detail"]


@pytest.mark.parametrize("path", ["", "/Put"])
def test_a_body_over_the_limit(http: Http, desk: str, path: str) -> None:
    detail = f"the request body exceeds the limit of {BODY_BYTES_MAX:,} bytes: send less data"
    body = b'"' + b"x" * BODY_BYTES_MAX
    assert http.problem("POST", desk + path, content=body) == expected(413, "Too large", detail)
    # In pieces, so that no header tells the size.
    document = http.problem("POST", desk + path, content=iter([b"x" * 1_000] * 20))
    assert document == expected(413, "Too large", detail)


def test_a_body_of_just_the_limit_is_taken(http: Http, create: Create) -> None:
    body = b'"' + b"x" * (BODY_BYTES_MAX - 2) + b'"'
    assert http.request("POST", f"{create('desk')}/Keep", content=body).status_code == 200


def test_an_instance_that_would_be_too_large(tmp_path: Path) -> None:
    with serving(tmp_path / "large.db", Desk, max_body_bytes=1_000_000) as http:
        http.create("/wf/desk/a")
        http.send("/wf/desk/a/Keep", "☕" * 100_000)
        before = http.get("/wf/desk/a")
        document = http.problem("POST", "/wf/desk/a/Put", json={"name": "x" * 800_000})
        assert document == expected(413, "Too large", document["detail"])
        assert "the limit is 1,000,000; its largest field is 'items' with 800," in document["detail"]
        assert http.get("/wf/desk/a") == before
        document = http.problem("POST", "/wf/desk/b", json={"items": [{"name": "x" * 999_900}]})
        assert (document["status"], document["title"]) == (413, "Too large")
        assert http.problem("GET", "/wf/desk/b")["status"] == 404


@pytest.mark.parametrize(
    ("id", "reason"),
    [
        ("%20a", "it must contain only printable characters other than '/', without white space at the ends"),
        ("a%20", "it must contain only printable characters other than '/', without white space at the ends"),
        ("a%0Ab", "it must contain only printable characters other than '/', without white space at the ends"),
        ("%E2%80%8D", "it must contain only printable characters other than '/', without white space at the ends"),
        ("a%E2%80%8Bb", "it must contain only printable characters other than '/', without white space at the ends"),
        ("a%E2%80%AEb", "it must contain only printable characters other than '/', without white space at the ends"),
        ("%00", "it must contain only printable characters other than '/', without white space at the ends"),
        ("%2E%2E", "'.', '..' and '__...__' are reserved"),
        ("__a__", "'.', '..' and '__...__' are reserved"),
        ("x" * 401, "it is longer than 400 bytes"),
        ("%E2%98%95" * 134, "it is longer than 400 bytes"),
    ],
)
@pytest.mark.parametrize(("method", "event"), [("POST", ""), ("GET", ""), ("POST", "/Put")])
def test_an_id_that_cannot_be_one(http: Http, id: str, reason: str, method: str, event: str) -> None:
    response = http.client.send(
        httpx.Request(method, httpx.URL(str(http.client.base_url), raw_path=f"/wf/desk/{id}{event}".encode()))
    )
    document = problem(response)
    assert document == expected(400, "Invalid request", document["detail"])
    assert document["detail"].startswith("invalid instance id ")
    assert document["detail"].endswith(f": {reason}")
    assert len(document["detail"]) < 300


@pytest.mark.parametrize("key", [b"", b"x" * 256, b"\xc3\xa9", b"a\x7fb"])
@pytest.mark.parametrize("path", ["-new", "/Put", "/Nonsense"])
def test_a_key_that_cannot_be_one(http: Http, desk: str, key: bytes, path: str) -> None:
    document = http.problem("POST", desk + path, headers=[(b"Idempotency-Key", key)])
    assert document == expected(
        400, "Invalid request", "invalid idempotency key: it must have 1 to 255 printable ASCII characters"
    )
    assert http.problem("GET", f"{desk}-new")["status"] == 404


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/wf/nonsense/a"),
        ("GET", "/wf/nonsense/a"),
        ("POST", "/wf/nonsense/a/Put"),
        ("GET", "/wf/nonsense"),
        ("GET", "/definition/nonsense"),
        ("GET", "/graph/nonsense"),
        ("GET", "/swagger/nonsense"),
        ("GET", "/reference/nonsense"),
    ],
)
def test_a_workflow_that_is_not_served(http: Http, method: str, path: str) -> None:
    assert http.problem(method, path) == expected(
        404,
        "Workflow not found",
        "unknown workflow 'nonsense'. Available: desk, failing, pizza, slow, timed, twins",
    )


@pytest.mark.parametrize(("method", "path"), [("GET", ""), ("POST", "/Put"), ("POST", "/Nonsense")])
def test_an_instance_that_is_not_there(http: Http, method: str, path: str) -> None:
    document = http.problem(method, f"/wf/desk/nobody{path}", content=b"" if method == "GET" else b"{}")
    assert document == expected(404, "Instance not found", document["detail"])
    assert "'nobody'" in document["detail"] and "'desk'" in document["detail"]


@pytest.mark.parametrize("path", ["/nonsense", "/wf", "/wf/", "/wf/desk/", "/graph", "/wf//a", "/definition/desk/x"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_path_that_is_not_served(http: Http, method: str, path: str) -> None:
    assert http.problem(method, path) == expected(404, "Not Found", f"unknown path {path!r}: GET / lists the workflows")


@pytest.mark.parametrize("path", ["/resume", "/callback/timeout", "/recover"])
def test_what_tasks_call_is_not_served_to_the_public(http: Http, path: str) -> None:
    assert http.problem("POST", path, json={}) == expected(
        404, "Not Found", f"unknown path {path!r}: GET / lists the workflows"
    )


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/", {"GET", "HEAD"}),
        ("/wf/desk", {"GET", "HEAD"}),
        ("/wf/desk/some", {"GET", "HEAD", "POST"}),
        ("/wf/desk/some/Put", {"POST"}),
        ("/definition/desk", {"GET", "HEAD"}),
        ("/graph/desk", {"GET", "HEAD"}),
        ("/swagger/desk", {"GET", "HEAD"}),
        ("/reference/desk", {"GET", "HEAD"}),
        ("/static/style.css", {"GET", "HEAD"}),
    ],
)
def test_a_method_that_is_not_served(http: Http, path: str, allowed: set[str]) -> None:
    for method in {"GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"} - allowed:
        response = http.request(method, path)
        assert problem(response) == expected(
            405, "Method Not Allowed", f"method {method} is not allowed for {path!r}: use {', '.join(sorted(allowed))}"
        )
        assert set(response.headers["allow"].split(", ")) == allowed


@pytest.mark.parametrize("path", ["/graph/desk", "/wf/desk/no-instance/graph"])
def test_a_format_that_there_is_none(http: Http, path: str) -> None:
    assert http.problem("GET", f"{path}?format=png") == expected(
        400, "Invalid request", "unknown format 'png'. Available: svg, mermaid, json"
    )


class _Store(SqliteStore):
    """A database whose reads fail."""

    def __init__(self, path: Path, error: Exception) -> None:
        super().__init__(path)
        self.error = error

    async def load(self, workflow: str, id: str, *, history: bool = False) -> Any:
        raise self.error


@pytest.mark.parametrize(
    ("error", "document"),
    [
        (Unavailable("the database does not answer"), expected(503, "Unavailable", UNANSWERED)),
        (NewerVersion("deploy that again"), expected(503, "Newer version", "deploy that again")),
        (
            LookupError("a secret of the server"),
            expected(500, "Internal Server Error", "LookupError: see the log of the server"),
        ),
    ],
)
def test_an_error_of_the_server(tmp_path: Path, error: Exception, document: dict[str, Any]) -> None:
    store = _Store(tmp_path / "broken.db", error)
    clock = SystemClock()
    queue = LocalQueue(_never, clock)
    app = create_api(Engine([Desk], store, queue, clock=clock), max_body_bytes=1_000)

    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(app)  # raises what the application raises
        try:
            async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
                return await client.get("/wf/desk/a")
        finally:
            await store.close()

    response = asyncio.run(ask())
    assert problem(response) == document
    assert response.headers.get("retry-after") == ("1" if document["status"] == 503 else None)


async def _never(task: Task, retries: int) -> bool:
    raise AssertionError("no task was to be delivered")


def test_each_error_of_the_table_is_provoked_here() -> None:
    titles = {"Busy"}  # in test_events
    titles |= {"Instance exists", "Idempotency key reused"}  # in test_instances
    titles |= {"Invalid request", "Workflow not found", "Instance not found", "Event not accepted", "Event rejected"}
    titles |= {"Too large", "Unsupported encoding", "Invalid input", "Unavailable", "Newer version"}
    titles |= {"Callback not accepted"}  # in test_callbacks
    titles |= {"Response too large"}  # in test_instances
    titles |= {"Instance ended", "Repair refused"}  # in test_operating
    titles |= {"Unauthenticated", "Invalid credential", "Forbidden"}  # in test_auth
    titles |= {"Unsupported media type"}  # in test_callers
    titles |= {"Outcome not found"}  # in test_respond_async
    titles |= {"Too many requests"}  # in test_rate_limit
    kinds = {title.lower().replace(" ", "") for title in titles}
    assert {cls.__name__.lower() for cls in STATUS} == kinds


MARK = b"\xef\xbb\xbf"


@pytest.mark.parametrize(
    ("headers", "body", "reason"),
    [
        (
            {"Content-Encoding": "gzip"},
            gzip.compress(b"1", mtime=0),
            "has the content encoding 'gzip': send it uncompressed",
        ),
        ({"Content-Encoding": "br"}, b"1", "has the content encoding 'br': send it uncompressed"),
        ({"Content-Encoding": "x-Gzip, gzip"}, b"1", "has the content encoding 'x-gzip, gzip': send it uncompressed"),
        ({"Content-Type": "application/json; charset=UTF-16"}, b"1", "has the charset 'utf-16': send UTF-8"),
        ({"Content-Type": 'application/json;a=b; Charset="latin1"'}, b"1", "has the charset 'latin1': send UTF-8"),
        ({}, "1".encode("utf-16"), "is UTF-16 or UTF-32 text: send UTF-8"),
        ({}, "1".encode("utf-32"), "is UTF-16 or UTF-32 text: send UTF-8"),
    ],
)
@pytest.mark.parametrize("path", ["/new", "/Write", "/Count", "/cancel"])
def test_a_body_that_is_not_plain_utf_8(
    http: Http, desk: str, headers: dict[str, str], body: bytes, reason: str, path: str
) -> None:
    url = f"{desk}{path}" if path != "/new" else f"{desk}-new"
    response = http.request("POST", url, content=body, headers=headers)
    assert problem(response) == expected(415, "Unsupported encoding", f"the request body {reason}")
    assert response.headers["accept-encoding"] == "identity"
    assert http.problem("GET", f"{desk}-new")["status"] == 404


@pytest.mark.parametrize("content_type", ["application/json;charset=utf-8", 'application/json; charset="UTF8"', ""])
def test_a_byte_order_mark_is_skipped(http: Http, id: str, content_type: str) -> None:
    headers = {"Content-Type": content_type, "Content-Encoding": "identity"}
    url = f"/wf/desk/{id}"
    assert http.create(url, content=MARK + b'{"note": "caf\xc3\xa9"}', headers=headers)["state"]["note"] == "café"
    assert http.ok("POST", f"{url}/Count", content=MARK, headers=headers) == 0
    assert http.ok("POST", f"{url}/cancel", content=MARK + b'{"by": "ann"}')["history"][-1]["by"] == "ann"


def test_with_and_without_a_byte_order_mark_is_one_request(http: Http, id: str) -> None:
    http.create(f"/wf/desk/{id}")
    keyed = {"Idempotency-Key": "k"}
    for body in (b'{"name": "pen"}', MARK + b'{"name": "pen"}'):
        http.ok("POST", f"/wf/desk/{id}/Put", content=body, headers=keyed)
    assert len(http.get(f"/wf/desk/{id}")["state"]["items"]) == 1
