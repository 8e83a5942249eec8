"""Responses with status 500: what the workflow's own code wrote is for the log and for operators only."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from cloud_adapter.errors import UserCodeError
from cloud_adapter.http import problems
from tests.http.helpers import Http, deployed, expected
from tests.http.pages import form
from tests.http.workflows import Desk
from workflow_core import EventRejected, WorkflowError
from workflow_core.errors import ExecutionError, InvalidFields, InvalidOutput

SECRET = "password hunter2"
CRASHED = "A handler or a condition of the workflow raised an error. See the log of the server."
LIED = "A handler or an activity returned a value that does not match its return annotation. See the log of the server."


@pytest.fixture
def http(tmp_path: Path) -> Iterator[Http]:
    with deployed(tmp_path / "api.db", Desk, ui=True) as http:
        http.create("/wf/desk/a")
        yield http


@pytest.mark.parametrize(
    ("event", "title", "detail", "logged"),
    [
        ("Crash", "User code error", CRASHED, "RuntimeError: the handler is wrong"),
        ("Spoil", "User code error", CRASHED, "ZeroDivisionError: the condition is wrong"),
        ("Lie", "Invalid output", LIED, "Lie"),
    ],
)
def test_a_caller_learns_what_kind_of_error_it_is(
    http: Http, caplog: pytest.LogCaptureFixture, event: str, title: str, detail: str, logged: str
) -> None:
    before = http.get("/wf/desk/a")
    with caplog.at_level(logging.ERROR, "gorchestrate.http"):
        assert http.problem("POST", f"/wf/desk/a/{event}") == expected(500, title, detail)
    (record,) = [record for record in caplog.records if record.name == "gorchestrate.http"]
    assert logged in record.getMessage() and record.exc_info is not None
    assert http.get("/wf/desk/a") == before


def test_a_viewer_of_the_pages_learns_no_more(http: Http, caplog: pytest.LogCaptureFixture) -> None:
    url = "/ui/desk/instances/a"
    data = form(http.request("GET", url).text, "Send Crash").posted()
    response = http.request("POST", url, data=data)
    assert response.status_code == 500
    assert CRASHED in response.text and "the handler is wrong" not in response.text
    assert "the handler is wrong" in caplog.text


def test_operators_read_it_in_the_response(tmp_path: Path) -> None:
    with deployed(tmp_path / "api.db", Desk, repair=True) as http:
        http.create("/wf/desk/a")
        detail = "the handler of event 'Crash' raised RuntimeError: the handler is wrong"
        assert http.problem("POST", "/wf/desk/a/Crash") == expected(500, "User code error", detail)


def _all(cls: type[WorkflowError]) -> Iterator[type[WorkflowError]]:
    for kind in cls.__subclasses__():
        yield kind
        yield from _all(kind)


def test_no_error_with_status_500_shows_its_text() -> None:
    kinds = {kind for kind in _all(WorkflowError) if problems.status_of(kind) == 500}
    assert {UserCodeError, InvalidFields, InvalidOutput, ExecutionError} < kinds
    for kind in kinds:
        error = kind.__new__(kind)  # a constructor may take something else
        error.args = (SECRET,)
        assert SECRET in str(error)
        document = problems.of_error(error)
        assert SECRET not in str(document) and document["detail"].endswith(". See the log of the server."), kind
        assert SECRET in problems.of_error(error, internals=True)["detail"]


def test_what_a_handler_tells_its_caller_arrives() -> None:
    assert problems.of_error(EventRejected(SECRET))["detail"] == SECRET
