"""The input of commands: what a value means, and what happens to numbers, encodings and texts that are not JSON."""

from __future__ import annotations

import codecs
import enum
import itertools
import json
from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field, TypeAdapter, create_model
from typer.testing import CliRunner

from cloud_adapter.cli.inputs import JsonText, read_pairs, written
from cloud_adapter.cli.main import app
from cloud_adapter.errors import InvalidRequest, SettingsError
from tests.http.helpers import Http, problem, serving
from workflow_core import On, S, Select, Workflow


class Size(enum.IntEnum):
    SMALL = 1


class Inner(BaseModel):
    a: int = 0


Alias = Annotated[str | None, Field(max_length=9)]


@pytest.mark.parametrize(
    ("annotation", "typed", "sent"),
    [
        (str, "123", '"123"'),
        (str, "null", '"null"'),
        (str, '"a"', '"\\"a\\""'),
        (str | None, "123", '"123"'),
        (str | None, "1.50", '"1.50"'),
        (str | None, "true", '"true"'),
        (str | None, "[1]", '"[1]"'),
        (str | None, "null", "null"),
        (str | None, '"a"', '"\\"a\\""'),
        (Alias, "123", '"123"'),
        (datetime | None, "2026", '"2026"'),
        (Size | str, "1", "1"),
        (Size | str, "x", '"x"'),
        (int | str, "123", "123"),
        (int | str, "1.5", '"1.5"'),
        (int | None, "x", '"x"'),
        (Literal["1", "2"], "1", '"1"'),
        (Literal[1, "a"], "1", "1"),
        (Literal[1, "a"], "a", '"a"'),
        (bool | str, "true", "true"),
        (bool, "yes", '"yes"'),
        (list[str], '["a"]', '["a"]'),
        (list[str] | str, '["a"]', '["a"]'),
        (list[str] | str, '{"a": 1}', '"{\\"a\\": 1}"'),
        (Inner | None, '{"a": 1}', '{"a": 1}'),
        (float, "1e400", "1e400"),
        (float, "NaN", '"NaN"'),
        (float, "-Infinity", '"-Infinity"'),
        (float, "01", '"01"'),
        (Decimal, "0.1000000000000000055511151231257827", "0.1000000000000000055511151231257827"),
        (int, "9" * 5000, json.dumps("9" * 5000)),
        (Any, "123", "123"),
        (Any, '"a"', '"a"'),
        (Any, "a", '"a"'),
        (Any, "[" * 100_000, json.dumps("[" * 100_000)),
    ],
    ids=lambda value: f"{value}"[:40],
)
def test_what_a_value_means(annotation: Any, typed: str, sent: str) -> None:
    schema = TypeAdapter(create_model("Given", value=(annotation, ...))).json_schema()
    assert read_pairs([f"value={typed}"], schema) == {"value": sent}
    assert written(read_pairs([f"value={typed}"], schema)) == f'{{"value": {sent}}}'


def test_a_field_that_is_not_in_the_schema_is_json_or_text() -> None:
    schema = TypeAdapter(Inner).json_schema()
    assert read_pairs(["b=1", "c=x=y", "d="], schema) == {"b": "1", "c": '"x=y"', "d": '""'}


def test_a_body_contains_json_texts_as_they_are() -> None:
    body = {"by": "Ann", "fields": {'"': JsonText("1e400")}, "pc": None, "list": [1, "a"]}
    assert written(body) == '{"by": "Ann", "fields": {"\\"": 1e400}, "pc": null, "list": [1, "a"]}'


class Note(Workflow, name="note"):
    create_fields = ("note", "amount", "price")

    note: str | None = None
    amount: float = 0
    price: Annotated[Decimal, Field(alias="Price")] = Decimal(0)

    def put(self, note: str | None) -> None:
        self.note = note

    definition = S(Select("open", On("Put", put)))


@pytest.fixture(scope="module")
def http(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Http]:
    with serving(tmp_path_factory.mktemp("inputs") / "inputs.db", Note) as http:
        yield http


_numbers = itertools.count(1)


@pytest.fixture
def id() -> str:
    return f"note-{next(_numbers)}"


def run(http: Http, command: str, *arguments: str, stdin: bytes | None = None) -> str:
    """Returns the output of a command, or the error that it prints as one line."""
    result = CliRunner().invoke(app, [command, "--url", str(http.client.base_url), *arguments], input=stdin)
    if isinstance(result.exception, InvalidRequest | SettingsError):
        assert "\n" not in str(result.exception)
        return str(result.exception)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_a_number_for_an_optional_text(http: Http, id: str) -> None:
    assert run(http, "start", "note", id, "note=123", "amount=1.5", "Price=1.50") == f"{id} is waiting\n"
    assert http.get(f"/wf/note/{id}")["state"] == {"note": "123", "amount": 1.5, "price": "1.50"}
    run(http, "set", "note", id, "note=null", "price=0.10000000000000000000001", "--yes")
    assert http.get(f"/wf/note/{id}")["state"] == {"note": None, "amount": 1.5, "price": "0.10000000000000000000001"}


@pytest.mark.parametrize(
    ("typed", "note"), [("123", "123"), ("true", "true"), ("null", None), ('"a"', '"a"'), ("a=b", "a=b"), ("", "")]
)
def test_an_input_that_is_not_an_object_is_given_by_the_name_of_its_parameter(
    http: Http, id: str, typed: str, note: str | None
) -> None:
    run(http, "start", "note", id)
    run(http, "send", "note", id, "Put", f"note={typed}")
    assert http.get(f"/wf/note/{id}")["state"]["note"] == note
    for wrong in (["nota=1"], ["note=1", "other=2"]):
        refused = run(http, "send", "note", id, "Put", *wrong)
        assert refused == "the input is not an object with fields. Write note=VALUE, or pass it with --input"


def test_what_is_given_twice_is_refused(http: Http, id: str) -> None:
    twice = "note is given twice: note=a and note=b. Give it once"
    assert run(http, "start", "note", id, "note=a", "note=b") == twice
    message = "the key 'note' is given more than once in one object. Send it once"
    assert message in run(http, "start", "note", id, "--input", '{"note": "a", "amount": 1, "note": "b"}')
    assert http.problem("GET", f"/wf/note/{id}")["status"] == 404
    run(http, "start", "note", id)
    assert run(http, "set", "note", id, "note=a", "note=b", "--yes") == twice
    assert "status is given twice" in run(http, "ls", "note", "--search", "status=a", "--search", "status=b")
    fields = b'{"note": "a", "note": "b"}'
    for url, body in ((f"/wf/note/{id}/set", b'{"fields": ' + fields + b"}"), (f"/wf/note/{id}-2", fields)):
        document = problem(http.request("POST", url, content=body))
        assert document["status"] == 422
        assert document["errors"] == [{"field": "note", "message": message, "type": "repeated_key"}]
    assert http.get(f"/wf/note/{id}")["state"]["note"] is None


@pytest.mark.parametrize("number", ["NaN", "1e400", "-Infinity", "Infinity"])
def test_a_number_that_is_not_finite(http: Http, id: str, number: str) -> None:
    assert "amount: " in run(http, "start", "note", id, f"amount={number}")
    assert "finite" in run(http, "start", "note", id, f"amount={number}")
    refused = run(http, "start", "note", id, "--input", f'{{"amount": {number}}}')
    assert refused.startswith("--input is not JSON: ") or "finite" in refused
    assert http.problem("GET", f"/wf/note/{id}")["status"] == 404


@pytest.mark.parametrize(
    "content",
    [
        codecs.BOM_UTF8 + '{"note": "café"}'.encode(),
        '{"note": "café"}'.encode(),
        '{"note": "café"}'.encode("utf-16"),
        codecs.BOM_UTF16_BE + '{"note": "café"}'.encode("utf-16-be"),
    ],
    ids=["mark", "none", "UTF-16", "UTF-16 BE"],
)
def test_a_byte_order_mark(http: Http, id: str, content: bytes) -> None:
    assert run(http, "start", "note", id, "--input", "-", stdin=content) == f"{id} is waiting\n"
    assert http.get(f"/wf/note/{id}")["state"]["note"] == "café"


def test_a_byte_order_mark_in_an_argument(http: Http, id: str) -> None:
    assert run(http, "start", "note", id, "--input", '\ufeff{"note": "x"}') == f"{id} is waiting\n"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b'{"note": "\xff"}', "--input is not JSON: 'utf-8' codec can't decode byte 0xff in position 10"),
        (codecs.BOM_UTF16_LE + b"a", "--input is not JSON: 'utf-16-le' codec can't decode"),
        (b"[" * 100_000, "--input is not JSON: recursion limit exceeded"),
        (b'{"note": "\\ud800"}', "--input is not JSON: "),
        (b"", "--input is not JSON: EOF"),
    ],
    ids=["UTF-8", "UTF-16", "deep", "surrogate", "empty"],
)
def test_what_is_not_json_is_one_line(http: Http, id: str, content: bytes, said: str) -> None:
    assert run(http, "start", "note", id, "--input", "-", stdin=content).startswith(said)
    assert http.problem("GET", f"/wf/note/{id}")["status"] == 404


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["start", "note", "a\udcff"], "the argument id is not valid UTF-8: 'a\\udcff'"),
        (["start", "note", "a", "note=\udcff"], "the argument fields is not valid UTF-8: 'note=\\udcff'"),
        (["show", "n\udcff", "a"], "the argument workflow is not valid UTF-8"),
        (
            ["start", "note", "a/cancel"],
            "invalid instance id 'a/cancel': it must contain only printable characters other",
        ),
        (["show", "note", "a/b"], "invalid instance id 'a/b'"),
        (["cancel", "note", "../note"], "invalid instance id '../note'"),
        (["send", "note", "a/b", "Put"], "invalid instance id 'a/b'"),
        (["ls", "note", "--search", "a=\udcff"], "the argument search is not valid UTF-8"),
        (["cancel", "note", "a", "--reason", "\udcff"], "the argument reason is not valid UTF-8"),
        (["send", "note", "a", "Put", "--key", "é"], "invalid idempotency key: it must have 1 to 255 printable ASCII"),
        (["ls", "--token", "é"], "the token must have only printable ASCII characters: check --token"),
        (["ls", "--url", "http://a\udcff"], "the argument url is not valid UTF-8"),
    ],
)
def test_an_argument_that_cannot_be_sent(http: Http, arguments: list[str], said: str) -> None:
    assert run(http, *arguments).startswith(said)
