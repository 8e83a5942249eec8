"""Random definitions under random events: the interpreter against the naive executor, and against itself.

A failure prints the definition as data, and a blob that replays it.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import event, given, settings

from tests.core.generate import ERRORS, EVENTS, OPS, SPECS, Fields, Op, Spec, build
from tests.core.helpers import reload, saved, unchanged
from tests.core.pair import DUPLICATE, Pair, accepted, fail
from workflow_core import (
    DuplicateThread,
    EventNotAccepted,
    Execution,
    InvalidInput,
    aresume,
    handle_event,
    resume,
)
from workflow_core.machine import operations, threads
from workflow_core.machine.machine import Machine
from workflow_core.program.reachability import unreachable

random_flows = settings(max_examples=75, print_blob=True)

pytestmark = pytest.mark.usefixtures("quarters")

# --- the interpreter and the reference -------------------------------------------------------


@random_flows
@given(SPECS, OPS)
def test_the_interpreter_and_the_reference_agree(spec: list[Spec], ops: list[Op]) -> None:
    pair = Pair(build(spec))
    pair.compare()
    pair.resume()
    seen, stood = 0, set[str]()
    for op in ops:
        seen = max(seen, len(pair.execution.threads))
        stood |= {thread.step for thread in pair.execution.threads}
        if pair.broken:
            break
        if op[0] == "resume":
            pair.resume()
        elif op[0] == "cancel":
            pair.cancel()
        else:
            pair.send(op)
    if not pair.broken:
        pair.resume()
    assert stood.isdisjoint(unreachable(pair.flow.__program__))
    event("duplicate thread" if pair.broken else str(pair.execution.status))
    event(f"log of {len(pair.order.log) // 5 * 5} and more")
    event(f"threads: {seen}")


# --- the interpreter and itself --------------------------------------------------------------


class Crash(Exception):
    """The process dies right behind a checkpoint."""


class Run:
    """One instance and all states that were saved of it."""

    names_threads = False
    """Whether each event names the thread that receives it. Without, ``workflow_core.machine.alone`` handles it."""

    def __init__(self, flow: type[Fields]) -> None:
        flow.trace.clear()
        self.order, self.execution = flow(), Execution.start("id-1", flow)
        self.states: list[tuple[str, tuple[str, str]]] = []

    def drive(self, ops: list[Op]) -> list[tuple[str, tuple[str, str]]]:
        """Sends the events; gives what was saved: at each checkpoint and after each event."""
        try:
            self.resume()
            for op in ops:
                self.perform(op)
            self.resume()
        except DuplicateThread:
            self.states.append((DUPLICATE, ("", "")))
        return self.states

    def save(self, kind: str) -> None:
        self.states.append((kind, saved(self.order, self.execution)))

    def perform(self, op: Op) -> None:
        if op[0] == "resume":
            self.resume()
        elif op[0] != "cancel":
            self.send(op)
        elif not (self.execution.ended or self.execution.canceling):
            Machine(self.order, self.execution).cancel()
            self.save("cancel")

    def resume(self) -> None:
        while True:
            try:
                self.go_on()
                return
            except ERRORS as error:
                fail(self.order, self.execution, error)
                self.save("failed")

    def go_on(self) -> None:
        resume(self.order, self.execution, self.save)

    def send(self, op: Op) -> None:
        offers = accepted(self.order, self.execution)
        names = [name for name in EVENTS if Machine(self.order, self.execution).buffers(name)]
        if op[0] == "early" and names:
            with suppress(InvalidInput):  # another wait for it may take no input
                handle_event(self.order, self.execution, names[op[1] % len(names)], op[2])
                self.save("event")
        elif offers:
            one = offers[op[1] % len(offers)]
            takes = one.case.signature is not None and one.case.signature.takes_input
            is_short = one.thread is self.execution.threads[0] and not self.execution.buffer and not self.names_threads
            thread_id = None if is_short else one.thread.id
            handle_event(self.order, self.execution, one.case.event, op[2] if takes else None, thread_id=thread_id)
            self.save("event")


class AwaitingRun(Run):
    """The same by ``aresume``; no part of it is asynchronous, so that it never pauses."""

    names_threads = True

    def go_on(self) -> None:
        with pytest.raises(StopIteration):
            aresume(self.order, self.execution, self.save).send(None)


class CrashingRun(Run):
    """The same, by a process that dies behind every checkpoint: the next one loads what was saved."""

    def go_on(self) -> None:
        while True:
            try:
                resume(self.order, self.execution, self.crash)
                return
            except Crash:
                self.order, self.execution = reload(*self.last)

    def crash(self, kind: str) -> None:
        self.save(kind)
        self.last = reload(self.order, self.execution)
        raise Crash

    def perform(self, op: Op) -> None:
        super().perform(op)
        self.order, self.execution = reload(self.order, self.execution)


class LosingRun(CrashingRun):
    """The same, by a process that also dies before each save: what was done is lost, and done again."""

    lost: str = ""

    def crash(self, kind: str) -> None:
        state = str(saved(self.order, self.execution))
        if self.lost != state:
            self.lost = state
            raise Crash
        super().crash(kind)

    def go_on(self) -> None:
        self.last = reload(self.order, self.execution)
        super().go_on()


@random_flows
@given(SPECS, OPS)
def test_going_on_from_what_was_saved_at_every_checkpoint_gives_the_same_end(spec: list[Spec], ops: list[Op]) -> None:
    flow = build(spec)
    states = Run(flow).drive(ops)
    trace = list(flow.trace)
    assert CrashingRun(flow).drive(ops) == states
    assert flow.trace == trace
    event(f"states: {len(states) // 10 * 10} and more")


@random_flows
@given(SPECS, OPS)
def test_a_crowd_of_threads_moves_as_a_few_do(spec: list[Spec], ops: list[Op]) -> None:
    flow = build(spec)
    states = Run(flow).drive(ops)
    with pytest.MonkeyPatch.context() as patch:
        for module in threads, operations:
            patch.setattr(module, "CROWD_MIN", 2)
        assert Run(flow).drive(ops) == states


@random_flows
@given(SPECS, OPS)
def test_aresume_does_what_resume_does(spec: list[Spec], ops: list[Op]) -> None:
    flow = build(spec)
    states = Run(flow).drive(ops)
    trace = list(flow.trace)
    assert AwaitingRun(flow).drive(ops) == states
    assert flow.trace == trace


@random_flows
@given(SPECS, OPS)
def test_work_that_was_done_but_not_saved_is_done_again_with_the_same_end(spec: list[Spec], ops: list[Op]) -> None:
    flow = build(spec)
    assert LosingRun(flow).drive(ops) == Run(flow).drive(ops)


# --- refusals --------------------------------------------------------------------------------


def refuse_all(order: Fields, execution: Execution) -> None:
    """Tries every event that is not accepted now, and every accepted one in wrong ways."""

    def refused(error: type[Exception], event: str, input: Any = None, **address: Any) -> None:
        with pytest.raises(error):
            handle_event(order, execution, event, input, **address)

    now = accepted(order, execution)
    names = {one.case.event for one in now}
    machine = Machine(order, execution)
    for name in {*EVENTS, "Nope", ""} - names:
        if machine.buffers(name):
            refused(InvalidInput, name, {"wrong": 1})
            refused(EventNotAccepted, name, 1, thread_id="main")
        else:
            refused(EventNotAccepted, name)
    for one in now:
        event, thread = one.case.event, one.thread
        refused(EventNotAccepted, event, wait_id=f"{thread.id}@{thread.pc + 1}")
        refused(EventNotAccepted, event, thread_id="nobody")
        for pc in (thread.pc - 1, thread.pc + 1):
            refused(EventNotAccepted, event, thread_id=thread.id, pc=pc)
        if one.case.from_clients:
            refused(InvalidInput, event, {"wrong": 1}, thread_id=thread.id)
            refused(InvalidInput, event, {"wrong": 1})


@random_flows
@given(SPECS, OPS)
def test_a_refused_event_leaves_everything_as_it_was(spec: list[Spec], ops: list[Op]) -> None:
    run = Run(build(spec))
    with unchanged(run.order, run.execution):
        refuse_all(run.order, run.execution)
    try:
        run.resume()
        for op in ops:
            run.perform(op)
            with unchanged(run.order, run.execution):
                refuse_all(run.order, run.execution)
        run.resume()
        with unchanged(run.order, run.execution):
            run.resume()
    except DuplicateThread:
        return
