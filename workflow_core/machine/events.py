"""Events: which thread waits for an event, how it is handled, and how an early event is buffered.

Handling has two parts. ``handle`` calls the user's handler, which may change the fields and may raise an error;
``handled`` moves the thread on. They are separate because the caller may have to await the handler, and because a
rejected event must change nothing: the caller discards the fields, and the execution is still unchanged.

A thread accepts an event if it rests on a case of that name that is set up. The wait id identifies the visit, so a
late delivery for an earlier visit is not accepted. Buffered events are delivered in the order in which they arrived.
An event that arrives while the thread waits for it must not overtake events that are still in the buffer; see
``is_behind_buffered``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from workflow_core.accidents import refuse_accident
from workflow_core.crowd import Crowd
from workflow_core.errors import EventNotAccepted, InvalidInput
from workflow_core.events import EventHandler, EventRequest, Selected
from workflow_core.execution import BufferedEvent, Sender, Status, Thread, ThreadStatus
from workflow_core.machine.instructions import run
from workflow_core.machine.state import MachineState
from workflow_core.machine.transitions import ThreadHappening, check_thread
from workflow_core.machine.values import keywords
from workflow_core.machine.waits import leave_wait
from workflow_core.parked import Grouped, samples
from workflow_core.program.cases import EventCase, HandlerCase, ResultCase, SelectCase, SelectOp, TimerCase
from workflow_core.records import record
from workflow_core.signatures import HandlerSignature
from workflow_core.wait_types import AnyWait, ConditionWait, EventWait, HandlerTeardown, HandlerWait, WaitStatus

# Looking up a member of an enum class takes as long as an instruction, so frequently used members are bound once.
_SETTING_UP, _WAITING = ThreadStatus.SETTING_UP, ThreadStatus.WAITING
_SET_UP = WaitStatus.SET_UP
_RUNNING, _IDLE = Status.RUNNING, Status.WAITING

NAMED_WAITS_MAX = 10
"""The maximum number of waits that an error message lists."""


@record(slots=True)
class Accepted:
    """An event that is accepted now: ``thread`` waits for it under ``wait_id``."""

    thread: Thread
    case: SelectCase
    wait_id: str
    wait: AnyWait | None


# --- who waits for it ------------------------------------------------------------------------


def accepted(machine: MachineState) -> Iterator[Accepted]:
    """Yields the events that are accepted now, including timeouts, in the order of the threads and cases."""
    for thread in machine.execution.threads if machine.execution.live else ():
        yield from _accepted_of(machine, thread)


def _accepted_of(machine: MachineState, thread: Thread) -> Iterator[Accepted]:
    instruction = machine.program.at(thread.step) if thread.status in (_WAITING, _SETTING_UP) else None
    for event in instruction.cases if isinstance(instruction, SelectOp) else ():
        if (found := accepted_by(machine, thread, event)) is not None:
            yield found


def find(
    machine: MachineState, event: str, thread_id: str | None = None, wait_id: str | None = None, pc: int | None = None
) -> Accepted | None:
    """Returns the first wait for the event that matches the given thread, wait and pc, if there is one."""
    if machine.program.has_renamed:
        event = machine.program.event(event)
    execution = machine.execution
    status = execution.status
    threads = execution.threads
    is_for_any = thread_id is None and pc is None and isinstance(threads, Grouped)
    if is_for_any and not any(accepted_by(machine, sample, event) for sample in samples(threads)):
        return None
    if thread_id is not None and type(threads) is Crowd:
        known = threads.find(thread_id)
        threads = [] if known is None else [known]
    for thread in threads if status is _IDLE or status is _RUNNING else ():
        if (thread_id is None or thread.id == thread_id) and (pc is None or thread.pc == pc):
            found = accepted_by(machine, thread, event)
            if found is not None and (wait_id is None or found.wait_id == wait_id):
                return found
    return None


def find_all(
    machine: MachineState, event: str, thread_id: str | None = None, wait_id: str | None = None
) -> Iterator[Accepted]:
    """Yields all waits that ``find`` could return, in the order of the threads."""
    event = machine.program.event(event)
    for thread in machine.execution.threads if machine.execution.live else ():
        found = accepted_by(machine, thread, event) if thread_id is None or thread.id == thread_id else None
        if found is not None and (wait_id is None or found.wait_id == wait_id):
            yield found


def accept(
    machine: MachineState, event: str, thread_id: str | None = None, wait_id: str | None = None, pc: int | None = None
) -> Accepted:
    """Like ``find``.

    Raises:
        EventNotAccepted: no wait matches. Nothing is changed.
    """
    found = find(machine, event, thread_id, wait_id, pc)
    if found is not None:
        return found
    event = machine.program.event(event)
    detail = f" in thread {thread_id!r}" if thread_id else ""
    detail += f" under wait id {wait_id!r}" if wait_id else ""
    detail += f" for pc {pc}" if pc is not None else ""
    if detail:
        detail += _elsewhere(machine, event)
    if event not in machine.program.events:
        detail += ", because the workflow has no such event"
    raise EventNotAccepted(event, accepted_names(machine), machine.execution.status, detail)


def accepted_by(machine: MachineState, thread: Thread, event: str) -> Accepted | None:
    """Returns the thread's wait for the event, if it has one that is set up."""
    status = thread.status
    if status is not _WAITING and status is not _SETTING_UP:
        return None
    try:
        instruction = machine.program.rests[thread.step]
    except KeyError:
        raise machine.program.unknown(thread.step) from None
    case = instruction.cases.get(event) if isinstance(instruction, SelectOp) else None
    if case is None:
        return None
    for wait in thread.waits:
        if wait.event == event:
            return Accepted(thread, case, wait.id, wait) if wait.status is _SET_UP else None
    if case.wait_type.may_be_added:
        # The case was added to the definition while the thread was parked, and it needs no setup.
        return Accepted(thread, case, f"{thread.id}@{thread.pc}", None)
    return None


def _elsewhere(machine: MachineState, event: str) -> str:
    """Lists the threads and waits that do accept an event, for an error about a request that names others."""
    waits = [
        f"{found.thread.id!r} under {found.wait_id!r}"
        for found in accepted(machine)
        if found.case.event == event and found.case.from_clients
    ]
    more = ", ..." if len(waits) > NAMED_WAITS_MAX else ""
    return f", but in thread {', '.join(waits[:NAMED_WAITS_MAX])}{more}" if waits else ""


def accepted_names(machine: MachineState) -> list[str]:
    """Returns the names of the events that clients may send now, without duplicates."""
    names: dict[str, None] = {}
    for thread in samples(machine.execution.threads) if machine.execution.live else ():
        names |= dict.fromkeys(found.case.event for found in _accepted_of(machine, thread) if found.case.from_clients)
    return list(names)


# --- handling it -----------------------------------------------------------------------------


def handle(machine: MachineState, accepted: Accepted, value: Any) -> Any:
    """Calls the handler with a validated input. The output of an ``EventHandler`` may be awaitable."""
    case = accepted.case
    machine.touched = True
    if type(case) is EventCase or isinstance(case, ResultCase):
        handler = case.handler
        if handler is None:
            return None
        if not case.keywords:
            output = handler(machine.workflow, value) if case.takes_input else handler(machine.workflow)
        else:
            arguments = (machine.workflow, value) if case.takes_input else (machine.workflow,)
            at = machine.program.at(accepted.thread.step)
            output = handler(*arguments, **keywords(machine, accepted.thread, at.each, case.keywords))
        if output is not None:
            refuse_accident(output, f"the handler of {case.event!r}")
        if case.keeps_result:
            is_result = isinstance(case, ResultCase)
            machine.awaited = output if is_result else Selected(case.event, value, output)
        return output
    if isinstance(case, HandlerCase):
        wait = accepted.wait
        assert wait is not None
        return case.event_handler.handle(request(machine, wait, "handle"), value)
    return None


def handle_json(machine: MachineState, accepted: Accepted, text: bytes, *, is_secret: bool = False) -> None:
    """Calls the handler for a result in its stored form, if there is a handler.

    Args:
        is_secret: whether the result contains secrets.

    Raises:
        InvalidInput: the result does not fit the handler's annotation.
    """
    signature = accepted.case.signature
    if signature is None:
        return
    event = accepted.case.event
    if signature.takes_input and is_secret and not signature.input_form.has_secrets:
        message = "the result contains secrets: annotate the parameter of 'then' with a type that has them too"
        raise InvalidInput(f"event {event!r}", [{"field": "", "message": message, "type": "secret"}])
    handle(machine, accepted, signature.load(event, text) if signature.takes_input else None)


def handled(machine: MachineState, accepted: Accepted) -> None:
    """Records that the event has happened: the thread leaves the select and continues in the case."""
    execution = machine.execution
    thread, case = accepted.thread, accepted.case
    if thread.status is not _WAITING:  # the usual state is legal, so it is not looked up in the table
        check_thread(thread, ThreadHappening.HAPPENED)
    execution.pc += 1
    machine.allowances = None
    if machine.principal is not None:
        thread.caused_by = machine.principal.id
    elif thread.caused_by and not isinstance(case, ResultCase):  # after a result, it continues what an event has caused
        thread.caused_by = ""
    leave_wait(execution, thread, case.event)
    if type(case) is TimerCase:
        machine.awaited = Selected("", None, None)
    run(machine, thread, case.entry)


def event_handler(machine: MachineState, select: str, event: str) -> EventHandler:
    """Returns the ``EventHandler`` of a case.

    Raises:
        UnknownStatement: the definition no longer contains it.
    """
    case = machine.program.case(select, event)
    if not isinstance(case, HandlerCase):
        raise machine.program.unknown(event)
    return case.event_handler


def request(machine: MachineState, wait: AnyWait | HandlerTeardown, action: str) -> EventRequest:
    """Returns the request that an ``EventHandler`` receives."""
    thread_id = wait.id.rpartition("@")[0]
    identity = machine.execution.id, thread_id, wait.id, wait.event
    # The definition may have replaced a plain handler with an ``EventHandler`` since the wait began.
    setup_data = wait.setup_data if isinstance(wait, HandlerWait | HandlerTeardown) else None
    known_as = "" if isinstance(wait, ConditionWait) else wait.known_as
    by, urls = machine.principal, machine.callback_urls
    return EventRequest(machine.workflow, *identity, setup_data, action, known_as, by, urls, machine.now)


# --- buffering an early event ----------------------------------------------------------------


def buffers(machine: MachineState, event: str) -> bool:
    """Whether the event is buffered if it arrives before a thread waits for it."""
    cases = machine.program.events.get(machine.program.event(event), ())
    execution = machine.execution
    return execution.live and not execution.canceling and any(case.buffered for _, case in cases)


def buffered_signature(machine: MachineState, event: str) -> HandlerSignature:
    """Returns the types of a buffered event."""
    cases = machine.program.events[machine.program.event(event)]
    return next(case.signature for _, case in cases if case.buffered)


def is_behind_buffered(machine: MachineState, accepted: Accepted) -> bool:
    """Whether the buffer still contains earlier events of this name for the same wait."""
    wait = accepted.wait
    return (
        isinstance(wait, EventWait)
        and wait.buffered
        and any(kept.event == wait.event for kept in machine.execution.buffer)
    )


def buffer(machine: MachineState, event: str, input: str, *, by_name: bool = False, shown: str | None = None) -> None:
    """Buffers an event that no thread waits for yet. For the arguments, see ``BufferedEvent``."""
    machine.execution.pc += 1
    principal = machine.principal
    sender = None if principal is None else Sender(principal.id, principal.name, principal.kind)
    kept = BufferedEvent(machine.program.event(event), input, machine.now, by_name, shown, sender)
    machine.execution.buffer.append(kept)


def buffered_input(machine: MachineState, signature: HandlerSignature, event: str) -> Any:
    """Returns the typed input of the event of this name that is delivered next.

    Raises:
        InvalidInput: it no longer fits the handler.
    """
    kept = first_buffered(machine, event)
    return (signature.load if kept.by_name else signature.validate_json)(event, kept.input.encode())


def first_buffered(machine: MachineState, event: str) -> BufferedEvent:
    """Returns the event of this name that is delivered next."""
    return next(kept for kept in machine.execution.buffer if kept.event == event)


def unbuffer(machine: MachineState, event: str) -> None:
    """Removes the event that ``first_buffered`` returns from the buffer."""
    machine.execution.buffer.remove(first_buffered(machine, event))
