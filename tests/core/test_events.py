"""Delivering events: what is accepted, what is refused, and that a refused event leaves everything as it was."""

from __future__ import annotations

from typing import Any

import pytest

from tests.core.helpers import Logged, accepted, do, log, saved, start, unchanged
from workflow_core import (
    EventNotAccepted,
    EventRejected,
    Execution,
    Go,
    InvalidInput,
    On,
    S,
    Select,
    UnknownStatement,
    WaitFor,
    While,
    handle_event,
    resume,
)


class Shop(Logged):
    def add(self, amount: int) -> int:
        self.n += amount
        return self.n

    def refuse(self) -> None:
        raise EventRejected("not today")

    def crash(self) -> None:
        raise RuntimeError("a bug")

    definition = S(
        Go("side", Select("side waits", On("Side", log("side")))),
        While(
            "open",
            lambda w: w.n < 10,
            Select("order", On("Add", add), On("Close", log("close")), On("No", refuse), On("Crash", crash)),
        ),
        WaitFor("flag", lambda w: w.flag),
    )


def test_the_output_of_the_handler_is_given_back_and_the_thread_moves_on() -> None:
    order, execution = start(Shop)
    assert handle_event(order, execution, "Add", 3) == 3
    assert handle_event(order, execution, "Add", 7) == 10
    assert execution.threads[0].step == "flag"
    assert accepted(order, execution) == ["Side"]


def test_what_is_accepted_is_listed_in_the_order_of_threads_and_cases() -> None:
    order, execution = start(Shop)
    assert accepted(order, execution) == ["Add", "Close", "No", "Crash", "Side"]


REFUSED: list[tuple[str, str, dict[str, Any], str]] = [
    ("unknown event", "Nope", {}, "event 'Nope' is not accepted now"),
    ("a statement's name", "order", {}, "event 'order' is not accepted now"),
    ("another thread", "Add", {"thread_id": "side"}, "in thread 'side'"),
    ("unknown thread", "Add", {"thread_id": "nobody"}, "in thread 'nobody'"),
    ("another wait", "Add", {"wait_id": "side@2"}, "under wait id 'side@2'"),
    ("stale wait", "Add", {"wait_id": "main@1"}, "under wait id 'main@1'"),
    ("stale pc", "Add", {"pc": 1}, "for pc 1"),
    ("a pc to come", "Add", {"pc": 99}, "for pc 99"),
    ("right thread, wrong pc", "Side", {"thread_id": "side", "pc": 99}, "in thread 'side' for pc 99"),
]


@pytest.mark.parametrize(("event", "address", "detail"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
def test_an_event_that_is_not_accepted_changes_nothing(event: str, address: dict[str, Any], detail: str) -> None:
    order, execution = start(Shop)
    handle_event(order, execution, "Add", 1)  # the wait of before is stale now
    with unchanged(order, execution), pytest.raises(EventNotAccepted) as caught:
        handle_event(order, execution, event, 1, **address)
    error = caught.value
    assert error.event == event
    assert error.accepted == ("Add", "Close", "No", "Crash", "Side")
    assert error.status == "waiting"
    assert detail in str(error)
    assert str(error).endswith("the instance is waiting, it accepts: 'Add', 'Close', 'No', 'Crash', 'Side'")


def test_an_event_before_the_first_resume_is_not_accepted() -> None:
    order, execution = Shop(), Execution.start("id-1", Shop)
    with unchanged(order, execution), pytest.raises(EventNotAccepted, match="it accepts: none"):
        handle_event(order, execution, "Add", 1)


def test_an_event_of_a_finished_workflow_is_not_accepted() -> None:
    order, execution = start(Shop, n=10, flag=True)
    assert execution.status == "finished"
    with unchanged(order, execution), pytest.raises(EventNotAccepted) as caught:
        handle_event(order, execution, "Side")
    assert (caught.value.accepted, caught.value.status) == ((), "finished")
    assert str(caught.value).endswith("the instance is finished, it accepts: none")


def test_an_event_while_the_thread_stands_on_a_step_is_not_accepted() -> None:
    class Flow(Logged):
        definition = S(Select("s", On("E", log("e"))), do("step"), Select("t", On("E", log("e"))))

    order, execution = start(Flow)
    handle_event(order, execution, "E")
    with unchanged(order, execution), pytest.raises(EventNotAccepted) as caught:
        handle_event(order, execution, "E")
    assert caught.value.status == "running"
    resume(order, execution)
    handle_event(order, execution, "E")
    assert order.log == ["e", "step", "e"]


INVALID: list[tuple[str, Any, str, str]] = [
    ("Add", "many", "", "int_parsing"),
    ("Add", None, "", "int_type"),
    ("Add", {"amount": 1}, "", "int_type"),
    ("Add", 1.5, "", "int_from_float"),
    ("Close", 1, "", "no_input"),
    ("Close", {}, "", "no_input"),
]


@pytest.mark.parametrize(("event", "input", "field", "type"), INVALID)
def test_an_invalid_input_changes_nothing(event: str, input: Any, field: str, type: str) -> None:
    order, execution = start(Shop)
    with unchanged(order, execution), pytest.raises(InvalidInput) as caught:
        handle_event(order, execution, event, input)
    assert [(e["field"], e["type"]) for e in caught.value.errors] == [(field, type)]
    assert str(caught.value).startswith(f"invalid input for event '{event}': input: ")


@pytest.mark.parametrize(("event", "error"), [("No", EventRejected), ("Crash", RuntimeError)])
def test_an_event_whose_handler_raises_is_still_accepted_afterwards(event: str, error: type[Exception]) -> None:
    order, execution = start(Shop)
    with unchanged(order, execution), pytest.raises(error):
        handle_event(order, execution, event)
    assert handle_event(order, execution, "Add", 2) == 2


def test_right_addresses_are_accepted() -> None:
    order, execution = start(Shop)
    thread = execution.threads[0]
    handle_event(order, execution, "Add", 1, thread_id="main", wait_id=thread.waits[0].id, pc=thread.pc)
    assert order.n == 1


def test_a_second_visit_of_the_same_select_has_another_wait_id() -> None:
    order, execution = start(Shop)
    first = execution.threads[0].waits[0].id
    handle_event(order, execution, "Add", 1)
    second = execution.threads[0].waits[0].id
    assert first != second
    with unchanged(order, execution), pytest.raises(EventNotAccepted):
        handle_event(order, execution, "Add", 1, wait_id=first)
    handle_event(order, execution, "Add", 1, wait_id=second)
    assert order.n == 2


def test_exactly_one_case_of_a_select_happens() -> None:
    class Flow(Logged):
        definition = S(Select("s", On("A", log("a"), do("behind a")), On("B", log("b"), do("behind b"))), do("end"))

    order, execution = start(Flow)
    handle_event(order, execution, "B")
    with unchanged(order, execution), pytest.raises(EventNotAccepted):
        handle_event(order, execution, "A")
    resume(order, execution)
    assert order.log == ["b", "behind b", "end"]


def test_an_event_runs_control_flow_but_no_step() -> None:
    class Flow(Logged):
        definition = S(Select("s", On("E", log("e"))), WaitFor("w", lambda w: True, log("passed")), do("step"))

    order, execution = start(Flow)
    handle_event(order, execution, "E")
    assert order.log == ["e", "passed"]
    assert (execution.threads[0].step, execution.status) == ("step", "running")


def test_fields_and_execution_must_belong_together() -> None:
    class Other(Logged):
        definition = S(do("a"))

    order, execution = start(Shop)
    before = saved(order, execution)
    with pytest.raises(UnknownStatement, match="belongs to workflow 'Shop', but the fields belong to 'Other'"):
        handle_event(Other(), execution, "Add", 1)
    with pytest.raises(UnknownStatement):
        resume(Other(), execution)
    assert saved(order, execution) == before
