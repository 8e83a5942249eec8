"""Large requests: the limits of their bytes and values, and that none takes much memory or time."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from cloud_adapter.http.bodies import VALUES_MAX
from cloud_adapter.json_texts import INDENTED_MAX, readable
from tests.cli.processes import dev
from tests.http import large_inputs
from tests.http.helpers import BODY_BYTES_MAX, Http, deployed, expected
from tests.http.large_inputs import Large
from tests.http.pages import form
from workflow_core import DefinitionError, InvalidFields, On
from workflow_core.core_schemas import FROM_THE_SCHEMA
from workflow_core.inputs import VALUES_OF_ALL_ERRORS, values_in
from workflow_core.statements.selects import INPUT_BYTES_MAX

SAVED = ("trees", "secrets", "wrong items", "any keys")
"""Those that are also sent to be saved."""

RSS_MAX_KIB = 300_000
SECONDS_MAX = 1.0
TICK = os.sysconf("SC_CLK_TCK")


def full(before: str, item: Callable[[int], str] | str, after: str, values: int = VALUES_MAX) -> bytes:
    """A body of 1 MB with as many items as fit and are allowed, then spaces."""
    items: list[str] = []
    size, used = len(before) + len(after), values_in(before + after) + VALUES_OF_ALL_ERRORS // 100
    for number in count():
        text = item if isinstance(item, str) else item(number)
        size, used = size + len(text) + 1, used + 1 + text.count(",") + text.count("{") + text.count("[")
        if size > INPUT_BYTES_MAX or used > values:
            break
        items.append(text)
    return f"{before}{','.join(items)}{after}".encode().ljust(INPUT_BYTES_MAX)


ITEMS: dict[str, tuple[str, Callable[[int], str] | str, str]] = {
    "items": ('{"items":[', "{}", "]}"),
    "wrong items": ('{"items":[', "0", "]}"),
    "numbers": ('{"numbers":[', "1", "]}"),
    "wrong numbers": ('{"numbers":[', '""', "]}"),
    "decimals": ('{"decimals":[', "0.12345678901234567890", "]}"),
    "reals": ('{"reals":[', "1e1", "]}"),
    "a set": ('{"ids":[', str, "]}"),
    "a frozenset": ('{"words":[', '"{}"'.format, "]}"),
    "a mapping": ('{"counts":{', '"{}":{{}}'.format, "}}"),
    "secrets": ('{"secrets":[', '""', "]}"),
    "masked secrets": ('{"secrets":[', '"**********"', "]}"),
    "alternatives": ('{"alternatives":[', '{"kind":0}', "]}"),
    "wrong alternatives": ('{"alternatives":[', '[""]', "]}"),
    "any lists": ('{"anything":[', "[]", "]}"),
    "any keys": ('{"anything":{', '"{}":0'.format, "}}"),
    "deep": ('{"anything":[', '{"":' * 190 + "0" + "}" * 190, "]}"),
    "trees": ('{"tree":{"children":[', "{}", "]}}"),
    "unknown fields": ("{", '"{}":0'.format, "}"),
}
OTHERS = {
    "a long text": b'{"text":"' + rb"\u0001" * 160_000 + b'"}',
    "a huge integer": b'{"anything":' + b"1" * 900_000 + b"}",
    "a huge decimal": b'{"decimals":[0.' + b"1" * 900_000 + b"]}",
    "too deep": b'{"anything":' + b"[" * 20_000,
    "a text without an end": b'"' + rb"\"" * 400_000,
    "no JSON": b"x" * INPUT_BYTES_MAX,
    "items over the limit": full(*ITEMS["items"], values=10**9),
    "wrong alternatives over the limit": full(*ITEMS["wrong alternatives"], values=10**9),
}


@pytest.mark.slow
def test_no_request_takes_much_memory_or_time(tmp_path: Path) -> None:
    limit = str(INPUT_BYTES_MAX)
    bodies = {name: full(*parts) for name, parts in ITEMS.items()} | OTHERS
    with dev(large_inputs.__file__, tmp_path / "large.db", GORCHESTRATE_MAX_BODY_BYTES=limit) as server:
        pid, worst, statuses = server.process.process.pid, (0.0, ""), set()
        server.post("/wf/large/a")
        for name, body in bodies.items():
            for path, sent in _requests(name, body):
                before = _cpu_seconds(pid)
                response = server.client.post(path, content=sent, headers={"Content-Type": "application/json"})
                # The event loop's thread cannot have been busy for longer than the process.
                worst = max(worst, (_cpu_seconds(pid) - before, f"{name} to {path}"))
                statuses.add(response.status_code)
        (peak,) = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmHWM")]
    assert statuses == {200, 201, 404, 413, 422}
    assert int(peak.split()[1]) < RSS_MAX_KIB
    assert worst < (SECONDS_MAX, "")


def _requests(name: str, body: bytes) -> Iterator[tuple[str, bytes]]:
    yield "/wf/large/a/Check", body
    if name in SAVED:
        fields = b'{"box":' + body.rstrip() + b"}"
        yield f"/wf/large/{name}", fields
        yield f"/wf/large/{name}/Keep", body
        yield f"/wf/large/{name}/set", b'{"fields":' + fields + b"}"


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICK


# --- values ----------------------------------------------------------------------------------


@pytest.fixture
def large(tmp_path: Path) -> Iterator[Http]:
    with deployed(tmp_path / "large.db", Large, ui=True) as http:
        http.create("/wf/large/a")
        yield http


@pytest.mark.parametrize("path", ["/wf/large/a/Check", "/wf/large/new", "/wf/large/a/cancel"])
def test_a_body_with_too_many_values(large: Http, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cloud_adapter.http.bodies.VALUES_MAX", 2_000)
    document = large.problem("POST", path, content=b"[" + b"0," * 2_000 + b"0]")
    detail = (
        "the request body has about 2,002 values (items, members, lists and objects), the limit is 2,000: send fewer "
        "at a time, or send them as one text"
    )
    assert document == expected(413, "Too large", detail)
    assert large.problem("POST", path, content=b"[" + b"0," * 1_998 + b"0]")["status"] == 422


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("[" + "{}," * 2_000 + "{}]", 4_003),
        (json.dumps([",[{" * 1_000, '\\",[' * 1_000]), 3),
        ('"' + r"\"," * 2_000, 1),
        (json.dumps({"ü,": list(range(2_000))}, ensure_ascii=False), 2_002),
        ("[0,0]", 5),
    ],
    ids=["lists", "in texts", "without an end", "not ASCII", "small"],
)
def test_the_values_of_a_text(text: str, values: int) -> None:
    assert values_in(text) == values_in(text.encode()) == values


@pytest.mark.skipif(not FROM_THE_SCHEMA, reason="before pydantic 2.13, models inside of others are validated as usual")
@pytest.mark.parametrize("given", ['{"items":[%s]}', '{"alternatives":[%s]}', '{"tree":{"children":[%s]}}'])
def test_many_wrong_items_make_few_errors(large: Http, given: str) -> None:
    box = given % ",".join(['[""]'] * VALUES_OF_ALL_ERRORS)
    for path, body in (("a/Check", box), ("new", f'{{"box":{box}}}')):
        *errors, last = large.problem("POST", f"/wf/large/{path}", content=body.encode())["errors"]
        assert 1 <= len(errors) <= 10
        assert last["type"] == "too_many_errors" and "more than 1,000 values" in last["message"]


@pytest.mark.skipif(not FROM_THE_SCHEMA, reason="before pydantic 2.13, models inside of others are validated as usual")
def test_many_wrong_items_that_were_stored_make_few_errors() -> None:
    fields = json.dumps({"box": {"items": [5] * 100_000}})
    with pytest.raises(InvalidFields) as caught:
        Large.load_fields(fields)
    assert str(caught.value).endswith("box.items.0: Input should be an object")


def test_long_json_is_not_indented() -> None:
    assert readable([1]) == "[\n  1\n]"
    assert readable(["x" * INDENTED_MAX]) == f'["{"x" * INDENTED_MAX}"]'


# --- limits of events ------------------------------------------------------------------------


def test_an_event_has_its_own_limit(large: Http) -> None:
    text = json.dumps({"text": "x" * 20_000}).encode()
    assert large.ok("POST", "/wf/large/a/Check", content=text) == 0
    default = BODY_BYTES_MAX
    for path, limit in (("a/Small", 1_000), ("a/Union", default), ("a/Other", default), ("b", default)):
        detail = f"the request body exceeds the limit of {limit:,} bytes: send less data"
        assert large.problem("POST", f"/wf/large/{path}", content=text) == expected(413, "Too large", detail)
    posts = {path: item.get("post", {}) for path, item in large.get("/swagger/large")["paths"].items()}
    described = {
        path: posts[f"/wf/large/{{id}}{path}"]["requestBody"]["description"]
        for path in ("/Small", "/Check", "/Union", "")
    }
    assert described == {
        "/Small": "The input of the event: at most 1,000 bytes.",
        "/Check": "The input of the event: at most 1,000,000 bytes.",
        "/Union": "The input of the event: at most 10,000 bytes.",
        "": "The initial fields. Omitted fields have their defaults. At most 10,000 bytes.",
    }


def test_a_form_has_the_limit_of_its_event(large: Http) -> None:
    page = "/ui/large/instances/a"
    for event, status in (("Check", 303), ("Small", 413)):
        data = form(large.request("GET", page).text, f"Send {event}").posted(f"Send {event}", v__text="x" * 20_000)
        assert large.request("POST", page, data=data).status_code == status


@pytest.mark.parametrize("limit", [0, -1, INPUT_BYTES_MAX + 1, True, "1", 1.5])
def test_a_limit_that_cannot_be_one(limit: Any) -> None:
    with pytest.raises(DefinitionError, match=r"its max_bytes is .*\. Pass a number from 1 to 1,000,000"):
        On("Put", lambda w: None, max_bytes=limit)
