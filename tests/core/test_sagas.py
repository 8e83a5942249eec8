"""The saga in docs/guides/sagas.md: its blocks are run, and what it promises is looked at from the outside."""

from __future__ import annotations

import re
import sys
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.core.helpers import cancel, reload
from workflow_core import Execution, Workflow, resume
from workflow_core.machine.machine import Machine

TEXT = (Path(__file__).parents[2] / "docs" / "guides" / "sagas.md").read_text()
DEFINITION, *RUNS = re.findall(r"^```python\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)


@pytest.fixture
def saga(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module that the document's definition makes."""
    module = ModuleType("saga")
    monkeypatch.setitem(sys.modules, "saga", module)
    exec(compile(DEFINITION, "docs/guides/sagas.md", "exec"), module.__dict__)
    return module


def keys(agency: Any) -> list[str]:
    """Notes the keys under which the agency is asked to undo."""
    seen: list[str] = []
    undo = agency.undo

    def noting(key: str) -> None:
        seen.append(key)
        undo(key)

    agency.undo = noting
    return seen


def finish(trip: Workflow, execution: Execution) -> tuple[Any, Execution, int]:
    """Runs the trip to its end, in a new process after each failure; gives how many there were."""
    failures = 0
    while not execution.ended:
        with suppress(ConnectionError):
            resume(trip, execution)
            break
        failures += 1
        trip, execution = reload(trip, execution)
    return trip, execution, failures


def test_what_the_document_runs_and_asserts(saga: ModuleType) -> None:
    assert len(RUNS) == 2
    for block in RUNS:
        exec(compile(block, "docs/guides/sagas.md", "exec"), saga.__dict__)


def test_what_was_booked_is_undone_in_reverse_order_and_each_undo_is_tried_again(saga: ModuleType) -> None:
    agency = saga.agency
    undone = keys(agency)
    trip, execution = saga.Trip(), Execution.start("trip-1", saga.Trip)
    agency.outages = 3
    trip, execution, failures = finish(trip, execution)
    assert failures == 3
    assert agency.log == ["book flight", "book hotel", "undo hotel", "undo flight"]
    flight, hotel = (booking.key for booking in trip.booked)
    assert undone == [hotel] * 4 + [flight]
    assert (trip.status, trip.why) == ("undone", "there is no car left")
    assert (execution.status, execution.error, agency.bookings) == ("finished", None, {})


def test_the_same_from_every_checkpoint(saga: ModuleType) -> None:
    agency = saga.agency
    trip, execution = saga.Trip(), Execution.start("trip-1", saga.Trip)
    states: list[tuple[Any, dict[str, str]]] = []
    resume(trip, execution, lambda kind: states.append((reload(trip, execution), dict(agency.bookings))))
    assert len(states) == 6
    for state, bookings in states:
        agency.bookings, agency.log = dict(bookings), []
        again, ended, _ = finish(*state)
        assert (again, ended.to_json()) == (trip, execution.to_json())
        assert agency.bookings == {}
        assert [line for line in agency.log if line.startswith("undo")] == [
            f"undo {what}" for what in ("hotel", "flight") if f"undo {what}" in agency.log
        ]


def test_what_was_booked_and_not_committed_is_booked_under_the_same_key_and_undone_once(saga: ModuleType) -> None:
    agency = saga.agency

    class Crash(Exception):
        pass

    trip, execution = saga.Trip(), Execution.start("trip-1", saga.Trip)
    committed = reload(trip, execution)

    def crash(kind: str) -> None:
        nonlocal committed
        if len(agency.log) == 2:
            raise Crash  # the hotel is booked, and nobody knows
        committed = reload(trip, execution)

    with pytest.raises(Crash):
        resume(trip, execution, crash)
    assert len(committed[0].booked) == 1
    finish(*committed)
    assert agency.log == ["book flight", "book hotel", "undo hotel", "undo flight"]


def test_an_undo_is_tried_for_ever_and_a_cancellation_ends_it(saga: ModuleType) -> None:
    trip, execution = saga.Trip(), Execution.start("trip-1", saga.Trip)
    saga.agency.outages = 100
    for _ in range(20):
        with pytest.raises(ConnectionError):
            resume(trip, execution)
    machine = Machine(trip, execution)
    work = machine.next_work()
    assert work is not None
    policy = machine.policy(work)
    assert policy is not None
    assert policy.delay(work.attempt + 10_000, ConnectionError()) == policy.max_delay
    cancel(trip, execution)
    assert (execution.status, len(saga.agency.bookings)) == ("canceled", 2)
