"""Instances that an earlier release has stored are read, shown and stored as they were, and go on to their end."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.core.stored_happenings import play, standing
from tests.core.stored_scenarios import FOLDER, SCENARIOS
from tests.core.stored_workflows import WORKFLOWS
from workflow_core import Execution

DOCUMENTS: dict[str, dict[str, Any]] = {
    file.stem: json.loads(file.read_text()) for file in sorted(FOLDER.glob("*.json"))
}


def test_there_is_a_document_of_each_scenario() -> None:
    assert set(DOCUMENTS) == set(SCENARIOS)


def test_there_are_documents_of_everything_that_is_stored() -> None:
    shown = [document["shown"] for document in DOCUMENTS.values()]
    threads = [thread for execution in shown for thread in execution["threads"]]
    waits = [wait for thread in threads for wait in thread["waits"]]
    teardowns = [teardown for execution in shown for teardown in execution["teardowns"]]
    assert {execution["status"] for execution in shown} >= {"running", "waiting", "paused", "failed", "canceled"}
    assert {thread["status"] for thread in threads} == {"resuming", "executing", "setting_up", "waiting"}
    assert {(wait["kind"], wait["status"]) for wait in waits} == {
        ("event", "set_up"),
        *(("handler", status) for status in ("pending_setup", "set_up", "setup_error")),
        ("timeout", "set_up"),
        ("activity", "set_up"),
        *(("child", status) for status in ("pending_setup", "set_up", "setup_error")),
        ("condition", "set_up"),
    }
    assert {(teardown["kind"], teardown["status"]) for teardown in teardowns} == {
        (kind, status) for kind in ("handler", "child") for status in ("pending_teardown", "teardown_error")
    }
    for attributes in (*threads, *waits, *teardowns):
        assert attributes
    optional = {"deadline", "setup_data", "retry_at", "error", "input", "buffered", "known_as", "attempt"}
    assert all(any(wait[name] for wait in waits) for name in optional)
    assert all(any(thread[name] for thread in threads) for name in ("positions", "errors", "pending", "leaving"))
    assert {execution["parent"] and execution["parent"]["told"] for execution in shown} == {None, False, True}
    assert any(execution["buffer"] for execution in shown)
    assert sum('{"folded"' in document["execution"] for document in DOCUMENTS.values()) >= 10


@pytest.mark.parametrize("name", DOCUMENTS)
def test_it_is_read_shown_and_stored_as_it_was(name: str) -> None:
    document = DOCUMENTS[name]
    execution = Execution.from_json(document["execution"])
    assert standing(execution) == document["stands"]
    assert execution.to_dict() == document["shown"]
    assert list(_keys(execution.to_dict())) == list(_keys(document["shown"])), "in the order in which they were shown"
    assert execution.to_json() == document["execution"], (
        "an instance of the release before reads it in a rolling deploy"
    )


@pytest.mark.parametrize("name", DOCUMENTS)
def test_it_goes_on_to_its_end(name: str) -> None:
    document = DOCUMENTS[name]
    cls = WORKFLOWS[document["workflow"]]
    order, execution = cls.load_fields(document["fields"]), Execution.from_json(document["execution"])
    execution = play(order, execution, document["then"])
    assert standing(execution) == document["ends"]
    assert order.log == document["log"]


def _keys(data: Any) -> Any:
    """All keys of JSON data, in their order."""
    if isinstance(data, dict):
        for key, value in data.items():
            yield key
            yield from _keys(value)
    elif isinstance(data, list):
        for value in data:
            yield from _keys(value)
