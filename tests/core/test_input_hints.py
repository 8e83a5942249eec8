"""A client who sends an object of arguments instead of the input is told what to send."""

from __future__ import annotations

import json
from datetime import date
from typing import Any, Literal

import pytest
from pydantic import BaseModel

from workflow_core import Execution, InvalidInput, On, S, Select, Workflow, handle_event, resume
from workflow_core.program.cases import EventCase


class Money(BaseModel):
    amount: int


class Talk(Workflow, name="talk"):
    def say(self, comment: str) -> None: ...

    def rate(self, stars: int) -> None: ...

    def choose(self, side: Literal["left", "right"]) -> None: ...

    def plan(self, day: date) -> None: ...

    def list_all(self, names: list[str]) -> None: ...

    def pay(self, amount: Money) -> None: ...

    definition = S(
        Select(
            "talk",
            On("Say", say),
            On("Rate", rate),
            On("Choose", choose),
            On("Plan", plan),
            On("List", list_all),
            On("Pay", pay),
        )
    )


def messages(event: str, sent: Any) -> list[str]:
    """The errors of an event, which are the same for JSON and for data."""
    workflow, execution = Talk(), Execution.start("talk-1", Talk)
    resume(workflow, execution)
    with pytest.raises(InvalidInput) as of_data:
        handle_event(workflow, execution, event, sent)
    (case,) = [case for _, case in Talk.__program__.events[event]]
    assert isinstance(case, EventCase)
    with pytest.raises(InvalidInput) as of_json:
        case.signature.validate_json(event, json.dumps(sent).encode())
    found = [error["message"] for error in of_data.value.errors]
    assert [error["message"].partition(": send")[2] for error in of_json.value.errors] == [
        message.partition(": send")[2] for message in found
    ]
    assert [error["type"] for error in of_data.value.errors] == [error["type"] for error in of_json.value.errors]
    return found


@pytest.mark.parametrize(
    ("event", "sent", "hint"),
    [
        ("Say", {"comment": "old"}, "send the value itself, such as \"text\", not an object with the key 'comment'"),
        ("Rate", {"stars": 5}, "send the value itself, such as 7, not an object with the key 'stars'"),
        ("Choose", {"side": "right"}, "such as \"left\", not an object with the key 'side'"),
        ("Plan", {"day": "2026-01-01"}, "send the value itself, not an object with the key 'day'"),
        ("List", {"names": ["ann"]}, "send the value itself, not an object with the key 'names'"),
        ("Pay", {"amount": {"amount": 3}}, "send the value itself, not an object with the key 'amount'"),
    ],
)
def test_the_value_itself_is_wanted(event: str, sent: Any, hint: str) -> None:
    (message,) = messages(event, sent)
    assert message.endswith(hint)
    assert "old" not in message


@pytest.mark.parametrize(
    ("event", "sent"),
    [
        ("Say", {"text": "old"}),
        ("Say", {"comment": "old", "more": 1}),
        ("Say", {"comment": 5}),
        ("Say", ["comment"]),
        ("Rate", {"stars": "many"}),
        ("Pay", {"amount": "many"}),
    ],
)
def test_another_mistake_gets_no_hint(event: str, sent: Any) -> None:
    assert not [message for message in messages(event, sent) if "the value itself" in message]
