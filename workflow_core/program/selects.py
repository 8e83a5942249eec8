"""Compiles ``Select`` and ``Sleep`` to instructions with cases: events and timers."""

from __future__ import annotations

from typing import Any

from workflow_core.errors import DefinitionError
from workflow_core.events import EventHandler
from workflow_core.program.assembly import Assembly
from workflow_core.program.code import ClientCase, EventCase, HandlerCase, JumpOp, SelectCase, SelectOp, TimerCase
from workflow_core.program.functions import do_op, handler_keywords, handler_of, signature_of, value_of, verify_of
from workflow_core.signatures import handler_signature, is_async, parameters
from workflow_core.statements.basic import Delay
from workflow_core.statements.selects import On, Select, Sleep, Timeout


def select(assembly: Assembly, statement: Select) -> None:
    name = assembly.name("Select", statement.name, statement.renamed_from)
    instruction = assembly.park(SelectOp(name))
    cases: dict[str, SelectCase] = {}
    ends: list[JumpOp] = []
    for case in statement.cases:
        compiled = _timeout(assembly, case) if isinstance(case, Timeout) else _event(assembly, case)
        cases[compiled.event] = compiled
        if isinstance(compiled, ClientCase):
            assembly.events.setdefault(compiled.event, []).append((name, compiled))
        if isinstance(case, Timeout) and case.handler is not None:
            do_op(assembly, "Timeout", compiled.event, case.handler)
        assembly.section(case.body)
        if case is not statement.cases[-1]:
            ends.append(assembly.emit(JumpOp()))
    assembly.land(ends)
    instruction.cases = cases


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
    assembly.note(f"On {case.event} {types.input_schema} {types.output_schema}\n")
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
    where, takes = f"On {case.event!r}", "the workflow and at most one input"
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
