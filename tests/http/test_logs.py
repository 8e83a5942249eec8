"""The logs: one JSON object a line, one line a transition."""

from __future__ import annotations

import io
import json
import logging
import sys
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

import pytest

from cloud_adapter.observability.logs import JsonFormatter, TextFormatter, about
from tests.http.helpers import Http, until

Lines = Callable[[], list[dict[str, Any]]]


@pytest.fixture
def lines(id: str) -> Iterator[Lines]:
    """What was logged about the test's instance, as the programs format it."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter())
    logger = logging.getLogger("gorchestrate")
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield lambda: [line for line in map(json.loads, stream.getvalue().splitlines()) if line.get("id") == id]
    logger.removeHandler(handler)
    logger.setLevel(level)


def test_one_line_a_transition(http: Http, id: str, lines: Lines) -> None:
    http.create(f"/wf/timed/{id}")
    http.send(f"/wf/timed/{id}/Answer")
    history = until(lambda: (h := http.get(f"/wf/timed/{id}")["history"])[-1]["kind"] == "event" and h)

    logged = until(lambda: len(found := lines()) >= len(history) and found)
    assert [(line["kind"], line.get("statement", ""), line.get("thread", "")) for line in logged] == [
        ("created", "", ""),
        ("step", "prepare", "main"),
        ("event", "Answer", "main"),
    ]
    for line, entry in zip(logged, history, strict=True):
        assert line["workflow"] == "timed" and line["id"] == id
        assert line["severity"] == "INFO" and line["logger"] == "gorchestrate"
        assert line["time"].endswith("Z") and datetime.fromisoformat(line["time"]).tzinfo is not None
        assert line["pc"] == entry["pc"]
        assert line["duration_ms"] == entry["duration_ms"] >= 0
        assert "error" not in line


def test_a_refused_event_is_no_transition(http: Http, id: str, lines: Lines) -> None:
    http.create(f"/wf/desk/{id}")
    until(lines)
    assert http.problem("POST", f"/wf/desk/{id}/Refuse")["status"] == 409
    assert http.problem("POST", f"/wf/desk/{id}/Put", json={})["status"] == 422
    http.send(f"/wf/desk/{id}/Touch")
    logged = until(lambda: len(found := lines()) > 1 and found)
    assert [line.get("statement", "") for line in logged] == ["", "Touch"]


def test_a_failure_is_an_error(http: Http, id: str, lines: Lines) -> None:
    http.create(f"/wf/failing/{id}")
    line = until(lambda: next((line for line in lines() if line["kind"] == "failed"), None))
    assert line["severity"] == "ERROR"
    assert line["error"] == "ZeroDivisionError: the condition is wrong"


def test_a_bug_of_a_handler_is_logged_with_its_traceback(http: Http, id: str) -> None:
    http.create(f"/wf/desk/{id}")
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter())
    logger = logging.getLogger("gorchestrate")
    logger.addHandler(handler)
    http.problem("POST", f"/wf/desk/{id}/Crash")
    logger.removeHandler(handler)
    (line,) = [json.loads(line) for line in stream.getvalue().splitlines() if "Crash" in line]
    assert line["severity"] == "ERROR" and "RuntimeError: the handler is wrong" in line["exception"]


def test_what_is_no_unicode_does_not_cost_the_line() -> None:
    record = logging.LogRecord("gorchestrate", logging.INFO, __file__, 1, "file %s", ("\udcff",), None)
    text = JsonFormatter().format(record)
    text.encode()
    assert json.loads(text)["message"] == "file \udcff"


def test_unicode_is_readable() -> None:
    record = logging.LogRecord("gorchestrate", logging.INFO, __file__, 1, "%s", ("Bestellung ☕\nzweite Zeile",), None)
    text = JsonFormatter().format(record)
    assert "\n" not in text and "☕" in text
    assert json.loads(text)["message"] == "Bestellung ☕\nzweite Zeile"


def test_json_is_one_line_for_every_reader_and_terminal() -> None:
    message = "a\n\x7f\x85\u2028\u202e\x9b2J"
    record = logging.makeLogRecord({"msg": message, "levelname": "INFO"})
    line = JsonFormatter().format(record)
    assert line.isprintable() and json.loads(line)["message"] == message


def test_in_a_terminal_it_is_text() -> None:
    def text(message: str, level: int = logging.INFO, **more: Any) -> str:
        record = logging.makeLogRecord(
            {"msg": message, "levelno": level, "levelname": logging.getLevelName(level)} | more
        )
        return TextFormatter().format(record)[len("00:00:00 ") :]

    failed = {
        "kind": "step failed",
        "workflow": "pizza",
        "id": "1",
        "error": "OSError: no",
        "exception": "Trace:\n  1\n",
    }
    assert text("step failed pizza/1 bake", logging.WARNING, fields=failed) == (
        "WARNING step failed pizza/1 bake - OSError: no\n  Trace:\n    1"
    )
    with about("pizza", "1"):
        assert text("hello ") == "hello (pizza/1)", "what a workflow's code logs"
    assert text("\x1b[2J\udce9") == "\\u001b[2J\\udce9", "nothing that would command the terminal"
    forged = "no\n12:00:00 CRITICAL all is lost\r\x85\u2028\x9b2J"
    told = text("failed %s", args=(forged,), exc_info=None)
    assert told == "failed no\\n12:00:00 CRITICAL all is lost\\r\\u0085\\u2028\\u009b2J"
    try:
        raise ValueError(forged)
    except ValueError:
        first, *others = text("bug", exc_info=sys.exc_info(), fields={"error": forged}).split("\n")
    assert first.startswith("bug - no\\n12:00") and all(line.startswith("  ") for line in others)
    try:
        raise ValueError("why")
    except ValueError:
        assert "ValueError: why" in text("bug", logging.ERROR, exc_info=sys.exc_info())
