"""One instance that the library and the naive executor run side by side."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.core.generate import ERRORS, EVENTS, Fields, Op
from tests.core.helpers import unchanged
from tests.core.reference import DuplicateId, Reference, takes_input
from tests.waits import the
from workflow_core import DuplicateThread, EventNotAccepted, Execution, WaitKind, Workflow, handle_event, resume
from workflow_core.error_texts import error_info
from workflow_core.machine.events import Accepted
from workflow_core.machine.machine import Machine
from workflow_core.wait_types import HandlerTeardown

DUPLICATE = "a thread of that id still lives"


def accepted(order: Fields, execution: Execution) -> list[Accepted]:
    """What can be delivered, but for results of activities, which the library runs by itself."""
    return [one for one in Machine(order, execution).accepted() if one.case.kind is not WaitKind.ACTIVITY]


def resume_or_fail(order: Fields, execution: Execution, checkpoint: Any = None) -> None:
    """Resumes; a step that fails, and that nobody catches, fails the instance."""
    while True:
        try:
            resume(order, execution, checkpoint)
            return
        except ERRORS as error:
            fail(order, execution, error)


def fail(order: Workflow, execution: Execution, error: Exception) -> None:
    machine = Machine(order, execution, alone=True)
    work = machine.next_work()
    assert work is not None
    execution.pc -= 1  # the failed attempt and the end are one here
    machine.give_up(work, error)


class Pair:
    """One instance, run by both; after every call all that can be seen of the two must be the same."""

    def __init__(self, flow: type[Fields]) -> None:
        self.flow = flow
        self.order, self.execution = flow(), Execution.start("id-1", flow)
        self.mirror = Reference(flow(), "id-1")
        self.broken = False

    def both(self, ours: Callable[[], Any], theirs: Callable[[], Any]) -> None:
        expected = self.outcome(theirs)
        assert self.outcome(ours) == expected
        self.broken = expected[0] == DUPLICATE
        if not self.broken:
            self.compare()

    def outcome(self, call: Callable[[], Any]) -> tuple[Any, list[str]]:
        self.flow.trace.clear()
        try:
            output = call()
        except (DuplicateThread, DuplicateId):
            output = DUPLICATE
        return output, list(self.flow.trace)

    def compare(self) -> None:
        execution, mirror = self.execution, self.mirror
        assert self.order.dump_fields() == mirror.workflow.dump_fields()
        assert execution.pc == mirror.pc
        assert (execution.status == "finished") is mirror.finished
        assert (execution.status == "canceled") is mirror.canceled
        assert execution.canceling is (mirror.canceling and not mirror.canceled)
        assert (execution.status == "failed") is (mirror.error is not None)
        if not execution.ended:
            assert execution.status == ("running" if any(map(mirror.can_move, mirror.threads)) else "waiting")
        if execution.error is not None and mirror.error is not None:
            assert (execution.error.statement, execution.error.text) == (
                mirror.error.statement,
                error_info(mirror.error.error, "").text,
            )
        assert [(thread.id, thread.step, thread.pc) for thread in execution.threads] == [
            (thread.id, thread.at.name if thread.at else "", thread.pc) for thread in mirror.threads
        ]
        assert [(one.thread.id, one.case.event, one.wait_id) for one in accepted(self.order, execution)] == [
            (thread.id, name, thread.wait_id) for thread, _, name in mirror.accepted()
        ]
        assert [(one.event, json.loads(one.input)) for one in execution.buffer] == mirror.buffer
        assert [(t.event, t.id, t.handled, the(HandlerTeardown, [t]).setup_data) for t in execution.teardowns] == [
            (request.event, request.wait_id, handled, request.setup_data) for _, request, handled in mirror.teardowns
        ]

    def go_on(self) -> None:
        """Runs ours until it is blocked."""
        resume_or_fail(self.order, self.execution)

    def deliver(self, name: str, input: Any = None, **address: Any) -> Any:
        """Sends an event to ours."""
        return handle_event(self.order, self.execution, name, input, **address)

    def resume(self) -> None:
        self.both(self.go_on, self.mirror.resume)
        if not self.broken:
            ended = "finished" if self.mirror.finished else "failed" if self.mirror.error else "waiting"
            assert self.execution.status == ("canceled" if self.mirror.canceled else ended)

    def cancel(self) -> None:
        if self.execution.ended or self.execution.canceling:
            return
        self.both(lambda: Machine(self.order, self.execution).cancel(), self.mirror.cancel)

    def keep(self, name: str, amount: int) -> None:
        self.both(lambda: self.deliver(name, amount), lambda: self.mirror.keep(name, amount))

    def send(self, op: Op) -> None:
        how, pick, amount = op
        offers = self.mirror.accepted()
        if how in ("any", "early"):
            names = sorted(self.mirror.buffered) if how == "early" and self.mirror.buffered else EVENTS
            name = names[pick % len(names)]
            offers = [offer for offer in offers if offer[2] == name]
            if not offers and self.mirror.keeps(name):
                self.keep(name, amount)
            elif not offers:
                with unchanged(self.order, self.execution), pytest.raises(EventNotAccepted):
                    self.deliver(name)
        if not offers:
            return
        thread, case, name = offers[pick % len(offers)]
        address: dict[str, Any] = {}
        if how == "by thread":
            address["thread_id"] = thread.id
        elif how == "by wait id":
            address["wait_id"] = thread.wait_id
        else:
            thread, case, name = next(offer for offer in offers if offer[2] == name)
        input = amount if takes_input(case) else None
        if not address and self.mirror.comes_later(case):
            self.keep(name, amount)
            return
        self.both(
            lambda: self.deliver(name, input, **address),
            lambda: self.mirror.handle(thread, case, name, input),
        )
