"""Compiles ``Select`` and ``Sleep`` to instructions with cases: events and timers."""

from __future__ import annotations

from typing import Any

from workflow_core.errors import DefinitionError
from workflow_core.events import EventHandler
from workflow_core.program.assembly import Assembly, Compilers
from workflow_core.program.cases import (
    ClientCase,
    EventCase,
    HandlerCase,
    SelectCase,
    SelectOp,
    TimerCase,
    WatchOp,
    WhenCase,
)
from workflow_core.program.code import JumpOp
from workflow_core.program.functions import (
    do_op,
    function_of,
    handler_keywords,
    handler_of,
    signature_of,
    value_of,
    verify_of,
)
from workflow_core.signatures import handler_signature, is_async, parameters
from workflow_core.statements.basic import Delay
from workflow_core.statements.selects import Done, On, Select, Sleep, Timeout, When


def select(assembly: Assembly, statement: Select) -> None:
    name = assembly.name("Select", statement.name, statement.renamed_from)
    has_conditions = any(isinstance(case, When) for case in statement.cases)
    instruction = assembly.park(WatchOp(name) if has_conditions else SelectOp(name))
    cases: dict[str, SelectCase] = {}
    whens: list[WhenCase] = []
    ends: list[JumpOp] = []
    for case in statement.cases:
        if isinstance(case, When):
            whens.append(_condition(assembly, case, name))
        else:
            compiled = _case(assembly, case, name)
            cases[compiled.event] = compiled
        assembly.section(case.body)
        if case is not statement.cases[-1]:
            ends.append(assembly.emit(JumpOp()))
    assembly.land(ends)
    instruction.cases = cases
    if isinstance(instruction, WatchOp):
        instruction.whens = tuple(whens)


def _case(assembly: Assembly, case: On | Timeout | Done, select: str) -> SelectCase:
    """Emits the beginning of a case that is not a condition, and returns the case."""
    if isinstance(case, Done):
        from workflow_core.program.calls import result_case  # here, because few definitions need it

        compiled: SelectCase = result_case(assembly, case.work)
        compiled.target = len(assembly.code)
    elif isinstance(case, Timeout):
        compiled = _timeout(assembly, case)
        if case.handler is not None:
            do_op(assembly, "Timeout", compiled.event, case.handler)
    else:
        event = _event(assembly, case)
        assembly.events.setdefault(event.event, []).append((select, event))
        compiled = event
    return compiled


def _condition(assembly: Assembly, case: When, select: str) -> WhenCase:
    """Emits the beginning of a case that is a condition, and returns the case."""
    name = assembly.label("When", case.name)
    cond = function_of(assembly, "When", name, case.cond, "condition")
    compiled = WhenCase(name, len(assembly.code), cond)
    if case.handler is not None:
        do_op(assembly, "When", name, case.handler, at=select)
    return compiled


def sleep(assembly: Assembly, statement: Sleep) -> None:
    name = assembly.name_wait("Sleep", statement.name, statement.renamed_from)
    instruction = assembly.park(SelectOp(name))
    instruction.cases = {name: _timer(assembly, "Sleep", name, statement.delay)}


def _timeout(assembly: Assembly, case: Timeout) -> TimerCase:
    name = assembly.name_wait("Timeout", case.name, case.renamed_from)
    return _timer(assembly, "Timeout", name, case.delay)


def _timer(assembly: Assembly, kind: str, name: str, delay: Delay) -> TimerCase:
    return TimerCase(name, len(assembly.code), delay=value_of(assembly, kind, name, delay, "delay"))


def _event(assembly: Assembly, case: On) -> ClientCase:
    for former in case.renamed_from:
        assembly.names.renamed_waits.add("On", former, case.event)
    if isinstance(case.handler, EventHandler):
        compiled: ClientCase = _event_with_handler(assembly, case, case.handler)
    else:
        compiled = _plain_event(assembly, case, case.handler)
    compiled.verify = None if case.verify is None else verify_of(assembly, case.event, case.verify)
    types = compiled.signature
    assembly.note(lambda: f"On {case.event} {types.input_schema} {types.output_schema}\n")
    return compiled


def _event_with_handler(assembly: Assembly, case: On, handler: EventHandler) -> HandlerCase:
    """Compiles a case with an ``EventHandler`` object."""
    where = f"On {case.event!r}"
    if isinstance(handler, type):
        raise DefinitionError(where, "its handler is a class", f"Create an object: {handler.__name__}(...).")
    parameters(where, handler.setup, 1, 1, "setup(request)")
    parameters(where, handler.teardown, 2, 2, "teardown(request, handled)")
    takes = "handle(request, input)"
    signature = handler_signature(where, handler.handle, assembly.scope, takes=takes, least=2)
    if any(is_async(method) for method in (handler.setup, handler.handle, handler.teardown)):
        assembly.async_parts.append(case.event)
    return HandlerCase(
        case.event,
        len(assembly.code),
        signature=signature,
        role=case.role,
        max_bytes=case.max_bytes,
        event_handler=handler,
    )


def _plain_event(assembly: Assembly, case: On, handler: Any) -> EventCase:
    """Compiles a case with a function of the workflow."""
    handler = handler_of(assembly, "On", case.event, handler)
    where, takes = f"On {case.event!r}", "the workflow and at most one input, which may be a model of several values"
    return EventCase(
        case.event,
        len(assembly.code),
        signature=signature_of(assembly, where, handler, takes, is_sent=True),
        role=case.role,
        buffered=case.buffered,
        max_bytes=case.max_bytes,
        handler=handler,
        keywords=handler_keywords(assembly, where, handler, is_sent=True),
    )


COMPILERS: Compilers = {Select: select, Sleep: sleep}
