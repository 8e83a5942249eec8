"""What is saved: an execution as JSON, and the fields of a workflow."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any
from uuid import UUID

import pytest
from pydantic import BaseModel, ConfigDict, Field

from tests.core.helpers import NOON, Logged, do, log, start
from tests.waits import timed
from workflow_core import (
    ErrorInfo,
    Execution,
    InvalidFields,
    InvalidInput,
    On,
    S,
    Select,
    Status,
    Thread,
    ThreadStatus,
    Timeout,
    WaitStatus,
    Workflow,
)
from workflow_core.wait_types import ConditionWait, EventWait, HandlerTeardown, HandlerWait, TimerWait

FULL = Execution(
    id="id-1",
    workflow="flow",
    status=Status.FAILED,
    pc=7,
    threads=[
        Thread("main", "main"),
        Thread(
            id="worker@2",
            name="p/worker",
            status=ThreadStatus.SETTING_UP,
            step="p/wait",
            pc=6,
            waits=[
                EventWait("E", WaitStatus.SET_UP, "worker@2@6"),
                TimerWait("late", WaitStatus.SET_UP, "worker@2@6", deadline=NOON, task="task-1"),
                HandlerWait(
                    event="H",
                    status=WaitStatus.SETUP_ERROR,
                    id="worker@2@6",
                    setup_data={"a": [1, 2.5, None, "ü", {"b": True}]},
                    attempt=2,
                    retry_at=NOON + timedelta(microseconds=1),
                    error="OSError: down",
                ),
                ConditionWait("until", WaitStatus.SET_UP, "worker@2@6"),
            ],
            attempt=3,
            retry_at=NOON,
            error=ErrorInfo("OSError", "down", "p/step"),
        ),
    ],
    teardowns=[
        HandlerTeardown("p/wait", "H", "worker@2@3", handled=False),
        HandlerTeardown("p/wait", "H", "worker@2@4", True, 0, WaitStatus.TEARDOWN_ERROR, 1, NOON, "OSError: down"),
    ],
    definition_version="0123456789ab",
    error=ErrorInfo("ValueError", "no"),
    created_at=NOON,
    updated_at=NOON + timedelta(days=1),
)


# --- the execution ---------------------------------------------------------------------------


def test_an_execution_survives_json_with_every_attribute() -> None:
    loaded = Execution.from_json(FULL.to_json())
    assert loaded == FULL
    assert loaded.to_json() == FULL.to_json()
    assert isinstance(loaded.threads[1].waits[2].status, WaitStatus)
    assert Execution.from_json(FULL.to_json().encode()) == FULL


def test_the_full_dict_reads_back_too() -> None:
    data = FULL.to_dict()
    assert data["threads"][0] == {
        "id": "main",
        "name": "main",
        "status": "resuming",
        "step": "",
        "pc": 0,
        "waits": [],
        "attempt": 0,
        "retry_at": None,
        "error": None,
        "parent": "",
        "positions": {},
        "errors": {},
        "pending": {},
        "leaving": None,
    }
    assert Execution.from_json(json.dumps(data)) == FULL


def test_a_new_execution_stands_before_its_first_statement() -> None:
    class Flow(Logged, name="flow"):
        definition = S(do("a"))

    execution = Execution.start("id-9", Flow, now=NOON)
    assert (execution.id, execution.workflow, execution.status, execution.pc) == ("id-9", "flow", "running", 0)
    assert execution.threads == [Thread("main", "main")]
    assert execution.definition_version == Flow.__program__.version
    assert execution.created_at == execution.updated_at == NOON
    assert not execution.ended
    assert Execution.from_json(execution.to_json()) == execution


def test_a_parked_instance_survives_json() -> None:
    class Flow(Logged):
        definition = S(Select("s", On("E", log("e")), Timeout("late", timedelta(hours=1))))

    _, execution = start(Flow, now=NOON)
    assert Execution.from_json(execution.to_json()) == execution
    assert timed(execution.threads[0].waits).deadline == NOON + timedelta(hours=1)


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"id": "a"}', '{"id": "a", "workflow": "b", "status": "odd"}'])
def test_what_is_no_execution_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="validation error"):
        Execution.from_json(text)


@pytest.mark.parametrize(("status", "ended"), [(s, s in ("finished", "failed", "canceled")) for s in Status])
def test_which_statuses_are_ends(status: Status, ended: bool) -> None:
    assert Execution("id", "flow", status).ended is ended


def test_a_thread_is_found_by_its_id() -> None:
    found = FULL.thread("worker@2")
    assert found is FULL.threads[1]
    assert FULL.thread("worker") is None


# --- the fields ------------------------------------------------------------------------------


class Size(Enum):
    SMALL = "s"


class Line(BaseModel):
    name: str
    qty: Annotated[int, Field(ge=1)] = 1


class Order(Workflow):
    lines: list[Line] = []
    note: str | None = None
    size: Size = Size.SMALL
    price: Decimal = Decimal("0.10")
    day: date = date(2025, 1, 1)
    at: datetime = datetime(2025, 1, 1, tzinfo=UTC)
    lasts: timedelta = timedelta(days=1, microseconds=1)
    key: UUID = UUID(int=1)
    tags: set[str] = set()
    pairs: dict[str, tuple[int, float]] = {}
    aliased: Annotated[int, Field(alias="theAlias")] = 0
    anything: Any = None

    definition = S(do("a"))


def test_fields_survive_a_save() -> None:
    order = Order(lines=[Line(name="ü", qty=2)], tags={"x"}, pairs={"a": (1, 0.1)}, theAlias=3, anything=[1, {"b": 2}])
    loaded = Order.load_fields(order.dump_fields())
    assert loaded == order
    assert loaded.aliased == 3
    assert loaded.dump_fields() == order.dump_fields()


def test_instances_do_not_share_their_defaults() -> None:
    one, other = Order(), Order()
    one.lines.append(Line(name="a"))
    assert other.lines == []


@pytest.mark.parametrize("text", ["", "  \n", "{}", b""])
def test_new_without_fields_takes_the_defaults(text: str) -> None:
    assert Order.new(text) == Order()


def test_new_reads_json_by_name_or_alias() -> None:
    order = Order.new(b'{"lines": [{"name": "a"}], "theAlias": 1, "size": "s"}')
    assert (order.lines, order.aliased) == ([Line(name="a")], 1)
    assert Order.new('{"aliased": 2}').aliased == 2


NOT_NEW: list[tuple[str, list[str], str]] = [
    ('{"nope": 1}', ["nope"], "nope: Extra inputs are not permitted"),
    ('{"lines": [{"name": "a", "qty": 0}]}', ["lines.0.qty"], "lines.0.qty: Input should be greater than"),
    ('{"size": "xl", "day": "never"}', ["size", "day"], "size: Input should be 's'; day: "),
    ("[]", [""], "input: Input should be an object"),
    ("{", [""], "input: Invalid JSON"),
    ('"text"', [""], "input: Input should be an object"),
]


@pytest.mark.parametrize(("text", "fields", "message"), NOT_NEW)
def test_new_refuses_what_does_not_fit(text: str, fields: list[str], message: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        Order.new(text)
    assert [error["field"] for error in caught.value.errors] == fields
    assert str(caught.value).startswith(f"invalid input for the initial fields of workflow 'Order': {message}")


def test_new_refuses_a_missing_field() -> None:
    class Needy(Workflow):
        customer: str
        definition = S(do("a"))

    with pytest.raises(InvalidInput) as caught:
        Needy.new()
    assert caught.value.errors == [{"field": "customer", "message": "Field required", "type": "missing"}]
    assert Needy.new('{"customer": "c"}').customer == "c"


@pytest.mark.parametrize(
    ("field", "value"),
    [("note", 5), ("lines", [{"name": "a"}]), ("lines", "text"), ("day", "2025-01-01"), ("anything", object())],
)
def test_a_field_of_a_wrong_type_is_not_saved(field: str, value: Any) -> None:
    order = Order()
    setattr(order, field, value)
    with pytest.raises(InvalidFields, match="the fields of Order cannot be saved: "):
        order.dump_fields()


def test_a_field_that_breaks_a_constraint_is_not_loaded() -> None:
    order = Order(lines=[Line(name="a")])
    order.lines[0].qty = 0  # of the right type, so that saving cannot tell
    with pytest.raises(InvalidFields, match=r"fields of Order do not fit their types: lines\.0\.qty: Input should be"):
        Order.load_fields(order.dump_fields())


def test_a_field_that_the_code_no_longer_has_is_dropped_and_a_new_one_takes_its_default() -> None:
    assert Order.load_fields('{"of_an_older_version": 1, "note": "n"}') == Order(note="n")


@pytest.mark.parametrize("text", ["", "[]", '{"lines": 1}'])
def test_what_are_no_fields_is_not_loaded(text: str) -> None:
    with pytest.raises(InvalidFields, match="the fields of Order do not fit their types: "):
        Order.load_fields(text)


def test_a_validator_that_is_wrong_is_told_like_fields_that_do_not_fit() -> None:
    """Pydantic lets through whatever is no ``ValueError``."""

    class Priced(Workflow):
        currency: str = "EUR"

        def model_post_init(self, context: Any) -> None:
            {"EUR": 1}[self.currency]

        definition = S(do("work"))

    with pytest.raises(InvalidFields, match="the fields of Priced cannot be validated: KeyError: 'CHF'"):
        Priced.load_fields('{"currency": "CHF"}')
    with pytest.raises(InvalidFields, match="the initial fields of workflow 'Priced' cannot be validated: KeyError"):
        Priced.new('{"currency": "CHF"}')


def test_a_workflow_may_configure_its_model() -> None:
    class Strict(Workflow):
        model_config = ConfigDict(validate_assignment=True)
        n: int = 0
        definition = S(do("a"))

    with pytest.raises(ValueError, match="valid integer"):
        Strict().n = "x"  # type: ignore[assignment]
    assert Strict.__program__.rests.keys() == {"a"}
